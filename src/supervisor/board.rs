//! What the supervisor and the watchdog both see: arbiters with their pulse, units with their progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::actors::turn::Unit;
use crate::ids::RandomId;

/// The pulse of one arbiter: a task of its own bumps it; nothing does while its thread is blocked.
#[derive(Debug)]
pub struct Pulse {
    /// For log lines.
    pub name: String,
    started: Instant,
    last_ms: AtomicU64,
    blocked: AtomicBool,
}

impl Pulse {
    /// A pulse that beats now.
    pub fn new(name: String) -> Arc<Self> {
        Arc::new(Self { name, started: Instant::now(), last_ms: AtomicU64::new(0), blocked: AtomicBool::new(false) })
    }

    /// Beats; called on the arbiter's own thread.
    pub fn beat(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long it has not beaten.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    /// Whether its thread counts as blocked: its leases are not renewed.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) -> bool {
        self.blocked.swap(blocked, Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A running unit, as the watchdog sees it.
pub(super) struct Watched {
    pub(super) unit: Arc<Unit>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) seen: u64,
    pub(super) since: Instant,
    pub(super) reported: bool,
}

/// Shared between the supervisor's arbiter and the watchdog's thread.
#[derive(Default)]
pub struct Board {
    pub(super) pulses: Mutex<Vec<Arc<Pulse>>>,
    pub(super) units: Mutex<Vec<Watched>>,
}

impl Board {
    /// Watches an arbiter.
    pub fn add_pulse(&self, pulse: Arc<Pulse>) {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(pulse);
    }

    /// Watches a unit.
    pub fn add_unit(&self, unit: Arc<Unit>, pulse: Arc<Pulse>) {
        let watched = Watched { unit, pulse, seen: 0, since: Instant::now(), reported: false };
        self.units.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// Watches it no longer.
    pub fn remove_unit(&self, owner: &RandomId) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.retain(|watched| watched.unit.lease.held().owner != *owner);
    }
}
