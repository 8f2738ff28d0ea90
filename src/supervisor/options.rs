//! The supervisor's bounds, from the configuration.

use super::SupervisorOptions;
use super::restart::RestartOptions;
use super::watchdog::WatchdogOptions;
use crate::config::Settings;

impl From<&Settings> for SupervisorOptions {
    fn from(settings: &Settings) -> Self {
        let (node, supervisor) = (&settings.node, &settings.supervisor);
        Self {
            workers: node.workers,
            turn_grace: node.turn_grace,
            drain: node.drain,
            restart: RestartOptions {
                backoff_min: supervisor.backoff_min,
                backoff_max: supervisor.backoff_max,
                healthy: supervisor.healthy,
                restarts_max: supervisor.restarts_max,
                window: supervisor.restart_window,
                cooldown: supervisor.failed_cooldown,
            },
            watchdog: WatchdogOptions {
                hang: supervisor.hang,
                blocked: supervisor.blocked,
                blocked_exit: supervisor.blocked_exit,
            },
        }
    }
}
