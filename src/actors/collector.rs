//! Collector: follows the head of a chain, alone, above finality.
//!
//! Reads    the chain's head and the blocks above finality; mailbox `collector` (orders: look now, pause,
//!          resume); hints
//! Writes   block files; held heights; facts `head`, `finalized`, `start`, `chain_id`, `alarms`; mailbox
//!          `gap_detector` (a hint); publishes reorganisations
//! Promise  above `finalized` the held heights are one chain, and each was durable before it counted; below it
//!          nothing is rewritten
//! Crash    files without a commit are found again by their name; the window in the checkpoint tells where to go on

mod again;
mod ahead;
mod alarm;
mod commit;
mod event;
mod find;
mod state;
mod watch;
mod window;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::{self, Claimed, Error, Tick, Turn, Unit};
use crate::messages::block::BlockRef;
use crate::messages::facts::ChainFacts;
use crate::messages::gap::CollectorMessage;
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::BlockFiles;
use crate::sources::Chain;
use crate::sources::hints::Hints;
use find::Found;
use watch::Watch;
use window::Outcome;

pub use state::{CollectorState, rewind};
pub use window::Window;

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct Collector {
    /// Its unit.
    unit: Arc<Unit>,
    /// The chain.
    source: Chain,
    /// Where blocks go.
    files: BlockFiles,
    /// What it follows.
    plan: FollowPlan,
    /// Who may wake it early.
    hints: Option<Arc<Hints>>,
    /// What it remembers of this life, beside the checkpoint.
    watch: Arc<Watch>,
}

/// How long it waits for the chain's word on finality: an endpoint that knows no tag must not hold the head up.
const TAG_WAIT_MAX: Duration = Duration::from_secs(2);

