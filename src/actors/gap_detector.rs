//! GapDetector: finds what is wanted and neither held, parked nor asked for, and asks for it.
//!
//! Reads    held and parked heights, facts `head` and `start`; mailbox `gap_detector` (wake-ups, `blocks verify`)
//! Writes   mailbox `gap_fixer` (tasks, as it has room); takes bad blocks out of the held heights; empties the trash
//! Promise  every final wanted height is held, parked with a reason, or asked for, again and again as requests age
//! Crash    nothing but the ages of requests is lost; a height asked for twice is filled once

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::messages::block::{BlockHash, Piece};
use crate::messages::gap::{DetectorMessage, GapTask};
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::{BlockFiles, Verdict};
use crate::store::effect::{Ack, Commit, Effect, Outgoing};
use crate::store::heights::PAGE;

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct GapDetector {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// Where blocks are, to judge again what `blocks verify` doubts.
    pub files: BlockFiles,
    /// Its bounds.
    pub plan: DetectPlan,
    /// When it last emptied the trash; none before the first time.
    pub swept: Arc<Mutex<Option<Instant>>>,
}

/// The bounds of detection, from `[blocks.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectPlan {
    /// Blocks below the head that only the Collector may write.
    pub confirmations: u64,
    /// The highest wanted height, if any.
    pub end: Option<Height>,
    /// Heights of one task.
    pub task_heights: u64,
    /// Tasks that the pool's mailbox may hold.
    pub capacity: u64,
    /// After so long without an outcome a request is made again.
    pub request_age: Duration,
    /// How soon it looks again when there was more to ask for than room.
    pub again: Duration,
    /// How long bad and superseded files wait in the trash: a failover may forget that much.
    pub rollback_horizon: Duration,
}

/// Requests that are remembered at the most: they must fit into the checkpoint.
const REQUESTS_MAX: usize = 1000;
/// Notes of bad blocks that the trash list may hold.
const TRASH_MAX: u64 = 100_000;

/// Doubted heights that are judged at a time.
const JUDGE_HEIGHTS: u64 = 1000;
/// Effects of one commit, about: it must stay within its bounds however much was found bad.
const EFFECTS_MAX: usize = 200;

/// How often the trash is looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// A range that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    range: HeightRange,
    /// Server milliseconds of the asking.
    at_ms: u64,
}

/// What the checkpoint holds: no truth, only ages. Losing it asks again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DetectorState {
    requested: Vec<Request>,
}

/// What one look brought.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    /// Requests that still stand, the new ones included.
    state: DetectorState,
    /// Ranges to ask for now, lowest first.
    tasks: Vec<HeightRange>,
    /// There was more to ask for than room.
    more: bool,
}

impl Actor for GapDetector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for GapDetector {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl GapDetector {
    async fn take_turn(self) -> Result<Turn, Error> {
        self.sweep().await;
        let claimed = self.unit.claim::<DetectorMessage>(|_, _| Vec::new()).await?;
        let doubted = doubted(claimed.messages.iter().map(|(_, message)| message));
        let before = self.state()?;
        let mut decision = match self.wanted().await? {
            Some(wanted) => self.look(&before, wanted).await?,
            None => Decision { state: before.clone(), tasks: Vec::new(), more: false },
        };
        self.unit.point(CrashPoint::AfterDecide).await;
        let Dropped { mut effects, any: dropped } = self.drop_bad(&doubted).await?;
        self.unit.point(CrashPoint::AfterApply).await;
        let turn = if decision.more { Turn::IdleFor(self.plan.again) } else { Turn::Idle };
        if claimed.is_empty() && effects.is_empty() && decision.tasks.is_empty() && decision.state == before {
            return Ok(turn);
        }
        // What is taken out of the held heights in this turn is missed by the next look, at once.
        let turn = if dropped { Turn::Worked } else { turn };
        decision.state.requested.truncate(REQUESTS_MAX);
        if !decision.tasks.is_empty() {
            tracing::debug!(unit = %self.unit.lease.unit(), tasks = decision.tasks.len(), "asking for gaps");
            effects.push(self.ask(&decision.tasks)?);
        }
        let state = serde_json::to_string(&decision.state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack: claimed.ack, effects }).await?;
        Ok(turn)
    }

