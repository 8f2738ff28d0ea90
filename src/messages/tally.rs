//! Words of the self-test.

use serde::{Deserialize, Serialize};

/// One numbered message; numbers start at 1 and rise by 1 in each mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum TallyMessage {
    /// Add this number to the running sum.
    Number {
        /// Its place in the sequence.
        n: u64,
    },
}
