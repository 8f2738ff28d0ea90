//! What `logs verify` tells at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::judge::Class;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::words::{bytes, count, grouped, plain};
use crate::ids::EntryId;
use crate::messages::line::FileId;

/// Findings that are told one by one; the rest is counted.
pub(super) const SHOWN_MAX: usize = 1000;

/// Why something was not judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Their entries may have left the stream, or never were to be in it (`start`).
    Trimmed,
    /// No file holds the bytes any more.
    Gone,
    /// The file lies on this host.
    Host(String),
    /// The place of the file is not kept any more.
    Forgotten,
    /// The file was truncated, or changed its form, while it was read.
    Changed,
    /// The file cannot be read, and why.
    Unreadable(String),
}

impl Why {
    fn words(&self) -> String {
        match self {
            Self::Trimmed => "before what the stream still holds of them".to_owned(),
            Self::Gone => "no file holds the bytes any more".to_owned(),
            Self::Host(host) => format!("the files lie on the host {host}: run it there"),
            Self::Forgotten => "the places of the files are not kept any more".to_owned(),
            Self::Changed => "the files changed while they were read: run it again".to_owned(),
            Self::Unreadable(reason) => reason.clone(),
        }
    }
}

/// What was not judged for one reason.
#[derive(Debug, Default)]
pub(super) struct Unjudged {
    pub files: BTreeSet<FileId>,
    pub entries: u64,
    pub bytes: u64,
}

/// One finding.
#[derive(Debug)]
pub(super) struct Found {
    pub class: Class,
    /// The line; none where an entry names none.
    pub line: Option<(FileId, u64)>,
    /// The entry; none of a line that has none.
    pub entry: Option<EntryId>,
    pub path: String,
    pub words: &'static str,
}

