//! A master and its replica with a proxy between them, so that the replica can be left behind and then promoted: a
//! failover that loses the newest writes, as asynchronous replication does.

use super::proxy::{Faults, Proxy};
use super::redis::RedisServer;
use super::wait;

pub struct Pair {
    pub master: RedisServer,
    pub replica: RedisServer,
    between: Proxy,
    /// What nodes connect to: the master, and after the failover the replica.
    pub front: Proxy,
}

impl Pair {
    /// Starts both and waits until they agree.
    pub async fn start() -> Self {
        let durable = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let master = RedisServer::with(&durable);
        let (between, front) = (Proxy::to(master.port).await, Proxy::to(master.port).await);
        let port = between.port().to_string();
        let replica = RedisServer::with(&[&durable[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let pair = Self { master, replica, between, front };
        pair.caught_up().await;
        pair
    }

    /// Waits until the replica has everything that the master has acknowledged.
    pub async fn caught_up(&self) {
        let offset = |server: &RedisServer, field: &str| {
            let info = server.text(&["INFO", "replication"]);
            info.lines().find_map(|l| l.strip_prefix(field)?.trim_end().parse::<u64>().ok()).unwrap_or(0)
        };
        wait::until_true("the replica to catch up", || {
            let up = self.replica.text(&["INFO", "replication"]).contains("master_link_status:up");
            up && offset(&self.replica, "slave_repl_offset:") >= offset(&self.master, "master_repl_offset:")
        })
        .await;
    }

    /// From here on the replica hears nothing of the master.
    pub fn leave_behind(&self) {
        self.between.set(Faults { hold_answers: true, ..Faults::default() });
    }

    /// The master dies, the replica becomes one, and nodes are led to it.
    pub fn fail_over(&mut self) {
        self.master.kill();
        self.between.set(Faults { refuse: true, hold_answers: true, ..Faults::default() });
        self.between.cut();
        self.replica.command(&["REPLICAOF", "NO", "ONE"]);
        self.front.lead_to(self.replica.port);
    }
}
