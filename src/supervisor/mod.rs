//! Life: starts units, renews their leases, starts them again, moves them, and drains the node.
//!
//! actix's own supervisor neither survives a panic nor pauses between restarts, so this one is built from a factory
//! per unit and the join handle of its context. It restarts on an error, on a panic anywhere in the actor (its
//! factory included) and on missing progress; it gives a unit up for a while after too many restarts, while its
//! siblings go on.

pub mod beat;
pub mod bell;
pub mod board;
pub mod life;
pub mod placement;
pub mod restart;
pub mod slot;
pub mod watchdog;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::actors::turn::{Exit, Unit};
use crate::error::{Error, Reaction};
use crate::ids::{RandomId, UnitId};
use crate::store::lease::Fate;
use crate::store::link::{Class, Link, Patience};
use crate::store::membership::{NodeInfo, UnitSeen};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::{LeaseLabels, LeaseMove, Metrics, RestartLabels, RestartReason};
use bell::Bell;
use board::{Board, Pulse};
use life::{End, Event, Start, UnitSpec};
use restart::{RestartOptions, Verdict};
use slot::{Phase, Slot, Stopping};
use watchdog::{Hung, WatchdogOptions};
use worker::Worker;

/// Events that may wait for the supervisor; lives wait when it is full.
const EVENTS_MAX: usize = 1024;
/// Units named in one heartbeat; `status` shows the rest from their checkpoints.
const REPORTS_MAX: usize = 200;

/// The bounds of supervision.
#[derive(Debug, Clone)]
pub struct SupervisorOptions {
    /// `node.workers`: arbiters on which units live.
    pub workers: usize,
    /// `node.turn_grace_ms`: how long a turn may go on when its unit is to stop.
    pub turn_grace: Duration,
    /// `node.drain_seconds`: the longest that a drain may take.
    pub drain: Duration,
    /// Restarting.
    pub restart: RestartOptions,
    /// Hangs and blocked threads.
    pub watchdog: WatchdogOptions,
}

impl Default for SupervisorOptions {
    fn default() -> Self {
        Self {
            workers: 2,
            turn_grace: Duration::from_millis(500),
            drain: Duration::from_secs(25),
            restart: RestartOptions::default(),
            watchdog: WatchdogOptions::default(),
        }
    }
}

/// Why supervision ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to drain, and did.
    Drained {
        /// The other live nodes, as last seen.
        others: usize,
    },
    /// The node must not go on.
    Stopped(String),
}

/// Tells a running supervisor what to do, and how it stands.
#[derive(Clone)]
pub struct Handle {
    drain: mpsc::Sender<()>,
    /// The node as it last described itself.
    pub me: watch::Receiver<NodeInfo>,
    /// All live nodes as last seen.
    pub nodes: watch::Receiver<Vec<NodeInfo>>,
}

impl Handle {
    /// Asks it to give everything away and end. Safe to repeat.
    pub fn drain(&self) {
        // A full channel already holds the wish.
        let _ = self.drain.try_send(());
    }
}

/// Keeps the units of one node alive.
pub struct Supervisor {
    options: SupervisorOptions,
    store: Store,
    lease_link: Link,
    metrics: Arc<Metrics>,
    me: NodeInfo,
    workers: Vec<Worker>,
    slots: BTreeMap<UnitId, Slot>,
    board: Arc<Board>,
    bell: Arc<Bell>,
    events: mpsc::Sender<Event>,
    beat_due: Instant,
    beat_under_way: bool,
    nodes: Vec<NodeInfo>,
    draining: Option<Instant>,
    stop: Option<String>,
    me_tx: watch::Sender<NodeInfo>,
    nodes_tx: watch::Sender<Vec<NodeInfo>>,
}

type Beaten = Result<beat::Answer, StoreError>;

