//! The pool under the seeded schedule, under tasks that end their process, and with broken scripts that must be found.
//!
//! The oracle knows the plan and the chain alone: each height that was asked for is held, its file and its links as the
//! chain has them, or it is one of the planted ones and parked with the panic's text. Nothing is silently absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::pool_node::{CHAIN_ID, HEAD, TEST, Told, chain, panics};
use crate::support::chaos::{Schedule, World, seed};
use crate::support::fleet::{Node, Plan, says};
use crate::support::invariants::{self, BlockFile, BlockTruth, Index, Truth};
use crate::support::redis::RedisServer;
use crate::support::wait;

/// Heights of a task: more than one turn's.
const TASK: u64 = 10;

fn key(rest: &str) -> String {
    format!("gapless:{{blocks.p}}:{rest}")
}

/// The tasks that cover `lo..=hi`; a planted height is a task of its own, so that it takes no neighbour along.
fn tasks(lo: u64, hi: u64, planted: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
    let mut tasks: Vec<(u64, u64)> = Vec::new();
    for height in lo..=hi {
        match tasks.last_mut() {
            Some(last) if !planted(height) && !planted(last.1) && height % TASK != 0 => last.1 = height,
            _ => tasks.push((height, height)),
        }
    }
    tasks
}

fn send(connection: &mut redis::Connection, (lo, hi): (u64, u64)) -> redis::RedisResult<String> {
    let body = format!("{{\"range\":[{lo},{hi}]}}");
    redis::cmd("XADD").arg(key("in:gap_fixer")).arg(&["*", "type", "fill", "body", &body]).query(connection)
}

/// Sends tasks at a steady pace, again where nobody answered: a task that comes twice is harmless.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Sender {
    /// From `lo` on, until it is stopped.
    fn start(url: String, lo: u64, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let body = move || {
            let client = redis::Client::open(url).expect("a url");
            let (mut connection, mut next) = (None, lo);
            while !told.load(Ordering::SeqCst) {
                let mut left = tasks(next, next + TASK - 1, panics);
                while let Some(task) = left.first().copied() {
                    let known = connection.take().or_else(|| open(&client));
                    let sent = known.and_then(|mut c| send(&mut c, task).is_ok().then_some(c));
                    if sent.is_some() {
                        left.remove(0);
                    }
                    connection = sent;
                    std::thread::park_timeout(pace);
                }
                next += TASK;
            }
            next - 1
        };
        let thread = std::thread::Builder::new().name("sender".to_owned()).spawn(body).expect("a thread");
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; answers the highest height that was asked for.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("a thread").join().expect("its end")
    }
}

fn open(client: &redis::Client) -> Option<redis::Connection> {
    let connection = client.get_connection_with_timeout(Duration::from_millis(300)).ok()?;
    connection.set_read_timeout(Some(Duration::from_millis(300))).ok()?;
    Some(connection)
}

/// A fleet of nodes that run the pool and nothing else.
struct Fleet {
    world: World,
    store: PathBuf,
}

impl Fleet {
    fn new(nodes: usize, slots: u32, told: &[(&str, String)]) -> Self {
        let mut world = World::new(nodes, Plan::default());
        // None of the self-test's actors is here.
        world.truth = Truth::new(0, 0);
        let store = world.folder.path().join("blocks");
        std::fs::create_dir_all(&store).expect("a folder");
        for (node, proxy) in world.nodes.iter_mut().zip(&world.proxies) {
            node.play(TEST);
            node.always(Told::NAME, &node.name.clone());
            node.always(Told::URL, &proxy.url());
            node.always(Told::STORE, &store.to_string_lossy());
            node.always(Told::SLOTS, &slots.to_string());
            told.iter().for_each(|(name, value)| node.always(name, value));
        }
        // What the Collector would have written down.
        world.redis.command(&["HSET", &key("facts"), "chain_id", CHAIN_ID, "head", &HEAD.to_string()]);
        Self { world, store }
    }

