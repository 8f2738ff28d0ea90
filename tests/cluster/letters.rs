//! A poison entry, from its death to its retry by command.

use std::process::Command;

use gapless::supervisor::Ended;

use crate::frail::{Place, Site, Trouble, quick};
use crate::support::wait;

#[actix_rt::test]
async fn a_poison_entry_dies_alone_and_is_retried_by_command() {
    let site = Site::new().await;
    site.send("tally_0", 1..=4).await;
    // The first turn holds all four; each of the five after it holds the first alone: that is its limit.
    let node = site.node("a", quick(), &[("tally_0", Trouble::new(Place::Turn, 6))]);
    wait::until("its neighbours unharmed", || async { site.output("tally_0").await == [2, 3, 4] }).await;
    let dead = site.dead("tally_0").await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert!(dead[0].contains("5 failed attempts") && dead[0].contains("asked to break in Turn"), "{dead:?}");
    let space = tempfile::tempdir().expect("a folder");
    let toml = format!("[redis]\nurl = \"{}\"\nprefix = \"t\"\n[selftest.x]\nactors = 1\n", site.server.url());
    std::fs::write(space.path().join("gapless.toml"), toml).expect("a file");
    let retry = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
        command.args(["mailbox", "dead", "retry", "selftest.x/tally_0", "--all"]).current_dir(space.path());
        let done = command.output().expect("the program");
        (done.status.code(), String::from_utf8(done.stdout).expect("text"))
    };
    assert_eq!(retry(), (Some(0), "1 letter moved back to the end of selftest.x/tally_0\n".to_owned()));
    wait::until("the entry to pass", || async { site.output("tally_0").await == [2, 3, 4, 1] }).await;
    assert_eq!(site.dead("tally_0").await, Vec::<String>::new());
    assert_eq!(retry(), (Some(0), "0 letters moved back to the end of selftest.x/tally_0\n".to_owned()));
    assert_eq!(site.output("tally_0").await, [2, 3, 4, 1], "once");
    assert_eq!(node.drain().await, Ended::Drained { others: 0 });
}