/// What a Collector follows, from `[blocks.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowPlan {
    /// The lowest wanted height; none: the head at the first look.
    pub start: Option<Height>,
    /// The highest wanted height, if any.
    pub end: Option<Height>,
    /// The chain that it must be, if the configuration says so.
    pub chain_id: Option<String>,
    /// Blocks below the head that may still change, unless the chain itself says that they are final.
    pub confirmations: u64,
    /// Heights of one turn that follows the chain.
    pub turn: u64,
    /// Heights that are fetched at a time, and stored at a time.
    pub batch: u64,
    /// How long one turn goes on to fetch: what it stored counts only when it ends.
    pub ahead: Duration,
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
    /// The highest height that is final by tag or count; never below `told_final`.
    finalized: Option<Height>,
    /// The head that was last written down: what the detector knows.
    told: Option<Height>,
    /// What was last written down as final. Up to here the pool writes, above it nobody else.
    told_final: Option<Height>,
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
    /// These heights, standing on the top of the window (or on nothing, at the very start); the lower ones first, the
    /// rest as long as it comes soon.
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
        if let Some(hints) = self.hints.clone() {
            // It lives in the actor's context, so it ends with the actor, however that ends.
            let (unit, watch) = (self.unit.clone(), self.watch.clone());
            let listening = async move { hints.listen(&unit.metrics.clone(), || watch.hint(&unit)).await };
            ctx.spawn(actix::fut::wrap_future::<_, Self>(listening));
        }
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
    /// A Collector in a new life of its unit.
    pub fn new(unit: Arc<Unit>, source: Chain, files: BlockFiles, plan: FollowPlan, hints: Option<Arc<Hints>>) -> Self {
        let watch = Arc::new(Watch::new(&unit));
        Self { unit, source, files, plan, hints, watch }
    }

    async fn take_turn(self) -> Result<Turn, Error> {
        let wishes = self.unit.claim::<CollectorMessage>(|_, _| Vec::new()).await?;
        let state = CollectorState::parse(&self.unit.lease.state()).map_err(Error::Refused)?;
        if let Some(turn) = self.obey(&state, &wishes).await? {
            return Ok(turn);
        }
        if let Some(from) = state.again_from {
            return self.begin_again(&state, from).await;
        }
        let facts = self.facts().await?;
        let chain_id = self.check_chain(facts.chain_id.clone()).await?;
        let window = state.window;
        let view = self.look(&facts, &window).await?;
        let next = decide(&window, &view, &self.plan);
        self.unit.point(CrashPoint::AfterDecide).await;
        let found = self.find(&window, &next, &view).await?;
        if let Some(alarm) = found.alarm {
            return self.sound(alarm, &facts, wishes.ack).await;
        }
        self.settle(found, window, &view, &facts, chain_id, &wishes).await
    }

    /// Stores what was found and makes the turn durable, if there is anything to say.
    async fn settle(
        &self,
        mut found: Found,
        window: Window,
        view: &View,
        facts: &ChainFacts,
        chain_id: String,
        wishes: &Claimed<CollectorMessage>,
    ) -> Result<Turn, Error> {
        let worked = !found.blocks.is_empty() || found.reorg.is_some();
        let left = match &found.reorg {
            Some(reorg) => Some((reorg.top + 1 - reorg.from, self.reorg_event(reorg, &window)?)),
            None => None,
        };
        let (blocks, rest) = (std::mem::take(&mut found.blocks), found.rest.take());
        let brought = self.store(blocks, rest).await?;
        let ids = brought.iter().map(|block| block.id.clone()).collect();
        let recorded = outcome(&found, ids, window, view, chain_id).record(self.plan.confirmations + 1);
        // A start that was changed, a head that the detector must know though no block came with it, or more that is
        // final.
        let news = facts.start.is_some_and(|told| told != view.start)
            || recorded.head > view.told
            || recorded.finalized > view.told_final;
        if !worked && !news && wishes.is_empty() {
            self.watch.figures.set_heads(view.told, view.told_final);
            return Ok(self.watch.idle(self.plan.poll));
        }
        match self.commit(recorded, left, &brought, wishes, view.told).await? {
            Some(alarm) => self.sound(alarm, facts, wishes.ack).await,
            None if worked => {
                self.watch.moved();
                Ok(Turn::Worked)
            }
            None => Ok(self.watch.idle(self.plan.poll)),
        }
    }

    /// What the chain and Redis show.
    async fn look(&self, facts: &ChainFacts, window: &Window) -> Result<View, Error> {
        let (told, told_final) = (facts.head, facts.finalized);
        let tag = tokio::time::timeout(TAG_WAIT_MAX, self.source.finalized());
        let (head, tag) = self.unit.outside(futures_util::future::join(self.source.head(), tag)).await;
        let head = head.map_err(|error| self.watch.judge(error))?;
        let tag = match tag {
            Ok(Ok(tag)) => tag,
            Ok(Err(error)) => {
                tracing::debug!(unit = %self.unit.lease.unit(), %error, "no word on finality; the count holds");
                None
            }
            Err(_) => None,
        };
        // `latest` is pinned by the first commit.
        let start = self.plan.start.or(facts.start).unwrap_or(head);
        let finalized = told_final.max(self.plan.finalized(head, tag));
        let hole = self.hole(window, start.max(told_final.map_or(0, |last| last + 1))).await?;
        Ok(View { start, head, finalized, told, told_final, hole })
    }

    async fn facts(&self) -> Result<ChainFacts, Error> {
        let fields = self.unit.lease.store().facts(self.unit.lease.link(), self.unit.pipeline()).await?;
        Ok(ChainFacts::read(&fields, self.plan.confirmations))
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

    /// The lowest heights of the window, from `floor` on, that are no longer held. The detector leaves these to us.
    async fn hole(&self, window: &Window, floor: Height) -> Result<Option<HeightRange>, Error> {
        let Some((top, _)) = window.top() else { return Ok(None) };
        let Ok(range) = HeightRange::new(window.lowest.max(floor), top) else { return Ok(None) };
        // A window is smaller than a page.
        let held = self.unit.lease.store().held(self.unit.lease.link(), self.unit.pipeline(), range).await?;
        let held: HeightSet = held.iter().map(|piece| piece.range).collect();
        Ok(held.gaps(range).ranges().first().copied())
    }
}

/// What a turn is to write down.
fn outcome(found: &Found, ids: Vec<BlockRef>, window: Window, view: &View, chain_id: String) -> Outcome {
    Outcome {
        window,
        ids,
        reorg: found.reorg.clone(),
        place: found.place,
        head: found.head_seen.then_some(view.head),
        finalized: view.finalized,
        beyond: found.beyond,
        told: (view.told, view.told_final),
        start: view.start,
        chain_id,
    }
}

impl FollowPlan {
    /// The highest height that is final: as the chain says itself, or by count. A tag makes blocks final earlier, never
    /// later, and never what is above the head.
    fn finalized(&self, head: Height, tag: Option<Height>) -> Option<Height> {
        head.checked_sub(self.confirmations).max(tag.map(|tag| tag.min(head)))
    }
}

impl View {
    /// Below this height the pool fills. The newest block is this actor's even where the chain is final at once: the
    /// head must not wait for the pool. What was written down as final is never this actor's.
    fn floor(&self) -> Height {
        let above = |last: Option<Height>| last.map_or(0, |last| last + 1);
        self.start.max(above(self.finalized).min(self.head)).max(above(self.told_final))
    }
}

