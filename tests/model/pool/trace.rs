//! How the steps and broken promises of a pool read in a trace.

use std::fmt;

use super::promises::Broken;
use super::words::{Hand, Link, Reply, Request, Turn, Who};
use super::world::{Place, Step};

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(task) => write!(f, "TASK {task} IS SILENTLY ABSENT"),
            Self::Innocent(task) => write!(f, "INNOCENT TASK {task} IS SET ASIDE"),
            Self::TwoHolders(task) => write!(f, "TASK {task} IS IN TWO HANDS"),
            Self::Overfull => write!(f, "THE MAILBOX GREW PAST ITS CAPACITY"),
            Self::StaleHolder => write!(f, "A FORMER HOLDER WROTE"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Asks { task } => write!(f, "task {task} is asked for"),
            Self::Acquires(place) => write!(f, "{place} acquires"),
            Self::Sends(place, request) => write!(f, "{place} sends {request}"),
            Self::Answered(place, request, reply) => write!(f, "{place}: {request} -> {reply}"),
            Self::ReplyLost(place, request, reply) => {
                write!(f, "{place}: {request} -> {reply}, REPLY LOST, sent again")
            }
            Self::Hangs(place, request) => write!(f, "{place}: {request} HANGS on its way, sent again"),
            Self::RunsLate(place, request, reply) => write!(f, "{place}: LATE {request} -> {reply}, nobody hears"),
            Self::Overwrites(place, request) => write!(f, "{place}: {request} is applied"),
            Self::RenewalDiffers(place) => write!(f, "{place}: renewal differs, lets go"),
            Self::Cut(place) => write!(f, "{place}: turn CUT"),
            Self::Crashes(place) => write!(f, "{place} CRASHES"),
            Self::Panics(place, task) => write!(f, "{place} panics over task {task}"),
            Self::Killed(place, task) => write!(f, "{place} is killed by task {task}"),
            Self::Expires { slot, paused } => {
                write!(f, "lease of slot {slot} expires{}", if paused { ", HOLDER PAUSED" } else { "" })
            }
            Self::Shrinks { node } => write!(f, "node {} is killed, and comes back WITHOUT THE LAST SLOT", node + 1),
            Self::ReplicaCatchesUp => write!(f, "replica catches up"),
            Self::FailsOver => write!(f, "FAILOVER to the replica"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} on node {}", self.slot, self.node + 1)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = |f: &mut fmt::Formatter<'_>, name: &str, Who { token, .. }: Who, Link { base, new }: Link| {
            write!(f, "{name}(token {token}, base {base}, new {new}")
        };
        match *self {
            Self::Acquire { incarnation, previous, failed, new } => {
                let fate = if failed { ", the last turn failed" } else { "" };
                write!(f, "ACQUIRE as {incarnation} (was {previous}, new {new}{fate})")
            }
            Self::Read { who, link, only_owed, claims } => {
                chain(f, "READ", who, link)?;
                write!(f, "{}{})", if only_owed { ", only owed" } else { "" }, if claims { ", claims" } else { "" })
            }
            Self::Commit { who, link, turn } => {
                chain(f, "COMMIT", who, link)?;
                match turn {
                    Turn::Fill { entry, part } if entry.parts == part => {
                        write!(f, ", task {} part {part}, ack {})", entry.task, entry.id)
                    }
                    Turn::Fill { entry, part } => {
                        let (task, rest) = (entry.task, entry.parts & !part);
                        write!(f, ", task {task} part {part}, ack {}, send on {rest})", entry.id)
                    }
                    Turn::Bury { entry } => write!(f, ", set aside task {}, ack {})", entry.task, entry.id),
                }
            }
            Self::Ack { who, entry } => write!(f, "ACK(token {}, {})", who.token, entry.id),
            Self::Release { who } => write!(f, "RELEASE(token {})", who.token),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |f: &mut fmt::Formatter<'_>, word: &str, hand: Option<Hand>| match hand {
            None => write!(f, "{word}"),
            Some(Hand { entry, failed, unfinished }) => {
                write!(f, "{word} [id {}: task {}] failed {failed}, unfinished {unfinished}", entry.id, entry.task)
            }
        };
        match *self {
            Self::Acquired { token, tip } => write!(f, "token {token}, tip {tip}"),
            Self::Held => write!(f, "HELD"),
            Self::Fenced => write!(f, "FENCED"),
            Self::Moved => write!(f, "MOVED"),
            Self::Full => write!(f, "FULL"),
            Self::Duplicate(hand) => shown(f, "DUP", hand),
            Self::Ok(hand) => shown(f, "OK", hand),
        }
    }
}
