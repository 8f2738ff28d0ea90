//! A small fleet of real processes, and a seeded schedule of faults against it.
//!
//! Every node reaches Redis through a proxy of its own, so that each can be cut off alone. The proxies live on a
//! thread of their own: what the test itself does never delays the nodes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use redis::ConnectionLike;
use tempfile::TempDir;

use super::fleet::{LogLine, Node, Plan, says};
use super::invariants::{self, Truth};
use super::proxy::{Faults, Proxy};
use super::redis::RedisServer;
use super::{signals, wait};

/// A thread with a runtime for proxies; ends with this value.
pub struct Network {
    wishes: Option<tokio::sync::mpsc::UnboundedSender<(u16, std::sync::mpsc::Sender<Proxy>)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Network {
    pub fn start() -> Self {
        let (wishes, mut wished) = tokio::sync::mpsc::unbounded_channel::<(u16, std::sync::mpsc::Sender<Proxy>)>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let body = move || {
            runtime.block_on(async move {
                while let Some((port, answer)) = wished.recv().await {
                    let _ = answer.send(Proxy::to(port).await);
                }
            });
        };
        let thread = std::thread::Builder::new().name("network".to_owned()).spawn(body).expect("a thread");
        Self { wishes: Some(wishes), thread: Some(thread) }
    }

    /// A proxy in front of a port.
    pub fn proxy(&self, port: u16) -> Proxy {
        let (answer, proxy) = std::sync::mpsc::channel();
        self.wishes.as_ref().expect("a network").send((port, answer)).expect("a running network");
        proxy.recv().expect("a proxy")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.wishes.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Nodes, their proxies, and one Redis. Fields end in this order: nodes first.
pub struct World {
    pub nodes: Vec<Node>,
    pub proxies: Vec<Proxy>,
    pub redis: RedisServer,
    pub truth: Truth,
    pub plan: Plan,
    pub network: Network,
    pub folder: TempDir,
}

impl World {
    /// Nodes that are not running yet.
    pub fn new(nodes: usize, plan: Plan) -> Self {
        Self::on(RedisServer::start(), nodes, plan)
    }

    pub fn on(redis: RedisServer, nodes: usize, plan: Plan) -> Self {
        let network = Network::start();
        let folder = tempfile::tempdir().expect("a folder");
        let proxies: Vec<Proxy> = (0..nodes).map(|_| network.proxy(redis.port)).collect();
        let names = ["node-a", "node-b", "node-c", "node-d"];
        let nodes =
            proxies.iter().zip(names).map(|(p, name)| Node::new(folder.path(), name, &plan, &p.url())).collect();
        let truth = Truth::new(plan.actors, plan.messages);
        Self { nodes, proxies, redis, truth, plan, network, folder }
    }

    pub fn start(&mut self, environment: &[(&str, &str)]) {
        self.nodes.iter_mut().for_each(|node| node.start_with(environment));
    }

    /// The node that a unit's checkpoint names; empty before the first acquisition.
    pub fn holder(&self, unit: &str) -> String {
        let key = self.truth.key(&format!("ck:{unit}"));
        let node = self.redis.command(&["HGET", &key, "node"]);
        redis::from_redis_value::<Option<String>>(node).expect("a node").unwrap_or_default()
    }

    /// Waits until all work is done. As long as there is progress it may take its time.
    pub async fn done(&mut self) {
        let mut records = 0;
        loop {
            let (redis, truth) = (&self.redis, &self.truth);
            let mut done = false;
            wait::until_true("more records, or the end of the work", || {
                done = invariants::is_done(redis, truth);
                let before = std::mem::replace(&mut records, invariants::records(redis, truth));
                done || records > before
            })
            .await;
            if done {
                return;
            }
        }
    }

    /// Waits until the outputs hold so many records.
    pub async fn records(&self, at_least: u64) {
        wait::until_true(&format!("{at_least} records"), || invariants::records(&self.redis, &self.truth) >= at_least)
            .await;
    }

    pub fn log(&self) -> Vec<LogLine> {
        self.nodes.iter().flat_map(Node::log).collect()
    }

    /// Counts what the logs of all nodes tell.
    pub fn tallied(&self) -> BTreeMap<&'static str, usize> {
        const TOLD: [(&str, &str); 7] = [
            ("panics", "panic: a planted panic"),
            ("hangs", "no progress; cutting the turn"),
            ("dup commits", "only its answer was lost"),
            ("rollbacks", "redis lost commits"),
            ("reloads", "reloading"),
            ("given up", "given up"),
            ("drains", "drained; good-bye"),
        ];
        let log = self.log();
        let mut told: BTreeMap<_, _> =
            TOLD.iter().map(|(name, words)| (*name, log.iter().filter(|line| says(line, words)).count())).collect();
        let mut takeovers = 0;
        for node in &self.nodes {
            let from_another = |line: &&LogLine| {
                let before = line.get("before").and_then(|before| before.as_str()).unwrap_or("");
                says(line, "started") && !before.is_empty() && before != node.name
            };
            takeovers += node.log().iter().filter(from_another).count();
        }
        told.insert("takeovers", takeovers);
        told
    }
}

/// Everything that can be done to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    NodeKill,
    NodeStop,
    NodeDrain,
    RedisKill,
    RedisStop,
    Cut,
    CutAll,
    Delay,
    DropAnswers,
    Hold,
    Strand,
    Refuse,
}

impl Fault {
    /// Each with its weight: kills of nodes are what the design is for.
    const ALL: [(Fault, u32); 12] = [
        (Fault::NodeKill, 12),
        (Fault::NodeStop, 5),
        (Fault::NodeDrain, 3),
        (Fault::RedisKill, 3),
        (Fault::RedisStop, 3),
        (Fault::Cut, 2),
        (Fault::CutAll, 1),
        (Fault::Delay, 2),
        (Fault::DropAnswers, 3),
        (Fault::Hold, 2),
        (Fault::Strand, 2),
        (Fault::Refuse, 1),
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::NodeKill => "node kill -9",
            Fault::NodeStop => "node SIGSTOP past the lease",
            Fault::NodeDrain => "node SIGTERM and restart",
            Fault::RedisKill => "redis kill -9",
            Fault::RedisStop => "redis SIGSTOP",
            Fault::Cut => "connections of one node cut",
            Fault::CutAll => "all connections cut",
            Fault::Delay => "slow network",
            Fault::DropAnswers => "answers lost",
            Fault::Hold => "partition, requests arrive late",
            Fault::Strand => "old requests arrive late",
            Fault::Refuse => "connections refused",
        }
    }

