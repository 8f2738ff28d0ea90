//! A task whose heights nobody has waits beside the pool: its slot goes on, and no death forgets it.

use serde_json::Value;

use crate::oracle;
use crate::sim::{Sim, plan};
use crate::support::node::poll;
use crate::world::{World, pipeline};
use gapless::simulate::chain::ChainPlan;

/// The pool's mailbox, as `mailbox list` shows it.
fn pool(world: &World) -> Option<Value> {
    let list = world.space.run(&["mailbox", "list", "--json"]);
    let list = if list.code == 0 { list.json() } else { return None };
    let mailboxes = list["mailboxes"].as_array().expect("mailboxes").clone();
    mailboxes.into_iter().find(|mailbox| mailbox["mailbox"] == "blocks.main/gap_fixer")
}

#[test]
fn a_task_that_waits_for_the_chain_holds_no_slot_and_survives_its_node() {
    let faults = "hole=20..24".parse().expect("faults");
    let sim = Sim::start(ChainPlan { faults, ..plan(51, 300) });
    // One slot: what is put off must not hold it.
    let world = World::new(&pipeline("main", &[&sim.url], "0", "attempts_max = 1000\nslots = 1"));
    let mut node = world.space.started("a", &[]);
    world.wait_held("main", &[(0, 19), (25, 300)]);
    let is_put_off = |pool: &Value| pool["later"].as_u64() > Some(0) && pool["next_later_ms"].is_u64();
    poll("the task beside the pool", || pool(&world).filter(is_put_off));
    let text =
        poll("the same in words", || Some(world.space.run(&["mailbox", "list"]).out).filter(|t| t.contains(" in ")));
    assert!(text.lines().next().is_some_and(|head| head.contains(" LATER ")), "{text}");
    // It is tried again and again, under one name.
    let member = || -> Option<String> {
        let later = oracle::key("main", "later:gap_fixer");
        let members: Vec<Vec<u8>> =
            redis::cmd("ZRANGE").arg(later).arg(0).arg(-1).query(&mut world.redis.connection()).expect("members");
        Some(String::from_utf8_lossy(members.first()?).into_owned())
    };
    poll("a later try", || member().filter(|member| member.contains("[20,24]") && member.contains("later.first")));
    node.kill();
    let _heir = world.space.started("b", &[]);
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    // Given up by an operator, it ends: nothing is asked for any more.
    assert_eq!(world.space.run(&["blocks", "park", "20..24", "--reason", "lost"]).code, 0);
    poll("nothing to do", || pool(&world).filter(|pool| pool["later"] == 0 && pool["waiting"] == 0));
    assert_eq!(oracle::parked(&world.redis, "main"), [(20, 24, "by an operator: lost".to_owned())]);
    assert_eq!(oracle::bounds(&world.redis, "main"), [(0, 19), (25, 300)]);
}
