//! When a whole pipeline is given up on this node: its units restart too often together. Pure: time is given.
//!
//! One unit that storms is given up alone. Several that restart now and then, each below its own bound, are a sign that
//! the pipeline does not work *here* (a disk, a network, a folder): it is better off on another node as a whole.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::restart::{Cooldowns, RestartOptions};

/// The recent failures of all units of one pipeline on this node; at most `group_restarts_max + 1` are kept.
#[derive(Debug, Default)]
pub struct Group {
    recent: VecDeque<Instant>,
    cooldowns: Cooldowns,
    given_up: Option<GivenUp>,
    trouble_until: Option<Instant>,
}

/// A pipeline that was given up here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Tried again at this time.
    pub until: Instant,
    /// How long that is from the moment of giving up.
    pub cooldown: Duration,
    /// Restarts within the window that led to it.
    pub restarts: usize,
    /// The unit that failed last, and why.
    pub last: String,
}

impl Group {
    /// A unit of the pipeline has failed at `now` and is to start again. Answers what follows if it was once too often.
    pub fn failed(&mut self, options: &RestartOptions, now: Instant, last: &str) -> Option<GivenUp> {
        self.trouble(now);
        // Failures of units that are being stopped because the pipeline was given up count no more.
        if self.given_up.is_some() {
            return None;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > options.window) {
            self.recent.pop_front();
        }
        if self.recent.len() <= options.group_restarts_max as usize {
            return None;
        }
        let (restarts, cooldown) = (self.recent.len(), self.cooldowns.begin(options, now));
        self.recent.clear();
        let given_up = GivenUp { until: now + cooldown, cooldown, restarts, last: last.to_owned() };
        self.trouble(given_up.until);
        self.given_up = Some(given_up.clone());
        Some(given_up)
    }

    /// A unit of the pipeline fails, or is left alone, until this time.
    pub fn trouble(&mut self, until: Instant) {
        self.trouble_until = self.trouble_until.max(Some(until));
    }

    /// What it was given up for, if it is.
    pub fn given_up(&self) -> Option<&GivenUp> {
        self.given_up.as_ref()
    }

    /// Ends a cool-down that is over at `now`; whether one was.
    pub fn ends(&mut self, now: Instant) -> bool {
        self.given_up.take_if(|given_up| given_up.until <= now).is_some()
    }

    /// Whether nothing has gone wrong for `healthy_seconds`, the cool-downs apart.
    pub fn is_well(&self, options: &RestartOptions, now: Instant) -> bool {
        self.trouble_until.is_none_or(|until| now.saturating_duration_since(until) >= options.healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn storm(group: &mut Group, options: &RestartOptions, now: &mut Instant, apart: Duration) -> (usize, GivenUp) {
        for count in 1..1000 {
            *now += apart;
            if let Some(given_up) = group.failed(options, *now, "why") {
                return (count, given_up);
            }
        }
        panic!("never given up");
    }

    #[test]
    fn a_pipeline_is_given_up_with_the_failure_above_its_bound() {
        let (options, mut group, mut now) = (RestartOptions::default(), Group::default(), Instant::now());
        let (count, given_up) = storm(&mut group, &options, &mut now, SECOND);
        assert_eq!((count, given_up.restarts, given_up.cooldown), (21, 21, 60 * SECOND));
        assert_eq!(group.given_up(), Some(&given_up));
        // What its units still say while they stop changes nothing.
        assert_eq!(group.failed(&options, now + SECOND, "late"), None);
        assert!(!group.ends(given_up.until - SECOND), "too early");
        assert!(group.ends(given_up.until) && !group.ends(given_up.until), "it ends once");
        assert_eq!(group.given_up(), None);
    }

    #[test]
    fn failures_that_the_window_has_left_count_no_more() {
        let (options, mut group, mut now) = (RestartOptions::default(), Group::default(), Instant::now());
        for _ in 0..1000 {
            now += 3 * SECOND + Duration::from_millis(1);
            assert_eq!(group.failed(&options, now, "why"), None);
            assert!(group.recent.len() <= 20, "what is kept is bounded");
        }
    }

    #[test]
    fn a_pipeline_that_storms_again_is_left_alone_longer() {
        let (options, mut group, mut now) = (RestartOptions::default(), Group::default(), Instant::now());
        let mut seconds = Vec::new();
        for _ in 0..5 {
            let (_, given_up) = storm(&mut group, &options, &mut now, SECOND);
            seconds.push(given_up.cooldown.as_secs());
            now = given_up.until;
            assert!(group.ends(now));
        }
        assert_eq!(seconds, [60, 120, 240, 480, 600]);
    }

    #[test]
    fn it_is_well_again_when_nothing_failed_for_a_while_after_the_cool_down() {
        let (options, mut group, mut now) = (RestartOptions::default(), Group::default(), Instant::now());
        assert!(group.is_well(&options, now));
        let (_, given_up) = storm(&mut group, &options, &mut now, SECOND);
        assert!(!group.is_well(&options, given_up.until + options.healthy - SECOND));
        assert!(group.is_well(&options, given_up.until + options.healthy));
        group.ends(given_up.until);
        assert_eq!(group.failed(&options, given_up.until + SECOND, "why"), None);
        assert!(!group.is_well(&options, given_up.until + options.healthy));
    }
}
