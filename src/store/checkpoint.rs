//! Checkpoints and their history, for people. Nothing here decides anything.

use serde::Serialize;

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply::{self, Row};
use crate::ids::{PipelineId, UnitId};

/// A checkpoint as it stands in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Shown {
    /// `kind.name/actor`.
    pub unit: String,
    /// The node that holds it, or held it last.
    pub node: String,
    /// Whether somebody holds it, as far as the stored owner tells.
    pub owned: bool,
    /// The newest fencing token.
    pub token: String,
    /// The tip: the id of the last fenced script that mattered.
    pub tip: String,
    /// Commits so far.
    pub seq: u64,
    /// The last entry that was taken from the mailbox.
    pub offset: String,
    /// The actor's own state (JSON).
    pub state: String,
    /// The lowest format that a release must know to hold it.
    pub needs: String,
    /// Server milliseconds of the last commit; 0 before the first.
    pub committed_ms: u64,
    /// Failed attempts at the entry in hand.
    pub failed: u64,
    /// Unfinished attempts at the entry in hand.
    pub unfinished: u64,
    /// Why the last failed attempt failed.
    pub fault: String,
}

/// One sample of a checkpoint's past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Sample {
    /// `acquire`, `sample`, or `rewind` (what stood before it).
    pub why: String,
    /// Commits at the time.
    pub seq: String,
    /// The fencing token.
    pub token: String,
    /// The node that held it.
    pub node: String,
    /// Server milliseconds.
    pub time_ms: String,
    /// The mailbox offset.
    pub offset: String,
    /// The actor's state (JSON).
    pub state: String,
}

impl Shown {
    /// Server milliseconds since when an operator has it paused; none if it is not, or is no source.
    pub fn paused_ms(&self) -> Option<u64> {
        #[derive(serde::Deserialize)]
        struct Pause {
            #[serde(default)]
            paused_ms: Option<u64>,
        }
        // A state of another form is not paused by anything that this release knows.
        serde_json::from_str::<Pause>(&self.state).ok()?.paused_ms
    }
}

impl Store {
    /// Reads a checkpoint; none if the unit was never acquired.
    pub async fn checkpoint(&self, link: &Link, unit: &UnitId) -> Result<Option<Shown>, StoreError> {
        let value = link.call("HGETALL", redis::cmd("HGETALL").arg(self.keys.checkpoint(unit))).await?;
        let fields = reply::pairs("HGETALL", value)?;
        if fields.is_empty() {
            return Ok(None);
        }
        let mut shown = Shown { unit: unit.to_string(), offset: "0-0".to_owned(), ..Shown::default() };
        for (name, value) in fields {
            match name.as_str() {
                "node" => shown.node = value,
                "owner" => shown.owned = !value.is_empty(),
                "token" => shown.token = value,
                "tip" => shown.tip = value,
                "seq" => shown.seq = value.parse().unwrap_or(0),
                "offset" => shown.offset = value,
                "state" => shown.state = value,
                "needs" => shown.needs = value,
                "time" => shown.committed_ms = value.parse().unwrap_or(0),
                "failed" => shown.failed = value.parse().unwrap_or(0),
                "unfinished" => shown.unfinished = value.parse().unwrap_or(0),
                "fault" => shown.fault = value,
                _ => {}
            }
        }
        Ok(Some(shown))
    }

    /// The samples of a checkpoint's past, newest first.
    pub async fn history(&self, link: &Link, unit: &UnitId) -> Result<Vec<Sample>, StoreError> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.keys.history(unit)).arg(0).arg(-1);
        let row = Row::new("LRANGE", link.call("LRANGE", &cmd).await?)?;
        let samples = row.rest().filter_map(|value| reply::bytes("LRANGE", value).ok());
        Ok(samples.filter_map(|json| serde_json::from_slice(&json).ok()).collect())
    }

    /// The facts of a pipeline, sorted by name.
    pub async fn facts(&self, link: &Link, pipeline: &PipelineId) -> Result<Vec<(String, String)>, StoreError> {
        let value = link.call("HGETALL", redis::cmd("HGETALL").arg(self.keys.facts(pipeline))).await?;
        let mut facts = reply::pairs("HGETALL", value)?;
        facts.sort();
        Ok(facts)
    }
}
