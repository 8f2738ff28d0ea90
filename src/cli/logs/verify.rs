//! `logs verify`: files and rotated files read again, and compared with what the stream still holds of them.
//!
//! The places of all files are read first, then the stream from its oldest entry to the one that was the newest then: each
//! line before a place was appended before it. So nodes may go on meanwhile.

mod judge;
mod open;
mod report;

use std::collections::HashMap;
use std::io;

use super::pages::{PAGE_FIRST, next_page};
use super::paths::PathGlob;
use super::{Chosen, Desk, Exit};
use crate::actors::log_watcher::{LINES, WatcherState};
use crate::cli::progress::Progress;
use crate::config::LogStart;
use crate::ids::{Address, EntryId, UnitId};
use crate::messages::line::{FileId, Label, Part};
use crate::messages::log_file::LogFile;
use crate::sources::files::Finder;
use crate::store::output::OutputFacts;
use crate::store::{Entry, StoreError};
use crate::supervisor::wiring;
use judge::{Class, Judge, Verdict};
use open::Files;
use report::{Found, Report, SHOWN_MAX, Why};

/// Places of one unit that are read.
const ROWS_MAX: usize = 1_000_000;

/// One file of the tables.
struct Candidate {
    record: LogFile,
    judge: Judge,
    /// Why it is not judged (any more).
    left: Option<Why>,
    /// From this millisecond on its entries may be lines that came again after a rewind.
    rewound_ms: Option<u64>,
    /// Entries that were compared.
    judged: u64,
}

/// What is under way.
struct Check {
    files: HashMap<FileId, Candidate>,
    open: Files,
    report: Report,
    /// Only files that were chosen are looked at, and the others are not even counted.
    is_partial: bool,
}

pub(super) async fn run(desk: &Desk, chosen: &Chosen, glob: Option<&PathGlob>) -> Result<Exit, StoreError> {
    let records = records(desk, chosen, glob).await?;
    let Some(facts) = desk.store.output_facts(&desk.link, &chosen.pipeline, LINES).await? else {
        return Ok(Exit::usage("there is nothing to verify: no line was appended yet"));
    };
    let finder = Finder::new(&wiring::file_options(&chosen.pipeline.name, &chosen.section, &desk.settings));
    let finder = match finder {
        Ok(finder) => finder,
        Err(faults) => return Ok(Exit::usage(&faults.join("; "))),
    };
    // Where nothing ever left the stream, each file must be in it from its first byte on.
    let is_whole = facts.added == facts.length && chosen.section.start == LogStart::Beginning;
    let multiline = chosen.section.record_start.is_some();
    let files = records.into_iter().map(|(host, rewound_ms, record)| {
        let left = host.filter(|host| *host != desk.settings.node.host).map(Why::Host);
        let judge = Judge::new(is_whole.then_some(0), multiline);
        (record.id.clone(), Candidate { record, judge, left, rewound_ms, judged: 0 })
    });
    let mut check = Check {
        files: files.collect(),
        open: Files::new(finder),
        report: Report { pipeline: chosen.pipeline.to_string(), ..Report::default() },
        is_partial: glob.is_some(),
    };
    read(desk, chosen, &facts, is_whole, &mut check).await?;
    check.end();
    Ok(check.report.print(desk.json))
}

/// A file's host, if it belongs to one; since when its lines may have come again, if an operator sent its watcher back; and
/// its record.
type Known = (Option<String>, Option<u64>, LogFile);

/// What is known of all files.
async fn records(desk: &Desk, chosen: &Chosen, glob: Option<&PathGlob>) -> Result<Vec<Known>, StoreError> {
    let mut records = Vec::new();
    for local in desk.store.tables(&desk.link, &chosen.pipeline).await? {
        let host = Address::new(&chosen.pipeline, &local).host().map(str::to_owned);
        let unit = UnitId::exclusive(&chosen.pipeline, &local);
        let (table, _) = desk.store.peek_table(&desk.link, &unit, ROWS_MAX).await?;
        let all = table.values().filter_map(|text| LogFile::parse(text).ok());
        let meant = all.filter(|record| glob.is_none_or(|glob| glob.matches(&record.path)));
        let shown = desk.store.checkpoint(&desk.link, &unit).await?.unwrap_or_default();
        let rewound_ms = serde_json::from_str(&shown.state).ok().and_then(|state: WatcherState| state.rewound_ms);
        records.extend(meant.map(|record| (host.clone(), rewound_ms, record)));
    }
    Ok(records)
}

/// Passes over the stream, page by page.
async fn read(
    desk: &Desk,
    chosen: &Chosen,
    facts: &OutputFacts,
    is_whole: bool,
    check: &mut Check,
) -> Result<(), StoreError> {
    let mut progress = Progress::new("entries", Some(facts.length));
    let (mut after, mut page) = (EntryId::ZERO, PAGE_FIRST);
    loop {
        let entries = desk.store.output(&desk.link, &chosen.pipeline, LINES, after, page).await?;
        let Some(last) = entries.last().map(|entry| entry.id) else { break };
        // What left the stream since the last page cannot be told from what is missing.
        let first = desk.store.output(&desk.link, &chosen.pipeline, LINES, EntryId::ZERO, 1).await?;
        let first = first.first().map_or(EntryId::ZERO, |entry| entry.id);
        let before = if after == EntryId::ZERO { facts.first.filter(|_| is_whole) } else { Some(after) };
        if before.is_some_and(|before| first > before) {
            check.files.values_mut().for_each(|file| file.judge.cut());
        }
        for entry in entries.iter().filter(|entry| entry.id <= facts.last) {
            check.entry(entry);
        }
        progress.set(check.report.entries);
        if last >= facts.last {
            break;
        }
        (after, page) = (last, next_page(page, &entries));
    }
    progress.end();
    Ok(())
}

