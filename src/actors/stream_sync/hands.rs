//! Hands: what a bucket holds between two turns: its streams, its readers, its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::SyncPlan;
use super::stream::{Phase, Stream};
use crate::actors::turn::{Error, Unit};
use crate::ids::EntryId;
use crate::messages::sync::{StreamName, StreamRow};
use crate::sinks::replica::{MARKS, Mark, Writer, Writers, mark};
use crate::sources::streams::{Reader, Wish};
use crate::store::effect::Effect;
use crate::store::table::Table;
use crate::wire::look::{StreamFacts, stream_facts};
use crate::wire::{Line, Lines, Node, Nodes, WireError};

/// Streams that one read asks for while they have a backlog.
const GROUP: usize = 16;
/// Entries of the first read of a stream whose entries are not known yet.
const FIRST_COUNT: usize = 16;
/// Between two looks at streams of the source that are gone.
pub(super) const GONE_AGAIN: Duration = Duration::from_secs(10);
/// The shortest pause.
const DUE_MIN: Duration = Duration::from_millis(10);
/// Between two looks at all streams of a database while some of them have a backlog.
const ALL_EVERY: Duration = Duration::from_millis(50);

/// Everything of a bucket that is not stored.
#[derive(Default)]
pub(super) struct Hands {
    pub streams: BTreeMap<StreamName, Stream>,
    pub readers: BTreeMap<Place, Reading>,
    /// The target.
    pub target: Writers,
    /// The source, for what is not bulk.
    pub source: Option<Lines>,
    pub is_loaded: bool,
    pub is_paused: bool,
    pub limiter: Limiter,
    pub reported: Option<Instant>,
    /// When nothing was due in the background last.
    pub tended: Option<Instant>,
    /// Positions are not published before this, since replicas or the disk lack them.
    pub withheld: Option<Instant>,
}

/// What one connection can read: a database, on one node where the source is a cluster.
pub(super) type Place = (u16, Node);

/// A reader, and whose turn it is.
pub(super) struct Reading {
    pub reader: Reader,
    /// Behind which stream the next group begins.
    next: Option<StreamName>,
    all_due: Instant,
}

impl Hands {
    /// Nothing is read any more; the connections stay.
    pub(super) fn rest(&mut self) {
        self.readers.clear();
        for stream in self.streams.values_mut() {
            stream.read = stream.position;
        }
    }

    /// After a fault of the world: connections are made anew, and every stream is compared again.
    pub(super) fn let_go(&mut self) {
        self.rest();
        self.target.let_go();
        self.source = None;
        for stream in self.streams.values_mut() {
            if stream.phase == Phase::Live {
                stream.phase = Phase::New;
            }
        }
    }

    /// Takes over the list of streams and what is noted of them.
    pub(super) fn adopt(&mut self, plan: &SyncPlan, rows: &Table, notes: &Table) {
        let mut names = BTreeSet::new();
        for (row, value) in rows {
            let says: StreamRow = serde_json::from_str(value).unwrap_or_default();
            if !says.refused.is_empty() || says.bucket(row, plan.settings.buckets) != plan.bucket {
                continue;
            }
            let Some(name) = says.name(row) else { continue };
            names.insert(name.clone());
            let known = notes.get(row).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            let target = plan.settings.target_key(name.db, &name.key);
            self.streams.entry(name).or_insert_with(|| Stream::new(target, known));
        }
        self.streams.retain(|name, _| names.contains(name));
        let databases: BTreeSet<u16> = self.streams.keys().map(|name| name.db).collect();
        self.readers.retain(|(db, _), _| databases.contains(db));
    }

    /// Lets streams go on that were left alone; answers the notes that say so.
    pub(super) fn retry(&mut self, meant: impl Fn(&StreamName) -> bool, rows_max: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (name, stream) in self.streams.iter_mut().filter(|(name, _)| meant(name)) {
            if stream.phase == Phase::Stopped {
                stream.phase = Phase::New;
                stream.notes.stopped.clear();
                effects.push(stream.row(name, rows_max));
            }
        }
        effects
    }

