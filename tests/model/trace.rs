//! How steps and broken promises read in a trace.

use std::fmt;

use super::promises::Broken;
use super::redis::RECEIVER;
use super::words::{Attempts, Entry, Hand, Message, Reply, Request, Turn, Who};
use super::world::Step;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doubled(number) => write!(f, "MESSAGE {number} IS DOUBLED"),
            Self::Lost(number) => write!(f, "MESSAGE {number} IS LOST"),
            Self::Reordered(number) => write!(f, "MESSAGE {number} OVERTOOK ANOTHER"),
            Self::Foreign(number) => write!(f, "MESSAGE {number} IS NOT WHAT THIS HISTORY'S SENDER SAID"),
            Self::Cursor { cursor, sent } => write!(f, "CURSOR {cursor}, BUT {sent} MESSAGES WERE SENT"),
            Self::StaleHolder => write!(f, "A FORMER HOLDER WROTE"),
            Self::OffsetAhead { offset, last_id } => write!(f, "BROKEN: OFFSET {offset}, BUT LAST ID {last_id}"),
            Self::Innocent(number) => write!(f, "INNOCENT MESSAGE {number} IS DEAD-LETTERED"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Acquires { unit, node, new } => {
                write!(f, "{} acquires, tip {new}", Place(unit, node))
            }
            Self::Sends { unit, node, request } => write!(f, "{} sends {}", Place(unit, node), Shown(request)),
            Self::Answered { unit, node, request, reply } => {
                write!(f, "{}: {} -> {}", Place(unit, node), Shown(request), Shown(reply))
            }
            Self::ReplyLost { unit, node, request, reply } => {
                write!(f, "{}: {} -> {}, REPLY LOST, sent again", Place(unit, node), Shown(request), Shown(reply))
            }
            Self::Hangs { unit, node, request } => {
                write!(f, "{}: {} HANGS on its way, sent again", Place(unit, node), Shown(request))
            }
            Self::RunsLate { unit, node, request, reply } => {
                write!(f, "{}: LATE {} -> {}, nobody hears", Place(unit, node), Shown(request), Shown(reply))
            }
            Self::Overwrites { unit, node, request } => {
                write!(f, "{}: {} is applied", Place(unit, node), Shown(request))
            }
            Self::RenewalDiffers { unit, node } => write!(f, "{}: renewal differs, lets go", Place(unit, node)),
            Self::Cut { unit, node } => write!(f, "{}: turn CUT", Place(unit, node)),
            Self::Crashes { unit, node } => write!(f, "{} CRASHES", Place(unit, node)),
            Self::Killed { unit, node, message } => {
                write!(f, "{} is killed by message {}", Place(unit, node), message.number)
            }
            Self::Expires { unit, paused } => {
                write!(f, "lease of {} expires{}", unit_name(unit), if paused { ", HOLDER PAUSED" } else { "" })
            }
            Self::ReplicaCatchesUp => write!(f, "replica catches up"),
            Self::FailsOver => write!(f, "FAILOVER to the replica"),
        }
    }
}

/// Who and where, as a trace shows it.
struct Place(usize, usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on node {}", unit_name(self.0), self.1 + 1)
    }
}

/// A request or reply, as a trace shows it.
struct Shown<T>(T);

impl fmt::Display for Shown<Request> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Acquire { incarnation, previous, new } => {
                write!(f, "ACQUIRE as {incarnation} (was {previous}, new {new})")
            }
            Request::Read { who: Who { token, .. }, link } => {
                write!(f, "READ(token {token}, base {}, new {})", link.base, link.new)
            }
            Request::Commit { who: Who { token, .. }, link, turn } => {
                write!(f, "COMMIT(token {token}, base {}, new {}, {})", link.base, link.new, Shown(turn))
            }
            Request::Fail { who: Who { token, .. }, link, .. } => {
                write!(f, "FAIL(token {token}, base {}, new {})", link.base, link.new)
            }
            Request::Release { who: Who { token, .. }, new } => write!(f, "RELEASE(token {token}, new {new})"),
        }
    }
}

impl fmt::Display for Shown<Turn> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Turn::Send { messages, .. } => write!(f, "send {}", numbers(messages.iter())),
            Turn::Take { to, out, to_itself } if to_itself.is_empty() => {
                write!(f, "take up to id {to}, out {}", numbers(out.iter()))
            }
            Turn::Take { to, out, to_itself } => {
                write!(f, "take up to id {to}, out {}, again {}", numbers(out.iter()), numbers(to_itself.iter()))
            }
            Turn::DeadLetter { to, message } => write!(f, "dead-letter {} id {to}", message.number),
        }
    }
}

impl fmt::Display for Shown<Reply> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reply::Acquired { token, tip, cursor } => write!(f, "token {token}, tip {tip}, cursor {cursor}"),
            Reply::Busy => write!(f, "BUSY"),
            Reply::Fenced => write!(f, "FENCED"),
            Reply::Moved => write!(f, "MOVED"),
            Reply::Full => write!(f, "FULL"),
            Reply::Duplicate(delivery) => write!(f, "DUP{}", Shown(delivery.entries)),
            Reply::Ok(delivery) => {
                let Attempts { failed, unfinished, .. } = delivery.attempts;
                write!(f, "OK{}", Shown(delivery.entries))?;
                if failed + unfinished > 0 { write!(f, " failed {failed}, unfinished {unfinished}") } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for Shown<Hand> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Entry { id, message, .. }| write!(f, " [id {id}: {}]", message.number))
    }
}

fn numbers<'a>(messages: impl Iterator<Item = &'a Message>) -> String {
    let words: Vec<String> = messages.map(|message| message.number.to_string()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

/// The unit's name in a trace.
fn unit_name(unit: usize) -> &'static str {
    if unit == RECEIVER { "receiver" } else { "sender" }
}
