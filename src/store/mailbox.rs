//! Mailboxes from outside: sending with capacity and dedupe, and looking.

use redis::Value;

use super::Store;
use super::effect::{Outgoing, bound};
use super::error::StoreError;
use super::lease::Inbox;
use super::link::Link;
use super::reply::{self, Entry, Row};
use super::script;
use crate::ids::{Address, EntryId};

/// What became of a message from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It waits in the mailbox under this id.
    As(EntryId),
    /// A message with the same dedupe id was sent within the window; nothing was appended.
    Before,
}

/// How a mailbox stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries that wait.
    pub entries: u64,
    /// Entries of a pool that come again later; they take room as the others do.
    pub later: u64,
    /// Server milliseconds at which the next of those comes.
    pub next_ms: Option<u64>,
    /// The oldest of those that wait, if any; its milliseconds tell its age.
    pub oldest: Option<EntryId>,
    /// Entries set aside.
    pub dead: u64,
}

impl Store {
    /// Sends a message, if there is room. With a `dedupe` id a repeat within the window changes nothing; without
    /// one, a repeat after a lost answer is a second message.
    pub async fn send(
        &self,
        link: &Link,
        to: &Address,
        capacity: u64,
        dedupe: Option<&str>,
        message: &Outgoing,
    ) -> Result<Sent, StoreError> {
        let limits = &link.options().limits;
        let size = message.kind.len() + message.body.len() + dedupe.map_or(0, str::len);
        bound("the message", size, limits.entry_bytes_max, "mailbox.entry_bytes_max")?;
        let keys = [self.keys.mailbox(to), self.keys.dedupe(to), self.keys.later(to)];
        let mut args: Vec<Vec<u8>> = [
            capacity.to_string(),
            dedupe.unwrap_or("").to_owned(),
            limits.dedupe_window.as_millis().to_string(),
            limits.dedupe_entries_max.to_string(),
        ]
        .map(String::into_bytes)
        .into();
        args.extend(message.fields().into_iter().flat_map(|(name, value)| [name, value]));
        if let Some(id) = dedupe {
            args.extend([b"id".to_vec(), id.as_bytes().to_vec()]);
        }
        let mut row = Row::new("send", link.run(&script::SEND, &keys, &args).await?)?;
        match row.text()?.as_str() {
            "OK" => Ok(Sent::As(row.text()?.parse().map_err(StoreError::Protocol)?)),
            "DUP" => Ok(Sent::Before),
            "FULL" => Err(StoreError::Full { key: keys[0].clone() }),
            "BROKEN" => Err(StoreError::Broken { key: row.text()?, reason: row.text()? }),
            other => Err(StoreError::Protocol(format!("send: `{other}`"))),
        }
    }

    /// How many entries wait and how old the oldest is.
    pub async fn depth(&self, link: &Link, of: &Address) -> Result<Depth, StoreError> {
        let entries = self.length(link, &self.keys.mailbox(of)).await?;
        let dead = self.length(link, &self.keys.dead(of)).await?;
        let oldest = self.range(link, &self.keys.mailbox(of), EntryId::ZERO, 1).await?.first().map(|e| e.id);
        let (later, next_ms) = self.put_off(link, of).await?;
        Ok(Depth { entries, later, next_ms, oldest, dead })
    }

    /// How many entries come again later, and when the next does.
    async fn put_off(&self, link: &Link, of: &Address) -> Result<(u64, Option<u64>), StoreError> {
        let key = self.keys.later(of);
        let count = reply::text("ZCARD", link.call("ZCARD", redis::cmd("ZCARD").arg(&key)).await?)?;
        let count = count.parse().unwrap_or(0);
        if count == 0 {
            return Ok((0, None));
        }
        let mut cmd = redis::cmd("ZRANGEBYSCORE");
        cmd.arg(&key).arg("-inf").arg("+inf").arg("WITHSCORES").arg("LIMIT").arg(0).arg(1);
        let mut row = Row::new("ZRANGEBYSCORE", link.call("ZRANGEBYSCORE", &cmd).await?)?;
        let _member = row.value().ok();
        Ok((count, row.text().ok().and_then(|due| due.parse().ok())))
    }

    /// Entries that were ever added, by the stream's own count; none before the first, and where a user of Redis may
    /// not ask. A failover may set it back.
    pub async fn added(&self, link: &Link, of: &Address) -> Result<Option<u64>, StoreError> {
        let mut cmd = redis::cmd("XINFO");
        cmd.arg("STREAM").arg(self.keys.mailbox(of));
        let info = match link.call("XINFO STREAM", &cmd).await {
            Ok(info) => info,
            Err(StoreError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut rest = Row::new("XINFO STREAM", info)?.rest();
        while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
            if reply::text("XINFO STREAM", name)? == "entries-added" {
                return Ok(reply::text("XINFO STREAM", value)?.parse().ok());
            }
        }
        Ok(None)
    }

    /// Entries of a mailbox behind `after`, oldest first, at most `count`.
    pub async fn peek(&self, link: &Link, of: &Address, after: EntryId, count: u32) -> Result<Vec<Entry>, StoreError> {
        self.range(link, &self.keys.mailbox(of), after, count).await
    }

    /// Records of an output stream behind `after`, oldest first, at most `count`.
    pub async fn output(
        &self,
        link: &Link,
        pipeline: &crate::ids::PipelineId,
        name: &str,
        after: EntryId,
        count: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        self.range(link, &self.keys.output(pipeline, name), after, count).await
    }

    pub(super) async fn length(&self, link: &Link, key: &str) -> Result<u64, StoreError> {
        match link.call("XLEN", redis::cmd("XLEN").arg(key)).await? {
            Value::Int(n) => Ok(u64::try_from(n).unwrap_or(0)),
            other => Err(reply::unexpected("XLEN", &other)),
        }
    }

    pub(super) async fn range(
        &self,
        link: &Link,
        key: &str,
        after: EntryId,
        count: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(key).arg(format!("({after}")).arg("+").arg("COUNT").arg(count);
        reply::entries("XRANGE", link.call("XRANGE", &cmd).await?)
    }

    /// Waits until one of the streams has an entry behind the id given with it, or the bell's block time is over.
    /// Answers the places of those that have, each with the newest id that it holds now. Nothing is taken.
    pub async fn wait_for_mail(
        &self,
        bell: &Link,
        inboxes: &[(Inbox, EntryId)],
    ) -> Result<Vec<(usize, EntryId)>, StoreError> {
        let block = u64::try_from(bell.options().bell_block.as_millis()).unwrap_or(1000);
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT").arg(1).arg("BLOCK").arg(block).arg("STREAMS");
        let keys: Vec<String> = inboxes.iter().map(|(inbox, _)| inbox.key(&self.keys)).collect();
        cmd.arg(&keys);
        for (_, after) in inboxes {
            cmd.arg(after.to_string());
        }
        let streams = match bell.call("XREAD", &cmd).await? {
            Value::Nil => return Ok(Vec::new()),
            value => Row::new("XREAD", value)?,
        };
        let mut rung = Vec::new();
        for stream in streams.rest() {
            let key = Row::new("XREAD", stream)?.text()?;
            let mut newest = redis::cmd("XREVRANGE");
            newest.arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
            let newest = reply::entries("XREVRANGE", bell.call("XREVRANGE", &newest).await?)?;
            if let (Some(place), Some(entry)) = (keys.iter().position(|k| *k == key), newest.first()) {
                rung.push((place, entry.id));
            }
        }
        Ok(rung)
    }
}
