//! Trouble: whether a fault ends the turn, because all streams share it, or only leaves one stream alone.

use crate::actors::turn::Error;
use crate::wire::WireError;

/// A fault on the way of one stream.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The turn ends; what follows is decided by the error.
    Turn(Error),
    /// This stream is left alone, for this reason; others go on.
    Stream(String),
    /// A part of this stream is on another node of a cluster by now: it is taken up again at once.
    Elsewhere(String),
    /// This stream is taken up again later, for this reason; others go on.
    Later(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Turn(error)
    }
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        match error {
            // A server without memory refuses every stream, and waiting may cure it.
            error if error.is_out_of_memory() => Trouble::Turn(Error::Source(error.into())),
            WireError::Moving { ref reason, .. } if error.asks_at().is_some() => Trouble::Elsewhere(reason.clone()),
            WireError::Moving { reason, .. } => Trouble::Later(reason),
            // The stream, or its group, went away between a look and a deed: the next look says how.
            WireError::Refused { reason, .. } if is_gone(&reason) => Trouble::Later(reason),
            WireError::Refused { command, reason, address } => {
                Trouble::Stream(format!("{address} refused {command}: {reason}"))
            }
            error => Trouble::Turn(Error::Source(error.into())),
        }
    }
}

fn is_gone(reason: &str) -> bool {
    reason.contains("requires the key to exist") || reason.starts_with("NOGROUP") || reason.contains("no such key")
}
