//! Known wrong forms of the protocol. Each must be found, and the same setting without the bug must hold: so the search
//! is known to see, and each rule of the protocol is known to be needed.

use super::promises::Broken;
use super::search::Verdict;
use super::setting::{Bug, Clock, Faults, Ids, Limits, Poison, Setting};
use super::{NO_FAULTS, holds, search};

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
const LOSS: Faults = Faults { losses: 1, ..NO_FAULTS };
const ZOMBIE: Faults = Faults { zombies: 1, ..NO_FAULTS };
const FAILOVER_AND_LOSS: Faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
const CALM: Setting = Setting::CALM;

/// A paused holder wakes up and commits. Its base would refuse it too, so the tip of acquisitions is taken away as well.
#[test]
fn no_fence() {
    let bugs = &[Bug::NoFence, Bug::AcquireLeavesNoTip];
    finds("no_fence", Setting { bugs, faults: ZOMBIE, ..CALM }, Broken::StaleHolder);
}

/// After a failover a plain counter gives out a token twice; again the tip of acquisitions would refuse the first holder.
#[test]
fn incr_token_without_owner() {
    let bugs = &[Bug::NoOwner, Bug::AcquireLeavesNoTip];
    let setting = Setting { bugs, clock: Clock::Behind, faults: FAILOVER, ..CALM };
    finds("incr_token_without_owner", setting, Broken::StaleHolder);
}

/// Why the two bugs above need company: with either defence alone every promise is kept.
#[test]
fn fence_and_tip_each_hold_alone() {
    let faults = Faults { failovers: 1, zombies: 1, ..NO_FAULTS };
    let setting = Setting { messages: 1, faults, ..CALM };
    holds("tip alone", Setting { bugs: &[Bug::NoFence], ..setting });
    holds("tip and token", Setting { bugs: &[Bug::NoOwner], clock: Clock::Behind, ..setting });
    holds("fence alone", Setting { bugs: &[Bug::AcquireLeavesNoTip], ..setting });
}

/// A read moves the offset, its reply is lost, and the next read goes on behind what nobody has seen.
#[test]
fn naive_read_moves_offset() {
    let setting = Setting { bugs: &[Bug::ReadMovesOffset], faults: LOSS, ..CALM };
    finds("naive_read_moves_offset", setting, Broken::Lost(1));
}

/// A failover takes back an entry that was read; the number knows nothing of reads, so the commit is accepted.
#[test]
fn sequence_instead_of_tip_after_failover() {
    let setting = Setting { bugs: &[Bug::Sequence], faults: FAILOVER, ..CALM };
    finds("sequence_instead_of_tip_after_failover", setting, Broken::Foreign(1));
}

/// A commit hangs, its copy is answered FULL, the turn is decided anew with the same number, and the first one lands.
#[test]
fn sequence_instead_of_tip_after_full() {
    let setting = Setting { bugs: &[Bug::Sequence], messages: 4, faults: LOSS, ..CALM };
    finds("sequence_instead_of_tip_after_full", setting, Broken::Doubled(4));
}

/// A repeated commit brings an entry that came after it; a failover keeps the commit, with its tip, and loses the entry.
#[test]
fn dup_delivers() {
    let setting = Setting { bugs: &[Bug::DuplicateDelivers], faults: FAILOVER_AND_LOSS, ..CALM };
    finds("dup_delivers", setting, Broken::Foreign(2));
}

/// The same with a repeated read, whose range has grown since its first run; only a batch of two or more can grow.
#[test]
fn repeated_read_delivers() {
    let setting = Setting { bugs: &[Bug::RepeatedReadDelivers], faults: FAILOVER_AND_LOSS, ..CALM };
    finds("repeated_read_delivers", setting, Broken::Foreign(2));
}

/// A request outlives a failover behind a proxy, and leaves its tip over other entries than its copy had brought.
#[test]
fn resent_answer_is_used() {
    let setting = Setting { faults: FAILOVER_AND_LOSS, messages: 1, late_outlives_failover: true, ..CALM };
    breaks("resent_answer_is_used", setting, Broken::Doubled(1));
    holds("resent_answer_is_used: repaired", Setting { distrusts_resent: true, ..setting });
}

/// The same with an acquisition, where the promoted server's clock is behind and so gives the same token again: a late
/// copy leaves its token and tip over an older state. The repaired form has too many states for a comparison here.
#[test]
#[ignore = "exhaustive; make chaos"]
fn resent_acquire_is_used() {
    let faults = Faults { failovers: 1, losses: 1, crashes: 1, ..NO_FAULTS };
    let setting = Setting { bugs: &[Bug::ResentAcquireIsUsed], batch: 1, clock: Clock::Behind, faults, ..CALM };
    let setting = Setting { acquire_in_flight: true, late_outlives_failover: true, distrusts_resent: true, ..setting };
    breaks("resent_acquire_is_used", setting, Broken::Lost(1));
}

/// A failover takes back an entry that was read, and nothing of the read is left to miss.
#[test]
fn read_without_tip() {
    let setting = Setting { bugs: &[Bug::ReadLeavesNoTip], faults: FAILOVER, ..CALM };
    finds("read_without_tip", setting, Broken::Foreign(1));
    let setting = Setting { ids: Ids::MintedAgain, ..setting };
    finds("read_without_tip, ids minted again", setting, Broken::Foreign(1));
}

/// The reply to a dead-letter is lost, and its repetition dead-letters the entry again.
#[test]
fn unsequenced_dead_letter() {
    let limits = Some(Limits { failed: 1, unfinished: 3 });
    let poison = Some((1, Poison::Panics));
    let setting = Setting { bugs: &[Bug::DeadLetterOutsideTheChain], limits, poison, faults: LOSS, ..CALM };
    finds("unsequenced_dead_letter", setting, Broken::Doubled(1));
}

/// A worker cannot answer into its own full mailbox, so it cannot acknowledge either: both wait for ever.
#[test]
fn full_counts_gross() {
    finds_stuck("full_counts_gross", Setting { bugs: &[Bug::FullCountsGross], sends_to_itself: true, ..CALM });
}

/// The sender has nothing left to send when a failover takes back its last commit: it renews, and never learns of it.
#[test]
fn no_renewal_compare() {
    finds_stuck("no_renewal_compare", Setting { bugs: &[Bug::RenewalIgnoresTip], faults: FAILOVER, ..CALM });
}

/// A commit that hung lands after its successor; or a failover takes back the one before it.
#[test]
fn no_base_check() {
    let setting = Setting { bugs: &[Bug::NoBaseCheck], ..CALM };
    finds("no_base_check, late", Setting { faults: LOSS, ..setting }, Broken::Doubled(1));
    finds("no_base_check, failover", Setting { faults: FAILOVER, ..setting }, Broken::Lost(1));
}

/// A graceful hand-over counts as an attempt, and an entry without fault reaches the limit.
#[test]
fn release_counts() {
    let limits = Some(Limits { failed: 1, unfinished: 1 });
    let faults = Faults { handovers: 1, ..NO_FAULTS };
    let setting = Setting { bugs: &[Bug::ReleaseCounts], limits, faults, ..CALM };
    finds("release_counts", setting, Broken::Innocent(1));
}

/// A poisoned entry is served among others for ever: nobody can tell which of them it is, and none of them passes.
#[test]
fn batch_is_served_again() {
    let limits = Some(Limits { failed: 2, unfinished: 3 });
    let setting = Setting { bugs: &[Bug::BatchIsServedAgain], limits, poison: Some((1, Poison::Panics)), ..CALM };
    finds_stuck("batch_is_served_again", setting);
}
