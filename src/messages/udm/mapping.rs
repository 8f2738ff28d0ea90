//! What is configured, as `[logs.NAME.parse]`, and how it lies over a preset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How lines become events. Every key may be missing; with `preset` what is missing comes from there.
///
/// ```toml
/// [logs.shop.parse]
/// format = "json"
/// time = { field = "ts", formats = ["unix_ms"] }
/// severity = { field = "level", words = { oops = "HIGH" } }
///
/// [logs.shop.parse.fields]
/// "principal.ip" = ["client", "/request/remote"]
/// "security_result.summary" = "msg"
///
/// [logs.shop.parse.constants]
/// "metadata.product_name" = "shop"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// The name of a preset that this mapping lies over.
    pub preset: Option<String>,
    /// How lines are taken apart.
    pub format: Option<Format>,
    /// For text: regular expressions for the whole line, the first that fits counts. Named groups, `(?<host>\S+)`, are
    /// the values.
    pub patterns: Vec<String>,
    /// Where the time comes from.
    pub time: TimeMapping,
    /// Where the severity comes from.
    pub severity: SeverityMapping,
    /// Paths of UDM with the values that go there; of several the first that the line has.
    pub fields: BTreeMap<String, Sources>,
    /// Paths of UDM with what is always put there, unless a field has something.
    pub constants: BTreeMap<String, String>,
    /// Looked at in order, the first that fits counts.
    pub rules: Vec<Rule>,
}

/// How lines are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An object of JSON. A value is named by its key, or by a pointer such as `/request/remote`.
    Json,
    /// `key=value`, with quotes where needed.
    Logfmt,
    /// Text, by patterns.
    Text,
}

/// The names of values: one, or several in order of preference.
///
/// `@host`, `@file` and `@level` are what is known without the line: its host, the path of its file, its level.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "Vec<String>")]
pub struct Sources(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a name, or a list of names")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Sources {
    fn from(names: OneOrMany) -> Self {
        match names {
            OneOrMany::One(name) => Self(vec![name]),
            OneOrMany::Many(names) => Self(names),
        }
    }
}

impl From<Sources> for Vec<String> {
    fn from(sources: Sources) -> Self {
        sources.0
    }
}

/// Where the time of an event comes from; without a value in the line it is the time at which the line was received.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeMapping {
    /// The value.
    pub field: Sources,
    /// Tried in order: `rfc3339`, `iso` (without a zone), `unix` (seconds), `unix_ms`, `unix_us`, `unix_ns`,
    /// `unix_auto` (by magnitude), or a form of strptime such as `%b %e %H:%M:%S`.
    pub formats: Vec<String>,
    /// The zone of times that name none: `UTC`, `+02:00` or `Europe/Berlin`. UTC by default.
    pub zone: Option<String>,
    /// The year of times that name none; by default the latest with which the time is at most a day after the line was
    /// received.
    pub year: Option<i16>,
}

/// Where the severity of an event comes from; without a value in the line it is the line's level.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeverityMapping {
    /// The value.
    pub field: Sources,
    /// Severities of UDM for words that the line uses; upper and lower case are the same. They come before the built-in
    /// ones.
    pub words: BTreeMap<String, String>,
}

/// What else a value says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The value that is looked at.
    pub field: String,
    /// A regular expression that is searched for in it. Named groups are further values.
    pub pattern: String,
    /// Paths of UDM with what is put there if it fits; they replace what fields and constants put there.
    pub constants: BTreeMap<String, String>,
}

impl Mapping {
    /// Lays this mapping over another: key by key what is set here counts; rules of here come first.
    pub(super) fn over(mut self, below: Mapping) -> Mapping {
        let or = |above: Sources, below: Sources| if above.0.is_empty() { below } else { above };
        let mut fields = below.fields;
        fields.append(&mut self.fields);
        let mut constants = below.constants;
        constants.append(&mut self.constants);
        let mut words = below.severity.words;
        words.append(&mut self.severity.words);
        self.rules.extend(below.rules);
        Mapping {
            preset: None,
            format: self.format.or(below.format),
            patterns: if self.patterns.is_empty() { below.patterns } else { self.patterns },
            time: TimeMapping {
                field: or(self.time.field, below.time.field),
                formats: if self.time.formats.is_empty() { below.time.formats } else { self.time.formats },
                zone: self.time.zone.or(below.time.zone),
                year: self.time.year.or(below.time.year),
            },
            severity: SeverityMapping { field: or(self.severity.field, below.severity.field), words },
            fields,
            constants,
            rules: self.rules,
        }
    }
}
