//! The list of lines that were written: what a reader must find, in order.
//!
//! One JSON object a line. A line is listed *before* the bytes that end it are written, so a generator that dies leaves
//! a list with a few lines too many (those of one append), never with one too few: a line that is missing here could
//! not be told from one that a reader made up. What is too many shows in the file: it ends before the line does. The
//! list is not synced: it holds against the death of the process, not of the machine.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineEnd {
    /// Line feed.
    Lf,
    /// Carriage return and line feed.
    Crlf,
    /// Not at all: the file was rotated before.
    None,
}

/// One line. The order of the list is the order of writing; within a `file` and `life` it is the order of the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthLine {
    /// The name under which its logger opens the file, for example `app.log`.
    pub file: String,
    /// How often that file had begun anew before: a new file or a truncated one begins a life.
    pub life: u64,
    /// The number of the line in the file, over all lives, from 0.
    pub seq: u64,
    /// The number of the record that the line belongs to; the lines of a stack trace are one record.
    pub record: u64,
    /// Bytes of this life before the line and its NUL bytes.
    pub offset: u64,
    /// How many NUL bytes stand before it; they are in neither `length` nor `digest`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nul: u64,
    /// Its length in bytes, without its end.
    pub length: u64,
    /// The BLAKE3 digest of these bytes, in hexadecimal.
    pub digest: String,
    /// The level that its logger gave it, `UNKNOWN` where the format has none.
    pub level: String,
    /// How it ends.
    pub end: LineEnd,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The list while it is written.
#[derive(Debug)]
pub(super) struct Truth {
    file: File,
}

impl Truth {
    /// A new list; an error if there is a file already.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).create_new(true).open(path)? })
    }

    /// Adds lines. They have left this process when it returns.
    pub fn add(&mut self, lines: &[TruthLine]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::with_capacity(lines.len() * 256);
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)
    }
}

/// Reads a list; a last line that was cut by the death of its writer is left out. The error names the line.
pub fn read_truth(path: &Path) -> io::Result<Vec<TruthLine>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut lines, mut text) = (Vec::new(), String::new());
    loop {
        text.clear();
        if reader.read_line(&mut text)? == 0 || !text.ends_with('\n') {
            return Ok(lines);
        }
        let wrong = |e| io::Error::other(format!("{}:{}: {e}", path.display(), lines.len() + 1));
        lines.push(serde_json::from_str(&text).map_err(wrong)?);
    }
}
