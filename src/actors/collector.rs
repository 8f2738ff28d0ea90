//! Collector: follows the head of a chain, alone, above finality.
//!
//! Reads    the chain's head and the blocks above finality; mailbox `collector` (a wish to look now)
//! Writes   block files; held heights; facts `head`, `start`, `chain_id`; mailbox `gap_detector` (a hint)
//! Promise  above `head - confirmations` the held heights are one chain, and each was durable before it counted
//! Crash    files without a commit are found again by their name; the window in the checkpoint tells where to go on

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::turn::crash::CrashPoint;
use super::turn::{self, Claimed, Error, Tick, Turn, Unit};
use crate::messages::block::{Block, BlockHash, BlockRef, Piece};
use crate::messages::gap::{CollectorMessage, DetectorMessage};
use crate::messages::heights::{Height, HeightRange};
use crate::sinks::BlockFiles;
use crate::sources::{Chain, Fetched};
use crate::store::StoreError;
use crate::store::effect::{Commit, Effect, Outgoing};

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct Collector {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// The chain.
    pub source: Chain,
    /// Where blocks go.
    pub files: BlockFiles,
    /// What it follows.
    pub plan: FollowPlan,
}

/// What a Collector follows, from `[blocks.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowPlan {
    /// The lowest wanted height; none: the head at the first look.
    pub start: Option<Height>,
    /// The highest wanted height, if any.
    pub end: Option<Height>,
    /// The chain that it must be, if the configuration says so.
    pub chain_id: Option<String>,
    /// Blocks below the head that may still change.
    pub confirmations: u64,
    /// Heights of one turn.
    pub batch: u64,
    /// How often the head is looked at.
    pub poll: Duration,
    /// Hints that the detector's mailbox may hold.
    pub capacity: u64,
}

/// What the checkpoint holds: the hashes of the topmost blocks that this actor committed, contiguous.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The height of the first hash.
    pub lowest: Height,
    /// The hashes, ascending; at most `confirmations + 1`.
    pub hashes: Vec<BlockHash>,
}

impl Window {
    /// The topmost height and its hash.
    pub fn top(&self) -> Option<(Height, &BlockHash)> {
        let last = self.hashes.last()?;
        Some((self.lowest + self.hashes.len() as u64 - 1, last))
    }

    fn hash(&self, height: Height) -> Option<&BlockHash> {
        self.hashes.get(usize::try_from(height.checked_sub(self.lowest)?).ok()?)
    }

    /// Forgets what lies above `height`.
    fn cut_above(&mut self, height: Height) {
        let keep = (height + 1).saturating_sub(self.lowest);
        self.hashes.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Adds blocks that stand on the top, and forgets what is final.
    fn extend(&mut self, blocks: &[BlockRef], keep: u64) {
        for block in blocks {
            if self.hashes.is_empty() {
                self.lowest = block.height;
            }
            self.hashes.push(block.hash.clone());
        }
        let surplus = self.hashes.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        self.hashes.drain(..surplus);
        self.lowest += surplus as u64;
    }
}

/// What a turn is to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Nothing: the head is held.
    CaughtUp,
    /// These heights, standing on the top of the window (or on nothing, at the very start).
    Follow(HeightRange),
    /// These heights, after finality has overtaken the window: the block above its top must still stand on it.
    Jump(HeightRange),
}

impl Actor for Collector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for Collector {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl Collector {
    async fn take_turn(self) -> Result<Turn, Error> {
        let wishes = self.unit.claim::<CollectorMessage>(|_, _| Vec::new()).await?;
        let chain_id = self.check_chain().await?;
        let head = self.source.head().await?;
        self.unit.progress();
        let head = self.plan.end.map_or(head, |end| head.min(end));
        let start = self.lowest_wanted(head).await?;
        let window = self.window()?;
        let next = decide(&window, start, head, &self.plan);
        self.unit.point(CrashPoint::AfterDecide).await;
        let found = match &next {
            Next::CaughtUp => Found::default(),
            Next::Follow(range) => self.follow(&window, *range).await?,
            Next::Jump(range) => self.jump(&window, *range).await?,
        };
        let worked = !found.blocks.is_empty() || found.reorg.is_some();
        if !worked && wishes.is_empty() {
            return Ok(Turn::IdleFor(self.plan.poll));
        }
        let ids: Vec<BlockRef> = found.blocks.iter().map(|block| block.id.clone()).collect();
        self.store(found.blocks).await?;
        let outcome = Outcome { window, ids, reorg: found.reorg, fresh: found.fresh, head, start, chain_id };
        self.commit(outcome, &wishes).await?;
        Ok(if worked { Turn::Worked } else { Turn::IdleFor(self.plan.poll) })
    }

