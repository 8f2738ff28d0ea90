//! The producers of the sync demo: they append, read through groups and delete, and keep a list of all that they did.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::cli::bench::wire::{Reply, Wire};
use crate::ids::EntryId;

/// Entries that are in each stream before the first node starts.
const PAST: usize = 2000;
/// Entries that each stream gets in a tick.
const PER_TICK: usize = 5;
/// Between two ticks.
const TICK: Duration = Duration::from_millis(50);
/// How long a writer tries to reach the source again.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// Bytes of the largest values.
const LARGE: usize = 4096;
/// The group that some streams have, and its consumers.
pub(super) const GROUP: &str = "workers";
const CONSUMERS: [&str; 2] = ["ann", "bob"];

/// A stream of the demo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub db: u16,
    pub key: String,
}

/// What was done with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deed {
    /// Of names and values, in order.
    pub digest: blake3::Hash,
    /// It was deleted from the source afterwards.
    pub deleted: bool,
}

/// Everything that was written, by stream and id.
pub(super) type Ledger = BTreeMap<Place, BTreeMap<EntryId, Deed>>;

/// Names and values of one entry.
pub(super) fn digest<'a>(fields: impl Iterator<Item = &'a [u8]>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher.finalize()
}

/// Threads that write.
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    deletes: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<io::Result<Ledger>>>,
}

impl Writers {
    /// Fills the streams and goes on, one thread for those of a database.
    pub fn start(port: u16, places: &[Place], seed: u64) -> io::Result<Self> {
        let mut writers =
            Self { stop: Arc::default(), deletes: Arc::default(), written: Arc::default(), threads: Vec::new() };
        let mut begun = Vec::new();
        for part in places.chunk_by(|a, b| a.db == b.db) {
            let mut writer = Writer {
                wire: connect(port, part[0].db)?,
                port,
                db: part[0].db,
                rng: StdRng::seed_from_u64(seed.wrapping_add(u64::from(part[0].db))),
                streams: part.iter().map(|place| (place.clone(), BTreeMap::new())).collect(),
                written: writers.written.clone(),
                deletes: writers.deletes.clone(),
            };
            writer.begin()?;
            begun.push(writer);
        }
        for mut writer in begun {
            let stop = writers.stop.clone();
            writers.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    writer.tick()?;
                    std::thread::park_timeout(TICK);
                }
                Ok(writer.streams)
            }));
        }
        Ok(writers)
    }

    /// Entries so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// From now on they delete too. What is deleted before a copy has begun is nobody's loss, and is not counted.
    pub fn may_delete(&self) {
        self.deletes.store(true, Ordering::Relaxed);
    }

    /// Ends them; everything they did.
    pub fn stop(self) -> io::Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::new();
        for thread in self.threads {
            ledger.extend(thread.join().map_err(|_| io::Error::other("a writer panicked"))??);
        }
        Ok(ledger)
    }
}

fn connect(port: u16, db: u16) -> io::Result<Wire> {
    let mut wire = Wire::connect(port)?;
    wire.call(&["SELECT", &db.to_string()])?;
    Ok(wire)
}

struct Writer {
    wire: Wire,
    port: u16,
    db: u16,
    rng: StdRng,
    streams: Ledger,
    written: Arc<AtomicU64>,
    deletes: Arc<AtomicBool>,
}

impl Writer {
    fn places(&self) -> Vec<Place> {
        self.streams.keys().cloned().collect()
    }

