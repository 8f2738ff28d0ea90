//! Which Redis is this, and may it be trusted? Asked once, before anything is written.

use redis::Value;

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply;
use crate::config::Durability;
use crate::ids::{PipelineId, RandomId};

/// The oldest Redis whose scripts can be refused before they start (`#!lua`).
pub const VERSION_MIN: (u64, u64) = (7, 0);

/// What the server says of itself; an empty text where it does not say (`CONFIG` may be forbidden).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// `redis` or `valkey`.
    pub name: String,
    /// As `INFO` gives it.
    pub version: String,
    /// `maxmemory-policy`.
    pub eviction: String,
    /// `maxmemory`, bytes; 0 is no limit.
    pub memory_max: String,
    /// `appendonly`.
    pub append_only: String,
    /// `appendfsync`.
    pub append_fsync: String,
    /// `save`.
    pub snapshots: String,
    /// Bytes used now.
    pub memory_used: u64,
    /// Replicas that follow it now.
    pub replicas: u32,
    /// `min-replicas-to-write`.
    pub replicas_min: String,
    /// Whether it can say what is on its disk (`WAITAOF`); asked only where `redis.durability` is "fsync".
    pub waits_for_disk: bool,
}

/// A setting that would lose data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Danger {
    /// The server is too old for gapless's own data.
    Version(String),
    /// Keys may vanish when memory is short.
    Eviction(String),
    /// A restart of the server forgets everything.
    Persistence(String),
    /// `redis.durability` asks for what the server cannot give.
    Durability(String),
    /// Nobody can say whether the server gives what `redis.durability` asks for.
    Untold(String),
}

impl std::fmt::Display for Danger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Danger::Version(text)
            | Danger::Eviction(text)
            | Danger::Persistence(text)
            | Danger::Durability(text)
            | Danger::Untold(text) => f.write_str(text),
        }
    }
}

impl Server {
    /// Asks the server.
    pub async fn ask(link: &Link) -> Result<Self, StoreError> {
        // INFO is answered while the server still loads its data, and tells of settings that are not in force yet;
        // PING is not.
        link.call("PING", &redis::cmd("PING")).await?;
        let info = reply::text("INFO", link.call("INFO", redis::cmd("INFO").arg("everything")).await?)?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).map(str::to_owned)
        };
        let (name, version) = match field("valkey_version") {
            Some(version) => ("valkey", version),
            None => ("redis", field("redis_version").unwrap_or_default()),
        };
        let mut server = Self {
            name: name.to_owned(),
            version,
            eviction: field("maxmemory_policy").unwrap_or_default(),
            memory_max: field("maxmemory").unwrap_or_default(),
            memory_used: field("used_memory").and_then(|n| n.parse().ok()).unwrap_or(0),
            replicas: field("connected_slaves").and_then(|n| n.parse().ok()).unwrap_or(0),
            append_only: if field("aof_enabled").as_deref() == Some("1") { "yes" } else { "no" }.to_owned(),
            ..Self::default()
        };
        // A service may forbid CONFIG; INFO has told the most important.
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg("save").arg("appendfsync").arg("min-replicas-to-write");
        if let Ok(value) = link.call("CONFIG", &cmd).await {
            for (key, value) in reply::pairs("CONFIG", value)? {
                match key.as_str() {
                    "save" => server.snapshots = value,
                    "appendfsync" => server.append_fsync = value,
                    "min-replicas-to-write" => server.replicas_min = value,
                    _ => {}
                }
            }
        }
        if link.options().durability == Durability::Fsync {
            let asked = link.call("WAITAOF", redis::cmd("WAITAOF").arg(0).arg(0).arg(1)).await;
            server.waits_for_disk =
                !matches!(asked, Err(StoreError::Refused { reason, .. }) if reason.contains("unknown command"));
        }
        Ok(server)
    }

    /// What stands against `redis.durability`, if anything does.
    pub fn durability_danger(&self, durability: Durability) -> Option<Danger> {
        if durability != Durability::Fsync {
            return None;
        }
        if self.append_only != "yes" {
            let words = "redis.durability is \"fsync\", but appendonly is no: nothing is on the disk to wait for; set \
                         appendonly yes";
            return Some(Danger::Durability(words.to_owned()));
        }
        let lacks = "this server has no WAITAOF (Redis 7.2 or newer and Valkey have it)";
        match (self.waits_for_disk, self.append_fsync.as_str()) {
            (true, _) | (false, "always") => None,
            (false, "") => Some(Danger::Untold(format!(
                "redis.durability is \"fsync\", {lacks}, and it does not say whether appendfsync is always (CONFIG is \
                 forbidden); make sure that it is"
            ))),
            (false, other) => Some(Danger::Durability(format!(
                "redis.durability is \"fsync\", but {lacks} and appendfsync is {other}; set appendfsync always, on \
                 every server that may become the master, or use a newer server"
            ))),
        }
    }

    /// Everything about it that would lose data, worst first.
    pub fn dangers(&self) -> Vec<Danger> {
        let mut dangers = Vec::new();
        let mut parts = self.version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if version < VERSION_MIN {
            let (major, minor) = VERSION_MIN;
            dangers.push(Danger::Version(format!(
                "{} {} is too old: gapless keeps its own data in {major}.{minor} or newer, or in Valkey",
                self.name, self.version
            )));
        }
        if !self.eviction.is_empty() && self.eviction != "noeviction" {
            dangers.push(Danger::Eviction(format!(
                "maxmemory-policy is {}: redis may drop mailboxes and checkpoints; set it to noeviction",
                self.eviction
            )));
        }
        if self.append_only != "yes" && self.snapshots.is_empty() {
            dangers.push(Danger::Persistence(
                "neither appendonly nor save is set: a restart of redis forgets everything; set appendonly yes"
                    .to_owned(),
            ));
        } else if self.append_only != "yes" {
            dangers.push(Danger::Persistence(format!(
                "appendonly is no: a crash of redis forgets everything since the last snapshot (save {}); \
                 set appendonly yes",
                self.snapshots
            )));
        }
        dangers
    }
}

