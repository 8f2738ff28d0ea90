//! Which file is whose: found files are given to the lives that they hold, and what is nobody's begins a life.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::copies::Adopted;
use super::cursor::Cursor;
use super::evidence::{agrees, holds_its_place, holds_the_same, is_more_than_a_line, may_hold, rank};
use super::globs::{Found, Inode, Seen};
use super::notice::Notice;
use super::siblings::{Candidate, Candidates, candidate, is_being_packed};
use super::source::Source;
use super::tail::Tail;
use super::tails::Tails;

/// For how long after a path was left empty rotated files are looked for beside it, without something new at it.
const LATELY_MS: u64 = 600_000;

/// Files of a look that no open life holds.
pub(super) type Fresh<'f> = BTreeMap<Inode, &'f Seen>;

impl Tails {
    /// Gives the files of a look that nobody holds to lives, old and new. `left` are the paths that open lives left. Says
    /// whether all of them were: a rotation under way leaves the rest to the next look.
    pub(super) fn place(&mut self, found: &Found, left: HashMap<PathBuf, u64>, now: Instant) -> bool {
        let open: BTreeSet<Inode> = self.tails.values().filter_map(|t| Some(t.source.as_ref()?.inode)).collect();
        let mut fresh: Fresh =
            found.files.iter().filter(|(inode, _)| !open.contains(inode)).map(|(inode, seen)| (*inode, seen)).collect();
        let is_first = !self.begun && self.first.is_none();
        let was_beyond = std::mem::take(&mut self.totals.beyond) > 0;
        self.is_beyond &= was_beyond;
        let mut candidates = Candidates::default();
        self.forget_nameless();
        self.take_by_inode(&mut fresh, &mut candidates, now);
        let seekers: Vec<_> = self.tails.iter().filter(|(_, t)| t.is_sought()).map(|(no, _)| *no).collect();
        let mut chains: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for no in &seekers {
            // In their order: the last one stays.
            chains.extend(self.tails.get(no).map(|tail| (self.home(&tail.path), *no)));
        }
        self.seek_all(seekers, &mut fresh, &mut candidates, now);
        self.take_by_content(&mut fresh, found, &mut candidates, now);
        chains.extend(self.predecessors(&fresh));
        chains.extend(left);
        let mut before: HashMap<PathBuf, u64> = HashMap::new();
        for (path, (no, since)) in std::mem::take(&mut self.unsettled) {
            chains.entry(path.clone()).or_insert(no);
            self.unsettled.insert(path, (no, since));
        }
        for (path, no) in chains {
            let behind = self.behind(no);
            let last = self.begin_between(&path, no, behind, &mut fresh, &mut candidates, now);
            before.insert(path, if last == no { behind.unwrap_or(no) } else { last });
        }
        if !candidates.is_stale() {
            self.let_on(&before);
            self.take_up(fresh, &before, is_first, &mut candidates, now);
        }
        self.suspects.retain(|_, suspect| now < suspect.since + 2 * self.options.rotate_wait);
        if candidates.is_stale() {
            self.look_again_soon(now);
        }
        !candidates.is_stale()
    }

    /// Begins what is nobody's, each behind the last life that is known to be before it.
    fn take_up(
        &mut self,
        fresh: Fresh,
        before: &HashMap<PathBuf, u64>,
        is_first: bool,
        candidates: &mut Candidates,
        now: Instant,
    ) {
        let mut rest: Vec<_> = fresh.into_iter().collect();
        rest.sort_by_key(|(_, seen)| seen.mtime);
        for (inode, seen) in rest {
            let path = &seen.paths[0];
            let one = candidate(inode, seen, false);
            let is_aside = self.left_alone.get(&inode) == Some(&seen.size) || is_being_packed(path, &self.home(path));
            if is_aside || self.may_be_a_copy(&one, candidates, now) {
                continue;
            }
            if self.adopt_if_known(&one, candidates, now) != Adopted::No {
                continue;
            }
            if candidates.is_stale() {
                return;
            }
            if let Some(no) = self.begin(&one, is_first, false, candidates, now) {
                self.put_behind(no, before.get(path).copied());
                if let Some(tail) = self.tails.get_mut(&no)
                    && (tail.size, tail.mtime) != (seen.size, seen.mtime)
                {
                    // It changed since copies were looked for: those of what it held meanwhile are younger than this.
                    (tail.sure_size, tail.sure_mtime) = (0, seen.mtime);
                }
            }
        }
    }

