//! Which file is whose: found files are given to the lives that they hold, and what is nobody's begins a life.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cursor::Cursor;
use super::evidence::{
    agrees, began_anew, holds_all_of, holds_the_same, is_more_than_a_line, known_end, may_hold, rank,
};
use super::globs::{Found, Inode, Seen};
use super::notice::Notice;
use super::siblings::{Candidate, Candidates, candidate, is_being_packed, is_packed};
use super::source::Source;
use super::tail::Tail;
use super::tails::{Suspect, Tails};

/// For how long after a path was left empty rotated files are looked for beside it, without something new at it.
const LATELY_MS: u64 = 600_000;

/// What became of a file that may hold what is known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adopted {
    /// It holds something else.
    No,
    /// It is known what it holds.
    Yes,
    /// It cannot be told yet: an open file holds the same so far.
    Later,
}

/// Files of a look that no open life holds.
type Fresh<'f> = BTreeMap<Inode, &'f Seen>;

impl Tails {
    /// Gives the files of a look that nobody holds to lives, old and new. `left` are the paths that open lives left.
    pub(super) fn place(&mut self, found: &Found, left: HashMap<PathBuf, u64>, now: Instant) {
        let open: BTreeSet<Inode> = self.tails.values().filter_map(|t| Some(t.source.as_ref()?.inode)).collect();
        let mut fresh: Fresh =
            found.files.iter().filter(|(inode, _)| !open.contains(inode)).map(|(inode, seen)| (*inode, seen)).collect();
        let is_first = !self.begun && self.first.is_none();
        let was_beyond = std::mem::take(&mut self.totals.beyond) > 0;
        self.is_beyond &= was_beyond;
        let mut candidates = Candidates::default();
        self.forget_nameless();
        self.take_by_inode(&mut fresh, now);
        let seekers: Vec<_> = self.tails.iter().filter(|(_, t)| t.is_sought()).map(|(no, _)| *no).collect();
        let mut chains: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for no in seekers {
            let Some(tail) = self.tails.get(&no) else { continue };
            // Sought in their order: the last one stays.
            chains.insert(self.home(&tail.path), no);
            self.seek(no, &mut fresh, &mut candidates, now);
        }
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
        let mut rest: Vec<_> = fresh.into_iter().collect();
        rest.sort_by_key(|(_, seen)| seen.mtime);
        for (inode, seen) in rest {
            let path = &seen.paths[0];
            let one = candidate(inode, seen, false);
            let is_aside = self.left_alone.get(&inode) == Some(&seen.size) || is_being_packed(path, &self.home(path));
            if is_aside || self.may_be_a_copy(&one, now) {
                continue;
            }
            if self.adopt_if_known(&one, &mut candidates, now) != Adopted::No {
                continue;
            }
            if let Some(no) = self.begin(path, is_first, false, now) {
                self.put_behind(no, before.get(path).copied());
                if let Some(tail) = self.tails.get_mut(&no)
                    && (tail.size, tail.mtime) != (seen.size, seen.mtime)
                {
                    // It changed since copies were looked for.
                    tail.sure_size = 0;
                }
            }
        }
        self.suspects.retain(|_, suspect| now < suspect.since + 2 * self.options.rotate_wait);
    }

