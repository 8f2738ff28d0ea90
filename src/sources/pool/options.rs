//! How a source asks: its endpoints and its limits.

use std::fmt;
use std::time::Duration;

use crate::telemetry::endpoints::SourceWatch;

/// Most endpoints of one source.
pub const ENDPOINTS_MAX: usize = 64;
/// Most heights of one request.
pub const BATCH_HEIGHTS_MAX: u32 = 1000;

/// Which block an EVM node is asked for when the newest final one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalityTag {
    /// `finalized`: about two epochs behind on Ethereum.
    Finalized,
    /// `safe`: about one.
    Safe,
}

/// How a source asks its endpoints. `Debug` hides the endpoints, which may hold keys.
#[derive(Clone)]
pub struct SourceOptions {
    /// `http://` or `https://` addresses, 1 to [`ENDPOINTS_MAX`], in order of preference.
    pub endpoints: Vec<String>,
    /// The time for one connection to come about.
    pub connect_timeout: Duration,
    /// The time for one request, from its start to the last byte of the answer.
    pub request_timeout: Duration,
    /// The time for one call, however many requests and endpoints it takes; what it has not brought by then is
    /// [`Absence::Unheard`](crate::sources::Absence::Unheard).
    pub call_timeout: Duration,
    /// Heights per request, 1 to [`BATCH_HEIGHTS_MAX`]; less where an endpoint refuses that many.
    pub batch_heights: u32,
    /// The largest answer that is read, unpacked.
    pub response_bytes_max: u64,
    /// EVM: the tag that names the newest final block; none: nobody is asked. Other dialects pass it over.
    pub finality_tag: Option<FinalityTag>,
    /// The rest after the first failure of an endpoint; doubled by each further one.
    pub rest_min: Duration,
    /// The longest rest after failures.
    pub rest_max: Duration,
    /// The rest of an endpoint that contradicted final blocks.
    pub quarantine: Duration,
    /// Heights by which a head may exceed the highest one seen before; farther, it needs a witness.
    pub head_jump_max: u64,
    /// Where what is seen of the endpoints is written down.
    pub watch: Option<SourceWatch>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            batch_heights: 100,
            response_bytes_max: 64 * 1024 * 1024,
            finality_tag: None,
            rest_min: Duration::from_millis(200),
            rest_max: Duration::from_secs(5),
            quarantine: Duration::from_secs(600),
            head_jump_max: 1_000_000,
            watch: None,
        }
    }
}

impl fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceOptions")
            .field("endpoints", &self.endpoints.len())
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("batch_heights", &self.batch_heights)
            .field("response_bytes_max", &self.response_bytes_max)
            .field("finality_tag", &self.finality_tag)
            .field("rest_min", &self.rest_min)
            .field("rest_max", &self.rest_max)
            .field("quarantine", &self.quarantine)
            .field("head_jump_max", &self.head_jump_max)
            .finish_non_exhaustive()
    }
}
