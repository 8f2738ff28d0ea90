//! Agree: whether what the target holds came from this source, walking back on both from the target's last id.
//!
//! The top alone would not tell: a source that failed over may have given other entries ids in between, and ids only rise,
//! so those can never be written.

use std::collections::BTreeMap;

use super::compare::same_entry;
use crate::ids::EntryId;
use crate::messages::sync::{NoteKind, StreamNotes};
use crate::wire::look::{StreamFacts, range_back, stream_facts};
use crate::wire::{Answer, Item, Line, WireError};

/// Entries of one step back.
const PAGE: usize = 16;
/// Entries that are compared where the source is another life, or another server, than when the stream was copied.
pub(super) const DEEP: u64 = 1000;
/// Entries that are looked at on the way back at the most.
pub(super) const LOOK_MAX: u64 = 100_000;

/// What a walk back saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The highest id below all differences that both have alike.
    pub common: EntryId,
    /// Entries that both have with other content.
    pub other: u64,
    /// Entries that the source has and the target never had: they cannot be written any more.
    pub holes: u64,
    /// Entries that the source has and the target has not, and that may have been deleted there.
    pub unsure: u64,
    /// Entries that the target has and the source never had, as far as it tells.
    pub alone: u64,
    /// The topmost of those.
    pub foreign: Vec<EntryId>,
    /// The target's topmost entry is not on the source.
    pub is_topped: bool,
    looked: u64,
    alike: bool,
}

impl Seen {
    /// Entries that stand in the way of a promise: whoever goes on behind them must have looked.
    pub(super) fn apart(&self) -> u64 {
        self.other + self.holes + self.alone
    }
}

/// What is known before the walk.
pub(super) struct Known<'a> {
    /// How the source stands.
    pub source: &'a StreamFacts,
    /// How the target stands.
    pub target: &'a StreamFacts,
    /// Whether the source tells what it has deleted.
    pub tells: bool,
    /// What is on the target was copied by us, as far as its mark says.
    pub ours: bool,
    /// What is noted already; it is not told again.
    pub notes: &'a StreamNotes,
    /// Entries that are compared at least.
    pub depth: u64,
}

impl Known<'_> {
    /// Whether a note covers an entry already.
    fn is_settled(&self, id: EntryId) -> bool {
        let told = |kind| matches!(kind, NoteKind::Oversize | NoteKind::Conflict | NoteKind::Hole);
        let within = |after: &str, through: &str| {
            let (after, through): (EntryId, EntryId) =
                (after.parse().unwrap_or_default(), through.parse().unwrap_or_default());
            // A target that ends below is not the one that the note is about: it was repaired, or flushed.
            after < id && id <= through && through <= self.target.last
        };
        self.notes.notes.iter().any(|note| told(note.kind) && within(&note.after, &note.through))
    }
}

/// Walks back from the target's last id until both agree for a while, or one of them ends.
pub(super) async fn walk_back(
    (source, key): (&mut Line, &[u8]),
    (target, there): (&mut Line, &[u8]),
    known: &Known<'_>,
) -> Result<Seen, WireError> {
    let (mut seen, mut to, mut facts) = (Seen::default(), known.target.last, known.source.clone());
    loop {
        let page = range_back(target, there, &to.to_string(), PAGE).await?;
        let whole = page.items().len() == PAGE;
        // What a consumer of the target has trimmed is no hole, if the target was ours.
        let bottom = if known.ours { known.target.first.unwrap_or(known.target.last) } else { EntryId::ZERO };
        let from = page.items().last().filter(|_| whole).map_or(bottom, |item| item.id);
        let here = between(source, key, from, to).await?;
        let before = seen.clone();
        seen.compare(&here, &page, known, &facts);
        if seen.alone > before.alone {
            // What was deleted between an older word of the source and its entries is told by one from behind them.
            facts = stream_facts(source, key).await?.unwrap_or_default();
            seen = before.clone();
            seen.compare(&here, &page, known, &facts);
        }
        let good = seen.apart() == before.apart() && seen.alike;
        let ends = !whole || known.source.first.is_none_or(|first| first > from) || from == EntryId::ZERO;
        if ends || (good && seen.looked >= known.depth) || seen.looked >= LOOK_MAX {
            return Ok(seen);
        }
        to = below(from);
    }
}

/// All entries of a stretch, by id.
async fn between(line: &mut Line, key: &[u8], from: EntryId, to: EntryId) -> Result<Vec<Answer>, WireError> {
    let mut pages = Vec::new();
    let mut begin = from.to_string();
    while pages.len() < usize::try_from(LOOK_MAX).unwrap_or(usize::MAX) / PAGE {
        let page = crate::wire::look::range(line, key, &begin, &to.to_string(), PAGE).await?;
        let last = page.items().last().map(|item| item.id);
        let whole = page.items().len() == PAGE;
        pages.push(page);
        match last {
            Some(last) if whole && last < to => begin = format!("({last}"),
            _ => break,
        }
    }
    Ok(pages)
}

impl Seen {
    /// Compares a stretch, from its upper end.
    fn compare(&mut self, here: &[Answer], there: &Answer, known: &Known<'_>, facts: &StreamFacts) {
        type Pair<'a> = (Option<(&'a Answer, &'a Item)>, Option<&'a Item>);
        let mut all: BTreeMap<EntryId, Pair<'_>> = BTreeMap::new();
        for page in here {
            page.items().iter().for_each(|item| all.entry(item.id).or_default().0 = Some((page, item)));
        }
        there.items().iter().for_each(|item| all.entry(item.id).or_default().1 = Some(item));
        let is_first = self.looked == 0;
        for (at, (id, pair)) in all.iter().rev().enumerate() {
            self.looked += 1;
            match pair {
                (Some(a), Some(b)) if same_entry(*a, (there, b)) => {
                    self.alike = true;
                    if self.common == EntryId::ZERO {
                        self.common = *id;
                    }
                }
                _ if known.is_settled(*id) => {}
                (None, _) => {
                    self.is_topped |= is_first && at == 0;
                    if !facts.may_have_had(*id, known.tells) {
                        self.alone += 1;
                        self.foreign.extend(Some(*id).filter(|_| self.foreign.len() < PAGE));
                        (self.common, self.alike) = (EntryId::ZERO, false);
                    }
                }
                (Some(_), there) => self.differs(*id, there.is_some(), known),
            }
        }
    }

    fn differs(&mut self, id: EntryId, is_other: bool, known: &Known<'_>) {
        let deleted = known.target.max_deleted.is_none_or(|deleted| id <= deleted);
        match (is_other, known.ours && deleted) {
            (true, _) => self.other += 1,
            (false, true) => {
                self.unsure += 1;
                return;
            }
            (false, false) => self.holes += 1,
        }
        (self.common, self.alike) = (EntryId::ZERO, false);
    }
}

/// The id just below.
fn below(id: EntryId) -> EntryId {
    match (id.seq.checked_sub(1), id.ms.checked_sub(1)) {
        (Some(seq), _) => EntryId { ms: id.ms, seq },
        (None, Some(ms)) => EntryId { ms, seq: u64::MAX },
        (None, None) => EntryId::ZERO,
    }
}
