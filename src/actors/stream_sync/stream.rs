//! Stream: where one stream stands, and the arithmetic of what is missing. Pure.

use std::time::{Duration, Instant};

use crate::ids::EntryId;
use crate::messages::evidence::ChainEnd;
use crate::messages::sync::{StreamName, StreamNotes};
use crate::sinks::replica::Mark;
use crate::store::effect::Effect;
use crate::wire::Node;
use crate::wire::look::StreamFacts;

/// Ids below this are no times: streams whose ids producers choose. The first of January 2000.
const TIME_MIN_MS: u64 = 946_684_800_000;

/// Where a stream stands with this holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Source and target are to be compared first.
    New,
    /// It is copied.
    Live,
    /// The source has no such stream now.
    Gone,
    /// It is left alone until somebody orders a retry.
    Stopped,
}

/// One stream of the bucket.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its key on the target.
    pub target: Vec<u8>,
    /// Where it stands.
    pub phase: Phase,
    /// The node of the source that has it, where that is a cluster.
    pub node: Node,
    /// The last id that the target has.
    pub position: EntryId,
    /// The last id that was read, or is being read behind.
    pub read: EntryId,
    /// Entries that the source had ever had when it stood at `position`; none where that is not known.
    pub added: Option<u64>,
    /// The count of the target is that of the source and this number.
    pub base: i64,
    /// The next batch is the first one and sets the target's count.
    pub sets_count: bool,
    /// The mark on the target.
    pub mark: Option<Mark>,
    /// More may wait than was read.
    pub hot: bool,
    /// Bytes of an average entry; 0 = not known.
    pub entry_bytes: usize,
    /// The highest id that the source was seen to have had.
    pub seen_last: EntryId,
    /// Where its chain of evidence ends, if one is kept.
    pub chain: ChainEnd,
    /// What is remembered of it.
    pub notes: StreamNotes,
    /// The position that was published on the source last.
    pub published: EntryId,
    /// When it was compared in the background last.
    pub tended: Option<Instant>,
    /// When deletions were looked for last.
    pub pruned: Option<Instant>,
    /// The state of deletions that was carried over last: length, first and deleted id of the source.
    pub trimmed: Option<(u64, Option<EntryId>, Option<EntryId>)>,
    /// Entries that the source was last seen to have ever had; none before Redis 7.0.
    pub seen_added: Option<u64>,
}

impl Stream {
    pub(super) fn new(target: Vec<u8>, notes: StreamNotes) -> Self {
        let phase = if notes.stopped.is_empty() { Phase::New } else { Phase::Stopped };
        Self {
            target,
            phase,
            node: None,
            position: notes.position(),
            read: EntryId::ZERO,
            added: None,
            base: 0,
            sets_count: false,
            mark: None,
            hot: false,
            entry_bytes: 0,
            seen_last: EntryId::ZERO,
            chain: ChainEnd::default(),
            notes,
            published: EntryId::ZERO,
            tended: None,
            pruned: None,
            trimmed: None,
            seen_added: None,
        }
    }

    /// What is remembered of it, to be written down.
    pub(super) fn row(&self, name: &StreamName, capacity: u64) -> Effect {
        // A struct of texts and numbers has no way to fail.
        let value = serde_json::to_string(&self.notes).unwrap_or_else(|_| "{}".to_owned());
        Effect::PutRow { row: name.shown(), value, capacity }
    }

    pub(super) fn stop(&mut self, reason: &str) {
        self.phase = Phase::Stopped;
        reason.clone_into(&mut self.notes.stopped);
    }

    /// Whether the background has to look at it.
    pub(super) fn is_due(&self, now: Instant, every: Duration) -> bool {
        self.tended.is_none_or(|tended| now.duration_since(tended) >= every)
    }

    /// How far it is behind what was last seen of the source: entries, as far as they are counted, and milliseconds between
    /// the last ids, where those are times.
    pub(super) fn lag(&self) -> (u64, u64) {
        if self.seen_last <= self.position {
            return (0, 0);
        }
        let entries = self.seen_added.zip(self.added).map_or(1, |(ever, added)| ever.saturating_sub(added));
        let are_times = self.position.ms >= TIME_MIN_MS;
        (entries, if are_times { self.seen_last.ms.saturating_sub(self.position.ms) } else { 0 })
    }

