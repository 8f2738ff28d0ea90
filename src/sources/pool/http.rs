//! One request over HTTP: bounded in time and bytes, its failures told apart.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::endpoint::{Endpoint, with_sources};
use super::pace::RETRY_AFTER_MAX;
use super::text::short;
use crate::messages::block::Origin;
use crate::sources::SourceError;
use crate::telemetry::endpoints::RequestOutcome;

/// Bytes that are read of an answer with an HTTP error; enough for its text.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
/// Room that is made before a body arrives, however long it says it is.
const RESERVE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a request brought no body.
#[derive(Debug, PartialEq)]
pub enum Fault {
    /// The endpoint failed.
    Endpoint(SourceError),
    /// The request was not answered: a time-out, a connection that was cut, a raw HTTP 5xx. Perhaps the endpoint is
    /// ill, perhaps it fails on what it was asked for.
    Request(SourceError),
    /// The request or its answer is too large; half of it may do.
    TooLarge(String),
}

/// What a server sent. When it is dropped, what came of the request is written down.
pub struct Answer<'a> {
    /// Success, or an error whose body speaks the dialect all the same.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
    request: Request<'a>,
}

impl Answer<'_> {
    /// Notes what came of it. Of several verdicts the gravest counts.
    pub fn judge(&mut self, outcome: RequestOutcome) {
        self.request.outcome = self.request.outcome.max(outcome);
    }

    /// Notes an error that the answer amounts to.
    pub fn judge_error(&mut self, error: &SourceError) {
        self.judge(outcome_of(error));
    }

    /// How what it holds came here; [`Answers`](super::answers::Answers) adds which attempt that was.
    pub fn origin(&self) -> Origin {
        let millis = u64::try_from(self.request.took().as_millis()).unwrap_or(u64::MAX);
        Origin { endpoint: self.request.endpoint.shown().to_owned(), attempt: 1, millis }
    }
}

/// What came of a request that ended with this error.
fn outcome_of(error: &SourceError) -> RequestOutcome {
    match error {
        SourceError::Unreachable { .. } | SourceError::Distrusted { .. } => RequestOutcome::Unreachable,
        SourceError::RateLimited { .. } => RequestOutcome::Limited,
        SourceError::Malformed { .. } => RequestOutcome::Malformed,
        SourceError::WrongChain { .. } => RequestOutcome::WrongChain,
    }
}

/// A request under way, or answered and not judged yet; one that is dropped before its answer was cut.
struct Request<'a> {
    endpoint: &'a Endpoint,
    started: Instant,
    ended: Option<Instant>,
    outcome: RequestOutcome,
}

impl<'a> Request<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        Self { endpoint, started: Instant::now(), ended: None, outcome: RequestOutcome::Cut }
    }

    fn end(&mut self, outcome: RequestOutcome) {
        (self.ended, self.outcome) = (Some(Instant::now()), outcome);
    }

    fn took(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.started)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.endpoint.requested(self.outcome, self.took());
    }
}

/// Sends `request` and reads the answer, at most `bytes_max` of it. The client's time-out covers all of it.
///
/// An HTTP error is an answer only if `speaks` knows its body for one of the dialect's own errors.
pub async fn exchange<'a>(
    endpoint: &'a Endpoint,
    request: RequestBuilder,
    bytes_max: u64,
    speaks: fn(&[u8]) -> bool,
) -> Result<Answer<'a>, Fault> {
    let mut under_way = Request::new(endpoint);
    let answer = send(endpoint, request, bytes_max, speaks).await;
    under_way.end(match &answer {
        Ok(_) => RequestOutcome::Ok,
        Err(Fault::Endpoint(error) | Fault::Request(error)) => outcome_of(error),
        Err(Fault::TooLarge(_)) => RequestOutcome::TooLarge,
    });
    answer.map(|(status, body)| Answer { status, body, request: under_way })
}

async fn send(
    endpoint: &Endpoint,
    request: RequestBuilder,
    bytes_max: u64,
    speaks: fn(&[u8]) -> bool,
) -> Result<(StatusCode, Bytes), Fault> {
    let response = request.send().await.map_err(|e| transport(endpoint, e))?;
    let status = response.status();
    let retry_after = retry_after(response.headers(), jiff::Timestamp::now());
    match status {
        StatusCode::TOO_MANY_REQUESTS => return Err(Fault::Endpoint(endpoint.limited(retry_after))),
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => {
            return Err(Fault::Endpoint(endpoint.limited(retry_after)));
        }
        StatusCode::PAYLOAD_TOO_LARGE => return Err(Fault::TooLarge("HTTP 413".to_owned())),
        status if status.is_success() => return Ok((status, read(endpoint, response, bytes_max).await?)),
        _ => {}
    }
    let body = read(endpoint, response, ERROR_BYTES_MAX).await.unwrap_or_default();
    // Some servers send the dialect's errors with an HTTP error; whoever is not let in is refused all the same.
    if speaks(&body) && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Ok((status, body));
    }
    let text = short(String::from_utf8_lossy(&body).trim());
    let error = endpoint.unreachable(format!("HTTP {status} {text}").trim_end());
    Err(if status.is_server_error() { Fault::Request(error) } else { Fault::Endpoint(error) })
}

async fn read(endpoint: &Endpoint, mut response: Response, bytes_max: u64) -> Result<Bytes, Fault> {
    let too_large = || Fault::TooLarge(format!("the answer is larger than {bytes_max} bytes (response_bytes_max)"));
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(usize::try_from(announced.min(RESERVE_BYTES_MAX)).unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(endpoint, e))? {
        if (body.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(body))
}

fn transport(endpoint: &Endpoint, error: reqwest::Error) -> Fault {
    let connected = !error.is_connect();
    let text = with_sources(&error.without_url());
    let error = endpoint.unreachable(&short(&endpoint.redact(&text)));
    if connected { Fault::Request(error) } else { Fault::Endpoint(error) }
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110, 10.2.3), cut to [`RETRY_AFTER_MAX`]; nonsense is `None`.
fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            u64::try_from(until.as_second().saturating_sub(now.as_second())).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now: jiff::Timestamp = "1994-11-06T08:49:00Z".parse().expect("a time");
        let cases = [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("86400", Some(300)),
            ("18446744073709551615", Some(300)),
            ("-3", None),
            ("soon", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
