//! The file that says how far a comparison is: a line of JSON for each step; the last line of a stream counts. A comparison
//! that came to its end says so in the last line: the next one begins anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::Exit;
use super::verify::Verdict;

/// The last line of a comparison that was not interrupted.
const ENDED: &str = r#"{"ended":true}"#;

/// The file, if one is kept, and what it said.
pub(super) struct Journal {
    /// What was settled before.
    pub known: BTreeMap<String, Verdict>,
    file: Option<File>,
}

impl Journal {
    pub(super) fn none() -> Self {
        Self { known: BTreeMap::new(), file: None }
    }

    pub(super) fn open(path: Option<&Path>) -> Result<Self, Exit> {
        let Some(path) = path else { return Ok(Self::none()) };
        let fault = |error: std::io::Error| {
            Exit::usage(&format!("cannot use {}: {error}; name another --progress FILE", path.display()))
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(fault(error)),
        };
        let is_over = text.lines().next_back() == Some(ENDED);
        // A line that was cut off by a kill says nothing.
        let verdicts = text.lines().filter_map(|line| serde_json::from_str::<Verdict>(line).ok());
        let known: BTreeMap<String, Verdict> = verdicts.map(|verdict| (verdict.stream.clone(), verdict)).collect();
        if known.is_empty() && !text.trim().is_empty() && !is_over && text.contains('\n') {
            let words = format!("{} is no progress file of sync verify; it is left as it is", path.display());
            return Err(Exit::usage(&words));
        }
        let mut options = OpenOptions::new();
        let options = if is_over { options.write(true).truncate(true) } else { options.create(true).append(true) };
        let mut file = options.open(path).map_err(fault)?;
        if !is_over && !text.is_empty() && !text.ends_with('\n') {
            writeln!(file).map_err(fault)?;
        }
        Ok(Self { known: if is_over { BTreeMap::new() } else { known }, file: Some(file) })
    }

    /// How far one stream is.
    pub(super) fn write(&mut self, verdict: &Verdict) -> Result<(), Exit> {
        self.line(&serde_json::to_string(verdict).unwrap_or_default())
    }

    /// Everything was compared.
    pub(super) fn end(&mut self) -> Result<(), Exit> {
        self.line(ENDED)
    }

    fn line(&mut self, line: &str) -> Result<(), Exit> {
        let Some(file) = &mut self.file else { return Ok(()) };
        writeln!(file, "{line}").map_err(|error| Exit::usage(&format!("cannot write the progress file: {error}")))
    }
}
