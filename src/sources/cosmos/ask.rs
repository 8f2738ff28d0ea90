//! One question to one endpoint, and what its answer means for the heights and for the endpoint's batches.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::parse::{self, Named, Reading};
use super::refusal::{GatewayError, Refusal, is_error};
use crate::messages::block::Block;
use crate::messages::heights::Height;
use crate::sources::pool::answers::Answers;
use crate::sources::pool::dialect::{Ask, Outcome};
use crate::sources::pool::http::{self, Answer, Fault};
use crate::sources::{Absence, Fetched, SourceError};
use crate::telemetry::endpoints::RequestOutcome;

/// Requests for blocks that are under way to one endpoint at the same time, within one call. A smaller batch, to which
/// a limit of the rate leads, means fewer.
const IN_FLIGHT_MAX: usize = 8;
/// Bytes that are read of an answer that is one word.
const WORD_BYTES_MAX: u64 = 64 * 1024;

/// What came of asking for one height.
enum One {
    /// A verdict.
    Settled(Fetched),
    /// An answer that is not the protocol; says nothing certain of the height.
    Nonsense(String),
    /// No answer, perhaps because of the height.
    Failed(SourceError),
    /// The endpoint failed.
    Halt(SourceError),
}

/// What came of asking for several heights.
#[derive(Default)]
struct Round {
    settled: Vec<Fetched>,
    nonsense: Option<String>,
    failed: Vec<Height>,
    failure: Option<SourceError>,
    halt: Option<SourceError>,
}

/// Asks for each height by itself, several at a time; what that settles goes into `answers`.
pub(super) async fn blocks(ask: &Ask<'_>, asked: &[Height], answers: &mut Answers) -> Result<Outcome, SourceError> {
    let mut round = ask_all(ask, asked).await;
    wait_for_sync(ask, &mut round.settled).await;
    let settled = round.settled.len();
    round.settled.into_iter().for_each(|fetched| answers.take(fetched));
    if let Some(error) = round.halt {
        if matches!(error, SourceError::RateLimited { .. }) {
            // Some were let through: fewer at a time next.
            ask.endpoint.batch_refused(asked.len());
        }
        return Err(error);
    }
    if let Some(error) = round.failure {
        round.failed.sort_unstable();
        return Ok(Outcome::Failed(error, round.failed));
    }
    if settled == asked.len() {
        ask.endpoint.batch_answered(asked.len());
    }
    match round.nonsense {
        Some(reason) if settled == 0 => Ok(Outcome::Stuck(reason)),
        Some(_) | None => Ok(Outcome::Progress),
    }
}

/// Sends the requests. Once the endpoint has failed nothing more is sent, but what is under way is heard.
async fn ask_all(ask: &Ask<'_>, asked: &[Height]) -> Round {
    let mut round = Round::default();
    let mut waiting = asked.iter().copied();
    let mut under_way: FuturesUnordered<_> = waiting.by_ref().take(IN_FLIGHT_MAX).map(|h| ask_one(ask, h)).collect();
    while let Some((height, one)) = under_way.next().await {
        match one {
            One::Settled(fetched) => round.settled.push(fetched),
            One::Nonsense(reason) => round.nonsense = Some(reason),
            One::Failed(error) => {
                round.failed.push(height);
                round.failure = Some(error);
            }
            One::Halt(error) => round.halt = Some(error),
        }
        if round.halt.is_none()
            && round.failure.is_none()
            && let Some(height) = waiting.next()
        {
            under_way.push(ask_one(ask, height));
        }
    }
    round
}

async fn ask_one(ask: &Ask<'_>, height: Height) -> (Height, One) {
    let endpoint = ask.endpoint;
    let request = endpoint.get(&["blocks", &height.to_string()]);
    let mut answer = match http::exchange(endpoint, request, ask.bytes_max, is_error).await {
        Ok(answer) => answer,
        Err(Fault::Endpoint(error)) => return (height, One::Halt(error)),
        Err(Fault::Request(error)) => return (height, One::Failed(error)),
        Err(Fault::TooLarge(reason)) => {
            return (height, One::Settled(Fetched::Absent(height, Absence::Malformed(reason))));
        }
    };
    let one = judge(ask, height, &answer);
    match &one {
        One::Settled(fetched) => answer.judge(ask.outcome(fetched)),
        One::Nonsense(_) => answer.judge(RequestOutcome::Malformed),
        One::Failed(error) | One::Halt(error) => answer.judge_error(error),
    }
    (height, one)
}

