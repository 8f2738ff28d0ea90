//! EVM JSON-RPC over HTTP: Ethereum and every chain that speaks like it.
//!
//! | file | what it knows |
//! |---|---|
//! | `request` | requests as they travel |
//! | `parse` | bytes to verdicts about heights |
//! | `refusal` | what the errors of providers mean |
//! | `ask` | one question to one endpoint |

mod ask;
mod parse;
mod refusal;
mod request;

use reqwest::Url;

pub use self::parse::identity;
use super::SourceError;
use super::pool::Pool;
use super::pool::answers::Answers;
use super::pool::dialect::{Ask, Dialect, Finality, Outcome};
pub use super::pool::options::{FinalityTag, SourceOptions as EvmOptions};
use crate::messages::heights::{HEIGHT_MAX, Height};

/// EVM JSON-RPC.
pub struct Evm {
    finality_tag: Option<FinalityTag>,
}

/// A chain behind one or several EVM endpoints.
pub type EvmSource = Pool<Evm>;

impl EvmSource {
    /// Prepares the source; nothing is sent yet. The error names the option and what to write.
    pub fn new(options: EvmOptions) -> Result<Self, String> {
        Self::speaking(Evm { finality_tag: options.finality_tag }, options)
    }
}

impl Dialect for Evm {
    fn root(url: Url) -> Url {
        url
    }

    async fn blocks(&self, ask: &Ask<'_>, asked: &[Height], answers: &mut Answers) -> Result<Outcome, SourceError> {
        ask::blocks(ask, asked, answers).await
    }

    async fn chain(&self, ask: &Ask<'_>) -> Result<String, SourceError> {
        let read = |chain: u128| ask.check_chain(&chain.to_string()).map(|()| chain.to_string());
        ask::quantity(ask.endpoint, "eth_chainId", read).await
    }

    async fn head(&self, ask: &Ask<'_>) -> Result<Height, SourceError> {
        let read = |found: u128| {
            let height = u64::try_from(found).ok().filter(|height| *height <= HEIGHT_MAX);
            let fault = || format!("eth_blockNumber: {found} is above {HEIGHT_MAX}, the largest possible");
            height.ok_or_else(|| ask.endpoint.malformed(&fault()))
        };
        ask::quantity(ask.endpoint, "eth_blockNumber", read).await
    }

    fn finality(&self) -> Finality {
        if self.finality_tag.is_some() { Finality::Asked } else { Finality::Unasked }
    }

    async fn finalized(&self, ask: &Ask<'_>) -> Result<Option<Height>, SourceError> {
        match self.finality_tag {
            Some(tag) => ask::tagged(ask.endpoint, tag).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod anvil_tests;
#[cfg(test)]
mod tests;