    fn send(&self, tasks: &[(u64, u64)]) {
        let mut connection = self.world.redis.connection();
        tasks.iter().for_each(|task| drop(send(&mut connection, *task).expect("sent")));
    }

    fn redis(&self) -> &RedisServer {
        &self.world.redis
    }

    fn waiting(&self) -> u64 {
        let count = |args: &[&str]| -> u64 { redis::from_redis_value(self.redis().command(args)).expect("a count") };
        count(&["XLEN", &key("in:gap_fixer")]) + count(&["ZCARD", &key("later:gap_fixer")])
    }

    fn index(&self, last: u64) -> Index {
        let members = |name: &str| -> Vec<String> {
            redis::from_redis_value(self.redis().command(&["ZRANGE", &key(name), "0", "-1"])).expect("members")
        };
        let height = |text: &str| text.parse::<u64>().expect("a height");
        let held = members("held");
        let held = held.iter().map(|member| match member.split(' ').collect::<Vec<_>>()[..] {
            [lo, hi, parent, hash] => (height(lo), height(hi), parent.to_owned(), hash.to_owned()),
            _ => panic!("`{member}` is no interval"),
        });
        let parked = members("parked");
        let parked = parked.iter().map(|member| {
            let mut parts = member.splitn(3, ' ');
            let mut next = || parts.next().expect("a part");
            (height(next()), height(next()), next().to_owned())
        });
        Index { wanted: 0..=last, held: held.collect(), parked: parked.collect() }
    }

    /// The slots that owe an entry.
    fn owed(&self) -> Vec<String> {
        let owed: Vec<(String, String, u64, u64)> =
            redis::from_redis_value(self.redis().command(&["XPENDING", &key("in:gap_fixer"), "pool", "-", "+", "100"]))
                .expect("what is owed");
        owed.into_iter().map(|(_, slot, ..)| slot).collect()
    }

    /// Asks for more, kills every node with tasks in hand, and starts them with two slots: what the others owe must be
    /// served as well. Answers the highest height that was asked for.
    async fn lose_slots(&mut self, last: u64) -> u64 {
        let last_now = last + 400;
        self.send(&tasks(last + 1, last_now, panics));
        let removed = |fleet: &Self| fleet.owed().iter().any(|slot| slot != "slot0" && slot != "slot1");
        loop {
            wait::until_true("a task in hand of a slot to be removed", || removed(self)).await;
            self.world.nodes.iter_mut().for_each(Node::kill);
            if removed(self) {
                break;
            }
            // It was done in the very last moment.
            self.world.nodes.iter_mut().for_each(Node::start);
        }
        for node in &mut self.world.nodes {
            node.always(Told::SLOTS, "2");
            node.start();
        }
        last_now
    }

    /// The dead letters: body and reason.
    fn dead(&self) -> Vec<(String, String)> {
        type Entries = Vec<(String, BTreeMap<String, String>)>;
        let value = self.redis().command(&["XRANGE", &key("dead:gap_fixer"), "-", "+"]);
        let entries: Entries = redis::from_redis_value(value).expect("entries");
        entries.into_iter().map(|(_, fields)| (fields["body"].clone(), fields["dead.reason"].clone())).collect()
    }

    /// Waits until nothing waits any more, as long as something happens.
    async fn done(&self) {
        let mut seen = (0, 0, 0);
        let mut done = false;
        while !done {
            wait::until_true("progress of the pool, or its end", || {
                let index = self.index(0);
                let held = index.held.iter().map(|(lo, hi, ..)| hi - lo + 1).sum::<u64>();
                let now = (held, index.parked.len(), self.waiting());
                done = now.2 == 0;
                done || std::mem::replace(&mut seen, now) != now
            })
            .await;
        }
    }

