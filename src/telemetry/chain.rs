//! Figures of the chains whose heads this node follows: one Collector a pipeline, so one row each, while it runs here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::blocks::{AlarmLabels, PipelineLabels};
use super::metrics::Metrics;

/// What a Collector and its hints count.
#[derive(Debug)]
pub struct ChainMetrics {
    /// The committed head.
    head: Family<PipelineLabels, Gauge>,
    /// The committed highest final height.
    finalized: Family<PipelineLabels, Gauge>,
    /// Seconds since the newest held block's own time, as of the scrape.
    head_lag_seconds: Family<PipelineLabels, Gauge>,
    /// The own time of the newest held block, in seconds since 1970: the lag is taken when somebody looks.
    head_times: Mutex<BTreeMap<String, i64>>,
    /// Blocks that the Collector stored and committed.
    pub stored: Family<PipelineLabels, Counter>,
    /// Reorganisations that were followed.
    pub reorgs: Family<PipelineLabels, Counter>,
    /// Blocks that left the chain with each of them.
    pub reorg_depth: Family<PipelineLabels, Histogram, fn() -> Histogram>,
    /// Pushes that said there is a new head.
    pub hints: Family<PipelineLabels, Counter>,
    /// 1 while a subscription to new heads is alive.
    hints_connected: Family<PipelineLabels, Gauge>,
    /// Subscriptions that ended and were begun again.
    pub hint_reconnects: Family<PipelineLabels, Counter>,
}

fn depth_buckets() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 10))
}

impl Default for ChainMetrics {
    fn default() -> Self {
        Self {
            head: Family::default(),
            finalized: Family::default(),
            head_lag_seconds: Family::default(),
            head_times: Mutex::default(),
            stored: Family::default(),
            reorgs: Family::default(),
            reorg_depth: Family::new_with_constructor(depth_buckets as fn() -> Histogram),
            hints: Family::default(),
            hints_connected: Family::default(),
            hint_reconnects: Family::default(),
        }
    }
}

