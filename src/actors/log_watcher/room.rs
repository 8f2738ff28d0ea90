//! Room in the stream: what its readers have acknowledged leaves, or what is not among the newest.

use std::time::{Duration, Instant};

use super::{LINES, LogWatcher};
use crate::actors::turn::Error;
use crate::store::trim::Dropped;

/// How often acknowledged entries leave while there is room.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// Of so many parts of the bound, one is kept free: the stream is trimmed before it is full.
const FREE_PART: u64 = 10;

/// When the stream was trimmed last, and what had been dropped by then.
#[derive(Debug, Default)]
pub(super) struct Room {
    trimmed: Option<Instant>,
    dropped: Option<Dropped>,
}

impl Room {
    fn is_due(&self) -> bool {
        self.trimmed.is_none_or(|at| at.elapsed() >= TRIM_EVERY)
    }
}

impl LogWatcher {
    /// Trims the stream, where it is nearly full or that was not done for a while. Lines that find no room wait, and
    /// with them the files.
    pub(super) async fn make_room(&self) -> Result<(), Error> {
        let newest = self.plan.capacity - self.plan.capacity / FREE_PART;
        let (stood, due) = (self.unit.lease.appended(), self.memory().room.is_due());
        if !due && !stood.is_full && stood.length < newest {
            return Ok(());
        }
        loop {
            let trimmed = self.unit.lease.trim(LINES, self.plan.keep, newest, &[]).await?;
            self.unit.progress();
            let before = self.memory().room.dropped.replace(trimmed.dropped).unwrap_or(trimmed.dropped);
            let unread = trimmed.dropped.unread.saturating_sub(before.unread);
            self.life.figures.trimmed(trimmed.left, unread);
            if !trimmed.has_more {
                if let Some(reader) = trimmed.held_by.filter(|_| trimmed.length >= self.plan.capacity) {
                    tracing::debug!(unit = %self.unit.lease.unit(), reader, "the stream is full of what it has not acknowledged");
                }
                break;
            }
        }
        self.memory().room.trimmed = Some(Instant::now());
        Ok(())
    }
}
