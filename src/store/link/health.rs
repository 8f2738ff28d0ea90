//! What all connections of a process know of Redis together: whether it answers, and which server it is.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, watch};

/// What all connections of a process know of Redis together; shown by `/healthz` and `/metrics`.
#[derive(Debug)]
pub struct Health {
    down: AtomicBool,
    closing: AtomicBool,
    /// Wakes those who pause between two tries: one connection has found Redis again.
    pub(super) up: Notify,
    /// Connections opened since the start.
    pub connects_total: AtomicU64,
    /// Requests sent again because their outcome was unknown, or because Redis asked to wait.
    pub repeats_total: AtomicU64,
    /// The history that all connections work in, as its server names it; empty before the first connection.
    history: Mutex<String>,
    /// Its number: one more whenever a connection meets another history.
    home: watch::Sender<u64>,
    /// The Sentinel that led to a master last, as a place in the address.
    pub(super) sentinel: AtomicUsize,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            down: AtomicBool::default(),
            closing: AtomicBool::default(),
            up: Notify::default(),
            connects_total: AtomicU64::default(),
            repeats_total: AtomicU64::default(),
            history: Mutex::default(),
            home: watch::Sender::new(0),
            sentinel: AtomicUsize::default(),
        }
    }
}

impl Health {
    /// Whether the last request of any connection found Redis away.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// From now on a Redis that goes away is no news: this process ends it, or itself.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// How often the connections have met another server, or another history of the same one: 0 before the first
    /// connection, 1 since then, one more at each restart and failover.
    pub fn home(&self) -> u64 {
        *self.home.borrow()
    }

    /// Hears of every other home.
    pub(super) fn homes(&self) -> watch::Receiver<u64> {
        self.home.subscribe()
    }

    /// A connection has met `history` at `address`. Where that is news, all other connections must follow: renewals on
    /// one server and commits on another would be leases without a meaning.
    pub(super) fn settle(&self, history: &str, address: &str) -> u64 {
        let mut known = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != history {
            if !known.is_empty() {
                tracing::info!(address, "redis is another server, or the same one restarted; all connections follow");
            }
            history.clone_into(&mut known);
            self.home.send_modify(|home| *home += 1);
        }
        self.home()
    }

    /// The server of `home` takes no writes any more: it is no master. All connections leave it, and look for one anew; what
    /// it still answers to those who read would be taken for a sign of life.
    pub(super) fn leave(&self, home: u64) {
        let mut known = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if self.home() == home && !known.is_empty() {
            known.clear();
            self.home.send_modify(|home| *home += 1);
        }
    }

    pub(super) fn set_down(&self, down: bool, address: &str, reason: &str) {
        if self.closing.load(Ordering::Relaxed) {
            return;
        }
        if self.down.swap(down, Ordering::Relaxed) == down {
            return;
        }
        if down {
            tracing::warn!(address, error = reason, "redis is away; waiting");
        } else {
            tracing::info!(address, "redis answers again");
            self.up.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_changes_only_with_the_history() {
        let health = Health::default();
        assert_eq!(health.home(), 0);
        assert_eq!([health.settle("a", ""), health.settle("a", ""), health.settle("b", "")], [1, 1, 2]);
        assert_eq!(health.settle("a", ""), 3, "there and back is not the same: something may be lost in between");
    }

    #[test]
    fn a_master_that_is_none_any_more_is_left_once_by_all_who_worked_there() {
        let health = Health::default();
        let home = health.settle("a", "");
        health.leave(home);
        health.leave(home);
        assert_eq!(health.home(), home + 1);
        assert_eq!(health.settle("a", ""), home + 2, "it is a master again");
        health.leave(home);
        assert_eq!(health.home(), home + 2, "an old connection says nothing of the new home");
    }
}
