//! Lines on their way: what is read next, and what a commit of it means.

use std::collections::BTreeSet;
use std::time::Instant;

use super::notice::Notice;
use super::split::After;
use super::tail::{Took, Turn, is_cut};
use super::tails::Tails;
use crate::messages::line::{Line, Part};
use crate::messages::log_file::LogFile;

/// Records that one batch carries beside those of the files that gave lines.
pub const RECORDS_MAX: usize = 500;

/// How much one batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Lines.
    pub lines: usize,
    /// Bytes of lines; one line more may be in it.
    pub bytes: usize,
}

/// Lines, and the records that say so: to be stored together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// The lines, those of a file in their order.
    pub lines: Vec<Line>,
    /// The records of their files behind these lines, by key; and those that changed otherwise.
    pub records: Vec<(String, LogFile)>,
    /// Keys of records that are to be removed: their files were gone for long.
    pub gone: Vec<String>,
    /// To be stored with it: what appears from now on is read from its beginning, wherever reading was told to begin.
    pub begun: bool,
    /// The lives behind `records`, and behind `gone`.
    pub(super) numbers: Vec<u64>,
    pub(super) gone_numbers: Vec<u64>,
    pub(super) epoch: u64,
}

impl Tails {
    /// Reads on from where the last batch ended; none if there is nothing, or it is better to wait a little.
    ///
    /// Batches may be asked for before those before them are committed; they are committed in their order. Nothing is
    /// read unless it is asked for.
    pub fn next_batch(&mut self, budget: Budget, now: Instant) -> Option<Batch> {
        if self.lingers(budget, now) {
            return None;
        }
        let mut batch = Batch { epoch: self.epoch, ..Batch::default() };
        let mut touched = BTreeSet::new();
        let (mut bytes, mut aside, mut idle) = (budget.bytes, Vec::new(), 0);
        while batch.lines.len() < budget.lines && bytes > 0 && idle <= self.queue.len() {
            let Some(no) = self.queue.pop_front() else { break };
            if self.must_wait(no, now) {
                aside.push(no);
                continue;
            }
            let had = batch.lines.len();
            let room = Budget { lines: budget.lines - had, bytes: bytes.min(self.options.turn_bytes) };
            let used = self.one_turn(no, room, &mut batch.lines, now);
            bytes = bytes.saturating_sub(used);
            idle = if used > 0 { 0 } else { idle + 1 };
            if used > 0 {
                touched.insert(no);
            }
        }
        // They were first, and stay so.
        for no in aside.into_iter().rev() {
            self.queue.push_front(no);
        }
        self.complete(&mut batch, &touched);
        let is_empty = batch.lines.is_empty() && batch.records.is_empty() && batch.gone.is_empty();
        if is_empty && (!batch.begun || self.begun_told) {
            return None;
        }
        self.begun_told |= batch.begun;
        self.batch_at = Some(now);
        Some(batch)
    }

    fn lingers(&self, budget: Budget, now: Instant) -> bool {
        let is_soon = self.batch_at.is_some_and(|at| now.saturating_duration_since(at) < self.options.linger);
        let waiting = || self.queue.iter().filter_map(|no| self.tails.get(no)).map(|tail| tail.unread()).sum::<u64>();
        is_soon && waiting() < budget.bytes as u64
    }

    /// Whether a life's turn must wait: it rests after a failure, or the one before it has lines left.
    fn must_wait(&self, no: u64, now: Instant) -> bool {
        self.waits(no, now) || self.tails.get(&no).is_some_and(|tail| tail.fault.rests(now))
    }

    /// Whether a life has to wait for the one before it.
    pub(super) fn waits(&self, no: u64, now: Instant) -> bool {
        if self.tails.get(&no).is_some_and(|tail| tail.is_held_back) {
            return true;
        }
        let before = self.tails.get(&no).and_then(|tail| self.tails.get(&tail.after?));
        before.is_some_and(|before| !before.fault.rests(now) && (before.is_queued || before.may_get_a_name()))
    }

