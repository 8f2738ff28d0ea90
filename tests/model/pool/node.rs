//! The client's side of a pool: what a node remembers of a slot, what it may ask next, what it makes of an answer.

use super::setting::{Bug, Limits, Poison, Setting};
use super::words::{Hand, Link, Reply, Request, Turn, Who};

/// A node's view of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Holder {
    /// Its last incarnation, named when it acquires again; forgotten in a crash.
    pub previous: u8,
    /// Its last turn failed, and no acquisition has said so yet.
    pub failed: bool,
    /// What it believes while it holds the slot.
    pub grip: Option<Grip>,
    /// The request whose answer it waits for.
    pub request: Option<Request>,
    /// The request was sent more than once.
    pub resent: bool,
    /// A copy of a request that it no longer waits for, still on its way.
    pub late: Option<Request>,
}

/// The belief of a holder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Grip {
    pub who: Who,
    /// The tip on which its next decision rests.
    pub tip: u8,
    /// The entry that it was served.
    pub hand: Option<Hand>,
    /// A read brought nothing: a removed slot owes nothing any more.
    pub settled: bool,
    /// The entry in hand was acknowledged outside a commit: a planted bug.
    pub acked: bool,
}

impl Holder {
    /// What the holder asks of the server next; nothing while it holds nothing, or while the entry breaks it.
    /// `has_slot`: its configuration has the slot. `fresh` is a new name for the tip.
    /// `shrunk`: its configuration lacks the last slot.
    pub fn next(&self, setting: &Setting, has_slot: bool, shrunk: bool, fresh: u8) -> Option<Request> {
        let Grip { who, tip, hand, settled, acked } = self.grip?;
        let link = Link { base: tip, new: fresh };
        let Some(hand) = hand else {
            let claims = shrunk && setting.has(Bug::ClaimsFromRemovedSlot);
            return Some(match settled && !has_slot {
                true => Request::Release { who },
                false => Request::Read { who, link, only_owed: !has_slot, claims },
            });
        };
        let entry = hand.entry;
        if is_due(setting, hand) {
            return Some(Request::Commit { who, link, turn: Turn::Bury { entry } });
        }
        if breaks(setting, hand, Poison::Panics) || breaks(setting, hand, Poison::Kills) {
            return None;
        }
        if setting.has(Bug::AckOutsideCommit) && !acked {
            return Some(Request::Ack { who, entry });
        }
        let part = entry.parts & entry.parts.wrapping_neg();
        Some(Request::Commit { who, link, turn: Turn::Fill { entry, part } })
    }

    /// The task in hand that breaks its handler in this way.
    pub fn broken_by(&self, setting: &Setting, kind: Poison) -> Option<u8> {
        let hand = self.grip?.hand?;
        (!is_due(setting, hand) && breaks(setting, hand, kind)).then_some(hand.entry.task)
    }

    /// Drops everything; what remains is the name under which the lease may still stand.
    pub fn drop_grip(&mut self) {
        if let Some(grip) = self.grip.take() {
            self.previous = grip.who.owner;
        }
        self.request = None;
        self.resent = false;
    }

    /// The life ends with everything it knows; what was under way may still run.
    pub fn dead(self) -> Self {
        Self { late: self.late.or(self.request), ..Self::default() }
    }

    /// Takes the answer to the request under way.
    pub fn hear(&mut self, setting: &Setting, request: Request, reply: Reply) {
        let trusted = !(self.resent && setting.distrusts_resent);
        self.request = None;
        self.resent = false;
        match (request, reply) {
            (Request::Acquire { incarnation, .. }, Reply::Acquired { token, tip }) => {
                (self.previous, self.failed) = (incarnation, false);
                let who = Who { token, owner: incarnation };
                self.grip = trusted.then_some(Grip { who, tip, hand: None, settled: false, acked: false });
            }
            (Request::Acquire { .. }, _) => (self.previous, self.failed) = (0, false),
            (Request::Release { .. }, _) => *self = Self { late: self.late, ..Self::default() },
            (_, Reply::Full | Reply::Held | Reply::Acquired { .. }) => {}
            (_, Reply::Fenced | Reply::Moved) => self.drop_grip(),
            (Request::Ack { .. }, _) => self.grip = self.grip.map(|grip| Grip { acked: true, ..grip }),
            (Request::Read { only_owed, .. }, Reply::Ok(None)) => {
                self.grip = self.grip.map(|grip| Grip { settled: only_owed, ..grip });
            }
            (Request::Read { link, .. }, Reply::Ok(hand) | Reply::Duplicate(hand)) => {
                let tip = |grip: &Grip| if setting.has(Bug::ReadLeavesNoTip) { grip.tip } else { link.new };
                self.grip = self.grip.map(|grip| Grip { tip: tip(&grip), hand: hand.filter(|_| trusted), ..grip });
            }
            (Request::Commit { link, .. }, Reply::Ok(hand) | Reply::Duplicate(hand)) => {
                let hand = hand.filter(|_| trusted);
                self.grip = self.grip.map(|grip| Grip { tip: link.new, hand, settled: false, acked: false, ..grip });
            }
        }
    }
}

fn is_due(setting: &Setting, hand: Hand) -> bool {
    let reached = |limits: Limits| hand.failed >= limits.failed || hand.unfinished >= limits.unfinished;
    setting.limits.is_some_and(reached)
}

fn breaks(setting: &Setting, hand: Hand, kind: Poison) -> bool {
    setting.is_poison(hand.entry.task, kind)
}
