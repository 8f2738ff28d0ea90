//! Signals: a drain that others need not wait for, and an end at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use serde_json::Value;

use super::support::node::{Workspace, poll};
use super::{QUIET, eventually, world};

/// Server milliseconds.
fn now(workspace: &Workspace) -> u64 {
    workspace.run(&["--json", "status"]).json()["time_ms"].as_u64().expect("a number")
}

#[test]
fn after_sigterm_another_node_goes_on_within_a_second() {
    // The lease is long, so that only a release can be this quick.
    let (_redis, workspace) = world(QUIET);
    workspace.write("long.toml", "[node]\nlease_seconds = 30\n");
    let files = ["--config", "gapless.toml", "--config", "long.toml"];
    let mut first = workspace.started("a", &files);
    let held_by = |name: &'static str| {
        move |list: &Value| {
            let all = list["checkpoints"].as_array().expect("checkpoints");
            all.len() == 3 && all.iter().all(|unit| unit["node"] == name && unit["owned"] == true)
        }
    };
    eventually(&workspace, "node a holding everything", &["checkpoint", "list"], held_by("a"));
    let _second = workspace.started("b", &files);
    eventually(&workspace, "two nodes", &["status"], |status| status["nodes"][1]["node"] == "b");
    let signalled = now(&workspace);
    first.signal(Signal::TERM);
    let list = eventually(&workspace, "node b holding everything", &["checkpoint", "list"], held_by("b")).json();
    assert_eq!(first.wait(), 0, "{:?}", first.lines());
    first.wait_for("drained; good-bye");
    for unit in list["checkpoints"].as_array().expect("checkpoints") {
        let name = unit["unit"].as_str().expect("a name");
        let past = workspace.run(&["--json", "checkpoint", "history", name]).json();
        let sample = &past["samples"][0];
        assert_eq!((&sample["why"], &sample["node"]), (&"acquire".into(), &"b".into()));
        // By the server's clock, so that how quickly this test looks does not count.
        let took = sample["time_ms"].as_u64().expect("a number") - signalled;
        assert!(took < 1000, "{name} after {took} ms");
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    // Every turn hangs, so that the drain has something to wait for.
    let more = "turn_grace_ms = 60000\n[supervisor]\nhang_seconds = 600\n[selftest.main]\nactors = 1\nmessages = 1\nhang_every = 1\n";
    let (_redis, workspace) = world(more);
    let mut node = workspace.started("a", &[]);
    eventually(&workspace, "a turn under way", &["checkpoint", "show", "selftest.main/feeder"], |shown| {
        shown["state"]["sent"] == 1
    });
    eventually(&workspace, "the tally", &["status"], |status| status["pipelines"][0]["held"] == 2);
    node.signal(Signal::TERM);
    node.wait_for("draining");
    assert!(node.lives());
    let began = Instant::now();
    node.signal(Signal::INT);
    assert_eq!(node.wait(), 130);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(node.lines().last().map(String::as_str), Some("gapless: second signal; ending at once"));
}

#[test]
fn a_signal_while_redis_is_away_ends_the_wait() {
    let (mut redis, workspace) = world(QUIET);
    redis.kill();
    let mut node = workspace.node("a", &[]);
    node.wait_for("redis is away");
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    assert!(poll("its end", || Some(!node.lives())));
}