    /// A connection to the target.
    pub(super) async fn open_target(&mut self, plan: &SyncPlan) -> Result<(), Error> {
        let opened = self.target.open(&plan.target(), plan.settings.target_db, plan.links()).await;
        opened.map_err(|error| Error::Source(error.into()))
    }

    /// The connections that are no reader's, of the nodes that have this stream on the source and on the target.
    pub(super) async fn both(
        &mut self,
        plan: &SyncPlan,
        name: &StreamName,
    ) -> Result<(&mut Line, &mut Writer), WireError> {
        let key = self.streams.get(name).map(|stream| stream.target.clone());
        let key = key.unwrap_or_else(|| plan.settings.target_key(name.db, &name.key));
        let source = self.source.get_or_insert_with(|| Lines::new(plan.source()));
        Ok((source.of(name.db, &name.key).await?, self.target.of(&key).await?))
    }

    /// How both ends of a stream stand; none of the source where it has no such stream. Each is asked at the node that has
    /// the slot and, where that node says so, at the one that the slot is on its way to: from then on until the next time.
    pub(super) async fn locate(
        &mut self,
        plan: &SyncPlan,
        name: &StreamName,
    ) -> Result<(Option<StreamFacts>, Option<StreamFacts>), WireError> {
        let key = plan.settings.target_key(name.db, &name.key);
        self.target.forget(&key);
        let source = self.source.get_or_insert_with(|| Lines::new(plan.source()));
        source.forget(&name.key);
        let here = match stream_facts(source.of(name.db, &name.key).await?, &name.key).await {
            Err(error) if source.follow(&name.key, &error) => {
                stream_facts(source.of(name.db, &name.key).await?, &name.key).await
            }
            facts => facts,
        };
        let Some(here) = here? else { return Ok((None, None)) };
        let there = match self.target.of(&key).await?.look_again(&key).await {
            Err(error) if self.target.follow(&key, &error) => self.target.of(&key).await?.look_again(&key).await,
            facts => facts,
        };
        Ok((Some(here), there?))
    }

    /// Marks a stream of the target as ours, or learns whose it is.
    pub(super) async fn mark(&mut self, key: &[u8], owner: &str) -> Result<Mark, WireError> {
        self.target.forget(MARKS);
        match mark(self.target.of_marks().await?.line(), key, owner).await {
            Err(error) if self.target.follow(MARKS, &error) => {
                mark(self.target.of_marks().await?.line(), key, owner).await
            }
            mark => mark,
        }
    }

    /// What the source consists of, and what it says of itself, as far as it was asked.
    pub(super) fn source_nodes(&self) -> Option<&Nodes> {
        self.source.as_ref().and_then(Lines::known)
    }

    /// Tells every reader that has nothing to do what to read next.
    pub(super) fn tell_readers(&mut self, plan: &SyncPlan, unit: &Arc<Unit>) {
        let live = self.streams.iter().filter(|(_, stream)| stream.phase == Phase::Live);
        let places: BTreeSet<Place> = live.map(|(name, stream)| (name.db, stream.node.clone())).collect();
        for place in places {
            let door = self.source_nodes().map_or_else(|| plan.source(), |nodes| nodes.door(&place.1));
            let reading = self.readers.entry(place.clone()).or_insert_with(|| {
                let rung = unit.clone();
                let reader = Reader::start(plan.reading(door), place.0, move || rung.bell.notify_one());
                Reading { reader, next: None, all_due: Instant::now() }
            });
            if !reading.reader.is_busy() {
                reading.tell(plan, &place, &self.streams);
            }
        }
    }

    /// Another wish in place of the one under way: a stream came, or stands elsewhere.
    pub(super) fn tell_anew(&mut self, plan: &SyncPlan, db: u16) {
        for (place, reading) in self.readers.iter_mut().filter(|(place, _)| place.0 == db) {
            reading.tell(plan, place, &self.streams);
        }
    }