    /// Files whose device and inode a record names, and whose content agrees.
    fn take_by_inode(&mut self, fresh: &mut Fresh, candidates: &mut Candidates, now: Instant) {
        let mut by_inode: HashMap<Inode, Vec<u64>> = HashMap::new();
        for (no, tail) in self.tails.iter().filter(|(_, tail)| tail.source.is_none()) {
            by_inode.entry(tail.inode).or_default().push(*no);
        }
        let inodes: Vec<_> = fresh.keys().copied().filter(|inode| by_inode.contains_key(inode)).collect();
        for inode in inodes {
            let Some(seen) = fresh.get(&inode).copied() else { continue };
            let mut numbers = by_inode.remove(&inode).unwrap_or_default();
            numbers.sort_by_key(|no| std::cmp::Reverse(self.tails.get(no).map(|tail| tail.sure_mtime)));
            if numbers.iter().any(|no| self.tails.get(no).is_some_and(|tail| tail.rests_as(seen))) {
                fresh.remove(&inode);
                continue;
            }
            for no in numbers {
                let Some(tail) = self.tails.get(&no) else { continue };
                let path = if seen.paths.contains(&tail.path) { &tail.path } else { &seen.paths[0] }.clone();
                match self.attach_if_agrees(no, &path, inode, candidates, now) {
                    Ok(true) => {
                        fresh.remove(&inode);
                        break;
                    }
                    Ok(false) => {}
                    Err(_) if candidates.is_stale() => return,
                    Err(error) => {
                        // Whose it is cannot be said now: nobody's lines are read twice meanwhile.
                        self.failed(&path, &error, now);
                        fresh.remove(&inode);
                        break;
                    }
                }
            }
        }
    }

    pub(super) fn attach_if_agrees(
        &mut self,
        no: u64,
        path: &Path,
        inode: Inode,
        candidates: &mut Candidates,
        now: Instant,
    ) -> std::io::Result<bool> {
        if self.faults.get(path).is_some_and(|fault| fault.rests(now)) {
            return Err(std::io::Error::other("it could not be read a moment ago"));
        }
        let mut source = candidates.open(path, inode)?;
        let Some(tail) = self.tails.get(&no) else { return Ok(false) };
        let mut cursor = tail.cursor.clone();
        let agrees = agrees(&mut cursor, &mut source)?;
        if agrees {
            self.healed(path);
            self.attach(no, source, path, cursor, now);
        }
        Ok(agrees)
    }

    /// From now on, a life's bytes are here.
    pub(super) fn attach(&mut self, no: u64, source: Source, path: &Path, cursor: Cursor, now: Instant) {
        let Some(tail) = self.tails.get_mut(&no) else { return };
        tracing::debug!(id = tail.name_text(), at = cursor.offset, path = %path.display(), "holds it");
        let is_elsewhere = tail.path != path;
        if source.packing().is_some() {
            tail.rotated.get_or_insert(now);
        }
        if is_elsewhere && let Some(id) = tail.id.clone() {
            tail.rotated.get_or_insert(now);
            self.notices.add(Notice::Recovered { id, path: path.to_owned() });
        }
        tail.is_dirty |= is_elsewhere || tail.inode != source.inode || tail.gone_ms.is_some();
        (tail.inode, tail.path, tail.cursor, tail.gone_ms) = (source.inode, path.to_owned(), cursor, None);
        tail.source = Some(source);
        (tail.sought_until, tail.settled, tail.grew_at) = (None, None, now);
        // What cannot be asked for its size says so when it is read.
        if tail.look_at_source(now).is_ok() {
            tail.is_sure();
        }
        if tail.is_dirty {
            self.changed.insert(no);
        }
        self.enqueue(no);
    }

    /// Looks for the bytes of several lives. Who is known best chooses first: by its inode, then by how much of it is known.
    /// Of one of which only a header was given, any file may seem to be the rest.
    fn seek_all(&mut self, mut seekers: Vec<u64>, fresh: &mut Fresh, candidates: &mut Candidates, now: Instant) {
        seekers.retain(|no| !self.seek(*no, true, fresh, candidates, now));
        seekers.sort_by_key(|no| std::cmp::Reverse(self.tails.get(no).map(|tail| tail.cursor.offset)));
        for no in seekers {
            self.seek(no, false, fresh, candidates, now);
        }
    }

    /// Looks for the bytes of a life whose file is not where it was: by inode, by the names that rotation gives, then
    /// among all files that nobody holds; `by_inode` alone, where that is asked for. Its first bytes and those before its
    /// place must agree.
    pub(super) fn seek(
        &mut self,
        no: u64,
        by_inode: bool,
        fresh: &mut Fresh,
        candidates: &mut Candidates,
        now: Instant,
    ) -> bool {
        let Some(tail) = self.tails.get(&no) else { return false };
        let taken = self.taken();
        let mut all = candidates.beside(&self.home(&tail.path), &[tail.inode.1], &self.rotated);
        let names: BTreeSet<Inode> = all.iter().map(|one| one.inode).collect();
        all.extend(
            fresh.iter().filter(|(inode, _)| !names.contains(inode)).map(|(i, seen)| candidate(*i, seen, false)),
        );
        all.retain(|one| !is_being_packed(&one.path, &self.home(&one.path)));
        all.retain(|one| !taken.contains(&one.inode) && !tail.rejected.contains(&one.inode));
        all.retain(|one| !by_inode || one.inode.1 == tail.inode.1);
        all.sort_by_key(|one| rank(tail, one));
        for one in all {
            let Some(tail) = self.tails.get(&no) else { return false };
            if !may_hold(tail, &one, candidates) || self.is_better_known(no, &one, candidates) {
                continue;
            }
            let mut cursor = tail.cursor.clone();
            let Ok(mut source) = candidates.open(&one.path, one.inode) else { continue };
            if agrees(&mut cursor, &mut source).unwrap_or(false) {
                self.attach(no, source, &one.path, cursor, now);
                fresh.remove(&one.inode);
                return true;
            }
        }
        false
    }

