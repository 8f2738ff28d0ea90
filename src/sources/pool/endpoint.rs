//! One endpoint: its address without secrets, its connections, and what is remembered about it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, Url};

use super::options::SourceOptions;
use super::pace::{Batch, Health, Rests};
use crate::messages::heights::{Height, HeightRange};
use crate::sources::secrets::Guarded;
use crate::sources::{SourceError, tls};
use crate::telemetry::endpoints::{EndpointWatch, RequestOutcome};

/// Connections that are kept open per endpoint while nothing is asked.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// How long they are kept: less than the 5 s after which common servers close them, since a request that meets a
/// connection on its way down fails.
const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(4);

/// One endpoint of a list.
pub struct Endpoint {
    shown: String,
    url: Url,
    client: Client,
    address: Guarded,
    rests: Rests,
    watch: Option<EndpointWatch>,
    state: Mutex<State>,
}

struct State {
    health: Health,
    batch: Batch,
    /// The chain that this endpoint was seen to serve since it last failed.
    chain: Option<String>,
    /// Where the last request that was not answered went.
    doubted: Option<HeightRange>,
}

impl Endpoint {
    /// Prepares an endpoint; nothing is sent. `place` is its position in the list, from 1, for the error; `root` makes
    /// of its address the one that requests go to.
    pub fn new(text: &str, place: usize, root: fn(Url) -> Url, options: &SourceOptions) -> Result<Self, String> {
        // The text itself may hold a key, so no error repeats it.
        let url = Url::parse(text).map_err(|e| format!("endpoint {place} is no URL: {e}; write http://HOST:PORT"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("endpoint {place} has the scheme `{}`; write http:// or https://", url.scheme()));
        }
        let address = Guarded::new(&url);
        let client = client(&url, options).map_err(|e| format!("endpoint {place} ({}): {e}", address.shown()))?;
        let health = Health::default();
        let state = Mutex::new(State { health, batch: Batch::new(options.batch_heights), chain: None, doubted: None });
        let rests = Rests { min: options.rest_min, max: options.rest_max, quarantine: options.quarantine };
        let shown = address.shown().to_owned();
        Ok(Self { shown, address, url: root(url), client, rests, watch: None, state })
    }

    /// Ends the preparation: what it is called where several endpoints look alike, and where it is watched.
    pub fn named(mut self, shown: String, options: &SourceOptions) -> Self {
        self.watch = options.watch.as_ref().map(|watch| watch.endpoint(&shown));
        self.shown = shown;
        self.watch_batch(self.batch());
        self
    }

    /// Scheme, host and port; the rest may be secret.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A POST request to it.
    pub fn post(&self) -> reqwest::RequestBuilder {
        self.client.post(self.url.clone())
    }

