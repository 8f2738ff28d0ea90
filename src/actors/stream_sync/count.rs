//! Count: how many entries were ever added, on both ends. The target's count is the source's and a number that its mark
//! says; what a source lost, and what others wrote to the target, is told by it.

use super::StreamSync;
use super::agree::LOOK_MAX;
use super::attach::{Ends, NEVER_HAD, note};
use super::compare::same_entry;
use super::hands::Hands;
use super::trouble::Trouble;
use crate::ids::EntryId;
use crate::messages::sync::{NoteKind, StreamName};
use crate::sinks::replica::{Carry, Mark, Written, set_mark};
use crate::wire::look::{StreamFacts, behind, entry, range, range_back};

/// Entries of one page of the source that are only counted.
const PAGE: usize = 1000;
/// Entries of the target's end that are looked at where too many were added to it.
const TOPMOST: usize = 16;

impl StreamSync {
    /// Where the count of added entries stands.
    pub(super) async fn count(&self, hands: &mut Hands, name: &StreamName, ends: &Ends) -> Result<(), Trouble> {
        let counts = hands.target.counts();
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        stream.mark = Some(ends.mark.clone());
        stream.sets_count = false;
        stream.base = ends.mark.counted.unwrap_or(0);
        stream.added = None;
        let top = ends.top();
        let Some(ever) = ends.source.added else { return self.remark(hands, name, ends, ends.mark.counted).await };
        if top == EntryId::ZERO {
            // From the beginning: what is not there any more was never ours to copy.
            stream.base = 0;
            stream.added = Some(ever.saturating_sub(ends.source.length));
            stream.sets_count = counts;
            return self.remark(hands, name, ends, Some(0)).await;
        }
        let there = ends.target.as_ref().and_then(|facts| facts.added).filter(|_| ends.mark.counted.is_some());
        stream.added = there.and_then(|added| stream.source_count(added));
        if let Some(added) = stream.added.filter(|added| *added > ever) {
            let counted = match self.too_many(hands, name, &ends.source, added - ever).await? {
                true => None,
                false => Some(self.begin_anew(hands, name, &ends.source, ends.now_ms).await?),
            };
            return self.remark(hands, name, ends, counted).await;
        }
        let mut counted = ends.mark.counted.filter(|_| stream.added.is_some());
        if let (None, Some(there)) = (stream.added, ends.target.as_ref().filter(|_| top == ends.source.last)) {
            counted = self.align(hands, name, &ends.source, there).await?;
        }
        self.remark(hands, name, ends, counted).await
    }

