//! Outputs from outside: their facts, their newest entries, reading on as they grow, and named groups.

use redis::Value;
use serde::Serialize;

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply::{self, Entry, Row};
use super::trim::Dropped;
use crate::ids::{EntryId, PipelineId};

/// How an output stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputFacts {
    /// Entries that it holds.
    pub length: u64,
    /// Entries that were ever added. A failover may set it back.
    pub added: u64,
    /// The oldest entry, if any.
    pub first: Option<EntryId>,
    /// The highest id that it ever had.
    pub last: EntryId,
    /// Its consumer groups, by name.
    pub groups: Vec<GroupFacts>,
    /// What left it unread, or only old.
    pub dropped: Dropped,
}

/// How a consumer group of an output stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GroupFacts {
    /// Its name.
    pub name: String,
    /// Its consumers.
    pub consumers: u64,
    /// Entries that it was served and has not acknowledged.
    pub pending: u64,
    /// The last entry that it was served.
    pub through: String,
    /// Entries that it was not served yet; none where Redis cannot tell.
    pub lag: Option<u64>,
}

/// Where a group that is new begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest entry that there is.
    Oldest,
    /// Behind this entry.
    Behind(EntryId),
}

impl Store {
    /// The facts of an output; none where it does not exist.
    pub async fn output_facts(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        output: &str,
    ) -> Result<Option<OutputFacts>, StoreError> {
        let key = self.keys.output(pipeline, output);
        let mut facts = OutputFacts { dropped: self.dropped(link, pipeline, output).await?, ..OutputFacts::default() };
        let Some(info) = info(link, "STREAM", &key).await? else { return Ok(None) };
        let mut info = Row::new("XINFO", info)?.rest();
        while let (Some(name), Some(value)) = (info.next(), info.next()) {
            match reply::text("XINFO", name)?.as_str() {
                "length" => facts.length = number(value)?,
                "entries-added" => facts.added = number(value)?,
                "last-generated-id" => {
                    facts.last = reply::text("XINFO", value)?.parse().map_err(StoreError::Protocol)?
                }
                "first-entry" if value != Value::Nil => {
                    facts.first = Some(Row::new("XINFO", value)?.text()?.parse().map_err(StoreError::Protocol)?);
                }
                _ => {}
            }
        }
        let Some(groups) = info_groups(link, &key).await? else { return Ok(None) };
        facts.groups = groups;
        Ok(Some(facts))
    }

    /// The newest entries of an output, oldest first.
    pub async fn newest(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        output: &str,
        count: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut cmd = redis::cmd("XREVRANGE");
        cmd.arg(self.keys.output(pipeline, output)).arg("+").arg("-").arg("COUNT").arg(count);
        let mut entries = reply::entries("XREVRANGE", link.call("XREVRANGE", &cmd).await?)?;
        entries.reverse();
        Ok(entries)
    }

    /// Entries behind `after`; where there is none yet it waits for one, at most as long as a bell does. May be empty
    /// all the same.
    pub async fn tail(
        &self,
        bell: &Link,
        pipeline: &PipelineId,
        output: &str,
        after: EntryId,
        count: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT").arg(count).arg("BLOCK").arg(block(bell)).arg("STREAMS");
        cmd.arg(self.keys.output(pipeline, output)).arg(after.to_string());
        first_stream("XREAD", bell.call("XREAD", &cmd).await?)
    }

    /// A reader of an output in a named group, which is made if it is not there. What it was served and did not
    /// acknowledge comes first. `consumer` tells the readers of a group apart: two that run at once need two names.
    pub async fn join(
        &self,
        bell: &Link,
        pipeline: &PipelineId,
        output: &str,
        (group, consumer): (&str, &str),
        begin: Begin,
    ) -> Result<GroupReader, StoreError> {
        let key = self.keys.output(pipeline, output);
        let mut cmd = redis::cmd("XGROUP");
        let from = match begin {
            Begin::Oldest => EntryId::ZERO,
            Begin::Behind(id) => id,
        };
        cmd.arg("CREATE").arg(&key).arg(group).arg(from.to_string()).arg("MKSTREAM");
        match bell.call("XGROUP", &cmd).await {
            Ok(_) => {}
            Err(StoreError::Refused { reason, .. }) if reason.starts_with("BUSYGROUP") => {}
            Err(StoreError::Refused { reason, .. }) if reason.starts_with("WRONGTYPE") => {
                return Err(StoreError::Broken { key, reason });
            }
            Err(error) => return Err(error),
        }
        let (group, consumer, home) = (group.to_owned(), consumer.to_owned(), bell.health().home());
        Ok(GroupReader { link: bell.clone(), key, group, consumer, home, owed: Some(EntryId::ZERO) })
    }
}

