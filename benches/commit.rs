//! One turn of an exclusive unit at four sizes: claim n entries, then acknowledge them and send n more in one commit.
//! The mailbox stays at n entries, so the figures do not drift. Against a private Redis that syncs its append-only file
//! once a second. `cargo bench --bench commit`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gapless::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use gapless::store::Store;
use gapless::store::effect::{Ack, Commit, Effect, Outgoing};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;

#[path = "../tests/support/mod.rs"]
mod support;

/// Entries of a turn; the largest is the most that a turn takes by default.
const SIZES: [u64; 4] = [1, 10, 100, 200];
/// Bytes of a message's body.
const BODY_BYTES: usize = 200;

/// A held unit with `entries` messages in its mailbox, and the commit that sends as many again.
async fn held(url: &str, entries: u64) -> (Lease, Commit) {
    let mut options = StoreOptions::at(url);
    options.lease = Duration::from_secs(3600);
    let patience = Patience::For(Duration::from_secs(10));
    let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience);
    let mut store = Store::new("bench", "bench", RandomId::default());
    store.cluster = store.claim_cluster(&link, &RandomId::new()).await.expect("a cluster id");
    let pipeline = PipelineId::new(Kind::Selftest, "bench");
    store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
    let unit = UnitId::exclusive(&pipeline, &format!("of_{entries}"));
    let lease = Lease::acquire(&store, &link, &unit, Mail::Offset, None, &Fate::Clean).await.expect("a free unit");
    let body = format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(BODY_BYTES - 16));
    let message = Outgoing { kind: "number".to_owned(), body };
    let messages = vec![message; usize::try_from(entries).expect("a small number")];
    let to = Address::new(&pipeline, &unit.actor);
    let commit = Commit {
        state: Some("{\"n\":1,\"sum\":1}".to_owned()),
        ack: Ack::Nothing,
        effects: vec![Effect::Send { to, capacity: 2 * entries, messages }],
    };
    lease.commit(&commit).await.expect("the first messages");
    (lease, commit)
}

async fn turn(lease: &Lease, commit: &mut Commit) {
    let delivery = lease.claim().await.expect("a delivery");
    let last = delivery.entries.last().expect("an entry").id;
    commit.ack = Ack::Through { last, count: delivery.entries.len() as u64 };
    black_box(lease.commit(commit).await.expect("a commit"));
}

fn turns(c: &mut Criterion) {
    let server = support::redis::RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("turn");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for size in SIZES {
        let (lease, mut commit) = runtime.block_on(held(&server.url(), size));
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let started = Instant::now();
                    for _ in 0..times {
                        turn(&lease, &mut commit).await;
                    }
                    started.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
