//! `gapless blocks list` and `orphans`: what stands beside each block, in JSON and in columns.

use gapless::simulate::chain::{ChainPlan, SimBlock};
use serde_json::{Value, json};

use super::sim::{self, Sim};
use super::support::node::{Node, Workspace, poll};
use super::support::redis::RedisServer;
use super::{names, oracle, world};

const HEAD: u64 = 60;

fn followed() -> (Sim, RedisServer, Workspace, Node) {
    let sim = Sim::start(ChainPlan { ..sim::plan(9, HEAD) });
    let (redis, workspace) = world(&format!(
        "[blocks.main]\nendpoints = [\"{}\"]\nstart = 0\nstore = \"store\"\nconfirmations = 10\npoll_ms = 100\n",
        sim.url
    ));
    let node = workspace.started("a", &[]);
    poll("the chain to be held", || (oracle::bounds(&redis, "main") == [(0, HEAD)]).then_some(()));
    (sim, redis, workspace, node)
}

fn heights(report: &Value) -> Vec<u64> {
    let rows = report["blocks"].as_array().expect("blocks");
    rows.iter().map(|row| row["height"].as_u64().expect("a height")).collect()
}

/// Puts another block of the height beside the chain's.
fn plant(workspace: &Workspace, block: &SimBlock) {
    let path = workspace.path().join(format!("store/blocks/0000000000/{:013}-{}.json", block.height, block.hash));
    let line = json!({
        "height": block.height, "hash": block.hash, "parent": block.parent, "time": block.time,
        "bytes": block.raw.len(), "blake3": blake3::hash(&block.raw).to_string(), "stored_at": "2026-01-01T00:00:00Z",
    });
    std::fs::write(path.with_extension("meta"), line.to_string()).expect("a line");
    std::fs::write(path, &block.raw).expect("a file");
}

#[test]
fn blocks_are_listed_with_what_is_known_of_them() {
    let (sim, _redis, workspace, _node) = followed();
    let newest = workspace.run(&["blocks", "list", "--json"]).json();
    assert_eq!(names(&newest), ["blocks", "more", "range"]);
    assert_eq!((heights(&newest), &newest["more"]), ((HEAD - 19..=HEAD).collect(), &json!(HEAD + 1 - 20)));
    // An orphan does not take the place of the chain's block.
    plant(&workspace, &sim.truth.block(31, 1));
    let some = workspace.run(&["blocks", "list", "30..33", "--json"]).json();
    assert_eq!((heights(&some), &some["range"], &some["more"]), (vec![30, 31, 32, 33], &json!([30, 33]), &json!(0)));
    for row in some["blocks"].as_array().expect("blocks") {
        let truth = sim.truth.truth(row["height"].as_u64().expect("a height"));
        assert_eq!((&row["hash"], &row["parent"]), (&json!(truth.hash), &json!(truth.parent)));
        assert_eq!(
            (&row["time"], &row["bytes"], &row["fault"]),
            (&json!(truth.time), &json!(truth.raw.len()), &json!(""))
        );
    }
    let lowest = workspace.run(&["blocks", "list", "10..59", "--limit", "2", "--json"]).json();
    assert_eq!((heights(&lowest), &lowest["more"]), (vec![10, 11], &json!(48)));

    std::fs::remove_file(oracle::files(&workspace.path().join("store"))[&20][0].path.clone()).expect("a file");
    let text = workspace.run(&["blocks", "list", "19..21", "--limit", "2"]);
    assert_eq!((text.code, text.err.as_str()), (0, ""));
    let lines: Vec<&str> = text.out.lines().collect();
    assert!(lines[0].starts_with("HEIGHT  HASH"), "{text:?}");
    let truth = sim.truth.truth(19);
    assert!(lines[1].starts_with(&format!("    19  {}  {}  ", truth.hash, truth.parent)), "{text:?}");
    assert!(lines[2].starts_with("    20  its file is gone"), "{text:?}");
    assert_eq!(lines[3], "... and 1 more block (--limit, or A..B)");
    let columns: Vec<usize> = lines[..3].iter().map(|line| line[8..].find("  ").unwrap_or(0)).collect();
    assert_eq!(lines[0].find("PARENT"), Some(8 + columns[1] + 2), "columns line up: {text:?}");

    let orphans = workspace.run(&["blocks", "orphans", "--json"]).json();
    let orphan = json!({"height": 31, "hash": sim.truth.block(31, 1).hash, "canonical": sim.truth.truth(31).hash});
    assert_eq!(orphans, json!({"range": [0, HEAD], "orphans": [orphan], "more": 0}));
    let text = workspace.run(&["blocks", "orphans", "25..40"]).out;
    let row = format!("    31  {}  {}\n", sim.truth.block(31, 1).hash, sim.truth.truth(31).hash);
    assert!(text.starts_with("HEIGHT  ORPHAN") && text.ends_with(&row), "{text}");
    assert_eq!(workspace.run(&["blocks", "orphans", "0..30"]).out, "no orphans in 0..30\n");
    assert_eq!(workspace.run(&["blocks", "list", "900..901"]).out, "nothing is held in 900..901\n");
    for limit in ["0", "100001", "x"] {
        let refused = workspace.run(&["blocks", "list", "--limit", limit]);
        assert!(refused.code == 2 && refused.err.contains("must be a whole number, 1 to 100000"), "{refused:?}");
    }
}

#[test]
fn before_the_first_node_there_is_nothing_to_list_or_to_order() {
    let (_redis, workspace) =
        world("[blocks.main]\nendpoints = [\"http://127.0.0.1:1\"]\nstart = 0\nstore = \"store\"\n");
    assert_eq!(workspace.run(&["blocks", "list"]).out, "nothing yet: no collector has seen the chain\n");
    assert_eq!(
        workspace.run(&["blocks", "orphans", "--json"]).json(),
        json!({"range": null, "orphans": [], "more": 0})
    );
    let unpark = workspace.run(&["blocks", "unpark", "5..9", "--json"]);
    assert_eq!((unpark.code, unpark.json()), (0, json!({"range": [5, 9], "parked": 0, "sent": false, "runs": false})));
    assert_eq!(workspace.run(&["blocks", "unpark", "5..9"]).out, "nothing is parked in 5..9\n");
}
