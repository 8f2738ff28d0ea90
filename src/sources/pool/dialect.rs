//! What a dialect must be able to ask of one endpoint. Who is asked, when, and what a failure means is the pool's.

use reqwest::Url;

use super::answers::Answers;
use super::endpoint::Endpoint;
use super::text::short;
use crate::messages::heights::Height;
use crate::sources::{Absence, Fetched, SourceError};
use crate::telemetry::endpoints::RequestOutcome;

/// One question: to whom, and its limits.
pub struct Ask<'a> {
    /// Who is asked.
    pub endpoint: &'a Endpoint,
    /// The largest answer that is read.
    pub bytes_max: u64,
    /// The chain that the endpoint must serve, where the source is bound to one.
    pub expected: Option<String>,
    /// The highest head that any endpoint of the source has shown.
    pub head_seen: Option<Height>,
}

impl Ask<'_> {
    /// An error where `found` is not the chain that the endpoint must serve.
    pub fn check_chain(&self, found: &str) -> Result<(), SourceError> {
        match &self.expected {
            Some(expected) if expected != found => Err(SourceError::WrongChain {
                endpoint: self.endpoint.shown().to_owned(),
                expected: expected.clone(),
                found: short(found),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// What came of a request that says `fetched`.
    pub fn outcome(&self, fetched: &Fetched) -> RequestOutcome {
        match fetched {
            Fetched::Block(_) => RequestOutcome::Ok,
            Fetched::Absent(height, Absence::Unknown) => match self.head_seen {
                Some(seen) if *height <= seen => RequestOutcome::Lagging,
                Some(_) | None => RequestOutcome::NotYet,
            },
            Fetched::Absent(_, Absence::Pruned(_)) => RequestOutcome::Pruned,
            Fetched::Absent(_, Absence::Malformed(_)) => RequestOutcome::Malformed,
            Fetched::Absent(_, Absence::Unheard(_)) => RequestOutcome::Lagging,
        }
    }
}

/// What a request for blocks brought.
pub enum Outcome {
    /// At least one height was settled.
    Progress,
    /// Nothing was; why.
    Stuck(String),
    /// These heights (ascending, at least one) were not answered, perhaps because of one of them.
    Failed(SourceError, Vec<Height>),
}

/// How a source knows its newest final height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// It was not told to ask.
    Unasked,
    /// The endpoints are asked.
    Asked,
    /// A block is final as soon as it is there.
    Instant,
}

/// A way of speaking to endpoints. An error is about the endpoint, never about a height.
pub trait Dialect: Send + Sync + 'static {
    /// The address that requests go to, from the one in the configuration.
    fn root(url: Url) -> Url;
    /// Asks for `asked` (ascending, no doubles, at least one); what is settled goes into `answers`.
    fn blocks(
        &self,
        ask: &Ask<'_>,
        asked: &[Height],
        answers: &mut Answers,
    ) -> impl Future<Output = Result<Outcome, SourceError>> + Send;
    /// Asks which chain it serves; another one than the expected is an error.
    fn chain(&self, ask: &Ask<'_>) -> impl Future<Output = Result<String, SourceError>> + Send;
    /// Asks for the newest height, at most [`HEIGHT_MAX`](crate::messages::heights::HEIGHT_MAX). Whoever answers this
    /// is well.
    fn head(&self, ask: &Ask<'_>) -> impl Future<Output = Result<Height, SourceError>> + Send;
    /// How the newest final height is known.
    fn finality(&self) -> Finality;
    /// Asks for the newest final height; none if the endpoint does not know. Only where that [is asked for](Finality).
    fn finalized(&self, ask: &Ask<'_>) -> impl Future<Output = Result<Option<Height>, SourceError>> + Send;
}
