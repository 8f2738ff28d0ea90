//! The regular exchange with Redis: heartbeat, renewals, and a look at every unit. One in flight at a time.

use std::collections::BTreeMap;

use crate::actors::turn::Unit;
use crate::ids::{Address, PipelineId, RandomId, Token, UnitId};
use crate::store::link::Link;
use crate::store::membership::{NodeInfo, UnitSeen};
use crate::store::pool::Owed;
use crate::store::{Store, StoreError};

/// What the supervisor knew of a held unit when the beat was sent.
#[derive(Debug, Clone)]
pub struct Known {
    /// The acquisition.
    pub owner: RandomId,
    /// The fencing token.
    pub token: Token,
    /// The tip.
    pub tip: RandomId,
    /// Fenced requests so far; odd while one was under way.
    pub operations: u64,
}

impl Known {
    /// Takes the picture. The count is read first: a request that begins in between makes it differ afterwards.
    pub fn of(unit: &Unit) -> Self {
        let operations = unit.lease.operations();
        let held = unit.lease.held();
        Self { owner: held.owner, token: held.token, tip: held.tip, operations }
    }

    /// Whether Redis shows another history than this holder knows. Only an idle moment tells: the count is even,
    /// and the same as when the picture was taken.
    pub fn is_contradicted(&self, seen: &UnitSeen, operations_now: u64) -> bool {
        if !seen.renewed {
            return true;
        }
        self.operations.is_multiple_of(2) && self.operations == operations_now && seen.tip != self.tip
    }
}

/// What a beat is about.
pub struct Question {
    /// This node.
    pub me: NodeInfo,
    /// Its units, by pipeline; those that it holds with what is known of them.
    pub units: BTreeMap<PipelineId, Vec<(UnitId, Option<Known>)>>,
    /// Pools whose slots are to be looked at this time.
    pub pools: Vec<Address>,
}

/// What it found.
pub struct Answer {
    /// The live nodes.
    pub nodes: Vec<NodeInfo>,
    /// Every unit.
    pub units: Vec<(UnitId, Option<Known>, UnitSeen)>,
    /// Pipelines whose units could not be looked at, and why.
    pub refused: Vec<(PipelineId, StoreError)>,
    /// What the slots of each pool that was looked at owe.
    pub owed: Vec<(Address, Vec<Owed>)>,
    /// The id of this Redis; none if it has none: it was emptied.
    pub cluster: Option<RandomId>,
}

/// Exchanges once.
pub async fn exchange(store: &Store, link: &Link, question: Question) -> Result<Answer, StoreError> {
    let ttl = u64::try_from(link.options().lease.as_millis()).unwrap_or(u64::MAX);
    // Leases first, since what delays the rest must not cost a lease; but a node that drains says so before its
    // units are seen to be free, or the others would leave them to it.
    if question.me.draining {
        store.heartbeat(link, &question.me, ttl).await?;
    }
    let (mut units, mut refused) = (Vec::new(), Vec::new());
    for (pipeline, asked) in question.units {
        let named: Vec<(UnitId, Option<(Token, RandomId)>)> =
            asked.iter().map(|(id, known)| (id.clone(), known.as_ref().map(|k| (k.token, k.owner.clone())))).collect();
        match store.beat(link, &pipeline, &named).await {
            Ok(seen) => units.extend(asked.into_iter().zip(seen).map(|((id, known), seen)| (id, known, seen))),
            Err(error @ StoreError::Unreachable { .. }) => return Err(error),
            // One pipeline whose keys are broken must not cost the others their leases.
            Err(error) => refused.push((pipeline, error)),
        }
    }
    let nodes = store.heartbeat(link, &question.me, ttl).await?;
    let mut owed = Vec::new();
    for pool in question.pools {
        match store.owed(link, &pool).await {
            Ok(slots) => owed.push((pool, slots)),
            Err(error @ StoreError::Unreachable { .. }) => return Err(error),
            // A key of another type: the units of the pool say so themselves.
            Err(error) => tracing::debug!(%pool, %error, "cannot see what the slots owe"),
        }
    }
    let cluster = store.cluster_id(link).await?;
    Ok(Answer { nodes, units, refused, owed, cluster })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(renewed: bool, tip: &str) -> UnitSeen {
        UnitSeen {
            renewed,
            left_ms: 3000,
            owner: RandomId::stored("o"),
            node: "n".to_owned(),
            token: Token(1),
            tip: RandomId::stored(tip),
        }
    }

    #[test]
    fn only_an_idle_holder_is_contradicted_by_a_tip() {
        let known = |operations| Known {
            owner: RandomId::stored("o"),
            token: Token(1),
            tip: RandomId::stored("t"),
            operations,
        };
        assert!(known(4).is_contradicted(&seen(true, "other"), 4));
        assert!(!known(4).is_contradicted(&seen(true, "t"), 4));
        assert!(!known(3).is_contradicted(&seen(true, "other"), 3), "a commit was under way");
        assert!(!known(4).is_contradicted(&seen(true, "other"), 5), "a commit began meanwhile");
        assert!(known(3).is_contradicted(&seen(false, "t"), 3), "a lost lease is lost at any time");
    }
}
