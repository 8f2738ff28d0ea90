//! An actor that breaks where and as often as the test says, and nodes in the process of the test that run it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::prelude::*;
use gapless::actors::turn::{self, Error, Tick, Turn, Unit};
use gapless::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use gapless::messages::tally::TallyMessage;
use gapless::store::effect::{Commit, Effect, Fields, Outgoing};
use gapless::store::format::{Formats, NEWEST};
use gapless::store::lease::Mail;
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::membership::NodeInfo;
use gapless::store::options::StoreOptions;
use gapless::store::{Entry, Store};
use gapless::supervisor::ladder::LadderOptions;
use gapless::supervisor::life::{Factory, UnitSpec};
use gapless::supervisor::placement::Placement;
use gapless::supervisor::restart::RestartOptions;
use gapless::supervisor::watchdog::WatchdogOptions;
use gapless::supervisor::{self, Ended, Handle, SupervisorOptions};
use gapless::telemetry::metrics::{Metrics, RestartLabels, RestartReason};
use tokio::sync::oneshot;

use crate::support::redis::RedisServer;
use crate::support::wait;

/// Where it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Factory,
    Started,
    Handler,
    Turn,
    Spawned,
    Waited,
    Hang,
    Outside,
    /// Whenever this number is among those of a turn, however often.
    Number(u64),
}

/// Breaks there, so many times; shared by all lives of the unit.
#[derive(Clone)]
pub struct Trouble {
    pub place: Place,
    pub left: Arc<AtomicU32>,
}

impl Trouble {
    pub fn new(place: Place, times: u32) -> Self {
        Self { place, left: Arc::new(AtomicU32::new(times)) }
    }

    pub fn none() -> Self {
        Self::new(Place::Turn, 0)
    }

    fn strikes(&self, place: Place) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        place == self.place && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }

    fn panics(&self, place: Place) {
        assert!(!self.strikes(place), "asked to break in {place:?}");
    }
}

/// Puts each number of its mailbox out again.
#[derive(Clone)]
pub struct Frail {
    unit: Arc<Unit>,
    trouble: Trouble,
}

impl Actor for Frail {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.trouble.panics(Place::Started);
        let (spawned, waited) = (self.trouble.clone(), self.trouble.clone());
        ctx.spawn(actix::fut::wrap_future(async move { spawned.panics(Place::Spawned) }));
        ctx.wait(actix::fut::wrap_future(async move { waited.panics(Place::Waited) }));
        turn::begin(ctx);
    }
}

impl Handler<Tick> for Frail {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        self.trouble.panics(Place::Handler);
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl Frail {
    async fn take_turn(self) -> Result<Turn, Error> {
        let claimed = self.unit.claim::<TallyMessage>(|_, _| Vec::new()).await?;
        if claimed.is_empty() {
            return Ok(Turn::Idle);
        }
        self.trouble.panics(Place::Turn);
        if let Place::Number(poison) = self.trouble.place {
            let among = |(_, TallyMessage::Number { n }): &(_, TallyMessage)| *n == poison;
            assert!(!claimed.messages.iter().any(among), "number {poison} is poison");
        }
        if self.trouble.strikes(Place::Hang) {
            std::future::pending::<()>().await;
        }
        if self.trouble.strikes(Place::Outside) {
            self.unit.outside(std::future::pending::<()>()).await;
        }
        let record =
            |TallyMessage::Number { n }: &TallyMessage| -> Fields { vec![(b"n".to_vec(), n.to_string().into_bytes())] };
        let records = claimed.messages.iter().map(|(_, message)| record(message)).collect();
        let effects = vec![Effect::Append { output: self.unit.lease.unit().actor.clone(), records }];
        self.unit.commit(&Commit { state: None, ack: claimed.ack, effects }).await?;
        Ok(Turn::Worked)
    }
}

/// One Redis and the pipeline of a test.
pub struct Site {
    pub server: RedisServer,
    pub link: Link,
    pub store: Store,
    pub pipeline: PipelineId,
}

/// The lease of these tests.
pub const LEASE: Duration = Duration::from_millis(400);

/// One wait of the bell: long, so that what depends on its end is seen.
pub const BELL_BLOCK: Duration = Duration::from_millis(1600);

impl Site {
    pub async fn new() -> Self {
        let server = RedisServer::start();
        let mut options = StoreOptions::at(&server.url());
        options.lease = LEASE;
        options.lease_timeout = LEASE / 2;
        options.bell_block = BELL_BLOCK;
        let health = Arc::new(Health::default());
        let link = Link::new(Arc::new(options), health, Class::Command, Patience::Forever);
        let mut store = Store::new("t", "site", RandomId::default());
        store.cluster = store.claim_cluster(&link, &RandomId::new()).await.expect("a cluster id");
        let pipeline = PipelineId::new(Kind::Selftest, "x");
        store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
        Self { server, link, store, pipeline }
    }

    pub fn unit(&self, actor: &str) -> UnitId {
        UnitId::exclusive(&self.pipeline, actor)
    }

    /// Sends the numbers from..=to.
    pub async fn send(&self, actor: &str, numbers: std::ops::RangeInclusive<u64>) {
        let to = Address::new(&self.pipeline, actor);
        for n in numbers {
            let message = Outgoing::new(&TallyMessage::Number { n }).expect("a message");
            self.store.send(&self.link, &to, 10_000, None, &message).await.expect("sent");
        }
    }

