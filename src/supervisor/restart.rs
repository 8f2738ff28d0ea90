//! When a unit may start again. Pure: time is given, nothing is read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The bounds of restarting, from `[supervisor]`.
#[derive(Debug, Clone)]
pub struct RestartOptions {
    /// `backoff_min_ms`: the pause after the first failure.
    pub backoff_min: Duration,
    /// `backoff_max_ms`: the longest pause.
    pub backoff_max: Duration,
    /// `healthy_seconds`: a run of this length forgets the failures before it.
    pub healthy: Duration,
    /// `restarts_max`: failures within the window before the unit is given up.
    pub restarts_max: u32,
    /// `restart_window_seconds`.
    pub window: Duration,
    /// `failed_cooldown_seconds`: until a unit that was given up is tried again.
    pub cooldown: Duration,
}

impl Default for RestartOptions {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            healthy: Duration::from_secs(60),
            restarts_max: 5,
            window: Duration::from_secs(60),
            cooldown: Duration::from_secs(60),
        }
    }
}

/// What to do with a unit that has just failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after the pause.
    After(Duration),
    /// Give it up: report it as failed, release it for other nodes, try again after the cool-down.
    GiveUp(Duration),
}

/// The recent failures of one unit; at most `restarts_max + 1` are kept.
#[derive(Debug, Default)]
pub struct Restarts {
    recent: VecDeque<Instant>,
    in_a_row: u32,
}

impl Restarts {
    /// A unit has failed at `now`, after running for `ran`. `jitter` is in 0.5..=1.
    pub fn failed(&mut self, options: &RestartOptions, now: Instant, ran: Duration, jitter: f64) -> Verdict {
        if ran >= options.healthy {
            self.in_a_row = 0;
            self.recent.clear();
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > options.window) {
            self.recent.pop_front();
        }
        if self.recent.len() > options.restarts_max as usize {
            self.recent.clear();
            self.in_a_row = 0;
            return Verdict::GiveUp(options.cooldown);
        }
        let pause = options.backoff_min.saturating_mul(1 << self.in_a_row.min(20)).min(options.backoff_max);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Verdict::After(pause.mul_f64(jitter.clamp(0.5, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(ran: Duration, apart: Duration, count: usize) -> Vec<Verdict> {
        let (options, mut restarts, mut now) = (RestartOptions::default(), Restarts::default(), Instant::now());
        let mut verdicts = Vec::new();
        for _ in 0..count {
            verdicts.push(restarts.failed(&options, now, ran, 1.0));
            now += apart;
        }
        verdicts
    }

    #[test]
    fn pauses_double_until_the_unit_is_given_up() {
        let ms = |n| Verdict::After(Duration::from_millis(n));
        let expected =
            [ms(100), ms(200), ms(400), ms(800), ms(1600), Verdict::GiveUp(Duration::from_secs(60)), ms(100)];
        assert_eq!(pauses(Duration::ZERO, Duration::from_secs(1), 7), expected);
    }

    #[test]
    fn failures_far_apart_are_never_given_up_but_pause_longer() {
        let verdicts = pauses(Duration::ZERO, Duration::from_secs(61), 12);
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::After(_))), "{verdicts:?}");
        assert_eq!(verdicts[11], Verdict::After(Duration::from_secs(30)), "the longest pause");
    }

    #[test]
    fn a_healthy_run_forgets() {
        let verdicts = pauses(Duration::from_secs(60), Duration::from_secs(1), 20);
        assert!(verdicts.iter().all(|v| *v == Verdict::After(Duration::from_millis(100))), "{verdicts:?}");
    }
}