impl Store {
    /// The id of this Redis, if it has one.
    pub async fn cluster_id(&self, link: &Link) -> Result<Option<RandomId>, StoreError> {
        let value = link.call("GET", redis::cmd("GET").arg(self.keys.cluster())).await?;
        let text = reply::text("GET", value)?;
        Ok((!text.is_empty()).then(|| RandomId::stored(&text)))
    }

    /// Gives this Redis an id, unless it has one; answers the one that it has now. Safe to repeat.
    pub async fn claim_cluster(&self, link: &Link, id: &RandomId) -> Result<RandomId, StoreError> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.keys.cluster()).arg(id.as_str()).arg("NX").arg("GET");
        let before = reply::text("SET", link.call("SET", &cmd).await?)?;
        Ok(if before.is_empty() { id.clone() } else { RandomId::stored(&before) })
    }

    /// Marks a pipeline as belonging to this cluster, so that acquiring in an emptied Redis is refused.
    /// `renew` replaces another cluster's mark (`--accept-data-loss`). Safe to repeat.
    pub async fn mark_pipeline(&self, link: &Link, pipeline: &PipelineId, renew: bool) -> Result<(), StoreError> {
        let verb = if renew { "HSET" } else { "HSETNX" };
        let mut cmd = redis::cmd(verb);
        cmd.arg(self.keys.facts(pipeline)).arg("cluster").arg(self.cluster.as_str());
        link.call("HSET", &cmd).await.map(drop)
    }

    /// Milliseconds since 1970 by the server's clock: the only one that ages are measured with.
    pub async fn now_ms(&self, link: &Link) -> Result<u64, StoreError> {
        let mut row = reply::Row::new("TIME", link.call("TIME", &redis::cmd("TIME")).await?)?;
        Ok(row.number()? * 1000 + row.number()? / 1000)
    }

    /// Sets a fact once; answers the value that stands now. Safe to repeat.
    pub async fn fact_once(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        field: &str,
        value: &str,
    ) -> Result<String, StoreError> {
        let mut cmd = redis::cmd("HSETNX");
        cmd.arg(self.keys.facts(pipeline)).arg(field).arg(value);
        link.call("HSETNX", &cmd).await?;
        self.fact(link, pipeline, field).await.map(Option::unwrap_or_default)
    }

    /// Reads a fact.
    pub async fn fact(&self, link: &Link, pipeline: &PipelineId, field: &str) -> Result<Option<String>, StoreError> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(self.keys.facts(pipeline)).arg(field);
        match link.call("HGET", &cmd).await? {
            Value::Nil => Ok(None),
            value => reply::text("HGET", value).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, eviction: &str, append_only: &str, snapshots: &str) -> Vec<Danger> {
        let text = |s: &str| s.to_owned();
        Server {
            name: text("redis"),
            version: text(version),
            eviction: text(eviction),
            append_only: text(append_only),
            snapshots: text(snapshots),
            ..Server::default()
        }
        .dangers()
    }

    #[test]
    fn only_settings_that_lose_data_are_dangers() {
        assert!(server("7.0.15", "noeviction", "yes", "").is_empty());
        assert!(server("8.0.1", "", "yes", "3600 1").is_empty());
        assert!(matches!(server("6.2.14", "noeviction", "yes", "")[..], [Danger::Version(_)]));
        assert!(matches!(server("7.0.15", "allkeys-lru", "yes", "")[..], [Danger::Eviction(_)]));
        assert!(matches!(server("7.0.15", "noeviction", "no", "")[..], [Danger::Persistence(_)]));
        let both = server("7.2.0", "volatile-lru", "no", "60 1");
        assert!(matches!(both[..], [Danger::Eviction(_), Danger::Persistence(_)]), "{both:?}");
    }

    #[test]
    fn what_fsync_asks_for_is_there_or_is_said_to_lack() {
        let server = |append_only: &str, append_fsync: &str, waits_for_disk| Server {
            append_only: append_only.to_owned(),
            append_fsync: append_fsync.to_owned(),
            waits_for_disk,
            ..Server::default()
        };
        let danger = |s: Server| s.durability_danger(Durability::Fsync);
        assert_eq!(danger(server("yes", "everysec", true)), None);
        assert_eq!(danger(server("yes", "always", false)), None);
        assert!(matches!(danger(server("yes", "everysec", false)), Some(Danger::Durability(_))));
        assert!(matches!(danger(server("yes", "", false)), Some(Danger::Untold(_))));
        assert!(matches!(danger(server("no", "always", true)), Some(Danger::Durability(_))));
        assert_eq!(server("no", "no", false).durability_danger(Durability::Fast), None);
    }
}
