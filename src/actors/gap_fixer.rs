//! GapFixer: fills final heights that somebody asked for; any number of slots on any number of nodes.
//!
//! Reads    mailbox `gap_fixer` (tasks, shared by the pool); the chain's blocks below finality; held heights
//! Writes   block files; held and parked heights; the rest of a task, back into the mailbox
//! Promise  when a task is acknowledged, each of its heights is held, parked with a reason, or sent on
//! Crash    the task is served again; files without a commit are found by their name and counted once

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::turn::crash::CrashPoint;
use super::turn::{self, Claimed, Error, Tick, Turn, Unit};
use crate::messages::block::{Block, BlockRef, Piece};
use crate::messages::gap::GapTask;
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::BlockFiles;
use crate::sources::{Absence, Chain, Fetched};
use crate::store::StoreError;
use crate::store::effect::{Commit, Effect, Outgoing};
use crate::store::heights::PAGE;

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
}

/// The bounds of fixing, from `[blocks.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixPlan {
    /// Blocks below the head that only the Collector may write.
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
            return Ok(Turn::Idle);
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
        let missing = self.missing(work).await?;
        self.unit.point(CrashPoint::AfterDecide).await;
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
        let fact = |name: &str| facts.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let Some(chain) = fact("chain_id") else { return Ok(None) };
        self.source.expect_chain(chain);
        let head = fact("head").and_then(|head| head.parse::<Height>().ok());
        Ok(head.and_then(|head| head.checked_sub(self.plan.confirmations)))
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
            let mut absent = Vec::new();
            for fetched in self.unit.outside(self.source.blocks(chunk)).await? {
                match fetched {
                    Fetched::Block(block) => blocks.push(block),
                    Fetched::Absent(height, absence) => absent.push((height, absence)),
                }
            }
            let ids: Vec<BlockRef> = blocks.iter().map(|block| block.id.clone()).collect();
            self.unit.outside(self.files.store(blocks)).await?;
            // Only what is durable counts.
            catch.blocks.extend(ids);
            catch.absent.extend(absent);
        }
        Ok(())
    }

    /// Commits what was caught. A link that disagrees takes the edge block out of the catch, and the rest goes on.
    async fn settle(&self, task: Task, mut catch: Catch, claimed: &Claimed<GapTask>) -> Result<(), Error> {
        catch.drop_unlinked();
        let mut overlaps = 0;
        loop {
            let missing = self.missing(task.work).await?;
            let plan = plan(task.work, task.tries, &catch, &missing, self.plan.tries_max);
            if plan.resend.is_some() {
                self.pause(task.tries).await;
            }
            let plan = plan.and_rest(task);
            match self.unit.commit(&self.commit_of(task.range, &plan, claimed)?).await {
                Ok(_) => {
                    for (range, reason) in &plan.park {
                        tracing::error!(unit = %self.unit.lease.unit(), %range, reason, "parked");
                    }
                    return Ok(());
                }
                Err(StoreError::Link { below, above, hash, parent }) => {
                    let reason = format!("{above} names the parent {parent}, but {below} is {hash}");
                    tracing::warn!(unit = %self.unit.lease.unit(), reason, "links disagree");
                    catch.disagree(below, &reason);
                    catch.disagree(above, &reason);
                }
                Err(StoreError::Overlap { .. } | StoreError::Uncovered { .. }) if overlaps < OVERLAPS_MAX => {
                    overlaps += 1;
                }
                Err(error) => return Err(error.into()),
            }
            self.unit.progress();
        }
    }

    /// Waits before a task is tried again: the pool must not spin on a height that nobody has.
    async fn pause(&self, tries: u32) {
        let pause = self.plan.pause_min.saturating_mul(1 << tries.min(16)).min(self.plan.pause_max);
        // A node that drains does not wait; the next holder of the task will.
        let nap = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0)));
        tokio::pin!(nap);
        while !self.unit.is_draining() {
            tokio::select! {
                () = &mut nap => return,
                () = self.unit.bell.notified() => {}
            }
        }
    }

    fn commit_of(&self, range: HeightRange, plan: &Plan, claimed: &Claimed<GapTask>) -> Result<Commit, Error> {
        let mut effects: Vec<Effect> = plan.merge.iter().cloned().map(Effect::Merge).collect();
        let park = |(range, reason): &(HeightRange, String)| Effect::Park { range: *range, reason: reason.clone() };
        effects.extend(plan.park.iter().map(park));
        if let Some((range, tries)) = plan.resend {
            let message = Outgoing::new(&GapTask::Fill { range, tries })?;
            effects.push(Effect::Send {
                to: self.unit.address("gap_fixer"),
                capacity: self.plan.capacity,
                messages: vec![message],
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
            vec![Effect::Park { range: *range, reason: format!("its task was set aside: {reason}") }]
        }
        None => Vec::new(),
    }
}

/// What a turn brought home: durable blocks, ascending, and heights without one.
#[derive(Debug, Default)]
struct Catch {
    blocks: Vec<BlockRef>,
    absent: Vec<(Height, Absence)>,
}

impl Catch {
    /// Takes a block out whose links disagree: which side is wrong cannot be told here.
    fn disagree(&mut self, height: Height, reason: &str) {
        let before = self.blocks.len();
        self.blocks.retain(|block| block.height != height);
        if self.blocks.len() < before {
            self.absent.push((height, Absence::Malformed(format!("links disagree: {reason}"))));
        }
    }

    /// Takes out neighbours that do not link. A block that stands alone between others is doubted alone: those link to
    /// each other at least. Where both sides are longer, neither can be told from the other, and both edges go.
    fn drop_unlinked(&mut self) {
        let runs: Vec<&[BlockRef]> = self.blocks.chunk_by(|below, above| below.hash == above.parent).collect();
        let mut doubted: Vec<(Height, String)> = Vec::new();
        for pair in runs.windows(2) {
            let ([.., below], [above, ..]) = (pair[0], pair[1]) else { continue };
            if below.height + 1 != above.height {
                continue;
            }
            let reason =
                format!("{} names the parent {}, but {} is {}", above.height, above.parent, below.height, below.hash);
            let (one_below, one_above) = (pair[0].len() == 1, pair[1].len() == 1);
            if one_below || !one_above {
                doubted.push((below.height, reason.clone()));
            }
            if one_above || !one_below {
                doubted.push((above.height, reason));
            }
        }
        for (height, reason) in doubted {
            self.disagree(height, &reason);
        }
    }
}

/// A task, and what of it this turn works on.
#[derive(Debug, Clone, Copy)]
struct Task {
    /// Its final heights.
    range: HeightRange,
    /// The lowest of them: what one turn can hold.
    work: HeightRange,
    tries: u32,
}

/// The final part of a task and what one turn works on; nothing if none of it is final. Pure.
fn split(range: HeightRange, finalized: Height, heights: u64) -> Option<(HeightRange, HeightRange)> {
    let range = HeightRange::new(range.lo(), range.hi().min(finalized)).ok()?;
    range.chunks(heights).next().map(|work| (range, work))
}

/// What becomes of each height of a task.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    merge: Vec<Piece>,
    park: Vec<(HeightRange, String)>,
    /// One message, whatever is left: net growth of the mailbox is never positive, so it is never refused for room.
    resend: Option<(HeightRange, u32)>,
}

