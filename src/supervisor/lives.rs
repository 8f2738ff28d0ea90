//! What the supervisor does when a unit starts, ends, or stands still.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::life::{self, End, Event, Start};
use super::losses::{self, Former};
use super::restart::Verdict;
use super::slot::{Phase, Stopping};
use super::watchdog::Hung;
use crate::actors::turn::{Error, Exit, Reaction, Unit};
use crate::ids::UnitId;
use crate::store::StoreError;
use crate::store::lease::Fate;
use crate::telemetry::metrics::{LeaseLabels, LeaseMove, RestartLabels, RestartReason};

impl Supervisor {
    pub(super) fn begin_life(&mut self, id: &UnitId, only_settle: bool) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.phase = if only_settle { Phase::Releasing } else { Phase::Starting };
        slot.free_since = None;
        slot.life += 1;
        let start = Start {
            life: slot.life,
            spec: slot.spec.clone(),
            previous: slot.previous.clone(),
            fate: std::mem::take(&mut slot.fate),
            only_settle,
        };
        let worker = &self.workers[slot.worker];
        life::begin(worker, self.store.clone(), self.metrics.clone(), start, self.events.clone());
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Started { unit, abort } => self.on_started(unit, abort),
            Event::NotAcquired { id, life, error } => self.on_not_acquired(&id, life, error),
            Event::Ended { unit, end } => self.on_ended(&unit, end),
            Event::Released { id, life } => self.on_released(&id, life),
        }
    }

    pub(super) fn on_started(&mut self, unit: Arc<Unit>, abort: tokio::task::AbortHandle) {
        let id = unit.lease.unit().clone();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let held = unit.lease.held();
        let before = &unit.lease.node_before;
        let kind = if slot.previous.is_none() && !before.is_empty() && *before != self.me.name {
            LeaseMove::TakenOver
        } else {
            LeaseMove::Acquired
        };
        match kind {
            LeaseMove::TakenOver => tracing::info!(unit = %id, from = before, commits = held.seq, "taken over"),
            LeaseMove::Acquired | LeaseMove::Released | LeaseMove::Lost => {
                tracing::info!(unit = %id, commits = held.seq, "started");
            }
        }
        if held.seq < slot.seq {
            losses::tell(&id, held.seq, slot.seq, &self.metrics);
        }
        (slot.seq, slot.token) = (held.seq, held.token);
        slot.previous = Some(held.owner);
        let mut stopping = None;
        if self.draining.is_some() {
            unit.drain();
            stopping = Some(Stopping::Drain(Instant::now() + self.options.turn_grace));
        }
        self.board.add_unit(unit.clone(), self.workers[slot.worker].pulse.clone());
        self.bell.add(&unit);
        slot.phase = Phase::Running { unit: unit.clone(), abort, since: Instant::now(), stopping };
        self.count_lease(&unit, kind);
    }

    fn on_not_acquired(&mut self, id: &UnitId, life: u64, error: StoreError) {
        // What an earlier life has to say comes too late.
        let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.life == life) else { return };
        let words = error.to_string();
        let is_anothers = matches!(error, StoreError::Held { .. });
        match Error::from(error).reaction() {
            // Another node was faster, or holds it: that is what leases are for.
            Reaction::Reload | Reaction::Wait(_) => {
                // What it loses that way cannot be seen by the one who has it now; told once.
                if slot.previous.take().is_some() && is_anothers {
                    let seq = std::mem::take(&mut slot.seq);
                    let former = Former { unit: id.clone(), token: slot.token, seq };
                    let worker = &self.workers[slot.worker];
                    worker.arbiter.spawn(former.look(self.store.clone(), worker.link.clone(), self.metrics.clone()));
                }
                if !matches!(slot.phase, Phase::Failed(_)) {
                    slot.phase = Phase::Idle;
                }
            }
            Reaction::StopNode => {
                slot.phase = Phase::Idle;
                self.stop.get_or_insert(words);
            }
            Reaction::Restart | Reaction::GiveUp => {
                let now = Instant::now();
                let again_in = slot.restarts.given_up(&self.options.restart, now);
                tracing::error!(unit = %id, error = words, ?again_in, "cannot be acquired; other nodes may try");
                slot.last_error = words;
                slot.phase = Phase::Failed(now + again_in);
                self.unit_given_up(id, again_in);
            }
        }
    }

    fn on_ended(&mut self, unit: &Arc<Unit>, end: End) {
        let id = unit.lease.unit().clone();
        let held = unit.lease.held();
        self.board.remove_unit(&held.owner);
        self.bell.remove(&held.owner);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Phase::Running { since, stopping, .. } = &slot.phase else { return };
        let (ran, stopping) = (since.elapsed(), *stopping);
        (slot.seq, slot.token) = (held.seq, held.token);
        slot.restarts.ran(&self.options.restart, ran);
        match (end, stopping) {
            (End::Exit(Exit::StopNode(words)), _) => {
                self.stop.get_or_insert(words);
                self.release(unit);
            }
            (End::Exit(Exit::Reload(words)), _) => self.reload(unit, &words),
            (End::Cut, Some(Stopping::Reload)) => self.reload(unit, "the renewal shows another holder or history"),
            (End::Exit(Exit::Drained) | End::Cut, Some(Stopping::Drain(_)) | None) => self.release(unit),
            (End::Exit(Exit::Drained), Some(Stopping::Reload | Stopping::Hung)) => self.release(unit),
            (End::Exit(Exit::GivenUp(words)), _) => {
                let now = Instant::now();
                let again_in = slot.restarts.given_up(&self.options.restart, now);
                tracing::error!(unit = %id, error = words, ?again_in, "given up here for a while; other nodes may try");
                slot.last_error = words;
                slot.phase = Phase::Failed(now + again_in);
                self.release_keeping_phase(unit);
                self.unit_given_up(&id, again_in);
            }
            (End::Exit(Exit::Failed(words)), _) => self.restart(unit, RestartReason::Error, words, ran),
            (End::Panic(text), _) => self.restart(unit, RestartReason::Panic, format!("panic: {text}"), ran),
            (End::Cut, Some(Stopping::Hung)) => {
                let words = format!("no progress for {} s", self.options.watchdog.hang.as_secs_f32());
                self.restart(unit, RestartReason::Hang, words, ran);
            }
        }
    }

    /// Another holder or another history: acquire again at once; whoever is entitled gets it.
    pub(super) fn reload(&mut self, unit: &Arc<Unit>, words: &str) {
        let id = unit.lease.unit().clone();
        tracing::info!(unit = %id, reason = words, "reloading");
        self.count_restart(unit, RestartReason::Reload);
        self.count_lease(unit, LeaseMove::Lost);
        if self.draining.is_some() {
            return self.release(unit);
        }
        match (self.may_start(), self.slots.get_mut(&id)) {
            // After an outage every unit reloads at once: they wait for their turn as after a pause.
            (false, Some(slot)) => slot.phase = Phase::BackOff(Instant::now(), unit.clone()),
            (true, _) | (_, None) => self.begin_life(&id, false),
        }
    }

    pub(super) fn restart(&mut self, unit: &Arc<Unit>, reason: RestartReason, words: String, ran: Duration) {
        let id = unit.lease.unit().clone();
        self.count_restart(unit, reason);
        let (options, draining) = (self.options.restart.clone(), self.draining.is_some());
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.restarts_total += 1;
        slot.last_error.clone_from(&words);
        // A source or a disk that hangs is no fault of the entry in hand.
        let blameless = matches!(reason, RestartReason::Hang) && unit.is_outside();
        slot.fate = if blameless { Fate::Clean } else { Fate::Failed(words.clone()) };
        let verdict = slot.restarts.failed(&options, Instant::now(), ran, rand::random_range(0.5..=1.0));
        match verdict {
            // The attempt is written down before the lease goes.
            _ if draining => self.begin_life(&id, true),
            Verdict::After(pause) => {
                tracing::error!(unit = %id, error = words, ?pause, "failed; restarting");
                slot.phase = Phase::BackOff(Instant::now() + pause, unit.clone());
            }
            Verdict::GiveUp(cooldown) => {
                let text = "failed too often; given up here for a while, other nodes may take it";
                tracing::error!(unit = %id, error = words, again_in = ?cooldown, text);
                self.begin_life(&id, true);
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.phase = Phase::Failed(Instant::now() + cooldown);
                }
                self.unit_given_up(&id, cooldown);
            }
        }
        if !draining {
            self.group_failed(&id, &words);
        }
    }

    pub(super) fn release(&mut self, unit: &Arc<Unit>) {
        if let Some(slot) = self.slots.get_mut(unit.lease.unit()) {
            slot.phase = Phase::Releasing;
        }
        self.release_keeping_phase(unit);
    }

    pub(super) fn release_keeping_phase(&mut self, unit: &Arc<Unit>) {
        let Some(slot) = self.slots.get_mut(unit.lease.unit()) else { return };
        slot.previous = None;
        slot.elsewhere_since = None;
        life::release(&self.workers[slot.worker], unit.clone(), slot.life, self.events.clone());
        self.count_lease(unit, LeaseMove::Released);
    }

    fn on_released(&mut self, id: &UnitId, life: u64) {
        let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.life == life) else { return };
        slot.previous = None;
        if matches!(slot.phase, Phase::Releasing) {
            slot.phase = Phase::Idle;
            if slot.is_retired() {
                // Should it still owe something, the next look brings it back.
                tracing::info!(unit = %id, "the removed slot was given back");
                self.slots.remove(id);
            }
        }
    }

    pub(super) fn on_hung(&mut self, hung: &Hung) {
        let Some(slot) = self.slots.get_mut(&hung.unit) else { return };
        if let Phase::Running { unit, abort, stopping, .. } = &mut slot.phase
            && unit.lease.held().owner == hung.owner
        {
            tracing::error!(unit = %hung.unit, "no progress; cutting the turn");
            *stopping = Some(Stopping::Hung);
            abort.abort();
        }
    }

    /// Does what is due by time alone.
    pub(super) fn look_at_slots(&mut self) {
        self.hold_groups_down();
        let now = Instant::now();
        let due: Vec<UnitId> =
            self.slots.iter().filter(|(_, s)| s.due().is_some_and(|at| at <= now)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let free = self.may_start();
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            match &mut slot.phase {
                Phase::BackOff(..) if free => self.begin_life(&id, false),
                Phase::BackOff(..) => {}
                Phase::Failed(_) => {
                    slot.phase = Phase::Idle;
                }
                Phase::Running { abort, stopping, .. } => {
                    // The grace is over: the turn is cut and not counted.
                    abort.abort();
                    *stopping = Some(Stopping::Drain(now + self.options.drain));
                }
                Phase::Idle | Phase::Starting | Phase::Releasing => {}
            }
        }
        self.start_waiting();
        let running = self.slots.values().filter(|s| matches!(s.phase, Phase::Running { .. })).count();
        let failed = self.slots.values().filter(|s| matches!(s.phase, Phase::Failed(_))).count();
        self.metrics.units_running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.metrics.units_failed.set(i64::try_from(failed).unwrap_or(i64::MAX));
    }

    fn count_lease(&self, unit: &Unit, kind: LeaseMove) {
        let labels = unit.labels();
        let labels = LeaseLabels { pipeline: labels.pipeline, actor: labels.actor, kind };
        self.metrics.leases.get_or_create(&labels).inc();
    }

    fn count_restart(&self, unit: &Unit, reason: RestartReason) {
        let labels = unit.labels();
        let labels = RestartLabels { pipeline: labels.pipeline, actor: labels.actor, reason };
        self.metrics.restarts.get_or_create(&labels).inc();
    }
}
