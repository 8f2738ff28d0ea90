//! Copy: batches from the readers to the target, the next read under way while this one is written.

use std::time::Duration;

use super::StreamSync;
use super::attach::note;
use super::hands::{Hands, Place, stand};
use super::stream::{Missing, Phase, Stream, missing};
use super::trouble::Trouble;
use crate::actors::turn::Error;
use crate::actors::turn::crash::CrashPoint;
use crate::config::SyncMode;
use crate::ids::EntryId;
use crate::messages::sync::{NoteKind, StreamName};
use crate::sinks::replica::{Carry, Written};
use crate::sources::streams::{Batch, acknowledge};
use crate::wire::look::{StreamFacts, behind, range};
use crate::wire::{Answer, Item, Request, WireError};

/// The longest single pause of the limiter within a turn.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A part of a batch on its way.
struct Portion<'a> {
    bytes: &'a [u8],
    items: &'a [Item],
    after: EntryId,
    facts: Option<&'a StreamFacts>,
}

impl StreamSync {
    /// Takes what the readers have and writes it; whether there was anything.
    pub(super) async fn copy_batches(&self, hands: &mut Hands) -> Result<bool, Error> {
        let places: Vec<Place> = hands.readers.keys().cloned().collect();
        let mut copied = false;
        for place in places {
            let Some(told) = hands.readers.get_mut(&place).and_then(|reading| reading.reader.take()) else { continue };
            let batch = match told {
                Ok(batch) => batch,
                Err(WireError::Refused { .. } | WireError::Moving { .. }) => {
                    self.reading_refused(hands, &place).await?;
                    continue;
                }
                Err(error) => return Err(Error::Source(error.into())),
            };
            if self.plan.settings.mode == SyncMode::Group {
                self.fill_before(hands, &place, &batch).await?;
            }
            self.read_ahead(hands, &place, &batch);
            copied |= !batch.answer.is_empty();
            for (at, part) in batch.answer.parts.iter().enumerate() {
                let name = StreamName { db: place.0, key: part.key.clone() };
                let portion = Portion {
                    bytes: &batch.answer.bytes,
                    items: &part.items,
                    after: batch.after[at],
                    facts: batch.facts[at].as_ref(),
                };
                match self.portion(hands, &name, portion).await {
                    Ok(()) => {}
                    Err(trouble) => self.settle(hands, &name, trouble).await?,
                }
                self.unit.progress();
            }
            if let Some(reading) = hands.readers.get(&place) {
                reading.reader.reuse(batch.answer.bytes);
            }
        }
        Ok(copied)
    }

    /// In mode `group`: what lies between the target's end and each part of the batch. The source is asked before it is
    /// busy with what follows: behind the read of a whole batch the answer would come when that is done.
    async fn fill_before(&self, hands: &mut Hands, (db, _): &Place, batch: &Batch) -> Result<(), Error> {
        for part in &batch.answer.parts {
            let name = StreamName { db: *db, key: part.key.clone() };
            let stream = hands.streams.get(&name).filter(|stream| stream.phase == Phase::Live);
            let Some(position) = stream.map(|stream| stream.position) else { continue };
            let first = part.items.iter().find(|item| !item.deleted && item.id > position).map(|item| item.id);
            let Some(first) = first else { continue };
            if let Err(trouble) = self.fill(hands, &name, &format!("({first}")).await {
                self.settle(hands, &name, trouble).await?;
            }
        }
        Ok(())
    }

