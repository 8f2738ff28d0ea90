//! Figures of followed log files: one LogWatcher a pipeline and host, so one set of rows each, while it runs here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::blocks::PipelineLabels;
use super::metrics::Metrics;

/// Files whose lag is shown one by one; of more, those that are farthest behind.
pub const FILES_SHOWN_MAX: usize = 200;

/// One file of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct FileLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// Its path.
    pub file: String,
}

/// A pipeline and a word for why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// `kind.name`.
    pub pipeline: String,
    /// Why.
    pub reason: &'static str,
}

/// What LogWatchers count.
#[derive(Debug, Default)]
pub struct LogMetrics {
    lines: Family<PipelineLabels, Counter>,
    bytes: Family<PipelineLabels, Counter>,
    repeats: Family<PipelineLabels, Counter>,
    cut: Family<PipelineLabels, Counter>,
    torn: Family<PipelineLabels, Counter>,
    nul_bytes: Family<PipelineLabels, Counter>,
    lost_bytes: Family<PipelineLabels, Counter>,
    files: Family<PipelineLabels, Gauge>,
    held: Family<PipelineLabels, Gauge>,
    beyond: Family<PipelineLabels, Gauge>,
    faults: Family<ReasonLabels, Gauge>,
    behind_bytes: Family<PipelineLabels, Gauge>,
    oldest_ms: Family<PipelineLabels, Gauge>,
    file_behind_bytes: Family<FileLabels, Gauge>,
    file_oldest_ms: Family<FileLabels, Gauge>,
    stream_entries: Family<PipelineLabels, Gauge>,
    trimmed: Family<PipelineLabels, Counter>,
    dropped: Family<PipelineLabels, Counter>,
    orphans: Family<PipelineLabels, Gauge>,
    shown: Mutex<BTreeSet<FileLabels>>,
}

/// How one file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLag {
    /// Its path.
    pub file: String,
    /// Bytes that are not in the stream.
    pub behind: u64,
    /// For how long the oldest of them has been waiting.
    pub oldest: Duration,
}

/// Everything that one look at the files told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesSeen {
    /// Files that are followed.
    pub files: usize,
    /// Rotated and deleted files that are held open.
    pub held: usize,
    /// Files that match and are not followed.
    pub beyond: usize,
    /// Files and folders that cannot be read, by reason.
    pub faults: Vec<(&'static str, usize)>,
    /// Each file.
    pub lags: Vec<FileLag>,
}

impl LogMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("logs_lines", "lines that were committed", self.lines.clone());
        r.register_with_unit("logs", "bytes of lines that were committed", Unit::Bytes, self.bytes.clone());
        let help = "lines that were read again after a rewind and stood in the stream";
        r.register("logs_repeats", help, self.repeats.clone());
        r.register("logs_cut_lines", "records that hold a part of a line above line_bytes_max", self.cut.clone());
        r.register("logs_torn_lines", "last lines without an end, of files that are finished", self.torn.clone());
        r.register("logs_nul_bytes", "NUL bytes before lines that were passed over", self.nul_bytes.clone());
        let help = "bytes that were known to be unread when their file was lost";
        r.register("logs_lost_bytes", help, self.lost_bytes.clone());
        r.register("logs_files", "files that are followed", self.files.clone());
        r.register("logs_files_held", "rotated and deleted files that are held open", self.held.clone());
        r.register("logs_files_beyond", "files that match and are not followed: files_max", self.beyond.clone());
        r.register("logs_files_faulty", "files and folders that cannot be read", self.faults.clone());
        r.register("logs_behind_bytes", "bytes that are not in the stream yet", self.behind_bytes.clone());
        let help = "age of the oldest byte that is not in the stream yet, in milliseconds";
        r.register("logs_oldest_milliseconds", help, self.oldest_ms.clone());
        let help = "bytes of a file that are not in the stream yet; of many files those farthest behind";
        r.register("logs_file_behind_bytes", help, self.file_behind_bytes.clone());
        let help = "age of the oldest byte of a file that is not in the stream yet, in milliseconds";
        r.register("logs_file_oldest_milliseconds", help, self.file_oldest_ms.clone());
        r.register("logs_stream_entries", "entries of the stream at the last commit", self.stream_entries.clone());
        r.register("logs_trimmed", "entries that left the stream", self.trimmed.clone());
        let help = "entries that left the stream before every group had acknowledged them";
        r.register("logs_dropped", help, self.dropped.clone());
        r.register("logs_orphans", "hosts whose files nobody follows any more", self.orphans.clone());
    }
}

/// The figures of one LogWatcher. Its gauges vanish with it.
#[derive(Debug)]
pub struct LogFigures {
    metrics: Arc<Metrics>,
    labels: PipelineLabels,
}

impl LogFigures {
    /// Begins; the counters of rare events show from the start.
    pub fn new(metrics: &Arc<Metrics>, pipeline: &str) -> Self {
        let figures = Self { metrics: metrics.clone(), labels: PipelineLabels { pipeline: pipeline.to_owned() } };
        let logs = figures.logs();
        let rare = [&logs.cut, &logs.torn, &logs.nul_bytes, &logs.lost_bytes, &logs.repeats, &logs.dropped];
        for family in [&logs.lines, &logs.bytes, &logs.trimmed].into_iter().chain(rare) {
            drop(family.get_or_create(&figures.labels));
        }
        figures
    }

