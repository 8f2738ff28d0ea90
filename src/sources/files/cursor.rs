//! A place in a file, with the evidence that the file is still the one in which the place was noted.

use std::io;

use super::source::Source;
use crate::messages::log_file::{HEAD_BYTES_MAX, LogFile, MARKER_BYTES_MAX, Print, marker_of};

/// The first bytes of what was read.
#[derive(Debug, Clone)]
enum Head {
    /// All of them, while there are fewer than the fingerprint covers.
    Bytes(Vec<u8>),
    /// Their fingerprint.
    Print(Print),
}

/// The last bytes of what was read.
#[derive(Debug, Clone)]
enum Marker {
    Bytes(Vec<u8>),
    /// As a record holds it; not compared with a file yet.
    Digest(u64),
}

/// A place in a file.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// Bytes before it.
    pub offset: u64,
    /// It lies inside a record that was cut.
    pub inside: bool,
    head: Head,
    marker: Marker,
}

impl Cursor {
    /// The beginning of a file.
    pub(super) fn beginning() -> Self {
        Self { offset: 0, inside: false, head: Head::Bytes(Vec::new()), marker: Marker::Bytes(Vec::new()) }
    }

    /// Where a record says; not compared with a file yet.
    pub(super) fn of(record: &LogFile) -> Self {
        let (head, marker) = (Head::Print(record.head), Marker::Digest(record.marker));
        Self { offset: record.offset, inside: record.inside, head, marker }
    }

    /// The place `offset` of this file, whatever stands there.
    pub(super) fn at(source: &mut Source, offset: u64) -> io::Result<Self> {
        let head = source.bytes(0, usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX))?;
        let marker = source.bytes(offset - marker_len(offset) as u64, marker_len(offset))?;
        let mut place = Self { offset, inside: false, head: Head::Bytes(head), marker: Marker::Bytes(marker) };
        place.settle();
        Ok(place)
    }

    /// Whether it was compared with the file that it is used in.
    pub(super) fn is_proved(&self) -> bool {
        matches!(self.marker, Marker::Bytes(_))
    }

    /// Where the bytes begin that the marker covers.
    pub(super) fn marker_at(&self) -> u64 {
        self.offset - marker_len(self.offset) as u64
    }

    /// The fingerprint of the first bytes before it.
    pub(super) fn head(&self) -> Print {
        match &self.head {
            Head::Bytes(bytes) => Print::of(bytes),
            Head::Print(print) => *print,
        }
    }

    /// The digest of the last bytes before it.
    pub(super) fn marker(&self) -> u64 {
        match &self.marker {
            Marker::Bytes(bytes) => marker_of(bytes),
            Marker::Digest(digest) => *digest,
        }
    }

    /// Whether a file that begins like this can be the one: `first` are its first [`HEAD_BYTES_MAX`] bytes.
    pub(super) fn fits_head(&self, first: &[u8]) -> bool {
        let print = self.head();
        first.get(..print.len as usize).is_some_and(|first| Print::of(first) == print)
    }

    /// Whether a file that begins like this can be a part of it: as far as it goes, it is the same.
    pub(super) fn fits_begin(&self, first: &[u8]) -> bool {
        match &self.head {
            Head::Bytes(bytes) => bytes.starts_with(first) || first.starts_with(bytes),
            Head::Print(_) => self.fits_head(first),
        }
    }

    /// Whether a file holds the bytes before this offset of which this is the marker.
    pub(super) fn holds(source: &mut Source, offset: u64, marker: u64) -> io::Result<bool> {
        let len = marker_len(offset);
        let bytes = source.bytes(offset - len as u64, len)?;
        Ok(bytes.len() == len && marker_of(&bytes) == marker)
    }

    /// Compares the first bytes with those of a file.
    pub(super) fn agrees_at_head(&mut self, source: &mut Source) -> io::Result<bool> {
        let print = self.head();
        // The fingerprint may be shorter than what was read; from now on it is not.
        let bytes = source.bytes(0, usize::try_from(self.offset).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX))?;
        if bytes.get(..print.len as usize).is_none_or(|first| Print::of(first) != print) {
            return Ok(false);
        }
        self.head = Head::Bytes(bytes);
        self.settle();
        Ok(true)
    }

    /// Compares the bytes before it with those of a file. Once they agreed, the place is proved.
    pub(super) fn agrees_at_marker(&mut self, source: &mut Source) -> io::Result<bool> {
        let bytes = source.bytes(self.marker_at(), marker_len(self.offset))?;
        let agrees = bytes.len() == marker_len(self.offset)
            && match &self.marker {
                Marker::Bytes(own) => *own == bytes,
                Marker::Digest(digest) => *digest == marker_of(&bytes),
            };
        if agrees {
            self.marker = Marker::Bytes(bytes);
        }
        Ok(agrees)
    }

    /// Compares everything.
    pub(super) fn agrees(&mut self, source: &mut Source) -> io::Result<bool> {
        Ok(self.agrees_at_head(source)? && self.agrees_at_marker(source)?)
    }

    /// Moves behind `passed`, the bytes that follow it. It must be proved.
    pub(super) fn pass(&mut self, passed: &[u8], inside: bool) {
        if let Head::Bytes(head) = &mut self.head {
            head.extend_from_slice(&passed[..passed.len().min(HEAD_BYTES_MAX - head.len())]);
        }
        if let Marker::Bytes(marker) = &mut self.marker {
            let kept = MARKER_BYTES_MAX.saturating_sub(passed.len()).min(marker.len());
            marker.drain(..marker.len() - kept);
            marker.extend_from_slice(&passed[passed.len().saturating_sub(MARKER_BYTES_MAX)..]);
        }
        self.offset += passed.len() as u64;
        self.inside = inside;
        self.settle();
    }

    /// A full head needs its bytes no more.
    fn settle(&mut self) {
        if let Head::Bytes(head) = &self.head
            && head.len() >= HEAD_BYTES_MAX
        {
            self.head = Head::Print(Print::of(head));
        }
    }
}

fn marker_len(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(MARKER_BYTES_MAX)
}
