//! Idle: what a node costs whose files are quiet: each was read to its end, and nothing is written to any.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::follow::follow;
use super::super::server::Server;
use super::corpus;
use super::node::{Followed, stream};
use super::throughput::number;

/// Files of one folder.
const FOLDER_FILES: u32 = 1000;
/// Bytes of the only line of each file.
const LINE_BYTES: usize = 142;
/// From when the last line was read until the measurement begins: what follows upon it is over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// One measurement.
pub struct Idle<'a> {
    /// Where the lines went.
    pub server: &'a Server,
    /// Where the files are made, if they are not there yet.
    pub folder: &'a Path,
    /// How many.
    pub files: u32,
    /// How long nothing happens.
    pub seconds: u32,
    /// Changes are noticed by polling alone.
    pub is_polled: bool,
}

/// What it has cost.
pub struct Quiet {
    /// Of one processor, by the node.
    pub cpu: f64,
    /// Of one processor, by Redis.
    pub redis_cpu: f64,
    /// Requests to Redis a second.
    pub requests: f64,
    /// The most memory of the node, KiB.
    pub peak_kib: u64,
}

impl Idle<'_> {
    /// Has the node read every file, then waits.
    pub fn measure(&self) -> Result<Quiet> {
        self.make_files()?;
        let pattern = self.folder.join("*").join("*.log");
        let pattern = pattern.to_str().with_context(|| format!("{} is no plain text", pattern.display()))?;
        let entries = 2 * u64::from(self.files);
        let followed = Followed { pattern, files: self.files, entries, is_polled: self.is_polled };
        let mut node = followed.node(self.server, "idle")?;
        let (stream, mut wire) = (stream(), self.server.wire()?);
        follow(&mut node, u64::from(self.files), || number(&wire.call(&["XLEN", &stream])?))?;
        pass(SETTLE);
        let (redis, requests) = (self.server.cpu_seconds()?, self.requests()?);
        let (used, begun) = (node.used(), Instant::now());
        pass(Duration::from_secs(u64::from(self.seconds)));
        let (end, seconds) = (node.used(), begun.elapsed().as_secs_f64());
        node.check()?;
        Ok(Quiet {
            cpu: (end.cpu - used.cpu) / seconds,
            redis_cpu: (self.server.cpu_seconds()? - redis) / seconds,
            requests: (self.requests()? - requests) / seconds,
            peak_kib: end.peak_kib,
        })
    }

    fn make_files(&self) -> Result<()> {
        for n in 0..self.files {
            let folder = self.folder.join((n / FOLDER_FILES).to_string());
            let file = folder.join(format!("{n}.log"));
            if file.exists() {
                continue;
            }
            fs::create_dir_all(&folder)?;
            let line = corpus::line(u64::from(n), 1_700_000_000_000_000_000 + u64::from(n), LINE_BYTES);
            fs::write(&file, line).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    /// Each is one read of a socket by the server, those of this program among them.
    fn requests(&self) -> Result<f64> {
        Ok(self.server.info("total_reads_processed")?.parse()?)
    }
}

fn pass(time: Duration) {
    let begun = Instant::now();
    while let Some(rest) = time.checked_sub(begun.elapsed()).filter(|rest| !rest.is_zero()) {
        thread::park_timeout(rest);
    }
}
