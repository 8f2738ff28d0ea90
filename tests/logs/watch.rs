//! One watcher in this process: lives of its unit, one after the other, as the supervisor begins them; cut, held still or
//! fenced where a test says so.

use std::cell::{Ref, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapless::actors::log_watcher::{LogWatcher, WatchPlan};
use gapless::actors::turn::crash::{CrashPoint, Hold};
use gapless::actors::turn::{self, Exit, Unit};
use gapless::ids::{Kind, PipelineId, RandomId, UnitId};
use gapless::sources::files::{FilesOptions, LogFiles};
use gapless::store::Store;
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;
use gapless::telemetry::metrics::Metrics;

use crate::support::redis::RedisServer;

/// One Redis, for many pipelines.
pub struct Site {
    redis: RefCell<RedisServer>,
    looks: RefCell<redis::Connection>,
    pub store: Store,
    pub metrics: Arc<Metrics>,
}

fn link(redis: &RedisServer) -> Link {
    let mut options = StoreOptions::at(&redis.url());
    options.lease = Duration::from_millis(200);
    options.command_timeout = Duration::from_secs(2);
    options.reconnect_min = Duration::from_millis(5);
    options.reconnect_max = Duration::from_millis(50);
    Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, Patience::Forever)
}

impl Site {
    pub async fn new() -> Self {
        let settings = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
        let redis = RedisServer::with(&settings);
        let link = link(&redis);
        let mut store = Store::new("t", "node-a", RandomId::default());
        store.cluster = store.claim_cluster(&link, &RandomId::new()).await.expect("a cluster id");
        let looks = RefCell::new(redis.connection());
        Self { redis: RefCell::new(redis), looks, store, metrics: Metrics::new() }
    }

    /// The server, to look at.
    pub fn redis(&self) -> Ref<'_, RedisServer> {
        self.redis.borrow()
    }

    /// A link of its own, as each process has one.
    pub fn link(&self) -> Link {
        link(&self.redis())
    }

    /// `kill -9` of the server, and its next start. Of its append-only file, `change` may take the end away.
    pub fn kill_redis(&self, change: impl FnOnce(&Path)) {
        let (file, _) = self.append_only_file();
        let mut redis = self.redis.borrow_mut();
        redis.kill();
        change(&file);
        crate::support::chaos::restart(&mut redis);
        self.looks.replace(redis.connection());
    }

    /// A pipeline that nobody has used.
    pub async fn pipeline(&self, name: &str) -> PipelineId {
        let pipeline = PipelineId::new(Kind::Logs, name);
        self.store.mark_pipeline(&self.link(), &pipeline, false).await.expect("a mark");
        pipeline
    }

    /// The key of the stream of lines.
    pub fn stream(&self, pipeline: &PipelineId) -> String {
        self.store.keys.output(pipeline, "lines")
    }

    /// Entries of the stream of lines.
    pub fn length(&self, pipeline: &PipelineId) -> u64 {
        redis::cmd("XLEN").arg(self.stream(pipeline)).query(&mut *self.looks.borrow_mut()).expect("a length")
    }

    /// The file that Redis writes every command to, and its size once nothing waits to be written there.
    pub fn append_only_file(&self) -> (std::path::PathBuf, u64) {
        let folder = self.redis().folder().join("appendonlydir");
        loop {
            let info = self.redis().text(&["INFO", "persistence"]);
            if info.contains("aof_buffer_length:0\r") {
                let files = std::fs::read_dir(folder).expect("its folder").map(|entry| entry.expect("an entry").path());
                let file = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().expect("a file");
                let size = std::fs::metadata(&file).expect("its size").len();
                return (file, size);
            }
        }
    }
}

/// Files as these tests follow them: looked at often, and finished soon.
pub fn files(paths: Vec<String>, change: impl FnOnce(&mut FilesOptions)) -> LogFiles {
    let mut options = FilesOptions {
        poll: Duration::from_millis(15),
        poll_only: Duration::from_millis(10),
        rotate_wait: Duration::from_millis(300),
        ..FilesOptions::new("logs.x", paths)
    };
    change(&mut options);
    LogFiles::new(options).expect("files")
}

