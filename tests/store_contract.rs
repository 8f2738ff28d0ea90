//! The laws of mailbox, checkpoint, lease and commit, against a real Redis.

mod support;

use std::sync::Arc;
use std::time::Duration;

use gapless::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use gapless::messages::tally::TallyMessage;
use gapless::store::effect::{Ack, Commit, Effect, Outgoing};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;
use gapless::store::{Store, StoreError};
use support::redis::RedisServer;

/// One Redis, one pipeline, and the handles of a node.
struct World {
    server: RedisServer,
    link: Link,
    store: Store,
    pipeline: PipelineId,
}

impl World {
    async fn new() -> Self {
        let server = RedisServer::start();
        let mut options = StoreOptions::at(&server.url());
        options.lease = Duration::from_millis(300);
        let patience = Patience::For(Duration::from_secs(10));
        let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience);
        let store = Store::new("t", "node-a", RandomId::new());
        let pipeline = PipelineId::new(Kind::Selftest, "laws");
        store.claim_cluster(&link, &store.cluster).await.expect("a cluster id");
        store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
        Self { server, link, store, pipeline }
    }

    fn unit(&self, actor: &str) -> UnitId {
        UnitId::exclusive(&self.pipeline, actor)
    }

    async fn acquire(&self, actor: &str) -> Result<Lease, StoreError> {
        Lease::acquire(&self.store, &self.link, &self.unit(actor), Mail::Offset, None, &Fate::Clean).await
    }

    async fn send(&self, actor: &str, n: u64) {
        let message = Outgoing::new(&TallyMessage::Number { n }).expect("a message");
        let to = Address::new(&self.pipeline, actor);
        self.store.send(&self.link, &to, 1000, None, &message).await.expect("sent");
    }
}

#[actix_rt::test]
async fn a_commit_moves_offset_state_and_output_together() {
    let world = World::new().await;
    for n in 1..=3 {
        world.send("tally", n).await;
    }
    let lease = world.acquire("tally").await.expect("a free unit");
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!(delivery.entries.len(), 3);
    let commit = Commit {
        state: Some("{\"sum\":6}".to_owned()),
        ack: Ack::Through { last: delivery.entries[2].id, count: 3 },
        effects: vec![Effect::Append {
            output: "tally".to_owned(),
            records: vec![vec![(b"n".to_vec(), b"6".to_vec())]],
        }],
    };
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    assert!(lease.claim().await.expect("a delivery").entries.is_empty());
    let again = world.acquire("tally").await;
    assert!(matches!(again, Err(StoreError::Held { .. })), "the lease still holds");
    let shown = world.store.checkpoint(&world.link, &world.unit("tally")).await.expect("an answer").expect("stored");
    assert_eq!((shown.seq, shown.state.as_str()), (1, "{\"sum\":6}"));
    assert_eq!(shown.offset, delivery.entries[2].id.to_string());
}