/// Starts supervision on the current (control) arbiter. The receiver answers when it has ended.
pub fn start(
    options: SupervisorOptions,
    store: Store,
    link: &Link,
    metrics: Arc<Metrics>,
    me: NodeInfo,
    specs: Vec<UnitSpec>,
) -> std::io::Result<(Handle, oneshot::Receiver<Ended>)> {
    let board = Arc::new(Board::default());
    let workers: Vec<Worker> = (0..options.workers.max(1))
        .map(|n| Worker::start(format!("worker-{n}"), link.sibling(Class::Command)))
        .collect();
    workers.iter().for_each(|worker| board.add_pulse(worker.pulse.clone()));
    let control = Pulse::new("control".to_owned());
    actix_rt::spawn(worker::keep_beating(control.clone()));
    board.add_pulse(control);
    let (hung_tx, hung_rx) = mpsc::channel(EVENTS_MAX);
    watchdog::watch(board.clone(), link.health().clone(), options.watchdog.clone(), hung_tx)?;
    let bell = Arc::new(Bell::default());
    actix_rt::spawn(bell.clone().listen(store.clone(), link.sibling(Class::Bell)));
    let (events_tx, events_rx) = mpsc::channel(EVENTS_MAX);
    let (drain_tx, drain_rx) = mpsc::channel(1);
    let (me_tx, me_rx) = watch::channel(me.clone());
    let (nodes_tx, nodes_rx) = watch::channel(Vec::new());
    let count = workers.len();
    let slots = specs.into_iter().enumerate().map(|(n, spec)| (spec.id.clone(), Slot::new(spec, n % count))).collect();
    // A beat that cannot reach Redis within a lease has lost its leases anyway; the next one starts afresh.
    let lease_link = link.sibling(Class::Lease).with_patience(Patience::For(link.options().lease));
    let supervisor = Supervisor {
        options,
        store,
        lease_link,
        metrics,
        me,
        workers,
        slots,
        board,
        bell,
        events: events_tx,
        beat_due: Instant::now(),
        beat_under_way: false,
        nodes: Vec::new(),
        draining: None,
        stop: None,
        me_tx,
        nodes_tx,
    };
    let (ended_tx, ended_rx) = oneshot::channel();
    actix_rt::spawn(async move {
        let ended = supervisor.run(events_rx, hung_rx, drain_rx).await;
        // Nobody listens only if the process is ending.
        let _ = ended_tx.send(ended);
    });
    Ok((Handle { drain: drain_tx, me: me_rx, nodes: nodes_rx }, ended_rx))
}