    fn begin(&mut self) -> io::Result<()> {
        for (number, place) in self.places().into_iter().enumerate() {
            self.append(&place, PAST)?;
            if number % 2 == 0 {
                self.wire.call(&["XGROUP", "CREATE", &place.key, GROUP, "0"])?;
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        for (number, place) in self.places().into_iter().enumerate() {
            self.append(&place, PER_TICK)?;
            if number % 2 == 0 {
                // A read or an acknowledgement that is lost is what consumers live with too.
                let _ = self.consume(&place.key);
            }
            if self.deletes.load(Ordering::Relaxed) && self.rng.random_ratio(1, 4) {
                self.delete(&place)?;
            }
        }
        Ok(())
    }

    /// Appends entries under ids of our own. An answer that is lost is made up for by the stream's last id: entries are
    /// appended in order, so those up to it are there.
    fn append(&mut self, place: &Place, count: usize) -> io::Result<()> {
        let known = self.streams.get(place).and_then(|stream| stream.last_key_value());
        let mut last = known.map_or(EntryId::ZERO, |(id, _)| *id);
        let mut entries: Vec<(EntryId, Vec<Vec<u8>>)> = Vec::with_capacity(count);
        for _ in 0..count {
            last = next_id(last);
            entries.push((last, fields(&mut self.rng, last)));
        }
        let mut rest = entries.as_slice();
        let begun = Instant::now();
        while !rest.is_empty() {
            if let Err(error) = self.send(&place.key, rest) {
                if begun.elapsed() > AWAY_MAX {
                    return Err(error);
                }
                std::thread::park_timeout(TICK);
                let Ok(stands) = self.last_id(&place.key) else { continue };
                rest = &rest[rest.partition_point(|(id, _)| *id <= stands)..];
                continue;
            }
            rest = &[];
        }
        let stream = self.streams.entry(place.clone()).or_default();
        for (id, fields) in &entries {
            let digest = digest(fields.iter().map(Vec::as_slice));
            stream.insert(*id, Deed { digest, deleted: false });
        }
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }

    fn send(&mut self, key: &str, entries: &[(EntryId, Vec<Vec<u8>>)]) -> io::Result<()> {
        for (id, fields) in entries {
            let id = id.to_string();
            let mut words: Vec<&[u8]> = vec![b"XADD", key.as_bytes(), id.as_bytes()];
            words.extend(fields.iter().map(Vec::as_slice));
            self.wire.push(&words);
        }
        self.wire.flush()?;
        for _ in entries {
            self.wire.reply()?;
        }
        Ok(())
    }

    /// The last id of a stream, over a new connection.
    fn last_id(&mut self, key: &str) -> io::Result<EntryId> {
        self.wire = connect(self.port, self.db)?;
        let Reply::List(pairs) = self.wire.call(&["XINFO", "STREAM", key])? else {
            return Err(io::Error::other("XINFO STREAM gave no list"));
        };
        let pair = pairs.chunks(2).find(|pair| pair[0] == Reply::Bytes(b"last-generated-id".to_vec()));
        match pair {
            Some([_, Reply::Bytes(id)]) => String::from_utf8_lossy(id).parse().map_err(io::Error::other),
            _ => Err(io::Error::other("XINFO STREAM without a last id")),
        }
    }

    /// One consumer takes some and acknowledges half of them.
    fn consume(&mut self, key: &str) -> io::Result<()> {
        let consumer = CONSUMERS[self.rng.random_range(0..CONSUMERS.len())];
        let reply = self.wire.call(&["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", "8", "STREAMS", key, ">"])?;
        let Reply::List(streams) = reply else { return Ok(()) };
        let Some(Reply::List(stream)) = streams.first() else { return Ok(()) };
        let Some(Reply::List(entries)) = stream.get(1) else { return Ok(()) };
        for entry in entries.iter().step_by(2) {
            let Reply::List(entry) = entry else { continue };
            let Some(Reply::Bytes(id)) = entry.first() else { continue };
            self.wire.call(&["XACK", key, GROUP, &String::from_utf8_lossy(id)])?;
        }
        Ok(())
    }

    /// Deletes one entry of the newest or of all; what was asked for is asked again until it is answered.
    fn delete(&mut self, place: &Place) -> io::Result<()> {
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        let among = if self.rng.random_ratio(1, 2) { 20.min(stream.len()) } else { stream.len() };
        let at = self.rng.random_range(0..among.max(1));
        let Some((id, deed)) = stream.iter_mut().rev().nth(at) else { return Ok(()) };
        deed.deleted = true;
        let id = id.to_string();
        let begun = Instant::now();
        while let Err(error) = self.wire.call(&["XDEL", &place.key, &id]) {
            if begun.elapsed() > AWAY_MAX {
                return Err(error);
            }
            std::thread::park_timeout(TICK);
            if let Ok(wire) = connect(self.port, self.db) {
                self.wire = wire;
            }
        }
        Ok(())
    }
}

/// The next id: the time, as producers have it, and above the last.
fn next_id(last: EntryId) -> EntryId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis());
    let now = u64::try_from(now).unwrap_or(0);
    match now > last.ms {
        true => EntryId { ms: now, seq: 0 },
        false => EntryId { ms: last.ms, seq: last.seq + 1 },
    }
}

/// Names and values: plain ones, the same name twice, names and values of any bytes, empty and large ones.
fn fields(rng: &mut StdRng, id: EntryId) -> Vec<Vec<u8>> {
    let text = |words: &str| words.as_bytes().to_vec();
    let mut any = |length: usize| -> Vec<u8> {
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    match id.seq.wrapping_add(id.ms) % 5 {
        0 => vec![text("a"), text("1"), text("a"), text("2"), text("b"), text("")],
        1 => vec![any(9), any(30), text("\r\n$-1\r\n"), any(3)],
        2 if id.seq.is_multiple_of(8) => vec![text("large"), any(LARGE)],
        _ => vec![text("id"), text(&id.to_string()), text("value"), text("what a sensor says")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_order_counts() {
        let first = next_id(EntryId::ZERO);
        let ahead = EntryId { ms: u64::MAX, seq: 4 };
        assert!(next_id(first) > first);
        assert_eq!(next_id(ahead), EntryId { ms: u64::MAX, seq: 5 }, "a clock that went back");
        let of = |fields: &[&[u8]]| digest(fields.iter().copied());
        assert_ne!(of(&[b"a", b"1", b"b", b"2"]), of(&[b"b", b"2", b"a", b"1"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    }
}
