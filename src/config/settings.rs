//! Settings: the configuration after every check, in the types that the rest of the program uses.
//!
//! A field is named like its key in `config/default.toml` without the unit: durations are [`Duration`]s, sizes are bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::logs::LogsSettings;
use super::redis_url::RedisUrl;
use super::sync::SyncSettings;
use crate::ids::{Kind, PipelineId};
use crate::messages::heights::Height;

/// Everything that a node was told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[redis]`.
    pub redis: RedisSettings,
    /// `[node]`.
    pub node: NodeSettings,
    /// `[log]`.
    pub log: LogSettings,
    /// `[supervisor]`.
    pub supervisor: SupervisorSettings,
    /// `[mailbox]`.
    pub mailbox: MailboxSettings,
    /// `[blocks.NAME]`, by name.
    pub blocks: BTreeMap<String, BlocksSettings>,
    /// `[logs.NAME]`, by name.
    pub logs: BTreeMap<String, LogsSettings>,
    /// `[selftest.NAME]`, by name.
    pub selftest: BTreeMap<String, SelftestSettings>,
    /// `[sync.NAME]`, by name.
    pub sync: BTreeMap<String, SyncSettings>,
}

impl Settings {
    /// The pipelines, by kind and then by name.
    pub fn pipelines(&self) -> Vec<PipelineId> {
        let blocks = self.blocks.keys().map(|name| PipelineId::new(Kind::Blocks, name));
        let selftest = self.selftest.keys().map(|name| PipelineId::new(Kind::Selftest, name));
        let logs = self.logs.keys().map(|name| PipelineId::new(Kind::Logs, name));
        let sync = self.sync.keys().map(|name| PipelineId::new(Kind::Sync, name));
        blocks.chain(logs).chain(selftest).chain(sync).collect()
    }
}

/// Where Redis is and how long to wait for it.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Key `url`.
    pub url: RedisAddress,
    /// Folder of the managed Redis.
    pub data_dir: PathBuf,
    /// First part of every key; `[a-z0-9_]+`.
    pub prefix: String,
    /// Loopback port of the managed Redis; 0 = any free one.
    pub managed_port: u16,
    /// From the URL or `username`; none = the user `default`.
    pub username: Option<String>,
    /// From the URL, `password` or `password_file`; never from two of them.
    pub password: Option<Secret>,
    /// What the Sentinels ask for; none = nothing.
    pub sentinel_username: Option<String>,
    /// From `sentinel_password` or `sentinel_password_file`.
    pub sentinel_password: Option<Secret>,
    /// How TLS is spoken, where `url` says so.
    pub tls: RedisTls,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one command.
    pub command_timeout: Duration,
    /// Longest wait for an answer on the connection that renews leases.
    pub lease_timeout: Duration,
    /// First pause before a lost connection is tried again.
    pub reconnect_min: Duration,
    /// Longest such pause; never below `reconnect_min`.
    pub reconnect_max: Duration,
    /// What to do when Redis may evict keys.
    pub eviction: OnUnsafe,
    /// What to do when Redis persists nothing.
    pub persistence: OnUnsafe,
    /// When a commit counts as kept.
    pub durability: Durability,
    /// How long one look for that may take.
    pub wait: Duration,
}

/// Which Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// A private server on this machine.
    Managed,
    /// One that others run.
    Server(RedisUrl),
}

/// How TLS to Redis is spoken. Files are read at every connection, so renewed certificates need no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Key `tls_ca_file`: PEM; none = the authorities that this system trusts.
    pub ca_file: Option<PathBuf>,
    /// Keys `tls_cert_file` and `tls_key_file`: PEM; none = no client certificate.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Key `tls_insecure`: certificates are not checked.
    pub insecure: bool,
}

/// When a commit counts as kept, for the unit that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As soon as Redis answers.
    Fast,
    /// When this many replicas have it.
    Replicated {
        /// Key `wait_replicas`.
        replicas: u32,
    },
    /// When it is on the disk of the master.
    Fsync,
}

/// What to do about a Redis whose settings may lose data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnsafe {
    /// Do not start.
    Refuse,
    /// Say so in one line and start.
    Warn,
}

/// The process and its place in the fleet.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Never empty: the host name where none was given.
    pub name: String,
    /// Never empty: what this machine calls itself where none was given. What belongs to a host is held by its nodes alone.
    pub host: String,
    /// Where the page, the API and the metrics listen; none = nowhere.
    pub http: Option<SocketAddr>,
    /// Life of a lease without renewal; whole seconds.
    pub lease: Duration,
    /// Ceiling of an orderly stop.
    pub drain: Duration,
    /// How long a turn may still run when its unit stops.
    pub turn_grace: Duration,
    /// Bearer token for changing calls, read from `token_file`; none = they are refused.
    pub token: Option<Secret>,
    /// Folder for what a node must remember.
    pub state_dir: PathBuf,
    /// Threads that run actors; 1 to 64.
    pub workers: usize,
    /// How long superseded files outside Redis are kept.
    pub rollback_horizon: Duration,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level, or levels by module; checked.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When a unit is started again, and when it is given up.