    /// Everything that is wrong with the heights up to `last`.
    fn faults(&self, last: u64, planted: impl Fn(u64) -> bool) -> Vec<String> {
        let (index, files, chain) = (self.index(last), files(&self.store), chain());
        let truth = |height| {
            let block = chain.truth(height);
            BlockTruth { hash: block.hash.to_string(), parent: block.parent.to_string(), raw: block.raw.to_vec() }
        };
        let of = |height: u64| files.get(&height).cloned().unwrap_or_default();
        let mut faults = invariants::block_faults(&index, &of, &truth);
        for height in 0..=last {
            let parked = index.parked.iter().any(|(lo, hi, _)| (lo..=hi).contains(&&height));
            match (planted(height), parked) {
                (true, false) => faults.push(format!("the planted height {height} is not parked")),
                (false, true) => faults.push(format!("the innocent height {height} is parked")),
                (true, true) | (false, false) => {}
            }
        }
        faults
    }

    /// The whole oracle, for work that is done.
    fn judge(&self, last: u64, planted: impl Fn(u64) -> bool + Copy, reason: &str) {
        let faults = self.faults(last, planted);
        assert!(faults.is_empty(), "{faults:#?}");
        let mut dead = self.dead();
        dead.sort();
        let mut expected: Vec<String> = (0..=last)
            .filter(|height| planted(*height))
            .map(|height| format!("{{\"range\":[{height},{height}]}}"))
            .collect();
        expected.sort();
        let bodies: Vec<&String> = dead.iter().map(|(body, _)| body).collect();
        assert!(bodies.iter().all(|body| expected.contains(body)), "an innocent task was set aside: {dead:?}");
        // A planted task that its sender had to repeat is set aside as often as it came.
        assert!(expected.iter().all(|body| bodies.contains(&body)), "a planted task was not set aside: {dead:?}");
        assert!(dead.iter().all(|(_, why)| why.contains(reason)), "no `{reason}` in {dead:?}");
        assert_eq!(self.owed(), Vec::<String>::new());
    }
}

/// The block files of a store that have their digest beside them, read without any code of the program.
fn files(store: &Path) -> BTreeMap<u64, Vec<BlockFile>> {
    let mut all: BTreeMap<u64, Vec<BlockFile>> = BTreeMap::new();
    for folder in std::fs::read_dir(store.join("blocks")).expect("a folder") {
        for file in std::fs::read_dir(folder.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            let (height, hash) = stem.split_once('-').expect("height and hash");
            let meta = std::fs::read(path.with_extension("meta")).ok();
            let meta = meta.map(|line| serde_json::from_slice::<serde_json::Value>(&line).expect("JSON"));
            let digest = meta.and_then(|meta| meta["blake3"].as_str().map(str::to_owned));
            let raw = std::fs::read(&path).expect("a file");
            all.entry(height.parse().expect("a height")).or_default().push(BlockFile {
                hash: hash.to_owned(),
                raw,
                digest,
            });
        }
    }
    all
}

#[tokio::test]
async fn every_task_of_a_pool_has_its_effect_whatever_happens() {
    let long = std::env::var("GAPLESS_CHAOS").is_ok_and(|size| size == "long");
    let (faults, pace) = if long { (200, Duration::from_millis(550)) } else { (13, Duration::from_millis(420)) };
    let mut fleet = Fleet::new(3, 6, &[]);
    let mut schedule = Schedule::new(seed(20_261_125));
    let first = 400;
    fleet.send(&tasks(0, first - 1, panics));
    // As fast as a debug build keeps up with, over the time of the schedule.
    let between = Duration::from_millis(if long { 150 } else { 40 });
    let sender = Sender::start(fleet.redis().url(), first, between);
    fleet.world.start(&[]);
    schedule.run(&mut fleet.world, faults, pace).await;
    let last = fleet.lose_slots(sender.stop()).await;
    fleet.done().await;
    let told = fleet.world.tallied();
    let planted = (0..=last).filter(|height| panics(*height)).count();
    println!("pool: {last} heights, {planted} planted; {:?}; told {told:?}", schedule.counts);
    fleet.judge(last, panics, "a planted panic");
    assert!(fleet.world.log().iter().any(|line| says(line, "configured no more")), "no removed slot was drained");
    assert!(last > first, "nothing was asked for while the faults happened");
    assert!(told["hangs"] > 0 && schedule.counts["node kill -9"] > 0, "{told:?} {:?}", schedule.counts);
}

