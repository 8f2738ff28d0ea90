//! The supervisor's memory of one unit: where it stands, and what it may do next. Touches nothing itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::life::UnitSpec;
use super::restart::Restarts;
use crate::actors::turn::Unit;
use crate::ids::{RandomId, Token};
use crate::store::lease::{Fate, Mail};
use crate::store::membership::UnitReport;

/// Longest error that a heartbeat carries, in bytes.
const ERROR_MAX: usize = 300;

/// An error as a heartbeat carries it.
pub fn shortened(mut words: String) -> String {
    if words.len() > ERROR_MAX {
        let end = (0..=ERROR_MAX).rev().find(|i| words.is_char_boundary(*i)).unwrap_or(0);
        words.truncate(end);
    }
    words
}

/// Where a unit stands on this node.
pub enum Phase {
    /// Not here.
    Idle,
    /// Its lease is being taken.
    Starting,
    /// It runs.
    Running {
        /// The unit.
        unit: Arc<Unit>,
        /// Cuts it.
        abort: AbortHandle,
        /// Since when.
        since: Instant,
        /// Why it is being stopped, if it is.
        stopping: Option<Stopping>,
    },
    /// Its lease is being given back.
    Releasing,
    /// It failed and starts again at this time; the lease is kept.
    BackOff(Instant, Arc<Unit>),
    /// It was given up; tried again at this time.
    Failed(Instant),
}

/// Why a running unit is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// Between two turns, then released; cut at this time.
    Drain(Instant),
    /// Cut at once: another holder or another history.
    Reload,
    /// Cut at once: no progress.
    Hung,
}

/// One unit of the configuration.
pub struct Slot {
    /// What it is.
    pub spec: UnitSpec,
    /// Where it stands.
    pub phase: Phase,
    /// Which worker runs it.
    pub worker: usize,
    /// Counts its lives: an event of an earlier one is not for the present one.
    pub life: u64,
    /// Its recent failures.
    pub restarts: Restarts,
    /// Restarts since the node's start.
    pub restarts_total: u64,
    /// Why it last ended badly.
    pub last_error: String,
    /// Our last acquisition, to be named at the next one.
    pub previous: Option<RandomId>,
    /// What became of its last turn.
    pub fate: Fate,
    /// The sequence number that it last knew, to notice a rollback.
    pub seq: u64,
    /// The fencing token that it last had.
    pub token: Token,
    /// Since when it has been free without us taking it.
    pub free_since: Option<Instant>,
    /// Since when another node has been the better place for it.
    pub elsewhere_since: Option<Instant>,
}

impl Slot {
    /// A unit that nobody holds here yet.
    pub fn new(spec: UnitSpec, worker: usize) -> Self {
        Self {
            spec,
            phase: Phase::Idle,
            worker,
            life: 0,
            restarts: Restarts::default(),
            restarts_total: 0,
            last_error: String::new(),
            previous: None,
            fate: Fate::Clean,
            seq: 0,
            token: Token(0),
            free_since: None,
            elsewhere_since: None,
        }
    }

    /// Whether the configuration has it no more: it is here to settle what it owes.
    pub fn is_retired(&self) -> bool {
        self.spec.mail == Mail::Owed
    }

    /// The unit whose lease this node holds, running or backing off.
    pub fn held(&self) -> Option<&Arc<Unit>> {
        match &self.phase {
            Phase::Running { unit, .. } | Phase::BackOff(_, unit) => Some(unit),
            Phase::Idle | Phase::Starting | Phase::Releasing | Phase::Failed(_) => None,
        }
    }

    /// When the supervisor must look at it again by itself.
    pub fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::BackOff(at, _) | Phase::Failed(at) => Some(*at),
            Phase::Running { stopping: Some(Stopping::Drain(at)), .. } => Some(*at),
            Phase::Running { .. } | Phase::Idle | Phase::Starting | Phase::Releasing => None,
        }
    }

    /// Whether it should be tried now, being free for us: at once where this node is its first choice, after half a
    /// lease as the second, after a whole one as any other.
    pub fn may_take(&self, rank: Option<usize>, now: Instant, lease: Duration) -> bool {
        let free_for = self.free_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        match rank {
            Some(0) => true,
            Some(1) => free_for >= lease / 2,
            Some(_) => free_for >= lease,
            None => false,
        }
    }

    /// What `status` shows. `given_up` says why a unit that never failed itself is given up: its pipeline is.
    pub fn report(&self, blocked: bool, given_up: impl Fn() -> String) -> Option<UnitReport> {
        let state = match &self.phase {
            Phase::Idle if self.last_error.is_empty() => return None,
            Phase::Idle => "idle",
            Phase::Starting => "starting",
            Phase::Running { .. } if blocked => "blocked",
            Phase::Running { stopping: Some(_), .. } => "stopping",
            Phase::Running { unit, .. } if unit.waiting().is_some() => "waiting",
            Phase::Running { .. } => "running",
            Phase::Releasing => "releasing",
            Phase::BackOff(..) => "restarting",
            Phase::Failed(_) => super::placement::GIVEN_UP,
        };
        let waiting = self.held().and_then(|unit| unit.waiting());
        let mut last_error = waiting.unwrap_or_else(|| self.last_error.clone());
        if last_error.is_empty() && matches!(self.phase, Phase::Failed(_)) {
            last_error = given_up();
        }
        Some(UnitReport {
            unit: self.spec.id.to_string(),
            state: state.to_owned(),
            restarts: self.restarts_total,
            last_error: shortened(last_error),
        })
    }
}
