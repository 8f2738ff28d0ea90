//! Everything that can be wrong with a mapping, in one go; what is left is ready to parse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};

use super::event::{Event, Path, path, paths};
use super::mapping::{Format, Mapping, Rule, Sources};
use super::presets::preset;
use super::severity::{FITS, SEVERITIES};
use super::time::{TimeFormat, Times, zone};
use super::{PATTERN_BYTES_MAX, PATTERNS_MAX};

/// How large a compiled pattern may be, in bytes.
const COMPILED_MAX: usize = 2 << 20;
/// Vendor and product where nobody names them.
const UNNAMED: &str = "unknown";
/// What is known of a line without its text.
pub(super) const FACTS: [&str; 3] = ["@host", "@file", "@level"];

/// One thing that is wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingFault {
    /// Where, below `[logs.NAME.parse]`: for example `time.zone` or `rules[2].pattern`.
    pub key: String,
    /// The value, where there is one.
    pub value: Option<String>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for MappingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A rule that was checked.
#[derive(Debug, Clone)]
pub(super) struct CheckedRule {
    pub field: String,
    pub pattern: Regex,
    pub constants: Vec<(Path, String)>,
}

/// A mapping that was checked.
#[derive(Debug, Clone)]
pub struct Parser {
    pub(super) format: Format,
    pub(super) patterns: Vec<Regex>,
    pub(super) rules: Vec<CheckedRule>,
    pub(super) constants: Vec<(Path, String)>,
    pub(super) fields: Vec<(Path, Vec<String>)>,
    pub(super) time_field: Vec<String>,
    pub(super) times: Times,
    pub(super) severity_field: Vec<String>,
    /// By the word in capitals.
    pub(super) words: BTreeMap<String, String>,
}

impl Parser {
    /// Checks a mapping, and lays it over its preset. The error names every fault, with its key and its remedy.
    pub fn new(mapping: &Mapping) -> Result<Self, Vec<MappingFault>> {
        let mut check = Check { faults: Vec::new() };
        let below = mapping.preset.as_deref().map(preset).transpose();
        let below = check.kept("preset", mapping.preset.as_deref(), below).flatten().unwrap_or_default();
        let own = mapping.clone();
        let mut merged = own.clone().over(below);
        complete(&mut merged);
        let parser = check.parser(merged, check.faults.is_empty());
        check.names(&own, &parser);
        if check.faults.is_empty() { Ok(parser) } else { Err(check.faults) }
    }
}

/// What every event has, whether or not the mapping says so.
fn complete(mapping: &mut Mapping) {
    let says =
        |mapping: &Mapping, path: &str| mapping.fields.contains_key(path) || mapping.constants.contains_key(path);
    if !says(mapping, "principal.hostname") && !says(mapping, "target.hostname") {
        mapping.fields.insert("principal.hostname".to_owned(), Sources(vec!["@host".to_owned()]));
    }
    for path in ["metadata.vendor_name", "metadata.product_name"] {
        if !says(mapping, path) {
            mapping.constants.insert(path.to_owned(), UNNAMED.to_owned());
        }
    }
}

/// The faults so far.
struct Check {
    faults: Vec<MappingFault>,
}

impl Check {
    fn fault(&mut self, key: impl Into<String>, value: Option<&str>, what: impl Into<String>) {
        self.faults.push(MappingFault { key: key.into(), value: value.map(str::to_owned), what: what.into() });
    }

    /// What a reader gave, or nothing and a fault.
    fn kept<T>(&mut self, key: &str, value: Option<&str>, read: Result<T, String>) -> Option<T> {
        read.map_err(|what| self.fault(key, value, what)).ok()
    }

    fn parser(&mut self, mapping: Mapping, complains: bool) -> Parser {
        let format = mapping.format.unwrap_or_else(|| {
            if complains {
                self.fault("format", None, "is not set; write \"json\", \"logfmt\" or \"text\", or name a preset");
            }
            Format::Json
        });
        let patterns = self.patterns(format, &mapping);
        let times = self.times(&mapping);
        for (word, severity) in &mapping.severity.words {
            if !SEVERITIES.contains(&severity.as_str()) {
                self.fault(format!("severity.words.{word}"), Some(severity), format!("must be {FITS}"));
            }
        }
        let capitals = |(word, severity): (String, String)| (word.to_uppercase(), severity);
        Parser {
            format,
            patterns,
            rules: self.rules(mapping.rules),
            constants: self.constants("constants", mapping.constants),
            fields: self.fields(mapping.fields),
            time_field: mapping.time.field.0,
            times,
            severity_field: mapping.severity.field.0,
            words: mapping.severity.words.into_iter().map(capitals).collect(),
        }
    }

    fn patterns(&mut self, format: Format, mapping: &Mapping) -> Vec<Regex> {
        if format != Format::Text && !mapping.patterns.is_empty() {
            self.fault(
                "patterns",
                None,
                "only format = \"text\" has patterns for the line; write rules for its values",
            );
            return Vec::new();
        }
        if format == Format::Text && mapping.patterns.is_empty() {
            self.fault(
                "patterns",
                None,
                "is not set; write one with named groups, as in '(?<level>[A-Z]+) (?<message>.*)'",
            );
        }
        self.bound("patterns", mapping.patterns.len());
        let mut all = Vec::new();
        for (index, text) in mapping.patterns.iter().take(PATTERNS_MAX).enumerate() {
            let key = format!("patterns[{index}]");
            let Some(pattern) = self.pattern(&key, text, |text| format!("^(?:{text})$")) else { continue };
            if pattern.capture_names().flatten().next().is_none() {
                self.fault(key, Some(text), "names nothing; write named groups, as in (?<host>\\S+)");
            }
            all.push(pattern);
        }
        all
    }

