//! Attach: where a stream stands is told by the target's own last id, once that is known to come from this source.

use std::time::Instant;

use super::agree::{DEEP, Known, Seen, walk_back};
use super::compare::same_entry;
use super::hands::{GONE_AGAIN, Hands, stand};
use super::stream::{Phase, Stream};
use super::trouble::Trouble;
use super::{StreamSync, SyncPlan};
use crate::actors::turn::Error;
use crate::config::{OnTrouble, SyncMode};
use crate::ids::EntryId;
use crate::messages::sync::{Note, NoteKind, StreamName};
use crate::sinks::replica::Mark;
use crate::sources::streams::{acknowledge, ensure_group, own_pending, take_over};
use crate::wire::look::{StreamFacts, entry, groups, stream_facts};

/// Streams that are taken up before the others are copied again.
const AT_A_TIME: usize = 50;

/// What both ends say of a stream.
pub(super) struct Ends {
    pub source: StreamFacts,
    pub target: Option<StreamFacts>,
    pub mark: Mark,
    pub owner: String,
    pub now_ms: u64,
}

impl Ends {
    pub(super) fn top(&self) -> EntryId {
        self.target.as_ref().map_or(EntryId::ZERO, |facts| facts.last)
    }
}

/// What the comparison of the top came to.
enum Found {
    /// The target's last id comes from this source.
    Ours,
    /// It does not; the two are alike up to an id, and behind it so many entries are on one of them only, or differ.
    Apart { common: EntryId, apart: u64, foreign: Vec<EntryId>, why: &'static str },
}

impl StreamSync {
    /// Takes up some of the streams that are not compared yet; whether there were any.
    pub(super) async fn attach_some(&self, hands: &mut Hands) -> Result<bool, Error> {
        let now = Instant::now();
        let wants = |stream: &Stream| match stream.phase {
            Phase::New => true,
            Phase::Gone => stream.is_due(now, GONE_AGAIN),
            Phase::Live | Phase::Stopped => false,
        };
        let names = hands.streams.iter().filter(|(_, stream)| wants(stream)).map(|(name, _)| name.clone());
        let names: Vec<StreamName> = names.take(AT_A_TIME).collect();
        let mut worked = false;
        for name in &names {
            if self.unit.is_draining() {
                break;
            }
            // Boxed, since it is rare and large; what is done for every batch stays small.
            match Box::pin(self.unit.outside(self.attach(hands, name))).await {
                Ok(live) => worked |= live,
                Err(trouble) => self.settle(hands, name, trouble).await?,
            }
        }
        let databases: std::collections::BTreeSet<u16> = names.iter().map(|name| name.db).collect();
        if worked {
            databases.into_iter().for_each(|db| hands.tell_anew(&self.plan, db));
        }
        Ok(worked)
    }

