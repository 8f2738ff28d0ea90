//! Units, as `status` shows them: the lease and the checkpoint from Redis, the rest from the node that holds them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::status::REQUESTS_MAX;
use crate::config::Settings;
use crate::ids::{Address, UnitId};
use crate::store::checkpoint::Shown;
use crate::store::link::Link;
use crate::store::membership::{NodeInfo, UnitReport, UnitSeen};
use crate::store::{Store, StoreError};
use crate::supervisor::wiring;

/// Units named in one script: bounds how long Redis is busy with it.
const BEAT_UNITS_MAX: usize = 100;

/// One unit.
#[derive(Debug, Clone, Serialize)]
pub struct UnitStatus {
    /// `kind.name/actor`, or `kind.name/actor/slot` in a pool.
    pub unit: String,
    /// `kind.name`.
    pub pipeline: String,
    /// The node that holds it, or held it last; empty before the first.
    pub node: String,
    /// The incarnation of the live node that holds it; empty if nobody does, or if that node is gone.
    pub incarnation: String,
    /// What its node says (`starting`, `running`, `waiting`, `stopping`, `releasing`, `restarting`, `blocked`,
    /// `failed`); `held` where a holder says nothing; `free` where there is none.
    pub state: String,
    /// Milliseconds until the lease runs out, if it is not renewed; 0 if nobody holds it.
    pub lease_left_ms: u64,
    /// The newest fencing token; empty before the first acquisition.
    pub token: String,
    /// Commits so far.
    pub seq: u64,
    /// Milliseconds since the last commit; none before the first.
    pub commit_age_ms: Option<u64>,
    /// The last entry that was taken from the mailbox.
    pub offset: String,
    /// Restarts since the start of its node.
    pub restarts: u64,
    /// Milliseconds since an operator paused it; none if it is not paused.
    pub paused_age_ms: Option<u64>,
    /// Why it last ended badly, or what it waits for; empty if nothing is wrong.
    pub last_error: String,
}

impl UnitStatus {
    /// Whether somebody holds it.
    pub fn is_held(&self) -> bool {
        self.lease_left_ms > 0
    }

    /// Whether some node gave it up, and nobody else holds it.
    pub fn has_failed(&self) -> bool {
        self.state == "failed"
    }
}

/// Units of the configuration, then those of live nodes that this configuration does not name.
pub fn known(settings: &Settings, nodes: &[NodeInfo]) -> Vec<UnitId> {
    let mut units = wiring::units(settings);
    let mut seen: BTreeSet<UnitId> = units.iter().cloned().collect();
    let strangers: BTreeSet<UnitId> = nodes.iter().flat_map(|n| &n.units).filter_map(|u| parse(&u.unit)).collect();
    units.extend(strangers.into_iter().filter(|unit| seen.insert(unit.clone())));
    units
}

/// `kind.name/actor` or `kind.name/actor/slot`; nothing for what another release may call a unit.
fn parse(text: &str) -> Option<UnitId> {
    let (address, slot) = match text.rsplit_once('/') {
        Some((address, slot)) if slot.bytes().all(|b| b.is_ascii_digit()) => (address, slot.parse().ok()),
        Some(_) | None => (text, None),
    };
    let address: Address = address.parse().ok()?;
    Some(UnitId { pipeline: address.pipeline, actor: address.actor, slot })
}

pub(super) async fn gather(
    store: &Store,
    link: &Link,
    known: &[UnitId],
    nodes: &[NodeInfo],
    time_ms: u64,
) -> Result<Vec<UnitStatus>, StoreError> {
    let mut pipelines = BTreeMap::<_, Vec<_>>::new();
    for unit in known {
        pipelines.entry(&unit.pipeline).or_default().push((unit.clone(), None));
    }
    let mut leases = BTreeMap::new();
    for (pipeline, units) in pipelines {
        for units in units.chunks(BEAT_UNITS_MAX) {
            let seen = store.beat(link, pipeline, units).await?;
            leases.extend(units.iter().map(|(unit, _)| unit.clone()).zip(seen));
        }
    }
    let checkpoints = known.iter().cloned().map(|unit| async move { store.checkpoint(link, &unit).await });
    let checkpoints: Vec<Option<Shown>> = stream::iter(checkpoints).buffered(REQUESTS_MAX).try_collect().await?;
    let each = known.iter().zip(checkpoints);
    Ok(each.map(|(unit, shown)| status(unit, shown.unwrap_or_default(), leases.get(unit), nodes, time_ms)).collect())
}

