//! A held unit: the fencing token, the tip, and the three things that may be done under them.
//!
//! The lease is only a hint about who should act (G4); what keeps a former holder from doing harm is the token
//! (G2), and what keeps a decision from resting on a lost history is the tip (G1, G3). See `docs/protocol.md`.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Store;
use super::effect::{Ack, Commit, Encoder, bound};
use super::error::StoreError;
use super::lines::{Appended, Lines};
use super::link::{Link, Told};
use super::reply::{Row, refusal};
use super::script;
pub use super::turn::{Committed, Delivery, Fate, Held, Inbox, Mail};
use crate::ids::{Address, EntryId, RandomId, Token, UnitId};

struct Inner {
    held: Held,
    state: String,
    /// Delivered and covered by the tip, not yet acknowledged.
    delivery: Option<Arc<Delivery>>,
}

/// One acquisition of one unit. Dropping it releases nothing: a holder that vanishes is waited out.
///
/// Keeps G2: only the newest holder of a lease can commit; a former one is refused and changes nothing, however late it
/// wakes.
///
/// Keeps G3: repeating a commit whose reply was lost changes nothing; a turn that is decided again is another commit.
pub struct Lease {
    store: Store,
    link: Link,
    unit: UnitId,
    mail: Mail,
    /// The node that held the unit before; empty if nobody did.
    pub node_before: String,
    format: u64,
    inner: Mutex<Inner>,
    /// Odd while a fenced request is, or may be, under way: then the tip in Redis may already be the next one.
    operations: AtomicU64,
    /// The home of the last answer, until that answer is known to be kept.
    unconfirmed: Mutex<Option<u64>>,
    /// A delivery has at most so many entries, and about so many bytes.
    delivery_max: (AtomicU32, AtomicUsize),
    /// How the stream of its lines stood last.
    pub(super) appended: Mutex<Appended>,
}

impl Lease {
    /// Takes the unit, if it is free, expired, or held by our own `previous` acquisition.
    ///
    /// A crash before the script ran changes nothing; after it, the unit waits for one lease time. Sending it twice
    /// is safe: the same acquisition gets the same token.
    pub async fn acquire(
        store: &Store,
        link: &Link,
        unit: &UnitId,
        mail: Mail,
        previous: Option<&RandomId>,
        fate: &Fate,
    ) -> Result<Self, StoreError> {
        let (owner, tip) = (RandomId::new(), RandomId::new());
        let keys = [
            store.keys.checkpoint(unit),
            store.keys.expiry(unit),
            store.keys.facts(&unit.pipeline),
            Inbox::of(unit, mail).key(&store.keys),
            store.keys.history(unit),
        ];
        let (word, reason) = match fate {
            Fate::Clean => ("none", ""),
            Fate::Failed(reason) => ("failed", shorten(reason)),
        };
        let options = link.options();
        let args: Vec<Vec<u8>> = [
            owner.as_str(),
            previous.map_or("", RandomId::as_str),
            &store.node,
            &options.lease.as_millis().to_string(),
            tip.as_str(),
            store.cluster.as_str(),
            &store.formats.newest().to_string(),
            &slot_name(unit, mail),
            word,
            reason,
            &options.limits.history_max.to_string(),
            if store.accept_data_loss { "1" } else { "0" },
            &store.formats.writes().to_string(),
            store.configs.get(&unit.pipeline).map_or("", String::as_str),
        ]
        .map(|arg| arg.as_bytes().to_vec())
        .into();
        let told = link.run_and_tell(&script::ACQUIRE, &keys, &args).await?;
        let mut row = Row::new("acquire", told.value)?;
        match row.text()?.as_str() {
            "OK" => {}
            "HELD" => return Err(StoreError::Held { node: row.text()?, left_ms: row.number()? }),
            "ALIEN" => return Err(StoreError::Alien { expected: store.cluster.to_string(), found: row.text()? }),
            "CONFIG" => return Err(StoreError::Config { generation: row.number()?, node: row.text()? }),
            "TOO_OLD" => return Err(StoreError::TooOld { needs: row.number()?, known: store.formats.newest() }),
            "BROKEN" => return Err(StoreError::Broken { key: row.text()?, reason: row.text()? }),
            other => return Err(StoreError::Protocol(format!("acquire: `{other}`"))),
        }
        if told.resent {
            // An earlier copy may yet run in another history, and leave this very incarnation there.
            return Box::pin(Self::acquire(store, link, unit, mail, Some(&owner), &Fate::Clean)).await;
        }
        let token = Token(row.number()?);
        let tip = RandomId::stored(&row.text()?);
        let seq = row.number()?;
        let limits = &options.limits;
        let delivery_max = (AtomicU32::new(limits.turn_entries_max), AtomicUsize::new(limits.turn_bytes_max));
        let _offset = row.text()?;
        let state = row.text()?;
        let node_before = row.text()?;
        let (_failed, _unfinished, format) = (row.number()?, row.number()?, row.number()?);
        Ok(Self {
            store: store.clone(),
            link: link.clone(),
            unit: unit.clone(),
            mail,
            node_before,
            format,
            inner: Mutex::new(Inner { held: Held { token, owner, tip, seq }, state, delivery: None }),
            operations: AtomicU64::new(0),
            // What it found is as much in doubt as what it wrote.
            unconfirmed: Mutex::new(Some(told.home)),
            delivery_max,
            appended: Mutex::default(),
        })
    }

