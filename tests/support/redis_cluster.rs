//! A Redis Cluster: three masters on free ports, their slots shared out evenly.

use super::node::poll;
use super::redis::{RedisServer, free_port};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// Three masters without replicas.
pub struct Cluster {
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts the nodes and waits until each knows all the others and every slot.
    pub fn start() -> Self {
        let node = || {
            // The bus would listen ten thousand ports higher, where there may be none.
            let bus = free_port().to_string();
            RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--appendonly", "yes"])
        };
        let nodes: Vec<RedisServer> = (0..3).map(|_| node()).collect();
        for (at, server) in nodes.iter().enumerate() {
            let (from, to) = (SLOTS * at / 3, SLOTS * (at + 1) / 3 - 1);
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        let cluster = Self { nodes };
        for server in &cluster.nodes[1..] {
            let (port, bus) = (server.port.to_string(), cluster.bus(server));
            cluster.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        cluster.agree();
        cluster
    }

    fn bus(&self, server: &RedisServer) -> String {
        let told = server.command(&["CONFIG", "GET", "cluster-port"]);
        let (_, bus): (String, String) = redis::from_redis_value(told).expect("a port");
        bus
    }

    fn agree(&self) {
        poll("nodes that know each other", || {
            let agrees = |node: &RedisServer| {
                let info = node.text(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            };
            self.nodes.iter().all(agrees).then_some(())
        });
    }

    /// What nodes of gapless are told: two of the three, which know the third.
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port, self.nodes[1].port)
    }

    /// The node that has a key, by its own word.
    pub fn node_of(&self, key: &str) -> &RedisServer {
        let slot = self.nodes[0].text(&["CLUSTER", "KEYSLOT", key]);
        &self.nodes[self.owner(&slot)]
    }

    fn owner(&self, slot: &str) -> usize {
        let has =
            |server: &RedisServer| server.accepts(&["CLUSTER", "COUNTKEYSINSLOT", slot]) && self.serves(server, slot);
        self.nodes.iter().position(has).expect("a node with that slot")
    }

    fn serves(&self, server: &RedisServer, slot: &str) -> bool {
        let slot: usize = slot.parse().expect("a number");
        let line = server.text(&["CLUSTER", "NODES"]);
        let own = line.lines().find(|line| line.contains("myself")).expect("itself").to_owned();
        own.split(' ').skip(8).any(|range| match range.split_once('-') {
            Some((from, to)) => (from.parse().unwrap_or(SLOTS)..=to.parse().unwrap_or(0)).contains(&slot),
            None => range.parse() == Ok(slot),
        })
    }

    /// Moves the slot of a key to another node, with all that is in it.
    pub fn move_slot(&self, key: &str) {
        let slot = self.nodes[0].text(&["CLUSTER", "KEYSLOT", key]);
        let from = self.owner(&slot);
        let to = (from + 1) % 3;
        let id = |place: usize| self.nodes[place].text(&["CLUSTER", "MYID"]);
        self.nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        self.nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let port = self.nodes[to].port.to_string();
        loop {
            let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys: Vec<String> = redis::from_redis_value(keys).expect("keys");
            if keys.is_empty() {
                break;
            }
            for key in keys {
                self.nodes[from].command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            }
        }
        for place in [to, from, (to + 1) % 3] {
            self.nodes[place].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
        }
    }
}
