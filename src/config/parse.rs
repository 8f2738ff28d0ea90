//! `[logs.NAME.parse]`: how lines become events, where those go, and how much at a time.
//!
//! The shape of a mapping is read here, key by key, so that each fault names its place; what it means is judged by
//! [`Parser::new`].

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use super::logs::Keep;
use super::section::{Found, Section};
use crate::ids::is_name;
use crate::messages::udm::{Format, Mapping, PATTERNS_MAX, Parser, Rule, SeverityMapping, Sources, TimeMapping};

/// Where the defaults of `parse` stand, and of the tables in it.
const DEFAULTS: &str = "defaults.logs.parse";
const TIME_DEFAULTS: &str = "defaults.logs.parse.time";
const SEVERITY_DEFAULTS: &str = "defaults.logs.parse.severity";
/// The stream of lines, which no output may be.
const LINES: &str = "lines";
/// How lines are taken apart, as it is written.
const FORMATS: [(&str, Option<Format>); 4] =
    [("", None), ("json", Some(Format::Json)), ("logfmt", Some(Format::Logfmt)), ("text", Some(Format::Text))];
const TEXT: &str = "must be a text in double quotes";

/// `[logs.NAME.parse]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseSettings {
    /// How lines become events; checked.
    pub mapping: Mapping,
    /// The output that events go to.
    pub events: String,
    /// The output that lines go to that are no event.
    pub unparsed: String,
    /// What may be trimmed from both.
    pub keep: Keep,
    /// Entries that the output of events may hold.
    pub events_entries_max: u64,
    /// Entries that the output of unparsed lines may hold.
    pub unparsed_entries_max: u64,
    /// Lines of one commit.
    pub batch_lines: u32,
    /// Bytes of lines of one commit.
    pub batch_bytes: usize,
}

/// The table `parse` of a pipeline; none where it has none.
pub(super) fn parse(s: &mut Section<'_>) -> Option<ParseSettings> {
    let mut s = s.nested("parse", DEFAULTS)?;
    let faults = s.faults();
    let settings = ParseSettings {
        mapping: mapping(&mut s),
        events: s.parsed("events", output).unwrap_or_default(),
        unparsed: s.parsed("unparsed", output).unwrap_or_default(),
        keep: s.word("keep", &[("acknowledged", Keep::Acknowledged), ("newest", Keep::Newest)]).unwrap_or(Keep::Newest),
        events_entries_max: s.number("events_entries_max", 1000..=1_000_000_000, ""),
        unparsed_entries_max: s.number("unparsed_entries_max", 1000..=1_000_000_000, ""),
        batch_lines: s.count("batch_lines", 1..=5000),
        batch_bytes: s.size("batch_bytes", 1024..=4_194_304, " of bytes"),
    };
    if settings.events == settings.unparsed && s.faults() == faults {
        s.pair(["unparsed", "events"], "events and unparsed must be two outputs");
    }
    if s.faults() == faults && !s.is_defaults() {
        for fault in Parser::new(&settings.mapping).err().unwrap_or_default() {
            s.fault_below(&fault.key, fault.value.as_deref(), &fault.what);
        }
    }
    s.finish();
    Some(settings)
}

/// Part of a key in Redis.
fn output(name: &str) -> Result<String, String> {
    match name {
        LINES => Err("is the stream that lines go to; choose another name".to_owned()),
        name if is_name(name) => Ok(name.to_owned()),
        _ => Err("must be 1 to 64 of a-z, 0-9 and _".to_owned()),
    }
}

fn mapping(s: &mut Section<'_>) -> Mapping {
    Mapping {
        preset: optional(s, "preset"),
        format: s.word("format", &FORMATS).flatten(),
        patterns: texts(s, "patterns"),
        time: s.nested("time", TIME_DEFAULTS).map(time).unwrap_or_default(),
        severity: s.nested("severity", SEVERITY_DEFAULTS).map(severity).unwrap_or_default(),
        fields: fields(s),
        constants: s.free_table("constants").map(|(path, table)| words(s, &path, table)).unwrap_or_default(),
        rules: rules(s),
    }
}

fn time(mut s: Section<'_>) -> TimeMapping {
    let time = TimeMapping {
        field: names(&mut s, "field"),
        formats: texts(&mut s, "formats"),
        zone: optional(&mut s, "zone"),
        year: i16::try_from(s.number("year", 0..=9999, "")).ok().filter(|year| *year != 0),
    };
    s.finish();
    time
}

