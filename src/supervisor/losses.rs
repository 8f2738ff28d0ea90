//! Commits that a failover took back, told with their range by whoever had made them.
//!
//! Where the holder lives on and acquires again, the sequence number that it finds tells. An outage longer than a
//! lease often gives the unit to another node, which cannot know what there was before: then the former holder looks
//! into the history, where each acquisition stands with the number that it found.

use crate::ids::{Token, UnitId};
use crate::store::Store;
use crate::store::checkpoint::Sample;
use crate::store::link::Link;
use crate::telemetry::metrics::{ActorLabels, Metrics};

/// What a node knew of a unit when it lost it.
#[derive(Debug, Clone)]
pub struct Former {
    /// The unit.
    pub unit: UnitId,
    /// The last acquisition's fencing token.
    pub token: Token,
    /// Commits that were answered.
    pub seq: u64,
}

impl Former {
    /// Tells of the loss if the first heir found fewer commits than were answered. Reads the history once; what Redis
    /// does not answer is not told.
    pub async fn look(self, store: Store, link: Link, metrics: std::sync::Arc<Metrics>) {
        match store.history(&link, &self.unit).await {
            Ok(samples) => {
                if let Some(found) = self.found_by_heir(&samples) {
                    tell(&self.unit, found, self.seq, &metrics);
                }
            }
            Err(error) => tracing::debug!(unit = %self.unit, %error, "cannot look for lost commits"),
        }
    }

    /// What the first acquisition after ours found, if that is fewer commits than ours; `samples` are newest first.
    fn found_by_heir(&self, samples: &[Sample]) -> Option<u64> {
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let heir = samples.iter().rfind(|s| s.why == "acquire" && number(&s.token) > self.token.0)?;
        Some(number(&heir.seq)).filter(|found| *found < self.seq)
    }
}

/// One line, and the count of the commits.
pub fn tell(unit: &UnitId, found: u64, known: u64, metrics: &Metrics) {
    let (from, to) = (found + 1, known);
    tracing::warn!(%unit, from, to, "redis lost commits {from}..{to}; they are decided again");
    let labels = ActorLabels { pipeline: unit.pipeline.to_string(), actor: unit.actor.clone() };
    metrics.rollbacks.get_or_create(&labels).inc_by(to - found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Kind, PipelineId};

    fn sample(why: &str, token: u64, seq: u64) -> Sample {
        let text = String::new;
        let (token, seq) = (token.to_string(), seq.to_string());
        Sample { why: why.to_owned(), seq, token, node: text(), time_ms: text(), offset: text(), state: text() }
    }

    #[test]
    fn only_the_first_heir_says_what_was_lost() {
        let unit = UnitId::exclusive(&PipelineId::new(Kind::Selftest, "x"), "tally_0");
        let former = |seq| Former { unit: unit.clone(), token: Token(50), seq };
        // The heir found 7 commits; another one later found 30, and its own sample 20.
        let samples =
            [sample("acquire", 70, 30), sample("sample", 60, 20), sample("acquire", 60, 7), sample("acquire", 50, 3)];
        assert_eq!(former(12).found_by_heir(&samples), Some(7));
        assert_eq!(former(7).found_by_heir(&samples), None, "nothing was lost");
        assert_eq!(former(12).found_by_heir(&samples[3..]), None, "nobody came yet");
    }
}