    /// Asks for what follows before this batch is written.
    fn read_ahead(&self, hands: &mut Hands, (db, node): &Place, batch: &Batch) {
        for (place, part) in batch.answer.parts.iter().enumerate() {
            let name = StreamName { db: *db, key: part.key.clone() };
            let Some(stream) = hands.streams.get_mut(&name) else { continue };
            let Some(last) = part.items.last() else { continue };
            let bytes: usize = part.items.iter().map(Item::len).sum();
            let mean = bytes / part.items.len();
            stream.entry_bytes =
                if stream.entry_bytes == 0 { mean } else { (3 * stream.entry_bytes + mean) / 4 }.max(1);
            // Whether more waits is what the source says; where it was not asked, the next read tells.
            stream.hot = batch.facts[place].as_ref().is_none_or(|facts| facts.last > last.id);
            if batch.after[place] == stream.read || self.plan.settings.mode == SyncMode::Group {
                stream.read = last.id;
            }
        }
        if batch.answer.is_empty() {
            let of_place = hands.streams.iter_mut().filter(|(name, stream)| name.db == *db && stream.node == *node);
            of_place.for_each(|(_, stream)| stream.hot = false);
        }
        hands.tell_readers(&self.plan, &self.unit);
    }

    /// One of the streams of a read makes all of it fail: each is read alone, and the one that fails is left alone.
    async fn reading_refused(&self, hands: &mut Hands, (db, node): &Place) -> Result<(), Error> {
        let is_here = |name: &StreamName, stream: &Stream| name.db == *db && stream.node == *node;
        let live = hands.streams.iter().filter(|(name, s)| is_here(name, s) && s.phase == Phase::Live);
        let names: Vec<StreamName> = live.map(|(name, _)| name.clone()).collect();
        for name in &names {
            match self.read_alone(hands, name).await {
                Ok(()) => {}
                Err(WireError::Refused { reason, .. }) if reason.starts_with("NOGROUP") => {
                    // A group that somebody destroyed, or a stream that is gone, is found again by the comparison.
                    if let Some(stream) = hands.streams.get_mut(name) {
                        stream.phase = Phase::New;
                    }
                }
                Err(error) => self.settle(hands, name, error.into()).await?,
            }
        }
        Ok(())
    }

    /// Asks for one entry of a stream, in a way that takes nothing from its group.
    async fn read_alone(&self, hands: &mut Hands, name: &StreamName) -> Result<(), WireError> {
        let settings = &self.plan.settings;
        let (source, _) = hands.both(&self.plan, name).await?;
        let mut args: Vec<&[u8]> = match settings.mode {
            SyncMode::Tail => vec![b"XREAD"],
            SyncMode::Group => vec![b"XREADGROUP", b"GROUP", settings.group.as_bytes(), settings.consumer.as_bytes()],
        };
        args.extend([b"COUNT".as_slice(), b"1", b"STREAMS", &name.key, b"0"]);
        source.send(&Request::of(&args)).await?;
        source.streams(Duration::ZERO, "XREAD").await.map(drop)
    }

