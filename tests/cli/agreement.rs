//! Nodes that were told different things about one pipeline: who runs it, and what the other one says.

use std::path::PathBuf;

use rustix::process::Signal;

use super::support::node::{Node, Workspace, config};
use super::support::redis::RedisServer;
use super::world;

/// A configuration of its own in the same folder.
fn other(workspace: &Workspace, redis: &RedisServer, more: &str) -> PathBuf {
    workspace.write("other.toml", &config(&redis.url(), more))
}

fn run_other(workspace: &Workspace, redis: &RedisServer, more: &str) -> Node {
    let file = other(workspace, redis, more);
    workspace.node("b", &["--config", file.to_str().expect("a plain name")])
}

/// Lines on standard error that are no log.
fn report(node: &Node) -> String {
    let lines = node.lines();
    let from = lines.iter().position(|line| line.starts_with("gapless: ")).expect("a report");
    lines[from..].join("\n")
}

#[test]
fn a_node_with_other_values_is_refused_until_the_first_one_has_gone() {
    let (redis, workspace) = world("[selftest.main]\nactors = 2\n");
    let mut first = workspace.started("a", &[]);
    let mut second = run_other(&workspace, &redis, "[selftest.main]\nactors = 3\n");
    assert_eq!(second.wait(), 2);
    assert_eq!(
        report(&second),
        "gapless: selftest.main is configured otherwise on a (there) than on this node, b (here):\n  actors: here 3, \
         there 2\n  With different values one node would undo the work of the other. Write the same ones; or, to change \
         them, stop every node that runs selftest.main (a) and start this one: it takes over. (Configuration 1, written \
         by node a)"
    );
    assert!(first.lives());
    let nodes = workspace.run(&["status", "--json"]).json()["nodes"].as_array().expect("nodes").len();
    assert_eq!(nodes, 1, "the refused one says no more that it lives");
    let doctor = workspace.run(&["doctor", "--config", "other.toml"]);
    let words = "bad   selftest.main configuration  a node would be refused:  actors: here 3, there 2";
    assert!(doctor.code == 1 && doctor.out.contains(words), "{}", doctor.out);
    // With the same values, and others that nodes may differ in, it is welcome.
    let mut third = run_other(&workspace, &redis, "[selftest.main]\nactors = 2\nbatch = 7\n");
    third.wait_for("node started");
    for node in [&mut first, &mut third] {
        node.signal(Signal::TERM);
        assert_eq!(node.wait(), 0);
    }
    // Nobody lives that works with the old ones.
    let mut fourth = run_other(&workspace, &redis, "[selftest.main]\nactors = 3\n");
    let line = fourth.wait_for("has changed, and takes over:  actors: here 3, there 2");
    assert!(line.contains(" WARN ") && line.contains("generation=2"), "{line}");
    fourth.wait_for("node started");
    fourth.signal(Signal::TERM);
    assert_eq!(fourth.wait(), 0);
}

#[test]
fn a_node_that_was_killed_is_not_in_the_way_for_long() {
    let (redis, workspace) = world("[selftest.main]\nactors = 2\n");
    let mut first = workspace.started("a", &[]);
    first.kill();
    let second = run_other(&workspace, &redis, "[selftest.main]\nactors = 1\n");
    second.wait_for("has changed, and takes over:  actors: here 1, there 2");
    second.wait_for("node started");
}

#[test]
fn of_two_nodes_that_start_at_once_exactly_one_runs_the_pipeline() {
    for _ in 0..3 {
        let (redis, workspace) = world("[selftest.main]\nactors = 2\n");
        let file = other(&workspace, &redis, "[selftest.main]\nactors = 1\n");
        let mut nodes =
            [workspace.node("a", &[]), workspace.node("b", &["--config", file.to_str().expect("a plain name")])];
        let refused = super::poll("one of them to end", || nodes.iter_mut().position(|node| !node.lives()));
        assert_eq!(nodes[refused].wait(), 2, "{:?}", nodes[refused].lines());
        assert!(report(&nodes[refused]).contains("actors: here"), "{:?}", nodes[refused].lines());
        nodes[1 - refused].wait_for("node started");
        assert!(nodes[1 - refused].lives());
    }
}

#[test]
fn nodes_that_run_other_pipelines_may_differ() {
    let both = |actors: u32| format!("[selftest.main]\nactors = {actors}\n[selftest.other]\nactors = 1\n");
    let (redis, workspace) = world(&both(2));
    let _first = workspace.started("a", &["--only", "selftest.main"]);
    let file = other(&workspace, &redis, &both(3));
    let file = file.to_str().expect("a plain name");
    workspace.node("b", &["--config", file, "--only", "selftest.other"]).wait_for("node started");
    let mut third = workspace.node("c", &["--config", file]);
    assert_eq!(third.wait(), 2, "{:?}", third.lines());
}

#[test]
fn a_redis_of_an_earlier_release_is_taken_as_it_is() {
    let (redis, workspace) = world("[selftest.main]\nactors = 2\nmessages = 5\n");
    let mut node = workspace.started("a", &[]);
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    let facts = "t:{selftest.main}:facts";
    redis.command(&["HDEL", facts, "config", "config_generation", "config_keys", "config_node"]);
    let node = run_other(&workspace, &redis, "[selftest.main]\nactors = 3\n");
    node.wait_for("node started");
    assert_eq!(redis.text(&["HGET", facts, "config_generation"]), "1");
    assert_eq!(redis.text(&["HGET", facts, "config_keys"]), "{\"actors\":\"3\"}");
}
