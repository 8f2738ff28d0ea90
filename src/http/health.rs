//! `/healthz`: whether this node takes work, with the reasons if it does not. Asks nobody; answers at once.

use serde::Serialize;

use super::HttpState;
use crate::store::membership::{GroupReport, NodeInfo};

/// What `/healthz` answers. `docs/http.md` documents it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Redis answers, and the node takes work.
    pub ready: bool,
    /// The name of the node.
    pub node: String,
    /// Why it is not ready; empty if it is.
    pub reasons: Vec<String>,
    /// Units that this node works on.
    pub units: usize,
    /// Units that this node gave up for a while. The node is ready all the same, as long as some pipeline works here:
    /// other nodes may take them, and its other units go on.
    pub failed: Vec<FailedUnit>,
    /// Pipelines that this node gave up as a whole for a while.
    pub given_up: Vec<GroupReport>,
}

/// One unit that was given up for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedUnit {
    /// Which.
    pub unit: String,
    /// Why.
    pub last_error: String,
}

/// How the node stands now.
pub fn health(state: &HttpState) -> Health {
    let me = state.started.get().map(|(_, handle)| handle.me.borrow().clone());
    let down = state.link.health().is_down();
    judge(&state.settings.node.name, &state.link.options().address(), me.as_ref(), down)
}

fn judge(name: &str, redis: &str, me: Option<&NodeInfo>, redis_down: bool) -> Health {
    let mut reasons = Vec::new();
    if redis_down {
        reasons.push(format!("redis is away: {redis}"));
    }
    match me {
        None => reasons.push("the node has not started yet".to_owned()),
        Some(me) if me.draining => reasons.push("the node is draining".to_owned()),
        Some(me) if !me.unready.is_empty() => reasons.push(me.unready.clone()),
        Some(_) => {}
    }
    let units = me.map_or(&[][..], |me| &me.units);
    let (failed, rest): (Vec<_>, Vec<_>) = units.iter().partition(|unit| unit.state == "failed");
    Health {
        ready: reasons.is_empty(),
        node: name.to_owned(),
        reasons,
        units: rest.iter().filter(|unit| unit.state != "idle").count(),
        failed: failed
            .into_iter()
            .map(|u| FailedUnit { unit: u.unit.clone(), last_error: u.last_error.clone() })
            .collect(),
        given_up: me.map_or_else(Vec::new, |me| me.given_up.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::membership::UnitReport;

    fn me(draining: bool, states: &[&str]) -> NodeInfo {
        let report = |state: &&str| UnitReport {
            unit: "selftest.main/tally_0".to_owned(),
            state: (*state).to_owned(),
            restarts: 1,
            last_error: "why".to_owned(),
        };
        NodeInfo { draining, units: states.iter().map(report).collect(), ..NodeInfo::default() }
    }

    fn reasons(me: Option<&NodeInfo>, down: bool) -> Vec<String> {
        let health = judge("a", "redis://r", me, down);
        assert_eq!(health.ready, health.reasons.is_empty());
        health.reasons
    }

    #[test]
    fn every_reason_is_named() {
        assert_eq!(reasons(Some(&me(false, &[])), false), [""; 0]);
        let both = ["redis is away: redis://r", "the node has not started yet"];
        assert_eq!(reasons(None, true), both);
        assert_eq!(reasons(Some(&me(true, &[])), false), ["the node is draining"]);
        let unready = NodeInfo { unready: "the node gave up a.b".to_owned(), ..me(false, &["failed"]) };
        assert_eq!(reasons(Some(&unready), false), ["the node gave up a.b"]);
    }

    #[test]
    fn a_pipeline_that_was_given_up_is_listed() {
        let (pipeline, reason) = ("selftest.main".to_owned(), "why".to_owned());
        let given_up = vec![GroupReport { pipeline, again_in_ms: 7, reason }];
        let me = NodeInfo { given_up: given_up.clone(), ..me(false, &["failed", "running"]) };
        let health = judge("a", "redis://r", Some(&me), false);
        assert!(health.ready, "other pipelines work here");
        assert_eq!(health.given_up, given_up);
    }

    #[test]
    fn a_failed_unit_is_listed_and_the_node_stays_ready() {
        let health = judge("a", "redis://r", Some(&me(false, &["failed", "running", "idle"])), false);
        assert!(health.ready);
        assert_eq!((health.units, health.failed.len()), (1, 1));
        assert_eq!(health.failed[0].last_error, "why");
    }
}