    /// Destroys what has been in the trash for longer than the rollback horizon. A failure costs only space, so it
    /// must not stop the detection; the next sweep goes on.
    async fn sweep(&self) {
        let now = Instant::now();
        let is_due = {
            // A panic elsewhere leaves at worst a time of long ago.
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = swept.is_none_or(|at| now.duration_since(at) >= SWEEP_EVERY);
            if is_due {
                *swept = Some(now);
            }
            is_due
        };
        if is_due {
            match self.files.sweep_trash(self.plan.rollback_horizon).await {
                Ok(0) => {}
                Ok(files) => tracing::info!(unit = %self.unit.lease.unit(), files, "trash past the horizon destroyed"),
                Err(error) => tracing::warn!(unit = %self.unit.lease.unit(), %error, "the trash cannot be emptied"),
            }
            self.unit.progress();
        }
    }

    fn state(&self) -> Result<DetectorState, Error> {
        let state = self.unit.lease.state();
        if state.is_empty() {
            return Ok(DetectorState::default());
        }
        serde_json::from_str(&state).map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))
    }

    /// The final wanted heights; none before the Collector has seen the chain, or while nothing is final.
    async fn wanted(&self) -> Result<Option<HeightRange>, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut facts = [None, None];
        for (fact, name) in facts.iter_mut().zip(["head", "start"]) {
            *fact = store.fact(link, self.unit.pipeline(), name).await?.and_then(|text| text.parse::<Height>().ok());
        }
        let [Some(head), Some(start)] = facts else { return Ok(None) };
        let Some(last) = head.checked_sub(self.plan.confirmations) else { return Ok(None) };
        let last = self.plan.end.map_or(last, |end| last.min(end));
        Ok(HeightRange::new(start, last).ok())
    }

    /// Reads the sets, page by page, until the room for tasks is used up.
    async fn look(&self, before: &DetectorState, wanted: HeightRange) -> Result<Decision, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mailbox = self.unit.address("gap_fixer");
        let waiting = store.depth(link, &mailbox).await?.entries;
        let room = usize::try_from(self.plan.capacity.saturating_sub(waiting)).unwrap_or(usize::MAX);
        let now_ms = store.now_ms(link).await?;
        let mut look = Look::new(before, now_ms, &self.plan, room.min(REQUESTS_MAX));
        let mut rest = Some(wanted);
        while let Some(range) = rest {
            if look.is_full() {
                break;
            }
            // One page of held intervals bounds the part of the chain that this step judges.
            let held = store.held(link, self.unit.pipeline(), range).await?;
            let part = match held.last() {
                Some(last) if held.len() >= PAGE => range.intersect(HeightRange::one(range.lo()).hull(last.range)),
                _ => Some(range),
            };
            let Some(part) = part else { break };
            let mut missing = HeightSet::from_iter([part]);
            held.iter().for_each(|piece| missing.remove(piece.range));
            self.without_parked(&mut missing).await?;
            look.judge(part, &missing);
            rest = HeightRange::new(part.hi() + 1, range.hi()).ok();
            self.unit.progress();
        }
        Ok(look.decide())
    }

    /// Takes the parked heights out of what is missing.
    async fn without_parked(&self, missing: &mut HeightSet) -> Result<(), Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut rest = missing.hull();
        while let Some(range) = rest {
            let parked = store.parked(link, self.unit.pipeline(), range).await?;
            parked.iter().for_each(|parked| missing.remove(parked.range));
            rest = match parked.last() {
                Some(last) if parked.len() >= PAGE => HeightRange::new(last.range.hi() + 1, range.hi()).ok(),
                _ => None,
            };
        }
        Ok(())
    }

    fn ask(&self, tasks: &[HeightRange]) -> Result<Effect, Error> {
        let messages = tasks.iter().map(|range| Outgoing::new(&GapTask::Fill { range: *range, tries: 0 }));
        let messages = messages.collect::<Result<_, _>>()?;
        Ok(Effect::Send { to: self.unit.address("gap_fixer"), capacity: self.plan.capacity, messages })
    }

    /// Judges doubted heights again, moves what is bad to the trash, and takes those heights out of the held ones.
    /// Answers the last effects; many of them are committed on the way, which acknowledges nothing.
    ///
    /// A crash before a commit leaves the files in the trash and the wish in the mailbox: judged once more, the
    /// heights are missing, and go.
    async fn drop_bad(&self, doubted: &HeightSet) -> Result<Dropped, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut dropped = Dropped::default();
        for range in doubted.ranges().iter().flat_map(|range| range.chunks(JUDGE_HEIGHTS)) {
            for piece in store.held(link, self.unit.pipeline(), range).await? {
                let Some(part) = piece.range.intersect(range) else { continue };
                let bad = self.bad(&piece, part).await?;
                for height in bad.ranges().iter().flat_map(|bad| bad.lo()..=bad.hi()) {
                    self.discard(height, &mut dropped.effects).await?;
                }
                for bad in bad.ranges() {
                    dropped.effects.push(self.remove(&piece, *bad).await?);
                    dropped.any = true;
                    if dropped.effects.len() >= EFFECTS_MAX {
                        let effects = std::mem::take(&mut dropped.effects);
                        self.unit.commit(&Commit { state: None, ack: Ack::Nothing, effects }).await?;
                    }
                }
            }
        }
        Ok(dropped)
    }

    /// The heights of a held piece for which no good file stands, or another block than the links and the index say.
    async fn bad(&self, piece: &Piece, part: HeightRange) -> Result<HeightSet, Error> {
        let top = self.files.wanted_at(piece, part.hi()).await?;
        let verdicts = self.files.check_range(part, top).await?;
        self.unit.progress();
        let is_good = |verdict: &Verdict| match verdict {
            Verdict::Good(id) => id.height > piece.range.lo() || id.parent == piece.parent,
            Verdict::Missing
            | Verdict::Altered { .. }
            | Verdict::NoDigest(_)
            | Verdict::Other { .. }
            | Verdict::Several(_) => false,
        };
        Ok(verdicts.iter().filter(|(_, v)| !is_good(v)).map(|(height, _)| HeightRange::one(*height)).collect())
    }

    /// Moves the altered files of a height to the trash. Good ones stay: another block's, or one whose index is wrong.
    async fn discard(&self, height: Height, effects: &mut Vec<Effect>) -> Result<(), Error> {
        for stored in self.files.read(height).await? {
            if let Verdict::Altered { hash, reason } = stored.verdict {
                let moved = self.files.discard_bad(height, &hash).await?;
                tracing::warn!(unit = %self.unit.lease.unit(), height, %hash, reason, "bad block moved to the trash");
                let item = serde_json::json!({ "height": height, "hash": hash, "reason": reason, "files": moved });
                effects.push(Effect::Trash { item: item.to_string(), capacity: TRASH_MAX });
            }
        }
        self.unit.progress();
        Ok(())
    }

    /// The effect that takes `bad` out of a held piece, with the edges that stay. Where a neighbour cannot be told
    /// for sure it goes too: a height that is dropped needlessly is only fetched again.
    async fn remove(&self, piece: &Piece, bad: HeightRange) -> Result<Effect, Error> {
        let (mut lo, mut hi) = (bad.lo(), bad.hi());
        let mut below = None;
        while lo > piece.range.lo() {
            below = self.only_good(lo - 1).await?;
            if below.is_some() {
                break;
            }
            lo -= 1;
            self.unit.progress();
        }
        let mut above = None;
        while hi < piece.range.hi() {
            above = self.files.wanted_at(piece, hi).await?;
            if above.is_some() {
                break;
            }
            hi += 1;
            self.unit.progress();
        }
        let range = HeightRange::new(lo, hi).map_err(Error::Fault)?;
        Ok(Effect::Remove { range, below, above })
    }

    /// The hash of the one good block at a height; none if there is none, or more than one.
    async fn only_good(&self, height: Height) -> Result<Option<BlockHash>, Error> {
        let mut good = self.files.read(height).await?.into_iter().filter_map(|stored| match stored.verdict {
            Verdict::Good(id) => Some(id.hash),
            Verdict::Missing
            | Verdict::Altered { .. }
            | Verdict::NoDigest(_)
            | Verdict::Other { .. }
            | Verdict::Several(_) => None,
        });
        Ok(good.next().filter(|_| good.next().is_none()))
    }
}

