//! How long a socket may be silent, and how long to wait before the next one. Pure; the clock is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Times between two pushes that are kept: the median is of these.
const SEEN_MAX: usize = 32;
/// So many of them say how fast the chain is.
const SEEN_ENOUGH: usize = 8;
/// So many block times without a block are no accident.
const BLOCK_TIMES: u32 = 8;
/// A chain of many blocks a second may pause for this long all the same.
const SILENCE_MIN: Duration = Duration::from_secs(5);

/// How long silence may last, as the blocks so far say. It outlives sockets.
#[derive(Debug)]
pub(super) struct Silence {
    longest: Duration,
    between: VecDeque<Duration>,
    last: Option<Instant>,
}

impl Silence {
    /// Never longer than `longest`.
    pub fn new(longest: Duration) -> Self {
        Self { longest, between: VecDeque::new(), last: None }
    }

    /// A new socket: the time since the last push says nothing of the chain.
    pub fn begin(&mut self) {
        self.last = None;
    }

    /// A block was pushed.
    pub fn push(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.between.push_back(now.saturating_duration_since(last));
            if self.between.len() > SEEN_MAX {
                self.between.pop_front();
            }
        }
    }

    /// The silence after which a socket is taken for dead.
    pub fn limit(&self) -> Duration {
        if self.between.len() < SEEN_ENOUGH {
            return self.longest;
        }
        let mut sorted: Vec<Duration> = self.between.iter().copied().collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2].saturating_mul(BLOCK_TIMES).max(SILENCE_MIN).min(self.longest)
    }
}

/// The pause before the next try: doubled after each failure, with jitter.
#[derive(Debug)]
pub(super) struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Between `shortest` and `longest`.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, failures: 0 }
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The next pause: half of it at least, the rest by `jitter` (0 to 1).
    pub fn next(&mut self, jitter: f64) -> Duration {
        let pause = self.shortest.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: &[u64]) -> Duration {
        let mut silence = Silence::new(Duration::from_secs(60));
        let mut now = Instant::now();
        silence.push(now);
        for millis in times {
            now += Duration::from_millis(*millis);
            silence.push(now);
        }
        silence.limit()
    }

    #[test]
    fn a_fast_chain_is_missed_earlier_and_never_within_five_seconds() {
        // Too few to tell.
        assert_eq!(after(&[2000; 7]), Duration::from_secs(60));
        assert_eq!(after(&[2000; 8]), Duration::from_secs(16));
        // One long pause, and blocks of a reorganisation at once, move a median little.
        assert_eq!(after(&[2000, 2000, 2000, 2000, 2000, 2000, 2000, 40_000, 0, 0]), Duration::from_secs(16));
        assert_eq!(after(&[100; 20]), Duration::from_secs(5));
        // A slow chain is not waited for longer than was said.
        assert_eq!(after(&[12_000; 20]), Duration::from_secs(60));
        // The newest count.
        let mut times = vec![12_000; 40];
        times.extend([1000; 32]);
        assert_eq!(after(&times), Duration::from_secs(8));
    }

    #[test]
    fn the_time_between_two_sockets_is_no_block_time() {
        let (mut silence, mut now) = (Silence::new(Duration::from_secs(60)), Instant::now());
        for _ in 0..20 {
            silence.begin();
            silence.push(now);
            now += Duration::from_secs(1);
        }
        assert_eq!(silence.limit(), Duration::from_secs(60));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let (shortest, longest) = (Duration::from_millis(200), Duration::from_secs(1));
        let mut backoff = Backoff::new(shortest, longest);
        let pauses: Vec<u128> = (0..5).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.next(1.0), longest / 2);
        backoff.reset();
        assert_eq!(backoff.next(0.0), shortest);
    }
}
