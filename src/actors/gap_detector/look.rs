//! What one look at the sets decides: which gaps to ask for now, and which requests still stand. Pure.

use serde::{Deserialize, Serialize};

use super::ages::{Aged, Ages, AgesNow};
use super::reconcile::Walk;
use super::{DetectPlan, REQUESTS_MAX};
use crate::config::GapOrder;
use crate::messages::heights::{HeightRange, HeightSet};
use crate::telemetry::blocks::Seen;

/// A range that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub range: HeightRange,
    /// Server milliseconds of the asking.
    pub at_ms: u64,
}

/// What the checkpoint holds: no truth, only ages and places. Losing it asks, and compares, again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DetectorState {
    pub requested: Vec<Request>,
    /// What operators wish for and nobody was asked for yet: first of all when there is room.
    #[serde(default, skip_serializing_if = "HeightSet::is_empty")]
    pub wishes: HeightSet,
    /// The oldest gap, for whoever comes after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Aged>,
    /// How far the files were compared with the index.
    #[serde(default)]
    pub walk: Walk,
}

/// What one look brought.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    /// Requests that still stand, the new ones included.
    pub state: DetectorState,
    /// Ranges to ask for now, in the order of asking.
    pub tasks: Vec<HeightRange>,
    /// There was more to ask for than room.
    pub more: bool,
    /// The gaps that are known now.
    pub ages: Ages,
    /// The figures of it.
    pub seen: Seen,
}

impl Decision {
    /// Where nothing is wanted yet.
    pub fn nothing(state: DetectorState) -> Self {
        Self {
            state,
            tasks: Vec::new(),
            more: false,
            ages: Ages::default(),
            seen: Seen { whole: true, ..Seen::default() },
        }
    }
}

/// One look at the sets, from one end to the other. Pure.
pub(super) struct Look<'a> {
    plan: &'a DetectPlan,
    before: &'a DetectorState,
    now_ms: u64,
    room: usize,
    /// Requests that are young enough to stand.
    young: Vec<Request>,
    /// Parts of them that are still missing.
    standing: Vec<Request>,
    /// What was looked at: one piece, from the end where the look began.
    judged: Option<HeightRange>,
    tasks: Vec<HeightRange>,
    more: bool,
    ages: AgesNow<'a>,
    seen: Seen,
}

impl<'a> Look<'a> {
    pub fn new(before: &'a DetectorState, ages: &'a Ages, now_ms: u64, plan: &'a DetectPlan, room: usize) -> Self {
        let age = u64::try_from(plan.request_age.as_millis()).unwrap_or(u64::MAX);
        // A request from the future was written by a clock that has gone back since: its age cannot be told.
        let is_young = |request: &&Request| request.at_ms <= now_ms && now_ms - request.at_ms < age;
        let young = before.requested.iter().filter(is_young).copied().collect();
        let (standing, tasks, seen) = (Vec::new(), Vec::new(), Seen::default());
        let ages = ages.look(now_ms);
        Self { plan, before, now_ms, room, young, standing, judged: None, tasks, more: false, ages, seen }
    }

    pub fn is_full(&self) -> bool {
        self.more
    }

