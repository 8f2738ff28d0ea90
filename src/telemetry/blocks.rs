//! The figures of blocks pipelines: counters of what the pool did, gauges of what the detector last saw.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Which pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PipelineLabels {
    /// `kind.name`.
    pub pipeline: String,
}

/// A contradiction that somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AlarmLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// The actor that noticed it, without its slot.
    pub actor: String,
    /// `final_link`: a final block that does not link to held ones.
    pub kind: &'static str,
}

/// What one look of a detector saw. Heights are final wanted ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Wanted heights.
    pub wanted: u64,
    /// Of them held.
    pub held: u64,
    /// Neither held nor parked.
    pub missing: u64,
    /// Parked.
    pub parked: u64,
    /// Ranges of missing heights.
    pub gaps: u64,
    /// Asked for, without an outcome yet.
    pub requested: u64,
    /// Age of the oldest gap in seconds; 0 where there is none.
    pub oldest_gap_seconds: u64,
    /// The look saw every wanted height; else the figures above, except `wanted`, are at least so much.
    pub whole: bool,
}

/// The metrics of all blocks pipelines of a node.
#[derive(Debug, Default)]
pub struct BlocksMetrics {
    /// Blocks that stood in the store and are held again without being fetched.
    pub adopted: Family<PipelineLabels, Counter>,
    /// Blocks that the pool fetched and holds.
    pub fetched: Family<PipelineLabels, Counter>,
    /// Heights that were parked.
    pub parked: Family<PipelineLabels, Counter>,
    /// Parked heights that are asked for again.
    pub unparked: Family<PipelineLabels, Counter>,
    /// Held heights whose block was lost or damaged, and that are missing again.
    pub lost: Family<PipelineLabels, Counter>,
    /// Blocks that contradicted final ones.
    pub alarms: Family<AlarmLabels, Counter>,
    gauges: [Family<PipelineLabels, Gauge>; GAUGES.len()],
}

/// A gauge: its name, its unit, its help, and its value of a look.
type Shown = (&'static str, Option<Unit>, &'static str, fn(&Seen) -> u64);

const GAUGES: [Shown; 8] = [
    ("blocks_wanted_heights", None, "final heights that are wanted", |seen| seen.wanted),
    ("blocks_held_heights", None, "of them held", |seen| seen.held),
    ("blocks_missing_heights", None, "of them neither held nor parked", |seen| seen.missing),
    ("blocks_parked_heights", None, "of them parked with a reason", |seen| seen.parked),
    ("blocks_requested_heights", None, "of them asked for, without an outcome yet", |seen| seen.requested),
    ("blocks_gaps", None, "ranges of missing heights", |seen| seen.gaps),
    ("blocks_oldest_gap", Some(Unit::Seconds), "age of the oldest gap", |seen| seen.oldest_gap_seconds),
    (
        "blocks_figures_whole",
        None,
        "1 if the last look saw everything, 0 if the figures are at least so much",
        |seen| u64::from(seen.whole),
    ),
];

impl BlocksMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("blocks_adopted", "blocks of the store held again without a request", self.adopted.clone());
        r.register("blocks_fetched", "blocks that the pool fetched and holds", self.fetched.clone());
        r.register("blocks_parked", "heights parked with a reason", self.parked.clone());
        r.register("blocks_unparked", "parked heights asked for again", self.unparked.clone());
        r.register("blocks_lost", "held heights whose block was lost or damaged", self.lost.clone());
        r.register("blocks_alarms", "blocks that contradicted final ones", self.alarms.clone());
        for ((name, unit, help, _), gauge) in GAUGES.into_iter().zip(&self.gauges) {
            match unit {
                Some(unit) => r.register_with_unit(name, help, unit, gauge.clone()),
                None => r.register(name, help, gauge.clone()),
            }
        }
    }

    /// Shows what the detector of a pipeline has just seen.
    pub fn show(&self, pipeline: &str, seen: &Seen) {
        let labels = PipelineLabels { pipeline: pipeline.to_owned() };
        for ((_, _, _, value), gauge) in GAUGES.iter().zip(&self.gauges) {
            gauge.get_or_create(&labels).set(i64::try_from(value(seen)).unwrap_or(i64::MAX));
        }
    }

    /// Forgets what the detector saw: it is elsewhere now, and old figures must not look new.
    pub fn forget(&self, pipeline: &str) {
        let labels = PipelineLabels { pipeline: pipeline.to_owned() };
        for gauge in &self.gauges {
            gauge.remove(&labels);
        }
    }

    /// Shows the counters of a pipeline from the start, for rates over them.
    pub fn begin_at_zero(&self, pipeline: &str) {
        let labels = PipelineLabels { pipeline: pipeline.to_owned() };
        for family in [&self.adopted, &self.fetched, &self.parked, &self.unparked, &self.lost] {
            drop(family.get_or_create(&labels));
        }
        for actor in ["collector", "gap_fixer"] {
            let (pipeline, actor) = (pipeline.to_owned(), actor.to_owned());
            drop(self.alarms.get_or_create(&AlarmLabels { pipeline, actor, kind: "final_link" }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    #[test]
    fn figures_are_shown_until_the_detector_leaves() {
        let metrics = Metrics::new();
        let seen =
            Seen { wanted: 100, held: 90, missing: 7, parked: 3, gaps: 2, oldest_gap_seconds: 61, ..Seen::default() };
        metrics.blocks.show("blocks.main", &seen);
        metrics.blocks.begin_at_zero("blocks.main");
        let text = metrics.render();
        for line in [
            "gapless_blocks_wanted_heights{pipeline=\"blocks.main\"} 100",
            "gapless_blocks_missing_heights{pipeline=\"blocks.main\"} 7",
            "gapless_blocks_oldest_gap_seconds{pipeline=\"blocks.main\"} 61",
            "gapless_blocks_figures_whole{pipeline=\"blocks.main\"} 0",
            "gapless_blocks_adopted_total{pipeline=\"blocks.main\"} 0",
            "gapless_blocks_alarms_total{pipeline=\"blocks.main\",actor=\"gap_fixer\",kind=\"final_link\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        metrics.blocks.forget("blocks.main");
        assert!(!metrics.render().contains("gapless_blocks_wanted_heights{"), "old figures look new");
    }
}
