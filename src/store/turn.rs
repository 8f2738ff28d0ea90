//! The words of a turn: how a unit reads, what it was given, what became of it.

use super::reply::Entry;
use crate::ids::{RandomId, Token};

/// How a unit reads its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    /// Alone, by its own offset.
    Offset,
    /// As one slot of a pool that shares the mailbox through a consumer group.
    Pool,
    /// As a slot that the configuration no longer has: what it still owes, and nothing new.
    Owed,
}

/// What became of the turn that an acquisition follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fate {
    /// Nothing that counts: a start, a drain, an outage, a reload.
    #[default]
    Clean,
    /// It panicked, failed or hung; counts against its entry, if the turn had only one.
    Failed(String),
}

/// Entries handed to one turn, with what is known of the first one's past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Turns of the first entry alone that panicked, failed or hung.
    pub failed: u64,
    /// Turns of the first entry alone whose holder vanished.
    pub unfinished: u64,
    /// Why the last of the failed turns failed.
    pub fault: String,
    /// Of a pool that has nothing to serve: milliseconds until an entry that was put off comes again.
    pub next_ms: Option<u64>,
}

/// What a commit answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Done now.
    Now,
    /// Done by an earlier sending of the same commit, whose answer was lost.
    Before,
}

/// What a turn learns at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The fencing token.
    pub token: Token,
    /// This acquisition.
    pub owner: RandomId,
    /// The tip that decisions rest on.
    pub tip: RandomId,
    /// Commits so far; for people and for reporting ranges.
    pub seq: u64,
}
