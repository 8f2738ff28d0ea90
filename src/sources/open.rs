//! Which dialect a pipeline's source speaks: the one place that decides it.

use std::sync::Arc;

use super::cosmos::{self, CosmosSource};
use super::evm::{self, EvmSource, FinalityTag};
use super::pool::SourceOptions;
use super::{Chain, ChainSource};
use crate::config::{BlocksSettings, ChainDialect, FinalityRule};
use crate::messages::block::BlockRef;
use crate::telemetry::endpoints::SourceWatch;

/// Opens the source of a pipeline; nothing is sent yet. Its endpoints are watched where `watch` says so.
///
/// The error is one sentence for people and names no secret.
pub fn open(section: &BlocksSettings, watch: Option<SourceWatch>) -> Result<Chain, String> {
    open_with(section.chain, SourceOptions { watch, ..options(section) })
}

/// Opens a source that speaks `chain`.
pub fn open_with(chain: ChainDialect, options: SourceOptions) -> Result<Chain, String> {
    let source: Arc<dyn ChainSource> = match chain {
        ChainDialect::Evm => Arc::new(EvmSource::new(options)?),
        ChainDialect::CosmosRest => Arc::new(CosmosSource::new(options)?),
    };
    Ok(source)
}

/// How the endpoints of a pipeline are asked.
pub fn options(section: &BlocksSettings) -> SourceOptions {
    SourceOptions {
        endpoints: section.endpoints.iter().map(|url| url.reveal().to_owned()).collect(),
        request_timeout: section.request_timeout,
        // One call may take a second try elsewhere, and must end before the turn counts as hung.
        call_timeout: section.request_timeout * 2,
        batch_heights: u32::try_from(u64::from(section.batch_heights)).unwrap_or(u32::MAX),
        response_bytes_max: section.response_bytes_max as u64,
        finality_tag: match section.finality {
            FinalityRule::Count => None,
            FinalityRule::Safe => Some(FinalityTag::Safe),
            FinalityRule::Finalized => Some(FinalityTag::Finalized),
        },
        quarantine: section.quarantine,
        head_jump_max: section.head_jump_max,
        ..SourceOptions::default()
    }
}

/// What reads a stored block of a dialect: which block the bytes are, or a short reason why they are none.
pub fn parse_block(chain: ChainDialect) -> fn(&[u8]) -> Result<BlockRef, String> {
    match chain {
        ChainDialect::Evm => evm::identity,
        ChainDialect::CosmosRest => cosmos::identity,
    }
}
