//! SyncScout: finds the streams that a `sync` pipeline copies, and tells the units that copy them.
//!
//! Reads    keys of the source, by pattern; mailbox `scout` (look now, pause, resume)
//! Writes   its table, a row a stream; mailboxes `stream_sync_0` to `stream_sync_N` (look again)
//! Promise  each stream of a pattern is listed, or refused with its reason; two never go to one key of the target
//! Crash    rows and the messages that tell of them are one commit; a look that did not commit is made again

mod look;
mod share;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Order, Tick, Turn, Unit, paused_after};
use crate::config::SyncSettings;
use crate::ids::{Address, EntryId};
use crate::messages::sync::{ScoutMessage, StreamName, StreamRow, SyncMessage};
use crate::sources::streams::Hints;
use crate::store::effect::{Ack, Commit, Effect, Outgoing};
use crate::store::table::Table;
use crate::wire::Door;

pub use look::{Judged, Sight, judge, look};

/// Rows of one commit.
const ROWS: usize = 200;
/// The least pause between a look and one that a hint asks for.
const HINT_REST: Duration = Duration::from_secs(1);
/// Keys that are no streams of a pattern and are remembered, so that they are not hinted at twice.
const IGNORED_MAX: usize = 10_000;
/// The pause after a look that a server was away for.
const AGAIN: Duration = Duration::from_secs(2);

/// What the scout is told.
#[derive(Debug, Clone)]
pub struct ScoutPlan {
    /// The configuration.
    pub settings: SyncSettings,
    /// The way to the source.
    pub source: Door,
    /// The way to the target.
    pub target: Door,
    /// The actors that copy, by bucket.
    pub buckets: Vec<String>,
    /// Keys of gapless's own begin so.
    pub own_prefix: String,
    /// Entries that a mailbox may hold.
    pub capacity: u64,
    /// Rows that the table may hold.
    pub rows_max: u64,
}

/// The actor.
#[derive(Clone)]
pub struct SyncScout {
    unit: Arc<Unit>,
    plan: Arc<ScoutPlan>,
    memory: Rc<Mutex<Memory>>,
}

/// What it remembers between two turns of one life.
#[derive(Default)]
struct Memory {
    table: Option<Table>,
    looked: Option<Instant>,
    is_told: bool,
    is_cut_told: bool,
    hints: Option<Hints>,
    /// Names of the table, and of keys that a hint told of and a look did not take: neither is news.
    old: Rc<RefCell<BTreeSet<StreamName>>>,
    /// Keys that a hint told of and a look did not take.
    ignored: BTreeSet<StreamName>,
    /// Told by hints since the last look.
    hinted: BTreeSet<StreamName>,
}

/// What the checkpoint holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ScoutState {
    /// Server milliseconds since when an operator has the pipeline paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_ms: Option<u64>,
}

impl Memory {
    /// After a look: what it listed is known, and what a hint told of and it did not take is no news either.
    fn remember(&mut self) {
        let rows = self.table.iter().flatten();
        let name = |(row, text): (&String, &String)| serde_json::from_str::<StreamRow>(text).ok()?.name(row);
        let mut old: BTreeSet<StreamName> = rows.filter_map(name).collect();
        if self.ignored.len() > IGNORED_MAX {
            self.ignored.clear();
        }
        self.ignored.extend(std::mem::take(&mut self.hinted).into_iter().filter(|name| !old.contains(name)));
        old.extend(self.ignored.iter().cloned());
        *self.old.borrow_mut() = old;
    }
}

impl SyncScout {
    /// A scout that has just been acquired.
    pub fn new(unit: Arc<Unit>, plan: Arc<ScoutPlan>) -> Self {
        Self { unit, plan, memory: Rc::default() }
    }
}

impl Actor for SyncScout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for SyncScout {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl SyncScout {
    async fn take_turn(self) -> Result<Turn, Error> {
        let claimed = self.unit.claim::<ScoutMessage>(|_, _| Vec::new()).await?;
        let memory = self.memory.clone();
        let mut memory = memory.lock().await;
        if !claimed.is_empty() {
            return self.obey(&claimed.messages, claimed.ack, &mut memory).await;
        }
        if memory.table.is_none() {
            memory.table = Some(self.unit.lease.table().await?);
        }
        let every = self.plan.settings.discover;
        let due = match (memory.looked, every) {
            (None, _) => true,
            (Some(looked), Some(every)) => looked.elapsed() >= every,
            (Some(_), None) => false,
        };
        let hinted = self.is_hinted(&mut memory);
        if due || hinted {
            self.explore(&mut memory).await?;
            memory.remember();
        }
        Ok(every.map_or(Turn::Idle, |every| {
            let since = memory.looked.map_or(Duration::ZERO, |looked| looked.elapsed());
            let next = if memory.hinted.is_empty() { every } else { every.min(HINT_REST) };
            Turn::IdleFor(next.saturating_sub(since).max(Duration::from_millis(10)))
        }))
    }

    /// Whether keyspace events told of a stream that is not known, and the last look is not too near.
    fn is_hinted(&self, memory: &mut Memory) -> bool {
        let settings = &self.plan.settings;
        if !settings.discover_hints || settings.discover.is_none() || settings.patterns.is_empty() {
            return false;
        }
        let old = memory.old.clone();
        let hints = memory.hints.get_or_insert_with(|| {
            let (rung, databases) = (self.unit.clone(), settings.databases.clone());
            let is_new =
                move |name: &StreamName| databases.binary_search(&name.db).is_ok() && !old.borrow().contains(name);
            Hints::start(self.plan.source.clone(), settings.patterns.clone(), is_new, move || rung.bell.notify_one())
        });
        memory.hinted.extend(hints.take());
        !memory.hinted.is_empty() && memory.looked.is_none_or(|looked| looked.elapsed() >= HINT_REST)
    }

