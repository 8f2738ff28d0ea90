//! Report: every figure of every round, their medians, and how they are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::Measured;
use super::super::server::Durability;
use super::super::stats::{least, median, most};
use super::limits::Fields;

/// What was the same in all rounds.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Lines of the file.
    pub lines: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Lines a second where latency is measured.
    pub rate: u32,
    /// Rounds.
    pub runs: u32,
    /// Processors, shared by node, Redis and this program.
    pub cpus: u64,
    /// Version of the server.
    pub redis: String,
    /// `release` or `debug`.
    pub build: &'static str,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The thinnest client appends.
    Limit(Fields),
    /// A node follows the file, with so many subscribers.
    Follow(u32),
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Row::Limit(Fields::One) => "limit: XADD by 500, the line alone",
            Row::Limit(Fields::Same) => "limit: XADD by 500, the same fields",
            Row::Follow(0) => "logs: nobody listens",
            Row::Follow(_) => "logs: one subscriber of all lines",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure {
    /// Lines.
    pub lines: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// CPU seconds of the client or node.
    pub cpu: f64,
    /// CPU seconds of Redis.
    pub redis_cpu: f64,
    /// The most memory of the node, KiB; 0 where none ran.
    pub peak_kib: u64,
}

impl Figure {
    /// Lines a second.
    pub fn rate(self) -> f64 {
        self.lines as f64 / self.seconds
    }

    fn micros(self, cpu: f64) -> f64 {
        cpu * 1e6 / self.lines as f64
    }
}

#[derive(Debug)]
struct Line {
    durability: Durability,
    row: Row,
    /// Figures, each beside the rates of the limits of its round: of the line alone, of the same fields.
    runs: Vec<(Figure, [f64; 2])>,
}

/// Waits for lines to become visible, a list a round, each sorted.
#[derive(Debug)]
struct Waits {
    durability: Durability,
    what: &'static str,
    runs: Vec<Vec<f64>>,
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    conditions: Conditions,
    lines: Vec<Line>,
    waits: Vec<Waits>,
}

impl Report {
    /// Nothing yet.
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, lines: Vec::new(), waits: Vec::new() }
    }

    /// One measurement beside the limits of the same round.
    pub fn add(&mut self, durability: Durability, row: Row, figure: Figure, limits: [f64; 2]) {
        match self.lines.iter_mut().find(|line| line.durability == durability && line.row == row) {
            Some(line) => line.runs.push((figure, limits)),
            None => self.lines.push(Line { durability, row, runs: vec![(figure, limits)] }),
        }
    }

    /// Seconds that each line took to become visible, sorted.
    pub fn add_latency(&mut self, durability: Durability, what: &'static str, waits: Vec<f64>) {
        match self.waits.iter_mut().find(|row| row.durability == durability && row.what == what) {
            Some(row) => row.runs.push(waits),
            None => self.waits.push(Waits { durability, what, runs: vec![waits] }),
        }
    }
}

