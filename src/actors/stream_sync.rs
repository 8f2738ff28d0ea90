//! StreamSync: copies a bucket of streams from one Redis to another, entry for entry, under the ids that they have.
//!
//! Reads    streams of the source, by position or through a group; mailbox `stream_sync_N` (look again, retry)
//! Writes   the same streams on the target, each batch atomically behind the expected last id; tables of notes
//! Promise  the target holds the source's entries, each once, in order; what cannot be copied is noted with its range
//! Crash    the target's own last id is the position, so whoever comes next goes on there; a note precedes its deed

mod agree;
mod attach;
mod compare;
mod copy;
mod count;
mod evidence;
mod hands;
mod plan;
mod round;
mod stream;
mod trouble;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::Mutex;

use super::turn::crash::CrashPoint;
use super::turn::{self, Claimed, Error, Tick, Turn, Unit};
use crate::ids::UnitId;
use crate::messages::sync::{StreamName, StreamRow, SyncMessage};
use crate::store::effect::{Commit, Effect};
use crate::store::table::Table;

pub use attach::describe;
pub use compare::{Difference, Side, Terms, Walk, difference, same_entry};
use hands::Hands;
pub use plan::{ROWS_SPARE, SCOUT, SyncPlan, bucket_name};
use trouble::Trouble;

/// How long one turn copies before it looks into its mailbox again.
const TURN: Duration = Duration::from_millis(200);
/// Between two looks at a stream whose slot is on its way.
const MOVING_AGAIN: Duration = Duration::from_secs(1);
/// How long a turn that has copied something waits for more before it ends.
const LINGER: Duration = Duration::from_millis(20);

/// The actor.
#[derive(Clone)]
pub struct StreamSync {
    unit: Arc<Unit>,
    plan: Arc<SyncPlan>,
    hands: Rc<Mutex<Hands>>,
}

impl StreamSync {
    /// A bucket that has just been acquired.
    pub fn new(unit: Arc<Unit>, plan: Arc<SyncPlan>) -> Self {
        Self { unit, plan, hands: Rc::default() }
    }
}

impl Actor for StreamSync {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for StreamSync {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl StreamSync {
    async fn take_turn(self) -> Result<Turn, Error> {
        let claimed = self.unit.claim::<SyncMessage>(|_, _| Vec::new()).await?;
        let hands = self.hands.clone();
        let mut hands = hands.lock().await;
        if !claimed.is_empty() {
            return self.obey(&claimed, &mut hands).await;
        }
        if !hands.is_loaded {
            self.load(&mut hands).await?;
        }
        if hands.is_paused {
            self.report(&mut hands, true).await?;
            hands.rest();
            return Ok(Turn::Idle);
        }
        if hands.streams.is_empty() {
            // No connection is held for nothing.
            hands.let_go();
            return Ok(Turn::Idle);
        }
        let turn = self.copy(&mut hands).await;
        if turn.is_err() {
            // What was read ahead rests on a target that is not there; everything begins with the target again.
            hands.let_go();
        }
        turn
    }

    /// Orders of the scout and of operators.
    async fn obey(&self, claimed: &Claimed<SyncMessage>, hands: &mut Hands) -> Result<Turn, Error> {
        let mut effects = Vec::new();
        for (_, message) in &claimed.messages {
            match message {
                SyncMessage::Look {} => hands.is_loaded = false,
                SyncMessage::Retry { stream } => {
                    let meant = |name: &StreamName| stream.as_ref().is_none_or(|wanted| *wanted == name.shown());
                    effects.extend(hands.retry(meant, self.rows_max()));
                }
            }
        }
        self.unit.point(CrashPoint::AfterDecide).await;
        self.unit.commit(&Commit { state: None, ack: claimed.ack, effects }).await?;
        Ok(Turn::Worked)
    }

    /// Reads which streams are its own, what is noted of them, and whether it is paused.
    async fn load(&self, hands: &mut Hands) -> Result<(), Error> {
        let (store, link, pipeline) = (self.unit.lease.store(), self.unit.lease.link(), self.unit.pipeline());
        let scout = UnitId::exclusive(pipeline, SCOUT);
        let rows = usize::try_from(self.rows_max()).unwrap_or(usize::MAX);
        let (streams, _) = store.peek_table(link, &scout, rows).await?;
        let mut notes = self.unit.lease.table().await?;
        self.notes_of_before(&streams, &mut notes).await?;
        let paused = store.fact(link, pipeline, "paused_ms").await?;
        hands.is_paused = paused.is_some_and(|since| !since.is_empty());
        hands.adopt(&self.plan, &streams, &notes);
        hands.is_loaded = true;
        Ok(())
    }

