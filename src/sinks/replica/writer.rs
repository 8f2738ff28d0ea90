//! Writer: a batch goes to the target in one step, if the stream's last id is the expected one, or not at all.
//!
//! The step is `WATCH` and a look at the last id, then `MULTI`, the entries, `EXEC`. The look for the next batch travels
//! behind the `EXEC` of this one, so a batch costs one round trip. Whatever touches the stream in between, another
//! copier, a former holder, a flush, makes the `EXEC` do nothing. A failover ends the connection, and the watch with it.
//! A bare `MULTI` would not do: it goes on past a refused entry, and what was refused can never be written again.
//! Where evidence is kept, the stream's chain is watched, looked at and written in the same step.
//!
//! Keeps G8: the target stream holds the source's entries with the same ids, fields, field order and bytes, each once,
//! in order, while we are its only writer.

use super::chain::{Digest, ask_head, chain_key, push, read_head};
use crate::ids::EntryId;
use crate::messages::evidence::{ChainEnd, Link, LinkKind};
use crate::wire::look::{StreamFacts, read_stream};
use crate::wire::{Door, Item, Line, Reply, Request, Server, WireError};

/// What of the source's counters goes along with a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carry {
    /// Entries ever added, once the batch is written; none leaves the count to the target.
    pub added: Option<u64>,
    /// The highest id that was deleted one by one.
    pub max_deleted: Option<EntryId>,
    /// The last id, where it is above that of the batch.
    pub last: Option<EntryId>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is there; so stands the stream now.
    Now(StreamFacts),
    /// The stream does not stand where it was expected to: nothing was written. So it stands.
    Moved(Option<StreamFacts>),
    /// The target refuses this batch: nothing was written.
    Refused(String),
}

/// A connection to the target that writes; it belongs to one unit alone, since what it watches is its own.
pub struct Writer {
    line: Line,
    /// The target.
    pub server: Server,
    /// Links that the chain of a stream keeps; 0 = there are no chains.
    links: u64,
    watched: Option<Watched>,
    request: Request,
    has_written: bool,
}

/// A stream under watch, and how it stood when the watch began.
#[derive(Debug, Clone)]
struct Watched {
    key: Vec<u8>,
    chain: Vec<u8>,
    facts: Option<StreamFacts>,
    head: Option<Link>,
}

impl Watched {
    fn last(&self) -> EntryId {
        self.facts.as_ref().map_or(EntryId::ZERO, |facts| facts.last)
    }
}

impl Writer {
    /// Connects.
    pub async fn open(door: &Door, db: u16, links: u64) -> Result<Self, WireError> {
        let (line, server) = door.open(db).await?;
        Ok(Self::new(line, server, links))
    }

    /// Takes a connection over.
    pub fn new(line: Line, server: Server, links: u64) -> Self {
        Self { line, server, links, watched: None, request: Request::new(), has_written: false }
    }

    /// Whether the connection can be used.
    pub fn is_whole(&self) -> bool {
        self.line.is_whole()
    }

    /// Whether this connection has written a batch.
    pub fn has_written(&self) -> bool {
        self.has_written
    }

    /// The connection, for what needs no watch. It ends the watch.
    pub fn line(&mut self) -> &mut Line {
        self.watched = None;
        &mut self.line
    }

    /// How the stream stands, as [`Writer::write`] will compare it.
    pub async fn look(&mut self, key: &[u8]) -> Result<Option<StreamFacts>, WireError> {
        Ok(self.watch(key).await?.facts)
    }

    /// As [`Writer::look`], and never from memory: of a stream that is not written nobody else would tell.
    pub async fn look_again(&mut self, key: &[u8]) -> Result<Option<StreamFacts>, WireError> {
        self.watched = None;
        self.look(key).await
    }

    /// The newest link of the stream's chain of evidence; none where there is none.
    pub async fn head(&mut self, key: &[u8]) -> Result<Option<Link>, WireError> {
        Ok(self.watch(key).await?.head)
    }

    /// Where the chain of the stream that was written last ends.
    pub fn chain_end(&self) -> ChainEnd {
        self.watched.as_ref().and_then(|watched| watched.head.as_ref()).map(Link::end).unwrap_or_default()
    }

