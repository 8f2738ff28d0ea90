//! The trash: what is superseded or wrong is moved here, and destroyed only after the rollback horizon (rule D).
//!
//! A failover of Redis may take back the commit that superseded a file; within the horizon its bytes are still here.
//! Names are `<unix milliseconds>-<incarnation>-<serial>-<old name>`, so that a sweep needs names alone. The time is
//! this host's: a clock that jumps ahead by the horizon shortens it, one that steps back lengthens it.
//!
//! | a crash after | leaves |
//! |---|---|
//! | the rename | the file in the trash only (a power cut may take the move back) |
//! | the two folder syncs | the file in the trash, for good |
//! | a removal by the sweep | the next sweep goes on |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::SinkError;
use super::durable::{Opened, create_folder, lacks_flag, rename_if_absent, serial, sync_folder};

/// How many entries one sweep destroys at most: thousands of deletions at once slow the creation of files for minutes
/// (ext4 passes over inodes that were freed recently).
pub(super) const SWEEP_MAX: usize = 1_000;

/// The `trash/` folder of a store, as one node uses it.
#[derive(Debug)]
pub(super) struct Trash {
    folder: PathBuf,
    incarnation: String,
}

impl Trash {
    /// Creates the folder durably. The incarnation was checked by [`super::durable::Scratch`].
    pub(super) fn open(folder: &Path, incarnation: &str) -> Result<Self, SinkError> {
        create_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), incarnation: incarnation.to_owned() })
    }

    /// Where a file of this name would go now; never given twice.
    pub(super) fn place_for(&self, old_name: &str) -> PathBuf {
        self.folder.join(format!("{:013}-{}-{}-{old_name}", now_ms(), self.incarnation, serial()))
    }

    /// Moves the file at `path` here, durably, and returns its name here; none if there was none.
    ///
    /// `judged` is the file that was found wrong, if one was looked at: when another node has put another file under
    /// the name meanwhile, that one is given its name back and nothing is moved.
    pub(super) fn take(&self, path: &Path, judged: Option<&Opened>) -> Result<Option<String>, SinkError> {
        if let Some(judged) = judged
            && !judged.stands_at(path)?
        {
            return Ok(None);
        }
        let old_name = path.file_name().and_then(|n| n.to_str()).unwrap_or("nameless");
        let to = self.place_for(old_name);
        match rename_if_absent(path, &to) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) if lacks_flag(errno) => return self.take_by_link(path, &to),
            Err(errno) => return Err(SinkError::io("move to the trash", path, errno.into())),
        }
        if let Some(judged) = judged
            && !judged.stands_at(&to)?
        {
            give_back(&to, path)?;
            return Ok(None);
        }
        self.settle(path, &to)
    }

    /// Where `renameat2` is not known: a second name here, then the first is removed. Whoever puts another file under
    /// the name between these two steps loses it to the removal; `verify` finds that, and it is fetched again.
    fn take_by_link(&self, path: &Path, to: &Path) -> Result<Option<String>, SinkError> {
        match fs::hard_link(path, to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(SinkError::io("link into the trash", path, e)),
        }
        sync_folder(&self.folder)?;
        fs::remove_file(path).map_err(|e| SinkError::io("unlink", path, e))?;
        self.settle(path, to)
    }

    fn settle(&self, path: &Path, to: &Path) -> Result<Option<String>, SinkError> {
        // The trash first: at no moment should a power cut find the file in neither folder.
        sync_folder(&self.folder)?;
        if let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        Ok(to.file_name().and_then(|n| n.to_str()).map(str::to_owned))
    }

    /// Destroys up to [`SWEEP_MAX`] entries that came here longer ago than `horizon`, oldest first; returns how many.
    /// Files with other names are left alone. Calling it again goes on where it stopped.
    pub(super) fn sweep(&self, horizon: Duration) -> Result<usize, SinkError> {
        let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        let now = now_ms();
        let mut due = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|e| SinkError::io("list", &self.folder, e))? {
            let name = entry.map_err(|e| SinkError::io("list", &self.folder, e))?.file_name();
            let Some(at) = name.to_str().and_then(moved_at) else { continue };
            if at.saturating_add(horizon_ms) <= now {
                due.push((at, name));
            }
        }
        due.sort_unstable();
        due.truncate(SWEEP_MAX);
        for (_, name) in &due {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Ok(()) => {}
                // Another node sweeps the same folder.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(SinkError::io("destroy", &path, e)),
            }
        }
        Ok(due.len())
    }
}

/// Undoes a move that caught another file than the judged one. If the name was taken again, the file stays here.
fn give_back(from: &Path, to: &Path) -> Result<(), SinkError> {
    match rename_if_absent(from, to) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(SinkError::io("give back", to, errno.into())),
    }
    to.parent().map_or(Ok(()), sync_folder)
}

