//! How hard an endpoint is asked: its rest after failures, and the size of its batches. Pure; the clock is an argument.

use std::time::{Duration, Instant};

use crate::sources::SourceError;

/// The longest `Retry-After` that is obeyed; a longer one is cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How long an endpoint of another chain is left alone before it is asked again.
const WRONG_CHAIN_REST: Duration = Duration::from_secs(60);
/// Failures in a row, each perhaps an accident, that are taken for a refusal of the size.
const SUSPECTS_MAX: u32 = 2;
/// Full batches in a row before the size grows by an eighth.
const GROW_AFTER: u32 = 8;
/// Full batches in a row before a size that was refused is tried again.
const RETRY_REFUSED_AFTER: u32 = 256;

/// How long an endpoint is left alone.
#[derive(Debug, Clone, Copy)]
pub struct Rests {
    /// After its first failure; doubled by each further one.
    pub min: Duration,
    /// At most, after failures.
    pub max: Duration,
    /// After it contradicted final blocks.
    pub quarantine: Duration,
}

/// Whether an endpoint may be asked.
#[derive(Debug, Default)]
pub struct Health {
    failures: u32,
    rest: Option<(Instant, SourceError)>,
}

impl Health {
    /// Notes a failure: the rest doubles between its bounds, less up to half of it at random (`jitter`, 0 to 1).
    ///
    /// True if the endpoint was well until now. While it rests nothing is added: calls that failed at the same time
    /// are one failure. Only distrust is another matter than whatever it rests for, and lasts at least its own time.
    pub fn failed(&mut self, error: &SourceError, now: Instant, rests: &Rests, jitter: f64) -> bool {
        let left = self.resting(now).map(|(left, _)| left);
        let distrusted = matches!(error, SourceError::Distrusted { .. });
        if left.is_some_and(|left| !distrusted || left >= rests.quarantine) {
            return false;
        }
        let doubled = rests.min.saturating_mul(1 << self.failures.min(20)).min(rests.max);
        let rest = match error {
            SourceError::RateLimited { retry_after: Some(pause), .. } => (*pause).min(RETRY_AFTER_MAX).max(rests.min),
            SourceError::WrongChain { .. } => WRONG_CHAIN_REST,
            SourceError::Distrusted { .. } => rests.quarantine,
            SourceError::RateLimited { retry_after: None, .. }
            | SourceError::Unreachable { .. }
            | SourceError::Malformed { .. } => doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0),
        };
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now + rest, error.clone()));
        self.failures == 1 || distrusted
    }

    /// Notes an answer; true if the endpoint was ill until now. An answer that was under way when the endpoint failed does not wake it.
    pub fn answered(&mut self, now: Instant) -> bool {
        if self.failures == 0 || self.resting(now).is_some() {
            return false;
        }
        *self = Self::default();
        true
    }

    /// How long it still rests, and why; `None` if it may be asked.
    pub fn resting(&self, now: Instant) -> Option<(Duration, &SourceError)> {
        let (until, error) = self.rest.as_ref()?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some((left, error))
    }
}

/// How many heights go into one request.
#[derive(Debug)]
pub struct Batch {
    size: u32,
    largest: u32,
    /// The smallest size that was refused; not reached again before the endpoint has proved itself for long.
    refused: u32,
    streak: u32,
    /// Batches in a row that failed in a way that need not have been their size.
    suspects: u32,
}

impl Batch {
    /// Starts at the largest size.
    pub fn new(largest: u32) -> Self {
        Self { size: largest, largest, refused: largest + 1, streak: 0, suspects: 0 }
    }

    /// How many heights to ask for; at least 1.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// `asked` heights were too many: half of them next time.
    pub fn halve(&mut self, asked: u32) {
        if asked > 1 {
            self.refused = asked;
            self.size = self.size.min(asked / 2);
        }
        (self.streak, self.suspects) = (0, 0);
    }

    /// A request for `asked` heights failed, perhaps because of its size. Once may be an accident, twice in a row is halved.
    pub fn suspect(&mut self, asked: u32) {
        self.suspects += 1;
        if self.suspects >= SUSPECTS_MAX {
            self.halve(asked);
        }
    }