    /// Writes one part of a batch.
    async fn portion(&self, hands: &mut Hands, name: &StreamName, portion: Portion<'_>) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get_mut(name).filter(|stream| stream.phase == Phase::Live) else {
            return Ok(());
        };
        let Portion { bytes, items, facts, after } = portion;
        let in_groups = self.plan.settings.mode == SyncMode::Group;
        if !in_groups && after != stream.position {
            // Read ahead from a place that did not come true.
            stream.read = stream.position;
            return Ok(());
        }
        if let Some(facts) = facts {
            stream.seen_last = stream.seen_last.max(facts.last);
            stream.seen_added = facts.added;
        }
        let fresh: Vec<&Item> = items.iter().filter(|item| !item.deleted && item.id > stream.position).collect();
        self.look_for_gaps(hands, name, &fresh, facts).await?;
        self.write(hands, name, bytes, &fresh).await?;
        if in_groups {
            self.kept(hands, name).await?;
            let there = hands.streams.get(name).map_or(EntryId::ZERO, |stream| stream.position);
            let ids: Vec<EntryId> = items.iter().map(|item| item.id).filter(|id| *id <= there).collect();
            let (source, _) = hands.both(&self.plan, name).await?;
            acknowledge(source, &name.key, &self.plan.settings.group, &ids).await?;
        }
        Ok(())
    }

    /// Notes what the source lost before it was read; afterwards the stream's count is that before the batch.
    async fn look_for_gaps(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        items: &[&Item],
        facts: Option<&StreamFacts>,
    ) -> Result<(), Trouble> {
        let (Some(facts), Some(stream)) = (facts, hands.streams.get_mut(name)) else { return Ok(()) };
        let ids: Vec<EntryId> = items.iter().map(|item| item.id).collect();
        let (count, through) = match missing(stream.position, stream.added, &ids, facts, stream.seen_last) {
            Missing::Nothing => return Ok(()),
            Missing::Another => return self.is_another(hands, name, &ids, facts).await,
            Missing::Lost { count, through } => (Some(count), through),
            Missing::Uncounted { through } => (None, through),
        };
        let position = stream.position;
        let at_ms = self.now_ms(hands, name).await?;
        let note = note(NoteKind::Gap, position, through, count, at_ms);
        self.add_note(hands, name, note, self.plan.settings.gap, "the source lost entries before they were copied")
            .await?;
        if let Some(stream) = hands.streams.get_mut(name) {
            stream.added = stream.added.zip(count).map(|(added, count)| added + count);
            stream.sets_count = true;
        }
        Ok(())
    }

    pub(super) async fn now_ms(&self, hands: &mut Hands, name: &StreamName) -> Result<u64, Trouble> {
        let (_, writer) = hands.both(&self.plan, name).await?;
        Ok(crate::wire::look::now_ms(writer.line()).await?)
    }

    /// In mode `group`: entries up to an end, as a range writes it, that were delivered and are above what the target
    /// has, are copied by position. Were they left out, they could never be written.
    pub(super) async fn fill(&self, hands: &mut Hands, name: &StreamName, end: &str) -> Result<(), Trouble> {
        let count = self.plan.settings.batch_entries.min(1000);
        loop {
            let Some(position) = hands.streams.get(name).map(|stream| stream.position) else { return Ok(()) };
            let (source, _) = hands.both(&self.plan, name).await?;
            let answer: Answer = range(source, &name.key, &behind(position), end, count).await?;
            let items: Vec<&Item> = answer.items().iter().collect();
            let Some(last) = items.last().map(|item| item.id) else { return Ok(()) };
            self.write(hands, name, &answer.bytes, &items).await?;
            if hands.streams.get(name).is_none_or(|stream| stream.position < last) {
                // The target stands elsewhere by now: it is compared again, and this comes again.
                return Ok(());
            }
            self.kept(hands, name).await?;
            let ids: Vec<EntryId> = items.iter().map(|item| item.id).collect();
            let (source, _) = hands.both(&self.plan, name).await?;
            acknowledge(source, &name.key, &self.plan.settings.group, &ids).await?;
            self.unit.progress();
        }
    }

    /// Writes entries behind the position, in steps of one batch; those that are too large are left out, and noted.
    async fn write(&self, hands: &mut Hands, name: &StreamName, bytes: &[u8], items: &[&Item]) -> Result<(), Trouble> {
        let settings = &self.plan.settings;
        let mut rest = items;
        while !rest.is_empty() {
            let (mut count, mut size) = (0, 0);
            for item in rest.iter().take(settings.batch_entries) {
                if item.len() > settings.entry_bytes_max || (count > 0 && size + item.len() > settings.batch_bytes) {
                    break;
                }
                count += 1;
                size += item.len();
            }
            let (now, later) = rest.split_at(count);
            if count > 0 && !self.step(hands, name, bytes, now, size).await? {
                return Ok(());
            }
            rest = later;
            if count == 0 {
                let (large, later) = rest.split_at(1);
                self.leave_out(hands, name, large[0]).await?;
                rest = later;
            }
        }
        Ok(())
    }

    /// One batch; whether it is there.
    async fn step(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        bytes: &[u8],
        items: &[&Item],
        size: usize,
    ) -> Result<bool, Trouble> {
        self.slow_down(hands, items.len(), size).await;
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(false) };
        let writer = hands.target.of(&stream.target).await?;
        let added = stream.added.map(|added| added + items.len() as u64);
        let carried = added.filter(|_| stream.sets_count).and_then(|added| stream.target_count(added));
        let carry = Carry { added: carried, ..Carry::default() };
        self.unit.point(CrashPoint::AfterDecide).await;
        let written = writer.write(&stream.target, bytes, items, stream.position, carry).await?;
        let end = writer.chain_end();
        self.unit.point(CrashPoint::AfterApply).await;
        match written {
            Written::Now(facts) => {
                stream.position = facts.last;
                stream.chain = end;
                stream.added = added;
                stream.sets_count = false;
                self.unit.metrics.sync.copied(&self.plan.pipeline, items.len(), size);
                Ok(true)
            }
            // Another writer, a flush, a failover: compare again.
            Written::Moved(_) => {
                stream.phase = Phase::New;
                stream.read = stream.position;
                Ok(false)
            }
            Written::Refused(reason) => {
                let address = self.plan.target().address();
                Err(Trouble::from(WireError::Refused { address, command: "XADD".to_owned(), reason }))
            }
        }
    }

    async fn slow_down(&self, hands: &mut Hands, entries: usize, bytes: usize) {
        let mut pause = hands.limiter.pause(&self.plan, entries, bytes);
        while !pause.is_zero() && !self.unit.is_draining() {
            let step = pause.min(PAUSE_MAX);
            self.unit.outside(tokio::time::sleep(step)).await;
            pause -= step;
        }
    }

    /// An entry that is larger than an entry may be.
    async fn leave_out(&self, hands: &mut Hands, name: &StreamName, item: &Item) -> Result<(), Trouble> {
        let Some(position) = hands.streams.get(name).map(|stream| stream.position) else { return Ok(()) };
        let at_ms = self.now_ms(hands, name).await?;
        let note = note(NoteKind::Oversize, position, item.id, Some(1), at_ms);
        self.add_note(hands, name, note, self.plan.settings.oversize, "an entry is larger than entry_kb_max").await?;
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        let writer = hands.target.of(&stream.target).await?;
        let added = stream.added.map(|added| added + 1);
        let carry =
            Carry { last: Some(item.id), added: added.and_then(|added| stream.target_count(added)), max_deleted: None };
        match writer.write(&stream.target, &[], &[], stream.position, carry).await? {
            Written::Now(_) => {
                stand(stream, item.id);
                stream.chain = writer.chain_end();
                stream.added = added;
                Ok(())
            }
            Written::Moved(_) => {
                stream.phase = Phase::New;
                Ok(())
            }
            Written::Refused(reason) => Err(Trouble::Stream(reason)),
        }
    }

    /// Waits until replicas and disk of the target have what was written, as far as that is asked for; else an error.
    pub(super) async fn kept(&self, hands: &mut Hands, name: &StreamName) -> Result<(), Trouble> {
        match self.lacking(hands, name).await? {
            None => Ok(()),
            Some(lacks) => {
                let (address, reason) = (self.plan.target().address(), format!("not kept yet: {lacks}"));
                Err(Trouble::from(WireError::Away { address, reason }))
            }
        }
    }

    /// What of the target lacks what was written, within the time that a wait may take; none where nothing does.
    pub(super) async fn lacking(&self, hands: &mut Hands, name: &StreamName) -> Result<Option<String>, Trouble> {
        let settings = &self.plan.settings;
        if settings.wait_replicas == 0 && !settings.wait_aof {
            return Ok(None);
        }
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(None) };
        let writer = hands.target.of(&stream.target).await?;
        if !writer.has_written() && stream.position > EntryId::ZERO {
            // A wait is for what its own connection wrote: another one's batch is waited for behind a write that changes
            // nothing.
            match writer.write(&stream.target, &[], &[], stream.position, Carry::default()).await? {
                Written::Now(_) => {}
                Written::Moved(_) => return Ok(Some("the target moved".to_owned())),
                Written::Refused(reason) => return Ok(Some(reason)),
            }
        }
        match writer.wait(settings.wait_replicas, settings.wait_aof, settings.wait).await {
            // A target that cannot tell, since it keeps no append-only file: copying goes on, nothing is claimed.
            Err(WireError::Refused { reason, .. }) => Ok(Some(reason)),
            told => Ok(told?),
        }
    }
}