    /// Which unit it is.
    pub fn unit(&self) -> &UnitId {
        &self.unit
    }

    /// How it reads its mailbox.
    pub fn mail(&self) -> Mail {
        self.mail
    }

    /// The stream that it reads.
    pub fn inbox(&self) -> Inbox {
        Inbox::of(&self.unit, self.mail)
    }

    /// The store that it was acquired from, for reads beside the lease.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The format that this life writes, states and messages alike: every live node reads it, and a node that does
    /// not is refused the unit. The same from the acquisition to the end of the life.
    pub fn format(&self) -> u64 {
        self.format
    }

    /// The connection that the turns use.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Bounds what one delivery holds from now on, in place of `mailbox.turn_entries_max` and `mailbox.turn_bytes_max`:
    /// for a unit whose batches have a bound of their own.
    pub fn deliver_at_most(&self, entries: u32, bytes: usize) {
        self.delivery_max.0.store(entries, Ordering::Relaxed);
        self.delivery_max.1.store(bytes, Ordering::Relaxed);
    }

    fn delivery_max(&self) -> (u32, usize) {
        (self.delivery_max.0.load(Ordering::Relaxed), self.delivery_max.1.load(Ordering::Relaxed))
    }

    /// Token, owner, tip and sequence as this holder knows them.
    pub fn held(&self) -> Held {
        self.lock().held.clone()
    }

    /// The state of the checkpoint (JSON); empty before the first commit.
    pub fn state(&self) -> String {
        self.lock().state.clone()
    }

    /// Whether entries were delivered that are not acknowledged yet. After a commit, none means that none waited.
    pub fn has_delivery(&self) -> bool {
        self.lock().delivery.is_some()
    }

    /// Whether nothing is left to do, ever: the slot is configured no more, and has nothing in hand after it looked.
    pub fn has_settled(&self) -> bool {
        self.mail == Mail::Owed && self.lock().delivery.is_none()
    }

    /// A number that changes with every fenced request, odd while one is under way and after one without an answer:
    /// the renewal compares what it saw only if this is even and unchanged.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// The entries to deal with: what the last commit delivered, else a fenced read. Empty: nothing waits.
    ///
    /// A crash after it leaves the entries where they are; they count as one unfinished attempt.
    pub async fn claim(&self) -> Result<Arc<Delivery>, StoreError> {
        loop {
            if let Some(delivery) = self.lock().delivery.clone() {
                return Ok(delivery);
            }
            if let Some(delivery) = self.read().await? {
                return Ok(delivery);
            }
        }
    }

    /// One fenced read; nothing if it must be asked anew, under a fresh tip.
    async fn read(&self) -> Result<Option<Arc<Delivery>>, StoreError> {
        let base = self.held();
        let new = RandomId::new();
        let (entries_max, bytes_max) = self.delivery_max();
        let mut args = self.fence_args(&base, &new);
        args.push(slot_name(&self.unit, self.mail).into_bytes());
        let count = if self.mail == Mail::Owed { 0 } else { entries_max };
        args.push(count.to_string().into_bytes());
        args.push(bytes_max.to_string().into_bytes());
        let (names, address) = (&self.store.keys, address(&self.unit));
        let keys = [names.checkpoint(&self.unit), self.inbox().key(names), names.later(&address)];
        let Answered { mut row, resent, settled: _settled, .. } = self.fenced(&script::READ, &keys, &args).await?;
        match row.text()?.as_str() {
            "OK" => {}
            "DUP" => {
                self.lock().held.tip = new;
                return Ok(None);
            }
            word => return Err(refusal(word, &mut row)?),
        }
        let delivered = row.number()? == 1;
        let (failed, unfinished, fault) = (row.number()?, row.number()?, row.text()?);
        let (entries, next_ms) = (row.entries()?, row.text()?.parse().ok());
        let delivery = Arc::new(Delivery { entries, failed, unfinished, fault, next_ms });
        if delivered {
            let mut inner = self.lock();
            inner.held.tip = new;
            if resent {
                return Ok(None);
            }
            inner.delivery = Some(delivery.clone());
        }
        Ok(Some(delivery))
    }