    /// Files whose device and inode a record names, and whose content agrees.
    fn take_by_inode(&mut self, fresh: &mut Fresh, now: Instant) {
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
                match self.attach_if_agrees(no, &path, inode, now) {
                    Ok(true) => {
                        fresh.remove(&inode);
                        break;
                    }
                    Ok(false) => {}
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

    fn attach_if_agrees(&mut self, no: u64, path: &Path, inode: Inode, now: Instant) -> std::io::Result<bool> {
        if self.faults.get(path).is_some_and(|fault| fault.rests(now)) {
            return Err(std::io::Error::other("it could not be read a moment ago"));
        }
        let mut source = Source::open(path)?;
        let Some(tail) = self.tails.get(&no) else { return Ok(false) };
        let mut cursor = tail.cursor.clone();
        let agrees = source.inode == inode && agrees(&mut cursor, &mut source)?;
        if agrees {
            self.healed(path);
            self.attach(no, source, path, cursor, now);
        }
        Ok(agrees)
    }

    /// From now on, a life's bytes are here.
    fn attach(&mut self, no: u64, source: Source, path: &Path, cursor: Cursor, now: Instant) {
        let Some(tail) = self.tails.get_mut(&no) else { return };
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

    /// Looks for the bytes of a life whose file is not where it was: by inode, by the names that rotation gives, then
    /// among all files that nobody holds. Its first bytes and those before its place must agree.
    fn seek(&mut self, no: u64, fresh: &mut Fresh, candidates: &mut Candidates, now: Instant) -> bool {
        let Some(tail) = self.tails.get(&no) else { return false };
        let taken = self.taken();
        let mut all = candidates.beside(&self.home(&tail.path), &[tail.inode.1], &self.rotated);
        let names: BTreeSet<Inode> = all.iter().map(|one| one.inode).collect();
        all.extend(
            fresh.iter().filter(|(inode, _)| !names.contains(inode)).map(|(i, seen)| candidate(*i, seen, false)),
        );
        all.retain(|one| !is_being_packed(&one.path, &self.home(&one.path)));
        all.retain(|one| !taken.contains(&one.inode) && !tail.rejected.contains(&one.inode));
        all.sort_by_key(|one| rank(tail, one));
        for one in all {
            let Some(tail) = self.tails.get(&no) else { return false };
            if !may_hold(tail, &one, candidates) {
                continue;
            }
            let mut cursor = tail.cursor.clone();
            let Ok(mut source) = Source::open(&one.path) else { continue };
            if source.inode == one.inode && agrees(&mut cursor, &mut source).unwrap_or(false) {
                self.attach(no, source, &one.path, cursor, now);
                fresh.remove(&one.inode);
                return true;
            }
        }
        false
    }

    /// Files that a life holds, or surely held when it was let go.
    fn taken(&self) -> BTreeSet<Inode> {
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
                let one = Candidate { is_rotated: self.home(&tail.path) == self.home(&one.path), ..one };
                let is_aside = self.left_alone.get(&inode) == Some(&seen.size)
                    || is_being_packed(&one.path, &self.home(&one.path));
                if is_aside || !may_hold(tail, &one, candidates) {
                    continue;
                }
                let mut cursor = tail.cursor.clone();
                let Ok(mut source) = Source::open(&one.path) else { continue };
                if source.inode == inode && agrees(&mut cursor, &mut source).unwrap_or(false) {
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

    /// Begins the lives that a path had between the last one that is known and what stands there now: rotated files that
    /// nobody saw in their time, oldest first. The first of them waits for `behind`, each for the one before it. Returns
    /// the last one.
    fn begin_between(
        &mut self,
        path: &Path,
        known: u64,
        behind: Option<u64>,
        fresh: &mut Fresh,
        candidates: &mut Candidates,
        now: Instant,
    ) -> u64 {
        let earlier = self.unsettled.remove(path).map(|(_, since)| since);
        let Some(since) = self.tails.get(&known).map(|tail| tail.sure_mtime) else { return known };
        let since = earlier.map_or(since, |earlier| since.min(earlier));
        let taken = self.taken();
        let mut behind = behind;
        let mut last = known;
        for one in candidates.beside(path, &[], &self.rotated) {
            let is_new = one.mtime >= since && one.size > 0 && one.path != path && !taken.contains(&one.inode);
            let is_let_go = |tail: &Tail| tail.source.is_none() && tail.inode == one.inode;
            let let_go: Vec<_> = self.tails.iter().filter(|(_, t)| is_let_go(t)).map(|(no, _)| *no).collect();
            if let_go.into_iter().any(|no| self.is_still(no, &one, now)) {
                fresh.remove(&one.inode);
                continue;
            }
            if !is_new
                || self.is_another(path, &one.path)
                || self.left_alone.get(&one.inode) == Some(&one.size)
                || self.exclude.matches(&one.path)
            {
                continue;
            }
            if self.may_be_a_copy(&one, now) {
                self.unsettled.insert(path.to_owned(), (known, since));
                continue;
            }
            match self.adopt_if_known(&one, candidates, now) {
                Adopted::No => {}
                Adopted::Yes => {
                    fresh.remove(&one.inode);
                    continue;
                }
                Adopted::Later => {
                    self.unsettled.insert(path.to_owned(), (known, since));
                    fresh.remove(&one.inode);
                    continue;
                }
            }
            if let Some(no) = self.begin(&one.path, false, true, now)
                && let Some(tail) = self.tails.get_mut(&no)
            {
                tail.rotated = Some(now);
                self.put_behind(no, behind);
                (last, behind) = (no, Some(no));
            }
            fresh.remove(&one.inode);
        }
        last
    }

    /// What a life that follows this one has to wait for: the last one that is over and not stored yet, so that none is
    /// stored before those before it; else this one, or if it goes on in place, what it waits for itself.
    fn behind(&self, no: u64) -> Option<u64> {
        let tail = self.tails.get(&no)?;
        let home = self.home(&tail.path);
        let is_new = |tail: &Tail| tail.stored.is_none() && tail.rotated.is_some() && self.home(&tail.path) == home;
        if let Some((new, _)) = self.tails.iter().rfind(|(_, tail)| is_new(tail)) {
            return Some(*new);
        }
        if tail.rotated.is_some() || tail.source.is_none() { Some(no) } else { tail.after }
    }

    /// Lets a life wait for the one before it; never in a circle.
    fn put_behind(&mut self, no: u64, before: Option<u64>) {
        let mut at = before;
        for _ in 0..=self.tails.len() {
            match at {
                Some(one) if one == no => return,
                Some(one) => at = self.tails.get(&one).and_then(|tail| tail.after),
                None => break,
            }
        }
        if let Some(tail) = self.tails.get_mut(&no) {
            tail.after = before;
        }
    }

    /// Whether an open file holds the first bytes of another one.
    fn begins_like(&mut self, no: u64, head: &[u8]) -> bool {
        let source = self.tails.get_mut(&no).and_then(|tail| tail.source.as_mut());
        source.and_then(|source| source.bytes(0, head.len()).ok()).is_some_and(|own| own == head)
    }

    /// Whether a file still is the one that a life let go. If it grew since, it is read on.
    fn is_still(&mut self, no: u64, one: &Candidate, now: Instant) -> bool {
        let seen = Seen { paths: Vec::new(), links: Vec::new(), size: one.size, mtime: one.mtime };
        let rests = self.tails.get(&no).is_some_and(|tail| tail.rests_as(&seen));
        // What cannot be told now is left alone.
        rests || self.attach_if_agrees(no, &one.path, one.inode, now).unwrap_or(true)
    }

    /// A file that holds what lives that are over have already given: their packed or copied form. It gets a record that
    /// says so, and what it holds beyond that is read.
    fn adopt_if_known(&mut self, one: &Candidate, candidates: &mut Candidates, now: Instant) -> Adopted {
        let Some(head) = candidates.head(one) else { return Adopted::No };
        if head.is_empty() {
            return Adopted::No;
        }
        let head = head.to_vec();
        let home = self.home(&one.path);
        if self.nameless_at(&home).into_iter().any(|no| self.begins_like(no, &head)) {
            // An open file of which nothing was given yet holds the same: it comes first.
            self.look_again_soon(now);
            return Adopted::Later;
        }
        let head = head.as_slice();
        let likely: Vec<u64> =
            self.tails.iter().filter(|(_, t)| t.may_be_held_by(one, head)).map(|(no, _)| *no).collect();
        let taken = if likely.is_empty() { BTreeSet::new() } else { self.taken() };
        for no in likely {
            let Some(tail) = self.tails.get_mut(&no) else { continue };
            if tail.source.is_some() {
                let says_enough = one.path.extension().is_some_and(is_packed) || is_more_than_a_line(tail, head);
                if says_enough && holds_all_of(tail, &one.path) {
                    // It is being read, or was read, where it is.
                    if tail.finished {
                        self.set_aside(one.inode, one.size);
                        return Adopted::Yes;
                    }
                    return Adopted::Later;
                }
                continue;
            }
            let Some(tail) = self.tails.get(&no) else { continue };
            let is_of_here = self.home(&tail.path) == home;
            let is_truncated = tail.is_truncated && is_of_here;
            // Its file holds another life now: it began anew in place, whether this node saw that or another one.
            let began_anew = is_truncated || (is_of_here && taken.contains(&tail.inode));
            let Ok(mut source) = Source::open(&one.path) else { continue };
            let Some(from) = known_end(tail, &mut source, is_truncated).unwrap_or(None) else { continue };
            // A header alone says little, unless it is all that a packed file holds, or the copy of a truncated one.
            let may_be_one_line = began_anew || source.packing().is_some();
            let mut is_all = || may_be_one_line && source.end().is_ok_and(|end| end == from);
            if !is_more_than_a_line(tail, head) && !is_all() {
                continue;
            }
            let Ok(begin) = Cursor::at(&mut source, from) else { continue };
            let mut tail = Tail::new(one.path.clone(), source, begin, now);
            if tail.look_at_source(now).is_ok() {
                tail.is_sure();
            }
            (tail.is_dirty, tail.rotated) = (true, Some(now));
            let no = self.add(tail);
            self.enqueue(no);
            return Adopted::Yes;
        }
        Adopted::No
    }

    /// A file of which nothing was given yet changed: it may have been another one, unseen, that only a copy holds.
    pub(super) fn began(&mut self, no: u64, now: Instant) {
        let stands = |tail: &&Tail| tail.rotated.is_none();
        let Some(path) = self.tails.get(&no).filter(stands).map(|tail| tail.path.clone()) else { return };
        let home = self.home(&path);
        let before = self.tails.iter().filter(|(one, tail)| **one != no && self.home(&tail.path) == home);
        let known = before.map(|(one, tail)| (tail.sure_mtime, *one)).max().map_or(no, |(_, one)| one);
        // What it holds now is later than all of them.
        let behind = if known == no { self.tails.get(&no).and_then(|tail| tail.after) } else { self.behind(known) };
        let last = self.begin_between(&path, known, behind, &mut Fresh::new(), &mut Candidates::default(), now);
        if last != no {
            self.put_behind(no, Some(last));
        }
    }

    /// A file began anew in place. What was read of it goes on in a copy, if there is one; the file begins a new life.
    pub(super) fn restarted(&mut self, no: u64, now: Instant) {
        let Some(tail) = self.tails.get_mut(&no) else { return };
        let Some(source) = tail.source.take() else { return };
        tail.lag.clear();
        let Some(id) = tail.id.clone() else {
            // Nothing of it was given yet: what it held is a life that only its copy has.
            (tail.begin, tail.cursor, tail.source) = (Cursor::beginning(), Cursor::beginning(), Some(source));
            // What cannot be asked for its size says so when it is read.
            let _ = tail.look_at_source(now);
            tail.note_first_bytes();
            let (path, behind) = (tail.path.clone(), tail.after);
            let last = self.begin_between(&path, no, behind, &mut Fresh::new(), &mut Candidates::default(), now);
            let Some(tail) = self.tails.get_mut(&no) else { return };
            tail.is_sure();
            if last != no {
                self.put_behind(no, Some(last));
            }
            return self.enqueue(no);
        };
        let was_rotated = tail.rotated;
        tail.is_truncated = source.packing().is_none();
        tail.rotated.get_or_insert(now);
        tail.sought_until = Some(now + self.options.rotate_wait);
        tail.is_dirty = true;
        (tail.size, tail.mtime) = (tail.sure_size, tail.sure_mtime);
        let path = tail.path.clone();
        if source.packing().is_some() {
            // A copy that is another's: the next look goes on.
            tail.rejected.push(source.inode);
            self.scan_at = Some(now);
        }
        self.changed.insert(no);
        self.due(now + self.options.rotate_wait);
        if source.packing().is_some() {
            return;
        }
        self.notices.add(Notice::Restarted { path: path.clone(), id });
        let mut new = Tail::new(path.clone(), source, Cursor::beginning(), now);
        new.rotated = was_rotated;
        if new.look_at_source(now).is_ok() {
            new.is_sure();
        }
        new.note_first_bytes();
        let new = self.add(new);
        let (mut fresh, mut candidates) = (Fresh::new(), Candidates::default());
        self.seek(no, &mut fresh, &mut candidates, now);
        let last = self.begin_between(&path, no, Some(no), &mut fresh, &mut candidates, now);
        self.put_behind(new, Some(last));
        self.enqueue(new);
    }

    /// Whether a file beside a followed one holds the same bytes so far: a copy in the making, whose original is about to
    /// be truncated. It is left alone until it differs, or until nothing has come of it for a while.
    fn may_be_a_copy(&mut self, one: &Candidate, now: Instant) -> bool {
        let Candidate { inode, size, .. } = *one;
        let wait = self.options.rotate_wait;
        let home = self.home(&one.path);
        if home == one.path {
            self.suspects.remove(&inode);
            return false;
        }
        let is_original = |tail: &Tail| tail.rotated.is_none() && tail.source.is_some() && tail.path == home;
        let original = self.tails.values_mut().find(|tail| is_original(tail));
        // Of an original that was truncated a moment ago, after it was looked at, it is what the next look will miss.
        let is_same = original.is_some_and(|tail| holds_the_same(tail, &one.path, size) || began_anew(tail));
        let suspect = self.suspects.entry(inode).or_insert(Suspect { size, since: now });
        if suspect.size != size {
            *suspect = Suspect { size, since: now };
        }
        let until = suspect.since + wait;
        if is_same && now < until {
            self.scan_at = Some(self.scan_at.map_or(until, |at| at.min(until)));
            return true;
        }
        self.suspects.remove(&inode);
        false
    }
}
