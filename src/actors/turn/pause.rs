//! Pausing a source actor: what the orders of one turn make of it. Pure.
//!
//! Since when it is paused stands in its state, as server milliseconds under `paused_ms`, so that a restart and a
//! takeover find it there, and `status` shows it.

use crate::ids::EntryId;

/// What an operator orders a source actor to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Look now.
    Rescan,
    /// Fetch nothing more until told to.
    Pause,
    /// Go on.
    Resume,
}

/// Since when it is paused after these orders, given since when it was before. An order came at the time of its entry.
pub fn paused_after(before: Option<u64>, orders: impl IntoIterator<Item = (EntryId, Order)>) -> Option<u64> {
    orders.into_iter().fold(before, |paused, (entry, order)| match order {
        Order::Rescan => paused,
        Order::Pause => paused.or(Some(entry.ms)),
        Order::Resume => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_order_counts_and_the_first_pause_says_since_when() {
        let at = |ms, order| (EntryId { ms, seq: 0 }, order);
        assert_eq!(paused_after(None, [at(5, Order::Pause), at(9, Order::Pause), at(10, Order::Rescan)]), Some(5));
        assert_eq!(paused_after(Some(3), [at(9, Order::Pause)]), Some(3));
        assert_eq!(paused_after(Some(3), [at(9, Order::Resume), at(10, Order::Pause)]), Some(10));
        assert_eq!(paused_after(Some(3), [at(9, Order::Pause), at(10, Order::Resume)]), None);
        assert_eq!(paused_after(Some(3), []), Some(3));
    }
}