impl Check {
    fn entry(&mut self, entry: &Entry) {
        self.report.entries += 1;
        let label = Label::of(&entry.fields).filter(|_| entry.fields.len() == 1);
        let Some((Label { id: line, part, .. }, data)) = label else {
            let words = "it is no line: its fields are others";
            let (line, path) = (None, String::new());
            return self.report.add(Found { class: Class::Altered, line, entry: Some(entry.id), path, words });
        };
        let Some(file) = self.files.get_mut(&line.file) else {
            if !self.is_partial {
                self.report.leave(Why::Forgotten, Some(&line.file), 1, 0);
            }
            return;
        };
        if file.left.is_none() {
            let is_rewound = file.rewound_ms.is_some_and(|since| entry.id.ms >= since);
            match judge(&mut self.open, file, line.offset, data, part, is_rewound) {
                Ok(Some(verdict)) => {
                    self.report.judged += 1;
                    file.judged += 1;
                    return self.judged(verdict, &line.file, entry.id);
                }
                Ok(None) => return self.report.leave(Why::Changed, Some(&line.file), 1, 0),
                Err(why) => file.left = Some(why),
            }
        }
        if let Some(why) = file.left.clone() {
            self.report.leave(why, Some(&line.file), 1, 0);
        }
    }

    fn judged(&mut self, verdict: Verdict, id: &FileId, entry: EntryId) {
        let fault = match verdict {
            Verdict::Good => return,
            Verdict::Again => {
                self.report.again += 1;
                return;
            }
            Verdict::Bad(fault) => fault,
        };
        let path = self.files.get(id).map(|file| file.record.path.display().to_string()).unwrap_or_default();
        let line = Some((id.clone(), fault.offset));
        self.report.add(Found { class: fault.class, line, entry: Some(entry), path, words: fault.words });
    }

    /// The stream was read: what of the files is not in it?
    fn end(&mut self) {
        let mut ids: Vec<FileId> = self.files.keys().cloned().collect();
        ids.sort();
        for id in ids {
            let Some(file) = self.files.get_mut(&id) else { continue };
            self.report.files += u64::from(file.judged > 0);
            if file.left.is_none() && file.judge.is_untouched() {
                self.report.leave(Why::Trimmed, Some(&id), 0, file.record.offset);
            } else if file.left.is_none() && file.record.offset > 0 {
                match missing(&mut self.open, file) {
                    Ok((faults, count)) => {
                        let path = file.record.path.display().to_string();
                        let rest = count - faults.len() as u64;
                        for fault in faults {
                            let line = Some((id.clone(), fault.offset));
                            let path = path.clone();
                            let (class, words) = (fault.class, fault.words);
                            self.report.add(Found { class, line, entry: None, path, words });
                        }
                        if rest > 0 {
                            *self.report.counts.entry(Class::Missing).or_default() += rest;
                        }
                    }
                    Err(why) => self.report.leave(why, Some(&id), 0, file.record.offset),
                }
            }
            self.report.leave(Why::Trimmed, Some(&id), 0, file.judge.unjudged);
            self.report.is_rough |= file.judge.is_overfull;
        }
    }
}

/// One entry against its file; none if the file changed under our hands.
fn judge(
    open: &mut Files,
    file: &mut Candidate,
    offset: u64,
    data: &[u8],
    part: Part,
    is_rewound: bool,
) -> Result<Option<Verdict>, Why> {
    let Some(reader) = open.reader(&file.record).map_err(unreadable)? else { return Err(Why::Gone) };
    let verdict = file.judge.entry(offset, data, part, is_rewound, &mut |from, len| reader.bytes(from, len));
    match verdict {
        Ok(Verdict::Bad(_)) | Err(_) if !open.is_still(&file.record) => {
            file.judge.cut();
            Ok(None)
        }
        Ok(verdict) => Ok(Some(verdict)),
        Err(error) => Err(unreadable(error)),
    }
}

/// What of a file has no entry.
fn missing(open: &mut Files, file: &mut Candidate) -> Result<(Vec<judge::Fault>, u64), Why> {
    let place = file.record.offset;
    let Some(reader) = open.reader(&file.record).map_err(unreadable)? else { return Err(Why::Gone) };
    let missing = file.judge.end(place, SHOWN_MAX, &mut |from, len| reader.bytes(from, len)).map_err(unreadable)?;
    if missing.1 > 0 && !open.is_still(&file.record) { Err(Why::Changed) } else { Ok(missing) }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn unreadable(error: io::Error) -> Why {
    Why::Unreadable(error.to_string())
}
