//! The world, in: what every source of blocks answers, and how it may fail.

pub mod cosmos;
pub mod evm;
pub mod files;
pub mod hints;
mod open;
mod pool;
mod secrets;
pub mod streams;
pub mod tls;

pub use open::{open, open_with, options, parse_block};
pub use pool::{BATCH_HEIGHTS_MAX, ENDPOINTS_MAX, SourceOptions};

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::messages::block::Block;
use crate::messages::heights::{Height, HeightRange};

/// Which chain a node serves. Checked before the first write, so that two chains never share a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainIdentity {
    /// The chain's own id (EVM: `eth_chainId`, decimal; Cosmos: its name).
    pub chain_id: String,
}

/// What a source says about one height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The block.
    Block(Block),
    /// No block, and why.
    Absent(Height, Absence),
}

/// Why a source has no block for a height.
///
/// The first three are the word of the whole source: every endpoint was heard on the height within the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// The source does not know the height (EVM: `null`): above its head, or it lags behind.
    #[error("the source has no such block (yet)")]
    Unknown,
    /// The source threw the height away: every endpoint says so.
    #[error("the source no longer keeps this height: {0}")]
    Pruned(String),
    /// The answer is no block, or another one than was asked for; or the height alone makes requests fail.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// An endpoint that may have the height did not answer, or there was no time left to ask it.
    ///
    /// This says nothing about the height, whatever the other endpoints said: it costs no try and never parks. Ask again.
    #[error("not every endpoint could be asked: {0}")]
    Unheard(String),
}

/// Why a source gave no answer at all. None of these says anything about a height.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No connection, a time-out, a server error.
    #[error("{endpoint} is out of reach: {reason}")]
    Unreachable {
        /// The endpoint, without credentials.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// Too many requests; ask again after the pause, if the source named one.
    #[error("{endpoint} limits the rate of requests")]
    RateLimited {
        /// The endpoint, without credentials.
        endpoint: String,
        /// `Retry-After`, if it was given and sensible.
        retry_after: Option<Duration>,
    },
    /// An answer that is not the protocol.
    #[error("{endpoint} answers nonsense: {reason}")]
    Malformed {
        /// The endpoint, without credentials.
        endpoint: String,
        /// What was wrong, shortened.
        reason: String,
    },
    /// The endpoint serves another chain than the pipeline holds.
    #[error("{endpoint} serves chain {found}, but this pipeline holds chain {expected}")]
    WrongChain {
        /// The endpoint, without credentials.
        endpoint: String,
        /// The chain id of the pipeline.
        expected: String,
        /// The chain id of the endpoint.
        found: String,
    },
    /// The endpoint showed another final block than the held ones: it rests until somebody looked at it.
    #[error("{endpoint} is not trusted for now: {reason}")]
    Distrusted {
        /// The endpoint, without credentials.
        endpoint: String,
        /// What it showed.
        reason: String,
    },
}

/// A source of blocks by height. Every call has its own deadline; none retries for ever.
pub trait ChainSource: Send + Sync {
    /// Binds the source to the chain that the pipeline holds ([`ChainIdentity::chain_id`]).
    ///
    /// From then on an endpoint is asked for its chain before its first block or head is used, and again after each
    /// failure; one that serves another chain answers [`SourceError::WrongChain`] and is not used.
    fn expect_chain(&self, chain_id: &str);
    /// Asks which chain this is.
    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>>;
    /// Asks for the newest height that the source has. With several endpoints it may fall: another one answered.
    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>>;
    /// Asks for the newest height that can no longer change, as the chain itself says (EVM: the tag `finalized` or
    /// `safe`; Cosmos: the head). None where the source was not told to ask, or no endpoint knows.
    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>>;
    /// Leaves an endpoint alone for a long time: what it showed contradicts final blocks that are held.
    ///
    /// `endpoint` is named as in [`Origin::endpoint`](crate::messages::block::Origin::endpoint); an unknown name is
    /// passed over. Memory of this process only: a restart asks it again.
    fn distrust(&self, endpoint: &str, reason: &str);
    /// Fetches a range, one answer for each height, ascending; at most the source's batch in one request.
    ///
    /// An absence is the word of all endpoints; where one of them was not heard it is [`Absence::Unheard`]. If nothing
    /// at all was heard, that is an error.
    ///
    /// The memory that the answers take grows with the range: the caller bounds it ([`HeightRange::chunks`]).
    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>>;
}

/// A source as the actors hold it.
pub type Chain = Arc<dyn ChainSource>;
