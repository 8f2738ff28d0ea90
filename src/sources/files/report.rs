//! What can be told of each file: how far behind it is, since when, and what keeps it from being read.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::fault::FaultKind;
use crate::messages::line::FileId;

/// Sizes that are remembered of one file with the moment when they were seen.
const MARKS_MAX: usize = 16;

/// Since when bytes have been waiting.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Sizes and the moment at which each was first seen, ascending; each is above the stored offset.
    marks: VecDeque<(u64, Instant)>,
}

impl Lag {
    /// The file was seen with this size, of which `stored` bytes are stored.
    pub(super) fn saw(&mut self, size: u64, stored: u64, now: Instant) {
        self.stored(stored);
        if size <= stored || self.marks.back().is_some_and(|(newest, _)| *newest >= size) {
            return;
        }
        let is_full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            // The newest bytes are taken for a little older than they are.
            Some(newest) if is_full => newest.0 = size,
            _ => self.marks.push_back((size, now)),
        }
    }

    /// So many bytes are stored.
    pub(super) fn stored(&mut self, stored: u64) {
        while self.marks.front().is_some_and(|(size, _)| *size <= stored) {
            self.marks.pop_front();
        }
    }

    /// The file has another content: what was seen of it means nothing.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }

    /// For how long the oldest byte has been waiting, as far as it was seen.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.marks.front().map(|(_, seen)| now.saturating_duration_since(*seen))
    }
}

/// What a file is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileState {
    /// It stands under a followed name and is read as it grows.
    Followed,
    /// It was rotated or deleted, and is read to its end.
    Draining,
    /// It was rotated or deleted and read to its end; its handle is kept for the rollback horizon.
    Held,
    /// It was read to its end and let go.
    Finished,
    /// It was rotated while nobody looked; its bytes are looked for.
    Sought,
    /// It cannot be read.
    Faulty,
}

impl FileState {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            FileState::Followed => "followed",
            FileState::Draining => "draining",
            FileState::Held => "held",
            FileState::Finished => "finished",
            FileState::Sought => "sought",
            FileState::Faulty => "faulty",
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Its name, once its first line is known.
    pub id: Option<FileId>,
    /// Where it was last seen.
    pub path: PathBuf,
    /// What it is doing.
    pub state: FileState,
    /// Its size when it was last looked at (unpacked, as far as it is known).
    pub size: u64,
    /// Bytes that are committed.
    pub offset: u64,
    /// Bytes that are not, those of an unfinished last line included.
    pub behind: u64,
    /// For how long the oldest of them has been seen waiting; none if the rest is an unfinished line or nothing.
    pub oldest: Option<Duration>,
    /// What keeps it from being read.
    pub fault: Option<(FaultKind, String)>,
}

/// All files, and what concerns them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesReport {
    /// Each file that is not finished and gone, by path.
    pub files: Vec<FileReport>,
    /// Folders and files that cannot be looked at, with the reason.
    pub faults: Vec<(PathBuf, FaultKind, String)>,
    /// Files that match and are not read, since [`files_max`](super::FilesOptions::files_max) others are.
    pub beyond: usize,
    /// Folders that give no events and are looked at more often instead.
    pub polled_folders: usize,
    /// NUL bytes before lines that were passed over by this process.
    pub nul_bytes: u64,
    /// Records that hold less than a line, given by this process: cut lines, by their number.
    pub cut_lines: u64,
    /// Lines without an end that were given by this process when their file was finished.
    pub torn_lines: u64,
    /// Bytes that were known to be unread when their file was truncated or lost, by this process.
    pub lost_bytes: u64,
    /// Handles of rotated and deleted files that are kept.
    pub held: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_byte_that_is_not_stored() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut lag = Lag::default();
        assert_eq!(lag.age(start), None);
        lag.saw(100, 0, start);
        lag.saw(200, 0, start + second);
        assert_eq!(lag.age(start + 5 * second), Some(5 * second));
        lag.stored(150);
        assert_eq!(lag.age(start + 5 * second), Some(4 * second), "the rest came a second later");
        lag.stored(200);
        assert_eq!(lag.age(start + 5 * second), None);
        (0..100).for_each(|n| lag.saw(1000 + n, 200, start + second * u32::try_from(n).expect("small")));
        assert_eq!(lag.marks.len(), MARKS_MAX);
        lag.stored(1098);
        assert_eq!(lag.age(start + 100 * second), Some(85 * second), "rather too old than too young");
    }
}
