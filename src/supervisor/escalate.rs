//! What the supervisor does on the upper rungs: a pipeline given up here, a node that is not ready, and its end.
//!
//! The decisions are made in [`group`](super::group) and [`ladder`](super::ladder); here they are carried out and told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Supervisor;
use super::group::Group;
use super::ladder::{GroupView, Ladder, Rung};
use super::placement::GIVEN_UP;
use super::slot::{Phase, Slot, Stopping, shortened};
use crate::ids::{PipelineId, UnitId};
use crate::store::membership::{GroupReport, NodeInfo};
use crate::telemetry::metrics::{CooldownLabels, CooldownLevel};

/// What the supervisor remembers beyond single units.
pub(super) struct Escalation {
    groups: BTreeMap<PipelineId, Group>,
    ladder: Ladder,
    rung: Rung,
    /// Units to be taken when starts under way have ended; decided anew by each beat.
    pub(super) waiting: VecDeque<UnitId>,
    /// Why the process gives itself up, once it does.
    pub(super) gave_up: Option<String>,
}

impl Default for Escalation {
    fn default() -> Self {
        let (groups, ladder, waiting) = (BTreeMap::new(), Ladder::default(), VecDeque::new());
        Self { groups, ladder, rung: Rung::Ready, waiting, gave_up: None }
    }
}

impl Supervisor {
    /// A unit failed and is to start again: once too often for its pipeline?
    pub(super) fn group_failed(&mut self, id: &UnitId, words: &str) {
        let last = shortened(format!("{id}: {words}"));
        let group = self.escalation.groups.entry(id.pipeline.clone()).or_default();
        let Some(given_up) = group.failed(&self.options.restart, Instant::now(), &last) else { return };
        let (pipeline, window, again_in) = (&id.pipeline, self.options.restart.window, given_up.cooldown);
        tracing::error!(
            %pipeline, restarts = given_up.restarts, ?window, ?again_in, last,
            "the units of this pipeline failed too often here; all of them are given to other nodes for a while"
        );
        self.count_cooldown(pipeline, CooldownLevel::Pipeline);
    }

    /// A unit was given up: how long it is left alone here.
    pub(super) fn unit_given_up(&mut self, id: &UnitId, pause: Duration) {
        self.escalation.groups.entry(id.pipeline.clone()).or_default().trouble(Instant::now() + pause);
        self.count_cooldown(&id.pipeline, CooldownLevel::Unit);
    }

    fn count_cooldown(&self, pipeline: &PipelineId, level: CooldownLevel) {
        self.metrics.cooldowns.get_or_create(&CooldownLabels { pipeline: pipeline.to_string(), level }).inc();
    }

