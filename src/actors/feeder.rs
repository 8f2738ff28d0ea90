//! Feeder: the self-test's source; sends the numbers 1, 2, 3... into every Tally's mailbox, as they have room.
//!
//! Reads    nothing: its source is counting; mailbox `feeder` (orders: look now, pause, resume)
//! Writes   mailboxes `tally_0` to `tally_N`
//! Promise  every number up to the last is sent to every Tally exactly once, in order
//! Crash    numbers and the place reached are one commit, so counting goes on where it stopped

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::turn::crash::CrashPoint;
use super::turn::rewind::{Rewound, Target, again_from};
use super::turn::{self, Error, Order, Tick, Turn, Unit, paused_after};
use crate::ids::Address;
use crate::messages::tally::{FeederMessage, TallyMessage};
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
    /// Server milliseconds since when an operator has it paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_ms: Option<u64>,
}

impl FeederState {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|e| format!("the checkpoint's state cannot be read: {e}"))
    }
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
        let claimed = self.unit.claim::<FeederMessage>(|_, _| Vec::new()).await?;
        let mut state = FeederState::parse(&self.unit.lease.state()).map_err(Error::Refused)?;
        let orders = claimed.messages.iter().map(|(entry, message)| (*entry, order(*message)));
        state.paused_ms = paused_after(state.paused_ms, orders);
        if !claimed.is_empty() {
            self.commit(&state, claimed.ack, Vec::new()).await?;
            return Ok(Turn::Worked);
        }
        let next = if state.paused_ms.is_some() { None } else { decide(state, self.last, self.batch)? };
        let Some((state, messages)) = next else {
            return Ok(Turn::Idle);
        };
        self.unit.point(CrashPoint::AfterDecide).await;
        let send = |to: &Address| Effect::Send { to: to.clone(), capacity: self.capacity, messages: messages.clone() };
        let effects = self.tallies.iter().map(send).collect();
        self.commit(&state, Ack::Nothing, effects).await?;
        Ok(if self.pause.is_zero() { Turn::Worked } else { Turn::IdleFor(self.pause) })
    }

    async fn commit(&self, state: &FeederState, ack: Ack, effects: Vec<Effect>) -> Result<(), Error> {
        let state = serde_json::to_string(state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack, effects }).await?;
        Ok(())
    }
}

fn order(message: FeederMessage) -> Order {
    match message {
        FeederMessage::Rescan {} => Order::Rescan,
        FeederMessage::Pause {} => Order::Pause,
        FeederMessage::Resume {} => Order::Resume,
    }
}

/// The state that sends the Feeder back to `target`: numbers above it are sent again. Pure.
pub fn rewind(state: &str, target: &Target) -> Result<Rewound, String> {
    let mut state = FeederState::parse(state)?;
    if state.sent == 0 {
        return Err("it has sent no number yet: there is nothing to rewind".to_owned());
    }
    let from = state.sent;
    let again = again_from(target, 1, from, |text| FeederState::parse(text).map(|state| Some(state.sent)))?;
    state.sent = again - 1;
    Ok(Rewound {
        state: serde_json::to_string(&state).map_err(|e| e.to_string())?,
        from,
        again,
        replayed: format!("numbers {again}..{from} are sent again to every tally"),
        lost: vec![
            "a tally adds a number that comes twice a second time: it does not ask whether it had it".to_owned(),
        ],
    })
}

/// The next numbers and the state after them; nothing when all were sent. Pure.
fn decide(state: FeederState, last: u64, batch: u64) -> Result<Option<(FeederState, Vec<Outgoing>)>, Error> {
    let to = last.min(state.sent.saturating_add(batch));
    if to <= state.sent {
        return Ok(None);
    }
    let messages = (state.sent + 1..=to).map(|n| Outgoing::new(&TallyMessage::Number { n }));
    Ok(Some((FeederState { sent: to, ..state }, messages.collect::<Result<_, _>>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sent: u64) -> FeederState {
        FeederState { sent, paused_ms: None }
    }

    #[test]
    fn a_rewind_sends_the_numbers_above_it_again() {
        let rewound = rewind(r#"{"sent":8,"paused_ms":7}"#, &Target::By(3)).expect("a rewind");
        assert_eq!((rewound.state.as_str(), rewound.count()), (r#"{"sent":5,"paused_ms":7}"#, 3));
        assert_eq!(rewind(r#"{"sent":8}"#, &Target::To(0)).expect("a rewind").state, r#"{"sent":0}"#);
        assert_eq!(rewind(r#"{"sent":8}"#, &Target::Stood(String::new())).expect("a rewind").count(), 8);
        assert!(rewind("", &Target::By(1)).expect_err("refused").contains("sent no number yet"));
    }

    #[test]
    fn counting_goes_on_and_ends() {
        let (state, messages) = decide(sent(8), 10, 5).expect("a decision").expect("numbers");
        assert_eq!((state.sent, messages.len()), (10, 2));
        assert_eq!(messages[0].body, "{\"n\":9}");
        assert!(decide(state, 10, 5).expect("a decision").is_none());
    }
}
