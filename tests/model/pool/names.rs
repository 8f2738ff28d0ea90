//! One common form for states of a pool that differ only in arbitrary names.

use super::super::names::{Kind, Names, Numbering, rank_entries};
use super::node::{Grip, Holder};
use super::redis::Redis;
use super::setting::{Clock, Ids, Setting};
use super::words::{Request, Turn};
use super::world::World;

/// Rewrites `world` into its common form. Nodes are interchangeable, for each slot apart while their configurations agree.
pub fn canonical(setting: &Setting, world: &mut World) {
    if setting.ids == Ids::Unique {
        rank_entries(world);
    }
    let mut numbering = Numbering::new(setting.clock == Clock::Behind, false);
    world.master.names(&mut |kind, name| numbering.give(kind, name));
    world.replica.names(&mut |kind, name| numbering.give(kind, name));
    if world.shrunk == [false, true] {
        world.shrunk.swap(0, 1);
        world.holders.iter_mut().for_each(|pair| pair.swap(0, 1));
    }
    let alike = world.shrunk[0] == world.shrunk[1];
    for pair in &mut world.holders {
        let known = pair.map(|mut holder| {
            holder.names(&mut |kind, name| numbering.show(kind, name));
            holder
        });
        if alike && known[0] < known[1] {
            pair.swap(0, 1);
        }
        for holder in pair {
            holder.names(&mut |kind, name| numbering.give(kind, name));
        }
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
        for slot in &mut self.slots {
            visit(Kind::Incarnation, &mut slot.owner);
            visit(Kind::Token, &mut slot.token);
            visit(Kind::Tip, &mut slot.tip);
            visit(Kind::Entry, &mut slot.serving);
            visit(Kind::Entry, &mut slot.head);
        }
        visit(Kind::Entry, &mut self.last_id);
        for entry in self.mailbox.iter_mut() {
            visit(Kind::Entry, &mut entry.id);
        }
    }
}

impl Names for Holder {
    fn names(&mut self, visit: &mut impl FnMut(Kind, &mut u8)) {
        visit(Kind::Incarnation, &mut self.previous);
        if let Some(Grip { who, tip, hand, settled: _, acked: _ }) = &mut self.grip {
            who.names(visit);
            visit(Kind::Tip, tip);
            if let Some(hand) = hand {
                visit(Kind::Entry, &mut hand.entry.id);
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
            Self::Acquire { incarnation, previous, failed: _, new } => {
                visit(Kind::Incarnation, incarnation);
                visit(Kind::Incarnation, previous);
                visit(Kind::Tip, new);
            }
            Self::Read { who, link, only_owed: _, claims: _ } => {
                who.names(visit);
                link.names(visit);
            }
            Self::Commit { who, link, turn } => {
                who.names(visit);
                link.names(visit);
                let (Turn::Fill { entry, .. } | Turn::Bury { entry }) = turn;
                visit(Kind::Entry, &mut entry.id);
            }
            Self::Ack { who, entry } => {
                who.names(visit);
                visit(Kind::Entry, &mut entry.id);
            }
            Self::Release { who } => who.names(visit),
        }
    }
}
