//! LogWatcher: follows log files; each complete line goes into the stream once, and to whoever listens.
//!
//! Reads    log files; mailbox `log_watcher` (orders: look now, pause, resume); events of folders, as hints
//! Writes   output `lines`; its table of files; publishes lines
//! Promise  each complete line of a followed file is in the stream exactly once, those of a file in their order
//! Crash    what was read and not committed is read again, from the places in the table

mod again;
mod figures;
mod orphans;
mod room;
mod state;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use tokio::sync::Notify;

use super::turn::crash::CrashPoint;
use super::turn::room::Room;
use super::turn::{self, Claimed, Error, Order, Tick, Turn, Unit, paused_after};
use crate::ids::UnitId;
use crate::messages::line::Line;
use crate::messages::log_file::LogFile;
use crate::messages::log_order::WatcherMessage;
use crate::sources::files::{Batch, Budget, LogFiles};
use crate::store::effect::{Ack, Commit, Effect};
use crate::store::lines::{Lines, Packed, Publishing};
use crate::store::trim::Keep;
use again::Again;
use figures::Figures;
use orphans::Others;
pub use state::{WatcherState, rewind};

/// The stream that lines go to, an output of the pipeline.
pub const LINES: &str = "lines";

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct LogWatcher {
    /// Its unit.
    unit: Arc<Unit>,
    /// The files. They outlive a life of the unit: a file that was deleted is still open when a failover of Redis takes
    /// lines back, and is read again from there.
    files: LogFiles,
    /// Its bounds.
    plan: Arc<WatchPlan>,
    /// What it remembers of this life, beside checkpoint and table.
    life: Arc<Life>,
}

/// The bounds of a LogWatcher, from `[logs.NAME]`.
#[derive(Debug, Clone)]
pub struct WatchPlan {
    /// What one commit may hold.
    pub budget: Budget,
    /// Files are read from their first byte, those of the very first look too: nothing must be noted of that look.
    pub from_beginning: bool,
    /// Files whose places are kept.
    pub places_max: u64,
    /// Entries that the stream may hold.
    pub capacity: u64,
    /// What of the stream stays.
    pub keep: Keep,
    /// Where lines are published, if at all.
    pub publish: Option<Publishing>,
}

/// What one life remembers. Losing it costs a look at all files.
struct Life {
    figures: Figures,
    memory: Mutex<Memory>,
    others: Others,
    room: Room,
    /// Rung by a turn that found nothing: from then on an event of the files wakes it.
    idle: Notify,
}

#[derive(Default)]
struct Memory {
    /// The files stand where the table says.
    restored: bool,
    /// What is read and not committed yet, in order.
    ahead: VecDeque<Ready>,
    /// Lines that may stand in the stream already.
    again: Option<Again>,
    /// The last request was a commit, and it would have delivered what waits.
    asked: bool,
}

/// What is read, and its lines as they travel where that is written down already.
struct Ready {
    batch: Batch,
    packed: Option<Packed>,
}

/// Batches that are read and not committed: the one under way, and the next.
const AHEAD_MAX: usize = 2;

impl Actor for LogWatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (files, unit, life) = (self.files.clone(), self.unit.clone(), self.life.clone());
        // It lives in the actor's context, so it ends with the actor, however that ends.
        let listening = async move {
            loop {
                life.idle.notified().await;
                files.wait(unit.idle_poll).await;
                unit.bell.notify_one();
            }
        };
        ctx.spawn(actix::fut::wrap_future::<_, Self>(listening));
        let (files, poll) = (self.files.clone(), self.unit.idle_poll);
        // While Redis is away or the stream is full no turn comes as far as the files; what appears meanwhile, and may be
        // rotated and deleted, is opened all the same.
        let looking = async move {
            loop {
                tokio::time::sleep(poll).await;
                files.look().await;
            }
        };
        ctx.spawn(actix::fut::wrap_future::<_, Self>(looking));
        turn::begin(ctx);
    }
}

