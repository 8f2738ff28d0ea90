//! The suite: each law once, for any actor, in this process and against a real Redis.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use gapless::actors::turn::{Exit, Unit};
use gapless::ids::{Address, EntryId, Kind, PipelineId, RandomId, UnitId};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;
use gapless::store::{Entry, Store, StoreError};
use gapless::telemetry::metrics::Metrics;

use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::support::wait;

/// An actor under test. `units` of work are whatever the actor deals with: messages, heights, gaps.
pub trait Subject {
    /// Its name, as in its address.
    const ACTOR: &'static str;
    /// How it reads its mailbox.
    const MAIL: Mail = Mail::Offset;

    /// The actor and its world outside Redis, with no work to do.
    fn new(site: &Site) -> impl Future<Output = Self>;

    /// Gives it `units` more units of work; only lives that begin afterwards must see them.
    fn offer(&mut self, site: &Site, units: u64) -> impl Future<Output = ()>;

    /// Builds the actor as its factory does, and answers its life.
    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()>;

    /// What it has put out so far, in its order.
    fn done(&self, site: &Site) -> impl Future<Output = Vec<String>>;

    /// What `units` units of work amount to, computed without the actor.
    fn truth(units: u64) -> Vec<String>;

    /// Takes its world away, or gives it back. Redis is the world of an actor that has no other.
    fn world_down(&self, site: &Site, down: bool);
}

/// One Redis behind a proxy, one pipeline, one node.
pub struct Site {
    pub server: RedisServer,
    pub proxy: Proxy,
    pub link: Link,
    /// Straight to the server: what the test itself looks at.
    pub direct: Link,
    pub store: Store,
    pub pipeline: PipelineId,
    pub metrics: Arc<Metrics>,
}

fn link(url: &str) -> Link {
    let mut options = StoreOptions::at(url);
    options.lease = Duration::from_millis(400);
    options.command_timeout = Duration::from_millis(300);
    options.reconnect_min = Duration::from_millis(5);
    options.reconnect_max = Duration::from_millis(50);
    // Small turns, so that little work takes several.
    options.limits.turn_entries_max = 2;
    Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, Patience::Forever)
}

