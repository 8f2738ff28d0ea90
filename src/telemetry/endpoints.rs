//! The metrics of endpoints: how each was asked, and what came of it.
//!
//! Labels are bounded by the configuration: a pipeline names at most 64 endpoints, shown without credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::metrics::Metrics;

/// What came of one request to an endpoint. Of several that hold, the last one in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestOutcome {
    /// What was asked for.
    Ok,
    /// A height above the endpoint's head, which no endpoint had either.
    NotYet,
    /// A height above the endpoint's head, which the chain has: it lags behind.
    Lagging,
    /// A height that the endpoint threw away.
    Pruned,
    /// Too much for one request or answer.
    TooLarge,
    /// An answer that is not the protocol, or another block than was asked for.
    Malformed,
    /// Another chain.
    WrongChain,
    /// Too many requests.
    Limited,
    /// No connection, a time-out, an error of the server.
    Unreachable,
    /// The call ended before the answer came: its deadline, or the end of its turn.
    Cut,
}

impl RequestOutcome {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::NotYet,
        Self::Lagging,
        Self::Pruned,
        Self::TooLarge,
        Self::Malformed,
        Self::WrongChain,
        Self::Limited,
        Self::Unreachable,
        Self::Cut,
    ];

    /// As the label says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotYet => "not_yet",
            Self::Lagging => "lagging",
            Self::Pruned => "pruned",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::WrongChain => "wrong_chain",
            Self::Limited => "limited",
            Self::Unreachable => "unreachable",
            Self::Cut => "cut",
        }
    }
}

impl EncodeLabelValue for RequestOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// Which endpoint of which pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct EndpointLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// Scheme, host and port.
    pub endpoint: String,
}

/// An endpoint and what came of requests to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// Scheme, host and port.
    pub endpoint: String,
    /// What came of them.
    pub outcome: RequestOutcome,
}

/// The families of all endpoints of a node.
#[derive(Debug)]
pub struct EndpointMetrics {
    /// Requests by what came of them.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from sending a request to the end of its answer.
    pub request_seconds: Family<EndpointLabels, Histogram, fn() -> Histogram>,
    /// Heights in one request, as a unit of this node last set it.
    pub batch_heights: Family<EndpointLabels, Gauge>,
    rests: Rests,
}

/// 1 ms to 65 s.
fn request_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl EndpointMetrics {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_buckets as fn() -> Histogram),
            batch_heights: Family::default(),
            rests: Rests::default(),
        }
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register("endpoint_requests", "requests to an endpoint by what came of them", self.requests.clone());
        let help = "time from sending a request to the end of its answer";
        r.register_with_unit("endpoint_request", help, Unit::Seconds, self.request_seconds.clone());
        r.register("endpoint_batch_heights", "heights in one request to an endpoint", self.batch_heights.clone());
        r.register_collector(Box::new(self.rests.clone()));
    }
}

/// Until when each endpoint is left alone by the unit that does so for the longest.
#[derive(Debug, Clone, Default)]
struct Rests(Arc<Mutex<BTreeMap<EndpointLabels, Instant>>>);

impl Rests {
    fn until(&self, labels: &EndpointLabels, until: Instant) {
        let mut rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = rests.entry(labels.clone()).or_insert(until);
        *end = (*end).max(until);
    }
}

impl Collector for Rests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rests = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        let help = "time for which an endpoint is still left alone";
        let kind = ConstGauge::new(0.0_f64).metric_type();
        // The name has the prefix of the registry; a collector adds its unit itself.
        let mut family = encoder.encode_descriptor("endpoint_rest", help, Some(&Unit::Seconds), kind)?;
        for (labels, until) in &rests {
            let left = ConstGauge::new(until.saturating_duration_since(now).as_secs_f64());
            left.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// Where the sources of one pipeline write down what they see.
#[derive(Clone)]
pub struct SourceWatch {
    metrics: Arc<Metrics>,
    pipeline: String,
}

impl SourceWatch {
    /// For the pipeline `kind.name`.
    pub fn new(metrics: Arc<Metrics>, pipeline: impl ToString) -> Self {
        Self { metrics, pipeline: pipeline.to_string() }
    }

    /// For one endpoint, shown without credentials. Its counters begin at zero: a rate over a counter that appears with
    /// its first event misses that event.
    pub fn endpoint(&self, shown: &str) -> EndpointWatch {
        let labels = EndpointLabels { pipeline: self.pipeline.clone(), endpoint: shown.to_owned() };
        let of = &self.metrics.endpoints;
        for outcome in RequestOutcome::ALL {
            drop(of.requests.get_or_create(&request_labels(&labels, outcome)));
        }
        drop(of.request_seconds.get_or_create(&labels));
        of.rests.until(&labels, Instant::now());
        EndpointWatch { metrics: self.metrics.clone(), labels }
    }
}

fn request_labels(labels: &EndpointLabels, outcome: RequestOutcome) -> RequestLabels {
    RequestLabels { pipeline: labels.pipeline.clone(), endpoint: labels.endpoint.clone(), outcome }
}

/// Where one endpoint of a source writes down what it sees.
pub struct EndpointWatch {
    metrics: Arc<Metrics>,
    labels: EndpointLabels,
}

impl EndpointWatch {
    /// A request ended.
    pub fn request(&self, outcome: RequestOutcome, took: Duration) {
        let of = &self.metrics.endpoints;
        of.requests.get_or_create(&request_labels(&self.labels, outcome)).inc();
        of.request_seconds.get_or_create(&self.labels).observe(took.as_secs_f64());
    }

    /// So many heights go into the next request.
    pub fn batch(&self, heights: u32) {
        self.metrics.endpoints.batch_heights.get_or_create(&self.labels).set(i64::from(heights));
    }

    /// It is left alone until then.
    pub fn rests(&self, until: Instant) {
        self.metrics.endpoints.rests.until(&self.labels, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_begins_at_zero_and_its_rest_runs_out() {
        let metrics = Metrics::new();
        let watch = SourceWatch::new(metrics.clone(), "blocks.main").endpoint("http://a:1");
        let labels = "{pipeline=\"blocks.main\",endpoint=\"http://a:1\"";
        let text = metrics.render();
        for outcome in RequestOutcome::ALL {
            let line = format!("gapless_endpoint_requests_total{labels},outcome=\"{}\"}} 0", outcome.as_str());
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains(&format!("gapless_endpoint_rest_seconds{labels}}} 0.0\n")), "{text}");
        watch.request(RequestOutcome::Limited, Duration::from_millis(3));
        watch.batch(7);
        watch.rests(Instant::now() + Duration::from_secs(600));
        watch.rests(Instant::now());
        let text = metrics.render();
        for line in [
            format!("gapless_endpoint_requests_total{labels},outcome=\"limited\"}} 1\n"),
            format!("gapless_endpoint_request_seconds_count{labels}}} 1\n"),
            format!("gapless_endpoint_batch_heights{labels}}} 7\n"),
            format!("gapless_endpoint_rest_seconds{labels}}} 599."),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
