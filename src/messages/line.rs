//! Lines of log files: how a file and a line are named, and the word that says how grave a line is.
//!
//! A line's name is made from the file alone, so that the same line has the same name on every node, after every
//! restart and in every channel: what is read twice is recognised.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most letters of a level.
pub const LEVEL_LETTERS_MAX: usize = 32;
/// Levels that most lines have.
const COMMON_LEVELS: [&str; 9] = ["INFO", "DEBUG", "WARN", "WARNING", "ERROR", "TRACE", "NOTICE", "FATAL", "CRITICAL"];

/// One life of one file: `HEAD-INODE-GENERATION`, for example `9c1185a5c5e9fc54-3a1f-0`.
///
/// The head is the digest of the first line, so that a rotated, packed or copied file is still itself; the inode tells
/// files apart that begin alike; the generation counts how often the same file began again in place (truncation), as
/// its checkpoint knows it, so that a turn that is decided again gives the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The first 8 bytes of the BLAKE3 digest of the first line.
    pub head: u64,
    /// The inode where the file was first seen.
    pub inode: u64,
    /// Lives of the same head and inode before this one.
    pub generation: u32,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}-{}", self.head, self.inode, self.generation)
    }
}

impl FromStr for FileId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("`{text}` is no file id; write HEAD-INODE-GENERATION, for example 9c1185a5c5e9fc54-3a1f-0");
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or_else(fault);
        let (head, inode, generation) = (part()?, part()?, part()?);
        let hex = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| fault());
        let id = Self { head: hex(head)?, inode: hex(inode)?, generation: generation.parse().map_err(|_| fault())? };
        // One name for one file: no second spelling passes.
        if id.to_string() == text { Ok(id) } else { Err(fault()) }
    }
}

/// One line: its file, and the byte offset at which it begins. Written `FILE:OFFSET`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineId {
    /// The file.
    pub file: FileId,
    /// Bytes of the file before the line (of the unpacked bytes, where it was packed).
    pub offset: u64,
}

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

impl FromStr for LineId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is no line id; write FILE:OFFSET");
        let (file, offset) = text.rsplit_once(':').ok_or_else(fault)?;
        let id = Self { file: file.parse()?, offset: offset.parse().map_err(|_| fault())? };
        if id.to_string() == text { Ok(id) } else { Err(fault()) }
    }
}

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(FileId, LineId);

/// How grave a line is, as it says itself: 1 to 32 of `A-Z`, `0-9` and `_`. Part of a channel's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(Bytes);

impl Level {
    /// Of a line that does not say.
    pub const UNKNOWN: Level = Level(Bytes::from_static(b"UNKNOWN"));

    /// A word that is in upper case already.
    pub(super) const fn from_static(word: &'static str) -> Self {
        Self(Bytes::from_static(word.as_bytes()))
    }

    /// Takes a word as a level, in upper case; none if it cannot be one. Common words cost no memory.
    pub fn new(word: &[u8]) -> Option<Self> {
        let fits = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        if !(1..=LEVEL_LETTERS_MAX).contains(&word.len()) || !word.iter().all(fits) {
            return None;
        }
        let common = COMMON_LEVELS.iter().find(|common| common.as_bytes().eq_ignore_ascii_case(word));
        Some(common.map_or_else(|| Self(word.to_ascii_uppercase().into()), |common| Self::from_static(common)))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        // Letters, digits and `_` alone: always text.
        std::str::from_utf8(&self.0).unwrap_or("UNKNOWN")
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a line a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The beginning or middle of a line that is longer than the limit: the record at `offset + length` goes on.
    Cut,
    /// The end of such a line.
    Rest,
    /// The file ended for good without a line end behind it.
    Torn,
}

impl Part {
    /// The word for it in a record; empty for a whole line, whose record does not say so.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Cut => "cut",
            Part::Rest => "rest",
            Part::Torn => "torn",
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = [Part::Cut, Part::Rest, Part::Torn].into_iter().find(|part| part.as_str() == text);
        part.ok_or_else(|| format!("`{text}` is no part of a line; one of cut, rest, torn"))
    }
}

