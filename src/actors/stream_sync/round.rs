//! Round: what is looked at in the background, stream by stream: groups, counters, deletions, positions.

use std::time::{Duration, Instant};

use super::StreamSync;
use super::attach::note;
use super::hands::{Hands, stand};
use super::stream::{Phase, Stream};
use super::trouble::Trouble;
use crate::actors::turn::Error;
use crate::config::Deletes;
use crate::ids::EntryId;
use crate::messages::sync::{NoteKind, StreamName};
use crate::sinks::replica::{Carry, Written, cap, copy_group, delete, fence, trim_below};
use crate::sources::streams::publish_position;
use crate::wire::look::{StreamFacts, behind, groups, range, stream_facts};

/// How often a stream is looked at where groups are not copied.
const EVERY: Duration = Duration::from_secs(5);
/// How often the position of a stream is written down for people.
const REPORT: Duration = Duration::from_secs(5);
/// How long no position is published after one was withheld: asking costs the time that a wait may take.
const WITHHELD: Duration = Duration::from_secs(5);
/// Entries of one page of a comparison of ids.
const PAGE: usize = 1000;

impl StreamSync {
    /// Looks at one stream that is due; whether there was one.
    pub(super) async fn tend(&self, hands: &mut Hands) -> Result<bool, Error> {
        let (now, every) = (Instant::now(), self.plan.settings.groups.unwrap_or(EVERY));
        let due = hands.streams.iter().filter(|(_, s)| s.phase == Phase::Live && s.is_due(now, every));
        let Some(name) = due.min_by_key(|(_, s)| s.tended).map(|(name, _)| name.clone()) else {
            hands.tended = Some(now);
            return self.report(hands, false).await;
        };
        if let Some(stream) = hands.streams.get_mut(&name) {
            stream.tended = Some(now);
        }
        match Box::pin(self.unit.outside(self.tend_one(hands, &name))).await {
            Ok(()) => {}
            Err(trouble) => self.settle(hands, &name, trouble).await?,
        }
        Ok(true)
    }

    /// Whether the background has waited too long: a backlog must not keep groups from being copied.
    pub(super) fn is_tending_late(&self, hands: &Hands) -> bool {
        let every = self.plan.settings.groups.unwrap_or(EVERY);
        hands.tended.is_none_or(|tended| tended.elapsed() >= every)
    }

    async fn tend_one(&self, hands: &mut Hands, name: &StreamName) -> Result<(), Trouble> {
        let (source, _) = hands.both(&self.plan, name).await?;
        let Some(facts) = stream_facts(source, &name.key).await? else {
            if let Some(stream) = hands.streams.get_mut(name) {
                stream.phase = Phase::Gone;
            }
            return Ok(());
        };
        let Some(key) = hands.streams.get(name).map(|stream| stream.target.clone()) else { return Ok(()) };
        let writer = hands.target.of(&key).await?;
        let (there, chain) = (writer.look_again(&key).await?, writer.chain_end());
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        let moved = there.as_ref().map_or(EntryId::ZERO, |facts| facts.last) != stream.position;
        if moved || chain != stream.chain {
            stream.phase = Phase::New;
            stream.read = stream.position;
            return Ok(());
        }
        if facts.last < stream.position {
            stream.phase = Phase::New;
            return Ok(());
        }
        stream.seen_last = stream.seen_last.max(facts.last);
        stream.seen_added = facts.added;
        if let Some(there) = &there {
            self.count_again(hands, name, (&facts, there)).await?;
        }
        self.carry_counters(hands, name, &facts, there.as_ref()).await?;
        if self.plan.settings.groups.is_some() {
            self.copy_groups(hands, name).await?;
        }
        self.deletions(hands, name, &facts).await?;
        self.publish(hands, name).await
    }

