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
        let way = self.open_slot(key);
        loop {
            let keys = self.nodes[way.from].command(&["CLUSTER", "GETKEYSINSLOT", &way.slot, "100"]);
            let keys: Vec<String> = redis::from_redis_value(keys).expect("keys");
            if keys.is_empty() {
                break;
            }
            keys.iter().for_each(|key| self.carry(&way, key));
        }
        self.close_slot(&way);
    }

    /// Begins to move the slot of a key: from now on its node hands out what it has, and sends on for the rest.
    pub fn open_slot(&self, key: &str) -> Way {
        let slot = self.nodes[0].text(&["CLUSTER", "KEYSLOT", key]);
        let from = self.owner(&slot);
        let way = Way { to: (from + 1) % 3, from, slot };
        self.nodes[way.to].command(&["CLUSTER", "SETSLOT", &way.slot, "IMPORTING", &self.id(way.from)]);
        self.nodes[way.from].command(&["CLUSTER", "SETSLOT", &way.slot, "MIGRATING", &self.id(way.to)]);
        way
    }

    /// Carries one key over.
    pub fn carry(&self, way: &Way, key: &str) {
        let port = self.nodes[way.to].port.to_string();
        self.nodes[way.from].command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Calls a move off: what was carried over goes back. The other node would still take it, until [`Cluster::forget_move`].
    pub fn call_off(&self, way: &Way, keys: &[&str]) {
        self.nodes[way.from].command(&["CLUSTER", "SETSLOT", &way.slot, "STABLE"]);
        let port = self.nodes[way.from].port.to_string();
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.cmd("ASKING").ignore();
            pipe.cmd("MIGRATE").arg("127.0.0.1").arg(&port).arg(key).arg(0).arg(5000).ignore();
        }
        pipe.query::<()>(&mut self.nodes[way.to].connection()).expect("carried back");
    }

    /// The last step of calling a move off.
    pub fn forget_move(&self, way: &Way) {
        self.nodes[way.to].command(&["CLUSTER", "SETSLOT", &way.slot, "STABLE"]);
    }

    /// Ends a move: the slot belongs to the other node.
    pub fn close_slot(&self, way: &Way) {
        for place in [way.to, way.from, (way.to + 1) % 3] {
            self.nodes[place].command(&["CLUSTER", "SETSLOT", &way.slot, "NODE", &self.id(way.to)]);
        }
    }

    /// The node that a slot is on its way to.
    pub fn receiver(&self, way: &Way) -> &RedisServer {
        &self.nodes[way.to]
    }

    fn id(&self, place: usize) -> String {
        self.nodes[place].text(&["CLUSTER", "MYID"])
    }
}

/// A slot on its way from one node to another.
pub struct Way {
    from: usize,
    to: usize,
    slot: String,
}