fn status(unit: &UnitId, shown: Shown, lease: Option<&UnitSeen>, nodes: &[NodeInfo], time_ms: u64) -> UnitStatus {
    let name = unit.to_string();
    let left = lease.map_or(0, |lease| lease.left_ms);
    let report = |node: &NodeInfo| node.units.iter().find(|report| report.unit == name).cloned();
    let reports: Vec<(&NodeInfo, UnitReport)> = nodes.iter().filter_map(|n| Some((n, report(n)?))).collect();
    // Names may repeat: of several nodes with the holder's name, the one that says it has the unit is the holder.
    let has = |report: &UnitReport| !matches!(report.state.as_str(), "idle" | "failed");
    let holder = reports.iter().find(|(node, report)| left > 0 && node.name == shown.node && has(report));
    let failed = reports.iter().find(|(_, report)| report.state == "failed").filter(|_| left == 0);
    let (state, said) = match (holder, failed) {
        (Some((_, report)), _) | (None, Some((_, report))) => (report.state.clone(), Some(report)),
        (None, None) if left > 0 => ("held".to_owned(), None),
        (None, None) => ("free".to_owned(), reports.first().map(|(_, report)| report)),
    };
    UnitStatus {
        pipeline: unit.pipeline.to_string(),
        paused_age_ms: shown.paused_ms().map(|since| time_ms.saturating_sub(since)),
        node: shown.node,
        incarnation: holder.map_or_else(String::new, |(node, _)| node.incarnation.to_string()),
        state,
        lease_left_ms: left,
        token: shown.token,
        seq: shown.seq,
        commit_age_ms: (shown.committed_ms > 0).then(|| time_ms.saturating_sub(shown.committed_ms)),
        offset: if shown.offset.is_empty() { "0-0".to_owned() } else { shown.offset },
        restarts: said.map_or(0, |report| report.restarts),
        last_error: said.map_or_else(String::new, |report| report.last_error.clone()),
        unit: name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Kind, PipelineId, RandomId, Token};

    fn node(name: &str, state: &str) -> NodeInfo {
        let unit = "selftest.main/tally_0".to_owned();
        let report = UnitReport { unit, state: state.to_owned(), restarts: 3, last_error: "why".to_owned() };
        NodeInfo { name: name.to_owned(), incarnation: RandomId::new(), units: vec![report], ..NodeInfo::default() }
    }

    fn lease(left_ms: u64) -> UnitSeen {
        let (owner, tip, token) = (RandomId::new(), RandomId::new(), Token(7));
        UnitSeen { renewed: false, left_ms, owner, node: "a".to_owned(), token, tip, mail: None }
    }

    fn seen(left_ms: u64, nodes: &[NodeInfo]) -> UnitStatus {
        let unit = UnitId::exclusive(&PipelineId::new(Kind::Selftest, "main"), "tally_0");
        let shown = Shown { node: "a".to_owned(), committed_ms: 4_000, ..Shown::default() };
        status(&unit, shown, Some(&lease(left_ms)), nodes, 5_000)
    }

    #[test]
    fn the_holder_speaks_for_its_unit() {
        let nodes = [node("b", "failed"), node("a", "running")];
        let unit = seen(900, &nodes);
        assert_eq!((unit.state.as_str(), unit.restarts, unit.commit_age_ms), ("running", 3, Some(1_000)));
        assert_eq!(unit.incarnation, nodes[1].incarnation.as_str());
    }

    #[test]
    fn a_holder_that_says_nothing_still_holds() {
        assert_eq!(seen(900, &[]).state, "held");
        assert_eq!(seen(900, &[node("b", "failed")]).state, "held");
        assert_eq!(seen(0, &[]).state, "free");
    }

    #[test]
    fn a_unit_that_nobody_holds_has_failed_if_a_node_says_so() {
        let unit = seen(0, &[node("b", "failed")]);
        assert!(unit.has_failed() && !unit.is_held(), "{unit:?}");
        assert_eq!(unit.last_error, "why");
    }

    #[test]
    fn names_of_units_are_read_back() {
        for text in ["selftest.main/tally_0", "blocks.main/gap_fixer/12"] {
            assert_eq!(parse(text).expect("a unit").to_string(), text);
        }
        assert_eq!(parse("cows.main/x"), None);
    }
}