    /// Whether a reader is at work.
    pub(super) fn is_reading(&self) -> bool {
        self.readers.values().any(|reading| reading.reader.is_busy())
    }

    /// How long nothing has to be done, unless a reader rings.
    pub(super) fn next_due(&self, plan: &SyncPlan) -> Duration {
        let idle = plan.settings.groups.unwrap_or(Duration::from_secs(5));
        let gone = self.streams.values().filter(|stream| stream.phase == Phase::Gone);
        let due = |stream: &Stream| stream.tended.map_or(Duration::ZERO, |at| GONE_AGAIN.saturating_sub(at.elapsed()));
        gone.map(due).min().map_or(idle, |due| idle.min(due.max(DUE_MIN)))
    }
}

impl Reading {
    fn tell(&mut self, plan: &SyncPlan, (db, node): &Place, streams: &BTreeMap<StreamName, Stream>) {
        let of_db = || streams.iter().filter(|(n, s)| n.db == *db && s.node == *node && s.phase == Phase::Live);
        let count = of_db().count();
        if count == 0 {
            return;
        }
        let hot = of_db().filter(|(_, stream)| stream.hot).count();
        let now = Instant::now();
        let all = count <= GROUP || hot == 0 || now >= self.all_due;
        let chosen: Vec<(&StreamName, &Stream)> = if all {
            self.all_due = now + ALL_EVERY;
            of_db().collect()
        } else {
            let behind = |(name, _): &(&StreamName, &Stream)| self.next.as_ref().is_some_and(|next| *name <= next);
            let (before, after): (Vec<_>, Vec<_>) = of_db().filter(|(_, stream)| stream.hot).partition(behind);
            after.into_iter().chain(before).take(GROUP).collect()
        };
        self.next = chosen.last().filter(|_| !all).map(|(name, _)| (*name).clone());
        let mut wish = Wish { waits: hot == 0, ..Wish::default() };
        let heaviest = chosen.iter().map(|(_, stream)| stream.entry_bytes).max().unwrap_or(0);
        let unknown = chosen.iter().any(|(_, stream)| stream.entry_bytes == 0);
        wish.entry_bytes = heaviest;
        wish.count = count_of(plan, chosen.len(), heaviest, unknown);
        chosen.into_iter().for_each(|(name, stream)| wish.add(name, stream.read));
        self.reader.wish(wish);
    }
}

/// Entries to ask for of each stream, so that all of them together are one batch. A stream whose entries nobody has
/// seen is asked for few: what comes is bounded by the count alone.
fn count_of(plan: &SyncPlan, streams: usize, entry_bytes: usize, unknown: bool) -> usize {
    let by_bytes = plan.settings.batch_bytes / entry_bytes.max(1) / streams.max(1);
    let by_count = if streams > GROUP { plan.settings.batch_entries / streams } else { plan.settings.batch_entries };
    let count = by_count.min(if entry_bytes == 0 { usize::MAX } else { by_bytes }).max(1);
    if unknown { count.min(FIRST_COUNT) } else { count }
}

/// What may be written in a second.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// Not before.
    free_at: Option<Instant>,
}

impl Limiter {
    /// How long to wait before so much is written. The next one waits for this one's share of a second.
    pub(super) fn pause(&mut self, plan: &SyncPlan, entries: usize, bytes: usize) -> Duration {
        let share = |amount: usize, rate: u64| {
            // Buckets share the rate evenly.
            if rate == 0 { 0.0 } else { amount as f64 * f64::from(plan.settings.buckets) / rate as f64 }
        };
        let takes = share(entries, plan.settings.rate_entries).max(share(bytes, plan.settings.rate_bytes));
        if takes == 0.0 {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let begins = self.free_at.map_or(now, |at| at.max(now));
        self.free_at = Some(begins + Duration::from_secs_f64(takes.min(3600.0)));
        begins.duration_since(now)
    }
}

/// The position that a stream is to be read behind, where it stands on the target.
pub(super) fn stand(stream: &mut Stream, at: EntryId) {
    stream.position = at;
    stream.read = at;
}
