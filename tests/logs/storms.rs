//! A seeded storm over two real nodes of one host and their Redis: `kill -9` of either node and of Redis (append-only file
//! synced every second), and nodes that stand still past their lease and then go on; loggers of every style write and
//! rotate all the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::fields::{Field, is_kept, node};
use crate::support::chaos::{restart, seed};
use crate::support::fleet::Node;
use crate::support::redis::RedisServer;
use crate::support::{signals, wait};
use crate::writer::{Style, now};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    NodeKill,
    NodeStop,
    RedisKill,
}

struct Storm {
    rng: StdRng,
    redis: RedisServer,
    fields: Vec<Field>,
    nodes: Vec<Node>,
    faults: BTreeMap<Fault, u32>,
    story: Vec<String>,
    folder: TempDir,
}

/// A lease of these nodes, and what it takes to see that it has run out.
const LEASE: Duration = Duration::from_millis(1300);

impl Storm {
    fn new(seed: u64) -> Self {
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let fields: Vec<Field> = (0..)
            .zip(Style::ALL)
            .map(|(n, style)| Field::new(folder.path(), "t", &format!("x{n}"), style, seed + n))
            .collect();
        let sections: String = fields.iter().map(Field::section).collect();
        let of = |name| node(folder.path(), name, "h", &redis.url(), "t", &sections);
        let nodes = vec![of("a"), of("b")];
        Self {
            rng: StdRng::seed_from_u64(seed),
            redis,
            fields,
            nodes,
            faults: BTreeMap::new(),
            story: Vec::new(),
            folder,
        }
    }

    /// Loggers go on for a while; Redis may be away meanwhile.
    async fn write_for(&mut self, time: Duration, is_away: bool) {
        let until = Instant::now() + time;
        let mut connection = (!is_away).then(|| self.redis.connection());
        while Instant::now() < until {
            let n = self.rng.random_range(0..self.fields.len());
            let field = &mut self.fields[n];
            // What it has read is kept before it is destroyed, and so is the first that is known of a file.
            let must_be_kept = field.writer.habits.style.destroys() || !field.is_known();
            let is_read = connection.as_mut().is_some_and(|redis| field.length(redis) >= field.want())
                && (!must_be_kept || is_kept(&self.redis));
            field.step(&mut self.rng, is_read);
            wait::step().await;
        }
    }

    async fn fault(&mut self) {
        let fault =
            *[Fault::NodeKill, Fault::NodeKill, Fault::NodeStop, Fault::RedisKill].choose(&mut self.rng).expect("one");
        let of = self.rng.random_range(0..self.nodes.len());
        *self.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::NodeKill => {
                self.nodes[of].kill();
                let away = self.rng.random_range(0..1200);
                self.say(&format!("killed node {of}"));
                self.write_for(Duration::from_millis(away), false).await;
                self.nodes[of].start();
            }
            Fault::NodeStop => {
                signals::stop(self.nodes[of].pid());
                self.say(&format!("stopped node {of}"));
                self.write_for(LEASE, false).await;
                signals::go_on(self.nodes[of].pid());
            }
            Fault::RedisKill => {
                self.redis.kill();
                let away = self.rng.random_range(0..600);
                self.say("killed redis");
                self.write_for(Duration::from_millis(away), true).await;
                restart(&mut self.redis);
            }
        }
        self.say("it goes on");
    }

    async fn run(&mut self, faults: u32) -> Vec<String> {
        self.nodes.iter_mut().for_each(Node::start);
        self.write_for(Duration::from_millis(1500), false).await;
        for _ in 0..faults {
            self.fault().await;
            let pause = self.rng.random_range(100..1000);
            self.write_for(Duration::from_millis(pause), false).await;
        }
        self.fields.iter_mut().for_each(Field::end);
        let mut found = Vec::new();
        for field in &self.fields {
            found.extend(field.faults(&self.redis).await);
        }
        let (lives, lines) = self.fields.iter().fold((0, 0), |sum, f| (sum.0 + f.writer.lives.len(), sum.1 + f.want()));
        println!("logs: {:?}, {lines} lines in {lives} lives of {} files", self.faults, self.fields.len());
        if !found.is_empty() {
            self.keep();
        }
        found
    }

    /// Keeps what a failed storm leaves, to look at: files, what each life of them held, what loggers and faults did and
    /// when, logs of the nodes, and the append-only file of Redis.
    fn keep(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
        self.folder.disable_cleanup(true);
        let folder = self.folder.path().to_owned();
        for field in &self.fields {
            field.keep(&folder.join("truth").join(&field.name));
        }
        std::fs::write(folder.join("faults.txt"), self.story.join("\n")).expect("written");
        println!("kept in {} and {}", folder.display(), self.redis.keep().display());
    }

    fn say(&mut self, words: &str) {
        self.story.push(format!("{} {words}", now()));
    }
}

async fn storm(seed: u64, faults: u32) {
    println!("logs: storm of seed {seed}");
    let found = Storm::new(seed).run(faults).await;
    assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n\n"));
}

#[tokio::test]
async fn kills_and_pauses_of_nodes_and_redis_lose_and_double_no_line() {
    storm(seed(7), 6).await;
}

#[tokio::test]
#[ignore = "long: make chaos"]
async fn long_storms_lose_and_double_no_line() {
    if std::env::var("GAPLESS_CHAOS").is_ok_and(|size| size == "long") {
        let seed = seed(20_261_126);
        for storm_seed in seed..seed + 4 {
            storm(storm_seed, 40).await;
        }
    }
}
