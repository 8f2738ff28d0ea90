//! The words that clients and server exchange: entries, requests and replies.

use super::list::List;

/// A message: its number from 1, and which telling of the world it is. Whoever decides again after a failover may see
/// the world differently, so that the same number, under the same entry id, can carry other words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Message {
    pub number: u8,
    pub telling: u8,
}

/// An entry of the mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Entry {
    pub id: u8,
    pub message: Message,
    /// The receiver has sent it to itself.
    pub again: bool,
}

/// A few entries: one delivery.
pub type Hand = List<Entry, 2>;

/// What is known of the entry at the head of the mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Attempts {
    pub failed: u8,
    pub unfinished: u8,
    /// Up to this id entries are served one by one: a turn that had several of them came to nothing.
    pub careful: u8,
    /// How many entries the holder has received and not committed.
    pub in_hand: u8,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Who {
    pub token: u8,
    pub owner: u8,
}

/// On what a request rests, and the name that it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Link {
    pub base: u8,
    pub new: u8,
}

/// What a commit does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Turn {
    /// The sender appends messages, the first of them behind `cursor`.
    Send { cursor: u8, messages: List<Message, 2> },
    /// The receiver takes the entries up to `to`.
    Take { to: u8, out: List<Message, 2>, to_itself: List<Message, 2> },
    /// The receiver takes one entry to the dead list.
    DeadLetter { to: u8, message: Message },
}

/// A call of a script.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Request {
    Acquire { incarnation: u8, previous: u8, new: u8 },
    Read { who: Who, link: Link },
    Commit { who: Who, link: Link, turn: Turn },
    Fail { who: Who, link: Link, alone: bool },
    Release { who: Who, new: u8 },
}

/// What a script answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    Acquired {
        token: u8,
        tip: u8,
        cursor: u8,
    },
    /// The lease is held by another incarnation.
    Busy,
    Fenced,
    Moved,
    Full,
    /// Done before. The delivery is empty, except with a planted bug.
    Duplicate(Delivery),
    Ok(Delivery),
}

/// The entries that an answer brings, and what is known of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delivery {
    pub entries: Hand,
    pub attempts: Attempts,
}
