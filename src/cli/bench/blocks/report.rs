//! Report: every figure of every round, their medians, and how they are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::Measured;
use super::super::stats::{least, median, most};

/// What was the same in all rounds.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Blocks of the past in a round.
    pub blocks: u64,
    /// Bytes of a block's JSON, about.
    pub bytes: u32,
    /// Rounds.
    pub runs: u32,
    /// Processors, shared by node, chain, Redis and this program.
    pub cpus: u64,
    /// Version of the server.
    pub redis: String,
    /// `release` or `debug`.
    pub build: &'static str,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The thinnest client fetches and forgets.
    Fetch,
    /// The thinnest writer of durable files.
    Files,
    /// The store alone, so many blocks a call.
    Store(u64),
    /// The Collector follows the head.
    Head,
    /// So many nodes fill the past.
    Past(u32),
}

impl Row {
    fn name(self) -> String {
        match self {
            Row::Fetch => "limit: fetched in batches of 20, forgotten".to_owned(),
            Row::Files => "limit: a file each, synced".to_owned(),
            Row::Store(batch) => format!("store: {batch} a call, digests"),
            Row::Head => "head: one collector".to_owned(),
            Row::Past(1) => "past: one node, 4 slots".to_owned(),
            Row::Past(nodes) => format!("past: {nodes} nodes, 4 slots"),
        }
    }

    /// Which limit its share is of.
    fn limit(self) -> &'static str {
        match self {
            Row::Fetch | Row::Head | Row::Past(_) => "fetch",
            Row::Files | Row::Store(_) => "files",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure {
    /// Blocks.
    pub blocks: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// CPU seconds of the node; 0 where none ran.
    pub cpu: f64,
    /// The most memory of the node, KiB; 0 where none ran.
    pub peak_kib: u64,
}

impl Figure {
    fn rate(self) -> f64 {
        self.blocks as f64 / self.seconds
    }
}

#[derive(Debug)]
struct Line {
    row: Row,
    /// Figures, each beside the limit of its round.
    runs: Vec<(Figure, Figure)>,
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

    /// One measurement beside the limit of the same round.
    pub fn add(&mut self, row: Row, figure: Figure, limit: Figure) {
        match self.lines.iter_mut().find(|line| line.row == row) {
            Some(line) => line.runs.push((figure, limit)),
            None => self.lines.push(Line { row, runs: vec![(figure, limit)] }),
        }
    }
}

impl Measured for Report {
    fn to_json(&self) -> Value {
        let c = &self.conditions;
        json!({
            "conditions": {
                "blocks": c.blocks, "bytes": c.bytes, "runs": c.runs, "cpus": c.cpus, "redis": c.redis, "build": c.build,
            },
            "rows": self.lines.iter().map(Line::to_json).collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let c = &self.conditions;
        let mut text = format!(
            "{} blocks of about {} B, medians of {} runs, {} CPUs shared with the chain and redis {} (append-only file \
             everysec), {} build\n\n",
            c.blocks, c.bytes, c.runs, c.cpus, c.redis, c.build
        );
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:<44} {:>9} {:>19} {:>12} {:>14} {:>6}",
            "", "blocks/s", "(min to max)", "of limit", "CPU s / 1,000", "MiB"
        );
        for line in &self.lines {
            let _ = writeln!(text, "{}", line.to_text());
        }
        text
    }
}

impl Line {
    fn all(&self, take: impl Fn(&(Figure, Figure)) -> f64) -> Vec<f64> {
        self.runs.iter().map(take).collect()
    }

    fn middle(&self, take: impl Fn(&(Figure, Figure)) -> f64) -> f64 {
        median(&self.all(take))
    }

    fn to_json(&self) -> Value {
        let rates = self.all(|(figure, _)| figure.rate());
        json!({
            "what": self.row.name(),
            "per_second": median(&rates).round(), "min": least(&rates).round(), "max": most(&rates).round(),
            "limit": self.row.limit(),
            "of_limit": self.middle(|(figure, limit)| figure.rate() / limit.rate()),
            "cpu_seconds_per_1000": self.middle(|(figure, _)| per_thousand(figure)),
            "peak_kib": self.middle(|(figure, _)| figure.peak_kib as f64),
        })
    }

    fn to_text(&self) -> String {
        let rates = self.all(|(figure, _)| figure.rate());
        let range = format!("({:.0} to {:.0})", least(&rates), most(&rates));
        let share = self.middle(|(figure, limit)| figure.rate() / limit.rate());
        let or_nothing = |value: f64, shown: String| if value > 0.0 { shown } else { "-".to_owned() };
        let cpu = self.middle(|(figure, _)| per_thousand(figure));
        let mib = self.middle(|(figure, _)| figure.peak_kib as f64) / 1024.0;
        format!(
            "{:<44} {:>9.0} {range:>19} {:>12} {:>14} {:>6}",
            self.row.name(),
            median(&rates),
            format!("{share:.2} {}", self.row.limit()),
            or_nothing(cpu, format!("{cpu:.3}")),
            or_nothing(mib, format!("{mib:.0}")),
        )
    }
}

fn per_thousand(figure: &Figure) -> f64 {
    figure.cpu * 1000.0 / figure.blocks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_each_round_and_their_median_is_printed() {
        let conditions =
            Conditions { blocks: 100, bytes: 9, runs: 3, cpus: 2, redis: "7.0".to_owned(), build: "release" };
        let mut report = Report::new(conditions);
        for (seconds, limit) in [(1.0, 0.5), (4.0, 1.0), (2.0, 1.0)] {
            let of = |seconds| Figure { blocks: 100, seconds, cpu: 0.1, peak_kib: 2048 };
            report.add(Row::Past(1), of(seconds), of(limit));
        }
        let json = report.to_json();
        assert_eq!((&json["rows"][0]["per_second"], &json["rows"][0]["of_limit"]), (&json!(50.0), &json!(0.5)));
        let text = report.to_text();
        let line = text.lines().last().expect("a line");
        assert!(line.starts_with("past: one node, 4 slots") && line.contains("(25 to 100)"), "{text}");
        assert!(line.ends_with("0.50 fetch          1.000      2"), "{line}");
    }
}
