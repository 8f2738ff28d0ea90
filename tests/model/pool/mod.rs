//! The pool, explored state by state: slots as leased units that share one consumer group.
//!
//! Two slots, two nodes that may hold either, a master, and a replica that may take over with any earlier prefix of
//! the history. Tasks are asked for one after another; a turn holds one part of a task and sends the rest on, into its
//! own mailbox. In every reachable state each part of each task that this history asked for is held, parked, or in the
//! mailbox: what is done twice is harmless, what is *silently absent* is the sin. Besides: no former holder writes, no
//! entry is in two hands that would both be accepted, no innocent task is set aside, the pool never grows its mailbox.
//! And from every state the end can be reached without another fault, also where a slot was removed.
//!
//! | file | what is in it |
//! |---|---|
//! | `redis.rs` | the server: the scripts as pure functions, under the names of the Lua |
//! | `node.rs` | the client: what it remembers, asks and makes of an answer |
//! | `setting.rs`, `words.rs`, `names.rs`, `trace.rs` | as of the exclusive mailbox |
//! | `world.rs`, `promises.rs` | the steps between states; what is checked in each |
//! | `planted.rs` | known wrong forms, each of which must be found |
//! | `exhaustive.rs` | pairs and triples of faults; minutes, so `make chaos` runs it |
//!
//! Not in the model: a group that an operator destroys (`store_contract/pools.rs`), and the bytes of a delivery.
//!
//! What the search has taught, beyond the planted bugs:
//!
//! - *The tip covers the pool as well.* A read that a failover took back is missed by its tip; where a promoted server
//!   mints an id again for another task, nothing else would notice. That a commit also asks whether its slot still owes
//!   the entry is for a group that an operator destroyed.
//! - *A removed slot must be taken by its own lease.* To claim what it owes under another slot's lease looks cheaper,
//!   and puts a task into two hands as long as a node lives that still has the slot.

mod exhaustive;
mod names;
mod node;
mod planted;
mod promises;
mod redis;
mod setting;
mod trace;
mod words;
mod world;

use std::sync::{Mutex, PoisonError};

use super::search::{Verdict, explore};
use promises::Broken;
use setting::{Clock, Faults, Limits, Poison, Setting};

/// The settings that this run has proved to hold.
static PROVED: Mutex<Vec<Setting>> = Mutex::new(Vec::new());

const CALM: Setting = Setting::CALM;
const NO_FAULTS: Faults = CALM.faults;

fn search(name: &str, setting: &Setting) -> Verdict<Broken> {
    super::told(name, explore(setting, super::MOST_STATES))
}

/// Asserts that the setting keeps every promise; what this run has proved already is not searched again.
fn holds(name: &str, setting: Setting) {
    let mut proved = PROVED.lock().unwrap_or_else(PoisonError::into_inner);
    if proved.contains(&setting) {
        println!("{name:44} holds, as shown before");
        return;
    }
    let verdict = search(name, &setting);
    assert!(matches!(verdict, Verdict::Holds), "{name} does not hold; the trace stands above");
    proved.push(setting);
}

#[test]
fn a_calm_pool() {
    holds("pool: calm", Setting { parts: 2, ..CALM });
}

#[test]
fn a_pool_whose_requests_are_lost_or_late() {
    let faults = Faults { losses: 1, ..NO_FAULTS };
    holds("pool: loss", Setting { parts: 2, faults, ..CALM });
    holds("pool: loss, also of acquisitions", Setting { acquire_in_flight: true, faults, ..CALM });
}

#[test]
fn slots_that_come_and_go() {
    for (name, faults) in [
        ("pool: crash", Faults { crashes: 1, ..NO_FAULTS }),
        ("pool: zombie", Faults { zombies: 1, ..NO_FAULTS }),
        ("pool: cut", Faults { cuts: 1, ..NO_FAULTS }),
        ("pool: hand-over", Faults { handovers: 1, ..NO_FAULTS }),
    ] {
        holds(name, Setting { faults, ..CALM });
    }
}

/// One node after the other comes back without the last slot; meanwhile their counts differ.
#[test]
fn a_removed_slot_is_drained() {
    let faults = Faults { removals: 2, ..NO_FAULTS };
    holds("pool: removals", Setting { faults, ..CALM });
}

#[test]
fn a_pool_and_one_failover() {
    let faults = Faults { failovers: 1, ..NO_FAULTS };
    holds("pool: failover", Setting { faults, ..CALM });
    holds("pool: failover, clock behind", Setting { tasks: 1, faults, clock: Clock::Behind, ..CALM });
}

#[test]
fn a_poisoned_task_is_set_aside_and_its_neighbour_done() {
    let limits = Some(Limits { failed: 2, unfinished: 3 });
    holds("pool: panics", Setting { poison: Some((1, Poison::Panics)), limits, ..CALM });
    let limits = Some(Limits { failed: 2, unfinished: 2 });
    holds("pool: kills", Setting { poison: Some((1, Poison::Kills)), limits, ..CALM });
}

/// Each fault counts at most once against a task, a hand-over never: the limit is one above the faults.
#[test]
fn innocent_tasks_survive() {
    let limits = Some(Limits { failed: 1, unfinished: 2 });
    let faults = Faults { crashes: 1, handovers: 1, ..NO_FAULTS };
    holds("pool: innocent, crash and hand-over", Setting { tasks: 1, limits, faults, ..CALM });
    let faults = Faults { removals: 1, handovers: 1, ..NO_FAULTS };
    holds("pool: innocent, removal and hand-over", Setting { tasks: 1, limits, faults, ..CALM });
}
