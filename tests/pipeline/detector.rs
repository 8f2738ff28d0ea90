//! What the detector does beside finding gaps: compares files and index, asks again for what was parked, and shows what
//! it saw.

use std::fs;
use std::net::SocketAddr;

use gapless::simulate::chain::{ChainPlan, SimChain};
use serde_json::json;

use crate::chains::Woven;
use crate::oracle::{self, assert_whole};
use crate::sim::{Sim, plan};
use crate::support::node::{get, poll};
use crate::support::redis::free_port;
use crate::world::{World, pipeline};

const HEAD: u64 = 140;

/// Removes the blocks of these heights from the store, as a careless hand would.
fn lose(world: &World, heights: &[u64]) {
    let files = oracle::files(&world.store("main"));
    for height in heights {
        let path = &files[height][0].path;
        fs::remove_file(path).expect("a file");
        fs::remove_file(path.with_extension("meta")).expect("its line");
    }
}

#[test]
fn files_that_were_lost_while_nobody_looked_become_gaps_when_a_node_starts() {
    let chain = || SimChain::new(&plan(41, HEAD));
    let woven = Woven::start(chain(), HEAD, |_| Some(0));
    let world = World::new(&pipeline("main", &[&woven.url], "0", ""));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    node.kill();
    // The last one lies above finality, where the collector alone works.
    let lost = [20, 21, 90, 135];
    lose(&world, &lost);

    let mut node = world.space.started("one", &[]);
    node.wait_for("held blocks have no file; they become gaps");
    poll("the files to be there again", || {
        let files = oracle::files(&world.store("main"));
        (0..=HEAD).all(|height| files.get(&height).is_some_and(|files| files.len() == 1)).then_some(())
    });
    world.wait_held("main", &[(0, HEAD)]);
    assert_whole(&world.redis, "main", &world.store("main"), &chain(), 0, HEAD);
    let asked = woven.asked(0..=130);
    let twice: Vec<u64> = asked.iter().filter(|(_, times)| **times > 1).map(|(height, _)| *height).collect();
    assert_eq!(twice, [20, 21, 90], "what was not lost is not asked for");
    assert!(node.lives());
}

#[test]
fn a_folder_that_is_no_longer_the_store_takes_nothing_out_of_the_index() {
    let sim = Sim::start(plan(42, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", "reconcile_seconds = 1"));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    let before = oracle::held(&world.redis, "main");
    // As after an `umount`: the mount point is there, and empty.
    fs::remove_dir_all(world.store("main")).expect("a folder");
    fs::create_dir(world.store("main")).expect("a folder");
    let reason = world.wait_failed("blocks.main/gap_detector");
    assert!(
        reason.contains("the folder of blocks.main is no longer its store (gapless-store.json is gone"),
        "{reason}"
    );
    assert_eq!(oracle::held(&world.redis, "main"), before);
    assert!(node.lives());
}

#[test]
fn parked_heights_are_asked_for_again_in_time_and_pruned_ones_of_new_endpoints() {
    let faults = "pruned=0..50,hole=100..120".parse().expect("a plan");
    let (poor, rich) = (Sim::start(ChainPlan { faults, ..plan(43, HEAD) }), Sim::start(plan(43, HEAD)));
    let with = |endpoints: &[&str], retry: u32| {
        pipeline("main", endpoints, "0", &format!("attempts_max = 2\nparked_retry_seconds = {retry}"))
    };
    let parked = |world: &World| -> Vec<(u64, u64)> {
        oracle::parked(&world.redis, "main").iter().map(|(lo, hi, _)| (*lo, *hi)).collect()
    };
    let world = World::new(&with(&[&poor.url], 1));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(51, 99), (121, HEAD)]);
    // What nobody has is asked for and parked again and again, and is never silently absent.
    node.wait_for("they were parked long enough");
    poll("it to be parked again", || (parked(&world) == [(0, 50), (100, 120)]).then_some(()));
    node.kill();

    // Another endpoint: what was pruned is asked for at once, the rest is not due (never).
    world.configure(&with(&[&poor.url, &rich.url], 0));
    let mut node = world.space.started("one", &[]);
    node.wait_for("the endpoints are others");
    world.wait_held("main", &[(0, 99), (121, HEAD)]);
    assert_eq!(parked(&world), [(100, 120)]);
    let ordered = world.space.run(&["blocks", "park", "100..101", "--reason", "known to be lost"]);
    assert_eq!(ordered.code, 0, "{ordered:?}");
    poll("the operator's word", || (oracle::parked(&world.redis, "main").len() == 2).then_some(()));
    node.kill();
    let mut node = world.space.started("one", &[]);
    node.wait_for("node started");
    node.kill();

    // The same endpoints, and a time after which all but the operator's are asked for again.
    world.configure(&with(&[&poor.url, &rich.url], 1));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, 99), (102, HEAD)]);
    assert!(oracle::parked(&world.redis, "main")[0].2.contains("known to be lost"));
    assert!(!node.lines().iter().any(|line| line.contains("the endpoints are others")), "they are the same");
    assert!(node.lives());
}

