//! How a node gives everything away and ends.

use std::time::Instant;

use super::slot::{Phase, Stopping};
use super::{Ended, Supervisor};
use crate::ids::{RandomId, UnitId};

impl Supervisor {
    pub(super) fn begin_drain(&mut self) {
        if self.draining.is_some() {
            return;
        }
        tracing::info!("draining: giving all units away");
        self.metrics.ready.set(0);
        let now = Instant::now();
        self.draining = Some(now + self.options.drain);
        self.me.draining = true;
        // The others must know before the units are free, or they would leave them to us.
        self.beat_due = now;
        let ids: Vec<UnitId> = self.slots.keys().cloned().collect();
        for id in ids {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            match &mut slot.phase {
                Phase::Running { unit, stopping, .. } => {
                    unit.drain();
                    *stopping = Some(Stopping::Drain(now + self.options.turn_grace));
                }
                Phase::BackOff(..) => self.begin_life(&id, true),
                Phase::Failed(_) => slot.phase = Phase::Idle,
                Phase::Idle | Phase::Starting | Phase::Releasing => {}
            }
        }
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        if let Some(words) = &self.stop {
            return Some(Ended::Stopped(words.clone()));
        }
        let ceiling = self.draining?;
        // What was given up is not held, so there is nothing to wait for.
        let over = self.slots.values().all(|slot| matches!(slot.phase, Phase::Idle | Phase::Failed(_)));
        let others = self.nodes.iter().filter(|n| n.incarnation != self.me.incarnation).count();
        if Instant::now() >= ceiling && !over {
            tracing::warn!("the drain took too long; the rest of the leases will run out");
        }
        (over || Instant::now() >= ceiling).then_some(Ended::Drained { others })
    }

    pub(super) async fn leave(self, ended: Ended) -> Ended {
        let me: RandomId = self.me.incarnation.clone();
        let left = tokio::time::timeout(self.lease(), self.store.leave(&self.lease_link, &me)).await;
        let ended = match (ended, left) {
            (Ended::Drained { .. }, Ok(Ok(nodes))) => Ended::Drained { others: nodes.len() },
            (ended, _) => ended,
        };
        let ended = match (ended, &self.escalation.gave_up) {
            (Ended::Drained { .. }, Some(words)) => Ended::GaveUp(words.clone()),
            (ended, _) => ended,
        };
        for slot in self.slots.values() {
            if let Phase::Running { abort, .. } = &slot.phase {
                abort.abort();
            }
        }
        for worker in &self.workers {
            worker.arbiter.stop();
        }
        ended
    }
}
