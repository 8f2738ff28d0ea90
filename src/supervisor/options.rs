//! The supervisor's bounds, from the configuration.

use super::SupervisorOptions;
use super::ladder::LadderOptions;
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
                group_restarts_max: supervisor.group_restarts_max,
                cooldown: supervisor.failed_cooldown,
                cooldown_max: supervisor.failed_cooldown_max,
            },
            starts_at_a_time: supervisor.starts_at_a_time,
            ladder: LadderOptions { groups: supervisor.failed_groups_exit, exit: supervisor.unready_exit },
            watchdog: WatchdogOptions {
                hang: supervisor.hang,
                blocked: supervisor.blocked,
                blocked_exit: supervisor.blocked_exit,
            },
        }
    }
}