/// What to fetch next. Pure.
fn decide(window: &Window, view: &View, plan: &FollowPlan) -> Next {
    let View { start, head, told_final, hole, .. } = *view;
    if plan.end.is_some_and(|end| told_final >= Some(end)) {
        return Next::CaughtUp;
    }
    let first =
        |lo: Height, hi: Height, count: u64| HeightRange::new(lo, hi.min(lo.saturating_add(count.max(1) - 1))).ok();
    let turn = |lo, hi| first(lo, hi, plan.turn);
    if let Some(hole) = hole.and_then(|hole| first(hole.lo(), hole.hi(), plan.batch)) {
        return Next::Mend(hole);
    }
    let last = plan.end.map_or(head, |end| end.min(head));
    let floor = view.floor();
    match window.top().map(|(height, _)| height) {
        Some(top) if plan.end.is_some_and(|end| top >= end) => Next::Confirm,
        Some(top) if top >= last => Next::CaughtUp,
        // A few blocks that became final meanwhile are still followed one by one: they are nobody else's yet.
        Some(top) if top + 1 >= floor || is_near(top, view, plan.batch) => {
            turn(top + 1, last).map_or(Next::CaughtUp, Next::Follow)
        }
        Some(_) => Next::Jump(turn(floor, last)),
        // The chain has not reached the first wanted height.
        None if start > last => Next::CaughtUp,
        None => turn(floor, last).map_or(Next::Jump(None), Next::Follow),
    }
}

/// Whether one turn can go on from `top` to the head with heights that only the Collector may write.
fn is_near(top: Height, view: &View, batch: u64) -> bool {
    top + 1 >= view.start && view.told_final <= Some(top) && view.head.saturating_sub(top) <= batch
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
            turn: 5,
            batch: 5,
            ahead: Duration::ZERO,
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

    /// A look at a chain whose blocks are final by count alone.
    fn view(start: Height, head: Height) -> View {
        View { start, head, finalized: plan().finalized(head, None), ..View::default() }
    }

    /// As [`view`], with a tag, and what was last written down as final.
    fn tagged(head: Height, tag: Height, told_final: Height) -> View {
        let finalized = plan().finalized(head, Some(tag)).max(Some(told_final));
        View { start: 0, head, finalized, told_final: Some(told_final), ..View::default() }
    }

    #[test]
    fn a_tag_makes_blocks_final_earlier_and_never_later_or_above_the_head() {
        assert_eq!(plan().finalized(100, None), Some(90));
        assert_eq!(plan().finalized(100, Some(95)), Some(95));
        assert_eq!(plan().finalized(100, Some(40)), Some(90));
        assert_eq!(plan().finalized(100, Some(5000)), Some(100));
        assert_eq!(plan().finalized(9, None), None);
        assert_eq!(plan().finalized(9, Some(0)), Some(0));
    }

    #[test]
    fn the_newest_block_is_followed_though_the_chain_is_final_at_once() {
        let empty = Window::default();
        assert_eq!(
            decide(&empty, &View { told_final: None, ..tagged(100, 100, 0) }, &plan()),
            Next::Follow(range(100, 100))
        );
        // One more block, a few more, and more than a turn can hold: those are the pool's.
        assert_eq!(decide(&window(91, 10), &tagged(101, 101, 100), &plan()), Next::Follow(range(101, 101)));
        assert_eq!(decide(&window(91, 10), &tagged(105, 105, 100), &plan()), Next::Follow(range(101, 105)));
        assert_eq!(decide(&window(91, 10), &tagged(106, 106, 100), &plan()), Next::Jump(Some(range(106, 106))));
        // What was written down as final is the pool's, whatever this window knows.
        assert_eq!(decide(&empty, &tagged(100, 100, 100), &plan()), Next::Jump(None));
        assert_eq!(decide(&window(91, 5), &tagged(100, 100, 99), &plan()), Next::Jump(Some(range(100, 100))));
    }

    #[test]
    fn a_tag_that_overtakes_the_window_leaves_the_rest_to_the_pool() {
        assert_eq!(decide(&window(91, 10), &tagged(103, 99, 90), &plan()), Next::Follow(range(101, 103)));
        assert_eq!(decide(&window(91, 10), &tagged(109, 104, 90), &plan()), Next::Jump(Some(range(105, 109))));
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
        let told = View { told_final: Some(102), ..view(0, 500) };
        assert_eq!(decide(&window(91, 12), &told, &plan), Next::CaughtUp);
        assert_eq!(decide(&empty, &View { told_final: Some(101), ..view(0, 500) }, &plan), Next::Jump(None));
    }
}
