//! The sets, read page by page from the end where the look begins, until the room for tasks is used up.

use super::ages::Ages;
use super::look::{Decision, DetectorState, Look};
use super::{GapDetector, REQUESTS_MAX};
use crate::actors::turn::Error;
use crate::config::GapOrder;
use crate::messages::block::Piece;
use crate::messages::heights::{HeightRange, HeightSet};
use crate::store::heights::PAGE;
use crate::telemetry::blocks::Seen;

/// What one page of held intervals tells about a part of the chain.
pub(super) struct Page {
    /// As far as the page reaches.
    pub part: HeightRange,
    /// What of it is neither held nor parked.
    pub missing: HeightSet,
    /// How many of its heights are parked.
    pub parked: u64,
}

impl GapDetector {
    /// One look: what was wished for first, then the gaps in their order.
    pub(super) async fn look(&self, mut before: DetectorState, wanted: HeightRange) -> Result<Decision, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mailbox = self.unit.address("gap_fixer");
        let depth = store.depth(link, &mailbox).await?;
        let waiting = depth.entries + depth.later;
        let room = usize::try_from(self.plan.capacity.saturating_sub(waiting)).unwrap_or(usize::MAX);
        let now_ms = store.now_ms(link).await?;
        let room = room.min(REQUESTS_MAX);
        let mut granted = self.grant(&mut before, wanted, now_ms, room).await?;
        let ages = self.memory().ages.clone().unwrap_or_else(|| Ages::of(before.oldest));
        let mut look = Look::new(&before, &ages, now_ms, &self.plan, room - granted.len());
        self.pass(&mut look, wanted, false).await?;
        let mut decision = look.decide(Some(wanted));
        self.memory().ages = Some(std::mem::take(&mut decision.ages));
        granted.append(&mut decision.tasks);
        decision.more |= !before.wishes.is_empty();
        (decision.tasks, decision.state.wishes) = (granted, before.wishes);
        Ok(decision)
    }

    /// What one look over everything sees, without asking for anything.
    pub(super) async fn see(&self, wanted: HeightRange) -> Result<Seen, Error> {
        let now_ms = self.unit.lease.store().now_ms(self.unit.lease.link()).await?;
        let (before, ages) = (self.state()?, Ages::default());
        let mut look = Look::new(&before, &ages, now_ms, &self.plan, 0);
        self.pass(&mut look, wanted, true).await?;
        Ok(look.decide(Some(wanted)).seen)
    }

    /// Page by page in the order of asking, until the room is used up, or over all of it.
    async fn pass(&self, look: &mut Look<'_>, wanted: HeightRange, whole: bool) -> Result<(), Error> {
        let mut rest = Some(wanted);
        while let Some(range) = rest.filter(|_| whole || !look.is_full()) {
            let Page { part, missing, parked } = self.page(range, self.plan.order).await?;
            look.judge(part, &missing, parked);
            rest = match self.plan.order {
                GapOrder::Oldest => HeightRange::new(part.hi() + 1, range.hi()).ok(),
                GapOrder::Newest => part.lo().checked_sub(1).and_then(|hi| HeightRange::new(range.lo(), hi).ok()),
            };
            self.unit.progress();
        }
        Ok(())
    }

    /// What is neither held nor parked in the lower part of a range: as far as one page of held intervals reaches.
    pub(super) async fn missing_page(&self, range: HeightRange) -> Result<(HeightRange, HeightSet), Error> {
        let page = self.page(range, GapOrder::Oldest).await?;
        Ok((page.part, page.missing))
    }

    /// The part of a range that one page of held intervals covers, from its lower or its upper end.
    async fn page(&self, range: HeightRange, order: GapOrder) -> Result<Page, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let held: Vec<Piece> = match order {
            GapOrder::Oldest => store.held(link, self.unit.pipeline(), range).await?,
            GapOrder::Newest => store.held_down(link, self.unit.pipeline(), range).await?,
        };
        let near_end = match order {
            GapOrder::Oldest => range.lo(),
            GapOrder::Newest => range.hi(),
        };
        let part = match held.last() {
            Some(last) if held.len() >= PAGE => HeightRange::one(near_end).hull(last.range).intersect(range),
            Some(_) | None => None,
        };
        let part = part.unwrap_or(range);
        let mut missing = HeightSet::from_iter([part]);
        held.iter().for_each(|piece| missing.remove(piece.range));
        let unheld = missing.count();
        self.without_parked(&mut missing).await?;
        let parked = unheld.saturating_sub(missing.count());
        Ok(Page { part, missing, parked })
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
                Some(_) | None => None,
            };
        }
        Ok(())
    }
}
