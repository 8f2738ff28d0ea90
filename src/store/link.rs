//! The connection to Redis: one of each class a node, reconnecting for ever.
//!
//! Every request made through a [`Link`] is idempotent (a repeat of a fenced script answers `DUP`, a repeat of a
//! read reads again), so a request whose outcome is unknown is simply sent again, verbatim. That is why no caller
//! ever sees a broken connection: it waits, or gives up after its own patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, RedisError, Value};
use tokio::sync::{Mutex, Notify};

use super::error::StoreError;
use super::managed::Managed;
use super::options::{Place, StoreOptions};
use super::reply;
use super::script::Script;

/// What a connection is for; each has a deadline of its own, so that load on one delays no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reads, commits, commands of people.
    Command,
    /// Renewals and heartbeats: small, frequent, never behind data.
    Lease,
    /// Blocking reads that wake idle units.
    Bell,
}

/// How long a caller waits for Redis to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For ever: nodes.
    Forever,
    /// So long: commands of people.
    For(Duration),
}

/// What all connections of a process know of Redis together; shown by `/healthz` and `/metrics`.
#[derive(Debug, Default)]
pub struct Health {
    down: AtomicBool,
    closing: AtomicBool,
    /// Wakes those who pause between two tries: one connection has found Redis again.
    up: Notify,
    /// Connections opened since the start.
    pub connects_total: AtomicU64,
    /// Requests sent again because their outcome was unknown, or because Redis asked to wait.
    pub repeats_total: AtomicU64,
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

    fn set_down(&self, down: bool, address: &str, reason: &str) {
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
}

#[derive(Default)]
struct Slot {
    /// Counts connections, so that only the first of many failed requests drops one.
    generation: u64,
    connection: Option<MultiplexedConnection>,
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
        self.run_and_tell(script, keys, args).await.map(|(value, _)| value)
    }

