//! Corpus: the file that is followed, and its lines one after the other as an entry must hold them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Bytes that are read or written at once.
const CHUNK: usize = 256 * 1024;
/// A longer line is cut into several records, so it cannot be compared with one.
const LINE_BYTES_MAX: usize = 65_536;
/// Levels of made lines, in turns.
const LEVELS: [&str; 3] = ["INFO", "WARNING", "ERROR"];

/// A file of lines.
#[derive(Debug)]
pub struct Corpus {
    /// Where it is.
    pub path: PathBuf,
    /// Its complete lines.
    pub lines: u64,
    /// Bytes of these lines, ends included.
    pub bytes: u64,
}

impl Corpus {
    /// Makes one of so many lines of `bytes` bytes, as a JSON logger writes them.
    pub fn make(path: &Path, lines: u64, bytes: usize) -> Result<Self> {
        let mut out = BufWriter::with_capacity(CHUNK, File::create_new(path)?);
        for n in 0..lines {
            out.write_all(line(n, 1_700_000_000_000_000_000 + n, bytes).as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        out.flush().with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { path: path.to_owned(), lines, bytes: lines * bytes as u64 })
    }

    /// Takes one that is there.
    pub fn open(path: &Path) -> Result<Self> {
        let path = fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut lines, mut bytes) = (0, 0);
        let mut reader = BufReader::with_capacity(CHUNK, File::open(&path)?);
        let mut line = Vec::new();
        while next(&mut reader, &mut line)? {
            lines += 1;
            bytes += line.len() as u64;
            let named = || format!("line {lines} of {}", path.display());
            ensure!(line.len() <= LINE_BYTES_MAX, "{} is longer than {LINE_BYTES_MAX} bytes; leave it out", named());
            ensure!(line[0] != 0, "{} begins with a NUL byte, which a follower passes over; leave it out", named());
        }
        ensure!(lines > 0, "{} has no complete line", path.display());
        let whole = fs::metadata(&path)?.len();
        ensure!(
            whole == bytes,
            "the last line of {} has no end, or the file grows; give a finished one",
            path.display()
        );
        Ok(Self { path, lines, bytes })
    }

    /// Its lines from the first on.
    pub fn read(&self) -> Result<Lines> {
        let file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(Lines { reader: BufReader::with_capacity(CHUNK, file), line: Vec::new() })
    }
}

/// The lines of a corpus, without their ends.
pub struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    /// The next one; none behind the last.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        if !next(&mut self.reader, &mut self.line)? {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Fails unless the next line is this one.
    pub fn expect(&mut self, n: u64, found: &[u8]) -> Result<()> {
        match self.next()? {
            Some(line) if line == found => Ok(()),
            Some(line) => {
                let [line, found] = [line, found].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                bail!("line {n} is `{line}` in the file, and `{found}` came of it")
            }
            None => bail!("something came behind the last line of the file: {}", String::from_utf8_lossy(found)),
        }
    }
}

fn next(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    reader.read_until(b'\n', line)?;
    Ok(line.ends_with(b"\n"))
}

/// Line `n`, with a stamp, of `bytes` bytes with its end; longer if that is too few for it.
pub fn line(n: u64, stamp: u64, bytes: usize) -> String {
    let level = LEVELS[(n % 3) as usize];
    let mut line = format!("{{\"ts\":{stamp},\"type\":\"{level}\",\"seq\":{n},\"msg\":\"request done, status=200 ");
    let pad = bytes.saturating_sub(line.len() + 3);
    line.extend(std::iter::repeat_n('x', pad));
    line.push_str("\"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_file_reads_as_it_was_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Corpus::make(&folder.path().join("a.log"), 7, 142).expect("made");
        let opened = Corpus::open(&made.path).expect("opened");
        assert_eq!((opened.lines, opened.bytes), (7, 7 * 142));
        let mut lines = opened.read().expect("read");
        for n in 0..7 {
            let wanted = line(n, 1_700_000_000_000_000_000 + n, 142);
            lines.expect(n, wanted.trim_end().as_bytes()).expect("the line");
        }
        assert_eq!(lines.next().expect("the end"), None);
    }

    #[test]
    fn files_that_would_not_be_compared_line_by_line_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        let long = format!("{}\n", "x".repeat(LINE_BYTES_MAX));
        for (text, words) in [
            ("", "no complete line"),
            ("a\nb", "has no end"),
            ("a\n\0b\n", "line 2"),
            (long.as_str(), "longer than 65536 bytes"),
        ] {
            fs::write(&path, text).expect("written");
            let refused = Corpus::open(&path).expect_err("refused").to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn another_line_is_told_with_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        fs::write(&path, "one\r\ntwo\n").expect("written");
        let mut lines = Corpus::open(&path).expect("opened").read().expect("read");
        lines.expect(1, b"one").expect("the first");
        let fault = lines.expect(2, b"three").expect_err("another").to_string();
        assert!(fault.contains("`two`") && fault.contains("`three`"), "{fault}");
    }
}
