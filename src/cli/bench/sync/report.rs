//! Report: every figure of every round, their medians, and how they are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::Measured;
use super::super::server::Durability;
use super::super::stats::{least, median, most};
use super::Way;

/// What was the same in all rounds.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Entries in a round.
    pub entries: u64,
    /// Bytes of an entry's value.
    pub bytes: u32,
    /// Rounds.
    pub runs: u32,
    /// Processors, shared by node, both Redis servers and this program.
    pub cpus: u64,
    /// Version of the servers.
    pub redis: String,
    /// `release` or `debug`.
    pub build: &'static str,
    /// The node keeps a chain of evidence.
    pub evidence: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// The thinnest client copies.
    Limit(Way),
    /// A real node does.
    Node(Way),
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Row::Limit(Way::Tail) => "limit: XREAD, XADD by 1000",
            Row::Limit(Way::Group) => "limit: XREADGROUP, XADD, XACK by 1000",
            Row::Node(Way::Tail) => "node: mode = \"tail\"",
            Row::Node(Way::Group) => "node: mode = \"group\"",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figure {
    /// Entries.
    pub entries: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// CPU seconds of the node; 0 where none ran.
    pub cpu: f64,
    /// The most memory of the node, KiB; 0 where none ran.
    pub peak_kib: u64,
}

impl Figure {
    fn rate(self) -> f64 {
        self.entries as f64 / self.seconds
    }

    fn cpu_per_million(self) -> f64 {
        self.cpu * 1e6 / self.entries as f64
    }
}

#[derive(Debug)]
struct Line {
    durability: Durability,
    streams: u32,
    row: Row,
    /// Figures, each beside the limits of its round: by position, through a group.
    runs: Vec<(Figure, [Figure; 2])>,
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    conditions: Conditions,
    lines: Vec<Line>,
}

impl Report {
    /// Nothing yet.
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, lines: Vec::new() }
    }

    /// One measurement beside the limits of the same round.
    pub(super) fn add(&mut self, durability: Durability, streams: u32, row: Row, figure: Figure, limits: [Figure; 2]) {
        let same = |line: &&mut Line| (line.durability, line.streams, line.row) == (durability, streams, row);
        match self.lines.iter_mut().find(same) {
            Some(line) => line.runs.push((figure, limits)),
            None => self.lines.push(Line { durability, streams, row, runs: vec![(figure, limits)] }),
        }
    }
}

impl Measured for Report {
    fn to_json(&self) -> Value {
        let c = &self.conditions;
        json!({
            "conditions": {
                "entries": c.entries, "bytes": c.bytes, "runs": c.runs, "cpus": c.cpus, "redis": c.redis, "build": c.build, "evidence": c.evidence,
            },
            "rows": self.lines.iter().map(Line::to_json).collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let c = &self.conditions;
        let mut text = format!(
            "{} entries of {} B, medians of {} runs, {} CPUs shared with two redis {}, {} build; every entry compared\n",
            c.entries, c.bytes, c.runs, c.cpus, c.redis, c.build
        );
        let mut last = None;
        for line in &self.lines {
            let group = (line.durability, line.streams);
            if last.replace(group) != Some(group) {
                let streams =
                    if line.streams == 1 { "1 stream".to_owned() } else { format!("{} streams", line.streams) };
                // Writing into a String cannot fail.
                let _ = writeln!(
                    text,
                    "\n{streams}, append-only file: {}\n{:<38} {:>10} {:>21} {:>8} {:>9} {:>9} {:>5}",
                    line.durability.as_str(),
                    "",
                    "entries/s",
                    "(min to max)",
                    "of tail",
                    "of group",
                    "CPU s / M",
                    "MiB"
                );
            }
            let _ = writeln!(text, "{}", line.to_text());
        }
        text
    }
}

impl Line {
    fn all(&self, take: impl Fn(&(Figure, [Figure; 2])) -> f64) -> Vec<f64> {
        self.runs.iter().map(take).collect()
    }

    fn middle(&self, take: impl Fn(&(Figure, [Figure; 2])) -> f64) -> f64 {
        median(&self.all(take))
    }

    fn of_limit(&self, which: usize) -> f64 {
        self.middle(|(figure, limits)| figure.rate() / limits[which].rate())
    }

    fn to_json(&self) -> Value {
        let rates = self.all(|(figure, _)| figure.rate());
        json!({
            "aof": self.durability.as_str(),
            "streams": self.streams,
            "what": self.row.name(),
            "per_second": median(&rates).round(), "min": least(&rates).round(), "max": most(&rates).round(),
            "of_limit_tail": self.of_limit(0),
            "of_limit_group": self.of_limit(1),
            "cpu_seconds_per_million": self.middle(|(figure, _)| figure.cpu_per_million()),
            "peak_kib": self.middle(|(figure, _)| figure.peak_kib as f64),
        })
    }

    fn to_text(&self) -> String {
        let rates = self.all(|(figure, _)| figure.rate());
        let range = format!("({:.0} to {:.0})", least(&rates), most(&rates));
        let or_nothing = |value: f64, shown: String| if value > 0.0 { shown } else { "-".to_owned() };
        let cpu = self.middle(|(figure, _)| figure.cpu_per_million());
        let mib = self.middle(|(figure, _)| figure.peak_kib as f64) / 1024.0;
        format!(
            "{:<38} {:>10.0} {range:>21} {:>8.2} {:>9.2} {:>9} {:>5}",
            self.row.name(),
            median(&rates),
            self.of_limit(0),
            self.of_limit(1),
            or_nothing(cpu, format!("{cpu:.2}")),
            or_nothing(mib, format!("{mib:.0}")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_each_round_and_their_median_is_printed() {
        let conditions = Conditions {
            entries: 100,
            bytes: 9,
            runs: 3,
            cpus: 2,
            redis: "7.0".to_owned(),
            build: "release",
            evidence: false,
        };
        let mut report = Report::new(conditions);
        for (seconds, limit) in [(1.0, 0.5), (4.0, 1.0), (2.0, 1.0)] {
            let of = |seconds| Figure { entries: 100, seconds, cpu: 0.0001, peak_kib: 2048 };
            report.add(Durability::Nothing, 16, Row::Node(Way::Tail), of(seconds), [of(limit), of(2.0 * limit)]);
        }
        let json = report.to_json();
        let row = &json["rows"][0];
        assert_eq!((&row["per_second"], &row["streams"], &row["aof"]), (&json!(50.0), &json!(16), &json!("off")));
        assert_eq!((&row["of_limit_tail"], &row["of_limit_group"]), (&json!(0.5), &json!(1.0)));
        let text = report.to_text();
        assert!(text.contains("\n16 streams, append-only file: off\n"), "{text}");
        let line = text.lines().last().expect("a line");
        assert!(line.starts_with("node: mode = \"tail\"") && line.contains("(25 to 100)"), "{text}");
        assert!(line.ends_with("0.50      1.00      1.00     2"), "{line}");
    }
}
