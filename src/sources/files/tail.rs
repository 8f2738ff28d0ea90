//! One life of one file, as it is being read: where it stands, and one turn of reading.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;

use super::cursor::Cursor;
use super::fault::Fault;
use super::globs::{Found, Inode, Seen, mtime_of};
use super::packed::packing_of;
use super::report::Lag;
use super::source::Source;
use super::split::{After, Splitter};
use crate::messages::level::level_of;
use crate::messages::line::{FileId, Line, LineId, Part};
use crate::messages::log_file::{FIRST_LINE_BYTES_MAX, LOG_FILE_VERSION, LogFile, first_line_head};

/// Bytes that one turn unpacks at most on the way to where reading goes on.
const APPROACH_BYTES: u64 = 32 << 20;

/// Places handed out lately that are remembered of a file.
const TRAIL_MAX: usize = 16;

/// First bytes of a file that are remembered while nothing of it was handed out.
const FIRST_BYTES: usize = 64;

/// How many lives of a head and an inode there were; the next one's generation.
pub(super) type Generations = HashMap<(u64, u64), u32>;

/// One life of one file.
#[derive(Debug)]
pub(super) struct Tail {
    /// Its name, once its first line is known.
    pub id: Option<FileId>,
    /// The inode that its name will carry.
    pub born_as: u64,
    /// Where it was last seen.
    pub path: PathBuf,
    /// Device and inode under which it was last seen.
    pub inode: Inode,
    /// Its record as it is stored; none before the first commit.
    pub stored: Option<LogFile>,
    /// Where reading begins while nothing is stored.
    pub begin: Cursor,
    /// Behind what was handed out last.
    pub cursor: Cursor,
    /// Its first bytes as they were last seen, while nothing of it was handed out.
    pub first_bytes: Vec<u8>,
    /// Markers at places that were handed out lately: a copy that is shorter than what was read is known by them.
    pub trail: VecDeque<(u64, u64)>,
    /// Where its bytes are; none while they are looked for, and after they were let go.
    pub source: Option<Source>,
    /// Size and time of change when it was last looked at.
    pub size: u64,
    pub mtime: i128,
    /// Size and time of change when its content was last seen to be what it should be.
    pub sure_size: u64,
    pub sure_mtime: i128,
    /// Since when it is known to be rotated or deleted.
    pub rotated: Option<Instant>,
    /// It was read to its end after that.
    pub finished: bool,
    /// The size at which it had its last turn without growth.
    pub settled: Option<u64>,
    /// When it last grew, or was opened.
    pub grew_at: Instant,
    /// When a commit last moved it.
    pub committed_at: Instant,
    /// Its record differs from the stored one in more than the place.
    pub is_dirty: bool,
    /// It waits for its turn.
    pub is_queued: bool,
    /// The life before it: its lines come first.
    pub after: Option<u64>,
    /// What stood before it could not be seen yet: it has no turn until it was.
    pub is_held_back: bool,
    /// Its file began anew in place: what is left of it may be in a copy.
    pub is_truncated: bool,
    /// Until when its bytes are looked for.
    pub sought_until: Option<Instant>,
    /// Copies that turned out to be others.
    pub rejected: Vec<Inode>,
    /// What keeps it from being read.
    pub fault: Fault,
    /// Since when it has been behind.
    pub lag: Lag,
    /// Milliseconds for which it was seen gone.
    pub gone_ms: Option<u64>,
    /// An event named it since the last look.
    pub was_hinted: bool,
    /// Looks in a row that found it grown without an event.
    pub unheard: u32,
}

/// What one turn of reading came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// Everything that is complete was read.
    All,
    /// There is more.
    More,
    /// The file does not hold any more what was read from it: it began anew in place.
    Restarted,
    /// It is a packed file, not a log.
    Packed,
    /// Nothing of it was given yet, and it was not looked yet whether copies beside it hold what stood here before.
    Unsure,
}

/// What a turn of reading needs and gives.
pub(super) struct Turn<'t> {
    pub splitter: &'t Splitter,
    pub generations: &'t mut Generations,
    pub lines: &'t mut Vec<Line>,
    /// Bytes and records that it may take.
    pub bytes: usize,
    pub records: usize,
    pub after: After,
    /// NUL bytes that were passed over.
    pub nuls: u64,
}

impl Tail {
    /// A life that begins at `begin` of an open file.
    pub(super) fn new(path: PathBuf, source: Source, begin: Cursor, now: Instant) -> Self {
        let inode = source.inode;
        let mut tail = Self::bare(path, inode, begin, now);
        tail.source = Some(source);
        tail
    }

