//! Which node should hold which unit. Pure, and the same on every node that sees the same members.
//!
//! Rendezvous hashing with bounded load, pipeline by pipeline: each unit goes to its best-ranked node that still has
//! room under the even share. A node that comes or goes moves few units. Placement is a wish; the lease decides.

use std::collections::BTreeMap;

use crate::ids::{RandomId, UnitId};
use crate::store::membership::NodeInfo;

/// Where a unit may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On one node at a time, any of those that run its actor.
    Exclusive,
    /// One slot of a pool that every node competes for: slots spread over the nodes.
    Shared,
    /// Only on nodes of this host: its work lies there.
    Local {
        /// The host's id.
        host: String,
    },
}

/// The state that a node reports of a unit that it gave up for a while.
pub const GIVEN_UP: &str = "failed";

/// The nodes that should hold a unit, best first. Empty: nobody may.
pub type Ranking = Vec<RandomId>;

/// Ranks the live nodes for every unit of one pipeline.
pub fn place(units: &[(UnitId, Placement)], nodes: &[NodeInfo]) -> BTreeMap<UnitId, Ranking> {
    let mut sorted: Vec<&(UnitId, Placement)> = units.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    let mut placed = BTreeMap::new();
    for (unit, placement) in &sorted {
        let mut ranked = ranking(unit, placement, nodes);
        let share = even_share(&sorted, unit, placement, nodes);
        let room = |node: &&NodeInfo, load: &BTreeMap<&str, usize>| {
            load.get(node.incarnation.as_str()).copied().unwrap_or(0) < share
        };
        if let Some(place) = ranked.iter().position(|node| room(node, &load)) {
            // The node with room comes first; the others keep their order behind it.
            ranked[..=place].rotate_right(1);
        }
        if let Some(first) = ranked.first() {
            *load.entry(first.incarnation.as_str()).or_default() += 1;
        }
        placed.insert(unit.clone(), ranked.iter().map(|node| node.incarnation.clone()).collect());
    }
    placed
}

/// How many units of the pipeline one node may hold: the even share of those that could go where this one can.
fn even_share(units: &[&(UnitId, Placement)], unit: &UnitId, placement: &Placement, nodes: &[NodeInfo]) -> usize {
    let eligible = eligible(unit, placement, nodes).len().max(1);
    let rivals = units.iter().filter(|(_, other)| other == placement).count();
    rivals.div_ceil(eligible)
}

fn ranking<'a>(unit: &UnitId, placement: &Placement, nodes: &'a [NodeInfo]) -> Vec<&'a NodeInfo> {
    let mut ranked = eligible(unit, placement, nodes);
    ranked.sort_by_cached_key(|node| {
        // By name first, so that a node that restarts gets the same units back.
        (std::cmp::Reverse(weight(unit, &node.name)), node.incarnation.as_str().to_owned())
    });
    ranked
}

/// The nodes that may run a unit. A slot is for those that have it in their configuration; where none has it any more
/// and it still owes something, any node that runs the pool's actor may drain it.
fn eligible<'a>(unit: &UnitId, placement: &Placement, nodes: &'a [NodeInfo]) -> Vec<&'a NodeInfo> {
    let all: Vec<&NodeInfo> = nodes.iter().filter(|node| may_run(node, unit, placement)).collect();
    let configured: Vec<&NodeInfo> = all.iter().copied().filter(|node| has_slot(node, unit)).collect();
    if configured.is_empty() { all } else { configured }
}

fn has_slot(node: &NodeInfo, unit: &UnitId) -> bool {
    let Some(slot) = unit.slot else { return true };
    node.slots.get(&format!("{}/{}", unit.pipeline, unit.actor)).is_none_or(|slots| slot < *slots)
}

fn may_run(node: &NodeInfo, unit: &UnitId, placement: &Placement) -> bool {
    let actor = format!("{}/{}", unit.pipeline, unit.actor);
    let here = match placement {
        Placement::Exclusive | Placement::Shared => true,
        Placement::Local { host } => node.host == *host,
    };
    here && !node.draining && node.runs.contains(&actor) && !has_given_up(node, unit)
}

/// A node that gave a unit up wants it elsewhere; were it still the first choice, the holder would give it back.
fn has_given_up(node: &NodeInfo, unit: &UnitId) -> bool {
    let (name, pipeline) = (unit.to_string(), unit.pipeline.to_string());
    // A pipeline may have more units than a heartbeat names.
    node.given_up.iter().any(|group| group.pipeline == pipeline)
        || node.units.iter().any(|report| report.state == GIVEN_UP && report.unit == name)
}

