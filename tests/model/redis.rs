//! The server's side: what Redis keeps, and the scripts as pure functions on it, under the names of the Lua.
//!
//! Two units: the sender owns the cursor, the receiver owns the offset into the mailbox between them. Every script runs
//! alone and whole, as in Redis. A lost history is a copy of [`Redis`] that is thrown away.

use super::list::List;
use super::setting::{Bug, Clock, Ids, Setting};
use super::words::{Attempts, Delivery, Entry, Hand, Link, Message, Reply, Request, Turn, Who};

/// The unit that sends.
pub const SENDER: usize = 0;
/// The unit that receives.
pub const RECEIVER: usize = 1;

/// The checkpoint of a unit without its state, and its lease. Zero stands for "none" in every name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Unit {
    /// The incarnation that acquired it last.
    pub owner: u8,
    pub token: u8,
    pub tip: u8,
    /// The lease's own key exists.
    pub leased: bool,
    /// The last holder gave it back in good order.
    pub released: bool,
    pub attempts: Attempts,
}

/// One history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Redis {
    pub units: [Unit; 2],
    /// The sender's state: the number of the last message sent.
    pub cursor: u8,
    /// The receiver's offset: the id of the last entry taken.
    pub offset: u8,
    pub mailbox: List<Entry, 6>,
    /// The last id that the stream gave out; trimming keeps it.
    pub last_id: u8,
    pub out: List<Message, 6>,
    pub dead: List<Message, 6>,
    /// The truth that the rest is compared with: what the surviving commits of the sender said. No script reads it.
    pub sent: List<Message, 6>,
}

/// A write by someone who is not the newest holder in this history.
pub struct StaleWrite;

/// Names that no history has seen.
#[derive(Clone, Copy)]
pub struct Fresh {
    pub incarnation: u8,
    pub token: u8,
    pub tip: u8,
    pub entry: u8,
}

impl Redis {
    /// Runs one script.
    pub fn run(&mut self, setting: &Setting, fresh: Fresh, unit: usize, request: Request) -> Result<Reply, StaleWrite> {
        match request {
            Request::Acquire { incarnation, previous, new } => {
                Ok(self.acquire(setting, fresh, unit, incarnation, previous, new))
            }
            Request::Read { who, link } => self.read(setting, who, link),
            Request::Commit { who, link, turn } => self.commit(setting, fresh, who, link, turn),
            Request::Fail { who, link, alone } => self.fail(setting, who, link, alone),
            Request::Release { who, new } => Ok(self.release(setting, unit, who, new)),
        }
    }

    /// Whether an acquisition by the successor of `previous` would be granted.
    pub fn is_free(&self, unit: usize, previous: u8) -> bool {
        let unit = &self.units[unit];
        !unit.leased || (previous != 0 && unit.owner == previous)
    }

    fn acquire(&mut self, setting: &Setting, fresh: Fresh, unit: usize, incarnation: u8, prev: u8, new: u8) -> Reply {
        let free = self.is_free(unit, prev);
        let (cursor, last) = (self.cursor, self.last_in_hand());
        let unit = &mut self.units[unit];
        if unit.owner == incarnation && !unit.released {
            unit.leased = true;
            return Reply::Acquired { token: unit.token, tip: unit.tip, cursor };
        }
        if !free {
            return Reply::Busy;
        }
        let vanished = unit.owner != 0 && unit.owner != prev && (!unit.released || setting.has(Bug::ReleaseCounts));
        unit.attempts.holder_gone(setting, vanished, last);
        unit.token = match setting.clock {
            Clock::Right => fresh.token,
            Clock::Behind => unit.token + 1,
        };
        unit.owner = incarnation;
        unit.leased = true;
        unit.released = false;
        if !setting.has(Bug::Sequence) && !setting.has(Bug::AcquireLeavesNoTip) {
            unit.tip = new;
        }
        Reply::Acquired { token: unit.token, tip: unit.tip, cursor }
    }

