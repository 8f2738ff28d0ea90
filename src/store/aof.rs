//! The end of an append-only file after a crash of its server.
//!
//! Redis 7.0 cuts a command off that the end of the file has cut, but not the open transaction around it: what it
//! appends from then on becomes a part of that transaction, and the start after the next runs its beginning after all.
//! So the open transaction is taken off before the server starts. `redis-check-aof --fix` would do that too, but it
//! also cuts everything behind damage in the middle, which is for an operator to decide.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes of a command's name that are looked at: `MULTI`, `EXEC`.
const NAME_MAX: u64 = 5;

/// Bytes of a line like `*3`.
const NUMBER_MAX: u64 = 32;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// Takes an open transaction off the end of the newest append-only file in a server's data folder; returns the bytes that
/// it took. The server must not run. A crash before it changes nothing, after it there is nothing left to do.
///
/// Whatever else is wrong with the file is left to the server, which refuses it or cuts it.
pub(super) fn mend(folder: &Path) -> io::Result<u64> {
    let Some(path) = newest(&folder.join("appendonlydir"))? else { return Ok(0) };
    let size = fs::metadata(&path)?.len();
    let Some(from) = open_transaction(BufReader::with_capacity(BUFFER, File::open(&path)?))? else { return Ok(0) };
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(from)?;
    file.sync_all()?;
    Ok(size - from)
}

/// The file that the server appends to: of `NAME.aof.SEQUENCE.incr.aof` the one with the highest sequence.
fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut newest = None;
    for entry in entries {
        let path = entry?.path();
        let name = path.to_string_lossy();
        let sequence = name.strip_suffix(".incr.aof").and_then(|name| name.rsplit('.').next()?.parse::<u64>().ok());
        newest = newest.max(sequence.map(|sequence| (sequence, path.clone())));
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the transaction begins that the end of the file leaves open, if one does.
fn open_transaction(file: impl BufRead) -> io::Result<Option<u64>> {
    let (mut scan, mut open) = (Scan { file, at: 0 }, None);
    loop {
        let at = scan.at;
        match scan.command()? {
            Some(name) if name.eq_ignore_ascii_case(b"MULTI") => open = open.or(Some(at)),
            Some(name) if name.eq_ignore_ascii_case(b"EXEC") => open = None,
            Some(_) => {}
            // What is no command although the file goes on is damage: only the end may be cut.
            None => return Ok(if scan.file.fill_buf()?.is_empty() { open } else { None }),
        }
    }
}

/// A file of commands on its way.
struct Scan<F> {
    file: F,
    /// Bytes that were read.
    at: u64,
}

impl<F: BufRead> Scan<F> {
    /// The beginning of the next command's name. None where the file ends, with all of it read, or something else stands.
    fn command(&mut self) -> io::Result<Option<Vec<u8>>> {
        while self.file.fill_buf()?.first() == Some(&b'#') {
            // A note of the time.
            self.at += self.file.skip_until(b'\n')? as u64;
        }
        let Some(words) = self.number(b'*')? else { return Ok(None) };
        let mut name = Vec::new();
        for word in 0..words {
            let Some(len) = self.number(b'$')? else { return Ok(None) };
            let keep = if word == 0 { len.min(NAME_MAX) } else { 0 };
            let kept = self.file.by_ref().take(keep).read_to_end(&mut name)? as u64;
            let rest = len.saturating_add(2) - keep;
            let skipped = io::copy(&mut self.file.by_ref().take(rest), &mut io::sink())?;
            self.at += kept + skipped;
            if kept < keep || skipped < rest {
                return Ok(None);
            }
        }
        Ok(Some(name))
    }

    /// The number of a line like `*3`; none if the file ends in it, or something else stands there.
    fn number(&mut self, mark: u8) -> io::Result<Option<u64>> {
        if self.file.fill_buf()?.first() != Some(&mark) {
            return Ok(None);
        }
        let mut line = Vec::new();
        self.at += self.file.by_ref().take(NUMBER_MAX).read_until(b'\n', &mut line)? as u64;
        let digits = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line.get(1..)?).ok());
        Ok(digits.and_then(|digits| digits.parse().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> String {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{words}", words.matches('$').count())
    }

    fn open(text: &str) -> Option<u64> {
        open_transaction(text.as_bytes()).expect("read")
    }

    #[test]
    fn an_open_transaction_is_found_wherever_the_end_cuts_it() {
        let before = format!("#TS:1\r\n{}{}", command(&["SELECT", "0"]), command(&["SET", "MULTI", "*1\r\n"]));
        let whole = [&["multi"][..], &["XADD", "k", "*", "f", "v"], &["EXEC"]].map(command).concat();
        assert_eq!((open(""), open(&before), open(&format!("{before}{whole}"))), (None, None, None));
        let multi = command(&["MULTI"]);
        for cut in 0..whole.len() {
            let want = (cut >= multi.len()).then_some(before.len() as u64);
            assert_eq!(open(&format!("{before}{}", &whole[..cut])), want, "cut at {cut}");
            let behind = format!("{before}{whole}{}", &whole[..cut]);
            assert_eq!(open(&behind), want.map(|at| at + whole.len() as u64), "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_left_to_the_server() {
        let begun = command(&["MULTI"]);
        for damage in ["garbage\r\n", "*x\r\n", "*2\r\n+OK\r\n", "*1\r\n$x\r\n"] {
            assert_eq!(open(&format!("{begun}{damage}{}", command(&["PING"]))), None, "{damage:?}");
        }
    }

    #[test]
    fn the_newest_file_is_cut_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(mend(folder.path()).expect("no file"), 0);
        let data = folder.path().join("appendonlydir");
        fs::create_dir(&data).expect("a folder");
        let file = |name: &str| data.join(format!("appendonly.aof.{name}"));
        let (good, torn) = (command(&["SET", "a", "b"]), format!("{}*2\r\n$3\r\nDE", command(&["MULTI"])));
        for name in ["9.incr.aof", "10.incr.aof", "11.base.rdb", "manifest"] {
            fs::write(file(name), format!("{good}{torn}")).expect("written");
        }
        assert_eq!(mend(folder.path()).expect("mended"), torn.len() as u64);
        assert_eq!(mend(folder.path()).expect("nothing left"), 0);
        assert_eq!(fs::read_to_string(file("10.incr.aof")).expect("read"), good);
        assert_eq!(fs::read_to_string(file("9.incr.aof")).expect("read"), format!("{good}{torn}"));
    }
}
