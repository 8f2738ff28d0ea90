//! The newest height: which endpoint's word counts, and what is not believed.
//!
//! A head that one endpoint invents would make everything up to it wanted. So a head that jumps farther than
//! `head_jump_max` above the highest one seen needs a witness: a second endpoint that is as high, or, where no other
//! one answers, its own block at that height.

use super::Pool;
use super::answers::Answers;
use super::dialect::{Dialect, Outcome};
use super::endpoint::Endpoint;
use crate::messages::heights::{Height, HeightRange};
use crate::sources::SourceError;

/// What the endpoints said in one call.
#[derive(Default)]
struct Heads {
    /// The highest plausible one.
    best: Option<Height>,
    /// The first two that need a witness, each with the place of its endpoint.
    claims: Vec<(usize, Height)>,
    failure: Option<SourceError>,
}

impl<D: Dialect> Pool<D> {
    /// Asks the endpoints in turn for their newest height, until one is not below what was seen before.
    pub(super) async fn ask_head(&self) -> Result<Height, SourceError> {
        let mut heads = Heads::default();
        for (place, endpoint) in self.healthy() {
            match self.head_of(endpoint).await {
                Ok(head) if self.plausible(head) => {
                    endpoint.answered();
                    heads.best = heads.best.max(Some(head));
                    if Some(head) < self.head_seen() {
                        // It lags behind: its word counts only if no other is higher.
                        self.prefer_another(place);
                    } else if heads.claims.is_empty() {
                        break;
                    }
                }
                Ok(head) => heads.claims.push((place, head)),
                Err(error) => {
                    self.failed(place, &error);
                    heads.failure = Some(error);
                }
            }
            if heads.claims.len() == 2 {
                break;
            }
        }
        let head = self.judge(heads).await?;
        self.believe(head);
        Ok(head)
    }

    async fn head_of(&self, endpoint: &Endpoint) -> Result<Height, SourceError> {
        self.check_chain(endpoint).await?;
        self.dialect.head(&self.ask(endpoint)).await
    }

    /// Whether a head, or a final height, needs no witness.
    pub(super) fn plausible(&self, head: Height) -> bool {
        self.head_believed().is_none_or(|believed| head <= believed.saturating_add(self.head_jump_max))
    }

    /// The head that counts.
    async fn judge(&self, heads: Heads) -> Result<Height, SourceError> {
        match (&heads.claims[..], heads.best) {
            (&[(one, first), (other, second)], _) => {
                // What both have is there. What one of them has beyond that is its word alone.
                let agreed = first.min(second);
                for (place, head) in [(one, first), (other, second)] {
                    match head <= agreed.saturating_add(self.head_jump_max) {
                        true => self.endpoints[place].answered(),
                        false => drop(self.disbelieve(place, head, "no other endpoint is as high")),
                    }
                }
                Ok(agreed)
            }
            (&[(place, head)], Some(best)) => {
                self.disbelieve(place, head, "no other endpoint is as high");
                Ok(best)
            }
            (&[(place, head)], None) => match self.shows(&self.endpoints[place], head).await {
                Ok(true) => {
                    self.endpoints[place].answered();
                    Ok(head)
                }
                Ok(false) => Err(self.disbelieve(place, head, "it has no block at that height")),
                Err(error) => {
                    self.failed(place, &error);
                    Err(error)
                }
            },
            (_, Some(best)) => Ok(best),
            (_, None) => Err(heads.failure.unwrap_or_else(|| self.all_rest().1)),
        }
    }

    /// Rests an endpoint for its head.
    fn disbelieve(&self, place: usize, head: Height, why: &str) -> SourceError {
        let seen = self.head_believed().unwrap_or_default();
        let limit = self.head_jump_max;
        let reason = format!("its head {head} is more than {limit} (head_jump_max) above {seen}, and {why}");
        let error = self.endpoints[place].malformed(&reason);
        self.failed(place, &error);
        error
    }

    /// Whether an endpoint has a block at its head.
    async fn shows(&self, endpoint: &Endpoint, head: Height) -> Result<bool, SourceError> {
        let mut answers = Answers::new(HeightRange::one(head), 1);
        answers.turn_to(0);
        match self.dialect.blocks(&self.ask(endpoint), &[head], &mut answers).await? {
            Outcome::Progress => Ok(answers.all_blocks()),
            Outcome::Stuck(_) => Ok(false),
            Outcome::Failed(error, _) => Err(error),
        }
    }
}