    /// The chain's id, which must be the configured and the stored one: judged before the first write.
    async fn check_chain(&self) -> Result<String, Error> {
        let stored = self.unit.lease.store().fact(self.unit.lease.link(), self.unit.pipeline(), "chain_id").await?;
        match self.plan.chain_id.clone().or(stored.clone()) {
            Some(expected) => {
                if let Some(stored) = stored.filter(|stored| *stored != expected) {
                    return Err(Error::Refused(format!(
                        "the configuration says chain_id {expected}, but this pipeline holds chain {stored}; \
                         give another chain a pipeline and a store of its own"
                    )));
                }
                self.source.expect_chain(&expected);
                Ok(expected)
            }
            None => {
                let found = self.source.identity().await?.chain_id;
                self.source.expect_chain(&found);
                Ok(found)
            }
        }
    }

    /// The lowest wanted height; `latest` is pinned by the first commit.
    async fn lowest_wanted(&self, head: Height) -> Result<Height, Error> {
        if let Some(start) = self.plan.start {
            return Ok(start);
        }
        let pinned = self.unit.lease.store().fact(self.unit.lease.link(), self.unit.pipeline(), "start").await?;
        Ok(pinned.and_then(|text| text.parse().ok()).unwrap_or(head))
    }

    fn window(&self) -> Result<Window, Error> {
        let state = self.unit.lease.state();
        if state.is_empty() {
            return Ok(Window::default());
        }
        serde_json::from_str(&state).map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))
    }

    /// The blocks above the window, as far as they link.
    async fn follow(&self, window: &Window, range: HeightRange) -> Result<Found, Error> {
        let blocks = self.fetch(range).await?;
        let Some((top, hash)) = window.top() else {
            return Ok(Found { blocks, ..Found::default() });
        };
        match blocks.first() {
            Some(first) if first.id.parent != *hash => self.walk_back(window, top).await,
            _ => Ok(Found { blocks, ..Found::default() }),
        }
    }

    /// After a long absence: go on at finality, if the old top is still part of the chain.
    async fn jump(&self, window: &Window, range: HeightRange) -> Result<Found, Error> {
        if let Some((top, hash)) = window.top() {
            let above = self.fetch(HeightRange::one(top + 1)).await?;
            match above.first() {
                Some(block) if block.id.parent != *hash => return self.walk_back(window, top).await,
                Some(_) => {}
                None => return Ok(Found::default()),
            }
        }
        Ok(Found { blocks: self.fetch(range).await?, fresh: true, ..Found::default() })
    }

    /// Finds where our window leaves the chain, and brings the blocks of the other branch.
    async fn walk_back(&self, window: &Window, top: Height) -> Result<Found, Error> {
        let whole = HeightRange::new(window.lowest, top).map_err(Error::Fault)?;
        let canonical = self.fetch(whole).await?;
        let agrees = |block: &&Block| window.hash(block.id.height) == Some(&block.id.hash);
        let ancestor = canonical.iter().rev().find(agrees).map(|block| block.id.height);
        let Some(ancestor) = ancestor else {
            if canonical.len() as u64 != whole.count() {
                // The source could not show the whole branch: ask again later.
                return Ok(Found::default());
            }
            return Err(Error::Refused(format!(
                "the chain changed below its {} confirmations: none of the held blocks {whole} is part of it any \
                 more; nothing was rewritten, an operator must decide",
                self.plan.confirmations
            )));
        };
        if ancestor == top {
            // The source changed its mind between two answers.
            return Ok(Found::default());
        }
        tracing::warn!(
            unit = %self.unit.lease.unit(), ancestor, orphans = top - ancestor,
            "reorg: blocks above the common ancestor are replaced; their files are kept"
        );
        let blocks = canonical.into_iter().filter(|block| block.id.height > ancestor).collect();
        Ok(Found { blocks, reorg: Some(Reorg { ancestor, top }), fresh: false })
    }

    /// The blocks of a range as far as they are there and link to each other.
    async fn fetch(&self, range: HeightRange) -> Result<Vec<Block>, Error> {
        let mut blocks: Vec<Block> = Vec::new();
        for chunk in range.chunks(self.plan.batch) {
            for fetched in self.source.blocks(chunk).await? {
                match fetched {
                    Fetched::Block(block) => {
                        let links = blocks.last().is_none_or(|below| Piece::of(&below.id).carries(&block.id));
                        if !links {
                            return Ok(blocks);
                        }
                        blocks.push(block);
                    }
                    Fetched::Absent(height, absence) => {
                        tracing::debug!(unit = %self.unit.lease.unit(), height, %absence, "not there yet");
                        return Ok(blocks);
                    }
                }
            }
            self.unit.progress();
        }
        Ok(blocks)
    }

    async fn store(&self, blocks: Vec<Block>) -> Result<(), Error> {
        if !blocks.is_empty() {
            self.files.store(blocks).await?;
        }
        self.unit.point(CrashPoint::AfterApply).await;
        Ok(())
    }

    async fn commit(&self, outcome: Outcome, wishes: &Claimed<CollectorMessage>) -> Result<(), Error> {
        let (head, ack) = (outcome.head, wishes.ack);
        let (window, mut effects) = outcome.record(self.plan.confirmations + 1);
        let state = Some(serde_json::to_string(&window).map_err(|e| Error::Fault(e.to_string()))?);
        let hint = Effect::Send {
            to: self.unit.address("gap_detector"),
            capacity: self.plan.capacity,
            messages: vec![Outgoing::new(&DetectorMessage::HeadMoved { head })?],
        };
        effects.push(hint);
        let mut commit = Commit { state, ack, effects };
        match self.unit.commit(&commit).await {
            // The detector looks by itself: a hint that finds no room must not hold the head up.
            Err(StoreError::Full { .. }) => {
                commit.effects.pop();
                self.unit.commit(&commit).await?;
            }
            answer => drop(answer?),
        }
        Ok(())
    }
}

