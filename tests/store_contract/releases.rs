//! Two releases on one Redis: scripts with other texts work side by side, and what only the newer one reads is left to
//! it.
//!
//! `old_release/` holds the scripts of an earlier release as they were. They are never edited: a later release must
//! work beside exactly these.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gapless::store::format::{Agreement, Formats};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::{Store, StoreError};
use redis::Value;

use crate::world::{LEASE, World, copy, numbers};

const FENCE: &str = include_str!("old_release/fence.lua");
const DELIVER: &str = include_str!("old_release/deliver.lua");
const INTERVALS: &str = include_str!("old_release/intervals.lua");

/// A script of the old release, as it was composed.
fn script(parts: &[&str]) -> String {
    format!("#!lua flags=allow-oom\n{}", parts.join("\n"))
}

fn acquire_text() -> String {
    script(&[FENCE, DELIVER, include_str!("old_release/acquire.lua")])
}

fn read_text() -> String {
    script(&[FENCE, DELIVER, include_str!("old_release/read.lua")])
}

fn commit_text() -> String {
    script(&[FENCE, DELIVER, INTERVALS, include_str!("old_release/commit.lua")])
}

fn release_text() -> String {
    script(&[include_str!("old_release/release.lua")])
}

/// A holder of the old release, which speaks to Redis with its own scripts.
struct Old<'a> {
    world: &'a World,
    actor: &'a str,
    slot: &'static str,
    token: String,
    owner: String,
    tip: String,
    serial: u32,
}

fn words(value: Value) -> Vec<String> {
    let Value::Array(values) = value else { panic!("no row: {value:?}") };
    values.into_iter().map(|value| redis::from_redis_value(value).unwrap_or_default()).collect()
}

impl<'a> Old<'a> {
    fn new(world: &'a World, actor: &'a str, slot: &'static str) -> Self {
        let none = String::new;
        Self { world, actor, slot, token: none(), owner: none(), tip: none(), serial: 0 }
    }

    /// The checkpoint's name: of an exclusive unit, or of a slot.
    fn unit(&self) -> String {
        match self.slot.strip_prefix("slot") {
            Some(slot) => format!("{}/{slot}", self.actor),
            None => self.actor.to_owned(),
        }
    }

    fn run(&self, text: &str, keys: &[String], args: &[&str]) -> Vec<String> {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(text).arg(keys.len()).arg(keys).arg(args);
        words(cmd.query(&mut self.world.server.connection()).expect("the script runs"))
    }

    fn key(&self, kind: &str) -> String {
        format!("t:{{selftest.laws}}:{kind}:{}", self.unit())
    }

    fn fresh(&mut self) -> String {
        self.serial += 1;
        format!("{}-{}", self.actor, self.serial)
    }

    /// As the old release acquires: it knows format 1, and names twelve arguments.
    fn acquire(&mut self) -> Vec<String> {
        let (owner, tip) = (self.fresh(), self.fresh());
        let facts = "t:{selftest.laws}:facts".to_owned();
        let keys = [self.key("ck"), self.key("exp"), facts, self.world.mailbox(self.actor), self.key("hist")];
        let (cluster, lease) = (self.world.store.cluster.to_string(), LEASE.as_millis().to_string());
        let args = [&owner, "", "old", &lease, &tip, &cluster, "1", self.slot, "none", "", "32", "0"];
        let answer = self.run(&acquire_text(), &keys, &args);
        if answer[0] == "OK" {
            (self.token, self.owner, self.tip) = (answer[1].clone(), owner, tip);
        }
        answer
    }

    /// Reads, and answers the ids of what it was served, as the stream has them.
    fn read(&mut self) -> Vec<String> {
        let tip = self.fresh();
        let keys = [self.key("ck"), self.world.mailbox(self.actor)];
        let args = [&self.token, &self.owner, &self.tip, &tip, self.slot, "10", "100000"];
        let answer = self.run(&read_text(), &keys, &args);
        if answer[0] == "OK" && answer[1] == "1" {
            self.tip = tip;
        }
        answer
    }

