//! The seed's two keys: the newest held heights and the missing ones, spelled out, for programs that read nothing else. A
//! view: written from the truth, never read here.

use std::time::{Duration, Instant};

use super::{GapDetector, Looked};
use crate::actors::turn::Error;
use crate::messages::block::Piece;
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange, HeightSet};
use crate::store::StoreError;
use crate::store::heights::PAGE;
use crate::store::view::{HeightsView, ViewKeys};

/// It is written at most so often.
const VIEW_EVERY: Duration = Duration::from_secs(1);

/// Where the view goes, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewPlan {
    /// The names of the keys.
    pub keys: ViewKeys,
    /// Most heights of the list.
    pub newest: u64,
    /// Most heights of the array.
    pub gaps: u64,
}

/// What was written last.
#[derive(Debug, Default)]
pub(super) struct Viewed {
    last: Option<HeightsView>,
    at: Option<Instant>,
    /// Why it could not be written, said once.
    fault: Option<String>,
}

impl GapDetector {
    /// Writes the view if it has changed. Answers how long to wait where it changed too soon after the last time.
    ///
    /// It must not stop the detection: what hinders it is said once, and tried again.
    pub(super) async fn show_view(&self, looked: Looked) -> Result<Option<Duration>, Error> {
        let Some(plan) = &self.plan.view else { return Ok(None) };
        let view = self.view(plan, looked).await?;
        {
            let viewed = &self.memory().viewed;
            if viewed.last.as_ref() == Some(&view) {
                return Ok(None);
            }
            let wait = viewed.at.map_or(Duration::ZERO, |at| VIEW_EVERY.saturating_sub(at.elapsed()));
            if !wait.is_zero() {
                return Ok(Some(wait));
            }
        }
        let lease = &self.unit.lease;
        let written = lease.store().write_view(lease, &plan.keys, &view).await;
        let mut memory = self.memory();
        memory.viewed.at = Some(Instant::now());
        match written {
            Ok(()) => {
                (memory.viewed.last, memory.viewed.fault) = (Some(view), None);
                Ok(None)
            }
            Err(error @ (StoreError::Fenced { .. } | StoreError::Unreachable { .. })) => Err(error.into()),
            Err(error) => {
                let fault = error.to_string();
                if memory.viewed.fault.as_ref() != Some(&fault) {
                    tracing::warn!(unit = %lease.unit(), error = fault, "the seed's keys cannot be written");
                    memory.viewed.fault = Some(fault);
                }
                Ok(Some(VIEW_EVERY))
            }
        }
    }

    /// As many pages as the two bounds need.
    async fn view(&self, plan: &ViewPlan, looked: Looked) -> Result<HeightsView, Error> {
        let heights = self.newest(plan.newest).await?;
        let (gaps, whole) = self.lowest_gaps(looked.wanted, plan.gaps).await?;
        let more = if whole { 0 } else { looked.unheld.saturating_sub(gaps.len() as u64).max(1) };
        Ok(HeightsView { heights, gaps, more })
    }

    async fn newest(&self, count: u64) -> Result<Vec<HeightRange>, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let (mut newest, mut left) = (Vec::new(), count);
        let mut rest = HeightRange::new(0, HEIGHT_MAX).ok();
        while let Some(range) = rest {
            let held = store.held_down(link, self.unit.pipeline(), range).await?;
            take_newest(&held, &mut left, &mut newest);
            let last = held.last().filter(|_| held.len() >= PAGE && left > 0).map(|piece| piece.range.lo());
            rest = last.and_then(|lo| lo.checked_sub(1)).and_then(|hi| HeightRange::new(0, hi).ok());
            self.unit.progress();
        }
        Ok(newest)
    }

    /// The lowest heights that are wanted and not held, parked or not, and whether those are all.
    async fn lowest_gaps(&self, wanted: HeightRange, count: u64) -> Result<(Vec<Height>, bool), Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut gaps: Vec<Height> = Vec::new();
        let mut rest = Some(wanted);
        while let Some(range) = rest {
            let held = store.held(link, self.unit.pipeline(), range).await?;
            let is_full = held.len() >= PAGE;
            let hi = held.last().filter(|_| is_full).map_or(range.hi(), |last| last.range.hi().min(range.hi()));
            let part = HeightRange::new(range.lo(), hi).map_err(Error::Fault)?;
            let missing = held.iter().map(|piece| piece.range).collect::<HeightSet>().gaps(part);
            for height in missing.ranges().iter().flat_map(|range| range.lo()..=range.hi()) {
                if gaps.len() as u64 >= count {
                    return Ok((gaps, false));
                }
                gaps.push(height);
            }
            rest = HeightRange::new(hi + 1, range.hi()).ok();
            self.unit.progress();
        }
        Ok((gaps, true))
    }
}

/// Takes the highest `left` heights of pieces that come highest first.
fn take_newest(held: &[Piece], left: &mut u64, newest: &mut Vec<HeightRange>) {
    for range in held.iter().map(|piece| piece.range) {
        if *left == 0 {
            return;
        }
        let lo = range.lo().max((range.hi() + 1).saturating_sub(*left));
        newest.push(HeightRange::one(lo).up_to(range.hi()));
        *left -= range.hi() - lo + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::BlockHash;

    #[test]
    fn the_newest_heights_are_cut_where_there_are_enough() {
        let range = |lo, hi| HeightRange::new(lo, hi).expect("a range");
        let hash = BlockHash::new("h").expect("a hash");
        let piece = |lo, hi| Piece { range: range(lo, hi), parent: hash.clone(), hash: hash.clone() };
        let held = [piece(20, 29), piece(10, 14), piece(0, 3)];
        let newest = |count: u64| {
            let (mut left, mut newest) = (count, Vec::new());
            take_newest(&held, &mut left, &mut newest);
            newest
        };
        assert_eq!(newest(4), [range(26, 29)]);
        assert_eq!(newest(12), [range(20, 29), range(13, 14)]);
        assert_eq!(newest(100), [range(20, 29), range(10, 14), range(0, 3)]);
    }
}
