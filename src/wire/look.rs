//! Look: what either end says of a stream, of its consumer groups, and of what those hold. Reads only.

use super::{Answer, Line, Reply, Request, WireError};
use crate::ids::EntryId;

/// Rows of one look at what a group holds.
pub const PENDING_PAGE: usize = 500;

/// What a server says of one stream, in one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// Entries that are there.
    pub length: u64,
    /// The lowest id that is there.
    pub first: Option<EntryId>,
    /// The highest id that was ever there.
    pub last: EntryId,
    /// The highest id that was deleted one by one; none before Redis 7.0.
    pub max_deleted: Option<EntryId>,
    /// Entries that were ever added; none before Redis 7.0.
    pub added: Option<u64>,
    /// Consumer groups.
    pub groups: u64,
}

impl StreamFacts {
    /// Whether the stream may have had an entry that it has not: one of those that were trimmed, or that were deleted one
    /// by one as far as it tells. `tells` is [`super::Server::tells_deletions`].
    pub fn may_have_had(&self, id: EntryId, tells: bool) -> bool {
        let trimmed = self.first.is_none_or(|first| first > id);
        id <= self.last && (!tells || trimmed || self.max_deleted.is_none_or(|deleted| deleted >= id))
    }
}

/// One consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its name, any bytes.
    pub name: Vec<u8>,
    /// The last id that was delivered.
    pub delivered: EntryId,
    /// Entries that were read, as the server counts; none where it does not know.
    pub read: Option<u64>,
    /// Entries that are delivered and not acknowledged.
    pub pending: u64,
    /// Consumers.
    pub consumers: u64,
}

/// One entry that a consumer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Which entry.
    pub id: EntryId,
    /// Who holds it.
    pub consumer: Vec<u8>,
    /// Since when, in milliseconds before now.
    pub idle_ms: u64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// Adds the question that [`read_stream`] understands the answer to.
pub fn ask_stream(request: &mut Request, key: &[u8]) {
    request.command(&[b"XINFO", b"STREAM", key]);
}

/// Reads the answer to [`ask_stream`]: none where there is no such stream.
pub fn read_stream(line: &mut Line, reply: &Reply) -> Result<Option<StreamFacts>, WireError> {
    match reply {
        Reply::Error(words) if words.contains("no such key") => Ok(None),
        Reply::Error(words) => Err(line.refused("XINFO STREAM", words)),
        reply => stream(reply).map(Some).map_err(|reason| line.nonsense(&reason)),
    }
}

/// Asks about one stream.
pub async fn stream_facts(line: &mut Line, key: &[u8]) -> Result<Option<StreamFacts>, WireError> {
    let mut request = Request::new();
    ask_stream(&mut request, key);
    line.send(&request).await?;
    let reply = line.reply().await?;
    read_stream(line, &reply)
}

fn stream(reply: &Reply) -> Result<StreamFacts, String> {
    let number = |name: &str| reply.field(name).and_then(Reply::int).and_then(|n| u64::try_from(n).ok());
    let id = |name: &str| -> Result<Option<EntryId>, String> {
        reply.field(name).map(|value| value.text().parse()).transpose()
    };
    let first = reply.field("first-entry").and_then(|entry| entry.list().first());
    Ok(StreamFacts {
        length: number("length").ok_or("XINFO STREAM without a length")?,
        first: first.map(|id| id.text().parse()).transpose()?,
        last: id("last-generated-id")?.ok_or("XINFO STREAM without a last id")?,
        max_deleted: id("max-deleted-entry-id")?,
        added: number("entries-added"),
        groups: number("groups").unwrap_or(0),
    })
}

