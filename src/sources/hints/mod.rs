//! Hints: a node pushes its new heads over a WebSocket (EVM: `eth_subscribe` `newHeads`), and somebody looks earlier.
//!
//! A push is never believed: it carries no history, ends with its socket, and says nothing of what it left out. It only
//! rings; what is true is asked for as ever, and without any push the poll is enough. So nothing here is an error:
//! a socket that fails, or is silent for longer than the chain's blocks explain, is left for the next one.
//!
//! | file | what it knows |
//! |---|---|
//! | `address` | one address, its secrets |
//! | `pace` | how long silence may last, how long to wait before the next try |
//! | `socket` | one connection, from its handshake to its end |

mod address;
mod pace;
mod socket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::address::Address;
use self::pace::{Backoff, Silence};
use crate::telemetry::chain::HintFigures;
use crate::telemetry::metrics::Metrics;

/// Most addresses of one list.
pub const URLS_MAX: usize = 64;
/// The shortest time between two rings: a node that pushes without measure must not make others ask without measure.
const RING_PAUSE: Duration = Duration::from_millis(100);
/// Failures in a row before the log speaks of them once more.
const FAILURES_UNTIL_NEWS: u32 = 10;

/// Who pushes, and how patient to be. `Debug` hides the addresses.
#[derive(Clone)]
pub struct HintOptions {
    /// `ws://` or `wss://` addresses, 1 to [`URLS_MAX`]; the next one is tried after a failure.
    pub urls: Vec<String>,
    /// The pipeline, for logs and metrics.
    pub pipeline: String,
    /// The silence after which a socket is taken for dead.
    pub silence: Duration,
    /// The time for one connection and its subscription.
    pub connect_timeout: Duration,
    /// How often the other side is asked for a sign of life; one that is missing until the next time ends the socket.
    pub ping: Duration,
    /// The first pause before the next try; it doubles.
    pub pause_min: Duration,
    /// The longest such pause.
    pub pause_max: Duration,
}

impl Default for HintOptions {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            pipeline: String::new(),
            silence: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            ping: Duration::from_secs(20),
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for HintOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HintOptions").field("urls", &self.urls.len()).field("silence", &self.silence).finish()
    }
}

/// Those who push.
pub struct Hints {
    addresses: Vec<Address>,
    options: HintOptions,
}

impl Hints {
    /// Prepares; nothing is sent yet. The error names the place in the list and what to write.
    pub fn new(options: HintOptions) -> Result<Arc<Self>, String> {
        if !(1..=URLS_MAX).contains(&options.urls.len()) {
            return Err(format!("{} hints; name 1 to {URLS_MAX}", options.urls.len()));
        }
        let places = options.urls.iter().zip(1..);
        let addresses = places.map(|(text, place)| Address::new(text, place)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { addresses, options }))
    }

    /// Subscribes to each address once, and answers of each how it is shown and what went wrong. Waits at most the
    /// connect time-out for each of them, one after the other.
    pub async fn try_out(&self) -> Vec<(String, Result<(), String>)> {
        let mut outcomes = Vec::with_capacity(self.addresses.len());
        for address in &self.addresses {
            let outcome = socket::try_out(address, &self.options).await.map_err(|reason| address.redact(&reason));
            outcomes.push((address.shown().to_owned(), outcome));
        }
        outcomes
    }

    /// Listens until the future is dropped, and calls `ring` for each push (several in a tenth of a second are one),
    /// and for each new subscription: what was pushed before it was not heard. Holds one connection at the most.
    pub async fn listen(&self, metrics: &Arc<Metrics>, ring: impl Fn()) {
        let figures = HintFigures::new(metrics, &self.options.pipeline);
        let mut silence = Silence::new(self.options.silence);
        let mut backoff = Backoff::new(self.options.pause_min, self.options.pause_max);
        let mut place = 0;
        loop {
            let address = &self.addresses[place % self.addresses.len()];
            let mut heard = 0;
            let end = socket::listen(address, &self.options, &mut silence, |event| match event {
                socket::Heard::Subscribed => {
                    tracing::info!(pipeline = self.options.pipeline, url = address.shown(), "new heads are pushed");
                    figures.connected(true);
                    ring();
                }
                socket::Heard::Push => {
                    heard += 1;
                    figures.push();
                }
                socket::Heard::Ring => ring(),
            })
            .await;
            figures.connected(false);
            figures.reconnect();
            // A subscription alone proves nothing: a silent one must not be begun again without a pause.
            if heard > 0 {
                backoff.reset();
            }
            let reason = address.redact(&end);
            let failures = backoff.failures();
            if failures == 0 || failures == FAILURES_UNTIL_NEWS {
                tracing::warn!(
                    pipeline = self.options.pipeline,
                    url = address.shown(),
                    reason,
                    "no more hints from here; the poll goes on"
                );
            } else {
                tracing::debug!(
                    pipeline = self.options.pipeline,
                    url = address.shown(),
                    reason,
                    failures,
                    "still no hints"
                );
            }
            place = (place + 1) % self.addresses.len();
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }
}

/// Spaces rings out: at once if the last one is long enough ago, else as soon as it is.
#[derive(Debug, Default)]
struct Ringer {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Ringer {
    /// A push came.
    fn push(&mut self, now: Instant) {
        let due = self.last.map_or(now, |last| (last + RING_PAUSE).max(now));
        self.due.get_or_insert(due);
    }

    /// When to ring next.
    fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was rung.
    fn rung(&mut self, now: Instant) {
        (self.last, self.due) = (Some(now), None);
    }
}

#[cfg(test)]
mod tests;