    fn release(&mut self) -> Vec<String> {
        self.run(&release_text(), &[self.key("ck"), self.key("exp")], &[&self.token, &self.owner])
    }

    /// Acknowledges up to an entry, and puts a number out, as the old release commits.
    fn commit(&mut self, last: &str, entries: u64, n: u64) -> Vec<String> {
        let tip = self.fresh();
        let output = "t:{selftest.laws}:out:out".to_owned();
        let keys = [self.key("ck"), self.world.mailbox(self.actor), self.key("hist"), output];
        let behind = match last.split_once('-') {
            Some((ms, seq)) => format!("{ms}-{}", seq.parse::<u64>().expect("an id") + 1),
            None => String::new(),
        };
        let (entries, n) = (entries.to_string(), n.to_string());
        let state = format!("{{\"last\":{n}}}");
        let head = [&self.token, &self.owner, &self.tip, &tip, &state, last, &behind, &entries, self.slot];
        let tail = ["0", "0", "0", "32", "1", "send", "6", "4", "0", "1", "2", "n", &n];
        let answer = self.run(&commit_text(), &keys, &[&head[..], &tail[..]].concat());
        if answer[0] == "OK" {
            self.tip = tip;
        }
        answer
    }
}

/// The ids that wait in a mailbox.
fn ids(world: &World, actor: &str) -> Vec<String> {
    let entries: Vec<(String, Vec<String>)> =
        redis::from_redis_value(world.server.command(&["XRANGE", &world.mailbox(actor), "-", "+"])).expect("entries");
    entries.into_iter().map(|(id, _)| id).collect()
}

/// The store of a release that reads up to `newest`, and has agreed with all nodes to write `writes`.
fn release(world: &World, newest: u64, writes: u64) -> Store {
    let formats = Arc::new(Formats::new(newest));
    Agreement::default().see(&formats, writes, Instant::now(), Duration::ZERO);
    Store { node: "new".to_owned(), formats, ..world.store.clone() }
}

async fn acquired(world: &World, store: &Store, actor: &str) -> Result<Lease, StoreError> {
    Lease::acquire(store, &world.link, &world.unit(actor), Mail::Offset, None, &Fate::Clean).await
}

fn needs(world: &World, key: &str) -> Option<String> {
    redis::from_redis_value(world.server.command(&["HGET", key, "needs"])).expect("a field")
}

#[test]
fn the_scripts_of_the_old_release_are_as_they_were() {
    let digest = |text: &str| sha1_smol::Sha1::from(text).hexdigest();
    assert_eq!(digest(&acquire_text()), "fec81ddf30f9e1cd5834c63036cbfcd2016e1274");
    assert_eq!(digest(&read_text()), "a37a4e55617f0980c3239e1e51c7cdbefc930aef");
    assert_eq!(digest(&commit_text()), "7d3e7a7deee3d1477c8cdd773f549e69e1a13373");
    assert_eq!(digest(&release_text()), "18d6ba871fb74475eb62f41df1b22cbce66dc196");
}

