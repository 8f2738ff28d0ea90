//! The commit protocol of mailboxes and checkpoints, explored state by state: no sampling.
//!
//! A sender, a mailbox and a receiver; two nodes that may hold either; a master, and a replica that may take over with
//! any earlier prefix of the history. In every reachable state the promises of `docs/guarantees.md` are checked that a
//! commit makes (G1 commit, G2 fence, G3 retry): out, dead letters and mailbox together hold exactly what the
//! surviving commits of the sender said, once and in order; no former holder writes; no offset passes its stream. And
//! from every state the end is reached without another fault, so nobody is stuck for ever (G4).
//!
//! | file | what is in it |
//! |---|---|
//! | `redis.rs` | the server: the scripts as pure functions, under the names of the Lua |
//! | `node.rs` | the client: what it remembers, asks and makes of an answer |
//! | `setting.rs` | size, faults and planted bugs of one search |
//! | `words.rs` | what they say to each other |
//! | `world.rs` | the steps between states |
//! | `promises.rs` | what is checked in each state |
//! | `names.rs`, `list.rs`, `search.rs`, `trace.rs` | one form for equal states, small lists, the search, its words |
//! | `planted.rs` | known wrong forms, each of which must be found |
//! | `exhaustive.rs` | the right form under pairs and triples of faults; minutes, so `make chaos` runs it |
//! | `pool/` | the pool, whose slots share a consumer group: its own states, on the same search |
//!
//! Not in the model: prefetch (none is built), an operator's rewind, several hash slots,
//! and everything outside Redis. A holder has at most one late request under way, a crash takes one actor on one node,
//! and an acquisition is one step unless its setting says otherwise. The sizes of states are printed: `cargo test --test model -- --nocapture`.
//!
//! What the search has taught, beyond the planted bugs:
//!
//! - *A repeated read must not deliver.* `tip == new` is DUP for a read as for a commit, and the next read has a new
//!   name. A read that delivered its range again under the same tip would bring entries that the tip does not cover.
//! - *What an answer to a resent request delivers is not used*, if a request can outlive a failover (a proxy that holds
//!   it back): the other copy may run again in the new history and leave the same tip there, over other entries. The
//!   commit itself stays done; its holder reads once more; an acquisition is made once more with a new incarnation.
//! - *Fence and tip each hold alone.* An acquisition leaves a tip of its own, so a former holder's base is refused even
//!   where token and owner are not compared; the bugs `no_fence` and `incr_token_without_owner` break a promise only
//!   where acquisitions leave no tip. Both are kept: the fence tells a former holder what happened to it, and it also
//!   guards what has no base (release, renewal).
//! - *Any holder that goes without a release counts once* as unfinished, when somebody else takes over from it: after a
//!   crash or a pause, but also after a cut, a lost answer or a failover. The limit must be well above one.

mod exhaustive;
mod list;
mod names;
mod node;
mod planted;
mod pool;
mod promises;
mod redis;
mod search;
mod setting;
mod trace;
mod words;
mod world;

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use promises::Broken;
use search::{Finding, Verdict, explore};
use setting::{Clock, Faults, Ids, Limits, Poison, Setting};

/// A search past this many states is a setting chosen too large, and fails.
const MOST_STATES: usize = 6_000_000;

/// The settings that this run has proved to hold: most planted bugs are compared with one of a few.
static PROVED: Mutex<Vec<Setting>> = Mutex::new(Vec::new());

const NO_FAULTS: Faults = Setting::CALM.faults;

/// Explores, and prints the size and the trace for `--nocapture`.
fn search(name: &str, setting: &Setting) -> Verdict<Broken> {
    told(name, explore(setting, MOST_STATES))
}

/// Prints what a search found.
fn told<B: Display + Copy>(name: &str, found: Finding<B>) -> Verdict<B> {
    let verdict = match found.verdict {
        Verdict::Holds => "holds".to_owned(),
        Verdict::Broken(broken) => broken.to_string(),
        Verdict::Stuck(count) => format!("{count} states are stuck for ever"),
        Verdict::TooLarge => "too large".to_owned(),
    };
    let (states, steps, seconds) = (found.states, found.steps, found.elapsed.as_secs_f32());
    println!("{name:44} {states:>8} states {steps:>9} steps {seconds:5.1} s  {verdict}");
    print!("{}", found.trace);
    found.verdict
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
fn without_faults() {
    holds("calm", Setting { messages: 4, ..Setting::CALM });
}

#[test]
fn lost_and_late_requests() {
    let faults = Faults { losses: 2, ..NO_FAULTS };
    holds("two losses", Setting { faults, ..Setting::CALM });
    let faults = Faults { losses: 1, ..NO_FAULTS };
    holds("loss, full mailbox", Setting { messages: 4, faults, ..Setting::CALM });
    holds("loss, also of acquisitions", Setting { acquire_in_flight: true, faults, ..Setting::CALM });
}

#[test]
fn nodes_that_come_and_go() {
    for (name, faults) in [
        ("crash and loss", Faults { crashes: 1, losses: 1, ..NO_FAULTS }),
        ("zombie and loss", Faults { zombies: 1, losses: 1, ..NO_FAULTS }),
        ("cut and loss", Faults { cuts: 1, losses: 1, ..NO_FAULTS }),
        ("hand-over and loss", Faults { handovers: 1, losses: 1, ..NO_FAULTS }),
    ] {
        holds(name, Setting { faults, ..Setting::CALM });
    }
}

#[test]
fn one_failover() {
    let faults = Faults { failovers: 1, ..NO_FAULTS };
    holds("failover", Setting { faults, ..Setting::CALM });
    holds("failover, ids minted again", Setting { faults, ids: Ids::MintedAgain, ..Setting::CALM });
    holds("failover, clock behind", Setting { faults, clock: Clock::Behind, ..Setting::CALM });
}

#[test]
fn one_failover_and_one_loss() {
    let faults = Faults { failovers: 1, losses: 1, ..NO_FAULTS };
    holds("failover and loss", Setting { faults, ..Setting::CALM });
}

#[test]
fn poisoned_entries() {
    let limits = Some(Limits { failed: 2, unfinished: 3 });
    let faults = Faults { losses: 1, ..NO_FAULTS };
    holds("panics", Setting { poison: Some((2, Poison::Panics)), limits, faults, ..Setting::CALM });
    holds("kills", Setting { poison: Some((2, Poison::Kills)), limits, faults, ..Setting::CALM });
    // The poison is served with a neighbour behind it: neither is counted then, and both are served alone afterwards.
    holds("panics, first of a batch", Setting { poison: Some((1, Poison::Panics)), limits, faults, ..Setting::CALM });
}

/// A hand-over counts nothing, and each fault counts at most once: the limit is one above the faults.
#[test]
fn innocent_entries_survive_crashes_and_handovers() {
    let limits = Some(Limits { failed: 1, unfinished: 2 });
    let faults = Faults { crashes: 1, handovers: 2, ..NO_FAULTS };
    holds("innocent, crash and hand-overs", Setting { limits, faults, ..Setting::CALM });
}

#[test]
fn a_worker_that_answers_into_its_own_full_mailbox() {
    let faults = Faults { losses: 1, ..NO_FAULTS };
    holds("sends to itself", Setting { sends_to_itself: true, faults, ..Setting::CALM });
}