    async fn watch(&mut self, key: &[u8]) -> Result<Watched, WireError> {
        if let Some(watched) = self.watched.as_ref().filter(|watched| watched.key == key) {
            return Ok(watched.clone());
        }
        self.watched = None;
        let chain = if self.links > 0 { chain_key(key) } else { Vec::new() };
        self.request.clear();
        self.request.command(&[b"UNWATCH"]);
        self.ask(key, &chain);
        self.line.send(&self.request).await?;
        if let Reply::Error(words) = self.line.reply().await? {
            return Err(self.line.refused("UNWATCH", &words));
        }
        let watched = self.told(key, chain).await?;
        self.watched = Some(watched.clone());
        Ok(watched)
    }

    /// Begins a watch, and asks how the stream and its chain stand.
    fn ask(&mut self, key: &[u8], chain: &[u8]) {
        if chain.is_empty() {
            self.request.command(&[b"WATCH", key]);
        } else {
            self.request.command(&[b"WATCH", key, chain]);
        }
        self.request.command(&[b"XINFO", b"STREAM", key]);
        if !chain.is_empty() {
            ask_head(&mut self.request, chain);
        }
    }

    /// Reads the answers to [`Writer::ask`], all of them.
    async fn told(&mut self, key: &[u8], chain: Vec<u8>) -> Result<Watched, WireError> {
        let begun = self.line.reply().await?;
        let facts = self.line.reply().await?;
        let head = if chain.is_empty() { None } else { Some(self.line.reply().await?) };
        if let Reply::Error(words) = begun {
            return Err(self.line.refused("WATCH", &words));
        }
        let facts = read_stream(&mut self.line, &facts)?;
        let head = head.map(|head| read_head(&mut self.line, &head)).transpose()?.flatten();
        Ok(Watched { key: key.to_vec(), chain, facts, head })
    }

    /// Writes entries behind `expected`, in order, all or none. `items` are places in `bytes`.
    ///
    /// A crash before the answer leaves all of them on the target, or none; the target's own last id tells which. Where
    /// evidence is kept their link is there with them, and a chain that does not end at `expected` is as good as a stream
    /// that does not.
    pub async fn write(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        items: &[&Item],
        expected: EntryId,
        carry: Carry,
    ) -> Result<Written, WireError> {
        let stands = self.watch(key).await?;
        if stands.last() != expected {
            return Ok(Written::Moved(stands.facts));
        }
        let last = items.last().map_or(expected, |item| item.id).max(carry.last.unwrap_or_default());
        let mut link = None;
        if self.links > 0 && last != expected {
            if stands.head.as_ref().map_or(EntryId::ZERO, |head| head.last) != expected {
                return Ok(Written::Moved(stands.facts));
            }
            let mut digest = Digest::default();
            digest.add(bytes, items.iter().copied());
            let kind = if items.is_empty() { LinkKind::Skipped } else { LinkKind::Written };
            link = Some(digest.link(kind, (expected, last)).sealed(key, stands.head.as_ref()));
        }
        self.begin();
        for item in items {
            self.request.begin(3 + item.arguments);
            self.request.encoded(b"$4\r\nXADD\r\n");
            self.request.argument(key);
            self.request.encoded(item.id_bytes(bytes));
            self.request.encoded(item.fields(bytes));
        }
        let is_missing = stands.facts.is_none() && items.is_empty();
        if is_missing {
            // An empty stream with a past: an entry that is trimmed in the same command.
            let id = last.to_string();
            self.request.command(&[b"XADD", key, b"MAXLEN", b"0", id.as_bytes(), b"-", b"-"]);
        }
        self.carry(key, last, carry, items.is_empty());
        self.execute(&stands, link).await
    }

    /// Adds a link that no batch brings, where the stream stands at `expected`.
    pub async fn add_link(&mut self, key: &[u8], expected: EntryId, link: Link) -> Result<Written, WireError> {
        let stands = self.watch(key).await?;
        if stands.last() != expected {
            return Ok(Written::Moved(stands.facts));
        }
        let link = link.sealed(key, stands.head.as_ref());
        self.begin();
        self.execute(&stands, Some(link)).await
    }

