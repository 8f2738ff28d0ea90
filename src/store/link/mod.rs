//! The connection to Redis: one of each class a node, reconnecting for ever.
//!
//! | file | what it does |
//! |---|---|
//! | `connect` | from the address, through Sentinels where it names them, to a master |
//! | `health` | what all connections know together; one that meets another server takes all along |
//! | `retry` | the pauses between two tries |
//! | `confirm` | waits until replicas, or the disk, have what was committed |
//! | `transact` | a transaction whose last command judges it |
//! | `raw` | connections that take bytes as they are, for transactions |
//! | `sentinels` | what people ask Sentinels |
//!
//! Every request made through a [`Link`] is idempotent (a repeat of a fenced script answers `DUP`, a repeat of a
//! read reads again), so a request whose outcome is unknown is simply sent again, verbatim. That is why no caller
//! ever sees a broken connection: it waits, or gives up after its own patience.

mod confirm;
mod connect;
mod health;
mod raw;
mod retry;
pub mod sentinels;
mod transact;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::sync::Mutex;

pub use health::Health;

use super::error::StoreError;
use super::options::StoreOptions;
use super::script::Script;
use confirm::Confirmer;
use connect::Place;
use raw::Spare;
use retry::Retry;
pub(super) use transact::{Transacted, Transaction};

/// What a connection is for; each has a deadline of its own, so that load on one delays no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reads, commits, commands of people.
    Command,
    /// Renewals and heartbeats: small, frequent, never behind data.
    Lease,
    /// Blocking reads that wake idle units.
    Bell,
    /// Waits for replicas or the disk, which block whatever comes behind them.
    Confirm,
}

/// How long a caller waits for Redis to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For ever: nodes.
    Forever,
    /// So long: commands of people.
    For(Duration),
}

/// One connection. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    options: Arc<StoreOptions>,
    health: Arc<Health>,
    class: Class,
    patience: Patience,
    /// Requests that have failed and will be sent again.
    waiting: AtomicU32,
    slot: Mutex<Slot>,
    /// Made where commits are confirmed.
    confirmer: OnceLock<Confirmer>,
    /// For transactions.
    raw: Spare,
}

#[derive(Default)]
struct Slot {
    /// Counts connections, so that only the first of many failed requests drops one.
    generation: u64,
    /// The home that it was opened in.
    home: u64,
    connection: Option<MultiplexedConnection>,
    /// Where it leads.
    place: Option<Arc<Place>>,
}

/// The answer to a script, and how it came about.
#[derive(Debug)]
pub struct Told {
    /// The answer.
    pub value: Value,
    /// The request was sent more than once: an earlier copy may still be under way, even across a failover, so what
    /// a repeat delivers must not be used.
    pub resent: bool,
    /// The [`Health::home`] whose server answered.
    pub home: u64,
}

/// Why one try failed, and what to do.
enum Failure {
    /// Waiting may cure it; `dropped` says whether the connection must be made anew.
    Passing { reason: String, dropped: bool },
    /// Redis does not know the script yet.
    NoScript,
    /// Waiting cures nothing.
    Final(StoreError),
}

impl Link {
    /// Describes a connection; it is opened at the first request, on the runtime that makes it.
    pub fn new(options: Arc<StoreOptions>, health: Arc<Health>, class: Class, patience: Patience) -> Self {
        Self {
            inner: Arc::new(Inner {
                options,
                health,
                class,
                patience,
                waiting: AtomicU32::new(0),
                slot: Mutex::default(),
                confirmer: OnceLock::new(),
                raw: Spare::default(),
            }),
        }
    }

    /// Another connection like this one, of another class.
    pub fn sibling(&self, class: Class) -> Self {
        Self::new(self.inner.options.clone(), self.inner.health.clone(), class, self.inner.patience)
    }