    /// Makes a turn durable: state, acknowledgement and every effect together or not at all (G1).
    ///
    /// A crash before the script ran leaves everything to be decided again; after it, everything is done. A lost
    /// answer is asked for again, verbatim, and changes nothing (G3). A refusal by the script means that nothing has
    /// changed; after `Unreachable`, `OutOfMemory` and a drop of this future it may have been done all the same, and
    /// then the next request answers `Moved`.
    pub async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let base = self.held();
        let new = RandomId::new();
        let lines = commit.lines()?;
        let (keys, args) = self.encode(commit, lines, &base, &new)?;
        let answered = match lines {
            Some(lines) => Box::pin(self.fenced_lines(lines, &keys, &args)).await?,
            None if commit.appends() => self.fenced(&script::COMMIT_NEEDED, &keys, &args).await?,
            None => self.fenced(&script::COMMIT_SPARED, &keys, &args).await?,
        };
        let Answered { mut row, resent, home, settled: _settled } = answered;
        let word = row.text()?;
        let committed = match word.as_str() {
            "OK" => Committed::Now,
            "DUP" => Committed::Before,
            word => return Err(refusal(word, &mut row)?),
        };
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(home);
        let seq = row.number()?;
        let delivery = match committed {
            // What a repeat delivers is not covered: an earlier copy may yet run in another history.
            Committed::Now if !resent => {
                let (failed, unfinished, fault) = (row.number()?, row.number()?, row.text()?);
                let entries = row.entries()?;
                if lines.is_some() {
                    self.note_lines(&mut row)?;
                }
                Some(Delivery { entries, failed, unfinished, fault, next_ms: None })
            }
            Committed::Now | Committed::Before => None,
        };
        let mut inner = self.lock();
        inner.held.tip = new;
        inner.held.seq = seq;
        if let Some(state) = &commit.state {
            inner.state.clone_from(state);
        }
        // What is not in hand now is asked for by the next claim; so is what a slot of a pool has not acknowledged.
        inner.delivery = delivery.filter(|delivery| !delivery.entries.is_empty()).map(Arc::new);
        Ok(committed)
    }

    /// Waits until what was answered last, to the acquisition or a commit, is kept as `redis.durability` asks.
    ///
    /// `Unconfirmed`: ask again. `Moved`: Redis is another server since, so acquire again: what was answered may be
    /// lost. A crash before or after changes nothing.
    pub async fn confirmed(&self) -> Result<(), StoreError> {
        let unconfirmed = || self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(home) = *unconfirmed() else { return Ok(()) };
        self.link.confirm(&self.store.keys.confirmed(), home).await.map_err(|error| match error {
            StoreError::Moved { .. } => StoreError::Moved { seq: self.held().seq },
            error => error,
        })?;
        *unconfirmed() = None;
        Ok(())
    }

    /// Gives the unit back, so that the heir need not wait for the lease to run out.
    ///
    /// A crash before it costs one lease time. Safe to send twice.
    pub async fn release(&self) -> Result<(), StoreError> {
        let held = self.held();
        let keys = [self.store.keys.checkpoint(&self.unit), self.store.keys.expiry(&self.unit)];
        let args = [held.token.to_string().into_bytes(), held.owner.as_str().as_bytes().to_vec()];
        self.fenced(&script::RELEASE, &keys, &args).await.map(drop)
    }

    async fn fenced(
        &self,
        script: &script::Script,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Answered<'_>, StoreError> {
        self.answered(script.name, self.link.run_and_tell(script, keys, args)).await
    }

    /// Counts a fenced request, and waits for its answer.
    pub(super) async fn answered(
        &self,
        name: &'static str,
        request: impl Future<Output = Result<Told, StoreError>>,
    ) -> Result<Answered<'_>, StoreError> {
        // Odd from here on. Only an answer makes it even again: after a drop of this future, or an error, the request
        // may still be on its way, and the tip with it.
        let begun = |n: u64| Some(if n.is_multiple_of(2) { n + 1 } else { n + 2 });
        let _ = self.operations.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begun);
        let told = request.await?;
        let settled = Settled(&self.operations);
        Ok(Answered { row: Row::new(name, told.value)?, resent: told.resent, home: told.home, settled })
    }

    pub(super) fn fence_args(&self, base: &Held, new: &RandomId) -> Vec<Vec<u8>> {
        [&base.token.to_string(), base.owner.as_str(), base.tip.as_str(), new.as_str()]
            .map(|arg| arg.as_bytes().to_vec())
            .into()
    }

    fn encode(
        &self,
        commit: &Commit,
        lines: Option<&Lines>,
        base: &Held,
        new: &RandomId,
    ) -> Result<(Vec<String>, Vec<Vec<u8>>), StoreError> {
        let names = &self.store.keys;
        let limits = &self.link.options().limits;
        let mut keys = vec![names.checkpoint(&self.unit), self.inbox().key(names), names.history(&self.unit)];
        keys.extend(lines.map(|lines| names.output(&self.unit.pipeline, &lines.output)));
        let mut encoder = Encoder::new(names, &self.unit, limits, keys);
        encoder.args = self.fence_args(base, new);
        let state = commit.state.as_deref().unwrap_or("");
        bound("the state", state.len(), limits.state_bytes_max, "mailbox.state_bytes_max")?;
        encoder.text(state);
        let (last, behind, count) = match commit.ack {
            Ack::Nothing => (String::new(), String::new(), 0),
            // Others read there too: only `trim` knows what all of them are through with.
            Ack::Through { last, count } if matches!(self.mail, Mail::Follow(_)) => {
                (last.to_string(), String::new(), count)
            }
            Ack::Through { last, count } => (last.to_string(), successor(last).to_string(), count),
        };
        encoder.text(&last);
        encoder.text(&behind);
        encoder.number(count);
        encoder.text(&slot_name(&self.unit, self.mail));
        let (entries_max, bytes_max) = self.delivery_max();
        encoder.number(u64::from(entries_max));
        encoder.number(bytes_max as u64);
        encoder.number(u64::try_from(limits.history_interval.as_millis()).unwrap_or(u64::MAX));
        encoder.number(u64::from(limits.history_max));
        // Bytes that are handed over are the lines' own a second time; the bound counts them once.
        let handed = lines.map_or(0, |lines| lines.describe(&mut encoder, self.appended().is_heard));
        encoder.effects(&commit.effects)?;
        let line_bytes = lines.map_or(0, Lines::bytes);
        let bytes = encoder.args.iter().map(Vec::len).sum::<usize>() + line_bytes - handed - encoder.buried_bytes;
        // The decision may be as large as what it was made from, and then some; the script's time is what is bounded.
        bound("a commit", bytes, 4 * limits.turn_bytes_max, "mailbox.turn_bytes_max")?;
        Ok((encoder.keys, encoder.args))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is locked; a poisoned value would still be whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a fenced request.
pub(super) struct Answered<'a> {
    pub(super) row: Row,
    /// It was sent more than once.
    resent: bool,
    /// The home that it comes from.
    home: u64,
    /// Dropped when the answer has been taken in, the tip included.
    settled: Settled<'a>,
}

