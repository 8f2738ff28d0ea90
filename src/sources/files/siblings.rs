//! Where the rest of a file may be: names that rotation gives, and files that may hold it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::globs::{ENTRIES_MAX, Globs, Inode, Seen, mtime_of};
use super::meanwhile;
use super::source::Source;
use crate::messages::log_file::HEAD_BYTES_MAX;

/// A file that may hold the rest of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub path: PathBuf,
    pub inode: Inode,
    pub size: u64,
    pub mtime: i128,
    /// Its name is one that rotation gives, or it lies where rotated files are said to lie.
    pub is_rotated: bool,
}

/// Whether `other` is a name that rotation gives to the file `name` in the same folder: a number, a date or a word like
/// `old` in it, packed or not (`a.log.1`, `a.log-20240131.gz`, `a-2024-01-31.log`, `a.1.log`, `a.log.old`, `a.log.old-3`).
pub(super) fn is_rotated_name(name: &OsStr, other: &OsStr) -> bool {
    let (name, other) = (name.as_bytes(), other.as_bytes());
    let behind = |stem: &[u8]| other.strip_prefix(stem).is_some_and(is_rotation);
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0);
    behind(name) || dot.is_some_and(|at| behind(&name[..at]) && mentions(&other[at..], &name[at..]))
}

/// Whether `other` may as well be another file that was called so by its writer: `app-2.log` beside `app.log`. Dates are not
/// doubted.
fn is_doubtful(name: &OsStr, other: &OsStr) -> bool {
    const DATE_DIGITS: usize = 6;
    let (name, other) = (name.as_bytes(), other.as_bytes());
    let Some(dot) = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0) else { return false };
    if other.starts_with(name) {
        return false;
    }
    let Some(rest) = other.strip_prefix(&name[..dot]) else { return false };
    let between = memchr::memmem::find(rest, &name[dot..]).map_or(rest, |at| &rest[..at]);
    between.iter().filter(|byte| byte.is_ascii_digit()).count() < DATE_DIGITS
}

fn is_rotation(rest: &[u8]) -> bool {
    let Some((separator, rest)) = rest.split_first() else { return false };
    let is_numbered = |more: &[u8]| matches!(more, [b'-' | b'_', digit, ..] if digit.is_ascii_digit());
    let ends = |more: &[u8]| more.is_empty() || more[0] == b'.' || is_numbered(more);
    let is_word = |word: &[u8]| rest.strip_prefix(word).is_some_and(ends);
    matches!(separator, b'.' | b'-' | b'_' | b'~' | b'@')
        && (rest.first().is_some_and(u8::is_ascii_digit)
            || [&b"old"[..], b"copy", b"prev", b"last", b"bak", b"gz", b"zst"].into_iter().any(is_word))
}

/// The name that a rotated file had before, if `is_followed` knows one: the shortest of which rotation gives this one.
fn home_of(path: &Path, is_followed: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let name = path.file_name()?;
    let bytes = name.as_bytes();
    let unpacked = [&b".gz"[..], b".zst"].into_iter().find_map(|end| bytes.strip_suffix(end)).unwrap_or(bytes);
    let extension = unpacked.iter().rposition(|b| *b == b'.').map_or(&[][..], |at| &unpacked[at..]);
    let cuts = (1..bytes.len()).filter(|at| matches!(bytes[*at], b'.' | b'-' | b'_' | b'~' | b'@'));
    cuts.flat_map(|at| [bytes[..at].to_vec(), [&bytes[..at], extension].concat()])
        .map(OsString::from_vec)
        .filter(|home| is_rotated_name(home, name))
        .map(|home| path.with_file_name(home))
        .find(|home| is_followed(home))
}

/// What a path was called before it was rotated, if that is one of the followed paths.
pub(super) fn home_among(path: &Path, followed: &Globs) -> Option<PathBuf> {
    let is_home = |home: &Path| followed.matches(home) && !is_another(home, path, followed);
    home_of(path, is_home)
}

/// Whether a path that rotation may have given is more likely a followed file of its own, since the patterns name it.
pub(super) fn is_another(home: &Path, path: &Path, followed: &Globs) -> bool {
    let (Some(name), Some(other)) = (home.file_name(), path.file_name()) else { return false };
    is_doubtful(name, other) && followed.matches(path)
}

/// Whether packed files have this ending.
pub(super) fn is_packed(ending: &OsStr) -> bool {
    ending == "gz" || ending == "zst"
}