    /// As [`Link::run`], and tells whether the request was sent more than once: an earlier copy may still be under
    /// way then, even across a failover, so what a repeat delivers must not be used.
    pub async fn run_and_tell(
        &self,
        script: &Script,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<(Value, bool), StoreError> {
        let mut cmd = script.command(false, keys, args);
        let mut whole = false;
        let mut retry = Retry::new(&self.inner);
        loop {
            match self.once(&cmd, script.name).await {
                Ok(value) => return Ok((value, retry.tries > 0)),
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
        let mut retry = Retry::new(&self.inner);
        loop {
            match self.once(cmd, name).await {
                Ok(value) => return Ok(value),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    async fn once(&self, cmd: &Cmd, name: &str) -> Result<Value, Failure> {
        let (mut connection, generation) = self.connection().await?;
        let error = match connection.send_packed_command(cmd).await {
            Ok(Value::ServerError(error)) => RedisError::from(error),
            Ok(value) => {
                self.inner.health.set_down(false, &self.inner.options.address(), "");
                return Ok(value);
            }
            Err(error) => error,
        };
        let failure = self.judge(&error, name);
        if matches!(failure, Failure::Passing { dropped: true, .. }) {
            self.forget(generation).await;
        }
        Err(failure)
    }

    fn judge(&self, error: &RedisError, name: &str) -> Failure {
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
            Some("NOAUTH") => Failure::Final(wrong_password(words())),
            Some("OOM") => Failure::Final(StoreError::OutOfMemory(words())),
            Some(_) => Failure::Final(StoreError::Refused { command: name.to_owned(), reason: words() }),
            None if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() => {
                // A time-out says nothing of the request: it may still be under way on the old connection.
                Failure::Passing { reason: error.to_string(), dropped: true }
            }
            None => Failure::Final(StoreError::Refused { command: name.to_owned(), reason: error.to_string() }),
        }
    }

    async fn forget(&self, generation: u64) {
        let mut slot = self.inner.slot.lock().await;
        if slot.generation == generation {
            slot.connection = None;
        }
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Failure> {
        let mut slot = self.inner.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((connection.clone(), slot.generation));
        }
        let connection = self.open().await?;
        slot.generation += 1;
        slot.connection = Some(connection.clone());
        Ok((connection, slot.generation))
    }

    async fn open(&self) -> Result<MultiplexedConnection, Failure> {
        let options = &self.inner.options;
        let passing = |reason: String| Failure::Passing { reason, dropped: true };
        let url = match &options.place {
            Place::Url(url) => url.clone(),
            Place::Managed(managed) => locate(managed.clone()).await.map_err(passing)?,
        };
        let info = url.as_str().into_connection_info().map_err(|error| {
            Failure::Final(StoreError::Refused { command: "redis.url".to_owned(), reason: error.to_string() })
        })?;
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(password) = &options.password {
            settings = settings.set_password(password);
        }
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        let client = Client::open(info).map_err(|error| passing(error.to_string()))?;
        let response = match self.inner.class {
            Class::Command => options.command_timeout,
            Class::Lease => options.lease_timeout,
            Class::Bell => options.bell_block + options.command_timeout,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(response));
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        self.inner.health.connects_total.fetch_add(1, Ordering::Relaxed);
        let mut connection = connected.map_err(|error| match error.kind() {
            redis::ErrorKind::AuthenticationFailed => Failure::Final(wrong_password(error.to_string())),
            _ => passing(error.to_string()),
        })?;
        self.check_role(&mut connection).await?;
        Ok(connection)
    }

    /// A replica would take reads and refuse writes; it is as good as away.
    async fn check_role(&self, connection: &mut MultiplexedConnection) -> Result<(), Failure> {
        let role = match connection.send_packed_command(&redis::cmd("ROLE")).await {
            Ok(Value::ServerError(error)) => Err(RedisError::from(error)),
            other => other,
        };
        let role = match role {
            // A user without the right to ask learns of a replica at the first write.
            Err(error) if error.code() == Some("NOPERM") => return Ok(()),
            role => role.map_err(|error| self.judge(&error, "ROLE"))?,
        };
        let mut row = reply::Row::new("ROLE", role).map_err(Failure::Final)?;
        let word = row.text().map_err(Failure::Final)?;
        if word == "master" {
            return Ok(());
        }
        Err(Failure::Passing { reason: format!("the server is a {word}, not a master"), dropped: true })
    }
}

/// Starting a server and reading its address block, so they leave the runtime alone.
async fn locate(managed: Arc<Managed>) -> Result<String, String> {
    let located = tokio::task::spawn_blocking(move || managed.locate()).await;
    located.map_err(|error| format!("looking for the managed redis: {error}"))?
}

fn wrong_password(reason: String) -> StoreError {
    StoreError::Refused { command: "the password (redis.password, redis.password_file)".to_owned(), reason }
}

/// Waits between tries: exponential with full jitter, bounded by the configuration.
struct Retry<'a> {
    inner: &'a Inner,
    started: Instant,
    tries: u32,
}

impl<'a> Retry<'a> {
    fn new(inner: &'a Inner) -> Self {
        Self { inner, started: Instant::now(), tries: 0 }
    }

    async fn after(&mut self, failure: Failure) -> Result<(), StoreError> {
        let (reason, stale) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::NoScript => ("the script was lost twice".to_owned(), false),
            Failure::Passing { reason, dropped } => (reason, dropped && self.tries == 0),
        };
        let options = &self.inner.options;
        let address = options.address();
        // A connection that broke while it was idle says nothing of Redis: the next one tells.
        if !stale {
            self.inner.health.set_down(true, &address, &reason);
        }
        self.inner.health.repeats_total.fetch_add(1, Ordering::Relaxed);
        if let Patience::For(limit) = self.inner.patience
            && self.started.elapsed() >= limit
        {
            return Err(StoreError::Unreachable { address, reason });
        }
        if self.tries == 0 {
            self.inner.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let ceiling = options.reconnect_min.saturating_mul(1 << self.tries.min(16)).min(options.reconnect_max);
        self.tries += 1;
        let wait = ceiling.mul_f64(rand::random_range(0.5..=1.0));
        // News of Redis ends a long pause, never the shortest: a connection that alone fails must not spin.
        let shortest = wait.min(options.reconnect_min);
        let mut news = std::pin::pin!(self.inner.health.up.notified());
        news.as_mut().enable();
        tokio::time::sleep(shortest).await;
        tokio::select! {
            () = news => {}
            () = tokio::time::sleep(wait - shortest) => {}
        }
        Ok(())
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        if self.tries > 0 {
            self.inner.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
