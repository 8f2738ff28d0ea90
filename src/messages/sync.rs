//! Words of `sync`: which streams there are, what became of each, and the orders of operators.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

use super::evidence::ChainEnd;
use crate::ids::EntryId;

/// What of a key is written as `%XX`.
const NOT_SHOWN: &AsciiSet = &CONTROLS.add(b'%').add(b' ');

/// Longest name that stands as it is, in bytes; of a longer one a part and a digest do.
const NAME_BYTES_MAX: usize = 1024;
/// What is shown of a longer one.
const NAME_BYTES_SHOWN: usize = 200;
/// Longest key, as a row can hold it: in bytes after escaping.
const KEY_BYTES_MAX: usize = 12 * 1024;
/// Between the part and the digest; no key is shown with it, since `%` is always escaped.
const CUT: &str = "%#";

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
    /// As text that no two streams share: `db0:key`; of the key, bytes that are no printable ASCII, and `%`, as `%XX`; of
    /// a name of more than a kibibyte the beginning and a digest. The name of a row, what people read, and what they write.
    pub fn shown(&self) -> String {
        let mut text = format!("db{}:{}", self.db, self.escaped());
        if text.len() > NAME_BYTES_MAX {
            text.truncate(NAME_BYTES_SHOWN);
            text.push_str(CUT);
            text.push_str(&blake3::hash(&self.key).to_hex());
        }
        text
    }

    fn escaped(&self) -> String {
        percent_encode(&self.key, NOT_SHOWN).to_string()
    }

    /// The key for its row, where the row's name does not tell it.
    pub fn long_key(&self) -> Option<String> {
        self.shown().contains(CUT).then(|| self.escaped())
    }

    /// Why its key is too long for a row; none where it is not.
    pub fn is_too_long(&self) -> Option<String> {
        let length = self.escaped().len();
        let words = || format!("a key of {} bytes, {length} when escaped; at most {KEY_BYTES_MAX}", self.key.len());
        (length > KEY_BYTES_MAX).then(words)
    }

    /// Reads what [`StreamName::shown`] wrote of a name that is not cut.
    pub fn of_text(text: &str) -> Option<Self> {
        let (db, key) = text.strip_prefix("db")?.split_once(':')?;
        (!key.contains(CUT)).then_some(())?;
        Some(Self { db: db.parse().ok()?, key: percent_decode_str(key).collect() })
    }
}

/// Which of so many units a stream goes to first, other things being equal, and whose it is where its row does not say.
pub fn bucket_of(row: &str, buckets: u32) -> u32 {
    let digest = blake3::hash(row.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u32::try_from(u64::from_be_bytes(first) % u64::from(buckets.max(1))).unwrap_or(0)
}

/// The database of a row, whatever its key.
pub fn database_of(row: &str) -> Option<u16> {
    row.strip_prefix("db")?.split_once(':')?.0.parse().ok()
}

/// What the scout knows of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Server milliseconds at which it was found.
    pub since_ms: u64,
    /// Why it is not copied; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// The key, escaped, where the name of the row does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which unit copies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u32>,
    /// Which one did before; what is noted of it until then lies there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u32>,
}

impl StreamRow {
    /// The unit that copies the stream of this row, of so many.
    pub fn bucket(&self, row: &str, buckets: u32) -> u32 {
        self.bucket.filter(|bucket| *bucket < buckets).unwrap_or_else(|| bucket_of(row, buckets))
    }

    /// The stream that a row is of; none where its key is longer than a row can hold.
    pub fn name(&self, row: &str) -> Option<StreamName> {
        match &self.key {
            Some(key) => Some(StreamName { db: database_of(row)?, key: percent_decode_str(key).collect() }),
            None => StreamName::of_text(row),
        }
    }
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
    /// The chain of evidence on the target is not the one that was seen there; it is kept on from there.
    Evidence,
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
            NoteKind::Evidence => "evidence",
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
    /// Of a conflict: those of them that only the target had, the topmost 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_there: Vec<String>,
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
    /// Where the chain of evidence ended when this was written, if one is kept.
    #[serde(default, skip_serializing_if = "no_chain")]
    pub proof: ChainEnd,
}

fn no_chain(end: &ChainEnd) -> bool {
    *end == ChainEnd::default()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StreamNotes {
    /// Entries that the source never had, as conflicts say.
    pub fn foreign(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.notes.iter().flat_map(|note| &note.only_there).filter_map(|id| id.parse().ok())
    }

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
        Note {
            kind: NoteKind::Gap,
            after: after.to_owned(),
            through: "9-9".to_owned(),
            count,
            only_there: Vec::new(),
            at_ms: 1,
        }
    }

    #[test]
    fn a_name_survives_its_text_whatever_bytes_it_has() {
        let name = StreamName { db: 12, key: b"a:\xff:db3:b".to_vec() };
        assert_eq!(name.shown(), "db12:a:%FF:db3:b");
        assert_eq!(StreamName::of_text(&name.shown()), Some(name.clone()));
        assert_eq!(StreamName::of_text("x"), None);
        assert!(bucket_of("db0:a", 4) < 4 && bucket_of("db0:a", 4) == bucket_of("db0:a", 4));
        assert_eq!(bucket_of("db0:a", 1), 0);
    }

    #[test]
    fn a_long_name_is_cut_and_its_row_tells_the_key() {
        let long = |last: u8| StreamName { db: 3, key: [vec![b'%'; 2000], vec![last]].concat() };
        let (name, row) = (long(1), StreamRow { key: long(1).long_key(), ..StreamRow::default() });
        assert!(name.shown().len() < NAME_BYTES_MAX && name.shown() != long(2).shown());
        assert_eq!(StreamName::of_text(&name.shown()), None);
        assert_eq!(row.name(&name.shown()), Some(name.clone()));
        assert_eq!((name.is_too_long(), database_of(&name.shown())), (None, Some(3)));
        // A key that is written as such a name is cut is another stream.
        let like = StreamName { db: 3, key: name.shown().as_bytes()[4..].to_vec() };
        assert_ne!(like.shown(), name.shown());
        let too_long = StreamName { db: 0, key: vec![b'x'; KEY_BYTES_MAX + 1] };
        assert!(too_long.is_too_long().is_some());
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
