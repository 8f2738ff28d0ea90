//! The last rungs: when a node that gave its pipelines up is not ready, and when it ends itself. Pure: time is given.
//!
//! A restart of the process cures what is wrong with *it* (a thread pool that is used up, a leak, a resolver that
//! stopped); it cures nothing else. So the node ends only while every pipeline that it gave up runs well on another
//! node. What fails on every node (a poisoned unit, a chain that is gone) and what has no other node (a lone one) would
//! only loop: such a node stays, says that it is not ready, and tries again after each cool-down.

use std::time::{Duration, Instant};

/// The bounds, from `[supervisor]`.
#[derive(Debug, Clone)]
pub struct LadderOptions {
    /// `failed_groups_exit`: pipelines given up at the same time; 0 = all that the node runs.
    pub groups: usize,
    /// `unready_exit_seconds`: how long that must last before the process ends; none = never.
    pub exit: Option<Duration>,
}

impl Default for LadderOptions {
    fn default() -> Self {
        Self { groups: 0, exit: Some(Duration::from_secs(300)) }
    }
}

/// One pipeline of this node, at one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupView {
    /// It is given up here: as a whole, or every unit of it that came here was.
    pub given_up: bool,
    /// It was given up, is being tried again, and has not kept well for `healthy_seconds` since.
    pub on_trial: bool,
    /// Each of its units runs on another live node.
    pub runs_elsewhere: bool,
    /// Another live node has given up something of it: the fault is not this node's.
    pub fails_elsewhere: bool,
}

/// Where the node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// It takes work.
    Ready,
    /// It gave up too much. Ends at this time unless things change; none: a restart would not help, or is not wanted.
    Unready(Option<Instant>),
    /// The time is over: end with code 70.
    Exit,
}

/// Since when a node has been ill.
#[derive(Debug, Default)]
pub struct Ladder {
    unready: bool,
    /// Since when others run what this node cannot.
    alone_since: Option<Instant>,
}

impl Ladder {
    /// One look at all pipelines of the node.
    pub fn look(&mut self, options: &LadderOptions, now: Instant, groups: &[GroupView]) -> Rung {
        let needed = if options.groups == 0 { groups.len() } else { options.groups.min(groups.len()) };
        let count = |is: fn(&GroupView) -> bool| groups.iter().filter(|group| is(group)).count();
        // A trial is not yet a recovery: a node that fails again in each trial is ill all the time.
        let ill = needed > 0 && count(|g| g.given_up || g.on_trial) >= needed;
        self.unready = ill && (self.unready || count(|g| g.given_up) >= needed);
        if !self.unready {
            self.alone_since = None;
            return Rung::Ready;
        }
        let alone = count(|g| g.given_up && g.runs_elsewhere) >= needed;
        if alone {
            self.alone_since.get_or_insert(now);
        }
        // One other node that fails likewise is enough: what both cannot do, a restart does not cure.
        if count(|g| (g.given_up || g.on_trial) && g.fails_elsewhere) > 0 {
            self.alone_since = None;
        }
        let exit_at = self.alone_since.zip(options.exit).map(|(since, exit)| since + exit);
        if alone && exit_at.is_some_and(|at| at <= now) { Rung::Exit } else { Rung::Unready(exit_at) }
    }

