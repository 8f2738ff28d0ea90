//! What the Collector remembers of the chain between turns, and how one turn changes it. Pure.

use serde::{Deserialize, Serialize};

use crate::messages::block::{BlockHash, BlockRef, Piece};
use crate::messages::heights::{Height, HeightRange};
use crate::store::effect::Effect;

/// What the checkpoint holds: the hashes of the topmost blocks that this actor committed, contiguous.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The height of the first hash.
    pub lowest: Height,
    /// The hashes, ascending; at most `confirmations + 1`.
    pub hashes: Vec<BlockHash>,
    /// The parent that the lowest block names; none in an empty window.
    #[serde(default)]
    pub parent: Option<BlockHash>,
}

impl Window {
    /// The topmost height and its hash.
    pub fn top(&self) -> Option<(Height, &BlockHash)> {
        let last = self.hashes.last()?;
        Some((self.lowest + self.hashes.len() as u64 - 1, last))
    }

    /// The hash at a height, if the window reaches there.
    pub(super) fn hash(&self, height: Height) -> Option<&BlockHash> {
        self.hashes.get(usize::try_from(height.checked_sub(self.lowest)?).ok()?)
    }

    /// Forgets `height` and what lies above it.
    fn cut_from(&mut self, height: Height) {
        let keep = height.saturating_sub(self.lowest);
        self.hashes.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Adds blocks that stand on the top, and forgets what is final.
    fn extend(&mut self, blocks: &[BlockRef], keep: u64) {
        for block in blocks {
            if self.hashes.is_empty() {
                (self.lowest, self.parent) = (block.height, Some(block.parent.clone()));
            }
            self.hashes.push(block.hash.clone());
        }
        let surplus = self.hashes.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        if let Some(last) = self.hashes.drain(..surplus).next_back() {
            self.parent = Some(last);
        }
        self.lowest += surplus as u64;
    }

    /// Where the window leaves the chain, of which `canonical` are the linked blocks from its lowest height on, at
    /// most up to its top. `start` is the lowest wanted height, `depth` the deepest reorganisation that is followed.
    pub(super) fn compare(&self, canonical: &[BlockRef], start: Height, depth: u64) -> Compared {
        let Some((top, _)) = self.top() else { return Compared::Same };
        let agrees = |block: &&BlockRef| self.hash(block.height) == Some(&block.hash);
        if let Some(ancestor) = canonical.iter().rev().find(agrees).map(|block| block.height) {
            // Without another block above it, the source has only fewer blocks to show than a moment ago.
            let differs = canonical.last().is_some_and(|last| last.height > ancestor);
            return match differs {
                true => Compared::Left(Reorg { from: ancestor + 1, top, below: self.hash(ancestor).cloned() }),
                false => Compared::Same,
            };
        }
        let Some(lowest) = canonical.first() else { return Compared::Same };
        let followed = top - self.lowest < depth;
        match (followed, self.parent.as_ref() == Some(&lowest.parent)) {
            (true, true) => Compared::Left(Reorg { from: self.lowest, top, below: self.parent.clone() }),
            // Nothing below is wanted, so nothing below has to agree.
            (true, false) if self.lowest == start => Compared::Left(Reorg { from: start, top, below: None }),
            (true, false) | (false, _) => Compared::TooDeep,
        }
    }
}

/// What a look at the chain says of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compared {
    /// No other branch was shown.
    Same,
    /// Blocks left the chain.
    Left(Reorg),
    /// More of them than can be followed.
    TooDeep,
}

/// The held blocks from `from` up to `top` left the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reorg {
    pub from: Height,
    pub top: Height,
    /// The hash of the common ancestor; none where nothing below is wanted.
    pub below: Option<BlockHash>,
}

/// What a turn writes down.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub window: Window,
    /// Durable blocks, ascending.
    pub ids: Vec<BlockRef>,
    pub reorg: Option<Reorg>,
    /// How the blocks stand to the window.
    pub place: Place,
    pub head: Height,
    pub start: Height,
    pub chain_id: String,
}

/// How the blocks of a turn stand to the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// On its top.
    #[default]
    Above,
    /// On nothing that it holds: a new window begins.
    Afresh,
    /// Within it: they were held before, and lost.
    Within,
}

