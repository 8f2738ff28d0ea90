//! What the checkpoint of a LogParser holds: how many lines became what. Where it stands is its offset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decide::Decided;
use crate::actors::turn::Error;

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParserState {
    /// Lines that became events, ever.
    pub events: u64,
    /// Lines that became none, ever.
    pub unparsed: u64,
    /// The same by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
    /// Of the lines that were ever added to the stream, how many end with the last one that was dealt with; none before
    /// the first. With it the lag is told in lines. It may be wrong where entries were deleted by hand, until the parser
    /// has caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
}

impl ParserState {
    /// Reads the state of a checkpoint; nothing is the first one.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|e| format!("the checkpoint's state cannot be read: {e}"))
    }

    pub(super) fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| Error::Fault(e.to_string()))
    }

    /// After these lines.
    pub(super) fn add(&mut self, decided: &Decided) {
        self.events += decided.events.len() as u64;
        self.unparsed += decided.unparsed.len() as u64;
        for (reason, count) in &decided.reasons {
            *self.reasons.entry((*reason).to_owned()).or_default() += count;
        }
        self.place = self.place.map(|place| place + decided.count());
    }
}
