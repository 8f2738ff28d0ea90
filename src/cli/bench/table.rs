//! Table: every figure of every round, their medians, and how they are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Measured;
use super::server::Durability;
use super::stats::{least, median, most};
use super::usage::Spent;

/// What was the same in all rounds.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Messages in a round.
    pub messages: u64,
    /// Bytes of a message's body.
    pub bytes: u64,
    /// Rounds.
    pub runs: u32,
    /// Processors that this process may use, shared with Redis.
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
    LimitFill,
    /// The thinnest client reads through a group and acknowledges, so many entries at a time.
    LimitConsume(u32),
    /// Commits that send.
    Enqueue,
    /// So many units claim, handle, commit.
    Process(u32),
    /// Both steps after each other.
    Both(u32),
}

impl Row {
    fn name(self) -> String {
        let units = |n: u32| if n == 1 { "1 unit".to_owned() } else { format!("{n} units") };
        match self {
            Row::LimitFill => "limit: XADD by 500".to_owned(),
            Row::LimitConsume(batch) => format!("limit: XREADGROUP, XACK by {batch}"),
            Row::Enqueue => "enqueue: commits of 200".to_owned(),
            Row::Process(n) => format!("process: {}", units(n)),
            Row::Both(n) => format!("both: {}", units(n)),
        }
    }
}

#[derive(Debug)]
struct Line {
    durability: Durability,
    row: Row,
    runs: Vec<(Spent, [f64; 2])>,
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    conditions: Conditions,
    lines: Vec<Line>,
    reruns: Vec<f64>,
}

impl Report {
    /// Nothing yet.
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, lines: Vec::new(), reruns: Vec::new() }
    }

    /// One measurement, with its share of the limits of the same round (consumer by 50, by 500).
    pub fn add(&mut self, durability: Durability, row: Row, spent: &Spent, of_limits: [f64; 2]) {
        match self.lines.iter_mut().find(|line| line.durability == durability && line.row == row) {
            Some(line) => line.runs.push((*spent, of_limits)),
            None => self.lines.push(Line { durability, row, runs: vec![(*spent, of_limits)] }),
        }
    }

    /// Seconds until a killed node's work ran again.
    pub fn add_rerun(&mut self, seconds: f64) {
        self.reruns.push(seconds);
    }
}

impl Measured for Report {
    fn to_json(&self) -> Value {
        let c = &self.conditions;
        let rows: Vec<Value> = self.lines.iter().map(|line| line.to_json(c.messages)).collect();
        let rerun = json!({ "median": median(&self.reruns), "min": least(&self.reruns), "max": most(&self.reruns) });
        json!({
            "conditions": {
                "messages": c.messages, "bytes": c.bytes, "runs": c.runs, "cpus": c.cpus,
                "redis": c.redis, "build": c.build,
            },
            "rows": rows,
            "rerun_seconds": if self.reruns.is_empty() { Value::Null } else { rerun },
        })
    }

    fn to_text(&self) -> String {
        let c = &self.conditions;
        let mut text = format!(
            "{} messages of {} B, medians of {} runs, {} CPUs shared with redis {}, {} build\n",
            c.messages, c.bytes, c.runs, c.cpus, c.redis, c.build
        );
        let mut last = None;
        for line in &self.lines {
            if last.replace(line.durability) != Some(line.durability) {
                // Writing into a String cannot fail.
                let _ = writeln!(
                    text,
                    "\nappend-only file: {}\n{:<32} {:>10} {:>23} {:>8} {:>8} {:>8} {:>8} {:>13} {:>7}",
                    line.durability.as_str(),
                    "",
                    "msg/s",
                    "(min to max)",
                    "of lim50",
                    "of lim500",
                    "p50 ms",
                    "p99 ms",
                    "CPU s own/redis",
                    "MiB"
                );
            }
            let _ = writeln!(text, "{}", line.to_text(c.messages));
        }
        if !self.reruns.is_empty() {
            let _ = writeln!(
                text,
                "\nwork in flight runs again after kill -9 of its node: {:.2} s ({:.2} to {:.2}, {} times; lease 3 s)",
                median(&self.reruns),
                least(&self.reruns),
                most(&self.reruns),
                self.reruns.len()
            );
        }
        text
    }
}

impl Line {
    fn all(&self, take: impl Fn(&(Spent, [f64; 2])) -> f64) -> Vec<f64> {
        self.runs.iter().map(take).collect()
    }

    fn middle(&self, take: impl Fn(&(Spent, [f64; 2])) -> f64) -> f64 {
        median(&self.all(take))
    }

    fn rates(&self, messages: u64) -> Vec<f64> {
        self.all(|(spent, _)| messages as f64 / spent.seconds)
    }

    fn to_json(&self, messages: u64) -> Value {
        let rates = self.rates(messages);
        json!({
            "aof": self.durability.as_str(),
            "what": self.row.name(),
            "per_second": median(&rates).round(), "min": least(&rates).round(), "max": most(&rates).round(),
            "of_limit_by_50": self.middle(|run| run.1[0]),
            "of_limit_by_500": self.middle(|run| run.1[1]),
            "commit_p50_seconds": self.middle(|run| run.0.commit_p50),
            "commit_p99_seconds": self.middle(|run| run.0.commit_p99),
            "own_cpu_seconds": self.middle(|run| run.0.own_cpu),
            "redis_cpu_seconds": self.middle(|run| run.0.redis_cpu),
            "own_peak_kib": self.middle(|run| run.0.peak_kib as f64),
        })
    }

    fn to_text(&self, messages: u64) -> String {
        let rates = self.rates(messages);
        let range = format!("({:.0} to {:.0})", least(&rates), most(&rates));
        let mut text = format!("{:<32} {:>10.0} {range:>23}", self.row.name(), median(&rates));
        for place in [0, 1] {
            let _ = write!(text, " {:>8.2}", self.middle(|run| run.1[place]));
        }
        let or_nothing = |value: f64, shown: String| if value > 0.0 { shown } else { "-".to_owned() };
        for value in [self.middle(|run| run.0.commit_p50), self.middle(|run| run.0.commit_p99)] {
            let _ = write!(text, " {:>8}", or_nothing(value, format!("{:.2}", value * 1e3)));
        }
        let (own, redis) = (self.middle(|run| run.0.own_cpu), self.middle(|run| run.0.redis_cpu));
        let _ = write!(text, " {:>15}", or_nothing(redis, format!("{own:.2}/{redis:.2}")));
        let peak = self.middle(|run| run.0.peak_kib as f64);
        let _ = write!(text, " {:>7}", or_nothing(peak, format!("{:.1}", peak / 1024.0)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let conditions =
            Conditions { messages: 1000, bytes: 200, runs: 3, cpus: 2, redis: "7.0".to_owned(), build: "release" };
        let mut report = Report::new(conditions);
        for (seconds, share) in [(1.0, 0.5), (4.0, 2.0), (2.0, 1.0)] {
            let spent = Spent { seconds, ..Spent::default() };
            report.add(Durability::EverySecond, Row::Process(1), &spent, [share, 3.0]);
        }
        report
    }

    #[test]
    fn medians_stand_in_text_and_json() {
        let report = report();
        let text = report.to_text();
        assert!(text.contains("process: 1 unit                         500           (250 to 1000)"), "{text}");
        let json = report.to_json();
        assert_eq!(json["rows"][0]["per_second"], 500.0);
        assert_eq!(json["rows"][0]["of_limit_by_50"], 1.0);
        assert_eq!(json["rerun_seconds"], Value::Null);
    }
}