    /// Redis was away: nobody knows what the others did meanwhile, so the time begins anew.
    pub fn forget_time(&mut self) {
        self.alone_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WELL: GroupView =
        GroupView { given_up: false, on_trial: false, runs_elsewhere: false, fails_elsewhere: false };
    /// Given up here, and healthy on another node.
    const ILL: GroupView = GroupView { given_up: true, runs_elsewhere: true, ..WELL };
    const TRIAL: GroupView = GroupView { on_trial: true, ..WELL };
    /// Given up here, and nobody else runs it.
    const LOST: GroupView = GroupView { given_up: true, ..WELL };
    /// As [`ILL`], while another node has given it up too.
    const POISON: GroupView = GroupView { fails_elsewhere: true, ..ILL };

    /// Plays a film, one look a second, and answers the last rung and the second of the exit.
    fn play(options: &LadderOptions, film: &[(u64, &[GroupView])]) -> (Rung, Option<u64>) {
        let (start, mut ladder, mut second, mut rung) = (Instant::now(), Ladder::default(), 0, Rung::Ready);
        for (seconds, groups) in film {
            for _ in 0..*seconds {
                rung = ladder.look(options, start + second as u32 * SECOND, groups);
                if rung == Rung::Exit {
                    return (rung, Some(second));
                }
                second += 1;
            }
        }
        (rung, None)
    }

    #[test]
    fn a_node_whose_pipelines_all_run_elsewhere_is_not_ready_and_ends_in_time() {
        let options = LadderOptions::default();
        let (start, mut ladder) = (Instant::now(), Ladder::default());
        assert_eq!(ladder.look(&options, start, &[ILL, ILL]), Rung::Unready(Some(start + 300 * SECOND)));
        assert_eq!(play(&options, &[(10, &[WELL, ILL]), (1000, &[ILL, ILL])]).1, Some(310));
    }

    #[test]
    fn one_pipeline_that_works_keeps_the_node() {
        let options = LadderOptions::default();
        assert_eq!(play(&options, &[(5000, &[ILL, WELL])]), (Rung::Ready, None));
        let two = LadderOptions { groups: 2, ..options };
        assert_eq!(play(&two, &[(5000, &[ILL, WELL, WELL])]), (Rung::Ready, None));
        assert_eq!(play(&two, &[(5000, &[ILL, WELL, ILL])]).1, Some(300), "two are enough where two are asked for");
        assert_eq!(play(&LadderOptions::default(), &[(10, &[])]), (Rung::Ready, None), "a node without pipelines");
    }

    #[test]
    fn a_lone_node_is_not_ready_and_never_ends() {
        let (rung, exit) = play(&LadderOptions::default(), &[(5000, &[LOST, LOST])]);
        assert_eq!((rung, exit), (Rung::Unready(None), None));
    }

    #[test]
    fn what_fails_on_every_node_ends_none() {
        let (rung, exit) = play(&LadderOptions::default(), &[(5000, &[POISON])]);
        assert_eq!((rung, exit), (Rung::Unready(None), None));
        // The other node tries it now and then, and for a moment looks well.
        let film: Vec<(u64, &[GroupView])> = (0..40).flat_map(|_| [(60, &[POISON][..]), (5, &[ILL][..])]).collect();
        assert_eq!(play(&LadderOptions::default(), &film).1, None);
    }

    #[test]
    fn trials_that_fail_do_not_stop_the_clock_and_one_that_holds_does() {
        let film: Vec<(u64, &[GroupView])> = (0..40).flat_map(|_| [(60, &[ILL][..]), (5, &[TRIAL][..])]).collect();
        assert_eq!(play(&LadderOptions::default(), &film).1, Some(300));
        let film: [(u64, &[GroupView]); 3] = [(200, &[ILL]), (1, &[WELL]), (250, &[ILL])];
        assert_eq!(play(&LadderOptions::default(), &film).1, None);
    }

    #[test]
    fn it_never_ends_in_a_trial_or_where_that_is_switched_off() {
        let film: [(u64, &[GroupView]); 3] = [(299, &[ILL]), (100, &[TRIAL]), (10, &[ILL])];
        assert_eq!(play(&LadderOptions::default(), &film).1, Some(399), "with the end of the trial");
        let off = LadderOptions { exit: None, ..LadderOptions::default() };
        assert_eq!(play(&off, &[(5000, &[ILL])]), (Rung::Unready(None), None));
    }

    #[test]
    fn an_outage_of_redis_begins_the_time_anew() {
        let (options, start, mut ladder) = (LadderOptions::default(), Instant::now(), Ladder::default());
        ladder.look(&options, start, &[ILL]);
        ladder.forget_time();
        let later = start + 400 * SECOND;
        assert_eq!(ladder.look(&options, later, &[ILL]), Rung::Unready(Some(later + 300 * SECOND)));
    }
}