/// The pattern of one file, and of what rotation makes of it.
pub fn pattern(path: &Path, with_rotated: bool) -> String {
    format!("{}{}", path.display(), if with_rotated { "*" } else { "" })
}

/// What the lives of a watcher share.
#[derive(Clone)]
pub struct Watched {
    pub site: Rc<Site>,
    pub pipeline: PipelineId,
    pub files: LogFiles,
    pub plan: Arc<WatchPlan>,
}

/// A watcher at work.
pub struct Watcher {
    unit: Rc<RefCell<Option<Arc<Unit>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    pub fn unit_id(&self) -> UnitId {
        UnitId::exclusive(&self.pipeline, "log_watcher")
    }

    /// Begins lives, one after the other, until one is drained. `previous` is what a supervisor of the same node knows.
    pub fn begin(&self, previous: Option<RandomId>) -> Watcher {
        let unit = Rc::new(RefCell::new(None));
        let (watched, seen) = (self.clone(), unit.clone());
        let task = actix_rt::spawn(async move { watched.lives(previous, &seen).await });
        Watcher { unit, task }
    }

    async fn lives(self, mut previous: Option<RandomId>, seen: &RefCell<Option<Arc<Unit>>>) {
        let Self { site, files, plan, .. } = &self;
        let link = site.link();
        loop {
            let acquired =
                Lease::acquire(&site.store, &link, &self.unit_id(), Mail::Offset, previous.as_ref(), &Fate::Clean)
                    .await;
            let Ok(lease) = acquired else {
                // Another holds it; its lease runs out.
                crate::support::wait::step().await;
                continue;
            };
            previous = Some(lease.held().owner);
            let unit = Unit::new(lease, site.metrics.clone(), Duration::from_millis(30));
            seen.replace(Some(unit.clone()));
            unit.point(CrashPoint::AfterAcquire).await;
            turn::live(LogWatcher::new(unit.clone(), files.clone(), plan.clone())).await;
            match unit.exit() {
                Some(Exit::Drained) => {
                    unit.point(CrashPoint::BeforeRelease).await;
                    let _ = unit.lease.release().await;
                    return;
                }
                Some(Exit::Reload(_)) => {}
                other => panic!("{}: {other:?}", self.pipeline),
            }
        }
    }
}

impl Watcher {
    fn unit(&self) -> Option<Arc<Unit>> {
        self.unit.borrow().clone()
    }

    /// The incarnation that holds the unit, as its supervisor knows it.
    pub fn owner(&self) -> Option<RandomId> {
        self.unit().map(|unit| unit.lease.held().owner)
    }

    /// Whether it found nothing more to do.
    pub fn is_asleep(&self) -> bool {
        self.unit().is_some_and(|unit| unit.is_asleep())
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks for the orderly end.
    pub fn drain(&self) {
        if let Some(unit) = self.unit() {
            unit.drain();
        }
    }

    /// What it is doing, for the message of a failed test.
    pub fn state(&self) -> String {
        let Some(unit) = self.unit() else { return "no life yet".to_owned() };
        format!("exit {:?}, waiting {:?}, watched {:?}", unit.exit(), unit.waiting(), unit.watched())
    }

    /// The orderly end; says whether it came.
    pub async fn drained(self) -> bool {
        for _ in 0..700 {
            // It may be between two lives.
            self.drain();
            if self.is_finished() {
                self.task.await.expect("an orderly end");
                return true;
            }
            crate::support::wait::step().await;
        }
        println!("does not drain: {}", self.state());
        false
    }

    /// Ends it where it stands.
    pub async fn cut(self) {
        self.task.abort();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Arms a hold.
pub fn hold(pipeline: &PipelineId, point: CrashPoint, nth: u64) -> Arc<Hold> {
    Hold::at(pipeline, point, nth)
}