/// Makes the count of operations even again, only once the holder knows what the answer says: a renewal that looks
/// in between must not take the new tip for another history.
pub(super) struct Settled<'a>(&'a AtomicU64);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The mailbox of a unit's actor.
pub(super) fn address(unit: &UnitId) -> Address {
    Address::new(&unit.pipeline, &unit.actor)
}

/// What the scripts call the slot: the consumer's name, or nothing for an exclusive unit.
pub(super) fn slot_name(unit: &UnitId, mail: Mail) -> String {
    match mail {
        Mail::Offset | Mail::Follow(_) => String::new(),
        Mail::Pool | Mail::Owed => format!("slot{}", unit.slot.unwrap_or(0)),
    }
}

/// The id just behind `id`: `XTRIM MINID` keeps from there on.
pub(super) fn successor(id: EntryId) -> EntryId {
    match id.seq.checked_add(1) {
        Some(seq) => EntryId { ms: id.ms, seq },
        None => EntryId { ms: id.ms.saturating_add(1), seq: 0 },
    }
}

/// Reasons are kept in checkpoints: at most 1,000 bytes of them.
fn shorten(text: &str) -> &str {
    let end = (0..=text.len().min(1000)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trim_keeps_what_follows_the_offset() {
        assert_eq!(successor(EntryId { ms: 5, seq: 9 }), EntryId { ms: 5, seq: 10 });
        assert_eq!(successor(EntryId { ms: 5, seq: u64::MAX }), EntryId { ms: 6, seq: 0 });
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let text = "ä".repeat(600);
        assert_eq!(shorten(&text).len(), 1000);
        assert!(shorten("short") == "short");
    }
}
