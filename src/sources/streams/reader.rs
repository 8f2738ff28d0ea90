//! Reader: one connection that reads the streams of one database for one unit, a batch ahead of whoever writes.
//!
//! It is told a wish, reads, hands the batch over, and reads the next one while that is written. Where nothing comes it
//! asks the same again by itself, so an idle stream costs one blocking read each `poll`, however many there are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::ids::EntryId;
use crate::messages::sync::StreamName;
use crate::wire::look::{StreamFacts, ask_stream, read_stream};
use crate::wire::{Answer, Door, Line, Part, Request, Server, WireError, slot_of};

/// The pause before a lost connection is tried again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Streams that one read asks for what the server says of them too.
const FACTS_MAX: usize = 16;
/// How much an average entry may weigh so that each read may bring what the server says of its stream: that answer holds
/// two whole entries.
const FACTS_ENTRY_BYTES: usize = 32 * 1024;
/// Between two questions about streams that one command cannot wait for, those of several slots of a cluster; it doubles
/// while nothing comes.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// The longest such pause.
const ASK_AGAIN_MAX: Duration = Duration::from_millis(200);

/// How a unit reads.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    /// The way to the source.
    pub door: Door,
    /// How long one read waits.
    pub poll: Duration,
    /// Read through this group, as this consumer.
    pub group: Option<(String, String)>,
}

/// What is to be read next.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The streams, each from behind an id.
    pub streams: Vec<(Vec<u8>, EntryId)>,
    /// Most entries of each.
    pub count: usize,
    /// Wait for entries where there are none.
    pub waits: bool,
    /// Bytes of an average entry, as far as they are known.
    pub entry_bytes: usize,
}

/// What one read gave.
#[derive(Debug)]
pub struct Batch {
    /// The entries.
    pub answer: Answer,
    /// From behind which id each part was read, in the order of the parts.
    pub after: Vec<EntryId>,
    /// What the server said just afterwards of each stream, in the order of the parts; none where it was not asked, or
    /// the stream is gone.
    pub facts: Vec<Option<StreamFacts>>,
    /// The server that it comes from, and how often the reader has connected.
    pub server: Arc<Server>,
    /// How often the reader has connected: another number is another connection.
    pub connection: u64,
}

/// What the reader tells.
type Told = Result<Batch, WireError>;

/// A reader at work; it ends when this is dropped.
pub struct Reader {
    desk: Rc<Desk>,
    batches: mpsc::Receiver<Told>,
    task: actix_rt::task::JoinHandle<()>,
    /// A wish was told and its batch has not been taken yet.
    under_way: bool,
}

/// What reader and unit leave for each other; both live on one thread.
#[derive(Default)]
struct Desk {
    wish: RefCell<Option<Wish>>,
    told: Notify,
    spare: RefCell<Vec<u8>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Begins to read in this database; `bell` is rung for each batch.
    pub fn start(plan: ReadPlan, db: u16, bell: impl Fn() + 'static) -> Self {
        let desk = Rc::new(Desk::default());
        let (told, batches) = mpsc::channel(1);
        let mut work = Work {
            plan,
            db,
            line: None,
            connection: 0,
            desk: desk.clone(),
            wish: Wish::default(),
            request: Request::new(),
            is_split: false,
        };
        let task = actix_rt::spawn(async move { work.run(told, bell).await });
        Self { desk, batches, task, under_way: false }
    }

    /// Whether a wish is under way. Another one told meanwhile counts only when nothing came for the first.
    pub fn is_busy(&self) -> bool {
        self.under_way
    }

    /// Tells it what to read next.
    pub fn wish(&mut self, wish: Wish) {
        *self.desk.wish.borrow_mut() = Some(wish);
        self.under_way = true;
        self.desk.told.notify_one();
    }

    /// The batch, if it has come.
    pub fn take(&mut self) -> Option<Told> {
        let told = self.batches.try_recv().ok()?;
        self.under_way = self.desk.wish.borrow().is_some();
        Some(told)
    }

    /// Gives the memory of a batch back.
    pub fn reuse(&self, bytes: Vec<u8>) {
        let mut spare = self.desk.spare.borrow_mut();
        if bytes.capacity() > spare.capacity() {
            *spare = bytes;
        }
    }
}

struct Work {
    plan: ReadPlan,
    db: u16,
    line: Option<(Line, Arc<Server>)>,
    connection: u64,
    desk: Rc<Desk>,
    wish: Wish,
    request: Request,
    /// The last read was several commands, and none of them waited.
    is_split: bool,
}