#[actix_rt::test]
async fn nodes_of_two_releases_take_turns_on_one_unit() {
    let world = World::with_lease(LEASE).await;
    world.send_all("tally", 1..=4).await;
    let mut old = Old::new(&world, "tally", "");
    assert_eq!(old.acquire()[0], "OK");
    assert_eq!(old.read()[..2], ["OK", "1"]);
    assert_eq!(old.commit(&ids(&world, "tally")[0], 1, 1)[0], "OK");
    // The new release waits for the lease, goes on behind the old offset, and the old one is fenced.
    let new = world.take_over(&world.unit("tally")).await;
    assert_eq!(new.node_before, "old");
    assert_eq!(new.state(), "{\"last\":1}");
    assert_eq!(numbers(&new.claim().await.expect("a delivery")), [2, 3, 4]);
    assert_eq!(old.commit(&ids(&world, "tally")[0], 1, 99)[0], "FENCED");
    assert_eq!(new.commit(&copy(&new.claim().await.expect("a delivery"))).await, Ok(Committed::Now));
    new.release().await.expect("released");
    // And back: what the new one wrote in format 1, the old one reads.
    world.send("tally", 5).await;
    let answer = old.acquire();
    assert_eq!((answer[0].as_str(), answer[5].as_str()), ("OK", "{\"last\":4}"));
    assert_eq!(old.read()[..2], ["OK", "1"]);
    assert_eq!(old.commit(&ids(&world, "tally")[0], 1, 5)[0], "OK");
    assert_eq!(world.output("out").await, [1, 2, 3, 4, 5]);
}

#[actix_rt::test]
async fn slots_of_two_releases_share_a_pool() {
    let world = World::new().await;
    world.send_all("fixer", 1..=4).await;
    let mut old = Old::new(&world, "fixer", "slot0");
    let new = world.slot("fixer", 1).await;
    assert_eq!(old.acquire()[0], "OK");
    let waiting = ids(&world, "fixer");
    for n in [1, 3] {
        assert_eq!(old.read()[..2], ["OK", "1"]);
        let delivery = new.claim().await.expect("a delivery");
        assert_eq!(numbers(&delivery), [n + 1], "each entry to one slot");
        assert_eq!(old.commit(&waiting[usize::try_from(n - 1).expect("a place")], 1, n)[0], "OK");
        assert_eq!(new.commit(&copy(&delivery)).await, Ok(Committed::Now));
    }
    assert_eq!(world.output("out").await, [1, 2, 3, 4]);
    assert_eq!(ids(&world, "fixer"), Vec::<String>::new());
}

#[actix_rt::test]
async fn a_new_format_is_written_only_when_agreed_and_then_left_to_those_who_read_it() {
    let world = World::new().await;
    let (facts, checkpoint) = ("t:{selftest.laws}:facts", world.checkpoint("tally"));
    // A later release that has seen an old node writes the old format.
    let lease = acquired(&world, &release(&world, 2, 1), "tally").await.expect("free");
    assert_eq!((lease.format(), needs(&world, &checkpoint).as_deref(), needs(&world, facts)), (1, Some("1"), None));
    lease.release().await.expect("released");
    let mut old = Old::new(&world, "tally", "");
    assert_eq!(old.acquire()[0], "OK", "the old release may have it");
    assert_eq!(old.release(), ["OK"]);
    // The old node is gone for good: from the next acquisition on the new format is written.
    let lease = acquired(&world, &release(&world, 2, 2), "tally").await.expect("free");
    assert_eq!((lease.format(), needs(&world, &checkpoint).as_deref()), (2, Some("2")));
    assert_eq!(needs(&world, facts).as_deref(), Some("2"), "messages too may be of the new format");
    lease.release().await.expect("released");
    let before = world.keyspace();
    assert_eq!(old.acquire(), ["TOO_OLD", "2"]);
    let refused = Some(StoreError::TooOld { needs: 2, known: 1 });
    assert_eq!(acquired(&world, &release(&world, 1, 1), "tally").await.err(), refused);
    // A unit that nobody ever held: its mailbox may hold what this release would take for malformed.
    assert_eq!(acquired(&world, &release(&world, 1, 1), "other").await.err(), refused);
    assert_eq!(world.keyspace(), before, "a node that is too old changes nothing");
    // A node of the new release that has not seen the others yet writes what is written already, and nothing older.
    let lease = acquired(&world, &release(&world, 3, 1), "tally").await.expect("free");
    assert_eq!((lease.format(), needs(&world, &checkpoint).as_deref()), (2, Some("2")));
}