impl Plan {
    /// Sends on, too, what of the task this turn did not work on.
    fn and_rest(mut self, task: Task) -> Self {
        if let Ok(rest) = HeightRange::new(task.work.hi() + 1, task.range.hi()) {
            self.resend = match self.resend {
                Some((range, tries)) => Some((range.hull(rest), tries)),
                None => Some((rest, 0)),
            };
        }
        self
    }
}

/// Decides about each height that is still missing. Pure.
fn plan(range: HeightRange, tries: u32, catch: &Catch, missing: &HeightSet, tries_max: u32) -> Plan {
    let mut left = missing.clone();
    let blocks = catch.blocks.iter().filter(|block| missing.contains(block.height));
    let merge = Piece::of_all(blocks);
    merge.iter().for_each(|piece| left.remove(piece.range));
    let mut park: Vec<(HeightRange, String)> = Vec::new();
    let mut failed = false;
    for (height, absence) in catch.absent.iter().filter(|(height, _)| left.contains(*height)) {
        let gives_up = match absence {
            // It says nothing about the height: left over, at no cost.
            Absence::Unheard(_) => continue,
            Absence::Pruned(_) => true,
            Absence::Unknown | Absence::Malformed(_) => tries + 1 >= tries_max,
        };
        failed = true;
        if gives_up {
            let reason = match absence {
                Absence::Pruned(_) | Absence::Unheard(_) => absence.to_string(),
                Absence::Unknown | Absence::Malformed(_) => format!("{absence}; tried {} times", tries + 1),
            };
            match park.last_mut() {
                Some((last, same)) if last.hi() + 1 == *height && *same == reason => *last = last.up_to(*height),
                _ => park.push((HeightRange::one(*height), reason)),
            }
        }
    }
    park.iter().for_each(|(range, _)| left.remove(*range));
    let resend = left.hull().and_then(|hull| hull.intersect(range)).map(|hull| (hull, tries + u32::from(failed)));
    Plan { merge, park, resend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::BlockHash;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn block(height: Height) -> BlockRef {
        let hash = |height: Height| BlockHash::new(&format!("h{height}")).expect("a hash");
        BlockRef { height, hash: hash(height), parent: hash(height.wrapping_sub(1)), time: 0 }
    }

    fn catch(blocks: impl IntoIterator<Item = Height>, absent: &[(Height, Absence)]) -> Catch {
        Catch { blocks: blocks.into_iter().map(block).collect(), absent: absent.to_vec() }
    }

    fn missing(ranges: &[(Height, Height)]) -> HeightSet {
        ranges.iter().map(|(lo, hi)| range(*lo, *hi)).collect()
    }

    #[test]
    fn a_whole_catch_is_one_piece_and_nothing_is_left() {
        let plan = plan(range(5, 9), 0, &catch(5..=9, &[]), &missing(&[(5, 9)]), 3);
        assert_eq!(plan.merge.iter().map(|p| p.range).collect::<Vec<_>>(), [range(5, 9)]);
        assert_eq!((plan.park, plan.resend), (vec![], None));
    }

    #[test]
    fn what_others_filled_meanwhile_is_left_to_them() {
        let plan = plan(range(5, 9), 0, &catch(5..=9, &[]), &missing(&[(5, 5), (8, 9)]), 3);
        assert_eq!(plan.merge.iter().map(|p| p.range).collect::<Vec<_>>(), [range(5, 5), range(8, 9)]);
        assert_eq!(plan.resend, None);
    }

    #[test]
    fn unknown_heights_are_tried_again_and_then_parked() {
        let absent = [(7, Absence::Unknown)];
        let first = plan(range(5, 9), 0, &catch([5, 6, 8, 9], &absent), &missing(&[(5, 9)]), 3);
        assert_eq!(first.resend, Some((range(7, 7), 1)));
        assert!(first.park.is_empty());
        let last = plan(range(7, 7), 2, &catch([], &absent), &missing(&[(7, 7)]), 3);
        assert_eq!(last.resend, None);
        assert_eq!(last.park[0].0, range(7, 7));
        assert!(last.park[0].1.contains("tried 3 times"), "{}", last.park[0].1);
    }

    #[test]
    fn pruned_heights_are_parked_at_once() {
        let absent: Vec<_> = (5..=7).map(|h| (h, Absence::Pruned("gone".to_owned()))).collect();
        let plan = plan(range(5, 9), 0, &catch([8, 9], &absent), &missing(&[(5, 9)]), 3);
        assert_eq!(plan.park.len(), 1);
        assert_eq!(plan.park[0].0, range(5, 7));
        assert_eq!(plan.resend, None);
    }

    #[test]
    fn a_source_that_failed_half_way_costs_no_try() {
        let plan = plan(range(5, 9), 1, &catch([5, 6], &[]), &missing(&[(5, 9)]), 3);
        assert_eq!(plan.resend, Some((range(7, 9), 1)));
    }

    #[test]
    fn neighbours_that_do_not_link_are_both_doubted() {
        let mut caught = catch(5..=9, &[]);
        caught.blocks[2].parent = BlockHash::new("other").expect("a hash");
        caught.drop_unlinked();
        assert_eq!(caught.blocks.iter().map(|b| b.height).collect::<Vec<_>>(), [5, 8, 9]);
        let plan = plan(range(5, 9), 0, &caught, &missing(&[(5, 9)]), 3);
        assert_eq!(plan.resend, Some((range(6, 7), 1)));
    }

    #[test]
    fn a_turn_works_on_final_heights_only_and_sends_the_rest_on() {
        assert_eq!(split(range(5, 900), 500, 100), Some((range(5, 500), range(5, 104))));
        assert_eq!(split(range(5, 9), 500, 100), Some((range(5, 9), range(5, 9))));
        assert_eq!(split(range(501, 900), 500, 100), None);
        let task = Task { range: range(5, 500), work: range(5, 104), tries: 2 };
        assert_eq!(Plan::default().and_rest(task).resend, Some((range(105, 500), 0)));
        let left = Plan { resend: Some((range(7, 8), 3)), ..Plan::default() };
        assert_eq!(left.and_rest(task).resend, Some((range(7, 500), 3)));
    }

    #[test]
    fn a_block_that_stands_alone_is_doubted_alone() {
        let mut caught = catch(5..=9, &[]);
        let other = |text| BlockHash::new(text).expect("a hash");
        (caught.blocks[2].parent, caught.blocks[2].hash) = (other("x6"), other("x7"));
        caught.drop_unlinked();
        assert_eq!(caught.blocks.iter().map(|b| b.height).collect::<Vec<_>>(), [5, 6, 8, 9]);
        // Heights that are not neighbours need not link; the last two are one each, and both are doubted.
        let mut caught = catch([5, 7, 9, 10], &[]);
        caught.blocks[3].parent = other("x9");
        caught.drop_unlinked();
        assert_eq!(caught.blocks.iter().map(|b| b.height).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn a_buried_task_parks_its_heights() {
        let effects = bury(Some(&GapTask::Fill { range: range(5, 9), tries: 0 }), "a panic");
        assert!(matches!(&effects[..], [Effect::Park { range, .. }] if range.count() == 5));
    }
}