impl ChainMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("blocks_head", "height of the committed head", self.head.clone());
        r.register("blocks_finalized", "highest height that can no longer change", self.finalized.clone());
        let help = "time since the newest held block, by its own time";
        r.register_with_unit("blocks_head_lag", help, Unit::Seconds, self.head_lag_seconds.clone());
        r.register("blocks_head_stored", "blocks stored by the collector", self.stored.clone());
        r.register("blocks_reorgs", "reorganisations that were followed", self.reorgs.clone());
        let help = "blocks that left the chain with a reorganisation";
        r.register("blocks_reorg_depth", help, self.reorg_depth.clone());
        r.register("blocks_hints", "pushes that named a new head", self.hints.clone());
        let help = "1 while a subscription to new heads is alive";
        r.register("blocks_hints_connected", help, self.hints_connected.clone());
        let help = "subscriptions to new heads that were begun again";
        r.register("blocks_hint_reconnects", help, self.hint_reconnects.clone());
    }

    /// Takes the lag anew: a chain that stands still must be seen to.
    pub(super) fn refresh(&self) {
        let now = jiff::Timestamp::now().as_second();
        for (pipeline, time) in self.times().iter() {
            let labels = PipelineLabels { pipeline: pipeline.clone() };
            self.head_lag_seconds.get_or_create(&labels).set(now.saturating_sub(*time).max(0));
        }
    }

    fn times(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i64>> {
        self.head_times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The figures of one followed chain. Its gauges vanish with it: where another node follows on, old heights would look
/// like new ones.
#[derive(Debug)]
pub struct ChainFigures {
    metrics: Arc<Metrics>,
    labels: PipelineLabels,
}

impl ChainFigures {
    /// Begins; the counters of rare events show from the start.
    pub fn new(metrics: &Arc<Metrics>, pipeline: &str) -> Self {
        let figures = Self { metrics: metrics.clone(), labels: PipelineLabels { pipeline: pipeline.to_owned() } };
        let chain = &figures.metrics.chain;
        for family in [&chain.stored, &chain.reorgs] {
            drop(family.get_or_create(&figures.labels));
        }
        figures
    }

    /// What was committed.
    pub fn set_heads(&self, head: Option<u64>, finalized: Option<u64>) {
        let chain = &self.metrics.chain;
        for (family, height) in [(&chain.head, head), (&chain.finalized, finalized)] {
            if let Some(height) = height {
                family.get_or_create(&self.labels).set(i64::try_from(height).unwrap_or(i64::MAX));
            }
        }
    }

    /// Blocks were committed, the highest of them with this time, in seconds since 1970.
    pub fn stored(&self, blocks: u64, newest: i64) {
        self.metrics.chain.stored.get_or_create(&self.labels).inc_by(blocks);
        self.metrics.chain.times().insert(self.labels.pipeline.clone(), newest);
    }

    /// Blocks left the chain.
    pub fn reorg(&self, depth: u64) {
        self.metrics.chain.reorgs.get_or_create(&self.labels).inc();
        // Far below what a float can count.
        self.metrics.chain.reorg_depth.get_or_create(&self.labels).observe(depth as f64);
    }

    /// A final block was contradicted.
    pub fn alarm(&self) {
        let (pipeline, actor) = (self.labels.pipeline.clone(), "collector".to_owned());
        self.metrics.blocks.alarms.get_or_create(&AlarmLabels { pipeline, actor, kind: "final_link" }).inc();
    }
}

impl Drop for ChainFigures {
    fn drop(&mut self) {
        let chain = &self.metrics.chain;
        chain.times().remove(&self.labels.pipeline);
        for family in [&chain.head, &chain.finalized, &chain.head_lag_seconds] {
            family.remove(&self.labels);
        }
    }
}

/// The figures of one listener to new heads.
#[derive(Debug)]
pub struct HintFigures {
    metrics: Arc<Metrics>,
    labels: PipelineLabels,
}

impl HintFigures {
    /// Begins: not connected.
    pub fn new(metrics: &Arc<Metrics>, pipeline: &str) -> Self {
        let figures = Self { metrics: metrics.clone(), labels: PipelineLabels { pipeline: pipeline.to_owned() } };
        for family in [&figures.metrics.chain.hints, &figures.metrics.chain.hint_reconnects] {
            drop(family.get_or_create(&figures.labels));
        }
        figures.connected(false);
        figures
    }

    /// Whether a subscription is alive.
    pub fn connected(&self, is_alive: bool) {
        self.metrics.chain.hints_connected.get_or_create(&self.labels).set(i64::from(is_alive));
    }

    /// A push came.
    pub fn push(&self) {
        self.metrics.chain.hints.get_or_create(&self.labels).inc();
    }

    /// A subscription is to be begun again.
    pub fn reconnect(&self) {
        self.metrics.chain.hint_reconnects.get_or_create(&self.labels).inc();
    }
}

impl Drop for HintFigures {
    fn drop(&mut self) {
        self.metrics.chain.hints_connected.remove(&self.labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_grows_while_nothing_comes_and_vanishes_with_the_collector() {
        let metrics = Metrics::new();
        let figures = ChainFigures::new(&metrics, "blocks.main");
        figures.set_heads(Some(7), None);
        figures.stored(3, jiff::Timestamp::now().as_second() - 100);
        let text = metrics.render();
        let lag = text
            .lines()
            .find_map(|line| line.strip_prefix("gapless_blocks_head_lag_seconds{pipeline=\"blocks.main\"} "));
        let lag: u64 = lag.expect("a lag").parse().expect("a number");
        assert!((100..200).contains(&lag), "{lag}");
        assert!(text.contains("gapless_blocks_head{pipeline=\"blocks.main\"} 7"), "{text}");
        assert!(text.contains("gapless_blocks_head_stored_total{pipeline=\"blocks.main\"} 3"), "{text}");
        drop(figures);
        let text = metrics.render();
        assert!(!text.contains("gapless_blocks_head{") && !text.contains("head_lag_seconds{"), "{text}");
        assert!(text.contains("gapless_blocks_head_stored_total{pipeline=\"blocks.main\"} 3"), "{text}");
    }
}