/// Reads an output as a consumer of a group: each entry is served until it is acknowledged, so none is missed, and one
/// may come twice.
pub struct GroupReader {
    link: Link,
    key: String,
    group: String,
    consumer: String,
    /// The [`Health::home`](super::link::Health::home) in which the group was last there.
    home: u64,
    /// Served and not acknowledged: those behind this id come first.
    owed: Option<EntryId>,
}

impl GroupReader {
    /// The next entries, at most `count`; where there is none yet it waits for one, at most as long as a bell does. May
    /// be empty all the same. Entries that are gone from the output are acknowledged and left out.
    ///
    /// Fails with [`StoreError::Broken`] where the group is gone; see [`GroupReader::is_forgotten`].
    pub async fn next(&mut self, count: u32) -> Result<Vec<Entry>, StoreError> {
        while let Some(after) = self.owed {
            let (entries, _) = self.read(&after.to_string(), count).await?;
            let Some(last) = entries.last().map(|entry| entry.id) else {
                self.owed = None;
                break;
            };
            self.owed = Some(last);
            let (there, gone): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| !entry.fields.is_empty());
            self.acknowledge(&gone.iter().map(|entry| entry.id).collect::<Vec<_>>()).await?;
            if !there.is_empty() {
                return Ok(there);
            }
        }
        let (entries, resent) = self.read(">", count).await?;
        if resent {
            // An earlier copy may have been served others, which come first.
            self.owed = Some(EntryId::ZERO);
            return Ok(Vec::new());
        }
        Ok(entries)
    }

    /// Whether a crash or a failover of Redis can have taken the group back, so that joining again is right; else
    /// somebody has destroyed it.
    pub fn is_forgotten(&self) -> bool {
        self.link.health().home() != self.home
    }

    /// Entries are done with. Safe to repeat.
    pub async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut cmd = redis::cmd("XACK");
        cmd.arg(&self.key).arg(&self.group);
        ids.iter().for_each(|id| {
            cmd.arg(id.to_string());
        });
        self.link.call("XACK", &cmd).await.map(drop)
    }

    async fn read(&mut self, from: &str, count: u32) -> Result<(Vec<Entry>, bool), StoreError> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(count);
        cmd.arg("BLOCK").arg(block(&self.link)).arg("STREAMS").arg(&self.key).arg(from);
        match self.link.call_and_tell("XREADGROUP", &cmd).await {
            Ok(told) => {
                self.home = told.home;
                Ok((first_stream("XREADGROUP", told.value)?, told.resent))
            }
            Err(StoreError::Refused { reason, .. }) if reason.starts_with("NOGROUP") => {
                Err(StoreError::Broken { key: self.key.clone(), reason: format!("its group {} is gone", self.group) })
            }
            Err(error) => Err(error),
        }
    }
}

fn block(bell: &Link) -> u64 {
    u64::try_from(bell.options().bell_block.as_millis()).unwrap_or(1000)
}

async fn info(link: &Link, what: &'static str, key: &str) -> Result<Option<Value>, StoreError> {
    let mut cmd = redis::cmd("XINFO");
    cmd.arg(what).arg(key);
    match link.call("XINFO", &cmd).await {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Refused { reason, .. }) if reason.contains("no such key") => Ok(None),
        Err(StoreError::Refused { reason, .. }) if reason.starts_with("WRONGTYPE") => {
            Err(StoreError::Broken { key: key.to_owned(), reason })
        }
        Err(error) => Err(error),
    }
}

async fn info_groups(link: &Link, key: &str) -> Result<Option<Vec<GroupFacts>>, StoreError> {
    let Some(rows) = info(link, "GROUPS", key).await? else { return Ok(None) };
    let mut groups = Vec::new();
    for row in Row::new("XINFO", rows)?.rest() {
        let mut group = GroupFacts::default();
        let mut row = Row::new("XINFO", row)?.rest();
        while let (Some(name), Some(value)) = (row.next(), row.next()) {
            match reply::text("XINFO", name)?.as_str() {
                "name" => group.name = reply::text("XINFO", value)?,
                "consumers" => group.consumers = number(value)?,
                "pending" => group.pending = number(value)?,
                "last-delivered-id" => group.through = reply::text("XINFO", value)?,
                "lag" if value != Value::Nil => group.lag = Some(number(value)?),
                _ => {}
            }
        }
        groups.push(group);
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(groups))
}

fn number(value: Value) -> Result<u64, StoreError> {
    let text = reply::text("XINFO", value)?;
    text.parse().map_err(|_| StoreError::Protocol(format!("XINFO: `{text}` is no number")))
}

/// The entries of the one stream that was asked for. A reader that was woken for nothing is answered with no entries.
fn first_stream(name: &'static str, value: Value) -> Result<Vec<Entry>, StoreError> {
    let stream = match value {
        Value::Nil => return Ok(Vec::new()),
        value => Row::new(name, value)?.rest().next(),
    };
    let Some(stream) = stream else { return Ok(Vec::new()) };
    let mut row = Row::new(name, stream)?;
    let _key = row.value()?;
    reply::entries(name, row.value()?)
}