#[test]
fn metrics_say_what_is_held_missing_and_parked() {
    let faults = "hole=100..120".parse().expect("a plan");
    let (poor, rich) = (Sim::start(ChainPlan { faults, ..plan(44, HEAD) }), Sim::start(plan(44, HEAD)));
    let with = |url: &str| pipeline("main", &[url], "0", "attempts_max = 2\nparked_retry_seconds = 1");
    let world = World::new(&with(&poor.url));
    let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let figure = |name: &str| -> Option<u64> {
        let text = get(address, "/metrics")?.body;
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{pipeline=\"blocks.main\"}}")))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let shown = |names: [&str; 5]| names.map(|name| figure(&format!("gapless_blocks_{name}")));
    let names = ["wanted_heights", "held_heights", "parked_heights", "missing_heights", "figures_whole"];
    let http = address.to_string();
    let mut node = world.space.node_with("one", &[], ("GAPLESS__NODE__HTTP", &http));
    poll("the hole to be parked", || (shown(names) == [131, 110, 21, 0, 1].map(Some)).then_some(()));
    assert!(figure("gapless_blocks_parked_total") >= Some(21));
    assert_eq!(figure("gapless_blocks_fetched_total"), Some(110));
    node.kill();
    world.configure(&with(&rich.url));
    let _node = world.space.node_with("one", &[], ("GAPLESS__NODE__HTTP", &http));
    poll("all to be held", || (shown(names) == [131, 131, 0, 0, 1].map(Some)).then_some(()));
    assert_eq!((figure("gapless_blocks_gaps"), figure("gapless_blocks_oldest_gap_seconds")), (Some(0), Some(0)));
    assert_eq!((figure("gapless_blocks_unparked_total"), figure("gapless_blocks_adopted_total")), (Some(21), Some(0)));
}

/// What a program of the seed reads: the list as text, the array as JSON, and the key beside it.
fn seed_keys(world: &World) -> (Vec<String>, serde_json::Value, String) {
    let list: Vec<String> = redis::cmd("LRANGE")
        .arg("blocks_collected")
        .arg(0)
        .arg(-1)
        .query(&mut world.redis.connection())
        .expect("a list");
    let text = |key: &str| -> String {
        let text: Option<String> = redis::cmd("GET").arg(key).query(&mut world.redis.connection()).expect("a text");
        text.unwrap_or_else(|| "null".to_owned())
    };
    (list, serde_json::from_str(&text("gaps_detected")).expect("JSON"), text("gaps_detected:more"))
}

#[test]
fn the_seeds_two_keys_follow_the_truth_and_are_cleared() {
    let faults = "hole=100..120".parse().expect("a plan");
    let (poor, rich) = (Sim::start(ChainPlan { faults, ..plan(45, HEAD) }), Sim::start(plan(45, HEAD)));
    let keys =
        "attempts_max = 2\nparked_retry_seconds = 1\nseed_view = true\nseed_view_newest = 30\nseed_view_gaps = 5";
    let world = World::new(&pipeline("main", &[&poor.url], "0", keys));
    let heights = |hi: u64, lo: u64| (lo..=hi).rev().map(|height| height.to_string()).collect::<Vec<_>>();
    // 140 down to 121, then over the hole.
    let with_hole = [heights(HEAD, 121), heights(99, 90)].concat();
    let mut node = world.space.started("one", &[]);
    poll("the hole in the keys", || {
        (seed_keys(&world) == (with_hole.clone(), json!([100, 101, 102, 103, 104]), "16".to_owned())).then_some(())
    });
    poor.control.advance(2);
    let moved = [heights(HEAD + 2, 121), heights(99, 92)].concat();
    poll("the head in the keys", || (seed_keys(&world).0 == moved).then_some(()));
    node.kill();

    // The last gap closes: the array is emptied, not left as it was.
    world.configure(&pipeline("main", &[&rich.url], "0", keys));
    rich.control.advance(2);
    let mut node = world.space.started("one", &[]);
    let whole = (heights(HEAD + 2, HEAD - 27), json!([]), "0".to_owned());
    poll("no gap in the keys", || (seed_keys(&world) == whole).then_some(()));

    // A key that is somebody else's stays theirs.
    world.redis.command(&["DEL", "gaps_detected"]);
    world.redis.command(&["HSET", "gaps_detected", "theirs", "1"]);
    rich.control.advance(1);
    node.wait_for("the seed's keys cannot be written");
    world.wait_held("main", &[(0, HEAD + 3)]);
    assert_eq!(world.redis.text(&["HGET", "gaps_detected", "theirs"]), "1");
    assert_eq!(world.redis.text(&["LINDEX", "blocks_collected", "0"]), (HEAD + 2).to_string());
    assert!(node.lives());
}
