//! `blocks fill --wait`: looks until every height is held, or parked again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::index::Index;
use super::{Chosen, Desk, Exit};
use crate::cli::progress::Progress;
use crate::cli::words::{self, grouped, heights};
use crate::messages::heights::HeightRange;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How the heights of a range stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub held: u64,
    pub parked: u64,
    pub missing: u64,
}

impl Count {
    pub fn of(index: &Index, range: HeightRange) -> Self {
        let (held, missing) = (index.held_count(range), index.missing(range).count());
        Self { held, parked: range.count().saturating_sub(held).saturating_sub(missing), missing }
    }
}

/// How the wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waited {
    count: Count,
    took: Duration,
    timed_out: bool,
    /// The first reason of what is parked.
    reason: Option<String>,
}

impl Waited {
    /// Every height is held.
    pub fn is_whole(&self) -> bool {
        self.count.parked == 0 && self.count.missing == 0
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX), "timed_out": self.timed_out,
            "held": self.count.held, "parked": self.count.parked, "missing": self.count.missing,
        })
    }

    pub fn to_text(&self, range: HeightRange) -> String {
        let took = words::age(u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX));
        if self.is_whole() {
            return format!("{}, {range}: all held after {took}\n", heights(range.count()));
        }
        let mut text = String::new();
        if self.timed_out {
            text.push_str(&format!("timed out after {took}\n"));
        }
        let Count { held, parked, missing } = &self.count;
        let (held, parked, missing) = (grouped(*held), grouped(*parked), grouped(*missing));
        text.push_str(&format!("{held} held, {parked} parked, {missing} missing; see: gapless blocks gaps\n"));
        if let Some(reason) = &self.reason {
            text.push_str(&format!("parked: {}\n", words::plain(reason)));
        }
        text
    }
}

/// Looks until nothing of the range is missing and what is parked was parked after `asked_ms` (server milliseconds):
/// what was parked before waits for the detector to let it go.
pub(super) async fn until_filled(
    desk: &Desk,
    chosen: &Chosen,
    range: HeightRange,
    asked_ms: u64,
    timeout: Option<Duration>,
) -> Result<Waited, Exit> {
    let began = Instant::now();
    let mut progress = Progress::new("heights held", Some(range.count()));
    loop {
        let index = Index::read(desk, chosen, Some(range)).await?;
        let count = Count::of(&index, range);
        progress.set(count.held);
        let waits = index.parked.iter().any(|parked| parked.since_ms.is_none_or(|since| since < asked_ms));
        let (done, took) = (count.missing == 0 && !waits, began.elapsed());
        let timed_out = !done && timeout.is_some_and(|timeout| took >= timeout);
        if done || timed_out {
            progress.end();
            let reason = index.parked.first().map(|parked| parked.reason.clone());
            return Ok(Waited { count, took, timed_out, reason });
        }
        let left = timeout.map_or(LOOK_EVERY, |timeout| timeout.saturating_sub(took));
        tokio::time::sleep(LOOK_EVERY.min(left)).await;
    }
}