    /// Judges the next part of the chain, of which `missing` is neither held nor parked, and `parked` heights are.
    pub fn judge(&mut self, part: HeightRange, missing: &HeightSet, parked: u64) {
        self.judged = Some(self.judged.map_or(part, |judged| judged.hull(part)));
        self.ages.judge(part, missing);
        self.seen.missing += missing.count();
        self.seen.parked += parked;
        self.seen.held += part.count().saturating_sub(missing.count() + parked);
        self.seen.gaps += missing.ranges().len() as u64;
        let mut unasked = missing.clone();
        for request in &self.young {
            for range in missing.ranges().iter().filter_map(|range| range.intersect(request.range)) {
                self.standing.push(Request { range, at_ms: request.at_ms });
            }
            unasked.remove(request.range);
        }
        // What stands must fit into the checkpoint, beside what this look has not come to yet.
        let unseen = self.young.iter().filter(|request| !self.beyond(request.range).is_empty()).count();
        let room = self.room.min(REQUESTS_MAX.saturating_sub(self.standing.len() + unseen));
        let heights = self.plan.task_heights;
        let tasks: Box<dyn Iterator<Item = HeightRange>> = match self.plan.order {
            GapOrder::Oldest => Box::new(unasked.ranges().iter().flat_map(|range| range.chunks(heights))),
            GapOrder::Newest => Box::new(unasked.ranges().iter().rev().flat_map(|range| range.chunks_down(heights))),
        };
        for task in tasks {
            if self.tasks.len() >= room {
                self.more = true;
                return;
            }
            self.tasks.push(task);
        }
    }

    /// What of a range this look has not come to.
    fn beyond(&self, range: HeightRange) -> HeightSet {
        let mut rest = HeightSet::from_iter([range]);
        if let Some(judged) = self.judged {
            rest.remove(judged);
        }
        rest
    }

    /// Ends the look. `wanted` is all that it should have come to.
    pub fn decide(mut self, wanted: Option<HeightRange>) -> Decision {
        let young = std::mem::take(&mut self.young);
        for request in &young {
            // What was not looked at stands as it was.
            let unseen = self.beyond(request.range);
            self.standing.extend(unseen.ranges().iter().map(|range| Request { range: *range, at_ms: request.at_ms }));
        }
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
        let (before, judged) = (self.before, self.judged);
        let ages = self.ages.finish();
        let oldest = ages.oldest();
        self.seen.wanted = wanted.map_or(0, HeightRange::count);
        self.seen.whole = wanted.is_none_or(|wanted| judged.is_some_and(|judged| judged.hull(wanted) == judged));
        self.seen.requested = requested.iter().map(|request| request.range.count()).sum();
        self.seen.oldest_gap_seconds = oldest.map_or(0, |aged| self.now_ms.saturating_sub(aged.since_ms) / 1000);
        let oldest = kept(before.oldest, oldest);
        let state = DetectorState { requested, oldest, walk: before.walk, wishes: HeightSet::new() };
        Decision { state, tasks: self.tasks, more: self.more, ages, seen: self.seen }
    }
}