    /// `asked` heights were answered.
    pub fn answered(&mut self, asked: u32) {
        if asked < self.size {
            return;
        }
        (self.streak, self.suspects) = (self.streak.saturating_add(1), 0);
        let grown = (self.size + (self.size / 8).max(1)).min(self.largest);
        if self.streak >= RETRY_REFUSED_AFTER {
            self.refused = self.largest + 1;
        }
        if self.streak >= GROW_AFTER && grown > self.size && grown < self.refused {
            (self.size, self.streak) = (grown, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(200);
    const RESTS: Rests = Rests { min: SHORTEST, max: Duration::from_secs(5), quarantine: Duration::from_secs(600) };

    fn unreachable() -> SourceError {
        SourceError::Unreachable { endpoint: "http://a".into(), reason: "gone".into() }
    }

    #[test]
    fn the_rest_doubles_to_its_bound_and_an_answer_ends_it() {
        let (mut health, mut now, mut rests) = (Health::default(), Instant::now(), Vec::new());
        for _ in 0..40 {
            health.failed(&unreachable(), now, &RESTS, 0.0);
            let (left, _) = health.resting(now).expect("rests");
            rests.push(left.as_millis());
            now += left;
        }
        assert_eq!(rests[..6], [200, 400, 800, 1600, 3200, 5000]);
        assert!(rests[6..].iter().all(|r| *r == 5000));
        assert!(health.answered(now));
        assert!(health.failed(&unreachable(), now, &RESTS, 1.0), "ill again: worth a line in the log");
        assert_eq!(health.resting(now).expect("rests").0, Duration::from_millis(100), "half of it is jitter");
    }

    #[test]
    fn calls_that_fail_together_are_one_failure_and_a_late_answer_wakes_nobody() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(health.failed(&unreachable(), now, &RESTS, 0.0));
        assert!(!health.failed(&unreachable(), now, &RESTS, 0.0));
        assert!(!health.answered(now));
        assert_eq!(health.resting(now).expect("rests").0, SHORTEST);
    }

    #[test]
    fn a_named_pause_is_obeyed_within_reason() {
        for (named, rest) in [(2, 2), (86_400, 300)] {
            let (mut health, now) = (Health::default(), Instant::now());
            let retry_after = Some(Duration::from_secs(named));
            let limited = SourceError::RateLimited { endpoint: "http://a".into(), retry_after };
            health.failed(&limited, now, &RESTS, 1.0);
            assert_eq!(health.resting(now).expect("rests").0, Duration::from_secs(rest));
        }
    }

    #[test]
    fn distrust_outlasts_whatever_the_endpoint_rests_for() {
        let distrusted = SourceError::Distrusted { endpoint: "http://a".into(), reason: "another block".into() };
        let (mut health, now) = (Health::default(), Instant::now());
        health.failed(&unreachable(), now, &RESTS, 0.0);
        assert!(health.failed(&distrusted, now, &RESTS, 0.0), "worth a line in the log");
        assert_eq!(health.resting(now).expect("rests"), (RESTS.quarantine, &distrusted));
        assert!(!health.failed(&unreachable(), now, &RESTS, 0.0), "and nothing shortens it");
        assert!(!health.failed(&distrusted, now, &RESTS, 0.0), "nor is it said twice");
        assert_eq!(health.resting(now).expect("rests").0, RESTS.quarantine);
        assert!(health.resting(now + RESTS.quarantine).is_none());
    }

    /// Answers like an endpoint that takes at most `cap` heights.
    fn ask(batch: &mut Batch, cap: u32) -> bool {
        let asked = batch.size();
        if asked > cap {
            batch.halve(asked)
        } else {
            batch.answered(asked)
        }
        asked > cap
    }

    #[test]
    fn the_batch_settles_below_what_is_refused_and_grows_back_when_it_may() {
        let mut batch = Batch::new(100);
        let first = (0..200).filter(|_| ask(&mut batch, 10)).count();
        assert_eq!(batch.size(), 10);
        assert!(first <= 5, "{first} refusals to find the limit");
        let later = (0..10_000).filter(|_| ask(&mut batch, 10)).count();
        assert!(later < 100, "{later} refusals of 10,000 requests at a fixed limit");
        for _ in 0..2_000 {
            ask(&mut batch, 100);
        }
        assert_eq!(batch.size(), 100);
    }

    #[test]
    fn a_single_accident_changes_nothing() {
        let mut batch = Batch::new(100);
        for _ in 0..20 {
            batch.suspect(100);
            batch.answered(50);
            batch.answered(100);
        }
        assert_eq!(batch.size(), 100);
        batch.suspect(100);
        batch.suspect(50);
        assert_eq!(batch.size(), 25);
    }

    #[test]
    fn the_batch_never_falls_below_one() {
        let mut batch = Batch::new(3);
        for _ in 0..10 {
            batch.halve(batch.size());
        }
        assert_eq!(batch.size(), 1);
    }
}
