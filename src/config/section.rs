//! Section: one table of the merged configuration, read key by key.
//!
//! Every getter returns a usable value and notes what was wrong, so that one pass finds every fault. A key that no getter
//! asked for is unknown; that holds for `config/default.toml` too, so the file and the getters cannot drift apart.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::check::table;
use super::layers::Places;
use super::report::{Fault, Place};
use super::settings::{Secret, redact_url};
use super::suggest::nearest;

/// Largest file that holds a secret, in bytes.
const SECRET_FILE_MAX: u64 = 4096;

/// Where the getters note what is wrong.
#[derive(Debug)]
pub(super) struct Notes {
    /// The place of each key.
    pub(super) places: Places,
    /// What is wrong so far.
    pub(super) faults: Vec<Fault>,
    /// Whether some file could not be read in full, so that nothing can be called missing.
    pub(super) incomplete: bool,
}

impl Notes {
    /// Notes a fault of a key whose value does not matter.
    pub(super) fn fault(&mut self, path: &str, what: &str) {
        let place = self.places.of_key(path);
        self.faults.push(Fault { place, key: path.to_owned(), value: None, what: what.to_owned(), hide: true });
    }

    /// Notes that a value, which is no secret, does not fit to others.
    pub(super) fn clash(&mut self, path: &str, what: &str) {
        let place = self.places.of_value(path);
        self.faults.push(Fault { place, key: path.to_owned(), value: None, what: what.to_owned(), hide: false });
    }

    /// Notes an unknown name, with the known one that was probably meant.
    pub(super) fn unknown<'a>(&mut self, path: &str, what: &str, known: impl IntoIterator<Item = &'a str> + Clone) {
        let word = path.rsplit('.').next().unwrap_or(path);
        let remedy = match nearest(word, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        };
        self.fault(path, &format!("{what}; {remedy}"));
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its path: that of the defaults, where the value comes from them.
    pub(super) path: String,
    /// The value.
    pub(super) value: ValueKind,
    /// Whether it was written where everything is text.
    as_text: bool,
}

/// One table on its way to a struct of settings.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    own: Map<String, Value>,
    /// The table whose values hold where this one has none.
    defaults: Option<(&'static str, Map<String, Value>)>,
    asked: BTreeSet<&'static str>,
    notes: &'a mut Notes,
}

impl<'a> Section<'a> {
    /// Begins to read a table.
    pub(super) fn new(
        path: &str,
        own: Map<String, Value>,
        defaults: Option<(&'static str, Map<String, Value>)>,
        notes: &'a mut Notes,
    ) -> Self {
        Self { path: path.to_owned(), own, defaults, asked: BTreeSet::new(), notes }
    }

    /// Ends the reading: what nobody asked for is unknown.
    pub(super) fn finish(self) {
        for key in self.own.keys().filter(|key| !self.asked.contains(key.as_str())) {
            self.notes.unknown(&format!("{}.{key}", self.path), "unknown key", self.asked.iter().copied());
        }
    }

    /// Its name, as in `redis` or `sync.eu_us`.
    pub(super) fn table(&self) -> &str {
        &self.path
    }

    /// Whether this is a table of defaults, where what each pipeline must say itself may be missing.
    pub(super) fn is_defaults(&self) -> bool {
        self.path.starts_with("defaults.")
    }

    /// The value of a key; a missing one is noted, and can only be missing after an edit of `config/default.toml`.
    pub(super) fn find(&mut self, key: &'static str) -> Option<Found> {
        self.asked.insert(key);
        let path = self.path_of(key);
        let Some(value) = self.own.get(key).or_else(|| self.defaults.as_ref()?.1.get(key)) else {
            if !self.notes.incomplete {
                self.notes.fault(&path, "has no default");
            }
            return None;
        };
        let as_text = matches!(self.notes.places.of_value(&path), Place::Environment(_) | Place::Argument(_));
        Some(Found { path, value: value.kind.clone(), as_text })
    }

    /// A table within this one, in which its defaults (at `defaults_path`) hold as they do here; none where a pipeline
    /// does not have it. Tables within that are always there.
    pub(super) fn nested(&mut self, key: &'static str, defaults_path: &'static str) -> Option<Section<'_>> {
        self.asked.insert(key);
        let is_optional = self.path.matches('.').count() == 1 && !self.is_defaults();
        if is_optional && !self.own.contains_key(key) {
            return None;
        }
        let path = format!("{}.{key}", self.path);
        let own = table(self.own.get(key).cloned(), &path, self.notes);
        let defaults = self.defaults.as_ref().map(|(_, defaults)| {
            let below = defaults.get(key).cloned();
            (defaults_path, table(below, defaults_path, self.notes))
        });
        Some(Section::new(&path, own, defaults, self.notes))
    }

