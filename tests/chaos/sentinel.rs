//! Real Sentinels fail over under load: work resumes by itself, lost commits are noticed, and the outputs are exact.

use std::time::Instant;

use crate::support::chaos::Network;
use crate::support::fleet::{Node, Plan, says};
use crate::support::invariants::{self, Truth};
use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::support::sentinel::Fleet;
use crate::support::wait;

/// Nodes under load on a fleet of servers that Sentinels watch.
struct World {
    nodes: Vec<Node>,
    fleet: Fleet,
    truth: Truth,
    /// Before the replicas: what is held there they have not seen.
    line: Proxy,
    _network: Network,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(plan: &Plan) -> Self {
        let fleet = Fleet::start(1, &[]).await;
        let network = Network::start();
        let line = network.proxy(fleet.servers[0].port);
        let folder = tempfile::tempdir().expect("a folder");
        let url = fleet.url();
        let node = |name| Node::new(folder.path(), name, plan, &url);
        let mut nodes: Vec<Node> = ["node-a", "node-b", "node-c"].map(node).into();
        nodes.iter_mut().for_each(Node::start);
        let truth = Truth::new(plan.actors, plan.messages);
        Self { nodes, fleet, truth, line, _network: network, _folder: folder }
    }

    fn records(&self, place: usize) -> u64 {
        invariants::records(&self.fleet.servers[place], &self.truth)
    }

    async fn until_records(&self, place: usize, at_least: u64) {
        wait::until_true(&format!("{at_least} records"), || self.records(place) >= at_least).await;
    }

    /// The replica falls behind by at least so many records.
    async fn leave_behind(&self, records: u64) -> u64 {
        // Sentinels lead a replica that follows by another address back to the master, but only after some seconds.
        let replica = &self.fleet.servers[1];
        replica.command(&["REPLICAOF", "127.0.0.1", &self.line.port().to_string()]);
        let follows = |server: &RedisServer| server.text(&["INFO", "replication"]).contains("master_link_status:up");
        wait::until_true("a replica in step", || follows(replica)).await;
        self.until_records(1, self.records(0)).await;
        self.line.set(Faults { hold_answers: true, ..Faults::default() });
        let seen = self.records(1);
        self.until_records(0, seen + records).await;
        println!("sentinel: the replica stands at {seen} records, the master at {}", self.records(0));
        seen
    }

    /// Waits until work goes on at a new master, and says how long that took since `gone`.
    async fn resumed(&self, before: u16, gone: Instant, how: &str) -> usize {
        let place = self.fleet.promoted(before).await;
        let (promoted, found) = (gone.elapsed(), self.records(place));
        self.until_records(place, found + 1).await;
        println!(
            "sentinel: {how}: another master after {:.2} s with {found} records, work goes on after {:.2} s",
            promoted.as_secs_f64(),
            gone.elapsed().as_secs_f64()
        );
        place
    }

    fn logged(&self, words: &str) -> usize {
        self.nodes.iter().flat_map(Node::log).filter(|line| says(line, words)).count()
    }

    /// As long as there is progress it may take its time.
    async fn done(&self, place: usize) {
        let mut records = 0;
        let mut done = false;
        while !done {
            wait::until_true("more records, or the end of the work", || {
                done = invariants::is_done(&self.fleet.servers[place], &self.truth);
                let before = std::mem::replace(&mut records, self.records(place));
                done || records > before
            })
            .await;
        }
    }
}

#[tokio::test]
async fn work_follows_the_master_that_sentinels_choose_and_lost_commits_are_told() {
    let long = std::env::var("GAPLESS_CHAOS").is_ok_and(|size| size == "long");
    let (messages, rounds) = if long { (60_000, 8) } else { (9_000, 1) };
    let plan = Plan { messages, pause_ms: 60, ..Plan::default() };
    let mut world = World::start(&plan).await;
    world.until_records(0, 500).await;

    // A master that dies with commits that no replica has.
    let kept = world.leave_behind(500).await;
    let (before, gone) = (world.fleet.servers[0].port, Instant::now());
    world.fleet.servers[0].kill();
    world.line.set(Faults { refuse: true, hold_answers: true, ..Faults::default() });
    world.line.cut();
    let mut master = world.resumed(before, gone, "kill -9 of the master").await;
    let found = world.records(master);
    assert!(kept > 0 && found > 0, "nothing was kept: nothing was proved");
    wait::until_true("word of the lost commits", || world.logged("redis lost commits") > 0).await;
    let ranged = |line: &serde_json::Map<_, _>| line.contains_key("from") && line.contains_key("to");
    let told = world.nodes.iter().flat_map(Node::log).filter(|line| says(line, "redis lost commits"));
    assert!(told.into_iter().all(|line| ranged(&line)), "without their range");

    // Failovers in good order, there and back again.
    for round in 0..rounds {
        let before = world.fleet.servers[master].port;
        if let Some(dead) = world.fleet.servers.iter_mut().find(|server| !server.is_running()) {
            dead.resume();
            // Sentinels would do it too, after ten seconds. It is refused while it loads its data.
            let follow = ["REPLICAOF", "127.0.0.1", &before.to_string()];
            wait::until_true("a replica", || dead.accepts(&follow)).await;
        }
        let other = 1 - master;
        wait::until_true("the other server to follow", || {
            let info = world.fleet.servers[other].text(&["INFO", "replication"]);
            info.contains("role:slave") && info.contains("master_link_status:up")
        })
        .await;
        world.until_records(other, world.records(master)).await;
        let gone = Instant::now();
        // Refused while the Sentinels do not know the replica yet, or are at it already.
        wait::until_true("a failover", || world.fleet.sentinels[0].accepts(&["SENTINEL", "FAILOVER", "main"])).await;
        master = world.resumed(before, gone, &format!("SENTINEL FAILOVER, round {}", round + 1)).await;
    }
    let sent = invariants::sent(&world.fleet.servers[master], &world.truth);
    assert!(sent < messages, "the work ended before the failovers did: nothing was proved");
    world.done(master).await;
    let (moves, rollbacks) = (world.logged("redis is another server"), world.logged("redis lost commits"));
    println!("sentinel: connections moved {moves} times, {rollbacks} times commits were told to be lost");
    invariants::all(&world.fleet.servers[master], &world.truth);
    assert!(world.nodes.iter_mut().all(Node::is_running), "a node did not live through it");
}
