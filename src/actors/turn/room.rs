//! Room in an output: what its readers have acknowledged leaves, or what is not among the newest. One rule for every
//! output that is bounded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Unit};
use crate::ids::UnitId;
use crate::store::trim::{Dropped, Keep};

/// How often acknowledged entries leave while there is room.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// Of so many parts of the bound, one is kept free: the output is trimmed before it is full.
const FREE_PART: u64 = 10;

/// The room of one output, for the unit that writes it.
#[derive(Debug)]
pub struct Room {
    output: String,
    capacity: u64,
    keep: Keep,
    /// Units that read it by their offset.
    readers: Vec<UnitId>,
    seen: Mutex<Seen>,
}

/// When the output was trimmed last, and what had been dropped by then.
#[derive(Debug, Default)]
struct Seen {
    trimmed: Option<Instant>,
    dropped: Option<Dropped>,
}

/// What became of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Entries that it holds now.
    pub length: u64,
    /// Entries that left.
    pub left: u64,
    /// Those of them that some reader had not acknowledged, or nobody read.
    pub unread: u64,
}

impl Room {
    /// The room of an output that may hold `capacity` entries.
    pub fn new(output: &str, capacity: u64, keep: Keep, readers: Vec<UnitId>) -> Self {
        Self { output: output.to_owned(), capacity, keep, readers, seen: Mutex::default() }
    }

    /// Trims the output where it is nearly full (with `length` entries), was found full, or was not trimmed for a while.
    /// None: there was no need. What finds no room after it must wait.
    pub async fn make(&self, unit: &Unit, length: u64, was_full: bool) -> Result<Option<Made>, Error> {
        let newest = self.capacity - self.capacity / FREE_PART;
        if !self.is_due() && !was_full && length < newest {
            return Ok(None);
        }
        let mut made = Made { length, left: 0, unread: 0 };
        loop {
            let trimmed = unit.lease.trim(&self.output, self.keep, newest, &self.readers).await?;
            unit.progress();
            let before = self.seen().dropped.replace(trimmed.dropped).unwrap_or(trimmed.dropped);
            made.length = trimmed.length;
            made.left += trimmed.left;
            made.unread += trimmed.dropped.unread.saturating_sub(before.unread);
            if !trimmed.has_more {
                if let Some(reader) = trimmed.held_by.filter(|_| trimmed.length >= self.capacity) {
                    let (unit, output) = (unit.lease.unit(), &self.output);
                    tracing::debug!(%unit, output, reader, "the output is full of what it has not acknowledged");
                }
                break;
            }
        }
        self.seen().trimmed = Some(Instant::now());
        Ok(Some(made))
    }

    fn is_due(&self) -> bool {
        self.seen().trimmed.is_none_or(|at| at.elapsed() >= TRIM_EVERY)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
