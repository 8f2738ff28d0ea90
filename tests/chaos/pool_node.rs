//! A node of the pool's chaos: the real supervisor and the real GapFixer in a process of its own, over a source that
//! breaks it at heights that the test has planted. It is this test binary again, told by its environment.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gapless::actors::gap_fixer::{FixPlan, GapFixer};
use gapless::actors::turn;
use gapless::config::LogFormat;
use gapless::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use gapless::messages::heights::{Height, HeightRange};
use gapless::simulate::chain::{ChainPlan, SimChain};
use gapless::sinks::BlockFiles;
use gapless::sources::{ChainIdentity, ChainSource, Fetched, SourceError, evm};
use gapless::store::Store;
use gapless::store::lease::Mail;
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::membership::NodeInfo;
use gapless::store::options::StoreOptions;
use gapless::supervisor::life::{Factory, UnitSpec};
use gapless::supervisor::placement::Placement;
use gapless::supervisor::restart::RestartOptions;
use gapless::supervisor::watchdog::WatchdogOptions;
use gapless::supervisor::{self, SupervisorOptions};
use gapless::telemetry::init_logging;
use gapless::telemetry::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};

/// The test that is such a node.
pub const TEST: &str = "pool_node::node";
/// What the chain says it is.
pub const CHAIN_ID: &str = "1337";
/// Everything below is final.
pub const HEAD: u64 = 1_000_000;
/// The longest heights of one turn; a task has more, so that it is sent on.
pub const TURN: u64 = 4;

/// The chain that is collected, and that the truth is computed from.
pub fn chain() -> SimChain {
    SimChain::new(&ChainPlan { seed: 21, block_bytes: 2_000..=2_500, ..ChainPlan::default() })
}

/// The pipeline of the pool.
pub fn pipeline() -> PipelineId {
    PipelineId::new(Kind::Blocks, "p")
}

/// Whether fetching this height panics, always.
pub fn panics(height: Height) -> bool {
    height % 100 == 37
}

/// Whether fetching this height hangs the first time in each process.
fn hangs_once(height: Height) -> bool {
    height % 250 == 111
}

/// The chain, with what the test has planted.
struct Planted {
    chain: SimChain,
    /// Fetching this height ends the process.
    kills: Option<Height>,
    hung: Mutex<HashSet<Height>>,
}

impl ChainSource for Planted {
    fn expect_chain(&self, chain_id: &str) {
        assert_eq!(chain_id, CHAIN_ID);
    }

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        Box::pin(async { Ok(ChainIdentity { chain_id: CHAIN_ID.to_owned() }) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        Box::pin(async { Ok(HEAD) })
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        Box::pin(async { Ok(None) })
    }

    fn distrust(&self, _: &str, _: &str) {}

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            for height in range.lo()..=range.hi() {
                assert!(!panics(height), "a planted panic at height {height}");
                if self.kills == Some(height) {
                    gapless_dies();
                }
                let first = self.hung.lock().unwrap_or_else(PoisonError::into_inner).insert(height);
                if hangs_once(height) && first {
                    std::future::pending::<()>().await;
                }
            }
            if rand::random_ratio(1, 40) {
                let endpoint = "the chain".to_owned();
                return Err(SourceError::Unreachable { endpoint, reason: "a planted outage".to_owned() });
            }
            Ok((range.lo()..=range.hi()).map(|height| Fetched::Block(self.chain.truth(height).into())).collect())
        })
    }
}

/// As the kernel ends a process that has taken all memory.
fn gapless_dies() {
    let me = rustix::process::getpid();
    let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
}

/// What the test tells its nodes.
pub struct Told;

impl Told {
    pub const NAME: &'static str = "POOL_NODE";
    pub const URL: &'static str = "POOL_URL";
    pub const STORE: &'static str = "POOL_STORE";
    pub const SLOTS: &'static str = "POOL_SLOTS";
    pub const KILLS: &'static str = "POOL_KILLS";
    pub const LEASE_MS: &'static str = "POOL_LEASE_MS";
    pub const UNFINISHED: &'static str = "POOL_UNFINISHED";

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().map(|text| text.parse().expect("a number"))
    }
}