/// The groups of a stream, by name; none where there is no stream.
pub async fn groups(line: &mut Line, key: &[u8]) -> Result<Vec<GroupFacts>, WireError> {
    let reply = match line.call(&[b"XINFO", b"GROUPS", key]).await {
        Err(WireError::Refused { reason, .. }) if reason.contains("no such key") => return Ok(Vec::new()),
        reply => reply?,
    };
    let groups: Result<Vec<GroupFacts>, String> = reply.list().iter().map(group).collect();
    let mut groups = groups.map_err(|reason| line.nonsense(&reason))?;
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

fn group(reply: &Reply) -> Result<GroupFacts, String> {
    let number = |name: &str| reply.field(name).and_then(Reply::int).and_then(|n| u64::try_from(n).ok());
    let lacks = |what: &str| format!("XINFO GROUPS without {what}");
    Ok(GroupFacts {
        name: reply.field("name").ok_or_else(|| lacks("a name"))?.bytes().to_vec(),
        delivered: reply.field("last-delivered-id").ok_or_else(|| lacks("a last id"))?.text().parse()?,
        read: number("entries-read"),
        pending: number("pending").unwrap_or(0),
        consumers: number("consumers").unwrap_or(0),
    })
}

/// The names of a group's consumers, in order.
pub async fn consumers(line: &mut Line, key: &[u8], group: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    let reply = line.call(&[b"XINFO", b"CONSUMERS", key, group]).await?;
    let names = reply.list().iter().filter_map(|row| row.field("name")).map(|name| name.bytes().to_vec());
    let mut names: Vec<Vec<u8>> = names.collect();
    names.sort();
    Ok(names)
}

/// What a group holds behind an id, at most [`PENDING_PAGE`] rows.
pub async fn pending(line: &mut Line, key: &[u8], group: &[u8], after: EntryId) -> Result<Vec<PendingRow>, WireError> {
    let from = if after == EntryId::ZERO { "-".to_owned() } else { format!("({after}") };
    let page = PENDING_PAGE.to_string();
    let reply = line.call(&[b"XPENDING", key, group, from.as_bytes(), b"+", page.as_bytes()]).await?;
    let row = |row: &Reply| -> Option<PendingRow> {
        let [id, consumer, idle, deliveries] = row.list() else { return None };
        Some(PendingRow {
            id: id.text().parse().ok()?,
            consumer: consumer.bytes().to_vec(),
            idle_ms: u64::try_from(idle.int()?).ok()?,
            deliveries: u64::try_from(deliveries.int()?).ok()?,
        })
    };
    let rows: Option<Vec<PendingRow>> = reply.list().iter().map(row).collect();
    rows.ok_or_else(|| line.nonsense("XPENDING rows of another form"))
}

/// Entries between two ids as Redis writes them (`-`, `+`, `(id`), ascending.
pub async fn range(line: &mut Line, key: &[u8], from: &str, to: &str, count: usize) -> Result<Answer, WireError> {
    let count = count.to_string();
    line.send(&Request::of(&[b"XRANGE", key, from.as_bytes(), to.as_bytes(), b"COUNT", count.as_bytes()])).await?;
    line.range("XRANGE").await
}

/// Entries up to an id, descending.
pub async fn range_back(line: &mut Line, key: &[u8], from: &str, count: usize) -> Result<Answer, WireError> {
    let count = count.to_string();
    line.send(&Request::of(&[b"XREVRANGE", key, from.as_bytes(), b"-", b"COUNT", count.as_bytes()])).await?;
    line.range("XREVRANGE").await
}

/// One entry; an empty answer where it is not there.
pub async fn entry(line: &mut Line, key: &[u8], id: EntryId) -> Result<Answer, WireError> {
    let id = id.to_string();
    range(line, key, &id, &id, 1).await
}

/// Just behind an id, as a range begins there.
pub fn behind(id: EntryId) -> String {
    if id == EntryId::ZERO { "-".to_owned() } else { format!("({id}") }
}

/// Milliseconds of the server's clock.
pub async fn now_ms(line: &mut Line) -> Result<u64, WireError> {
    let reply = line.call(&[b"TIME"]).await?;
    match reply.list() {
        [seconds, micros] => {
            let ms = seconds.int().unwrap_or(0) * 1000 + micros.int().unwrap_or(0) / 1000;
            Ok(u64::try_from(ms).unwrap_or(0))
        }
        _ => Err(line.nonsense("TIME of another form")),
    }
}
