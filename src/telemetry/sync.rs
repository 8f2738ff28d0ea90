//! Figures of what is copied from one Redis to another.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::blocks::PipelineLabels;

/// A bucket of a pipeline, and how its streams stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    pipeline: String,
    bucket: u32,
    state: &'static str,
}

/// A bucket of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    pipeline: String,
    bucket: u32,
}

/// What the units that copy count.
#[derive(Debug, Default)]
pub struct SyncMetrics {
    entries: Family<PipelineLabels, Counter>,
    bytes: Family<PipelineLabels, Counter>,
    streams: Family<StreamLabels, Gauge>,
    lost: Family<BucketLabels, Gauge>,
    lag: Family<BucketLabels, Gauge>,
    lag_seconds: Family<BucketLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

impl SyncMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("sync_entries", "entries written to the target", self.entries.clone());
        r.register_with_unit("sync_copied", "bytes of entries written to the target", Unit::Bytes, self.bytes.clone());
        let help = "streams by how they stand, on the node that copies them";
        r.register("sync_streams", help, self.streams.clone());
        let help = "entries that the source lost before they were copied";
        r.register("sync_lost_entries", help, self.lost.clone());
        let help = "entries that are not on the target yet, of all streams";
        r.register("sync_lag_entries", help, self.lag.clone());
        let help = "longest time between the last id of a stream on the source and on the target";
        r.register_with_unit("sync_lag", help, Unit::Seconds, self.lag_seconds.clone());
    }

    /// So much was written.
    pub fn copied(&self, pipeline: &str, entries: usize, bytes: usize) {
        let labels = PipelineLabels { pipeline: pipeline.to_owned() };
        self.entries.get_or_create(&labels).inc_by(entries as u64);
        self.bytes.get_or_create(&labels).inc_by(bytes as u64);
    }

    /// So the streams of a bucket stand: copied, left alone, and of the copied those with a backlog.
    pub fn streams(&self, pipeline: &str, bucket: u32, counts: [usize; 3], lost: u64) {
        for (state, count) in ["live", "stopped", "behind"].into_iter().zip(counts) {
            let labels = StreamLabels { pipeline: pipeline.to_owned(), bucket, state };
            self.streams.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let labels = BucketLabels { pipeline: pipeline.to_owned(), bucket };
        self.lost.get_or_create(&labels).set(i64::try_from(lost).unwrap_or(i64::MAX));
    }

    /// So far a bucket is behind: entries of all its streams, and milliseconds of the one that is behind the longest.
    pub fn lag(&self, pipeline: &str, bucket: u32, entries: u64, ms: u64) {
        let labels = BucketLabels { pipeline: pipeline.to_owned(), bucket };
        self.lag.get_or_create(&labels).set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.lag_seconds.get_or_create(&labels).set(ms as f64 / 1e3);
    }
}
