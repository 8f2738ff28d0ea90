//! Events of folders, as hints only: each may be lost, and the look that polling makes is enough alone.
//!
//! What is heard is kept as a bounded set of paths until somebody looks; past the bound, and where events were lost,
//! everything is looked at. Folders of network file systems, which tell only of changes made on this host, those beyond
//! the limit of watches, and those in which files grew without an event, are polled.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{CreateKind, ModifyKind, RemoveKind};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Names that are kept between two looks; past them everything is looked at.
const NAMES_MAX: usize = 4096;
/// File systems on which changes may be made by other hosts or without the kernel: NFS, SMB, CIFS, 9p, FUSE, AFS, Ceph,
/// Lustre, GPFS, GFS2, OCFS2, and `/proc`.
const WITHOUT_EVENTS: [u64; 13] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x6573_5546,
    0x5346_414f,
    0x00c3_6400,
    0x0bd0_0bd0,
    0x4750_4653,
    0x0116_1970,
    0x7461_636f,
    0x9fa0,
];

/// What changed since the last look.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Files that were written to.
    pub written: HashSet<PathBuf>,
    /// Names that came or went, and whether each is, or may have been, a folder's.
    pub renamed: HashSet<(PathBuf, bool)>,
    /// Events were lost, or a watched folder itself is gone: look at everything.
    pub is_lost: bool,
    /// Watched folders that are gone.
    gone: HashSet<PathBuf>,
}

/// Why a folder is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    /// The configuration says so, or events cannot be had at all.
    Configured,
    /// Its file system gives no events for what other hosts do.
    FileSystem,
    /// A limit of the system is reached.
    Limit,
    /// A file in it grew and no event came.
    Silent,
}

/// What the thread that waits for events shares with those who look.
#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    rung: Arc<Notify>,
}

/// The watched folders.
#[derive(Debug)]
pub(super) struct Hints {
    watcher: Option<RecommendedWatcher>,
    ear: Arc<Ear>,
    folders: HashMap<PathBuf, Result<(), Polled>>,
    /// The limit was reached, and said.
    limit: Option<String>,
}

impl Ear {
    fn hear(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            self.lock().is_lost = true;
            return self.rung.notify_one();
        };
        let may_be_folder = match event.kind {
            // Our own reading would wake us.
            EventKind::Access(_) => return,
            EventKind::Create(kind) => Some(kind != CreateKind::File),
            EventKind::Remove(kind) => Some(kind != RemoveKind::File),
            EventKind::Modify(ModifyKind::Name(_)) => Some(true),
            EventKind::Modify(_) => None,
            EventKind::Any | EventKind::Other => Some(true),
        };
        let mut heard = self.lock();
        heard.is_lost |= event.need_rescan();
        for path in event.paths {
            if heard.written.len() + heard.renamed.len() >= NAMES_MAX {
                heard.is_lost = true;
                break;
            }
            match may_be_folder {
                Some(is_folder) => {
                    if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
                        heard.gone.insert(path.clone());
                    }
                    heard.renamed.insert((path, is_folder));
                }
                None => {
                    heard.written.insert(path);
                }
            }
        }
        drop(heard);
        self.rung.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hints {
    /// Begins to listen, if `wanted`; where events cannot be had (a limit of the system) everything is polled.
    pub(super) fn new(wanted: bool) -> Self {
        let ear: Arc<Ear> = Arc::default();
        let listener = ear.clone();
        let watcher = wanted.then(|| notify::recommended_watcher(move |event| listener.hear(event)));
        let limit = match &watcher {
            Some(Err(error)) => {
                Some(format!("no events of folders can be had ({error}); raise fs.inotify.max_user_instances"))
            }
            _ => None,
        };
        Self { watcher: watcher.and_then(Result::ok), ear, folders: HashMap::new(), limit }
    }

    /// Rung by each event; none where everything is polled.
    pub(super) fn rung(&self) -> Option<Arc<Notify>> {
        self.watcher.as_ref().map(|_| self.ear.rung.clone())
    }

    /// A limit of the system that was reached; said once.
    pub(super) fn take_limit(&mut self) -> Option<String> {
        self.limit.take()
    }

    /// Watches these folders and no others; says whether one of them is new, so that what came into it before the
    /// watch is looked for.
    pub(super) fn watch(&mut self, wanted: &BTreeSet<PathBuf>) -> bool {
        let gone: Vec<_> = self.folders.keys().filter(|folder| !wanted.contains(*folder)).cloned().collect();
        for folder in gone {
            self.leave(&folder);
        }
        let mut is_new = false;
        for folder in wanted {
            if !self.folders.contains_key(folder) {
                // A folder that is not there is looked for by its parent's events.
                let Some(outcome) = self.add(folder) else { continue };
                is_new |= outcome.is_ok();
                self.folders.insert(folder.clone(), outcome);
            }
        }
        is_new
    }

    fn add(&mut self, folder: &Path) -> Option<Result<(), Polled>> {
        let Some(watcher) = self.watcher.as_mut() else { return Some(Err(Polled::Configured)) };
        if has_no_events(folder) {
            return Some(Err(Polled::FileSystem));
        }
        let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) else { return Some(Ok(())) };
        match error.kind {
            ErrorKind::PathNotFound => None,
            ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            ErrorKind::MaxFilesWatch if !self.is_limited() => {
                self.limit = Some("no more folders can be watched; raise fs.inotify.max_user_watches".to_owned());
                Some(Err(Polled::Limit))
            }
            _ => Some(Err(Polled::Limit)),
        }
    }

    fn is_limited(&self) -> bool {
        self.folders.values().any(|state| *state == Err(Polled::Limit))
    }

    fn leave(&mut self, folder: &Path) {
        if let (Some(Ok(())), Some(watcher)) = (self.folders.remove(folder), self.watcher.as_mut()) {
            // Gone with its folder already: nothing to leave.
            let _ = watcher.unwatch(folder);
        }
    }

    /// From now on this folder is polled: a file in it grew without an event.
    pub(super) fn distrust(&mut self, folder: &Path) {
        self.leave(folder);
        self.folders.insert(folder.to_owned(), Err(Polled::Silent));
    }

    /// Whether events of this folder are expected.
    pub(super) fn is_watched(&self, folder: &Path) -> bool {
        matches!(self.folders.get(folder), Some(Ok(())))
    }

    /// Folders without events.
    pub(super) fn polled(&self) -> usize {
        self.folders.values().filter(|state| state.is_err()).count()
    }

    /// Takes what was heard.
    pub(super) fn listen(&mut self) -> Heard {
        let mut heard = std::mem::take(&mut *self.ear.lock());
        for folder in std::mem::take(&mut heard.gone) {
            // Watched anew at the next look, if another folder stands under its name by then.
            if self.is_watched(&folder) {
                self.leave(&folder);
                heard.is_lost = true;
            }
        }
        heard
    }
}

