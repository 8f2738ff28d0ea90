//! Heights and inclusive ranges of them: the algebra of gaps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The height (number) of a block. At most 2^53 - 1, so that it stays exact as a score in Redis.
pub type Height = u64;

/// The largest height that is accepted from anybody.
pub const HEIGHT_MAX: Height = (1 << 53) - 1;

/// Heights `lo` to `hi`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "[u64; 2]", into = "[u64; 2]")]
pub struct HeightRange {
    lo: Height,
    hi: Height,
}

impl HeightRange {
    /// A range; backwards or past [`HEIGHT_MAX`] is refused with what was wrong.
    pub fn new(lo: Height, hi: Height) -> Result<Self, String> {
        if lo > hi {
            return Err(format!("the range {lo}..{hi} runs backwards; write LOWEST..HIGHEST"));
        }
        if hi > HEIGHT_MAX {
            return Err(format!("height {hi} is above the largest possible height, {HEIGHT_MAX}"));
        }
        Ok(Self { lo, hi })
    }

    /// One height.
    pub fn one(height: Height) -> Self {
        debug_assert!(height <= HEIGHT_MAX);
        Self { lo: height, hi: height }
    }

    /// The lowest height in it.
    pub fn lo(self) -> Height {
        self.lo
    }

    /// The highest height in it.
    pub fn hi(self) -> Height {
        self.hi
    }

    /// How many heights it holds; at least 1.
    pub fn count(self) -> u64 {
        self.hi - self.lo + 1
    }

    /// Whether `height` lies in it.
    pub fn contains(self, height: Height) -> bool {
        (self.lo..=self.hi).contains(&height)
    }

    /// The same range, reaching up to `hi`, if that is higher.
    pub fn up_to(self, hi: Height) -> HeightRange {
        debug_assert!(hi <= HEIGHT_MAX);
        Self { lo: self.lo, hi: self.hi.max(hi) }
    }

    /// The smallest range that holds both.
    pub fn hull(self, other: HeightRange) -> HeightRange {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// The heights that both hold.
    pub fn intersect(self, other: HeightRange) -> Option<HeightRange> {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        (lo <= hi).then_some(Self { lo, hi })
    }

    /// Cut into pieces of at most `count` heights, lowest first.
    pub fn chunks(self, count: u64) -> impl Iterator<Item = HeightRange> {
        let step = count.max(1);
        (self.lo..=self.hi)
            .step_by(usize::try_from(step).unwrap_or(usize::MAX))
            .map(move |lo| HeightRange { lo, hi: self.hi.min(lo.saturating_add(step - 1)) })
    }

    /// The same pieces as [`HeightRange::chunks`], highest first.
    pub fn chunks_down(self, count: u64) -> impl Iterator<Item = HeightRange> {
        let step = count.max(1);
        (0..self.count().div_ceil(step)).rev().map(move |place| {
            let lo = self.lo + place * step;
            HeightRange { lo, hi: self.hi.min(lo.saturating_add(step - 1)) }
        })
    }
}

impl fmt::Display for HeightRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.lo, self.hi)
    }
}

impl FromStr for HeightRange {
    type Err = String;

    /// `A..B` (inclusive) or a single height.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.parse::<u64>().map_err(|_| format!("`{part}` is no height; write a whole number from 0, or A..B"))
        };
        match text.split_once("..") {
            Some((lo, hi)) => Self::new(number(lo)?, number(hi)?),
            None => number(text).and_then(|height| Self::new(height, height)),
        }
    }
}

impl TryFrom<[u64; 2]> for HeightRange {
    type Error = String;

    fn try_from([lo, hi]: [u64; 2]) -> Result<Self, String> {
        Self::new(lo, hi)
    }
}

impl From<HeightRange> for [u64; 2] {
    fn from(range: HeightRange) -> Self {
        [range.lo, range.hi]
    }
}

/// A set of heights as disjoint, non-adjacent ranges in ascending order. Every operation costs O(ranges).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<HeightRange>", into = "Vec<HeightRange>")]
pub struct HeightSet {
    ranges: Vec<HeightRange>,
}