/// What the chain showed.
#[derive(Debug, Default)]
struct Found {
    blocks: Vec<Block>,
    reorg: Option<Reorg>,
    /// The blocks stand on nothing that the window holds.
    fresh: bool,
}

/// The held blocks above `ancestor`, up to `top`, left the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reorg {
    ancestor: Height,
    top: Height,
}

/// A turn, ready to be written down.
struct Outcome {
    window: Window,
    ids: Vec<BlockRef>,
    reorg: Option<Reorg>,
    fresh: bool,
    head: Height,
    start: Height,
    chain_id: String,
}

impl Outcome {
    /// The new window, and the effects that record the blocks. Pure.
    fn record(self, keep: u64) -> (Window, Vec<Effect>) {
        let mut window = if self.fresh { Window::default() } else { self.window };
        let mut effects = Vec::new();
        if let Some(Reorg { ancestor, top }) = self.reorg
            && let Ok(range) = HeightRange::new(ancestor + 1, top)
        {
            let below = window.hash(ancestor).cloned();
            effects.push(Effect::Remove { range, below, above: None });
            window.cut_above(ancestor);
        }
        effects.extend(Piece::of_all(&self.ids).into_iter().map(Effect::Merge));
        window.extend(&self.ids, keep);
        for (field, value) in
            [("head", self.head.to_string()), ("start", self.start.to_string()), ("chain_id", self.chain_id)]
        {
            effects.push(Effect::Put { field, value });
        }
        (window, effects)
    }
}

