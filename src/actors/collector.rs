//! Collector: follows the head of a chain, alone, above finality.
//!
//! Reads    the chain's head and the blocks above finality; mailbox `collector` (a wish to look now)
//! Writes   block files; held heights; facts `head`, `start`, `chain_id`; mailbox `gap_detector` (a hint)
//! Promise  above `head - confirmations` the held heights are one chain, and each was durable before it counted
//! Crash    files without a commit are found again by their name; the window in the checkpoint tells where to go on

mod find;
mod window;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::{self, Claimed, Error, Tick, Turn, Unit};
use crate::messages::block::{Block, BlockRef};
use crate::messages::gap::{CollectorMessage, DetectorMessage};
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange, HeightSet};
use crate::sinks::BlockFiles;
use crate::sources::Chain;
use crate::store::StoreError;
use crate::store::effect::{Commit, Effect, Outgoing};
use window::Outcome;

pub use window::Window;

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

/// What one look at the chain and at Redis shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    /// The lowest wanted height.
    start: Height,
    /// The source's head.
    head: Height,
    /// The head that was last written down: what the detector knows.
    told: Option<Height>,
    /// Heights of the window above finality that are no longer held: `blocks verify` found them lost.
    hole: Option<HeightRange>,
}

/// What a turn is to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Nothing: what is wanted is held.
    CaughtUp,
    /// The highest wanted height is held; until it is final it may still leave the chain.
    Confirm,
    /// These heights, standing on the top of the window (or on nothing, at the very start).
    Follow(HeightRange),
    /// These heights (none where all that is wanted is final), after finality has overtaken the window: the block
    /// above its top must still stand on it.
    Jump(Option<HeightRange>),
    /// These heights of the window, once more.
    Mend(HeightRange),
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

/// The facts of the pipeline, as the last commit left them.
#[derive(Debug, Default)]
struct Facts {
    chain_id: Option<String>,
    start: Option<Height>,
    head: Option<Height>,
}

impl Collector {
    async fn take_turn(self) -> Result<Turn, Error> {
        let wishes = self.unit.claim::<CollectorMessage>(|_, _| Vec::new()).await?;
        let facts = self.facts().await?;
        let chain_id = self.check_chain(facts.chain_id).await?;
        let head = self.unit.outside(self.source.head()).await?;
        // `latest` is pinned by the first commit.
        let start = self.plan.start.or(facts.start).unwrap_or(head);
        let window = self.window()?;
        let hole = self.hole(&window, self.plan.floor(start, head)).await?;
        let view = View { start, head, told: facts.head, hole };
        let next = decide(&window, &view, &self.plan);
        self.unit.point(CrashPoint::AfterDecide).await;
        let found = self.find(&window, &next, start, head).await?;
        let worked = !found.blocks.is_empty() || found.reorg.is_some();
        // A start that was changed, and a head that the detector must know though no block came with it.
        let news = facts.start.is_some_and(|told| told != start) || (found.tell_head && facts.head < Some(head));
        if !worked && !news && wishes.is_empty() {
            return Ok(Turn::IdleFor(self.plan.poll));
        }
        let ids: Vec<BlockRef> = found.blocks.iter().map(|block| block.id.clone()).collect();
        self.store(found.blocks).await?;
        let outcome = Outcome { window, ids, reorg: found.reorg, place: found.place, head, start, chain_id };
        self.commit(outcome, &wishes).await?;
        Ok(if worked { Turn::Worked } else { Turn::IdleFor(self.plan.poll) })
    }

    async fn facts(&self) -> Result<Facts, Error> {
        let all = self.unit.lease.store().facts(self.unit.lease.link(), self.unit.pipeline()).await?;
        let fact = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let height = |name: &str| fact(name).and_then(|text| text.parse().ok());
        Ok(Facts { chain_id: fact("chain_id"), start: height("start"), head: height("head") })
    }

