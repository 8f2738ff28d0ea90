//! Who lives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Store;
pub use super::beat::UnitSeen;
use super::error::StoreError;
use super::link::Link;
use super::reply::{self, Row};
use super::script;
use crate::ids::RandomId;

/// What a node says of itself in each heartbeat; read by other nodes and by `gapless status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct NodeInfo {
    /// Its configured name; names may repeat, incarnations never do.
    pub name: String,
    /// Random, new at each start.
    pub incarnation: RandomId,
    /// The id of its host: local units run only there.
    pub host: String,
    /// Tells machines apart that give themselves out as one host; empty from releases that did not say.
    #[serde(default)]
    pub machine: String,
    /// Its process.
    pub pid: u32,
    /// The release that it runs.
    pub release: String,
    /// The newest format that it reads and writes ([`format`](super::format)).
    pub format: u64,
    /// Where it serves HTTP; empty if it does not.
    pub http: String,
    /// It gives its units away and takes none.
    pub draining: bool,
    /// Pipelines and actors that it may run (`--only`), as `kind.name/actor`.
    pub runs: Vec<String>,
    /// Slots of each pool in its configuration, by `kind.name/actor`. None are named by releases that knew no such
    /// field: those may have any slot.
    #[serde(default)]
    pub slots: BTreeMap<String, u32>,
    /// Seconds since 1970 at its start, by its own clock; for people.
    pub started_at: i64,
    /// What its units do.
    pub units: Vec<UnitReport>,
    /// Pipelines that it gave up as a whole for a while; no unit of them is for it.
    #[serde(default)]
    pub given_up: Vec<GroupReport>,
    /// Why it is not ready, and what follows; empty if it is. Draining has a field of its own.
    #[serde(default)]
    pub unready: String,
    /// By `kind.name`: the digest of what it was told of each pipeline that it runs ([`identity`](super::identity)).
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
}

/// A pipeline that a node gave up as a whole for a while.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct GroupReport {
    /// `kind.name`.
    pub pipeline: String,
    /// Milliseconds until it is tried again.
    pub again_in_ms: u64,
    /// Why.
    pub reason: String,
}

/// One unit of one node, as the node sees it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct UnitReport {
    /// `kind.name/actor`.
    pub unit: String,
    /// `running`, `restarting`, `failed`, `blocked`.
    pub state: String,
    /// Restarts since the node's start.
    pub restarts: u64,
    /// Why it last ended; empty if it never did.
    pub last_error: String,
}

impl Store {
    /// Says that this node lives, for `ttl_ms`, and answers who else does.
    pub async fn heartbeat(&self, link: &Link, me: &NodeInfo, ttl_ms: u64) -> Result<Vec<NodeInfo>, StoreError> {
        let json = serde_json::to_string(me).map_err(|e| StoreError::Protocol(e.to_string()))?;
        self.members(link, &[me.incarnation.as_str(), &ttl_ms.to_string(), &json]).await
    }

    /// Takes this node off the list of the living.
    pub async fn leave(&self, link: &Link, incarnation: &RandomId) -> Result<Vec<NodeInfo>, StoreError> {
        self.members(link, &[incarnation.as_str(), "0", ""]).await
    }

    /// The live nodes.
    pub async fn nodes(&self, link: &Link) -> Result<Vec<NodeInfo>, StoreError> {
        self.members(link, &["", "1", ""]).await
    }

    async fn members(&self, link: &Link, args: &[&str]) -> Result<Vec<NodeInfo>, StoreError> {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        read_members(Row::new("heartbeat", link.run(&script::HEARTBEAT, &[self.keys.nodes()], &args).await?)?)
    }
}

/// Reads `now json...`, sorted by name.
pub(super) fn read_members(mut row: Row) -> Result<Vec<NodeInfo>, StoreError> {
    let _now = row.text()?;
    // A member that this release cannot read is a member of another release: alive, but nothing to plan with.
    let nodes = row.rest().filter_map(|value| reply::bytes("heartbeat", value).ok());
    let mut nodes: Vec<NodeInfo> = nodes.filter_map(|json| serde_json::from_slice(&json).ok()).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name).then(a.incarnation.as_str().cmp(b.incarnation.as_str())));
    Ok(nodes)
}
