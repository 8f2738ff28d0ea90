//! One look at the world: which files are there, which left their names, which began anew.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::cursor::Cursor;
use super::globs::{Found, Inode};
use super::notice::Notice;
use super::siblings::{Candidate, Candidates};
use super::source::Source;
use super::tail::Tail;
use super::tails::Tails;

/// The shortest pause between two looks that events ask for.
const SCAN_PAUSE: Duration = Duration::from_millis(50);
/// How often folders are read again within one look, because new ones appeared in it.
const ROUNDS_MAX: usize = 4;
/// Files that are remembered as not to be read.
const ASIDE_MAX: usize = 10_000;
/// Looks in a row that find a file grown without an event, until its folder is polled.
const UNHEARD_MAX: u32 = 3;
/// Parts of the time after which a record is forgotten in which its count is stored.
const GONE_STEPS: u64 = 16;

impl Tails {
    /// Takes up hints, and looks at everything if that is due. Cheap if nothing happened.
    pub fn look(&mut self, now: Instant) {
        let heard = self.hints.listen();
        for path in &heard.written {
            if let Some(no) = self.by_path.get(path).copied() {
                if let Some(tail) = self.tails.get_mut(&no) {
                    (tail.was_hinted, tail.unheard) = (true, 0);
                }
                self.enqueue(no);
            }
        }
        let matters = |(path, is_folder): &(PathBuf, bool)| {
            *is_folder || self.by_path.contains_key(path) || self.paths.matches(path)
        };
        if heard.is_lost || heard.renamed.iter().any(matters) {
            self.look_again_soon(now);
        }
        if self.scan_at.is_none_or(|at| at <= now) {
            self.scan(now);
        }
        if self.timer.is_some_and(|at| at <= now) {
            self.settle(now);
        }
    }

    fn scan(&mut self, now: Instant) {
        let found = self.find();
        self.note_faults(&found, now);
        let passed = self.scanned_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let polls = self.hints.polled() > 0;
        let pause = if polls { self.options.poll_only.min(self.options.poll) } else { self.options.poll };
        // What is found may ask for an earlier look.
        (self.scanned_at, self.scan_at) = (Some(now), Some(now + pause));
        let left = self.compare(&found, now);
        self.remember_paths(&found);
        let is_whole = self.place(&found, left, now);
        if is_whole && self.first.is_none() {
            let starts = self.tails.iter().filter(|(_, tail)| tail.stored.is_none() && tail.begin.offset > 0);
            self.first = Some(starts.map(|(no, _)| *no).collect());
        }
        self.remember_paths(&found);
        self.count_gone(&found, passed);
        self.settle(now);
    }

    /// Reads the folders, again where one of them was not watched until now.
    fn find(&mut self) -> Found {
        let mut found = self.paths.find(&self.exclude);
        for _ in 0..ROUNDS_MAX {
            if !self.hints.watch(&found.folders) {
                break;
            }
            found = self.paths.find(&self.exclude);
        }
        if let Some(limit) = self.hints.take_limit() {
            let what =
                format!("{limit}; until then files are looked at every {} ms", self.options.poll_only.as_millis());
            self.notices.add(Notice::Bound { what });
        }
        if found.is_cut {
            let what = format!(
                "the folders of {}.paths hold more than {} names; narrow the patterns",
                self.options.name,
                super::globs::ENTRIES_MAX
            );
            self.notices.add(Notice::Bound { what });
        }
        found
    }

    fn note_faults(&mut self, found: &Found, now: Instant) {
        for (path, error) in &found.faults {
            self.failed(path, error, now);
        }
        if self.faults.is_empty() {
            return;
        }
        let still: BTreeSet<&Path> = found.faults.iter().map(|(path, _)| path.as_path()).collect();
        let there: BTreeSet<&Path> = found.files.values().flat_map(|seen| &seen.paths).map(PathBuf::as_path).collect();
        let healed = |path: &Path| !still.contains(path) && !there.contains(path);
        let over: Vec<_> = self.faults.keys().filter(|path| healed(path)).cloned().collect();
        for path in over {
            self.healed(&path);
        }
    }

    /// Takes note that a path cannot be looked at.
    pub(super) fn failed(&mut self, path: &Path, error: &io::Error, now: Instant) {
        if self.faults.entry(path.to_owned()).or_default().failed(error, now) {
            self.notices.add(Notice::Fault { path: path.to_owned(), reason: error.to_string() });
        }
    }

