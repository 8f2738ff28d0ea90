//! What becomes of the lines of one turn. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::places::{Known, Place, UNKNOWN};
use crate::ids::EntryId;
use crate::messages::line::{Label, LineId};
use crate::messages::udm::{Facts, Parser};
use crate::store::Entry;
use crate::store::effect::Fields;

/// Fields of a foreign entry that are kept: a script cannot append many more.
const FOREIGN_FIELDS_MAX: usize = 1000;
/// Longest explanation, in bytes.
const WHY_BYTES_MAX: usize = 1000;
/// What a record takes in a commit beside its names and values, in bytes.
const RECORD_EXTRA: usize = 16;

/// What one turn was given.
pub(super) struct Work<'w> {
    /// The entries, in order; at least one.
    pub entries: &'w [Entry],
    /// Why the first of them, alone, is not to be tried again.
    pub used_up: Option<&'w str>,
    /// Where the files of these lines lie.
    pub places: &'w Known,
    /// How much may be committed.
    pub bounds: Bounds,
}

/// How much may be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of one event's record.
    pub entry_bytes: usize,
    /// Bytes of all events of a commit.
    pub commit_bytes: usize,
}

/// What became of the first so many entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// Events, each behind the label of its line.
    pub events: Vec<Fields>,
    /// Lines that are none, each with its own fields, then `e`, `r`, `w`, `h`, `f`.
    pub unparsed: Vec<Fields>,
    /// How many of those by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// The last entry that was dealt with.
    pub last: EntryId,
}

impl Decided {
    /// Entries that were dealt with.
    pub fn count(&self) -> u64 {
        (self.events.len() + self.unparsed.len()) as u64
    }

    fn set_aside(&mut self, record: Fields, reason: &'static str) {
        self.unparsed.push(record);
        *self.reasons.entry(reason).or_default() += 1;
    }
}

/// One record for each entry, up to the first that finds no room in the commit; at least the first.
pub(super) fn decide(parser: &Parser, work: &Work<'_>) -> Decided {
    let mut decided = Decided::default();
    if let (Some(why), Some(first)) = (work.used_up, work.entries.first()) {
        let place = line_id(first).map_or(&UNKNOWN, |id| work.places.of(&id.file));
        decided.set_aside(unparsed(first, ("failed", why), place), "failed");
        decided.last = first.id;
        return decided;
    }
    let mut bytes = 0;
    for entry in work.entries {
        match outcome(parser, entry, work) {
            Ok((event, size)) if decided.count() > 0 && bytes + size > work.bounds.commit_bytes => {
                drop(event);
                break;
            }
            Ok((event, size)) => {
                bytes += size;
                decided.events.push(event);
            }
            Err((record, reason)) => decided.set_aside(record, reason),
        }
        decided.last = entry.id;
    }
    decided
}

