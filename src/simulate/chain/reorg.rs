//! The reorg plan: which blocks are replaced, when, and from when on a height is final. Pure.
//!
//! `reorg=EVERY:DEPTH`: a head whose height is a multiple of EVERY is shown with blocks that will not stay. The block
//! above it stands on another branch, in which the last DEPTH blocks are other ones. So the head alone tells which
//! blocks are canonical, a height changes at most once, and the final chain is the one without reorgs.

use std::fmt;
use std::str::FromStr;

use crate::messages::heights::{Height, HeightRange};

/// The deepest reorganisation of a plan, in blocks.
pub const REORG_DEPTH_MAX: u64 = 100;

/// When the chain reorganises, and how deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reorgs {
    every: u64,
    depth: u64,
}

impl Reorgs {
    /// A plan; `depth` runs from 1 to [`REORG_DEPTH_MAX`] and is below `every`, so that no two reorgs meet.
    pub fn new(every: u64, depth: u64) -> Result<Self, String> {
        if !(1..=REORG_DEPTH_MAX).contains(&depth) {
            return Err(format!("{depth} blocks cannot be replaced; write 1 to {REORG_DEPTH_MAX}"));
        }
        if every <= depth {
            return Err(format!("{depth} blocks cannot be replaced every {every} blocks; make the first larger"));
        }
        Ok(Self { every, depth })
    }

    /// How many blocks each reorganisation replaces.
    pub fn depth(self) -> u64 {
        self.depth
    }

    /// The head that is shown with a block at this height that will not stay, if there is one.
    pub fn replaced_after(self, height: Height) -> Option<Height> {
        let head = height.checked_next_multiple_of(self.every)?;
        (head > 0 && head - height < self.depth).then_some(head)
    }

    /// The heights that change when the chain grows above this head.
    pub fn replaced_above(self, head: Height) -> Option<HeightRange> {
        let due = head > 0 && head.is_multiple_of(self.every);
        due.then(|| HeightRange::new(head + 1 - self.depth, head).ok()).flatten()
    }

    /// Whether the block at `height` will be another one, while the chain shows this head.
    pub fn is_orphan(self, height: Height, head: Height) -> bool {
        self.replaced_after(height).is_some_and(|last| head <= last)
    }
}

impl FromStr for Reorgs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(every, depth)| Some((every.parse().ok()?, depth.parse().ok()?)));
        let (every, depth) = parts.ok_or("write EVERY:DEPTH in blocks, for example 50:3")?;
        Self::new(every, depth)
    }
}

impl fmt::Display for Reorgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.every, self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_blocks_below_each_multiple_are_replaced_once() {
        let plan: Reorgs = "10:3".parse().expect("a plan");
        let replaced: Vec<_> = (0..=31).filter(|height| plan.replaced_after(*height).is_some()).collect();
        assert_eq!(replaced, [8, 9, 10, 18, 19, 20, 28, 29, 30]);
        assert_eq!(plan.replaced_above(20).map(|range| range.to_string()).as_deref(), Some("18..20"));
        assert_eq!((plan.replaced_above(0), plan.replaced_above(19), plan.replaced_above(21)), (None, None, None));
        let orphans = |head| (0..=head).filter(|height| plan.is_orphan(*height, head)).collect::<Vec<_>>();
        assert_eq!((orphans(17), orphans(18), orphans(20), orphans(21)), (vec![], vec![18], vec![18, 19, 20], vec![]));
        assert_eq!(plan.replaced_after(u64::MAX), None);
    }

    #[test]
    fn a_plan_that_cannot_be_is_refused_with_the_remedy() {
        for (text, reason) in [
            ("50", "write EVERY:DEPTH"),
            ("50:x", "write EVERY:DEPTH"),
            ("50:0", "write 1 to 100"),
            ("500:101", "write 1 to 100"),
            ("3:3", "make the first larger"),
            ("0:1", "make the first larger"),
        ] {
            let fault = text.parse::<Reorgs>().expect_err(text);
            assert!(fault.contains(reason), "{text}: {fault}");
        }
        assert_eq!("50:3".parse::<Reorgs>().expect("a plan").to_string(), "50:3");
    }
}