/// Whether a folder's file system tells nothing of what others do in it. A folder that cannot be asked is watched.
fn has_no_events(folder: &Path) -> bool {
    // Magic numbers of 32 bits; the field is signed and as wide as the machine likes.
    rustix::fs::statfs(folder).is_ok_and(|fs| WITHOUT_EVENTS.contains(&(fs.f_type as u64 & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;

    /// Takes what is heard until it is enough: the kernel tells another thread first.
    fn until(hints: &mut Hints, what: &str, enough: impl Fn(&Heard) -> bool) -> Heard {
        let (deadline, mut all) = (Instant::now() + Duration::from_secs(20), Heard::default());
        while !enough(&all) {
            assert!(Instant::now() < deadline, "waited in vain for {what}: {all:?}");
            let heard = hints.listen();
            all.written.extend(heard.written);
            all.renamed.extend(heard.renamed);
            all.is_lost |= heard.is_lost;
            std::thread::yield_now();
        }
        all
    }

    #[test]
    fn files_and_names_are_heard_of_and_folders_without_events_are_polled() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let mut hints = Hints::new(true);
        assert!(hints.watch(&BTreeSet::from([root.clone(), "/proc/self".into()])), "new");
        assert_eq!((hints.is_watched(&root), hints.polled()), (true, 1));
        fs::write(root.join("a"), "x").expect("a file");
        fs::create_dir(root.join("b")).expect("a folder");
        let heard = until(&mut hints, "a file and a folder", |heard| {
            heard.written.contains(&root.join("a"))
                && heard.renamed.contains(&(root.join("a"), false))
                && heard.renamed.contains(&(root.join("b"), true))
        });
        assert!(!heard.is_lost, "{heard:?}");
        hints.distrust(&root);
        assert_eq!((hints.is_watched(&root), hints.polled()), (false, 2));
    }

    #[test]
    fn a_folder_that_goes_away_and_a_flood_make_everything_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        let mut hints = Hints::new(true);
        hints.watch(&BTreeSet::from([inner.clone()]));
        for n in 0..=NAMES_MAX {
            hints.ear.hear(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(inner.join(n.to_string()))));
        }
        assert!(hints.listen().is_lost);
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        hints.ear.hear(Ok(lost));
        assert!(hints.listen().is_lost, "the kernel lost events");
        fs::remove_dir_all(&inner).expect("removed");
        fs::create_dir(&inner).expect("a folder");
        until(&mut hints, "the folder's end", |heard| heard.is_lost);
        assert!(!hints.is_watched(&inner));
        assert!(hints.watch(&BTreeSet::from([inner.clone()])), "the new one is watched");
    }

    #[test]
    fn reading_is_not_heard_of() {
        let hints = Hints::new(true);
        let opened = EventKind::Access(notify::event::AccessKind::Open(notify::event::AccessMode::Any));
        hints.ear.hear(Ok(Event::new(opened).add_path("/a".into())));
        let heard = hints.ear.lock();
        assert!(heard.written.is_empty() && heard.renamed.is_empty() && !heard.is_lost);
    }

    #[test]
    fn without_events_everything_is_polled() {
        let mut hints = Hints::new(false);
        assert!(!hints.watch(&BTreeSet::from(["/".into()])) && hints.rung().is_none());
        assert!(hints.listen().written.is_empty() && hints.polled() == 1);
    }
}
