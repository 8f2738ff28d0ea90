//! Every metric of a node, written once. Served at `/metrics` in the OpenMetrics text form.

use std::fmt::Write as _;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::blocks::BlocksMetrics;
use super::chain::ChainMetrics;
use super::endpoints::EndpointMetrics;
use super::logs::LogMetrics;
use super::parse::ParseMetrics;
use super::sync::SyncMetrics;
use crate::ids::{Kind, UnitId};

/// Which actor of which pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActorLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// The actor, without its slot.
    pub actor: String,
}

/// A commit's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommitLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// The actor, without its slot.
    pub actor: String,
    /// `ok`, `dup`, `fenced`, `moved`, `full`, `link`, `oom`, `other`.
    pub outcome: &'static str,
}

/// Why a unit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartReason {
    /// A turn returned an error that is not the world's.
    Error,
    /// Something panicked.
    Panic,
    /// No progress within `supervisor.hang_seconds`.
    Hang,
    /// Another holder, or another history: reloaded.
    Reload,
}

impl EncodeLabelValue for RestartReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            RestartReason::Error => "error",
            RestartReason::Panic => "panic",
            RestartReason::Hang => "hang",
            RestartReason::Reload => "reload",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

/// A restart and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RestartLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// The actor, without its slot.
    pub actor: String,
    /// Why.
    pub reason: RestartReason,
}

/// What was given up for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CooldownLevel {
    /// One unit.
    Unit,
    /// All units of the pipeline on this node.
    Pipeline,
}

impl EncodeLabelValue for CooldownLevel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            CooldownLevel::Unit => "unit",
            CooldownLevel::Pipeline => "pipeline",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

/// A cool-down and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CooldownLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// What is given up.
    pub level: CooldownLevel,
}

/// How a lease changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseMove {
    /// Taken while nobody held it.
    Acquired,
    /// Taken after another node let it run out.
    TakenOver,
    /// Given back.
    Released,
    /// Found in another's hands.
    Lost,
}

impl EncodeLabelValue for LeaseMove {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            LeaseMove::Acquired => "acquired",
            LeaseMove::TakenOver => "taken_over",
            LeaseMove::Released => "released",
            LeaseMove::Lost => "lost",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

/// A lease move and its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeaseLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// The actor, without its slot.
    pub actor: String,
    /// How.
    pub kind: LeaseMove,
}

/// A named point of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PointLabels {
    /// Its name.
    pub point: &'static str,
}

/// The metrics of one node. Cheap to share; every field may be used from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Commits by their answer.
    pub commits: Family<CommitLabels, Counter>,
    /// Seconds from sending a commit to its answer, repeats included.
    pub commit_seconds: Family<ActorLabels, Histogram, fn() -> Histogram>,
    /// Entries that commits acknowledged.
    pub entries: Family<ActorLabels, Counter>,
    /// Restarts of units.
    pub restarts: Family<RestartLabels, Counter>,
    /// Cool-downs begun.
    pub cooldowns: Family<CooldownLabels, Counter>,
    /// Lease moves.
    pub leases: Family<LeaseLabels, Counter>,
    /// Entries set aside.
    pub dead_letters: Family<ActorLabels, Counter>,
    /// Commits that a failover took back, as far as their holder noticed.
    pub rollbacks: Family<ActorLabels, Counter>,
    /// Passages of each named point of a turn.
    pub points: Family<PointLabels, Counter>,
    /// What blocks pipelines did, and what their detectors last saw.
    pub blocks: BlocksMetrics,
    /// Entries that wait in a mailbox, as last seen.
    pub mailbox_entries: Family<ActorLabels, Gauge>,
    /// Seconds since the oldest waiting entry of a mailbox was sent, as last seen.
    pub mailbox_age_seconds: Family<ActorLabels, Gauge>,
    /// Entries in a dead-letter stream, as last seen.
    pub mailbox_dead: Family<ActorLabels, Gauge>,
    /// 1 while Redis answers.
    pub redis_up: Gauge,
    /// Times that the connections met another server, or the same one restarted.
    pub redis_moves: Counter,
    /// 1 while the node takes work.
    pub ready: Gauge,
    /// Units that run here.
    pub units_running: Gauge,
    /// Units that were given up for a while.
    pub units_failed: Gauge,
    /// Pipelines that were given up as a whole for a while.
    pub pipelines_given_up: Gauge,
    /// Units that wait for others to have started.
    pub starts_waiting: Gauge,
    /// Endpoints of sources.
    pub endpoints: EndpointMetrics,
    /// Figures of the chains whose heads are followed here.
    pub chain: ChainMetrics,
    /// Figures of the log files that are followed here.
    pub logs: LogMetrics,
    /// What LogParsers count.
    pub parse: ParseMetrics,
    /// Figures of streams that are copied.
    pub sync: SyncMetrics,
}

