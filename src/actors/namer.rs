//! Namer: makes each held block that is final stand under its bare height as well, in a folder for other programs.
//!
//! Reads    held heights, facts `head`; block files
//! Writes   the view: one indented file a height; state: which heights stand there
//! Promise  every height in its state stands in the view, whole and durable; every held final height comes, lowest first
//! Crash    files without a commit are written once more, with the same bytes

use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::messages::block::{BlockHash, Piece};
use crate::messages::facts::ChainFacts;
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::{BareNames, BlockFiles, StoredBlock, Verdict};
use crate::store::effect::{Ack, Commit};
use crate::store::heights::PAGE;

/// Heights whose bytes are in memory at a time.
const BATCH_HEIGHTS: u64 = 20;
/// Batches of one turn.
const TURN_BATCHES: usize = 10;
/// Ranges that the state may hold: it must fit into the checkpoint. Beyond that it waits for gaps to close.
const RANGES_MAX: usize = 1_000;

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct Namer {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// Where blocks are.
    pub files: BlockFiles,
    /// Where they are to stand under bare heights.
    pub names: BareNames,
    /// Blocks below the head that may still change, where the Collector has not written down yet what is final.
    pub confirmations: u64,
    /// How far this pass has come.
    pub pass: Arc<Mutex<Pass>>,
}

/// One pass over the held heights, from the lowest up; begun anew when it is through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// The next height to look at.
    from: Height,
    /// Heights of this pass that could not be named.
    bad: u64,
    /// Such heights of the last pass, which the log has spoken of.
    told: u64,
}

/// What the checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct NamerState {
    /// Which view: another one begins with nothing.
    view: String,
    /// Heights that stand there.
    done: HeightSet,
}

impl Actor for Namer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for Namer {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl Namer {
    async fn take_turn(self) -> Result<Turn, Error> {
        let Some(finalized) = self.finalized().await? else { return Ok(Turn::Idle) };
        let view = self.unit.outside(self.names.view()).await?;
        let mut state = self.state()?;
        if state.view != view {
            state = NamerState { view, done: HeightSet::new() };
        }
        // A panic elsewhere leaves at worst a pass that begins anew.
        let mut pass = *self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let work = self.work(&state.done, pass.from, finalized).await?;
        self.unit.point(CrashPoint::AfterDecide).await;
        let mut named = false;
        for (piece, part) in &work {
            let good = self.name(piece, *part).await?;
            pass.from = part.hi() + 1;
            pass.bad += part.count() - good.count();
            named |= !good.is_empty();
            good.ranges().iter().for_each(|range| state.done.insert(*range));
            self.unit.progress();
        }
        self.unit.point(CrashPoint::AfterApply).await;
        if named {
            let state = serde_json::to_string(&state).map_err(|e| Error::Fault(e.to_string()))?;
            self.unit.commit(&Commit { state: Some(state), ack: Ack::Nothing, effects: Vec::new() }).await?;
        }
        if work.is_empty() {
            pass = self.ended(pass);
        }
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = pass;
        Ok(if work.is_empty() { Turn::Idle } else { Turn::Worked })
    }

    /// Ends a pass, and says once how many heights it had to leave out.
    fn ended(&self, pass: Pass) -> Pass {
        if pass.bad > pass.told {
            let heights = pass.bad;
            tracing::warn!(unit = %self.unit.lease.unit(), heights, "held blocks cannot be named; run `gapless blocks verify`");
        }
        Pass { from: 0, bad: 0, told: pass.bad }
    }

    fn state(&self) -> Result<NamerState, Error> {
        let state = self.unit.lease.state();
        if state.is_empty() {
            return Ok(NamerState::default());
        }
        serde_json::from_str(&state).map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))
    }

    /// The highest height that can no longer change; none while nothing is known or nothing is final.
    async fn finalized(&self) -> Result<Option<Height>, Error> {
        let facts = self.unit.lease.store().facts(self.unit.lease.link(), self.unit.pipeline()).await?;
        Ok(ChainFacts::read(&facts, self.confirmations).finalized)
    }

    /// The next parts of held pieces that do not stand in the view yet, lowest first.
    async fn work(
        &self,
        done: &HeightSet,
        from: Height,
        finalized: Height,
    ) -> Result<Vec<(Piece, HeightRange)>, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut work = Vec::new();
        let mut rest = HeightRange::new(from, finalized).ok();
        while let Some(range) = rest {
            let held = store.held(link, self.unit.pipeline(), range).await?;
            rest = match held.last() {
                Some(last) if held.len() >= PAGE => HeightRange::new(last.range.hi() + 1, range.hi()).ok(),
                Some(_) | None => None,
            };
            for piece in held {
                let parts = piece.range.intersect(range).map(|part| parts(done, part, TURN_BATCHES - work.len()));
                work.extend(parts.unwrap_or_default().into_iter().map(|part| (piece.clone(), part)));
                if work.len() >= TURN_BATCHES {
                    return Ok(work);
                }
            }
            self.unit.progress();
        }
        Ok(work)
    }

    /// Names the blocks of a part of a held piece, and answers which heights have their name now. A height whose block
    /// is bad, or cannot be told from an orphan, has none: `blocks verify` finds it, and it comes when it is good again.
    async fn name(&self, piece: &Piece, part: HeightRange) -> Result<HeightSet, Error> {
        let top = self.unit.outside(self.files.wanted_at(piece, part.hi())).await?;
        let stored = self.unit.outside(self.files.read_range(part)).await?;
        let blocks = linked(stored, top);
        let mut good: HeightSet = blocks.iter().map(|(height, _)| HeightRange::one(*height)).collect();
        for (height, reason) in self.unit.outside(self.names.put(blocks)).await? {
            tracing::debug!(unit = %self.unit.lease.unit(), height, reason, "a block cannot be named");
            good.remove(HeightRange::one(height));
        }
        Ok(good)
    }
}

