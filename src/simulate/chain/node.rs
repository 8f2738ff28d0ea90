//! The simulated node: its head, and what it shows of each height. No dialect, no HTTP.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::fate::Twists;
use super::{ChainPlan, SimChain};
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange};

/// The heights below the head for which the `null` fault hides a block, the head included.
const NULL_HEIGHTS: Height = 3;
/// Served orphans that are remembered, the newest ones.
pub(super) const ORPHANS_MAX: usize = 10_000;

/// A node that serves one chain.
pub(super) struct Node {
    chain: SimChain,
    blocks: Height,
    block_time: Option<Duration>,
    finalized_depth: u64,
    started: Instant,
    advanced: AtomicU64,
    hole: Option<HeightRange>,
    pruned: Option<HeightRange>,
    keep: Option<u64>,
    /// The heights whose orphans were served.
    orphans: Mutex<BTreeSet<Height>>,
}

/// What the node says of a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The block, of this branch.
    Block(u32),
    /// Above the head, or hidden as if it were.
    NotYet,
    /// A height that the node lost.
    Lost,
    /// Thrown away; the lowest height above it that is kept.
    Pruned(Height),
}

impl Node {
    /// The node at its start.
    pub fn new(plan: &ChainPlan) -> Self {
        Self {
            chain: SimChain::new(plan),
            blocks: plan.blocks,
            block_time: plan.block_time,
            finalized_depth: plan.finalized_depth,
            started: Instant::now(),
            advanced: AtomicU64::new(0),
            hole: plan.faults.hole,
            pruned: plan.faults.pruned,
            keep: plan.faults.keep,
            orphans: Mutex::default(),
        }
    }

    /// Its chain.
    pub fn chain(&self) -> &SimChain {
        &self.chain
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The head now.
    pub fn head(&self) -> Height {
        self.head_after(self.uptime())
    }

    fn head_after(&self, uptime: Duration) -> Height {
        let grown = self.block_time.map_or(0, |each| uptime.as_nanos() / each.as_nanos().max(1));
        let grown = u64::try_from(grown).unwrap_or(HEIGHT_MAX);
        let advanced = self.advanced.load(Ordering::Relaxed);
        self.blocks.saturating_add(grown).saturating_add(advanced).min(HEIGHT_MAX)
    }

    /// How long until the clock brings the next block.
    pub fn next_block_in(&self) -> Option<Duration> {
        let each = self.block_time?.as_nanos().max(1);
        let left = each - self.uptime().as_nanos() % each;
        Some(Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)))
    }

    /// Adds blocks at once.
    pub fn advance(&self, blocks: u64) {
        // At most HEIGHT_MAX each, so that a careless caller cannot wrap it around.
        self.advanced.fetch_add(blocks.min(HEIGHT_MAX), Ordering::Relaxed);
    }

    /// The lowest height that is kept under this head.
    pub fn lowest(&self, head: Height) -> Height {
        let horizon = self.keep.map_or(0, |keep| (head + 1).saturating_sub(keep)).max(self.chain.network().first());
        self.pruned.filter(|pruned| pruned.contains(horizon)).map_or(horizon, |pruned| pruned.hi() + 1)
    }

    /// The newest final and the newest safe height under this head; none where the node knows no finality.
    pub fn finalized(&self, head: Height) -> Option<(Height, Height)> {
        let depth = self.finalized_depth;
        (depth > 0).then(|| (head.saturating_sub(depth), head.saturating_sub(depth / 2)))
    }

    /// What it says of a height under this head.
    pub fn show(&self, height: Height, head: Height, twists: &mut Twists) -> Shown {
        let newest = height.saturating_add(NULL_HEIGHTS) > head;
        match self.kept(height, head) {
            Shown::Block(_) if newest && twists.noise.hit(twists.null) => Shown::NotYet,
            shown => shown,
        }
    }

    /// The same, without the `null` fault.
    pub fn kept(&self, height: Height, head: Height) -> Shown {
        let within = |range: Option<HeightRange>| range.is_some_and(|range| range.contains(height));
        if within(self.pruned) || height < self.lowest(head) {
            let above = self.pruned.filter(|pruned| pruned.contains(height)).map_or(0, |pruned| pruned.hi() + 1);
            return Shown::Pruned(above.max(self.lowest(head)));
        }
        match height {
            _ if within(self.hole) => Shown::Lost,
            _ if height > head => Shown::NotYet,
            _ => Shown::Block(self.chain.branch(height, head)),
        }
    }

    /// Which block has this hash, if it is one that the node has seen: of the chain, or replaced since it started.
    pub fn seen(&self, hash: &str, head: Height) -> Option<(Height, u32)> {
        let (height, branch) = self.chain.find(hash).filter(|(height, _)| *height <= head)?;
        let was_shown = |last: Height| SimChain::is_orphans(branch) && last >= self.blocks;
        let replaced = self.chain.reorgs().and_then(|reorgs| reorgs.replaced_after(height)).is_some_and(was_shown);
        (branch == self.chain.branch(height, head) || replaced).then_some((height, branch))
    }

    /// Appends a block. An answer that is to be wrong holds the neighbour instead: sound in itself, so that only a look
    /// at its number tells.
    pub fn put_block(&self, height: Height, branch: u32, full: bool, twists: &mut Twists, out: &mut Vec<u8>) {
        let (height, branch) = match std::mem::take(&mut twists.wrong_block) {
            true => {
                let other = if height ^ 1 < self.chain.network().first() { height + 1 } else { height ^ 1 };
                (other, self.chain.branch(other, self.head()))
            }
            false => (height, branch),
        };
        self.put_true(height, branch, full, out);
    }

    /// Appends a block whatever goes wrong.
    pub fn put_true(&self, height: Height, branch: u32, full: bool, out: &mut Vec<u8>) {
        if SimChain::is_orphans(branch) {
            let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
            orphans.insert(height);
            if orphans.len() > ORPHANS_MAX {
                orphans.pop_first();
            }
        }
        self.chain.render(height, branch, full, out);
    }

    /// The heights whose orphans were served so far, ascending; the newest [`ORPHANS_MAX`].
    pub fn orphans(&self) -> Vec<Height> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_follows_the_clock_and_the_command() {
        let block_time = Some(Duration::from_millis(500));
        let node = Node::new(&ChainPlan { blocks: 10, block_time, ..ChainPlan::default() });
        let heads = [0, 499, 500, 10_000].map(|ms| node.head_after(Duration::from_millis(ms)));
        assert_eq!(heads, [10, 10, 11, 30]);
        node.advance(5);
        assert_eq!(node.head_after(Duration::ZERO), 15);
        node.advance(u64::MAX);
        assert_eq!(node.head_after(Duration::MAX), HEIGHT_MAX);
    }
}
