//! Several endpoints as one source, whatever dialect they speak.
//!
//! The endpoint that answered last is asked first, one that fails rests and the next takes over within the same call.
//! What one lacks (pruned, lagging) the others are asked for, and only what all of them lack is said to be absent.
//!
//! | file | what it knows |
//! |---|---|
//! | `options` | how to ask, and the limits |
//! | `dialect` | what a dialect must be able to ask |
//! | `endpoint` | one address, its connections, its secrets |
//! | `pace` | rest after failures, size of batches |
//! | `http` | one request over HTTP |
//! | `answers` | a range while it is being asked for |
//! | `fetch` | a range over all endpoints, and the search for a height that fails |
//! | `head` | the newest height, and which is not believed |
//! | `text` | foreign text for people |

pub mod answers;
pub mod dialect;
pub mod endpoint;
mod fetch;
mod head;
pub mod http;
pub mod options;
mod pace;
pub mod text;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;

use self::dialect::{Ask, Dialect, Finality};
use self::endpoint::Endpoint;
pub use self::options::{BATCH_HEIGHTS_MAX, ENDPOINTS_MAX, SourceOptions};
use super::{ChainIdentity, ChainSource, Fetched, SourceError};
use crate::messages::heights::{Height, HeightRange};

/// A chain behind one or several endpoints that speak the dialect `D`.
pub struct Pool<D> {
    dialect: D,
    endpoints: Vec<Endpoint>,
    /// The place of the endpoint that is asked first.
    first: AtomicUsize,
    expected: RwLock<Option<String>>,
    /// The highest head that was believed, and 1; 0 where none was.
    believed: AtomicU64,
    /// The highest block that an endpoint sent, and 1; 0 where none did.
    highest: AtomicU64,
    call_timeout: Duration,
    response_bytes_max: u64,
    head_jump_max: u64,
}

impl<D: Dialect> Pool<D> {
    /// Prepares the source; nothing is sent yet. The error names the option and what to write.
    pub fn speaking(dialect: D, options: SourceOptions) -> Result<Self, String> {
        if !(1..=ENDPOINTS_MAX).contains(&options.endpoints.len()) {
            return Err(format!("{} endpoints; name 1 to {ENDPOINTS_MAX}", options.endpoints.len()));
        }
        if !(1..=BATCH_HEIGHTS_MAX).contains(&options.batch_heights) {
            return Err(format!("batch_heights is {}; 1 to {BATCH_HEIGHTS_MAX} are possible", options.batch_heights));
        }
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(options.endpoints.len());
        for (text, place) in options.endpoints.iter().zip(1..) {
            let endpoint = Endpoint::new(text, place, D::root, &options)?;
            // Two keys of one provider look alike: the place in the list tells them apart, in reports and in figures.
            let alike = endpoints.iter().any(|other| other.shown() == endpoint.shown());
            let shown = if alike { format!("{}#{place}", endpoint.shown()) } else { endpoint.shown().to_owned() };
            endpoints.push(endpoint.named(shown, &options));
        }
        Ok(Self {
            dialect,
            endpoints,
            first: AtomicUsize::new(0),
            believed: AtomicU64::new(0),
            highest: AtomicU64::new(0),
            expected: RwLock::new(None),
            call_timeout: options.call_timeout,
            response_bytes_max: options.response_bytes_max,
            head_jump_max: options.head_jump_max,
        })
    }