impl Outcome {
    /// The new window, and the effects that record the blocks.
    pub fn record(self, keep: u64) -> (Window, Vec<Effect>) {
        let mut window = self.window;
        if self.place == Place::Afresh && !self.ids.is_empty() {
            window = Window::default();
        }
        let mut effects = Vec::new();
        if let Some(Reorg { from, top, below }) = self.reorg
            && let Ok(range) = HeightRange::new(from, top)
        {
            effects.push(Effect::Remove { range, below, above: None });
            window.cut_from(from);
        }
        effects.extend(Piece::of_all(&self.ids).into_iter().map(Effect::Merge));
        if self.place != Place::Within {
            window.extend(&self.ids, keep);
        }
        let head = window.top().map_or(self.head, |(top, _)| self.head.max(top));
        for (field, value) in
            [("head", head.to_string()), ("start", self.start.to_string()), ("chain_id", self.chain_id)]
        {
            effects.push(Effect::Put { field, value });
        }
        (window, effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> BlockHash {
        BlockHash::new(text).expect("a hash")
    }

    fn window(lowest: Height, count: u64) -> Window {
        let hashes = (lowest..lowest + count).map(|h| hash(&format!("h{h}"))).collect();
        Window { lowest, hashes, parent: Some(hash(&format!("h{}", lowest - 1))) }
    }

    fn block(height: Height, own: &str, parent: &str) -> BlockRef {
        BlockRef { height, hash: hash(own), parent: hash(parent), time: 0 }
    }

    /// The other branch, which leaves ours above `ancestor`.
    fn branch(from: Height, to: Height, ancestor: Height) -> Vec<BlockRef> {
        let name = |height: Height| format!("{}{height}", if height > ancestor { "n" } else { "h" });
        (from..=to).map(|h| block(h, &name(h), &name(h - 1))).collect()
    }

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn outcome(window: Window, ids: Vec<BlockRef>, place: Place) -> Outcome {
        Outcome { window, ids, place, head: 103, chain_id: "1".to_owned(), ..Outcome::default() }
    }

    #[test]
    fn the_window_forgets_what_is_final() {
        let (after, effects) = outcome(window(91, 10), branch(101, 102, 100), Place::Above).record(11);
        assert_eq!((after.lowest, after.hashes.len(), after.parent.as_ref()), (92, 11, Some(&hash("h91"))));
        assert_eq!(after.top(), Some((102, &hash("n102"))));
        let Effect::Merge(piece) = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((piece.range, piece.parent.as_str()), (range(101, 102), "h100"));
    }

    #[test]
    fn a_reorg_removes_and_merges_in_one_commit() {
        let before = window(91, 10);
        let Compared::Left(reorg) = before.compare(&branch(91, 100, 98), 0, 10) else { panic!("a reorg") };
        assert_eq!(reorg, Reorg { from: 99, top: 100, below: Some(hash("h98")) });
        let turn = Outcome { reorg: Some(reorg), ..outcome(before, branch(99, 101, 98), Place::Above) };
        let (after, effects) = turn.record(11);
        assert_eq!(after.top(), Some((101, &hash("n101"))));
        assert_eq!((after.hash(98), after.hash(99)), (Some(&hash("h98")), Some(&hash("n99"))));
        assert_eq!(effects[0], Effect::Remove { range: range(99, 100), below: Some(hash("h98")), above: None });
        assert!(matches!(&effects[1], Effect::Merge(piece) if piece.range == range(99, 101)), "{effects:?}");
    }

    #[test]
    fn a_source_that_shows_fewer_blocks_is_no_reorg() {
        assert_eq!(window(91, 10).compare(&branch(91, 97, 97), 0, 10), Compared::Same);
        assert_eq!(window(91, 10).compare(&[], 0, 10), Compared::Same);
    }

    #[test]
    fn a_whole_young_window_may_leave_the_chain() {
        // A window of 10 blocks of which none remains: the block below it is the common ancestor.
        let left = window(91, 10).compare(&branch(91, 100, 90), 0, 10);
        assert_eq!(left, Compared::Left(Reorg { from: 91, top: 100, below: Some(hash("h90")) }));
        // One block, with `start = "latest"`: nothing below it is wanted.
        let left = window(100, 1).compare(&branch(100, 100, 90), 100, 10);
        assert_eq!(left, Compared::Left(Reorg { from: 100, top: 100, below: None }));
        // But not if heights below are wanted, and not more blocks than are followed.
        assert_eq!(window(100, 1).compare(&branch(100, 100, 90), 0, 10), Compared::TooDeep);
        assert_eq!(window(90, 11).compare(&branch(90, 100, 89), 0, 10), Compared::TooDeep);
    }

    #[test]
    fn blocks_afresh_begin_a_new_window_and_blocks_within_change_none() {
        let (after, _) = outcome(window(91, 10), branch(200, 200, 199), Place::Afresh).record(11);
        assert_eq!((after.lowest, after.hashes.len(), after.parent), (200, 1, Some(hash("h199"))));
        let (after, _) = outcome(window(91, 10), Vec::new(), Place::Afresh).record(11);
        assert_eq!(after, window(91, 10));
        let (after, effects) = outcome(window(91, 10), branch(95, 96, 100), Place::Within).record(11);
        assert_eq!(after, window(91, 10));
        assert!(matches!(&effects[0], Effect::Merge(piece) if piece.range == range(95, 96)), "{effects:?}");
    }

    #[test]
    fn a_window_of_an_earlier_release_is_read() {
        let window: Window = serde_json::from_str(r#"{"lowest":5,"hashes":["a"]}"#).expect("a window");
        assert_eq!((window.top(), &window.parent), (Some((5, &hash("a"))), &None));
    }
}