    /// A GET request to `parts` below its address.
    pub fn get(&self, parts: &[&str]) -> reqwest::RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        self.client.get(url)
    }

    /// Notes what came of a request to it.
    pub fn requested(&self, outcome: RequestOutcome, took: Duration) {
        if let Some(watch) = &self.watch {
            watch.request(outcome, took);
        }
    }

    /// Takes every secret of the address out of foreign text: servers and libraries echo what they were sent.
    pub fn redact(&self, text: &str) -> String {
        self.address.redact(text)
    }

    /// An error that says the endpoint gave no answer.
    pub fn unreachable(&self, reason: &str) -> SourceError {
        SourceError::Unreachable { endpoint: self.shown.clone(), reason: self.redact(reason) }
    }

    /// An error that says the endpoint does not speak the protocol.
    pub fn malformed(&self, reason: &str) -> SourceError {
        SourceError::Malformed { endpoint: self.shown.clone(), reason: self.redact(reason) }
    }

    /// An error that says the endpoint wants fewer requests.
    pub fn limited(&self, retry_after: Option<Duration>) -> SourceError {
        SourceError::RateLimited { endpoint: self.shown.clone(), retry_after }
    }

    /// Rests the endpoint, and forgets which chain it serves: another machine may answer behind the name afterwards.
    pub fn failed(&self, error: &SourceError) {
        let mut state = self.state();
        state.chain = None;
        // It is the endpoint that failed then, not a height of it.
        state.doubted = None;
        let (now, jitter) = (Instant::now(), rand::random());
        let news = state.health.failed(error, now, &self.rests, jitter);
        if let (Some(watch), Some((left, _))) = (&self.watch, state.health.resting(now)) {
            watch.rests(now + left);
        }
        drop(state);
        if news {
            match error {
                // Everyday life with a public endpoint.
                SourceError::RateLimited { .. } => tracing::debug!(%error, "endpoint rests"),
                SourceError::Unreachable { .. }
                | SourceError::Malformed { .. }
                | SourceError::WrongChain { .. }
                | SourceError::Distrusted { .. } => {
                    tracing::warn!(%error, "endpoint rests");
                }
            }
        }
    }

    /// Notes that it answered.
    pub fn answered(&self) {
        if self.state().health.answered(Instant::now()) {
            tracing::info!(endpoint = self.shown, "endpoint answers again");
        }
    }

    /// How long it still rests and after what; `None` if it may be asked.
    pub fn resting(&self) -> Option<(Duration, SourceError)> {
        self.state().health.resting(Instant::now()).map(|(left, error)| (left, error.clone()))
    }

    /// How many heights one request to it may ask for.
    pub fn batch(&self) -> u32 {
        self.state().batch.size()
    }

    /// A request for `asked` heights was too much for it.
    pub fn batch_refused(&self, asked: usize) {
        let next = self.resize(|batch| batch.halve(bounded(asked)));
        tracing::debug!(endpoint = self.shown, asked, next, "batch halved");
    }

    /// A request for `asked` heights failed, perhaps because it was too much.
    pub fn batch_suspect(&self, asked: usize) {
        self.resize(|batch| batch.suspect(bounded(asked)));
    }

    /// A request for `asked` heights was answered.
    pub fn batch_answered(&self, asked: usize) {
        self.resize(|batch| batch.answered(bounded(asked)));
    }

    /// Changes the size of its batches, and says which it is now.
    fn resize(&self, change: impl FnOnce(&mut Batch)) -> u32 {
        let mut state = self.state();
        let before = state.batch.size();
        change(&mut state.batch);
        let size = state.batch.size();
        drop(state);
        if size != before {
            self.watch_batch(size);
        }
        size
    }

    fn watch_batch(&self, size: u32) {
        if let Some(watch) = &self.watch {
            watch.batch(size);
        }
    }

    /// The heights (ascending) of a request that was not answered: perhaps one of them is to blame, or their number.
    ///
    /// This outlasts the call, since a search by time-outs may take longer than one call has time.
    pub fn doubt(&self, asked: &[Height]) {
        let (Some(first), Some(last)) = (asked.first(), asked.last()) else { return };
        let within = |range: HeightRange| range.contains(*first) && range.contains(*last);
        if !self.doubted().is_some_and(within) {
            // Within the search it is a height that is to blame; before it, it may be the size.
            self.batch_suspect(asked.len());
        }
        self.state().doubted = HeightRange::new(*first, *last).ok();
    }

    /// The heights among which one may make requests fail.
    pub fn doubted(&self) -> Option<HeightRange> {
        self.state().doubted
    }

    /// Whether it was seen to serve `chain` since it last failed.
    pub fn serves(&self, chain: &str) -> bool {
        self.state().chain.as_deref() == Some(chain)
    }

    /// Remembers that it serves `chain`.
    pub fn remember_chain(&self, chain: &str) {
        self.state().chain = Some(chain.to_owned());
    }

    /// Forgets which chain it serves: a request failed, and another machine may answer behind the name from now on.
    pub fn forget_chain(&self) {
        self.state().chain = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a few assignments: a thread that panicked elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bounded(heights: usize) -> u32 {
    u32::try_from(heights).unwrap_or(u32::MAX)
}

fn client(url: &Url, options: &SourceOptions) -> Result<Client, String> {
    tls::install();
    let mut builder = Client::builder()
        .connect_timeout(options.connect_timeout)
        .timeout(options.request_timeout)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_CONNECTION_LIFE)
        // A redirect would turn the POST into a GET, or carry an API key to another host.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("gapless/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        // A proxy from the environment cannot reach this machine's own ports.
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // No certificates are needed then, and machines without any must work.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| with_sources(&e.without_url()))
}

/// An error with all its causes, in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in ["s3cret", "ws://s3cret@node.example", "http://", "http://s3cret:99999999/"] {
            let fault = Endpoint::new(url, 2, |url| url, &SourceOptions::default()).err().expect("a fault");
            assert!(fault.contains("endpoint 2") && !fault.contains("s3cret"), "{fault}");
        }
    }
}
