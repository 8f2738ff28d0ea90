//! GapFixer: fills final heights that somebody asked for; any number of slots on any number of nodes.
//!
//! Reads    mailbox `gap_fixer` (tasks, shared by the pool); block files; the chain's blocks below finality; held heights
//! Writes   block files; held and parked heights; the rest of a task, back into the mailbox
//! Promise  when a task is acknowledged, each of its heights is held, parked with a reason, or sent on
//! Crash    the task is served again; files without a commit are found by their name and counted once

mod adopt;
mod alarm;
mod catch;
mod plan;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::{self, Brought, Claimed, Error, Tick, Turn, Unit};
use crate::messages::block::Block;
use crate::messages::facts::ChainFacts;
use crate::messages::gap::GapTask;
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::BlockFiles;
use crate::sources::{Chain, Fetched};
use crate::store::StoreError;
use crate::store::dead::reason_of_set_aside;
use crate::store::effect::{Commit, Effect, Outgoing};
use crate::store::heights::PAGE;
use crate::telemetry::blocks::PipelineLabels;
use alarm::Mismatch;
pub use alarm::Suspects;
use catch::{Came, Catch, Caught, Lack};
use plan::{Plan, Task, plan, split};

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct GapFixer {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// The chain.
    pub source: Chain,
    /// Where blocks go.
    pub files: BlockFiles,
    /// Its bounds.
    pub plan: FixPlan,
    /// Who contradicted what is held, in this life.
    pub suspects: Arc<Mutex<Suspects>>,
}

/// The bounds of fixing, from `[blocks.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FixPlan {
    /// Blocks below the head that only the Collector may write, where it has not written down yet what is final.
    pub confirmations: u64,
    /// Heights that one turn works on, however wide its task.
    pub task_heights: u64,
    /// Heights fetched and stored at a time.
    pub batch: u64,
    /// Tasks that the pool's mailbox may hold.
    pub capacity: u64,
    /// Tries before heights that cannot be had are parked.
    pub tries_max: u32,
    /// The pause before the second try; it doubles.
    pub pause_min: Duration,
    /// The longest pause between tries.
    pub pause_max: Duration,
    /// How many endpoints the source has: if so many show the same, nobody is left to ask.
    pub endpoints: usize,
    /// How long the source leaves an endpoint alone that it was told to distrust.
    pub distrust_for: Duration,
}

/// Commits of one turn that may be refused because others filled the same heights meanwhile.
const OVERLAPS_MAX: u32 = 8;

impl Actor for GapFixer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for GapFixer {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl GapFixer {
    async fn take_turn(self) -> Result<Turn, Error> {
        let claimed = self.unit.claim::<GapTask>(bury).await?;
        let Some((_, GapTask::Fill { range, tries })) = claimed.messages.first().cloned() else {
            return Ok(claimed.idle(&self.unit));
        };
        let Some(finalized) = self.finalized().await? else {
            // The Collector must see the chain first; until then the task waits.
            return Ok(Turn::Idle);
        };
        let Some((range, work)) = split(range, finalized, self.plan.task_heights) else {
            // Not final: the Collector's own, or nobody's yet. The detector asks for them when they are.
            self.unit.commit(&Commit { ack: claimed.ack, ..Commit::default() }).await?;
            return Ok(Turn::Worked);
        };
        let mut catch = Catch::default();
        let mut missing = self.missing(work).await?;
        self.unit.point(CrashPoint::AfterDecide).await;
        if tries == 0 {
            self.adopt(&mut missing, &mut catch).await?;
        }
        // A source that fails half-way leaves what it brought: that much is committed, the rest sent on.
        let failure = self.fetch(&missing, &mut catch).await.err();
        if let Some(error) = failure {
            if catch.blocks.is_empty() {
                return Err(error);
            }
            tracing::debug!(unit = %self.unit.lease.unit(), %error, "the rest of the task is sent on");
        }
        self.unit.point(CrashPoint::AfterApply).await;
        self.settle(Task { range, work, tries }, catch, &claimed).await?;
        Ok(Turn::Worked)
    }

    /// The source must serve the chain that the pipeline holds; the Collector has written down which.
    ///
    /// Answers the highest height that can no longer change, none while nothing is known or nothing is final.
    async fn finalized(&self) -> Result<Option<Height>, Error> {
        let facts = self.unit.lease.store().facts(self.unit.lease.link(), self.unit.pipeline()).await?;
        let facts = ChainFacts::read(&facts, self.plan.confirmations);
        let Some(chain) = facts.chain_id else { return Ok(None) };
        self.source.expect_chain(&chain);
        Ok(facts.finalized)
    }

    /// The heights of a range that are neither held nor parked, as of now.
    async fn missing(&self, range: HeightRange) -> Result<HeightSet, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut missing = HeightSet::from_iter([range]);
        let mut rest = Some(range);
        while let Some(part) = rest {
            let held = store.held(link, self.unit.pipeline(), part).await?;
            held.iter().for_each(|piece| missing.remove(piece.range));
            rest = held.last().filter(|_| held.len() >= PAGE).and_then(|last| above(last.range, range));
        }
        rest = missing.hull();
        while let Some(part) = rest {
            let parked = store.parked(link, self.unit.pipeline(), part).await?;
            parked.iter().for_each(|parked| missing.remove(parked.range));
            rest = parked.last().filter(|_| parked.len() >= PAGE).and_then(|last| above(last.range, range));
        }
        Ok(missing)
    }

