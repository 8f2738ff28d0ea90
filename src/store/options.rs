//! How to reach Redis, and the bounds that the store keeps.

use std::sync::Arc;
use std::time::Duration;

use super::managed::Managed;
use crate::config::{Durability, RedisTls, RedisUrl};

/// Where Redis is.
#[derive(Debug, Clone)]
pub enum Place {
    /// At an address that somebody else keeps alive.
    Server(RedisUrl),
    /// A private server on this machine, found through its data folder.
    Managed(Arc<Managed>),
}

/// How long the bell's blocking read waits. Long, for a node with nothing to do asks as often; what it may miss while its
/// connection is dead is seen by the beat.
pub const BELL_BLOCK: Duration = Duration::from_secs(5);

/// Everything the store is told from the configuration. Each field names its key.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `redis.url`.
    pub place: Place,
    /// The ACL user; none = `default`.
    pub username: Option<String>,
    /// `redis.password`, the content of `redis.password_file`, or what the URL held.
    pub password: Option<String>,
    /// `redis.sentinel_username`.
    pub sentinel_username: Option<String>,
    /// `redis.sentinel_password` or the content of `redis.sentinel_password_file`.
    pub sentinel_password: Option<String>,
    /// `redis.tls_*`.
    pub tls: RedisTls,
    /// `redis.durability` and `redis.wait_replicas`.
    pub durability: Durability,
    /// `redis.wait_ms`: one look for what `durability` asks.
    pub wait: Duration,
    /// `redis.prefix`.
    pub prefix: String,
    /// `redis.connect_timeout_ms`.
    pub connect_timeout: Duration,
    /// `redis.command_timeout_ms`: until the answer to a read or commit.
    pub command_timeout: Duration,
    /// `redis.lease_timeout_ms`: until the answer to a renewal.
    pub lease_timeout: Duration,
    /// How long one blocking read waits for entries ([`BELL_BLOCK`]).
    pub bell_block: Duration,
    /// `redis.reconnect_min_ms`.
    pub reconnect_min: Duration,
    /// `redis.reconnect_max_ms`.
    pub reconnect_max: Duration,
    /// `node.lease_seconds`.
    pub lease: Duration,
    /// The bounds of mailboxes and checkpoints.
    pub limits: Limits,
}

/// Bounds, all from `[mailbox]`.
///
/// Keeps G10: no input, outage or backlog grows memory in a node or in a mailbox without bound: the reader waits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `mailbox.turn_entries_max`: entries of one turn.
    pub turn_entries_max: u32,
    /// `mailbox.turn_bytes_max`: bytes that one turn reads, and that one commit writes.
    pub turn_bytes_max: usize,
    /// `mailbox.entry_bytes_max`: bytes of one entry.
    pub entry_bytes_max: usize,
    /// `mailbox.state_bytes_max`: bytes of the state in a checkpoint.
    pub state_bytes_max: usize,
    /// `mailbox.failed_attempts_max`: failed attempts before an entry is set aside.
    pub failed_attempts_max: u64,
    /// `mailbox.unfinished_attempts_max`: attempts whose holder vanished before an entry is set aside.
    pub unfinished_attempts_max: u64,
    /// `mailbox.dead_letters_max`: entries of one dead-letter stream; when it is full its unit waits, loudly.
    pub dead_letters_max: u64,
    /// `mailbox.dedupe_window_seconds`.
    pub dedupe_window: Duration,
    /// `mailbox.dedupe_entries_max`.
    pub dedupe_entries_max: u64,
    /// `mailbox.history_max`: samples of one checkpoint.
    pub history_max: u32,
    /// `mailbox.history_interval_seconds`.
    pub history_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            turn_entries_max: 200,
            turn_bytes_max: 512 * 1024,
            entry_bytes_max: 256 * 1024,
            state_bytes_max: 64 * 1024,
            failed_attempts_max: 5,
            unfinished_attempts_max: 20,
            dead_letters_max: 10_000,
            dedupe_window: Duration::from_secs(3600),
            dedupe_entries_max: 100_000,
            history_max: 32,
            history_interval: Duration::from_secs(60),
        }
    }
}

impl StoreOptions {
    /// Defaults for a Redis at `url`; tests and benches begin here.
    ///
    /// # Panics
    /// When `url` cannot be the address of a Redis.
    pub fn at(url: &str) -> Self {
        let url = RedisUrl::parse(url).unwrap_or_else(|fault| panic!("{fault}"));
        Self {
            username: url.username.clone(),
            password: url.password.as_ref().map(|password| password.reveal().to_owned()),
            place: Place::Server(url),
            sentinel_username: None,
            sentinel_password: None,
            tls: RedisTls::default(),
            durability: Durability::Fast,
            wait: Duration::from_secs(1),
            prefix: "gapless".to_owned(),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(2),
            lease_timeout: Duration::from_millis(500),
            bell_block: BELL_BLOCK,
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_secs(2),
            lease: Duration::from_secs(3),
            limits: Limits::default(),
        }
    }

    /// Where Redis is, for people: never with a password.
    pub fn address(&self) -> String {
        match &self.place {
            Place::Server(url) => url.to_string(),
            Place::Managed(managed) => format!("managed in {}", managed.folder().display()),
        }
    }
}
