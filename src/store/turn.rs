//! The words of a turn: how a unit reads, what it was given, what became of it.

use super::keys::Keys;
use super::reply::Entry;
use crate::ids::{Address, PipelineId, RandomId, Token, UnitId};

/// How a unit reads its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    /// Alone, by its own offset.
    Offset,
    /// As one slot of a pool that shares the mailbox through a consumer group.
    Pool,
    /// As a slot that the configuration no longer has: what it still owes, and nothing new.
    Owed,
    /// Alone, by its own offset, in an output of its pipeline that others may read too: nothing is trimmed behind it
    /// but by [`Lease::trim`](super::lease::Lease::trim), which asks for its offset. A stream whose last id lies behind the
    /// offset is BROKEN.
    Follow(&'static str),
}

/// The stream that a unit reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inbox {
    /// A mailbox.
    Mailbox(Address),
    /// An output of a pipeline, by name.
    Output(PipelineId, &'static str),
}

impl Inbox {
    /// What a unit reads that reads so.
    pub fn of(unit: &UnitId, mail: Mail) -> Self {
        match mail {
            Mail::Follow(output) => Self::Output(unit.pipeline.clone(), output),
            Mail::Offset | Mail::Pool | Mail::Owed => Self::Mailbox(Address::new(&unit.pipeline, &unit.actor)),
        }
    }

    pub(super) fn key(&self, keys: &Keys) -> String {
        match self {
            Self::Mailbox(address) => keys.mailbox(address),
            Self::Output(pipeline, name) => keys.output(pipeline, name),
        }
    }
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