impl Work {
    async fn run(&mut self, told: mpsc::Sender<Told>, bell: impl Fn()) {
        let mut pause = PAUSE_MIN;
        loop {
            let Some(wish) = self.desk.wish.borrow_mut().take() else {
                self.desk.told.notified().await;
                continue;
            };
            self.wish = wish;
            let mut again = ASK_AGAIN;
            let batch = loop {
                match self.read().await {
                    // Nothing came: the same again, unless the unit has another wish by now.
                    Ok(batch) if batch.answer.is_empty() && self.wish.waits => {
                        if self.is_split {
                            let _ = tokio::time::timeout(again.min(self.plan.poll), self.desk.told.notified()).await;
                            again = (again * 2).min(ASK_AGAIN_MAX);
                        }
                        if let Some(wish) = self.desk.wish.borrow_mut().take() {
                            self.wish = wish;
                        }
                    }
                    other => break other,
                }
            };
            let failed = batch.is_err();
            if told.send(batch).await.is_err() {
                return;
            }
            bell();
            if !failed {
                pause = PAUSE_MIN;
                continue;
            }
            self.line = None;
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn read(&mut self) -> Result<Batch, WireError> {
        let (mut line, server) = match self.line.take().filter(|(line, _)| line.is_whole()) {
            Some(open) => open,
            None => {
                let (line, server) = self.plan.door.open(self.db).await?;
                self.connection += 1;
                (line, Arc::new(server))
            }
        };
        line.reuse(std::mem::take(&mut *self.desk.spare.borrow_mut()));
        let groups = self.groups(server.is_cluster);
        self.is_split = groups.len() > 1;
        let answer = self.exchange(&mut line, &groups).await;
        let batch = match answer {
            Ok((answer, facts)) => {
                let after = answer.parts.iter().map(|part| self.asked(part)).collect();
                Batch { answer, after, facts, server: server.clone(), connection: self.connection }
            }
            Err(error) => return Err(error),
        };
        self.line = Some((line, server));
        Ok(batch)
    }

    fn asked(&self, part: &Part) -> EntryId {
        self.wish.streams.iter().find(|(key, _)| *key == part.key).map_or(EntryId::ZERO, |(_, after)| *after)
    }

    /// The streams that one command may ask for: all of them, or, in a cluster, those of one slot.
    fn groups(&self, is_cluster: bool) -> Vec<Vec<usize>> {
        if !is_cluster {
            return vec![(0..self.wish.streams.len()).collect()];
        }
        let mut groups: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (at, (key, _)) in self.wish.streams.iter().enumerate() {
            groups.entry(slot_of(key)).or_default().push(at);
        }
        groups.into_values().collect()
    }

    async fn exchange(
        &mut self,
        line: &mut Line,
        groups: &[Vec<usize>],
    ) -> Result<(Answer, Vec<Option<StreamFacts>>), WireError> {
        let poll = if self.wish.waits && groups.len() == 1 { self.plan.poll } else { Duration::ZERO };
        let few = self.wish.streams.len() <= FACTS_MAX && self.wish.entry_bytes <= FACTS_ENTRY_BYTES;
        self.request.clear();
        groups.iter().for_each(|group| self.ask_entries(group, poll));
        if few {
            self.wish.streams.iter().for_each(|(key, _)| ask_stream(&mut self.request, key));
        }
        line.send(&self.request).await?;
        let mut answer = line.streams(poll, "XREAD").await;
        for _ in 1..groups.len() {
            let more = line.streams(poll, "XREAD").await;
            // One that fails fails the read, but every answer is taken from the line.
            answer = answer.and_then(|mut all| more.map(|more| all.append(more)).map(|()| all));
        }
        let mut known = Vec::new();
        if few {
            for (key, _) in &self.wish.streams {
                let reply = line.reply().await?;
                known.push((key.clone(), read_stream(line, &reply)?));
            }
        }
        let answer = answer?;
        if !few && self.wish.entry_bytes <= FACTS_ENTRY_BYTES {
            let mut request = Request::new();
            answer.parts.iter().for_each(|part| ask_stream(&mut request, &part.key));
            let replies = line.all(&request).await?;
            for (part, reply) in answer.parts.iter().zip(&replies) {
                known.push((part.key.clone(), read_stream(line, reply)?));
            }
        }
        let facts = |part: &Part| known.iter().find(|(key, _)| *key == part.key).and_then(|(_, facts)| facts.clone());
        let facts = answer.parts.iter().map(facts).collect();
        Ok((answer, facts))
    }

    fn ask_entries(&mut self, group: &[usize], poll: Duration) {
        let waits = !poll.is_zero();
        let fixed = 3 + if waits { 2 } else { 0 } + if self.plan.group.is_some() { 3 } else { 0 };
        let request = &mut self.request;
        request.begin(fixed + 1 + 2 * group.len());
        match &self.plan.group {
            None => request.argument(b"XREAD"),
            Some((group, consumer)) => {
                request.argument(b"XREADGROUP");
                request.argument(b"GROUP");
                request.argument(group.as_bytes());
                request.argument(consumer.as_bytes());
            }
        }
        request.argument(b"COUNT");
        request.argument(self.wish.count.max(1).to_string().as_bytes());
        if waits {
            request.argument(b"BLOCK");
            request.argument(poll.as_millis().to_string().as_bytes());
        }
        request.argument(b"STREAMS");
        group.iter().for_each(|at| request.argument(&self.wish.streams[*at].0));
        for (_, after) in group.iter().map(|at| &self.wish.streams[*at]) {
            match self.plan.group {
                None => request.argument(after.to_string().as_bytes()),
                Some(_) => request.argument(b">"),
            }
        }
    }
}

/// Names the streams of a wish; kept here so that callers do not build keys by hand.
impl Wish {
    /// Adds a stream.
    pub fn add(&mut self, name: &StreamName, after: EntryId) {
        self.streams.push((name.key.clone(), after));
    }
}
