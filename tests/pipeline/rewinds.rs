//! A Collector sent back by command: what lies above the place is collected again, nothing is doubled or written anew.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::oracle;
use crate::sim::{Sim, plan};
use crate::support::node::{Node, poll};
use crate::world::{CONFIRMATIONS, World, pipeline};

const HEAD: u64 = 1_200;
const UNIT: &str = "blocks.main/collector";

/// What each file of a store is on the disk: one that is written anew is another one.
fn on_disk(store: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let files = oracle::files(store).into_values().flatten();
    let facts = |path: &Path| {
        let data = std::fs::metadata(path).expect("a file");
        (data.ino(), data.mtime(), data.mtime_nsec())
    };
    let both = |path: PathBuf| [path.clone(), path.with_extension("meta")];
    files.flat_map(|file| both(file.path)).map(|path| (path.clone(), facts(&path))).collect()
}

fn state(world: &World) -> Value {
    let shown = world.space.run(&["checkpoint", "show", UNIT, "--json"]);
    if shown.code == 0 { shown.json()["state"].clone() } else { Value::Null }
}

/// How many blocks a node says it has found in the store since `from`, a time as its log has it.
fn found(node: &Node, from: &str) -> u64 {
    let lines = node.lines();
    let is_said =
        |line: &&String| line.as_str() > from && line.contains("blocks that stood in the store are held again");
    let count = |line: &String| line.split("adopted=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    lines.iter().filter(is_said).map(|line| count(line).unwrap_or_else(|| panic!("no count in {line}"))).sum()
}

/// Waits until the rewind was carried out and everything is held again.
#[track_caller]
fn wait_again(world: &World, hi: u64) {
    poll("the heights to be collected again", || {
        let state = state(world);
        let through = state["again_from"].is_null() && state["hashes"].as_array().is_some_and(|all| !all.is_empty());
        (through && oracle::bounds(&world.redis, "main") == [(0, hi)]).then_some(())
    });
}

#[test]
fn a_thousand_heights_are_collected_again_and_none_is_doubled() {
    let sim = Sim::start(plan(31, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    // No lease runs out, however busy the machine is: a turn that is cut has found blocks and cannot say so.
    let patient = ("GAPLESS__NODE__LEASE_SECONDS", "6");
    let started = |name| {
        let node = world.space.node_with(name, &["--log-level", "info,gapless::actors=debug"], patient);
        node.wait_for("node started");
        node
    };
    let nodes = [started("a"), started("b")];
    world.wait_held("main", &[(0, HEAD)]);
    oracle::assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, HEAD);
    let before = on_disk(&world.store("main"));
    // The chain is away, so that it is seen what is taken out, and what is found without it.
    sim.control.set_outage(true);
    // Units that moved while the chain was followed have found blocks too; those do not count.
    let from = jiff::Timestamp::now().to_string();
    let done = world.space.run(&["checkpoint", "rewind", UNIT, "--by", "1000", "--yes", "--json"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    let done = done.json();
    assert_eq!(
        (&done["from"], &done["again_from"], &done["count"]),
        (&HEAD.into(), &(HEAD - 999).into(), &1000.into())
    );
    world.wait_held("main", &[(0, HEAD - CONFIRMATIONS)]);
    // Every final height was taken out, and found in the store once.
    let all_found = || nodes.iter().map(|node| found(node, &from)).sum::<u64>();
    poll("the blocks that were found", || (all_found() == 1000 - CONFIRMATIONS).then_some(()));
    sim.control.set_outage(false);
    wait_again(&world, HEAD);
    let said = format!("range={}..{HEAD}", HEAD - 999);
    let obeyed = |node: &Node| {
        node.lines().iter().any(|line| line.contains("these heights are collected again") && line.contains(&said))
    };
    assert!(nodes.iter().any(obeyed), "nobody took {said} out");
    oracle::assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, HEAD);
    assert_eq!(on_disk(&world.store("main")), before, "files that stood there were found");
    assert_eq!((oracle::parked(&world.redis, "main"), all_found()), (vec![], 1000 - CONFIRMATIONS));
    let verify = world.space.run(&["blocks", "verify"]);
    assert_eq!((verify.code, verify.out.as_str()), (0, "1,201 heights, 0..1200: all held, whole and linked\n"));
}

/// Above finality only, with a head that moves on, and blocks that were lost meanwhile.
#[test]
fn a_rewind_above_finality_is_followed_and_what_was_lost_is_fetched() {
    let sim = Sim::start(plan(32, 100));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    let _node = world.space.started("a", &[]);
    world.wait_held("main", &[(0, 100)]);
    std::fs::remove_file(&oracle::files(&world.store("main"))[&98][0].path).expect("a file");
    let done = world.space.run(&["checkpoint", "rewind", UNIT, "--to", "95", "--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    sim.control.advance(5);
    wait_again(&world, 105);
    oracle::assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, 105);
}

/// A node that dies right after the heights were taken out, and an index with more pieces than one commit may touch.
#[test]
fn a_rewind_survives_a_death_on_the_way() {
    let sim = Sim::start(plan(33, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    let mut node = world.space.started("a", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    // Every second height is missing: as many pieces as there can be.
    let key = oracle::key("main", "held");
    world.redis.command(&["DEL", &key]);
    for height in (0..=HEAD).step_by(2) {
        let block = sim.truth.truth(height);
        let member = format!("{height} {height} {} {}", block.parent, block.hash);
        world.redis.command(&["ZADD", &key, &height.to_string(), &member]);
    }
    let done = world.space.run(&["checkpoint", "rewind", UNIT, "--to", "9", "--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(state(&world)["again_from"], 10);
    let crash = ("GAPLESS_CRASH_POINT", "after_commit@collector:kill:1");
    let only = ["--only", "blocks.main/collector"];
    let mut dies = world.space.node_with("b", &only, crash);
    assert_eq!(dies.wait(), -1, "it kills itself");
    // One page is out, from the lowest on, and the place to go on from is known.
    let next = state(&world)["again_from"].as_u64().expect("a height");
    assert!(next > 500 && next < HEAD, "{next}");
    let bounds = oracle::bounds(&world.redis, "main");
    assert!(bounds.iter().all(|(lo, _)| *lo < 10 || *lo >= next), "{bounds:?}");
    assert!(bounds.len() > 6, "{bounds:?}");
    let _node = world.space.started("c", &[]);
    wait_again(&world, HEAD);
    oracle::assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, HEAD);
}
