//! The level of a line of JSON: keys of the outermost object only, without a parser.

use std::borrow::Cow;

use memchr::{memchr2, memchr3};

use super::super::line::Level;
use super::level_of_number;

/// Where a level may stand; the earlier, the better.
const KEYS: [&[u8]; 3] = [b"level", b"severity", b"type"];
/// A key or a word with escapes that is longer than this, in bytes, is none of ours: each letter takes six at most.
const ESCAPED_MAX: usize = 6 * super::super::line::LEVEL_LETTERS_MAX;

/// The level of an object whose `{` has been read.
pub(super) fn level(rest: &[u8]) -> Option<Level> {
    let mut walk = Walk { rest };
    let mut best: [Option<Level>; KEYS.len()] = [None, None, None];
    while let Some((rank, value)) = walk.member() {
        let Some(rank) = rank.filter(|rank| best[*rank].is_none()) else { continue };
        let level = word(value, rank);
        if rank == 0 && level.is_some() {
            return level;
        }
        best[rank] = level;
    }
    best.into_iter().flatten().next()
}

/// A value as a level. Only `type`, the last key, has no numbers.
fn word(value: Value<'_>, rank: usize) -> Option<Level> {
    match value {
        Value::Text(text) => {
            let plain = text.plain()?;
            let number = rank < 2 && plain.iter().all(u8::is_ascii_digit);
            if number { level_of_number(&plain) } else { Level::new(&plain) }
        }
        Value::Number(number) if rank < 2 => level_of_number(number),
        Value::Number(_) | Value::Nested => None,
    }
}

/// A text without its quotes, as it is written.
struct Text<'l> {
    bytes: &'l [u8],
    escaped: bool,
}

impl<'l> Text<'l> {
    /// What it says.
    fn plain(&self) -> Option<Cow<'l, [u8]>> {
        if !self.escaped {
            return Some(self.bytes.into());
        }
        if self.bytes.len() > ESCAPED_MAX {
            return None;
        }
        let quoted = [b"\"", self.bytes, b"\""].concat();
        serde_json::from_slice::<String>(&quoted).ok().map(|text| text.into_bytes().into())
    }

    /// Which of our keys it is.
    fn rank(&self) -> Option<usize> {
        let rank = |key: &[u8]| KEYS.iter().position(|known| *known == key);
        if self.escaped { rank(&self.plain()?) } else { rank(self.bytes) }
    }
}

/// What stands behind a key.
enum Value<'l> {
    Text(Text<'l>),
    /// Or `true`, `false`, `null`.
    Number(&'l [u8]),
    /// An object or a list.
    Nested,
}

/// What is left of the object.
struct Walk<'l> {
    rest: &'l [u8],
}

impl<'l> Walk<'l> {
    /// The next key, if it is one of ours, and its value; none at the end and where the JSON breaks.
    fn member(&mut self) -> Option<(Option<usize>, Value<'l>)> {
        if self.next()? == b',' {
            self.rest = &self.rest[1..];
            self.next()?;
        }
        let key = self.text()?;
        if self.next()? != b':' {
            return None;
        }
        self.rest = &self.rest[1..];
        let value = match self.next()? {
            b'"' => Value::Text(self.text()?),
            b'{' | b'[' => {
                self.rest = &self.rest[nested_length(self.rest)?..];
                Value::Nested
            }
            _ => {
                // A value that the line does not end may be the half of another one.
                let (value, rest) = self.rest.split_at(memchr3(b',', b'}', b']', self.rest)?);
                self.rest = rest;
                Value::Number(value.trim_ascii_end())
            }
        };
        Some((key.rank(), value))
    }

    /// The next byte that is no space; it stays.
    fn next(&mut self) -> Option<u8> {
        while let b' ' | b'\t' | b'\r' | b'\n' = self.rest.first()? {
            self.rest = &self.rest[1..];
        }
        self.rest.first().copied()
    }

    /// The text that begins here, if one does and ends.
    fn text(&mut self) -> Option<Text<'l>> {
        if self.rest.first() != Some(&b'"') {
            return None;
        }
        let (length, escaped) = text_length(self.rest)?;
        let bytes = &self.rest[1..length - 1];
        self.rest = &self.rest[length..];
        Some(Text { bytes, escaped })
    }
}

/// The length of the text that begins here, both quotes included, and whether anything in it is escaped.
fn text_length(bytes: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut escaped) = (1, false);
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((at + 1, escaped));
        }
        // Whatever is escaped, it is no end of a text; the digits of \uXXXX are not either.
        (at, escaped) = (at + 2, true);
    }
}

/// The length of the object or list that begins here. Only the depth counts: brackets that do not match are another
/// fault, and not ours to find.
fn nested_length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => at += text_length(&bytes[at..])?.0,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => {
                (at, depth) = (at + 1, depth - 1);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}
