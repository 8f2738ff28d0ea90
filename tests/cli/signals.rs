//! Signals: a drain that others need not wait for, and an end at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::node::poll;
use super::{QUIET, eventually, world};

#[test]
fn after_sigterm_another_node_goes_on_within_a_second() {
    // The lease is long, so that only a release can be this quick.
    let (_redis, workspace) = world("[selftest.main]\nactors = 2\n");
    workspace.write("long.toml", "[node]\nlease_seconds = 30\n");
    let files = ["--config", "gapless.toml", "--config", "long.toml"];
    let mut first = workspace.started("a", &files);
    let held_by = |name: &'static str| {
        move |list: &serde_json::Value| {
            let all = list["checkpoints"].as_array().expect("checkpoints");
            all.len() == 3 && all.iter().all(|unit| unit["node"] == name && unit["owned"] == true)
        }
    };
    eventually(&workspace, "node a holding everything", &["checkpoint", "list"], held_by("a"));
    let second = workspace.started("b", &files);
    eventually(&workspace, "two nodes", &["status"], |status| {
        status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
    });
    first.signal(Signal::TERM);
    let signalled = Instant::now();
    eventually(&workspace, "node b holding everything", &["checkpoint", "list"], held_by("b"));
    let took = signalled.elapsed();
    assert_eq!(first.wait(), 0, "{:?}", first.lines());
    first.wait_for("drained; good-bye");
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop(second);
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
