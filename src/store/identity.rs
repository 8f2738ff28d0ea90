//! What a pipeline is configured to be, as Redis remembers it: two nodes that differ must not both work on it.
//!
//! Every acquisition compares the digest again, so a node that was left behind (paused while the others were stopped
//! and started with other values) takes no unit any more.

use std::collections::BTreeMap;

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply::{self, Row, refusal};
use super::script;
use crate::ids::PipelineId;

/// The keys of a configuration that two nodes must agree on, with their values as text; never a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity(pub BTreeMap<String, String>);

impl Identity {
    /// Tells one from another: 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        blake3::hash(self.json().as_bytes()).to_hex()[..16].to_owned()
    }

    /// The keys in order, so that equal ones are equal texts.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

/// What Redis remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIdentity {
    /// Counts the configurations that the pipeline has had, from 1.
    pub generation: u64,
    /// The digest of its keys.
    pub digest: String,
    /// Its keys; empty where another release wrote what this one cannot read.
    pub keys: Identity,
    /// The node that wrote it.
    pub node: String,
}

/// What became of writing one down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It stood there already.
    Same(u64),
    /// It stands there now, as this generation.
    Written(u64),
    /// Another one has been written since the caller looked; nothing has changed.
    Other(StoredIdentity),
}

impl Store {
    /// What a pipeline is remembered to be; none before the first node of a release that remembers it.
    pub async fn identity(&self, link: &Link, pipeline: &PipelineId) -> Result<Option<StoredIdentity>, StoreError> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.facts(pipeline)).arg("config_generation").arg("config").arg("config_keys").arg("config_node");
        let mut row = Row::new("HMGET", link.call("HMGET", &cmd).await?)?;
        let generation = reply::text("HMGET", row.value()?)?;
        if generation.is_empty() {
            return Ok(None);
        }
        stored(generation.parse().unwrap_or(0), &mut row).map(Some)
    }

    /// Writes down what a pipeline is to be, if it still is what the caller has `seen` (a generation; 0 = none).
    ///
    /// Safe to repeat. A crash before it leaves the former configuration, a crash after it the new one, which the next
    /// node finds like any other.
    pub async fn record_identity(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        identity: &Identity,
        seen: u64,
    ) -> Result<Recorded, StoreError> {
        let args = [identity.digest(), seen.to_string(), identity.json(), self.node.clone()];
        let args: Vec<Vec<u8>> = args.into_iter().map(String::into_bytes).collect();
        let answer = link.run(&script::IDENTITY, &[self.keys.facts(pipeline)], &args).await?;
        let mut row = Row::new("identity", answer)?;
        match row.text()?.as_str() {
            "SAME" => Ok(Recorded::Same(row.number()?)),
            "WRITTEN" => Ok(Recorded::Written(row.number()?)),
            "OTHER" => {
                let generation = row.number()?;
                stored(generation, &mut row).map(Recorded::Other)
            }
            word => Err(refusal(word, &mut row)?),
        }
    }
}

fn stored(generation: u64, row: &mut Row) -> Result<StoredIdentity, StoreError> {
    let (digest, keys, node) = (row.text()?, row.text()?, row.text()?);
    Ok(StoredIdentity { generation, digest, keys: Identity(serde_json::from_str(&keys).unwrap_or_default()), node })
}