fn severity(mut s: Section<'_>) -> SeverityMapping {
    let field = names(&mut s, "field");
    let words = s.free_table("words").map(|(path, table)| words(&mut s, &path, table)).unwrap_or_default();
    s.finish();
    SeverityMapping { field, words }
}

/// A text of which nothing is none.
fn optional(s: &mut Section<'_>, key: &'static str) -> Option<String> {
    let fits = |text: &str| match text.contains('\0') {
        true => Err("must be a text without NUL".to_owned()),
        false => Ok(text.to_owned()),
    };
    s.parsed(key, fits).filter(|text| !text.is_empty())
}

fn texts(s: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let items = s.list(key).unwrap_or_default();
    items.into_iter().filter_map(|item| text(s, item)).collect()
}

/// One name, or several.
fn names(s: &mut Section<'_>, key: &'static str) -> Sources {
    match s.find(key) {
        Some(Found { value: ValueKind::String(one), path, .. }) if one.contains('\0') => {
            s.refuse(&path, &ValueKind::String(one), "must be the name of a value");
            Sources::default()
        }
        // One text is one name; "" is none.
        Some(Found { value: ValueKind::String(one), .. }) => {
            Sources(Some(one).filter(|one| !one.is_empty()).into_iter().collect())
        }
        Some(_) => Sources(texts(s, key)),
        None => Sources::default(),
    }
}

fn text(s: &mut Section<'_>, item: Found) -> Option<String> {
    match item.value {
        ValueKind::String(text) if !text.contains('\0') => Some(text),
        other => {
            s.refuse(&item.path, &other, TEXT);
            None
        }
    }
}

fn fields(s: &mut Section<'_>) -> BTreeMap<String, Sources> {
    let Some((path, table)) = s.free_table("fields") else { return BTreeMap::new() };
    let mut fields = BTreeMap::new();
    for (name, value) in table {
        let path = format!("{path}.\"{name}\"");
        let sources = match value.kind {
            ValueKind::String(one) => vec![one],
            ValueKind::Array(items) if items.iter().all(|item| matches!(item.kind, ValueKind::String(_))) => {
                items.into_iter().filter_map(|item| item.into_string().ok()).collect()
            }
            other => {
                s.refuse(&path, &other, "must be the name of a value, or a list of names");
                continue;
            }
        };
        fields.insert(name, Sources(sources));
    }
    fields
}

/// A table whose values are texts.
fn words(s: &mut Section<'_>, path: &str, table: Map<String, Value>) -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    for (name, value) in table {
        match value.kind {
            ValueKind::String(word) => drop(words.insert(name, word)),
            other => s.refuse(&format!("{path}.\"{name}\""), &other, TEXT),
        }
    }
    words
}

fn rules(s: &mut Section<'_>) -> Vec<Rule> {
    let items = s.list("rules").unwrap_or_default();
    if items.len() > PATTERNS_MAX {
        s.conflict("rules", &format!("must be at most {PATTERNS_MAX}, and are {}", items.len()));
    }
    items.into_iter().take(PATTERNS_MAX).filter_map(|item| rule(s, item)).collect()
}

fn rule(s: &mut Section<'_>, item: Found) -> Option<Rule> {
    let ValueKind::Table(table) = item.value else {
        s.refuse(
            &item.path,
            &item.value,
            "must be a table; write [[logs.NAME.parse.rules]] with field and pattern below",
        );
        return None;
    };
    let mut rule = Rule::default();
    for (name, value) in table {
        let path = format!("{}.{name}", item.path);
        match (name.as_str(), value.kind) {
            ("field", ValueKind::String(text)) => rule.field = text,
            ("pattern", ValueKind::String(text)) => rule.pattern = text,
            ("constants", ValueKind::Table(table)) => rule.constants = words(s, &path, table),
            ("field" | "pattern", other) => s.refuse(&path, &other, TEXT),
            ("constants", other) => s.refuse(&path, &other, "must be a table, { \"PATH\" = \"VALUE\" }"),
            (_, other) => s.refuse(&path, &other, "unknown key; known are field, pattern, constants"),
        }
    }
    Some(rule)
}