/// Starts the nodes that have died; answers how many.
fn revive(fleet: &mut Fleet) -> usize {
    let dead = fleet.world.nodes.iter_mut().filter_map(|node| (!node.is_running()).then_some(node));
    dead.map(|node| node.start()).count()
}

#[tokio::test]
async fn a_task_that_kills_its_process_is_set_aside_and_its_neighbours_are_done() {
    let told =
        [(Told::KILLS, "25".to_owned()), (Told::LEASE_MS, "400".to_owned()), (Told::UNFINISHED, "14".to_owned())];
    let mut fleet = Fleet::new(2, 4, &told);
    let kills = |height| height == 25;
    fleet.send(&tasks(0, 36, kills));
    let mut deaths = 0;
    revive(&mut fleet);
    wait_with(&mut fleet, &mut deaths).await;
    println!("pool: {deaths} processes died of one task");
    fleet.judge(36, kills, "attempts whose holder vanished");
    assert!(deaths >= 13, "{deaths}: it was set aside before its limit");
}

/// Waits for the end of the work, and starts whoever dies on the way.
async fn wait_with(fleet: &mut Fleet, deaths: &mut usize) {
    let mut done = false;
    while !done {
        let before = *deaths;
        wait::until_true("another death, or the end", || {
            *deaths += revive(fleet);
            done = fleet.waiting() == 0;
            done || *deaths > before
        })
        .await;
    }
}

#[tokio::test]
async fn an_innocent_task_survives_ten_deaths_of_other_causes() {
    // At the limits of the defaults: five failures, twenty vanished holders.
    let mut fleet = Fleet::new(1, 1, &[(Told::LEASE_MS, "300".to_owned())]);
    fleet.send(&[(0, 3)]);
    for death in 1..=10 {
        let crash = [("GAPLESS_CRASH_POINT", "after_apply@gap_fixer:kill:1")];
        fleet.world.nodes[0].start_with(&crash);
        wait::until_true(&format!("death {death}"), || !fleet.world.nodes[0].is_running()).await;
        assert_eq!(fleet.world.nodes[0].died_of(), Some(9));
    }
    fleet.world.nodes[0].start();
    fleet.done().await;
    fleet.judge(3, |_| false, "");
    assert_eq!(fleet.world.nodes[0].starts, 11);
}

/// The first node dies with tasks in hand, the second one does the rest and drains; what is wrong then.
async fn after_a_death(sabotage: Option<&str>) -> Vec<String> {
    let mut fleet = Fleet::new(2, 6, &[(Told::LEASE_MS, "400".to_owned())]);
    if let Some(sabotage) = sabotage {
        fleet.world.nodes.iter_mut().for_each(|node| node.always("GAPLESS_SABOTAGE", sabotage));
    }
    let last = 199;
    fleet.send(&tasks(0, last, panics));
    fleet.world.nodes[0].start_with(&[("GAPLESS_CRASH_POINT", "after_apply@gap_fixer:kill:3")]);
    wait::until_true("a death", || !fleet.world.nodes[0].is_running()).await;
    fleet.world.nodes[1].start();
    fleet.done().await;
    // What is in hand is finished, or was acknowledged before its time.
    fleet.world.nodes[1].terminate();
    wait::until_true("the end of the drain", || !fleet.world.nodes[1].is_running()).await;
    fleet.faults(last, panics)
}

#[tokio::test]
async fn with_sound_scripts_a_death_does_no_damage_to_a_pool() {
    assert_eq!(after_a_death(None).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_acknowledgement_before_the_commit_is_found() {
    let faults = after_a_death(Some("early_ack")).await;
    println!("early ack: {faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("neither held nor parked")), "the oracle is blind: {faults:?}");
}

#[tokio::test]
async fn a_dead_letter_without_parking_is_found() {
    let faults = after_a_death(Some("no_park")).await;
    println!("no park: {faults:?}");
    assert!(faults.contains(&"height 37 is neither held nor parked".to_owned()), "the oracle is blind: {faults:?}");
}