/// What `blocks verify` found and this actor agrees with.
#[derive(Debug, Default)]
struct Dropped {
    /// Not committed yet.
    effects: Vec<Effect>,
    /// Some heights are no longer held.
    any: bool,
}

/// The heights that somebody doubts.
fn doubted<'a>(messages: impl Iterator<Item = &'a DetectorMessage>) -> HeightSet {
    let mut set = HeightSet::new();
    for message in messages {
        match message {
            DetectorMessage::HeadMoved { .. } => {}
            DetectorMessage::Recheck { heights } => {
                let heights = heights.iter().filter(|h| **h <= crate::messages::heights::HEIGHT_MAX);
                heights.for_each(|height| set.insert(HeightRange::one(*height)));
            }
        }
    }
    set
}

/// One look at the sets, from the lowest height up. Pure.
struct Look<'a> {
    plan: &'a DetectPlan,
    now_ms: u64,
    room: usize,
    /// Requests that are young enough to stand.
    young: Vec<Request>,
    /// Parts of them that are still missing.
    standing: Vec<Request>,
    /// Where the look has come to.
    judged: Option<Height>,
    tasks: Vec<HeightRange>,
    more: bool,
}

impl<'a> Look<'a> {
    fn new(before: &DetectorState, now_ms: u64, plan: &'a DetectPlan, room: usize) -> Self {
        let age = u64::try_from(plan.request_age.as_millis()).unwrap_or(u64::MAX);
        // A request from the future was written by a clock that has gone back since: its age cannot be told.
        let is_young = |request: &&Request| request.at_ms <= now_ms && now_ms - request.at_ms < age;
        let young = before.requested.iter().filter(is_young).copied().collect();
        Self { plan, now_ms, room, young, standing: Vec::new(), judged: None, tasks: Vec::new(), more: false }
    }

