//! Known wrong forms of a pool. Each must be found, and the same setting without the bug must hold.

use super::super::search::Verdict;
use super::promises::Broken;
use super::setting::{Bug, Faults, Ids, Limits, Poison, Setting};
use super::{CALM, NO_FAULTS, holds, search};

/// Asserts that this very promise is broken.
fn breaks(name: &str, setting: Setting, expected: Broken) {
    match search(name, &setting) {
        Verdict::Broken(broken) => assert_eq!(broken, expected, "{name}: something else was found"),
        Verdict::Holds | Verdict::Stuck(_) | Verdict::TooLarge => panic!("{name}: no broken promise was found"),
    }
}

/// Asserts that the planted bug breaks this promise, and that nothing else in the setting does.
fn finds(name: &str, setting: Setting, expected: Broken) {
    breaks(name, setting, expected);
    holds(&format!("{name}: repaired"), Setting { bugs: &[], ..setting });
}

/// Asserts that the planted bug leaves states without a way to the end.
fn finds_stuck(name: &str, setting: Setting) {
    assert!(matches!(search(name, &setting), Verdict::Stuck(_)), "{name}: no stuck state was found");
    holds(&format!("{name}: repaired"), Setting { bugs: &[], ..setting });
}

const FAILOVER: Faults = Faults { failovers: 1, ..NO_FAULTS };
const FAILOVER_AND_LOSS: Faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };

/// The configured count falls while the last slot has a task in hand: nobody ever takes that slot again.
#[test]
fn removed_slot_forgotten() {
    let faults = Faults { removals: 2, ..NO_FAULTS };
    let setting = Setting { bugs: &[Bug::RemovedSlotForgotten], faults, ..CALM };
    finds_stuck("removed_slot_forgotten", setting);
}

/// A node without the slot claims what it owes, while the other node still has it and works on it.
#[test]
fn claim_of_a_live_slots_task() {
    let faults = Faults { removals: 2, ..NO_FAULTS };
    let setting = Setting { bugs: &[Bug::ClaimsFromRemovedSlot], faults, ..CALM };
    finds("claim_of_a_live_slots_task", setting, Broken::TwoHolders(1));
}

/// A slot without work helps itself to what another one has in hand.
#[test]
fn pending_served_without_its_slots_lease() {
    let setting = Setting { bugs: &[Bug::PendingServedWithoutLease], parts: 2, ..CALM };
    finds("pending_served_without_its_slots_lease", setting, Broken::TwoHolders(1));
}

/// The acknowledgement is durable before what the task asks for is.
#[test]
fn ack_outside_the_commit() {
    let setting = Setting { bugs: &[Bug::AckOutsideCommit], parts: 2, ..CALM };
    finds("ack_outside_the_commit", setting, Broken::Absent(1));
}

/// A task is set aside, and its heights are asked for by nobody.
#[test]
fn dead_letter_without_parking() {
    let limits = Some(Limits { failed: 2, unfinished: 3 });
    let poison = Some((1, Poison::Panics));
    let setting = Setting { bugs: &[Bug::DeadLetterWithoutParking], limits, poison, ..CALM };
    finds("dead_letter_without_parking", setting, Broken::Absent(1));
}

/// What a drained node had in hand counts as an attempt, and a task without fault reaches its limit.
#[test]
fn attempts_counted_on_hand_over() {
    let limits = Some(Limits { failed: 1, unfinished: 1 });
    let faults = Faults { handovers: 1, ..NO_FAULTS };
    let setting = Setting { bugs: &[Bug::ReleaseCounts], limits, faults, ..CALM };
    finds("attempts_counted_on_hand_over", setting, Broken::Innocent(1));
}

/// The remainder of a task cannot be sent on into the full mailbox, so the task cannot be acknowledged either.
#[test]
fn resend_judged_gross_when_full() {
    finds_stuck("resend_judged_gross_when_full", Setting { bugs: &[Bug::FullCountsGross], parts: 2, ..CALM });
}

/// Half of a task is held, the task is acknowledged, the other half is nowhere: what `Cover` refuses.
#[test]
fn remainder_forgotten() {
    let setting = Setting { bugs: &[Bug::RemainderForgotten], parts: 2, ..CALM };
    finds("remainder_forgotten", setting, Broken::Absent(1));
}

/// A task that always fails is never set aside, and never done.
#[test]
fn attempts_forgotten() {
    let limits = Some(Limits { failed: 2, unfinished: 3 });
    let poison = Some((1, Poison::Panics));
    finds_stuck("attempts_forgotten", Setting { bugs: &[Bug::AttemptsForgotten], limits, poison, ..CALM });
}

/// A paused holder wakes up and commits; the tip of acquisitions and the pending list would refuse it too.
#[test]
fn no_fence_in_a_pool() {
    let faults = Faults { zombies: 1, ..NO_FAULTS };
    let setting = Setting { bugs: &[Bug::NoFence, Bug::AcquireLeavesNoTip], faults, ..CALM };
    finds("no_fence_in_a_pool", setting, Broken::StaleHolder);
}

/// A failover takes back a read, and nothing of it is left to miss: another slot is served the same task.
#[test]
fn read_without_tip_in_a_pool() {
    let setting = Setting { bugs: &[Bug::ReadLeavesNoTip], faults: FAILOVER, ..CALM };
    finds("read_without_tip_in_a_pool", setting, Broken::TwoHolders(1));
}

/// Whether a slot still owes its entry is never the last defence here: that question is for a group that an operator
/// destroyed.
#[test]
#[ignore = "exhaustive; make chaos"]
fn tip_holds_without_the_pending_check() {
    let setting = Setting { bugs: &[Bug::NoPendingCheck], faults: FAILOVER, ..CALM };
    holds("pool: tip alone", setting);
    holds("pool: tip alone, ids minted again", Setting { ids: Ids::MintedAgain, ..setting });
}

/// A repeated request brings a task under the tip of its first run; a failover keeps that tip and loses the delivery.
#[test]
fn repeated_request_delivers_in_a_pool() {
    let setting = Setting { bugs: &[Bug::RepeatDelivers], faults: FAILOVER_AND_LOSS, ..CALM };
    let planted = Setting { distrusts_resent: false, ..setting };
    breaks("repeated_request_delivers_in_a_pool", planted, Broken::TwoHolders(2));
}

/// A request outlives a failover behind a proxy, and leaves its tip over another task than its copy had brought, under
/// the same entry id: the old turn acknowledges the new task.
#[test]
fn resent_answer_is_used_in_a_pool() {
    let faults = FAILOVER_AND_LOSS;
    let setting = Setting { ids: Ids::MintedAgain, faults, late_outlives_failover: true, ..CALM };
    let planted = Setting { distrusts_resent: false, ..setting };
    breaks("resent_answer_is_used_in_a_pool", planted, Broken::Absent(2));
}
