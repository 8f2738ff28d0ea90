//! Tally: adds numbered messages up; the smallest complete actor, and the one that proves the runtime.
//!
//! Reads    mailbox `tally_N` (numbers)
//! Writes   output `tally_N`, one record `n`, `sum` a message; state `{n, sum}`
//! Promise  each message is in the output exactly once, in order, with the sum of all before it
//! Crash    a turn that did not commit is decided again from the stored sum

use std::sync::Arc;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::turn::crash::CrashPoint;
use super::turn::{self, Error, Tick, Turn, Unit};
use crate::ids::EntryId;
use crate::messages::tally::TallyMessage;
use crate::store::effect::{Commit, Effect, Fields};

/// Faults that the self-test plants in itself: one in so many messages, 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted {
    /// Panics instead of adding.
    pub panic_every: u64,
    /// Never ends the turn instead of adding.
    pub hang_every: u64,
}

/// The actor: handles only.
#[derive(Clone)]
pub struct Tally {
    /// Its unit.
    pub unit: Arc<Unit>,
    /// Faults to plant.
    pub planted: Planted,
    /// Write a record a message; without, only the state is kept.
    pub records: bool,
}

/// What the checkpoint holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyState {
    /// The last number.
    pub n: u64,
    /// The sum of all numbers so far.
    pub sum: u64,
}

impl Actor for Tally {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        turn::begin(ctx);
    }
}

impl Handler<Tick> for Tally {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        turn::step(self.unit.clone(), self.clone().take_turn())
    }
}

impl Tally {
    async fn take_turn(self) -> Result<Turn, Error> {
        let claimed = self.unit.claim::<TallyMessage>(|_, _| Vec::new()).await?;
        if claimed.is_empty() {
            return Ok(Turn::Idle);
        }
        let state = self.unit.lease.state();
        let state = if state.is_empty() { TallyState::default() } else { parse(&state)? };
        let (state, records) = decide(state, &claimed.messages, self.records);
        self.unit.point(CrashPoint::AfterDecide).await;
        self.stumble().await;
        // Nothing outside Redis changes here; the point is passed so that the self-test reaches every one.
        self.unit.point(CrashPoint::AfterApply).await;
        let effects = match records.is_empty() {
            true => Vec::new(),
            false => vec![Effect::Append { output: self.unit.lease.unit().actor.clone(), records }],
        };
        let state = serde_json::to_string(&state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack: claimed.ack, effects }).await?;
        Ok(Turn::Worked)
    }

    /// Plants the faults that were asked for, by chance: a replay of the same entries must be able to pass.
    async fn stumble(&self) {
        let strikes = |every: u64| every > 0 && rand::random_ratio(1, u32::try_from(every).unwrap_or(u32::MAX));
        if strikes(self.planted.panic_every) {
            panic!("a planted panic");
        }
        if strikes(self.planted.hang_every) {
            std::future::pending::<()>().await;
        }
    }
}

/// The state after the messages, and their records. Pure.
fn decide(mut state: TallyState, messages: &[(EntryId, TallyMessage)], records: bool) -> (TallyState, Vec<Fields>) {
    let mut out = Vec::with_capacity(if records { messages.len() } else { 0 });
    for (_, TallyMessage::Number { n }) in messages {
        state = TallyState { n: *n, sum: state.sum.wrapping_add(*n) };
        if records {
            let field = |name: &str, value: u64| (name.as_bytes().to_vec(), value.to_string().into_bytes());
            out.push(vec![field("n", state.n), field("sum", state.sum)]);
        }
    }
    (state, out)
}

fn parse(state: &str) -> Result<TallyState, Error> {
    serde_json::from_str(state).map_err(|e| Error::Refused(format!("the checkpoint's state cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_on_from_the_stored_state() {
        let messages: Vec<_> = (3..=5).map(|n| (EntryId { ms: n, seq: 0 }, TallyMessage::Number { n })).collect();
        let (state, records) = decide(TallyState { n: 2, sum: 3 }, &messages, true);
        assert_eq!(state, TallyState { n: 5, sum: 15 });
        assert_eq!(records.len(), 3);
        assert_eq!(records[0], [(b"n".to_vec(), b"3".to_vec()), (b"sum".to_vec(), b"6".to_vec())]);
    }
}
