//! The promises that every state of a pool must keep: nothing that was asked for is silently absent.

use super::redis::{Redis, SLOTS, bits};
use super::setting::Setting;
use super::world::World;

/// A promise that a step broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// A part of this task was asked for, and is neither held, nor parked, nor in the mailbox.
    Absent(u8),
    /// A task without fault was set aside.
    Innocent(u8),
    /// Two slots whose next commits would both be accepted work on this task's entry.
    TwoHolders(u8),
    /// The mailbox is longer than its capacity: the pool grew its own work.
    Overfull,
    /// A former holder wrote.
    StaleHolder,
}

/// Checks one state.
pub fn check(setting: &Setting, world: &World) -> Result<(), Broken> {
    let redis = &world.master;
    for task in 1..=setting.tasks {
        if redis.asked & 1 << task == 0 {
            continue;
        }
        let waiting = redis.mailbox.iter().filter(|entry| entry.task == task).fold(0, |all, entry| all | entry.parts);
        let known = redis.held | redis.parked | bits(task, waiting);
        if bits(task, setting.all_parts()) & !known != 0 {
            return Err(Broken::Absent(task));
        }
        let innocent = setting.poison.is_none_or(|(poison, _)| poison != task);
        if innocent && redis.dead & 1 << task != 0 {
            return Err(Broken::Innocent(task));
        }
    }
    if redis.mailbox.len() > setting.capacity {
        return Err(Broken::Overfull);
    }
    one_holder(world)
}

/// Of the holders that nothing would refuse, no two have the same entry in hand.
fn one_holder(world: &World) -> Result<(), Broken> {
    let of = |slot: usize| world.holders[slot].iter().filter_map(move |holder| in_hand(&world.master, slot, holder));
    for slot in 0..SLOTS {
        for (id, task) in of(slot) {
            if (slot + 1..SLOTS).any(|other| of(other).any(|(same, _)| same == id)) {
                return Err(Broken::TwoHolders(task));
            }
        }
    }
    Ok(())
}

/// Id and task of the entry that a holder works on, as long as its fence and its tip hold.
fn in_hand(redis: &Redis, slot: usize, holder: &super::node::Holder) -> Option<(u8, u8)> {
    let (grip, stored) = (holder.grip?, redis.slots[slot]);
    let current = grip.who.owner == stored.owner && grip.who.token == stored.token && grip.tip == stored.tip;
    let entry = grip.hand.filter(|_| current)?.entry;
    Some((entry.id, entry.task))
}
