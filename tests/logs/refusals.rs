//! A Redis that answers and takes no lines: its memory is full, it became a replica, or it still loads. Files wait, memory
//! stays flat, it is said once, and afterwards each line is there once.

use std::process::Command;

use tempfile::TempDir;

use crate::fields::node;
use crate::support::fleet::{LogLine, Node, says};
use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::whole::{Logger, entries, judged, resident, section};

const STREAM: &str = "t:{logs.x}:out:lines";
/// None of these lines is an event.
const UNPARSED: &str = "t:{logs.x}:out:unparsed";
const WATCHER: &str = "logs.x/log_watcher@h";
/// Bytes of a line, about.
const LINE: usize = 1000;

/// A node that has followed a file of a hundred lines.
struct World {
    // Fields end in this order: the node before what it works in.
    node: Node,
    redis: RedisServer,
    folder: TempDir,
    logger: Logger,
    written: u64,
    /// Kibibytes of memory of the node: at first, and at most.
    memory: (u64, u64),
}

impl World {
    async fn new(redis: RedisServer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let logger = Logger::new(&folder.path().join("x"));
        // A group keeps the lines, so that they can be judged when they are parsed.
        redis.command(&["XGROUP", "CREATE", STREAM, "judge", "0", "MKSTREAM"]);
        let sections = section("x", &logger.path, "[logs.x.parse]\npreset = \"json\"\n");
        let mut node = node(folder.path(), "n", "h", &redis.url(), "t", &sections);
        node.start();
        let mut world = Self { redis, folder, logger, node, written: 0, memory: (0, 0) };
        world.append(100);
        entries(&world.redis, STREAM, 100).await;
        world.memory = (resident(&world.node), 0);
        world
    }

    fn append(&mut self, lines: u64) {
        for n in self.written..self.written + lines {
            self.logger.append(format!("{n:08} INFO {}\n", "x".repeat(LINE)).as_bytes());
            if n.is_multiple_of(1000) {
                self.memory.1 = self.memory.1.max(resident(&self.node));
            }
        }
        self.written += lines;
    }

    /// Half of so many lines, a rotation, the other half.
    fn burst(&mut self, lines: u64) {
        self.append(lines / 2);
        self.logger.rotate(false);
        self.append(lines / 2);
    }

    /// How often the log says that Redis is away, for a reason that holds `word`.
    fn aways(&self, word: &str) -> usize {
        let is = |line: &&LogLine| says(line, "redis is away") && line["error"].to_string().contains(word);
        self.node.log().iter().filter(is).count()
    }

    /// How often the log says that a unit waits for memory.
    fn waits_of(&self, unit: &str) -> usize {
        let log = self.node.log();
        let is = |line: &&LogLine| says(line, "waiting") && line.get("unit").is_some_and(|of| of == unit);
        log.iter().filter(is).filter(|line| line.get("error").is_some_and(|e| e.to_string().contains("OOM"))).count()
    }

    /// The units of `gapless status`, as JSON.
    fn units(&self) -> Vec<serde_json::Value> {
        let status = Command::new(env!("CARGO_BIN_EXE_gapless"))
            .args(["status", "--json", "--config"])
            .arg(self.folder.path().join("n/node.toml"))
            .output()
            .expect("the program");
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
        status["units"].as_array().expect("units").clone()
    }

    /// All of it is there once, and memory stayed flat.
    async fn finished(mut self) {
        entries(&self.redis, STREAM, self.written).await;
        entries(&self.redis, UNPARSED, self.written).await;
        self.memory.1 = self.memory.1.max(resident(&self.node));
        judged(&self.redis, STREAM, &self.logger.lives);
        let (before, peak) = self.memory;
        println!("logs: {} lines, {before} kB before, {peak} kB at most", self.written);
        assert!(peak < before + 48 * 1024, "{before} kB grew to {peak} kB");
        self.node.terminate();
        wait::until_true("the end of the node", || !self.node.is_running()).await;
        judged(&self.redis, STREAM, &self.logger.lives);
        // What a parser sets aside is the line as it is, under its id.
        judged(&self.redis, UNPARSED, &self.logger.lives);
    }
}

#[tokio::test]
async fn lines_that_find_no_memory_in_redis_wait_in_their_files() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--maxmemory-policy", "noeviction"]);
    redis.command(&["SETRANGE", "ballast", "90000000", "x"]);
    let mut world = World::new(redis).await;
    let info = world.redis.text(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
    let room = used.trim().parse::<u64>().expect("a number") + 2_000_000;
    world.redis.command(&["CONFIG", "SET", "maxmemory", &room.to_string()]);
    world.burst(20_000);
    wait::until_true("the watcher to wait for memory", || world.waits_of(WATCHER) > 0).await;
    // A lease and its renewal need no memory: the unit is held, and says why nothing comes.
    wait::until_true("its status", || {
        let unit = world.units().into_iter().find(|unit| unit["unit"] == WATCHER);
        unit.is_some_and(|unit| {
            unit["state"] == "waiting" && unit["last_error"].as_str().is_some_and(|error| error.contains("OOM"))
        })
    })
    .await;
    let had: u64 = world.redis.text(&["XLEN", STREAM]).parse().expect("a number");
    assert!((100..20_100).contains(&had), "{had}");
    world.append(1000);
    assert_eq!(world.waits_of(WATCHER), 1, "it is said once");
    assert!(world.waits_of("logs.x/log_parser") <= 1, "of each");
    // Somebody makes room.
    world.redis.command(&["DEL", "ballast"]);
    world.finished().await;
}

#[tokio::test]
async fn lines_that_a_replica_refuses_wait_in_their_files() {
    let mut world = World::new(RedisServer::start()).await;
    // Of a master that nobody can reach: it keeps what it has, and takes no writes.
    world.redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    world.burst(20_000);
    wait::until_true("the word that it waits", || world.aways("not a master") == 1).await;
    world.append(1000);
    assert_eq!(world.aways("not a master"), 1, "it is said once");
    world.redis.command(&["REPLICAOF", "NO", "ONE"]);
    world.finished().await;
}

#[tokio::test]
async fn lines_wait_for_a_redis_that_still_loads() {
    let mut world = World::new(RedisServer::with(&["--appendonly", "yes", "--key-load-delay", "400"])).await;
    let mut connection = world.redis.connection();
    let mut pipe = redis::pipe();
    for n in 0..6000 {
        pipe.cmd("SET").arg(format!("other:{n}")).arg(n).ignore();
    }
    pipe.query::<()>(&mut connection).expect("set");
    wait::until_true("all of it to be in the file", || crate::fields::is_kept(&world.redis)).await;
    world.redis.kill();
    world.burst(20_000);
    world.redis.resume();
    wait::until_true("the word that it loads", || world.aways("") > 0).await;
    wait::until_true("the word of the server itself", || {
        let answer = redis::cmd("PING").query::<String>(&mut world.redis.connection());
        answer.is_err_and(|error| error.code() == Some("LOADING"))
    })
    .await;
    world.finished().await;
}
