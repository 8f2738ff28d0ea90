//! Names and numbers that must not be mistaken for one another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a pipeline does; the first half of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Follows a blockchain and repairs its gaps.
    Blocks,
    /// Follows log files; each complete line is in Redis exactly once.
    Logs,
    /// Passes numbered messages through the whole runtime; proves it, collects nothing.
    Selftest,
    /// Copies streams to another Redis.
    Sync,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Kind; 4] = [Kind::Blocks, Kind::Logs, Kind::Selftest, Kind::Sync];

    /// The word used in the configuration and in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Blocks => "blocks",
            Kind::Logs => "logs",
            Kind::Selftest => "selftest",
            Kind::Sync => "sync",
        }
    }
}

/// `kind.name`, for example `blocks.mainnet`: one job, and the hash tag of all its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId {
    /// What it does.
    pub kind: Kind,
    /// `[a-z0-9_]+`, as written in the configuration.
    pub name: String,
}

impl PipelineId {
    /// Names a pipeline; the name is checked by the configuration.
    pub fn new(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for PipelineId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` names no pipeline; write KIND.NAME, for example blocks.mainnet");
        let (kind, name) = text.split_once('.').ok_or_else(fault)?;
        let kind = Kind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(fault)?;
        if !is_name(name) {
            return Err(fault());
        }
        Ok(Self::new(kind, name))
    }
}

/// Whether `text` may name a pipeline: `[a-z0-9_]+`, at most 64 bytes, so that it needs no escaping in any key.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Whether `text` may name a host: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn is_host(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The actor of one host, whose work lies on its disk: `log_watcher@web-3`.
pub fn local_actor(actor: &str, host: &str) -> String {
    format!("{actor}@{host}")
}

/// Whether `text` names an actor, of all hosts or of one.
fn is_actor(text: &str) -> bool {
    match text.split_once('@') {
        None => is_name(text),
        Some((actor, host)) => is_name(actor) && is_host(host),
    }
}

/// What is leased: one actor of one pipeline, or one slot of its pool.
///
/// Written `blocks.mainnet/collector`, `blocks.mainnet/gap_fixer/2` or `logs.web/log_watcher@web-3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId {
    /// The job it belongs to.
    pub pipeline: PipelineId,
    /// The actor, as in its address: `collector`, `gap_fixer`, `log_watcher@web-3`.
    pub actor: String,
    /// The slot of a pool; none for an exclusive unit.
    pub slot: Option<u32>,
}

impl UnitId {
    /// An exclusive unit: the only one of its actor in the pipeline.
    pub fn exclusive(pipeline: &PipelineId, actor: &str) -> Self {
        Self { pipeline: pipeline.clone(), actor: actor.to_owned(), slot: None }
    }

    /// One slot of a pool.
    pub fn slot(pipeline: &PipelineId, actor: &str, slot: u32) -> Self {
        Self { pipeline: pipeline.clone(), actor: actor.to_owned(), slot: Some(slot) }
    }

    /// The part behind the pipeline: `collector`, `gap_fixer/2`.
    pub fn local(&self) -> String {
        match self.slot {
            None => self.actor.clone(),
            Some(slot) => format!("{}/{slot}", self.actor),
        }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.local())
    }
}

/// Where a message goes: `blocks.mainnet/gap_fixer`. Every slot of a pool shares the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The job.
    pub pipeline: PipelineId,
    /// The actor whose mailbox it is.
    pub actor: String,
}

impl Address {
    /// The mailbox of `actor` in `pipeline`.
    pub fn new(pipeline: &PipelineId, actor: &str) -> Self {
        Self { pipeline: pipeline.clone(), actor: actor.to_owned() }
    }

    /// The host that it belongs to, if its work lies on one.
    pub fn host(&self) -> Option<&str> {
        self.actor.split_once('@').map(|(_, host)| host)
    }

    /// Whether it is the same actor of the same pipeline, on whatever host.
    pub fn is_of_all_hosts_of(&self, other: &Address) -> bool {
        let actor = |address: &'_ Address| address.actor.split('@').next().unwrap_or_default().to_owned();
        self.pipeline == other.pipeline
            && self.host().is_some() == other.host().is_some()
            && actor(self) == actor(other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.actor)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("`{text}` is no actor address; write KIND.NAME/ACTOR, for example blocks.mainnet/gap_fixer");
        let (pipeline, actor) = text.split_once('/').ok_or_else(fault)?;
        let pipeline = pipeline.parse().map_err(|_| fault())?;
        if !is_actor(actor) {
            return Err(fault());
        }
        Ok(Self { pipeline, actor: actor.to_owned() })
    }
}

/// A fencing token: grows with every acquisition of a unit, `max(previous + 1, server time in microseconds)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 random bits as 32 hexadecimal digits: an incarnation (one acquisition), a tip (one fenced script that
/// mattered), a cluster or store id. Never reused, so equality means identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RandomId(String);

impl RandomId {
    /// Draws a new one.
    pub fn new() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// Takes one as it was stored; an empty text is the id that nothing has.
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one stream entry, `milliseconds-sequence`; ordered as Redis orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Server milliseconds at the append.
    pub ms: u64,
    /// Order within the millisecond.
    pub seq: u64,
}

impl EntryId {
    /// Before every entry: the offset of a mailbox from which nothing was taken.
    pub const ZERO: EntryId = EntryId { ms: 0, seq: 0 };
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is no stream entry id; write MILLISECONDS-SEQUENCE");
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self { ms: ms.parse().map_err(|_| fault())?, seq: seq.parse().map_err(|_| fault())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        let pipeline: PipelineId = "blocks.mainnet".parse().expect("a pipeline");
        assert_eq!(pipeline.to_string(), "blocks.mainnet");
        assert_eq!(UnitId::slot(&pipeline, "gap_fixer", 2).to_string(), "blocks.mainnet/gap_fixer/2");
        let address: Address = "blocks.mainnet/gap_fixer".parse().expect("an address");
        assert_eq!(address, Address::new(&pipeline, "gap_fixer"));
    }

    #[test]
    fn names_that_would_need_escaping_are_refused() {
        for text in ["blocks", "blocks.", "blocks.Main", "blocks.a-b", "cows.main", "blocks.a{b}"] {
            assert!(text.parse::<PipelineId>().is_err(), "{text}");
        }
        assert!("logs.web/log_watcher@web-3.example".parse::<Address>().is_ok());
        for text in ["logs.web/log_watcher@", "logs.web/log_watcher@a@b", "logs.web/@a", "logs.web/log_watcher@a{b}"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!("blocks.main".parse::<Address>().is_err());
    }

    #[test]
    fn entry_ids_order_as_redis_orders_them() {
        let early: EntryId = "9-5".parse().expect("an id");
        let late: EntryId = "10-0".parse().expect("an id");
        assert!(early < late);
        assert_eq!("7".parse::<EntryId>().expect("an id"), EntryId { ms: 7, seq: 0 });
    }

    #[test]
    fn random_ids_are_128_bits_wide() {
        assert_eq!(RandomId::new().as_str().len(), 32);
        assert_ne!(RandomId::new(), RandomId::new());
    }
}
