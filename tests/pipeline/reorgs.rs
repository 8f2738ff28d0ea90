//! Reorgs at the worst moment: whatever the order, blocks that do not link are never held side by side, and the head is
//! followed. The actors are real, the chain is ours to change, and to stop at any answer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gapless::actors::collector::{Collector, FollowPlan};
use gapless::actors::gap_detector::{DetectPlan, GapDetector};
use gapless::actors::gap_fixer::{FixPlan, GapFixer};
use gapless::actors::turn;
use gapless::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use gapless::messages::block::Block;
use gapless::messages::gap::GapTask;
use gapless::messages::heights::{Height, HeightRange};
use gapless::simulate::chain::SimChain;
use gapless::sinks::BlockFiles;
use gapless::sources::hints::Hints;
use gapless::sources::{Absence, Chain, ChainIdentity, ChainSource, Fetched, SourceError, evm};
use gapless::store::Store;
use gapless::store::effect::Outgoing;
use gapless::store::lease::Mail;
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::membership::NodeInfo;
use gapless::store::options::StoreOptions;
use gapless::supervisor::life::{Factory, UnitSpec};
use gapless::supervisor::placement::Placement;
use gapless::supervisor::{self, SupervisorOptions};
use gapless::telemetry::metrics::Metrics;
use tokio::sync::Notify;

use crate::oracle;
use crate::sim::plan;
use crate::support::redis::RedisServer;
use crate::support::wait;

/// A source that serves one branch, and stops with its answer in hand where it is told to.
pub struct Staged {
    chain: SimChain,
    /// From the first height on it is the second one's branch, else the main one.
    branch: Mutex<(Height, u32)>,
    head: AtomicU64,
    /// Where the ranges that were asked for begin; the first answer is held back until `go`.
    asked: Mutex<BTreeSet<Height>>,
    holds: bool,
    go: Notify,
}

impl Staged {
    pub fn new(branch: u32, head: Height, holds: bool) -> Arc<Self> {
        let chain = SimChain::new(&plan(21, head));
        let (branch, head) = (Mutex::new((0, branch)), AtomicU64::new(head));
        Arc::new(Self { chain, branch, head, asked: Mutex::default(), holds, go: Notify::new() })
    }

    /// The chain goes over to another branch, and has grown.
    pub fn turn(&self, from: Height, branch: u32, head: Height) {
        *self.branch.lock().expect("the branch") = (from, branch);
        self.head.store(head, Ordering::SeqCst);
    }

    /// The block of the chain as it is now. The lowest of a branch stands on the main one.
    fn block(&self, height: Height) -> Block {
        let (from, branch) = *self.branch.lock().expect("the branch");
        if height < from {
            return self.chain.truth(height).into();
        }
        let mut block = self.chain.block(height, branch);
        if height == from && from > 0 {
            let parent = self.chain.truth(height - 1).hash;
            let text = String::from_utf8(block.raw.to_vec()).expect("text");
            block.raw = text.replace(block.parent.as_str(), parent.as_str()).into();
            block.parent = parent;
        }
        block.into()
    }
}

impl ChainSource for Staged {
    fn expect_chain(&self, _: &str) {}

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        Box::pin(async { Ok(ChainIdentity { chain_id: "1337".to_owned() }) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        Box::pin(async { Ok(self.head.load(Ordering::SeqCst)) })
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        Box::pin(async { Ok(None) })
    }

    fn distrust(&self, _: &str, _: &str) {}

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(async move {
            let first = {
                let mut asked = self.asked.lock().expect("the list");
                asked.insert(range.lo()) && asked.len() == 1
            };
            if self.holds && first {
                self.go.notified().await;
            }
            let head = self.head.load(Ordering::SeqCst);
            let answer = |height| match height <= head {
                true => Fetched::Block(self.block(height)),
                false => Fetched::Absent(height, Absence::Unknown),
            };
            Ok((range.lo()..=range.hi()).map(answer).collect())
        })
    }
}

/// What a Collector of these tests follows: a chain whose ten newest blocks may change, looked at all the time.
pub fn follow_plan() -> FollowPlan {
    FollowPlan {
        start: Some(0),
        end: None,
        chain_id: None,
        confirmations: 10,
        turn: 60,
        batch: 20,
        ahead: Duration::from_secs(60),
        poll: Duration::from_millis(20),
        capacity: 100,
    }
}

/// A Redis, a folder and real units on them.
pub struct Stage {
    pub redis: RedisServer,
    pub folder: tempfile::TempDir,
    pub link: Link,
    pub store: Store,
    pub pipeline: PipelineId,
    pub metrics: Arc<Metrics>,
}

