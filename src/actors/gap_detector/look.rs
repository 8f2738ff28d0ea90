//! What one look at the sets decides: which gaps to ask for now, and which requests still stand. Pure.

use serde::{Deserialize, Serialize};

use super::DetectPlan;
use crate::messages::heights::{Height, HeightRange, HeightSet};

/// A range that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub range: HeightRange,
    /// Server milliseconds of the asking.
    pub at_ms: u64,
}

/// What the checkpoint holds: no truth, only ages. Losing it asks again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DetectorState {
    pub requested: Vec<Request>,
    /// What operators wish for and nobody was asked for yet: first of all when there is room.
    #[serde(default, skip_serializing_if = "HeightSet::is_empty")]
    pub wishes: HeightSet,
}

/// What one look brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// Requests that still stand, the new ones included.
    pub state: DetectorState,
    /// Ranges to ask for now, lowest first.
    pub tasks: Vec<HeightRange>,
    /// There was more to ask for than room.
    pub more: bool,
}

/// One look at the sets, from the lowest height up. Pure.
pub(super) struct Look<'a> {
    plan: &'a DetectPlan,
    now_ms: u64,
    room: usize,
    /// Requests that are young enough to stand.
    young: Vec<Request>,
    /// Parts of them that are still missing.
    standing: Vec<Request>,
    /// Where the look has come to.
    judged: Option<Height>,
    tasks: Vec<HeightRange>,
    more: bool,
}

impl<'a> Look<'a> {
    pub fn new(before: &DetectorState, now_ms: u64, plan: &'a DetectPlan, room: usize) -> Self {
        let age = u64::try_from(plan.request_age.as_millis()).unwrap_or(u64::MAX);
        // A request from the future was written by a clock that has gone back since: its age cannot be told.
        let is_young = |request: &&Request| request.at_ms <= now_ms && now_ms - request.at_ms < age;
        let young = before.requested.iter().filter(is_young).copied().collect();
        Self { plan, now_ms, room, young, standing: Vec::new(), judged: None, tasks: Vec::new(), more: false }
    }

    pub fn is_full(&self) -> bool {
        self.more
    }

    /// Judges one part of the chain, of which `missing` is neither held nor parked.
    pub fn judge(&mut self, part: HeightRange, missing: &HeightSet) {
        self.judged = Some(part.hi());
        let mut unasked = missing.clone();
        for request in &self.young {
            for range in missing.ranges().iter().filter_map(|range| range.intersect(request.range)) {
                self.standing.push(Request { range, at_ms: request.at_ms });
            }
            unasked.remove(request.range);
        }
        for task in unasked.ranges().iter().flat_map(|range| range.chunks(self.plan.task_heights)) {
            if self.tasks.len() >= self.room {
                self.more = true;
                return;
            }
            self.tasks.push(task);
        }
    }

    pub fn decide(mut self) -> Decision {
        // What lies above the place reached was not looked at: it stands as it was.
        let reached = self.judged;
        let unseen = self.young.iter().filter(|request| reached.is_none_or(|at| request.range.lo() > at));
        self.standing.extend(unseen.copied());
        self.standing.extend(self.tasks.iter().map(|range| Request { range: *range, at_ms: self.now_ms }));
        self.standing.sort_by_key(|request| request.range.lo());
        // Neighbours asked for at the same time are one line in the checkpoint.
        let mut requested: Vec<Request> = Vec::with_capacity(self.standing.len());
        for request in self.standing {
            match requested.last_mut() {
                Some(last) if last.at_ms == request.at_ms && last.range.hi() + 1 >= request.range.lo() => {
                    last.range = last.range.up_to(request.range.hi());
                }
                _ => requested.push(request),
            }
        }
        let state = DetectorState { requested, ..DetectorState::default() };
        Decision { state, tasks: self.tasks, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn plan() -> DetectPlan {
        DetectPlan {
            confirmations: 10,
            end: None,
            task_heights: 10,
            capacity: 100,
            request_age: Duration::from_secs(60),
            again: Duration::from_millis(100),
            rollback_horizon: Duration::from_secs(600),
        }
    }

    fn look(before: &[(u64, u64, u64)], missing: &[(u64, u64)], now_ms: u64, room: usize) -> Decision {
        let requested = before.iter().map(|(lo, hi, at_ms)| Request { range: range(*lo, *hi), at_ms: *at_ms });
        let plan = plan();
        let before = DetectorState { requested: requested.collect(), ..DetectorState::default() };
        let mut look = Look::new(&before, now_ms, &plan, room);
        look.judge(range(0, 100), &missing.iter().map(|(lo, hi)| range(*lo, *hi)).collect());
        look.decide()
    }

    #[test]
    fn gaps_become_tasks_of_the_asked_size_lowest_first() {
        let decision = look(&[], &[(5, 27), (40, 40)], 1000, 50);
        assert_eq!(decision.tasks, [range(5, 14), range(15, 24), range(25, 27), range(40, 40)]);
        assert!(!decision.more);
        let asked: Vec<_> = decision.state.requested.iter().map(|r| r.range).collect();
        assert_eq!(asked, [range(5, 27), range(40, 40)]);
    }

    #[test]
    fn what_was_asked_for_is_not_asked_again_until_it_ages() {
        let asked = [(5, 27, 1000)];
        assert!(look(&asked, &[(5, 27)], 2000, 50).tasks.is_empty());
        assert_eq!(look(&asked, &[(5, 30)], 2000, 50).tasks, [range(28, 30)]);
        assert_eq!(look(&asked, &[(8, 12)], 61_000, 50).tasks, [range(8, 12)]);
        let back_in_time = look(&asked, &[(8, 12)], 10, 50);
        assert_eq!(back_in_time.tasks, [range(8, 12)], "a request from the future has no age");
    }

    #[test]
    fn requests_that_were_filled_are_forgotten() {
        let decision = look(&[(5, 27, 1000)], &[(20, 21)], 2000, 50);
        assert_eq!(decision.state.requested, [Request { range: range(20, 21), at_ms: 1000 }]);
    }

    #[test]
    fn only_as_many_tasks_as_there_is_room() {
        let decision = look(&[], &[(0, 99)], 1000, 3);
        assert_eq!(decision.tasks, [range(0, 9), range(10, 19), range(20, 29)]);
        assert!(decision.more);
    }

    #[test]
    fn requests_above_the_place_reached_stand() {
        let decision = look(&[(500, 510, 1000)], &[(0, 99)], 2000, 1);
        assert!(decision.state.requested.contains(&Request { range: range(500, 510), at_ms: 1000 }));
    }
}
