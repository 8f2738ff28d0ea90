//! GapDetector: finds what is wanted and neither held, parked nor asked for, and asks for it.
//!
//! Reads    held and parked heights, facts `finalized`, `start`, `endpoints`; names of block files; mailbox `gap_detector`
//!          (wake-ups, operators' orders)
//! Writes   mailbox `gap_fixer` (tasks, as it has room); takes lost and bad blocks out of the held heights; parks and
//!          unparks as operators order, and unparks by itself in time; the seed's keys; empties the
//!          trash
//! Promise  every final wanted height is held, parked with a reason, or asked for, again and again as requests age
//! Crash    nothing but the ages of requests is lost; a height asked for twice is filled once

mod ages;
mod look;
mod orders;
mod reconcile;
mod repair;
mod retry;
mod scan;
mod sweep;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::config::GapOrder;
use crate::messages::facts::ChainFacts;
use crate::messages::gap::{DetectorMessage, GapTask};
use crate::messages::heights::{Height, HeightRange};
use crate::sinks::BlockFiles;
use crate::store::effect::{Commit, Effect, Outgoing};
use crate::telemetry::blocks::{PipelineLabels, Seen};
use crate::telemetry::metrics::Metrics;
use ages::Ages;
use look::{Decision, DetectorState};
pub use reconcile::Walks;
use reconcile::{WALK_PAUSE, Walked, Walking};
use repair::{Dropped, doubted};
use retry::Retrying;
pub use view::ViewPlan;
use view::Viewed;

/// The actor: handles and bounds only.
///
/// Keeps G5, the second half: every wanted height is held, requested, or parked with a reason: never silently absent.
#[derive(Clone)]
pub struct GapDetector {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// Where blocks are, to judge again what `blocks verify` doubts.
    pub files: BlockFiles,
    /// Its bounds.
    pub plan: DetectPlan,
    /// Whether this process has compared files and index.
    pub walks: Arc<Walks>,
    /// When it last emptied the trash; none before the first time.
    swept: Arc<Mutex<Option<Instant>>>,
    /// What it remembers beside its checkpoint.
    memory: Arc<Mutex<Memory>>,
    /// Shows its figures, and takes them away with it.
    figures: Arc<Figures>,
}

/// What a life remembers beside the checkpoint: nothing that is missed when it is lost.
#[derive(Debug, Default)]
struct Memory {
    ages: Option<Ages>,
    walking: Walking,
    retrying: Retrying,
    viewed: Viewed,
}

/// The figures of the last look, shown while the detector lives here.
struct Figures {
    metrics: Arc<Metrics>,
    pipeline: String,
}

impl Drop for Figures {
    fn drop(&mut self) {
        self.metrics.blocks.forget(&self.pipeline);
    }
}

/// The bounds of detection, from `[blocks.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DetectPlan {
    /// Blocks below the head that only the Collector may write, where it has not written down yet what is final.
    pub confirmations: u64,
    /// The highest wanted height, if any.
    pub end: Option<Height>,
    /// Heights of one task.
    pub task_heights: u64,
    /// Tasks that the pool's mailbox may hold.
    pub capacity: u64,
    /// After so long without an outcome a request is made again.
    pub request_age: Duration,
    /// How soon it looks again when there was more to ask for than room.
    pub again: Duration,
    /// How long bad and superseded files wait in the trash: a failover may forget that much.
    pub rollback_horizon: Duration,
    /// Which gaps are asked for first.
    pub order: GapOrder,
    /// The pause between two comparisons of files and index; none = only once in the life of a process.
    pub reconcile: Option<Duration>,
    /// After so long a parked height is asked for again; none = never.
    pub parked_retry: Option<Duration>,
    /// Tells one list of endpoints from another.
    pub endpoints: String,
    /// The seed's two keys, where they are wanted.
    pub view: Option<ViewPlan>,
}

/// Requests that are remembered at the most: they must fit into the checkpoint.
const REQUESTS_MAX: usize = 500;

impl Actor for GapDetector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for GapDetector {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

/// What one look left for the rest of the turn.
#[derive(Debug, Clone, Copy)]
struct Looked {
    wanted: HeightRange,
    /// Final wanted heights that are not held, at least.
    unheld: u64,
    /// It asked for nothing, and there was nothing more to ask for.
    is_quiet: bool,
}

impl GapDetector {
    /// The actor of one life. `walks` is shared by the lives of this process.
    pub fn new(unit: Arc<Unit>, files: BlockFiles, plan: DetectPlan, walks: Arc<Walks>) -> Self {
        let figures = Figures { metrics: unit.metrics.clone(), pipeline: unit.pipeline().to_string() };
        let (swept, memory, figures) = (Arc::default(), Arc::default(), Arc::new(figures));
        Self { unit, files, plan, walks, swept, memory, figures }
    }

