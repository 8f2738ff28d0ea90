//! Layers: what each file, the environment and the arguments say, with the place of every key.
//!
//! The `config` crate merges the layers, but knows neither lines nor the names of variables. So the files are parsed
//! here, once, by `toml` with its spans, and handed over as values; the places are kept beside them, by key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::report::{Fault, Place};
use super::settings::redact_url;
use crate::ids::is_name;

/// Largest configuration file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// What every variable begins with.
const VARIABLE_PREFIX: &str = "GAPLESS__";

/// The places of each key and of its value, by its dotted path; the layer that was added last wins, as for the values.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, [Place; 2]>);

impl Places {
    /// Where the value at `path` stands, or the name of the nearest table around it.
    pub(super) fn of_value(&self, path: &str) -> Place {
        self.find(path).map_or(Place::Nowhere, |[_, value]| value.clone())
    }

    /// Where the key at `path` stands, or the name of the nearest table around it.
    pub(super) fn of_key(&self, path: &str) -> Place {
        self.find(path).map_or(Place::Nowhere, |[key, _]| key.clone())
    }

    fn find(&self, mut path: &str) -> Option<&[Place; 2]> {
        loop {
            if let Some(places) = self.0.get(path) {
                return Some(places);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// The layers in the order of merging, and what was wrong with their form.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    places: Places,
    /// What was wrong so far.
    pub(super) faults: Vec<Fault>,
    /// Whether some file could not be read in full, so that nothing can be called missing.
    pub(super) incomplete: bool,
}

/// One layer as `config` takes it.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layers {
    /// Reads a file; one that cannot be read is a fault.
    pub(super) fn add_file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
        let read = if size > FILE_MAX {
            Err(format!("{size} bytes are too many; a configuration has at most {FILE_MAX}"))
        } else {
            std::fs::read_to_string(path).map_err(|error| format!("cannot be read ({error}); check --config"))
        };
        match read {
            Ok(text) => self.add_text(&file, &text),
            Err(what) => {
                self.incomplete = true;
                let place = Place::WholeFile(file);
                self.faults.push(Fault { place, key: String::new(), value: None, what, hide: false });
            }
        }
    }

    /// Takes TOML; `file` is its name in the report.
    pub(super) fn add_text(&mut self, file: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut walk = Walk { file, text, rank: self.layers.len(), places: &mut self.places, faults: &mut self.faults };
        for error in &errors {
            walk.syntax(error.span().unwrap_or_default(), error.message());
        }
        let values = walk.table("", table.get_ref());
        self.incomplete |= !errors.is_empty();
        self.layers.push(Layer(values));
    }

    /// Takes the variables that begin with `GAPLESS__`; two underscores stand for a dot.
    pub(super) fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let mut values = Value::from(Map::<String, Value>::new());
        // Sorted, so that the report does not depend on the order of the environment.
        let variables: BTreeMap<String, String> = variables.filter(|(v, _)| v.starts_with(VARIABLE_PREFIX)).collect();
        for (variable, text) in &variables {
            let name = &variable[VARIABLE_PREFIX.len()..];
            let path: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
            let place = Place::Environment(variable.clone());
            if name.chars().any(|c| c.is_ascii_lowercase()) || !path.iter().all(|part| is_name(part)) {
                let what = "no key is written like this; write GAPLESS__TABLE__KEY in capitals, for example \
                            GAPLESS__REDIS__URL"
                    .to_owned();
                self.faults.push(Fault { place, key: String::new(), value: None, what, hide: true });
                continue;
            }
            if variables.keys().any(|other| other.strip_prefix(variable).is_some_and(|rest| rest.starts_with("__"))) {
                let what = "is a table, since other variables set keys in it; remove this one".to_owned();
                self.faults.push(Fault { place, key: path.join("."), value: None, what, hide: true });
                continue;
            }
            set(&mut values, &path, ValueKind::String(text.clone()));
            self.remember(&path, place);
        }
        self.layers.push(Layer(values.into_table().unwrap_or_default()));
    }

    /// Takes one value of the command line.
    pub(super) fn add_argument(&mut self, argument: &'static str, path: [&str; 2], text: &str) {
        let path = path.map(str::to_owned);
        let mut values = Value::from(Map::<String, Value>::new());
        set(&mut values, &path, ValueKind::String(text.to_owned()));
        self.remember(&path, Place::Argument(argument));
        self.layers.push(Layer(values.into_table().unwrap_or_default()));
    }

    /// Keeps the place of a key, and of the tables around it where no file has them.
    fn remember(&mut self, path: &[String], place: Place) {
        for depth in 1..path.len() {
            self.places.0.entry(path[..depth].join(".")).or_insert_with(|| [place.clone(), place.clone()]);
        }
        self.places.0.insert(path.join("."), [place.clone(), place]);
    }

