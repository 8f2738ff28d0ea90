//! The files of one unit: what is followed, what is stored of it, and what is to be read next.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::globs::{Globs, Inode};
use super::hints::Hints;
use super::notice::{Notice, Notices};
use super::options::{FilesOptions, Start};
use super::report::{FileReport, FileState, FilesReport};
use super::siblings::home_among;
use super::source::Source;
use super::split::Splitter;
use super::tail::{Generations, Tail};
use crate::messages::log_file::LogFile;

/// Paths that are remembered beside those of lives.
const PATHS_SPARE: usize = 1000;
/// Whoever asks for batches looks sooner than this after a look is due.
const NEGLECTED: Duration = Duration::from_millis(100);

/// A file that may be a copy in the making, and how it looked last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    pub size: u64,
    pub since: Instant,
}

/// Lives of which nothing was given yet, by what their paths stand for. Those that were met since are added when it is
/// asked: ten thousand new files do not each look at all the others.
#[derive(Debug, Default)]
struct Nameless {
    by_home: HashMap<PathBuf, Vec<u64>>,
    /// Lives from this number on are not in it yet.
    from: u64,
}

/// The files of one unit.
///
/// It does blocking work on files and is to be called where that is allowed; [`LogFiles`](super::LogFiles) does so. It
/// never looks at a clock: every call says what time it is. Dropping it forgets nothing that was committed.
#[derive(Debug)]
pub struct Tails {
    pub(super) options: FilesOptions,
    pub(super) paths: Globs,
    pub(super) exclude: Globs,
    pub(super) rotated: Globs,
    pub(super) splitter: Splitter,
    /// Every life by the order in which it was met.
    pub(super) tails: BTreeMap<u64, Tail>,
    next_no: u64,
    /// Lives that may have something to read, in the order of their turns.
    pub(super) queue: VecDeque<u64>,
    pub(super) generations: Generations,
    /// Followed paths and what stands there.
    pub(super) by_path: HashMap<PathBuf, u64>,
    /// What paths stand for, as it was told before; none where that is themselves. It follows from the patterns alone, and
    /// is asked for every life at every look.
    homes: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
    nameless: Nameless,
    /// Lives whose record changed without a line.
    pub(super) changed: BTreeSet<u64>,
    /// The files of the very first look have their places stored: whatever appears now is read from its beginning.
    pub(super) begun: bool,
    /// Lives of the first look whose places must be stored first.
    pub(super) first: Option<BTreeSet<u64>>,
    pub(super) begun_told: bool,
    pub(super) hints: Hints,
    /// When the world was looked at last, and when it is to be looked at again.
    pub(super) scanned_at: Option<Instant>,
    pub(super) scan_at: Option<Instant>,
    /// The next moment at which something is due without an event.
    pub(super) timer: Option<Instant>,
    /// Lives whose records are old enough to be dropped.
    pub(super) forgettable: BTreeSet<u64>,
    pub(super) suspects: HashMap<Inode, Suspect>,
    /// Followed paths beside which a file lies of which it cannot be told yet whether it is another life, with the life
    /// before it and the time from which on such files are new.
    pub(super) unsettled: BTreeMap<PathBuf, (u64, i128)>,
    /// Packed files that are nobody's, with their size.
    pub(super) left_alone: HashMap<Inode, u64>,
    /// Paths that cannot be looked at.
    pub(super) faults: BTreeMap<PathBuf, Fault>,
    /// More files match than are followed, and it was said.
    pub(super) is_beyond: bool,
    pub(super) notices: Notices,
    pub(super) totals: FilesReport,
    /// Rises whenever what was handed out is void.
    pub(super) epoch: u64,
    pub(super) batch_at: Option<Instant>,
}

impl Tails {
    /// Gets ready; the faults of the options, each with its key, if it cannot. Nothing is looked at yet.
    pub fn new(options: FilesOptions) -> Result<Self, Vec<String>> {
        let faults = options.faults();
        let globs = |patterns: &[String]| Globs::new(patterns);
        let (Ok(paths), Ok(exclude), Ok(rotated), true) =
            (globs(&options.paths), globs(&options.exclude), globs(&options.rotated), faults.is_empty())
        else {
            return Err(faults);
        };
        let start = options.multiline.as_ref().map(|multiline| multiline.start.clone());
        Ok(Self {
            splitter: Splitter { limit: options.line_bytes_max, start },
            hints: Hints::new(options.events),
            options,
            paths,
            exclude,
            rotated,
            tails: BTreeMap::new(),
            next_no: 0,
            queue: VecDeque::new(),
            generations: Generations::new(),
            by_path: HashMap::new(),
            homes: RefCell::default(),
            nameless: Nameless::default(),
            changed: BTreeSet::new(),
            begun: false,
            first: None,
            begun_told: false,
            scanned_at: None,
            scan_at: None,
            timer: None,
            forgettable: BTreeSet::new(),
            suspects: HashMap::new(),
            unsettled: BTreeMap::new(),
            left_alone: HashMap::new(),
            faults: BTreeMap::new(),
            is_beyond: false,
            notices: Notices::default(),
            totals: FilesReport::default(),
            epoch: 0,
            batch_at: None,
        })
    }