/// The oldest gap as the checkpoint has it already, if it is the same: while it shrinks nothing needs a commit.
fn kept(before: Option<Aged>, now: Option<Aged>) -> Option<Aged> {
    let now = now?;
    let is_same = |before: &Aged| now.since_ms == before.since_ms && before.range.intersect(now.range).is_some();
    before.filter(is_same).or(Some(now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::messages::heights::Height;

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
            ..DetectPlan::default()
        }
    }

    fn look(before: &[(u64, u64, u64)], missing: &[(u64, u64)], now_ms: u64, room: usize) -> Decision {
        let requested = before.iter().map(|(lo, hi, at_ms)| Request { range: range(*lo, *hi), at_ms: *at_ms });
        let state = DetectorState { requested: requested.collect(), ..DetectorState::default() };
        let (plan, ages) = (plan(), Ages::default());
        let mut look = Look::new(&state, &ages, now_ms, &plan, room);
        look.judge(range(0, 100), &missing.iter().map(|(lo, hi)| range(*lo, *hi)).collect(), 0);
        look.decide(Some(range(0, 100)))
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

    #[test]
    fn a_request_that_reaches_past_the_place_stands_there() {
        let decision = look(&[(95, 110, 1000)], &[(0, 99)], 2000, 1);
        assert_eq!(decision.tasks, [range(0, 9)]);
        let standing: Vec<_> = decision.state.requested.iter().map(|r| r.range).collect();
        assert_eq!(standing, [range(0, 9), range(95, 99), range(101, 110)]);
    }

    #[test]
    fn the_newest_gaps_come_first_where_that_is_asked() {
        let plan = DetectPlan { order: GapOrder::Newest, ..plan() };
        let (state, ages) = (DetectorState::default(), Ages::default());
        let mut look = Look::new(&state, &ages, 1000, &plan, 3);
        look.judge(range(0, 100), &[range(5, 27), range(40, 40)].into_iter().collect(), 0);
        let decision = look.decide(Some(range(0, 100)));
        assert_eq!(decision.tasks, [range(40, 40), range(25, 27), range(15, 24)]);
        assert!(decision.more);
    }

    #[test]
    fn the_figures_add_up_and_say_whether_they_are_whole() {
        let seen = look(&[(5, 9, 1000)], &[(5, 27), (40, 40)], 2000, 50).seen;
        assert_eq!((seen.wanted, seen.held, seen.missing, seen.gaps, seen.whole), (101, 77, 24, 2, true));
        assert_eq!(seen.requested, 24, "the new tasks included");
        let (state, ages, plan) = (DetectorState::default(), Ages::default(), plan());
        let mut part = Look::new(&state, &ages, 1000, &plan, 0);
        part.judge(range(0, 100), &[range(50, 60)].into_iter().collect(), 3);
        let seen = part.decide(Some(range(0, 500))).seen;
        assert_eq!((seen.wanted, seen.held, seen.parked, seen.whole), (501, 87, 3, false));
    }

    /// Looks again and again, page by page, with so much room each time, while the pool fills some of what was asked for.
    fn asked_in_all(
        order: GapOrder,
        missing: &HeightSet,
        page: u64,
        room: usize,
        fill_every: usize,
    ) -> Vec<HeightRange> {
        let plan = DetectPlan { order, task_heights: 7, ..plan() };
        let wanted = range(0, 999);
        let (mut missing, mut state, mut ages) = (missing.clone(), DetectorState::default(), Ages::default());
        let (mut asked, mut now_ms) = (Vec::new(), 1000);
        loop {
            let mut look = Look::new(&state, &ages, now_ms, &plan, room);
            let mut pages: Vec<HeightRange> = wanted.chunks(page).collect();
            if order == GapOrder::Newest {
                pages.reverse();
            }
            for part in pages {
                if look.is_full() {
                    break;
                }
                let mut here = HeightSet::from_iter([part]);
                missing.gaps(part).ranges().iter().for_each(|held| here.remove(*held));
                look.judge(part, &here, 0);
            }
            let decision = look.decide(Some(wanted));
            assert!(decision.tasks.len() <= room && decision.state.requested.len() <= REQUESTS_MAX);
            if decision.tasks.is_empty() {
                assert!(!decision.more || room == 0);
                return asked;
            }
            for (place, task) in decision.tasks.iter().enumerate() {
                if place % fill_every == 0 {
                    missing.remove(*task);
                }
            }
            asked.extend(decision.tasks);
            (state, ages, now_ms) = (decision.state, decision.ages, now_ms + 1);
        }
    }

    proptest! {
        /// Whatever the order, each missing height is asked for, and only once while its request is young.
        #[test]
        fn both_orders_ask_for_each_missing_height_once(
            gaps in prop::collection::vec((0_u64..1_000, 1_u64..80), 0..30),
            page in 20_u64..1_200, room in 1_usize..40, fill_every in 1_usize..4,
        ) {
            let missing: HeightSet = gaps.iter().map(|(lo, n)| range(*lo, (lo + n - 1).min(999))).collect();
            for order in [GapOrder::Oldest, GapOrder::Newest] {
                let asked = asked_in_all(order, &missing, page, room, fill_every);
                let heights: u64 = asked.iter().map(|task| task.count()).sum();
                let set: HeightSet = asked.iter().copied().collect();
                prop_assert_eq!(&set, &missing, "{:?}", order);
                prop_assert_eq!(heights, missing.count(), "{:?}: a height was asked for twice", order);
            }
        }
    }
}
