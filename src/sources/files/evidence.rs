//! Whether a file is, or holds, what a life has given: by its ends, its first bytes and the bytes before the place.

use super::cursor::Cursor;
use super::siblings::{Candidate, Candidates};
use super::source::Source;
use super::tail::Tail;

/// Bytes at the end of a file that are compared with the same bytes of the one that it may be a copy of.
const COMPARED_BYTES: usize = 4096;

/// Seconds for which a file may be written to while its copy is complete and it is about to be truncated.
pub(super) const COPY_SECONDS: i128 = 2;

/// How much of a file has been given already by a life that is over; none if it is another file. A copy that was made
/// before the life was truncated may hold less than was given; the last mark within it must stand in it.
pub(super) fn known_end(tail: &Tail, source: &mut Source, is_truncated: bool) -> std::io::Result<Option<u64>> {
    if Cursor::holds(source, tail.cursor.offset, tail.cursor.marker())? {
        return Ok(Some(tail.cursor.offset));
    }
    if !is_truncated {
        return Ok(None);
    }
    let end = source.end()?;
    let within = tail.trail.iter().copied().filter(|(offset, _)| *offset <= end).max();
    Ok(match within {
        Some((offset, marker)) if end <= tail.cursor.offset && Cursor::holds(source, offset, marker)? => Some(end),
        _ => None,
    })
}

/// Whether a file, packed or not, holds the same as an open one, as far as their sizes and ends show.
pub(super) fn holds_all_of(original: &mut Tail, copy: &mut Source) -> bool {
    let Some(source) = &mut original.source else { return false };
    let mut compare = || -> std::io::Result<bool> {
        let end = source.end()?;
        let from = end.saturating_sub(COMPARED_BYTES as u64);
        Ok(end > 0 && copy.end()? == end && source.bytes(from, COMPARED_BYTES)? == copy.bytes(from, COMPARED_BYTES)?)
    };
    compare().unwrap_or(false)
}

/// Whether an open file does not hold any more what was given of it.
pub(super) fn began_anew(tail: &mut Tail) -> bool {
    let Some(source) = &mut tail.source else { return false };
    tail.cursor.offset > 0 && !tail.cursor.agrees_at_marker(source).unwrap_or(true)
}

/// Whether one file holds all bytes of another, which has `size` of them, as far as its ends show.
pub(super) fn holds_the_same(whole: &mut Source, part: &mut Source, size: u64) -> bool {
    let from = size.saturating_sub(COMPARED_BYTES as u64);
    let len = usize::try_from(size - from).unwrap_or(COMPARED_BYTES);
    let mut same = |offset: u64, len: usize| {
        let (own, other) = (whole.bytes(offset, len), part.bytes(offset, len));
        own.ok().zip(other.ok()).is_some_and(|(own, other)| own == other && other.len() == len)
    };
    same(0, len) && same(from, len)
}

/// Whether all of a file, packed or not, stands at the beginning of an open one. One that holds nothing says nothing.
pub(super) fn is_part_of(part: &mut Source, whole: &mut Tail) -> bool {
    let Some(source) = &mut whole.source else { return false };
    part.end().is_ok_and(|size| size > 0 && holds_the_same(source, part, size))
}

/// Times of change in records have no fractions.
fn seconds(mtime: i128) -> i128 {
    mtime.div_euclid(1_000_000_000)
}

/// Whether a file holds what was given of a life last, where it was given.
pub(super) fn holds_its_place(tail: &Tail, source: &mut Source) -> bool {
    Cursor::holds(source, tail.cursor.offset, tail.cursor.marker()).unwrap_or(false)
}

/// How near a candidate is: the file itself, its inode on another device, what rotation made of it, what stands under
/// its name, anything. Of those that are equally near, what was changed after the life was seen last is nearer.
pub(super) fn rank(tail: &Tail, one: &Candidate) -> (u8, bool, i128) {
    let near = match one {
        one if one.inode == tail.inode => 0,
        one if one.inode.1 == tail.inode.1 => 1,
        one if one.is_rotated => 2,
        one if one.path == tail.path => 3,
        _ => 4,
    };
    (near, seconds(one.mtime) < seconds(tail.sure_mtime), one.mtime)
}

/// Whether a candidate can be what is looked for, before it is read: it was not changed last before the life was, its
/// first bytes agree, and where nothing but its content speaks for it, more than one line of it is known.
pub(super) fn may_hold(tail: &Tail, one: &Candidate, candidates: &mut Candidates) -> bool {
    let near = rank(tail, one).0;
    if near > 0 && seconds(one.mtime) + COPY_SECONDS < seconds(tail.sure_mtime) {
        return false;
    }
    let Some(head) = candidates.head(one) else { return false };
    tail.cursor.fits_head(head) && (near <= 2 || is_more_than_a_line(tail, head))
}

impl Tail {
    /// Whether a file that begins like this may hold what this life has given.
    pub(super) fn may_be_held_by(&self, one: &Candidate, head: &[u8]) -> bool {
        self.id.is_some() && self.inode != one.inode && self.cursor.fits_begin(head)
    }
}

/// Whether more than the first line was read: files that all begin with one header are told apart.
pub(super) fn is_more_than_a_line(tail: &Tail, head: &[u8]) -> bool {
    memchr::memchr(b'\n', head).is_none_or(|end| tail.cursor.offset > end as u64 + 1)
}

/// Whether a file holds what was read. Of a packed one only the first bytes are compared: the rest when it is unpacked.
pub(super) fn agrees(cursor: &mut Cursor, source: &mut Source) -> std::io::Result<bool> {
    if source.packing().is_some() { cursor.agrees_at_head(source) } else { cursor.agrees(source) }
}
