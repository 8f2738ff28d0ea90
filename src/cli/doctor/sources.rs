//! What `doctor` asks the sources of the pipelines.

use super::Check;
use crate::config::{BlocksSettings, ChainDialect, FinalityRule, Settings};
use crate::messages::heights::Height;
use crate::sources::evm::FinalityTag;
use crate::sources::hints::{HintOptions, Hints};
use crate::sources::{self, SourceError, SourceOptions};

/// One check for each endpoint of each pipeline. Self-tests have no source.
pub(super) async fn check(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section) in &settings.blocks {
        for (place, endpoint) in section.endpoints.iter().enumerate() {
            let title = format!("blocks.{name} endpoint {}", place + 1);
            // One by one, so that each is judged and not only the first that answers.
            let endpoints = vec![endpoint.reveal().to_owned()];
            checks.push(
                ask(&title, section, endpoints)
                    .await
                    .unwrap_or_else(|(words, remedy)| Check::bad(&title, words, remedy)),
            );
        }
        checks.extend(hints(name, section).await);
    }
    checks
}

/// One check for each address that pushes new heads. A pipeline gets on without it, so a fault is a warning.
async fn hints(name: &str, section: &BlocksSettings) -> Vec<Check> {
    let urls: Vec<String> = section.hints.iter().map(|url| url.reveal().to_owned()).collect();
    if urls.is_empty() {
        return Vec::new();
    }
    let remedy = "correct blocks.NAME.hints (an EVM node's WebSocket address), or drop it: poll_ms alone decides then";
    let title = |place: usize| format!("blocks.{name} hint {}", place + 1);
    let hints = match Hints::new(HintOptions { urls, pipeline: format!("blocks.{name}"), ..HintOptions::default() }) {
        Ok(hints) => hints,
        Err(fault) => return vec![Check::bad(&title(0), fault, remedy.to_owned())],
    };
    let outcomes = hints.try_out().await.into_iter().enumerate();
    let judge = |(place, (url, outcome)): (usize, (String, Result<(), String>))| match outcome {
        Ok(()) => Check::good(&title(place), format!("{url} pushes new heads")),
        Err(reason) => Check::warn(&title(place), format!("{url}: {reason}"), remedy),
    };
    outcomes.map(judge).collect()
}

async fn ask(title: &str, section: &BlocksSettings, endpoints: Vec<String>) -> Result<Check, (String, String)> {
    let options = sources::options(section);
    // The tag is looked at even where it is not needed, so that one can choose.
    let finality_tag = options.finality_tag.or(Some(FinalityTag::Finalized));
    let source = sources::open_with(section.chain, SourceOptions { endpoints, finality_tag, ..options })
        .map_err(|fault| (fault, "correct blocks.NAME.endpoints".to_owned()))?;
    if let Some(expected) = &section.chain_id {
        source.expect_chain(expected);
    }
    let fault = |error| remedy(section.chain, error);
    let chain = source.identity().await.map_err(fault)?.chain_id;
    let head = source.head().await.map_err(fault)?;
    let last = source.finalized().await.map_err(fault)?;
    Ok(judge(title, section, &format!("chain {chain}, head {head}"), last))
}

/// What the endpoint says of finality, against what the pipeline needs.
fn judge(title: &str, section: &BlocksSettings, words: &str, last: Option<Height>) -> Check {
    let tag = match (section.chain, section.finality) {
        (ChainDialect::CosmosRest, _) => return Check::good(title, format!("{words}, final at once")),
        (ChainDialect::Evm, FinalityRule::Count | FinalityRule::Finalized) => "finalized",
        (ChainDialect::Evm, FinalityRule::Safe) => "safe",
    };
    match (last, section.finality) {
        (Some(height), _) => Check::good(title, format!("{words}, {tag} {height}")),
        (None, FinalityRule::Count) => Check::good(title, format!("{words}; it does not answer the tag {tag}")),
        (None, FinalityRule::Safe | FinalityRule::Finalized) => Check::warn(
            title,
            format!("{words}, but it does not answer the tag {tag}, which finality asks for"),
            "set finality = \"count\" with enough confirmations, or use a node that answers the tag",
        ),
    }
}

fn remedy(chain: ChainDialect, error: SourceError) -> (String, String) {
    let remedy = match (&error, chain) {
        (SourceError::Unreachable { .. }, _) => "start the node, or correct the address",
        (SourceError::RateLimited { .. }, _) => "ask less often (batch_heights, slots), or use another endpoint",
        (SourceError::Malformed { .. }, ChainDialect::Evm) => {
            "this is no EVM JSON-RPC endpoint; correct the address, or the key chain"
        }
        (SourceError::Malformed { .. }, ChainDialect::CosmosRest) => {
            "this is no Cosmos REST endpoint (often port 1317, not the RPC's 26657); correct the address, or the key chain"
        }
        (SourceError::Distrusted { .. }, _) => {
            "compare its blocks with another node's; drop it from the list if it is wrong"
        }
        (SourceError::WrongChain { .. }, _) => "correct the address, or the key chain_id",
    };
    (error.to_string(), remedy.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn section(keys: &str) -> BlocksSettings {
        let text = format!("[blocks.main]\nendpoints = [\"http://h\"]\nstart = 1\nstore = \"s\"\n{keys}\n");
        Settings::from_text("a.toml", &text).expect("a configuration").blocks["main"].clone()
    }

    #[test]
    fn a_tag_that_is_not_answered_matters_only_where_it_is_asked_for() {
        let judge = |keys: &str, last| {
            let check = judge("t", &section(keys), "chain 1, head 9", last);
            (check.verdict, check.words, check.remedy.contains("finality = \"count\""))
        };
        let good = |words: &str| (Verdict::Good, words.to_owned(), false);
        assert_eq!(judge("", Some(5)), good("chain 1, head 9, finalized 5"));
        assert_eq!(judge("", None), good("chain 1, head 9; it does not answer the tag finalized"));
        assert_eq!(judge("finality = \"safe\"", Some(7)), good("chain 1, head 9, safe 7"));
        assert_eq!(judge("chain = \"cosmos-rest\"", Some(9)), good("chain 1, head 9, final at once"));
        for (keys, tag) in [("finality = \"safe\"", "safe"), ("finality = \"finalized\"", "finalized")] {
            let words = format!("chain 1, head 9, but it does not answer the tag {tag}, which finality asks for");
            assert_eq!(judge(keys, None), (Verdict::Warn, words, true));
        }
    }
}
