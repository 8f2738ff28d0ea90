//! The seeded schedule: every kind of fault, in an order that the seed chooses.

use std::time::Duration;

use crate::support::chaos::{Schedule, World, seed};
use crate::support::fleet::Plan;
use crate::support::invariants;

/// How much of everything.
struct Size {
    messages: u64,
    pause_ms: u64,
    faults: u32,
    pace: Duration,
    node_kills: u32,
}

/// About fifteen seconds: each kind of fault at least once.
const SHORT: Size = Size { messages: 3500, pause_ms: 120, faults: 15, pace: Duration::from_millis(420), node_kills: 1 };
/// About three minutes; `make chaos`.
const LONG: Size =
    Size { messages: 60_000, pause_ms: 75, faults: 220, pace: Duration::from_millis(550), node_kills: 30 };

#[tokio::test]
async fn every_message_is_counted_once_whatever_happens() {
    let long = std::env::var("GAPLESS_CHAOS").is_ok_and(|size| size == "long");
    let size = if long { LONG } else { SHORT };
    let plan =
        Plan { messages: size.messages, pause_ms: size.pause_ms, panic_every: 60, hang_every: 300, ..Plan::default() };
    let mut world = World::new(3, plan);
    let mut schedule = Schedule::new(seed(20_261_121));
    world.start(&[]);
    schedule.run(&mut world, size.faults, size.pace).await;
    let sent = invariants::sent(&world.redis, &world.truth);
    assert!(sent < size.messages, "the work ended before the faults did: nothing was proved");
    schedule.done(&mut world).await;
    report(&world, &schedule);
    invariants::all(&world.redis, &world.truth);
    invariants::g10_bounded(schedule.longest_mailbox, world.plan.capacity, u64::from(world.plan.batch));
    assert!(schedule.samples > 50, "only {} looks at the mailboxes", schedule.samples);
    assert!(schedule.counts["node kill -9"] >= size.node_kills, "{:?}", schedule.counts);
}

fn report(world: &World, schedule: &Schedule) {
    let damage = invariants::damage(&world.redis, &world.truth);
    let of = world.truth.messages * u64::from(world.truth.actors);
    let (faults, counts, told) = (schedule.counts.values().sum::<u32>(), &schedule.counts, world.tallied());
    let longest = schedule.longest_mailbox;
    println!("chaos: {}/{of} messages {damage}", invariants::records(&world.redis, &world.truth));
    println!("chaos: {faults} faults {counts:?} told {told:?} longest mailbox {longest} in {} looks", schedule.samples);
}
