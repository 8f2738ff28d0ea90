//! A final block that contradicts held ones: who showed it, who is asked next, and when nobody is left to ask.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use super::catch::{Came, Catch};
use super::{FixPlan, GapFixer};
use crate::actors::turn::Error;
use crate::messages::heights::Height;
use crate::store::StoreError;
use crate::telemetry::blocks::AlarmLabels;

/// Places that are remembered at the most; the oldest go first.
const PLACES_MAX: usize = 256;

/// Two neighbours that do not link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub below: Height,
    pub above: Height,
    /// The hash of the one below.
    pub hash: String,
    /// The parent that the one above names.
    pub parent: String,
}

impl Mismatch {
    fn reason(&self) -> String {
        format!("{} names the parent {}, but {} is {}", self.above, self.parent, self.below, self.hash)
    }
}

/// Which endpoints contradicted what is held. Memory of this life only: a restart asks them again.
#[derive(Debug, Default)]
pub struct Suspects {
    places: Vec<(Mismatch, BTreeSet<String>)>,
    distrusted: Vec<(String, Instant)>,
}

/// What follows from an endpoint's contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Others may know better: leave it alone, and ask them.
    AskOthers,
    /// Every endpoint shows this.
    Everybody,
    /// Nobody is left who could be asked in its place: the height is tried again.
    TryAgain,
}

impl Suspects {
    /// Notes that an endpoint (empty: nobody knows which) showed a block that does not link. Answers what follows, and
    /// whether the place is new.
    fn note(&mut self, mismatch: &Mismatch, endpoint: &str, plan: &FixPlan, now: Instant) -> (Verdict, bool) {
        let known = self.places.iter().position(|(place, _)| place == mismatch);
        let place = known.unwrap_or_else(|| {
            if self.places.len() >= PLACES_MAX {
                self.places.remove(0);
            }
            self.places.push((mismatch.clone(), BTreeSet::new()));
            self.places.len() - 1
        });
        if endpoint.is_empty() {
            return (Verdict::TryAgain, known.is_none());
        }
        let showed = &mut self.places[place].1;
        showed.insert(endpoint.to_owned());
        let is_everybody = showed.len() >= plan.endpoints;
        self.distrusted.retain(|(_, at)| now.duration_since(*at) < plan.distrust_for);
        let is_distrusted = self.distrusted.iter().any(|(name, _)| name == endpoint);
        let verdict = if is_everybody {
            Verdict::Everybody
        } else if is_distrusted || self.distrusted.len() + 1 >= plan.endpoints {
            // Left alone already, and still it answered; or the last one that is asked at all.
            Verdict::TryAgain
        } else {
            self.distrusted.push((endpoint.to_owned(), now));
            Verdict::AskOthers
        };
        (verdict, known.is_none())
    }
}

impl GapFixer {
    /// Deals with a link that the commit refused: one side of it is held, the other one is in the catch.
    ///
    /// What is held below finality is never rewritten. A file that was adopted is asked for next time. An endpoint that
    /// contradicts what is held is left alone, and everything it sent in this turn is asked of the others; if all of
    /// them show the same, the height is parked with both hashes.
    pub(super) async fn contradicted(&self, mismatch: Mismatch, catch: &mut Catch) -> Result<(), Error> {
        let unit = self.unit.lease.unit();
        let reason = mismatch.reason();
        let (below, above) = (catch.at(mismatch.below), catch.at(mismatch.above));
        let caught = match (below, above) {
            (Some(caught), None) | (None, Some(caught)) => caught.clone(),
            (Some(_), Some(_)) => {
                // Both in hand: nothing tells which one is wrong.
                catch.disagree(mismatch.below, &reason);
                catch.disagree(mismatch.above, &reason);
                return Ok(());
            }
            (None, None) => return Err(refused(mismatch)),
        };
        let height = caught.id.height;
        let endpoint = match caught.came {
            Came::FromStore => {
                tracing::warn!(%unit, height, reason, "a file that stood in the store does not link; fetched next time");
                catch.disagree(height, &reason);
                return Ok(());
            }
            Came::From(endpoint) => endpoint,
        };
        let (verdict, is_new) = {
            // Nothing panics while it is locked; a poisoned value would still be whole.
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            suspects.note(&mismatch, &endpoint, &self.plan, Instant::now())
        };
        self.alarm(height, &endpoint, &reason, is_new);
        match verdict {
            Verdict::TryAgain => catch.disagree(height, &reason),
            Verdict::Everybody => catch.contradict(height, everybody(&reason, self.plan.endpoints)),
            Verdict::AskOthers => self.ask_others(&endpoint, &reason, catch).await,
        }
        Ok(())
    }