    /// Puts another stream in the place of this one, if it stands at `expected`; `link` says what the new one holds.
    pub async fn replace(
        &mut self,
        key: &[u8],
        other: &[u8],
        expected: EntryId,
        link: Option<Link>,
    ) -> Result<Written, WireError> {
        let stands = self.watch(key).await?;
        if stands.last() != expected {
            return Ok(Written::Moved(stands.facts));
        }
        let link = link.map(|link| link.sealed(key, stands.head.as_ref()));
        self.begin();
        self.request.command(&[b"RENAME", other, key]);
        self.execute(&stands, link).await
    }

    fn begin(&mut self) {
        self.watched = None;
        self.request.clear();
        self.request.command(&[b"MULTI"]);
    }

    /// Adds the counters, where the target has them.
    fn carry(&mut self, key: &[u8], last: EntryId, carry: Carry, alone: bool) {
        let last_text = last.to_string();
        let added = carry.added.filter(|_| self.server.counts()).map(|added| added.to_string());
        let deleted = carry.max_deleted.filter(|id| self.server.counts() && *id > EntryId::ZERO && *id <= last);
        let deleted = deleted.map(|id| id.to_string());
        if added.is_none() && deleted.is_none() && carry.last.is_none() && !alone {
            return;
        }
        let mut args: Vec<&[u8]> = vec![b"XSETID", key, last_text.as_bytes()];
        if let Some(added) = &added {
            args.extend([b"ENTRIESADDED".as_slice(), added.as_bytes()]);
        }
        if let Some(deleted) = &deleted {
            args.extend([b"MAXDELETEDID".as_slice(), deleted.as_bytes()]);
        }
        self.request.command(&args);
    }

    /// Sends what was queued, and the link, with its `EXEC`, and the next look behind it.
    async fn execute(&mut self, stood: &Watched, link: Option<Link>) -> Result<Written, WireError> {
        if let Some(link) = &link {
            push(&mut self.request, &stood.chain, self.links, link);
        }
        let queued = self.request.answers - 1;
        self.request.command(&[b"EXEC"]);
        self.ask(&stood.key, &stood.chain);
        self.line.send(&self.request).await?;
        let begun = self.line.reply().await?;
        let refused = self.line.queued(queued).await?;
        let done = self.line.reply().await?;
        let watched = self.told(&stood.key, stood.chain.clone()).await?;
        if let Reply::Error(words) = begun {
            return Err(self.line.refused("MULTI", &words));
        }
        let facts = watched.facts.clone();
        self.watched = Some(watched);
        match done {
            Reply::Nil => Ok(Written::Moved(facts)),
            Reply::Error(words) => {
                let words = refused.unwrap_or(words);
                // A target that is loading, or a replica by now, is away; the rest is a refusal of this batch.
                match self.line.refused("XADD", &words) {
                    WireError::Refused { reason, .. } => Ok(Written::Refused(reason)),
                    error => Err(error),
                }
            }
            done => match (done.list().iter().find(|reply| matches!(reply, Reply::Error(_))), facts) {
                // Not expected: the last id was compared, and memory and rights are judged before the first command.
                (Some(error), _) => Ok(Written::Refused(format!("in part: {}", error.text()))),
                (None, Some(facts)) => {
                    self.has_written = true;
                    Ok(Written::Now(facts))
                }
                (None, None) => Ok(Written::Moved(None)),
            },
        }
    }

    /// Waits until replicas, and the disk, have what this connection wrote; answers what is missing.
    pub async fn wait(
        &mut self,
        replicas: u32,
        aof: bool,
        limit: std::time::Duration,
    ) -> Result<Option<String>, WireError> {
        let (wanted, limit) = (replicas.to_string(), limit.as_millis().to_string());
        if aof {
            let reply = self.line.call(&[b"WAITAOF", b"1", wanted.as_bytes(), limit.as_bytes()]).await?;
            let [local, remote] = reply.list() else { return Err(self.line.nonsense("WAITAOF of another form")) };
            let (local, remote) = (local.int().unwrap_or(0), remote.int().unwrap_or(0));
            let good = local >= 1 && remote >= i64::from(replicas);
            return Ok((!good).then(|| format!("the disk of {local} of 1 masters and {remote} of {replicas} replicas")));
        }
        if replicas == 0 {
            return Ok(None);
        }
        let found = self.line.call(&[b"WAIT", wanted.as_bytes(), limit.as_bytes()]).await?.int().unwrap_or(0);
        Ok((found < i64::from(replicas)).then(|| format!("{found} of {replicas} replicas have it")))
    }
}
