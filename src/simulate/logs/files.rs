//! One file on the disk: its handle, its lives, the lines that are begun.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::rotate::{Packing, Past, Step, Todo};
use super::truth::{LineEnd, Truth, TruthLine};
use super::words::LogFormat;

/// A line that is not written to its end yet.
#[derive(Debug)]
pub(super) struct Begun {
    /// NUL bytes, the line, its end.
    pub bytes: Vec<u8>,
    pub nul: usize,
    pub end: LineEnd,
    pub level: Cow<'static, str>,
    pub record: u64,
}

impl Begun {
    /// Bytes before the end.
    fn body(&self) -> usize {
        self.bytes.len() - if self.end == LineEnd::Crlf { 2 } else { 1 }
    }
}

/// One file as its logger and its rotation see it. What it knows is one step ahead of the disk: the step that is
/// planned.
#[derive(Debug)]
pub(super) struct LogFile {
    pub path: PathBuf,
    pub name: String,
    pub format: LogFormat,
    pub past: Past,
    /// What a rotation has still to do before the logger goes on.
    pub todo: VecDeque<Todo>,
    /// What it does some time later.
    pub later: VecDeque<Step>,
    /// Lines until the next rotation.
    pub lines_left: u64,
    pub records: u64,
    /// Lines that are begun, or wait behind one that is.
    pub begun: VecDeque<Begun>,
    /// Whether this life has ended with a torn line.
    pub torn: bool,
    /// How much of the first line that is begun is written.
    written: usize,
    life: u64,
    seq: u64,
    /// Where the first of them begins.
    offset: u64,
    handle: File,
}

impl LogFile {
    /// Makes the file.
    pub fn create(dir: &Path, name: String, format: LogFormat) -> io::Result<Self> {
        let path = dir.join(&name);
        let handle = create(&path)?;
        Ok(Self {
            path,
            name,
            format,
            past: Past::default(),
            todo: VecDeque::new(),
            later: VecDeque::new(),
            lines_left: 0,
            records: 0,
            begun: VecDeque::new(),
            torn: false,
            written: 0,
            life: 0,
            seq: 0,
            offset: 0,
            handle,
        })
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.begun.iter().map(|line| line.bytes.len()).sum::<usize>() - self.written
    }

    /// How many lives there have been.
    pub fn lives(&self) -> u64 {
        self.life + 1
    }

    /// The append of so many waiting bytes.
    pub fn append(&mut self, mut count: usize) -> Step {
        let (mut bytes, mut lines) = (Vec::with_capacity(count), Vec::new());
        while count > 0 {
            let Some(line) = self.begun.front() else { break };
            let rest = &line.bytes[self.written..];
            if rest.len() > count {
                bytes.extend_from_slice(&rest[..count]);
                self.written += count;
                break;
            }
            count -= rest.len();
            bytes.extend_from_slice(rest);
            lines.push(self.listed(line, line.body(), line.end));
            self.offset += line.bytes.len() as u64;
            self.seq += 1;
            self.written = 0;
            self.begun.pop_front();
        }
        Step::Append { bytes, lines }
    }

    /// Gives up what is begun, if some of a line is written and none of its end; else nothing changes.
    pub fn tear(&mut self) -> Option<Step> {
        let line = self.begun.front().filter(|line| self.written > line.nul && self.written <= line.body())?;
        let line = self.listed(line, self.written, LineEnd::None);
        self.seq += 1;
        self.written = 0;
        self.begun.clear();
        self.torn = true;
        Some(Step::Tear { line })
    }

    /// The next line begins an empty file.
    pub fn begin_life(&mut self) {
        self.life += 1;
        self.offset = 0;
        self.torn = false;
    }

    fn listed(&self, line: &Begun, to: usize, end: LineEnd) -> TruthLine {
        let body = &line.bytes[line.nul..to];
        TruthLine {
            file: self.name.clone(),
            life: self.life,
            seq: self.seq,
            record: line.record,
            offset: self.offset,
            nul: line.nul as u64,
            length: body.len() as u64,
            digest: blake3::hash(body).to_hex().to_string(),
            level: line.level.clone().into_owned(),
            end,
        }
    }

    #[cfg(test)]
    pub(super) fn break_handle(&mut self) {
        self.handle = File::open(&self.path).expect("the file");
    }

    /// Does a step. What ends in it is listed first.
    pub fn perform(&mut self, step: &Step, truth: &mut Truth) -> io::Result<()> {
        match step {
            Step::Append { bytes, lines } => {
                truth.add(lines)?;
                self.handle.write_all(bytes)
            }
            Step::Tear { line } => truth.add(std::slice::from_ref(line)),
            Step::Rename { from, to } => rename(from, to),
            Step::Create { path } => {
                self.handle = create(path)?;
                Ok(())
            }
            Step::Copy { from, to } => std::fs::copy(from, to).map(drop),
            Step::Truncate { .. } => self.handle.set_len(0),
            Step::Delete { path, .. } => std::fs::remove_file(path),
            Step::Pack { from, to, packing, rest } => pack(from, to, *packing, *rest),
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).open(path)
}

/// As a rotation does it; the name was free when the rotation was planned, and nobody else is at work here.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        return Err(io::Error::other(format!("{} is in the way of a rotation", to.display())));
    }
    Ok(rustix::fs::rename(from, to)?)
}

/// Half of the packed form at a time, as a slow packer leaves it. The same bytes are the same packed bytes.
fn pack(from: &Path, to: &Path, packing: Packing, rest: bool) -> io::Result<()> {
    let plain = File::open(from)?;
    let mut packed = Vec::new();
    match packing {
        Packing::Gz => {
            flate2::read::GzEncoder::new(plain, flate2::Compression::default()).read_to_end(&mut packed)?;
        }
        Packing::Zst => zstd::stream::copy_encode(plain, &mut packed, 3)?,
    }
    let (first, second) = packed.split_at(packed.len() / 2);
    match rest {
        false => create(to)?.write_all(first),
        true => OpenOptions::new().append(true).open(to)?.write_all(second),
    }
}
