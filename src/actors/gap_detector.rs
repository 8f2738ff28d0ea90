//! GapDetector: finds what is wanted and neither held, parked nor asked for, and asks for it.
//!
//! Reads    held and parked heights, facts `head` and `start`; mailbox `gap_detector` (wake-ups, operators' orders)
//! Writes   mailbox `gap_fixer` (tasks, as it has room); takes bad blocks out of the held heights; parks and unparks as
//!          operators order; empties the trash
//! Promise  every final wanted height is held, parked with a reason, or asked for, again and again as requests age
//! Crash    nothing but the ages of requests is lost; a height asked for twice is filled once

mod look;
mod orders;
mod repair;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::messages::gap::{DetectorMessage, GapTask};
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::BlockFiles;
use crate::store::effect::{Commit, Effect, Outgoing};
use crate::store::heights::PAGE;
use look::{Decision, DetectorState, Look};
use repair::{Dropped, doubted};

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
    /// When it last emptied the trash; none before the first time.
    pub swept: Arc<Mutex<Option<Instant>>>,
}

/// The bounds of detection, from `[blocks.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectPlan {
    /// Blocks below the head that only the Collector may write.
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
}

/// Requests that are remembered at the most: they must fit into the checkpoint.
const REQUESTS_MAX: usize = 500;
/// How often the trash is looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

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

