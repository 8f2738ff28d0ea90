//! Places farther back: where so many records before the stored place begin, for a rewind.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use memchr::{memchr_iter, memrchr_iter};
use regex::bytes::Regex;

use super::cursor::Cursor;
use super::source::Source;
use super::tails::Tails;
use crate::messages::log_file::LogFile;

/// Bytes that are looked at in one piece.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of a line that are compared with the pattern of a record's beginning.
const BEGINNING_BYTES: u64 = 4096;

/// What going back came to.
#[derive(Debug, Default)]
pub struct Back {
    /// Records whose place was put back, each with the place before.
    pub files: Vec<(u64, LogFile)>,
    /// Files that cannot be read again, with the reason.
    pub faults: Vec<(PathBuf, String)>,
}

impl Tails {
    /// The records of all files with their place put back by so many records, or to the beginning of the file. Nothing
    /// changes: the caller stores them and calls [`Tails::restore`].
    ///
    /// A rotated file that was let go is opened again where it was last seen. What is gone cannot be read again.
    pub fn back(&mut self, records: u64) -> Back {
        let start = self.splitter.start.clone();
        let mut back = Back::default();
        for tail in self.tails.values_mut() {
            let Some(stored) = tail.stored.clone().filter(|stored| stored.offset > 0) else { continue };
            let place = match &mut tail.source {
                Some(source) => put_back(source, &stored, records, start.as_ref()),
                None => {
                    reopened(&stored).and_then(|mut source| put_back(&mut source, &stored, records, start.as_ref()))
                }
            };
            match place {
                Ok(record) if record.offset < stored.offset => back.files.push((stored.offset, record)),
                Ok(_) => {}
                Err(error) => back.faults.push((stored.path, error.to_string())),
            }
        }
        back
    }
}

/// A file that was let go, if it is still where it was last seen.
fn reopened(stored: &LogFile) -> io::Result<Source> {
    let mut source = Source::open(&stored.path)?;
    if source.inode.1 != stored.inode || !Cursor::of(stored).agrees(&mut source)? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another file stands there now"));
    }
    Ok(source)
}

fn put_back(source: &mut Source, stored: &LogFile, records: u64, start: Option<&Regex>) -> io::Result<LogFile> {
    source.approach(stored.offset, u64::MAX)?;
    let offset = match (source.packing(), start) {
        (None, None) => backwards(source, stored.offset, records)?,
        (_, start) => forwards(source, stored.offset, records, start)?,
    };
    let place = Cursor::at(source, offset)?;
    let record = LogFile {
        offset,
        head: place.head(),
        marker: place.marker(),
        inside: false,
        finished: false,
        ..stored.clone()
    };
    Ok(record)
}

/// Counts line ends from the place down.
fn backwards(source: &mut Source, offset: u64, records: u64) -> io::Result<u64> {
    // The end of the last line lies just before the place.
    let (mut hi, mut left) = (offset.saturating_sub(1), records);
    while hi > 0 {
        let lo = hi.saturating_sub(CHUNK_BYTES as u64);
        let len = usize::try_from(hi - lo).unwrap_or(CHUNK_BYTES);
        let bytes = source.bytes(lo, len)?;
        if bytes.len() < len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than what was read of it"));
        }
        for end in memrchr_iter(b'\n', &bytes) {
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(lo + end as u64 + 1);
            }
        }
        hi = lo;
    }
    Ok(0)
}

/// Remembers where the last records begin, from the beginning of the file up.
fn forwards(source: &mut Source, offset: u64, records: u64, start: Option<&Regex>) -> io::Result<u64> {
    let most = usize::try_from(records).unwrap_or(usize::MAX);
    let mut begins: VecDeque<u64> = VecDeque::new();
    let (mut at, mut line) = (0, Some(0_u64));
    while at < offset {
        let len = usize::try_from((offset - at).min(CHUNK_BYTES as u64)).unwrap_or(CHUNK_BYTES);
        let bytes = source.bytes(at, len)?;
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than what was read of it"));
        }
        let ends = memchr_iter(b'\n', &bytes).map(|end| at + end as u64 + 1).filter(|begin| *begin < offset);
        let candidates: Vec<u64> = line.take().into_iter().chain(ends).collect();
        for begin in candidates {
            if begins_record(source, begin, offset, start)? {
                if begins.len() == most {
                    begins.pop_front();
                }
                begins.push_back(begin);
            }
        }
        at += bytes.len() as u64;
    }
    Ok(begins.front().copied().unwrap_or(0))
}

fn begins_record(source: &mut Source, begin: u64, offset: u64, start: Option<&Regex>) -> io::Result<bool> {
    let Some(start) = start else { return Ok(true) };
    let len = usize::try_from((offset - begin).min(BEGINNING_BYTES)).unwrap_or_default();
    let bytes = source.bytes(begin, len)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // The first line begins a record whatever it looks like.
    Ok(begin == 0 || start.is_match(line))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::{Budget, FilesOptions};
    use super::*;

    /// Follows one file to its end and commits all of it.
    fn followed(content: &[u8], start: Option<&str>) -> (tempfile::TempDir, Tails) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.log"), content).expect("written");
        let mut options = FilesOptions::new("logs.x", vec![format!("{}/*.log", folder.path().display())]);
        options.multiline = start.map(|start| super::super::Multiline {
            start: Regex::new(start).expect("a pattern"),
            wait: std::time::Duration::ZERO,
        });
        let mut tails = Tails::new(options).expect("files");
        let now = Instant::now();
        tails.restore(Vec::new(), true, now);
        tails.look(now);
        while let Some(batch) = tails.next_batch(Budget { lines: 1000, bytes: 1 << 20 }, now) {
            tails.committed(&batch, now);
        }
        (folder, tails)
    }

    #[test]
    fn a_place_is_put_back_by_lines_to_the_beginning_at_the_most() {
        let lines: Vec<String> = (0..5000).map(|n| format!("line {n} {}\n", "x".repeat(n % 200))).collect();
        let (_folder, mut tails) = followed(lines.concat().as_bytes(), None);
        for back in [1, 2, 700, 4999, 5000, 9000] {
            let got = tails.back(back as u64);
            let [(before, record)] = &got.files[..] else { panic!("{got:?}") };
            let kept = lines.len().saturating_sub(back);
            let truth: usize = lines[..kept].iter().map(String::len).sum();
            assert_eq!((*before, record.offset), (lines.concat().len() as u64, truth as u64), "{back} back");
        }
    }

    #[test]
    fn a_place_is_put_back_by_whole_records_of_several_lines() {
        let record = |n: usize| format!("2026 {n}\n  at {n}\n  at more\n");
        let text: String = (0..100).map(record).collect();
        let (_folder, mut tails) = followed(text.as_bytes(), Some("^2026 "));
        let before = tails.back(1).files[0].0;
        let stored = usize::try_from(before).expect("small");
        let whole = text[..stored].matches("2026 ").count();
        let got = tails.back(10).files.remove(0).1.offset;
        let truth: usize = (0..whole - 10).map(|n| record(n).len()).sum();
        assert_eq!(got, truth as u64);
    }
}
