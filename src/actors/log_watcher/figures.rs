//! What a LogWatcher says of its files: metrics at every look, and notices in the log, once each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::actors::turn::Unit;
use crate::sources::files::{FileState, FilesReport, LogFiles};
use crate::telemetry::logs::{FileLag, FilesSeen, LogFigures};

/// How often the report of all files is taken, at the most.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// The figures of one life.
pub(super) struct Figures {
    figures: LogFigures,
    last: Mutex<Option<(Instant, [u64; 4])>>,
}

impl Figures {
    pub fn new(unit: &Unit) -> Self {
        Self { figures: LogFigures::new(&unit.metrics, &unit.pipeline().to_string()), last: Mutex::default() }
    }

    /// Lines were committed; some were read again and stood in the stream.
    pub fn committed(&self, unit: &Unit, lines: usize, bytes: usize, repeats: usize) {
        self.figures.committed(lines, bytes, unit.lease.appended().length);
        self.figures.repeats(repeats);
    }

    /// Entries left the stream, some of them before they were acknowledged.
    pub fn trimmed(&self, entries: u64, unread: u64) {
        self.figures.trimmed(entries, unread);
    }

    /// Hosts whose files nobody follows.
    pub fn orphans(&self, hosts: usize) {
        self.figures.orphans(hosts);
    }

    /// Takes down how the files stand, if that was not done a moment ago.
    pub fn look(&self, unit: &Unit, files: &LogFiles) {
        for notice in files.notices() {
            let unit = unit.lease.unit();
            if notice.is_warning() { tracing::warn!(%unit, "{notice}") } else { tracing::info!(%unit, "{notice}") }
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(at, _)| at.elapsed() < REPORT_EVERY) {
            return;
        }
        let report = files.report();
        let odd = [report.cut_lines, report.torn_lines, report.nul_bytes, report.lost_bytes];
        // What was counted before this life began is another life's.
        let before = last.map_or(odd, |(_, before)| before);
        self.figures.odd(std::array::from_fn(|n| odd[n].saturating_sub(before[n])));
        *last = Some((Instant::now(), odd));
        drop(last);
        self.figures.seen(seen(&report));
    }
}

fn seen(report: &FilesReport) -> FilesSeen {
    let mut faults: BTreeMap<&'static str, usize> =
        ["denied", "no_handles", "packed", "device", "other"].map(|reason| (reason, 0)).into();
    let of_files = report.files.iter().filter_map(|file| file.fault.as_ref().map(|(kind, _)| *kind));
    for kind in of_files.chain(report.faults.iter().map(|(_, kind, _)| *kind)) {
        *faults.entry(kind.as_str()).or_default() += 1;
    }
    let lag = |file: &crate::sources::files::FileReport| FileLag {
        file: file.path.display().to_string(),
        behind: file.behind,
        oldest: file.oldest.unwrap_or_default(),
    };
    FilesSeen {
        files: report.files.iter().filter(|file| file.state == FileState::Followed).count(),
        held: report.held,
        beyond: report.beyond,
        faults: faults.into_iter().collect(),
        lags: report.files.iter().map(lag).collect(),
    }
}