    /// One turn of one life; returns the bytes that it used.
    fn one_turn(&mut self, no: u64, room: Budget, lines: &mut Vec<Line>, now: Instant) -> usize {
        let after = self.after(no, now);
        let Some(tail) = self.tails.get_mut(&no) else { return 0 };
        tail.is_queued = false;
        let had = lines.len();
        let from = tail.cursor.offset;
        let mut turn = Turn {
            splitter: &self.splitter,
            generations: &mut self.generations,
            lines,
            bytes: room.bytes,
            records: room.lines,
            after,
            nuls: 0,
        };
        let outcome = tail.read(&mut turn, now);
        if after > After::More && outcome.is_ok() {
            tail.settled = Some(tail.size);
        }
        self.totals.nul_bytes += turn.nuls;
        let used = usize::try_from(tail.cursor.offset - from).unwrap_or(usize::MAX);
        let path = tail.path.clone();
        if tail.is_dirty {
            self.changed.insert(no);
        }
        match outcome {
            Ok(took) => {
                if tail.fault.healed() {
                    self.notices.add(Notice::Healed { path });
                }
                self.went(no, took, now);
            }
            Err(error) => {
                if tail.fault.failed(&error, now) {
                    self.notices.add(Notice::Fault { path, reason: error.to_string() });
                }
                let again_at = tail.fault.again_at();
                self.enqueue(no);
                again_at.into_iter().for_each(|at| self.due(at));
            }
        }
        for line in &lines[had..] {
            self.totals.cut_lines += u64::from(is_cut(line));
            self.totals.torn_lines += u64::from(line.part == Part::Torn);
        }
        used
    }

    fn went(&mut self, no: u64, took: Took, now: Instant) {
        match took {
            Took::More => self.enqueue(no),
            Took::Restarted => self.restarted(no, now),
            Took::Packed => self.leave_alone(no),
            Took::Unsure => self.verify(no, now),
            Took::All => {
                if let Some(at) = self.settles_at(no) {
                    self.due(at);
                }
            }
        }
    }

    /// When a life is to have a turn although it did not grow; none if there is nothing to settle.
    pub(super) fn settles_at(&self, no: u64) -> Option<Instant> {
        let tail = self.tails.get(&no)?;
        let is_open = tail.unread() > 0 || (tail.rotated.is_some() && !tail.finished);
        let is_wanted = is_open && tail.source.is_some() && !tail.is_queued && tail.settled != Some(tail.size);
        is_wanted.then(|| self.quiet_at(no)).flatten()
    }

    /// When what is held of a life counts as complete, if it ever does.
    fn quiet_at(&self, no: u64) -> Option<Instant> {
        let tail = self.tails.get(&no)?;
        if let Some(rotated) = tail.rotated {
            let packed = tail.source.as_ref().is_some_and(|source| source.packing().is_some());
            return Some(if packed { rotated } else { tail.grew_at.max(rotated) + self.options.rotate_wait });
        }
        let multiline = self.options.multiline.as_ref()?;
        Some(tail.grew_at + multiline.wait)
    }

    /// What is known of what follows in a file.
    fn after(&self, no: u64, now: Instant) -> After {
        let is_over = self.quiet_at(no).is_some_and(|at| at <= now);
        let is_rotated = self.tails.get(&no).is_some_and(|tail| tail.rotated.is_some());
        match (is_over, is_rotated) {
            (false, _) => After::More,
            (true, true) => After::End,
            (true, false) => After::Quiet,
        }
    }

    /// Adds what must be stored with the lines.
    fn complete(&mut self, batch: &mut Batch, touched: &BTreeSet<u64>) {
        let others: Vec<_> =
            self.changed.iter().copied().filter(|no| !touched.contains(no)).take(RECORDS_MAX).collect();
        for no in touched.iter().copied().chain(others) {
            self.changed.remove(&no);
            let Some(tail) = self.tails.get_mut(&no) else { continue };
            if let Some(record) = tail.record() {
                tail.is_dirty = false;
                batch.records.push((record.key(), record));
                batch.numbers.push(no);
            }
        }
        self.add_gone(batch);
        if let Some(first) = &mut self.first {
            first.retain(|no| !batch.numbers.contains(no) && self.tails.contains_key(no));
            self.begun |= first.is_empty();
        }
        batch.begun = self.begun;
    }

    /// The batch is stored. One that was handed out before [`Tails::restore`] is passed over.
    pub fn committed(&mut self, batch: &Batch, now: Instant) {
        if batch.epoch != self.epoch {
            return;
        }
        for (no, (_, record)) in batch.numbers.iter().zip(&batch.records) {
            let Some(tail) = self.tails.get_mut(no) else { continue };
            if tail.stored_offset() != record.offset {
                tail.committed_at = now;
            }
            tail.lag.stored(record.offset);
            tail.stored = Some(record.clone());
        }
        for no in &batch.gone_numbers {
            self.tails.remove(no);
        }
        if let Some(at) = self.release_at(now) {
            self.due(at);
        }
    }
}