    /// The chain's id, which must be the configured and the stored one: judged before the first write.
    async fn check_chain(&self, stored: Option<String>) -> Result<String, Error> {
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
                let found = self.unit.outside(self.source.identity()).await?.chain_id;
                self.source.expect_chain(&found);
                Ok(found)
            }
        }
    }

    fn window(&self) -> Result<Window, Error> {
        let state = self.unit.lease.state();
        if state.is_empty() {
            return Ok(Window::default());
        }
        serde_json::from_str(&state).map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))
    }

    /// The lowest heights of the window, from `floor` on, that are no longer held. The detector leaves these to us.
    async fn hole(&self, window: &Window, floor: Height) -> Result<Option<HeightRange>, Error> {
        let Some((top, _)) = window.top() else { return Ok(None) };
        let Ok(range) = HeightRange::new(window.lowest.max(floor), top) else { return Ok(None) };
        // A window is smaller than a page.
        let held = self.unit.lease.store().held(self.unit.lease.link(), self.unit.pipeline(), range).await?;
        let held: HeightSet = held.iter().map(|piece| piece.range).collect();
        Ok(held.gaps(range).ranges().first().copied())
    }

    async fn store(&self, blocks: Vec<Block>) -> Result<(), Error> {
        if !blocks.is_empty() {
            self.unit.outside(self.files.store(blocks)).await?;
        }
        self.unit.point(CrashPoint::AfterApply).await;
        Ok(())
    }

    async fn commit(&self, outcome: Outcome, wishes: &Claimed<CollectorMessage>) -> Result<(), Error> {
        let (head, ack, lowest) = (outcome.head, wishes.ack, outcome.ids.first().cloned());
        let (window, mut effects) = outcome.record(self.plan.confirmations + 1);
        let state = Some(serde_json::to_string(&window).map_err(|e| Error::Fault(e.to_string()))?);
        let hint = Effect::Send {
            to: self.unit.address("gap_detector"),
            capacity: self.plan.capacity,
            messages: vec![Outgoing::new(&DetectorMessage::HeadMoved { head })?],
        };
        effects.push(hint);
        let mut commit = Commit { state, ack, effects };
        let mut answer = self.unit.commit(&commit).await;
        if let (Err(StoreError::Overlap { .. }), Some(lowest)) = (&answer, lowest) {
            commit.effects.insert(0, self.make_way(&lowest).await?);
            answer = self.unit.commit(&commit).await;
        }
        if let Err(StoreError::Full { .. } | StoreError::OutOfMemory(_)) = answer {
            // The detector looks by itself: a hint that finds no room must not hold the head up.
            commit.effects.pop();
            answer = self.unit.commit(&commit).await;
        }
        answer.map(drop).map_err(Error::from)
    }

    /// Takes out what is held from `lowest` upwards: after a rewind of this checkpoint, or an index changed by hand,
    /// heights are held that the window knows nothing of. They are followed once more; their files are found.
    async fn make_way(&self, lowest: &BlockRef) -> Result<Effect, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let above = HeightRange::new(lowest.height, HEIGHT_MAX).map_err(Error::Fault)?;
        let held = store.held(link, self.unit.pipeline(), above).await?;
        let top = held.last().map_or(lowest.height, |piece| piece.range.hi());
        let range = HeightRange::new(lowest.height, top.max(lowest.height)).map_err(Error::Fault)?;
        tracing::warn!(unit = %self.unit.lease.unit(), %range, "held above the window; followed once more");
        let below = match held.first().filter(|piece| piece.range.lo() < lowest.height) {
            Some(piece) => self.files.wanted_at(piece, lowest.height - 1).await?,
            None => None,
        };
        Ok(Effect::Remove { range, below, above: None })
    }
}

impl FollowPlan {
    /// Below this height the pool fills; from it on, only this actor writes.
    fn floor(&self, start: Height, head: Height) -> Height {
        start.max((head + 1).saturating_sub(self.confirmations))
    }
}

