//! A range over all endpoints of a source: who is asked for what, and how a height that makes requests fail is found.

use std::sync::atomic::Ordering;

use tokio::time::{Instant, sleep, timeout_at};

use super::Pool;
use super::answers::Answers;
use super::dialect::{Dialect, Outcome};
use super::endpoint::Endpoint;
use crate::messages::heights::{Height, HeightRange};
use crate::sources::{Absence, Fetched, SourceError};

/// Of the heights among which one makes requests fail, the next request takes one part of so many.
///
/// A search in halves would meet the bad height up to ten times, and each meeting may take a whole `request_timeout`: in
/// eighths, a batch of 1,000 needs four (1,000, 125, 15, 1).
const SEARCH_PARTS: usize = 8;

/// A request that was not answered; perhaps the endpoint is ill, perhaps it fails on one of the heights.
struct Unanswered {
    error: SourceError,
    asked: Vec<Height>,
    /// Whether nothing else was asked for at the same time.
    alone: bool,
}

/// Why an endpoint was not heard on all open heights.
enum Halt {
    /// It failed.
    Endpoint(SourceError),
    /// It may have failed.
    Request(Unanswered),
}

impl From<SourceError> for Halt {
    fn from(error: SourceError) -> Self {
        Self::Endpoint(error)
    }
}

impl<D: Dialect> Pool<D> {
    /// Fetches a range. As long as rounds over the endpoints bring something, it waits for the next one to wake and goes on.
    ///
    /// What was brought until the deadline, or until nobody answers any more, is returned; the rest is
    /// [`Absence::Unheard`]. It is an error only if no endpoint said anything about any height.
    pub(super) async fn fetch(&self, range: HeightRange) -> Result<Vec<Fetched>, SourceError> {
        let deadline = Instant::now() + self.call_timeout;
        let mut answers = Answers::new(range, self.endpoints.len());
        let failure = loop {
            let before = answers.known();
            let Ok(failure) = timeout_at(deadline, self.round(&mut answers)).await else {
                break Some(self.out_of_time());
            };
            if answers.complete() {
                break failure;
            }
            let (left, resting) = self.all_rest();
            // A pause that would outlast the call is not waited for: its reason says more than the end of the time.
            // Without any pause, a limit of the rate below the size of a range would never let a call succeed.
            if answers.known() == before || Instant::now() + left >= deadline {
                break Some(failure.unwrap_or(resting));
            }
            sleep(left).await;
        };
        if let Some(highest) = answers.highest_block() {
            self.highest.fetch_max(highest.saturating_add(1), Ordering::Relaxed);
        }
        match failure {
            Some(error) if answers.known() == 0 => Err(error),
            Some(error) => Ok(answers.finish(&error.to_string())),
            None => Ok(answers.finish(&self.silence())),
        }
    }

    /// Why an endpoint was not asked at all.
    fn silence(&self) -> String {
        match self.endpoints.iter().find_map(Endpoint::resting) {
            Some((_, error)) => error.to_string(),
            None => "one of them was resting until just now".to_owned(),
        }
    }

    /// Asks each healthy endpoint for what is missing; the last failure, if there was one.
    ///
    /// An endpoint whose request failed is searched for the height that is to blame only after the others were heard:
    /// what they have need not be searched for, and a dead endpoint must not use the call up.
    async fn round(&self, answers: &mut Answers) -> Option<SourceError> {
        let (mut failure, mut doubted) = (None, Vec::new());
        for (place, endpoint) in self.healthy() {
            if answers.all_blocks() {
                break;
            }
            answers.turn_to(place);
            match self.fill(endpoint, answers).await {
                Ok(()) => {
                    endpoint.answered();
                    if answers.lacks_up_to(self.head_seen()) {
                        // It lags behind or has pruned: another one is the better first choice.
                        self.prefer_another(place);
                    }
                }
                Err(Halt::Endpoint(error)) => {
                    self.failed(place, &error);
                    failure = Some(error);
                }
                Err(Halt::Request(unanswered)) => {
                    self.prefer_another(place);
                    doubted.push((place, unanswered));
                }
            }
        }
        for (place, unanswered) in doubted {
            let endpoint = &self.endpoints[place];
            answers.turn_to(place);
            let searched = match answers.all_blocks() {
                true => Err(unanswered.error),
                false => self.search(endpoint, answers, unanswered).await,
            };
            match searched {
                Ok(()) => endpoint.answered(),
                Err(error) => {
                    self.failed(place, &error);
                    failure = Some(error);
                }
            }
        }
        failure
    }

