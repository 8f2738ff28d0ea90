//! Patterns of paths: which files and which folders stand behind them.
//!
//! A pattern is taken apart at its slashes and walked folder by folder, so that only folders that can hold a match are
//! read, and each of them is known and can be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::meanwhile;

/// Entries of folders that one look reads, at most: a pattern such as `/**` must not walk a whole machine for ever.
pub const ENTRIES_MAX: usize = 200_000;

/// One part of a pattern between two slashes.
#[derive(Debug, Clone)]
enum Step {
    /// A name without wildcards.
    Name(OsString),
    /// Names that match.
    Match(GlobMatcher),
    /// Folders of any depth, none included; links to folders are not followed.
    Any,
}

/// A list of patterns.
#[derive(Debug, Clone)]
pub(super) struct Globs {
    patterns: Vec<Vec<Step>>,
    whole: GlobSet,
}

/// One regular file behind a pattern, by every name that it has there.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its names, sorted; the first one speaks for it: names of its own come before links.
    pub paths: Vec<PathBuf>,
    /// Those of its names that are links, each with where it leads.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Its size.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub mtime: i128,
}

/// A file as its file system knows it: device and inode.
pub(super) type Inode = (u64, u64);

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The files.
    pub files: BTreeMap<Inode, Seen>,
    /// Every folder that was read, and the folders of what links point to.
    pub folders: BTreeSet<PathBuf>,
    /// What could not be read, with the reason.
    pub faults: Vec<(PathBuf, io::Error)>,
    /// The walk was given up at [`ENTRIES_MAX`].
    pub is_cut: bool,
    entries: usize,
}

/// Nanoseconds since 1970 at which a file was changed.
pub(super) fn mtime_of(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

impl Globs {
    /// Compiles patterns; the fault names the pattern, what is wrong with it and what to write.
    pub(super) fn new(patterns: &[String]) -> Result<Self, String> {
        let mut whole = GlobSetBuilder::new();
        let mut taken_apart = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let fault = |reason: &str| format!("`{pattern}` is no pattern of paths: {reason}");
            if pattern.is_empty() || pattern.ends_with('/') {
                return Err(fault("it names no file"));
            }
            let absolute = std::path::absolute(pattern).map_err(|e| fault(&e.to_string()))?;
            let text = absolute.to_str().ok_or_else(|| fault("it is no UTF-8"))?;
            let steps = text.split('/').filter(|part| !part.is_empty()).map(step).collect::<Result<_, _>>();
            taken_apart.push(steps.map_err(|reason| fault(&reason))?);
            whole.add(glob(text).map_err(|reason| fault(&reason))?);
        }
        let whole = whole.build().map_err(|e| format!("the patterns cannot be joined: {e}"))?;
        Ok(Self { patterns: taken_apart, whole })
    }

    /// No pattern at all.
    pub(super) fn none() -> Self {
        Self { patterns: Vec::new(), whole: GlobSet::empty() }
    }

    /// Whether a path matches one of the patterns.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.whole.is_match(path)
    }

    /// Looks at the world: the regular files behind the patterns, but not those that `exclude` matches.
    pub(super) fn find(&self, exclude: &Globs) -> Found {
        let mut found = Found::default();
        for steps in &self.patterns {
            walk(PathBuf::from("/"), steps, exclude, &mut found);
        }
        for seen in found.files.values_mut() {
            seen.paths.sort();
            seen.paths.dedup();
            let links = &seen.links;
            seen.paths.sort_by_key(|path| links.iter().any(|(link, _)| link == path));
        }
        found
    }
}

fn glob(text: &str) -> Result<globset::Glob, String> {
    let built = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
    built.map_err(|e| e.kind().to_string())
}

fn step(part: &str) -> Result<Step, String> {
    if part == "**" {
        return Ok(Step::Any);
    }
    if part.contains("**") {
        return Err(format!("`**` must stand alone between slashes, not in `{part}`"));
    }
    if !part.contains(['*', '?', '[', ']', '{', '}', '\\']) {
        return Ok(Step::Name(part.into()));
    }
    // Braces across slashes end here: each half alone is no pattern.
    let glob = glob(part).map_err(|reason| format!("{reason} (in `{part}`; a slash within braces is not possible)"))?;
    Ok(Step::Match(glob.compile_matcher()))
}