#[test]
#[ignore = "a node of the pool's chaos; started by it"]
fn node() {
    let Ok(name) = std::env::var(Told::NAME) else { return };
    actix_rt::System::new().block_on(live(&name));
}

/// A node until SIGTERM, as `gapless run` is one.
async fn live(name: &str) {
    let mut term = signal(SignalKind::terminate()).expect("a signal");
    init_logging("info", LogFormat::Json).expect("a log");
    let options = store_options();
    let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, Patience::Forever);
    let mut store = Store::new("gapless", name, RandomId::default());
    store.cluster = store.claim_cluster(&link, &RandomId::new()).await.expect("a cluster id");
    store.mark_pipeline(&link, &pipeline(), false).await.expect("a mark");
    let slots = u32::try_from(Told::number(Told::SLOTS).expect("slots")).expect("slots");
    let address = Address::new(&pipeline(), "gap_fixer").to_string();
    let me = NodeInfo {
        name: name.to_owned(),
        incarnation: RandomId::new(),
        format: gapless::store::format::newest(),
        runs: vec![address.clone()],
        slots: BTreeMap::from([(address, slots)]),
        ..NodeInfo::default()
    };
    let specs = pool(slots, me.incarnation.as_str());
    let (handle, ended) =
        supervisor::start(supervision(), store, &link, Metrics::new(), me, specs).expect("a watchdog's thread");
    term.recv().await;
    handle.drain();
    let ended = ended.await.expect("an end");
    tracing::info!(?ended, "drained; good-bye");
}

fn store_options() -> StoreOptions {
    let ms = Duration::from_millis;
    let mut options = StoreOptions::at(&std::env::var(Told::URL).expect("a url"));
    options.lease = ms(Told::number(Told::LEASE_MS).unwrap_or(1000));
    (options.connect_timeout, options.command_timeout, options.lease_timeout) = (ms(300), ms(400), ms(150));
    (options.reconnect_min, options.reconnect_max) = (ms(5), ms(100));
    if let Some(limit) = Told::number(Told::UNFINISHED) {
        options.limits.unfinished_attempts_max = limit;
    }
    options
}

fn supervision() -> SupervisorOptions {
    let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
    SupervisorOptions {
        workers: 2,
        turn_grace: ms(300),
        drain: seconds(5),
        restart: RestartOptions {
            backoff_min: ms(5),
            backoff_max: ms(50),
            healthy: seconds(60),
            restarts_max: 1000,
            group_restarts_max: 1000,
            window: seconds(60),
            cooldown: seconds(2),
            cooldown_max: seconds(2),
        },
        watchdog: WatchdogOptions { hang: seconds(1), blocked: seconds(1), blocked_exit: seconds(3) },
        ..SupervisorOptions::default()
    }
}

fn pool(slots: u32, incarnation: &str) -> Vec<UnitSpec> {
    let folder = PathBuf::from(std::env::var(Told::STORE).expect("a store"));
    let files = BlockFiles::open(&folder, incarnation, evm::identity, 4).expect("a store");
    let source = Arc::new(Planted { chain: chain(), kills: Told::number(Told::KILLS), hung: Mutex::default() });
    let plan = FixPlan {
        confirmations: 10,
        task_heights: TURN,
        batch: 2,
        capacity: 100_000,
        tries_max: 3,
        pause_min: Duration::from_millis(5),
        pause_max: Duration::from_millis(10),
        endpoints: 1,
        ..FixPlan::default()
    };
    let factory: Factory = Arc::new(move |unit| {
        let (source, files, suspects) = (source.clone(), files.clone(), Arc::default());
        turn::live(GapFixer { unit, source, files, plan: plan.clone(), suspects })
    });
    let slot = |slot| UnitSpec {
        id: UnitId::slot(&pipeline(), "gap_fixer", slot),
        mail: Mail::Pool,
        placement: Placement::Shared,
        idle_poll: Duration::from_secs(1),
        factory: factory.clone(),
    };
    (0..slots).map(slot).collect()
}