    /// A life that a record tells of; its bytes must be found.
    pub(super) fn recorded(record: LogFile, now: Instant) -> Self {
        let mut tail = Self::bare(record.path.clone(), (record.dev, record.inode), Cursor::of(&record), now);
        tail.restore(record, now);
        tail
    }

    fn bare(path: PathBuf, inode: Inode, begin: Cursor, now: Instant) -> Self {
        Self {
            id: None,
            born_as: inode.1,
            path,
            inode,
            stored: None,
            cursor: begin.clone(),
            begin,
            first_bytes: Vec::new(),
            trail: VecDeque::new(),
            source: None,
            size: 0,
            mtime: 0,
            sure_size: 0,
            sure_mtime: 0,
            rotated: None,
            finished: false,
            settled: None,
            grew_at: now,
            committed_at: now,
            is_dirty: false,
            is_queued: false,
            after: None,
            is_held_back: false,
            is_truncated: false,
            sought_until: None,
            rejected: Vec::new(),
            fault: Fault::default(),
            lag: Lag::default(),
            gone_ms: None,
            was_hinted: false,
            unheard: 0,
        }
    }

    /// Goes back (or forth) to what is stored.
    pub(super) fn restore(&mut self, record: LogFile, now: Instant) {
        self.id = Some(record.id.clone());
        self.born_as = record.id.inode;
        self.cursor = Cursor::of(&record);
        // What was rotated before Redis went back still is.
        self.rotated = self.rotated.or(record.rotated.then_some(now));
        (self.finished, self.settled) = (record.finished, None);
        self.gone_ms = record.gone_seconds.map(|seconds| self.gone_ms.unwrap_or(0).max(seconds.saturating_mul(1000)));
        if self.source.is_none() {
            self.path.clone_from(&record.path);
            self.inode = (record.dev, record.inode);
            self.size = record.size;
            self.mtime = i128::from(record.mtime) * 1_000_000_000;
            self.is_sure();
        }
        // What was learned since is told again.
        self.is_dirty = self.path != record.path
            || self.inode != (record.dev, record.inode)
            || self.rotated.is_some() != record.rotated;
        self.stored = Some(record);
    }

    /// Goes back to where it began, since nothing of it is stored.
    pub(super) fn begin_again(&mut self) {
        (self.id, self.stored, self.finished, self.settled) = (None, None, false, None);
        self.cursor = self.begin.clone();
    }

    /// Its content was compared after its size and time of change were taken.
    pub(super) fn is_sure(&mut self) {
        (self.sure_size, self.sure_mtime) = (self.size, self.mtime);
    }

    /// Whether the open file still is what was seen of it. One of which nothing was handed out is known by its first
    /// bytes, and by its size: no log shrinks.
    pub(super) fn still_agrees(&mut self, source: &mut Source) -> io::Result<bool> {
        if source.packing().is_some() {
            return Ok(true);
        }
        if self.cursor.offset > 0 {
            return Ok(self.size >= self.cursor.offset && self.cursor.agrees_at_marker(source)?);
        }
        let first = source.bytes(0, FIRST_BYTES)?;
        let agrees = self.size >= self.sure_size && first.starts_with(&self.first_bytes);
        self.first_bytes = first;
        Ok(agrees)
    }

    /// Takes note of how it looks before anything of it is handed out: first of its bytes, then of its size. Were it the
    /// other way round, it could be truncated in between, and the size would be that of another life.
    pub(super) fn meet(&mut self, now: Instant) {
        self.note_first_bytes();
        // What cannot be asked for its size says so when it is read.
        if self.look_at_source(now).is_ok() {
            self.is_sure();
        }
    }

    /// Takes note of its first bytes, while nothing of it is handed out.
    pub(super) fn note_first_bytes(&mut self) {
        if let Some(source) = self.source.as_mut().filter(|source| source.packing().is_none()) {
            // Where they cannot be read, nothing is known.
            self.first_bytes = source.bytes(0, FIRST_BYTES).unwrap_or_default();
        }
    }

    /// Its name, for the log.
    pub(super) fn name_text(&self) -> String {
        self.id.as_ref().map_or_else(|| format!("nameless {}", self.born_as), ToString::to_string)
    }

    /// Its bytes are looked for.
    pub(super) fn is_sought(&self) -> bool {
        self.source.is_none() && self.sought_until.is_some()
    }