    fn read(&mut self, setting: &Setting, who: Who, link: Link) -> Result<Reply, StaleWrite> {
        if self.is_fenced(setting, RECEIVER, who) {
            return Ok(Reply::Fenced);
        }
        let tip = self.units[RECEIVER].tip;
        let leaves_tip = !setting.has(Bug::Sequence) && !setting.has(Bug::ReadLeavesNoTip);
        if leaves_tip && tip == link.new && !setting.has(Bug::RepeatedReadDelivers) {
            return Ok(Reply::Duplicate(Delivery::default()));
        }
        if tip != link.base && tip != link.new {
            return Ok(Reply::Moved);
        }
        let delivery = self.deliver(setting);
        if let Some(last) = delivery.entries.last() {
            if leaves_tip {
                self.units[RECEIVER].tip = link.new;
            }
            if setting.has(Bug::ReadMovesOffset) {
                self.offset = last.id;
            }
            self.written_by(RECEIVER, who)?;
        }
        Ok(Reply::Ok(delivery))
    }

    fn commit(&mut self, s: &Setting, fresh: Fresh, who: Who, link: Link, turn: Turn) -> Result<Reply, StaleWrite> {
        let unit = if matches!(turn, Turn::Send { .. }) { SENDER } else { RECEIVER };
        if self.is_fenced(s, unit, who) {
            return Ok(Reply::Fenced);
        }
        let unchained = s.has(Bug::DeadLetterOutsideTheChain) && matches!(turn, Turn::DeadLetter { .. });
        if !unchained && self.units[unit].tip == link.new {
            let repeats = s.has(Bug::DuplicateDelivers) && unit == RECEIVER;
            return Ok(Reply::Duplicate(if repeats { self.deliver(s) } else { Delivery::default() }));
        }
        if !unchained && self.units[unit].tip != link.base && !s.has(Bug::NoBaseCheck) {
            return Ok(Reply::Moved);
        }
        if self.is_full(s, &turn) {
            return Ok(Reply::Full);
        }
        self.apply(s, fresh, turn);
        if !unchained {
            self.units[unit].tip = link.new;
        }
        self.written_by(unit, who)?;
        Ok(Reply::Ok(if unit == RECEIVER { self.deliver(s) } else { Delivery::default() }))
    }

    /// Counts an attempt that the surviving holder saw fail.
    fn fail(&mut self, setting: &Setting, who: Who, link: Link, alone: bool) -> Result<Reply, StaleWrite> {
        if self.is_fenced(setting, RECEIVER, who) {
            return Ok(Reply::Fenced);
        }
        let last = self.last_in_hand();
        let unit = &mut self.units[RECEIVER];
        if unit.tip == link.new {
            return Ok(Reply::Duplicate(Delivery::default()));
        }
        if unit.tip != link.base {
            return Ok(Reply::Moved);
        }
        unit.tip = link.new;
        unit.attempts.in_hand = 0;
        match alone {
            true => unit.attempts.failed += 1,
            false => unit.attempts.careful = last,
        }
        self.written_by(RECEIVER, who)?;
        Ok(Reply::Ok(Delivery::default()))
    }

    /// Gives the unit back. Nothing rests on it, so it needs no base; the new tip refuses what is still under way.
    fn release(&mut self, setting: &Setting, unit: usize, who: Who, new: u8) -> Reply {
        if self.is_fenced(setting, unit, who) {
            return Reply::Fenced;
        }
        let unit = &mut self.units[unit];
        unit.leased = false;
        unit.released = true;
        if !setting.has(Bug::Sequence) {
            unit.tip = new;
        }
        Reply::Ok(Delivery::default())
    }

    fn is_fenced(&self, setting: &Setting, unit: usize, who: Who) -> bool {
        let unit = &self.units[unit];
        let owner = setting.has(Bug::NoOwner) || who.owner == unit.owner;
        let current = owner && who.token == unit.token;
        !current && !setting.has(Bug::NoFence)
    }