    /// Fetches and stores batch by batch, so that memory holds one batch, whatever the task.
    async fn fetch(&self, missing: &HeightSet, catch: &mut Catch) -> Result<(), Error> {
        for chunk in missing.ranges().iter().flat_map(|range| range.chunks(self.plan.batch)) {
            let mut blocks: Vec<Block> = Vec::new();
            let mut lacks = Vec::new();
            for fetched in self.unit.outside(self.source.blocks(chunk)).await? {
                match fetched {
                    Fetched::Block(block) => blocks.push(block),
                    Fetched::Absent(height, absence) => lacks.push((height, Lack::Absent(absence))),
                }
            }
            let caught =
                |block: &Block| Caught { id: block.id.clone(), came: Came::From(block.origin.endpoint.clone()) };
            let caught = blocks.iter().map(caught).collect();
            let brought = Brought::of(&blocks);
            self.unit.outside(self.files.store(blocks)).await?;
            brought.iter().for_each(|block| block.say(&self.unit, false));
            // Only what is durable counts.
            catch.add(caught, lacks);
        }
        Ok(())
    }

    /// Commits what was caught. A link that disagrees takes the edge block out of the catch, and the rest goes on.
    async fn settle(&self, task: Task, mut catch: Catch, claimed: &Claimed<GapTask>) -> Result<(), Error> {
        catch.drop_unlinked();
        let mut overlaps = 0;
        loop {
            let missing = self.missing(task.work).await?;
            let plan = plan(task, &catch, &missing, self.plan.tries_max);
            // The pool must not spin on a height that nobody has, and the slot is for others meanwhile.
            let pause = plan.resend.is_some().then(|| self.pause(task.tries));
            let plan = plan.and_rest(task);
            match self.unit.commit(&self.commit_of(task.range, &plan, pause, claimed)?).await {
                Ok(_) => {
                    self.tell(&plan, &catch);
                    return Ok(());
                }
                Err(StoreError::Link { below, above, hash, parent }) => {
                    self.contradicted(Mismatch { below, above, hash, parent }, &mut catch).await?;
                }
                Err(StoreError::Overlap { .. } | StoreError::Uncovered { .. }) if overlaps < OVERLAPS_MAX => {
                    overlaps += 1;
                }
                Err(error) => return Err(error.into()),
            }
            self.unit.progress();
        }
    }

    /// Counts what a commit has recorded, and says what was parked.
    fn tell(&self, plan: &Plan, catch: &Catch) {
        let metrics = &self.unit.metrics;
        let labels = PipelineLabels { pipeline: self.unit.pipeline().to_string() };
        let (adopted, fetched) = catch.count(&plan.merge.iter().map(|piece| piece.range).collect());
        metrics.blocks.adopted.get_or_create(&labels).inc_by(adopted);
        metrics.blocks.fetched.get_or_create(&labels).inc_by(fetched);
        if adopted > 0 {
            tracing::debug!(unit = %self.unit.lease.unit(), adopted, "blocks that stood in the store are held again");
        }
        for (range, reason) in &plan.park {
            metrics.blocks.parked.get_or_create(&labels).inc_by(range.count());
            tracing::error!(unit = %self.unit.lease.unit(), %range, reason, "parked");
        }
    }

    /// How long it takes until a task is tried again.
    fn pause(&self, tries: u32) -> Duration {
        let pause = self.plan.pause_min.saturating_mul(1 << tries.min(16)).min(self.plan.pause_max);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }

    fn commit_of(
        &self,
        range: HeightRange,
        plan: &Plan,
        pause: Option<Duration>,
        claimed: &Claimed<GapTask>,
    ) -> Result<Commit, Error> {
        let mut effects: Vec<Effect> = plan.merge.iter().cloned().map(Effect::Merge).collect();
        let park = |(range, reason): &(HeightRange, String)| Effect::Park { range: *range, reason: reason.clone() };
        effects.extend(plan.park.iter().map(park));
        if let Some((range, tries)) = plan.resend {
            let message = Outgoing::new(&GapTask::Fill { range, tries })?;
            let to = self.unit.address("gap_fixer");
            effects.push(match pause {
                Some(after) => Effect::Again { of: to, after, message },
                None => Effect::Send { to, capacity: self.plan.capacity, messages: vec![message] },
            });
        }
        effects.push(Effect::Cover { range, resent: plan.resend.iter().map(|(range, _)| *range).collect() });
        Ok(Commit { state: None, ack: claimed.ack, effects })
    }
}

/// The part of `whole` above `seen`.
fn above(seen: HeightRange, whole: HeightRange) -> Option<HeightRange> {
    HeightRange::new(seen.hi() + 1, whole.hi()).ok()
}

/// A task that is set aside parks its heights in the same commit: they must not be missed in silence.
fn bury(task: Option<&GapTask>, reason: &str) -> Vec<Effect> {
    match task {
        Some(GapTask::Fill { range, .. }) => {
            vec![Effect::Park { range: *range, reason: reason_of_set_aside(reason) }]
        }
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buried_task_parks_its_heights() {
        let range = HeightRange::new(5, 9).expect("a range");
        let effects = bury(Some(&GapTask::Fill { range, tries: 0 }), "a panic");
        assert!(matches!(&effects[..], [Effect::Park { range, .. }] if range.count() == 5));
    }
}
