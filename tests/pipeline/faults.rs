//! A chain behind an endpoint with every fault there is, two nodes, and a head that moves.

use gapless::simulate::chain::ChainPlan;

use crate::oracle;
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