type Outcome = Result<(Fields, usize), (Fields, &'static str)>;

/// The record of an event and its size, or the record of what is none and the word for why.
fn outcome(parser: &Parser, entry: &Entry, work: &Work<'_>) -> Outcome {
    let Some((label, line)) = Label::of(&entry.fields) else {
        let why = ("foreign", "no line of a file: it has no id");
        return Err((unparsed(entry, why, &UNKNOWN), why.0));
    };
    let place = work.places.of(&label.id.file);
    let facts = Facts {
        id: &label.id,
        level: &label.level,
        part: label.part,
        received: i64::try_from(entry.id.ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or_default(),
        host: &place.host,
        file: &place.file,
    };
    let refused = |word: &'static str, why: &str| Err((unparsed(entry, (word, why), place), word));
    let event = match parser.parse(line, &facts) {
        Ok(event) => event,
        Err(why) => return refused(why.word(), &why.to_string()),
    };
    let json = match serde_json::to_vec(&event) {
        Ok(json) => json,
        // Numbers and texts always become JSON.
        Err(why) => return refused("failed", &why.to_string()),
    };
    let record: Fields = vec![(label.to_string().into_bytes(), json)];
    let size = record.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + RECORD_EXTRA;
    let most = work.bounds.entry_bytes.min(work.bounds.commit_bytes);
    if size > most {
        return refused(
            "too_long",
            &format!("its event takes {size} bytes; at most {most} fit (mailbox.entry_bytes_max)"),
        );
    }
    Ok((record, size))
}

fn field(name: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

/// The id of the line that an entry holds; none where it is no line.
pub(super) fn line_id(entry: &Entry) -> Option<LineId> {
    Label::of(&entry.fields).map(|(label, _)| label.id)
}

/// The record of what is no event: its own fields as they are (of a foreign entry behind `x.`, so that none of them can be
/// taken for ours), then its entry in the stream, the reason as a word and as a sentence, host and file.
fn unparsed(entry: &Entry, (reason, why): (&str, &str), place: &Place) -> Fields {
    let is_line = line_id(entry).is_some();
    let own = entry.fields.iter().take(FOREIGN_FIELDS_MAX).map(|(name, value)| {
        let name = if is_line { name.clone() } else { [b"x.", name.as_slice()].concat() };
        (name, value.clone())
    });
    let end = (0..=why.len().min(WHY_BYTES_MAX)).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
    let said = [
        field("e", entry.id.to_string()),
        field("r", reason),
        field("w", &why[..end]),
        field("h", &place.host),
        field("f", &place.file),
    ];
    own.chain(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::udm::Mapping;

    const FILE: &str = "9c1185a5c5e9fc54-3a1f-0";

    fn line(offset: u64, text: &str) -> Entry {
        let fields = vec![(format!("{FILE}:{offset} INFO").into_bytes(), text.as_bytes().to_vec())];
        Entry { id: EntryId { ms: 1_700_000_000_000, seq: offset }, fields }
    }

    fn decided(entries: &[Entry], used_up: Option<&str>, bounds: Bounds) -> Decided {
        let parser =
            Parser::new(&Mapping { preset: Some("json".to_owned()), ..Mapping::default() }).expect("a mapping");
        let mut places = Known::default();
        places.insert(FILE.parse().expect("a file"), Place { host: "h".to_owned(), file: "/l/a.log".to_owned() });
        decide(&parser, &Work { entries, used_up, places: &places, bounds })
    }

    const WIDE: Bounds = Bounds { entry_bytes: 10_000, commit_bytes: 10_000 };

    fn text(record: &Fields, name: &str) -> String {
        let found = record.iter().find(|(n, _)| n == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }

    fn label(record: &Fields) -> String {
        Label::of(record).expect("a label").0.to_string()
    }

    #[test]
    fn each_entry_is_one_record_in_its_order() {
        let mut foreign = line(3, "x");
        foreign.fields = vec![(b"r".to_vec(), b"mine".to_vec())];
        let entries = [line(1, r#"{"msg":"a"}"#), line(2, "{"), foreign, line(4, r#"{"msg":"b"}"#)];
        let decided = decided(&entries, None, WIDE);
        let ids: Vec<String> = decided.events.iter().map(label).collect();
        assert_eq!(ids, [format!("{FILE}:1 INFO"), format!("{FILE}:4 INFO")]);
        assert!(text(&decided.events[0], &ids[0]).contains(r#""gapless.file":"/l/a.log""#));
        assert_eq!(decided.reasons, BTreeMap::from([("foreign", 1), ("not_json", 1)]));
        let said = [&label(&decided.unparsed[0]), "r", "h", "f", "e"].map(|name| text(&decided.unparsed[0], name));
        assert_eq!(said, ["{", "not_json", "h", "/l/a.log", "1700000000000-2"]);
        assert_eq!(
            (text(&decided.unparsed[1], "x.r"), text(&decided.unparsed[1], "r")),
            ("mine".into(), "foreign".into())
        );
        assert_eq!((decided.last.seq, decided.count()), (4, 4));
    }

    #[test]
    fn a_commit_ends_before_the_event_that_does_not_fit_and_what_fits_none_is_set_aside() {
        let long = format!(r#"{{"msg":"{}"}}"#, "x".repeat(600));
        let entries = [line(1, &long), line(2, &long), line(3, "{}")];
        let narrow = Bounds { entry_bytes: 2000, commit_bytes: 1400 };
        let first = decided(&entries, None, narrow);
        assert_eq!((first.events.len(), first.last.seq), (1, 1));
        let none = decided(&entries, None, Bounds { entry_bytes: 700, commit_bytes: 2000 });
        assert_eq!((none.reasons["too_long"], none.events.len(), none.last.seq), (2, 1, 3));
    }

    #[test]
    fn a_line_that_has_used_up_its_attempts_is_set_aside_alone() {
        let decided = decided(&[line(1, "{}"), line(2, "{}")], Some("5 failed attempts"), WIDE);
        assert_eq!((decided.count(), decided.last.seq, decided.reasons["failed"]), (1, 1, 1));
        assert_eq!(text(&decided.unparsed[0], "w"), "5 failed attempts");
    }
}
