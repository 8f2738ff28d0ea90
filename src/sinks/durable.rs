//! Durable files: written aside, synced, then linked to their name; never over another file.
//!
//! | a crash after | leaves | next time |
//! |---|---|---|
//! | creating or writing the temporary | a torn file in `tmp/` | ignored, swept |
//! | `fdatasync` | a whole file in `tmp/` | ignored, swept |
//! | the hard link | the whole file under its name, and its other name in `tmp/` | found and accepted; the other name swept |
//! | unlinking the temporary | the whole file under its name (a power cut may still take the name back) | found, or written again |
//! | `fsync` of the folder | the whole file under its name, for good | found |
//!
//! So a name has either no file or a whole one, and a writer that wakes up late can only add a name that nobody has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::SinkError;

/// Temporaries of other nodes are swept when they are older than this: no living write takes nearly as long.
pub(super) const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

/// Numbers names within this process, so that two stores of one node never share one.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// The next number that no other name of this process has.
pub(super) fn serial() -> u64 {
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// How a name was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// The file now stands there.
    New,
    /// Another file stood there already, and still does.
    Exists,
}

/// The `tmp/` folder of a store, as one node uses it.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    incarnation: String,
}

impl Scratch {
    /// Creates the folder durably. `incarnation` becomes part of file names: letters, digits, `_`, at most 64.
    pub(super) fn open(folder: &Path, incarnation: &str) -> Result<Self, SinkError> {
        let fits = (1..=64).contains(&incarnation.len())
            && incarnation.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits {
            let reason = format!("the incarnation `{}` cannot be part of a file name", incarnation.escape_debug());
            return Err(SinkError::refused(folder, reason));
        }
        create_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), incarnation: incarnation.to_owned() })
    }

    /// A scratch folder that was opened before, by whoever checked its incarnation.
    pub(super) fn at(folder: &Path, incarnation: &str) -> Self {
        Self { folder: folder.to_owned(), incarnation: incarnation.to_owned() }
    }

    /// Writes a temporary file and syncs its bytes. It vanishes with the value, unless a crash leaves it for the sweep.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<Temporary, SinkError> {
        self.draft(bytes)?.sync()
    }

    /// Writes a temporary file that cannot be placed before it is synced: where several belong together, all are
    /// written before the first is waited for.
    pub(super) fn draft(&self, bytes: &[u8]) -> Result<Draft, SinkError> {
        let path = self.folder.join(format!("{}-{}.tmp", self.incarnation, serial()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| SinkError::io("create the temporary file", &path, e))?;
        let temporary = Temporary { path };
        file.write_all(bytes).map_err(|e| SinkError::io("write", &temporary.path, e))?;
        Ok(Draft { temporary, file })
    }

    /// Removes what crashes left: this incarnation's own files (so open a store once in a process, and share it), and
    /// those of anybody that are older than [`TEMPORARY_AGE_MAX`]. Returns how many.
    pub(super) fn sweep(&self) -> Result<usize, SinkError> {
        let own = format!("{}-", self.incarnation);
        let mut swept = 0;
        for entry in fs::read_dir(&self.folder).map_err(|e| SinkError::io("list", &self.folder, e))? {
            let entry = entry.map_err(|e| SinkError::io("list", &self.folder, e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|n| n.ends_with(".tmp")) else { continue };
            if (name.starts_with(&own) || is_old(&entry)) && fs::remove_file(entry.path()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// Whether it was last written longer ago than a living write can last. A file that is gone, or whose time lies ahead, is not.
fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > TEMPORARY_AGE_MAX))
}

/// A temporary file whose bytes a power cut may still take.
#[derive(Debug)]
pub(super) struct Draft {
    temporary: Temporary,
    file: File,
}

impl Draft {
    /// Waits until the bytes are durable.
    pub(super) fn sync(self) -> Result<Temporary, SinkError> {
        self.file.sync_data().map_err(|e| SinkError::io("sync", &self.temporary.path, e))?;
        Ok(self.temporary)
    }
}

/// A whole file without its name yet.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Gives the file its name unless the name is taken. The name survives a power cut only after [`sync_folder`].
    pub(super) fn place(self, name: &Path) -> Result<Placed, SinkError> {
        match fs::hard_link(&self.path, name) {
            Ok(()) => Ok(Placed::New),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Placed::Exists),
            Err(e) if lacks_hard_links(&e) => self.place_by_rename(name),
            Err(e) => Err(SinkError::io("link", name, e)),
        }
    }

    /// For file systems without hard links (some FUSE and network mounts): a rename that never replaces.
    fn place_by_rename(self, name: &Path) -> Result<Placed, SinkError> {
        match rename_if_absent(&self.path, name) {
            Ok(()) => Ok(Placed::New),
            Err(Errno::EXIST) => Ok(Placed::Exists),
            Err(errno) if lacks_flag(errno) => Err(SinkError::Unsupported { path: name.to_owned() }),
            Err(errno) => Err(SinkError::io("rename into place", name, errno.into())),
        }
    }

    /// Swaps the file with the one under `name`, which must exist, in one step: at no moment is the name without a
    /// file. What stood there vanishes with this value, so the caller keeps a copy first. False: the system cannot.
    pub(super) fn exchange(&self, name: &Path) -> Result<bool, SinkError> {
        match renameat_with(CWD, &self.path, CWD, name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(errno) if lacks_flag(errno) => Ok(false),
            Err(errno) => Err(SinkError::io("exchange", name, errno.into())),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone; whatever else prevents this, the sweep of a later start repeats it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Renames unless the new name is taken (`EXIST`); what it may fail with where the system cannot: [`lacks_flag`].
pub(super) fn rename_if_absent(from: &Path, to: &Path) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

/// Whether `link` failed because this file system has no hard links (link(2): EPERM; FUSE and SMB say the others).
fn lacks_hard_links(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK))
}

/// Whether `renameat2` failed because the kernel or the file system does not know the flag.
pub(super) fn lacks_flag(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), SinkError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| SinkError::io("sync the folder", folder, e))
}