    fn is_full(&self) -> bool {
        self.more
    }

    /// Judges one part of the chain, of which `missing` is neither held nor parked.
    fn judge(&mut self, part: HeightRange, missing: &HeightSet) {
        self.judged = Some(part.hi());
        let mut unasked = missing.clone();
        for request in &self.young {
            for range in missing.ranges().iter().filter_map(|range| range.intersect(request.range)) {
                self.standing.push(Request { range, at_ms: request.at_ms });
            }
            unasked.remove(request.range);
        }
        for task in unasked.ranges().iter().flat_map(|range| range.chunks(self.plan.task_heights)) {
            if self.tasks.len() >= self.room {
                self.more = true;
                return;
            }
            self.tasks.push(task);
        }
    }

    fn decide(mut self) -> Decision {
        // What lies above the place reached was not looked at: it stands as it was.
        let reached = self.judged;
        let unseen = self.young.iter().filter(|request| reached.is_none_or(|at| request.range.lo() > at));
        self.standing.extend(unseen.copied());
        self.standing.extend(self.tasks.iter().map(|range| Request { range: *range, at_ms: self.now_ms }));
        self.standing.sort_by_key(|request| request.range.lo());
        // Neighbours asked for at the same time are one line in the checkpoint.
        let mut requested: Vec<Request> = Vec::with_capacity(self.standing.len());
        for request in self.standing {
            match requested.last_mut() {
                Some(last) if last.at_ms == request.at_ms && last.range.hi() + 1 >= request.range.lo() => {
                    last.range = last.range.up_to(request.range.hi());
                }
                _ => requested.push(request),
            }
        }
        Decision { state: DetectorState { requested }, tasks: self.tasks, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn plan() -> DetectPlan {
        DetectPlan {
            confirmations: 10,
            end: None,
            task_heights: 10,
            capacity: 100,
            request_age: Duration::from_secs(60),
            again: Duration::from_millis(100),
            rollback_horizon: Duration::from_secs(600),
        }
    }

    fn look(before: &[(u64, u64, u64)], missing: &[(u64, u64)], now_ms: u64, room: usize) -> Decision {
        let requested = before.iter().map(|(lo, hi, at_ms)| Request { range: range(*lo, *hi), at_ms: *at_ms });
        let plan = plan();
        let mut look = Look::new(&DetectorState { requested: requested.collect() }, now_ms, &plan, room);
        look.judge(range(0, 100), &missing.iter().map(|(lo, hi)| range(*lo, *hi)).collect());
        look.decide()
    }

    #[test]
    fn gaps_become_tasks_of_the_asked_size_lowest_first() {
        let decision = look(&[], &[(5, 27), (40, 40)], 1000, 50);
        assert_eq!(decision.tasks, [range(5, 14), range(15, 24), range(25, 27), range(40, 40)]);
        assert!(!decision.more);
        let asked: Vec<_> = decision.state.requested.iter().map(|r| r.range).collect();
        assert_eq!(asked, [range(5, 27), range(40, 40)]);
    }

    #[test]
    fn what_was_asked_for_is_not_asked_again_until_it_ages() {
        let asked = [(5, 27, 1000)];
        assert!(look(&asked, &[(5, 27)], 2000, 50).tasks.is_empty());
        assert_eq!(look(&asked, &[(5, 30)], 2000, 50).tasks, [range(28, 30)]);
        assert_eq!(look(&asked, &[(8, 12)], 61_000, 50).tasks, [range(8, 12)]);
        let back_in_time = look(&asked, &[(8, 12)], 10, 50);
        assert_eq!(back_in_time.tasks, [range(8, 12)], "a request from the future has no age");
    }

    #[test]
    fn requests_that_were_filled_are_forgotten() {
        let decision = look(&[(5, 27, 1000)], &[(20, 21)], 2000, 50);
        assert_eq!(decision.state.requested, [Request { range: range(20, 21), at_ms: 1000 }]);
    }

    #[test]
    fn only_as_many_tasks_as_there_is_room() {
        let decision = look(&[], &[(0, 99)], 1000, 3);
        assert_eq!(decision.tasks, [range(0, 9), range(10, 19), range(20, 29)]);
        assert!(decision.more);
    }

    #[test]
    fn requests_above_the_place_reached_stand() {
        let decision = look(&[(500, 510, 1000)], &[(0, 99)], 2000, 1);
        assert!(decision.state.requested.contains(&Request { range: range(500, 510), at_ms: 1000 }));
    }

    #[test]
    fn doubts_are_gathered_and_absurd_heights_dropped() {
        let messages =
            [DetectorMessage::HeadMoved { head: 7 }, DetectorMessage::Recheck { heights: vec![3, 4, 9, u64::MAX] }];
        assert_eq!(doubted(messages.iter()).ranges(), [range(3, 4), range(9, 9)]);
    }
}
