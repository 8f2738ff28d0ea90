//! What the supervisor and the watchdog both see: arbiters with their pulse, units with their progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::actors::turn::Unit;
use crate::ids::RandomId;

/// The pulse of one arbiter: a task of its own bumps it; nothing does while its thread is blocked.
#[derive(Debug)]
pub struct Pulse {
    /// For log lines.
    pub name: String,
    beats: AtomicU64,
    blocked: AtomicBool,
}

impl Pulse {
    /// A pulse that has not beaten yet.
    pub fn new(name: String) -> Arc<Self> {
        Arc::new(Self { name, beats: AtomicU64::new(0), blocked: AtomicBool::new(false) })
    }

    /// Beats; called on the arbiter's own thread.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has beaten.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Whether its thread counts as blocked: its leases are not renewed.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) -> bool {
        self.blocked.swap(blocked, Ordering::Relaxed)
    }
}

/// An arbiter, as the watchdog sees it.
pub(super) struct WatchedPulse {
    pub(super) pulse: Arc<Pulse>,
    pub(super) seen: u64,
    /// The watchdog's time at the last change.
    pub(super) since: Option<Duration>,
}

/// A running unit, as the watchdog sees it.
pub(super) struct Watched {
    pub(super) unit: Arc<Unit>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) seen: u64,
    /// The watchdog's time at the last change.
    pub(super) since: Option<Duration>,
    pub(super) reported: bool,
}

/// Shared between the supervisor's arbiter and the watchdog's thread.
#[derive(Default)]
pub struct Board {
    pub(super) pulses: Mutex<Vec<WatchedPulse>>,
    pub(super) units: Mutex<Vec<Watched>>,
}

impl Board {
    /// Watches an arbiter.
    pub fn add_pulse(&self, pulse: Arc<Pulse>) {
        let watched = WatchedPulse { pulse, seen: 0, since: None };
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// Watches a unit.
    pub fn add_unit(&self, unit: Arc<Unit>, pulse: Arc<Pulse>) {
        let watched = Watched { unit, pulse, seen: 0, since: None, reported: false };
        self.units.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// Watches it no longer.
    pub fn remove_unit(&self, owner: &RandomId) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.retain(|watched| watched.unit.lease.held().owner != *owner);
    }
}