    fn bound(&mut self, key: &str, count: usize) {
        if count > PATTERNS_MAX {
            self.fault(key, None, format!("must be at most {PATTERNS_MAX}, and are {count}"));
        }
    }

    fn pattern(&mut self, key: &str, text: &str, whole: impl FnOnce(&str) -> String) -> Option<Regex> {
        if text.len() > PATTERN_BYTES_MAX {
            self.fault(key, None, format!("must be at most {PATTERN_BYTES_MAX} bytes long, and is {}", text.len()));
            return None;
        }
        // By itself first: a bracket too many must not close the one that we open.
        let built = RegexBuilder::new(text).size_limit(COMPILED_MAX).build();
        let built = built.and_then(|_| RegexBuilder::new(&whole(text)).size_limit(COMPILED_MAX).build());
        let said = |e: regex::Error| match e {
            regex::Error::CompiledTooBig(_) => "is too large when compiled; repeat fewer things".to_owned(),
            // Its last line says what is wrong, the others draw it.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                format!("is no regular expression: {last}")
            }
        };
        self.kept(key, Some(text), built.map_err(said))
    }

    fn times(&mut self, mapping: &Mapping) -> Times {
        let time = &mapping.time;
        if !time.field.0.is_empty() && time.formats.is_empty() {
            self.fault(
                "time.formats",
                None,
                "is not set; say how the time is written, for example [\"rfc3339\", \"iso\"]",
            );
        }
        let mut formats = Vec::new();
        for (index, text) in time.formats.iter().enumerate() {
            formats.extend(self.kept(&format!("time.formats[{index}]"), Some(text), TimeFormat::new(text)));
        }
        let read = time.zone.as_deref().map(zone).transpose();
        let zone = self.kept("time.zone", time.zone.as_deref(), read).flatten().unwrap_or(TimeZone::UTC);
        if let Some(year) = time.year.filter(|year| !(1970..=9999).contains(year)) {
            self.fault("time.year", Some(&year.to_string()), "must be a year, 1970 to 9999");
        }
        Times { formats, zone, year: time.year }
    }

    fn rules(&mut self, rules: Vec<Rule>) -> Vec<CheckedRule> {
        self.bound("rules", rules.len());
        let mut all = Vec::new();
        for (index, rule) in rules.into_iter().take(PATTERNS_MAX).enumerate() {
            if rule.field.is_empty() {
                self.fault(format!("rules[{index}].field"), None, "is not set; name the value that is looked at");
            }
            let pattern = self.pattern(&format!("rules[{index}].pattern"), &rule.pattern, str::to_owned);
            let constants = self.constants(&format!("rules[{index}].constants"), rule.constants);
            all.extend(pattern.map(|pattern| CheckedRule { field: rule.field, pattern, constants }));
        }
        all
    }

    fn path(&mut self, key: &str, name: &str) -> Option<Path> {
        let known = path(name);
        if known.is_none() {
            let what = match name {
                "metadata.event_timestamp" => "comes from `time`; drop it here".to_owned(),
                "metadata.product_log_id" => "is the id of the line; drop it here".to_owned(),
                _ => format!("is no path that can be mapped; there are {}", paths().collect::<Vec<_>>().join(", ")),
            };
            self.fault(format!("{key}.\"{name}\""), None, what);
        }
        known
    }

    fn constants(&mut self, key: &str, constants: BTreeMap<String, String>) -> Vec<(Path, String)> {
        let mut all = Vec::new();
        for (name, value) in constants {
            let Some(path) = self.path(key, &name) else { continue };
            if !(path.put)(&mut Event::default(), &value) {
                self.fault(format!("{key}.\"{name}\""), Some(&value), format!("must be {}", path.fits));
            }
            all.push((path, value));
        }
        all
    }

    fn fields(&mut self, fields: BTreeMap<String, Sources>) -> Vec<(Path, Vec<String>)> {
        let mut all = Vec::new();
        for (name, sources) in fields {
            let Some(path) = self.path("fields", &name) else { continue };
            if sources.0.iter().any(String::is_empty) || sources.0.is_empty() {
                self.fault(format!("fields.\"{name}\""), None, "names no value; write one, or drop the key");
            }
            all.push((path, sources.0));
        }
        all
    }

    /// Of what the mapping says itself: that values of text are groups of a pattern, and what else can be told.
    fn names(&mut self, own: &Mapping, parser: &Parser) {
        let rules = parser.rules.iter().map(|rule| &rule.pattern);
        let groups: BTreeSet<&str> =
            parser.patterns.iter().chain(rules).flat_map(|pattern| pattern.capture_names().flatten()).collect();
        let fields = own.fields.iter().map(|(path, sources)| (format!("fields.\"{path}\""), sources.0.as_slice()));
        let rules = own.rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| (format!("rules[{index}].field"), std::slice::from_ref(&rule.field)));
        let others =
            [("time.field".to_owned(), &*own.time.field.0), ("severity.field".to_owned(), &*own.severity.field.0)];
        for (key, names) in fields.chain(rules).chain(others) {
            for name in names.iter().filter(|name| !name.is_empty()) {
                if name.starts_with('@') && !FACTS.contains(&name.as_str()) {
                    self.fault(key.as_str(), Some(name), format!("is not known; there are {}", FACTS.join(", ")));
                }
                if parser.format == Format::Text && !name.starts_with('@') && !groups.contains(name.as_str()) {
                    let known: Vec<&str> = groups.iter().copied().collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    let what = format!("is no named group of a pattern; there are {known}");
                    self.fault(key.as_str(), Some(name), what);
                }
            }
        }
    }
}