    /// What the units noted that copied some of these streams before.
    async fn notes_of_before(&self, streams: &Table, notes: &mut Table) -> Result<(), Error> {
        let (store, link, pipeline) = (self.unit.lease.store(), self.unit.lease.link(), self.unit.pipeline());
        let mut before: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (row, text) in streams.iter().filter(|(row, _)| !notes.contains_key(*row)) {
            let says: StreamRow = serde_json::from_str(text).unwrap_or_default();
            let is_ours = says.bucket(row, self.plan.settings.buckets) == self.plan.bucket;
            if let Some(bucket) = says.before.filter(|_| is_ours) {
                before.entry(bucket).or_default().push(row.clone());
            }
        }
        for (bucket, rows) in before {
            let unit = UnitId::exclusive(pipeline, &bucket_name(bucket));
            let known = store.peek_rows(link, &unit, &rows).await?;
            notes.extend(rows.into_iter().zip(known).filter_map(|(row, text)| Some((row, text?))));
        }
        Ok(())
    }

    /// Copies until the turn is over or nothing comes any more.
    async fn copy(&self, hands: &mut Hands) -> Result<Turn, Error> {
        let until = Instant::now() + TURN;
        let mut worked = false;
        loop {
            self.unit.outside(hands.open_target(&self.plan)).await?;
            worked |= self.attach_some(hands).await?;
            hands.tell_readers(&self.plan, &self.unit);
            let copied = self.copy_batches(hands).await?;
            let tended = (!copied || self.is_tending_late(hands)) && self.tend(hands).await?;
            worked |= copied || tended;
            if self.unit.is_draining() || Instant::now() >= until {
                if self.unit.is_draining() {
                    self.report(hands, true).await?;
                }
                return Ok(Turn::Worked);
            }
            if copied || tended {
                continue;
            }
            if !worked || !hands.is_reading() || !self.more_comes().await {
                let pause = hands.next_due(&self.plan);
                return Ok(if worked { Turn::Worked } else { Turn::IdleFor(pause) });
            }
        }
    }

    /// Waits a moment for a reader; whether one rang.
    async fn more_comes(&self) -> bool {
        self.unit.outside(async { tokio::time::timeout(LINGER, self.unit.bell.notified()).await }).await.is_ok()
    }

    /// Rows that a table may have.
    fn rows_max(&self) -> u64 {
        self.plan.settings.streams_max.saturating_add(ROWS_SPARE)
    }

    /// Writes down what is known of a stream. A note precedes its deed, so that a death in between notes it again.
    async fn note(&self, hands: &Hands, name: &StreamName) -> Result<(), Error> {
        self.note_all(hands, std::slice::from_ref(name)).await
    }

    async fn note_all(&self, hands: &Hands, names: &[StreamName]) -> Result<(), Error> {
        let row = |name: &StreamName| Some(hands.streams.get(name)?.row(name, self.rows_max()));
        let effects: Vec<Effect> = names.iter().filter_map(row).collect();
        if !effects.is_empty() {
            self.unit.commit(&Commit { effects, ..Commit::default() }).await?;
        }
        Ok(())
    }

    /// What a trouble means: the turn ends, or only this stream does.
    async fn settle(&self, hands: &mut Hands, name: &StreamName, trouble: Trouble) -> Result<(), Error> {
        let is_elsewhere = matches!(trouble, Trouble::Elsewhere(_));
        match trouble {
            Trouble::Turn(error) => Err(error),
            Trouble::Elsewhere(reason) | Trouble::Later(reason) => {
                tracing::debug!(unit = %self.unit.lease.unit(), stream = name.shown(), reason, "stream taken up again");
                let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
                stream.read = stream.position;
                // Where taking it up is what failed, or nothing says where it is, a moment passes before the next try.
                if is_elsewhere && stream.phase == stream::Phase::Live {
                    stream.phase = stream::Phase::New;
                } else {
                    stream.phase = stream::Phase::Gone;
                    stream.tended = Instant::now().checked_sub(hands::GONE_AGAIN.saturating_sub(MOVING_AGAIN));
                }
                Ok(())
            }
            Trouble::Stream(reason) => {
                tracing::error!(unit = %self.unit.lease.unit(), stream = name.shown(), reason, "stream left alone");
                if let Some(stream) = hands.streams.get_mut(name) {
                    stream.stop(&reason);
                }
                self.note(hands, name).await
            }
        }
    }
}
