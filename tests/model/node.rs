//! The client's side: what a node remembers of a unit, what it may ask next, and what it makes of an answer.
//!
//! There is no prefetch: entries come from a fenced read or with the OK of a commit, and nothing else.

use super::redis::SENDER;
use super::setting::{Bug, Limits, Poison, Setting};
use super::words::{Attempts, Delivery, Entry, Hand, Link, Message, Reply, Request, Turn, Who};

/// A node's view of one unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Holder {
    /// Its last incarnation, named when it acquires again; forgotten in a crash.
    pub previous: u8,
    /// What it believes while it holds the unit.
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
    /// The sender's state.
    pub cursor: u8,
    /// The entries that the receiver has been given.
    pub hand: Hand,
    pub attempts: Attempts,
}

impl Holder {
    /// Everything the holder may ask of the server now; `fresh` is a new name for the tip.
    pub fn options(&self, setting: &Setting, unit: usize, fresh: u8, telling: u8, offer: &mut dyn FnMut(Request)) {
        let Some(grip) = self.grip else { return };
        let new = if setting.has(Bug::Sequence) { grip.tip + 1 } else { fresh };
        let link = Link { base: grip.tip, new };
        if unit == SENDER {
            grip.turns_of_sender(setting, telling, &mut |turn| offer(Request::Commit { who: grip.who, link, turn }));
        } else if grip.hand.is_empty() {
            offer(Request::Read { who: grip.who, link });
        } else {
            grip.turns_of_receiver(setting, link, offer);
        }
    }

    /// The message in hand that kills its handler, if it is handled now.
    pub fn killer(&self, setting: &Setting) -> Option<Message> {
        let grip = self.grip.filter(|grip| !grip.is_due_for_dead_letter(setting))?;
        let kills = |entry: &&Entry| setting.poison == Some((entry.message.number, Poison::Kills));
        grip.hand.iter().find(kills).map(|entry| entry.message)
    }

    /// Drops everything; what remains is the name under which the lease may still stand.
    pub fn drop_grip(&mut self) {
        if let Some(grip) = self.grip.take() {
            self.previous = grip.who.owner;
        }
        self.request = None;
        self.resent = false;
    }

    /// Takes the answer to the request under way.
    pub fn hear(&mut self, setting: &Setting, request: Request, reply: Reply) {
        let acquire_is_used = setting.has(Bug::ResentAcquireIsUsed) && matches!(request, Request::Acquire { .. });
        let trusted = !(self.resent && setting.distrusts_resent) || acquire_is_used;
        self.request = None;
        self.resent = false;
        match (request, reply) {
            (Request::Acquire { incarnation, .. }, Reply::Acquired { token, tip, cursor }) => {
                self.previous = incarnation;
                let who = Who { token, owner: incarnation };
                let grip = Grip { who, tip, cursor, hand: Hand::default(), attempts: Attempts::default() };
                self.grip = trusted.then_some(grip);
            }
            (Request::Acquire { .. }, _) | (_, Reply::Busy | Reply::Full | Reply::Acquired { .. }) => {}
            (Request::Release { .. }, _) => *self = Self { late: self.late, ..Self::default() },
            (_, Reply::Fenced | Reply::Moved) => self.drop_grip(),
            (Request::Read { link, .. } | Request::Commit { link, .. } | Request::Fail { link, .. }, answer) => {
                let (Reply::Ok(delivery) | Reply::Duplicate(delivery)) = answer else { unreachable!("handled above") };
                if let Some(grip) = &mut self.grip {
                    let left_tip = !(matches!(answer, Reply::Ok(_)) && delivery.entries.is_empty() && is_read(request));
                    let read_without_tip = setting.has(Bug::ReadLeavesNoTip) || setting.has(Bug::Sequence);
                    if left_tip && !(is_read(request) && read_without_tip) {
                        grip.tip = link.new;
                    }
                    grip.advance(request, if trusted { delivery } else { Delivery::default() });
                }
            }
        }
    }
}

impl Grip {
    fn turns_of_sender(&self, setting: &Setting, telling: u8, offer: &mut dyn FnMut(Turn)) {
        let left = setting.messages - self.cursor.min(setting.messages);
        for count in 1..=left.min(setting.batch as u8) {
            let messages = (1..=count).map(|ahead| Message { number: self.cursor + ahead, telling }).collect();
            offer(Turn::Send { cursor: self.cursor, messages });
        }
    }

    fn turns_of_receiver(&self, setting: &Setting, link: Link, offer: &mut dyn FnMut(Request)) {
        let first = self.hand.first().expect("the caller has looked");
        if self.is_due_for_dead_letter(setting) {
            let turn = Turn::DeadLetter { to: first.id, message: first.message };
            return offer(Request::Commit { who: self.who, link, turn });
        }
        for count in 1..=self.hand.len() {
            let taken = || self.hand.iter().take(count);
            let panics = |entry: &Entry| setting.poison == Some((entry.message.number, Poison::Panics));
            let kills = |entry: &Entry| setting.poison == Some((entry.message.number, Poison::Kills));
            if taken().any(panics) {
                offer(Request::Fail { who: self.who, link, alone: self.hand.len() == 1 });
            } else if !taken().any(kills) {
                let goes_out = |entry: &&Entry| entry.again || !setting.sends_to_itself;
                let turn = Turn::Take {
                    to: taken().next_back().map_or(0, |entry| entry.id),
                    out: taken().filter(goes_out).map(|entry| entry.message).collect(),
                    to_itself: taken().filter(|entry| !goes_out(entry)).map(|entry| entry.message).collect(),
                };
                offer(Request::Commit { who: self.who, link, turn });
            }
        }
    }

    fn is_due_for_dead_letter(&self, setting: &Setting) -> bool {
        let reached =
            |limits: Limits| self.attempts.failed >= limits.failed || self.attempts.unfinished >= limits.unfinished;
        self.hand.len() == 1 && setting.limits.is_some_and(reached)
    }

    /// Goes on after OK or DUP.
    fn advance(&mut self, request: Request, delivery: Delivery) {
        if let Request::Commit { turn: Turn::Send { cursor, messages }, .. } = request {
            self.cursor = cursor + messages.len() as u8;
        }
        self.hand = delivery.entries;
        self.attempts = delivery.attempts;
    }
}

fn is_read(request: Request) -> bool {
    matches!(request, Request::Read { .. })
}
