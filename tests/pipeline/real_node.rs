//! Against a real EVM node (anvil, whose path `GAPLESS_ANVIL` names): kills of the holders, then a reorg.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::oracle;
use crate::support::node::{Node, poll};
use crate::support::redis::free_port;
use crate::world::{CONFIRMATIONS, World, pipeline};

pub struct Anvil {
    child: Child,
    pub addr: SocketAddr,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // The npm package's command may be a launcher: the node itself is in the same process group.
        let _ = rustix::process::kill_process_group(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::KILL,
        );
        let _ = self.child.wait();
    }
}

impl Anvil {
    /// A node that makes a block a second.
    fn start() -> Option<Self> {
        Self::with(&["--block-time", "1"])
    }

    /// A node with more arguments; none, with a line, where there is no anvil.
    pub fn with(more: &[&str]) -> Option<Self> {
        let Ok(path) = std::env::var("GAPLESS_ANVIL") else {
            println!("skipped: GAPLESS_ANVIL is not set");
            return None;
        };
        let port = free_port();
        let child = Command::new(path)
            .process_group(0)
            .args(["--chain-id", "4242", "--silent", "--port", &port.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("anvil starts");
        let anvil = Self { child, addr: ([127, 0, 0, 1], port).into() };
        poll("anvil to answer", || anvil.post(&call("eth_chainId", json!([]))));
        Some(anvil)
    }

    /// One HTTP request, without any code of the program.
    fn post(&self, body: &Value) -> Option<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let head = "POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    pub fn ask(&self, method: &str, params: Value) -> Value {
        let answer = self.post(&call(method, params)).expect("an answer");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub fn head(&self) -> u64 {
        number(&self.ask("eth_blockNumber", json!([])))
    }

    /// Hash by height, as the node has them now.
    pub fn hashes(&self, to: u64) -> BTreeMap<u64, String> {
        let heights: Vec<u64> = (0..=to).collect();
        let mut hashes = BTreeMap::new();
        for chunk in heights.chunks(500) {
            let calls = chunk.iter().map(|h| call("eth_getBlockByNumber", json!([format!("{h:#x}"), false])));
            let answers = self.post(&Value::Array(calls.collect())).expect("an answer");
            for block in answers.as_array().expect("a batch") {
                let block = &block["result"];
                hashes.insert(number(&block["number"]), block["hash"].as_str().expect("a hash").to_owned());
            }
        }
        hashes
    }
}

fn call(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("a quantity").trim_start_matches("0x"), 16).expect("a number")
}

/// The lease of these nodes.
const LEASE: Duration = Duration::from_secs(2);

pub fn held_to(world: &World) -> u64 {
    oracle::bounds(&world.redis, "main").last().map_or(0, |(_, hi)| *hi)
}

/// Waits until everything up to a height of now is held, and compares each hash with the node's.
fn whole(world: &World, anvil: &Anvil) {
    let head = anvil.head();
    poll("all heights to be held", || {
        let bounds = oracle::bounds(&world.redis, "main");
        matches!(bounds[..], [(0, hi)] if hi >= head).then_some(())
    });
    // The newest blocks may change between our question and the node's.
    let stable = head;
    let (files, hashes) = (oracle::files(&world.store("main")), anvil.hashes(stable));
    for height in 0..=stable {
        let stored = files.get(&height).unwrap_or_else(|| panic!("height {height} has no file"));
        let found = stored.iter().find(|stored| stored.hash == hashes[&height]);
        let found = found.unwrap_or_else(|| panic!("height {height} is not the node's {}", hashes[&height]));
        let raw: Value = serde_json::from_slice(&found.raw).expect("JSON");
        assert_eq!((&raw["hash"], number(&raw["number"])), (&json!(hashes[&height]), height));
        assert_eq!(found.meta.as_ref().expect("a digest")["blake3"], blake3::hash(&found.raw).to_string());
    }
    let held = oracle::held(&world.redis, "main");
    let top = &held[0];
    let now = anvil.hashes(top.hi);
    assert_eq!(now.get(&top.hi), Some(&top.hash));
}

/// `kill -9` of the node that follows the head; how long until another one holds it and the head has moved.
fn kill_holder(world: &World, nodes: &mut BTreeMap<String, Node>) -> (Duration, Duration) {
    let holder = oracle::holder(&world.redis, "main", "collector");
    let before = held_to(world);
    nodes.remove(&holder).expect("a running holder").kill();
    let killed = Instant::now();
    poll("a takeover", || (oracle::holder(&world.redis, "main", "collector") != holder).then_some(()));
    let taken = killed.elapsed();
    poll("the head to move", || (held_to(world) > before).then_some(()));
    (taken, killed.elapsed())
}

#[test]
fn a_real_chain_survives_kills_and_a_reorg() {
    let Some(anvil) = Anvil::start() else { return };
    anvil.ask("anvil_mine", json!(["0xbb8"]));
    let url = format!("http://{}", anvil.addr);
    let world = World::new(&pipeline("main", &[&url], "0", ""));
    let text = std::fs::read_to_string(world.space.path().join("gapless.toml")).expect("a configuration");
    world.space.write("gapless.toml", &text.replace("lease_seconds = 1", "lease_seconds = 2"));
    let start = |name: &str| (name.to_owned(), world.space.started(name, &[]));
    let mut nodes: BTreeMap<String, Node> = [start("one"), start("two")].into();
    whole(&world, &anvil);

    for _ in 0..2 {
        let (taken, resumed) = kill_holder(&world, &mut nodes);
        println!("collector taken over after {taken:?}, head moved after {resumed:?} (lease {LEASE:?})");
        assert!(taken <= 2 * LEASE, "taken over after {taken:?}: G4 promises {:?}", 2 * LEASE);
        let gone = if nodes.contains_key("one") { "two" } else { "one" };
        nodes.extend([start(gone)]);
    }
    whole(&world, &anvil);
    reorg(&world, &anvil);
    let verified = world.space.run(&["blocks", "verify", "--json"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

/// The chain changes above finality: the held heights follow it, and the orphans' files stay.
fn reorg(world: &World, anvil: &Anvil) {
    let depth = 4;
    poll("the head to be held", || (held_to(world) == anvil.head()).then_some(()));
    let old = anvil.hashes(anvil.head());
    // A transaction in the new branch makes its blocks other ones, whatever their times.
    let accounts = anvil.ask("eth_accounts", json!([]));
    let transaction =
        json!({ "from": accounts[0], "to": accounts[1], "value": "0x1", "gas": "0x5208", "gasPrice": "0x77359400" });
    anvil.ask("anvil_reorg", json!([depth, [[transaction, 0]]]));
    let (top, head) = (*old.last_key_value().expect("blocks").0, anvil.head());
    let new = anvil.hashes(head);
    let changed: Vec<u64> = (0..=top).filter(|h| new.get(h) != old.get(h)).collect();
    assert!(!changed.is_empty() && changed.len() as u64 <= CONFIRMATIONS, "anvil changed {changed:?}");
    poll("the reorg to be followed", || {
        let held = oracle::held(&world.redis, "main");
        (held.len() == 1 && held[0].hi > top && anvil.hashes(held[0].hi).get(&held[0].hi) == Some(&held[0].hash))
            .then_some(())
    });
    whole(world, anvil);
    let files = oracle::files(&world.store("main"));
    for height in changed.iter().filter(|height| **height <= top) {
        let hashes: Vec<&String> = files[height].iter().map(|stored| &stored.hash).collect();
        assert!(hashes.contains(&&old[height]), "the orphan at {height} is gone: {hashes:?}");
    }
}