    /// A table whose names are anybody's, and its path; none where it is missing or no table.
    pub(super) fn free_table(&mut self, key: &'static str) -> Option<(String, Map<String, Value>)> {
        self.asked.insert(key);
        let path = self.path_of(key);
        let value = self.own.get(key).or_else(|| self.defaults.as_ref()?.1.get(key))?.kind.clone();
        match value {
            ValueKind::Table(table) => Some((path, table)),
            other => {
                self.refuse(&path, &other, "must be a table");
                None
            }
        }
    }

    /// Notes a fault somewhere below this table; `below` may lie as deep as it likes.
    pub(super) fn fault_below(&mut self, below: &str, value: Option<&str>, what: &str) {
        let end = below.find(['.', '[']).unwrap_or(below.len());
        let (key, rest) = below.split_at(end);
        let mut path = self.path_of(key);
        if self.notes.places.of_value(&path).is_default() {
            // Nobody wrote it: the table is what lacks it.
            path = format!("{}.{key}", self.path);
        }
        path.push_str(rest);
        match value {
            Some(value) => self.refuse(&path, &ValueKind::String(value.to_owned()), what),
            None => self.notes.clash(&path, what),
        }
    }

    /// Notes that a value is impossible.
    pub(super) fn refuse(&mut self, path: &str, value: &ValueKind, what: &str) {
        let hide = is_secret(path);
        let value = match value {
            _ if path.ends_with("password") => None,
            ValueKind::String(text) if hide => Some(format!("\"{}\"", redact_url(text))),
            ValueKind::String(text) => Some(format!("\"{text}\"")),
            ValueKind::Table(_) => Some("a table".to_owned()),
            ValueKind::Array(_) => Some("a list".to_owned()),
            other => Some(other.to_string()),
        };
        let place = self.notes.places.of_value(path);
        self.notes.faults.push(Fault { place, key: path.to_owned(), value, what: what.to_owned(), hide });
    }

    /// Notes that a value does not fit to others.
    pub(super) fn conflict(&mut self, key: &'static str, what: &str) {
        let path = self.path_of(key);
        let value = self.own.get(key).or_else(|| self.defaults.as_ref()?.1.get(key)).map(|value| value.kind.clone());
        self.refuse(&path, &value.unwrap_or_default(), what);
    }