    /// Keeps every unit of a pipeline that was given up away from here, until its cool-down is over.
    pub(super) fn hold_groups_down(&mut self) {
        let now = Instant::now();
        let mut held_down = BTreeMap::new();
        for (pipeline, group) in &mut self.escalation.groups {
            if group.ends(now) {
                tracing::info!(%pipeline, "the cool-down is over; its units may come here again");
            }
            held_down.extend(group.given_up().map(|given_up| (pipeline.clone(), given_up.until)));
        }
        self.metrics.pipelines_given_up.set(i64::try_from(held_down.len()).unwrap_or(i64::MAX));
        if held_down.is_empty() || self.draining.is_some() {
            return;
        }
        let grace = self.options.turn_grace;
        let mut settle = Vec::new();
        for (id, slot) in &mut self.slots {
            let Some(until) = held_down.get(&id.pipeline) else { continue };
            match &mut slot.phase {
                Phase::Idle => slot.phase = Phase::Failed(*until),
                Phase::Running { unit, stopping: stopping @ None, .. } => {
                    unit.drain();
                    *stopping = Some(Stopping::Drain(now + grace));
                }
                Phase::BackOff(..) => settle.push((id.clone(), *until)),
                // It ends by itself, and is met here again as something else.
                Phase::Running { .. } | Phase::Starting | Phase::Releasing | Phase::Failed(_) => {}
            }
        }
        for (id, until) in settle {
            // What its failed turn counts is written down before the lease goes.
            self.begin_life(&id, true);
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.phase = Phase::Failed(until);
            }
        }
    }

    /// Why a unit that never failed itself is not run here; empty if its pipeline is not given up.
    pub(super) fn group_words(&self, pipeline: &PipelineId) -> String {
        let group = self.escalation.groups.get(pipeline).and_then(Group::given_up);
        group.map_or_else(String::new, |given_up| format!("its pipeline was given up here; last, {}", given_up.last))
    }

    /// What the next heartbeat says of this node.
    pub(super) fn describe_me(&mut self) {
        self.me.units = self.reports();
        let now = Instant::now();
        let given_up =
            self.escalation.groups.iter().filter_map(|(pipeline, group)| Some((pipeline, group.given_up()?)));
        self.me.given_up = given_up
            .map(|(pipeline, given_up)| GroupReport {
                pipeline: pipeline.to_string(),
                again_in_ms: millis(given_up.until.saturating_duration_since(now)),
                reason: format!("{} failures within the window; last, {}", given_up.restarts, given_up.last),
            })
            .collect();
        self.me.unready = self.unready_words(now);
        self.me_tx.send_replace(self.me.clone());
    }

    fn unready_words(&self, now: Instant) -> String {
        let next = match self.escalation.rung {
            Rung::Ready => return String::new(),
            Rung::Exit => "the process ends with code 70".to_owned(),
            Rung::Unready(Some(at)) => {
                let left = at.saturating_duration_since(now).as_secs();
                format!("other nodes run them; unless one recovers here, the process ends with code 70 in {left} s")
            }
            Rung::Unready(None) if self.options.ladder.exit.is_none() => "they are tried again in a while".to_owned(),
            Rung::Unready(None) => {
                "a restart would not help, since no other node runs them well; they are tried again in a while"
                    .to_owned()
            }
        };
        format!("the node gave up {}: {next}", self.names_given_up().join(", "))
    }

    /// Looks at the whole node, after a beat has shown what the others do.
    pub(super) fn climb(&mut self) {
        let now = Instant::now();
        let views = self.group_views(now);
        if !self.nodes.iter().any(|node| self.is_other(node)) {
            // Nobody else is there: what follows is no illness of this node alone.
            self.escalation.ladder.forget_time();
        }
        let rung = self.escalation.ladder.look(&self.options.ladder, now, &views);
        let before = std::mem::replace(&mut self.escalation.rung, rung);
        if self.draining.is_some() {
            return;
        }
        let ready = rung == Rung::Ready;
        self.metrics.ready.set(i64::from(ready));
        match (before, rung) {
            (Rung::Ready, Rung::Ready) => {}
            (_, Rung::Ready) => tracing::info!("ready again: what was given up here has recovered"),
            (Rung::Ready, Rung::Unready(_)) => tracing::error!("not ready: {}", self.unready_words(now)),
            (Rung::Unready(None), Rung::Unready(Some(_))) => tracing::error!("not ready: {}", self.unready_words(now)),
            (_, Rung::Unready(_)) => {}
            (_, Rung::Exit) => {
                let names = self.names_given_up().join(", ");
                let words = format!(
                    "{names} run on other nodes, and have failed here for {} s: giving this process up, for its \
                     service manager to start it afresh",
                    self.options.ladder.exit.unwrap_or_default().as_secs_f32()
                );
                tracing::error!("{words}");
                self.escalation.gave_up = Some(words);
                self.begin_drain();
            }
        }
    }

    /// Redis was away: nobody knows what the others did meanwhile.
    pub(super) fn forget_illness(&mut self) {
        self.escalation.ladder.forget_time();
    }

    fn is_other(&self, node: &NodeInfo) -> bool {
        node.incarnation != self.me.incarnation && !node.draining
    }

    /// One view a pipeline; all of them good, without a closer look, where nothing has failed here lately.
    fn group_views(&self, now: Instant) -> Vec<GroupView> {
        let mut pipelines = BTreeMap::<&PipelineId, Vec<&Slot>>::new();
        for (id, slot) in &self.slots {
            pipelines.entry(&id.pipeline).or_default().push(slot);
        }
        let groups = &self.escalation.groups;
        if groups.values().all(|group| group.is_well(&self.options.restart, now)) {
            return vec![GroupView::default(); pipelines.len()];
        }
        let others = Others::of(self.nodes.iter().filter(|node| self.is_other(node)));
        let view = |(pipeline, slots): (&PipelineId, Vec<&Slot>)| {
            let group = groups.get(pipeline);
            let failed = slots.iter().filter(|slot| matches!(slot.phase, Phase::Failed(_))).count();
            let here = slots.iter().filter(|slot| matches!(slot.phase, Phase::Starting) || slot.held().is_some());
            let steady = |slot: &&Slot| match &slot.phase {
                Phase::Running { since, .. } => now.duration_since(*since) >= self.options.restart.healthy,
                Phase::Idle | Phase::Starting | Phase::Releasing | Phase::BackOff(..) | Phase::Failed(_) => false,
            };
            let runs_elsewhere = slots.iter().all(|slot| others.runs.contains(slot.spec.id.to_string().as_str()));
            let whole = group.is_some_and(|group| group.given_up().is_some()) || failed == slots.len();
            let given_up = whole || (failed > 0 && here.count() == 0 && runs_elsewhere);
            let well = group.is_none_or(|group| group.is_well(&self.options.restart, now));
            GroupView {
                given_up,
                on_trial: !given_up && !well && !slots.iter().any(steady),
                runs_elsewhere,
                fails_elsewhere: others.failed.contains(pipeline.to_string().as_str()),
            }
        };
        pipelines.into_iter().map(view).collect()
    }

    /// The pipelines of which something is given up here, for people.
    fn names_given_up(&self) -> Vec<String> {
        let failed = self.slots.values().filter(|slot| matches!(slot.phase, Phase::Failed(_)));
        let failed: BTreeSet<&PipelineId> = failed.map(|slot| &slot.spec.id.pipeline).collect();
        failed.into_iter().map(ToString::to_string).collect()
    }
}

/// What the other live nodes say.
struct Others<'a> {
    /// Units that one of them runs.
    runs: BTreeSet<&'a str>,
    /// Pipelines of which one of them has given something up.
    failed: BTreeSet<&'a str>,
}

impl<'a> Others<'a> {
    fn of(nodes: impl Iterator<Item = &'a NodeInfo>) -> Self {
        let (mut runs, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for node in nodes {
            failed.extend(node.given_up.iter().map(|group| group.pipeline.as_str()));
            for report in &node.units {
                match report.state.as_str() {
                    "running" | "waiting" => drop(runs.insert(report.unit.as_str())),
                    GIVEN_UP => failed.extend(report.unit.split('/').next()),
                    // On its way somewhere, which proves nothing.
                    _ => {}
                }
            }
        }
        Self { runs, failed }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
