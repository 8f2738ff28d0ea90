//! Who lives, and who holds what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply::{self, Row};
use super::script;
use crate::ids::{PipelineId, RandomId, Token, UnitId};

/// What a node says of itself in each heartbeat; read by other nodes and by `gapless status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct NodeInfo {
    /// Its configured name; names may repeat, incarnations never do.
    pub name: String,
    /// Random, new at each start.
    pub incarnation: RandomId,
    /// The id of its host: local units run only there.
    pub host: String,
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

/// A unit as Redis shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSeen {
    /// Whether the lease that was named has been renewed.
    pub renewed: bool,
    /// Milliseconds until it is free; 0 if it is.
    pub left_ms: u64,
    /// The acquisition that holds it.
    pub owner: RandomId,
    /// The node that holds it, or held it last.
    pub node: String,
    /// The newest token.
    pub token: Token,
    /// The stored tip.
    pub tip: RandomId,
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
        let mut row = Row::new("heartbeat", link.run(&script::HEARTBEAT, &[self.keys.nodes()], &args).await?)?;
        let _now = row.text()?;
        // A member that this release cannot read is a member of another release: alive, but nothing to plan with.
        let nodes = row.rest().filter_map(|value| reply::bytes("heartbeat", value).ok());
        let mut nodes: Vec<NodeInfo> = nodes.filter_map(|json| serde_json::from_slice(&json).ok()).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name).then(a.incarnation.as_str().cmp(b.incarnation.as_str())));
        Ok(nodes)
    }

    /// Renews the leases named with their token and owner, and shows every unit of the pipeline.
    pub async fn beat(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        units: &[(UnitId, Option<(Token, RandomId)>)],
    ) -> Result<Vec<UnitSeen>, StoreError> {
        debug_assert!(units.iter().all(|(unit, _)| unit.pipeline == *pipeline), "one hash tag a script");
        let mut keys = Vec::with_capacity(2 * units.len());
        let mut args = vec![link.options().lease.as_millis().to_string().into_bytes()];
        for (unit, held) in units {
            keys.push(self.keys.checkpoint(unit));
            keys.push(self.keys.expiry(unit));
            let (token, owner) = held.as_ref().map_or((String::new(), ""), |(t, o)| (t.to_string(), o.as_str()));
            args.push(token.into_bytes());
            args.push(owner.as_bytes().to_vec());
        }
        let row = Row::new("beat", link.run(&script::BEAT, &keys, &args).await?)?;
        row.rest().map(unit_seen).collect()
    }
}

fn unit_seen(value: redis::Value) -> Result<UnitSeen, StoreError> {
    let mut row = Row::new("beat", value)?;
    Ok(UnitSeen {
        renewed: row.number()? == 1,
        left_ms: row.number()?,
        owner: RandomId::stored(&row.text()?),
        node: row.text()?,
        token: Token(row.text()?.parse().unwrap_or(0)),
        tip: RandomId::stored(&row.text()?),
    })
}