    /// Takes up what is stored: at the beginning, and whenever a commit did not come about or Redis went back.
    ///
    /// Everything handed out before is void. Handles stay open, so that a place farther back can be read again even of
    /// files that were deleted meanwhile. `begun` is [`Batch::begun`](super::Batch::begun) of the last commit; without
    /// it, the start of the options holds for what the next look finds.
    pub fn restore(&mut self, records: Vec<LogFile>, begun: bool, now: Instant) {
        self.epoch += 1;
        self.queue.clear();
        self.changed.clear();
        self.forgettable.clear();
        (self.begun, self.begun_told) = (begun, begun);
        self.forget_nameless();
        let mut records: HashMap<_, _> = records.into_iter().map(|record| (record.id.clone(), record)).collect();
        self.generations.clear();
        for id in records.keys() {
            let lives = self.generations.entry((id.head, id.inode)).or_default();
            *lives = (*lives).max(id.generation.saturating_add(1));
        }
        self.tails.retain(|_, tail| {
            tail.is_queued = false;
            tail.lag.clear();
            match tail.id.as_ref().and_then(|id| records.remove(id)) {
                Some(record) => tail.restore(record, now),
                None if tail.source.is_some() => tail.begin_again(),
                None => return false,
            }
            true
        });
        let mut new: Vec<_> = records.into_values().collect();
        new.sort_by(|a, b| (a.mtime, &a.id).cmp(&(b.mtime, &b.id)));
        for record in new {
            self.add(Tail::recorded(record, now));
        }
        self.match_sources();
        if !begun && self.first.is_some() {
            let starts = self.tails.iter().filter(|(_, tail)| tail.stored.is_none() && tail.begin.offset > 0);
            self.first = Some(starts.map(|(no, _)| *no).collect());
        }
        let numbers: Vec<_> = self.tails.keys().copied().collect();
        for no in numbers {
            self.enqueue(no);
            let Some(tail) = self.tails.get_mut(&no) else { continue };
            if tail.is_dirty {
                self.changed.insert(no);
            }
            if tail.source.is_none() && !tail.finished {
                tail.sought_until = Some(now + self.options.rotate_wait);
            }
        }
        self.scan_at = Some(now);
    }

    /// After what is stored has changed: every open file to the life that it holds.
    fn match_sources(&mut self) {
        let mut spare: HashMap<Inode, Source> = HashMap::new();
        for tail in self.tails.values_mut() {
            let (Some(mut source), Some(record)) = (tail.source.take(), &tail.stored) else { continue };
            // A packed one is compared while it is unpacked.
            if source.packing().is_some() || tail.cursor.agrees(&mut source).unwrap_or(true) {
                tail.source = Some(source);
            } else {
                (tail.path, tail.inode) = (record.path.clone(), (record.dev, record.inode));
                tail.is_dirty = false;
                spare.insert(source.inode, source);
            }
        }
        let is_nameless = |tail: &Tail| tail.stored.is_none();
        for tail in self.tails.values_mut().filter(|tail| is_nameless(tail)) {
            if let Some(source) = tail.source.take() {
                spare.entry(source.inode).or_insert(source);
            }
        }
        for tail in self.tails.values_mut().filter(|tail| tail.source.is_none() && tail.stored.is_some()) {
            if let Some(mut source) = spare.remove(&tail.inode) {
                match tail.cursor.agrees(&mut source) {
                    Ok(true) => tail.source = Some(source),
                    Ok(false) | Err(_) => drop(spare.insert(source.inode, source)),
                }
            }
        }
        for tail in self.tails.values_mut().filter(|tail| is_nameless(tail)) {
            tail.source = spare.remove(&tail.inode);
        }
        self.tails.retain(|_, tail| !is_nameless(tail) || tail.source.is_some());
    }

    /// Adds a life; returns its number.
    pub(super) fn add(&mut self, tail: Tail) -> u64 {
        let no = self.next_no;
        self.next_no += 1;
        self.tails.insert(no, tail);
        no
    }

    /// Gives a life a turn.
    pub(super) fn enqueue(&mut self, no: u64) {
        if let Some(tail) = self.tails.get_mut(&no)
            && tail.source.is_some()
            && !tail.is_queued
        {
            tail.is_queued = true;
            self.queue.push_back(no);
        }
    }

    /// Something is due at this moment.
    pub(super) fn due(&mut self, at: Instant) {
        self.timer = Some(self.timer.map_or(at, |timer| timer.min(at)));
    }

