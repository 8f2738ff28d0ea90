//! What a dialect must be able to ask of one endpoint. Who is asked, when, and what a failure means is the pool's.

use super::answers::Answers;
use super::endpoint::Endpoint;
use crate::messages::heights::Height;
use crate::sources::SourceError;

/// One question: to whom, and its limits.
pub struct Ask<'a> {
    /// Who is asked.
    pub endpoint: &'a Endpoint,
    /// The largest answer that is read.
    pub bytes_max: u64,
}

/// What a request for blocks brought.
pub enum Outcome {
    /// At least one height was settled.
    Progress,
    /// Nothing was; why.
    Stuck(String),
    /// There was no answer, perhaps because of one of the heights.
    Failed(SourceError),
}

/// How a source knows its newest final height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// It was not told to ask.
    Unasked,
    /// The endpoints are asked.
    Asked,
}

/// A way of speaking to endpoints. An error is about the endpoint, never about a height.
pub trait Dialect: Send + Sync + 'static {
    /// Asks for `asked` (ascending, no doubles, at least one); what is settled goes into `answers`.
    fn blocks(
        &self,
        ask: &Ask<'_>,
        asked: &[Height],
        answers: &mut Answers,
    ) -> impl Future<Output = Result<Outcome, SourceError>> + Send;
    /// Asks which chain it serves.
    fn chain(&self, ask: &Ask<'_>) -> impl Future<Output = Result<String, SourceError>> + Send;
    /// Asks for the newest height, at most [`HEIGHT_MAX`](crate::messages::heights::HEIGHT_MAX). Whoever answers this
    /// is well.
    fn head(&self, ask: &Ask<'_>) -> impl Future<Output = Result<Height, SourceError>> + Send;
    /// How the newest final height is known.
    fn finality(&self) -> Finality;
    /// Asks for the newest final height; none if the endpoint does not know. Only where that [is asked for](Finality).
    fn finalized(&self, ask: &Ask<'_>) -> impl Future<Output = Result<Option<Height>, SourceError>> + Send;
}