impl Stage {
    pub async fn new() -> Self {
        let redis = RedisServer::start();
        let mut options = StoreOptions::at(&redis.url());
        options.lease = Duration::from_secs(5);
        let patience = Patience::For(Duration::from_secs(15));
        let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience);
        let store = Store::new("t", "one", RandomId::new());
        let pipeline = PipelineId::new(Kind::Blocks, "main");
        store.claim_cluster(&link, &store.cluster).await.expect("a cluster id");
        store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
        store.fact_once(&link, &pipeline, "chain_id", "1337").await.expect("a fact");
        let (folder, metrics) = (tempfile::tempdir().expect("a folder"), Metrics::new());
        Self { redis, folder, link, store, pipeline, metrics }
    }

    pub fn files(&self) -> BlockFiles {
        BlockFiles::open(self.folder.path(), RandomId::new().as_str(), evm::identity, 2).expect("a store")
    }

    /// Runs units on a supervisor of their own; they end with the actix system of the test.
    pub fn run(&self, id: UnitId, mail: Mail, placement: Placement, factory: Factory) -> supervisor::Handle {
        let me = NodeInfo {
            name: "one".to_owned(),
            incarnation: RandomId::new(),
            runs: vec![Address::new(&id.pipeline, &id.actor).to_string()],
            format: 1,
            ..NodeInfo::default()
        };
        let spec = UnitSpec { id, mail, placement, idle_poll: Duration::from_millis(200), factory };
        let options = SupervisorOptions { workers: 1, ..SupervisorOptions::default() };
        let running = supervisor::start(options, self.store.clone(), &self.link, self.metrics.clone(), me, vec![spec]);
        running.expect("a supervisor").0
    }

    fn collector(&self, source: Arc<Staged>, start: Option<Height>, end: Option<Height>) -> supervisor::Handle {
        self.follow(source, FollowPlan { start, end, ..follow_plan() }, None)
    }

    /// A Collector over any source, with hints or without.
    pub fn follow(&self, source: Chain, plan: FollowPlan, hints: Option<Arc<Hints>>) -> supervisor::Handle {
        let files = self.files();
        let factory: Factory = Arc::new(move |unit| {
            turn::live(Collector::new(unit, source.clone(), files.clone(), plan.clone(), hints.clone()))
        });
        let id = UnitId::exclusive(&self.pipeline, "collector");
        self.run(id, Mail::Offset, Placement::Exclusive, factory)
    }

    /// A GapDetector and one slot of the pool.
    pub fn fill(&self, source: Chain) -> [supervisor::Handle; 2] {
        let plan = DetectPlan {
            confirmations: 10,
            end: None,
            task_heights: 200,
            capacity: 100,
            request_age: Duration::from_secs(5),
            again: Duration::from_millis(20),
            rollback_horizon: Duration::from_secs(600),
            ..DetectPlan::default()
        };
        let files = self.files();
        let factory: Factory =
            Arc::new(move |unit| turn::live(GapDetector::new(unit, files.clone(), plan.clone(), Arc::default())));
        let id = UnitId::exclusive(&self.pipeline, "gap_detector");
        [self.run(id, Mail::Offset, Placement::Exclusive, factory), self.fixer(source)]
    }

    fn fixer(&self, source: Chain) -> supervisor::Handle {
        self.fixer_of(source, 1, 2)
    }

    /// One slot of the pool on a source of so many endpoints.
    pub fn fixer_of(&self, source: Chain, endpoints: usize, tries_max: u32) -> supervisor::Handle {
        let fix = FixPlan {
            confirmations: 10,
            task_heights: 200,
            batch: 20,
            capacity: 100,
            tries_max,
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_millis(20),
            endpoints,
            distrust_for: Duration::from_secs(600),
        };
        let files = self.files();
        let factory: Factory = Arc::new(move |unit| {
            let (source, files, plan, suspects) = (source.clone(), files.clone(), fix.clone(), Arc::default());
            turn::live(GapFixer { unit, source, files, plan, suspects })
        });
        let id = UnitId::slot(&self.pipeline, "gap_fixer", 0);
        self.run(id, Mail::Pool, Placement::Shared, factory)
    }

    /// Waits until one piece is held whose highest block is the source's of now.
    pub async fn wait_followed(&self, source: &Staged, lo: Height, hi: Height) {
        wait::until_true(&format!("{lo}..{hi} of the new branch"), || {
            let held = oracle::held(&self.redis, "main");
            let top = source.block(hi).id.hash;
            matches!(&held[..], [one] if (one.lo, one.hi) == (lo, hi) && one.hash == top.as_str())
        })
        .await;
        let files = oracle::files(self.folder.path());
        for height in lo..=hi {
            let block = source.block(height);
            assert!(files[&height].iter().any(|stored| stored.raw == block.raw), "height {height}");
        }
    }

    /// Sends a task whose highest height is just final.
    pub async fn ask(&self, lo: Height, hi: Height) {
        let head = (hi + 10).to_string();
        self.store.fact_once(&self.link, &self.pipeline, "head", &head).await.expect("a fact");
        let task = GapTask::Fill { range: HeightRange::new(lo, hi).expect("a range"), tries: 0 };
        let to = Address::new(&self.pipeline, "gap_fixer");
        let message = Outgoing::new(&task).expect("a message");
        self.store.send(&self.link, &to, 100, None, &message).await.expect("sent");
    }
}

