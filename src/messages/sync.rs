//! Words of `sync`: which streams there are, what became of each, and the orders of operators.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

use crate::ids::EntryId;

/// What of a key is written as `%XX`.
const NOT_SHOWN: &AsciiSet = &CONTROLS.add(b'%').add(b' ');

/// Remembered of each kind of note; further ones are added to the last.
pub const NOTES_MAX: usize = 32;

/// Orders for the scout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum ScoutMessage {
    /// Look for streams now.
    Rescan {},
    /// Copy nothing more until told to.
    Pause {},
    /// Go on.
    Resume {},
}

/// What tells a unit that copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum SyncMessage {
    /// The list of its streams has changed, or it is to pause or go on: read both again.
    Look {},
    /// Try a stream again that was left alone; all of them where none is named.
    Retry {
        /// Its name, as [`StreamName::shown`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    },
}

/// A stream of the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// Its database.
    pub db: u16,
    /// Its key, any bytes.
    pub key: Vec<u8>,
}

impl StreamName {
    /// As text that no two streams share: `db0:key`; of the key, bytes that are no printable ASCII, and `%`, as `%XX`.
    /// The name of a row, what people read, and what they write.
    pub fn shown(&self) -> String {
        format!("db{}:{}", self.db, percent_encode(&self.key, NOT_SHOWN))
    }

    /// Reads what [`StreamName::shown`] wrote.
    pub fn of_text(text: &str) -> Option<Self> {
        let (db, key) = text.strip_prefix("db")?.split_once(':')?;
        Some(Self { db: db.parse().ok()?, key: percent_decode_str(key).collect() })
    }

    /// Which of so many units copies it. The same for ever, since all nodes must agree.
    pub fn bucket(&self, buckets: u32) -> u32 {
        let digest = blake3::hash(self.shown().as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        u32::try_from(u64::from_be_bytes(first) % u64::from(buckets.max(1))).unwrap_or(0)
    }
}

/// What the scout knows of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Server milliseconds at which it was found.
    pub since_ms: u64,
    /// Why it is not copied; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
}

/// What kind of thing happened to entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// The source lost them before they were copied.
    Gap,
    /// The target has others under the same ids.
    Conflict,
    /// They are larger than an entry may be.
    Oversize,
    /// The target lost them; what the source still has was copied again.
    TargetLoss,
    /// They cannot be written any more: the target's last id is above them.
    Hole,
    /// The source's stream was deleted and made anew; what the old one had behind this is not known.
    Anew,
}

impl NoteKind {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            NoteKind::Gap => "gap",
            NoteKind::Conflict => "conflict",
            NoteKind::Oversize => "oversize",
            NoteKind::TargetLoss => "target_loss",
            NoteKind::Hole => "hole",
            NoteKind::Anew => "anew",
        }
    }
}

/// Entries that are not on the target as they were on the source, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What happened.
    pub kind: NoteKind,
    /// The ids lie behind this one,
    pub after: String,
    /// and not behind this one.
    pub through: String,
    /// How many; none where the server does not count (before Redis 7.0).
    pub count: Option<u64>,
    /// When it was found, in server milliseconds.
    pub at_ms: u64,
}

/// What is remembered of one stream; written only when something happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamNotes {
    /// Oldest first; at most [`NOTES_MAX`], the last one then stands for all later ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// Why it is left alone; empty while it is copied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stopped: String,
    /// Entries that groups of the source hold and that cannot be held on the target: they are not there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pending_lost: u64,
    /// How far it was copied when this was written; for people, and to tell a flushed target.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub position: String,
    /// Which line of writes of the source it was compared with last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub history: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StreamNotes {
    /// Notes something; the same thing twice is noted once, so a unit that died between note and deed may repeat both.
    pub fn add(&mut self, note: Note) -> bool {
        let same = |known: &Note| known.kind == note.kind && known.after == note.after;
        if let Some(known) = self.notes.iter_mut().find(|known| same(known)) {
            let news = known.through != note.through || known.count != note.count;
            known.through = note.through;
            known.count = note.count;
            return news;
        }
        let is_full = self.notes.len() >= NOTES_MAX;
        match self.notes.last_mut().filter(|last| is_full && last.kind == note.kind) {
            Some(last) => {
                last.through = note.through;
                last.count = last.count.zip(note.count).map(|(a, b)| a.saturating_add(b));
                last.at_ms = note.at_ms;
            }
            None => {
                if self.notes.len() >= 2 * NOTES_MAX {
                    self.notes.remove(0);
                }
                self.notes.push(note);
            }
        }
        true
    }

    /// The entries of one kind, as far as they are counted.
    pub fn count(&self, kind: NoteKind) -> u64 {
        self.notes.iter().filter(|note| note.kind == kind).map(|note| note.count.unwrap_or(0)).sum()
    }

    /// The place up to which it was copied when this was written.
    pub fn position(&self) -> EntryId {
        self.position.parse().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(after: &str, count: Option<u64>) -> Note {
        Note { kind: NoteKind::Gap, after: after.to_owned(), through: "9-9".to_owned(), count, at_ms: 1 }
    }

    #[test]
    fn a_name_survives_its_text_whatever_bytes_it_has() {
        let name = StreamName { db: 12, key: b"a:\xff:db3:b".to_vec() };
        assert_eq!(name.shown(), "db12:a:%FF:db3:b");
        assert_eq!(StreamName::of_text(&name.shown()), Some(name.clone()));
        assert_eq!(StreamName::of_text("x"), None);
        assert!(name.bucket(4) < 4 && name.bucket(4) == name.bucket(4));
        assert_eq!(name.bucket(1), 0);
    }

    #[test]
    fn what_is_noted_twice_counts_once_and_the_list_stays_short() {
        let mut notes = StreamNotes::default();
        assert!(notes.add(note("1-0", Some(5))));
        assert!(!notes.add(note("1-0", Some(5))), "the same again");
        assert_eq!(notes.count(NoteKind::Gap), 5);
        for n in 2..100 {
            notes.add(note(&format!("{n}-0"), Some(1)));
        }
        assert_eq!((notes.notes.len(), notes.count(NoteKind::Gap)), (NOTES_MAX, 5 + 98));
        assert_eq!(notes.count(NoteKind::Conflict), 0);
    }
}
