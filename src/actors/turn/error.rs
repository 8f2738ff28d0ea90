//! One error for a turn, and what the runtime does about it.

use std::time::Duration;

use crate::sinks::SinkError;
use crate::sources::SourceError;
use crate::store::StoreError;

/// Why a turn did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A source gave no answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A store of files refused or is full.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The world is not as the pipeline needs it, and waiting does not change that.
    #[error("{0}")]
    Refused(String),
    /// The actor itself is at a loss: a fault of ours, or of the entry in hand.
    #[error("{0}")]
    Fault(String),
}

/// What the runtime does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Acquire again and decide again; counts nothing.
    Reload,
    /// Decide again after a pause (at least so long, if given); counts nothing: the world is to blame.
    Wait(Option<Duration>),
    /// Restart with back-off; counts against the entry in hand.
    Restart,
    /// Report the unit as failed at once, and try again after the cool-down.
    GiveUp,
    /// Stop the node: going on could start from nothing.
    StopNode,
}

impl Error {
    /// Decides by full match, so that a new error cannot be forgotten.
    pub fn reaction(&self) -> Reaction {
        match self {
            Error::Store(error) => match error {
                StoreError::Fenced { .. } | StoreError::Moved { .. } | StoreError::Held { .. } => Reaction::Reload,
                StoreError::Full { .. }
                | StoreError::Overlap { .. }
                | StoreError::OutOfMemory(_)
                | StoreError::Unconfirmed { .. }
                | StoreError::Unreachable { .. } => Reaction::Wait(None),
                StoreError::Link { .. }
                | StoreError::Uncovered { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Unfit(_)
                | StoreError::Refused { .. }
                | StoreError::Protocol(_) => Reaction::Restart,
                StoreError::Broken { .. } | StoreError::TooOld { .. } | StoreError::Config { .. } => Reaction::GiveUp,
                StoreError::Alien { .. } => Reaction::StopNode,
            },
            Error::Source(error) => match error {
                SourceError::Unreachable { .. } | SourceError::Malformed { .. } | SourceError::Distrusted { .. } => {
                    Reaction::Wait(None)
                }
                SourceError::RateLimited { retry_after, .. } => Reaction::Wait(*retry_after),
                SourceError::WrongChain { .. } => Reaction::GiveUp,
            },
            Error::Sink(error) => match error {
                // A disk that fails is no fault of the entry in hand: it waits, and the log and `status` say for what.
                SinkError::Full { .. } | SinkError::Contended { .. } | SinkError::Io { .. } => Reaction::Wait(None),
                SinkError::Refused { .. } => Reaction::Restart,
                SinkError::Unsupported { .. } | SinkError::Marker { .. } => Reaction::GiveUp,
                SinkError::Stopping => Reaction::Reload,
            },
            Error::Refused(_) => Reaction::GiveUp,
            Error::Fault(_) => Reaction::Restart,
        }
    }
}