impl Site {
    pub async fn new() -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port).await;
        let (link, direct) = (link(&proxy.url()), link(&server.url()));
        let mut store = Store::new("t", "node-a", RandomId::default());
        store.cluster = store.claim_cluster(&direct, &RandomId::new()).await.expect("a cluster id");
        let site = Self {
            server,
            proxy,
            link,
            direct,
            store,
            pipeline: PipelineId::new(Kind::Selftest, "x"),
            metrics: Metrics::new(),
        };
        site.begin_pipeline(0).await
    }

    /// The same site with a pipeline that nobody has used.
    async fn begin_pipeline(mut self, number: u64) -> Self {
        self.pipeline = PipelineId::new(Kind::Selftest, &format!("x{number}"));
        self.store.mark_pipeline(&self.direct, &self.pipeline, false).await.expect("a mark");
        self
    }

    pub fn address(&self, actor: &str) -> Address {
        Address::new(&self.pipeline, actor)
    }

    fn unit_id<S: Subject>(&self) -> UnitId {
        match S::MAIL {
            Mail::Offset | Mail::Follow(_) => UnitId::exclusive(&self.pipeline, S::ACTOR),
            Mail::Pool | Mail::Owed => UnitId::slot(&self.pipeline, S::ACTOR, 0),
        }
    }

    async fn acquire<S: Subject>(&self, previous: Option<&RandomId>) -> Result<Arc<Unit>, StoreError> {
        let lease =
            Lease::acquire(&self.store, &self.link, &self.unit_id::<S>(), S::MAIL, previous, &Fate::Clean).await?;
        Ok(Unit::new(lease, self.metrics.clone(), Duration::from_millis(100)))
    }

    /// Every key with its content, to see whether anything was written; the server's own clock is left out.
    fn everything(&self) -> BTreeMap<String, String> {
        let keys: Vec<String> = redis::from_redis_value(self.server.command(&["KEYS", "*"])).expect("keys");
        let dump = |key: &String| match self.server.text(&["TYPE", key]).as_str() {
            "hash" => format!(
                "{:?}",
                redis::from_redis_value::<BTreeMap<String, String>>(self.server.command(&["HGETALL", key]))
            ),
            "stream" => format!("{:?}", self.server.command(&["XRANGE", key, "-", "+"])),
            "list" => format!("{:?}", self.server.command(&["LRANGE", key, "0", "-1"])),
            "zset" => format!("{:?}", self.server.command(&["ZRANGE", key, "0", "-1", "WITHSCORES"])),
            _ => format!("{:?}", self.server.command(&["GET", key])),
        };
        keys.iter().map(|key| (key.clone(), dump(key))).collect()
    }

    /// Entries that wait for the actor.
    async fn waiting<S: Subject>(&self) -> u64 {
        let depth = self.store.depth(&self.direct, &self.address(S::ACTOR)).await.expect("a depth");
        depth.entries + depth.later
    }

    async fn dead<S: Subject>(&self) -> u64 {
        self.store.depth(&self.direct, &self.address(S::ACTOR)).await.expect("a depth").dead
    }

    /// Failed and unfinished attempts at the entry in hand.
    async fn attempts<S: Subject>(&self) -> (u64, u64) {
        let shown = self.store.checkpoint(&self.direct, &self.unit_id::<S>()).await.expect("an answer");
        shown.map_or((0, 0), |shown| (shown.failed, shown.unfinished))
    }

    /// Records of an output of this pipeline.
    pub async fn output(&self, name: &str) -> Vec<Entry> {
        self.store.output(&self.direct, &self.pipeline, name, EntryId::ZERO, 10_000).await.expect("an output")
    }

    async fn until_done<S: Subject>(&self, subject: &S, units: u64) {
        let truth = S::truth(units);
        wait::until(&format!("{units} units of work"), || async { subject.done(self).await.len() >= truth.len() })
            .await;
        assert_eq!(subject.done(self).await, truth);
    }
}

/// A life on its way.
struct Life {
    unit: Arc<Unit>,
    task: tokio::task::JoinHandle<()>,
}

impl Life {
    fn begin<S: Subject>(subject: &S, unit: Arc<Unit>) -> Self {
        let task = actix_rt::spawn(subject.life(unit.clone()));
        Self { unit, task }
    }

    async fn drained(self) {
        self.unit.drain();
        self.task.await.expect("no panic");
        assert_eq!(self.unit.exit(), Some(Exit::Drained));
        self.unit.lease.release().await.expect("released");
    }
}

/// A future that is dropped after so many polls: every place where a turn can be cut lies behind some number of them.
struct CutAfter {
    inner: Option<LocalBoxFuture<'static, ()>>,
    left: u64,
}

impl Future for CutAfter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(()) };
        let answer = inner.as_mut().poll(cx);
        self.left -= 1;
        if self.left == 0 {
            self.inner = None;
            return Poll::Ready(());
        }
        answer
    }
}

pub async fn idles_on_nothing<S: Subject>() {
    let site = Site::new().await;
    let subject = S::new(&site).await;
    let life = Life::begin(&subject, site.acquire::<S>(None).await.expect("a free unit"));
    let before = site.everything();
    let idle = Instant::now();
    // Five of its idle polls.
    wait::until_true("half a second", || idle.elapsed() > Duration::from_millis(500)).await;
    assert_eq!(site.everything(), before, "it wrote although there was nothing to do");
    assert_eq!(life.unit.exit(), None);
    life.drained().await;
}

