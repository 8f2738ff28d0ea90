//! The way from a line to an event.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::line::{Level, LineId, Part};
use super::check::Parser;
use super::event::{Event, Path};
use super::mapping::Format;
use super::severity::severity;
use super::source::{add_groups, json, logfmt, matched, plain, put_back, take, text};
use super::{LINE_BYTES_MAX, check};

/// The most of a value that a reason shows, in characters.
const SHOWN_MAX: usize = 100;
/// The type of an event whose mapping does not say it.
const GENERIC: &str = "GENERIC_EVENT";

/// What is known of a line besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// Its id.
    pub id: &'f LineId,
    /// Its level.
    pub level: &'f Level,
    /// How much of a line it is.
    pub part: Part,
    /// When it was received, by Redis's clock: the time of an event that names none, and what tells the year.
    pub received: Timestamp,
    /// The host of its file; empty if it is not known.
    pub host: &'f str,
    /// The path of its file; empty if it is not known.
    pub file: &'f str,
}

/// Why a line is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unparsed {
    /// It is a piece of a line that is longer than the limit.
    Piece,
    /// It has more than [`LINE_BYTES_MAX`].
    TooLong {
        /// So many.
        bytes: usize,
    },
    /// There is nothing in it.
    Empty,
    /// It is no object of JSON.
    NotJson {
        /// What is wrong with it.
        error: String,
    },
    /// There is no `key=value` in it.
    NotLogfmt,
    /// No pattern fits the whole of it.
    NoPattern,
    /// Its time cannot be read.
    Time {
        /// The value's name.
        field: String,
        /// The value, shortened.
        value: String,
        /// What is wrong with it.
        error: String,
    },
}

impl Unparsed {
    /// A word for each kind of reason, for figures.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Piece => "piece",
            Self::TooLong { .. } => "too_long",
            Self::Empty => "empty",
            Self::NotJson { .. } => "not_json",
            Self::NotLogfmt => "not_logfmt",
            Self::NoPattern => "no_pattern",
            Self::Time { .. } => "time",
        }
    }
}

impl std::error::Error for Unparsed {}

impl fmt::Display for Unparsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Piece => f.write_str("a piece of a line that is longer than the limit"),
            Self::TooLong { bytes } => write!(f, "{bytes} bytes long; at most {LINE_BYTES_MAX} are parsed"),
            Self::Empty => f.write_str("an empty line"),
            Self::NotJson { error } => write!(f, "no JSON object: {error}"),
            Self::NotLogfmt => f.write_str("no key=value in it"),
            Self::NoPattern => f.write_str("no pattern fits the whole line"),
            Self::Time { field, value, error } => write!(f, "the time `{field}` = \"{value}\" cannot be read: {error}"),
        }
    }
}

impl Parser {
    /// The event that a line is. The error is the reason why it is none.
    pub fn parse(&self, line: &[u8], facts: &Facts<'_>) -> Result<Event, Unparsed> {
        if matches!(facts.part, Part::Cut | Part::Rest) {
            return Err(Unparsed::Piece);
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(Unparsed::TooLong { bytes: line.len() });
        }
        if line.trim_ascii().is_empty() {
            return Err(Unparsed::Empty);
        }
        let (mut values, damaged) = self.values(line)?;
        let rule = self.rules.iter().find(|rule| {
            let value = values.get(&rule.field).and_then(plain).map(Cow::into_owned);
            value.is_some_and(|value| add_groups(&rule.pattern, &value, &mut values))
        });
        let mut event = Event::default();
        event.metadata.product_log_id = facts.id.to_string();
        GENERIC.clone_into(&mut event.metadata.event_type);
        event.metadata.event_timestamp = self.time(&mut values, facts)?.to_string();
        self.grade(&mut event, &mut values, facts);
        put_all(&mut event, &self.constants);
        let mut used = [false; check::FACTS.len()];
        for (path, names) in &self.fields {
            put_first(&mut event, *path, names, &mut values, facts, &mut used);
        }
        put_all(&mut event, rule.map_or(&[], |rule| &rule.constants));
        for (name, fact) in
            [("gapless.host", facts.host), ("gapless.file", facts.file)].iter().zip(used).filter_map(unused)
        {
            values.insert(name.to_owned(), fact.into());
        }
        if damaged {
            values.insert("gapless.not_utf8".to_owned(), true.into());
        }
        event.additional = values;
        Ok(event)
    }

    /// The named values of a line, and whether bytes that are no UTF-8 were replaced.
    fn values(&self, line: &[u8]) -> Result<(Map<String, Value>, bool), Unparsed> {
        if self.format == Format::Json {
            let values = json(line).map_err(|error| Unparsed::NotJson { error })?;
            return Ok((values, false));
        }
        let (line, damaged) = text(line);
        let values = match self.format {
            Format::Logfmt => logfmt(&line).ok_or(Unparsed::NotLogfmt)?,
            _ => matched(&line, &self.patterns).ok_or(Unparsed::NoPattern)?,
        };
        Ok((values, damaged))
    }

    fn time(&self, values: &mut Map<String, Value>, facts: &Facts<'_>) -> Result<Timestamp, Unparsed> {
        for name in &self.time_field {
            let Some(value) = take(values, name) else { continue };
            let Some(text) = plain(&value) else {
                put_back(values, name, value);
                continue;
            };
            let fault = |error| Unparsed::Time { field: name.clone(), value: shown(&text), error };
            return self.times.read(&text, facts.received).map_err(fault);
        }
        Ok(facts.received)
    }

    /// Sets the severity: of the line's word, else of its level.
    fn grade(&self, event: &mut Event, values: &mut Map<String, Value>, facts: &Facts<'_>) {
        let mut result = super::event::SecurityResult::default();
        severity(facts.level.as_str()).clone_into(&mut result.severity);
        for name in &self.severity_field {
            let Some(value) = take(values, name) else { continue };
            let Some(text) = plain(&value).filter(|text| !text.is_empty()) else {
                put_back(values, name, value);
                continue;
            };
            let capitals = text.to_uppercase();
            result.severity = self.words.get(&capitals).map_or_else(|| severity(&capitals), String::as_str).to_owned();
            result.severity_details = Some(text.into_owned());
            break;
        }
        event.security_result = vec![result];
    }
}

/// The fact, if no field took it and it is known.
fn unused<'f>(((name, fact), used): (&(&'f str, &'f str), bool)) -> Option<(&'f str, &'f str)> {
    (!used && !fact.is_empty()).then_some((*name, *fact))
}

fn put_all(event: &mut Event, constants: &[(Path, String)]) {
    for (path, value) in constants {
        // It fitted when the mapping was checked.
        (path.put)(event, value);
    }
}

/// Puts the first value that is there and fits; what does not fit stays where it was.
fn put_first(
    event: &mut Event,
    path: Path,
    names: &[String],
    values: &mut Map<String, Value>,
    facts: &Facts<'_>,
    used: &mut [bool],
) {
    for name in names {
        if let Some(index) = check::FACTS.iter().position(|fact| fact == name) {
            let fact = [facts.host, facts.file, facts.level.as_str()][index];
            if !fact.is_empty() && (path.put)(event, fact) {
                used[index] = true;
                return;
            }
            continue;
        }
        let Some(value) = take(values, name) else { continue };
        let fits = plain(&value).is_some_and(|text| !text.trim().is_empty() && (path.put)(event, &text));
        if fits {
            return;
        }
        put_back(values, name, value);
    }
}

/// The beginning of a value, without anything that could move a terminal's cursor.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_MAX).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        short.push_str("...");
    }
    short
}