impl Handler<Tick> for LogWatcher {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl LogWatcher {
    /// A LogWatcher in a new life of its unit. `files` are the same in each life of this process.
    pub fn new(unit: Arc<Unit>, files: LogFiles, plan: Arc<WatchPlan>) -> Self {
        Self::with_readers(unit, files, plan, Vec::new())
    }

    /// As [`LogWatcher::new`], with the units that read the stream by their offset: no line that one of them has not read
    /// leaves it, or it is counted.
    pub fn with_readers(unit: Arc<Unit>, files: LogFiles, plan: Arc<WatchPlan>, readers: Vec<UnitId>) -> Self {
        let life = Life {
            figures: Figures::new(&unit),
            memory: Mutex::default(),
            others: Others::default(),
            room: Room::new(LINES, plan.capacity, plan.keep, readers),
            idle: Notify::new(),
        };
        Self { unit, files, plan, life: Arc::new(life) }
    }

    async fn take_turn(self) -> Result<Turn, Error> {
        let orders = self.orders().await?;
        let mut state = WatcherState::parse(&self.unit.lease.state()).map_err(Error::Refused)?;
        if !self.memory().restored {
            self.restore(&state).await?;
        }
        if let Some(lines) = state.back {
            return self.go_back(state, lines, orders.ack).await;
        }
        let wishes = orders.messages.iter().map(|(entry, message)| (*entry, order(*message)));
        state.paused_ms = paused_after(state.paused_ms, wishes);
        let Some(ready) = self.next(&state).await else {
            if orders.is_empty() {
                return self.rest().await;
            }
            self.unit.commit(&Commit { state: Some(state.text()?), ack: orders.ack, effects: Vec::new() }).await?;
            return Ok(Turn::Worked);
        };
        self.unit.point(CrashPoint::AfterDecide).await;
        if let Err(error) = self.make_room().await {
            self.memory().ahead.push_front(ready);
            return Err(error);
        }
        self.settle(ready, state, orders.ack).await
    }

    /// The orders that wait. After a commit that delivered none, nobody is asked: the next commit would deliver them.
    async fn orders(&self) -> Result<Claimed<WatcherMessage>, Error> {
        if std::mem::take(&mut self.memory().asked) && !self.unit.lease.has_delivery() {
            return Ok(Claimed { messages: Vec::new(), ack: Ack::Nothing, next: None });
        }
        self.unit.claim(|_, _| Vec::new()).await
    }

    /// Puts the files where the table says.
    async fn restore(&self, state: &WatcherState) -> Result<(), Error> {
        let table = self.unit.lease.table().await?;
        let mut records = Vec::with_capacity(table.len());
        for (file, text) in &table {
            let record = LogFile::parse(text).map_err(|why| Error::Refused(format!("the place in {file}: {why}")))?;
            records.push(record);
        }
        let again = self.unit.outside(Again::begin(&self.unit, state, &records)).await?;
        self.unit.outside(self.files.restore(records, state.begun || self.plan.from_beginning)).await;
        let mut memory = self.memory();
        (memory.restored, memory.again) = (true, again);
        memory.ahead.clear();
        Ok(())
    }

    /// What is to be committed next: what is in hand after a refusal, else what the files give.
    async fn next(&self, state: &WatcherState) -> Option<Ready> {
        let ahead = self.memory().ahead.pop_front();
        if ahead.is_some() {
            return ahead;
        }
        let budget = match state.paused_ms {
            None => self.plan.budget,
            // The files are looked at all the same: what is rotated meanwhile is held open.
            Some(_) => Budget { lines: 0, bytes: 0 },
        };
        let ready = self.unit.outside(self.read(budget)).await;
        self.life.figures.look(&self.unit, &self.files);
        ready
    }

    /// What the files give, written down for its commit.
    async fn read(&self, budget: Budget) -> Option<Ready> {
        // After a rewind lines are left out of it that only the commit tells.
        let packer = self.memory().again.is_none().then(|| self.unit.lease.packer(LINES));
        let pack =
            move |batch: &Batch| packer.filter(|_| !batch.lines.is_empty()).map(|packer| packer.pack(&batch.lines));
        self.files.next_batch(budget, pack).await.map(|(batch, packed)| Ready { batch, packed })
    }

