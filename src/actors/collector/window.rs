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

    /// Forgets `height` and what lies above it; all of it where nothing is left to stand on.
    pub(super) fn keep_below(&mut self, height: Height) {
        self.cut_from(height);
        if self.hashes.is_empty() {
            *self = Self::default();
        }
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

    /// Where the window leaves the chain, of which `canonical` are the linked blocks up to its top at the most, as far
    /// down as they were needed. `start` is the lowest wanted height; up to `finalized` nothing may leave any more.
    pub(super) fn compare(&self, canonical: &[BlockRef], start: Height, finalized: Option<Height>) -> Compared {
        let Some((top, _)) = self.top() else { return Compared::Same };
        let agrees = |block: &&BlockRef| self.hash(block.height) == Some(&block.hash);
        let (Some(lowest), Some(highest)) = (canonical.first(), canonical.last()) else { return Compared::Same };
        let (from, below) = match canonical.iter().rev().find(agrees).map(|block| block.height) {
            // Without another block above it, the source has only fewer blocks to show than a moment ago.
            Some(ancestor) if highest.height == ancestor => return Compared::Same,
            Some(ancestor) => (ancestor + 1, self.hash(ancestor).cloned()),
            // The source did not show the whole window.
            None if lowest.height > self.lowest => return Compared::Same,
            None if self.parent.as_ref() == Some(&lowest.parent) => (self.lowest, self.parent.clone()),
            // What lies below the window is not wanted, or nobody's yet: it need not agree.
            None if self.lowest == start || finalized.is_none_or(|last| self.lowest > last + 1) => (self.lowest, None),
            None => {
                return Compared::Contradicted(Mismatch {
                    height: self.lowest.saturating_sub(1),
                    held: self.parent.clone(),
                    shown: lowest.parent.clone(),
                });
            }
        };
        if finalized.is_some_and(|last| from <= last) {
            let shown = canonical.iter().find(|block| block.height == from).unwrap_or(lowest);
            let (height, held, shown) = (shown.height, self.hash(shown.height).cloned(), shown.hash.clone());
            return Compared::Contradicted(Mismatch { height, held, shown });
        }
        Compared::Left(Reorg { from, top, below })
    }

    /// Whether blocks from `lowest` on tell where the window leaves the chain, or lower ones are needed.
    pub(super) fn is_met_by(&self, lowest: &BlockRef) -> bool {
        lowest.height <= self.lowest || self.hash(lowest.height) == Some(&lowest.hash)
    }

    /// The blocks from `from` on, with their hashes.
    pub(super) fn above(&self, from: Height) -> impl Iterator<Item = (Height, &BlockHash)> {
        (self.lowest..).zip(&self.hashes).filter(move |(height, _)| *height >= from)
    }
}

/// What a look at the chain says of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compared {
    /// No other branch was shown.
    Same,
    /// Blocks left the chain.
    Left(Reorg),
    /// A final block is another one than the held one.
    Contradicted(Mismatch),
}

/// The held blocks from `from` up to `top` left the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reorg {
    pub from: Height,
    pub top: Height,
    /// The hash of the common ancestor; none where nothing below is wanted.
    pub below: Option<BlockHash>,
}

/// A final height, with the block that is held and the one that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub height: Height,
    /// None where the checkpoint of an earlier release did not keep it.
    pub held: Option<BlockHash>,
    pub shown: BlockHash,
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
    /// The source's head, where a block was seen that bears it out.
    pub head: Option<Height>,
    /// What is final by tag or count.
    pub finalized: Option<Height>,
    /// Whether heights above the window may be left to the pool.
    pub beyond: bool,
    /// The committed head and the committed highest final height.
    pub told: (Option<Height>, Option<Height>),
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

/// What a turn leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub window: Window,
    pub head: Option<Height>,
    pub finalized: Option<Height>,
    pub effects: Vec<Effect>,
}

