//! The right form of a pool under pairs and triples of faults.

use super::setting::{Clock, Faults, Ids, Limits, Poison, Setting};
use super::{CALM, NO_FAULTS, holds};

#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_without_failover() {
    for (name, faults) in [
        ("pool: two losses", Faults { losses: 2, ..NO_FAULTS }),
        ("pool: crash, loss", Faults { crashes: 1, losses: 1, ..NO_FAULTS }),
        ("pool: zombie, loss", Faults { zombies: 1, losses: 1, ..NO_FAULTS }),
        ("pool: cut, loss", Faults { cuts: 1, losses: 1, ..NO_FAULTS }),
        ("pool: hand-over, loss", Faults { handovers: 1, losses: 1, ..NO_FAULTS }),
        ("pool: crash, zombie, hand-over", Faults { crashes: 1, zombies: 1, handovers: 1, ..NO_FAULTS }),
    ] {
        holds(name, Setting { faults, ..CALM });
    }
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_of_three_tasks_that_are_sent_on() {
    let setting = Setting { tasks: 3, parts: 2, ..CALM };
    holds("pool: three tasks, loss", Setting { faults: Faults { losses: 1, ..NO_FAULTS }, ..setting });
    holds("pool: three tasks, crash, zombie", {
        Setting { faults: Faults { crashes: 1, zombies: 1, ..NO_FAULTS }, ..setting }
    });
}

/// The other node drains what the first left, while anything else happens to either.
#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_with_a_removed_slot() {
    let removals = Faults { removals: 2, ..NO_FAULTS };
    holds("pool: removals, parts", Setting { parts: 2, faults: removals, ..CALM });
    for (name, faults) in [
        ("pool: removals, loss", Faults { losses: 1, ..removals }),
        ("pool: removals, zombie", Faults { zombies: 1, ..removals }),
        ("pool: removals, crash", Faults { crashes: 1, ..removals }),
        ("pool: removals, hand-over", Faults { handovers: 1, ..removals }),
        ("pool: removals, failover", Faults { failovers: 1, ..removals }),
    ] {
        holds(name, Setting { tasks: 1, faults, ..CALM });
    }
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_and_failovers() {
    let failover = Faults { failovers: 1, ..NO_FAULTS };
    holds("pool: failover, ids minted again", Setting { faults: failover, ids: Ids::MintedAgain, ..CALM });
    holds("pool: failover, parts", Setting { tasks: 1, parts: 2, faults: failover, ..CALM });
    for (name, faults) in [
        ("pool: failover, loss", Faults { losses: 1, ..failover }),
        ("pool: failover, crash", Faults { crashes: 1, ..failover }),
        ("pool: failover, zombie", Faults { zombies: 1, ..failover }),
        ("pool: failover, cut", Faults { cuts: 1, ..failover }),
        ("pool: failover, hand-over", Faults { handovers: 1, ..failover }),
        ("pool: two failovers", Faults { failovers: 2, ..NO_FAULTS }),
    ] {
        holds(name, Setting { tasks: 1, faults, ..CALM });
    }
    let faults = Faults { crashes: 1, ..failover };
    holds("pool: failover, crash; two tasks", Setting { faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_requests_that_outlive_a_failover() {
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    let setting = Setting { tasks: 1, late_outlives_failover: true, faults, ..CALM };
    holds("pool: late outlives failover", setting);
    let clock = Clock::Behind;
    holds("pool: late outlives failover, acquire in flight", Setting { acquire_in_flight: true, clock, ..setting });
}

/// The repaired form of `resent_answer_is_used_in_a_pool`.
#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_ids_minted_again_over_a_late_request() {
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    let ids = Ids::MintedAgain;
    holds("pool: late, ids minted again", Setting { ids, late_outlives_failover: true, faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_with_a_poisoned_task() {
    let limits = Some(Limits { failed: 2, unfinished: 4 });
    for (name, poison) in [("panics", Poison::Panics), ("kills", Poison::Kills)] {
        let setting = Setting { limits, poison: Some((1, poison)), ..CALM };
        let faults = Faults { losses: 1, crashes: 1, ..NO_FAULTS };
        holds(&format!("pool: {name}, loss, crash"), Setting { faults, ..setting });
        let faults = Faults { failovers: 1, ..NO_FAULTS };
        holds(&format!("pool: {name}, failover"), Setting { faults, ..setting });
        let faults = Faults { removals: 2, ..NO_FAULTS };
        holds(&format!("pool: {name}, removals"), Setting { faults, ..setting });
    }
}

/// Each fault counts at most once against an innocent task, a hand-over never.
#[test]
#[ignore = "exhaustive; make chaos"]
fn pool_of_innocent_tasks() {
    let faults = Faults { losses: 1, crashes: 1, zombies: 1, handovers: 1, ..NO_FAULTS };
    let limits = Some(Limits { failed: 1, unfinished: 4 });
    holds("pool: innocent, three faults", Setting { tasks: 1, limits, faults, ..CALM });
    let faults = Faults { failovers: 1, crashes: 1, ..NO_FAULTS };
    let limits = Some(Limits { failed: 1, unfinished: 3 });
    holds("pool: innocent, failover, crash", Setting { tasks: 1, limits, faults, ..CALM });
}
