//! Lives between the last one that is known and what stands at a path now: rotated files that nobody saw in their time, and
//! lives that ended in place. None is stored before those before it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::copies::Adopted;
use super::cursor::Cursor;
use super::globs::Seen;
use super::notice::Notice;
use super::place::Fresh;
use super::siblings::{Candidate, Candidates, is_another};
use super::tail::Tail;
use super::tails::Tails;

impl Tails {
    /// Begins the lives that a path had between the last one that is known and what stands there now: rotated files that
    /// nobody saw in their time, oldest first. The first of them waits for `behind`, each for the one before it. Returns
    /// the last one.
    pub(super) fn begin_between(
        &mut self,
        path: &Path,
        known: u64,
        behind: Option<u64>,
        fresh: &mut Fresh,
        candidates: &mut Candidates,
        now: Instant,
    ) -> u64 {
        let earlier = self.unsettled.remove(path).map(|(_, since)| since);
        let since = self.tails.get(&known).map(|tail| tail.sure_mtime);
        let Some(since) = since.into_iter().chain(earlier).min() else { return known };
        let taken = self.taken();
        let mut behind = behind;
        let mut last = known;
        let beside = candidates.beside(path, &[], &self.rotated);
        self.compare_with_what_stands(path, fresh, candidates);
        for one in beside {
            if candidates.is_stale() {
                break;
            }
            if taken.contains(&one.inode) {
                continue;
            }
            let is_new = one.mtime >= since && one.size > 0 && one.path != path;
            let is_let_go = |tail: &Tail| tail.source.is_none() && tail.inode == one.inode;
            let let_go: Vec<_> = self.tails.iter().filter(|(_, t)| is_let_go(t)).map(|(no, _)| *no).collect();
            if let_go.into_iter().any(|no| self.is_still(no, &one, candidates, now)) {
                fresh.remove(&one.inode);
                continue;
            }
            if !is_new
                || is_another(path, &one.path, &self.paths)
                || self.left_alone.get(&one.inode) == Some(&one.size)
                || self.exclude.matches(&one.path)
            {
                continue;
            }
            if self.may_be_a_copy(&one, candidates, now) {
                tracing::debug!(path = %one.path.display(), "may be a copy");
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
            if let Some(no) = self.begin(&one, false, true, candidates, now)
                && let Some(tail) = self.tails.get_mut(&no)
            {
                tail.rotated = Some(now);
                self.put_behind(no, behind);
                (last, behind) = (no, Some(no));
            }
            fresh.remove(&one.inode);
        }
        if candidates.is_stale() {
            // What was missed may lie between: nothing that is later begins before the next look.
            self.unsettled.insert(path.to_owned(), (known, since));
            self.look_again_soon(now);
        }
        last
    }

    /// What stands at a path must be the same in both pictures: in the one that was taken of followed files, and in the later
    /// one of what lies beside them.
    fn compare_with_what_stands(&self, path: &Path, fresh: &Fresh, candidates: &mut Candidates) {
        let open =
            self.tails.values().find(|tail| tail.path == path && tail.rotated.is_none() && tail.source.is_some());
        let is_here = |seen: &&Seen| seen.paths.iter().any(|one| one == path);
        let new = fresh.iter().find(|(_, seen)| is_here(seen)).map(|(inode, _)| *inode);
        if let Some(inode) = open.map(|tail| tail.inode).or(new) {
            candidates.must_stand(path, inode);
        }
    }

    /// Lives that were held back until everything before them is known wait for the last one of that from now on.
    pub(super) fn let_on(&mut self, before: &HashMap<PathBuf, u64>) {
        let held: Vec<u64> = self.tails.iter().filter(|(_, tail)| tail.is_held_back).map(|(no, _)| *no).collect();
        for no in held {
            let Some(tail) = self.tails.get_mut(&no) else { continue };
            tail.is_held_back = false;
            let home = tail.path.clone();
            if let Some(last) = before.get(&self.home(&home)).copied() {
                self.put_behind(no, Some(last));
            }
            self.enqueue(no);
        }
    }

    /// What stands before this life could not be seen: it waits for another look.
    pub(super) fn hold_back(&mut self, no: u64) {
        if let Some(tail) = self.tails.get_mut(&no) {
            tail.is_held_back = true;
        }
    }

    /// What a life that follows this one has to wait for: the last one that is over and not stored yet, so that none is
    /// stored before those before it; else this one, or if it goes on in place, what it waits for itself.
    pub(super) fn behind(&self, no: u64) -> Option<u64> {
        let tail = self.tails.get(&no)?;
        let home = self.home(&tail.path);
        let is_new = |tail: &Tail| tail.stored.is_none() && tail.rotated.is_some() && self.home(&tail.path) == home;
        if let Some((new, _)) = self.tails.iter().rfind(|(_, tail)| is_new(tail)) {
            return Some(*new);
        }
        if tail.rotated.is_some() || tail.source.is_none() { Some(no) } else { tail.after }
    }

    /// Lets a life wait for the one before it; never in a circle.
    pub(super) fn put_behind(&mut self, no: u64, before: Option<u64>) {
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

    /// Whether a file still is the one that a life let go. If it grew since, it is read on.
    pub(super) fn is_still(&mut self, no: u64, one: &Candidate, candidates: &mut Candidates, now: Instant) -> bool {
        let seen = Seen { paths: Vec::new(), links: Vec::new(), size: one.size, mtime: one.mtime };
        let rests = self.tails.get(&no).is_some_and(|tail| tail.rests_as(&seen));
        // What cannot be told now is left alone.
        rests || self.attach_if_agrees(no, &one.path, one.inode, candidates, now).unwrap_or(true)
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
        let mut candidates = Candidates::default();
        let last = self.begin_between(&path, known, behind, &mut Fresh::new(), &mut candidates, now);
        let before = if last == known { behind } else { Some(last) };
        if before != Some(no) {
            self.put_behind(no, before);
        }
        if candidates.is_stale() {
            self.hold_back(no);
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
            tail.note_first_bytes();
            // What cannot be asked for its size says so when it is read.
            let _ = tail.look_at_source(now);
            let (path, behind) = (tail.path.clone(), tail.after);
            let mut candidates = Candidates::default();
            let last = self.begin_between(&path, no, behind, &mut Fresh::new(), &mut candidates, now);
            let Some(tail) = self.tails.get_mut(&no) else { return };
            tail.is_sure();
            tail.is_held_back |= candidates.is_stale();
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
        new.meet(now);
        let new = self.add(new);
        let (mut fresh, mut candidates) = (Fresh::new(), Candidates::default());
        self.seek(no, false, &mut fresh, &mut candidates, now);
        let last = self.begin_between(&path, no, Some(no), &mut fresh, &mut candidates, now);
        self.put_behind(new, Some(last));
        if candidates.is_stale() {
            self.hold_back(new);
        }
        self.enqueue(new);
    }
}
