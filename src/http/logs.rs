//! How the files of a logs pipeline stand: the places that Redis holds, and the files themselves where they lie on this
//! host. `gapless logs status` shows it whole, `gapless status` in a line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::status::Summary;
use crate::actors::log_parser::ParserState;
use crate::actors::log_watcher::{LINES, WatcherState};
use crate::config::Settings;
use crate::ids::{Address, PipelineId, UnitId};
use crate::messages::log_file::LogFile;
use crate::store::checkpoint::Shown;
use crate::store::link::Link;
use crate::store::membership::NodeInfo;
use crate::store::output::OutputFacts;
use crate::store::{Store, StoreError};
use crate::supervisor::wiring;

/// Places of one unit that the summary reads: beyond it, its figures are lower bounds.
const SUMMARY_ROWS_MAX: usize = 1000;
/// Bytes behind a place in which the end of a line is looked for.
const PEEK_BYTES: u64 = 64 * 1024;

/// One pipeline.
#[derive(Debug, Clone)]
pub struct LogsSeen {
    /// Its LogWatchers, by unit.
    pub watchers: Vec<WatcherSeen>,
    /// Its files, by host and path.
    pub files: Vec<FileSeen>,
    /// There are more places than were read.
    pub has_more: bool,
    /// The stream of lines; none before the first line.
    pub stream: Option<OutputFacts>,
    /// Its LogParser; none where lines do not become events.
    pub parser: Option<ParserSeen>,
}

/// The LogParser.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ParserSeen {
    /// `kind.name/log_parser`.
    pub unit: String,
    /// Lines that became events, ever.
    pub events: u64,
    /// Lines that became none, ever.
    pub unparsed: u64,
    /// The same by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Lines that are not parsed yet.
    pub lag: u64,
    /// Lines that left the stream before they were parsed, ever.
    pub missed: u64,
    /// Records that the two outputs hold.
    pub held: [u64; 2],
    /// Of what left the two outputs, what some reader had not acknowledged, or nobody read.
    pub dropped: [u64; 2],
    /// Milliseconds since its last commit; none before the first.
    pub commit_age_ms: Option<u64>,
    /// A living node may run it.
    pub runs: bool,
    /// What the node that runs it says it waits for; empty where nothing keeps it waiting.
    pub waits: String,
}

/// One LogWatcher.
#[derive(Debug, Clone, Serialize)]
pub struct WatcherSeen {
    /// `kind.name/log_watcher@HOST`.
    pub unit: String,
    /// Its host; empty where the folders are the same on every host.
    pub host: String,
    /// Places that it keeps, as far as they were read.
    pub files: usize,
    /// Lines that it appended, ever.
    pub lines: u64,
    /// Milliseconds since an operator paused it; none if it is not paused.
    pub paused_age_ms: Option<u64>,
    /// Milliseconds since its last commit; none before the first.
    pub commit_age_ms: Option<u64>,
    /// A living node may run it.
    pub runs: bool,
    /// It keeps places, and no living node may run it.
    pub orphan: bool,
    /// What the node that runs it says it waits for; empty where nothing keeps it waiting.
    pub waits: String,
}

/// What a file is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// It stands under a followed name.
    Followed,
    /// It was rotated and is not read to its end yet.
    Rotated,
    /// It was rotated and read to its end.
    Finished,
    /// It stands under no name that is known.
    Gone,
}

impl FileState {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            FileState::Followed => "followed",
            FileState::Rotated => "rotated",
            FileState::Finished => "finished",
            FileState::Gone => "gone",
        }
    }
}

/// One file.
#[derive(Debug, Clone, Serialize)]
pub struct FileSeen {
    /// Where it was last seen.
    pub path: String,
    /// Its host; empty where the folders are the same on every host.
    pub host: String,
    /// The name of its lines: what stands before the colon of a line's id.
    pub file: String,
    /// What it is doing.
    pub state: FileState,
    /// Bytes of it whose lines are in the stream (unpacked, where it is packed).
    pub offset: u64,
    /// Its size: of the file itself where it lies on this host, else as it was last committed.
    pub size: u64,
    /// Bytes that are not in the stream; an unfinished last line counts.
    pub behind: u64,
    /// For how many milliseconds the oldest of them has been waiting at the most; none where it is not known, and of an
    /// unfinished line.
    pub oldest_ms: Option<u64>,
    /// `size` is of the file itself.
    pub looked_at: bool,
    /// Why it cannot be looked at; empty if it can.
    pub fault: String,
}

impl FileSeen {
    /// Whether it still matters: it is followed, or something of it is to come.
    pub fn is_open(&self) -> bool {
        self.behind > 0 || matches!(self.state, FileState::Followed | FileState::Rotated)
    }
}

