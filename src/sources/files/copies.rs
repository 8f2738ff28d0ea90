//! Copies, packed or not, of what is known already: told from lives of their own by what they hold.

use std::collections::BTreeSet;
use std::time::Instant;

use super::cursor::Cursor;
use super::evidence::{agrees, began_anew, holds_all_of, holds_the_same, is_more_than_a_line, is_part_of, known_end};
use super::siblings::{Candidate, Candidates, is_packed};
use super::source::Source;
use super::tail::Tail;
use super::tails::{Suspect, Tails};

/// What became of a file that may hold what is known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adopted {
    /// It holds something else.
    No,
    /// It is known what it holds.
    Yes,
    /// It cannot be told yet: an open file holds the same so far.
    Later,
}

impl Tails {
    /// A file that holds what lives that are over have already given: their packed or copied form. It gets a record that
    /// says so, and what it holds beyond that is read.
    pub(super) fn adopt_if_known(&mut self, one: &Candidate, candidates: &mut Candidates, now: Instant) -> Adopted {
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
            if self.is_part_of_what_stands(no, one, candidates) {
                return self.wait_for_it(one, now);
            }
            let Some(tail) = self.tails.get_mut(&no) else { continue };
            if tail.source.is_some() {
                let says_enough = one.path.extension().is_some_and(is_packed) || is_more_than_a_line(tail, head);
                let Ok(mut copy) = candidates.open(&one.path, one.inode) else { return Adopted::Later };
                let is_part = || is_more_than_its_first_line(head) && !self.paths.matches(&one.path);
                if says_enough && (holds_all_of(tail, &mut copy) || (is_part() && is_part_of(&mut copy, tail))) {
                    // It is being read, or was read, where it is.
                    tracing::debug!(id = tail.name_text(), path = %one.path.display(), "holds what is open");
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
            let Ok(mut source) = candidates.open(&one.path, one.inode) else { return Adopted::Later };
            let Some(from) = known_end(tail, &mut source, is_truncated).unwrap_or(None) else { continue };
            if tail.is_sought() && from == tail.cursor.offset {
                let mut cursor = tail.cursor.clone();
                if agrees(&mut cursor, &mut source).unwrap_or(false) {
                    self.attach(no, source, &one.path, cursor, now);
                    return Adopted::Yes;
                }
                continue;
            }
            // A header alone says little, unless it is all that a packed file holds, or the copy of a truncated one.
            let may_be_one_line = began_anew || source.packing().is_some();
            let mut is_all = || may_be_one_line && source.end().is_ok_and(|end| end == from);
            if !is_more_than_a_line(tail, head) && !is_all() {
                continue;
            }
            let Ok(begin) = Cursor::at(&mut source, from) else { continue };
            tracing::debug!(id = tail.name_text(), from, path = %one.path.display(), "holds what was given");
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

    /// Whether an open file holds the first bytes of another one.
    fn begins_like(&mut self, no: u64, head: &[u8]) -> bool {
        let source = self.tails.get_mut(&no).and_then(|tail| tail.source.as_mut());
        source.and_then(|source| source.bytes(0, head.len()).ok()).is_some_and(|own| own == head)
    }

    /// Whether a file beside a followed one holds a part of it: a copy, packed or not.
    fn is_part_of_what_stands(&mut self, no: u64, one: &Candidate, candidates: &mut Candidates) -> bool {
        let is_file_of_its_own = self.paths.matches(&one.path);
        let home = self.home(&one.path);
        let stands = |tail: &&mut Tail| tail.rotated.is_none() && tail.path == home && one.path != home;
        let Some(tail) = self.tails.get_mut(&no).filter(stands) else { return false };
        let Ok(mut copy) = candidates.open(&one.path, one.inode) else { return false };
        // Whether it began anew is asked last: it may be truncated while it is compared.
        (copy.packing().is_some() || !is_file_of_its_own) && (is_part_of(&mut copy, tail) || began_anew(tail))
    }

    /// Whose a copy is shows when its original is truncated or rotated. If it is not for a while, the copy is left alone.
    fn wait_for_it(&mut self, one: &Candidate, now: Instant) -> Adopted {
        let Suspect { since, .. } = self.suspect(one, now);
        if now < since + self.options.rotate_wait {
            return Adopted::Later;
        }
        self.set_aside(one.inode, one.size);
        Adopted::Yes
    }

    /// Since when a file has been looking like a copy, of this size.
    fn suspect(&mut self, one: &Candidate, now: Instant) -> Suspect {
        let new = Suspect { size: one.size, since: now };
        let suspect = self.suspects.entry(one.inode).or_insert(new);
        if suspect.size != one.size {
            *suspect = new;
        }
        *suspect
    }

    /// Whether a file beside a followed one holds the same bytes so far: a copy in the making, whose original is about to
    /// be truncated. It is left alone until it differs, or until nothing has come of it for a while.
    pub(super) fn may_be_a_copy(&mut self, one: &Candidate, candidates: &mut Candidates, now: Instant) -> bool {
        if !self.holds_what_stands_there(one, candidates) {
            self.suspects.remove(&one.inode);
            return false;
        }
        let until = self.suspect(one, now).since + self.options.rotate_wait;
        if now < until {
            self.scan_at = Some(self.scan_at.map_or(until, |at| at.min(until)));
            return true;
        }
        false
    }

    /// Whether the file that stands under the followed name holds the bytes of one beside it, whether it is followed
    /// already or not. Of one that was truncated a moment ago, after it was looked at, the other one is what the next look
    /// will miss.
    fn holds_what_stands_there(&mut self, one: &Candidate, candidates: &mut Candidates) -> bool {
        let home = self.home(&one.path);
        if home == one.path {
            return false;
        }
        let Ok(mut copy) = candidates.open(&one.path, one.inode) else { return false };
        if copy.packing().is_some() {
            return false;
        }
        let is_original = |tail: &&mut Tail| tail.rotated.is_none() && tail.source.is_some() && tail.path == home;
        let Some(tail) = self.tails.values_mut().find(is_original) else {
            let stands = Source::open(&home).ok().filter(|source| source.packing().is_none());
            return stands.is_some_and(|mut source| holds_the_same(&mut source, &mut copy, one.size));
        };
        let is_same = tail.source.as_mut().is_some_and(|source| holds_the_same(source, &mut copy, one.size));
        // Asked last: it may be truncated while it is compared.
        is_same || began_anew(tail)
    }
}

/// Whether a file that begins like this holds more than its first line.
fn is_more_than_its_first_line(head: &[u8]) -> bool {
    memchr::memchr(b'\n', head).is_none_or(|end| end + 1 < head.len())
}
