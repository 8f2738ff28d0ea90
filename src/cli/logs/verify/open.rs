//! The files that are compared: opened when they are asked for, some at a time, and read ahead a little.

use std::io;

use crate::messages::line::FileId;
use crate::messages::log_file::LogFile;
use crate::sources::files::{Finder, Kept};

/// Files that are open at a time.
const OPEN_MAX: usize = 32;
/// Bytes that are read at a time.
const WINDOW: usize = 256 * 1024;

/// Open files, the one asked for last at the end.
pub(super) struct Files {
    finder: Finder,
    open: Vec<(FileId, Reader)>,
}

impl Files {
    /// None is open.
    pub fn new(finder: Finder) -> Self {
        Self { finder, open: Vec::new() }
    }

    /// The bytes of a life; none if no file holds them any more.
    pub fn reader(&mut self, record: &LogFile) -> io::Result<Option<&mut Reader>> {
        let reader = match self.open.iter().position(|(id, _)| *id == record.id) {
            Some(place) => self.open.remove(place).1,
            None => match self.finder.open(record)? {
                Some(kept) => Reader { kept, at: 0, window: Vec::new() },
                None => return Ok(None),
            },
        };
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push((record.id.clone(), reader));
        Ok(self.open.last_mut().map(|(_, reader)| reader))
    }

    /// Whether a life is still what its open file holds. If not, it is looked for anew when it is asked for next.
    pub fn is_still(&mut self, record: &LogFile) -> bool {
        let Some(place) = self.open.iter().position(|(id, _)| *id == record.id) else { return true };
        if self.open[place].1.kept.still_holds(record).unwrap_or(false) {
            return true;
        }
        self.open.remove(place);
        self.finder.forget();
        false
    }
}

/// One open file.
pub(super) struct Reader {
    kept: Kept,
    at: u64,
    window: Vec<u8>,
}

impl Reader {
    /// Bytes from `offset` on, `len` of them or as many as there are.
    pub fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let within = offset.checked_sub(self.at).and_then(|from| usize::try_from(from).ok());
        if let Some(bytes) = within.and_then(|from| self.window.get(from..from.checked_add(len)?)) {
            return Ok(bytes.to_vec());
        }
        self.window = self.kept.bytes(offset, len.max(WINDOW))?;
        self.at = offset;
        Ok(self.window[..len.min(self.window.len())].to_vec())
    }
}