#[actix_rt::test]
async fn link_race_with_reorg() {
    let stage = Stage::new().await;
    let (old, new) = (Staged::new(0, 109, true), Staged::new(1, 109, false));
    // An earlier commit of the collector made 99 the highest final height.
    stage.store.fact_once(&stage.link, &stage.pipeline, "head", "109").await.expect("a fact");
    stage.ask(90, 99).await;
    let _fixer = stage.fixer(old.clone());
    wait::until_true("the old branch to be fetched", || old.asked.lock().expect("the list").contains(&90)).await;
    // While the fixer has 90..99 of the old branch in hand, the collector commits 100.. of the new one.
    let _collector = stage.collector(new.clone(), Some(0), None);
    wait::until_true("the new branch to be held", || oracle::bounds(&stage.redis, "main") == [(100, 109)]).await;
    old.go.notify_one();
    wait::until_true("the task to be settled", || {
        let held: u64 = oracle::bounds(&stage.redis, "main").iter().map(|(lo, hi)| hi + 1 - lo).sum();
        let parked: u64 = oracle::parked(&stage.redis, "main").iter().map(|(lo, hi, _)| hi + 1 - lo).sum();
        held + parked == 20
    })
    .await;
    let held = oracle::held(&stage.redis, "main");
    assert_eq!(oracle::bounds(&stage.redis, "main"), [(90, 98), (100, 109)]);
    assert_eq!(held[0].hash, old.chain.block(98, 0).hash.as_str());
    assert_eq!(held[1].parent, old.chain.block(99, 1).hash.as_str());
    let parked = oracle::parked(&stage.redis, "main");
    let [(99, 99, reason)] = &parked[..] else { panic!("{parked:?}") };
    let (theirs, ours) = (old.chain.block(99, 1).hash, old.chain.block(99, 0).hash);
    assert!(reason.contains(&format!("links disagree: 100 names the parent {theirs}, but 99 is {ours}")), "{reason}");
    actix_rt::System::current().stop();
}

/// Blocks of a window that has just begun, or of one whose every block leaves: as deep as finality allows, no deeper.
#[actix_rt::test]
async fn a_young_window_follows_a_reorg() {
    let stage = Stage::new().await;
    let chain = Staged::new(0, 109, false);
    let _collector = stage.collector(chain.clone(), None, None);
    stage.wait_followed(&chain, 109, 109).await;
    // `start = "latest"`: the only block leaves, and nothing below it is wanted.
    chain.turn(105, 1, 110);
    stage.wait_followed(&chain, 109, 110).await;
    // The whole window leaves at its lowest block, which stays the lowest.
    chain.turn(109, 2, 112);
    stage.wait_followed(&chain, 109, 112).await;
    // The orphans' files are kept.
    assert_eq!(oracle::files(stage.folder.path())[&109].len(), 3);
    actix_rt::System::current().stop();
}

/// The highest wanted block is watched until it is final, though nothing above it is collected.
#[actix_rt::test]
async fn the_end_follows_a_reorg_until_it_is_final() {
    let stage = Stage::new().await;
    let chain = Staged::new(0, 109, false);
    let _collector = stage.collector(chain.clone(), Some(100), Some(109));
    stage.wait_followed(&chain, 100, 109).await;
    chain.turn(107, 1, 111);
    stage.wait_followed(&chain, 100, 109).await;
    chain.turn(107, 1, 119);
    wait::until_true("the head that makes the end final", || oracle::fact(&stage.redis, "main", "head") == "119").await;
    // Too late: what is final stays.
    let before = oracle::held(&stage.redis, "main");
    chain.turn(105, 2, 130);
    let asked = chain.asked.lock().expect("the list").clone();
    assert_eq!(oracle::held(&stage.redis, "main"), before);
    assert!(!asked.contains(&110), "above the end nothing is wanted: {asked:?}");
    actix_rt::System::current().stop();
}

/// A checkpoint that was rewound knows less than the index: the heights are followed once more, and end up held.
#[actix_rt::test]
async fn a_rewound_window_is_followed_again() {
    let stage = Stage::new().await;
    let chain = Staged::new(0, 109, false);
    let unit = UnitId::exclusive(&stage.pipeline, "collector");
    let collector = stage.collector(chain.clone(), Some(90), None);
    stage.wait_followed(&chain, 100, 109).await;
    chain.turn(0, 0, 112);
    stage.wait_followed(&chain, 100, 112).await;
    collector.drain();
    wait::until_true("the drain", || collector.me.has_changed().is_err()).await;
    let ck = stage.store.keys.checkpoint(&unit);
    stage.redis.command(&["HSET", &ck, "state", ""]);
    chain.turn(0, 0, 115);
    let _collector = stage.collector(chain.clone(), Some(90), None);
    stage.wait_followed(&chain, 100, 115).await;
    actix_rt::System::current().stop();
}