    /// The numbers that an actor put out, in order.
    pub async fn output(&self, actor: &str) -> Vec<u64> {
        let after = gapless::ids::EntryId::ZERO;
        let entries = self.store.output(&self.link, &self.pipeline, actor, after, 10_000).await.expect("an output");
        let number = |entry: &Entry| entry.text("n").expect("a number").parse().expect("a number");
        entries.iter().map(number).collect()
    }

    /// Waits until an actor has put out the numbers 1..=upto, each once and in order.
    pub async fn counted(&self, actor: &str, upto: u64) {
        wait::until(&format!("{actor} at {upto}"), || async { self.output(actor).await.len() as u64 >= upto }).await;
        assert_eq!(self.output(actor).await, (1..=upto).collect::<Vec<u64>>(), "{actor}");
    }

    /// The dead letters of an actor: their reasons.
    pub async fn dead(&self, actor: &str) -> Vec<String> {
        let of = Address::new(&self.pipeline, actor);
        let dead = self.store.dead(&self.link, &of, gapless::ids::EntryId::ZERO, 100).await.expect("dead letters");
        dead.iter().map(|entry| entry.text("dead.reason").unwrap_or_default()).collect()
    }

    /// Starts a node in this process.
    pub fn node(&self, name: &str, options: SupervisorOptions, actors: &[(&str, Trouble)]) -> Running {
        let specs = actors.iter().map(|(actor, trouble)| spec(self.unit(actor), trouble.clone())).collect();
        self.node_of(name, options, specs)
    }

    /// Starts a node with these units, of whatever pipelines.
    pub fn node_of(&self, name: &str, options: SupervisorOptions, specs: Vec<UnitSpec>) -> Running {
        self.node_of_release(name, NEWEST, options, specs)
    }

    /// Starts a node of a release that reads up to this format.
    pub fn node_of_release(
        &self,
        name: &str,
        format: u64,
        options: SupervisorOptions,
        specs: Vec<UnitSpec>,
    ) -> Running {
        let formats = Arc::new(Formats::new(format));
        let store = Store { node: name.to_owned(), formats, ..self.store.clone() };
        let address = |spec: &UnitSpec| Address::new(&spec.id.pipeline, &spec.id.actor).to_string();
        let runs = specs.iter().map(address).collect();
        let incarnation = RandomId::new();
        let mut slots = BTreeMap::new();
        for spec in specs.iter().filter(|spec| spec.mail == Mail::Pool) {
            *slots.entry(address(spec)).or_default() += 1;
        }
        let me = NodeInfo { name: name.to_owned(), incarnation, format, runs, slots, ..NodeInfo::default() };
        let metrics = Metrics::new();
        let link =
            Link::new(self.link.options().clone(), Arc::new(Health::default()), Class::Command, Patience::Forever);
        let (handle, ended) =
            supervisor::start(options, store, &link, metrics.clone(), me, specs).expect("a watchdog's thread");
        Running { handle, ended, metrics }
    }
}

pub fn spec(id: UnitId, trouble: Trouble) -> UnitSpec {
    let factory: Factory = Arc::new(move |unit| {
        trouble.panics(Place::Factory);
        turn::live(Frail { unit, trouble: trouble.clone() })
    });
    // So long that only the bell and the beat wake it.
    let idle_poll = Duration::from_secs(600);
    UnitSpec { id, mail: Mail::Offset, placement: Placement::Exclusive, idle_poll, factory }
}

/// The first `slots` slots of a pool.
pub fn pool(pipeline: &PipelineId, actor: &str, slots: u32, trouble: &Trouble) -> Vec<UnitSpec> {
    let slot = |slot| UnitSpec {
        mail: Mail::Pool,
        placement: Placement::Shared,
        ..spec(UnitId::slot(pipeline, actor, slot), trouble.clone())
    };
    (0..slots).map(slot).collect()
}

/// A node of this process.
pub struct Running {
    pub handle: Handle,
    pub ended: oneshot::Receiver<Ended>,
    pub metrics: Arc<Metrics>,
}

impl Running {
    pub fn restarts(&self, actor: &str, reason: RestartReason) -> u64 {
        let (pipeline, actor) = ("selftest.x".to_owned(), actor.to_owned());
        self.metrics.restarts.get_or_create(&RestartLabels { pipeline, actor, reason }).get()
    }

    /// The state that the node reports of a unit; empty if it reports none.
    pub fn state(&self, actor: &str) -> String {
        let me = self.handle.me.borrow();
        let unit = format!("selftest.x/{actor}");
        me.units.iter().find(|report| report.unit == unit).map(|report| report.state.clone()).unwrap_or_default()
    }

    pub async fn drain(self) -> Ended {
        self.handle.drain();
        self.ended.await.expect("an end")
    }
}

/// Bounds that make a node notice things quickly.
pub fn quick() -> SupervisorOptions {
    SupervisorOptions {
        workers: 2,
        turn_grace: Duration::from_millis(200),
        drain: Duration::from_secs(5),
        restart: RestartOptions {
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(40),
            healthy: Duration::from_secs(5),
            restarts_max: 10,
            group_restarts_max: 20,
            window: Duration::from_secs(60),
            cooldown: Duration::from_millis(700),
            cooldown_max: Duration::from_secs(60),
        },
        starts_at_a_time: 10,
        ladder: LadderOptions { groups: 0, exit: None },
        watchdog: WatchdogOptions {
            hang: Duration::from_millis(400),
            blocked: Duration::from_secs(10),
            blocked_exit: Duration::from_secs(60),
        },
    }
}
