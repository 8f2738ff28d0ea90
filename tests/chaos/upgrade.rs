//! A rolling upgrade under faults: nodes of two formats, whose scripts have other texts, on one Redis.

use std::time::{Duration, Instant};

use redis::from_redis_value;

use crate::support::chaos::{Schedule, World, seed};
use crate::support::fleet::Plan;
use crate::support::{invariants, wait};

const UNITS: [&str; 4] = ["feeder", "tally_0", "tally_1", "tally_2"];

/// The format that each unit asks of its holder.
fn needs(world: &World) -> Vec<u64> {
    let of = |unit: &str| world.redis.command(&["HGET", &world.truth.key(&format!("ck:{unit}")), "needs"]);
    UNITS.iter().map(|unit| from_redis_value::<Option<u64>>(of(unit)).expect("a format").unwrap_or(0)).collect()
}

#[tokio::test]
async fn nodes_of_two_formats_lose_nothing_on_one_redis() {
    let plan = Plan { messages: 8000, actors: 3, pause_ms: 120, ..Plan::default() };
    let mut world = World::new(3, plan);
    for newer in &mut world.nodes[1..] {
        newer.always("GAPLESS_FORMAT", "2");
    }
    world.start(&[]);
    let mut schedule = Schedule::new(seed(20_261_126));
    schedule.run(&mut world, 13, Duration::from_millis(350)).await;
    assert_eq!(needs(&world), [1; 4], "the old node may hold all that is there");
    // The last old node goes; after ten leases the others write what it would not read.
    world.nodes[0].terminate();
    wait::until_true("the end of the old node", || !world.nodes[0].is_running()).await;
    let gone = Instant::now();
    wait::until_true("the new format", || needs(&world) == [2; 4]).await;
    assert!(gone.elapsed() > Duration::from_secs(9), "{:?}", gone.elapsed());
    assert!(!invariants::is_done(&world.redis, &world.truth), "the work ended too early: nothing was proved");
    // It comes back after all: it leaves the units alone, and does not try again and again.
    world.nodes[0].forget_log();
    world.nodes[0].start();
    schedule.done(&mut world).await;
    let (refused, tries) = (world.nodes[0].logged("cannot be acquired"), world.nodes[0].logged("started"));
    println!("upgrade: {:?}; the old node was refused {refused} times", schedule.counts);
    assert!(refused <= UNITS.len(), "{refused} refusals of {} units", UNITS.len());
    assert_eq!(tries, usize::from(tries > 0), "only its own start: `node started`");
    invariants::all(&world.redis, &world.truth);
}
