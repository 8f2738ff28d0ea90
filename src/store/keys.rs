//! Every key in Redis, built here only. The table with types and fields stands in `docs/protocol.md`.
//!
//! All keys of a pipeline share its hash tag `{kind.name}`, so that one script may touch them in a Redis Cluster.

use crate::ids::{Address, PipelineId, UnitId};

/// The consumer group of every pool.
pub const POOL_GROUP: &str = "pool";

/// Builds keys under one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// All keys begin with `prefix`, which must not hold braces.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// String: the random id of this Redis, written by the first node.
    pub fn cluster(&self) -> String {
        format!("{}:cluster", self.prefix)
    }

    /// Hash: the live nodes, incarnation to `expiry ttl json`.
    pub fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// String, empty: written behind commits whose way to replicas or the disk is waited for.
    pub fn confirmed(&self) -> String {
        format!("{}:confirmed", self.prefix)
    }

    fn of(&self, pipeline: &PipelineId, rest: &str) -> String {
        format!("{}:{{{pipeline}}}:{rest}", self.prefix)
    }

    /// Hash: the checkpoint of a unit, with its owner, token and tip.
    pub fn checkpoint(&self, unit: &UnitId) -> String {
        self.of(&unit.pipeline, &format!("ck:{}", unit.local()))
    }

    /// String `expiry ttl` in milliseconds: until when the lease of a unit holds.
    pub fn expiry(&self, unit: &UnitId) -> String {
        self.of(&unit.pipeline, &format!("exp:{}", unit.local()))
    }

    /// List, newest first: samples of the checkpoint.
    pub fn history(&self, unit: &UnitId) -> String {
        self.of(&unit.pipeline, &format!("hist:{}", unit.local()))
    }

    /// Hash: the table of a unit, records beside its checkpoint.
    pub fn table(&self, unit: &UnitId) -> String {
        self.of(&unit.pipeline, &format!("files:{}", unit.local()))
    }

    /// Hash: the units of a pipeline that have a table.
    pub fn tables(&self, pipeline: &PipelineId) -> String {
        self.of(pipeline, "files")
    }

    /// Stream: the mailbox of an actor.
    pub fn mailbox(&self, address: &Address) -> String {
        self.of(&address.pipeline, &format!("in:{}", address.actor))
    }

    /// Sorted set: entries of a pool that come again later, by server milliseconds.
    pub fn later(&self, address: &Address) -> String {
        self.of(&address.pipeline, &format!("later:{}", address.actor))
    }

    /// Stream: what was set aside from a mailbox.
    pub fn dead(&self, address: &Address) -> String {
        self.of(&address.pipeline, &format!("dead:{}", address.actor))
    }

    /// Sorted set: dedupe ids of outside senders, by server milliseconds.
    pub fn dedupe(&self, address: &Address) -> String {
        self.of(&address.pipeline, &format!("dedupe:{}", address.actor))
    }

    /// Hash: facts of a pipeline (cluster, store, chain, head).
    pub fn facts(&self, pipeline: &PipelineId) -> String {
        self.of(pipeline, "facts")
    }

    /// Sorted set of intervals: the heights that are held.
    pub fn held(&self, pipeline: &PipelineId) -> String {
        self.of(pipeline, "held")
    }

    /// Sorted set of intervals: the heights that are parked, with the reason.
    pub fn parked(&self, pipeline: &PipelineId) -> String {
        self.of(pipeline, "parked")
    }

    /// Stream: what commits have superseded, to be destroyed after the rollback horizon.
    pub fn trash(&self, pipeline: &PipelineId) -> String {
        self.of(pipeline, "trash")
    }

    /// Channel: reorganisations, each published by the commit that follows it.
    pub fn reorgs(&self, pipeline: &PipelineId) -> String {
        self.of(pipeline, "reorgs")
    }

    /// Stream: records that an actor puts out inside Redis.
    pub fn output(&self, pipeline: &PipelineId, name: &str) -> String {
        self.of(pipeline, &format!("out:{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Kind;

    #[test]
    fn every_key_of_a_pipeline_carries_its_hash_tag() {
        let keys = Keys::new("gapless");
        let pipeline = PipelineId::new(Kind::Blocks, "mainnet");
        let unit = UnitId::slot(&pipeline, "gap_fixer", 3);
        assert_eq!(keys.checkpoint(&unit), "gapless:{blocks.mainnet}:ck:gap_fixer/3");
        assert_eq!(keys.mailbox(&Address::new(&pipeline, "gap_fixer")), "gapless:{blocks.mainnet}:in:gap_fixer");
    }
}