    /// The same connection class, with other patience.
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self::new(self.inner.options.clone(), self.inner.health.clone(), self.inner.class, patience)
    }

    /// The options it was made with.
    pub fn options(&self) -> &Arc<StoreOptions> {
        &self.inner.options
    }

    /// What is known of Redis.
    pub fn health(&self) -> &Arc<Health> {
        &self.inner.health
    }

    /// Whether a request of this connection waits to be sent again. Other connections may have found Redis already.
    pub fn is_waiting(&self) -> bool {
        self.inner.waiting.load(Ordering::Relaxed) > 0
    }

    /// Runs a script; sent again, verbatim, until there is an answer.
    pub async fn run(&self, script: &Script, keys: &[String], args: &[Vec<u8>]) -> Result<Value, StoreError> {
        self.run_and_tell(script, keys, args).await.map(|told| told.value)
    }

    /// As [`Link::run`], and tells how the answer came about.
    pub async fn run_and_tell(&self, script: &Script, keys: &[String], args: &[Vec<u8>]) -> Result<Told, StoreError> {
        let mut cmd = script.command(false, keys, args);
        let mut whole = false;
        let mut retry = Retry::new(&self.inner);
        loop {
            match self.once(&[&cmd], script.name).await {
                Ok((value, home)) => return Ok(Told { value, resent: retry.tries > 0, home }),
                // It was not run, so the second sending is the first copy.
                Err(Failure::NoScript) if !whole => {
                    whole = true;
                    cmd = script.command(true, keys, args);
                }
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Runs one idempotent command; sent again until there is an answer.
    pub async fn call(&self, name: &'static str, cmd: &Cmd) -> Result<Value, StoreError> {
        self.call_all(name, &[cmd]).await.map(|(value, _)| value)
    }

    /// As [`Link::call`], and tells how the answer came about.
    pub(super) async fn call_and_tell(&self, name: &'static str, cmd: &Cmd) -> Result<Told, StoreError> {
        let mut retry = Retry::new(&self.inner);
        loop {
            match self.once(&[cmd], name).await {
                Ok((value, home)) => return Ok(Told { value, resent: retry.tries > 0, home }),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Runs idempotent commands one after the other on one connection; sent again, all of them, until there is an
    /// answer to the last. Answers it, and the home that it comes from.
    pub(super) async fn call_all(&self, name: &'static str, cmds: &[&Cmd]) -> Result<(Value, u64), StoreError> {
        let mut retry = Retry::new(&self.inner);
        loop {
            match self.once(cmds, name).await {
                Ok(told) => return Ok(told),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Sends commands once, one after the other on one connection; answers the last answer, and the home that it
    /// comes from.
    async fn once(&self, cmds: &[&Cmd], name: &str) -> Result<(Value, u64), Failure> {
        let (mut connection, generation, home) = self.connection().await?;
        let mut last = Value::Nil;
        for cmd in cmds {
            let answer = async {
                match connection.send_packed_command(cmd).await {
                    Ok(Value::ServerError(error)) => Err(RedisError::from(error)),
                    other => other,
                }
            };
            last = self.answer((generation, home), name, answer).await?;
        }
        self.inner.health.set_down(false, &self.inner.options.address(), "");
        Ok((last, home))
    }

    /// Waits for one answer on the connection `generation` of `home`.
    async fn answer<T>(
        &self,
        at: (u64, u64),
        name: &str,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failure> {
        match self.while_at_home(at, std::pin::pin!(answer)).await? {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(&error, at, name).await),
        }
    }

    /// Waits for an answer as long as it comes from where the other connections are.
    async fn while_at_home<T>(
        &self,
        (generation, home): (u64, u64),
        answer: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut homes = self.inner.health.homes();
        let moved = async { drop(homes.wait_for(|now| *now != home).await) };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            // Its outcome is unknown, as after a cut connection.
            () = moved => {
                self.forget(generation).await;
                let reason = "another connection has found the master elsewhere".to_owned();
                Err(Failure::Passing { reason, dropped: true })
            }
        }
    }

    /// What an error says; a connection that is of no more use is forgotten.
    async fn failed(&self, error: &RedisError, (generation, home): (u64, u64), name: &str) -> Failure {
        let failure = judge(error, name);
        if error.code() == Some("READONLY") {
            self.inner.health.leave(home);
        }
        if matches!(failure, Failure::Passing { dropped: true, .. }) {
            self.forget(generation).await;
        }
        failure
    }

    async fn forget(&self, generation: u64) {
        let mut slot = self.inner.slot.lock().await;
        if slot.generation == generation {
            slot.connection = None;
        }
    }

    /// The connection with its number and its home; opened where there is none, or where it leads to a server that
    /// the others have left.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64, u64), Failure> {
        let mut slot = self.inner.slot.lock().await;
        if let Some(connection) = &slot.connection
            && slot.home == self.inner.health.home()
        {
            return Ok((connection.clone(), slot.generation, slot.home));
        }
        slot.connection = None;
        let opened = Box::pin(connect::open(&self.inner.options, &self.inner.health, self.inner.class)).await?;
        slot.generation += 1;
        slot.home = opened.home;
        slot.connection = Some(opened.connection.clone());
        slot.place = Some(opened.place);
        Ok((opened.connection, slot.generation, slot.home))
    }
}

/// What an error says: wait, load the script, or give up.
fn judge(error: &RedisError, name: &str) -> Failure {
    let words = || match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    match error.code() {
        Some("NOSCRIPT") => Failure::NoScript,
        // MISCONF: its disk is full or fails, so it takes no writes until it can keep them again.
        Some("LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS" | "MISCONF") => {
            Failure::Passing { reason: words(), dropped: false }
        }
        // A master that became a replica: the address may lead elsewhere at the next connection.
        Some("READONLY" | "UNBLOCKED") => Failure::Passing { reason: words(), dropped: true },
        Some("NOAUTH" | "WRONGPASS") => Failure::Final(wrong_password(words())),
        Some("NOPERM") => {
            let reason = format!("{}; `gapless doctor` prints the rights that the user needs", words());
            Failure::Final(StoreError::Refused { command: name.to_owned(), reason })
        }
        Some("OOM") => Failure::Final(StoreError::OutOfMemory(words())),
        Some(_) => Failure::Final(StoreError::Refused { command: name.to_owned(), reason: words() }),
        None if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() => {
            // A time-out says nothing of the request: it may still be under way on the old connection.
            Failure::Passing { reason: error.to_string(), dropped: true }
        }
        None => Failure::Final(StoreError::Refused { command: name.to_owned(), reason: error.to_string() }),
    }
}

fn wrong_password(reason: String) -> StoreError {
    let command = "the user or password (redis.username, redis.password, redis.password_file, redis.url)".to_owned();
    StoreError::Refused { command, reason }
}