/// Asks for everything of one pipeline; `rows_max` places of each unit at the most.
pub async fn look(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
    (nodes, time_ms): (&[NodeInfo], u64),
    rows_max: usize,
) -> Result<LogsSeen, StoreError> {
    let own = wiring::source(settings, pipeline);
    let mut units: Vec<Address> = vec![own.clone()];
    let tables = store.tables(link, pipeline).await?;
    units.extend(tables.iter().map(|local| Address::new(pipeline, local)).filter(is_watcher));
    let runs = nodes.iter().flat_map(|node| &node.runs).filter_map(|address| address.parse::<Address>().ok());
    units.extend(runs.filter(|address| address.pipeline == *pipeline && is_watcher(address)));
    units.sort();
    units.dedup();
    let mut seen = LogsSeen { watchers: Vec::new(), files: Vec::new(), has_more: false, stream: None, parser: None };
    for address in units {
        let unit = UnitId::exclusive(pipeline, &address.actor);
        let (table, has_more) = store.peek_table(link, &unit, rows_max).await?;
        let records: Vec<LogFile> = table.values().filter_map(|text| LogFile::parse(text).ok()).collect();
        let shown = store.checkpoint(link, &unit).await?.unwrap_or_default();
        seen.watchers.push(watcher(&address, &shown, records.len(), nodes, time_ms));
        seen.has_more |= has_more;
        let host = address.host().unwrap_or_default().to_owned();
        let is_here = address.host().is_none_or(|host| host == settings.node.host);
        seen.files.extend(files(records, host, is_here).await);
    }
    seen.files.sort_by(|a, b| (&a.host, &a.path, &a.file).cmp(&(&b.host, &b.path, &b.file)));
    seen.stream = store.output_facts(link, pipeline, LINES).await?;
    seen.parser = parser(settings, store, link, pipeline, (nodes, time_ms), seen.stream.as_ref()).await?;
    Ok(seen)
}

async fn parser(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
    (nodes, time_ms): (&[NodeInfo], u64),
    stream: Option<&OutputFacts>,
) -> Result<Option<ParserSeen>, StoreError> {
    let section = settings.logs.get(&pipeline.name).and_then(|section| section.parse.as_ref());
    let Some(section) = section else { return Ok(None) };
    let unit = UnitId::exclusive(pipeline, wiring::LOG_PARSER);
    let shown = store.checkpoint(link, &unit).await?.unwrap_or_default();
    let state = ParserState::parse(&shown.state).unwrap_or_default();
    let events = store.output_facts(link, pipeline, &section.events).await?.unwrap_or_default();
    let unparsed = store.output_facts(link, pipeline, &section.unparsed).await?.unwrap_or_default();
    let name = unit.to_string();
    Ok(Some(ParserSeen {
        lag: stream.map_or(0, |stream| lag(stream, &state, &shown.offset)),
        missed: store.missed(link, &unit, LINES).await?,
        held: [events.length, unparsed.length],
        dropped: [events.dropped.unread, unparsed.dropped.unread],
        commit_age_ms: (shown.committed_ms > 0).then(|| time_ms.saturating_sub(shown.committed_ms)),
        runs: nodes.iter().any(|node| node.runs.contains(&name)),
        waits: waits(nodes, &name),
        unit: name,
        events: state.events,
        unparsed: state.unparsed,
        reasons: state.reasons,
    }))
}

/// Lines that are not parsed yet.
fn lag(stream: &OutputFacts, state: &ParserState, offset: &str) -> u64 {
    if offset == stream.last.to_string() {
        return 0;
    }
    let place = state.place.unwrap_or_else(|| stream.added.saturating_sub(stream.length));
    stream.added.saturating_sub(place).min(stream.length)
}

/// What a unit waits for, by the word of its node.
fn waits(nodes: &[NodeInfo], unit: &str) -> String {
    let reports = nodes.iter().flat_map(|node| &node.units);
    let waiting = reports.filter(|report| report.unit == unit && report.state == "waiting");
    waiting.map(|report| report.last_error.clone()).next().unwrap_or_default()
}

fn is_watcher(address: &Address) -> bool {
    address.actor.split('@').next() == Some(wiring::LOG_WATCHER)
}

fn watcher(address: &Address, shown: &Shown, files: usize, nodes: &[NodeInfo], time_ms: u64) -> WatcherSeen {
    let name = address.to_string();
    let runs = nodes.iter().any(|node| node.runs.contains(&name));
    let state: WatcherState = serde_json::from_str(&shown.state).unwrap_or_default();
    WatcherSeen {
        host: address.host().unwrap_or_default().to_owned(),
        files,
        lines: state.lines,
        paused_age_ms: state.paused_ms.map(|since| time_ms.saturating_sub(since)),
        commit_age_ms: (shown.committed_ms > 0).then(|| time_ms.saturating_sub(shown.committed_ms)),
        runs,
        orphan: files > 0 && !runs,
        waits: waits(nodes, &name),
        unit: name,
    }
}