    /// How long it lasts, in milliseconds; the lease is a second.
    fn lasts(self, rng: &mut StdRng) -> u64 {
        match self {
            Fault::NodeKill => rng.random_range(50..1500),
            Fault::NodeStop | Fault::Hold | Fault::Strand => rng.random_range(1200..2200),
            Fault::NodeDrain => rng.random_range(400..1000),
            Fault::RedisKill => rng.random_range(20..800),
            Fault::RedisStop => rng.random_range(200..1600),
            Fault::Cut | Fault::CutAll => 0,
            Fault::Delay => rng.random_range(300..1000),
            Fault::DropAnswers => rng.random_range(50..500),
            Fault::Refuse => rng.random_range(200..800),
        }
    }
}

/// One fault of a schedule; all of it follows from the seed.
#[derive(Debug, Clone, Copy)]
struct Dealt {
    /// From the start of the schedule.
    at: Duration,
    lasts: Duration,
    fault: Fault,
    node: usize,
}

/// Whether two faults would meddle with each other: two on one process, or two on one line.
fn clash(a: (Fault, usize), b: (Fault, usize)) -> bool {
    /// What a fault happens to.
    #[derive(PartialEq)]
    enum Victim {
        Process(usize),
        Line(usize),
        Redis,
        Nothing,
    }
    let victim = |(fault, node)| match fault {
        Fault::NodeKill | Fault::NodeStop | Fault::NodeDrain => Victim::Process(node),
        Fault::RedisKill | Fault::RedisStop => Victim::Redis,
        Fault::Cut | Fault::CutAll => Victim::Nothing,
        Fault::Delay | Fault::DropAnswers | Fault::Hold | Fault::Strand | Fault::Refuse => Victim::Line(node),
    };
    victim(a) == victim(b) && victim(a) != Victim::Nothing
}

