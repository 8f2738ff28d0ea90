//! A chain behind an endpoint with every fault there is, two nodes, and a head that moves.

use gapless::simulate::chain::ChainPlan;

use crate::oracle::{self, Held};
use crate::sim::{Sim, plan};
use crate::world::{World, pipeline};

/// Every fault that passes.
const FAULTS: &str =
    "outage=3s+700ms,429=0.02,slow=0.02:200ms,null=0.2,error=0.03,malformed=0.03,short_batch=0.05,reorder=0.5";

#[test]
fn every_block_is_there_once_whatever_the_endpoint_does() {
    let sim = Sim::start(ChainPlan { faults: FAULTS.parse().expect("a plan"), ..plan(11, 1_200) });
    let world = World::new(&pipeline("main", &[&sim.url], "0", "attempts_max = 20"));
    let (mut one, mut two) = (world.space.started("one", &[]), world.space.started("two", &[]));
    crate::support::node::poll("the head to be followed", || {
        oracle::bounds(&world.redis, "main").last().filter(|(_, hi)| *hi == 1_200).map(drop)
    });
    // Some blocks one by one, then more than finality at once.
    for blocks in [1, 1, 1, 2, 3, 30] {
        sim.control.advance(blocks);
        let head = sim.control.head();
        crate::support::node::poll("the new head to be held", || {
            oracle::bounds(&world.redis, "main").last().filter(|(_, hi)| *hi == head).map(drop)
        });
    }
    let head = sim.control.head();
    world.wait_held("main", &[(0, head)]);
    oracle::assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, head);
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    assert!(one.lives() && two.lives());
    let verified = world.space.run(&["blocks", "verify", "--json"]);
    assert_eq!((verified.code, &verified.json()["judged"]), (0, &serde_json::json!(head + 1)), "{verified:?}");
}

/// A chain that forks at every turn: each head is followed, each block that was shown is kept, and what is held in the
/// end is the chain that the seed gives.
#[test]
fn a_served_chain_that_reorganises_is_followed_head_by_head() {
    let faults = "reorg=10:4,null=0.1,429=0.02".parse().expect("a plan");
    let sim = Sim::start(ChainPlan { faults, ..plan(12, 56) });
    let world = World::new(&pipeline("main", &[&sim.url], "0", "attempts_max = 20"));
    let _node = world.space.started("one", &[]);
    let first = sim.truth.truth(0);
    for head in 56..=83 {
        let top = sim.truth.canonical(head, head);
        let whole = Held { lo: 0, hi: head, parent: first.parent.to_string(), hash: top.hash.to_string() };
        crate::support::node::poll(&format!("head {head} to be held"), || {
            (oracle::held(&world.redis, "main") == [whole.clone()]).then_some(())
        });
        sim.control.advance(u64::from(head < 83));
    }
    let shown = sim.control.orphans();
    assert_eq!(
        shown.iter().map(|(height, _)| *height).collect::<Vec<_>>(),
        [57, 58, 59, 60, 67, 68, 69, 70, 77, 78, 79, 80]
    );
    let files = oracle::files(&world.store("main"));
    for height in 0..=83 {
        let mut expected = vec![sim.truth.truth(height)];
        expected.extend(sim.truth.orphan(height).filter(|_| height > 56));
        expected.sort_by(|one, other| one.hash.cmp(&other.hash));
        let mut stored = files[&height].clone();
        stored.sort_by(|one, other| one.hash.cmp(&other.hash));
        let found: Vec<_> = stored.iter().map(|file| (file.hash.as_str(), &file.raw[..])).collect();
        let expected: Vec<_> = expected.iter().map(|block| (block.hash.as_str(), &block.raw[..])).collect();
        assert!(found == expected, "height {height} has {} files", found.len());
    }
    let verified = world.space.run(&["blocks", "verify", "--json"]);
    assert_eq!((verified.code, &verified.json()["faults"]), (0, &serde_json::json!(0)), "{verified:?}");
}
