//! One common form for states that differ only in arbitrary names.
//!
//! Incarnations, tips and unique tokens are random: only which are equal matters, so they are numbered in the order in
//! which they are met. Unique entry ids keep their order and nothing else. Nodes are interchangeable for each unit.

use super::node::{Grip, Holder};
use super::redis::{Fresh, Redis};
use super::setting::{Bug, Clock, Ids, Setting};
use super::words::{Link, Request, Turn, Who};
use super::world::World;

/// What a name names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Incarnation,
    Token,
    Tip,
    Entry,
}

/// More names than a state of any setting holds.
const MOST: usize = 64;
/// Stands for a name that only one holder knows, while holders are compared.
const PRIVATE: u8 = MOST as u8;

/// Something that holds names.
pub trait Names {
    /// Shows every name to `visit`, always in the same order.
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8));
}

/// Rewrites `world` into its common form.
pub fn canonical(setting: &Setting, world: &mut World) {
    if setting.ids == Ids::Unique {
        rank_entries(world);
    }
    let mut numbering = Numbering::new(setting.clock == Clock::Behind, setting.has(Bug::Sequence));
    world.master.names(&mut |kind, name| numbering.give(kind, name));
    world.replica.names(&mut |kind, name| numbering.give(kind, name));
    for pair in &mut world.holders {
        let known = pair.map(|mut holder| {
            holder.names(&mut |kind, name| numbering.show(kind, name));
            holder
        });
        if known[0] < known[1] {
            pair.swap(0, 1);
        }
        for holder in pair {
            holder.names(&mut |kind, name| numbering.give(kind, name));
        }
    }
}

/// Names that nothing in `world` holds.
pub fn fresh<W: Names + Copy>(world: &W) -> Fresh {
    let mut highest = [0; 4];
    let mut copy = *world;
    copy.names(&mut |kind, name| highest[kind as usize] = (*name).max(highest[kind as usize]));
    let [incarnation, token, tip, entry] = highest.map(|name: u8| name + 1);
    Fresh { incarnation, token, tip, entry }
}

/// Entry ids keep their order and nothing else.
pub fn rank_entries(world: &mut impl Names) {
    let mut used = 0u64;
    world.names(&mut |kind, name| {
        if kind == Kind::Entry {
            used |= 1 << *name;
        }
    });
    used &= !1; // Zero is no id.
    world.names(&mut |kind, name| {
        if kind == Kind::Entry && *name != 0 {
            *name = (used & ((2u64 << *name) - 1)).count_ones() as u8;
        }
    });
}

/// Numbers for the names met so far.
pub struct Numbering {
    numbers: [[u8; MOST]; 3],
    last: [u8; 3],
    /// Names that count something, which are left as they are.
    left_alone: [bool; 4],
}

impl Numbering {
    /// Tokens and tips that count something are left as they are.
    pub fn new(tokens_count: bool, tips_count: bool) -> Self {
        let left_alone = [false, tokens_count, tips_count, true];
        Self { numbers: [[0; MOST]; 3], last: [0; 3], left_alone }
    }

    /// Renames a name to its number; a new one gets the next.
    pub fn give(&mut self, kind: Kind, name: &mut u8) {
        if *name == 0 || self.left_alone[kind as usize] {
            return;
        }
        let number = &mut self.numbers[kind as usize][usize::from(*name)];
        if *number == 0 {
            self.last[kind as usize] += 1;
            *number = self.last[kind as usize];
        }
        *name = *number;
    }

    /// Renames a name to its number; a new one to a word for all of those.
    pub fn show(&self, kind: Kind, name: &mut u8) {
        if *name == 0 || self.left_alone[kind as usize] {
            return;
        }
        *name = match self.numbers[kind as usize][usize::from(*name)] {
            0 => PRIVATE,
            number => number,
        };
    }
}

impl Names for World {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        self.master.names(visit);
        self.replica.names(visit);
        for holder in self.holders.iter_mut().flatten() {
            holder.names(visit);
        }
    }
}

impl Names for Redis {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        for unit in &mut self.units {
            visit(Kind::Incarnation, &mut unit.owner);
            visit(Kind::Token, &mut unit.token);
            visit(Kind::Tip, &mut unit.tip);
            visit(Kind::Entry, &mut unit.attempts.careful);
        }
        visit(Kind::Entry, &mut self.offset);
        visit(Kind::Entry, &mut self.last_id);
        for entry in self.mailbox.iter_mut() {
            visit(Kind::Entry, &mut entry.id);
        }
    }
}

impl Names for Holder {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        visit(Kind::Incarnation, &mut self.previous);
        if let Some(Grip { who, tip, hand, cursor: _, attempts }) = &mut self.grip {
            who.names(visit);
            visit(Kind::Tip, tip);
            visit(Kind::Entry, &mut attempts.careful);
            for entry in hand.iter_mut() {
                visit(Kind::Entry, &mut entry.id);
            }
        }
        for request in [&mut self.request, &mut self.late].into_iter().flatten() {
            request.names(visit);
        }
    }
}

impl Names for Request {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        match self {
            Self::Acquire { incarnation, previous, new } => {
                visit(Kind::Incarnation, incarnation);
                visit(Kind::Incarnation, previous);
                visit(Kind::Tip, new);
            }
            Self::Read { who, link } | Self::Fail { who, link, alone: _ } => {
                who.names(visit);
                link.names(visit);
            }
            Self::Commit { who, link, turn } => {
                who.names(visit);
                link.names(visit);
                match turn {
                    Turn::Send { .. } => {}
                    Turn::Take { to, .. } | Turn::DeadLetter { to, .. } => visit(Kind::Entry, to),
                }
            }
            Self::Release { who, new } => {
                who.names(visit);
                visit(Kind::Tip, new);
            }
        }
    }
}

impl Names for Who {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        visit(Kind::Token, &mut self.token);
        visit(Kind::Incarnation, &mut self.owner);
    }
}

impl Names for Link {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        visit(Kind::Tip, &mut self.base);
        visit(Kind::Tip, &mut self.new);
    }
}