    fn expected(&self) -> Option<String> {
        self.expected.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The highest head that was believed.
    fn head_believed(&self) -> Option<Height> {
        self.believed.load(Ordering::Relaxed).checked_sub(1)
    }

    fn believe(&self, head: Height) {
        self.believed.fetch_max(head.saturating_add(1), Ordering::Relaxed);
    }

    /// The highest height that the chain is known to have.
    fn head_seen(&self) -> Option<Height> {
        self.head_believed().max(self.highest.load(Ordering::Relaxed).checked_sub(1))
    }

    /// The endpoints that may be asked now, each with its place, the preferred one first.
    fn healthy(&self) -> Vec<(usize, &Endpoint)> {
        let first = self.first.load(Ordering::Relaxed);
        let places = (0..self.endpoints.len()).map(|i| (first + i) % self.endpoints.len());
        let endpoints = places.map(|place| (place, &self.endpoints[place]));
        endpoints.filter(|(_, endpoint)| endpoint.resting().is_none()).collect()
    }

    fn failed(&self, place: usize, error: &SourceError) {
        self.endpoints[place].failed(error);
        self.prefer_another(place);
    }

    fn prefer_another(&self, place: usize) {
        let next = (place + 1) % self.endpoints.len();
        // Only who still prefers this one moves on; another call may have done so already.
        let _ = self.first.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// All rest: the failure of the one that wakes first, and how long that takes.
    fn all_rest(&self) -> (Duration, SourceError) {
        let rests: Option<Vec<_>> = self.endpoints.iter().map(Endpoint::resting).collect();
        match rests.into_iter().flatten().min_by_key(|(left, _)| *left) {
            Some((left, SourceError::RateLimited { endpoint, .. })) => {
                (left, SourceError::RateLimited { endpoint, retry_after: Some(left) })
            }
            Some((left, error)) => (left, error),
            // One woke up between two looks at the clock.
            None => (Duration::ZERO, self.endpoints[0].unreachable("it was resting until just now; ask again")),
        }
    }

    /// Ends a call at its deadline.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
        tokio::time::timeout(self.call_timeout, call).await.unwrap_or_else(|_| Err(self.out_of_time()))
    }

    /// The failure of a call that reached its deadline.
    fn out_of_time(&self) -> SourceError {
        let asked = &self.endpoints[self.first.load(Ordering::Relaxed) % self.endpoints.len()];
        let limit = self.call_timeout;
        asked.unreachable(&format!("no full answer within {limit:?} (call_timeout); ask for fewer heights"))
    }

    /// Notes how a question to the endpoint at `place` ended.
    fn noted<T>(&self, place: usize, answer: Result<T, SourceError>) -> Result<T, SourceError> {
        match &answer {
            Ok(_) => self.endpoints[place].answered(),
            Err(error) => self.failed(place, error),
        }
        answer
    }

    /// One question to `endpoint`.
    fn ask<'a>(&self, endpoint: &'a Endpoint) -> Ask<'a> {
        let (expected, head_seen) = (self.expected(), self.head_seen());
        Ask { endpoint, bytes_max: self.response_bytes_max, expected, head_seen }
    }

    /// Asks the endpoints in turn which chain they serve.
    async fn ask_chain(&self) -> Result<String, SourceError> {
        let mut failure = None;
        for (place, endpoint) in self.healthy() {
            let asked = async {
                self.check_chain(endpoint).await?;
                self.dialect.chain(&self.ask(endpoint)).await
            };
            match self.noted(place, asked.await) {
                Ok(chain) => return Ok(chain),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| self.all_rest().1))
    }

    /// Asks the endpoints in turn for their newest final height. One that does not know it passes the question on.
    async fn ask_final(&self) -> Result<Option<Height>, SourceError> {
        let (mut failure, mut heard) = (None, false);
        for (place, endpoint) in self.healthy() {
            let asked = async {
                self.check_chain(endpoint).await?;
                let height = self.dialect.finalized(&self.ask(endpoint)).await?;
                let fault = |height| endpoint.malformed(&format!("its final height {height} is far above every head"));
                height.filter(|height| !self.plausible(*height)).map_or(Ok(height), |height| Err(fault(height)))
            };
            match self.noted(place, asked.await) {
                Ok(Some(height)) => return Ok(Some(height)),
                Ok(None) => heard = true,
                Err(error) => failure = Some(error),
            }
        }
        if heard { Ok(None) } else { Err(failure.unwrap_or_else(|| self.all_rest().1)) }
    }

    /// Refuses an endpoint that serves another chain than the expected one.
    async fn check_chain(&self, endpoint: &Endpoint) -> Result<(), SourceError> {
        let Some(expected) = self.expected() else { return Ok(()) };
        if endpoint.serves(&expected) {
            return Ok(());
        }
        let found = self.dialect.chain(&self.ask(endpoint)).await?;
        endpoint.remember_chain(&found);
        Ok(())
    }
}

impl<D: Dialect> ChainSource for Pool<D> {
    fn expect_chain(&self, chain_id: &str) {
        *self.expected.write().unwrap_or_else(PoisonError::into_inner) = Some(chain_id.to_owned());
    }

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        Box::pin(async { Ok(ChainIdentity { chain_id: self.in_time(self.ask_chain()).await? }) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        Box::pin(self.in_time(self.ask_head()))
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        Box::pin(async {
            match self.dialect.finality() {
                Finality::Unasked => Ok(None),
                Finality::Asked => self.in_time(self.ask_final()).await,
                Finality::Instant => self.in_time(self.ask_head()).await.map(Some),
            }
        })
    }

    fn distrust(&self, endpoint: &str, reason: &str) {
        for place in (0..self.endpoints.len()).filter(|place| self.endpoints[*place].shown() == endpoint) {
            let (endpoint, reason) = (endpoint.to_owned(), reason.to_owned());
            self.failed(place, &SourceError::Distrusted { endpoint, reason });
        }
    }

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(self.fetch(range))
    }
}

#[cfg(test)]
impl<D> Pool<D> {
    /// How many heights the endpoint at `place` is asked for at a time.
    pub fn batch_of(&self, place: usize) -> u32 {
        self.endpoints[place].batch()
    }
}
