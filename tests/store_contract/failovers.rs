//! A failover takes back what the replica had not heard yet: nothing that rests on it may be committed.

use gapless::ids::{EntryId, Kind, PipelineId, RandomId, UnitId};
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::link::Link;
use gapless::store::{Store, StoreError};

use crate::support::replica::Pair;
use crate::world::{LONG_LEASE, append, copy, link_with, number, numbers, options};

struct Cluster {
    pair: Pair,
    link: Link,
    store: Store,
    pipeline: PipelineId,
}

impl Cluster {
    async fn start() -> Self {
        let pair = Pair::start().await;
        let link = link_with(options(&pair.front.url(), LONG_LEASE));
        let store = Store::new("t", "node-a", RandomId::new());
        let pipeline = PipelineId::new(Kind::Selftest, "laws");
        store.claim_cluster(&link, &store.cluster).await.expect("a cluster id");
        store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
        Self { pair, link, store, pipeline }
    }

    fn unit(&self, actor: &str) -> UnitId {
        UnitId::exclusive(&self.pipeline, actor)
    }

    async fn acquire(&self, actor: &str, previous: Option<&Lease>) -> Lease {
        let previous = previous.map(|lease| lease.held().owner);
        let unit = self.unit(actor);
        let taken = Lease::acquire(&self.store, &self.link, &unit, Mail::Offset, previous.as_ref(), &Fate::Clean).await;
        taken.expect("a free unit")
    }

    async fn output(&self) -> Vec<String> {
        let entries = self.store.output(&self.link, &self.pipeline, "out", EntryId::ZERO, 100).await;
        entries.expect("entries").iter().filter_map(|entry| entry.text("n")).collect()
    }

    /// The sender's turn: one number into the reader's mailbox.
    async fn send(&self, sender: &Lease, n: u64) {
        let to = gapless::ids::Address::new(&self.pipeline, "reader");
        let send = Effect::Send { to, capacity: 100, messages: vec![number(n)] };
        let commit = Commit { state: Some(format!("{{\"sent\":{n}}}")), effects: vec![send], ..Commit::default() };
        assert_eq!(sender.commit(&commit).await, Ok(Committed::Now));
    }
}

#[actix_rt::test]
async fn stale_read_after_failover_is_refused_and_everything_is_done_once() {
    let mut cluster = Cluster::start().await;
    let (sender, reader) = (cluster.acquire("sender", None).await, cluster.acquire("reader", None).await);
    cluster.send(&sender, 1).await;
    assert_eq!(reader.commit(&copy(&reader.claim().await.expect("a delivery"))).await, Ok(Committed::Now));
    cluster.pair.caught_up().await;
    cluster.pair.leave_behind();
    cluster.send(&sender, 2).await;
    let delivery = reader.claim().await.expect("a delivery");
    assert_eq!(numbers(&delivery), [2]);
    cluster.pair.fail_over();
    // Owner, token and sequence are what they were; only the tip tells that the entry was never sent.
    let moved = reader.commit(&copy(&delivery)).await;
    assert_eq!(moved, Err(StoreError::Moved { seq: 1 }));
    assert_eq!(cluster.output().await, ["1"]);
    let again = cluster.acquire("reader", Some(&reader)).await;
    assert!(again.claim().await.expect("a delivery").entries.is_empty());
    assert!(again.held().token > reader.held().token, "tokens never repeat");
    // The sender learns of it as well, and sends again.
    let to = gapless::ids::Address::new(&cluster.pipeline, "reader");
    let send = Effect::Send { to, capacity: 100, messages: vec![number(3)] };
    let third = Commit { effects: vec![send], ..Commit::default() };
    assert_eq!(sender.commit(&third).await, Err(StoreError::Moved { seq: 1 }));
    let sender = cluster.acquire("sender", Some(&sender)).await;
    assert_eq!(sender.state(), "{\"sent\":1}");
    cluster.send(&sender, 2).await;
    assert_eq!(again.commit(&copy(&again.claim().await.expect("a delivery"))).await, Ok(Committed::Now));
    assert_eq!(cluster.output().await, ["1", "2"]);
}

#[actix_rt::test]
async fn a_delivery_by_a_commit_that_was_taken_back_is_refused_as_well() {
    let mut cluster = Cluster::start().await;
    let (sender, reader) = (cluster.acquire("sender", None).await, cluster.acquire("reader", None).await);
    cluster.send(&sender, 1).await;
    let first = reader.claim().await.expect("a delivery");
    cluster.pair.caught_up().await;
    cluster.pair.leave_behind();
    cluster.send(&sender, 2).await;
    assert_eq!(reader.commit(&copy(&first)).await, Ok(Committed::Now));
    let second = reader.claim().await.expect("a delivery");
    assert_eq!(numbers(&second), [2]);
    cluster.pair.fail_over();
    assert_eq!(reader.commit(&copy(&second)).await, Err(StoreError::Moved { seq: 0 }));
    let reader = cluster.acquire("reader", Some(&reader)).await;
    assert_eq!(numbers(&reader.claim().await.expect("a delivery")), [1]);
}

#[actix_rt::test]
async fn idle_rollback_seen_at_renewal() {
    let mut cluster = Cluster::start().await;
    let lease = cluster.acquire("idle", None).await;
    cluster.pair.caught_up().await;
    let beat = || async {
        let held = Some((lease.held().token, lease.held().owner));
        let units = [(cluster.unit("idle"), held)];
        cluster.store.beat(&cluster.link, &cluster.pipeline, &units).await.expect("a beat").remove(0)
    };
    cluster.pair.leave_behind();
    let state = Commit { state: Some("{\"done\":true}".to_owned()), ..Commit::default() };
    assert_eq!(lease.commit(&state).await, Ok(Committed::Now));
    let operations = lease.operations();
    let seen = beat().await;
    assert_eq!((seen.renewed, seen.tip), (true, lease.held().tip));
    cluster.pair.fail_over();
    let units = [(cluster.unit("idle"), Some((lease.held().token, lease.held().owner)))];
    let seen = cluster.store.beat(&cluster.link, &cluster.pipeline, &units).await.expect("a beat").remove(0);
    assert!(seen.renewed, "owner and token are older than the failover");
    assert_ne!(seen.tip, lease.held().tip, "the rollback shows");
    assert_eq!((operations % 2, lease.operations()), (0, operations), "and may be compared");
}

#[actix_rt::test]
async fn a_takeover_that_was_taken_back_never_lends_its_token_again() {
    let mut cluster = Cluster::start().await;
    let first = cluster.acquire("tally", None).await;
    cluster.pair.caught_up().await;
    cluster.pair.leave_behind();
    let lost = cluster.acquire("tally", Some(&first)).await;
    cluster.pair.fail_over();
    let heir = cluster.acquire("tally", Some(&first)).await;
    assert!(heir.held().token > lost.held().token);
    let write = Commit { effects: vec![append("out", &[1])], ..Commit::default() };
    assert!(matches!(lost.commit(&write).await, Err(StoreError::Fenced { .. })));
    assert!(matches!(first.commit(&write).await, Err(StoreError::Fenced { .. })));
    assert_eq!(heir.commit(&write).await, Ok(Committed::Now));
}