impl Found {
    fn id(&self) -> String {
        match (&self.line, self.entry) {
            (Some((file, offset)), _) => format!("{file}:{offset}"),
            (None, Some(entry)) => format!("entry {entry}"),
            (None, None) => String::new(),
        }
    }
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub pipeline: String,
    /// Entries that were read.
    pub entries: u64,
    /// Entries that were compared with their file.
    pub judged: u64,
    /// Files that were compared.
    pub files: u64,
    pub found: Vec<Found>,
    pub counts: BTreeMap<Class, u64>,
    /// Lines that came again after a rewind, as they should.
    pub again: u64,
    pub not_judged: BTreeMap<Why, Unjudged>,
    /// So much is missing somewhere that late entries are told as doubled.
    pub is_rough: bool,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, found: Found) {
        *self.counts.entry(found.class).or_default() += 1;
        if self.found.len() < SHOWN_MAX {
            self.found.push(found);
        }
    }

    /// Adds what was not judged.
    pub fn leave(&mut self, why: Why, file: Option<&FileId>, entries: u64, bytes: u64) {
        if entries == 0 && bytes == 0 {
            return;
        }
        let unjudged = self.not_judged.entry(why).or_default();
        unjudged.files.extend(file.cloned());
        unjudged.entries += entries;
        unjudged.bytes += bytes;
    }

    fn faults(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Prints it; 1 if anything is wrong.
    pub fn print(mut self, json: bool) -> Exit {
        self.found.sort_by(|a, b| (&a.path, &a.line, a.entry).cmp(&(&b.path, &b.line, b.entry)));
        let exit = if self.faults() == 0 { Exit::good() } else { Exit::found() };
        if json { output::json(&self.to_json(), exit) } else { output::text(&self.to_text(), exit) }
    }

    fn to_json(&self) -> Value {
        let found = self.found.iter().map(|found| {
            json!({
                "class": found.class.as_str(), "id": found.line.as_ref().map(|_| found.id()),
                "entry": found.entry.map(|id| id.to_string()), "file": found.path, "words": found.words,
            })
        });
        let not_judged = self.not_judged.iter().map(|(why, unjudged)| {
            json!({
                "why": why.words(), "files": unjudged.files.len(), "entries": unjudged.entries, "bytes": unjudged.bytes,
            })
        });
        let of = |class| self.counts.get(&class).copied().unwrap_or(0);
        json!({
            "pipeline": self.pipeline, "entries": self.entries, "judged": self.judged, "files": self.files,
            "faults": self.faults(),
            "missing": of(Class::Missing), "altered": of(Class::Altered), "doubled": of(Class::Doubled),
            "reordered": of(Class::Reordered), "again": self.again, "rough": self.is_rough,
            "found": found.collect::<Vec<_>>(), "more": self.faults() - self.found.len() as u64,
            "not_judged": not_judged.collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let mut lines: Vec<String> = self
            .found
            .iter()
            .map(|found| {
                let entry = found.entry.filter(|_| found.line.is_some());
                let entry = entry.map_or_else(String::new, |id| format!(" (entry {id})"));
                let (class, id, path) = (found.class.as_str(), found.id(), plain(&found.path));
                format!("{class:<9}  {id}{entry}  {path}: {}", found.words)
            })
            .collect();
        let more = self.faults() - self.found.len() as u64;
        if more > 0 {
            lines.push(format!("... and {} more", grouped(more)));
        }
        lines.push(self.verdict());
        if self.again > 0 {
            let again = grouped(self.again);
            lines.push(format!("{again} of them came again after a rewind, for they had left the stream"));
        }
        if self.is_rough {
            lines.push("so much is missing in one file that what came late of it counts as doubled".to_owned());
        }
        for (why, unjudged) in &self.not_judged {
            let files = count(unjudged.files.len(), "file", "files");
            let what = match (unjudged.entries, unjudged.bytes) {
                (0, size) => format!("{} of {files}", bytes(size)),
                (entries, 0) => format!("{} of {files}", entries_words(entries)),
                (entries, size) => format!("{} and {} of {files}", entries_words(entries), bytes(size)),
            };
            lines.push(format!("not judged: {what}: {}", plain(&why.words())));
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn verdict(&self) -> String {
        let files = count(usize::try_from(self.files).unwrap_or(usize::MAX), "file", "files");
        let judged = format!("{} of {files}", entries_words(self.judged));
        if self.faults() == 0 && self.judged == 0 {
            let none = if self.entries == 0 { "the stream holds no line that" } else { "no line of the stream" };
            return format!("{none} could be compared with its file");
        }
        if self.faults() == 0 {
            return format!("{judged}: each line once, as it is in its file, in order");
        }
        let classes: Vec<String> =
            self.counts.iter().map(|(class, count)| format!("{} {}", grouped(*count), class.as_str())).collect();
        format!("{judged} are NOT as the files are: {}", classes.join(", "))
    }
}

fn entries_words(entries: u64) -> String {
    count(usize::try_from(entries).unwrap_or(usize::MAX), "entry", "entries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_named_with_their_line_and_what_was_not_judged_with_its_reason() {
        let file = FileId { head: 1, inode: 2, generation: 0 };
        let mut report = Report { entries: 9, judged: 7, files: 2, ..Report::default() };
        assert_eq!(report.to_text(), "7 entries of 2 files: each line once, as it is in its file, in order\n");
        let none = Report { judged: 0, ..Report::default() };
        assert_eq!(none.to_text(), "the stream holds no line that could be compared with its file\n");
        let none = Report { entries: 9, ..none };
        assert_eq!(none.to_text(), "no line of the stream could be compared with its file\n");
        let line = |offset| Some((file.clone(), offset));
        let entry = Some(EntryId { ms: 5, seq: 1 });
        for (class, line, entry, words) in [
            (Class::Missing, line(4), None, "it has no entry in the stream"),
            (Class::Altered, None, entry, "its id is none of a line"),
            (Class::Doubled, line(8), entry, "its id stands in the stream before"),
        ] {
            report.add(Found { class, line, entry, path: "/l/a.log".to_owned(), words });
        }
        report.leave(Why::Gone, Some(&file), 2, 0);
        report.leave(Why::Trimmed, Some(&file), 0, 2048);
        assert_eq!(
            report.to_text(),
            "missing    0000000000000001-2-0:4  /l/a.log: it has no entry in the stream\n\
             altered    entry 5-1  /l/a.log: its id is none of a line\n\
             doubled    0000000000000001-2-0:8 (entry 5-1)  /l/a.log: its id stands in the stream before\n\
             7 entries of 2 files are NOT as the files are: 1 missing, 1 altered, 1 doubled\n\
             not judged: 2.0 KiB of 1 file: before what the stream still holds of them\n\
             not judged: 2 entries of 1 file: no file holds the bytes any more\n"
        );
    }
}