fn commit_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("gapless"),
            commits: Family::default(),
            commit_seconds: Family::new_with_constructor(commit_buckets as fn() -> Histogram),
            entries: Family::default(),
            restarts: Family::default(),
            cooldowns: Family::default(),
            leases: Family::default(),
            dead_letters: Family::default(),
            rollbacks: Family::default(),
            points: Family::default(),
            blocks: BlocksMetrics::default(),
            mailbox_entries: Family::default(),
            mailbox_age_seconds: Family::default(),
            mailbox_dead: Family::default(),
            redis_up: Gauge::default(),
            redis_moves: Counter::default(),
            ready: Gauge::default(),
            units_running: Gauge::default(),
            units_failed: Gauge::default(),
            pipelines_given_up: Gauge::default(),
            starts_waiting: Gauge::default(),
            endpoints: EndpointMetrics::new(),
            chain: ChainMetrics::default(),
            logs: LogMetrics::default(),
            parse: ParseMetrics::default(),
            sync: SyncMetrics::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("commits", "commits by their answer", self.commits.clone());
        let help = "time from sending a commit to its answer";
        r.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
        r.register("entries", "mailbox entries acknowledged by commits", self.entries.clone());
        r.register("restarts", "restarts of units by reason", self.restarts.clone());
        r.register("cooldowns", "units and pipelines given up for a while", self.cooldowns.clone());
        r.register("lease_moves", "leases taken, given back and lost", self.leases.clone());
        r.register("dead_letters", "mailbox entries set aside", self.dead_letters.clone());
        r.register("rollbacks", "commits that a failover of redis took back", self.rollbacks.clone());
        r.register("turn_points", "passages of each named point of a turn", self.points.clone());
        self.blocks.register(r);
        r.register("mailbox_entries", "entries that wait in a mailbox", self.mailbox_entries.clone());
        let help = "age of the oldest entry that waits in a mailbox";
        r.register_with_unit("mailbox_age", help, Unit::Seconds, self.mailbox_age_seconds.clone());
        r.register("mailbox_dead", "entries in a dead-letter stream", self.mailbox_dead.clone());
        r.register("redis_up", "1 while redis answers", self.redis_up.clone());
        let help = "Times that the connections met another redis server, or the same one restarted";
        r.register("redis_moves", help, self.redis_moves.clone());
        r.register("ready", "1 while the node takes work", self.ready.clone());
        r.register("units_running", "units that run on this node", self.units_running.clone());
        r.register("units_failed", "units that this node gave up for a while", self.units_failed.clone());
        let help = "pipelines that this node gave up as a whole for a while";
        r.register("pipelines_given_up", help, self.pipelines_given_up.clone());
        r.register("starts_waiting", "units that wait until others have started", self.starts_waiting.clone());
        self.endpoints.register(r);
        self.chain.register(r);
        self.logs.register(r);
        self.parse.register(r);
        self.sync.register(r);
    }

    /// Shows the counters of a unit's rare events from the start: a rate over a counter that appears with its first
    /// event misses that event.
    pub fn begin_at_zero(&self, unit: &UnitId) {
        let (pipeline, actor) = (unit.pipeline.to_string(), unit.actor.clone());
        let labels = ActorLabels { pipeline: pipeline.clone(), actor: actor.clone() };
        for family in [&self.entries, &self.dead_letters, &self.rollbacks] {
            drop(family.get_or_create(&labels));
        }
        for reason in [RestartReason::Error, RestartReason::Panic, RestartReason::Hang, RestartReason::Reload] {
            let labels = RestartLabels { pipeline: pipeline.clone(), actor: actor.clone(), reason };
            drop(self.restarts.get_or_create(&labels));
        }
        for level in [CooldownLevel::Unit, CooldownLevel::Pipeline] {
            drop(self.cooldowns.get_or_create(&CooldownLabels { pipeline: pipeline.clone(), level }));
        }
        if unit.pipeline.kind == Kind::Blocks {
            self.blocks.begin_at_zero(&pipeline);
        }
    }

    /// The text form.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.chain.refresh();
        if encode(&mut text, &self.registry).is_err() {
            // Writing into a String fails only if a metric's own encoding does.
            text.clear();
            let _ = writeln!(text, "# EOF");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_unit_and_kind() {
        let metrics = Metrics::new();
        let labels = ActorLabels { pipeline: "blocks.main".to_owned(), actor: "collector".to_owned() };
        metrics.commit_seconds.get_or_create(&labels).observe(0.001);
        metrics.entries.get_or_create(&labels).inc();
        let text = metrics.render();
        assert!(
            text.contains("gapless_commit_seconds_count{pipeline=\"blocks.main\",actor=\"collector\"} 1"),
            "{text}"
        );
        assert!(text.contains("gapless_entries_total{pipeline=\"blocks.main\",actor=\"collector\"} 1"), "{text}");
    }
}
