//! One question to one endpoint, and what its answer means for the heights and for the endpoint's batches.

use reqwest::header::CONTENT_TYPE;

use super::parse::{self, Reading, Said};
use super::refusal::Refusal;
use super::request;
use crate::messages::heights::Height;
use crate::sources::pool::answers::Answers;
use crate::sources::pool::dialect::{Ask, Outcome};
use crate::sources::pool::endpoint::Endpoint;
use crate::sources::pool::http::{self, Answer, Fault};
use crate::sources::pool::options::FinalityTag;
use crate::sources::{Absence, Fetched, SourceError};
use crate::telemetry::endpoints::RequestOutcome;

/// Bytes that are read of an answer that is one quantity.
const QUANTITY_BYTES_MAX: u64 = 64 * 1024;

/// Bytes that are read of an answer that is a block without its transactions' bodies.
const TAGGED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Sends a JSON-RPC request and reads at most `bytes_max` of its answer.
pub(super) async fn post(endpoint: &Endpoint, body: String, bytes_max: u64) -> Result<Answer<'_>, Fault> {
    let request = endpoint.post().header(CONTENT_TYPE, "application/json").body(body);
    http::exchange(endpoint, request, bytes_max, parse::is_rpc).await
}

/// One request for `asked`; what it settles goes into `answers`.
pub(super) async fn blocks(ask: &Ask<'_>, asked: &[Height], answers: &mut Answers) -> Result<Outcome, SourceError> {
    let endpoint = ask.endpoint;
    let refused = |reason| {
        endpoint.batch_refused(asked.len());
        Ok(Outcome::Stuck(reason))
    };
    let suspect = |reason| {
        endpoint.batch_suspect(asked.len());
        Ok(Outcome::Stuck(reason))
    };
    let mut answer = match post(endpoint, request::blocks(asked), ask.bytes_max).await {
        Ok(answer) => answer,
        Err(Fault::Endpoint(error)) => return Err(error),
        Err(Fault::Request(error)) => return Ok(Outcome::Failed(error, asked.to_vec())),
        Err(Fault::TooLarge(reason)) => return refused(reason),
    };
    match parse::read(&answer.body, asked) {
        Ok(Reading::Heights(heights)) => settle(ask, asked.len(), heights, &mut answer, answers),
        Ok(Reading::Refused(error)) => {
            answer.judge(outcome_of(error.refusal()));
            match error.refusal() {
                Refusal::Limited => Err(endpoint.limited(None)),
                Refusal::TooLarge => refused(error.to_string()),
                Refusal::Pruned | Refusal::Unknown | Refusal::Other => suspect(error.to_string()),
            }
        }
        Err(reason) => {
            answer.judge(RequestOutcome::Malformed);
            suspect(reason)
        }
    }
}

/// What came of a request that was refused whole.
fn outcome_of(refusal: Refusal) -> RequestOutcome {
    match refusal {
        Refusal::Limited => RequestOutcome::Limited,
        Refusal::TooLarge => RequestOutcome::TooLarge,
        Refusal::Pruned => RequestOutcome::Pruned,
        Refusal::Unknown => RequestOutcome::NotYet,
        Refusal::Other => RequestOutcome::Unreachable,
    }
}

/// Takes the verdicts of one response.
fn settle(
    ask: &Ask<'_>,
    asked: usize,
    heights: Vec<(Height, Said)>,
    answer: &mut Answer<'_>,
    answers: &mut Answers,
) -> Result<Outcome, SourceError> {
    let endpoint = ask.endpoint;
    let (mut settled, mut limited, mut trouble) = (0, false, None);
    for (height, said) in heights {
        let fetched = match said {
            Said::Block(mut block) => {
                block.origin = answer.origin();
                Fetched::Block(block)
            }
            Said::Absent(said @ (Absence::Unknown | Absence::Unheard(_))) => Fetched::Absent(height, said),
            Said::Absent(Absence::Pruned(reason)) => Fetched::Absent(height, Absence::Pruned(endpoint.redact(&reason))),
            Said::Absent(Absence::Malformed(reason)) => {
                Fetched::Absent(height, Absence::Malformed(endpoint.redact(&reason)))
            }
            Said::Limited => {
                limited = true;
                continue;
            }
            Said::Trouble(reason) => {
                answer.judge(RequestOutcome::Unreachable);
                trouble = Some(reason);
                continue;
            }
        };
        settled += 1;
        answer.judge(ask.outcome(&fetched));
        answers.take(fetched);
    }
    if limited {
        // Part of a batch was let through: such an endpoint counts heights, not requests.
        answer.judge(RequestOutcome::Limited);
        endpoint.batch_refused(asked);
        return Err(endpoint.limited(None));
    }
    if settled == asked {
        endpoint.batch_answered(asked);
    }
    match settled {
        0 => Ok(Outcome::Stuck(trouble.unwrap_or_else(|| "the answer leaves the height out".to_owned()))),
        _ => Ok(Outcome::Progress),
    }
}

/// A tag as it travels.
fn word(tag: FinalityTag) -> &'static str {
    match tag {
        FinalityTag::Finalized => "finalized",
        FinalityTag::Safe => "safe",
    }
}

/// Asks one endpoint for the height of a tag's block; none if it does not know the tag, or has no such block yet.
pub(super) async fn tagged(endpoint: &Endpoint, tag: FinalityTag) -> Result<Option<Height>, SourceError> {
    let named = word(tag);
    let mut answer = whole(endpoint, request::tag(named), TAGGED_BYTES_MAX, named).await?;
    let height = match parse::read_number(&answer.body) {
        Ok(Ok(height)) => Ok(height),
        Ok(Err(error)) => match error.refusal() {
            Refusal::Limited => Err(endpoint.limited(None)),
            // Nodes without the tag say so in many words; none of them says more than that.
            Refusal::Unknown | Refusal::Pruned | Refusal::TooLarge | Refusal::Other => Ok(None),
        },
        Err(reason) => Err(endpoint.malformed(&format!("block {named}: {reason}"))),
    };
    height.inspect_err(|error| answer.judge_error(error))
}

/// Asks one endpoint for one quantity, and what `read` makes of it.
pub(super) async fn quantity<T>(
    endpoint: &Endpoint,
    method: &str,
    read: impl FnOnce(u128) -> Result<T, SourceError>,
) -> Result<T, SourceError> {
    let mut answer = whole(endpoint, request::plain(method), QUANTITY_BYTES_MAX, method).await?;
    let quantity = match parse::read_quantity(&answer.body) {
        Ok(Ok(quantity)) => read(quantity),
        Ok(Err(error)) if error.refusal() == Refusal::Limited => Err(endpoint.limited(None)),
        Ok(Err(error)) => Err(endpoint.unreachable(&format!("{method}: {error}"))),
        Err(reason) => Err(endpoint.malformed(&format!("{method}: {reason}"))),
    };
    quantity.inspect_err(|error| answer.judge_error(error))
}

/// An answer that cannot be asked for in smaller parts.
async fn whole<'a>(
    endpoint: &'a Endpoint,
    body: String,
    bytes_max: u64,
    what: &str,
) -> Result<Answer<'a>, SourceError> {
    match post(endpoint, body, bytes_max).await {
        Ok(answer) => Ok(answer),
        Err(Fault::Endpoint(error) | Fault::Request(error)) => Err(error),
        Err(Fault::TooLarge(reason)) => Err(endpoint.malformed(&format!("{what}: {reason}"))),
    }
}
