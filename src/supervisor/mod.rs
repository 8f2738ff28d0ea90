//! Life: starts units, renews their leases, starts them again, moves them, and drains the node.
//!
//! actix's own supervisor neither survives a panic nor pauses between restarts, so this one is built from a factory
//! per unit and the join handle of its context. It restarts on an error, on a panic anywhere in the actor (its
//! factory included) and on missing progress; it gives a unit up for a while after too many restarts, while its
//! siblings go on, then its pipeline, and in the end itself.

pub mod beat;
pub mod bell;
pub mod board;
pub mod claim;
mod drain;
mod escalate;
pub mod group;
pub mod identity;
pub mod ladder;
pub mod life;
mod lives;
mod losses;
pub mod node;
mod options;
pub mod placement;
pub mod restart;
mod retired;
pub mod slot;
mod starts;
mod upgrade;
pub mod watchdog;
pub mod wiring;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::ids::UnitId;
use crate::store::beat::UnitSeen;
use crate::store::format::Agreement;
use crate::store::link::{Class, Link, Patience};
use crate::store::membership::NodeInfo;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use bell::Bell;
use board::{Board, Pulse};
use escalate::Escalation;
use ladder::LadderOptions;
use life::{Event, UnitSpec};
use restart::RestartOptions;
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
    /// `starts_at_a_time`: units whose lease is being taken at the same time.
    pub starts_at_a_time: usize,
    /// When the node is not ready, and when it ends.
    pub ladder: LadderOptions,
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
            starts_at_a_time: 10,
            ladder: LadderOptions::default(),
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
    /// What others run fails here: it gave everything away, and its process is to be started afresh.
    GaveUp(String),
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
///
/// Keeps G4: when a node dies while Redis is reachable, each thing it held is resumed by another node from the last
/// commit, within two lease times, without an operator.
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
    /// Why the last beats were refused; empty while they are not.
    beat_refused: String,
    last_beat: Option<Instant>,
    /// Until then only units that this node held last are taken.
    calm_until: Option<Instant>,
    /// When the slots of the pools were last looked at for what removed ones still owe.
    pools_seen: Option<Instant>,
    agreement: Agreement,
    nodes: Vec<NodeInfo>,
    draining: Option<Instant>,
    stop: Option<String>,
    escalation: Escalation,
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
        beat_refused: String::new(),
        last_beat: None,
        calm_until: None,
        pools_seen: None,
        agreement: Agreement::default(),
        nodes: Vec::new(),
        draining: None,
        stop: None,
        escalation: Escalation::default(),
        me_tx,
        nodes_tx,
    };
    supervisor.slots.keys().for_each(|id| supervisor.metrics.begin_at_zero(id));
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
        // One whose pause is over while others start is woken by the end of a start.
        let full = !self.may_start();
        let slots = self.slots.values().filter(|slot| !(full && matches!(slot.phase, Phase::BackOff(..))));
        let slots = slots.filter_map(Slot::due).min().unwrap_or(far);
        let drain = self.draining.unwrap_or(far);
        beat.min(slots).min(drain)
    }

    fn send_beat(&mut self, answers: mpsc::Sender<Beaten>) {
        self.beat_under_way = true;
        self.beat_due = Instant::now() + self.beat_period();
        self.describe_me();
        let mut units = BTreeMap::<_, Vec<_>>::new();
        for (id, slot) in &self.slots {
            let blocked = self.workers[slot.worker].pulse.is_blocked();
            let known = slot.held().filter(|_| !blocked).map(|unit| beat::Known::of(unit));
            units.entry(id.pipeline.clone()).or_default().push((id.clone(), known));
        }
        let question = beat::Question { me: self.me.clone(), units, pools: self.pools_due() };
        let (store, link) = (self.store.clone(), self.lease_link.clone());
        actix_rt::spawn(async move {
            let answer = beat::exchange(&store, &link, question).await;
            // The supervisor is gone only at the end of the process.
            let _ = answers.send(answer).await;
        });
    }

    fn reports(&self) -> Vec<crate::store::membership::UnitReport> {
        let report = |slot: &Slot| {
            let blocked = self.workers[slot.worker].pulse.is_blocked();
            slot.report(blocked, || self.group_words(&slot.spec.id.pipeline))
        };
        let mut reports: Vec<_> = self.slots.values().filter_map(report).collect();
        // The others plan with what was given up, so that is never what is cut off.
        reports.sort_by_key(|report| report.state != placement::GIVEN_UP);
        reports.truncate(REPORTS_MAX);
        reports
    }

    fn on_beat(&mut self, answer: Beaten) {
        self.beat_under_way = false;
        let health = self.lease_link.health();
        self.metrics.redis_up.set(i64::from(!health.is_down()));
        let moves = health.home().saturating_sub(1);
        self.metrics.redis_moves.inc_by(moves.saturating_sub(self.metrics.redis_moves.get()));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // The link itself tells of a Redis that is away; anything else is news, once.
                if !matches!(error, StoreError::Unreachable { .. }) {
                    self.tell_refused(&error.to_string());
                }
                return;
            }
        };
        match answer.refused.first() {
            Some((pipeline, error)) => self.tell_refused(&format!("{pipeline}: {error}")),
            None => self.beat_refused.clear(),
        }
        // After an outage leases have run out under living holders: leave each to whoever held it for one lease.
        let now = Instant::now();
        if self.last_beat.is_some_and(|last| now.duration_since(last) > self.lease()) {
            self.calm_until = Some(now + self.lease());
            self.forget_illness();
        }
        self.last_beat = Some(now);
        if answer.cluster.as_ref() != Some(&self.store.cluster) {
            let found = answer.cluster.map_or_else(String::new, |id| id.to_string());
            let error = StoreError::Alien { expected: self.store.cluster.to_string(), found };
            self.stop.get_or_insert(error.to_string());
            return;
        }
        self.tell_members(&answer.nodes);
        self.nodes = answer.nodes;
        self.nodes_tx.send_replace(self.nodes.clone());
        self.agree_on_a_format();
        self.on_owed(answer.owed);
        self.escalation.waiting.clear();
        let rankings = self.rankings();
        for (id, known, seen) in answer.units {
            let rank = rankings.get(&id).and_then(|r| r.iter().position(|n| *n == self.me.incarnation));
            match known {
                Some(known) => self.check_held(&id, &known, &seen, rank),
                None => {
                    let waits = seen.node != self.me.name && self.calm_until.is_some_and(|until| now < until);
                    self.consider(&id, seen.left_ms == 0 && !waits, rank);
                }
            }
        }
        self.climb();
    }

    /// One line when beats begin to be refused, not one for each.
    fn tell_refused(&mut self, words: &str) {
        if self.beat_refused != words {
            tracing::error!(error = words, "leases cannot be renewed");
            words.clone_into(&mut self.beat_refused);
        }
    }

    /// One line for each node that came or went.
    fn tell_members(&self, now: &[NodeInfo]) {
        let others = |nodes: &'_ [NodeInfo]| -> Vec<NodeInfo> {
            nodes.iter().filter(|node| node.incarnation != self.me.incarnation).cloned().collect()
        };
        let (before, now) = (others(&self.nodes), others(now));
        let lacks = |nodes: &[NodeInfo], node: &NodeInfo| nodes.iter().all(|n| n.incarnation != node.incarnation);
        for node in now.iter().filter(|node| lacks(&before, node)) {
            tracing::info!(node = node.name, incarnation = node.incarnation.short(), "another node is there");
        }
        for node in before.iter().filter(|node| lacks(&now, node)) {
            let how = if node.draining { "drained" } else { "its heartbeat stopped" };
            tracing::info!(node = node.name, incarnation = node.incarnation.short(), how, "a node is gone");
        }
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
        if let Some(mail) = &seen.mail {
            self.bell.look(&unit, mail, lease);
        }
        // Moves are slow on purpose: a node that comes and goes must not shake everything.
        let elsewhere = match rank {
            Some(0) => {
                slot.elsewhere_since = None;
                false
            }
            _ => now.duration_since(*slot.elsewhere_since.get_or_insert(now)) >= lease,
        };
        let reason = match (elsewhere, unit.lease.format() < self.store.formats.writes()) {
            (true, _) => "moving to another node",
            (false, true) => "giving it back once, to write a newer format",
            (false, false) => return,
        };
        if let Phase::Running { unit, stopping: stopping @ None, .. } = &mut slot.phase {
            tracing::info!(unit = %id, "{reason}");
            unit.drain();
            *stopping = Some(Stopping::Drain(now + grace));
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
            self.start_in_turn(id);
        }
    }
}
