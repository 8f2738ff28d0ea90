//! What `doctor` asks the sources of the pipelines.

use super::Check;
use crate::config::{BlocksSettings, Settings};
use crate::sources::evm::{EvmOptions, EvmSource};
use crate::sources::{ChainSource, SourceError};
use crate::supervisor::wiring;

/// One check for each endpoint of each pipeline. Self-tests have no source.
pub(super) async fn check(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section) in &settings.blocks {
        for (place, endpoint) in section.endpoints.iter().enumerate() {
            let title = format!("blocks.{name} endpoint {}", place + 1);
            // One by one, so that each is judged and not only the first that answers.
            let options = EvmOptions { endpoints: vec![endpoint.reveal().to_owned()], ..wiring::evm_options(section) };
            checks.push(match ask(section, options).await {
                Ok(words) => Check::good(&title, words),
                Err((words, remedy)) => Check::bad(&title, words, remedy),
            });
        }
    }
    checks
}

async fn ask(section: &BlocksSettings, options: EvmOptions) -> Result<String, (String, String)> {
    let source = EvmSource::new(options).map_err(|fault| (fault, "correct blocks.NAME.endpoints".to_owned()))?;
    if let Some(expected) = &section.chain_id {
        source.expect_chain(expected);
    }
    let chain = source.identity().await.map_err(remedy)?.chain_id;
    let head = source.head().await.map_err(remedy)?;
    Ok(format!("chain {chain}, head {head}"))
}

fn remedy(error: SourceError) -> (String, String) {
    let remedy = match &error {
        SourceError::Unreachable { .. } => "start the node, or correct the address",
        SourceError::RateLimited { .. } => "ask less often (batch_heights, slots), or use another endpoint",
        SourceError::Malformed { .. } => "this is no EVM JSON-RPC endpoint; correct the address",
        SourceError::Distrusted { .. } => {
            "compare its blocks with another node's; drop it from the list if it is wrong"
        }
        SourceError::WrongChain { .. } => "correct the address, or the key chain_id",
    };
    (error.to_string(), remedy.to_owned())
}
