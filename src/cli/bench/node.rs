//! Node: a real node in this process: supervisor, arbiters, leases, actors that handle messages by doing nothing.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::server::Server;
use super::usage::{Meter, Spent};
use crate::actors::tally::{Planted, Tally, TallyState};
use crate::actors::turn;
use crate::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use crate::store::Store;
use crate::store::effect::{Ack, Commit, Effect, Outgoing};
use crate::store::lease::{Fate, Lease, Mail};
use crate::store::link::{Class, Health, Link, Patience};
use crate::store::membership::NodeInfo;
use crate::store::options::StoreOptions;
use crate::supervisor::life::{Factory, UnitSpec};
use crate::supervisor::placement::Placement;
use crate::supervisor::{self, SupervisorOptions, wiring};
use crate::telemetry::metrics::{ActorLabels, Metrics};

/// Messages that one commit sends, as the self-test's feeder does by default.
const SEND_BATCH: u64 = 200;
/// How long the units may take; far more than any machine needs.
const DRAIN_MAX: Duration = Duration::from_secs(600);
/// Between two looks at how far the units are; the error of a time.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The place of a measurement: one server, one pipeline, as many mailboxes as units.
pub struct Bench<'a> {
    /// The server.
    pub server: &'a Server,
    /// Units, each with a mailbox of its own.
    pub units: u32,
    /// Messages in all.
    pub messages: u64,
    /// Bytes of one message's body.
    pub bytes: usize,
}

struct Place {
    link: Link,
    store: Store,
    pipeline: PipelineId,
}

impl Bench<'_> {
    /// Sends all messages by commits of 200, one mailbox after the other.
    pub fn enqueue(&self) -> Result<Spent> {
        on_a_runtime(self.enqueue_all())
    }

    /// Starts a node whose units drain all mailboxes, and checks what they have made of them.
    pub fn process(&self) -> Result<Spent> {
        on_a_runtime(self.process_all())
    }

    fn share(&self, unit: u32) -> u64 {
        let (units, unit) = (u64::from(self.units), u64::from(unit));
        self.messages / units + u64::from(unit < self.messages % units)
    }

    async fn place(&self) -> Result<Place> {
        let options = Arc::new(StoreOptions::at(&self.server.url()));
        let link = Link::new(options, Arc::new(Health::default()), Class::Command, Patience::For(DRAIN_MAX));
        let mut store = Store::new("bench", "bench", RandomId::default());
        store.cluster = store.claim_cluster(&link, &RandomId::new()).await?;
        let pipeline = PipelineId::new(Kind::Selftest, "bench");
        store.mark_pipeline(&link, &pipeline, false).await?;
        Ok(Place { link, store, pipeline })
    }

    async fn enqueue_all(&self) -> Result<Spent> {
        let Place { link, store, pipeline } = self.place().await?;
        let unit = UnitId::exclusive(&pipeline, "feeder");
        let lease = Lease::acquire(&store, &link, &unit, Mail::Offset, None, &Fate::Clean).await?;
        let mut commits = Vec::new();
        let meter = Meter::start(self.server)?;
        for unit in 0..self.units {
            let (to, last) = (Address::new(&pipeline, &wiring::tally_name(unit)), self.share(unit));
            let mut sent = 0;
            while sent < last {
                let next = last.min(sent + SEND_BATCH);
                let messages = (sent + 1..=next).map(|n| message(n, self.bytes)).collect();
                let effects = vec![Effect::Send { to: to.clone(), capacity: last, messages }];
                let state = Some(format!("{{\"sent\":{next}}}"));
                let asked = Instant::now();
                lease.commit(&Commit { state, ack: Ack::Nothing, effects }).await?;
                commits.push(asked.elapsed().as_secs_f64());
                sent = next;
            }
        }
        let mut spent = meter.stop(self.server)?;
        commits.sort_by(f64::total_cmp);
        let at = |share: f64| commits.get((commits.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        (spent.commit_p50, spent.commit_p99) = (at(0.5), at(0.99));
        Ok(spent)
    }

    async fn process_all(&self) -> Result<Spent> {
        let place = self.place().await?;
        let metrics = finely_measured()?;
        let begun = Arc::new(OnceLock::new());
        let specs = self.specs(&place, &begun);
        let me = NodeInfo {
            name: "bench".to_owned(),
            incarnation: RandomId::new(),
            runs: specs.iter().map(|spec| spec.id.to_string()).collect(),
            format: crate::store::format::newest(),
            ..NodeInfo::default()
        };
        let meter = Meter::start(self.server)?;
        let options = SupervisorOptions::default();
        let (node, ended) = supervisor::start(options, place.store.clone(), &place.link, metrics.clone(), me, specs)?;
        let done = self.wait_until_done(&place, &metrics).await?;
        let mut spent = meter.stop(self.server)?;
        node.drain();
        ended.await.map_err(|_| anyhow!("the supervisor ended unexpectedly"))?;
        // From the first lease on: how long a node takes to start is not what is measured.
        let first = begun.get().context("no unit has begun")?;
        spent.seconds = done.duration_since(*first).as_secs_f64();
        (spent.commit_p50, spent.commit_p99) = percentiles(&metrics.commit_seconds)?;
        self.check(&place).await?;
        Ok(spent)
    }

    /// One exclusive unit a mailbox, each a self-test actor that only keeps its sum.
    fn specs(&self, place: &Place, begun: &Arc<OnceLock<Instant>>) -> Vec<UnitSpec> {
        let begun = begun.clone();
        let factory: Factory = Arc::new(move |unit| {
            begun.get_or_init(Instant::now);
            turn::live(Tally { unit, planted: Planted::default(), records: false })
        });
        let spec = |unit: u32| UnitSpec {
            id: UnitId::exclusive(&place.pipeline, &wiring::tally_name(unit)),
            mail: Mail::Offset,
            placement: Placement::Exclusive,
            idle_poll: place.link.options().lease,
            factory: factory.clone(),
        };
        (0..self.units).map(spec).collect()
    }

    async fn wait_until_done(&self, place: &Place, metrics: &Metrics) -> Result<Instant> {
        let actors = (0..self.units).map(wiring::tally_name);
        let labels = actors.map(|actor| ActorLabels { pipeline: place.pipeline.to_string(), actor });
        let counters: Vec<_> = labels.map(|labels| metrics.entries.get_or_create_owned(&labels)).collect();
        let started = Instant::now();
        loop {
            let done: u64 = counters.iter().map(|counter| counter.get()).sum();
            match done.cmp(&self.messages) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Instant::now()),
                Ordering::Greater => bail!("{done} messages were acknowledged, {} were sent", self.messages),
            }
            ensure!(started.elapsed() < DRAIN_MAX, "only {done} of {} messages were acknowledged", self.messages);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Every message was added exactly once: the sum in each checkpoint says so.
    async fn check(&self, place: &Place) -> Result<()> {
        for unit in 0..self.units {
            let (id, last) = (UnitId::exclusive(&place.pipeline, &wiring::tally_name(unit)), self.share(unit));
            let shown = place.store.checkpoint(&place.link, &id).await?.context("a unit left no checkpoint")?;
            let state: TallyState = serde_json::from_str(&shown.state)?;
            let wanted = TallyState { n: last, sum: last * (last + 1) / 2 };
            ensure!(state == wanted, "{id} has made {state:?} of its messages instead of {wanted:?}");
        }
        Ok(())
    }
}

/// A number in a JSON body of `bytes` bytes, as any sender would write it.
fn message(n: u64, bytes: usize) -> Outgoing {
    let head = format!("{{\"n\":{n},\"pad\":\"");
    let pad = "x".repeat(bytes.saturating_sub(head.len() + 2));
    Outgoing { kind: "number".to_owned(), body: format!("{head}{pad}\"}}") }
}

/// A node's work needs an actix system of its own, so that nothing of it is left for the next measurement.
pub(super) fn on_a_runtime<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| actix_rt::System::new().block_on(work));
        thread.join().map_err(|_| anyhow!("the measured node has panicked"))?
    })
}