/// Files are looked at off this thread: a network file system may hang.
async fn files(records: Vec<LogFile>, host: String, is_here: bool) -> Vec<FileSeen> {
    let look = move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        records.into_iter().map(|record| file(&record, &host, is_here, now)).collect()
    };
    // Fails only where the process ends.
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// One file: its record, and where it lies here, the file itself.
fn file(record: &LogFile, host: &str, is_here: bool, now: u64) -> FileSeen {
    let (mut size, mut fault, mut looked_at, mut is_gone) =
        (record.size.max(record.offset), String::new(), false, record.gone_seconds.is_some());
    let mut waits = None;
    if is_here {
        match fs::metadata(&record.path) {
            Ok(meta) if meta.ino() == record.inode && meta.len() >= record.offset && record.packed.is_none() => {
                (size, looked_at) = (meta.len(), true);
                waits = (size > record.offset).then(|| has_line_end(record)).flatten();
            }
            // Packed, or another file by now; of the latter only its watcher knows more.
            Ok(meta) => is_gone |= meta.ino() != record.inode,
            Err(error) if error.kind() == ErrorKind::NotFound => is_gone = true,
            Err(error) => fault = error.to_string(),
        }
    }
    let state = match (record.finished, is_gone, record.rotated) {
        (true, ..) => FileState::Finished,
        (false, true, _) => FileState::Gone,
        (false, false, true) => FileState::Rotated,
        (false, false, false) => FileState::Followed,
    };
    // Written after the change that the record knows of.
    let since = u64::try_from(record.mtime).unwrap_or(0);
    let oldest_ms = waits.filter(|waits| *waits).map(|_| now.saturating_sub(since).saturating_mul(1000));
    FileSeen {
        path: record.path.display().to_string(),
        host: host.to_owned(),
        file: record.id.to_string(),
        state,
        offset: record.offset,
        size,
        behind: if record.finished { 0 } else { size.saturating_sub(record.offset) },
        oldest_ms,
        looked_at,
        fault,
    }
}

/// Whether a line ends behind the place; none where that cannot be read.
fn has_line_end(record: &LogFile) -> Option<bool> {
    let mut file = File::open(&record.path).ok()?;
    file.seek(SeekFrom::Start(record.offset)).ok()?;
    let mut bytes = Vec::new();
    file.take(PEEK_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes.contains(&b'\n') || bytes.len() as u64 == PEEK_BYTES)
}

/// The summary of one logs pipeline; none before the first node.
pub async fn logs_summary(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
    now: (&[NodeInfo], u64),
) -> Result<Option<Summary>, StoreError> {
    let Some(section) = settings.logs.get(&pipeline.name) else { return Ok(None) };
    let seen = look(settings, store, link, pipeline, now, SUMMARY_ROWS_MAX).await?;
    if seen.files.is_empty() && seen.stream.is_none() && seen.watchers.iter().all(|w| w.commit_age_ms.is_none()) {
        return Ok(None);
    }
    Ok(Some(sum_up(&seen, section.stream_entries_max)))
}

/// The line of a picture. Pure.
fn sum_up(seen: &LogsSeen, entries_max: u64) -> Summary {
    let lines: u64 = seen.watchers.iter().map(|watcher| watcher.lines).sum();
    let open: Vec<&FileSeen> = seen.files.iter().filter(|file| file.is_open()).collect();
    let behind: u64 = open.iter().map(|file| file.behind).sum();
    let late = open.iter().filter(|file| file.behind > 0).count();
    let orphans: BTreeMap<&str, usize> =
        seen.watchers.iter().filter(|w| w.orphan).map(|w| (w.host.as_str(), w.files)).collect();
    let stream = seen.stream.clone().unwrap_or_default();
    let lag = stream.groups.iter().map(|group| group.lag.unwrap_or(0) + group.pending).max();
    let oldest_ms = open.iter().filter_map(|file| file.oldest_ms).max();
    let oldest = oldest_ms.map_or_else(String::new, |ms| format!(" (the oldest {} s)", ms / 1000));
    let words = format!(
        "lines {lines}, behind {behind} bytes in {late} of {} files{}{oldest}, stream {}{}{}{}{}",
        open.len(),
        if seen.has_more { " (or more)" } else { "" },
        stream.length,
        lag.map_or_else(String::new, |lag| format!(", lag {lag}")),
        if stream.dropped.unread > 0 { format!(", dropped {}", stream.dropped.unread) } else { String::new() },
        seen.parser.as_ref().map_or_else(String::new, parsed),
        if orphans.is_empty() { String::new() } else { ", ALARM: orphans (gapless logs status)".to_owned() },
    );
    let facts = serde_json::json!({
        "lines": lines, "files": open.len(), "behind": behind, "behind_files": late, "whole": !seen.has_more,
        "oldest_ms": oldest_ms, "orphans": orphans.keys().collect::<Vec<_>>(),
        "stream": stream.length, "stream_max": entries_max, "groups": stream.groups.len(), "lag": lag,
        "dropped": stream.dropped.unread, "parser": seen.parser,
    });
    Summary { words, facts }
}