    /// The end of the source without entries: deleted before they were read. Its last id and counters are carried over.
    async fn carry_counters(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        facts: &StreamFacts,
        there: Option<&StreamFacts>,
    ) -> Result<(), Trouble> {
        let Some(position) = hands.streams.get(name).map(|stream| stream.position) else { return Ok(()) };
        if facts.last > position {
            let (source, _) = hands.both(&self.plan, name).await?;
            if !range(source, &name.key, &behind(position), "+", 1).await?.items().is_empty() {
                return Ok(());
            }
            self.note_deleted(hands, name, facts).await?;
        }
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        let writer = hands.target.of(&stream.target).await?;
        let deleted = facts.max_deleted.filter(|id| *id > EntryId::ZERO);
        let same_deleted = deleted.is_none()
            || !writer.server.counts()
            || there.is_some_and(|there| there.max_deleted.is_some_and(|known| known >= deleted.unwrap_or_default()));
        let added = stream.added.and_then(|added| stream.target_count(added)).filter(|_| writer.server.counts());
        let same_added = added.is_none() || there.is_some_and(|there| there.added == added);
        if facts.last == position && same_deleted && same_added {
            return Ok(());
        }
        if facts.last == EntryId::ZERO {
            return Ok(());
        }
        let carry = Carry { last: Some(facts.last), added, max_deleted: deleted };
        match writer.write(&stream.target, &[], &[], position, carry).await? {
            Written::Now(_) => {
                stand(stream, facts.last);
                stream.chain = writer.chain_end();
            }
            Written::Moved(_) => stream.phase = Phase::New,
            // An operator's target may know better; the entries are what counts.
            Written::Refused(reason) => tracing::debug!(stream = name.shown(), reason, "counters not carried over"),
        }
        let db = name.db;
        hands.tell_anew(&self.plan, db);
        Ok(())
    }

