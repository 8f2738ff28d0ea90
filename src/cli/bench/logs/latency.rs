//! Latency: how long after its writing a line can be read from the stream. A writer that keeps a pace, and a reader
//! that waits in `XREAD BLOCK`, both in this process, so that one clock tells both times.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::super::server::Server;
use super::super::wire::{Reply, Wire};
use super::corpus;
use super::follow::{self, id_and_line};

/// Lines that are written first, one by one, each when the one before it was seen: a node that has just started.
const WARM_UP: u64 = 20;
/// Bytes of a line.
const LINE_BYTES: usize = 142;
/// Until a line counts as lost, in milliseconds: as one wait of the reader.
const LINE_MAX_MS: &str = "30000";

/// What is between writer and stream.
#[derive(Debug)]
pub enum Through {
    /// Nothing: the writer appends to the stream.
    Nothing,
    /// This file, and a node that follows it.
    File(PathBuf),
}

/// One measurement.
pub struct Latency<'a> {
    /// Where the lines go.
    pub server: &'a Server,
    /// How many.
    pub lines: u64,
    /// How many a second.
    pub rate: u32,
    /// By which way.
    pub through: Through,
}

enum Writer {
    Stream(Wire, String),
    File(File),
}

impl Latency<'_> {
    /// Seconds from just before a line was written until the reader had it, sorted.
    pub fn measure(&self) -> Result<Vec<f64>> {
        let stream = follow::stream();
        let mut node = None;
        let mut writer = match &self.through {
            Through::Nothing => Writer::Stream(self.server.wire()?, stream.clone()),
            Through::File(path) => {
                let file = OpenOptions::new().create(true).append(true).truncate(false).open(path)?;
                file.set_len(0)?;
                let path = path.to_str().with_context(|| format!("{} is no plain text", path.display()))?;
                node = Some(follow::node(self.server, "latency", path, (2 * self.lines).max(1000))?);
                Writer::File(file)
            }
        };
        let mut reader = Reader { wire: self.server.wire()?, stream, after: "0".to_owned() };
        for n in 0..WARM_UP {
            writer.write(n)?;
            ensure!(reader.read()? == 1, "more lines than were written");
        }
        let (lines, rate) = (self.lines, self.rate);
        let writing = thread::spawn(move || writer.keep_pace(lines, rate));
        let mut seen = Vec::with_capacity(usize::try_from(lines)?);
        while (seen.len() as u64) < lines {
            let count = reader.read()?;
            let now = Instant::now();
            seen.extend((0..count).map(|_| now));
        }
        let written = writing.join().map_err(|_| anyhow!("the writer panicked"))??;
        ensure!(seen.len() == written.len(), "{} lines came of {}", seen.len(), written.len());
        if let Some(node) = &mut node {
            node.check()?;
        }
        let mut waits: Vec<f64> =
            written.iter().zip(&seen).map(|(written, seen)| seen.duration_since(*written).as_secs_f64()).collect();
        waits.sort_by(f64::total_cmp);
        Ok(waits)
    }
}

impl Writer {
    fn write(&mut self, n: u64) -> Result<()> {
        let line = corpus::line(n, 1_700_000_000_000_000_000 + n, LINE_BYTES);
        match self {
            // In one call, so that nobody sees half of it.
            Writer::File(file) => file.write_all(line.as_bytes())?,
            Writer::Stream(wire, stream) => drop(wire.call(&["XADD", stream, "*", "d", line.trim_end()])?),
        }
        Ok(())
    }

    /// Writes each line when it is due, or at once where it is late; answers when each was begun.
    fn keep_pace(mut self, lines: u64, rate: u32) -> Result<Vec<Instant>> {
        let begun = Instant::now();
        let mut written = Vec::with_capacity(usize::try_from(lines)?);
        for n in 0..lines {
            let due = begun + Duration::from_secs_f64(n as f64 / f64::from(rate));
            while let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
                thread::park_timeout(wait);
            }
            written.push(Instant::now());
            self.write(WARM_UP + n)?;
        }
        Ok(written)
    }
}

/// Reads the stream as it grows. The order of lines is the file's, so they need not be numbered: their count tells which.
struct Reader {
    wire: Wire,
    stream: String,
    after: String,
}

impl Reader {
    /// Waits for lines; how many came.
    fn read(&mut self) -> Result<usize> {
        let read = ["XREAD", "COUNT", "1000", "BLOCK", LINE_MAX_MS, "STREAMS", &self.stream, &self.after];
        let entries = match self.wire.call(&read)? {
            Reply::Nil => bail!("no line came within {LINE_MAX_MS} ms"),
            reply => entries(reply).context("what XREAD answered cannot be read")?,
        };
        let count = entries.len();
        let last = entries.into_iter().next_back().and_then(id_and_line);
        let (id, _) = last.context("an answer without an entry")?;
        self.after = String::from_utf8_lossy(&id).into_owned();
        Ok(count)
    }
}

fn entries(reply: Reply) -> Option<Vec<Reply>> {
    let list = |reply| if let Reply::List(list) = reply { Some(list) } else { None };
    let stream = list(reply)?.into_iter().next()?;
    list(list(stream)?.into_iter().nth(1)?)
}