/// What an answer says of `height`.
fn judge(ask: &Ask<'_>, height: Height, answer: &Answer<'_>) -> One {
    let endpoint = ask.endpoint;
    let absent = |absence| One::Settled(Fetched::Absent(height, absence));
    let reading = parse::read(&answer.body);
    if let Ok(Reading::Block(named)) = reading {
        return match ask.check_chain(&named.chain_id) {
            Err(error) => One::Halt(error),
            Ok(()) if named.id.height != height => {
                absent(Absence::Malformed(format!("asked for {height}, got height {}", named.id.height)))
            }
            Ok(()) => {
                let block = Block { id: named.id, raw: answer.body.clone(), origin: answer.origin() };
                One::Settled(Fetched::Block(block))
            }
        };
    }
    // Some nodes send errors with a success.
    match (GatewayError::parse(&answer.body), reading) {
        (Some(error), _) => match error.refusal() {
            Refusal::NotYet => absent(Absence::Unknown),
            Refusal::Pruned => absent(Absence::Pruned(endpoint.redact(&error.to_string()))),
            Refusal::Limited | Refusal::Foreign => One::Halt(refused(ask, answer, &error)),
            Refusal::Other => One::Failed(refused(ask, answer, &error)),
        },
        (None, Ok(Reading::Malformed(reason))) => absent(Absence::Malformed(endpoint.redact(&reason))),
        (None, Ok(Reading::Missing | Reading::Block(_))) => absent(Absence::Unknown),
        (None, Err(reason)) => One::Nonsense(reason),
    }
}

/// An error of the gateway that is not about a height.
fn refused(ask: &Ask<'_>, answer: &Answer<'_>, error: &GatewayError) -> SourceError {
    match error.refusal() {
        Refusal::Limited => ask.endpoint.limited(None),
        Refusal::Foreign => ask.endpoint.malformed(&format!("{error}: this is no Cosmos REST endpoint")),
        Refusal::NotYet | Refusal::Pruned | Refusal::Other => {
            ask.endpoint.unreachable(&format!("HTTP {}, {error}", answer.status))
        }
    }
}

/// A node that is still catching up will have what it lacks: its word counts against no height. It is asked only for
/// heights that nobody has shown yet, once for all of them.
async fn wait_for_sync(ask: &Ask<'_>, settled: &mut [Fetched]) {
    let beyond = |fetched: &Fetched| ask.outcome(fetched) == RequestOutcome::NotYet;
    if settled.iter().any(beyond) && syncing(ask).await {
        let reason = format!("{} is still catching up", ask.endpoint.shown());
        for fetched in settled.iter_mut().filter(|fetched| beyond(fetched)) {
            if let Fetched::Absent(_, absence) = fetched {
                *absence = Absence::Unheard(reason.clone());
            }
        }
    }
}

/// Whether the node says that it is still catching up. One that does not say so is not.
async fn syncing(ask: &Ask<'_>) -> bool {
    let answer = http::exchange(ask.endpoint, ask.endpoint.get(&["syncing"]), WORD_BYTES_MAX, is_error).await;
    answer.is_ok_and(|answer| parse::syncing(&answer.body) == Some(true))
}

/// Asks for the newest block.
pub(super) async fn latest(ask: &Ask<'_>) -> Result<Named, SourceError> {
    let endpoint = ask.endpoint;
    let request = endpoint.get(&["blocks", "latest"]);
    let mut answer = match http::exchange(endpoint, request, ask.bytes_max, is_error).await {
        Ok(answer) => answer,
        Err(Fault::Endpoint(error) | Fault::Request(error)) => return Err(error),
        Err(Fault::TooLarge(reason)) => return Err(endpoint.malformed(&format!("the latest block: {reason}"))),
    };
    let latest = match (parse::read(&answer.body), GatewayError::parse(&answer.body)) {
        (Ok(Reading::Block(named)), _) => ask.check_chain(&named.chain_id).map(|()| named),
        (_, Some(error)) => Err(refused(ask, &answer, &error)),
        (Ok(Reading::Missing), None) => Err(endpoint.unreachable("it has no latest block (yet)")),
        (Ok(Reading::Malformed(reason)) | Err(reason), None) => {
            Err(endpoint.malformed(&format!("the latest block: {reason}")))
        }
    };
    latest.inspect_err(|error| answer.judge_error(error))
}