impl Outcome {
    /// The new window and facts, and the effects that record them.
    ///
    /// `finalized` is the border between the Collector and the pool, so it moves only in a commit after which every
    /// height up to it is held, or is meant to be the pool's: never past the top of the window, unless what lies
    /// between is left to the pool on purpose.
    pub fn record(self, keep: u64) -> Recorded {
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
        let top = window.top().map(|(top, _)| top);
        let (told_head, told_final) = self.told;
        let border = if self.beyond { self.head } else { top };
        // What a head that nobody bore out would make final is not final.
        let moved = self.head.and(self.finalized).zip(border).map(|(finalized, border)| finalized.min(border));
        let finalized = told_final.max(moved);
        // A source that shows less than a moment ago takes nothing back that is final.
        let head = self.head.or(told_head).max(top).max(finalized);
        let heights = [("head", head), ("finalized", finalized), ("start", Some(self.start))];
        for (field, value) in heights.into_iter().filter_map(|(field, height)| Some((field, height?.to_string()))) {
            effects.push(Effect::Put { field, value });
        }
        effects.push(Effect::Put { field: "chain_id", value: self.chain_id });
        Recorded { window, head, finalized, effects }
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
        Outcome { window, ids, place, head: Some(103), chain_id: "1".to_owned(), ..Outcome::default() }
    }

    fn record(outcome: Outcome) -> (Window, Vec<Effect>) {
        let recorded = outcome.record(11);
        (recorded.window, recorded.effects)
    }

    /// What is final after a turn: `finalized` by tag or count, `told` before.
    fn border(ids: Vec<BlockRef>, place: Place, beyond: bool, finalized: u64, told: u64) -> (u64, u64) {
        let turn = outcome(window(91, 10), ids, place);
        let told = (Some(101), Some(told));
        let recorded = Outcome { finalized: Some(finalized), beyond, told, ..turn }.record(11);
        (recorded.finalized.expect("final heights"), recorded.head.expect("a head"))
    }

    #[test]
    fn the_window_forgets_what_is_final() {
        let (after, effects) = record(outcome(window(91, 10), branch(101, 102, 100), Place::Above));
        assert_eq!((after.lowest, after.hashes.len(), after.parent.as_ref()), (92, 11, Some(&hash("h91"))));
        assert_eq!(after.top(), Some((102, &hash("n102"))));
        let Effect::Merge(piece) = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((piece.range, piece.parent.as_str()), (range(101, 102), "h100"));
    }

    #[test]
    fn a_reorg_removes_and_merges_in_one_commit() {
        let before = window(91, 10);
        let Compared::Left(reorg) = before.compare(&branch(91, 100, 98), 0, Some(90)) else { panic!("a reorg") };
        assert_eq!(reorg, Reorg { from: 99, top: 100, below: Some(hash("h98")) });
        let turn = Outcome { reorg: Some(reorg), ..outcome(before, branch(99, 101, 98), Place::Above) };
        let (after, effects) = record(turn);
        assert_eq!(after.top(), Some((101, &hash("n101"))));
        assert_eq!((after.hash(98), after.hash(99)), (Some(&hash("h98")), Some(&hash("n99"))));
        assert_eq!(effects[0], Effect::Remove { range: range(99, 100), below: Some(hash("h98")), above: None });
        assert!(matches!(&effects[1], Effect::Merge(piece) if piece.range == range(99, 101)), "{effects:?}");
    }

    #[test]
    fn a_source_that_shows_fewer_blocks_is_no_reorg() {
        assert_eq!(window(91, 10).compare(&branch(91, 97, 97), 0, Some(90)), Compared::Same);
        assert_eq!(window(91, 10).compare(&[], 0, Some(90)), Compared::Same);
        // Nor is one that shows only the upper part of another branch.
        assert_eq!(window(91, 10).compare(&branch(95, 100, 90), 0, Some(90)), Compared::Same);
    }

    #[test]
    fn a_whole_young_window_may_leave_the_chain() {
        // A window of 10 blocks of which none remains: the block below it is the common ancestor.
        let left = window(91, 10).compare(&branch(91, 100, 90), 0, Some(90));
        assert_eq!(left, Compared::Left(Reorg { from: 91, top: 100, below: Some(hash("h90")) }));
        // One block, with `start = "latest"`: nothing below it is wanted.
        let left = window(100, 1).compare(&branch(100, 100, 90), 100, Some(90));
        assert_eq!(left, Compared::Left(Reorg { from: 100, top: 100, below: None }));
        // Or wanted, but nobody's yet.
        let left = window(100, 1).compare(&branch(100, 100, 90), 0, Some(90));
        assert_eq!(left, Compared::Left(Reorg { from: 100, top: 100, below: None }));
    }

