//! The server's side of a pool: what Redis keeps, and the scripts as pure functions on it, under the names of the Lua.

use super::super::list::List;
use super::super::redis::{Fresh, StaleWrite};
use super::setting::{Bug, Clock, Ids, Setting};
use super::words::{Entry, Hand, Link, Parts, Reply, Request, Turn, Who};

/// Slots of the pool; the last is the one that may be removed.
pub const SLOTS: usize = 2;

/// The checkpoint of a slot, and its lease. Zero stands for "none" in every name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Slot {
    /// The incarnation that holds it; none after a release.
    pub owner: u8,
    pub token: u8,
    pub tip: u8,
    /// The lease's own key exists.
    pub leased: bool,
    /// The entry that was served last and is not acknowledged.
    pub serving: u8,
    /// The entry that the counts are for.
    pub head: u8,
    pub failed: u8,
    pub unfinished: u8,
}

/// One history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Redis {
    pub slots: [Slot; SLOTS],
    /// Tasks that were asked for, as bits.
    pub asked: u8,
    /// Parts that are held, two bits a task.
    pub held: u8,
    /// Parts that are parked.
    pub parked: u8,
    /// Tasks with a dead letter, as bits.
    pub dead: u8,
    pub mailbox: List<Entry, 4>,
    /// The last id that the stream gave out.
    pub last_id: u8,
}

/// The bits of a task's parts.
pub fn bits(task: u8, parts: Parts) -> u8 {
    parts << (2 * (task - 1))
}

impl Redis {
    /// Runs one script.
    pub fn run(&mut self, setting: &Setting, fresh: Fresh, slot: usize, request: Request) -> Result<Reply, StaleWrite> {
        match request {
            Request::Acquire { incarnation, previous, failed, new } => {
                Ok(self.acquire(setting, fresh, slot, [incarnation, previous, new], failed))
            }
            Request::Read { who, link, only_owed, claims } => self.read(setting, slot, who, link, [only_owed, claims]),
            Request::Commit { who, link, turn } => self.commit(setting, fresh, slot, who, link, turn),
            Request::Ack { who, entry } => Ok(self.ack(setting, slot, who, entry)),
            Request::Release { who } => Ok(self.release(setting, slot, who)),
        }
    }

    /// Whether an acquisition by the successor of `previous` would be granted.
    pub fn is_free(&self, slot: usize, previous: u8) -> bool {
        let slot = &self.slots[slot];
        slot.owner == 0 || !slot.leased || slot.owner == previous
    }

    /// Whether a look from outside shows that the slot owes something.
    pub fn owes(&self, slot: usize) -> bool {
        self.mailbox.iter().any(|entry| usize::from(entry.owed_by) == slot + 1)
    }

    /// GapDetector asks for a task, if there is room.
    pub fn ask(&mut self, setting: &Setting, unseen: u8, task: u8) {
        self.asked |= 1 << task;
        self.append(setting, unseen, task, setting.all_parts());
    }

    fn acquire(&mut self, s: &Setting, fresh: Fresh, slot: usize, names: [u8; 3], failed: bool) -> Reply {
        let [incarnation, previous, new] = names;
        let free = self.is_free(slot, previous);
        let slot = &mut self.slots[slot];
        if slot.owner == incarnation {
            return Reply::Acquired { token: slot.token, tip: slot.tip };
        }
        if !free {
            return Reply::Held;
        }
        let mine = previous != 0 && slot.owner == previous;
        if let Some(limits) = s.limits.filter(|_| slot.serving != 0 && (!mine || failed)) {
            if slot.head != slot.serving {
                (slot.head, slot.failed, slot.unfinished) = (slot.serving, 0, 0);
            }
            // Counting on past a limit would tell nothing more.
            let (count, limit) = match mine {
                true => (&mut slot.failed, limits.failed),
                false => (&mut slot.unfinished, limits.unfinished),
            };
            *count = (*count + 1).min(limit);
        }
        slot.token = match s.clock {
            Clock::Right => fresh.token,
            Clock::Behind => slot.token + 1,
        };
        (slot.owner, slot.leased, slot.serving) = (incarnation, true, 0);
        if !s.has(Bug::AcquireLeavesNoTip) {
            slot.tip = new;
        }
        Reply::Acquired { token: slot.token, tip: slot.tip }
    }

    fn read(&mut self, s: &Setting, slot: usize, who: Who, link: Link, how: [bool; 2]) -> Result<Reply, StaleWrite> {
        if let Some(refused) = self.refused(s, slot, who, link, how) {
            return Ok(refused);
        }
        let hand = self.deliver(s, slot, how);
        if hand.is_some() {
            if !s.has(Bug::ReadLeavesNoTip) {
                self.slots[slot].tip = link.new;
            }
            self.written_by(slot, who)?;
        }
        Ok(Reply::Ok(hand))
    }

