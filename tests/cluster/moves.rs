//! Who holds what while nodes come, go and die; measured, with real processes.

use std::time::{Duration, Instant};

use gapless::supervisor::watchdog::EXIT_GAVE_UP;

use crate::frail::{BELL_BLOCK, Site, Trouble, quick};
use crate::support::chaos::World;
use crate::support::fleet::Plan;
use crate::support::invariants;
use crate::support::proxy::Faults;
use crate::support::{signals, wait};

const UNITS: [&str; 7] = ["feeder", "tally_0", "tally_1", "tally_2", "tally_3", "tally_4", "tally_5"];

/// Work that takes about so many seconds.
fn seconds_of_work(seconds: u64) -> Plan {
    Plan { messages: 50 * 20 * seconds, pause_ms: 50, ..Plan::default() }
}

impl World {
    /// The units that a node holds.
    fn held_by(&self, node: usize) -> Vec<&'static str> {
        UNITS.into_iter().filter(|unit| self.holder(unit) == self.nodes[node].name).collect()
    }

    fn spread(&self) -> Vec<usize> {
        (0..self.nodes.len()).map(|node| self.held_by(node).len()).collect()
    }

    async fn evenly_spread(&self) {
        let most = UNITS.len().div_ceil(self.nodes.len());
        wait::until_true("an even spread", || {
            let spread = self.spread();
            spread.iter().sum::<usize>() == UNITS.len() && spread.iter().all(|held| *held <= most)
        })
        .await;
    }

    /// Waits until none of the units is a node's any more; answers how long that took since `since`.
    async fn taken_over(&self, units: &[&str], from: usize, since: Instant) -> Duration {
        let from = &self.nodes[from].name;
        wait::until_true("other holders", || units.iter().all(|unit| self.holder(unit) != *from)).await;
        since.elapsed()
    }
}

#[tokio::test]
async fn units_spread_evenly_and_move_when_a_node_joins() {
    let mut world = World::new(3, seconds_of_work(2));
    world.nodes[0].start();
    wait::until_true("one holder of all", || world.held_by(0).len() == UNITS.len()).await;
    world.nodes[1].start();
    world.nodes[2].start();
    world.evenly_spread().await;
    println!("spread of {} units over 3 nodes: {:?}", UNITS.len(), world.spread());
    assert!(world.nodes[0].logged("moving to another node") >= 4, "the units did not move by themselves");
    world.done().await;
    invariants::all(&world.redis, &world.truth);
    assert_eq!(world.log().iter().filter(|line| crate::support::fleet::says(line, "reloading")).count(), 0);
}

#[actix_rt::test]
async fn mail_wakes_a_unit_from_its_first_moment_on() {
    let site = Site::new().await;
    let node = site.node("a", quick(), &[("one", Trouble::none()), ("two", Trouble::none())]);
    wait::until_true("both units", || node.metrics.units_running.get() == 2).await;
    // First while the bell still waits for the mail of others, then when it listens to all.
    for upto in [1, 2] {
        for actor in ["one", "two"] {
            let sent = Instant::now();
            site.send(actor, upto..=upto).await;
            site.counted(actor, upto).await;
            println!("mail for {actor} dealt with after {:?}", sent.elapsed());
            assert!(sent.elapsed() < BELL_BLOCK / 4, "{actor}: {:?}", sent.elapsed());
        }
        let since = Instant::now();
        wait::until_true("a bell that listens to all", || upto == 2 || since.elapsed() > BELL_BLOCK * 5 / 4).await;
    }
    node.drain().await;
}

#[tokio::test]
async fn a_dead_node_is_replaced_within_two_leases() {
    let mut world = World::new(3, seconds_of_work(2));
    world.start(&[]);
    world.evenly_spread().await;
    let units = world.held_by(1);
    world.nodes[1].kill();
    let took = world.taken_over(&units, 1, Instant::now()).await;
    println!("takeover of {} units after kill -9: {took:?} (lease 1 s)", units.len());
    assert!(took < Duration::from_secs(2), "G4: {took:?}, two leases are 2 s");
    world.done().await;
    invariants::all(&world.redis, &world.truth);
}

#[tokio::test]
async fn a_drained_node_hands_over_within_a_second() {
    let mut plan = seconds_of_work(2);
    // The defaults: a handover must not depend on leases that run out.
    plan.more = vec![("node", "lease_seconds = 3".to_owned()), ("node", "turn_grace_ms = 500".to_owned())];
    let mut world = World::new(3, plan);
    world.start(&[]);
    world.evenly_spread().await;
    let (units, asked) = (world.held_by(1), Instant::now());
    world.nodes[1].terminate();
    let took = world.taken_over(&units, 1, asked).await;
    wait::until_true("the end of the process", || !world.nodes[1].is_running()).await;
    println!("handover of {} units after SIGTERM: {took:?}, exit after {:?}", units.len(), asked.elapsed());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.nodes[1].last_end.and_then(|end| end.code()), Some(0));
    world.done().await;
    invariants::all(&world.redis, &world.truth);
}

#[tokio::test]
async fn a_blocked_thread_loses_its_units_and_then_its_process() {
    let mut world = World::new(2, seconds_of_work(1));
    world.nodes[0].start_with(&[("GAPLESS_CRASH_POINT", "after_decide@tally_0:block:5")]);
    wait::until_true("a first holder", || world.holder("tally_0") == "node-a").await;
    world.nodes[1].start();
    let since = Instant::now();
    let took = world.taken_over(&["tally_0"], 0, since).await;
    assert!(world.nodes[0].is_running(), "the units move before the process is given up");
    wait::until_true("the end of the blocked process", || !world.nodes[0].is_running()).await;
    println!("blocked thread: units moved after {took:?}, the process gave itself up after {:?}", since.elapsed());
    assert_eq!(world.nodes[0].last_end.and_then(|end| end.code()), Some(EXIT_GAVE_UP));
    assert!(world.nodes[0].logged("thread blocked") > 0);
    world.done().await;
    invariants::all(&world.redis, &world.truth);
}

#[tokio::test]
async fn nodes_that_stood_still_are_neither_hung_nor_blocked() {
    let mut plan = seconds_of_work(1);
    plan.more = vec![("supervisor", "blocked_exit_seconds = 2".to_owned())];
    let mut world = World::new(4, plan);
    // Turns are always under way, and which thread wakes first is chance: four nodes are four chances.
    let slow = Faults { delay: Duration::from_millis(10), ..Faults::default() };
    world.proxies.iter().for_each(|proxy| proxy.set(slow));
    world.start(&[]);
    world.records(200).await;
    let stopped = Instant::now();
    world.nodes.iter().for_each(|node| signals::stop(node.pid()));
    // Longer than hang_seconds (1) and blocked_exit_seconds.
    wait::until_true("three seconds", || stopped.elapsed() > Duration::from_secs(3)).await;
    world.nodes.iter().for_each(|node| signals::go_on(node.pid()));
    world.done().await;
    invariants::all(&world.redis, &world.truth);
    for node in &mut world.nodes {
        assert!(node.is_running(), "{}: {:?}", node.name, node.last_end);
        for words in ["no progress", "thread blocked"] {
            assert_eq!(node.logged(words), 0, "{}: {words}", node.name);
        }
    }
}
