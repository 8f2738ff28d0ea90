//! Orders of operators: pause, resume, and the first step after a rewind.

use super::state::CollectorState;
use super::{Claimed, Collector};
use crate::actors::turn::{Error, Order, Turn, paused_after};
use crate::messages::block::{BlockHash, Piece};
use crate::messages::gap::CollectorMessage;
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange};
use crate::store::effect::{Ack, Commit, Effect};
use crate::store::heights::PAGE;

impl Collector {
    /// Pauses or goes on, if the messages say so, in a commit of its own; and rests while it is paused. Nothing: the
    /// turn is an ordinary one.
    pub(super) async fn obey(
        &self,
        state: &CollectorState,
        wishes: &Claimed<CollectorMessage>,
    ) -> Result<Option<Turn>, Error> {
        let orders = wishes.messages.iter().map(|(entry, message)| (*entry, order(message)));
        let paused_ms = paused_after(state.paused_ms, orders);
        if paused_ms != state.paused_ms {
            let unit = self.unit.lease.unit();
            match paused_ms {
                Some(_) => tracing::warn!(%unit, "paused by an operator: the chain is asked nothing until it resumes"),
                None => tracing::info!(%unit, "resumed by an operator"),
            }
            let state = CollectorState { paused_ms, ..state.clone() };
            self.write(&state, wishes.ack, Vec::new()).await?;
            return Ok(Some(Turn::Worked));
        }
        if paused_ms.is_none() {
            return Ok(None);
        }
        if !wishes.is_empty() {
            self.unit.commit(&Commit { ack: wishes.ack, ..Commit::default() }).await?;
        }
        Ok(Some(Turn::Idle))
    }

    /// After a rewind: takes what is held from `from` on out of the held heights, a page of intervals a commit. They
    /// are missing then, and come again: above finality by this actor, below it by the pool.
    ///
    /// A crash between two pages leaves the next one's height in the state.
    pub(super) async fn begin_again(&self, state: &CollectorState, from: Height) -> Result<Turn, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let above = HeightRange::new(from, HEIGHT_MAX).map_err(Error::Fault)?;
        let held = store.held(link, self.unit.pipeline(), above).await?;
        let mut state = CollectorState { again_from: None, ..state.clone() };
        let (Some(first), Some(last)) = (held.first(), held.last()) else {
            self.write(&state, Ack::Nothing, Vec::new()).await?;
            return Ok(Turn::Worked);
        };
        let (lo, below) = self.edge(&state, first, from).await?;
        let range = HeightRange::new(lo, last.range.hi()).map_err(Error::Fault)?;
        tracing::warn!(unit = %self.unit.lease.unit(), %range, "rewound: these heights are collected again");
        if held.len() >= PAGE {
            state.again_from = Some(range.hi() + 1);
        }
        self.write(&state, Ack::Nothing, vec![Effect::Remove { range, below, above: None }]).await?;
        Ok(Turn::Worked)
    }

    /// Where a held piece may be cut at `from` or lower, and the hash of the block below the cut. Where the block there
    /// cannot be told for sure the cut is made lower, twice as far each time: what is taken out needlessly comes again.
    async fn edge(
        &self,
        state: &CollectorState,
        piece: &Piece,
        from: Height,
    ) -> Result<(Height, Option<BlockHash>), Error> {
        let (mut cut, mut step) = (from, 1);
        while cut > piece.range.lo() {
            let known = state.window.hash(cut - 1).cloned();
            let below = match known {
                Some(hash) => Some(hash),
                None => self.unit.outside(self.files.wanted_at(piece, cut - 1)).await?,
            };
            if below.is_some() {
                return Ok((cut, below));
            }
            (cut, step) = (cut.saturating_sub(step).max(piece.range.lo()), step * 2);
        }
        Ok((cut, None))
    }

    async fn write(&self, state: &CollectorState, ack: Ack, effects: Vec<Effect>) -> Result<(), Error> {
        let state = serde_json::to_string(state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack, effects }).await?;
        Ok(())
    }
}

fn order(message: &CollectorMessage) -> Order {
    match message {
        CollectorMessage::Poll {} | CollectorMessage::Rescan {} => Order::Rescan,
        CollectorMessage::Pause {} => Order::Pause,
        CollectorMessage::Resume {} => Order::Resume,
    }
}