    /// Takes note that a path can be looked at.
    pub(super) fn healed(&mut self, path: &Path) {
        if self.faults.remove(path).is_some_and(|mut fault| fault.healed()) {
            self.notices.add(Notice::Healed { path: path.to_owned() });
        }
    }

    /// Compares every open life with what was found; returns the paths that lives left.
    fn compare(&mut self, found: &Found, now: Instant) -> HashMap<PathBuf, u64> {
        let mut left = HashMap::new();
        let numbers: Vec<_> = self.tails.keys().copied().collect();
        for no in numbers {
            let Some(tail) = self.tails.get_mut(&no) else { continue };
            let Some(inode) = tail.source.as_ref().map(|source| source.inode) else { continue };
            let seen = found.files.get(&inode);
            let is_news = match seen {
                Some(seen) if tail.source.as_ref().is_some_and(|source| source.packing().is_none()) => {
                    let grew = seen.size > tail.size;
                    let is_news = tail.look(seen.size, seen.mtime, now);
                    if grew {
                        Self::doubt(tail, &mut self.hints, &mut self.notices);
                    }
                    tail.was_hinted = false;
                    is_news
                }
                Some(_) => false,
                None => tail.look_at_source(now).unwrap_or(true),
            };
            match seen {
                Some(seen) if seen.paths.contains(&tail.path) => {}
                Some(seen) => {
                    let old = std::mem::replace(&mut tail.path, seen.paths[0].clone());
                    self.left(no, old.clone(), now);
                    left.insert(old, no);
                }
                None if tail.rotated.is_none() && has_left(&tail.path, inode) => {
                    let old = tail.path.clone();
                    self.left(no, old.clone(), now);
                    left.insert(old, no);
                }
                None => {}
            }
            if is_news {
                self.verify(no, now);
            }
        }
        left
    }

    fn left(&mut self, no: u64, path: PathBuf, now: Instant) {
        self.forget_nameless();
        let Some(tail) = self.tails.get_mut(&no) else { return };
        tail.is_dirty = true;
        self.changed.insert(no);
        if tail.rotated.is_none() {
            tail.rotated = Some(now);
            self.notices.add(Notice::Rotated { path, id: tail.id.clone() });
        }
    }

    /// A file grew. If no event said so, several times, its folder is polled from now on.
    fn doubt(tail: &mut Tail, hints: &mut super::hints::Hints, notices: &mut super::notice::Notices) {
        let Some(folder) = tail.path.parent().filter(|folder| hints.is_watched(folder)) else { return };
        tail.unheard = if tail.was_hinted { 0 } else { tail.unheard + 1 };
        if tail.unheard >= UNHEARD_MAX {
            notices.add(Notice::Polled { folder: folder.to_owned(), reason: "a file in it grew and no event came" });
            hints.distrust(folder);
        }
    }

    /// A file changed: is it still the one that was read? Then it has a turn.
    pub(super) fn verify(&mut self, no: u64, now: Instant) {
        let Some(tail) = self.tails.get_mut(&no) else { return };
        let Some(mut source) = tail.source.take() else { return };
        // What cannot be read now is judged when it can.
        let agrees = tail.still_agrees(&mut source).unwrap_or(true);
        tail.source = Some(source);
        if agrees && tail.id.is_none() && tail.begin.offset == 0 {
            self.began(no, now);
        }
        let Some(tail) = self.tails.get_mut(&no) else { return };
        if agrees {
            tail.is_sure();
            self.enqueue(no);
        } else {
            self.restarted(no, now);
        }
    }

    fn remember_paths(&mut self, found: &Found) {
        let open: HashMap<Inode, u64> =
            self.tails.iter().filter_map(|(no, tail)| Some((tail.source.as_ref()?.inode, *no))).collect();
        self.by_path.clear();
        for (inode, seen) in &found.files {
            let Some(no) = open.get(inode) else { continue };
            self.by_path.extend(seen.paths.iter().cloned().map(|path| (path, *no)));
            // Events name a link's target by its own name.
            self.by_path.extend(seen.links.iter().cloned().map(|(_, target)| (target, *no)));
        }
        for (no, tail) in self.tails.iter().filter(|(_, tail)| tail.source.is_some() && tail.rotated.is_some()) {
            self.by_path.entry(tail.path.clone()).or_insert(*no);
        }
    }