impl Measured for Report {
    fn to_json(&self) -> Value {
        let c = &self.conditions;
        json!({
            "conditions": {
                "lines": c.lines, "bytes": c.bytes, "rate": c.rate, "runs": c.runs, "cpus": c.cpus, "redis": c.redis,
                "build": c.build,
            },
            "rows": self.lines.iter().map(Line::to_json).collect::<Vec<_>>(),
            "latency": self.waits.iter().map(Waits::to_json).collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let c = &self.conditions;
        let mut text = format!(
            "{} lines of {:.0} B, medians of {} runs, {} CPUs shared with redis {}, {} build\n",
            c.lines,
            c.bytes as f64 / c.lines as f64,
            c.runs,
            c.cpus,
            c.redis,
            c.build
        );
        let mut last = None;
        for line in &self.lines {
            if last.replace(line.durability) != Some(line.durability) {
                // Writing into a String cannot fail.
                let _ = writeln!(
                    text,
                    "\nappend-only file: {}\n{:<36} {:>9} {:>19} {:>9} {:>9} {:>16} {:>6}",
                    line.durability.as_str(),
                    "",
                    "lines/s",
                    "(min to max)",
                    "of limit",
                    "of same",
                    "CPU us own/redis",
                    "MiB"
                );
            }
            let _ = writeln!(text, "{}", line.to_text());
        }
        let mut last = None;
        for waits in &self.waits {
            if last.replace(waits.durability) != Some(waits.durability) {
                let what = format!("from writing to visible, {} lines/s, ms", c.rate);
                let aof = waits.durability.as_str();
                let _ =
                    writeln!(text, "\nappend-only file: {aof}\n{what:<46} {:>8} {:>8} {:>8}", "p50", "p99", "longest");
            }
            let _ = writeln!(text, "{}", waits.to_text());
        }
        text
    }
}

impl Line {
    fn all(&self, take: impl Fn(&(Figure, [f64; 2])) -> f64) -> Vec<f64> {
        self.runs.iter().map(take).collect()
    }

    fn middle(&self, take: impl Fn(&(Figure, [f64; 2])) -> f64) -> f64 {
        median(&self.all(take))
    }

    /// Its share of a limit; none of one that was not measured yet.
    fn share(&self, place: usize) -> Option<f64> {
        let share = self.middle(|(figure, limits)| figure.rate() / limits[place]);
        share.is_finite().then_some(share)
    }

    fn to_json(&self) -> Value {
        let rates = self.all(|(figure, _)| figure.rate());
        json!({
            "aof": self.durability.as_str(),
            "what": self.row.name(),
            "per_second": median(&rates).round(), "min": least(&rates).round(), "max": most(&rates).round(),
            "of_limit": self.share(0), "of_limit_same_fields": self.share(1),
            "own_cpu_us_a_line": self.middle(|(figure, _)| figure.micros(figure.cpu)),
            "redis_cpu_us_a_line": self.middle(|(figure, _)| figure.micros(figure.redis_cpu)),
            "peak_kib": self.middle(|(figure, _)| figure.peak_kib as f64),
        })
    }

    fn to_text(&self) -> String {
        let rates = self.all(|(figure, _)| figure.rate());
        let range = format!("({:.0} to {:.0})", least(&rates), most(&rates));
        let [limit, same] = [0, 1].map(|place| self.share(place).map_or("-".to_owned(), |s| format!("{s:.2}")));
        let [own, redis] = [
            self.middle(|(figure, _)| figure.micros(figure.cpu)),
            self.middle(|(figure, _)| figure.micros(figure.redis_cpu)),
        ];
        let mib = self.middle(|(figure, _)| figure.peak_kib as f64) / 1024.0;
        let mib = if mib > 0.0 { format!("{mib:.0}") } else { "-".to_owned() };
        let cpu = format!("{own:.2}/{redis:.2}");
        let (name, rate) = (self.row.name(), median(&rates));
        format!("{name:<36} {rate:>9.0} {range:>19} {limit:>9} {same:>9} {cpu:>16} {mib:>6}")
    }
}

impl Waits {
    /// The median over the rounds of the wait under which so many lie.
    fn at(&self, share: f64) -> f64 {
        let of = |run: &Vec<f64>| {
            let place = ((run.len() as f64 * share).ceil() as usize).saturating_sub(1);
            run.get(place).copied().unwrap_or(0.0)
        };
        median(&self.runs.iter().map(of).collect::<Vec<_>>()) * 1e3
    }

    /// Of all rounds.
    fn longest(&self) -> f64 {
        most(&self.runs.iter().filter_map(|run| run.last().copied()).collect::<Vec<_>>()) * 1e3
    }

    fn to_json(&self) -> Value {
        json!({
            "aof": self.durability.as_str(), "what": self.what, "p50_ms": self.at(0.5), "p99_ms": self.at(0.99),
            "longest_ms": self.longest(),
        })
    }

    fn to_text(&self) -> String {
        format!("{:<46} {:>8.2} {:>8.2} {:>8.2}", self.what, self.at(0.5), self.at(0.99), self.longest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let conditions = Conditions {
            lines: 100,
            bytes: 14_200,
            rate: 1000,
            runs: 3,
            cpus: 2,
            redis: "7.0".to_owned(),
            build: "release",
        };
        let mut report = Report::new(conditions);
        for (seconds, limits) in [(1.0, [200.0, 100.0]), (4.0, [100.0, 50.0]), (2.0, [100.0, 100.0])] {
            let figure = Figure { lines: 100, seconds, cpu: 0.0001, redis_cpu: 0.0003, peak_kib: 2048 };
            report.add(Durability::EverySecond, Row::Follow(0), figure, limits);
        }
        for longest in [0.5, 0.1, 0.2] {
            report.add_latency(Durability::EverySecond, "a file", vec![0.001, 0.002, longest]);
        }
        report
    }

    #[test]
    fn shares_are_those_of_each_round_and_their_median_is_printed() {
        let report = report();
        let json = report.to_json();
        let row = &json["rows"][0];
        assert_eq!((&row["per_second"], &row["min"], &row["max"]), (&json!(50.0), &json!(25.0), &json!(100.0)));
        assert_eq!((&row["of_limit"], &row["of_limit_same_fields"]), (&json!(0.5), &json!(0.5)));
        let text = report.to_text();
        let line = text.lines().find(|line| line.starts_with("logs: nobody listens")).expect("the row");
        assert!(line.contains("(25 to 100)") && line.ends_with("0.50      0.50        1.00/3.00      2"), "{line}");
    }

    #[test]
    fn waits_are_those_of_the_middle_round_and_the_longest_of_all() {
        let report = report();
        let latency = &report.to_json()["latency"][0];
        assert_eq!(
            (&latency["p50_ms"], &latency["p99_ms"], &latency["longest_ms"]),
            (&json!(2.0), &json!(200.0), &json!(500.0))
        );
        assert!(report.to_text().ends_with("    2.00   200.00   500.00\n"), "{}", report.to_text());
    }

    #[test]
    fn a_limit_that_was_not_measured_yet_is_no_share() {
        let mut report = report();
        let figure = Figure { lines: 100, seconds: 1.0, ..Figure::default() };
        report.add(Durability::Nothing, Row::Limit(Fields::One), figure, [100.0, 0.0]);
        assert_eq!(report.to_json()["rows"][1]["of_limit_same_fields"], Value::Null);
    }
}