impl Supervisor {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut hung: mpsc::Receiver<Hung>,
        mut drain: mpsc::Receiver<()>,
    ) -> Ended {
        let (beaten_tx, mut beaten) = mpsc::channel::<Beaten>(1);
        self.metrics.ready.set(1);
        loop {
            self.look_at_slots();
            if !self.beat_under_way && Instant::now() >= self.beat_due {
                self.send_beat(beaten_tx.clone());
            }
            if let Some(ended) = self.ended() {
                return self.leave(ended).await;
            }
            let due = self.next_due();
            tokio::select! {
                Some(event) = events.recv() => self.on_event(event),
                Some(answer) = beaten.recv() => self.on_beat(answer),
                Some(hung) = hung.recv() => self.on_hung(&hung),
                Some(()) = drain.recv() => self.begin_drain(),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// The period of beats: a sixth of the lease, so that two lost ones cost nothing.
    fn beat_period(&self) -> Duration {
        (self.lease() / 6).clamp(Duration::from_millis(20), Duration::from_millis(500))
    }

    fn lease(&self) -> Duration {
        self.lease_link.options().lease
    }

    fn next_due(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let beat = if self.beat_under_way { far } else { self.beat_due };
        let slots = self.slots.values().filter_map(Slot::due).min().unwrap_or(far);
        let drain = self.draining.unwrap_or(far);
        beat.min(slots).min(drain)
    }

    // ---- beats -----------------------------------------------------------------------------------------------

    fn send_beat(&mut self, answers: mpsc::Sender<Beaten>) {
        self.beat_under_way = true;
        self.beat_due = Instant::now() + self.beat_period();
        self.me.units = self.reports();
        self.me_tx.send_replace(self.me.clone());
        let mut units = BTreeMap::<_, Vec<_>>::new();
        for (id, slot) in &self.slots {
            let blocked = self.workers[slot.worker].pulse.is_blocked();
            let known = slot.held().filter(|_| !blocked).map(|unit| beat::Known::of(unit));
            units.entry(id.pipeline.clone()).or_default().push((id.clone(), known));
        }
        let question = beat::Question { me: self.me.clone(), units };
        let (store, link) = (self.store.clone(), self.lease_link.clone());
        actix_rt::spawn(async move {
            let answer = beat::exchange(&store, &link, question).await;
            // The supervisor is gone only at the end of the process.
            let _ = answers.send(answer).await;
        });
    }

    fn reports(&self) -> Vec<crate::store::membership::UnitReport> {
        let reports = self.slots.values().filter_map(|slot| slot.report(self.workers[slot.worker].pulse.is_blocked()));
        reports.take(REPORTS_MAX).collect()
    }

    fn on_beat(&mut self, answer: Beaten) {
        self.beat_under_way = false;
        self.metrics.redis_up.set(i64::from(!self.lease_link.health().is_down()));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return tracing::debug!(%error, "no beat"),
        };
        if answer.cluster.as_ref() != Some(&self.store.cluster) {
            let found = answer.cluster.map_or_else(String::new, |id| id.to_string());
            let error = StoreError::Alien { expected: self.store.cluster.to_string(), found };
            self.stop.get_or_insert(error.to_string());
            return;
        }
        self.nodes = answer.nodes;
        self.nodes_tx.send_replace(self.nodes.clone());
        let rankings = self.rankings();
        for (id, known, seen) in answer.units {
            let rank = rankings.get(&id).and_then(|r| r.iter().position(|n| *n == self.me.incarnation));
            match known {
                Some(known) => self.check_held(&id, &known, &seen, rank),
                None => self.consider(&id, seen.left_ms == 0, rank),
            }
        }
    }

    fn rankings(&self) -> BTreeMap<UnitId, placement::Ranking> {
        let mut pipelines = BTreeMap::<_, Vec<_>>::new();
        for (id, slot) in &self.slots {
            pipelines.entry(&id.pipeline).or_default().push((id.clone(), slot.spec.placement.clone()));
        }
        pipelines.into_values().flat_map(|units| placement::place(&units, &self.nodes)).collect()
    }

    /// A unit that we held when the beat was sent: still ours, still the history that we know, still the best place?
    fn check_held(&mut self, id: &UnitId, known: &beat::Known, seen: &UnitSeen, rank: Option<usize>) {
        let (lease, now, grace) = (self.lease(), Instant::now(), self.options.turn_grace);
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(unit) = slot.held().cloned() else { return };
        if unit.lease.held().owner != known.owner {
            return;
        }
        if known.is_contradicted(seen, unit.lease.operations()) {
            if let Phase::Running { abort, stopping, .. } = &mut slot.phase {
                tracing::warn!(unit = %id, renewed = seen.renewed, "lease or history changed under the unit; reloading");
                *stopping = Some(Stopping::Reload);
                abort.abort();
            }
            return;
        }
        // Moves are slow on purpose: a node that comes and goes must not shake everything.
        match rank {
            Some(0) => slot.elsewhere_since = None,
            _ => {
                let since = *slot.elsewhere_since.get_or_insert(now);
                if let Phase::Running { unit, stopping: stopping @ None, .. } = &mut slot.phase
                    && now.duration_since(since) >= lease
                {
                    tracing::info!(unit = %id, "moving to another node");
                    unit.drain();
                    *stopping = Some(Stopping::Drain(now + grace));
                }
            }
        }
    }

    /// A unit that we do not hold: take it?
    fn consider(&mut self, id: &UnitId, free: bool, rank: Option<usize>) {
        let (lease, now, draining) = (self.lease(), Instant::now(), self.draining.is_some());
        let Some(slot) = self.slots.get_mut(id) else { return };
        if !free {
            slot.free_since = None;
            return;
        }
        slot.free_since.get_or_insert(now);
        if matches!(slot.phase, Phase::Idle) && !draining && slot.may_take(rank, now, lease) {
            self.begin_life(id, false);
        }
    }

    // ---- lives -----------------------------------------------------------------------------------------------

    fn begin_life(&mut self, id: &UnitId, only_settle: bool) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.phase = if only_settle { Phase::Releasing } else { Phase::Starting };
        slot.free_since = None;
        let start = Start {
            spec: slot.spec.clone(),
            previous: slot.previous.clone(),
            fate: std::mem::take(&mut slot.fate),
            only_settle,
        };
        let worker = &self.workers[slot.worker];
        life::begin(worker, self.store.clone(), self.metrics.clone(), start, self.events.clone());
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Started { unit, abort } => self.on_started(unit, abort),
            Event::NotAcquired { id, error } => self.on_not_acquired(&id, error),
            Event::Ended { unit, end } => self.on_ended(&unit, end),
            Event::Released { id } => self.on_released(&id),
        }
    }

    fn on_started(&mut self, unit: Arc<Unit>, abort: tokio::task::AbortHandle) {
        let id = unit.lease.unit().clone();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let held = unit.lease.held();
        let before = &unit.lease.node_before;
        let kind = if slot.previous.is_none() && !before.is_empty() && *before != self.me.name {
            LeaseMove::TakenOver
        } else {
            LeaseMove::Acquired
        };
        tracing::info!(unit = %id, token = %held.token, seq = held.seq, before, "started");
        if held.seq < slot.seq {
            let (from, to) = (held.seq + 1, slot.seq);
            tracing::warn!(unit = %id, from, to, "redis lost commits {from}..{to}; they are decided again");
            self.metrics.rollbacks.get_or_create(&unit.labels()).inc_by(to - held.seq);
        }
        slot.seq = held.seq;
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

    fn on_not_acquired(&mut self, id: &UnitId, error: StoreError) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let words = error.to_string();
        match Error::from(error).reaction() {
            // Another node was faster, or holds it: that is what leases are for.
            Reaction::Reload | Reaction::Wait(_) => {
                slot.previous = None;
                if !matches!(slot.phase, Phase::Failed(_)) {
                    slot.phase = Phase::Idle;
                }
            }
            Reaction::StopNode => {
                slot.phase = Phase::Idle;
                self.stop.get_or_insert(words);
            }
            Reaction::Restart | Reaction::GiveUp => {
                tracing::error!(unit = %id, error = words, "cannot be acquired");
                slot.last_error = words;
                slot.phase = Phase::Failed(Instant::now() + self.options.restart.cooldown);
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
        slot.seq = held.seq;
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
                tracing::error!(unit = %id, error = words, "given up");
                slot.last_error = words;
                slot.phase = Phase::Failed(Instant::now() + self.options.restart.cooldown);
                self.release_keeping_phase(unit);
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
    fn reload(&mut self, unit: &Arc<Unit>, words: &str) {
        let id = unit.lease.unit().clone();
        tracing::info!(unit = %id, reason = words, "reloading");
        self.count_restart(unit, RestartReason::Reload);
        self.count_lease(unit, LeaseMove::Lost);
        if self.draining.is_some() {
            return self.release(unit);
        }
        self.begin_life(&id, false);
    }

    fn restart(&mut self, unit: &Arc<Unit>, reason: RestartReason, words: String, ran: Duration) {
        let id = unit.lease.unit().clone();
        self.count_restart(unit, reason);
        let (options, draining) = (self.options.restart.clone(), self.draining.is_some());
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.restarts_total += 1;
        slot.last_error.clone_from(&words);
        slot.fate = Fate::Failed(words.clone());
        let verdict = slot.restarts.failed(&options, Instant::now(), ran, rand::random_range(0.5..=1.0));
        match verdict {
            // The attempt is written down before the lease goes.
            _ if draining => self.begin_life(&id, true),
            Verdict::After(pause) => {
                tracing::error!(unit = %id, error = words, ?pause, "failed; restarting");
                slot.phase = Phase::BackOff(Instant::now() + pause, unit.clone());
            }
            Verdict::GiveUp(cooldown) => {
                tracing::error!(unit = %id, error = words, ?cooldown, "failed too often; given up for a while");
                self.begin_life(&id, true);
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.phase = Phase::Failed(Instant::now() + cooldown);
                }
            }
        }
    }

    fn release(&mut self, unit: &Arc<Unit>) {
        if let Some(slot) = self.slots.get_mut(unit.lease.unit()) {
            slot.phase = Phase::Releasing;
        }
        self.release_keeping_phase(unit);
    }

    fn release_keeping_phase(&mut self, unit: &Arc<Unit>) {
        let Some(slot) = self.slots.get_mut(unit.lease.unit()) else { return };
        slot.previous = None;
        slot.elsewhere_since = None;
        life::release(&self.workers[slot.worker], unit.clone(), self.events.clone());
        self.count_lease(unit, LeaseMove::Released);
    }

    fn on_released(&mut self, id: &UnitId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.previous = None;
        if matches!(slot.phase, Phase::Releasing) {
            slot.phase = Phase::Idle;
        }
    }

    fn on_hung(&mut self, hung: &Hung) {
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
    fn look_at_slots(&mut self) {
        let now = Instant::now();
        let due: Vec<UnitId> =
            self.slots.iter().filter(|(_, s)| s.due().is_some_and(|at| at <= now)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            match &mut slot.phase {
                Phase::BackOff(..) => self.begin_life(&id, false),
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
        let running = self.slots.values().filter(|s| matches!(s.phase, Phase::Running { .. })).count();
        let failed = self.slots.values().filter(|s| matches!(s.phase, Phase::Failed(_))).count();
        self.metrics.units_running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.metrics.units_failed.set(i64::try_from(failed).unwrap_or(i64::MAX));
    }

    // ---- drain -----------------------------------------------------------------------------------------------

    fn begin_drain(&mut self) {
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

    fn ended(&self) -> Option<Ended> {
        if let Some(words) = &self.stop {
            return Some(Ended::Stopped(words.clone()));
        }
        let ceiling = self.draining?;
        let over = self.slots.values().all(|slot| matches!(slot.phase, Phase::Idle));
        let others = self.nodes.iter().filter(|n| n.incarnation != self.me.incarnation).count();
        if Instant::now() >= ceiling && !over {
            tracing::warn!("the drain took too long; the rest of the leases will run out");
        }
        (over || Instant::now() >= ceiling).then_some(Ended::Drained { others })
    }

    async fn leave(self, ended: Ended) -> Ended {
        let me: RandomId = self.me.incarnation.clone();
        let left = tokio::time::timeout(self.lease(), self.store.leave(&self.lease_link, &me)).await;
        let ended = match (ended, left) {
            (Ended::Drained { .. }, Ok(Ok(nodes))) => Ended::Drained { others: nodes.len() },
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

    // ---- figures ---------------------------------------------------------------------------------------------

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