    /// Commits a batch, and reads the next meanwhile.
    async fn settle(&self, ready: Ready, mut state: WatcherState, ack: Ack) -> Result<Turn, Error> {
        let Ready { mut batch, packed } = ready;
        let read = batch.lines.len();
        let lines = self.new_lines(std::mem::take(&mut batch.lines));
        state.lines += lines.len() as u64;
        state.begun |= batch.begun;
        again::caught_up(&mut state, &batch.records, &batch.gone);
        let (count, bytes) = (lines.len(), lines.iter().map(|line| line.bytes.len()).sum());
        let commit = Commit { state: Some(state.text()?), ack, effects: self.effects(&batch, lines, packed) };
        let ahead = async {
            // Nothing is read ahead of what may not be read at all.
            if state.paused_ms.is_some() || read == 0 || self.memory().ahead.len() + 1 >= AHEAD_MAX {
                return None;
            }
            self.read(self.plan.budget).await
        };
        self.unit.point(CrashPoint::AfterApply).await;
        let (committed, ahead) = futures_util::future::join(self.unit.commit(&commit), ahead).await;
        if let Err(error) = committed {
            // If it was done all the same, the next try is told that the tip has moved, and all is read from the table.
            let (lines, packed) = lines_of(commit);
            batch.lines = lines;
            let mut memory = self.memory();
            memory.ahead.extend(ahead);
            memory.ahead.push_front(Ready { batch, packed });
            return Err(error.into());
        }
        self.files.committed(&batch);
        self.life.figures.committed(&self.unit, count, bytes, read - count);
        let mut memory = self.memory();
        memory.asked = true;
        memory.ahead.extend(ahead);
        Ok(Turn::Worked)
    }

    /// The lines of a batch that the stream lacks: all of them, except after a rewind.
    fn new_lines(&self, mut lines: Vec<Line>) -> Vec<Line> {
        if let Some(again) = &self.memory().again {
            lines.retain(|line| !again.has(&line.id));
        }
        lines
    }

    fn effects(&self, batch: &Batch, lines: Vec<Line>, packed: Option<Packed>) -> Vec<Effect> {
        let (output, capacity) = (LINES.to_owned(), self.plan.capacity);
        let lines = Lines { output, capacity, lines, publish: self.plan.publish.clone(), packed };
        let put = |(row, record): &(String, LogFile)| Effect::PutRow {
            row: row.clone(),
            value: record.to_json(),
            capacity: self.plan.places_max,
        };
        let put = batch.records.iter().map(put);
        let gone = batch.gone.iter().map(|row| Effect::DropRow { row: row.clone() });
        std::iter::once(Effect::Lines(lines)).chain(put).chain(gone).collect()
    }

    /// Nothing waits: figures are brought up to date, and the next event or the clock wakes it.
    async fn rest(&self) -> Result<Turn, Error> {
        if self.life.others.is_due() {
            let orphans = self.life.others.look(&self.unit).await?;
            self.life.figures.orphans(orphans);
        }
        if self.unit.lease.appended().length > 0 {
            self.make_room().await?;
        }
        self.life.idle.notify_one();
        Ok(Turn::Idle)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.life.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of a commit that was refused.
fn lines_of(commit: Commit) -> (Vec<Line>, Option<Packed>) {
    let lines = |effect| match effect {
        Effect::Lines(lines) => Some((lines.lines, lines.packed)),
        _ => None,
    };
    commit.effects.into_iter().find_map(lines).unwrap_or_default()
}

fn order(message: WatcherMessage) -> Order {
    match message {
        WatcherMessage::Rescan {} => Order::Rescan,
        WatcherMessage::Pause {} => Order::Pause,
        WatcherMessage::Resume {} => Order::Resume,
    }
}
