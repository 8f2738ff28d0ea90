//! Groups: a consumer group of the source, made on the target as it is: position, count, consumers, and what they hold.

use std::collections::BTreeMap;

use crate::ids::EntryId;
use crate::wire::look::{self, GroupFacts, PENDING_PAGE, PendingRow, StreamFacts};
use crate::wire::{Line, Reply, Request, WireError};

/// What one comparison did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupCopy {
    /// Entries that the source's group holds and the target cannot: they are not on the target.
    pub lost: u64,
    /// Anything was changed.
    pub changed: bool,
}

/// How much the times of a delivery may differ: they are told as ages, and the questions take time.
const DELIVERED_APART_MS: u64 = 1000;

/// What both servers' clocks said just before they were asked for what a group holds.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Milliseconds of the source's.
    pub source: u64,
    /// Of the target's.
    pub target: u64,
}

impl Clocks {
    /// Whether two rows are the same: holder, deliveries, and the time of the last one. No server takes a time that is
    /// ahead of its clock.
    pub fn is_same(self, here: &PendingRow, there: &PendingRow) -> bool {
        let wanted = self.source.saturating_sub(here.idle_ms).min(self.target);
        let apart = wanted.abs_diff(self.target.saturating_sub(there.idle_ms));
        here.consumer == there.consumer && here.deliveries == there.deliveries && apart <= DELIVERED_APART_MS
    }
}

/// A group on its way.
struct Copy<'a> {
    key: &'a [u8],
    group: &'a GroupFacts,
    /// Up to here the target has the stream.
    top: EntryId,
    copied: GroupCopy,
}

/// Makes the target's group what the source's is. `target` is how the target's stream stands. Repeats change nothing.
///
/// A position above what is copied is set to what is copied. Groups that only the target has are left alone, and so are
/// consumers that only the target has, as long as they hold nothing that the source's do not.
pub async fn copy_group(
    source: &mut Line,
    target: &mut Line,
    keys: (&[u8], &[u8]),
    group: &GroupFacts,
    (stands, counts): (&StreamFacts, bool),
) -> Result<GroupCopy, WireError> {
    let mut copy = Copy { key: keys.1, group, top: stands.last, copied: GroupCopy::default() };
    copy.position(target, stands, counts).await?;
    copy.consumers(source, target, keys.0).await?;
    copy.held(source, target, keys.0).await?;
    Ok(copy.copied)
}