fn walk(at: PathBuf, steps: &[Step], exclude: &Globs, found: &mut Found) {
    let Some((step, rest)) = steps.split_first() else { return };
    match step {
        Step::Name(name) => {
            let path = at.join(name);
            if rest.is_empty() {
                found.folders.insert(at);
                let is_link = path.is_symlink();
                take(path, is_link, exclude, found);
            } else if path.is_dir() {
                walk(path, rest, exclude, found);
            } else {
                // The folder may come later: then its parent says so.
                found.folders.insert(at);
            }
        }
        Step::Match(matcher) => {
            for (name, kind) in read_folder(&at, found) {
                // As in a shell, a leading dot must be written.
                if is_hidden(&name) && !matcher.glob().glob().starts_with('.') || !matcher.is_match(&name) {
                    continue;
                }
                let path = at.join(&name);
                if rest.is_empty() {
                    take(path, kind == Kind::Link, exclude, found);
                } else if kind == Kind::Folder || path.is_dir() {
                    walk(path, rest, exclude, found);
                }
            }
        }
        Step::Any => {
            let rest = if rest.is_empty() { steps } else { rest };
            if !matches!(rest, [Step::Any]) {
                walk(at.clone(), rest, exclude, found);
            }
            for (name, kind) in read_folder(&at, found) {
                let path = at.join(&name);
                if kind == Kind::Folder && !is_hidden(&name) {
                    walk(path, steps, exclude, found);
                } else if matches!(rest, [Step::Any]) && !is_hidden(&name) {
                    take(path, kind == Kind::Link, exclude, found);
                }
            }
        }
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

/// What stands behind a name, as its folder says: of thousands of files nobody is asked once more for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Folder,
    Link,
    Other,
}

/// The names in a folder, sorted, and what each is itself.
fn read_folder(folder: &Path, found: &mut Found) -> Vec<(OsString, Kind)> {
    found.folders.insert(folder.to_owned());
    meanwhile::passes();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            found.faults.push((folder.to_owned(), e));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        found.entries += 1;
        if found.entries > ENTRIES_MAX {
            found.is_cut = true;
            break;
        }
        match entry {
            Ok(entry) => {
                let kind = match entry.file_type() {
                    Ok(kind) if kind.is_dir() => Kind::Folder,
                    Ok(kind) if kind.is_symlink() => Kind::Link,
                    Ok(_) | Err(_) => Kind::Other,
                };
                names.push((entry.file_name(), kind));
            }
            Err(e) => {
                found.faults.push((folder.to_owned(), e));
                break;
            }
        }
    }
    names.sort();
    names
}

/// Takes a path into the result, if a regular file stands behind it.
fn take(path: PathBuf, is_link: bool, exclude: &Globs, found: &mut Found) {
    if exclude.matches(&path) {
        return;
    }
    meanwhile::passes();
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        // Gone since, or a link that points nowhere yet.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => {
            found.faults.push((path, e));
            return;
        }
    };
    if !meta.is_file() {
        return;
    }
    let seen = || Seen { paths: Vec::new(), links: Vec::new(), size: meta.len(), mtime: mtime_of(&meta) };
    let seen = found.files.entry((meta.dev(), meta.ino())).or_insert_with(seen);
    if is_link && let Ok(target) = fs::canonicalize(&path) {
        found.folders.extend(target.parent().map(Path::to_owned));
        seen.links.push((path.clone(), target));
    }
    seen.paths.push(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(folder: &Path, patterns: &[&str], exclude: &[&str]) -> Vec<String> {
        let full = |patterns: &[&str]| {
            let one = |p: &&str| format!("{}/{p}", folder.display());
            Globs::new(&patterns.iter().map(one).collect::<Vec<_>>()).expect("patterns")
        };
        let found = full(patterns).find(&full(exclude));
        assert!(found.faults.is_empty() && !found.is_cut);
        let name = |path: &PathBuf| path.strip_prefix(folder).expect("inside").display().to_string();
        let mut names: Vec<_> = found.files.values().map(|seen| name(&seen.paths[0])).collect();
        names.sort();
        names
    }

    #[test]
    fn patterns_find_files_links_and_folders_of_any_depth() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for path in ["a.log", "b.log", "b.log.1", ".c.log", "x/a.log", "x/y/z/a.log", "x/y/a.txt", ".h/a.log"] {
            fs::create_dir_all(root.join(path).parent().expect("a parent")).expect("a folder");
            fs::write(root.join(path), path).expect("a file");
        }
        std::os::unix::fs::symlink(root.join("x/y"), root.join("link")).expect("a link");
        std::os::unix::fs::symlink(root.join("x/y/a.txt"), root.join("current.log")).expect("a link");
        assert_eq!(find(root, &["a.log"], &[]), ["a.log"]);
        assert_eq!(find(root, &["*.log"], &["b.*"]), ["a.log", "current.log"]);
        assert_eq!(find(root, &[".*.log"], &[]), [".c.log"]);
        assert_eq!(find(root, &["{a,b}.log*", "?.log"], &[]), ["a.log", "b.log", "b.log.1"]);
        assert_eq!(find(root, &["**/a.log"], &[]), ["a.log", "x/a.log", "x/y/z/a.log"]);
        assert_eq!(find(root, &["x/**"], &[]), ["x/a.log", "x/y/a.txt", "x/y/z/a.log"]);
        assert_eq!(find(root, &["*/*.txt"], &[]), ["link/a.txt"]);
        // The same file by a link and by its own name: one file, named by itself.
        assert_eq!(find(root, &["*.log", "x/y/*"], &["[ab]*"]), ["x/y/a.txt"]);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_waited_for_in_its_parent() {
        let folder = tempfile::tempdir().expect("a folder");
        let globs = Globs::new(&[format!("{}/later/*.log", folder.path().display())]).expect("a pattern");
        let found = globs.find(&Globs::new(&[]).expect("none"));
        assert!(found.files.is_empty() && found.faults.is_empty());
        assert!(found.folders.contains(folder.path()), "{:?}", found.folders);
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (pattern, part) in [
            ("a[", "a["),
            ("/l/**.log", "must stand alone"),
            ("/l/{a/b,c}", "braces"),
            ("", "no file"),
            ("/l/", "no file"),
        ] {
            let fault = Globs::new(&[pattern.to_owned()]).expect_err(pattern);
            assert!(fault.contains(part), "{fault}");
        }
    }
}
