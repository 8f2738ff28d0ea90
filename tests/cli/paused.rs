//! Pause, resume and rescan: through the mailbox of a pipeline's source, and past the death of the node.

use serde_json::{Value, json};

use super::sim::{self, Sim};
use super::support::node::{Node, Workspace, poll};
use super::support::redis::RedisServer;
use super::{QUIET, eventually, oracle, world};

const COLLECTOR: &str = "blocks.main/collector";

fn followed(seed: u64) -> (Sim, RedisServer, Workspace, Node) {
    let sim = Sim::start(sim::plan(seed, 60));
    // It looks once a minute: what happens sooner happens because it was told to.
    let (redis, workspace) = world(&format!(
        "[blocks.main]\nendpoints = [\"{}\"]\nstart = 0\nstore = \"store\"\nconfirmations = 10\npoll_ms = 60000\n\
         task_heights = 20\n",
        sim.url
    ));
    let node = workspace.started("a", &[]);
    poll("the chain to be held", || (oracle::bounds(&redis, "main") == [(0, 60)]).then_some(()));
    (sim, redis, workspace, node)
}

fn is_taken(redis: &RedisServer) -> Option<()> {
    (redis.command(&["XLEN", &oracle::key("main", "in:collector")]) == redis::Value::Int(0)).then_some(())
}

#[test]
fn a_paused_collector_asks_nothing_until_it_resumes_whoever_holds_it() {
    let (sim, redis, workspace, mut node) = followed(41);
    // By the command that puts any message into a mailbox.
    assert_eq!(workspace.run(&["send", COLLECTOR, "pause", "{}"]).code, 0);
    let paused = |unit: &Value| unit["unit"] == COLLECTOR && unit["paused_age_ms"].is_u64();
    eventually(&workspace, "the pause", &["status"], |status| {
        status["units"].as_array().expect("units").iter().any(paused)
    });
    let since = workspace.run(&["checkpoint", "show", COLLECTOR, "--json"]).json()["state"]["paused_ms"].clone();
    assert!(since.is_u64(), "{since}");
    let status = workspace.run(&["status"]).out;
    assert!(status.contains(&format!("{COLLECTOR}: paused by an operator ")), "{status}");
    assert!(status.contains("to go on: gapless resume blocks.main\n"), "{status}");
    // The row's state is what the holder said in its last beat.
    poll("its row to say so", || {
        let status = workspace.run(&["status"]).out;
        status.lines().any(|line| line.starts_with(COLLECTOR) && line.contains(" paused ")).then_some(())
    });
    let blocks = workspace.run(&["blocks", "status", "--json"]).json();
    assert!(blocks["pipelines"][0]["paused_age_ms"].is_u64(), "{blocks}");
    assert!(
        workspace.run(&["blocks", "status"]).out.contains("by an operator; to go on: gapless resume blocks.main\n")
    );

    // Its mailbox is served; the chain is asked nothing.
    sim.control.advance(5);
    let asked = sim.control.requests();
    assert_eq!(workspace.run(&["rescan", "blocks.main"]).code, 0);
    poll("the order to be taken", || is_taken(&redis));
    node.kill();
    let _heir = workspace.started("b", &[]);
    poll("the heir", || (oracle::holder(&redis, "main", "collector") == "b").then_some(()));
    // A second pause changes nothing, and shows that the heir takes orders.
    assert_eq!(workspace.run(&["pause", "blocks.main"]).code, 0);
    poll("the order to be taken", || is_taken(&redis));
    let state = workspace.run(&["checkpoint", "show", COLLECTOR, "--json"]).json()["state"].clone();
    assert_eq!(state["paused_ms"], since, "paused since the first order");
    assert_eq!(sim.control.requests(), asked, "the chain was asked while it was paused");
    assert_eq!(oracle::bounds(&redis, "main"), [(0, 60)]);

    assert_eq!(workspace.run(&["resume", "blocks.main"]).code, 0);
    poll("what came meanwhile", || (oracle::bounds(&redis, "main") == [(0, 65)]).then_some(()));
    let blocks = workspace.run(&["blocks", "status", "--json"]).json();
    assert_eq!(blocks["pipelines"][0]["paused_age_ms"], Value::Null);
    oracle::assert_whole(&redis, "main", &workspace.path().join("store"), &sim.truth, 0, 65);
}

#[test]
fn a_rescan_is_a_look_at_once() {
    let (sim, redis, workspace, _node) = followed(42);
    sim.control.advance(3);
    let sent = workspace.run(&["rescan", "blocks.main"]);
    assert!(sent.code == 0 && sent.out.starts_with("sent to blocks.main/collector as "), "{sent:?}");
    // Within the deadline of `poll`, which is shorter than the pause between two looks.
    poll("the new blocks", || (oracle::bounds(&redis, "main") == [(0, 63)]).then_some(()));
}

#[test]
fn the_feeder_pauses_in_the_middle_and_sends_the_rest_when_it_resumes() {
    let (_redis, workspace) = world("[selftest.main]\nactors = 1\nmessages = 100000\nbatch = 1\npause_ms = 5\n");
    let _node = workspace.started("a", &[]);
    let show = ["checkpoint", "show", "selftest.main/feeder"];
    eventually(&workspace, "some numbers", &show, |shown| shown["state"]["sent"].as_u64() > Some(3));
    assert_eq!(workspace.run(&["pause", "selftest.main"]).code, 0);
    let paused = eventually(&workspace, "the pause", &show, |shown| shown["state"]["paused_ms"].is_u64()).json();
    // Everything that it sent is added up, and that is all.
    let sent = paused["state"]["sent"].as_u64().expect("a number");
    eventually(&workspace, "the sum", &["checkpoint", "show", "selftest.main/tally_0"], |shown| {
        shown["state"] == json!({ "n": sent, "sum": sent * (sent + 1) / 2 })
    });
    assert_eq!(workspace.run(&["rescan", "selftest.main"]).code, 0);
    let seq = paused["seq"].as_u64();
    let after = eventually(&workspace, "the order taken", &show, |shown| shown["seq"].as_u64() > seq).json();
    assert_eq!(after["state"], paused["state"]);
    assert_eq!(workspace.run(&["resume", "selftest.main", "--json"]).json()["mailbox"], "selftest.main/feeder");
    eventually(&workspace, "more numbers", &show, |shown| shown["state"]["sent"].as_u64() > Some(sent + 3));
}

#[test]
fn a_pipeline_that_is_not_there_is_refused_with_those_that_are() {
    let (_redis, workspace) = world(QUIET);
    workspace
        .run(&["pause", "blocks.mainnet"])
        .failed(2, "gapless: there is no pipeline `blocks.mainnet`; there is: selftest.main\n");
}
