//! The oracle on trial: two nodes' worth of broken scripts, which it must see.

use std::time::Duration;

use crate::support::chaos::World;
use crate::support::fleet::Plan;
use crate::support::invariants::{self, Damage};
use crate::support::proxy::Faults;
use crate::support::{signals, wait};

/// A fleet whose tallies are always in the middle of a turn: slow answers, small turns, full mailboxes.
async fn busy_world(sabotage: &[(&str, &str)]) -> World {
    let turns = ("mailbox", "turn_entries_max = 5".to_owned());
    // A node that was paused takes up the answer that lies there, instead of a new connection and the news it brings.
    let patient = ("redis", "command_timeout_ms = 60000".to_owned());
    let plan = Plan { messages: 100_000, actors: 2, more: vec![turns, patient], ..Plan::default() };
    let mut world = World::new(2, plan);
    let slow = Faults { delay: Duration::from_millis(4), ..Faults::default() };
    world.proxies.iter().for_each(|proxy| proxy.set(slow));
    world.start(sabotage);
    world.records(100).await;
    world
}

/// Lets each node in turn stand still until others have taken all of its units over, then go on.
async fn pause_nodes(world: &mut World, rounds: usize) -> Damage {
    for round in 0..rounds {
        let node = round % world.nodes.len();
        let name = world.nodes[node].name.clone();
        let units = ["tally_0", "tally_1"];
        let held: Vec<&str> = units.into_iter().filter(|unit| world.holder(unit) == name).collect();
        signals::stop(world.nodes[node].pid());
        for unit in held {
            wait::until_true("another holder", || world.holder(unit) != name).await;
        }
        let records = invariants::records(&world.redis, &world.truth);
        world.records(records + 50).await;
        signals::go_on(world.nodes[node].pid());
        world.records(records + 200).await;
        let damage = invariants::damage_so_far(&world.redis, &world.truth);
        if !damage.is_none() {
            return damage;
        }
    }
    Damage::default()
}

/// Kills nodes in turn; the others go on.
async fn kill_nodes(world: &mut World, rounds: usize) -> Damage {
    for round in 0..rounds {
        let node = round % world.nodes.len();
        world.nodes[node].kill();
        world.nodes[node].start_with(&[("GAPLESS_SABOTAGE", "skipping_read")]);
        let records = invariants::records(&world.redis, &world.truth);
        world.records(records + 300).await;
        let damage = invariants::damage_so_far(&world.redis, &world.truth);
        if !damage.is_none() {
            return damage;
        }
    }
    Damage::default()
}

#[tokio::test]
async fn without_the_fence_the_oracle_finds_damage() {
    let mut world = busy_world(&[("GAPLESS_SABOTAGE", "no_fence")]).await;
    let damage = pause_nodes(&mut world, 8).await;
    println!("no fence: {damage}");
    assert!(damage.doubled + damage.wrong + damage.reordered > 0, "the oracle is blind: {damage}");
}

#[tokio::test]
async fn with_the_fence_the_same_pauses_do_no_damage() {
    let mut world = busy_world(&[]).await;
    let damage = pause_nodes(&mut world, 2).await;
    assert!(damage.is_none(), "{damage}");
}

#[tokio::test]
async fn a_read_that_skips_is_found() {
    let mut world = busy_world(&[("GAPLESS_SABOTAGE", "skipping_read")]).await;
    let damage = kill_nodes(&mut world, 8).await;
    println!("skipping read: {damage}");
    assert!(damage.lost > 0, "the oracle is blind: {damage}");
}