/// The schedule of a seed: every kind once in some order, then by weight; on average one in `pace`.
fn deal(seed: u64, faults: u32, pace: Duration, nodes: usize) -> VecDeque<Dealt> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut once: Vec<Fault> = Fault::ALL.iter().map(|(fault, _)| *fault).collect();
    once.shuffle(&mut rng);
    let (mut dealt, mut at) = (VecDeque::<Dealt>::new(), Duration::ZERO);
    while dealt.len() < faults as usize {
        at += pace.mul_f64(rng.random_range(0.5..1.5));
        let fault = once.pop().unwrap_or_else(|| weighted(&mut rng));
        let node = rng.random_range(0..nodes);
        let lasts = Duration::from_millis(fault.lasts(&mut rng));
        // It begins when what it would meddle with is over.
        let clashing = dealt.iter().filter(|d| clash((d.fault, d.node), (fault, node))).map(|d| d.at + d.lasts).max();
        at = at.max(clashing.unwrap_or_default());
        dealt.push_back(Dealt { at, lasts, fault, node });
    }
    dealt
}

fn weighted(rng: &mut StdRng) -> Fault {
    let total: u32 = Fault::ALL.iter().map(|(_, weight)| weight).sum();
    let mut ticket = rng.random_range(0..total);
    for (fault, weight) in Fault::ALL {
        if ticket < weight {
            return fault;
        }
        ticket -= weight;
    }
    Fault::NodeKill
}

/// What is wrong at the moment; ended at its time.
struct UnderWay {
    fault: Fault,
    node: usize,
    until: Instant,
}