impl HeightSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its ranges, lowest first.
    pub fn ranges(&self) -> &[HeightRange] {
        &self.ranges
    }

    /// How many heights it holds.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|r| r.count()).sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it holds `height`.
    pub fn contains(&self, height: Height) -> bool {
        let next = self.ranges.partition_point(|r| r.lo <= height);
        next > 0 && self.ranges[next - 1].hi >= height
    }

    /// Adds a range; doubles change nothing.
    pub fn insert(&mut self, range: HeightRange) {
        // Everything that overlaps or touches the new range is swallowed by it.
        let from = self.ranges.partition_point(|r| r.hi.saturating_add(1) < range.lo);
        let to = self.ranges.partition_point(|r| r.lo <= range.hi.saturating_add(1));
        let mut merged = range;
        if from < to {
            merged.lo = merged.lo.min(self.ranges[from].lo);
            merged.hi = merged.hi.max(self.ranges[to - 1].hi);
        }
        self.ranges.splice(from..to, [merged]);
    }

    /// Takes a range away; what was not held is no error.
    pub fn remove(&mut self, range: HeightRange) {
        let from = self.ranges.partition_point(|r| r.hi < range.lo);
        let to = self.ranges.partition_point(|r| r.lo <= range.hi);
        let mut rest = Vec::with_capacity(2);
        if from < to {
            let (first, last) = (self.ranges[from], self.ranges[to - 1]);
            if first.lo < range.lo {
                rest.push(HeightRange { lo: first.lo, hi: range.lo - 1 });
            }
            if last.hi > range.hi {
                rest.push(HeightRange { lo: range.hi + 1, hi: last.hi });
            }
        }
        self.ranges.splice(from..to, rest);
    }

    /// The smallest range that holds all of it; none if it is empty.
    pub fn hull(&self) -> Option<HeightRange> {
        Some(self.ranges.first()?.hull(*self.ranges.last()?))
    }

    /// The heights of `within` that the set lacks, lowest first: its gaps.
    pub fn gaps(&self, within: HeightRange) -> HeightSet {
        let mut gaps = HeightSet { ranges: vec![within] };
        for range in &self.ranges {
            gaps.remove(*range);
        }
        gaps
    }
}

impl From<Vec<HeightRange>> for HeightSet {
    fn from(ranges: Vec<HeightRange>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<HeightSet> for Vec<HeightRange> {
    fn from(set: HeightSet) -> Self {
        set.ranges
    }
}

impl FromIterator<HeightRange> for HeightSet {
    fn from_iter<I: IntoIterator<Item = HeightRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(lo: u64, hi: u64) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    #[test]
    fn ranges_are_inclusive_and_never_backwards() {
        assert_eq!("5..7".parse::<HeightRange>(), Ok(range(5, 7)));
        assert_eq!("5".parse::<HeightRange>(), Ok(range(5, 5)));
        assert_eq!(range(5, 7).count(), 3);
        assert!("7..5".parse::<HeightRange>().expect_err("backwards").contains("runs backwards"));
        assert!("-1..5".parse::<HeightRange>().expect_err("negative").contains("no height"));
        assert!("0..9007199254740992".parse::<HeightRange>().expect_err("too large").contains("largest"));
    }

    #[test]
    fn chunks_cover_the_range_once() {
        let chunks: Vec<_> = range(3, 12).chunks(4).collect();
        assert_eq!(chunks, [range(3, 6), range(7, 10), range(11, 12)]);
    }

    proptest! {
        #[test]
        fn pieces_are_the_same_from_both_ends(lo in 0_u64..1_000, count in 1_u64..500, step in 0_u64..60) {
            let whole = range(lo, lo + count - 1);
            let mut down: Vec<_> = whole.chunks_down(step).collect();
            down.reverse();
            prop_assert_eq!(down, whole.chunks(step).collect::<Vec<_>>());
        }

        /// The set agrees with the plainest one there is, after any history of inserts and removes.
        #[test]
        fn a_set_is_the_set_of_its_heights(steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..40)) {
            let (mut set, mut truth) = (HeightSet::new(), BTreeSet::new());
            for (insert, lo, len) in steps {
                let heights = lo..=lo + len;
                if insert {
                    set.insert(range(lo, lo + len));
                    truth.extend(heights);
                } else {
                    set.remove(range(lo, lo + len));
                    truth.retain(|h| !heights.contains(h));
                }
                prop_assert!(set.ranges().windows(2).all(|w| w[0].hi + 1 < w[1].lo), "{set:?}");
            }
            let held: BTreeSet<u64> = set.ranges().iter().flat_map(|r| r.lo..=r.hi).collect();
            prop_assert_eq!(&held, &truth);
            let gaps: BTreeSet<u64> = set.gaps(range(0, 80)).ranges().iter().flat_map(|r| r.lo..=r.hi).collect();
            prop_assert_eq!(gaps, (0..=80).filter(|h| !truth.contains(h)).collect::<BTreeSet<_>>());
            for height in 0..=80 {
                prop_assert_eq!(set.contains(height), truth.contains(&height));
            }
        }
    }
}
