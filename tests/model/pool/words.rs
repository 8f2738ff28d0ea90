//! The words that slots and server exchange: tasks, requests and replies.

pub use super::super::words::{Link, Who};

/// A set of parts of a task, as bits.
pub type Parts = u8;

/// An entry of the pool's mailbox: a task, or what is left of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Entry {
    pub id: u8,
    /// From 1.
    pub task: u8,
    /// The parts that it asks for.
    pub parts: Parts,
    /// The slot that owes it, from 1; 0 while it was served to none.
    pub owed_by: u8,
}

/// What one delivery brings: an entry, and what is known of its past.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Hand {
    pub entry: Entry,
    pub failed: u8,
    pub unfinished: u8,
}

/// What a commit does, beside acknowledging the entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Turn {
    /// Holds one part, and sends the others on.
    Fill { entry: Entry, part: Parts },
    /// Sets the entry aside and parks its parts.
    Bury { entry: Entry },
}

/// A call of a script.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Request {
    /// `failed`: the turn before it panicked, failed or hung.
    Acquire {
        incarnation: u8,
        previous: u8,
        failed: bool,
        new: u8,
    },
    /// `only_owed`: the caller's configuration has the slot no more. `claims`: a planted bug.
    Read {
        who: Who,
        link: Link,
        only_owed: bool,
        claims: bool,
    },
    Commit {
        who: Who,
        link: Link,
        turn: Turn,
    },
    /// An acknowledgement outside a commit: a planted bug.
    Ack {
        who: Who,
        entry: Entry,
    },
    Release {
        who: Who,
    },
}

/// What a script answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    Acquired {
        token: u8,
        tip: u8,
    },
    /// The lease is held by another incarnation.
    Held,
    Fenced,
    Moved,
    Full,
    /// Done before. It delivers nothing, except with a planted bug.
    Duplicate(Option<Hand>),
    Ok(Option<Hand>),
}