    async fn obey(&self, messages: &[(EntryId, ScoutMessage)], ack: Ack, memory: &mut Memory) -> Result<Turn, Error> {
        let text = self.unit.lease.state();
        let state: ScoutState = match text.is_empty() {
            true => ScoutState::default(),
            false => {
                serde_json::from_str(&text).map_err(|e| Error::Refused(format!("the state cannot be read: {e}")))?
            }
        };
        let order = |message: &ScoutMessage| match message {
            ScoutMessage::Rescan {} => Order::Rescan,
            ScoutMessage::Pause {} => Order::Pause,
            ScoutMessage::Resume {} => Order::Resume,
        };
        let paused_ms = paused_after(state.paused_ms, messages.iter().map(|(id, message)| (*id, order(message))));
        if messages.iter().any(|(_, message)| *message == ScoutMessage::Rescan {}) {
            memory.looked = None;
        }
        let mut effects = Vec::new();
        if paused_ms != state.paused_ms {
            let value = paused_ms.map_or_else(String::new, |since| since.to_string());
            effects.push(Effect::Put { field: "paused_ms", value });
            effects.extend(self.tell(0..self.plan.settings.buckets)?);
        }
        self.unit.point(CrashPoint::AfterDecide).await;
        let state = serde_json::to_string(&ScoutState { paused_ms }).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack, effects }).await?;
        Ok(Turn::Worked)
    }

    /// Looks for streams, and commits what is new.
    async fn explore(&self, memory: &mut Memory) -> Result<(), Error> {
        let sight = self.unit.outside(look(&self.plan)).await;
        let sight = sight.map_err(|error| Error::Source(error.into()))?;
        for (db, reason) in &sight.faults {
            if !memory.is_told {
                tracing::warn!(unit = %self.unit.lease.unit(), db, reason, "a database is left out");
            }
        }
        memory.is_told = true;
        if sight.is_cut != memory.is_cut_told {
            memory.is_cut_told = sight.is_cut;
            let max = self.plan.settings.streams_max;
            if sight.is_cut {
                tracing::warn!(unit = %self.unit.lease.unit(), max, "there are more streams than streams_max; the rest is left out");
            }
        }
        let known = memory.table.clone().unwrap_or_default();
        let judged = judge(&self.plan.settings, &self.plan.own_prefix, &sight, &known);
        self.unit.point(CrashPoint::AfterDecide).await;
        self.unit.point(CrashPoint::AfterApply).await;
        for part in judged.changes.chunks(ROWS) {
            self.commit(part, &known).await?;
            let table = memory.table.get_or_insert_default();
            for (name, row) in part {
                match row {
                    Some(row) => table.insert(name.clone(), text(row)),
                    None => table.remove(name),
                };
            }
        }
        // A look that could not see everything is made again soon.
        let early = self.plan.settings.discover.map(|every| every.saturating_sub(AGAIN));
        memory.looked = match early {
            Some(early) if sight.is_partial => Instant::now().checked_sub(early),
            _ => Some(Instant::now()),
        };
        Ok(())
    }

    /// Commits some rows, and tells who copies them now, and who did.
    async fn commit(&self, changes: &[(String, Option<StreamRow>)], known: &Table) -> Result<(), Error> {
        let mut effects = Vec::with_capacity(changes.len() + 4);
        let mut buckets = std::collections::BTreeSet::new();
        for (name, row) in changes {
            let before = known.get(name).and_then(|text| serde_json::from_str::<StreamRow>(text).ok());
            let copies = |row: &StreamRow| row.bucket(name, self.plan.settings.buckets);
            buckets.extend(row.iter().chain(&before).map(copies));
            effects.push(match row {
                Some(row) => {
                    tracing::info!(unit = %self.unit.lease.unit(), stream = name, refused = row.refused, "stream found");
                    Effect::PutRow { row: name.clone(), value: text(row), capacity: self.plan.rows_max }
                }
                None => {
                    tracing::info!(unit = %self.unit.lease.unit(), stream = name, "stream gone");
                    Effect::DropRow { row: name.clone() }
                }
            });
        }
        effects.extend(self.tell(buckets)?);
        self.unit.commit(&Commit { effects, ..Commit::default() }).await?;
        Ok(())
    }

    /// Tells these buckets to look again.
    fn tell(&self, buckets: impl IntoIterator<Item = u32>) -> Result<Vec<Effect>, Error> {
        let mut effects = Vec::new();
        for bucket in buckets {
            let Some(actor) = self.plan.buckets.get(bucket as usize) else { continue };
            let to: Address = self.unit.address(actor);
            let messages = vec![Outgoing::new(&SyncMessage::Look {})?];
            effects.push(Effect::Send { to, capacity: self.plan.capacity, messages });
        }
        Ok(effects)
    }
}

fn text(row: &StreamRow) -> String {
    // A struct of texts and numbers has no way to fail.
    serde_json::to_string(row).unwrap_or_else(|_| "{}".to_owned())
}