/// Creates a folder and what is missing above it, and makes their names durable; one that exists is synced again,
/// since whoever created it may have crashed before its own sync.
pub(super) fn create_folder(folder: &Path) -> Result<(), SinkError> {
    let parent = match folder.parent() {
        None => return Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    if !parent.is_dir() {
        create_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => match sync_folder(parent) {
            // A mount point below a folder that this user may not read: its name is not ours to keep.
            Err(SinkError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            outcome => outcome,
        },
        Err(e) => Err(SinkError::io("create the folder", folder, e)),
    }
}

/// A file that was read, kept open so that its identity cannot be reused while it is being judged.
#[derive(Debug)]
pub(super) struct Opened {
    /// The open file.
    pub(super) file: File,
    /// Its bytes, or why they were not read: it is larger than allowed.
    pub(super) bytes: Result<Vec<u8>, String>,
}

impl Opened {
    /// Reads the file at `path`, at most `bytes_max`; none if there is none.
    pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Option<Self>, SinkError> {
        let fault = |e| SinkError::io("read", path, e);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fault(e)),
        };
        let size = file.metadata().map_err(fault)?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(bytes_max)).unwrap_or(0));
        // The size may still grow if the file is not ours: the limit counts what is read.
        (&file).take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(fault)?;
        let whole = bytes.len() as u64 <= bytes_max;
        let bytes = if whole { Ok(bytes) } else { Err(format!("it is larger than {bytes_max} bytes")) };
        Ok(Some(Self { file, bytes }))
    }

    /// Whether `path` names this very file now.
    pub(super) fn stands_at(&self, path: &Path) -> Result<bool, SinkError> {
        let fault = |e| SinkError::io("look at", path, e);
        let own = self.file.metadata().map_err(fault)?;
        match fs::symlink_metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(fault(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::FileTimes;

    #[test]
    fn a_name_is_never_taken_twice() {
        let root = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::open(&root.path().join("tmp"), "a").expect("scratch");
        let name = root.path().join("name");
        assert_eq!(scratch.write(b"first").expect("written").place(&name).expect("placed"), Placed::New);
        assert_eq!(scratch.write(b"second").expect("written").place(&name).expect("placed"), Placed::Exists);
        assert_eq!(fs::read(&name).expect("read"), b"first");
        assert_eq!(fs::read_dir(root.path().join("tmp")).expect("listed").count(), 0, "no temporary stays");
    }

    #[test]
    fn the_way_without_hard_links_never_replaces_either() {
        let root = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::open(&root.path().join("tmp"), "a").expect("scratch");
        let name = root.path().join("name");
        assert_eq!(scratch.write(b"first").expect("written").place_by_rename(&name).expect("placed"), Placed::New);
        assert_eq!(scratch.write(b"second").expect("written").place_by_rename(&name).expect("placed"), Placed::Exists);
        assert_eq!(fs::read(&name).expect("read"), b"first");
    }

    #[test]
    fn the_sweep_takes_own_and_old_temporaries_only() {
        let root = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::open(root.path(), "mine").expect("scratch");
        let put = |name: &str, age: Duration| {
            let file = File::create(root.path().join(name)).expect("created");
            file.set_times(FileTimes::new().set_modified(SystemTime::now() - age)).expect("aged");
        };
        put("mine-1.tmp", Duration::ZERO);
        put("other-1.tmp", Duration::from_secs(60));
        put("other-2.tmp", TEMPORARY_AGE_MAX + Duration::from_secs(60));
        put("notes.txt", TEMPORARY_AGE_MAX * 9);
        assert_eq!(scratch.sweep().expect("swept"), 2);
        let mut left: Vec<_> =
            fs::read_dir(root.path()).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes.txt", "other-1.tmp"]);
    }

    #[test]
    fn an_incarnation_that_leads_elsewhere_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        for bad in ["", "../a", "a/b", "a-b", &"a".repeat(65)] {
            assert!(Scratch::open(root.path(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("x");
        fs::write(&path, b"12345").expect("written");
        let read = |max| Opened::read(&path, max).expect("readable").expect("there").bytes;
        assert_eq!(read(5), Ok(b"12345".to_vec()));
        assert!(read(4).expect_err("too large").contains("larger than 4"));
        assert!(Opened::read(&root.path().join("none"), 5).expect("readable").is_none());
    }
}