    /// Notes that two values do not fit together, at the one that somebody wrote.
    pub(super) fn pair(&mut self, keys: [&'static str; 2], what: &str) {
        let written = |key: &&'static str| !self.notes.places.of_value(&self.path_of(key)).is_default();
        let key = keys.into_iter().find(|key| written(key)).unwrap_or(keys[0]);
        self.conflict(key, what);
    }

    /// How many faults were noted so far, of all tables.
    pub(super) fn faults(&self) -> usize {
        self.notes.faults.len()
    }

    /// Where the value of a key comes from.
    fn path_of(&self, key: &str) -> String {
        match &self.defaults {
            Some((defaults, _)) if !self.own.contains_key(key) => format!("{defaults}.{key}"),
            _ => format!("{}.{key}", self.path),
        }
    }

    /// Notes that a pipeline does not say what each one must say itself.
    pub(super) fn missing(&mut self, key: &'static str, what: &str) {
        if !self.is_defaults() && !self.notes.incomplete {
            self.notes.fault(&format!("{}.{key}", self.path), &format!("is not set; {what}"));
        }
    }

    /// A whole number; out of range, the lowest possible one stands in.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u64>, unit: &str) -> u64 {
        let Some(found) = self.find(key) else {
            return *range.start();
        };
        match whole(&found).filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let (lo, hi) = range.clone().into_inner();
                let what = format!("must be a whole number{unit}, {lo} to {hi}");
                self.refuse(&found.path, &found.value, &what);
                lo
            }
        }
    }

    /// A count; the range fits any `u32`.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> u32 {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.number(key, wide, "")).unwrap_or(*range.end())
    }

    /// A count of things in memory; the range fits any `usize`.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u32>, unit: &str) -> usize {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        usize::try_from(self.number(key, wide, unit)).unwrap_or(usize::MAX)
    }

    /// A count from 1.
    pub(super) fn nonzero(&mut self, key: &'static str, max: u64) -> NonZeroU64 {
        NonZeroU64::new(self.number(key, 1..=max, "")).unwrap_or(NonZeroU64::MIN)
    }

    /// A time in milliseconds.
    pub(super) fn millis(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(key, range, " of milliseconds"))
    }

    /// A time in seconds.
    pub(super) fn seconds(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(key, range, " of seconds"))
    }

    /// A text; may be empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Found> {
        let found = self.find(key)?;
        if matches!(found.value, ValueKind::String(_)) {
            return Some(found);
        }
        self.refuse(&found.path, &found.value, "must be a text in double quotes");
        None
    }

    /// A text that `parse` understands; its error says what the text must be.
    pub(super) fn parsed<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let found = self.text(key)?;
        let ValueKind::String(text) = &found.value else {
            return None;
        };
        parse(text).map_err(|what| self.refuse(&found.path, &found.value, &what)).ok()
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        let Some(found) = self.find(key) else { return false };
        match &found.value {
            ValueKind::Boolean(yes) => *yes,
            ValueKind::String(text) if found.as_text && text == "true" => true,
            ValueKind::String(text) if found.as_text && text == "false" => false,
            _ => {
                self.refuse(&found.path, &found.value, "must be true or false");
                false
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            let known = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
            known.ok_or_else(|| {
                let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("must be {}", list.join(" or "))
            })
        })
    }

    /// A folder or file; may be empty where the caller allows it.
    pub(super) fn path(&mut self, key: &'static str) -> PathBuf {
        let parse = |text: &str| {
            if text.contains('\0') { Err("must be a path".to_owned()) } else { Ok(PathBuf::from(text)) }
        };
        self.parsed(key, parse).unwrap_or_default()
    }

    /// A folder that is always needed.
    pub(super) fn folder(&mut self, key: &'static str) -> PathBuf {
        let path = self.path(key);
        if path.as_os_str().is_empty() && self.own.contains_key(key) {
            self.conflict(key, "must name a folder");
        }
        path
    }

    /// A list of texts, each with its path; in the environment one text with commas. None where it is no list.
    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<Found>> {
        let found = self.find(key)?;
        match &found.value {
            ValueKind::Array(items) => {
                let item = |(index, value): (usize, &Value)| Found {
                    path: format!("{}[{index}]", found.path),
                    value: value.kind.clone(),
                    as_text: false,
                };
                Some(items.iter().enumerate().map(item).collect())
            }
            ValueKind::String(text) if found.as_text => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let item = |(index, part): (usize, &str)| Found {
                    path: format!("{}[{index}]", found.path),
                    value: ValueKind::String(part.to_owned()),
                    as_text: true,
                };
                Some(parts.enumerate().map(item).collect())
            }
            _ => {
                self.refuse(&found.path, &found.value, "must be a list of texts, [\"...\", \"...\"]");
                None
            }
        }
    }

    /// The first line of the file that a key names; none where it names none.
    pub(super) fn secret_file(&mut self, key: &'static str) -> Option<Secret> {
        let path = self.path(key);
        if path.as_os_str().is_empty() {
            return None;
        }
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(what) => {
                self.conflict(key, &what);
                None
            }
        }
    }
}

/// A whole number as it was written; texts count only where everything is text.
pub(super) fn whole(found: &Found) -> Option<u64> {
    match &found.value {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::String(text) if found.as_text => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whether values of this key may hold credentials.
fn is_secret(path: &str) -> bool {
    path.ends_with("password")
        || [".url", ".source", ".target"].iter().any(|end| path.ends_with(end))
        || path.contains(".endpoints")
        || path.contains(".hints")
}

fn read_secret(path: &std::path::Path) -> Result<Secret, String> {
    let readable = |error| format!("cannot be read ({error}); it must be a file that this user may read");
    let size = std::fs::metadata(path).map_err(readable)?.len();
    if size > SECRET_FILE_MAX {
        return Err(format!("holds {size} bytes; a secret has at most {SECRET_FILE_MAX}"));
    }
    let text = std::fs::read_to_string(path).map_err(readable)?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => Err("has an empty first line; write the secret there".to_owned()),
    }
}