    fn logs(&self) -> &LogMetrics {
        &self.metrics.logs
    }

    fn count(&self, family: &Family<PipelineLabels, Counter>, by: u64) {
        if by > 0 {
            family.get_or_create(&self.labels).inc_by(by);
        }
    }

    fn set(&self, family: &Family<PipelineLabels, Gauge>, value: u64) {
        family.get_or_create(&self.labels).set(number(value));
    }

    /// Lines were committed, of so many bytes; the stream has so many entries now.
    pub fn committed(&self, lines: usize, bytes: usize, stream: u64) {
        self.count(&self.logs().lines, lines as u64);
        self.count(&self.logs().bytes, bytes as u64);
        self.set(&self.logs().stream_entries, stream);
    }

    /// Lines were read again and stood in the stream.
    pub fn repeats(&self, lines: usize) {
        self.count(&self.logs().repeats, lines as u64);
    }

    /// What the files gave that is no whole line, as increments: cut, torn, NUL bytes, lost bytes.
    pub fn odd(&self, [cut, torn, nul, lost]: [u64; 4]) {
        let logs = self.logs();
        for (family, by) in [(&logs.cut, cut), (&logs.torn, torn), (&logs.nul_bytes, nul), (&logs.lost_bytes, lost)] {
            self.count(family, by);
        }
    }

    /// Entries left the stream, so many of them before everybody had acknowledged them.
    pub fn trimmed(&self, entries: u64, unread: u64) {
        self.count(&self.logs().trimmed, entries);
        self.count(&self.logs().dropped, unread);
    }

    /// Hosts whose files nobody follows.
    pub fn orphans(&self, hosts: usize) {
        self.set(&self.logs().orphans, hosts as u64);
    }

    /// What a look at the files showed.
    pub fn seen(&self, mut seen: FilesSeen) {
        let logs = self.logs();
        self.set(&logs.files, seen.files as u64);
        self.set(&logs.held, seen.held as u64);
        self.set(&logs.beyond, seen.beyond as u64);
        for (reason, files) in &seen.faults {
            let labels = ReasonLabels { pipeline: self.labels.pipeline.clone(), reason };
            logs.faults.get_or_create(&labels).set(number(*files as u64));
        }
        self.set(&logs.behind_bytes, seen.lags.iter().map(|lag| lag.behind).sum());
        let oldest = seen.lags.iter().map(|lag| lag.oldest).max().unwrap_or_default();
        self.set(&logs.oldest_ms, millis(oldest));
        seen.lags.sort_by(|a, b| (b.behind, &a.file).cmp(&(a.behind, &b.file)));
        let lags = seen.lags.into_iter().take(FILES_SHOWN_MAX);
        let labels = |file: String| FileLabels { pipeline: self.labels.pipeline.clone(), file };
        let lags: Vec<_> = lags.map(|lag| (labels(lag.file), lag.behind, lag.oldest)).collect();
        self.hide_all_but(lags.iter().map(|(labels, ..)| labels.clone()).collect());
        for (labels, behind, oldest) in lags {
            logs.file_behind_bytes.get_or_create(&labels).set(number(behind));
            logs.file_oldest_ms.get_or_create(&labels).set(number(millis(oldest)));
        }
    }

    /// Rows of files that are no longer shown would stand still for ever.
    fn hide_all_but(&self, now: BTreeSet<FileLabels>) {
        let logs = self.logs();
        let mut shown = logs.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, others): (BTreeSet<_>, _) =
            std::mem::take(&mut *shown).into_iter().partition(|labels| labels.pipeline == self.labels.pipeline);
        for labels in ours.difference(&now) {
            logs.file_behind_bytes.remove(labels);
            logs.file_oldest_ms.remove(labels);
        }
        *shown = others;
        shown.extend(now);
    }
}

impl Drop for LogFigures {
    fn drop(&mut self) {
        self.hide_all_but(BTreeSet::new());
        let logs = self.logs();
        for family in [
            &logs.files,
            &logs.held,
            &logs.beyond,
            &logs.behind_bytes,
            &logs.oldest_ms,
            &logs.stream_entries,
            &logs.orphans,
        ] {
            family.remove(&self.labels);
        }
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_longer_followed_are_no_longer_shown() {
        let metrics = Metrics::new();
        let figures = LogFigures::new(&metrics, "logs.web");
        let lag = |file: &str, behind| FileLag { file: file.to_owned(), behind, oldest: Duration::from_millis(5) };
        figures.seen(FilesSeen { files: 2, lags: vec![lag("/a", 7), lag("/b", 0)], ..FilesSeen::default() });
        let text = metrics.render();
        assert!(text.contains(r#"gapless_logs_file_behind_bytes{pipeline="logs.web",file="/a"} 7"#), "{text}");
        assert!(text.contains(r#"gapless_logs_behind_bytes{pipeline="logs.web"} 7"#), "{text}");
        figures.seen(FilesSeen { files: 1, lags: vec![lag("/b", 3)], ..FilesSeen::default() });
        let text = metrics.render();
        assert!(!text.contains("/a") && text.contains("/b"), "{text}");
        drop(figures);
        let text = metrics.render();
        assert!(!text.contains("/b") && text.contains("gapless_logs_lines"), "{text}");
    }
}
