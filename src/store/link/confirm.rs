//! Waits until replicas, or the disk, have what was committed (`redis.durability`).
//!
//! `WAIT` and `WAITAOF` speak of the writes of their own connection, and block it. So a connection of its own writes
//! one small key behind the commits, then waits for that: the line of writes is one, so whoever has the last has all.

use redis::Value;
use tokio::sync::Mutex;

use super::{Class, Link};
use crate::config::Durability;
use crate::store::error::StoreError;
use crate::store::reply;
use std::sync::atomic::{AtomicU64, Ordering};

/// What waits for all units of a connection together: a round confirms everything that was answered before it began.
pub(super) struct Confirmer {
    link: Link,
    begun: AtomicU64,
    /// The last round that ended.
    last: Mutex<Round>,
}

struct Round {
    number: u64,
    /// The home that it was waited for in.
    home: u64,
    outcome: Result<(), StoreError>,
}

impl Confirmer {
    fn new(link: Link) -> Self {
        let none = Round { number: 0, home: 0, outcome: Ok(()) };
        Self { link, begun: AtomicU64::new(0), last: Mutex::new(none) }
    }

    /// Waits for one round that begins after this call; the one who finds none under way runs it for all.
    async fn round(&self, key: &str, home: u64) -> Result<(), StoreError> {
        let need = self.begun.load(Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if last.number < need {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let (home, outcome) = match self.ask(key).await {
                Ok((outcome, home)) => (home, outcome),
                Err(error) => (home, Err(error)),
            };
            *last = Round { number, home, outcome };
        }
        // Another server, or a restart: what was answered before may be lost, and only the checkpoint tells.
        if last.home != home { Err(StoreError::Moved { seq: 0 }) } else { last.outcome.clone() }
    }

    async fn ask(&self, key: &str) -> Result<(Result<(), StoreError>, u64), StoreError> {
        let options = self.link.options();
        let limit = u64::try_from(options.wait.as_millis()).unwrap_or(u64::MAX);
        let mut write = redis::cmd("SET");
        write.arg(key).arg("");
        let (wait, name, what, wanted) = match options.durability {
            Durability::Fast => return Ok((Ok(()), self.link.health().home())),
            Durability::Replicated { replicas } => {
                let mut wait = redis::cmd("WAIT");
                wait.arg(replicas).arg(limit);
                (wait, "WAIT", "replicas (redis.wait_replicas)", u64::from(replicas))
            }
            Durability::Fsync => {
                let mut wait = redis::cmd("WAITAOF");
                wait.arg(1).arg(0).arg(limit);
                (wait, "WAITAOF", "disk of the master (redis.durability)", 1)
            }
        };
        match self.link.call_all(name, &[&write, &wait]).await {
            Ok((value, home)) => {
                let first = match value {
                    Value::Array(values) => values.into_iter().next().unwrap_or(Value::Nil),
                    value => value,
                };
                let found = reply::text(name, first)?.parse().unwrap_or(0);
                let outcome =
                    if found >= wanted { Ok(()) } else { Err(StoreError::Unconfirmed { found, wanted, what }) };
                Ok((outcome, home))
            }
            // A server without WAITAOF was let in because it syncs before it answers (`appendfsync always`).
            Err(StoreError::Refused { reason, .. }) if is_unknown(&reason) && name == "WAITAOF" => {
                Ok((Ok(()), self.link.health().home()))
            }
            Err(error) => Err(error),
        }
    }
}

fn is_unknown(reason: &str) -> bool {
    reason.contains("unknown command")
}

impl Link {
    /// Waits until everything that was answered to this process in the history `home` is kept as `redis.durability`
    /// asks; at once where it asks nothing. `key` is written on the way.
    ///
    /// `Unconfirmed`: not yet, ask again. `Moved`: Redis is another server meanwhile, so the answers may be lost.
    pub(in crate::store) async fn confirm(&self, key: &str, home: u64) -> Result<(), StoreError> {
        if self.inner.options.durability == Durability::Fast {
            return Ok(());
        }
        self.inner.confirmer.get_or_init(|| Confirmer::new(self.sibling(Class::Confirm))).round(key, home).await
    }
}
