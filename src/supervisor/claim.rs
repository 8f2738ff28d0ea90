//! A starting node and the configuration of its pipelines: agreed with those that live, or refused before anything is
//! written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::identity::{self, Verdict};
use super::node::StartError;
use crate::config::Settings;
use crate::ids::PipelineId;
use crate::store::identity::{Identity, Recorded, StoredIdentity};
use crate::store::link::Link;
use crate::store::membership::NodeInfo;
use crate::store::{Store, StoreError};

/// Configurations that may be written by others while one is being agreed on; each time somebody has won.
const ROUNDS_MAX: u32 = 16;

/// Says for a starting node that it lives, until this is dropped: its first beat says so from then on.
#[must_use = "dropped, nobody knows of the node"]
pub struct Announced(AbortHandle);

impl Announced {
    async fn begin(store: &Store, link: &Link, me: &NodeInfo) -> Result<Self, StoreError> {
        let (store, link, lease) = (store.clone(), link.clone(), link.options().lease);
        // It runs nothing yet: nobody shall leave it a unit.
        let me = NodeInfo { runs: Vec::new(), ..me.clone() };
        let ttl_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        store.heartbeat(&link, &me, ttl_ms).await?;
        let again = actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(lease / 3).await;
                // The next one, or the node's own first request, tells what is wrong.
                let _ = store.heartbeat(&link, &me, ttl_ms).await;
            }
        });
        Ok(Self(again.abort_handle()))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Agrees on the configuration of every pipeline that `me` runs, and tells `store` its digests.
///
/// The node says that it lives *before* it claims anything, so whoever loses sees who won. A crash leaves the word of
/// this node for a lease, and perhaps a configuration that nobody works with: the next node takes over from it.
pub async fn agree(
    settings: &Settings,
    store: &mut Store,
    link: &Link,
    me: &mut NodeInfo,
) -> Result<Announced, StartError> {
    let runs = |pipeline: &PipelineId| me.runs.iter().any(|actor| actor.starts_with(&format!("{pipeline}/")));
    let pipelines: Vec<PipelineId> = settings.pipelines().into_iter().filter(runs).collect();
    let each = pipelines.into_iter().filter_map(|id| identity::identity(settings, &id).map(|identity| (id, identity)));
    let mine: BTreeMap<PipelineId, Identity> = each.collect();
    me.configs = mine.iter().map(|(pipeline, identity)| (pipeline.to_string(), identity.digest())).collect();
    store.configs = Arc::new(mine.iter().map(|(id, identity)| (id.clone(), identity.digest())).collect());
    let announced = Announced::begin(store, link, me).await?;
    let mut refusals = Vec::new();
    // Looked at first, all of them: a node that is refused for one pipeline changes nothing for another.
    for (pipeline, identity) in &mine {
        let Some(stored) = store.identity(link, pipeline).await? else { continue };
        refusals.extend(refused(store, link, me, pipeline, identity, &stored).await?);
    }
    if refusals.is_empty() {
        for (pipeline, identity) in &mine {
            refusals.extend(claim(store, link, me, pipeline, identity).await?);
        }
    }
    if refusals.is_empty() {
        return Ok(announced);
    }
    drop(announced);
    store.leave(link, &me.incarnation).await?;
    Err(StartError::Refused(refusals.join("\n")))
}

/// Writes one configuration down, if nobody works with another one; answers why not.
async fn claim(
    store: &Store,
    link: &Link,
    me: &NodeInfo,
    pipeline: &PipelineId,
    mine: &Identity,
) -> Result<Option<String>, StoreError> {
    let mut stored = store.identity(link, pipeline).await?;
    for _ in 0..ROUNDS_MAX {
        if let Some(stored) = &stored
            && let Some(words) = refused(store, link, me, pipeline, mine, stored).await?
        {
            return Ok(Some(words));
        }
        let seen = stored.as_ref().map_or(0, |stored| stored.generation);
        match store.record_identity(link, pipeline, mine, seen).await? {
            Recorded::Same(_) => return Ok(None),
            Recorded::Written(generation) => {
                tell_written(pipeline, generation, mine, stored.as_ref());
                return Ok(None);
            }
            Recorded::Other(newer) => stored = Some(newer),
        }
    }
    Ok(Some(format!("{pipeline}: its configuration keeps changing; try again")))
}

fn tell_written(pipeline: &PipelineId, generation: u64, mine: &Identity, before: Option<&StoredIdentity>) {
    match before {
        None => tracing::debug!(%pipeline, generation, keys = mine.json(), "configuration written down"),
        Some(before) => {
            let (changed, before_node) = (identity::differences(mine, &before.keys), &before.node);
            let changed = changed.replace('\n', ";");
            tracing::warn!(
                %pipeline, generation, before_node, old = before.keys.json(), new = mine.json(),
                "the configuration of this pipeline has changed, and takes over:{changed}"
            );
        }
    }
}

/// Why this node must not run the pipeline; none where it may.
///
/// A node that died says for a lease that it lives. So whoever is in the way is looked at until its word must have been
/// renewed: a whole fleet that was killed can be started again at once with other values.
async fn refused(
    store: &Store,
    link: &Link,
    me: &NodeInfo,
    pipeline: &PipelineId,
    mine: &Identity,
    stored: &StoredIdentity,
) -> Result<Option<String>, StoreError> {
    let lease = link.options().lease;
    let (until, mut told) = (Instant::now() + lease + lease / 2, false);
    loop {
        let mut others = store.nodes(link).await?;
        others.retain(|node| node.incarnation != me.incarnation);
        let living = match identity::judge(mine, stored, pipeline, &others) {
            Verdict::Same | Verdict::TakeOver => return Ok(None),
            Verdict::Refuse(living) => living,
        };
        if Instant::now() >= until {
            return Ok(Some(identity::refusal(pipeline, &me.name, mine, stored, &living)));
        }
        if !std::mem::replace(&mut told, true) {
            let nodes = living.join(", ");
            tracing::info!(%pipeline, nodes, "configured otherwise there; waiting for a lease to see whether they live");
        }
        tokio::time::sleep(lease / 6).await;
    }
}