    /// What one look over everything sees now, without asking for anything or writing it down; none while nothing is
    /// final. For measurements.
    pub async fn survey(&self) -> Result<Option<Seen>, Error> {
        match self.wanted().await? {
            Some(wanted) => Ok(Some(self.see(wanted).await?)),
            None => Ok(None),
        }
    }

    async fn take_turn(self) -> Result<Turn, Error> {
        self.sweep().await;
        let (turn, looked) = self.detect().await?;
        match looked {
            Some(looked) if !matches!(turn, Turn::Worked) && !self.unit.is_draining() => {
                self.beside(turn, looked).await
            }
            Some(_) | None => Ok(turn),
        }
    }

    /// What comes after detection, a little of it each turn, so that detection never waits long.
    async fn beside(&self, turn: Turn, looked: Looked) -> Result<Turn, Error> {
        let turn = self.show_view(looked).await?.map_or(turn, |wait| sooner(turn, wait));
        if self.retry_parked(looked.wanted, looked.is_quiet).await? {
            return Ok(Turn::Worked);
        }
        Ok(match self.walk_on().await? {
            Walked::Lost => Turn::Worked,
            Walked::On => sooner(turn, WALK_PAUSE),
            Walked::Resting => turn,
        })
    }

    async fn detect(&self) -> Result<(Turn, Option<Looked>), Error> {
        let claimed = self.unit.claim::<DetectorMessage>(|_, _| Vec::new()).await?;
        let doubted = doubted(claimed.messages.iter().map(|(_, message)| message));
        let stored = self.state()?;
        let mut before = stored.clone();
        self.obey(&claimed.messages, &mut before.wishes).await?;
        let wanted = self.wanted().await?;
        let mut decision = match wanted {
            Some(wanted) => self.look(before, wanted).await?,
            None => Decision::nothing(before),
        };
        self.figures.metrics.blocks.show(&self.figures.pipeline, &decision.seen);
        let is_quiet = decision.tasks.is_empty() && !decision.more;
        let unheld = decision.seen.missing + decision.seen.parked;
        let looked = wanted.map(|wanted| Looked { wanted, unheld, is_quiet });
        self.unit.point(CrashPoint::AfterDecide).await;
        let Dropped { mut effects, heights: dropped } = self.drop_bad(&doubted).await?;
        self.unit.point(CrashPoint::AfterApply).await;
        let turn = if decision.more { Turn::IdleFor(self.plan.again) } else { Turn::Idle };
        if claimed.is_empty() && effects.is_empty() && decision.tasks.is_empty() && decision.state == stored {
            return Ok((turn, looked));
        }
        // What is taken out of the held heights in this turn is missed by the next look, at once.
        let turn = if dropped > 0 { Turn::Worked } else { turn };
        decision.state.requested.truncate(REQUESTS_MAX);
        if !decision.tasks.is_empty() {
            tracing::debug!(unit = %self.unit.lease.unit(), tasks = decision.tasks.len(), "asking for gaps");
            effects.push(self.ask(&decision.tasks)?);
        }
        decision.state.walk = self.walk_so_far().unwrap_or(decision.state.walk);
        let state = serde_json::to_string(&decision.state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack: claimed.ack, effects }).await?;
        self.count_lost(dropped);
        Ok((turn, looked))
    }

    fn state(&self) -> Result<DetectorState, Error> {
        let state = self.unit.lease.state();
        if state.is_empty() {
            return Ok(DetectorState::default());
        }
        serde_json::from_str(&state).map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))
    }

    /// The final wanted heights; none before the Collector has seen the chain, or while nothing is final.
    async fn wanted(&self) -> Result<Option<HeightRange>, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let facts = ChainFacts::read(&store.facts(link, self.unit.pipeline()).await?, self.plan.confirmations);
        let (Some(start), Some(last)) = (facts.start, facts.finalized) else { return Ok(None) };
        let last = self.plan.end.map_or(last, |end| last.min(end));
        Ok(HeightRange::new(start, last).ok())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic elsewhere leaves at worst what is done once more.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_lost(&self, heights: u64) {
        let labels = PipelineLabels { pipeline: self.figures.pipeline.clone() };
        self.figures.metrics.blocks.lost.get_or_create(&labels).inc_by(heights);
    }

    fn ask(&self, tasks: &[HeightRange]) -> Result<Effect, Error> {
        let messages = tasks.iter().map(|range| Outgoing::new(&GapTask::Fill { range: *range, tries: 0 }));
        let messages = messages.collect::<Result<_, _>>()?;
        Ok(Effect::Send { to: self.unit.address("gap_fixer"), capacity: self.plan.capacity, messages })
    }
}

/// The same turn, with a pause of at most so long behind it.
fn sooner(turn: Turn, pause: Duration) -> Turn {
    match turn {
        Turn::Worked => Turn::Worked,
        Turn::Idle => Turn::IdleFor(pause),
        Turn::IdleFor(longer) => Turn::IdleFor(longer.min(pause)),
    }
}