/// Metrics whose commit times are counted in steps of 5 %; the usual ones double.
fn finely_measured() -> Result<Arc<Metrics>> {
    let mut metrics = Metrics::new();
    let buckets = || Histogram::new(exponential_buckets(50e-6, 1.05, 200));
    let own = Arc::get_mut(&mut metrics).context("metrics that somebody else holds")?;
    own.commit_seconds = Family::new_with_constructor(buckets as fn() -> Histogram);
    Ok(metrics)
}

/// The bounds, in seconds, under which half and 99 of 100 commits of all units lie.
fn percentiles(seconds: &Family<ActorLabels, Histogram, fn() -> Histogram>) -> Result<(f64, f64)> {
    // The library shows a histogram only in its text form.
    let (mut registry, mut text) = (Registry::default(), String::new());
    registry.register("commit", "", seconds.clone());
    encode(&mut text, &registry)?;
    Ok((percentile(&text, 0.5), percentile(&text, 0.99)))
}

fn percentile(text: &str, share: f64) -> f64 {
    let mut buckets: Vec<(f64, u64)> = Vec::new();
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let bound = line.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).map_or("", |(bound, _)| bound);
        let count = line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let bound = bound.parse().unwrap_or(f64::INFINITY);
        match buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, count)),
        }
    }
    let all = buckets.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let wanted = (all as f64 * share).ceil() as u64;
    buckets.iter().find(|(_, count)| *count >= wanted).map_or(0.0, |(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_add_units_up() {
        let metrics = finely_measured().expect("metrics");
        for (actor, seconds, times) in [("a", 0.001, 60), ("b", 0.001, 30), ("b", 0.2, 10)] {
            let labels = ActorLabels { pipeline: "selftest.x".to_owned(), actor: actor.to_owned() };
            (0..times).for_each(|_| metrics.commit_seconds.get_or_create(&labels).observe(seconds));
        }
        let (half, most) = percentiles(&metrics.commit_seconds).expect("figures");
        assert!((0.001..0.00106).contains(&half), "{half}");
        assert!((0.2..0.211).contains(&most), "{most}");
    }

    #[test]
    fn messages_have_the_asked_size() {
        assert_eq!(message(7, 200).body.len(), 200);
        assert_eq!(message(123_456, 200).body.len(), 200);
    }
}
