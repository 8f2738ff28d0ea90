//! One Redis, one pipeline, and the handles of a node: where every law is tried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gapless::ids::{Address, EntryId, Kind, PipelineId, RandomId, Token, UnitId};
use gapless::messages::tally::TallyMessage;
use gapless::store::effect::{Ack, Commit, Effect, Outgoing};
use gapless::store::lease::{Delivery, Fate, Lease, Mail};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::membership::UnitSeen;
use gapless::store::options::StoreOptions;
use gapless::store::{Store, StoreError};

use crate::support::redis::RedisServer;
use crate::support::wait;

/// How long a lease lives in these tests, unless a test says otherwise.
pub const LEASE: Duration = Duration::from_millis(250);

/// A lease that outlives any test: nothing but the named cause can end it.
pub const LONG_LEASE: Duration = Duration::from_secs(60);

pub struct World {
    pub server: RedisServer,
    pub link: Link,
    pub store: Store,
    pub pipeline: PipelineId,
}

/// Options of a node in these tests: quick to try again.
pub fn options(url: &str, lease: Duration) -> StoreOptions {
    let mut options = StoreOptions::at(url);
    options.lease = lease;
    options.reconnect_min = Duration::from_millis(2);
    options.reconnect_max = Duration::from_millis(20);
    options
}

/// A connection of a node with these options, which waits long enough for anything that a test does.
pub fn link_with(options: StoreOptions) -> Link {
    let patience = Patience::For(Duration::from_secs(15));
    Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience)
}

impl World {
    pub async fn new() -> Self {
        Self::on(RedisServer::start(), LONG_LEASE).await
    }

    pub async fn with_lease(lease: Duration) -> Self {
        Self::on(RedisServer::start(), lease).await
    }

    /// A world with other options than the usual ones.
    pub async fn with_options(change: impl FnOnce(&mut StoreOptions)) -> Self {
        let server = RedisServer::start();
        let mut options = options(&server.url(), LONG_LEASE);
        change(&mut options);
        Self::through(server, link_with(options)).await
    }

    pub async fn on(server: RedisServer, lease: Duration) -> Self {
        let link = link_with(options(&server.url(), lease));
        Self::through(server, link).await
    }

    /// A world whose node reaches the server through `link`, for example a proxy.
    pub async fn through(server: RedisServer, link: Link) -> Self {
        let store = Store::new("t", "node-a", RandomId::new());
        let pipeline = PipelineId::new(Kind::Selftest, "laws");
        store.claim_cluster(&link, &store.cluster).await.expect("a cluster id");
        store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
        Self { server, link, store, pipeline }
    }

    /// The same world as another node sees it.
    pub fn other_store(&self) -> Store {
        Store { node: "node-b".to_owned(), ..self.store.clone() }
    }

    pub fn unit(&self, actor: &str) -> UnitId {
        UnitId::exclusive(&self.pipeline, actor)
    }

    pub fn address(&self, actor: &str) -> Address {
        Address::new(&self.pipeline, actor)
    }

    pub fn mailbox(&self, actor: &str) -> String {
        self.store.keys.mailbox(&self.address(actor))
    }

    pub fn checkpoint(&self, actor: &str) -> String {
        self.store.keys.checkpoint(&self.unit(actor))
    }

    pub async fn acquire(&self, actor: &str) -> Result<Lease, StoreError> {
        Lease::acquire(&self.store, &self.link, &self.unit(actor), Mail::Offset, None, &Fate::Clean).await
    }

    /// Acquires after an acquisition of our own.
    pub async fn again(&self, before: &Lease, fate: &Fate) -> Result<Lease, StoreError> {
        let (unit, owner) = (before.unit().clone(), before.held().owner);
        let mail = if unit.slot.is_some() { Mail::Pool } else { Mail::Offset };
        Lease::acquire(&self.store, before.link(), &unit, mail, Some(&owner), fate).await
    }