fn weight(unit: &UnitId, node: &str) -> u64 {
    let digest = blake3::hash(format!("{unit}\n{node}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Kind, PipelineId};

    fn node(name: &str) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            incarnation: RandomId::stored(name),
            host: format!("host-of-{name}"),
            runs: vec!["selftest.x/tally".to_owned()],
            ..NodeInfo::default()
        }
    }

    fn units(count: u32, placement: &Placement) -> Vec<(UnitId, Placement)> {
        let pipeline = PipelineId::new(Kind::Selftest, "x");
        (0..count).map(|n| (UnitId::slot(&pipeline, "tally", n), placement.clone())).collect()
    }

    fn loads(placed: &BTreeMap<UnitId, Ranking>) -> BTreeMap<String, usize> {
        let mut loads = BTreeMap::new();
        for ranking in placed.values() {
            *loads.entry(ranking[0].to_string()).or_default() += 1;
        }
        loads
    }

    #[test]
    fn units_spread_evenly() {
        for count in [1, 6, 7, 100] {
            let placed = place(&units(count, &Placement::Exclusive), &[node("a"), node("b"), node("c")]);
            let most = loads(&placed).into_values().max().unwrap_or(0);
            assert!(most <= (count as usize).div_ceil(3), "{count} units, {most} on one node");
        }
    }

    #[test]
    fn every_node_computes_the_same_and_few_units_move() {
        let all = [node("a"), node("b"), node("c"), node("d")];
        let before = place(&units(100, &Placement::Exclusive), &all);
        let mut turned = all.clone();
        turned.reverse();
        assert_eq!(before, place(&units(100, &Placement::Exclusive), &turned));
        let after = place(&units(100, &Placement::Exclusive), &all[..3]);
        let moved = before.iter().filter(|(unit, ranking)| after[*unit][0] != ranking[0]).count();
        assert!((25..=55).contains(&moved), "{moved} of 100 moved, 25 had to");
    }

    #[test]
    fn draining_nodes_and_foreign_hosts_get_nothing() {
        let mut gone = node("a");
        gone.draining = true;
        let placed = place(&units(4, &Placement::Exclusive), &[gone, node("b")]);
        assert_eq!(loads(&placed), BTreeMap::from([("b".to_owned(), 4)]));
        let local = Placement::Local { host: "host-of-c".to_owned() };
        let placed = place(&units(4, &local), &[node("b"), node("c")]);
        assert!(placed.values().all(|ranking| *ranking == [RandomId::stored("c")]));
        let placed = place(&units(1, &local), &[node("b")]);
        assert!(placed.values().all(Vec::is_empty));
    }

    #[test]
    fn a_unit_goes_where_it_was_not_given_up() {
        let units = units(1, &Placement::Exclusive);
        let nodes = [node("a"), node("b")];
        let before = place(&units, &nodes);
        let first = before[&units[0].0][0].clone();
        let mut after = nodes.clone();
        let failing = after.iter_mut().find(|n| n.incarnation == first).expect("the first choice");
        failing.units.push(crate::store::membership::UnitReport {
            unit: units[0].0.to_string(),
            state: GIVEN_UP.to_owned(),
            restarts: 6,
            last_error: "panic: a test".to_owned(),
        });
        let after = place(&units, &after);
        assert_eq!(after[&units[0].0].len(), 1, "nobody sends it back to {first}");
        assert_ne!(after[&units[0].0][0], first);
    }

    #[test]
    fn a_slot_is_for_the_nodes_that_have_it_and_for_all_where_none_has() {
        let with_slots = |name: &str, slots: u32| NodeInfo {
            slots: BTreeMap::from([("selftest.x/tally".to_owned(), slots)]),
            ..node(name)
        };
        let nodes = [with_slots("a", 8), with_slots("b", 4), node("of_an_older_release")];
        let placed = place(&units(8, &Placement::Shared), &nodes);
        for (unit, ranking) in &placed {
            let has_b = ranking.contains(&RandomId::stored("b"));
            assert_eq!(has_b, unit.slot.is_some_and(|slot| slot < 4), "{unit}: {ranking:?}");
            assert!(ranking.contains(&RandomId::stored("of_an_older_release")), "{unit}: {ranking:?}");
        }
        // The node that had eight is gone: whoever runs the pool drains what the other four owe.
        let placed = place(&units(8, &Placement::Shared), &nodes[1..2]);
        assert!(placed.values().all(|ranking| *ranking == [RandomId::stored("b")]), "{placed:?}");
    }
}