/// The parts of a held range that are not done, at most `count`, lowest first, each small enough for memory. A part
/// that would make the state too long waits until gaps have closed. Pure.
fn parts(done: &HeightSet, range: HeightRange, count: usize) -> Vec<HeightRange> {
    let touches = |part: &HeightRange| {
        done.contains(part.hi() + 1) || part.lo().checked_sub(1).is_some_and(|below| done.contains(below))
    };
    let gaps = done.gaps(range);
    let parts = gaps.ranges().iter().flat_map(|gap| gap.chunks(BATCH_HEIGHTS));
    let room = done.ranges().len() + count < RANGES_MAX;
    parts.filter(|part| room || touches(part)).take(count).collect()
}

/// The blocks of a range that belong to the chain, from the link above downwards: where a reorganisation left several,
/// the parent of the one above tells which. Pure.
fn linked(stored: Vec<(Height, Vec<StoredBlock>)>, top: Option<BlockHash>) -> Vec<(Height, Bytes)> {
    let mut blocks = Vec::new();
    let mut wanted = top;
    for (height, stored) in stored.into_iter().rev() {
        let mut good = stored.into_iter().filter(|block| matches!(block.verdict, Verdict::Good(_)));
        let own = match &wanted {
            Some(hash) => good.find(|block| block.hash == *hash),
            None => good.next().filter(|_| good.next().is_none()),
        };
        wanted = own.as_ref().and_then(|block| block.verdict.wanted_below().cloned());
        blocks.extend(own.map(|block| (height, block.raw)));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::BlockRef;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn stored(height: Height, own: &str, parent: &str) -> StoredBlock {
        let hash = |text: &str| BlockHash::new(text).expect("a hash");
        let id = BlockRef { height, hash: hash(own), parent: hash(parent), time: 0 };
        StoredBlock { hash: hash(own), raw: Bytes::from(own.to_owned()), meta: None, verdict: Verdict::Good(id) }
    }

    #[test]
    fn what_is_not_done_is_cut_into_small_parts_lowest_first() {
        let done = HeightSet::from(vec![range(10, 19), range(60, 60)]);
        let expected = [range(5, 9), range(20, 39), range(40, 59), range(61, 70)];
        assert_eq!(parts(&done, range(5, 70), 10), expected);
        assert_eq!(parts(&done, range(5, 70), 2), expected[..2]);
        assert!(parts(&done, range(11, 19), 10).is_empty());
    }

    #[test]
    fn a_state_that_is_full_only_grows_at_its_edges() {
        let done: HeightSet = (0..RANGES_MAX as u64).map(|n| HeightRange::one(n * 10)).collect();
        let parts = parts(&done, range(0, 20_000), 10_000);
        assert!(!parts.is_empty());
        let mut after = done.clone();
        parts.iter().for_each(|part| after.insert(*part));
        assert!(after.ranges().len() <= RANGES_MAX, "{}", after.ranges().len());
        let state = NamerState { view: "v".repeat(40), done: HeightSet::from(vec![range(1 << 52, (1 << 52) + 1)]) };
        let one = serde_json::to_string(&state).expect("JSON").len() - 70;
        assert!(one * RANGES_MAX < 65_536, "{one} bytes a range");
    }

    #[test]
    fn links_tell_the_chain_from_its_orphans() {
        let all = || {
            vec![
                (5, vec![stored(5, "a5", "a4"), stored(5, "b5", "b4")]),
                (6, vec![stored(6, "b6", "b5")]),
                (7, Vec::new()),
                (8, vec![stored(8, "a8", "a7"), stored(8, "b8", "b7")]),
            ]
        };
        let names = |top: Option<&str>| {
            let top = top.map(|text| BlockHash::new(text).expect("a hash"));
            linked(all(), top).into_iter().map(|(h, raw)| (h, String::from_utf8(raw.to_vec()).expect("text"))).collect()
        };
        let named = |list: &[(u64, &str)]| list.iter().map(|(h, t)| (*h, (*t).to_owned())).collect::<Vec<_>>();
        let seen: Vec<_> = names(Some("b8"));
        assert_eq!(seen, named(&[(8, "b8"), (6, "b6"), (5, "b5")]));
        let seen: Vec<_> = names(None);
        assert_eq!(seen, named(&[(6, "b6"), (5, "b5")]), "two that nothing tells apart have no name");
    }
}
