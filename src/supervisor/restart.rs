//! When a unit may start again, and for how long it is left alone. Pure: time is given, nothing is read.
//!
//! The first rungs of the ladder: restart after a pause, then a cool-down on this node; [`group`](super::group) and
//! [`ladder`](super::ladder) hold the next ones.

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
    /// `group_restarts_max`: failures of all units of one pipeline within the window before all of it is given up.
    pub group_restarts_max: u32,
    /// `failed_cooldown_seconds`: until what was given up is tried again.
    pub cooldown: Duration,
    /// `failed_cooldown_max_seconds`: the longest cool-down; each one in a row doubles the one before.
    pub cooldown_max: Duration,
}

impl Default for RestartOptions {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            healthy: Duration::from_secs(60),
            restarts_max: 5,
            window: Duration::from_secs(60),
            group_restarts_max: 20,
            cooldown: Duration::from_secs(60),
            cooldown_max: Duration::from_secs(600),
        }
    }
}

/// Cool-downs in a row: each doubles the one before, up to `failed_cooldown_max_seconds`.
#[derive(Debug, Default)]
pub struct Cooldowns {
    in_a_row: u32,
    until: Option<Instant>,
}

impl Cooldowns {
    /// Begins one at `now` and answers its length.
    pub fn begin(&mut self, options: &RestartOptions, now: Instant) -> Duration {
        // What kept well for so long after the last one (or ran elsewhere meanwhile) begins anew.
        let memory = options.healthy + options.window;
        if self.until.is_some_and(|until| now.saturating_duration_since(until) >= memory) {
            self.in_a_row = 0;
        }
        let longest = options.cooldown_max.max(options.cooldown);
        let pause = options.cooldown.saturating_mul(1 << self.in_a_row.min(20)).min(longest);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.until = Some(now + pause);
        pause
    }

    /// Forgets the ones before.
    pub fn forget(&mut self) {
        *self = Self::default();
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
    cooldowns: Cooldowns,
}

impl Restarts {
    /// A life of this length has ended, well or not: a healthy one forgets the failures before it.
    pub fn ran(&mut self, options: &RestartOptions, ran: Duration) {
        if ran >= options.healthy {
            self.in_a_row = 0;
            self.recent.clear();
            self.cooldowns.forget();
        }
    }

    /// A unit is given up at `now` for an error that restarts do not cure: how long it is left alone.
    pub fn given_up(&mut self, options: &RestartOptions, now: Instant) -> Duration {
        self.recent.clear();
        self.in_a_row = 0;
        self.cooldowns.begin(options, now)
    }

    /// A unit has failed at `now`, after running for `ran`. `jitter` is in 0.5..=1.
    pub fn failed(&mut self, options: &RestartOptions, now: Instant, ran: Duration, jitter: f64) -> Verdict {
        self.ran(options, ran);
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > options.window) {
            self.recent.pop_front();
        }
        if self.recent.len() > options.restarts_max as usize {
            return Verdict::GiveUp(self.given_up(options, now));
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

    #[test]
    fn cool_downs_in_a_row_double_up_to_the_longest() {
        let (options, mut restarts, mut now) = (RestartOptions::default(), Restarts::default(), Instant::now());
        let mut seconds = Vec::new();
        for _ in 0..6 {
            let pause = restarts.given_up(&options, now);
            seconds.push(pause.as_secs());
            // Tried again after it, and given up again within the window.
            now += pause + options.window;
        }
        assert_eq!(seconds, [60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn a_healthy_run_or_a_long_peace_begins_cool_downs_anew() {
        let (options, mut restarts, mut now) = (RestartOptions::default(), Restarts::default(), Instant::now());
        let mut again = |restarts: &mut Restarts, peace: Duration| {
            let pause = restarts.given_up(&options, now);
            now += pause + peace;
            pause.as_secs()
        };
        assert_eq!(again(&mut restarts, options.window), 60);
        assert_eq!(again(&mut restarts, options.healthy + options.window), 120);
        assert_eq!(again(&mut restarts, options.window), 60, "nothing was wrong for two minutes");
        restarts.ran(&options, options.healthy);
        assert_eq!(again(&mut restarts, options.window), 60, "it ran well");
        restarts.ran(&options, options.healthy / 2);
        assert_eq!(again(&mut restarts, options.window), 120, "half a minute is not well enough");
    }

    #[test]
    fn a_longest_cool_down_below_the_first_one_shortens_nothing() {
        let options = RestartOptions { cooldown_max: Duration::from_secs(1), ..RestartOptions::default() };
        assert_eq!(Cooldowns::default().begin(&options, Instant::now()), options.cooldown);
    }
}
