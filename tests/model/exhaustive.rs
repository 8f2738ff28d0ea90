//! The right form under pairs and triples of faults: up to millions of states each, minutes together in a release build.
//!
//! `cargo test --release --test model -- --ignored --nocapture` prints their sizes.

use super::setting::{Clock, Faults, Ids, Limits, Poison, Setting};
use super::{NO_FAULTS, holds};

const CALM: Setting = Setting::CALM;

#[test]
#[ignore = "exhaustive; make chaos"]
fn no_failover_long() {
    let faults = Faults { losses: 1, crashes: 1, zombies: 1, ..NO_FAULTS };
    holds("loss, crash, zombie; four messages", Setting { messages: 4, faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn no_failover_every_fault() {
    let faults = Faults { losses: 1, crashes: 1, zombies: 1, cuts: 1, handovers: 1, failovers: 0 };
    holds("loss, crash, zombie, cut, hand-over", Setting { batch: 1, faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn two_losses_and_a_cut() {
    let faults = Faults { losses: 2, cuts: 1, ..NO_FAULTS };
    holds("two losses, cut; four messages", Setting { messages: 4, faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn failover_and_loss() {
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    holds("failover, loss; three messages", Setting { messages: 3, faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn failover_and_crash() {
    let faults = Faults { failovers: 1, losses: 1, crashes: 1, ..NO_FAULTS };
    holds("failover, loss, crash", Setting { faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn failover_and_zombie() {
    let faults = Faults { failovers: 1, losses: 1, zombies: 1, ..NO_FAULTS };
    holds("failover, loss, zombie", Setting { faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn failover_and_cut() {
    let faults = Faults { failovers: 1, losses: 1, cuts: 1, ..NO_FAULTS };
    holds("failover, loss, cut", Setting { faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn failover_and_handover() {
    let faults = Faults { failovers: 1, cuts: 1, handovers: 1, ..NO_FAULTS };
    holds("failover, cut, hand-over", Setting { faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn two_failovers() {
    let faults = Faults { failovers: 2, losses: 1, ..NO_FAULTS };
    holds("two failovers, loss", Setting { faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn ids_minted_again() {
    let setting = Setting { messages: 3, ids: Ids::MintedAgain, ..CALM };
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    holds("ids minted again, failover, loss", Setting { faults, ..setting });
    let faults = Faults { failovers: 2, ..NO_FAULTS };
    holds("ids minted again, two failovers", Setting { faults, ..setting });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn acquisitions_in_flight() {
    let setting = Setting { acquire_in_flight: true, clock: Clock::Behind, ..CALM };
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    holds("acquire in flight, failover, loss", Setting { faults, ..setting });
    let faults = Faults { losses: 1, zombies: 1, handovers: 1, ..NO_FAULTS };
    holds("acquire in flight, loss, zombie, hand-over", Setting { faults, batch: 1, ..setting });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn requests_that_outlive_a_failover() {
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    let setting = Setting { late_outlives_failover: true, distrusts_resent: true, faults, ..CALM };
    let clock = Clock::Behind;
    holds("late outlives failover", setting);
    holds("late outlives failover, ids minted again", Setting { ids: Ids::MintedAgain, ..setting });
    holds("late outlives failover, acquire in flight", Setting { acquire_in_flight: true, clock, ..setting });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn poisoned_entry() {
    let limits = Some(Limits { failed: 2, unfinished: 4 });
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    let setting = Setting { limits, faults, ..CALM };
    holds("panics, failover, loss", Setting { poison: Some((2, Poison::Panics)), ..setting });
    holds("kills, failover, loss", Setting { poison: Some((2, Poison::Kills)), ..setting });
}

/// Each fault counts at most once against an innocent entry, a hand-over never.
#[test]
#[ignore = "exhaustive; make chaos"]
fn innocent_entry() {
    let faults = Faults { losses: 1, crashes: 1, zombies: 1, handovers: 1, ..NO_FAULTS };
    let limits = Some(Limits { failed: 1, unfinished: 4 });
    holds("innocent, three faults", Setting { batch: 1, limits, faults, ..CALM });
    let faults = Faults { failovers: 1, crashes: 1, ..NO_FAULTS };
    let limits = Some(Limits { failed: 1, unfinished: 3 });
    holds("innocent, failover, crash", Setting { limits, faults, ..CALM });
}

#[test]
#[ignore = "exhaustive; make chaos"]
fn worker_that_answers_into_its_own_mailbox() {
    let faults = Faults { losses: 1, crashes: 1, zombies: 1, ..NO_FAULTS };
    holds("sends to itself, loss, crash, zombie", Setting { sends_to_itself: true, faults, ..CALM });
}