/// Whether a file is the packed form, not complete yet, of one that still stands beside it: packers delete that one last.
/// One that stands beside the followed file itself is what the followed file was before.
pub(super) fn is_being_packed(path: &Path, home: &Path) -> bool {
    let plain = path.with_extension("");
    path.extension().is_some_and(is_packed)
        && plain != home
        && fs::symlink_metadata(plain).is_ok_and(|meta| meta.is_file())
}

/// What a rotated name says of its age, older first: small numbers count backwards, dates and numbers behind a word
/// (`old-3`) forwards.
fn age_of(name: &OsStr, other: &OsStr) -> i64 {
    let common = name.as_bytes().iter().zip(other.as_bytes()).take_while(|(a, b)| a == b).count();
    let rest = &other.as_bytes()[common..];
    let digits = rest.iter().skip_while(|b| !b.is_ascii_digit()).take_while(|b| b.is_ascii_digit());
    let number = digits.take(15).fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    let is_behind_a_word = rest.iter().take_while(|b| !b.is_ascii_digit()).any(u8::is_ascii_alphabetic);
    if number < 10_000 && !is_behind_a_word { -number } else { number }
}

/// Whether the extension still stands in the name.
fn mentions(rest: &[u8], extension: &[u8]) -> bool {
    memchr::memmem::find(rest, extension).is_some_and(|at| matches!(rest.get(at + extension.len()), None | Some(b'.')))
}

/// Readings of a folder until two in a row agree; one that is renamed in faster is looked at again later.
const READINGS_MAX: usize = 6;

/// Files that may hold the rest of others, looked at once within one look at the world.
///
/// A rotation may go on meanwhile. Nothing is decided on a picture that holds a file twice, or not at all, or under the
/// name of another one: whoever begins lives asks [`Candidates::is_stale`] before each.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The last two readings of each folder.
    folders: HashMap<PathBuf, [Vec<Candidate>; 2]>,
    elsewhere: Option<[Vec<Candidate>; 2]>,
    heads: HashMap<Inode, Option<Vec<u8>>>,
    is_stale: bool,
}

impl Candidates {
    /// Files beside `path` that rotation may have made of it, those in the places for rotated files that are named like
    /// it, and whatever carries one of these inodes.
    pub(super) fn beside(&mut self, path: &Path, inodes: &[u64], rotated: &Globs) -> Vec<Candidate> {
        let Some(name) = path.file_name() else { return Vec::new() };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let listed = self.folders.entry(folder.to_owned()).or_insert_with(|| [list(folder), list(folder)]);
        let all = steady(listed, |one| chosen(one, path, name, inodes), || list(folder));
        let elsewhere = self.elsewhere.get_or_insert_with(|| [find(rotated), find(rotated)]);
        let more = steady(elsewhere, |one| chosen(one, path, name, inodes), || find(rotated));
        self.is_stale |= all.is_none() || more.is_none();
        let mut all = all.unwrap_or_default();
        all.extend(more.unwrap_or_default());
        // Oldest first; of files that changed within one tick of the file system the names tell.
        all.sort_by_key(|one| (one.mtime, age_of(name, one.path.file_name().unwrap_or_default()), one.path.clone()));
        all.dedup_by(|a, b| a.inode == b.inode);
        all
    }

    /// Takes note that this file is seen at a path.
    pub(super) fn must_stand(&mut self, path: &Path, inode: Inode) {
        let listed = path.parent().and_then(|folder| self.folders.get(folder));
        let stands = listed.and_then(|[_, last]| last.iter().find(|one| one.path == path));
        self.is_stale |= match stands {
            Some(one) => one.inode != inode,
            // A link is not listed as a file, nor is what a mount covers.
            None => fs::metadata(path).map_or(true, |meta| (meta.dev(), meta.ino()) != inode),
        };
    }

    /// Opens a file of the picture, if it still stands where it was seen.
    pub(super) fn open(&mut self, path: &Path, inode: Inode) -> io::Result<Source> {
        let opened = Source::open(path);
        match &opened {
            Ok(source) if source.inode != inode => self.is_stale = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.is_stale = true,
            Ok(_) | Err(_) => return opened,
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "it was renamed a moment ago"))
    }

    /// A file does not stand any more where it was seen: what was not found may be there.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The first (unpacked) bytes of a file; none if it cannot be read now.
    pub(super) fn head(&mut self, one: &Candidate) -> Option<&[u8]> {
        if !self.heads.contains_key(&one.inode) {
            let opened = self.open(&one.path, one.inode);
            let head = opened.and_then(|mut source| source.bytes(0, HEAD_BYTES_MAX)).ok();
            self.heads.insert(one.inode, head);
        }
        self.heads.get(&one.inode)?.as_deref()
    }
}

