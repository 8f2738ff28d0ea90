//! LogParser: makes of each line an event, or sets it aside with the reason.
//!
//! Reads    output `lines` of its pipeline, by its own offset; the tables of the LogWatchers (where files lie)
//! Writes   outputs for events and for lines that are none; state: counts
//! Promise  each line of the stream is exactly one event or one record that says why it is none, in the order of the lines
//! Crash    records and offset are one commit: what was not committed is parsed again

mod decide;
mod figures;
mod places;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::room::Room;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::ids::EntryId;
use crate::messages::udm::Parser;
use crate::store::effect::{Ack, Commit, Effect};
use crate::store::trim::Keep;
use crate::store::{Entry, StoreError};
use decide::{Bounds, Decided, Work, decide};
use figures::Figures;
use places::Places;
pub use state::ParserState;

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct LogParser {
    /// Its unit.
    unit: Arc<Unit>,
    /// The mapping, checked.
    parser: Arc<Parser>,
    /// Its bounds.
    plan: Arc<ParsePlan>,
    /// What it remembers of this life.
    life: Arc<Life>,
}

/// The bounds of a LogParser, from `[logs.NAME.parse]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePlan {
    /// The output that lines come from.
    pub lines: &'static str,
    /// Where events go, and how many it may hold.
    pub events: (String, u64),
    /// Where lines go that are no event, and how many it may hold.
    pub unparsed: (String, u64),
    /// What of both stays.
    pub keep: Keep,
    /// Lines of one commit.
    pub batch_lines: u32,
    /// Bytes of lines of one commit.
    pub batch_bytes: usize,
}

/// What one life remembers. Losing it costs a look.
struct Life {
    events: Side,
    unparsed: Side,
    places: Mutex<Places>,
    figures: Figures,
    /// The last line that this life has dealt with.
    last: Mutex<Option<EntryId>>,
}

/// One of the two outputs.
struct Side {
    room: Room,
    stood: Mutex<Stood>,
}

/// How an output stood last.
#[derive(Debug, Clone, Copy, Default)]
struct Stood {
    length: u64,
    was_full: bool,
}

impl Side {
    fn new((output, capacity): &(String, u64), keep: Keep) -> Self {
        Self { room: Room::new(output, *capacity, keep, Vec::new()), stood: Mutex::default() }
    }

    fn stood(&self) -> MutexGuard<'_, Stood> {
        self.stood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for LogParser {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for LogParser {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl LogParser {
    /// A LogParser in a new life of its unit, which reads by [`Mail::Follow`](crate::store::lease::Mail::Follow).
    pub fn new(unit: Arc<Unit>, parser: Arc<Parser>, plan: Arc<ParsePlan>) -> Self {
        unit.lease.deliver_at_most(plan.batch_lines, plan.batch_bytes);
        let life = Life {
            events: Side::new(&plan.events, plan.keep),
            unparsed: Side::new(&plan.unparsed, plan.keep),
            places: Mutex::default(),
            figures: Figures::new(&unit),
            last: Mutex::default(),
        };
        Self { unit, parser, plan, life: Arc::new(life) }
    }

    async fn take_turn(self) -> Result<Turn, Error> {
        let (delivery, used_up) = self.unit.claim_entries().await?;
        let mut state = ParserState::parse(&self.unit.lease.state()).map_err(Error::Refused)?;
        if delivery.entries.is_empty() {
            return self.rest(&state).await;
        }
        self.life.figures.before_work(&self.unit, self.plan.lines, &mut state).await?;
        let decided = self.decide(&delivery.entries, used_up.as_deref()).await?;
        self.unit.point(CrashPoint::AfterDecide).await;
        self.make_room(&decided).await?;
        self.unit.point(CrashPoint::AfterApply).await;
        state.add(&decided);
        self.settle(decided, &state).await
    }

    async fn decide(&self, entries: &[Entry], used_up: Option<&str>) -> Result<Decided, Error> {
        let places = Places::learn(&self.life.places, &self.unit, entries).await?;
        let limits = &self.unit.lease.link().options().limits;
        let bounds = Bounds { entry_bytes: limits.entry_bytes_max, commit_bytes: 3 * limits.turn_bytes_max };
        Ok(decide(&self.parser, &Work { entries, used_up, places: &places, bounds }))
    }

    /// Commits records and offset together.
    async fn settle(&self, decided: Decided, state: &ParserState) -> Result<Turn, Error> {
        let (events, unparsed) = (decided.events.len() as u64, decided.unparsed.len() as u64);
        let (last, count) = (decided.last, decided.count());
        let mut effects = Vec::with_capacity(2);
        if events > 0 {
            let (output, capacity) = self.plan.events.clone();
            effects.push(Effect::AppendWithin { output, capacity, records: decided.events });
        }
        if unparsed > 0 {
            let (output, capacity) = self.plan.unparsed.clone();
            effects.push(Effect::SetAside { output, capacity, records: decided.unparsed });
        }
        let commit = Commit { state: Some(state.text()?), ack: Ack::Through { last, count }, effects };
        let committed = self.unit.commit(&commit).await;
        if let Err(StoreError::Full { .. }) = &committed {
            // Others have appended there; the next turn finds out how many.
            self.life.events.stood().was_full = true;
            self.life.unparsed.stood().was_full = true;
        }
        committed?;
        self.life.events.stood().length += events;
        self.life.unparsed.stood().length += unparsed;
        *self.life.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        self.life.figures.committed(state, events, &decided.reasons);
        Ok(Turn::Worked)
    }

    /// Trims both outputs where that is due. What finds no room waits, and with it the lines.
    async fn make_room(&self, decided: &Decided) -> Result<(), Error> {
        let sides = [
            (&self.life.events, &self.plan.events, decided.events.len()),
            (&self.life.unparsed, &self.plan.unparsed, decided.unparsed.len()),
        ];
        for (side, (output, capacity), records) in sides {
            self.trim(side).await?;
            if records > 0 && side.stood().length >= *capacity {
                let key = self.unit.lease.store().keys.output(self.unit.pipeline(), output);
                return Err(StoreError::Full { key }.into());
            }
        }
        Ok(())
    }

    async fn trim(&self, side: &Side) -> Result<(), Error> {
        let Stood { length, was_full } = *side.stood();
        if let Some(made) = side.room.make(&self.unit, length, was_full).await? {
            *side.stood() = Stood { length: made.length, was_full: false };
            self.life.figures.trimmed(made.left, made.unread);
        }
        Ok(())
    }

    /// Nothing waits: what readers have acknowledged leaves, and figures are brought up to date.
    async fn rest(&self, state: &ParserState) -> Result<Turn, Error> {
        self.trim(&self.life.events).await?;
        self.trim(&self.life.unparsed).await?;
        let last = *self.life.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.life.figures.at_rest(&self.unit, self.plan.lines, state, last).await?;
        Ok(Turn::Idle)
    }
}