    fn commit(
        &mut self,
        s: &Setting,
        fresh: Fresh,
        slot: usize,
        who: Who,
        link: Link,
        turn: Turn,
    ) -> Result<Reply, StaleWrite> {
        if let Some(refused) = self.refused(s, slot, who, link, [false, false]) {
            return Ok(refused);
        }
        let (Turn::Fill { entry, .. } | Turn::Bury { entry }) = turn;
        let owes = self.mailbox.iter().any(|e| e.id == entry.id && usize::from(e.owed_by) == slot + 1);
        if !owes && !s.has(Bug::NoPendingCheck) && !s.has(Bug::AckOutsideCommit) {
            return Ok(Reply::Moved);
        }
        let sends = matches!(turn, Turn::Fill { entry, part } if entry.parts != part);
        let growth = usize::from(sends) - usize::from(sends && !s.has(Bug::FullCountsGross));
        if growth > 0 && self.mailbox.len() >= s.capacity {
            return Ok(Reply::Full);
        }
        self.apply(s, fresh, turn);
        self.take(entry);
        let checkpoint = &mut self.slots[slot];
        *checkpoint = Slot { tip: link.new, serving: 0, head: 0, failed: 0, unfinished: 0, ..*checkpoint };
        self.written_by(slot, who)?;
        Ok(Reply::Ok(None))
    }

    fn apply(&mut self, s: &Setting, fresh: Fresh, turn: Turn) {
        match turn {
            Turn::Fill { entry, part } => {
                if entry.parts != part && !s.has(Bug::RemainderForgotten) {
                    self.append(s, fresh.entry, entry.task, entry.parts & !part);
                }
                self.held |= bits(entry.task, part);
                self.parked &= !bits(entry.task, part);
            }
            Turn::Bury { entry } => {
                self.dead |= 1 << entry.task;
                if !s.has(Bug::DeadLetterWithoutParking) {
                    self.parked |= bits(entry.task, entry.parts) & !self.held;
                }
            }
        }
    }

    fn ack(&mut self, setting: &Setting, slot: usize, who: Who, entry: Entry) -> Reply {
        if self.is_fenced(setting, slot, who) {
            return Reply::Fenced;
        }
        self.take(entry);
        Reply::Ok(None)
    }

    /// Nothing rests on it, so it needs no base, and it leaves the tip: without an owner everybody is fenced.
    fn release(&mut self, setting: &Setting, slot: usize, who: Who) -> Reply {
        if self.is_fenced(setting, slot, who) {
            return Reply::Fenced;
        }
        let slot = &mut self.slots[slot];
        (slot.leased, slot.owner) = (false, 0);
        if !setting.has(Bug::ReleaseCounts) {
            slot.serving = 0;
        }
        Reply::Ok(None)
    }

    /// What the fence and the tip say against a request, or that it ran before.
    fn refused(&mut self, s: &Setting, slot: usize, who: Who, link: Link, how: [bool; 2]) -> Option<Reply> {
        if self.is_fenced(s, slot, who) {
            return Some(Reply::Fenced);
        }
        let tip = self.slots[slot].tip;
        if tip == link.new {
            let hand = if s.has(Bug::RepeatDelivers) { self.deliver(s, slot, how) } else { None };
            return Some(Reply::Duplicate(hand));
        }
        (tip != link.base).then_some(Reply::Moved)
    }

    fn is_fenced(&self, setting: &Setting, slot: usize, who: Who) -> bool {
        let slot = &self.slots[slot];
        (who.owner != slot.owner || who.token != slot.token) && !setting.has(Bug::NoFence)
    }

    fn written_by(&self, slot: usize, who: Who) -> Result<(), StaleWrite> {
        if self.slots[slot].owner == who.owner { Ok(()) } else { Err(StaleWrite) }
    }

    /// First what the slot owes, then one new entry.
    fn deliver(&mut self, s: &Setting, slot: usize, [only_owed, claims]: [bool; 2]) -> Option<Hand> {
        let me = slot as u8 + 1;
        let of = |owner: u8| self.mailbox.iter().find(|entry| entry.owed_by == owner).copied();
        let of_another = |may: bool| self.mailbox.iter().find(|e| may && e.owed_by != 0 && e.owed_by != me).copied();
        let new = if only_owed { None } else { of(0) };
        let entry = of(me).or(new).or(of_another(claims || s.has(Bug::PendingServedWithoutLease)))?;
        let mine = self.mailbox.iter_mut().find(|e| e.id == entry.id).expect("it was just found");
        mine.owed_by = me;
        let entry = *mine;
        let slot = &mut self.slots[slot];
        if s.limits.is_none() {
            return Some(Hand { entry, failed: 0, unfinished: 0 });
        }
        slot.serving = entry.id;
        let known = slot.head == entry.id && !s.has(Bug::AttemptsForgotten);
        let (failed, unfinished) = if known { (slot.failed, slot.unfinished) } else { (0, 0) };
        Some(Hand { entry, failed, unfinished })
    }

    fn append(&mut self, setting: &Setting, unseen: u8, task: u8, parts: Parts) {
        self.last_id = match setting.ids {
            Ids::Unique => unseen,
            Ids::MintedAgain => self.last_id + 1,
        };
        self.mailbox.push(Entry { id: self.last_id, task, parts, owed_by: 0 });
    }

    /// Acknowledges and deletes by id, whoever owes it.
    fn take(&mut self, entry: Entry) {
        self.mailbox = self.mailbox.iter().copied().filter(|e| e.id != entry.id).collect();
    }
}