    /// Opens a file that nobody knows, and follows it. `may_unpack`: it is a rotated file that is to be read whole.
    pub(super) fn begin(
        &mut self,
        one: &Candidate,
        is_first: bool,
        may_unpack: bool,
        candidates: &mut Candidates,
        now: Instant,
    ) -> Option<u64> {
        let path = one.path.as_path();
        if self.is_full() {
            self.beyond(path);
            return None;
        }
        if self.faults.get(path).is_some_and(|fault| fault.rests(now)) {
            return None;
        }
        let opened = candidates.open(path, one.inode).and_then(|mut source| {
            let meta = source.meta()?;
            let is_late = is_first && source.packing().is_none() && self.starts_at_end(super::globs::mtime_of(&meta));
            let begin = if is_late { self.end_of(&mut source, meta.len())? } else { Cursor::beginning() };
            Ok((source, begin))
        });
        match opened {
            Ok((source, _)) if source.packing().is_some() && !may_unpack => {
                self.leave_alone_packed(source.inode, source.meta().map_or(0, |meta| meta.len()), path);
                None
            }
            Ok((source, begin)) => {
                self.healed(path);
                let mut tail = Tail::new(path.to_owned(), source, begin, now);
                tail.meet(now);
                tail.is_dirty = tail.begin.offset > 0;
                let offset = tail.begin.offset;
                self.notices.add(Notice::Found { path: path.to_owned(), offset });
                let no = self.add(tail);
                self.enqueue(no);
                Some(no)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.failed(path, &error, now);
                None
            }
        }
    }

    /// As many files are followed, or open, as may be. While there are fewer lives than that nobody is counted.
    fn is_full(&self) -> bool {
        if self.tails.len() < self.options.files_max {
            return false;
        }
        let open = self.tails.values().filter(|tail| tail.source.is_some());
        let followed = open.clone().filter(|tail| tail.rotated.is_none()).count();
        followed >= self.options.files_max || open.count() >= self.options.files_max + self.options.held_max
    }

    fn beyond(&mut self, path: &Path) {
        if !std::mem::replace(&mut self.is_beyond, true) {
            let key = format!("{}.files_max", self.options.name);
            self.notices.add(Notice::TooMany { key, max: self.options.files_max, first: path.to_owned() });
        }
        self.totals.beyond += 1;
    }

    /// Behind the last complete line of a file of this size.
    fn end_of(&self, source: &mut Source, size: u64) -> io::Result<Cursor> {
        let reach = self.splitter.reach() as u64;
        let from = size.saturating_sub(reach);
        let bytes = source.bytes(from, usize::try_from(size - from).unwrap_or(usize::MAX))?;
        let offset = match memchr::memrchr(b'\n', &bytes) {
            Some(end) => from + end as u64 + 1,
            None if from == 0 => 0,
            // The rest of a line that is longer than the limit.
            None => from + bytes.len() as u64,
        };
        let mut cursor = Cursor::at(source, offset)?;
        cursor.inside = from > 0 && memchr::memchr(b'\n', &bytes).is_none();
        Ok(cursor)
    }

    pub(super) fn leave_alone(&mut self, no: u64) {
        let Some(tail) = self.tails.remove(&no) else { return };
        self.leave_alone_packed(tail.inode, tail.size, &tail.path);
        // With its first bytes there, it is told anew whose it is.
        self.left_alone.remove(&tail.inode);
    }

    fn leave_alone_packed(&mut self, inode: Inode, size: u64, path: &Path) {
        if self.set_aside(inode, size) {
            self.notices.add(Notice::LeftAlone { path: path.to_owned() });
        }
    }

    /// Remembers a file that is not to be read while its size stays the same; says whether that is new.
    pub(super) fn set_aside(&mut self, inode: Inode, size: u64) -> bool {
        if self.left_alone.len() >= ASIDE_MAX {
            // They are judged once more.
            self.left_alone.clear();
        }
        self.left_alone.insert(inode, size).is_none()
    }

    /// Everything is looked at as soon as it may be.
    pub(super) fn look_again_soon(&mut self, now: Instant) {
        let earliest = self.scanned_at.map_or(now, |at| at + SCAN_PAUSE);
        self.scan_at = Some(self.scan_at.map_or(earliest, |at| at.min(earliest)));
    }

    /// What time alone makes due.
    fn settle(&mut self, now: Instant) {
        self.timer = None;
        let numbers: Vec<_> = self.tails.keys().copied().collect();
        for no in numbers {
            match self.settles_at(no) {
                Some(at) if at <= now => self.enqueue(no),
                Some(at) => self.due(at),
                None => {}
            }
            self.give_up(no, now);
        }
        self.release(now);
        let again: Vec<_> =
            self.tails.values().filter_map(|tail| tail.fault.again_at()).filter(|at| *at > now).collect();
        again.into_iter().for_each(|at| self.due(at));
    }

