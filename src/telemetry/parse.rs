//! Figures of the parse step: one LogParser a pipeline, so one set of rows each, while it runs here.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::blocks::PipelineLabels;
use super::logs::ReasonLabels;
use super::metrics::Metrics;

/// What LogParsers count.
#[derive(Debug, Default)]
pub struct ParseMetrics {
    events: Family<PipelineLabels, Counter>,
    unparsed: Family<ReasonLabels, Counter>,
    lag: Family<PipelineLabels, Gauge>,
    missed: Family<PipelineLabels, Gauge>,
    trimmed: Family<PipelineLabels, Counter>,
    dropped: Family<PipelineLabels, Counter>,
}

impl ParseMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("logs_parse_events", "lines that became events", self.events.clone());
        r.register("logs_parse_unparsed", "lines that became none, by reason", self.unparsed.clone());
        r.register("logs_parse_lag_lines", "lines that are not parsed yet", self.lag.clone());
        let help = "lines that left the stream before they were parsed, ever";
        r.register("logs_parse_missed_lines", help, self.missed.clone());
        let help = "records that left the outputs of the parse step";
        r.register("logs_parse_trimmed", help, self.trimmed.clone());
        let help = "records that left the outputs of the parse step before every group had acknowledged them";
        r.register("logs_parse_dropped", help, self.dropped.clone());
    }
}

/// The figures of one LogParser. Its gauges vanish with it.
#[derive(Debug)]
pub struct ParseFigures {
    metrics: Arc<Metrics>,
    labels: PipelineLabels,
}

impl ParseFigures {
    /// Begins; the counters show from the start.
    pub fn new(metrics: &Arc<Metrics>, pipeline: &str) -> Self {
        let figures = Self { metrics: metrics.clone(), labels: PipelineLabels { pipeline: pipeline.to_owned() } };
        let parse = &figures.metrics.parse;
        for family in [&parse.events, &parse.trimmed, &parse.dropped] {
            drop(family.get_or_create(&figures.labels));
        }
        figures
    }

    /// So many lines became events, and so many none, by reason.
    pub fn committed(&self, events: u64, reasons: &BTreeMap<&'static str, u64>) {
        let parse = &self.metrics.parse;
        parse.events.get_or_create(&self.labels).inc_by(events);
        for (reason, lines) in reasons {
            let labels = ReasonLabels { pipeline: self.labels.pipeline.clone(), reason };
            parse.unparsed.get_or_create(&labels).inc_by(*lines);
        }
    }

    /// So many lines wait, and so many were missed, ever.
    pub fn seen(&self, lag: u64, missed: u64) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.parse.lag.get_or_create(&self.labels).set(number(lag));
        self.metrics.parse.missed.get_or_create(&self.labels).set(number(missed));
    }

    /// Records left the outputs, so many of them before everybody had acknowledged them.
    pub fn trimmed(&self, records: u64, unread: u64) {
        self.metrics.parse.trimmed.get_or_create(&self.labels).inc_by(records);
        self.metrics.parse.dropped.get_or_create(&self.labels).inc_by(unread);
    }
}

impl Drop for ParseFigures {
    fn drop(&mut self) {
        self.metrics.parse.lag.remove(&self.labels);
        self.metrics.parse.missed.remove(&self.labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_and_the_lag_goes_with_its_parser() {
        let metrics = Metrics::new();
        let figures = ParseFigures::new(&metrics, "logs.web");
        figures.committed(3, &BTreeMap::from([("time", 2)]));
        figures.seen(7, 1);
        let text = metrics.render();
        for line in [
            r#"gapless_logs_parse_events_total{pipeline="logs.web"} 3"#,
            r#"gapless_logs_parse_unparsed_total{pipeline="logs.web",reason="time"} 2"#,
            r#"gapless_logs_parse_lag_lines{pipeline="logs.web"} 7"#,
            r#"gapless_logs_parse_missed_lines{pipeline="logs.web"} 1"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
        drop(figures);
        let text = metrics.render();
        assert!(!text.contains("lag_lines{") && text.contains("logs_parse_events_total{"), "{text}");
    }
}