pub async fn does_one_unit_of_work<S: Subject>() {
    let site = Site::new().await;
    let mut subject = S::new(&site).await;
    subject.offer(&site, 1).await;
    let life = Life::begin(&subject, site.acquire::<S>(None).await.expect("a free unit"));
    site.until_done(&subject, 1).await;
    life.drained().await;
    assert_eq!((site.waiting::<S>().await, site.dead::<S>().await), (0, 0));
}

/// Cuts the first life after one poll, after two, and so on, until the work is done before the cut; each on a
/// pipeline of its own.
pub async fn may_be_cut_anywhere<S: Subject>() {
    const UNITS: u64 = 5;
    let mut site = Site::new().await;
    let (mut cut_early, mut whole) = (0, 0);
    for polls in 1..=500 {
        site = site.begin_pipeline(polls).await;
        let mut subject = S::new(&site).await;
        subject.offer(&site, UNITS).await;
        let unit = site.acquire::<S>(None).await.expect("a free unit");
        let owner = unit.lease.held().owner;
        // An idle actor is polled too, by its idle poll: the cut always comes.
        CutAfter { inner: Some(subject.life(unit)), left: polls }.await;
        let done = subject.done(&site).await;
        let again = Life::begin(&subject, site.acquire::<S>(Some(&owner)).await.expect("our own unit"));
        site.until_done(&subject, UNITS).await;
        again.drained().await;
        assert_eq!(subject.done(&site).await, S::truth(UNITS), "after a cut behind poll {polls}, and its last turn");
        assert_eq!(site.waiting::<S>().await, 0, "after a cut behind poll {polls}");
        assert_eq!(site.attempts::<S>().await, (0, 0), "a cut counts nothing");
        if done.len() < S::truth(UNITS).len() {
            (cut_early, whole) = (cut_early + 1, 0);
        } else {
            whole += 1;
        }
        // The last commit may have been cut between the script and its answer: a few more make sure.
        if whole == 4 {
            println!("{}: cut behind each of the first {polls} polls, {cut_early} times before the end", S::ACTOR);
            assert!(cut_early >= 3, "the work was hardly ever cut");
            return;
        }
    }
    panic!("{} does not come to rest", S::ACTOR);
}

/// What was delivered to a holder that did nothing with it is delivered again; what was committed while its answer
/// was lost is not done again.
pub async fn does_what_comes_twice_once<S: Subject>() {
    const UNITS: u64 = 40;
    let site = Site::new().await;
    let mut subject = S::new(&site).await;
    subject.offer(&site, UNITS).await;
    let first = site.acquire::<S>(None).await.expect("a free unit");
    let delivered = first.lease.claim().await.expect("a delivery").entries.len();
    let unit = site.acquire::<S>(Some(&first.lease.held().owner)).await.expect("our own unit");
    let health = site.link.health().clone();
    let repeats = || health.repeats_total.load(std::sync::atomic::Ordering::Relaxed);
    let (before, mut round) = (repeats(), 0_u32);
    // The first request goes out on an open connection and is answered: that answer is lost for certain. What the
    // rounds below lose besides is up to the time that the machine gives them.
    site.proxy.set(Faults { drop_answers: true, ..Faults::default() });
    let life = Life::begin(&subject, unit);
    wait::until_true("a repeated request", || repeats() > before).await;
    let truth = S::truth(UNITS).len();
    wait::until("the work, with answers lost again and again", || {
        round += 1;
        let (drop_answers, delay) = (round.is_multiple_of(12), Duration::from_millis(1));
        site.proxy.set(Faults { drop_answers, delay, ..Faults::default() });
        async { subject.done(&site).await.len() >= truth }
    })
    .await;
    site.proxy.heal();
    site.until_done(&subject, UNITS).await;
    println!("{}: {delivered} entries delivered twice, {} requests repeated", S::ACTOR, repeats() - before);
    life.drained().await;
    assert_eq!(subject.done(&site).await, S::truth(UNITS), "its last turn did something once more");
    assert_eq!((site.waiting::<S>().await, site.dead::<S>().await), (0, 0));
}

