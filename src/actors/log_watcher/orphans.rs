//! Files that nobody follows: those of a host without a living node. And hosts that are two.
//!
//! Where files belong to their host, nobody else can read them, so all that the others can do is to say so, loudly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::actors::turn::Unit;
use crate::ids::Address;
use crate::store::StoreError;
use crate::store::membership::NodeInfo;

/// How often the others are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a host may be without a node: a restart, or a machine that boots.
const GRACE: Duration = Duration::from_secs(60);

/// What one life knows of the other hosts.
#[derive(Default)]
pub(super) struct Others {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    looked: Option<Instant>,
    /// Hosts that have places in files and no node, with the moment at which that was first seen.
    silent: BTreeMap<String, Instant>,
    told: BTreeSet<String>,
}

impl Others {
    /// Whether it is time to look again.
    pub fn is_due(&self) -> bool {
        self.lock().looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY)
    }

    /// Looks which hosts have places in files of this pipeline and no node that follows them; answers how many have been
    /// so for a minute. Says each once.
    pub async fn look(&self, unit: &Unit) -> Result<usize, StoreError> {
        let (store, link) = (unit.lease.store(), unit.lease.link());
        let tables = store.tables(link, unit.pipeline()).await?;
        let nodes = store.nodes(link).await?;
        let own = Address::new(unit.pipeline(), &unit.lease.unit().actor);
        let now = Instant::now();
        let mut inner = self.lock();
        inner.looked = Some(now);
        let silent = silent(&own, &tables, &nodes);
        inner.silent.retain(|unit, _| silent.contains(unit));
        for unit in silent {
            inner.silent.entry(unit).or_insert(now);
        }
        let orphans: Vec<String> = inner
            .silent
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= GRACE)
            .map(|(u, _)| u.clone())
            .collect();
        let alarms = orphans.iter().map(|orphan| {
            format!(
                "nobody follows the files of {orphan}: no node of its host has lived for {} s; start one there, or, if \
                 the host is gone for good, read what is left with another node.host and delete its table",
                GRACE.as_secs()
            )
        });
        let alarms: Vec<String> = alarms.chain(twins(&own, &nodes)).collect();
        for alarm in &alarms {
            if inner.told.insert(alarm.clone()) {
                tracing::error!(unit = %unit.lease.unit(), "ALARM: {alarm}");
            }
        }
        inner.told.retain(|told| alarms.contains(told));
        Ok(orphans.len())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watchers of other hosts that have a table, and that no node runs. Pure.
fn silent(own: &Address, tables: &[String], nodes: &[NodeInfo]) -> BTreeSet<String> {
    let watchers = tables.iter().map(|local| Address::new(&own.pipeline, local));
    let others = watchers.filter(|other| other != own && other.is_of_all_hosts_of(own) && other.host().is_some());
    let runs = |address: &Address| nodes.iter().any(|node| node.runs.contains(&address.to_string()));
    others.filter(|other| !runs(other)).map(|other| other.to_string()).collect()
}

/// Two machines that give themselves out as this host: the files of one of them are not followed. Pure.
fn twins(own: &Address, nodes: &[NodeInfo]) -> Option<String> {
    let host = own.host()?;
    let here = nodes.iter().filter(|node| node.host == host && !node.machine.is_empty());
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for node in here {
        names.insert(&node.machine, &node.name);
    }
    (names.len() > 1).then(|| {
        let nodes: Vec<&str> = names.values().copied().collect();
        format!(
            "two machines call themselves the host {host} (nodes {}): only one of them has its files followed; give each \
             its own node.host",
            nodes.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Kind, PipelineId, RandomId};

    fn own() -> Address {
        Address::new(&PipelineId::new(Kind::Logs, "web"), "log_watcher@a")
    }

    fn node(name: &str, host: &str, machine: &str) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            incarnation: RandomId::new(),
            host: host.to_owned(),
            machine: machine.to_owned(),
            runs: vec![format!("logs.web/log_watcher@{host}")],
            ..NodeInfo::default()
        }
    }

    #[test]
    fn a_host_with_places_and_without_a_node_is_silent() {
        let tables =
            ["log_watcher@a", "log_watcher@b", "log_watcher@c", "log_parser", "log_watcher"].map(str::to_owned);
        let nodes = [node("n", "a", "1"), node("m", "b", "2")];
        assert_eq!(Vec::from_iter(silent(&own(), &tables, &nodes)), ["logs.web/log_watcher@c"]);
    }

    #[test]
    fn two_machines_under_one_host_are_told_and_two_nodes_of_one_machine_are_not() {
        assert_eq!(twins(&own(), &[node("n", "a", "1"), node("m", "a", "1"), node("x", "b", "2")]), None);
        let told = twins(&own(), &[node("n", "a", "1"), node("m", "a", "2")]).expect("an alarm");
        assert!(told.contains("nodes n, m") && told.contains("node.host"), "{told}");
        // A release that does not say.
        assert_eq!(twins(&own(), &[node("n", "a", "1"), node("m", "a", "")]), None);
    }
}
