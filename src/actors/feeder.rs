//! Feeder: the self-test's source; sends the numbers 1, 2, 3... into every Tally's mailbox, as they have room.
//!
//! Reads    nothing: its source is counting
//! Writes   mailboxes `tally_0` to `tally_N`
//! Promise  every number up to the last is sent to every Tally exactly once, in order
//! Crash    numbers and the place reached are one commit, so counting goes on where it stopped

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::ids::Address;
use crate::messages::tally::TallyMessage;
use crate::store::effect::{Ack, Commit, Effect, Outgoing};

/// The actor: handles and bounds only.
#[derive(Clone)]
pub struct Feeder {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// Mailboxes to feed.
    pub tallies: Vec<Address>,
    /// The last number; 0 feeds nothing.
    pub last: u64,
    /// Numbers of one turn.
    pub batch: u64,
    /// Between two turns; zero is none.
    pub pause: Duration,
    /// Entries that a mailbox may hold.
    pub capacity: u64,
}

/// What the checkpoint holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FeederState {
    /// The last number sent.
    sent: u64,
}

impl Actor for Feeder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for Feeder {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl Feeder {
    async fn take_turn(self) -> Result<Turn, Error> {
        let state = self.unit.lease.state();
        let state = match state.is_empty() {
            true => FeederState::default(),
            false => serde_json::from_str(&state)
                .map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))?,
        };
        let Some((state, messages)) = decide(state, self.last, self.batch)? else {
            return Ok(Turn::Idle);
        };
        self.unit.point(CrashPoint::AfterDecide).await;
        let send = |to: &Address| Effect::Send { to: to.clone(), capacity: self.capacity, messages: messages.clone() };
        let effects = self.tallies.iter().map(send).collect();
        let state = serde_json::to_string(&state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack: Ack::Nothing, effects }).await?;
        Ok(if self.pause.is_zero() { Turn::Worked } else { Turn::IdleFor(self.pause) })
    }
}

/// The next numbers and the state after them; nothing when all were sent. Pure.
fn decide(state: FeederState, last: u64, batch: u64) -> Result<Option<(FeederState, Vec<Outgoing>)>, Error> {
    let to = last.min(state.sent.saturating_add(batch));
    if to <= state.sent {
        return Ok(None);
    }
    let messages = (state.sent + 1..=to).map(|n| Outgoing::new(&TallyMessage::Number { n }));
    Ok(Some((FeederState { sent: to }, messages.collect::<Result<_, _>>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_goes_on_and_ends() {
        let (state, messages) = decide(FeederState { sent: 8 }, 10, 5).expect("a decision").expect("numbers");
        assert_eq!((state.sent, messages.len()), (10, 2));
        assert_eq!(messages[0].body, "{\"n\":9}");
        assert!(decide(state, 10, 5).expect("a decision").is_none());
    }
}