#[derive(Debug, Clone)]
pub struct SupervisorSettings {
    /// First pause before a restart.
    pub backoff_min: Duration,
    /// Longest pause; never below `backoff_min`.
    pub backoff_max: Duration,
    /// Time without a fault after which the pause starts from its minimum again.
    pub healthy: Duration,
    /// Restarts within `restart_window` after which a unit is reported failed.
    pub restarts_max: u32,
    /// Restarts of all units of one pipeline within `restart_window` after which this node gives all of it up; never
    /// below `restarts_max`.
    pub group_restarts_max: u32,
    /// The window for `restarts_max` and `group_restarts_max`.
    pub restart_window: Duration,
    /// How long a failed unit or pipeline is left alone by this node, the first time.
    pub failed_cooldown: Duration,
    /// Longest such time, doubled each time; never below `failed_cooldown`.
    pub failed_cooldown_max: Duration,
    /// Units whose lease is being taken at the same time; 1 or more.
    pub starts_at_a_time: usize,
    /// Pipelines given up here at the same time at which the node is not ready; 0 = all that it runs.
    pub failed_groups_exit: usize,
    /// How long that must last, while other nodes run them, before the process ends; none = never.
    pub unready_exit: Option<Duration>,
    /// A turn without progress for this long counts as hung.
    pub hang: Duration,
    /// A thread that runs nothing for this long is reported.
    pub blocked: Duration,
    /// A thread blocked for this long ends the process; always longer than `blocked`.
    pub blocked_exit: Duration,
}

/// The limits of mailboxes, turns and checkpoints.
#[derive(Debug, Clone)]
pub struct MailboxSettings {
    /// Most entries in one mailbox.
    pub capacity: u64,
    /// Most entries in one turn.
    pub turn_entries_max: usize,
    /// Most bytes in one turn; never below `entry_bytes_max`.
    pub turn_bytes_max: usize,
    /// Most bytes of one entry.
    pub entry_bytes_max: usize,
    /// Failed attempts of one entry before it becomes a dead letter.
    pub failed_attempts_max: u32,
    /// Unfinished attempts of one entry before it becomes a dead letter.
    pub unfinished_attempts_max: u32,
    /// Most dead letters of one mailbox.
    pub dead_letters_max: u64,
    /// How long the id of a sent message is remembered; zero = not at all.
    pub dedupe_window: Duration,
    /// Most ids remembered for one mailbox.
    pub dedupe_entries_max: u64,
    /// Checkpoints kept for each unit.
    pub history_max: u32,
    /// At most one checkpoint goes into the history in this time.
    pub history_interval: Duration,
    /// Most bytes of the state in one checkpoint; at most 65,536.
    pub state_bytes_max: usize,
}

/// One chain: what to collect, from where, into which folder.
#[derive(Debug, Clone)]
pub struct BlocksSettings {
    /// The dialect of the endpoints.
    pub chain: ChainDialect,
    /// The chain's nodes; 1 to 64, none twice.
    pub endpoints: Vec<SecretUrl>,
    /// Who pushes new heads; 0 to 64, none twice.
    pub hints: Vec<SecretUrl>,
    /// The silence after which a socket that pushes is taken for dead.
    pub hint_silence: Duration,
    /// Where to begin.
    pub start: Start,
    /// Highest height that is wanted; never below `start`.
    pub end: Option<Height>,
    /// Folder for the blocks; no other pipeline has it, or one inside it.
    pub store: PathBuf,
    /// At which level new blocks are packed with zstd, 1 to 19; none: they are stored as they came. From `compression`
    /// and `compression_level`.
    pub zstd_level: Option<i32>,
    /// Folder in which final blocks also stand under their bare heights; none = nowhere. No store, and no other such
    /// folder, is this one, or lies inside or around it.
    pub bare_names: Option<PathBuf>,
    /// What those names end in.
    pub bare_suffix: &'static str,
    /// Depth below the head at which a block counts as final at the latest; 1 to 512.
    pub confirmations: u64,
    /// What says that a block is final; always [`FinalityRule::Count`] where the dialect is not EVM.
    pub finality: FinalityRule,
    /// Pause between two questions for the head.
    pub poll: Duration,
    /// The chain's id (EVM: in decimal; Cosmos: its name); none = the one that the first endpoint names.
    pub chain_id: Option<String>,
    /// Longest wait for one answer of an endpoint.
    pub request_timeout: Duration,
    /// Most heights in one request.
    pub batch_heights: NonZeroU64,
    /// Largest answer that is read, in bytes.
    pub response_bytes_max: usize,
    /// How long an endpoint that contradicted final blocks is left alone.
    pub quarantine: Duration,
    /// Heights by which a head may exceed the highest one seen before without a witness; 1 or more.
    pub head_jump_max: u64,
    /// Most heights in one task of the pool.
    pub task_heights: NonZeroU64,
    /// Tasks worked on at the same time in the whole fleet; 1 to 64.
    pub slots: u32,
    /// Most tasks that wait in the pool's mailbox.
    pub task_capacity: u64,
    /// A requested height that nobody delivered is requested again after this time.
    pub request_age: Duration,
    /// Times a height is asked for in vain before it is parked.
    pub attempts_max: u32,
    /// Which gaps are asked for first.
    pub order: GapOrder,
    /// After so long a parked height is asked for again; none = never.
    pub parked_retry: Option<Duration>,
    /// The pause between two comparisons of files and index; none = only at the start of a process.
    pub reconcile: Option<Duration>,
    /// The seed's two keys, where they are wanted.
    pub seed_view: Option<SeedView>,
}

