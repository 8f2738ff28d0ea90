//! Streams of a foreign Redis: found, read by position, or through a consumer group.

mod discover;
mod group;
mod hints;
mod reader;

pub use discover::{Found, find, is_stream};
pub use group::{acknowledge, ensure_group, own_pending, publish_position, take_over};
pub use hints::Hints;
pub use reader::{Batch, ReadPlan, Reader, Wish};

use super::SourceError;
use crate::wire::WireError;

/// A foreign Redis that is away, in the words that the runtime reacts to.
impl From<WireError> for SourceError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Away { address, reason }
            | WireError::Shut { address, reason }
            | WireError::Moving { address, reason } => SourceError::Unreachable { endpoint: address, reason },
            WireError::Refused { address, command, reason } => {
                SourceError::Unreachable { endpoint: address, reason: format!("{command}: {reason}") }
            }
            WireError::Nonsense { address, reason } => SourceError::Malformed { endpoint: address, reason },
        }
    }
}