fn parsed(parser: &ParserSeen) -> String {
    let named = |name: &str, n: u64| if n > 0 { format!(", {name} {n}") } else { String::new() };
    let (lag, missed) = (named("parse lag", parser.lag), named("missed", parser.missed));
    format!(", events {}, unparsed {}{lag}{missed}", parser.events, parser.unparsed)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::ids::Kind;
    use crate::messages::line::FileId;
    use crate::messages::log_file::{LOG_FILE_VERSION, Print, marker_of};
    use crate::store::output::GroupFacts;

    fn record(path: &std::path::Path, offset: u64, mtime: i64) -> LogFile {
        let inode = fs::metadata(path).map_or(7, |meta| meta.ino());
        LogFile {
            version: LOG_FILE_VERSION,
            id: FileId { head: 1, inode, generation: 0 },
            path: path.to_owned(),
            dev: 1,
            inode,
            head: Print::of(b""),
            offset,
            marker: marker_of(b""),
            inside: false,
            size: offset,
            mtime,
            rotated: false,
            finished: false,
            packed: None,
            gone_seconds: None,
        }
    }

    #[test]
    fn a_file_of_this_host_is_looked_at_and_one_of_another_is_as_it_was_committed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        File::create(&path).expect("a file").write_all(b"one\ntwo\nhalf").expect("written");
        let here = file(&record(&path, 4, 90), "a", true, 100);
        assert_eq!((here.state, here.size, here.behind, here.oldest_ms), (FileState::Followed, 12, 8, Some(10_000)));
        let half = file(&record(&path, 8, 90), "a", true, 100);
        assert_eq!((half.behind, half.oldest_ms, half.looked_at), (4, None, true), "an unfinished line is not late");
        let there = file(&record(&path, 4, 90), "b", false, 100);
        assert_eq!((there.size, there.behind, there.looked_at), (4, 0, false));
        let mut rotated = record(&path, 4, 90);
        (rotated.rotated, rotated.inode) = (true, 7);
        assert_eq!(file(&rotated, "a", true, 100).state, FileState::Gone, "another file has its name");
        rotated.finished = true;
        assert_eq!(file(&rotated, "a", true, 100).state, FileState::Finished);
        fs::remove_file(&path).expect("removed");
        assert_eq!(file(&record(&path, 4, 90), "a", true, 100).state, FileState::Gone);
    }

    #[test]
    fn the_line_says_what_waits_and_what_nobody_follows() {
        let path = std::path::Path::new("/l/a.log");
        let mut late = file(&record(path, 4, 90), "a", false, 100);
        late.behind = 8;
        let watcher = |host: &str, files, runs| {
            let pipeline = PipelineId::new(Kind::Logs, "web");
            let address = Address::new(&pipeline, &format!("log_watcher@{host}"));
            let node = NodeInfo { runs: vec![address.to_string()], ..NodeInfo::default() };
            let shown = Shown { state: r#"{"lines":40}"#.to_owned(), ..Shown::default() };
            watcher(&address, &shown, files, if runs { std::slice::from_ref(&node) } else { &[] }, 5)
        };
        let group = GroupFacts { name: "g".to_owned(), lag: Some(3), pending: 2, ..GroupFacts::default() };
        let stream = OutputFacts { length: 60, groups: vec![group], ..OutputFacts::default() };
        let mut seen = LogsSeen {
            watchers: vec![watcher("a", 1, true), watcher("b", 0, false)],
            files: vec![late],
            has_more: false,
            stream: Some(stream),
            parser: None,
        };
        let words = sum_up(&seen, 1000).words;
        assert_eq!(words, "lines 80, behind 8 bytes in 1 of 1 files, stream 60, lag 5");
        assert!(words.len() < 78, "it fits a terminal");
        (seen.files[0].oldest_ms, seen.watchers[1]) = (Some(12_000), watcher("b", 4, false));
        seen.parser = Some(ParserSeen { events: 70, unparsed: 3, lag: 7, missed: 1, ..ParserSeen::default() });
        let summary = sum_up(&seen, 1000);
        assert!(summary.words.ends_with("ALARM: orphans (gapless logs status)"), "{}", summary.words);
        let parts = "(the oldest 12 s), stream 60, lag 5, events 70, unparsed 3, parse lag 7, missed 1, ";
        assert!(summary.words.contains(parts), "{}", summary.words);
        assert_eq!(summary.facts["orphans"], serde_json::json!(["b"]));
    }
}
