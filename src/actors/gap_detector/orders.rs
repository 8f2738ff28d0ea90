//! What operators order (`blocks fill`, `park`, `unpark`): done in their order, in commits of bounded size, and what
//! was wished for is asked for before anything else.

use super::GapDetector;
use super::look::{DetectorState, Request};
use crate::actors::turn::Error;
use crate::ids::EntryId;
use crate::messages::gap::{DetectorMessage, PARK_REASON_MAX};
use crate::messages::heights::{HeightRange, HeightSet};
use crate::store::effect::{Ack, Commit, Effect};
use crate::store::heights::{PAGE, Parked};

/// Intervals that the effects of one commit may touch, about: however much is parked, no script runs for long.
const INTERVALS_MAX: usize = PAGE;
/// Ranges that are remembered as wished for; they must fit into the checkpoint. The highest give way: a wish is only
/// an order of asking, and what is forgotten here is missing all the same.
const WISHES_MAX: usize = 100;

/// Effects that wait for their commit, and how many intervals they touch.
#[derive(Debug, Default)]
struct Batch {
    effects: Vec<Effect>,
    intervals: usize,
}

impl GapDetector {
    /// Does what the messages order, in their order. Parked and unparked heights are committed here, which
    /// acknowledges nothing: after a crash on the way the messages come again, and doing them twice is no change.
    pub(super) async fn obey(
        &self,
        messages: &[(EntryId, DetectorMessage)],
        wishes: &mut HeightSet,
    ) -> Result<(), Error> {
        let mut batch = Batch::default();
        for (_, message) in messages {
            match message {
                DetectorMessage::HeadMoved { .. } | DetectorMessage::Recheck { .. } => {}
                DetectorMessage::Fill { range } => {
                    self.unpark(*range, &mut batch).await?;
                    wishes.insert(*range);
                }
                DetectorMessage::Unpark { range } => self.unpark(*range, &mut batch).await?,
                DetectorMessage::Park { range, reason } => {
                    self.park(*range, &written(reason), &mut batch).await?;
                    wishes.remove(*range);
                }
            }
        }
        bound(wishes);
        self.flush(&mut batch).await
    }

    /// Lets parked heights go, a page of intervals at a time.
    async fn unpark(&self, range: HeightRange, batch: &mut Batch) -> Result<(), Error> {
        // What waits for its commit is not in the sets yet.
        self.flush(batch).await?;
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut rest = Some(range);
        while let Some(part) = rest {
            let parked = store.parked(link, self.unit.pipeline(), part).await?;
            let seen = parked.iter().map(|parked| parked.range).collect::<Vec<_>>();
            let here = up_to_page(part, &seen);
            if !parked.is_empty() {
                tracing::info!(unit = %self.unit.lease.unit(), range = %here, "parked heights are let go");
                self.add(Effect::Unpark { range: here }, parked.len(), batch).await?;
            }
            rest = HeightRange::new(here.hi() + 1, range.hi()).ok();
        }
        Ok(())
    }

    /// Parks what of the range is not held, as far as one page of either set reaches at a time.
    async fn park(&self, range: HeightRange, reason: &str, batch: &mut Batch) -> Result<(), Error> {
        self.flush(batch).await?;
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut rest = Some(range);
        while let Some(part) = rest {
            let held = store.held(link, self.unit.pipeline(), part).await?;
            let parked = store.parked(link, self.unit.pipeline(), part).await?;
            let held: Vec<HeightRange> = held.iter().map(|piece| piece.range).collect();
            let parked: Vec<HeightRange> = parked.iter().map(|parked| parked.range).collect();
            let here = up_to_page(up_to_page(part, &held), &parked);
            tracing::info!(unit = %self.unit.lease.unit(), range = %here, reason, "parked by an operator");
            let reason = Parked::reason_of_operator(reason);
            self.add(Effect::Park { range: here, reason }, held.len() + parked.len() + 1, batch).await?;
            rest = HeightRange::new(here.hi() + 1, range.hi()).ok();
        }
        Ok(())
    }

    async fn add(&self, effect: Effect, intervals: usize, batch: &mut Batch) -> Result<(), Error> {
        batch.effects.push(effect);
        batch.intervals += intervals;
        self.unit.progress();
        if batch.intervals >= INTERVALS_MAX { self.flush(batch).await } else { Ok(()) }
    }

    async fn flush(&self, batch: &mut Batch) -> Result<(), Error> {
        let Batch { effects, .. } = std::mem::take(batch);
        if !effects.is_empty() {
            self.unit.commit(&Commit { state: None, ack: Ack::Nothing, effects }).await?;
        }
        Ok(())
    }