impl GapDetector {
    async fn take_turn(self) -> Result<Turn, Error> {
        self.sweep().await;
        let claimed = self.unit.claim::<DetectorMessage>(|_, _| Vec::new()).await?;
        let doubted = doubted(claimed.messages.iter().map(|(_, message)| message));
        let stored = self.state()?;
        let mut before = stored.clone();
        self.obey(&claimed.messages, &mut before.wishes).await?;
        let mut decision = match self.wanted().await? {
            Some(wanted) => self.look(before, wanted).await?,
            None => Decision { state: before, tasks: Vec::new(), more: false },
        };
        self.unit.point(CrashPoint::AfterDecide).await;
        let Dropped { mut effects, any: dropped } = self.drop_bad(&doubted).await?;
        self.unit.point(CrashPoint::AfterApply).await;
        let turn = if decision.more { Turn::IdleFor(self.plan.again) } else { Turn::Idle };
        if claimed.is_empty() && effects.is_empty() && decision.tasks.is_empty() && decision.state == stored {
            return Ok(turn);
        }
        // What is taken out of the held heights in this turn is missed by the next look, at once.
        let turn = if dropped { Turn::Worked } else { turn };
        decision.state.requested.truncate(REQUESTS_MAX);
        if !decision.tasks.is_empty() {
            tracing::debug!(unit = %self.unit.lease.unit(), tasks = decision.tasks.len(), "asking for gaps");
            effects.push(self.ask(&decision.tasks)?);
        }
        let state = serde_json::to_string(&decision.state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack: claimed.ack, effects }).await?;
        Ok(turn)
    }

    /// Destroys what has been in the trash for longer than the rollback horizon. A failure costs only space, so it
    /// must not stop the detection; the next sweep goes on.
    async fn sweep(&self) {
        let now = Instant::now();
        let is_due = {
            // A panic elsewhere leaves at worst a time of long ago.
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = swept.is_none_or(|at| now.duration_since(at) >= SWEEP_EVERY);
            if is_due {
                *swept = Some(now);
            }
            is_due
        };
        if is_due {
            if let Err(error) = self.trim_trash_list().await {
                tracing::warn!(unit = %self.unit.lease.unit(), %error, "the list of the trash cannot be trimmed");
            }
            match self.unit.outside(self.files.sweep_trash(self.plan.rollback_horizon)).await {
                Ok(0) => {}
                Ok(files) => tracing::info!(unit = %self.unit.lease.unit(), files, "trash past the horizon destroyed"),
                Err(error) => tracing::warn!(unit = %self.unit.lease.unit(), %error, "the trash cannot be emptied"),
            }
            self.unit.progress();
        }
    }

    /// The notes of what was destroyed go with it.
    async fn trim_trash_list(&self) -> Result<(), Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let horizon = u64::try_from(self.plan.rollback_horizon.as_millis()).unwrap_or(u64::MAX);
        let before = store.now_ms(link).await?.saturating_sub(horizon);
        Ok(store.trim_trash(link, self.unit.pipeline(), before).await?)
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
        let mut facts = [None, None];
        for (fact, name) in facts.iter_mut().zip(["head", "start"]) {
            *fact = store.fact(link, self.unit.pipeline(), name).await?.and_then(|text| text.parse::<Height>().ok());
        }
        let [Some(head), Some(start)] = facts else { return Ok(None) };
        let Some(last) = head.checked_sub(self.plan.confirmations) else { return Ok(None) };
        let last = self.plan.end.map_or(last, |end| last.min(end));
        Ok(HeightRange::new(start, last).ok())
    }

    /// Reads the sets, page by page, until the room for tasks is used up.
    async fn look(&self, mut before: DetectorState, wanted: HeightRange) -> Result<Decision, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mailbox = self.unit.address("gap_fixer");
        let waiting = store.depth(link, &mailbox).await?.entries;
        let room = usize::try_from(self.plan.capacity.saturating_sub(waiting)).unwrap_or(usize::MAX);
        let now_ms = store.now_ms(link).await?;
        let room = room.min(REQUESTS_MAX);
        let mut granted = self.grant(&mut before, wanted, now_ms, room).await?;
        let mut look = Look::new(&before, now_ms, &self.plan, room - granted.len());
        let mut rest = Some(wanted);
        while let Some(range) = rest {
            if look.is_full() {
                break;
            }
            let (part, missing) = self.missing_page(range).await?;
            look.judge(part, &missing);
            rest = HeightRange::new(part.hi() + 1, range.hi()).ok();
            self.unit.progress();
        }
        let mut decision = look.decide();
        granted.append(&mut decision.tasks);
        decision.more |= !before.wishes.is_empty();
        (decision.tasks, decision.state.wishes) = (granted, before.wishes);
        Ok(decision)
    }

    /// What is neither held nor parked in the lower part of a range: as far as one page of held intervals reaches.
    async fn missing_page(&self, range: HeightRange) -> Result<(HeightRange, HeightSet), Error> {
        let held = self.unit.lease.store().held(self.unit.lease.link(), self.unit.pipeline(), range).await?;
        let part = match held.last() {
            Some(last) if held.len() >= PAGE => HeightRange::one(range.lo()).hull(last.range).intersect(range),
            Some(_) | None => None,
        };
        let part = part.unwrap_or(range);
        let mut missing = HeightSet::from_iter([part]);
        held.iter().for_each(|piece| missing.remove(piece.range));
        self.without_parked(&mut missing).await?;
        Ok((part, missing))
    }

    /// Takes the parked heights out of what is missing.
    async fn without_parked(&self, missing: &mut HeightSet) -> Result<(), Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut rest = missing.hull();
        while let Some(range) = rest {
            let parked = store.parked(link, self.unit.pipeline(), range).await?;
            parked.iter().for_each(|parked| missing.remove(parked.range));
            rest = match parked.last() {
                Some(last) if parked.len() >= PAGE => HeightRange::new(last.range.hi() + 1, range.hi()).ok(),
                _ => None,
            };
        }
        Ok(())
    }

    fn ask(&self, tasks: &[HeightRange]) -> Result<Effect, Error> {
        let messages = tasks.iter().map(|range| Outgoing::new(&GapTask::Fill { range: *range, tries: 0 }));
        let messages = messages.collect::<Result<_, _>>()?;
        Ok(Effect::Send { to: self.unit.address("gap_fixer"), capacity: self.plan.capacity, messages })
    }
}