/// The held and missing heights as two plain keys of Redis, for programs that read nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedView {
    /// Most heights of the list; 1 to 100,000.
    pub newest: u64,
    /// Most heights of the array; 1 to 100,000.
    pub gaps: u64,
    /// The list of held heights; no other pipeline has it.
    pub blocks_key: String,
    /// The array of missing ones; neither the other key nor one of another pipeline.
    pub gaps_key: String,
}

/// Which gaps are asked for first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GapOrder {
    /// The lowest heights.
    #[default]
    Oldest,
    /// The highest heights.
    Newest,
}

/// How the endpoints of a chain are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainDialect {
    /// Ethereum JSON-RPC.
    Evm,
    /// The REST gateway of Cosmos SDK nodes.
    CosmosRest,
}

/// What says that a block of an EVM chain is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalityRule {
    /// Its depth below the head, `confirmations`.
    Count,
    /// The nodes' tag `safe`.
    Safe,
    /// The nodes' tag `finalized`.
    Finalized,
}

/// Where a pipeline begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this height.
    Height(Height),
    /// At the head of the chain when the pipeline is first started.
    Latest,
}

/// The pipeline that proves the runtime.
#[derive(Debug, Clone)]
pub struct SelftestSettings {
    /// Actors, each with a mailbox of its own; 1 to 64.
    pub actors: u32,
    /// Messages sent to each actor in total; 0 = only what is sent from outside.
    pub messages: u64,
    /// Messages in one send.
    pub batch: u32,
    /// Between two sends; zero = as fast as the mailboxes take them.
    pub pause: Duration,
    /// One in so many messages panics at its first attempt.
    pub panic_every: Option<NonZeroU64>,
    /// One in so many messages hangs at its first attempt.
    pub hang_every: Option<NonZeroU64>,
    /// Chooses which messages do.
    pub seed: u64,
}

/// A text that never shows in logs or reports.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself; for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A URL that may carry credentials: in its user part, or (usual for providers of chain nodes) in its path or query.
///
/// Shown as scheme and host only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes a checked URL.
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The whole URL; for the one place that connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

/// Scheme and host of something that may be a URL; what follows is replaced by three dots.
pub(super) fn redact_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        // Credentials come before an @ and hosts after it; without a scheme nothing else tells them apart.
        return text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("...@{host}"));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // An unescaped slash or question mark inside a password would end the authority too early: hide all of it then.
    if tail.contains('@') {
        return format!("{scheme}://...");
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let dots = if tail.len() > 1 { "/..." } else { tail };
    format!("{scheme}://{host}{dots}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_show_their_host_and_nothing_that_opens_it() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://me:secret@cache:6379/2", "redis://cache:6379/..."),
            ("redis://me:sec/ret@cache:6379", "redis://..."),
            ("https://mainnet.example/v3/0123456789abcdef", "https://mainnet.example/..."),
            ("https://mainnet.example/?key=secret", "https://mainnet.example/..."),
            ("http://127.0.0.1:8545/", "http://127.0.0.1:8545/"),
            ("me:secret@cache:6379", "...@cache:6379"),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), shown);
            assert!(!format!("{:?}", SecretUrl::new(url)).contains("secret"));
        }
        assert_eq!(format!("{:?}", Secret::new("open sesame")), "Secret(hidden)");
    }
}