    /// What was looked for long enough is lost.
    fn give_up(&mut self, no: u64, now: Instant) {
        let Some(tail) = self.tails.get_mut(&no) else { return };
        match tail.sought_until {
            Some(_) if tail.source.is_some() => tail.sought_until = None,
            Some(until) if until > now => self.due(until),
            Some(_) => {
                let (path, offset) = (tail.path.clone(), tail.cursor.offset);
                let unread = tail.sure_size.saturating_sub(offset);
                (tail.sought_until, tail.finished, tail.is_dirty) = (None, true, true);
                tail.gone_ms.get_or_insert(0);
                self.totals.lost_bytes += unread;
                self.changed.insert(no);
                if let Some(id) = tail.id.clone() {
                    self.notices.add(Notice::Lost { path, id, offset, unread });
                }
            }
            None => {}
        }
    }

    /// When the next handle is let go.
    pub(super) fn release_at(&self, now: Instant) -> Option<Instant> {
        let held = self.tails.values().filter(|tail| tail.is_held());
        held.map(|tail| tail.committed_at + self.options.horizon).filter(|at| *at > now).min()
    }

    /// Lets handles go: of files that were finished a horizon ago, and the oldest of those that are too many.
    fn release(&mut self, now: Instant) {
        let mut held: Vec<(Instant, u64)> =
            self.tails.iter().filter(|(_, tail)| tail.is_held()).map(|(no, tail)| (tail.committed_at, *no)).collect();
        held.sort_unstable();
        let too_many = held.len().saturating_sub(self.options.held_max);
        if too_many > 0 {
            let what = format!(
                "more than {} rotated files are held open for the rollback horizon; the oldest are let go early (raise {}.held_max)",
                self.options.held_max, self.options.name
            );
            self.notices.add(Notice::Bound { what });
        }
        for (n, (committed_at, no)) in held.into_iter().enumerate() {
            if n < too_many || committed_at + self.options.horizon <= now {
                match self.tails.get_mut(&no) {
                    Some(tail) if tail.id.is_some() => tail.source = None,
                    // An empty file leaves nothing to remember.
                    _ => drop(self.tails.remove(&no)),
                }
            }
        }
        if let Some(at) = self.release_at(now) {
            self.due(at);
        }
    }

    /// Counts for how long finished files have been gone.
    fn count_gone(&mut self, found: &Found, passed: Duration) {
        let step = self.options.forget_after / u32::try_from(GONE_STEPS).unwrap_or(1);
        for (no, tail) in &mut self.tails {
            let is_there =
                found.files.get(&tail.inode).is_some_and(|seen| tail.source.is_some() || tail.rests_as(seen));
            if is_there || !tail.finished {
                if tail.gone_ms.take().is_some() {
                    tail.is_dirty = true;
                    self.changed.insert(*no);
                }
                continue;
            }
            let is_new = tail.gone_ms.is_none();
            let gone = tail.gone_ms.unwrap_or(0) + u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            let gone = if is_new { 0 } else { gone };
            tail.gone_ms = Some(gone);
            if tail.source.is_none() && Duration::from_millis(gone) >= self.options.forget_after {
                self.forgettable.insert(*no);
            }
            let told = tail.stored.as_ref().and_then(|record| record.gone_seconds);
            if is_new || Duration::from_millis(gone) >= Duration::from_secs(told.unwrap_or(0)) + step {
                tail.is_dirty = true;
                self.changed.insert(*no);
            }
        }
    }

    /// Adds the records of files that were gone for long.
    pub(super) fn add_gone(&mut self, batch: &mut Batch) {
        for no in std::mem::take(&mut self.forgettable) {
            let Some(tail) = self.tails.get(&no).filter(|tail| tail.source.is_none()) else { continue };
            if let Some(record) = tail.stored.as_ref().filter(|_| !batch.numbers.contains(&no)) {
                batch.gone.push(record.key());
                batch.gone_numbers.push(no);
            }
        }
    }
}

/// Whether a path surely does not lead to this file any more. One that cannot be asked says nothing.
fn has_left(path: &Path, inode: Inode) -> bool {
    use std::os::unix::fs::MetadataExt;
    super::meanwhile::passes();
    match fs::metadata(path) {
        Ok(meta) => (meta.dev(), meta.ino()) != inode,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