/// A seeded schedule on its way.
pub struct Schedule {
    seed: u64,
    under_way: Vec<UnderWay>,
    started: Instant,
    sampler: Option<redis::Connection>,
    pub counts: BTreeMap<&'static str, u32>,
    pub longest_mailbox: u64,
    pub samples: u32,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        println!("chaos: seed {seed} (set GAPLESS_CHAOS_SEED={seed} for the same schedule)");
        Self {
            seed,
            under_way: Vec::new(),
            started: Instant::now(),
            sampler: None,
            counts: BTreeMap::new(),
            longest_mailbox: 0,
            samples: 0,
        }
    }

    fn say(&self, words: &str) {
        println!("[{:7.2} s] {words}", self.started.elapsed().as_secs_f64());
    }

    /// Deals `faults` faults, on average one in `pace`, and ends all of them.
    pub async fn run(&mut self, world: &mut World, faults: u32, pace: Duration) {
        let mut dealt = deal(self.seed, faults, pace, world.nodes.len());
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        while !dealt.is_empty() || !self.under_way.is_empty() {
            clock.tick().await;
            self.end_those_due(world);
            self.sample(world);
            // One that is due may still wait for the end of another that took longer than planned.
            let is_due = |next: &Dealt| {
                let free = !self.under_way.iter().any(|o| clash((o.fault, o.node), (next.fault, next.node)));
                self.started.elapsed() >= next.at && free
            };
            if dealt.front().is_some_and(is_due)
                && let Some(next) = dealt.pop_front()
            {
                self.begin_next(world, next);
            }
        }
    }

    /// Looks at the mailboxes while the work comes to its end.
    pub async fn done(&mut self, world: &mut World) {
        let mut records = 0;
        let mut done = false;
        while !done {
            let schedule = &mut *self;
            wait::until_true("more records, or the end of the work", || {
                schedule.sample(world);
                done = invariants::is_done(&world.redis, &world.truth);
                let before = std::mem::replace(&mut records, invariants::records(&world.redis, &world.truth));
                done || records > before
            })
            .await;
        }
    }

    fn begin_next(&mut self, world: &mut World, Dealt { lasts, fault, node, .. }: Dealt) {
        self.begin(world, fault, node);
        *self.counts.entry(fault.name()).or_default() += 1;
        self.say(&format!("{} ({}) for {} ms", fault.name(), world.nodes[node].name, lasts.as_millis()));
        self.under_way.push(UnderWay { fault, node, until: Instant::now() + lasts });
    }

    fn begin(&mut self, world: &mut World, fault: Fault, node: usize) {
        let proxy = &world.proxies[node];
        match fault {
            Fault::NodeKill => world.nodes[node].kill(),
            Fault::NodeStop => signals::stop(world.nodes[node].pid()),
            Fault::NodeDrain => world.nodes[node].terminate(),
            Fault::RedisKill => {
                self.sampler = None;
                world.redis.kill();
            }
            Fault::RedisStop => {
                self.sampler = None;
                world.redis.pause(true);
            }
            Fault::Cut => proxy.cut(),
            Fault::CutAll => world.proxies.iter().for_each(Proxy::cut),
            Fault::Delay => proxy.set(Faults { delay: Duration::from_millis(15), ..Faults::default() }),
            Fault::DropAnswers => proxy.set(Faults { drop_answers: true, ..Faults::default() }),
            Fault::Hold => proxy.set(Faults { hold_requests: true, ..Faults::default() }),
            Fault::Strand => proxy.strand(),
            Fault::Refuse => {
                proxy.set(Faults { refuse: true, ..Faults::default() });
                proxy.cut();
            }
        }
    }

    fn end_those_due(&mut self, world: &mut World) {
        let now = Instant::now();
        let (due, rest) = std::mem::take(&mut self.under_way).into_iter().partition(|fault| fault.until <= now);
        self.under_way = rest;
        let due: Vec<UnderWay> = due;
        for over in due {
            if !self.end(world, &over) {
                self.under_way.push(over);
            }
        }
    }

    /// Ends a fault; false if it must go on for a moment.
    fn end(&mut self, world: &mut World, over: &UnderWay) -> bool {
        let node = &mut world.nodes[over.node];
        match over.fault {
            Fault::NodeKill => node.start(),
            Fault::NodeStop => signals::go_on(node.pid()),
            Fault::NodeDrain => match node.ended() {
                Some(status) => {
                    // In its first milliseconds a process does not listen for signals yet, and holds nothing.
                    let unborn = node.died_of() == Some(15) && !node.has_spoken();
                    assert!(status.success() || unborn, "{} drained with {status}", node.name);
                    node.start();
                }
                None => {
                    assert!(over.until.elapsed() < Duration::from_secs(20), "{} does not drain", node.name);
                    return false;
                }
            },
            Fault::RedisKill => restart(&mut world.redis),
            Fault::RedisStop => world.redis.pause(false),
            Fault::Cut | Fault::CutAll => {}
            Fault::Delay | Fault::DropAnswers | Fault::Hold | Fault::Strand | Fault::Refuse => {
                world.proxies[over.node].heal();
            }
        }
        true
    }

    fn sample(&mut self, world: &World) {
        if self.under_way.iter().any(|o| matches!(o.fault, Fault::RedisKill | Fault::RedisStop)) {
            return;
        }
        if self.sampler.is_none() {
            let client = redis::Client::open(world.redis.url()).expect("a url");
            self.sampler = client.get_connection_with_timeout(Duration::from_millis(200)).ok();
        }
        let Some(connection) = &mut self.sampler else { return };
        let mut pipe = redis::pipe();
        (0..world.truth.actors).for_each(|tally| {
            pipe.cmd("XLEN").arg(world.truth.key(&format!("in:tally_{tally}")));
        });
        // It answers LOADING for a moment after its start.
        if let Ok(lengths) = pipe.query::<Vec<u64>>(connection) {
            self.longest_mailbox = lengths.into_iter().fold(self.longest_mailbox, u64::max);
            self.samples += 1;
        } else if !connection.is_open() {
            self.sampler = None;
        }
    }
}

/// Starts the server again until it answers: while it was away a client may have taken its port for itself (a
/// connection to a port of the ephemeral range can meet itself).
pub fn restart(redis: &mut RedisServer) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        redis.resume();
        while Instant::now() < deadline {
            let client = redis::Client::open(redis.url()).expect("a url");
            let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_millis(500)) else { break };
            if redis::cmd("PING").query::<String>(&mut connection).is_ok() {
                return;
            }
        }
        assert!(Instant::now() < deadline, "redis does not come back");
    }
}

/// The seed of the environment, else the one given.
pub fn seed(fixed: u64) -> u64 {
    std::env::var("GAPLESS_CHAOS_SEED").ok().map_or(fixed, |text| text.parse().expect("GAPLESS_CHAOS_SEED: a number"))
}
