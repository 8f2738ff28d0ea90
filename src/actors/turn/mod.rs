//! The plumbing of every actor, written once: one tick, one turn in flight, and what follows it.
//!
//! A turn is **claim or fetch -> decide -> apply -> commit**. Only the commit makes it count, so it may be cut at any
//! point: the turn that is decided again is another commit. There is no recovery code beside it: a restart, a
//! takeover and a replay all begin with the checkpoint that the acquisition returned.

mod brought;
pub mod crash;
mod error;
mod message;
mod pause;
pub mod rewind;
pub mod room;
mod unit;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::LocalBoxFuture;

pub use brought::Brought;
pub use error::{Error, Reaction};
pub use pause::{Order, paused_after};
pub use unit::{Claimed, Exit, Unit};

/// The wish for a turn. It carries nothing: a turn decides from what is stored, never from a hint.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Tick;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something was done; more may wait.
    Worked,
    /// Nothing waits: sleep until the bell or a beat wakes it, or the idle poll comes.
    Idle,
    /// Nothing to do for so long, unless the bell rings.
    IdleFor(Duration),
}

/// The pause before a turn that waits for the world is decided again.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// Pauses in a row before the log speaks of them: together about a second.
const WAITS_UNTIL_NEWS: u64 = 4;
/// The longest such pause, unless the world names a longer one.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The longest such pause for Redis: a mailbox that was full has room again as soon as somebody works on it.
const WAIT_STORE_MAX: Duration = Duration::from_secs(1);
/// The longest pause that the world may ask for.
const WAIT_ASKED_MAX: Duration = Duration::from_secs(300);

/// Runs an actor to its end; what the supervisor spawns. A panic anywhere in the actor ends this future.
pub fn live<A: Actor<Context = Context<A>>>(actor: A) -> LocalBoxFuture<'static, ()> {
    Box::pin(Context::new().into_future(actor))
}

/// Asks for the first turn; every actor's `started` calls it.
pub fn begin<A: Actor<Context = Context<A>> + Handler<Tick>>(ctx: &mut Context<A>) {
    ctx.notify(Tick);
}

/// Runs one turn and settles what follows it; every actor's `Handler<Tick>` returns it.
pub fn step<A>(unit: Arc<Unit>, turn: impl Future<Output = Result<Turn, Error>> + 'static) -> ResponseActFuture<A, ()>
where
    A: Actor<Context = Context<A>> + Handler<Tick>,
{
    unit.enter_turn();
    let beginner = unit.clone();
    let turn = async move {
        // The only place that waits for replicas or the disk: whatever a turn does rests on what is kept.
        beginner.confirmed().await?;
        turn.await
    };
    let turn = actix::fut::wrap_future::<_, A>(turn);
    Box::pin(turn.map(move |outcome, _, ctx: &mut Context<A>| {
        unit.leave_turn();
        settle(&unit, ctx, outcome);
    }))
}

/// The only place that schedules: because only it asks for the next tick, one turn is in flight and nothing locks.
fn settle<A>(unit: &Arc<Unit>, ctx: &mut Context<A>, outcome: Result<Turn, Error>)
where
    A: Actor<Context = Context<A>> + Handler<Tick>,
{
    if unit.is_draining() {
        unit.set_exit(Exit::Drained);
        ctx.stop();
        return;
    }
    match outcome {
        Ok(Turn::Worked) => {
            unit.waits_reset();
            ctx.notify(Tick);
        }
        Ok(Turn::Idle | Turn::IdleFor(_)) if unit.lease.has_settled() => {
            unit.set_exit(Exit::Drained);
            ctx.stop();
        }
        Ok(Turn::Idle) => {
            unit.waits_reset();
            tick_after(unit, ctx, unit.idle_poll, true);
        }
        Ok(Turn::IdleFor(pause)) => {
            unit.waits_reset();
            tick_after(unit, ctx, pause, true);
        }
        Err(error) => react(unit, ctx, &error),
    }
}

fn react<A>(unit: &Arc<Unit>, ctx: &mut Context<A>, error: &Error)
where
    A: Actor<Context = Context<A>> + Handler<Tick>,
{
    let words = error.to_string();
    let exit = match error.reaction() {
        Reaction::Wait(asked) => {
            let tries = unit.waits_next();
            let longest = if matches!(error, Error::Store(_)) { WAIT_STORE_MAX } else { WAIT_MAX };
            let pause = WAIT_MIN.saturating_mul(1 << tries.min(10)).min(longest);
            let pause = pause.mul_f64(rand::random_range(0.5..=1.0));
            let pause = pause.max(asked.unwrap_or_default().min(WAIT_ASKED_MAX));
            // A pause or two are everyday; a row of them is news, once.
            if tries == WAITS_UNTIL_NEWS {
                tracing::warn!(unit = %unit.lease.unit(), error = words, "waiting");
            } else {
                tracing::debug!(unit = %unit.lease.unit(), error = words, ?pause, "still waiting");
            }
            unit.set_waiting(Some(words));
            tick_after(unit, ctx, pause, false);
            return;
        }
        Reaction::Reload => Exit::Reload(words),
        Reaction::Restart => Exit::Failed(words),
        Reaction::GiveUp => Exit::GivenUp(words),
        Reaction::StopNode => Exit::StopNode(words),
    };
    unit.set_exit(exit);
    ctx.stop();
}

/// Sleeps, then asks for a turn. The bell ends the sleep early only where it may (a pause for the world is kept),
/// a drain always does.
fn tick_after<A>(unit: &Arc<Unit>, ctx: &mut Context<A>, pause: Duration, heeds_bell: bool)
where
    A: Actor<Context = Context<A>> + Handler<Tick>,
{
    unit.set_asleep(heeds_bell);
    let sleeper = unit.clone();
    let nap = async move {
        let wake = tokio::time::sleep(pause);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return,
                () = sleeper.bell.notified() => if heeds_bell || sleeper.is_draining() { return },
            }
        }
    };
    let unit = unit.clone();
    let nap = actix::fut::wrap_future::<_, A>(nap).map(move |(), _, ctx: &mut Context<A>| {
        unit.set_asleep(false);
        if unit.is_draining() {
            unit.set_exit(Exit::Drained);
            ctx.stop();
        } else {
            ctx.notify(Tick);
        }
    });
    ctx.spawn(nap);
}