    #[test]
    fn what_contradicts_a_final_block_is_no_reorg() {
        let contradicted = |height, held: &str, shown: &str| {
            Compared::Contradicted(Mismatch { height, held: Some(hash(held)), shown: hash(shown) })
        };
        // Below the window stands what the pool holds.
        let mismatch = window(100, 1).compare(&branch(100, 100, 90), 0, Some(99));
        assert_eq!(mismatch, contradicted(99, "h99", "n99"));
        // One block more than may leave.
        let mismatch = window(90, 11).compare(&branch(90, 100, 89), 0, Some(90));
        assert_eq!(mismatch, contradicted(90, "h90", "n90"));
        // By the chain's own word all of it is final: at once, or up to a tag.
        assert_eq!(window(91, 10).compare(&branch(99, 100, 99), 0, Some(100)), contradicted(100, "h100", "n100"));
        assert_eq!(window(91, 10).compare(&branch(91, 100, 95), 0, Some(97)), contradicted(96, "h96", "n96"));
        let left = window(91, 10).compare(&branch(91, 100, 97), 0, Some(97));
        assert_eq!(left, Compared::Left(Reorg { from: 98, top: 100, below: Some(hash("h97")) }));
    }

    #[test]
    fn what_is_final_never_falls_and_stays_below_the_window_unless_the_pool_is_to_fill() {
        // By count, or a tag below the top.
        assert_eq!(border(branch(101, 102, 100), Place::Above, false, 93, 91), (93, 103));
        // A tag at the head, with two blocks still to come; then the last of them.
        assert_eq!(border(branch(101, 102, 100), Place::Above, false, 103, 91), (102, 103));
        assert_eq!(border(branch(101, 103, 100), Place::Above, false, 103, 91), (103, 103));
        // The head moved alone: nothing of it is ours to give away.
        assert_eq!(border(Vec::new(), Place::Above, false, 103, 91), (100, 103));
        // A jump leaves what is below its blocks to the pool, and where it has none all that is final.
        assert_eq!(border(branch(103, 103, 102), Place::Afresh, false, 102, 91), (102, 103));
        assert_eq!(border(Vec::new(), Place::Afresh, true, 103, 91), (103, 103));
        // Another endpoint knows less.
        assert_eq!(border(Vec::new(), Place::Above, false, 80, 91), (91, 103));
    }

    #[test]
    fn a_head_that_nobody_bore_out_is_not_written_down() {
        let turn = Outcome { head: None, finalized: Some(5000), ..outcome(window(91, 10), Vec::new(), Place::Within) };
        let recorded = Outcome { told: (Some(101), Some(91)), ..turn }.record(11);
        assert_eq!((recorded.head, recorded.finalized), (Some(101), Some(91)));
        let first =
            Outcome { head: None, finalized: Some(5000), ..outcome(Window::default(), Vec::new(), Place::Above) };
        let recorded = first.record(11);
        assert_eq!((recorded.head, recorded.finalized), (None, None));
    }

    #[test]
    fn blocks_afresh_begin_a_new_window_and_blocks_within_change_none() {
        let (after, _) = record(outcome(window(91, 10), branch(200, 200, 199), Place::Afresh));
        assert_eq!((after.lowest, after.hashes.len(), after.parent), (200, 1, Some(hash("h199"))));
        let (after, _) = record(outcome(window(91, 10), Vec::new(), Place::Afresh));
        assert_eq!(after, window(91, 10));
        let (after, effects) = record(outcome(window(91, 10), branch(95, 96, 100), Place::Within));
        assert_eq!(after, window(91, 10));
        assert!(matches!(&effects[0], Effect::Merge(piece) if piece.range == range(95, 96)), "{effects:?}");
    }

    #[test]
    fn a_window_of_an_earlier_release_is_read() {
        let window: Window = serde_json::from_str(r#"{"lowest":5,"hashes":["a"]}"#).expect("a window");
        assert_eq!((window.top(), &window.parent), (Some((5, &hash("a"))), &None));
    }
}