    fn written_by(&self, unit: usize, who: Who) -> Result<(), StaleWrite> {
        if self.units[unit].owner == who.owner { Ok(()) } else { Err(StaleWrite) }
    }

    /// Full is judged before the turn and counts net growth, so a mailbox is overshot by one turn at most.
    fn is_full(&self, setting: &Setting, turn: &Turn) -> bool {
        let (sends, takes) = match *turn {
            Turn::Send { messages, .. } => (messages.len(), 0),
            Turn::Take { to, to_itself, .. } => {
                (to_itself.len(), self.mailbox.iter().filter(|entry| entry.id <= to).count())
            }
            Turn::DeadLetter { .. } => (0, 1),
        };
        let takes = if setting.has(Bug::FullCountsGross) { 0 } else { takes };
        self.mailbox.len() >= setting.capacity && sends > takes
    }

    fn apply(&mut self, setting: &Setting, fresh: Fresh, turn: Turn) {
        match turn {
            Turn::Send { cursor, messages } => {
                for (&message, id) in messages.iter().zip(fresh.entry..) {
                    self.append(setting, id, message, false);
                    self.sent.push(message);
                }
                self.cursor = cursor + messages.len() as u8;
            }
            Turn::Take { to, out, to_itself } => {
                for (&message, id) in to_itself.iter().zip(fresh.entry..) {
                    self.append(setting, id, message, true);
                }
                self.take(to);
                out.iter().for_each(|&message| self.out.push(message));
            }
            Turn::DeadLetter { to, message } => {
                self.take(to);
                self.dead.push(message);
            }
        }
    }

    fn append(&mut self, setting: &Setting, unseen: u8, message: Message, again: bool) {
        self.last_id = match setting.ids {
            Ids::Unique => unseen,
            Ids::MintedAgain => self.last_id + 1,
        };
        self.mailbox.push(Entry { id: self.last_id, message, again });
    }

    /// Moves the offset, trims behind it, and forgets what was known of the entries that are gone.
    fn take(&mut self, to: u8) {
        self.offset = to;
        self.mailbox = self.mailbox.iter().copied().filter(|entry| entry.id > to).collect();
        let attempts = &mut self.units[RECEIVER].attempts;
        *attempts = Attempts { careful: attempts.careful, ..Attempts::default() };
    }

    /// The id of the last entry that the receiver has in hand; 0 if it has none.
    fn last_in_hand(&self) -> u8 {
        let in_hand = usize::from(self.units[RECEIVER].attempts.in_hand);
        self.mailbox.iter().filter(|entry| entry.id > self.offset).take(in_hand).last().map_or(0, |entry| entry.id)
    }

    /// The entries behind the offset: a pure range, but for the note of how many are in hand.
    fn deliver(&mut self, setting: &Setting) -> Delivery {
        let attempts = &mut self.units[RECEIVER].attempts;
        if attempts.careful <= self.offset {
            attempts.careful = 0;
        }
        let most = if attempts.careful > 0 && !setting.has(Bug::BatchIsServedAgain) { 1 } else { setting.batch };
        let entries: Hand = self.mailbox.iter().copied().filter(|entry| entry.id > self.offset).take(most).collect();
        if setting.limits.is_some() {
            attempts.in_hand = entries.len() as u8;
        }
        Delivery { entries, attempts: *attempts }
    }
}

impl Attempts {
    /// Notes that the holder is gone; only one that vanished with a single entry in hand counts against that entry.
    fn holder_gone(&mut self, setting: &Setting, vanished: bool, last: u8) {
        if setting.limits.is_some() && vanished {
            match self.in_hand {
                0 => {}
                1 => self.unfinished += 1,
                2.. => self.careful = last,
            }
        }
        self.in_hand = 0;
    }
}
