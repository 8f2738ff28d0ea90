//! Cosmos REST: the gRPC gateway of Cosmos SDK nodes, and the older REST server before it.
//!
//! A block is final as soon as it is there, and the first one has height 1 (or the chain's `initial_height`). There are
//! no batches: each height is one GET, several of which are under way at the same time.
//!
//! | file | what it knows |
//! |---|---|
//! | `parse` | bytes to a block or a reason |
//! | `refusal` | what the errors of the gateway mean |
//! | `ask` | one question to one endpoint |

mod ask;
mod parse;
mod refusal;

use reqwest::Url;

pub use self::parse::{FIRST_PARENT, identity};
use super::SourceError;
use super::pool::Pool;
use super::pool::answers::Answers;
use super::pool::dialect::{Ask, Dialect, Finality, Outcome};
use super::pool::options::SourceOptions;
use crate::messages::heights::Height;

/// Where the gateway keeps blocks, below the address of the node.
const ROOT: [&str; 4] = ["cosmos", "base", "tendermint", "v1beta1"];

/// Cosmos REST.
pub struct CosmosRest;

/// A chain behind one or several Cosmos REST endpoints.
pub type CosmosSource = Pool<CosmosRest>;

impl CosmosSource {
    /// Prepares the source; nothing is sent yet. The error names the option and what to write.
    pub fn new(options: SourceOptions) -> Result<Self, String> {
        Self::speaking(CosmosRest, options)
    }
}

impl Dialect for CosmosRest {
    /// The base address of a node, or the address of its blocks, or of its latest block; also that of the older REST
    /// server, whose blocks stand at `/blocks/HEIGHT`.
    fn root(mut url: Url) -> Url {
        let parts: Vec<String> = url.path_segments().into_iter().flatten().map(str::to_owned).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let root = match &parts[..] {
            [root @ .., "blocks", "latest"] | [root @ .., "blocks"] => root.to_vec(),
            root if root.ends_with(&ROOT) => root.to_vec(),
            base => [base, &ROOT].concat(),
        };
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(root);
        }
        url
    }

    async fn blocks(&self, ask: &Ask<'_>, asked: &[Height], answers: &mut Answers) -> Result<Outcome, SourceError> {
        ask::blocks(ask, asked, answers).await
    }

    async fn chain(&self, ask: &Ask<'_>) -> Result<String, SourceError> {
        Ok(ask::latest(ask).await?.chain_id)
    }

    async fn head(&self, ask: &Ask<'_>) -> Result<Height, SourceError> {
        Ok(ask::latest(ask).await?.id.height)
    }

    fn finality(&self) -> Finality {
        Finality::Instant
    }

    async fn finalized(&self, ask: &Ask<'_>) -> Result<Option<Height>, SourceError> {
        self.head(ask).await.map(Some)
    }
}

#[cfg(test)]
mod tests;