    /// It was let go, and this is still it: unchanged since.
    pub(super) fn rests_as(&self, seen: &Seen) -> bool {
        let seconds = |mtime: i128| mtime.div_euclid(1_000_000_000);
        self.source.is_none()
            && self.finished
            && (seen.size, seconds(seen.mtime)) == (self.sure_size, seconds(self.sure_mtime))
    }

    /// It is not on the disk any more, as far as that can be seen: none of the files of a look, and deleted.
    pub(super) fn is_gone(&self, found: &Found) -> bool {
        let is_deleted = |source: &Source| source.meta().is_ok_and(|meta| meta.nlink() == 0);
        self.id.is_some() && !found.files.contains_key(&self.inode) && self.source.as_ref().is_none_or(is_deleted)
    }

    /// It is finished, stored, and open only for the case that Redis goes back.
    pub(super) fn is_held(&self) -> bool {
        self.finished && self.source.is_some() && self.stored_offset() == self.cursor.offset
    }

    /// Bytes that are known and were not handed out.
    pub(super) fn unread(&self) -> u64 {
        self.size.saturating_sub(self.cursor.offset)
    }

    /// It is over and has bytes, but no complete line that names it: only when it stands still long enough it gets a name.
    /// Were a later life stored first, nobody would look for this one after a restart.
    pub(super) fn may_get_a_name(&self) -> bool {
        self.id.is_none() && self.rotated.is_some() && !self.finished && self.unread() > 0
    }

    /// The offset that is stored, or where it will begin.
    pub(super) fn stored_offset(&self) -> u64 {
        self.stored.as_ref().map_or(self.begin.offset, |record| record.offset)
    }

