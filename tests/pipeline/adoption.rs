//! What stands in the store is held again without a request: after a death between store and commit, and of an index that
//! was emptied. A file that does not belong to the chain is not.

use std::collections::BTreeMap;
use std::fs;

use gapless::simulate::chain::SimChain;

use crate::chains::Woven;
use crate::oracle::{self, assert_whole};
use crate::sim::plan;
use crate::verify::plant;
use crate::world::{CONFIRMATIONS, World, pipeline};

const HEAD: u64 = 140;
/// The highest height that the pool may fill.
const FINAL: u64 = HEAD - CONFIRMATIONS;

fn chain() -> SimChain {
    SimChain::new(&plan(31, HEAD))
}

/// Each final height so often.
fn each(times: u32) -> BTreeMap<u64, u32> {
    (0..=FINAL).map(|height| (height, times)).collect()
}

#[test]
fn a_death_between_store_and_commit_is_adopted_without_a_request() {
    let woven = Woven::start(chain(), HEAD, |_| Some(0));
    // One slot, so that one task is in hand when the node dies.
    let world = World::new(&pipeline("main", &[&woven.url], "0", "slots = 1"));
    let mut victim = world.space.node_with("one", &[], ("GAPLESS_CRASH_POINT", "after_apply@gap_fixer:kill:1"));
    assert_eq!(victim.wait(), -1, "{:?}", victim.lines());
    let task: BTreeMap<u64, u32> = (0..50).map(|height| (height, 1)).collect();
    assert_eq!(woven.asked(0..=FINAL), task, "one task was fetched and stored before the death");
    assert_eq!(oracle::files(&world.store("main")).keys().filter(|height| **height < 50).count(), 50);
    let held: Vec<(u64, u64)> = oracle::bounds(&world.redis, "main");
    assert!(held.iter().all(|(lo, _)| *lo > FINAL), "nothing of it was committed: {held:?}");

    let _heir = world.space.started("two", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    assert_eq!(woven.asked(0..=FINAL), each(1), "the heir asked for what stood there");
    assert_whole(&world.redis, "main", &world.store("main"), &chain(), 0, HEAD);
}

#[test]
fn the_store_of_an_emptied_redis_is_adopted_without_a_request() {
    let woven = Woven::start(chain(), HEAD, |_| Some(0));
    let world = World::new(&pipeline("main", &[&woven.url], "0", ""));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    node.kill();
    assert_eq!(woven.asked(0..=FINAL), each(1));
    world.redis.command(&["FLUSHALL"]);

    // While nobody looked: one file is gone, one was cut, one lost its line; at one height only an orphan is left, and at
    // another one an orphan stands beside the block.
    let files = oracle::files(&world.store("main"));
    let path = |height: u64| files[&height][0].path.clone();
    for height in [20, 70] {
        fs::remove_file(path(height)).expect("a file");
        fs::remove_file(path(height).with_extension("meta")).expect("its line");
    }
    fs::write(path(30), "{").expect("a file");
    fs::remove_file(path(40).with_extension("meta")).expect("its line");
    for height in [70, 90] {
        plant(&world.store("main"), &chain().block(height, 1));
    }

    let _node = world.space.started("one", &["--accept-data-loss"]);
    world.wait_held("main", &[(0, HEAD)]);
    let mut asked = each(1);
    for height in [20, 30, 40, 70, 90] {
        asked.insert(height, 2);
    }
    assert_eq!(woven.asked(0..=FINAL), asked, "only what could not be adopted is fetched, once");
    assert_eq!(oracle::held(&world.redis, "main")[0].hash, chain().truth(HEAD).hash.as_str());
    let files = oracle::files(&world.store("main"));
    for height in 0..=HEAD {
        let truth = chain().truth(height);
        let good = |stored: &&oracle::Stored| stored.hash == truth.hash.as_str() && stored.raw == truth.raw;
        assert_eq!(files[&height].iter().filter(good).count(), 1, "height {height}");
    }
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    assert_eq!(world.space.run(&["blocks", "verify"]).code, 0);
}

#[test]
fn a_file_that_does_not_link_to_what_is_held_is_fetched_instead() {
    let woven = Woven::start(chain(), HEAD, |_| Some(0));
    // A single try: what was adopted in vain must not count as one.
    let world = World::new(&pipeline("main", &[&woven.url], "0", "attempts_max = 1"));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    // Heights 50, 51 and 80 are lost, and blocks of another branch stand in their place; the first two link to each other.
    let files = oracle::files(&world.store("main"));
    for height in [50, 51, 80] {
        fs::remove_file(&files[&height][0].path).expect("a file");
        fs::remove_file(files[&height][0].path.with_extension("meta")).expect("its line");
        plant(&world.store("main"), &chain().block(height, 1));
    }
    let found = world.space.run(&["blocks", "verify"]);
    assert_eq!(found.code, 1, "{found:?}");
    node.wait_for("a file that stood in the store does not link");
    world.wait_held("main", &[(0, HEAD)]);
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    let asked = woven.asked(0..=FINAL);
    assert_eq!([50, 51, 52, 79, 80, 81].map(|height| asked[&height]), [2, 2, 1, 1, 2, 1]);
    let files = oracle::files(&world.store("main"));
    for height in [50, 51, 80] {
        let hashes: Vec<&str> = files[&height].iter().map(|stored| stored.hash.as_str()).collect();
        assert!(hashes.contains(&chain().truth(height).hash.as_str()), "{hashes:?}");
    }
    assert!(node.lives());
}