    /// The source's stream is another one than it was: its count begins again, and ours goes on. Answers by how much the
    /// target's count is another one from now on.
    async fn begin_anew(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        facts: &StreamFacts,
        at_ms: u64,
    ) -> Result<i64, Trouble> {
        let Some(position) = hands.streams.get(name).map(|stream| stream.position) else { return Ok(0) };
        let note = note(NoteKind::Anew, position, facts.last, None, at_ms);
        self.add_note(hands, name, note, self.plan.settings.gap, "the source's stream was made anew").await?;
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(0) };
        let before = facts.added.unwrap_or(0).saturating_sub(facts.length);
        let was = stream.added.unwrap_or(0);
        stream.base += i64::try_from(was).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        stream.added = Some(before);
        Ok(stream.base)
    }

    /// The source counts fewer entries than were read: it is another stream than before, or somebody else wrote to the
    /// target.
    pub(super) async fn is_another(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        read: &[EntryId],
        facts: &StreamFacts,
    ) -> Result<(), Trouble> {
        let Some(added) = hands.streams.get(name).and_then(|stream| stream.added) else { return Ok(()) };
        let surplus = (added + read.len() as u64).saturating_sub(facts.added.unwrap_or(0));
        if self.too_many(hands, name, facts, surplus).await? {
            return Ok(());
        }
        let at_ms = self.now_ms(hands, name).await?;
        let counted = self.begin_anew(hands, name, facts, at_ms).await?;
        let mark = hands.streams.get(name).and_then(|stream| stream.mark.clone());
        match mark {
            Some(mark) => self.set_mark(hands, name, Mark { counted: Some(counted), ..mark }).await,
            None => Ok(()),
        }
    }

    /// More was added to the target than the source ever had. Where the source still has what lies below the target's
    /// topmost entry, and not that entry, it is no other stream than before: somebody else wrote to the target, or the
    /// source has lost what was copied, and a later deletion hides it. Answers whether it is so, where the copy may go on.
    async fn too_many(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        facts: &StreamFacts,
        surplus: u64,
    ) -> Result<bool, Trouble> {
        let Some(position) = hands.streams.get(name).map(|stream| stream.position) else { return Ok(false) };
        if facts.first.is_none_or(|first| first > position) {
            return Ok(false);
        }
        let (common, foreign) = self.last_common(hands, name, position).await?;
        if common == Some(position) {
            return Ok(false);
        }
        self.miscounts(hands, name).await?;
        let at_ms = self.now_ms(hands, name).await?;
        let mut note = note(NoteKind::Conflict, common.unwrap_or_default(), position, Some(surplus), at_ms);
        note.only_there = foreign;
        self.add_note(hands, name, note, self.plan.settings.conflict, NEVER_HAD).await?;
        Ok(true)
    }

    /// Whether the target was given more entries than the source can have had through the same id. Asked of servers that
    /// do not tell what they have deleted; where that cannot be counted, nothing is claimed.
    pub(super) async fn are_too_many(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        ends: &Ends,
    ) -> Result<bool, Trouble> {
        let there = ends.target.as_ref().and_then(|facts| facts.added).zip(ends.mark.counted);
        let there = there.and_then(|(added, base)| i64::try_from(added).ok()?.checked_sub(base));
        let (Some(there), Some(ever)) = (there.and_then(|count| u64::try_from(count).ok()), ends.source.added) else {
            return Ok(false);
        };
        let (mut above, mut after) = (0, ends.top());
        let (source, _) = hands.both(&self.plan, name).await?;
        while above < LOOK_MAX {
            let page = range(source, &name.key, &behind(after), &ends.source.last.to_string(), PAGE).await?;
            above += page.items().len() as u64;
            match page.items().last() {
                Some(last) if page.items().len() == PAGE => after = last.id,
                _ => return Ok(there + above > ever),
            }
        }
        Ok(false)
    }

    /// The highest of the target's last entries that the source has as well, and those above it.
    async fn last_common(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        top: EntryId,
    ) -> Result<(Option<EntryId>, Vec<String>), Trouble> {
        let mut above = Vec::new();
        let Some(key) = hands.streams.get(name).map(|stream| stream.target.clone()) else { return Ok((None, above)) };
        let (source, writer) = hands.both(&self.plan, name).await?;
        let page = range_back(writer.line(), &key, &top.to_string(), TOPMOST).await?;
        for item in page.items() {
            let here = entry(source, &name.key, item.id).await?;
            if here.items().first().is_some_and(|known| same_entry((&here, known), (&page, item))) {
                return Ok((Some(item.id), above));
            }
            above.push(item.id.to_string());
        }
        Ok((None, above))
    }

    /// The target's count is not the source's any more; it is again where both stand at the same id.
    pub(super) async fn miscounts(&self, hands: &mut Hands, name: &StreamName) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        stream.added = None;
        match stream.mark.clone() {
            Some(mark) => self.set_mark(hands, name, Mark { counted: None, ..mark }).await,
            None => Ok(()),
        }
    }

    /// A stream whose entries could not be counted, where both ends stand at the same id: from now on they can.
    pub(super) async fn count_again(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        (here, there): (&StreamFacts, &StreamFacts),
    ) -> Result<(), Trouble> {
        let uncounted = hands.streams.get(name).filter(|stream| stream.added.is_none() && stream.position == here.last);
        let Some(mark) = uncounted.and_then(|stream| stream.mark.clone()) else { return Ok(()) };
        if !hands.target.counts() || here.last == EntryId::ZERO {
            return Ok(());
        }
        match self.align(hands, name, here, there).await? {
            Some(counted) => self.set_mark(hands, name, Mark { counted: Some(counted), ..mark }).await,
            None => Ok(()),
        }
    }

    /// Makes the target's count the source's, where both stand at the same id; answers by how much it is another one.
    async fn align(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        here: &StreamFacts,
        facts: &StreamFacts,
    ) -> Result<Option<i64>, Trouble> {
        let Some(ever) = here.added else { return Ok(None) };
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(None) };
        stream.added = Some(ever);
        let Some(there) = facts.added else { return Ok(None) };
        // A target that keeps more entries than its source ever had counts on from its own.
        let wanted = ever.max(facts.length);
        stream.base = i64::try_from(wanted).unwrap_or(0) - i64::try_from(ever).unwrap_or(0);
        if there != wanted {
            let carry = Carry { added: Some(wanted), ..Carry::default() };
            let writer = hands.target.of(&stream.target).await?;
            if let Written::Refused(reason) = writer.write(&stream.target, &[], &[], facts.last, carry).await? {
                return Err(Trouble::Stream(reason));
            }
        }
        Ok(Some(stream.base))
    }

    /// The mark says from now on that what is there came from here.
    async fn remark(
        &self,
        hands: &mut Hands,
        name: &StreamName,
        ends: &Ends,
        counted: Option<i64>,
    ) -> Result<(), Trouble> {
        self.set_mark(hands, name, Mark { owner: ends.owner.clone(), begun: true, counted }).await
    }

    /// Writes the mark of a stream, where it says something else.
    async fn set_mark(&self, hands: &mut Hands, name: &StreamName, mark: Mark) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        if stream.mark.as_ref() != Some(&mark) {
            set_mark(hands.target.of_marks().await?.line(), &stream.target, &mark).await?;
            stream.mark = Some(mark);
        }
        Ok(())
    }
}
