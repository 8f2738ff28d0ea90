//! Words to a LogWatcher.

use serde::{Deserialize, Serialize};

/// What an operator orders a LogWatcher to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum WatcherMessage {
    /// Look at all files now.
    Rescan {},
    /// Read nothing more until told to; files that are rotated meanwhile are held open. Told twice, the first time counts.
    Pause {},
    /// Go on, at once.
    Resume {},
}
