//! Sees what a runtime cannot see of itself: turns that do not get on, threads that are blocked.
//!
//! Runs on a thread of its own. A hung turn is reported to the supervisor, which cuts it. A blocked thread cannot
//! be interrupted: its leases are no longer renewed, so other nodes take its units over, and after a while the
//! process gives itself up with exit code 70, for its service manager to start it again.
//!
//! Time that passes while the whole process stands still (a suspended machine, `SIGSTOP`) counts against nobody.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::board::Board;
use crate::ids::{RandomId, UnitId};
use crate::store::link::Health;

/// The exit code of a process that gave itself up.
pub const EXIT_GAVE_UP: i32 = 70;

/// The bounds, from `[supervisor]`.
#[derive(Debug, Clone)]
pub struct WatchdogOptions {
    /// `hang_seconds`: a turn without progress for so long is hung.
    pub hang: Duration,
    /// `blocked_seconds`: a thread without a pulse for so long is blocked.
    pub blocked: Duration,
    /// `blocked_exit_seconds`: after so long the process ends.
    pub blocked_exit: Duration,
}

impl Default for WatchdogOptions {
    fn default() -> Self {
        Self { hang: Duration::from_secs(30), blocked: Duration::from_secs(5), blocked_exit: Duration::from_secs(30) }
    }
}

/// A turn that does not get on.
#[derive(Debug, Clone)]
pub struct Hung {
    /// The unit.
    pub unit: UnitId,
    /// Its acquisition, so that a report that comes late hits nobody else.
    pub owner: RandomId,
}

/// Starts the thread. It ends when the receiver of its reports is gone.
pub fn watch(
    board: Arc<Board>,
    health: Arc<Health>,
    options: WatchdogOptions,
    reports: mpsc::Sender<Hung>,
) -> std::io::Result<()> {
    // Often enough for the shortest bound, and never busy.
    let pause = (options.hang.min(options.blocked) / 8).clamp(Duration::from_millis(20), Duration::from_millis(250));
    let mut clock = Clock { last: Instant::now(), shown: Duration::ZERO, step_max: pause * 2 };
    let body = move || {
        while !reports.is_closed() {
            std::thread::park_timeout(pause);
            let now = clock.tick(Instant::now());
            look_at_turns(&board, &health, &options, &reports, now);
            look_at_threads(&board, &options, now);
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(body).map(drop)
}

/// Time as this thread lives it. When the process was stopped, this thread was too: a step that took far longer
/// than it sleeps is cut short, or everything would look hung at the moment when it goes on.
struct Clock {
    last: Instant,
    shown: Duration,
    step_max: Duration,
}

impl Clock {
    fn tick(&mut self, now: Instant) -> Duration {
        self.shown += now.duration_since(std::mem::replace(&mut self.last, now)).min(self.step_max);
        self.shown
    }
}

fn look_at_turns(
    board: &Board,
    health: &Health,
    options: &WatchdogOptions,
    reports: &mpsc::Sender<Hung>,
    now: Duration,
) {
    let mut units = board.units.lock().unwrap_or_else(PoisonError::into_inner);
    for watched in units.iter_mut() {
        let (in_turn, progress) = watched.unit.watched();
        let since = *watched.since.get_or_insert(now);
        // An idle unit does nothing by right, and a turn that waits for Redis is not to blame.
        if !in_turn || progress != watched.seen || health.is_down() {
            watched.seen = progress;
            watched.since = Some(now);
            watched.reported = false;
        } else if now.saturating_sub(since) > options.hang && !watched.reported {
            let hung = Hung { unit: watched.unit.lease.unit().clone(), owner: watched.unit.lease.held().owner };
            // A full channel means that the supervisor itself is stuck; the next look tries again.
            watched.reported = reports.try_send(hung).is_ok();
        }
    }
}

fn look_at_threads(board: &Board, options: &WatchdogOptions, now: Duration) {
    let mut silences = Vec::new();
    for watched in board.pulses.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
        let beats = watched.pulse.beats();
        if std::mem::replace(&mut watched.seen, beats) != beats {
            watched.since = Some(now);
        }
        let since = *watched.since.get_or_insert(now);
        silences.push((watched.pulse.clone(), now.saturating_sub(since)));
    }
    for (pulse, silence) in silences {
        let blocked = silence > options.blocked;
        if pulse.set_blocked(blocked) != blocked {
            let units = units_on(board, &pulse.name);
            if blocked {
                tracing::error!(
                    arbiter = pulse.name,
                    units,
                    ?silence,
                    "thread blocked; its leases are no longer renewed"
                );
            } else {
                tracing::warn!(arbiter = pulse.name, "thread runs again");
            }
        }
        if silence > options.blocked_exit {
            let units = units_on(board, &pulse.name);
            tracing::error!(arbiter = pulse.name, units, ?silence, "thread still blocked; giving this process up");
            std::process::exit(EXIT_GAVE_UP);
        }
    }
}

/// The units whose turns are under way on an arbiter: one of them blocks it.
fn units_on(board: &Board, arbiter: &str) -> String {
    let units = board.units.lock().unwrap_or_else(PoisonError::into_inner);
    let here = units.iter().filter(|watched| watched.pulse.name == arbiter && watched.unit.watched().0);
    here.map(|watched| watched.unit.lease.unit().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut clock = Clock { last: start, shown: Duration::ZERO, step_max: 2 * second };
        assert_eq!(clock.tick(start + second), second);
        assert_eq!(clock.tick(start + 101 * second), 3 * second, "a hundred seconds of silence are one late step");
        assert_eq!(clock.tick(start + 102 * second), 4 * second);
    }
}
