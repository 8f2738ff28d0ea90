//! Compare: source and target, entry by entry, page by page. Used when a stream is taken up, and by `sync verify`.

use std::collections::BTreeSet;

use crate::ids::EntryId;
use crate::wire::look::{StreamFacts, behind, range, stream_facts};
use crate::wire::{Answer, Item, Line, WireError};

/// Entries of one page.
const PAGE: usize = 500;

/// One stream on one end.
pub struct Side<'a> {
    /// The connection.
    pub line: &'a mut Line,
    /// The key there.
    pub key: &'a [u8],
}

/// Whether two entries are the same: fields, order, doubles and bytes.
pub fn same_entry(a: (&Answer, &Item), b: (&Answer, &Item)) -> bool {
    a.1.id == b.1.id && a.1.arguments == b.1.arguments && a.1.fields(&a.0.bytes) == b.1.fields(&b.0.bytes)
}

/// How two streams differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Entries that both have alike.
    pub same: u64,
    /// Entries that only the source has.
    pub missing: Vec<EntryId>,
    /// Entries that only the target has, and that the source never had.
    pub extra: Vec<EntryId>,
    /// Entries with the same id and other content.
    pub other: Vec<EntryId>,
    /// Entries that only the target has: the source has deleted them, as far as it tells.
    pub kept: Vec<EntryId>,
    /// Entries that only the source has, below what the target holds on purpose.
    pub capped: Vec<EntryId>,
    /// How many of each there are, in this order; the lists hold the first of them.
    pub counts: [u64; KINDS],
    /// It ended here, before the end of the stretch.
    pub stopped: Option<EntryId>,
}

/// Lists of a [`Difference`].
pub const KINDS: usize = 5;

static NONE: BTreeSet<EntryId> = BTreeSet::new();

/// What is known before two streams are compared.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Behind this id,
    pub after: EntryId,
    /// and through this one.
    pub through: EntryId,
    /// Entries of the source after which the comparison may end, at the end of a page.
    pub limit: u64,
    /// Entries that the source is known never to have had.
    pub foreign: &'a BTreeSet<EntryId>,
    /// Whether the source tells what it has deleted: [`crate::wire::Server::tells_deletions`].
    pub tells: bool,
    /// Below this the target holds nothing on purpose.
    pub floor: EntryId,
    /// Ids of each kind that are remembered at the most.
    pub keep: usize,
}

impl Terms<'_> {
    /// Everything through an id.
    pub fn through(through: EntryId) -> Self {
        let (after, floor) = (EntryId::ZERO, EntryId::ZERO);
        Self { after, through, limit: u64::MAX, foreign: &NONE, tells: false, floor, keep: 1 }
    }
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.counts == [0; KINDS]
    }

    /// The lists, in the order of `counts`.
    pub fn lists(&mut self) -> [&mut Vec<EntryId>; KINDS] {
        [&mut self.missing, &mut self.extra, &mut self.other, &mut self.kept, &mut self.capped]
    }

    fn add(&mut self, kind: usize, id: EntryId, keep: usize) {
        self.counts[kind] += 1;
        let list = &mut self.lists()[kind];
        if list.len() < keep {
            list.push(id);
        }
    }
}

/// A walk through one side, a page ahead.
pub struct Walk {
    /// The page in hand.
    pub page: Answer,
    /// Which of its entries is next.
    pub at: usize,
    after: EntryId,
    ended: bool,
}

impl Walk {
    /// From behind an id.
    pub fn new(after: EntryId) -> Self {
        Self { page: Answer::default(), at: 0, after, ended: false }
    }

    /// Reads the next page, where this one is used up; whether it did.
    pub async fn fill(&mut self, side: &mut Side<'_>, through: EntryId) -> Result<bool, WireError> {
        if self.at < self.page.items().len() || self.ended {
            return Ok(false);
        }
        let old = std::mem::take(&mut self.page);
        side.line.reuse(old.bytes);
        self.page = range(side.line, side.key, &behind(self.after), &through.to_string(), PAGE).await?;
        self.at = 0;
        self.ended = self.page.items().len() < PAGE;
        if let Some(last) = self.page.items().last() {
            self.after = last.id;
        }
        Ok(true)
    }

    /// What of the page in hand lies below an id, or is that one where it counts in; all of it where there is none.
    pub fn run(&self, end: Option<(EntryId, bool)>) -> &[Item] {
        let rest = self.page.items().get(self.at..).unwrap_or_default();
        let inside = |item: &&Item| end.is_none_or(|(end, with)| item.id < end || (with && item.id == end));
        &rest[..rest.iter().take_while(inside).count()]
    }

    /// The next entry, if the page in hand has one.
    pub fn head(&self) -> Option<&Item> {
        self.page.items().get(self.at)
    }
}

/// What the source says of itself, asked again only where that may say something else by now.
#[derive(Default)]
struct Word {
    facts: Option<StreamFacts>,
    is_fresh: bool,
}

impl Word {
    /// Whether the source may have had this entry, which the page in hand lacks.
    async fn may_have_had(&mut self, side: &mut Side<'_>, id: EntryId, tells: bool) -> Result<bool, WireError> {
        let says = |facts: &Option<StreamFacts>| facts.as_ref().is_none_or(|facts| facts.may_have_had(id, tells));
        if self.facts.is_some() && (self.is_fresh || says(&self.facts)) {
            return Ok(says(&self.facts));
        }
        // What was trimmed between an older word and the page is told by one from behind the page.
        self.facts = Some(stream_facts(side.line, side.key).await?.unwrap_or_default());
        self.is_fresh = true;
        Ok(says(&self.facts))
    }
}

/// Compares all entries of a stretch.
pub async fn difference(
    source: &mut Side<'_>,
    target: &mut Side<'_>,
    terms: Terms<'_>,
) -> Result<Difference, WireError> {
    let Terms { through, keep, .. } = terms;
    let (mut here, mut there) = (Walk::new(terms.after), Walk::new(terms.after));
    let (mut found, mut word, mut settled) = (Difference::default(), Word::default(), 0);
    loop {
        word.is_fresh &= !here.fill(source, through).await?;
        there.fill(target, through).await?;
        match (here.head().map(|item| item.id), there.head().map(|item| item.id)) {
            (None, None) => return Ok(found),
            (Some(a), Some(b)) if a == b => {
                let same = here.head().zip(there.head());
                match same.is_some_and(|(x, y)| same_entry((&here.page, x), (&there.page, y))) {
                    true => found.same += 1,
                    false => found.add(2, a, keep),
                }
                here.at += 1;
                there.at += 1;
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                found.add(if a < terms.floor { 4 } else { 0 }, a, keep);
                here.at += 1;
            }
            (_, Some(b)) => {
                let deleted = !terms.foreign.contains(&b) && word.may_have_had(source, b, terms.tells).await?;
                found.add(if deleted { 3 } else { 1 }, b, keep);
                there.at += 1;
                continue;
            }
            (Some(_), None) => here.at += 1,
        }
        settled += 1;
        if settled >= terms.limit && here.head().is_none() {
            found.stopped = Some(here.after).filter(|after| *after < through);
            if found.stopped.is_some() {
                return Ok(found);
            }
        }
    }
}
