//! The report of everything that is wrong with a configuration, each fault with its place and its remedy.

use std::collections::BTreeSet;
use std::fmt;

/// Most faults that are shown; the rest is counted.
const SHOWN_MAX: usize = 50;
/// Longest excerpt of a line or a value, in characters.
const EXCERPT_MAX: usize = 100;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A line of a file.
    File {
        /// Its place in the order of merging.
        rank: usize,
        /// From 1.
        line: usize,
        /// From 0, in characters.
        column: usize,
        /// In characters, at least 1.
        width: usize,
        /// As it was given.
        file: String,
        /// The whole line.
        text: String,
    },
    /// A file as a whole.
    WholeFile(String),
    /// A variable.
    Environment(String),
    /// A command line argument.
    Argument(&'static str),
    /// Nobody wrote it.
    Nowhere,
}

impl Place {
    /// Whether nobody wrote it: the compiled-in file is the first that is merged.
    pub(super) fn is_default(&self) -> bool {
        matches!(self, Place::File { rank: 0, .. })
    }

    /// The rank of the file and the line, if it is one.
    fn line(&self) -> Option<(usize, usize)> {
        match self {
            Place::File { rank, line, .. } => Some((*rank, *line)),
            Place::WholeFile(_) | Place::Environment(_) | Place::Argument(_) | Place::Nowhere => None,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    /// Where.
    pub place: Place,
    /// The path of the key; empty when a whole file is meant.
    pub key: String,
    /// The value as it may be shown.
    pub value: Option<String>,
    /// What is wrong, and what to do.
    pub what: String,
    /// Whether the line may hold a secret, so that only its key is shown.
    pub hide: bool,
}

/// Every fault of a configuration. Its text is the whole report; the caller exits with code 2.
///
/// Keeps G11: bad input is refused with an error that names the place.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigReport {
    faults: Vec<Fault>,
}

impl ConfigReport {
    /// Orders the faults by place, and drops doubles (a default that several pipelines use) and what follows from a
    /// line that is no TOML.
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        let broken: BTreeSet<(usize, usize)> =
            faults.iter().filter(|fault| fault.key.is_empty()).filter_map(|fault| fault.place.line()).collect();
        faults.retain(|fault| fault.key.is_empty() || fault.place.line().is_none_or(|line| !broken.contains(&line)));
        faults.sort();
        faults.dedup();
        Self { faults }
    }

    /// A report of a single sentence that belongs to no key.
    pub(super) fn one(what: &str) -> Self {
        let (key, what) = (String::new(), what.to_owned());
        Self { faults: vec![Fault { place: Place::Nowhere, key, value: None, what, hide: false }] }
    }

    /// How many faults it holds.
    pub fn count(&self) -> usize {
        self.faults.len()
    }
}

impl std::error::Error for ConfigReport {}

impl fmt::Debug for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => write!(f, "the configuration has a fault:")?,
            count => write!(f, "the configuration has {count} faults:")?,
        }
        for fault in self.faults.iter().take(SHOWN_MAX) {
            write!(f, "\n{fault}")?;
        }
        match self.faults.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { file, line, .. } => write!(f, "{file}:{line}: ")?,
            Place::WholeFile(file) => write!(f, "{file}: ")?,
            Place::Environment(variable) => write!(f, "environment {variable}: ")?,
            Place::Argument(argument) => write!(f, "argument {argument}: ")?,
            Place::Nowhere => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}", self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {}", shown(value))?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.what)?;
        self.excerpt(f)
    }
}

impl Fault {
    /// The line and a caret below the place, as compilers do it.
    fn excerpt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place::File { line, column, width, text, .. } = &self.place else {
            return Ok(());
        };
        let visible = if self.hide { key_part(text) } else { shown(text) };
        let last = visible.chars().count();
        // In a hidden or shortened line the caret stays at its end.
        let column = (*column).min(last.saturating_sub(1));
        let width = (*width).min(last.saturating_sub(column)).max(1);
        let gutter = line.to_string();
        write!(f, "\n  {gutter} | {visible}")?;
        write!(f, "\n  {:gutter$} | {:column$}{}", "", "", "^".repeat(width), gutter = gutter.len())
    }
}

/// `text` without anything that could move a terminal's cursor, and not too long.
fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = clean.take(EXCERPT_MAX).collect();
    if text.chars().count() > EXCERPT_MAX {
        short.push_str("...");
    }
    short
}

/// The part of a line that holds no value: what stands before the equals sign, or the name of a table.
fn key_part(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) => format!("{}= ...", shown(key)),
        None if line.trim_start().starts_with('[') && !line.contains(['"', '\'']) => shown(line),
        None => "...".to_owned(),
    }
}