    async fn note_deleted(&self, hands: &mut Hands, name: &StreamName, facts: &StreamFacts) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get(name) else { return Ok(()) };
        let lost = facts.added.zip(stream.added).and_then(|(ever, added)| ever.checked_sub(added));
        let position = stream.position;
        if lost != Some(0) {
            let at_ms = self.now_ms(hands, name).await?;
            let note = note(NoteKind::Gap, position, facts.last, lost, at_ms);
            self.add_note(hands, name, note, self.plan.settings.gap, "the source lost entries before they were copied")
                .await?;
        }
        if let Some(stream) = hands.streams.get_mut(name) {
            stream.added = facts.added.filter(|_| stream.added.is_some());
        }
        Ok(())
    }

    async fn copy_groups(&self, hands: &mut Hands, name: &StreamName) -> Result<(), Trouble> {
        let Some(key) = hands.streams.get(name).map(|stream| stream.target.clone()) else { return Ok(()) };
        let (source, writer) = hands.both(&self.plan, name).await?;
        let counts = writer.server.counts();
        let mut lost = 0;
        for group in groups(source, &name.key).await?.iter().filter(|group| !self.plan.is_own_group(&group.name)) {
            let stands = stream_facts(writer.line(), &key).await?.unwrap_or_default();
            lost += copy_group(source, writer.line(), (&name.key, &key), group, (&stands, counts)).await?.lost;
        }
        let Some(stream) = hands.streams.get_mut(name).filter(|stream| stream.notes.pending_lost != lost) else {
            return Ok(());
        };
        stream.notes.pending_lost = lost;
        Ok(self.note(hands, name).await?)
    }

    async fn deletions(&self, hands: &mut Hands, name: &StreamName, facts: &StreamFacts) -> Result<(), Trouble> {
        let settings = &self.plan.settings;
        let now = Instant::now();
        let rests = |last: Instant| now.duration_since(last) < settings.deletes_every;
        let Some(stream) = hands.streams.get_mut(name).filter(|stream| !stream.pruned.is_some_and(rests)) else {
            return Ok(());
        };
        stream.pruned = Some(now);
        let key = stream.target.clone();
        match settings.deletes {
            Deletes::Keep => Ok(()),
            Deletes::Cap(entries) => {
                let (_, writer) = hands.both(&self.plan, name).await?;
                cap(writer.line(), &key, entries).await?;
                Ok(())
            }
            Deletes::Mirror => self.mirror(hands, name, facts, &key).await,
        }
    }

    /// Deletes on the target what is no longer on the source, as far as the fence of the target's groups allows.
    async fn mirror(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        facts: &StreamFacts,
        key: &[u8],
    ) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        let position = stream.position;
        let seen = (facts.length, facts.first, facts.max_deleted);
        let (_, writer) = hands.both(&self.plan, name).await?;
        let there = stream_facts(writer.line(), key).await?.unwrap_or_default();
        let fence = fence(writer.line(), key).await?;
        let lowest = facts.first.unwrap_or(EntryId { ms: position.ms, seq: position.seq.saturating_add(1) });
        if there.first.is_some_and(|first| first < lowest) {
            trim_below(writer.line(), key, lowest, fence).await?;
        }
        // Single deletions leave no trace but their number: walk only where something has changed since.
        if hands.streams.get(name).is_some_and(|stream| stream.trimmed == Some(seen)) {
            return Ok(());
        }
        let (source, writer) = hands.both(&self.plan, name).await?;
        let mut after = EntryId::ZERO;
        loop {
            let page = range(writer.line(), key, &behind(after), &position.to_string(), PAGE).await?;
            let (Some(last), count) = (page.items().last().map(|item| item.id), page.items().len()) else { break };
            let mut here = std::collections::BTreeSet::new();
            let mut from = after;
            loop {
                let part = range(source, &name.key, &behind(from), &last.to_string(), PAGE).await?;
                here.extend(part.items().iter().map(|item| item.id));
                match part.items().last() {
                    Some(end) if part.items().len() == PAGE => from = end.id,
                    _ => break,
                }
            }
            let gone = page.items().iter().map(|item| item.id).filter(|id| !here.contains(id) && fence.allows(*id));
            let gone: Vec<EntryId> = gone.collect();
            delete(writer.line(), key, &gone).await?;
            self.unit.progress();
            after = last;
            if count < PAGE {
                break;
            }
        }
        if let Some(stream) = hands.streams.get_mut(name) {
            stream.trimmed = Some(seen);
        }
        Ok(())
    }

    /// Shows on the source how far the copy is, once the target keeps it.
    async fn publish(&self, hands: &mut Hands, name: &StreamName) -> Result<(), Trouble> {
        let settings = &self.plan.settings;
        let Some(stream) = hands.streams.get(name) else { return Ok(()) };
        let (position, added, published) = (stream.position, stream.added, stream.published);
        if settings.publish_group.is_empty() || published == position {
            return Ok(());
        }
        if hands.withheld.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        if let Some(lacks) = self.lacking(hands, name).await? {
            if hands.withheld.is_none() {
                tracing::warn!(unit = %self.unit.lease.unit(), stream = name.shown(), lacks, "positions are withheld");
            }
            hands.withheld = Some(Instant::now() + WITHHELD);
            return Ok(());
        }
        if hands.withheld.take().is_some() {
            tracing::info!(unit = %self.unit.lease.unit(), "positions are published again");
        }
        let counts = hands.source_nodes().is_some_and(|nodes| nodes.server.counts());
        let (source, _) = hands.both(&self.plan, name).await?;
        publish_position(source, &name.key, &settings.publish_group, position, added.filter(|_| counts)).await?;
        if let Some(stream) = hands.streams.get_mut(name) {
            stream.published = position;
        }
        Ok(())
    }

    /// Writes the positions, and the ends of chains of evidence, down: a target that is flushed, or a chain that is altered,
    /// while nobody copies is noticed.
    pub(super) async fn report(&self, hands: &mut Hands, at_once: bool) -> Result<bool, Error> {
        let now = Instant::now();
        if !at_once && hands.reported.is_some_and(|at| now.duration_since(at) < REPORT) {
            return Ok(false);
        }
        hands.reported = Some(now);
        let live = hands.streams.iter_mut().filter(|(_, stream)| stream.phase == Phase::Live);
        let moved: Vec<StreamName> = live
            .filter(|(_, stream)| {
                stream.notes.position() != stream.position
                    || self.plan.settings.evidence && stream.notes.proof != stream.chain
            })
            .map(|(name, stream)| {
                stream.notes.position = stream.position.to_string();
                if self.plan.settings.evidence {
                    stream.notes.proof = stream.chain.clone();
                }
                name.clone()
            })
            .collect();
        for part in moved.chunks(100) {
            self.note_all(hands, part).await?;
        }
        self.tell_figures(hands);
        Ok(false)
    }

    fn tell_figures(&self, hands: &Hands) {
        let count = |phase: Phase| hands.streams.values().filter(|stream| stream.phase == phase).count();
        let behind = hands.streams.values().filter(|stream| stream.phase == Phase::Live && stream.hot).count();
        let lost = hands.streams.values().map(|stream| stream.notes.count(NoteKind::Gap)).sum();
        let (live, stopped) = (count(Phase::Live), count(Phase::Stopped));
        self.unit.metrics.sync.streams(&self.plan.pipeline, self.plan.bucket, [live, stopped, behind], lost);
        let lags = hands.streams.values().filter(|stream| stream.phase == Phase::Live).map(Stream::lag);
        let (entries, ms) = lags.fold((0, 0), |(sum, most): (u64, u64), (n, ms)| (sum.saturating_add(n), most.max(ms)));
        self.unit.metrics.sync.lag(&self.plan.pipeline, self.plan.bucket, entries, ms);
    }
}