/// What to fetch next. Pure.
fn decide(window: &Window, start: Height, head: Height, plan: &FollowPlan) -> Next {
    let top = window.top().map(|(height, _)| height);
    // Below this height the pool fills; from it on, only this actor writes.
    let floor = start.max((head + 1).saturating_sub(plan.confirmations));
    let (from, jumps) = match top {
        Some(top) if top >= head => return Next::CaughtUp,
        Some(top) if top + 1 >= floor => (top + 1, false),
        Some(_) => (floor, true),
        None => (floor, false),
    };
    let to = head.min(from.saturating_add(plan.batch.max(1) - 1));
    match HeightRange::new(from, to) {
        Ok(range) if jumps => Next::Jump(range),
        Ok(range) => Next::Follow(range),
        // The chain has not reached the first wanted height.
        Err(_) => Next::CaughtUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FollowPlan {
        FollowPlan {
            start: Some(0),
            end: None,
            chain_id: None,
            confirmations: 10,
            batch: 5,
            poll: Duration::from_secs(1),
            capacity: 10,
        }
    }

    fn hash(text: &str) -> BlockHash {
        BlockHash::new(text).expect("a hash")
    }

    fn window(lowest: Height, count: u64) -> Window {
        Window { lowest, hashes: (lowest..lowest + count).map(|h| hash(&format!("h{h}"))).collect() }
    }

    fn block(height: Height, parent: &str) -> BlockRef {
        BlockRef { height, hash: hash(&format!("n{height}")), parent: hash(parent), time: 0 }
    }

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    #[test]
    fn only_heights_above_finality_are_followed() {
        let empty = Window::default();
        assert_eq!(decide(&empty, 0, 100, &plan()), Next::Follow(range(91, 95)));
        assert_eq!(decide(&empty, 0, 3, &plan()), Next::Follow(range(0, 3)));
        assert_eq!(decide(&empty, 98, 100, &plan()), Next::Follow(range(98, 100)));
        assert_eq!(decide(&empty, 101, 100, &plan()), Next::CaughtUp);
        assert_eq!(decide(&window(91, 10), 0, 100, &plan()), Next::CaughtUp);
        assert_eq!(decide(&window(91, 10), 0, 103, &plan()), Next::Follow(range(101, 103)));
        assert_eq!(decide(&window(91, 10), 0, 111, &plan()), Next::Jump(range(102, 106)));
        assert_eq!(decide(&window(91, 10), 0, 110, &plan()), Next::Follow(range(101, 105)));
    }

    #[test]
    fn a_lower_head_is_nothing_new() {
        assert_eq!(decide(&window(91, 10), 0, 95, &plan()), Next::CaughtUp);
    }

    fn outcome(window: Window, ids: Vec<BlockRef>, reorg: Option<Reorg>, fresh: bool) -> Outcome {
        Outcome { window, ids, reorg, fresh, head: 103, start: 0, chain_id: "1".to_owned() }
    }

    #[test]
    fn the_window_forgets_what_is_final() {
        let ids = vec![block(101, "h100"), block(102, "n101")];
        let (after, effects) = outcome(window(91, 10), ids, None, false).record(11);
        assert_eq!((after.lowest, after.hashes.len()), (92, 11));
        assert_eq!(after.top(), Some((102, &hash("n102"))));
        let Effect::Merge(piece) = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((piece.range, piece.parent.as_str()), (range(101, 102), "h100"));
    }

    #[test]
    fn a_reorg_removes_and_merges_in_one_commit() {
        let ids = vec![block(99, "h98"), block(100, "n99"), block(101, "n100")];
        let reorg = Some(Reorg { ancestor: 98, top: 100 });
        let (after, effects) = outcome(window(91, 10), ids, reorg, false).record(11);
        assert_eq!(after.top(), Some((101, &hash("n101"))));
        assert_eq!(after.hash(98), Some(&hash("h98")));
        assert_eq!(after.hash(99), Some(&hash("n99")));
        let removed = Effect::Remove { range: range(99, 100), below: Some(hash("h98")), above: None };
        assert_eq!(effects[0], removed);
        assert!(matches!(&effects[1], Effect::Merge(piece) if piece.range == range(99, 101)), "{effects:?}");
    }

    #[test]
    fn a_jump_begins_a_new_window() {
        let (after, _) = outcome(window(91, 10), vec![block(200, "n199")], None, true).record(11);
        assert_eq!((after.lowest, after.hashes.len()), (200, 1));
    }
}