/// What to fetch next. Pure.
fn decide(window: &Window, view: &View, plan: &FollowPlan) -> Next {
    let View { start, head, told, hole } = *view;
    let end_is_final = |told: Height| plan.end.is_some_and(|end| told >= end.saturating_add(plan.confirmations));
    if told.is_some_and(end_is_final) {
        return Next::CaughtUp;
    }
    let batch = |lo: Height, hi: Height| HeightRange::new(lo, hi.min(lo.saturating_add(plan.batch.max(1) - 1))).ok();
    if let Some(hole) = hole.and_then(|hole| batch(hole.lo(), hole.hi())) {
        return Next::Mend(hole);
    }
    let last = plan.end.map_or(head, |end| end.min(head));
    let floor = plan.floor(start, head);
    match window.top().map(|(height, _)| height) {
        Some(top) if plan.end.is_some_and(|end| top >= end) => Next::Confirm,
        Some(top) if top >= last => Next::CaughtUp,
        Some(top) if top + 1 >= floor => batch(top + 1, last).map_or(Next::CaughtUp, Next::Follow),
        Some(_) => Next::Jump(batch(floor, last)),
        // The chain has not reached the first wanted height.
        None if start > last => Next::CaughtUp,
        None => batch(floor, last).map_or(Next::Jump(None), Next::Follow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::BlockHash;

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

    fn window(lowest: Height, count: u64) -> Window {
        let hash = |height: Height| BlockHash::new(&format!("h{height}")).expect("a hash");
        Window { lowest, hashes: (lowest..lowest + count).map(hash).collect(), parent: None }
    }

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn view(start: Height, head: Height) -> View {
        View { start, head, told: None, hole: None }
    }

    #[test]
    fn only_heights_above_finality_are_followed() {
        let empty = Window::default();
        assert_eq!(decide(&empty, &view(0, 100), &plan()), Next::Follow(range(91, 95)));
        assert_eq!(decide(&empty, &view(0, 3), &plan()), Next::Follow(range(0, 3)));
        assert_eq!(decide(&empty, &view(98, 100), &plan()), Next::Follow(range(98, 100)));
        assert_eq!(decide(&empty, &view(101, 100), &plan()), Next::CaughtUp);
        assert_eq!(decide(&window(91, 10), &view(0, 100), &plan()), Next::CaughtUp);
        assert_eq!(decide(&window(91, 10), &view(0, 103), &plan()), Next::Follow(range(101, 103)));
        assert_eq!(decide(&window(91, 10), &view(0, 111), &plan()), Next::Jump(Some(range(102, 106))));
        assert_eq!(decide(&window(91, 10), &view(0, 110), &plan()), Next::Follow(range(101, 105)));
    }

    #[test]
    fn a_lower_head_is_nothing_new() {
        assert_eq!(decide(&window(91, 10), &view(0, 95), &plan()), Next::CaughtUp);
    }

    #[test]
    fn lost_heights_of_the_window_come_first() {
        let view = View { hole: Some(range(93, 99)), ..view(0, 103) };
        assert_eq!(decide(&window(91, 10), &view, &plan()), Next::Mend(range(93, 97)));
    }

    #[test]
    fn the_end_is_followed_confirmed_and_left_to_the_pool_once_it_is_final() {
        let plan = FollowPlan { end: Some(102), ..plan() };
        let empty = Window::default();
        assert_eq!(decide(&window(91, 10), &view(0, 105), &plan), Next::Follow(range(101, 102)));
        assert_eq!(decide(&window(91, 12), &view(0, 105), &plan), Next::Confirm);
        // Far below finality from the first look on: all of it is the pool's.
        assert_eq!(decide(&empty, &view(0, 500), &plan), Next::Jump(None));
        assert_eq!(decide(&window(91, 10), &view(0, 500), &plan), Next::Jump(None));
        let told = View { told: Some(112), ..view(0, 500) };
        assert_eq!(decide(&window(91, 12), &told, &plan), Next::CaughtUp);
        assert_eq!(decide(&empty, &View { told: Some(111), ..view(0, 500) }, &plan), Next::Jump(None));
    }
}