    /// Leaves an endpoint alone, and asks the others for all that it sent in this turn. What they cannot be asked for
    /// now is left over, and sent on.
    async fn ask_others(&self, endpoint: &str, reason: &str, catch: &mut Catch) {
        self.source.distrust(endpoint, reason);
        let heights = catch.take_from(endpoint);
        if let Err(error) = self.fetch(&heights, catch).await {
            tracing::debug!(unit = %self.unit.lease.unit(), %error, "the others cannot be asked now");
        }
        catch.drop_unlinked();
    }

    /// Says it once for each place, and counts it always.
    fn alarm(&self, height: Height, endpoint: &str, reason: &str, is_new: bool) {
        let unit = self.unit.lease.unit();
        let labels = AlarmLabels { pipeline: unit.pipeline.to_string(), actor: unit.actor.clone(), kind: "final_link" };
        self.unit.metrics.blocks.alarms.get_or_create(&labels).inc();
        if is_new {
            tracing::error!(%unit, height, endpoint, reason, "ALARM: a final block contradicts what is held");
        } else {
            tracing::debug!(%unit, height, endpoint, reason, "a final block contradicts what is held, again");
        }
    }
}

/// Why a height is parked that every endpoint contradicts; names both hashes.
fn everybody(reason: &str, endpoints: usize) -> String {
    let all = match endpoints {
        1 => "the only endpoint shows this".to_owned(),
        endpoints => format!("all {endpoints} endpoints show this"),
    };
    format!("links disagree: {reason}; {all}, and what is held is not rewritten")
}

fn refused(mismatch: Mismatch) -> Error {
    let Mismatch { below, above, hash, parent } = mismatch;
    StoreError::Link { below, above, hash, parent }.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mismatch(below: Height) -> Mismatch {
        Mismatch { below, above: below + 1, hash: "0xaa".to_owned(), parent: "0xbb".to_owned() }
    }

    const DISTRUST_FOR: Duration = Duration::from_secs(600);

    fn plan(endpoints: usize) -> FixPlan {
        FixPlan { endpoints, distrust_for: DISTRUST_FOR, ..FixPlan::default() }
    }

    #[test]
    fn the_only_endpoint_is_everybody() {
        let mut suspects = Suspects::default();
        assert_eq!(suspects.note(&mismatch(5), "one", &plan(1), Instant::now()), (Verdict::Everybody, true));
        assert_eq!(suspects.note(&mismatch(5), "one", &plan(1), Instant::now()), (Verdict::Everybody, false));
    }

    #[test]
    fn each_endpoint_is_left_alone_but_the_last_one() {
        let mut suspects = Suspects::default();
        let now = Instant::now();
        assert_eq!(suspects.note(&mismatch(5), "one", &plan(3), now), (Verdict::AskOthers, true));
        assert_eq!(suspects.note(&mismatch(5), "two", &plan(3), now), (Verdict::AskOthers, false));
        // The third shows another block at another place: it is all that is left.
        assert_eq!(suspects.note(&mismatch(9), "three", &plan(3), now), (Verdict::TryAgain, true));
        assert_eq!(suspects.note(&mismatch(5), "three", &plan(3), now), (Verdict::Everybody, false));
        let later = now + DISTRUST_FOR;
        assert_eq!(suspects.note(&mismatch(20), "three", &plan(3), later), (Verdict::AskOthers, true));
    }

    #[test]
    fn an_endpoint_that_answers_all_the_same_is_not_asked_in_circles() {
        let mut suspects = Suspects::default();
        let now = Instant::now();
        assert_eq!(suspects.note(&mismatch(5), "one", &plan(3), now).0, Verdict::AskOthers);
        assert_eq!(suspects.note(&mismatch(5), "one", &plan(3), now).0, Verdict::TryAgain);
    }

    #[test]
    fn the_memory_of_places_is_bounded() {
        let mut suspects = Suspects::default();
        for below in 0..2 * PLACES_MAX as Height {
            suspects.note(&mismatch(below), "one", &plan(2), Instant::now());
        }
        assert_eq!(suspects.places.len(), PLACES_MAX);
    }
}