    /// Takes up one stream; whether it is live now.
    async fn attach(&self, hands: &mut Hands, name: &StreamName) -> Result<bool, Trouble> {
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(false) };
        stream.tended = Some(Instant::now());
        let (was, target) = (stream.position, stream.target.clone());
        let (Some(facts), there) = hands.locate(&self.plan, name).await? else {
            if let Some(stream) = hands.streams.get_mut(name) {
                stream.phase = Phase::Gone;
            }
            return Ok(false);
        };
        let owner = self.plan.owner(self.unit.lease.store().cluster.as_str());
        let mark = hands.mark(&target, &owner).await?;
        if mark.owner != owner {
            return Err(Trouble::Stream(format!(
                "{} copies to this key of the target already; if that is over, take the field of this key out of the \
                 hash gapless:replicas there, and retry",
                mark.owner
            )));
        }
        let now_ms = self.now_ms(hands, name).await?;
        let mut ends = Ends { source: facts, target: there, mark, owner, now_ms };
        if ends.top() > ends.source.last {
            // A former holder may have copied between the two looks: the target's first, then the source's, tell the truth.
            let (source, _) = hands.both(&self.plan, name).await?;
            ends.source = stream_facts(source, &name.key).await?.unwrap_or(ends.source);
        }
        self.note_loss(hands, name, was, &ends).await?;
        self.judge(hands, name, &mut ends).await?;
        self.count(hands, name, &ends).await?;
        self.catch_up(hands, name, ends.now_ms).await?;
        if self.plan.settings.mode == SyncMode::Group {
            self.recover_group(hands, name).await?;
        }
        let node = hands.source_nodes().map(|nodes| nodes.of(&name.key)).transpose()?.flatten();
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(false) };
        stream.phase = Phase::Live;
        stream.node = node;
        // The background looks at it at once: groups are part of a stream.
        stream.tended = None;
        stream.hot = true;
        stream.seen_last = ends.source.last;
        stream.seen_added = ends.source.added;
        Ok(true)
    }

    /// A target whose last id lies below what was copied has lost entries.
    async fn note_loss(&self, hands: &mut Hands, name: &StreamName, was: EntryId, ends: &Ends) -> Result<(), Trouble> {
        let top = ends.top();
        if top >= was {
            return Ok(());
        }
        let note = note(NoteKind::TargetLoss, top, was, None, ends.now_ms);
        self.add_note(hands, name, note, self.plan.settings.target_loss, "the target has lost entries").await
    }

    /// Makes sure that the target's last id comes from this source, and stands there.
    async fn judge(&self, hands: &mut Hands, name: &StreamName, ends: &mut Ends) -> Result<(), Trouble> {
        let top = ends.top();
        let found = match &ends.target {
            None => Found::Ours,
            Some(facts) if facts.last == EntryId::ZERO => Found::Ours,
            Some(facts) => self.compare_tops(hands, name, ends, facts).await?,
        };
        if let Found::Apart { common, apart, foreign, why } = found {
            let known = Mark { counted: ends.mark.counted.take(), ..ends.mark.clone() };
            if let Some(stream) = hands.streams.get_mut(name) {
                stream.mark = Some(known);
            }
            self.miscounts(hands, name).await?;
            let mut note = note(NoteKind::Conflict, common, top, Some(apart), ends.now_ms);
            note.only_there = foreign.iter().map(EntryId::to_string).collect();
            self.add_note(hands, name, note, self.plan.settings.conflict, why).await?;
        }
        if let Some(stream) = hands.streams.get_mut(name) {
            stand(stream, top);
        }
        Ok(())
    }

    async fn compare_tops(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        ends: &Ends,
        facts: &StreamFacts,
    ) -> Result<Found, Trouble> {
        let server = hands.source_nodes().map(|nodes| nodes.server.clone()).unwrap_or_default();
        let history = server.replid.clone();
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(Found::Ours) };
        let was = std::mem::replace(&mut stream.notes.history, history);
        let is_another = !was.is_empty() && was != stream.notes.history;
        let (key, notes) = (stream.target.clone(), stream.notes.clone());
        let ours = ends.mark.begun;
        let depth = if is_another { DEEP } else { 1 };
        let known = Known { source: &ends.source, target: facts, tells: server.counts(), ours, notes: &notes, depth };
        let (source, writer) = hands.both(&self.plan, name).await?;
        let mut seen = walk_back((source, &name.key), (writer.line(), &key), &known).await?;
        if seen.unsure > 0 {
            // Deleted there by somebody, as a rule; or a source that has entries again which it had forgotten.
            let note = note(NoteKind::Hole, seen.common, facts.last, Some(seen.unsure), ends.now_ms);
            self.add_note(hands, name, note, OnTrouble::GoOn, UNSURE).await?;
        }
        if seen.alone > 0 && !server.tells_deletions() && !self.are_too_many(hands, name, ends).await? {
            seen.alone = 0;
            seen.foreign.clear();
        }
        let why = match &seen {
            _ if facts.last > ends.source.last => BEHIND,
            Seen { other: 1.., .. } => OTHER,
            Seen { holes: 1.., .. } => HOLES,
            Seen { is_topped: true, .. } if !ours => FOREIGN,
            Seen { alone: 1.., .. } => NEVER_HAD,
            _ => return Ok(Found::Ours),
        };
        Ok(Found::Apart { common: seen.common, apart: seen.apart(), foreign: seen.foreign, why })
    }

    /// In mode `group`: the group is there, nobody else holds anything of it, and what is on the target is acknowledged.
    async fn recover_group(&self, hands: &mut Hands, name: &StreamName) -> Result<(), Trouble> {
        let SyncPlan { settings, .. } = &*self.plan;
        let Some((position, key)) = hands.streams.get(name).map(|s| (s.position, s.target.clone())) else {
            return Ok(());
        };
        let (source, _) = hands.both(&self.plan, name).await?;
        let (group, consumer) = (settings.group.as_str(), settings.consumer.as_str());
        if !ensure_group(source, &name.key, group, EntryId::ZERO, settings.create_group).await? {
            return Err(Trouble::Stream(format!("the source has no group {group}, and create_group is false")));
        }
        take_over(source, &name.key, group, consumer).await?;
        let mut after = EntryId::ZERO;
        loop {
            let (source, writer) = hands.both(&self.plan, name).await?;
            let held = own_pending(source, &name.key, group, consumer, after).await?;
            let Some(last) = held.items().last().map(|item| item.id) else { break };
            let mut done = Vec::new();
            for item in held.items().iter().filter(|item| item.deleted || item.id <= position) {
                let there = entry(writer.line(), &key, item.id).await?;
                let same = there.items().first().is_none_or(|known| same_entry((&held, item), (&there, known)));
                // Deleted on either end is done as well; another content is not.
                if same || item.deleted {
                    done.push(item.id);
                }
            }
            if !done.is_empty() {
                self.kept(hands, name).await?;
            }
            let (source, _) = hands.both(&self.plan, name).await?;
            acknowledge(source, &name.key, group, &done).await?;
            after = last;
        }
        // Delivered to whomever, and not on the target: nothing will deliver it again.
        let (source, _) = hands.both(&self.plan, name).await?;
        let there = groups(source, &name.key).await?;
        let delivered = there.iter().find(|known| known.name == group.as_bytes()).map(|known| known.delivered);
        match delivered.filter(|delivered| *delivered > position) {
            Some(delivered) => self.fill(hands, name, &delivered.to_string()).await,
            None => Ok(()),
        }
    }

    /// Notes something, and stops the stream if the policy says so.
    pub(super) async fn add_note(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        note: Note,
        policy: OnTrouble,
        why: &str,
    ) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        let (words, news) = (describe(&note), stream.notes.add(note));
        if news {
            tracing::warn!(unit = %self.unit.lease.unit(), stream = name.shown(), "{why}: {words}");
            self.note(hands, name).await?;
        }
        match policy {
            OnTrouble::GoOn => Ok(()),
            OnTrouble::Stop => Err(Trouble::Stream(format!("{why}: {words}"))),
        }
    }
}

const FOREIGN: &str = "the target holds entries that this source has not, and that were not copied from it";
pub(super) const NEVER_HAD: &str = "the target has entries that the source never had, or has lost";
const OTHER: &str = "the target has another entry under the same id";
const HOLES: &str =
    "the source has entries below the target's last id that the target never had; they cannot be written";
const UNSURE: &str = "the source has entries that were deleted on the target, or that it had forgotten";
const BEHIND: &str =
    "the target is ahead of the source: others wrote there, or the source has lost entries or was made anew";

/// A note as people read it.
pub fn describe(note: &Note) -> String {
    let count = match note.count {
        None => "an unknown number of entries".to_owned(),
        Some(1) => "1 entry".to_owned(),
        Some(count) => format!("{count} entries"),
    };
    format!("{} ({count}) behind {} through {}", note.kind.as_str(), note.after, note.through)
}

pub(super) fn note(kind: NoteKind, after: EntryId, through: EntryId, count: Option<u64>, at_ms: u64) -> Note {
    Note { kind, after: after.to_string(), through: through.to_string(), count, only_there: Vec::new(), at_ms }
}