    /// Another node waits for the lease to run out.
    pub async fn take_over(&self, unit: &UnitId) -> Lease {
        let store = self.other_store();
        let mail = if unit.slot.is_some() { Mail::Pool } else { Mail::Offset };
        wait::until_some("the lease to run out", || async {
            match Lease::acquire(&store, &self.link, unit, mail, None, &Fate::Clean).await {
                Ok(lease) => Some(lease),
                Err(StoreError::Held { .. }) => None,
                Err(other) => panic!("taking over {unit}: {other}"),
            }
        })
        .await
    }

    pub async fn slot(&self, actor: &str, slot: u32) -> Lease {
        let unit = UnitId::slot(&self.pipeline, actor, slot);
        Lease::acquire(&self.store, &self.link, &unit, Mail::Pool, None, &Fate::Clean).await.expect("a free slot")
    }

    pub async fn send(&self, actor: &str, n: u64) -> EntryId {
        let sent = self.store.send(&self.link, &self.address(actor), 1000, None, &number(n)).await.expect("room");
        match sent {
            gapless::store::mailbox::Sent::As(id) => id,
            gapless::store::mailbox::Sent::Before => panic!("no dedupe id was given"),
        }
    }

    pub async fn send_all(&self, actor: &str, numbers: std::ops::RangeInclusive<u64>) {
        for n in numbers {
            self.send(actor, n).await;
        }
    }

    /// What an output stream holds, as numbers.
    pub async fn output(&self, name: &str) -> Vec<u64> {
        let entries = self.store.output(&self.link, &self.pipeline, name, EntryId::ZERO, 10_000).await;
        entries.expect("an output").iter().map(|e| e.text("n").expect("n").parse().expect("a number")).collect()
    }

    /// One unit as the renewal shows it; renews if `lease` is given.
    pub async fn beat(&self, link: &Link, unit: &UnitId, lease: Option<&Lease>) -> UnitSeen {
        let held: Option<(Token, RandomId)> = lease.map(|lease| (lease.held().token, lease.held().owner));
        let seen = self.store.beat(link, &self.pipeline, &[(unit.clone(), held)]).await.expect("a beat");
        seen.into_iter().next().expect("one unit")
    }

    /// Every key with its value as Redis serialises it: equal means that nothing changed at all.
    pub fn keyspace(&self) -> BTreeMap<String, Vec<u8>> {
        keyspace(&self.server)
    }
}

pub fn keyspace(server: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let mut connection = server.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
    let dump = |connection: &mut redis::Connection, key: &str| {
        redis::cmd("DUMP").arg(key).query::<Vec<u8>>(connection).expect("a dump")
    };
    keys.into_iter().map(|key| (key.clone(), dump(&mut connection, &key))).collect()
}

pub fn number(n: u64) -> Outgoing {
    Outgoing::new(&TallyMessage::Number { n }).expect("a message")
}

/// The number in each entry of a delivery.
pub fn numbers(delivery: &Delivery) -> Vec<u64> {
    let body = |entry: &gapless::store::Entry| entry.text("body").expect("a body");
    let parse = |body: String| serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["n"].as_u64();
    delivery.entries.iter().map(|entry| parse(body(entry)).expect("a number")).collect()
}

pub fn record(n: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(b"n".to_vec(), n.to_string().into_bytes())]
}

pub fn append(output: &str, numbers: &[u64]) -> Effect {
    Effect::Append { output: output.to_owned(), records: numbers.iter().map(|n| record(*n)).collect() }
}

/// Acknowledges a whole delivery.
pub fn ack(delivery: &Delivery) -> Ack {
    Ack::Through { last: delivery.entries.last().expect("an entry").id, count: delivery.entries.len() as u64 }
}

/// The turn that these tests take most: copies a delivery to the output `out` and acknowledges it.
pub fn copy(delivery: &Delivery) -> Commit {
    let state = Some(format!("{{\"last\":{}}}", numbers(delivery).last().expect("an entry")));
    Commit { state, ack: ack(delivery), effects: vec![append("out", &numbers(delivery))] }
}