pub async fn waits_for_its_world<S: Subject>() {
    let site = Site::new().await;
    let mut subject = S::new(&site).await;
    let unit = site.acquire::<S>(None).await.expect("a free unit");
    subject.world_down(&site, true);
    subject.offer(&site, 5).await;
    let (life, begun) = (Life::begin(&subject, unit), Instant::now());
    wait::until_true("a second without the world", || begun.elapsed() > Duration::from_secs(1)).await;
    assert!(subject.done(&site).await.is_empty(), "it worked without its world");
    assert_eq!(life.unit.exit(), None, "an outage is no reason to end");
    subject.world_down(&site, false);
    site.until_done(&subject, 5).await;
    assert_eq!(site.attempts::<S>().await, (0, 0), "an outage counts nothing");
    life.drained().await;
}

pub async fn stops_without_writing_when_fenced<S: Subject>() {
    let site = Site::new().await;
    let mut subject = S::new(&site).await;
    let old = site.acquire::<S>(None).await.expect("a free unit");
    // Nobody renews it here.
    let new = wait::until_some("the end of the lease", || async { site.acquire::<S>(None).await.ok() }).await;
    subject.offer(&site, 3).await;
    let before = site.everything();
    let life = Life::begin(&subject, old);
    wait::until_true("its end", || life.task.is_finished()).await;
    assert!(matches!(life.unit.exit(), Some(Exit::Reload(_))), "{:?}", life.unit.exit());
    assert_eq!(site.everything(), before, "a former holder wrote");
    let heir = Life::begin(&subject, new);
    site.until_done(&subject, 3).await;
    heir.drained().await;
}

pub async fn leaves_nothing_pending_when_drained<S: Subject>() {
    const UNITS: u64 = 30;
    let site = Site::new().await;
    let mut subject = S::new(&site).await;
    subject.offer(&site, UNITS).await;
    let life = Life::begin(&subject, site.acquire::<S>(None).await.expect("a free unit"));
    wait::until("some work", || async { !subject.done(&site).await.is_empty() }).await;
    life.drained().await;
    let key = site.store.keys.checkpoint(&site.unit_id::<S>());
    let left = ["owner", "serving"].map(|field| site.server.text(&["HGET", &key, field]));
    assert_eq!(left, [String::new(), String::new()], "owner and what is being served");
    let heir = Life::begin(&subject, site.acquire::<S>(None).await.expect("a unit that was given back"));
    site.until_done(&subject, UNITS).await;
    assert_eq!(site.attempts::<S>().await, (0, 0), "a drain counts nothing");
    heir.drained().await;
    assert_eq!(subject.done(&site).await, S::truth(UNITS), "its last turn did something once more");
    assert_eq!((site.waiting::<S>().await, site.dead::<S>().await), (0, 0));
}

/// The laws, as tests of one subject.
#[macro_export]
macro_rules! suite {
    ($name:ident, $subject:ty) => {
        mod $name {
            use $crate::suite;

            #[actix_rt::test]
            async fn idles_on_nothing() {
                suite::idles_on_nothing::<$subject>().await;
            }

            #[actix_rt::test]
            async fn does_one_unit_of_work() {
                suite::does_one_unit_of_work::<$subject>().await;
            }

            #[actix_rt::test]
            async fn may_be_cut_anywhere() {
                suite::may_be_cut_anywhere::<$subject>().await;
            }

            #[actix_rt::test]
            async fn does_what_comes_twice_once() {
                suite::does_what_comes_twice_once::<$subject>().await;
            }

            #[actix_rt::test]
            async fn waits_for_its_world() {
                suite::waits_for_its_world::<$subject>().await;
            }

            #[actix_rt::test]
            async fn stops_without_writing_when_fenced() {
                suite::stops_without_writing_when_fenced::<$subject>().await;
            }

            #[actix_rt::test]
            async fn leaves_nothing_pending_when_drained() {
                suite::leaves_nothing_pending_when_drained::<$subject>().await;
            }
        }
    };
}
