//! Parked heights are not parked for ever: after a while they are asked for again, and what endpoints had thrown away as
//! soon as the list of endpoints is another one.

use std::time::{Duration, Instant};

use super::GapDetector;
use crate::actors::turn::Error;
use crate::messages::heights::{Height, HeightRange};
use crate::sources::Absence;
use crate::store::effect::{Ack, Commit, Effect};
use crate::store::heights::{PAGE, Parked};
use crate::telemetry::blocks::PipelineLabels;

/// The fact that tells with which endpoints the parked heights were last looked through.
const ENDPOINTS: &str = "endpoints";
/// Effects of one commit: no script runs for long, however much is parked.
const EFFECTS_MAX: usize = 200;
/// The parked heights are looked through so often, or more often where `parked_retry` is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// And not more often than this.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);

/// Where looking through the parked heights has come to.
#[derive(Debug, Default)]
pub(super) struct Retrying {
    /// The next height of a pass under way.
    next: Option<Height>,
    /// The endpoints are others than in the last pass.
    new_endpoints: bool,
    /// When the next pass begins; none = now.
    again: Option<Instant>,
}

impl GapDetector {
    /// Lets parked heights go, a page each turn; true if some were. They are missing then, and the next look asks.
    ///
    /// What is merely old waits until nothing else is to be asked for (`is_quiet`): heights that nobody has must not
    /// stand before those that somebody has. A crash between two pages begins the pass again.
    pub(super) async fn retry_parked(&self, wanted: HeightRange, is_quiet: bool) -> Result<bool, Error> {
        let Some(next) = self.retry_due(wanted, is_quiet).await? else { return Ok(false) };
        let Ok(range) = HeightRange::new(next.max(wanted.lo()), wanted.hi()) else {
            self.end_of_pass().await?;
            return Ok(false);
        };
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let now_ms = store.now_ms(link).await?;
        let new_endpoints = self.memory().retrying.new_endpoints;
        let parked = store.parked(link, self.unit.pipeline(), range).await?;
        let due = parked.iter().filter(|parked| self.is_due(parked, now_ms, new_endpoints));
        let due = joined(due.filter_map(|parked| parked.range.intersect(wanted)));
        let after = parked.last().filter(|_| parked.len() >= PAGE).map(|last| last.range.hi() + 1);
        for ranges in due.chunks(EFFECTS_MAX) {
            let effects = ranges.iter().map(|range| Effect::Unpark { range: *range }).collect();
            self.unit.commit(&Commit { state: None, ack: Ack::Nothing, effects }).await?;
        }
        match after {
            Some(after) => self.memory().retrying.next = Some(after),
            None => self.end_of_pass().await?,
        }
        let heights: u64 = due.iter().map(|range| range.count()).sum();
        if heights > 0 {
            let why = if new_endpoints { "the endpoints are others" } else { "they were parked long enough" };
            tracing::info!(unit = %self.unit.lease.unit(), heights, why, "parked heights are asked for again");
            let labels = PipelineLabels { pipeline: self.unit.pipeline().to_string() };
            self.unit.metrics.blocks.unparked.get_or_create(&labels).inc_by(heights);
        }
        Ok(heights > 0)
    }

    /// Where to go on; none while no pass is due.
    async fn retry_due(&self, wanted: HeightRange, is_quiet: bool) -> Result<Option<Height>, Error> {
        {
            let retrying = &self.memory().retrying;
            let is_early = retrying.again.is_some_and(|again| Instant::now() < again);
            if is_early || (!is_quiet && retrying.again.is_some() && !retrying.new_endpoints) {
                return Ok(None);
            }
            if retrying.next.is_some() {
                return Ok(retrying.next);
            }
        }
        let lease = &self.unit.lease;
        let known = lease.store().fact(lease.link(), self.unit.pipeline(), ENDPOINTS).await?;
        let new_endpoints = known.as_deref() != Some(self.plan.endpoints.as_str());
        let mut memory = self.memory();
        memory.retrying.new_endpoints = new_endpoints;
        if !new_endpoints && (self.plan.parked_retry.is_none() || !is_quiet) {
            memory.retrying.again = Some(Instant::now() + self.retry_pause());
            return Ok(None);
        }
        memory.retrying.next = Some(wanted.lo());
        Ok(memory.retrying.next)
    }

    fn retry_pause(&self) -> Duration {
        self.plan.parked_retry.map_or(LOOK_EVERY, |retry| retry.clamp(LOOK_EVERY_MIN, LOOK_EVERY))
    }

    /// Whether a parked interval is asked for again now. What an operator parked never is.
    fn is_due(&self, parked: &Parked, now_ms: u64, new_endpoints: bool) -> bool {
        if parked.by_operator() {
            return false;
        }
        // Releases before wrote no time: long ago.
        let age = Duration::from_millis(now_ms.saturating_sub(parked.since_ms.unwrap_or(0)));
        let is_old = self.plan.parked_retry.is_some_and(|retry| age >= retry);
        is_old || (new_endpoints && is_pruned(&parked.reason))
    }

    async fn end_of_pass(&self) -> Result<(), Error> {
        if self.memory().retrying.new_endpoints {
            // Only now: a crash on the way looks through all of them once more.
            let effects = vec![Effect::Put { field: ENDPOINTS, value: self.plan.endpoints.clone() }];
            self.unit.commit(&Commit { state: None, ack: Ack::Nothing, effects }).await?;
        }
        let mut memory = self.memory();
        memory.retrying = Retrying { again: Some(Instant::now() + self.retry_pause()), ..Retrying::default() };
        Ok(())
    }
}

/// Whether heights were parked because every endpoint had thrown them away.
fn is_pruned(reason: &str) -> bool {
    reason.starts_with(&Absence::Pruned(String::new()).to_string())
}

/// Neighbours as one range.
fn joined(ranges: impl Iterator<Item = HeightRange>) -> Vec<HeightRange> {
    let mut joined: Vec<HeightRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.hi() + 1 == range.lo() => *last = last.up_to(range.hi()),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruned_heights_are_known_by_their_reason() {
        assert!(is_pruned(&Absence::Pruned("history begins at 5".to_owned()).to_string()));
        assert!(!is_pruned(&Absence::Unknown.to_string()));
        assert!(!is_pruned("links disagree"));
    }

    #[test]
    fn neighbours_are_let_go_together() {
        let range = |lo, hi| HeightRange::new(lo, hi).expect("a range");
        let ranges = [range(1, 4), range(5, 9), range(11, 12)];
        assert_eq!(joined(ranges.into_iter()), [range(1, 9), range(11, 12)]);
    }
}
