//! The regular exchange with Redis: heartbeat, renewals, and a look at every unit. One in flight at a time.
//!
//! It is also the only look that an idle unit's mailbox gets beside the bell. So a ring that was lost costs one beat at
//! most, and a node with nothing to do asks Redis nothing else.

use std::collections::BTreeMap;

use crate::actors::turn::Unit;
use crate::ids::{Address, PipelineId, RandomId, Token, UnitId};
use crate::store::beat::{Asked, UnitSeen};
use crate::store::lease::Mail;
use crate::store::link::Link;
use crate::store::membership::NodeInfo;
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
    /// How it reads its mailbox, if it slept: then it is to be woken for mail. Who works finds the mail itself.
    pub mail: Option<Mail>,
}

impl Known {
    /// Takes the picture. The count is read first: a request that begins in between makes it differ afterwards.
    pub fn of(unit: &Unit) -> Self {
        let operations = unit.lease.operations();
        let held = unit.lease.held();
        let mail = unit.is_asleep().then(|| unit.lease.mail());
        Self { owner: held.owner, token: held.token, tip: held.tip, operations, mail }
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

/// Exchanges once: in one request, unless Redis refuses to do it all in one script; once a lease one more a pool.
pub async fn exchange(store: &Store, link: &Link, mut question: Question) -> Result<Answer, StoreError> {
    let pools = std::mem::take(&mut question.pools);
    let mut answer = match together(store, link, &question).await {
        Err(StoreError::Unreachable { address, reason }) => return Err(StoreError::Unreachable { address, reason }),
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "not in one script; asking piece by piece");
            apart(store, link, question).await?
        }
    };
    for pool in pools {
        match store.owed(link, &pool).await {
            Ok(slots) => answer.owed.push((pool, slots)),
            Err(error @ StoreError::Unreachable { .. }) => return Err(error),
            // A key of another type: the units of the pool say so themselves.
            Err(error) => tracing::debug!(%pool, %error, "cannot see what the slots owe"),
        }
    }
    Ok(answer)
}

async fn together(store: &Store, link: &Link, question: &Question) -> Result<Answer, StoreError> {
    let units = || question.units.values().flatten();
    let asked: Vec<Asked> = units().map(asked).collect();
    let exchanged = store.exchange(link, &question.me, &asked).await?;
    let units = units().cloned().zip(exchanged.units).map(|((id, known), seen)| (id, known, seen)).collect();
    Ok(Answer { nodes: exchanged.nodes, units, refused: Vec::new(), owed: Vec::new(), cluster: exchanged.cluster })
}

/// One pipeline at a time: where their keys lie in different slots of a cluster, or some of them are broken.
async fn apart(store: &Store, link: &Link, question: Question) -> Result<Answer, StoreError> {
    let ttl = u64::try_from(link.options().lease.as_millis()).unwrap_or(u64::MAX);
    // Leases first, since what delays the rest must not cost a lease; but a node that drains says so before its
    // units are seen to be free, or the others would leave them to it.
    if question.me.draining {
        store.heartbeat(link, &question.me, ttl).await?;
    }
    let (mut units, mut refused) = (Vec::new(), Vec::new());
    for (pipeline, of_pipeline) in question.units {
        let asked: Vec<Asked> = of_pipeline.iter().map(asked).collect();
        match store.look(link, &asked).await {
            Ok(seen) => units.extend(of_pipeline.into_iter().zip(seen).map(|((id, known), seen)| (id, known, seen))),
            Err(error @ StoreError::Unreachable { .. }) => return Err(error),
            // One pipeline whose keys are broken must not cost the others their leases.
            Err(error) => refused.push((pipeline, error)),
        }
    }
    let nodes = store.heartbeat(link, &question.me, ttl).await?;
    let cluster = store.cluster_id(link).await?;
    Ok(Answer { nodes, units, refused, owed: Vec::new(), cluster })
}

fn asked((id, known): &(UnitId, Option<Known>)) -> Asked {
    let held = known.as_ref().map(|known| (known.token, known.owner.clone()));
    Asked { unit: id.clone(), held, mail: known.as_ref().and_then(|known| known.mail) }
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
            mail: None,
        }
    }

    #[test]
    fn only_an_idle_holder_is_contradicted_by_a_tip() {
        let known = |operations| Known {
            owner: RandomId::stored("o"),
            token: Token(1),
            tip: RandomId::stored("t"),
            operations,
            mail: None,
        };
        assert!(known(4).is_contradicted(&seen(true, "other"), 4));
        assert!(!known(4).is_contradicted(&seen(true, "t"), 4));
        assert!(!known(3).is_contradicted(&seen(true, "other"), 3), "a commit was under way");
        assert!(!known(4).is_contradicted(&seen(true, "other"), 5), "a commit began meanwhile");
        assert!(known(3).is_contradicted(&seen(false, "t"), 3), "a lost lease is lost at any time");
    }
}
