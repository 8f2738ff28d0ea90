//! How many units start at a time. After an outage, or when another node has died, hundreds of units are free at once:
//! acquired all together they would crowd out the renewals of those that run, and every start would be late.

use std::time::Instant;

use super::Supervisor;
use super::slot::{Phase, Slot};
use crate::ids::UnitId;

impl Supervisor {
    /// Whether one more unit may start now.
    ///
    /// What waits on a blocked thread holds nobody up: those starts end when the thread, or the process, does.
    pub(super) fn may_start(&self) -> bool {
        let starts =
            |slot: &&Slot| matches!(slot.phase, Phase::Starting) && !self.workers[slot.worker].pulse.is_blocked();
        self.slots.values().filter(starts).count() < self.options.starts_at_a_time.max(1)
    }

    /// Starts a unit, now or when others have started.
    pub(super) fn start_in_turn(&mut self, id: &UnitId) {
        if self.may_start() {
            self.begin_life(id, false);
        } else {
            self.escalation.waiting.push_back(id.clone());
        }
    }

    /// Starts those that waited, as far as there is room.
    pub(super) fn start_waiting(&mut self) {
        while self.draining.is_none() && !self.escalation.waiting.is_empty() && self.may_start() {
            let Some(id) = self.escalation.waiting.pop_front() else { break };
            if self.slots.get(&id).is_some_and(|slot| matches!(slot.phase, Phase::Idle)) {
                self.begin_life(&id, false);
            }
        }
        let waiting = self.escalation.waiting.len() + self.overdue();
        self.metrics.starts_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Units whose pause is over and that wait for their turn.
    fn overdue(&self) -> usize {
        let now = Instant::now();
        self.slots.values().filter(|slot| matches!(slot.phase, Phase::BackOff(at, _) if at <= now)).count()
    }
}
