//! How many entries are asked for at a time: lines may be a few bytes long or a mebibyte.

use crate::store::Entry;

/// Bytes of lines that one page is to hold, about.
const PAGE_BYTES: usize = 1 << 20;
/// Entries of the first page, before it is known how long lines are.
pub(super) const PAGE_FIRST: u32 = 32;
/// Most entries of a page.
const PAGE_MAX: u32 = 1000;

/// The size of the next page, from the length of lines in this one.
pub(super) fn next_page(page: u32, entries: &[Entry]) -> u32 {
    let bytes: usize = entries.iter().map(Entry::bytes).sum();
    let Some(each) = bytes.checked_div(entries.len()) else { return page };
    let fits = u32::try_from(PAGE_BYTES / each.max(1)).unwrap_or(PAGE_MAX);
    // One page of short lines says little of the next.
    fits.clamp(1, PAGE_MAX).min(page.saturating_mul(4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntryId;

    #[test]
    fn pages_of_long_lines_are_short() {
        let page = |count: usize, bytes: usize| {
            let fields = vec![(b"d".to_vec(), vec![b'x'; bytes - 1])];
            vec![Entry { id: EntryId::ZERO, fields }; count]
        };
        assert_eq!(next_page(32, &page(10, 100)), 128, "not at once");
        assert_eq!(next_page(512, &page(10, 100)), PAGE_MAX);
        assert_eq!(next_page(32, &page(2, 256 * 1024)), 4);
        assert_eq!(next_page(32, &page(1, 2 << 20)), 1);
        assert_eq!(next_page(32, &[]), 32);
    }
}
