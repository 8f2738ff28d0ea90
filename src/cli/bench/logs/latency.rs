//! Latency: how long after its writing a line can be read from the stream. A writer that keeps a pace, and a reader
//! that waits in `XREAD BLOCK`, both in this process, so that one clock tells both times.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::super::server::Server;
use super::super::wire::Wire;
use super::corpus;
use super::node::{Followed, stream};
use super::visible::Reader;

/// Lines that are written first, one by one, each when the one before it was seen: a node that has just started.
const WARM_UP: u64 = 20;
/// Bytes of a line.
const LINE_BYTES: usize = 142;

/// What is between writer and stream.
#[derive(Debug)]
pub enum Through {
    /// Nothing: the writer appends to the stream.
    Nothing,
    /// So many files in this folder, written in turns, and a node that follows them.
    Files(PathBuf, u32),
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

/// What it has shown.
pub struct Pace {
    /// Seconds from just before each line was written until the reader had it, sorted.
    pub waits: Vec<f64>,
    /// From the first line's writing until the last could be read.
    pub seconds: f64,
    /// CPU seconds of the node meanwhile; 0 where none ran.
    pub cpu: f64,
    /// CPU seconds of Redis meanwhile, the reader's waiting included.
    pub redis_cpu: f64,
    /// The most memory of the node, KiB; 0 where none ran.
    pub peak_kib: u64,
}

enum Writer {
    Stream(Wire, String),
    Files(Vec<File>),
}

impl Latency<'_> {
    /// Writes all lines at their pace, and sees each.
    pub fn measure(&self) -> Result<Pace> {
        let (mut writer, mut node) = match &self.through {
            Through::Nothing => (Writer::Stream(self.server.wire()?, stream()), None),
            Through::Files(folder, files) => {
                let writer = Writer::Files((0..*files).map(|n| empty(folder, n)).collect::<Result<_>>()?);
                let pattern = folder.join("*.log");
                let pattern = pattern.to_str().with_context(|| format!("{} is no plain text", folder.display()))?;
                let entries = 2 * (self.lines + u64::from(*files));
                let followed = Followed { pattern, files: *files, entries, is_polled: false };
                (writer, Some(followed.node(self.server, "latency")?))
            }
        };
        let mut reader = Reader::new(self.server)?;
        let first = self.warm_up(&mut writer, &mut reader)?;
        let used = node.as_ref().map(|node| node.used()).unwrap_or_default();
        let redis = self.server.cpu_seconds()?;
        let (lines, rate) = (self.lines, self.rate);
        let writing = thread::spawn(move || writer.keep_pace(first, lines, rate));
        let mut seen = vec![None; usize::try_from(lines)?];
        let mut count = 0;
        while count < lines {
            let numbers = reader.read()?;
            let now = Instant::now();
            for number in numbers {
                let place = number.checked_sub(first).and_then(|place| seen.get_mut(usize::try_from(place).ok()?));
                let is_twice = place.context("a line that was not written")?.replace(now).is_some();
                ensure!(!is_twice, "line {number} came twice");
                count += 1;
            }
        }
        let end = Instant::now();
        let written = writing.join().map_err(|_| anyhow!("the writer panicked"))??;
        let after = node.as_ref().map(|node| node.used()).unwrap_or_default();
        if let Some(node) = &mut node {
            node.check()?;
        }
        let wait = |(written, seen): (&Instant, Option<Instant>)| Some(seen?.duration_since(*written).as_secs_f64());
        let mut waits: Vec<f64> = written.iter().zip(seen).filter_map(wait).collect();
        waits.sort_by(f64::total_cmp);
        let begun = written.first().context("no line was written")?;
        Ok(Pace {
            waits,
            seconds: end.duration_since(*begun).as_secs_f64(),
            cpu: after.cpu - used.cpu,
            redis_cpu: self.server.cpu_seconds()? - redis,
            peak_kib: after.peak_kib,
        })
    }

    /// The first lines, at least one in each file, until all were seen; how many they are.
    fn warm_up(&self, writer: &mut Writer, reader: &mut Reader) -> Result<u64> {
        for n in 0..WARM_UP {
            writer.write(n)?;
            ensure!(reader.read()? == [n], "other lines than were written");
        }
        let files = match &self.through {
            Through::Nothing => 1,
            Through::Files(_, files) => u64::from(*files),
        };
        let last = WARM_UP.max(files);
        (WARM_UP..last).try_for_each(|n| writer.write(n))?;
        let mut count = WARM_UP;
        while count < last {
            count += reader.read()?.len() as u64;
        }
        Ok(last)
    }
}

/// A file that is empty, also where one of an earlier round stands.
fn empty(folder: &Path, n: u32) -> Result<File> {
    let path = folder.join(format!("app-{n}.log"));
    let file = OpenOptions::new().create(true).append(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("making {}", path.display()))?;
    file.set_len(0)?;
    Ok(file)
}

impl Writer {
    fn write(&mut self, n: u64) -> Result<()> {
        let line = corpus::line(n, 1_700_000_000_000_000_000 + n, LINE_BYTES);
        match self {
            // In one call, so that nobody sees half of it.
            Writer::Files(files) => {
                let place = usize::try_from(n)? % files.len();
                files[place].write_all(line.as_bytes())?;
            }
            Writer::Stream(wire, stream) => drop(wire.call(&["XADD", stream, "*", "d", line.trim_end()])?),
        }
        Ok(())
    }

    /// Writes each line when it is due, or at once where it is late; answers when each was begun.
    fn keep_pace(mut self, first: u64, lines: u64, rate: u32) -> Result<Vec<Instant>> {
        let begun = Instant::now();
        let mut written = Vec::with_capacity(usize::try_from(lines)?);
        for n in 0..lines {
            let due = begun + Duration::from_secs_f64(n as f64 / f64::from(rate));
            while let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
                thread::park_timeout(wait);
            }
            written.push(Instant::now());
            self.write(first + n)?;
        }
        Ok(written)
    }
}
