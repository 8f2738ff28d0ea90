//! `[logs.NAME]`: which files are followed, from where on, and how much at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::parse::{ParseSettings, parse};
use super::pipelines::all;
use super::section::{Notes, Section};

/// Where the defaults of `logs` stand.
pub(super) const LOGS_DEFAULTS: &str = "defaults.logs";
/// Most patterns of one list.
const PATTERNS_MAX: usize = 64;
/// Most bytes of one pattern.
const PATTERN_BYTES_MAX: usize = 4096;

/// `[logs.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsSettings {
    /// Patterns of the files; at least one.
    pub paths: Vec<String>,
    /// Patterns of files that are left out.
    pub exclude: Vec<String>,
    /// From where on a file is read that was there before anybody followed it.
    pub start: LogStart,
    /// The folders are the same on every host: any node takes over.
    pub shared: bool,
    /// Patterns of further places where rotated files may lie.
    pub rotated: Vec<String>,
    /// Events of the file system are hints.
    pub events: bool,
    /// Pause between two looks at the files where events come.
    pub poll: Duration,
    /// Pause between two looks where none come.
    pub poll_only: Duration,
    /// Files followed at a time.
    pub files_max: usize,
    /// Rotated and deleted files that are kept open for the rollback horizon.
    pub held_max: usize,
    /// A longer line is cut.
    pub line_bytes_max: usize,
    /// Lines of one commit.
    pub batch_lines: usize,
    /// Bytes of lines of one commit.
    pub batch_bytes: usize,
    /// How long a commit waits for more lines than there are.
    pub linger: Duration,
    /// How long the end of a rotated file is waited for.
    pub rotate_wait: Duration,
    /// How long the place in a vanished file is kept.
    pub forget: Duration,
    /// What a record of several lines begins with, a regular expression; none = a record is a line.
    pub record_start: Option<String>,
    /// How long the rest of such a record is waited for.
    pub record_wait: Duration,
    /// What channels begin with; none = nothing is published.
    pub channel_prefix: Option<String>,
    /// Publishes a JSON object with the line's id in place of the line's bytes.
    pub envelope: bool,
    /// What may be trimmed from the stream.
    pub keep: Keep,
    /// Entries that the stream may hold.
    pub stream_entries_max: u64,
    /// How lines become events; none where they do not.
    pub parse: Option<ParseSettings>,
}

/// From where on a file is read that was there before anybody followed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// Its first byte.
    Beginning,
    /// Its end.
    End,
    /// Its first byte if it was written after this moment, else its end.
    Since(jiff::Timestamp),
}

/// What may be trimmed from the stream of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What every consumer group and the parser have acknowledged; where a full stream has readers, the watcher waits.
    Acknowledged,
    /// What is not among the newest; what nobody acknowledged is counted.
    Newest,
}

/// Every `[logs.NAME]`.
pub(super) fn all_logs(
    tables: Map<String, Value>,
    defaults: Map<String, Value>,
    notes: &mut Notes,
) -> BTreeMap<String, LogsSettings> {
    all("logs", LOGS_DEFAULTS, tables, defaults, notes, logs)
}

fn logs(s: &mut Section<'_>) -> LogsSettings {
    let faults = s.faults();
    let paths = patterns(s, "paths");
    if paths.is_empty() && s.faults() == faults {
        s.missing("paths", "name at least one file or pattern, for example paths = [\"/var/log/nginx/*.log\"]");
    }
    let settings = LogsSettings {
        paths,
        exclude: patterns(s, "exclude"),
        start: s.parsed("start", start).unwrap_or(LogStart::Beginning),
        shared: s.flag("shared"),
        rotated: patterns(s, "rotated"),
        events: s.word("watch", &[("auto", true), ("poll", false)]).unwrap_or_default(),
        poll: s.millis("poll_ms", 10..=3_600_000),
        poll_only: s.millis("poll_only_ms", 10..=3_600_000),
        files_max: s.size("files_max", 1..=100_000, ""),
        held_max: s.size("held_max", 1..=100_000, ""),
        line_bytes_max: s.size("line_bytes_max", 64..=1_048_576, " of bytes"),
        batch_lines: s.size("batch_lines", 1..=5_000, ""),
        batch_bytes: s.size("batch_bytes", 1024..=4_194_304, " of bytes"),
        linger: s.millis("linger_ms", 0..=60_000),
        rotate_wait: s.millis("rotate_wait_ms", 0..=3_600_000),
        forget: s.seconds("forget_seconds", 60..=31_536_000),
        record_start: s.parsed("record_start", record_start).flatten(),
        record_wait: s.millis("record_wait_ms", 1..=600_000),
        channel_prefix: s.parsed("channel_prefix", channel_prefix).flatten(),
        envelope: s.word("payload", &[("line", false), ("envelope", true)]).unwrap_or_default(),
        keep: s.word("keep", &[("acknowledged", Keep::Acknowledged), ("newest", Keep::Newest)]).unwrap_or(Keep::Newest),
        stream_entries_max: s.number("stream_entries_max", 1000..=1_000_000_000, ""),
        parse: parse(s),
    };
    if settings.line_bytes_max > settings.batch_bytes && s.faults() == faults {
        s.pair(
            ["line_bytes_max", "batch_bytes"],
            "line_bytes_max must not be above batch_bytes: a commit holds whole lines",
        );
    }
    settings
}

fn patterns(s: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let items = s.list(key).unwrap_or_default();
    if items.len() > PATTERNS_MAX {
        s.conflict(key, &format!("must hold at most {PATTERNS_MAX} patterns"));
    }
    let mut patterns = Vec::new();
    for item in items.into_iter().take(PATTERNS_MAX) {
        match &item.value {
            ValueKind::String(text) if text.is_empty() || text.contains('\0') || text.len() > PATTERN_BYTES_MAX => {
                s.refuse(&item.path, &item.value, "must be the path of a file, in which *, ?, [a-z] and ** may stand");
            }
            ValueKind::String(text) if patterns.contains(text) => {
                s.refuse(&item.path, &item.value, "stands in the list twice; drop one");
            }
            ValueKind::String(text) => match globset::GlobBuilder::new(text).literal_separator(true).build() {
                Ok(_) => patterns.push(text.clone()),
                Err(error) => s.refuse(&item.path, &item.value, &format!("is no pattern: {}", error.kind())),
            },
            _ => s.refuse(&item.path, &item.value, "must be a path in double quotes"),
        }
    }
    patterns
}

fn start(text: &str) -> Result<LogStart, String> {
    match text {
        "beginning" => Ok(LogStart::Beginning),
        "end" => Ok(LogStart::End),
        _ => text
            .parse()
            .map(LogStart::Since)
            .map_err(|_| "must be \"beginning\", \"end\", or a time like \"2026-11-26T00:00:00Z\"".to_owned()),
    }
}

fn record_start(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('\0') {
        return Err("must be a regular expression without NUL".to_owned());
    }
    match regex::bytes::Regex::new(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(error) => Err(format!(
            "is no regular expression ({})",
            error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")
        )),
    }
}

fn channel_prefix(text: &str) -> Result<Option<String>, String> {
    let fits = text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err("must be at most 128 printable characters without spaces, or \"\" to publish nothing".to_owned());
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}