    /// Tasks for what was wished for and is not held, at most `room`, lowest first. They stand in `state` as asked for,
    /// also where they were before: an operator who asks again means now, and a double is harmless. A wish ends when it
    /// was asked for once.
    pub(super) async fn grant(
        &self,
        state: &mut DetectorState,
        wanted: HeightRange,
        now_ms: u64,
        room: usize,
    ) -> Result<Vec<HeightRange>, Error> {
        let mut tasks = Vec::new();
        for wish in state.wishes.ranges().to_vec() {
            // Above finality the Collector alone works: what is not final comes by itself.
            let mut rest = wish.intersect(wanted);
            state.wishes.remove(wish);
            while let Some(range) = rest {
                let (part, missing) = self.missing_page(range).await?;
                let mut chunks = missing.ranges().iter().flat_map(|range| range.chunks(self.plan.task_heights));
                tasks.extend(chunks.by_ref().take(room.saturating_sub(tasks.len())));
                if let Some(next) = chunks.next() {
                    state.wishes.insert(HeightRange::new(next.lo(), wish.hi()).map_err(Error::Fault)?);
                    break;
                }
                rest = HeightRange::new(part.hi() + 1, range.hi()).ok();
                self.unit.progress();
            }
        }
        note(state, &tasks, now_ms);
        Ok(tasks)
    }
}

/// The part of `range` that one page of intervals covers: all of it, unless the page is full.
fn up_to_page(range: HeightRange, page: &[HeightRange]) -> HeightRange {
    match page.last() {
        Some(last) if page.len() >= PAGE => HeightRange::new(range.lo(), range.hi().min(last.hi())).unwrap_or(range),
        Some(_) | None => range,
    }
}

/// Notes tasks as asked for now, in place of what was noted about the same heights.
fn note(state: &mut DetectorState, tasks: &[HeightRange], now_ms: u64) {
    let before = std::mem::take(&mut state.requested);
    for request in before {
        let mut left = HeightSet::from_iter([request.range]);
        tasks.iter().for_each(|task| left.remove(*task));
        state.requested.extend(left.ranges().iter().map(|range| Request { range: *range, at_ms: request.at_ms }));
    }
    state.requested.extend(tasks.iter().map(|range| Request { range: *range, at_ms: now_ms }));
}

/// Forgets the highest wishes that there is no place for.
fn bound(wishes: &mut HeightSet) {
    let over = wishes.ranges().get(WISHES_MAX..).unwrap_or_default().to_vec();
    over.into_iter().for_each(|range| wishes.remove(range));
}

/// A reason from outside: one line of bounded length.
fn written(reason: &str) -> String {
    let mut end = reason.len().min(PARK_REASON_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lo: u64, hi: u64) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    #[test]
    fn a_full_page_ends_where_its_last_interval_does() {
        let page: Vec<HeightRange> = (0..PAGE as u64).map(|n| HeightRange::one(n * 2)).collect();
        assert_eq!(up_to_page(range(0, 5_000), &page), range(0, 2 * PAGE as u64 - 2));
        assert_eq!(up_to_page(range(0, 10), &page), range(0, 10), "an interval may reach past the range");
        assert_eq!(up_to_page(range(0, 5_000), &page[1..]), range(0, 5_000));
    }

    #[test]
    fn what_is_asked_for_anew_takes_the_place_of_the_older_request() {
        let at = |lo, hi, at_ms| Request { range: range(lo, hi), at_ms };
        let mut state = DetectorState { requested: vec![at(0, 9, 5), at(20, 29, 6)], ..DetectorState::default() };
        note(&mut state, &[range(8, 8), range(15, 40)], 7);
        assert_eq!(state.requested, [at(0, 7, 5), at(9, 9, 5), at(8, 8, 7), at(15, 40, 7)]);
    }

    #[test]
    fn the_lowest_wishes_are_kept() {
        let mut wishes: HeightSet = (0..WISHES_MAX as u64 + 5).map(|n| HeightRange::one(n * 2)).collect();
        bound(&mut wishes);
        assert_eq!((wishes.ranges().len(), wishes.contains(0)), (WISHES_MAX, true));
        bound(&mut wishes);
        assert_eq!(wishes.ranges().len(), WISHES_MAX);
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(written("known\nto be lost"), "known to be lost");
        assert_eq!(written(&"é".repeat(PARK_REASON_MAX)).len(), PARK_REASON_MAX);
        assert_eq!(written(&format!("x{}", "é".repeat(PARK_REASON_MAX))).len(), PARK_REASON_MAX - 1);
    }
}