    /// What the target's count is to be when the source's is this.
    pub(super) fn target_count(&self, added: u64) -> Option<u64> {
        i64::try_from(added).ok()?.checked_add(self.base).and_then(|count| u64::try_from(count).ok())
    }

    /// The source's count, when the target's is this.
    pub(super) fn source_count(&self, target: u64) -> Option<u64> {
        i64::try_from(target).ok()?.checked_sub(self.base).and_then(|count| u64::try_from(count).ok())
    }
}

/// What is missing before or within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing is known to be missing.
    Nothing,
    /// The source has lost so many entries with ids above the position and up to `through`, before they were read.
    Lost { count: u64, through: EntryId },
    /// The same, on a server that does not count.
    Uncounted { through: EntryId },
    /// The source counts fewer entries than were read: it is another stream than before.
    Another,
}

/// Compares what the source says of itself with what was read behind `after`: `read` are the ids of the batch.
///
/// `facts` may be from a moment later than the batch. An entry that was ever added above `after` is there now, or in the
/// batch, or lost; which of the three is told by the count of added entries alone.
pub(super) fn missing(
    after: EntryId,
    added: Option<u64>,
    read: &[EntryId],
    facts: &StreamFacts,
    seen_last: EntryId,
) -> Missing {
    let (Some(first), Some(last)) = (read.first(), read.last()) else { return Missing::Nothing };
    let passed = facts.first.is_none_or(|there| there > after);
    let (Some(added), Some(ever)) = (added, facts.added) else {
        // Without counts: something was known to be above the position, the source no longer reaches down to it, and
        // the batch does not begin with it.
        let uncounted = facts.added.is_none() && passed && seen_last > after && *first != facts.first.unwrap_or(*first);
        let skipped = facts.added.is_none() && passed && seen_last > after && *first > seen_last;
        return if uncounted || skipped { Missing::Uncounted { through: *first } } else { Missing::Nothing };
    };
    let Some(above) = ever.checked_sub(added) else { return Missing::Another };
    if passed {
        // Everything that the source still has lies above the position.
        let gone_since = read.iter().filter(|id| facts.first.is_none_or(|there| **id < there)).count() as u64;
        return match above.checked_sub(facts.length + gone_since) {
            Some(0) => Missing::Nothing,
            Some(count) => {
                let inside = facts.max_deleted.is_some_and(|id| id > *first);
                Missing::Lost { count, through: if inside { facts.last } else { *first } }
            }
            None => Missing::Another,
        };
    }
    if facts.last == *last {
        return match above.checked_sub(read.len() as u64) {
            Some(0) => Missing::Nothing,
            Some(count) => Missing::Lost { count, through: *last },
            None => Missing::Another,
        };
    }
    Missing::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn facts(length: u64, first: u64, last: u64, added: u64) -> StreamFacts {
        let first = Some(id(first)).filter(|_| length > 0);
        StreamFacts { length, first, last: id(last), max_deleted: Some(EntryId::ZERO), added: Some(added), groups: 0 }
    }

    #[test]
    fn a_lag_is_told_in_entries_and_in_time() {
        let mut stream = Stream::new(Vec::new(), StreamNotes::default());
        (stream.seen_last, stream.seen_added, stream.added) = (id(9), Some(30), Some(10));
        assert_eq!(stream.lag(), (20, 0), "these ids are no times");
        stream.added = None;
        assert_eq!(stream.lag(), (1, 0), "uncounted, and not nothing");
        (stream.position, stream.seen_last) = (id(TIME_MIN_MS), id(TIME_MIN_MS + 1500));
        assert_eq!(stream.lag(), (1, 1500));
        stream.position = stream.seen_last;
        assert_eq!(stream.lag(), (0, 0));
    }

    #[test]
    fn what_a_trim_took_is_counted() {
        // 1..=10 added, copied up to 3; 1..=6 trimmed; 7..=9 read.
        let read = [id(7), id(8), id(9)];
        assert_eq!(
            missing(id(3), Some(3), &read, &facts(4, 7, 10, 10), id(10)),
            Missing::Lost { count: 3, through: id(7) }
        );
        // The trim went on after the read, over what is in hand already.
        assert_eq!(
            missing(id(3), Some(3), &read, &facts(1, 10, 10, 10), id(10)),
            Missing::Lost { count: 3, through: id(7) }
        );
        // Trimmed up to what was copied: nothing is missing.
        assert_eq!(missing(id(6), Some(6), &read, &facts(4, 7, 10, 10), id(10)), Missing::Nothing);
    }

    #[test]
    fn what_was_deleted_in_the_middle_is_counted_when_the_end_is_reached() {
        // 1..=10 added, copied up to 3; 5 deleted; 4 and 6..=10 read.
        let read = [4, 6, 7, 8, 9, 10].map(id);
        assert_eq!(
            missing(id(3), Some(3), &read, &facts(9, 1, 10, 10), id(10)),
            Missing::Lost { count: 1, through: id(10) }
        );
        // Before the end nothing can be said, and nothing is.
        assert_eq!(missing(id(3), Some(3), &read[..2], &facts(9, 1, 10, 10), id(10)), Missing::Nothing);
    }

    #[test]
    fn a_stream_that_was_made_anew_is_another_one() {
        assert_eq!(missing(id(3), Some(30), &[id(9)], &facts(1, 9, 9, 1), id(3)), Missing::Another);
    }

    #[test]
    fn without_counts_only_a_known_loss_is_told() {
        let old = |first| StreamFacts { added: None, max_deleted: None, ..facts(4, first, 10, 0) };
        assert_eq!(missing(id(3), None, &[id(7)], &old(7), id(3)), Missing::Nothing, "nothing was known above");
        assert_eq!(missing(id(3), None, &[id(7)], &old(7), id(5)), Missing::Uncounted { through: id(7) });
        assert_eq!(missing(id(3), None, &[id(4)], &old(2), id(9)), Missing::Nothing, "the position is still there");
    }

    proptest! {
        /// A source with trims and deletes at random: once the copy has caught up, what was noted as lost and what was
        /// copied are together what was ever added.
        #[test]
        fn copied_and_lost_are_all_that_was_added(steps in prop::collection::vec((0u8..4, 1u64..6), 1..60)) {
            let (mut there, mut last, mut ever, mut deleted) = (Vec::<u64>::new(), 0u64, 0u64, 0u64);
            let (mut position, mut added, mut copied, mut lost) = (0u64, 0u64, 0u64, 0u64);
            let mut copy = |there: &Vec<u64>, last: u64, ever: u64, deleted: u64, count: usize| {
                let read: Vec<EntryId> = there.iter().filter(|n| **n > position).take(count).map(|n| id(*n)).collect();
                let facts = StreamFacts { max_deleted: Some(id(deleted)), ..facts(
                    there.len() as u64, there.first().copied().unwrap_or(0), last, ever) };
                let found = missing(id(position), Some(added), &read, &facts, id(last));
                if let Missing::Lost { count, .. } = found { lost += count; added += count; }
                prop_assert!(found != Missing::Another);
                added += read.len() as u64;
                copied += read.len() as u64;
                position = read.last().map_or(position, |id| id.ms);
                Ok(copied + lost)
            };
            for (what, n) in steps {
                match what {
                    0 => for _ in 0..n { last += 1; ever += 1; there.push(last); },
                    1 => { there.drain(..there.len().min(n as usize)); }
                    2 if !there.is_empty() => {
                        let at = n as usize % there.len();
                        deleted = deleted.max(there.remove(at));
                    }
                    _ => { copy(&there, last, ever, deleted, n as usize)?; }
                }
            }
            last += 1; ever += 1; there.push(last);
            prop_assert_eq!(copy(&there, last, ever, deleted, 1000)?, ever);
        }
    }
}
