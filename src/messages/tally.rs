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

/// What the self-test's source is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum FeederMessage {
    /// Look now whether there is something to send.
    Rescan {},
    /// Send nothing more until told to. Told twice, the first time counts.
    Pause {},
    /// Go on, at once.
    Resume {},
}