    /// Its record as it is to be stored; none while it has no name.
    pub(super) fn record(&self) -> Option<LogFile> {
        Some(LogFile {
            version: LOG_FILE_VERSION,
            id: self.id.clone()?,
            path: self.path.clone(),
            dev: self.inode.0,
            inode: self.inode.1,
            head: self.cursor.head(),
            offset: self.cursor.offset,
            marker: self.cursor.marker(),
            inside: self.cursor.inside,
            size: self.sure_size.max(self.cursor.offset),
            mtime: i64::try_from(self.sure_mtime.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
            rotated: self.rotated.is_some(),
            finished: self.finished,
            packed: match &self.source {
                Some(source) => source.packing(),
                None => self.stored.as_ref().and_then(|record| record.packed),
            },
            gone_seconds: self.gone_ms.map(|ms| ms / 1000),
        })
    }

    /// Takes note of its size and time of change; says whether either is news.
    pub(super) fn look(&mut self, size: u64, mtime: i128, now: Instant) -> bool {
        let is_news = size != self.size || mtime != self.mtime;
        if size > self.size {
            self.grew_at = now;
            if self.finished {
                // Somebody writes to it after all.
                (self.finished, self.is_dirty) = (false, true);
            }
        }
        (self.size, self.mtime) = (size, mtime);
        self.lag.saw(size, self.stored_offset(), now);
        is_news
    }

    /// Asks the open file for its size; of a packed one the size is known at its end only.
    pub(super) fn look_at_source(&mut self, now: Instant) -> io::Result<bool> {
        let Some(source) = &self.source else { return Ok(false) };
        if source.packing().is_some() {
            return Ok(false);
        }
        let meta = source.meta()?;
        Ok(self.look(meta.len(), mtime_of(&meta), now))
    }

    /// Reads what one turn may take and adds the lines. On an error nothing has changed.
    pub(super) fn read(&mut self, turn: &mut Turn<'_>, now: Instant) -> io::Result<Took> {
        self.look_at_source(now)?;
        let Some(mut source) = self.source.take() else { return Ok(Took::All) };
        let outcome = self.read_from(&mut source, turn);
        self.source = Some(source);
        outcome
    }

    fn read_from(&mut self, source: &mut Source, turn: &mut Turn<'_>) -> io::Result<Took> {
        let packing = source.packing();
        if packing.is_none() && self.size < self.cursor.offset {
            return Ok(Took::Restarted);
        }
        if !source.approach(self.cursor.marker_at(), APPROACH_BYTES)? {
            return Ok(Took::More);
        }
        if !self.cursor.is_proved() && !self.prove(source)? {
            return Ok(Took::Restarted);
        }
        let mut want = turn.bytes;
        if packing.is_none() {
            // Room for what came since it was asked for its size.
            want = want.min(usize::try_from(self.unread()).unwrap_or(usize::MAX).saturating_add(512));
        }
        loop {
            let mut data = source.bytes(self.cursor.offset, want)?;
            let mut is_all = data.len() < want;
            let is_new = self.id.is_none() && self.cursor.offset == 0 && packing.is_none();
            if is_new {
                let first = &self.first_bytes[..self.first_bytes.len().min(want)];
                if self.size < self.sure_size || !data.starts_with(first) {
                    return Ok(Took::Restarted);
                }
                if self.keep_sure(&mut data) {
                    if memchr::memchr(b'\n', &data).is_none() {
                        return Ok(Took::Unsure);
                    }
                    is_all = false;
                }
            }
            if is_new && packing_of(&data)?.is_some() {
                return Ok(Took::Packed);
            }
            // Read first, compare then: what was read belongs to what was read before.
            if packing.is_none() && !self.cursor.agrees_at_marker(source)? {
                return Ok(Took::Restarted);
            }
            if !is_new {
                self.is_sure();
            }
            let after = if is_all { turn.after } else { After::More };
            if !self.name(&data, source, is_all && after == After::End, turn.generations)? && !is_all {
                want = want.max(FIRST_LINE_BYTES_MAX) * 2;
                continue;
            }
            let len = data.len();
            let taken = self.take(Bytes::from(data), after, turn);
            if taken == 0 && !is_all && want < turn.splitter.reach() * 2 {
                want = (want * 2).min(turn.splitter.reach() * 2);
                continue;
            }
            self.size = self.size.max(source.known_end().unwrap_or(self.cursor.offset));
            if taken == len && is_all && after == After::End {
                (self.finished, self.is_dirty) = (true, true);
            }
            return Ok(if taken > 0 && (!is_all || turn.records == 0) { Took::More } else { Took::All });
        }
    }

    /// Of a life in place that has no name yet, only what was there when copies were looked for is its own for sure. Cuts
    /// off the rest; says whether there was one.
    fn keep_sure(&self, data: &mut Vec<u8>) -> bool {
        let sure = usize::try_from(self.sure_size).unwrap_or(usize::MAX);
        let is_cut = self.rotated.is_none() && data.len() > sure;
        if is_cut {
            data.truncate(sure);
        }
        is_cut
    }

    fn prove(&mut self, source: &mut Source) -> io::Result<bool> {
        // The head of a packed file was compared when it was found: going back means to unpack all again.
        match source.packing() {
            Some(_) => self.cursor.agrees_at_marker(source),
            None => self.cursor.agrees(source),
        }
    }

    /// Gives it its name, if its first line is known; says whether it has one.
    fn name(
        &mut self,
        data: &[u8],
        source: &mut Source,
        ended: bool,
        generations: &mut Generations,
    ) -> io::Result<bool> {
        if self.id.is_some() {
            return Ok(true);
        }
        let head = match self.cursor.offset {
            0 => first_line_head(data, ended),
            _ => first_line_head(&source.bytes(0, FIRST_LINE_BYTES_MAX)?, ended),
        };
        let Some(head) = head else { return Ok(false) };
        let lives = generations.entry((head, self.born_as)).or_default();
        self.id = Some(FileId { head, inode: self.born_as, generation: *lives });
        *lives += 1;
        Ok(true)
    }

    /// Remembers the place that is about to be left.
    fn leave_mark(&mut self) {
        if self.cursor.offset > 0 {
            if self.trail.len() >= TRAIL_MAX {
                self.trail.pop_front();
            }
            self.trail.push_back((self.cursor.offset, self.cursor.marker()));
        }
    }

    /// Turns bytes into lines; returns how many bytes are done with.
    fn take(&mut self, data: Bytes, after: After, turn: &mut Turn<'_>) -> usize {
        let Some(file) = self.id.clone() else { return 0 };
        let out = turn.splitter.split(&data, self.cursor.inside, after, turn.records);
        let offset = self.cursor.offset;
        turn.lines.extend(out.pieces.iter().map(|piece| {
            let bytes = data.slice(piece.from..piece.to);
            let level = level_of(&bytes);
            let id = LineId { file: file.clone(), offset: offset + piece.from as u64 };
            Line { id, level, bytes, part: piece.part }
        }));
        turn.records -= out.pieces.len();
        turn.bytes = turn.bytes.saturating_sub(out.consumed);
        turn.nuls += out.nuls;
        if out.consumed > 0 {
            self.leave_mark();
            self.cursor.pass(&data[..out.consumed], out.inside);
        }
        out.consumed
    }
}

/// Whether a record is a piece of a line that goes on.
pub(super) fn is_cut(line: &Line) -> bool {
    line.part == Part::Cut
}