/// When an entry came here, in Unix milliseconds; none for a name that is not one of ours.
fn moved_at(name: &str) -> Option<u64> {
    let mut parts = name.splitn(4, '-');
    let at = parts.next().filter(|at| at.len() == 13)?.parse().ok()?;
    parts.next()?;
    parts.next()?.parse::<u64>().ok()?;
    parts.next().map(|_| at)
}

fn now_ms() -> u64 {
    // A clock before 1970 gives 0: such entries are destroyed early, and the wrong clock shows in every log line.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("listed")
            .map(|e| e.expect("an entry").file_name().into_string().expect("a text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_taken_is_kept_until_the_horizon() {
        let root = tempfile::tempdir().expect("a folder");
        let trash = Trash::open(&root.path().join("trash"), "a").expect("trash");
        let path = root.path().join("block.json");
        fs::write(&path, b"bytes").expect("written");
        let name = trash.take(&path, None).expect("taken").expect("was there");
        assert!(!path.exists());
        assert_eq!(fs::read(root.path().join("trash").join(&name)).expect("kept"), b"bytes");
        assert_eq!(trash.take(&path, None).expect("nothing there"), None);

        assert_eq!(trash.sweep(Duration::from_secs(600)).expect("swept"), 0);
        fs::write(root.path().join("trash/notes.txt"), b"mine").expect("written");
        assert_eq!(trash.sweep(Duration::ZERO).expect("swept"), 1);
        assert_eq!(names(&root.path().join("trash")), ["notes.txt"]);
    }

    #[test]
    fn a_sweep_takes_the_oldest_and_stops_at_its_bound() {
        let root = tempfile::tempdir().expect("a folder");
        let trash = Trash::open(root.path(), "a").expect("trash");
        for n in 0..SWEEP_MAX + 3 {
            fs::write(root.path().join(format!("{:013}-b-{n}-x", 1_000 + n)), b"").expect("written");
        }
        assert_eq!(trash.sweep(Duration::from_secs(600)).expect("swept"), SWEEP_MAX);
        assert_eq!(names(root.path()).len(), 3);
        assert!(names(root.path())[0].starts_with(&format!("{:013}", 1_000 + SWEEP_MAX)));
    }

    #[test]
    fn a_file_that_came_after_the_judged_one_keeps_its_name() {
        let root = tempfile::tempdir().expect("a folder");
        let trash = Trash::open(&root.path().join("trash"), "a").expect("trash");
        let path = root.path().join("block.json");
        fs::write(&path, b"bad").expect("written");
        let judged = Opened::read(&path, 10).expect("read").expect("there");
        fs::remove_file(&path).expect("another node took it");
        fs::write(&path, b"good").expect("and wrote it anew");
        assert_eq!(trash.take(&path, Some(&judged)).expect("looked"), None);
        assert_eq!(fs::read(&path).expect("still there"), b"good");
    }

    #[test]
    fn giving_back_never_replaces() {
        let root = tempfile::tempdir().expect("a folder");
        let (kept, name) = (root.path().join("kept"), root.path().join("name"));
        fs::write(&kept, b"one").expect("written");
        give_back(&kept, &name).expect("given back");
        assert_eq!(fs::read(&name).expect("back"), b"one");
        fs::write(&kept, b"two").expect("written");
        give_back(&kept, &name).expect("left");
        assert_eq!(
            (fs::read(&name).expect("there"), fs::read(&kept).expect("there")),
            (b"one".to_vec(), b"two".to_vec())
        );
    }

    #[test]
    fn the_way_without_renameat2_moves_as_well() {
        let root = tempfile::tempdir().expect("a folder");
        let trash = Trash::open(&root.path().join("trash"), "a").expect("trash");
        let path = root.path().join("block.json");
        fs::write(&path, b"bytes").expect("written");
        let to = trash.place_for("block.json");
        assert!(trash.take_by_link(&path, &to).expect("taken").is_some());
        assert!(!path.exists() && to.exists());
        assert_eq!(trash.take_by_link(&path, &trash.place_for("block.json")).expect("nothing there"), None);
    }

    proptest! {
        /// No name in the folder, whoever put it there, brings the sweep down.
        #[test]
        fn any_name_is_judged(name in ".*") {
            let _ = moved_at(&name);
        }

        #[test]
        fn own_names_are_recognised(at in 0u64..9_999_999_999_999, incarnation in "[0-9a-z_]{1,64}", serial: u64, old in "[-.0-9a-z]{1,40}") {
            prop_assert_eq!(moved_at(&format!("{at:013}-{incarnation}-{serial}-{old}")), Some(at));
        }
    }
}