    /// Merges: tables key by key, everything else as a whole.
    pub(super) fn merge(self) -> (Map<String, Value>, Places, Vec<Fault>, bool) {
        let mut builder = Config::builder();
        for layer in self.layers {
            builder = builder.add_source(layer);
        }
        let mut faults = self.faults;
        let merged = builder.build().and_then(|merged| merged.cache.into_table()).unwrap_or_else(|error| {
            let (key, what) = (String::new(), format!("cannot be merged: {error}"));
            faults.push(Fault { place: Place::Nowhere, key, value: None, what, hide: false });
            Map::new()
        });
        (merged, self.places, faults, self.incomplete)
    }
}

/// Puts a value at a path; a text that stands where a table is needed gives way, and the merged tree tells of it.
fn set(table: &mut Value, path: &[String], kind: ValueKind) {
    let Some((first, rest)) = path.split_first() else {
        table.kind = kind;
        return;
    };
    if !matches!(table.kind, ValueKind::Table(_)) {
        table.kind = ValueKind::Table(Map::new());
    }
    if let ValueKind::Table(entries) = &mut table.kind {
        set(entries.entry(first.clone()).or_insert_with(|| Value::from(Map::<String, Value>::new())), rest, kind);
    }
}

/// Whether the names in the table at `path` are not those of keys of ours: paths of events, words of lines.
fn has_free_names(path: &str) -> bool {
    let Some((pipeline, below)) = path.rsplit_once(".parse.") else { return false };
    let is_logs = pipeline == "defaults.logs" || pipeline.starts_with("logs.");
    let of_rule = || below.starts_with("rules[") && below.ends_with("].constants");
    is_logs && (matches!(below, "fields" | "constants" | "severity.words") || of_rule())
}

/// One file on its way from TOML to values.
struct Walk<'a> {
    file: &'a str,
    text: &'a str,
    rank: usize,
    places: &'a mut Places,
    faults: &'a mut Vec<Fault>,
}

impl Walk<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Map<String, Value> {
        let mut values = Map::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let is_free = has_free_names(path);
            let dotted = match (path.is_empty(), is_free) {
                (true, _) => name.to_owned(),
                (false, true) => format!("{path}.\"{name}\""),
                (false, false) => format!("{path}.{name}"),
            };
            let key_place = self.place(key.span());
            if !is_name(name) && !is_free {
                let what = "names are written with a-z, 0-9 and _, at most 64 of them; rename it".to_owned();
                self.faults.push(Fault { place: key_place, key: dotted, value: None, what, hide: true });
                continue;
            }
            let is_table = matches!(value.get_ref(), DeValue::Table(_));
            let value_place = if is_table { key_place.clone() } else { self.place(value.span()) };
            self.places.0.insert(dotted.clone(), [key_place, value_place]);
            values.insert(name.to_owned(), self.value(&dotted, value.get_ref()));
        }
        values
    }

    fn value(&mut self, path: &str, value: &DeValue<'_>) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.as_ref().to_owned()),
            // What does not fit becomes a text, which no number accepts.
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(fits) => ValueKind::I64(fits),
                Err(_) => ValueKind::String(number.as_str().to_owned()),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(fits) => ValueKind::Float(fits),
                Err(_) => ValueKind::String(number.as_str().to_owned()),
            },
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let place = self.place(item.span());
                    self.places.0.insert(path.clone(), [place.clone(), place]);
                    values.push(self.value(&path, item.get_ref()));
                }
                ValueKind::Array(values)
            }
            DeValue::Table(table) => ValueKind::Table(self.table(path, table)),
        };
        Value::new(None, kind)
    }

    fn syntax(&mut self, span: Range<usize>, message: &str) {
        let place = self.place(span);
        // The parser stops anywhere, also inside a password.
        let hide = match &place {
            Place::File { text, .. } => {
                ["password", "token", "secret"].iter().any(|word| text.contains(word)) || redact_url(text) != *text
            }
            Place::WholeFile(_) | Place::Environment(_) | Place::Argument(_) | Place::Nowhere => false,
        };
        let what = format!("not TOML: {}", message.replace('\n', ", "));
        self.faults.push(Fault { place, key: String::new(), value: None, what, hide });
    }

    /// Line and column of a range of bytes.
    fn place(&self, span: Range<usize>) -> Place {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |end| start + end);
        let text = self.text[line_start..line_end].trim_end_matches('\r');
        let (rank, line) = (self.rank, before.matches('\n').count() + 1);
        let column = before[line_start..].chars().count();
        let marked = self.text.get(start..span.end.clamp(start, line_end)).unwrap_or_default();
        let width = marked.chars().count().max(1);
        Place::File { rank, line, column, width, file: self.file.to_owned(), text: text.to_owned() }
    }
}
