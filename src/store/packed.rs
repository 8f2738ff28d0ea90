//! Packed: reads the entries that a script hands out as one MessagePack value.
//!
//! A delivery of 200 entries is some 1,400 values in Redis's own protocol; making and reading them costs both sides
//! more than everything else in a turn. `cmsgpack`, which every Redis and Valkey has in its Lua, makes one of them.
//! Of <https://github.com/msgpack/msgpack/blob/master/spec.md> only what it writes for lists of texts is read.

use super::error::StoreError;
use super::reply::Entry;
use crate::ids::EntryId;

/// The entries, in order: each an id and a list of names and values.
pub(super) fn entries(script: &'static str, packed: &[u8]) -> Result<Vec<Entry>, StoreError> {
    let mut reader = Reader { rest: packed };
    let entries = reader.entries().filter(|_| reader.rest.is_empty());
    entries.ok_or_else(|| {
        let at = packed.len() - reader.rest.len();
        StoreError::Protocol(format!("{script}: the delivery cannot be read near byte {at} of {}", packed.len()))
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn entries(&mut self) -> Option<Vec<Entry>> {
        let count = self.list()?;
        (0..count).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Option<Entry> {
        if self.list()? != 2 {
            return None;
        }
        let id: EntryId = std::str::from_utf8(self.text()?).ok()?.parse().ok()?;
        let count = self.list()?;
        // A count is trusted only as far as there are bytes: a foreign one must not reserve memory.
        let mut fields = Vec::with_capacity((count / 2).min(self.rest.len()));
        for _ in 0..count / 2 {
            fields.push((self.text()?.to_vec(), self.text()?.to_vec()));
        }
        count.is_multiple_of(2).then_some(Entry { id, fields })
    }

    /// The number of items of the list that begins here.
    fn list(&mut self) -> Option<usize> {
        match self.byte()? {
            head @ 0x90..=0x9f => Some(usize::from(head & 0x0f)),
            0xdc => self.length(2),
            0xdd => self.length(4),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = match self.byte()? {
            head @ 0xa0..=0xbf => usize::from(head & 0x1f),
            0xd9 => self.length(1)?,
            0xda => self.length(2)?,
            0xdb => self.length(4)?,
            _ => return None,
        };
        self.take(length)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A length of `bytes` bytes, highest first.
    fn length(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(out: &mut Vec<u8>, small: Option<(u8, usize)>, wide: [u8; 3], length: usize) {
        match small {
            Some((tag, bound)) if length < bound => out.push(tag | length as u8),
            _ if length < 0x100 && wide[0] != 0 => out.extend([wide[0], length as u8]),
            _ if length < 0x1_0000 => out.extend([wide[1], (length >> 8) as u8, length as u8]),
            _ => {
                out.push(wide[2]);
                out.extend((length as u32).to_be_bytes());
            }
        }
    }

    /// As `cmsgpack` writes it, from its documentation.
    fn pack(entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        let list = |out: &mut Vec<u8>, n| head(out, Some((0x90, 16)), [0, 0xdc, 0xdd], n);
        let text = |out: &mut Vec<u8>, bytes: &[u8]| {
            head(out, Some((0xa0, 32)), [0xd9, 0xda, 0xdb], bytes.len());
            out.extend(bytes);
        };
        list(&mut out, entries.len());
        for entry in entries {
            list(&mut out, 2);
            text(&mut out, entry.id.to_string().as_bytes());
            list(&mut out, 2 * entry.fields.len());
            for (name, value) in &entry.fields {
                text(&mut out, name);
                text(&mut out, value);
            }
        }
        out
    }

    #[test]
    fn texts_and_lists_of_every_width_are_read() {
        let sizes = [0, 1, 31, 32, 255, 256, 65_535, 65_536];
        let fields = sizes.map(|size| (b"n".to_vec(), vec![b'x'; size]));
        let entry = Entry { id: EntryId { ms: 7, seq: 1 }, fields: fields.to_vec() };
        for count in [0, 1, 15, 16, 200] {
            let wanted = vec![entry.clone(); count];
            assert_eq!(entries("test", &pack(&wanted)), Ok(wanted), "{count} entries");
        }
        let wide = Entry { id: EntryId::ZERO, fields: vec![(Vec::new(), Vec::new()); 40_000] };
        assert_eq!(entries("test", &pack(std::slice::from_ref(&wide))), Ok(vec![wide]));
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_an_error() {
        let packed = pack(&[Entry { id: EntryId { ms: 7, seq: 1 }, fields: vec![(b"a".to_vec(), b"b".to_vec())] }]);
        for end in 0..packed.len() {
            assert!(entries("test", &packed[..end]).is_err(), "{end} bytes");
        }
        assert!(entries("test", &[packed.clone(), vec![0x90]].concat()).is_err());
        assert!(entries("test", &[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = entries("test", &bytes);
        }
    }
}