/// What is chosen of two readings that agree on it; none if it changes with each reading.
fn steady(
    readings: &mut [Vec<Candidate>; 2],
    chosen: impl Fn(&Candidate) -> Option<Candidate>,
    read: impl Fn() -> Vec<Candidate>,
) -> Option<Vec<Candidate>> {
    for _ in 0..READINGS_MAX {
        let names = |reading: &[Candidate]| {
            let mut names: Vec<_> = reading.iter().filter_map(&chosen).map(|one| (one.path, one.inode)).collect();
            names.sort();
            names
        };
        if names(&readings[0]) == names(&readings[1]) {
            return Some(readings[1].iter().filter_map(&chosen).collect());
        }
        readings.swap(0, 1);
        readings[1] = read();
    }
    None
}

/// A file as a candidate, if it may hold what stood at `path`.
fn chosen(one: &Candidate, path: &Path, name: &OsStr, inodes: &[u64]) -> Option<Candidate> {
    let own_name = one.path.file_name().unwrap_or_default();
    let is_like_it = one.path != path && (is_rotated_name(name, own_name) || (one.is_rotated && own_name == name));
    let is_chosen = (is_like_it || inodes.contains(&one.inode.1)) && !is_being_packed(&one.path, path);
    is_chosen.then(|| Candidate { is_rotated: is_like_it, ..one.clone() })
}

/// The files in the places for rotated files.
fn find(rotated: &Globs) -> Vec<Candidate> {
    let found = rotated.find(&Globs::none());
    found.files.iter().map(|(inode, seen)| candidate(*inode, seen, true)).collect()
}

/// A file of a look at the world.
pub(super) fn candidate(inode: Inode, seen: &Seen, is_rotated: bool) -> Candidate {
    Candidate { path: seen.paths[0].clone(), inode, size: seen.size, mtime: seen.mtime, is_rotated }
}

/// The regular files of a folder. One that cannot be read has none.
fn list(folder: &Path) -> Vec<Candidate> {
    meanwhile::passes();
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries.flatten().take(ENTRIES_MAX) {
        meanwhile::passes();
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && entry.ino() == meta.ino() {
            let inode = (meta.dev(), meta.ino());
            all.push(Candidate {
                path: entry.path(),
                inode,
                size: meta.len(),
                mtime: mtime_of(&meta),
                is_rotated: false,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rotation_gives_are_known_and_others_are_not() {
        let is = |name: &str, other: &str| is_rotated_name(OsStr::new(name), OsStr::new(other));
        for other in [
            "app.log.1",
            "app.log.12.gz",
            "app.log-20240131",
            "app.log-20240131.zst",
            "app.log.2024-01-31",
            "app.log.old",
            "app.log.1.zst",
            "app-20240131.log",
            "app.1.log",
            "app-2024-01-31.log.gz",
            "app.log.gz",
            "app.log_3",
            "app.log.old-3",
            "app.log.old-3.gz",
            "app.log.copy-12",
            "app.log.bak_1.zst",
        ] {
            assert!(is("app.log", other), "{other}");
        }
        for other in [
            "app.log",
            "app.logs",
            "app-error.log",
            "app.log.audit",
            "app1.log",
            "bapp.log.1",
            "app.1.txt",
            "app",
            "app.log.old-man",
            "app.log.copying",
        ] {
            assert!(!is("app.log", other), "{other}");
        }
        let home = |path: &str| home_of(Path::new(path), |home| home == Path::new("/l/app.log"));
        for path in [
            "/l/app.log.old-3",
            "/l/app.log.copy-3.gz",
            "/l/app.log.1",
            "/l/app.log.1.gz",
            "/l/app-20240131.log",
            "/l/app.1.log.zst",
            "/l/app.log-2024-01-31",
        ] {
            assert_eq!(home(path), Some("/l/app.log".into()), "{path}");
        }
        assert_eq!((home("/l/app.log"), home("/l/other.log.1"), home("/m/app.log.1")), (None, None, None));
        assert!(is("syslog", "syslog.1") && !is("syslog", "syslog-ng"));
        let age = |other: &str| age_of(OsStr::new("app.log"), OsStr::new(other));
        assert!(age("app.log.2") < age("app.log.1") && age("app.log.old-1") < age("app.log.old-2"));
        assert!(age("app.log-20240131") < age("app.log-20240201") && age("app.log.copy-9") < age("app.log.copy-10"));
    }
}