    /// Whether a file holds what was given of another life, while of this one a first line alone was, with which both
    /// begin.
    fn is_better_known(&self, no: u64, one: &Candidate, candidates: &mut Candidates) -> bool {
        let Some(tail) = self.tails.get(&no).filter(|tail| tail.inode.1 != one.inode.1) else { return false };
        let Some(head) = candidates.head(one).map(<[u8]>::to_vec) else { return false };
        let is_other = |(other, tail): &(&u64, &Tail)| {
            **other != no && tail.id.is_some() && tail.cursor.fits_head(&head) && is_more_than_a_line(tail, &head)
        };
        if is_more_than_a_line(tail, &head) || !self.tails.iter().any(|other| is_other(&other)) {
            return false;
        }
        let Ok(mut source) = candidates.open(&one.path, one.inode) else { return true };
        // Unpacked once, from its beginning on.
        let mut others: Vec<&Tail> = self.tails.iter().filter(is_other).map(|(_, tail)| tail).collect();
        others.sort_by_key(|tail| tail.cursor.offset);
        others.iter().any(|tail| holds_its_place(tail, &mut source))
    }

    /// Files that a life holds, or surely held when it was let go.
    pub(super) fn taken(&self) -> BTreeSet<Inode> {
        self.tails.values().filter(|t| t.source.is_some()).map(|tail| tail.inode).collect()
    }

    /// Files that are the copies of lives which are gone themselves: they go on, and are not read again.
    fn take_by_content(&mut self, fresh: &mut Fresh, found: &Found, candidates: &mut Candidates, now: Instant) {
        let gone: Vec<u64> =
            self.tails.iter().filter(|(_, t)| t.is_gone(found) && !t.is_sought()).map(|(no, _)| *no).collect();
        for no in gone {
            for (inode, seen) in fresh.clone() {
                let one = candidate(inode, seen, false);
                let Some(tail) = self.tails.get(&no) else { break };
                let home = self.home(&one.path);
                let one = Candidate { is_rotated: one.path != home && self.home(&tail.path) == home, ..one };
                let is_aside = self.left_alone.get(&inode) == Some(&seen.size)
                    || is_being_packed(&one.path, &self.home(&one.path));
                if is_aside || !may_hold(tail, &one, candidates) {
                    continue;
                }
                let mut cursor = tail.cursor.clone();
                let Ok(mut source) = candidates.open(&one.path, inode) else { continue };
                // Of a file that is still open, everything is known: what was given of it may be but a header.
                let Some(tail) = self.tails.get_mut(&no) else { break };
                let size = tail.size;
                if tail.source.as_mut().is_some_and(|own| !holds_the_same(&mut source, own, size)) {
                    continue;
                }
                if agrees(&mut cursor, &mut source).unwrap_or(false) {
                    self.attach(no, source, &one.path, cursor, now);
                    fresh.remove(&inode);
                    break;
                }
            }
        }
    }

    /// For followed paths at which, or beside which under a rotated name, something new stands, and for those that stand
    /// empty since lately: the life that stood there last.
    fn predecessors(&self, fresh: &Fresh) -> HashMap<PathBuf, u64> {
        let mut last: HashMap<PathBuf, (i128, u64)> = HashMap::new();
        let mut taken: HashSet<&Path> = HashSet::new();
        for (no, tail) in &self.tails {
            let entry = last.entry(self.home(&tail.path)).or_insert((tail.sure_mtime, *no));
            *entry = (*entry).max((tail.sure_mtime, *no));
            if tail.source.is_some() && tail.rotated.is_none() {
                taken.insert(&tail.path);
            }
        }
        let new: BTreeSet<PathBuf> = fresh.values().flat_map(|seen| &seen.paths).map(|path| self.home(path)).collect();
        let is_lately = |no: &u64| self.tails.get(no).is_some_and(|tail| tail.gone_ms.unwrap_or(0) < LATELY_MS);
        let wanted =
            |home: &PathBuf, no: &u64| new.contains(home) || (!taken.contains(home.as_path()) && is_lately(no));
        last.into_iter().filter(|(home, (_, no))| wanted(home, no)).map(|(home, (_, no))| (home, no)).collect()
    }
}
