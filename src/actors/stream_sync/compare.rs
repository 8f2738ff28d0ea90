//! Compare: source and target, entry by entry, page by page. Used when a stream is taken up, and by `sync verify`.

use crate::ids::EntryId;
use crate::wire::look::{behind, range};
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
    /// Entries that only the target has.
    pub extra: Vec<EntryId>,
    /// Entries with the same id and other content.
    pub other: Vec<EntryId>,
    /// How many of each there are; the lists hold the first of them.
    pub counts: [u64; 3],
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.counts == [0; 3]
    }

    fn add(&mut self, kind: usize, id: EntryId, keep: usize) {
        self.counts[kind] += 1;
        let list = [&mut self.missing, &mut self.extra, &mut self.other];
        if let Some(list) = list.into_iter().nth(kind).filter(|list| list.len() < keep) {
            list.push(id);
        }
    }
}

/// A walk through one side, a page ahead.
struct Walk {
    page: Answer,
    at: usize,
    after: EntryId,
    ended: bool,
}

impl Walk {
    fn new(after: EntryId) -> Self {
        Self { page: Answer::default(), at: 0, after, ended: false }
    }

    async fn fill(&mut self, side: &mut Side<'_>, through: EntryId) -> Result<(), WireError> {
        if self.at < self.page.items().len() || self.ended {
            return Ok(());
        }
        let old = std::mem::take(&mut self.page);
        side.line.reuse(old.bytes);
        self.page = range(side.line, side.key, &behind(self.after), &through.to_string(), PAGE).await?;
        self.at = 0;
        self.ended = self.page.items().len() < PAGE;
        if let Some(last) = self.page.items().last() {
            self.after = last.id;
        }
        Ok(())
    }

    fn head(&self) -> Option<&Item> {
        self.page.items().get(self.at)
    }
}

/// Compares all entries behind `after` and through `through`; remembers at most `keep` ids of each kind. `step` is called
/// with the last id that is settled, page by page.
pub async fn difference(
    source: &mut Side<'_>,
    target: &mut Side<'_>,
    (after, through): (EntryId, EntryId),
    keep: usize,
    mut step: impl FnMut(EntryId),
) -> Result<Difference, WireError> {
    let (mut here, mut there, mut found) = (Walk::new(after), Walk::new(after), Difference::default());
    loop {
        here.fill(source, through).await?;
        there.fill(target, through).await?;
        let (a, b) = match (here.head(), there.head()) {
            (None, None) => return Ok(found),
            (a, b) => (a.map(|item| item.id), b.map(|item| item.id)),
        };
        match (a, b) {
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
                found.add(0, a, keep);
                here.at += 1;
            }
            (_, Some(b)) => {
                found.add(1, b, keep);
                there.at += 1;
            }
            (_, None) => here.at += 1,
        }
        if here.at >= here.page.items().len() {
            step(here.after);
        }
    }
}