impl Copy<'_> {
    async fn position(&mut self, target: &mut Line, stands: &StreamFacts, counts: bool) -> Result<(), WireError> {
        let above = self.group.delivered > self.top;
        let delivered = self.group.delivered.min(self.top);
        let read = if above { stands.added } else { self.group.read };
        let read = read.filter(|_| counts);
        let there = look::groups(target, self.key).await?;
        let there = there.iter().find(|known| known.name == self.group.name);
        let same = |known: &GroupFacts| known.delivered == delivered && (read.is_none() || known.read == read);
        if there.is_some_and(same) {
            return Ok(());
        }
        self.copied.changed = true;
        let (delivered, read) = (delivered.to_string(), read.map(|read| read.to_string()));
        let word: &[u8] = if there.is_some() { b"SETID" } else { b"CREATE" };
        let mut args: Vec<&[u8]> = vec![b"XGROUP", word, self.key, &self.group.name, delivered.as_bytes()];
        if there.is_none() {
            args.push(b"MKSTREAM");
        }
        if let Some(read) = &read {
            args.extend([b"ENTRIESREAD".as_slice(), read.as_bytes()]);
        }
        target.call(&args).await.map(drop)
    }

    async fn consumers(&mut self, source: &mut Line, target: &mut Line, key: &[u8]) -> Result<(), WireError> {
        let wanted = look::consumers(source, key, &self.group.name).await?;
        let there = look::consumers(target, self.key, &self.group.name).await?;
        for consumer in wanted.iter().filter(|consumer| !there.contains(consumer)) {
            target.call(&[b"XGROUP", b"CREATECONSUMER", self.key, &self.group.name, consumer]).await?;
            self.copied.changed = true;
        }
        Ok(())
    }

    /// Page by page through both lists, which are in the order of ids.
    async fn held(&mut self, source: &mut Line, target: &mut Line, key: &[u8]) -> Result<(), WireError> {
        let mut after = EntryId::ZERO;
        loop {
            let now = Clocks { source: look::now_ms(source).await?, target: look::now_ms(target).await? };
            let wanted = look::pending(source, key, &self.group.name, after).await?;
            let whole = wanted.len() < PENDING_PAGE;
            let through = if whole { None } else { wanted.last().map(|row| row.id) };
            let there = self.held_there(target, after, through).await?;
            self.claim(target, &wanted, &there, now).await?;
            self.acknowledge(target, &wanted, &there).await?;
            match through {
                None => return Ok(()),
                Some(id) => after = id,
            }
        }
    }

    /// What the target's group holds in a window of ids.
    async fn held_there(
        &self,
        target: &mut Line,
        after: EntryId,
        through: Option<EntryId>,
    ) -> Result<BTreeMap<EntryId, PendingRow>, WireError> {
        let (mut rows, mut from) = (BTreeMap::new(), after);
        loop {
            let page = look::pending(target, self.key, &self.group.name, from).await?;
            let (count, last) = (page.len(), page.last().map(|row| row.id));
            rows.extend(page.into_iter().filter(|row| through.is_none_or(|id| row.id <= id)).map(|row| (row.id, row)));
            match last {
                Some(last) if count == PENDING_PAGE && through.is_none_or(|id| last < id) => from = last,
                _ => return Ok(rows),
            }
        }
    }

    async fn claim(
        &mut self,
        target: &mut Line,
        wanted: &[PendingRow],
        there: &BTreeMap<EntryId, PendingRow>,
        now: Clocks,
    ) -> Result<(), WireError> {
        let same = |row: &PendingRow| there.get(&row.id).is_some_and(|known| now.is_same(row, known));
        // What is not copied yet is held later, when it is.
        let rows: Vec<&PendingRow> = wanted.iter().filter(|row| row.id <= self.top && !same(row)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut request = Request::new();
        for row in &rows {
            let (id, time) = (row.id.to_string(), now.source.saturating_sub(row.idle_ms).to_string());
            let deliveries = row.deliveries.to_string();
            request.command(&[
                b"XCLAIM",
                self.key,
                &self.group.name,
                &row.consumer,
                b"0",
                id.as_bytes(),
                b"TIME",
                time.as_bytes(),
                b"RETRYCOUNT",
                deliveries.as_bytes(),
                b"FORCE",
                b"JUSTID",
            ]);
        }
        for reply in target.all(&request).await? {
            match reply {
                Reply::Error(words) => return Err(target.refused("XCLAIM", &words)),
                reply if reply.list().is_empty() => self.copied.lost += 1,
                _ => self.copied.changed = true,
            }
        }
        Ok(())
    }

    async fn acknowledge(
        &mut self,
        target: &mut Line,
        wanted: &[PendingRow],
        there: &BTreeMap<EntryId, PendingRow>,
    ) -> Result<(), WireError> {
        let done: Vec<EntryId> = there.keys().copied().filter(|id| wanted.iter().all(|row| row.id != *id)).collect();
        if done.is_empty() {
            return Ok(());
        }
        let mut request = Request::new();
        request.begin(3 + done.len());
        request.argument(b"XACK");
        request.argument(self.key);
        request.argument(&self.group.name);
        done.iter().for_each(|id| request.argument(id.to_string().as_bytes()));
        self.copied.changed = true;
        for reply in target.all(&request).await? {
            if let Reply::Error(words) = reply {
                return Err(target.refused("XACK", &words));
            }
        }
        Ok(())
    }
}
