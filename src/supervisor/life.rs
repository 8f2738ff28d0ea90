//! One life of a unit: acquired on its arbiter, run to its end, and the end told to the supervisor.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::placement::Placement;
use super::worker::Worker;
use crate::actors::turn::crash::CrashPoint;
use crate::actors::turn::{Exit, Unit};
use crate::ids::{RandomId, UnitId};
use crate::store::lease::{Fate, Lease, Mail};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// Builds an actor on its arbiter and answers the future of its whole life.
pub type Factory = Arc<dyn Fn(Arc<Unit>) -> LocalBoxFuture<'static, ()> + Send + Sync>;

/// Everything that the supervisor must know of a unit.
#[derive(Clone)]
pub struct UnitSpec {
    /// Its name.
    pub id: UnitId,
    /// How it reads its mailbox.
    pub mail: Mail,
    /// Where it may run.
    pub placement: Placement,
    /// How long it sleeps when nothing waits. Mail wakes it sooner: it is for work that comes by no mail.
    pub idle_poll: Duration,
    /// Builds it.
    pub factory: Factory,
}

/// How a life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The actor stopped by itself and said why.
    Exit(Exit),
    /// Something in it panicked, with this text.
    Panic(String),
    /// The supervisor cut it.
    Cut,
}

/// What a life tells the supervisor.
pub enum Event {
    /// The lease is taken and the actor runs.
    Started {
        /// The unit.
        unit: Arc<Unit>,
        /// Cuts it.
        abort: AbortHandle,
    },
    /// The lease could not be taken.
    NotAcquired {
        /// The unit's name.
        id: UnitId,
        /// Which of its lives.
        life: u64,
        /// Why.
        error: StoreError,
    },
    /// The actor ended; the lease is still held.
    Ended {
        /// The unit.
        unit: Arc<Unit>,
        /// How.
        end: End,
    },
    /// The lease was given back, or was lost before it could be.
    Released {
        /// The unit's name.
        id: UnitId,
        /// Which of its lives.
        life: u64,
    },
}

/// What a life begins with.
pub struct Start {
    /// Which of the unit's lives on this node.
    pub life: u64,
    /// The unit.
    pub spec: UnitSpec,
    /// Our own acquisition before, if any.
    pub previous: Option<RandomId>,
    /// What became of its last turn.
    pub fate: Fate,
    /// Take the lease only to settle the fate, and give it back at once.
    pub only_settle: bool,
}

/// Begins a life on a worker. Everything that follows arrives as events.
pub fn begin(worker: &Worker, store: Store, metrics: Arc<Metrics>, start: Start, events: mpsc::Sender<Event>) {
    let link = worker.link.clone();
    worker.arbiter.spawn(async move {
        let Start { life, spec, previous, fate, only_settle } = start;
        let lease = Lease::acquire(&store, &link, &spec.id, spec.mail, previous.as_ref(), &fate);
        // A panic here would leave the unit starting for ever.
        let lease = match caught(lease).await.unwrap_or_else(|text| Err(StoreError::Protocol(format!("panic: {text}"))))
        {
            Ok(lease) => lease,
            Err(error) => return tell(&events, Event::NotAcquired { id: spec.id, life, error }).await,
        };
        let unit = Unit::new(lease, metrics, spec.idle_poll);
        if only_settle {
            return give_back(unit, life, &events).await;
        }
        let body = {
            let (unit, factory) = (unit.clone(), spec.factory);
            async move {
                unit.point(CrashPoint::AfterAcquire).await;
                factory(unit).await;
            }
        };
        let handle = actix_rt::spawn(body);
        tell(&events, Event::Started { unit: unit.clone(), abort: handle.abort_handle() }).await;
        let end = match handle.await {
            Ok(()) => match unit.exit() {
                Some(exit) => End::Exit(exit),
                None => End::Exit(Exit::Failed("the actor ended without a reason".to_owned())),
            },
            Err(error) if error.is_panic() => End::Panic(panic_text(error.into_panic())),
            Err(_) => End::Cut,
        };
        tell(&events, Event::Ended { unit, end }).await;
    });
}

/// Gives the lease of an ended unit back.
pub fn release(worker: &Worker, unit: Arc<Unit>, life: u64, events: mpsc::Sender<Event>) {
    worker.arbiter.spawn(async move { give_back(unit, life, &events).await });
}

async fn give_back(unit: Arc<Unit>, life: u64, events: &mpsc::Sender<Event>) {
    unit.point(CrashPoint::BeforeRelease).await;
    let id = unit.lease.unit().clone();
    if let Err(error) = unit.lease.release().await {
        tracing::debug!(unit = %id, %error, "lease not given back; it will run out");
    }
    tell(events, Event::Released { id, life }).await;
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    // The supervisor outlives its units, except at the very end of the process.
    let _ = events.send(event).await;
}

/// The text of a panic, if it has one.
fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Waits for a future, turning a panic into its text.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(panic_text)
}
