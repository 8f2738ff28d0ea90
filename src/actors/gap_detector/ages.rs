//! How long gaps have been there. Bounded: of many gaps the oldest are remembered. Pure.

use serde::{Deserialize, Serialize};

use crate::messages::heights::{Height, HeightRange, HeightSet};

/// Gaps whose age is remembered.
const AGES_MAX: usize = 500;

/// A gap and when it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aged {
    /// Its heights; some of them may be filled by now.
    pub range: HeightRange,
    /// Server milliseconds.
    pub since_ms: u64,
}

/// The gaps of earlier looks, ascending and disjoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Ages {
    known: Vec<Aged>,
}

/// The gaps of a look under way.
#[derive(Debug)]
pub(super) struct AgesNow<'a> {
    before: &'a Ages,
    now_ms: u64,
    judged: Option<HeightRange>,
    found: Vec<Aged>,
}

impl Ages {
    /// What another holder knew of: the oldest gap.
    pub fn of(oldest: Option<Aged>) -> Self {
        Self { known: oldest.into_iter().collect() }
    }

    pub fn look(&self, now_ms: u64) -> AgesNow<'_> {
        AgesNow { before: self, now_ms, judged: None, found: Vec::new() }
    }

    /// The oldest gap, the lowest of them if several are.
    pub fn oldest(&self) -> Option<Aged> {
        self.known.iter().min_by_key(|aged| (aged.since_ms, aged.range.lo())).copied()
    }

    /// When something of a range was first missing, if it is known.
    fn since(&self, range: HeightRange) -> Option<u64> {
        let from = self.known.partition_point(|aged| aged.range.hi() < range.lo());
        let touching = self.known[from..].iter().take_while(|aged| aged.range.lo() <= range.hi());
        touching.map(|aged| aged.since_ms).min()
    }
}

impl AgesNow<'_> {
    /// Notes the missing heights of one part.
    pub fn judge(&mut self, part: HeightRange, missing: &HeightSet) {
        self.judged = Some(self.judged.map_or(part, |judged| judged.hull(part)));
        for range in missing.ranges() {
            // A time in the future was written by a clock that has gone back since.
            let since_ms = self.before.since(*range).map_or(self.now_ms, |since| since.min(self.now_ms));
            self.found.push(Aged { range: *range, since_ms });
        }
        if self.found.len() > 2 * AGES_MAX {
            keep_oldest(&mut self.found);
        }
    }

    /// What is known now. Gaps that this look did not come to stay as they were.
    pub fn finish(mut self) -> Ages {
        let judged = self.judged;
        let unseen = self.before.known.iter().filter(|aged| judged.is_none_or(|at| at.intersect(aged.range).is_none()));
        self.found.extend(unseen.copied());
        keep_oldest(&mut self.found);
        self.found.sort_by_key(|aged| aged.range.lo());
        Ages { known: self.found }
    }
}

fn keep_oldest(found: &mut Vec<Aged>) {
    let age = |aged: &Aged| (aged.since_ms, aged.range.lo() as Height);
    found.sort_by_key(age);
    found.truncate(AGES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn look(ages: &Ages, part: (Height, Height), missing: &[(Height, Height)], now_ms: u64) -> Ages {
        let mut now = ages.look(now_ms);
        now.judge(range(part.0, part.1), &missing.iter().map(|(lo, hi)| range(*lo, *hi)).collect());
        now.finish()
    }

    #[test]
    fn a_gap_keeps_its_age_while_it_shrinks_and_splits() {
        let ages = look(&Ages::default(), (0, 100), &[(10, 40)], 1000);
        let ages = look(&ages, (0, 100), &[(12, 20), (30, 35), (60, 61)], 2000);
        let ages = look(&ages, (0, 100), &[(30, 35), (60, 61)], 3000);
        assert_eq!(ages.oldest(), Some(Aged { range: range(30, 35), since_ms: 1000 }));
        let ages = look(&ages, (0, 100), &[(60, 61)], 4000);
        assert_eq!(ages.oldest(), Some(Aged { range: range(60, 61), since_ms: 2000 }));
        assert_eq!(look(&ages, (0, 100), &[], 5000).oldest(), None);
    }

    #[test]
    fn what_was_not_looked_at_stays_and_a_clock_that_went_back_makes_nothing_young() {
        let ages = look(&Ages::default(), (0, 100), &[(10, 11), (80, 81)], 1000);
        let ages = look(&ages, (0, 50), &[], 2000);
        assert_eq!(ages.oldest(), Some(Aged { range: range(80, 81), since_ms: 1000 }));
        assert_eq!(look(&ages, (0, 100), &[(80, 81)], 10).oldest().map(|aged| aged.since_ms), Some(10));
        assert_eq!(Ages::of(ages.oldest()).oldest(), ages.oldest());
    }

    #[test]
    fn of_many_gaps_the_oldest_are_remembered() {
        let old = look(&Ages::default(), (0, 10_000), &[(5_000, 5_000)], 1);
        let many: Vec<_> = (0..5_000).map(|n| (2 * n, 2 * n)).collect();
        let ages = look(&old, (0, 10_000), &many, 2);
        assert_eq!((ages.known.len(), ages.oldest().map(|aged| aged.range)), (AGES_MAX, Some(range(5_000, 5_000))));
    }
}
