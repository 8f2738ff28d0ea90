//! Usage: what this process has used so far, from `/proc`; zero where there is none.

use std::fs;
use std::time::Instant;

use anyhow::Result;

use super::server::Server;

/// Ticks of `/proc/self/stat` in a second: fixed by Linux's interface to programs on every common machine.
const TICKS: f64 = 100.0;

/// What a measured piece of work took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Seconds on the clock.
    pub seconds: f64,
    /// Seconds within which half of the commits were answered; 0 where there were none.
    pub commit_p50: f64,
    /// Seconds within which 99 of 100 commits were answered; 0 where there were none.
    pub commit_p99: f64,
    /// CPU seconds of this process.
    pub own_cpu: f64,
    /// CPU seconds of Redis.
    pub redis_cpu: f64,
    /// The most memory that this process held, KiB.
    pub peak_kib: u64,
}

/// How many of something, in which time and at what cost. What was not measured is 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure {
    /// How many.
    pub count: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// CPU seconds of the node, or of the thin client.
    pub cpu: f64,
    /// CPU seconds of Redis.
    pub redis_cpu: f64,
    /// The most memory of the node, KiB.
    pub peak_kib: u64,
}

impl Figure {
    /// How many a second.
    pub fn rate(self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// CPU seconds of the node or client for so many.
    pub fn cpu_for(self, count: f64) -> f64 {
        self.cpu * count / self.count as f64
    }

    /// CPU seconds of Redis for so many.
    pub fn redis_cpu_for(self, count: f64) -> f64 {
        self.redis_cpu * count / self.count as f64
    }
}

/// Runs beside a piece of work.
pub struct Meter {
    started: Instant,
    own_cpu: f64,
    redis_cpu: f64,
}

impl Meter {
    /// Begins.
    pub fn start(server: &Server) -> Result<Self> {
        reset_peak();
        Ok(Self { redis_cpu: server.cpu_seconds()?, own_cpu: own_cpu_seconds(), started: Instant::now() })
    }

    /// Ends; the times of commits are for the caller to add.
    pub fn stop(self, server: &Server) -> Result<Spent> {
        Ok(Spent {
            seconds: self.started.elapsed().as_secs_f64(),
            own_cpu: own_cpu_seconds() - self.own_cpu,
            redis_cpu: server.cpu_seconds()? - self.redis_cpu,
            peak_kib: peak_kib(),
            ..Spent::default()
        })
    }
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// CPU seconds of all its threads, user and system.
    pub cpu: f64,
    /// The most memory that it held at once, KiB.
    pub peak_kib: u64,
}

/// What a process has used so far; nothing if it is gone.
pub fn of_process(pid: u32) -> Used {
    let folder = format!("/proc/{pid}");
    Used { cpu: cpu_seconds_in(&folder), peak_kib: peak_kib_in(&folder) }
}

/// CPU seconds of all threads of this process so far, user and system.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds_in("/proc/self")
}

fn cpu_seconds_in(folder: &str) -> f64 {
    let stat = fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
    // The name in parentheses may hold blanks; user and system time are the 12th and 13th field behind it.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS
}

/// The most memory that this process has held at once, in KiB.
fn peak_kib() -> u64 {
    peak_kib_in("/proc/self")
}

fn peak_kib_in(folder: &str) -> u64 {
    let status = fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Makes the peak begin anew, where the system allows it.
fn reset_peak() {
    // Without the right to do so the peak includes what came before: too much, never too little.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        assert!(peak_kib() > 1000);
        assert!(own_cpu_seconds() >= 0.0);
    }
}