    /// Hears one endpoint on all open heights, up to the first request that is not answered.
    async fn fill(&self, endpoint: &Endpoint, answers: &mut Answers) -> Result<(), Halt> {
        self.check_chain(endpoint).await?;
        self.hear(endpoint, answers).await
    }

    /// Goes on after an unanswered request: its heights are asked for in ever smaller requests. One that fails alone,
    /// while the endpoint answers otherwise, is [`Absence::Malformed`]; the others go on. An endpoint that does not
    /// answer otherwise is an error.
    async fn search(
        &self,
        endpoint: &Endpoint,
        answers: &mut Answers,
        mut unanswered: Unanswered,
    ) -> Result<(), SourceError> {
        // Each failure leaves an eighth of its heights to the next one, and settles the height if it is alone.
        loop {
            self.check_again(endpoint).await?;
            if let ([height], true) = (&unanswered.asked[..], unanswered.alone) {
                let reason = format!("the endpoint answers others but fails on this height: {}", unanswered.error);
                answers.take(Fetched::Absent(*height, Absence::Malformed(reason)));
            }
            match self.hear(endpoint, answers).await {
                Ok(()) => return Ok(()),
                Err(Halt::Endpoint(error)) => return Err(error),
                Err(Halt::Request(next)) => unanswered = next,
            }
        }
    }

    /// Each request settles a height, or is followed by a smaller one, or ends this.
    async fn hear(&self, endpoint: &Endpoint, answers: &mut Answers) -> Result<(), Halt> {
        let mut limit = u32::MAX;
        loop {
            let part = endpoint.doubted().map_or(u32::MAX, |doubted| part(answers, doubted));
            let asked = answers.next(endpoint.batch().min(limit).min(part));
            if asked.is_empty() {
                return Ok(());
            }
            answers.ask(&asked);
            limit = match self.dialect.blocks(&self.ask(endpoint), &asked, answers).await? {
                Outcome::Progress => u32::MAX,
                Outcome::Stuck(reason) => self.stuck(endpoint, &asked, &reason, answers).await?,
                Outcome::Failed(error, unanswered) => {
                    endpoint.doubt(&unanswered);
                    let alone = asked.len() == 1;
                    return Err(Halt::Request(Unanswered { error, asked: unanswered, alone }));
                }
            };
        }
    }

    /// Whether an endpoint is well after a failed request, and still serves the chain: another machine may answer now.
    async fn check_again(&self, endpoint: &Endpoint) -> Result<(), SourceError> {
        endpoint.forget_chain();
        self.check_chain(endpoint).await?;
        self.dialect.head(&self.ask(endpoint)).await.map(drop)
    }

    /// What follows from a request that settled nothing: the limit of the next one, or the end of a height.
    async fn stuck(
        &self,
        endpoint: &Endpoint,
        asked: &[Height],
        reason: &str,
        answers: &mut Answers,
    ) -> Result<u32, SourceError> {
        let &[height] = asked else { return Ok(u32::try_from(asked.len() / 2).unwrap_or(u32::MAX)) };
        // Alone, and still trouble. If the endpoint is well otherwise, it is this height that is not.
        self.dialect.head(&self.ask(endpoint)).await?;
        answers.take(Fetched::Absent(height, Absence::Malformed(endpoint.redact(reason))));
        Ok(u32::MAX)
    }
}

/// How many heights to ask for at most, where a request for `doubted` failed: those below it, or a part of it.
fn part(answers: &Answers, doubted: HeightRange) -> u32 {
    let below = doubted.lo().checked_sub(1).map_or(0, |last| answers.open_up_to(last));
    let count = match (below, answers.open_up_to(doubted.hi())) {
        (0, 0) => return u32::MAX,
        (0, within) => (within / SEARCH_PARTS).max(1),
        (below, _) => below,
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}
