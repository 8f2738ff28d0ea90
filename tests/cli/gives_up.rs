//! A node on which everything fails, seen from outside: its health, its status, its end.

use std::net::SocketAddr;

use serde_json::json;

use super::support::node::{Answer, get, poll};
use super::support::redis::free_port;
use super::world;

/// Numbers for ever, and the first two failures are too many.
const QUICK: &str = "[supervisor]\nrestarts_max = 1\ngroup_restarts_max = 1\nbackoff_min_ms = 1\nbackoff_max_ms = 1\n\
    unready_exit_seconds = 1\n[selftest.main]\nactors = 6\nmessages = 1000000\nbatch = 1\npause_ms = 20\n";

#[test]
fn a_node_on_which_everything_fails_says_so_and_ends_with_70_once_another_runs_it_all() {
    let (_redis, workspace) = world(QUICK);
    let door = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // Only here every number panics at its first attempt; the keys that nodes must agree on are the same.
    workspace.write("ill.toml", &format!("[node]\nhttp = \"{door}\"\n[selftest.main]\npanic_every = 1\n"));
    let mut ill = workspace.node("a", &["--config", "gapless.toml", "--config", "ill.toml"]);
    let unready = |words: &str| -> Answer {
        poll(words, || {
            get(door, "/healthz").filter(|answer| {
                let reason = answer.json()["reasons"][0].as_str().unwrap_or_default().to_owned();
                answer.status == 503 && reason.starts_with("the node gave up selftest.main: ") && reason.contains(words)
            })
        })
    };
    // Alone it stays, whatever happens: ending would help nobody.
    let health = unready("a restart would not help").json();
    assert_eq!(health["given_up"][0]["pipeline"], json!("selftest.main"), "{health}");
    assert_eq!(health["failed"].as_array().map(Vec::len), Some(7), "{health}");
    let line = ill.wait_for("the units of this pipeline failed too often here");
    assert!(line.contains("again_in=60s") && line.contains("pipeline=selftest.main"), "{line}");
    let status = workspace.run(&["status"]);
    assert!(status.out.contains("unready") && status.out.contains("node a: the node gave up"), "{}", status.out);
    assert!(status.out.contains("selftest.main: node a gave it up, tries again in"), "{}", status.out);
    let metrics = get(door, "/metrics").expect("an answer").body;
    for line in ["gapless_ready 0", "gapless_pipelines_given_up 1"] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} in {metrics}");
    }
    assert!(metrics.contains("gapless_cooldowns_total{pipeline=\"selftest.main\",level=\"pipeline\"} 1"), "{metrics}");
    assert!(ill.lives());
    let mut sound = workspace.started("b", &[]);
    assert_eq!(ill.wait(), 70, "{:?}", ill.lines());
    let words = "gapless: selftest.main run on other nodes, and have failed here for 1 s: giving this process up, for its \
        service manager to start it afresh";
    assert_eq!(ill.lines().last().map(String::as_str), Some(words));
    let announced = ill.wait_for("unless one recovers here, the process ends with code 70 in");
    assert!(announced.contains(" ERROR "), "{announced}");
    assert!(sound.lives());
}