    /// Rung by each event, to wait for; none where everything is polled.
    pub fn rung(&self) -> Option<std::sync::Arc<tokio::sync::Notify>> {
        self.hints.rung()
    }

    /// When it wants to be asked again, if nothing is heard before; none if at once.
    pub fn next_due(&self, now: Instant) -> Option<Duration> {
        let mut due = self.scan_at.unwrap_or(now);
        if let Some(timer) = self.timer {
            due = due.min(timer);
        }
        if self.queue.iter().any(|no| self.is_ready(*no, now)) {
            due = due.min(self.batch_at.map_or(now, |at| at + self.options.linger));
        }
        let wait = due.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Whether a look is overdue because nobody asks for batches. Before anything was restored there is none to miss:
    /// whose the files are is not known yet.
    pub(super) fn is_neglected(&self, now: Instant) -> bool {
        self.epoch > 0 && self.scan_at.is_some_and(|at| at + NEGLECTED <= now)
    }

    /// Whether a life's turn can come: it does not rest after a failure, nor wait for another.
    fn is_ready(&self, no: u64, now: Instant) -> bool {
        self.tails.get(&no).is_some_and(|tail| !tail.fault.rests(now)) && !self.waits(no, now)
    }

    /// What happened since the last time, for the log.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.notices.take()
    }

    /// What there is to say of each file.
    pub fn report(&self, now: Instant) -> FilesReport {
        let mut report = self.totals.clone();
        report.polled_folders = self.hints.polled();
        report.held = self.tails.values().filter(|tail| tail.finished && tail.source.is_some()).count();
        report.faults = self.faults.iter().filter_map(|(path, fault)| fault_of(path, fault)).collect();
        report.files =
            self.tails.values().filter(|tail| tail.source.is_some() || !tail.finished).map(|t| one(t, now)).collect();
        report.files.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
        report
    }

    /// The start in files of the very first look.
    pub(super) fn starts_at_end(&self, mtime: i128) -> bool {
        match self.options.start {
            Start::Beginning => false,
            Start::End => true,
            Start::Since(seconds) => mtime < i128::from(seconds) * 1_000_000_000,
        }
    }

    /// The followed path that a path stands for: itself, or what it was called before it was rotated.
    pub(super) fn home(&self, path: &Path) -> PathBuf {
        let mut homes = self.homes.borrow_mut();
        if let Some(home) = homes.get(path) {
            return home.as_deref().unwrap_or(path).to_owned();
        }
        let home = home_among(path, &self.paths);
        // Paths come and go with rotation.
        if homes.len() >= 2 * (self.tails.len() + PATHS_SPARE) {
            homes.clear();
        }
        homes.insert(path.to_owned(), home.clone());
        home.unwrap_or_else(|| path.to_owned())
    }

    /// Lives of which nothing was given yet, and whose path stands for this one.
    pub(super) fn nameless_at(&mut self, home: &Path) -> Vec<u64> {
        let mut nameless = std::mem::take(&mut self.nameless);
        for (no, tail) in self.tails.range(nameless.from..).filter(|(_, tail)| tail.id.is_none()) {
            nameless.by_home.entry(self.home(&tail.path)).or_default().push(*no);
        }
        nameless.from = self.next_no;
        self.nameless = nameless;
        let still = |no: &u64| self.tails.get(no).is_some_and(|tail| tail.id.is_none());
        self.nameless.by_home.get(home).into_iter().flatten().copied().filter(still).collect()
    }

    /// Lives have other paths, or other names, than a moment ago.
    pub(super) fn forget_nameless(&mut self) {
        self.nameless = Nameless::default();
    }
}

fn fault_of(path: &Path, fault: &Fault) -> Option<(PathBuf, super::FaultKind, String)> {
    fault.last().map(|(kind, reason)| (path.to_owned(), kind, reason.to_owned()))
}

fn one(tail: &Tail, now: Instant) -> FileReport {
    let state = match (&tail.source, tail.rotated, tail.finished) {
        _ if tail.fault.last().is_some() => FileState::Faulty,
        (None, _, true) => FileState::Finished,
        (None, _, false) => FileState::Sought,
        (Some(_), Some(_), true) => FileState::Held,
        (Some(_), Some(_), false) => FileState::Draining,
        (Some(_), None, _) => FileState::Followed,
    };
    let offset = tail.stored_offset();
    let is_done = offset == tail.cursor.offset && !tail.is_queued;
    FileReport {
        id: tail.id.clone(),
        path: tail.path.clone(),
        state,
        size: tail.size,
        offset,
        behind: tail.size.saturating_sub(offset),
        oldest: if is_done { None } else { tail.lag.age(now) },
        fault: tail.fault.last().map(|(kind, reason)| (kind, reason.to_owned())),
    }
}
