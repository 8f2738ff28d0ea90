//! Heights that cannot be had are parked with the reason, are shown, and stop nothing else.

use gapless::simulate::chain::{ChainPlan, SimChain};
use serde_json::json;

use crate::chains::Woven;
use crate::oracle;
use crate::sim::{Sim, plan};
use crate::support::node::poll;
use crate::world::{World, pipeline};

#[test]
fn heights_that_no_source_has_are_parked_and_the_rest_goes_on() {
    let faults = "pruned=0..50,hole=100..120".parse().expect("a plan");
    let sim = Sim::start(ChainPlan { faults, ..plan(4, 200) });
    let late = Sim::start(ChainPlan { faults: "hole=203..204".parse().expect("a plan"), ..plan(4, 202) });
    let ended = Sim::start(ChainPlan { faults: "hole=195..200".parse().expect("a plan"), ..plan(4, 400) });
    let world = World::new(
        &[
            pipeline("main", &[&sim.url], "0", "attempts_max = 2"),
            pipeline("late", &[&late.url], "150", "attempts_max = 2"),
            pipeline("ended", &[&ended.url], "150", "attempts_max = 2\nend = 200"),
        ]
        .join(""),
    );
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(51, 99), (121, 200)]);
    poll("the rest to be parked", || {
        let parked: Vec<(u64, u64)> = oracle::parked(&world.redis, "main").iter().map(|p| (p.0, p.1)).collect();
        (parked == [(0, 50), (100, 120)]).then_some(())
    });
    let parked = oracle::parked(&world.redis, "main");
    assert!(
        parked[0].2.contains("no longer keeps this height") && parked[0].2.contains("pruned history"),
        "{parked:?}"
    );
    assert_eq!(parked[1].2, "the source has no such block (yet); tried 2 times");

    let gaps = world.space.run(&["blocks", "gaps", "--pipeline", "main", "--json"]).json();
    assert_eq!((&gaps["wanted"], &gaps["more"]), (&json!([0, 200]), &json!(0)));
    let gaps = &mut gaps["gaps"].clone();
    for gap in gaps.as_array_mut().expect("gaps") {
        assert!(gap.as_object_mut().expect("an object").remove("age_ms").is_some_and(|age| age.is_u64()), "{gap}");
    }
    assert_eq!(gaps[0], json!({"range": [0, 50], "count": 51, "state": "parked", "reason": parked[0].2}));
    assert_eq!(gaps[1], json!({"range": [100, 120], "count": 21, "state": "parked", "reason": parked[1].2}));
    assert_eq!(gaps[2], serde_json::Value::Null, "{gaps}");
    let status = world.space.run(&["blocks", "status", "--pipeline", "main", "--json"]).json();
    let status = &status["pipelines"];
    assert_eq!(
        (&status[0]["held"], &status[0]["missing"], &status[0]["parked"], &status[0]["wanted"]),
        (&json!(129), &json!(0), &json!(72), &json!([0, 200])),
        "{status}"
    );
    let get = world.space.run(&["blocks", "get", "110", "--pipeline", "main"]);
    get.failed(1, &format!("gapless: height 110 is parked: {}\n", parked[1].2));
    let verify = world.space.run(&["blocks", "verify", "--pipeline", "main", "--json"]);
    assert_eq!(verify.code, 1, "{verify:?}");
    assert_eq!(verify.json()["faults"], 72);
    assert_eq!(verify.json()["sent_to_repair"], 0);

    // Above finality: the collector waits at such a height, but must not wait for ever.
    world.wait_held("late", &[(150, 202)]);
    late.control.advance(40);
    poll("the head to be reached past the hole", || {
        (oracle::bounds(&world.redis, "late") == [(150, 202), (205, 242)]).then_some(())
    });
    poll("the hole to be parked", || {
        let parked = oracle::parked(&world.redis, "late");
        matches!(&parked[..], [(203, 204, reason)] if reason.contains("tried 2 times")).then_some(())
    });
    // At the very end of what is wanted, though the chain itself is far past it.
    world.wait_held("ended", &[(150, 194)]);
    poll("the end to be parked", || {
        let parked = oracle::parked(&world.redis, "ended");
        matches!(&parked[..], [(195, 200, _)]).then_some(())
    });
    assert!(node.lives());
}

#[test]
fn blocks_that_do_not_link_are_never_held_side_by_side() {
    let chain = || SimChain::new(&plan(6, 200));
    // Height 120 comes from another branch: neither its parent nor its child knows it.
    let woven = Woven::start(chain(), 200, |height| Some(u32::from(height == 120)));
    let world = World::new(&pipeline("main", &[&woven.url], "0", "attempts_max = 2"));
    let mut node = world.space.started("one", &[]);
    // Its neighbours link to theirs, and do not suffer.
    world.wait_held("main", &[(0, 119), (121, 200)]);
    let parked = poll("the wrong link to be parked", || {
        Some(oracle::parked(&world.redis, "main")).filter(|parked| !parked.is_empty())
    });
    let chain = chain();
    let [(120, 120, reason)] = &parked[..] else { panic!("{parked:?}") };
    assert!(reason.contains("links disagree") && reason.contains("names the parent"), "{reason}");
    let verify = world.space.run(&["blocks", "verify", "--json"]);
    let found = verify.json();
    let found = found["found"].as_array().expect("a list");
    assert_eq!(verify.code, 1);
    assert!(found.iter().all(|fault| fault["class"] == "parked"), "{verify:?}");
    for held in oracle::held(&world.redis, "main") {
        assert_eq!(held.parent, chain.truth(held.lo).parent.as_str());
        assert_eq!(held.hash, chain.truth(held.hi).hash.as_str());
    }
    assert!(node.lives());
}
