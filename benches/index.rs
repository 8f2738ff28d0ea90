//! The index of ten million held heights with a thousand gaps in a real Redis: what it costs in memory, and how long one
//! look of the detector over all of it takes. `cargo bench --bench index`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gapless::actors::gap_detector::{DetectPlan, GapDetector};
use gapless::actors::turn::Unit;
use gapless::config::GapOrder;
use gapless::ids::{Kind, PipelineId, RandomId, UnitId};
use gapless::messages::block::{BlockHash, Piece};
use gapless::messages::heights::HeightRange;
use gapless::sinks::BlockFiles;
use gapless::sources::evm;
use gapless::store::Store;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;
use gapless::telemetry::metrics::Metrics;

#[path = "../tests/support/mod.rs"]
mod support;

const HEIGHTS: u64 = 10_000_000;
const GAPS: u64 = 1_000;
/// Heights between the beginnings of two gaps, and heights of one gap.
const STRIDE: u64 = HEIGHTS / GAPS;
const GAP: u64 = 10;
const CONFIRMATIONS: u64 = 64;
/// Effects of one commit while the index is built.
const EFFECTS: usize = 200;
const LOOKS: usize = 51;
/// What the index of this chain may take.
const BYTES_MAX: u64 = 1_000_000;

async fn lease(store: &Store, link: &Link, unit: &UnitId) -> Lease {
    Lease::acquire(store, link, unit, Mail::Offset, None, &Fate::Clean).await.expect("a free unit")
}

/// A hash as long as those of real chains.
fn hash(height: u64) -> BlockHash {
    BlockHash::new(&format!("0x{}", blake3::hash(&height.to_le_bytes()).to_hex())).expect("a hash")
}

async fn fill(store: &Store, link: &Link, pipeline: &PipelineId) {
    let lease = lease(store, link, &UnitId::exclusive(pipeline, "collector")).await;
    let piece = |gap: u64| {
        let (lo, hi) = (gap * STRIDE, (gap + 1) * STRIDE - GAP - 1);
        let range = HeightRange::new(lo, hi).expect("a range");
        Effect::Merge(Piece { range, parent: hash(lo.wrapping_sub(1)), hash: hash(hi) })
    };
    let mut effects: Vec<Effect> = (0..GAPS).map(piece).collect();
    effects.push(Effect::Put { field: "start", value: "0".to_owned() });
    effects.push(Effect::Put { field: "head", value: (HEIGHTS - 1 + CONFIRMATIONS).to_string() });
    for effects in effects.chunks(EFFECTS) {
        lease.commit(&Commit { effects: effects.to_vec(), ..Commit::default() }).await.expect("committed");
    }
}

async fn measure() {
    let server = support::redis::RedisServer::start();
    let mut options = StoreOptions::at(&server.url());
    options.lease = Duration::from_secs(3600);
    let patience = Patience::For(Duration::from_secs(10));
    let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience);
    let mut store = Store::new("bench", "bench", RandomId::default());
    store.cluster = store.claim_cluster(&link, &RandomId::new()).await.expect("a cluster id");
    let pipeline = PipelineId::new(Kind::Blocks, "bench");
    store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
    fill(&store, &link, &pipeline).await;

    let usage: u64 = redis::cmd("MEMORY")
        .arg(&["USAGE", &store.keys.held(&pipeline), "SAMPLES", "0"])
        .query(&mut server.connection())
        .expect("the bytes of the index");
    println!("held: {} heights in {GAPS} pieces; the key takes {usage} bytes", HEIGHTS - GAPS * GAP);
    assert!(usage < BYTES_MAX, "the index takes {usage} bytes, more than {BYTES_MAX}");

    let folder = tempfile::tempdir().expect("a folder");
    let files = BlockFiles::open(folder.path(), RandomId::new().as_str(), evm::identity, 1).expect("a store");
    let unit = lease(&store, &link, &UnitId::exclusive(&pipeline, "gap_detector")).await;
    let unit = Unit::new(unit, Metrics::new(), Duration::from_secs(1));
    for order in [GapOrder::Oldest, GapOrder::Newest] {
        let plan = DetectPlan {
            confirmations: CONFIRMATIONS,
            task_heights: 200,
            capacity: GAPS,
            request_age: Duration::from_secs(120),
            order,
            ..DetectPlan::default()
        };
        let detector = GapDetector::new(unit.clone(), files.clone(), plan, Arc::default());
        let mut took = Vec::new();
        for _ in 0..LOOKS {
            let started = Instant::now();
            let seen = detector.survey().await.expect("a look").expect("final heights");
            took.push(started.elapsed());
            assert_eq!((seen.gaps, seen.missing, seen.whole), (GAPS, GAPS * GAP, true));
        }
        took.sort();
        let (median, last) = (took[LOOKS / 2], took[LOOKS - 1]);
        println!("one look, {order:?} first: median {median:.2?}, longest of {LOOKS} {last:.2?}");
    }
}

fn main() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(measure());
}
