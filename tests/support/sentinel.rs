//! A master, its replicas and three Sentinels: real servers on free ports that fail over by themselves.

use super::redis::{RedisServer, free_port};
use super::wait;

/// The name that the Sentinels know the master by.
pub const MASTER: &str = "main";

/// A Sentinel is a redis-server that runs with `--sentinel`.
pub struct Fleet {
    /// The first one begins as the master.
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
}

impl Fleet {
    /// Starts everything and waits until the Sentinels know all of it. `more` are further arguments of the servers.
    pub async fn start(replicas: usize, more: &[&str]) -> Self {
        Self::with_sentinel_lines(replicas, more, "").await
    }

    /// As [`Fleet::start`], with further lines in the configuration of each Sentinel.
    pub async fn with_sentinel_lines(replicas: usize, more: &[&str], lines: &str) -> Self {
        let durable = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let durable = [&durable[..], more].concat();
        let master = RedisServer::with(&durable);
        let port = master.port.to_string();
        let follow = [&durable[..], &["--replicaof", "127.0.0.1", &port]].concat();
        let mut servers = vec![master];
        servers.extend((0..replicas).map(|_| RedisServer::with(&follow)));
        wait::until_true("replicas in step", || {
            let follows = |s: &RedisServer| s.text(&["INFO", "replication"]).contains("master_link_status:up");
            servers[1..].iter().all(follows)
        })
        .await;
        // They look at the master when they start, and then once in ten seconds.
        let sentinels = (0..3).map(|_| sentinel(servers[0].port, lines)).collect();
        let fleet = Self { servers, sentinels };
        fleet.agree(replicas).await;
        fleet
    }

    /// Waits until every Sentinel knows the others and all replicas.
    async fn agree(&self, replicas: usize) {
        wait::until_true("sentinels that know each other", || {
            self.sentinels.iter().all(|sentinel| {
                let facts = facts(sentinel);
                let is = |name: &str, value: usize| facts.get(name).is_some_and(|v| *v == value.to_string());
                is("num-slaves", replicas) && is("num-other-sentinels", 2)
            })
        })
        .await;
    }

    /// What nodes are told.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// The port that the Sentinel calls the master's; the first Sentinel that runs is asked.
    pub fn master_port(&self) -> u16 {
        let sentinel = self.sentinels.last().expect("a sentinel");
        let told = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        let (_, port): (String, String) = redis::from_redis_value(told).expect("an address");
        port.parse().expect("a port")
    }

    /// The place of the server on this port.
    pub fn place(&self, port: u16) -> usize {
        self.servers.iter().position(|server| server.port == port).expect("a server of the fleet")
    }

    /// Waits until the Sentinels have made another server than this one the master, and it says so.
    pub async fn promoted(&self, before: u16) -> usize {
        wait::until_true("another master", || self.master_port() != before).await;
        let place = self.place(self.master_port());
        wait::until_true("a master that says so", || {
            self.servers[place].text(&["INFO", "replication"]).contains("role:master")
        })
        .await;
        place
    }
}

fn facts(sentinel: &RedisServer) -> std::collections::HashMap<String, String> {
    let told = sentinel.command(&["SENTINEL", "MASTER", MASTER]);
    redis::from_redis_value(told).expect("pairs")
}

fn sentinel(master: u16, lines: &str) -> RedisServer {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("sentinel.conf");
    // Sentinels rewrite their file, so each has its own, in the folder of its server.
    let text = format!(
        "sentinel monitor {MASTER} 127.0.0.1 {master} 2\nsentinel down-after-milliseconds {MASTER} 500\n\
         sentinel failover-timeout {MASTER} 3000\nsentinel parallel-syncs {MASTER} 1\n{lines}\n"
    );
    std::fs::write(&config, text).expect("written");
    RedisServer::sentinel(folder, &config, free_port())
}