/// One line on its way into the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub id: LineId,
    /// How grave it is.
    pub level: Level,
    /// Its bytes, as they stand in the file, without the line end.
    pub bytes: Bytes,
    /// Whether that is all of it.
    pub part: Part,
}

impl Line {
    /// What its record says of it.
    pub fn label(&self) -> Label {
        Label { id: self.id.clone(), level: self.level.clone(), part: self.part }
    }
}

/// What a record says of its line: the name of its first field, whose value is the line's bytes, or what was made of
/// them. Written `ID LEVEL`, and `ID LEVEL PART` where the record does not hold a whole line.
///
/// In the name, because each further field of an entry costs Redis a tenth of what the entry costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The line's name.
    pub id: LineId,
    /// How grave it is.
    pub level: Level,
    /// How much of it the record holds.
    pub part: Part,
}

/// A name and a value of an entry.
type Field = (Vec<u8>, Vec<u8>);

impl Label {
    /// What the first field of an entry says, and its value. None where the entry is no record of a line.
    pub fn of(fields: &[Field]) -> Option<(Self, &[u8])> {
        let (name, value) = fields.first()?;
        Some((std::str::from_utf8(name).ok()?.parse().ok()?, value))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.level)?;
        if self.part == Part::Whole { Ok(()) } else { write!(f, " {}", self.part.as_str()) }
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` names no line; it is not FILE:OFFSET LEVEL, or that and a part");
        let mut words = text.splitn(3, ' ');
        let (id, level, part) = (words.next().ok_or_else(fault)?, words.next().ok_or_else(fault)?, words.next());
        let level = Level::new(level.as_bytes()).filter(|known| known.as_str() == level).ok_or_else(fault)?;
        Ok(Self { id: id.parse()?, level, part: part.map_or(Ok(Part::Whole), str::parse)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_lines_survive_a_round_trip_and_have_one_spelling() {
        let text = "9c1185a5c5e9fc54-3a1f-2:1234";
        let id: LineId = text.parse().expect("a line id");
        assert_eq!((id.to_string(), id.offset, id.file.generation), (text.to_owned(), 1234, 2));
        for wrong in [
            "",
            ":1",
            "9c1185a5c5e9fc54-3a1f-2",
            "9C1185A5C5E9FC54-3a1f-2:1",
            "9c-3a1f-2:1",
            "9c1185a5c5e9fc54-3a1f-2:+1",
        ] {
            assert!(wrong.parse::<LineId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_level_is_a_word_in_upper_case_or_none() {
        assert_eq!(Level::new(b"warn").expect("a level").as_str(), "WARN");
        for wrong in [&b""[..], b"a b", b"INFO)", "\u{e4}".as_bytes(), &[b'a'; 33]] {
            assert!(Level::new(wrong).is_none());
        }
    }

    #[test]
    fn a_label_says_what_its_record_holds() {
        let id = "9c1185a5c5e9fc54-3a1f-2:1234";
        for (text, part) in [(format!("{id} INFO"), Part::Whole), (format!("{id} A_1 torn"), Part::Torn)] {
            let label: Label = text.parse().expect("a label");
            assert_eq!((label.to_string(), label.part), (text, part));
        }
        for wrong in ["", " ", " info", " INFO ", " INFO whole", " INFO cut x", "  INFO", "\u{e4} INFO"] {
            assert!(format!("{id}{wrong}").parse::<Label>().is_err(), "{wrong}");
        }
        let fields = [(format!("{id} INFO").into_bytes(), b"x".to_vec()), (b"r".to_vec(), b"y".to_vec())];
        assert_eq!(Label::of(&fields).expect("a record").1, b"x");
        assert_eq!(Label::of(&fields[1..]), None);
        assert_eq!(Label::of(&[]), None);
    }
}
