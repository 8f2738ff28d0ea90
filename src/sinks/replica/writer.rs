//! Writer: a batch goes to the target in one step, if the stream's last id is the expected one, or not at all.
//!
//! The step is `WATCH` and a look at the last id, then `MULTI`, the entries, `EXEC`. The look for the next batch travels
//! behind the `EXEC` of this one, so a batch costs one round trip. Whatever touches the stream in between, another
//! copier, a former holder, a flush, makes the `EXEC` do nothing. A failover ends the connection, and the watch with it.
//! A bare `MULTI` would not do: it goes on past a refused entry, and what was refused can never be written again.
//!
//! Keeps G8: the target stream holds the source's entries with the same ids, fields, field order and bytes, each once,
//! in order, while we are its only writer.

use crate::ids::EntryId;
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
    watched: Option<(Vec<u8>, Option<StreamFacts>)>,
    request: Request,
    has_written: bool,
}

impl Writer {
    /// Connects.
    pub async fn open(door: &Door, db: u16) -> Result<Self, WireError> {
        let (line, server) = door.open(db).await?;
        Ok(Self::new(line, server))
    }

    /// Takes a connection over.
    pub fn new(line: Line, server: Server) -> Self {
        Self { line, server, watched: None, request: Request::new(), has_written: false }
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
        if let Some((watched, facts)) = &self.watched
            && watched == key
        {
            return Ok(facts.clone());
        }
        self.watched = None;
        self.request.clear();
        self.request.command(&[b"UNWATCH"]).command(&[b"WATCH", key]).command(&[b"XINFO", b"STREAM", key]);
        let replies = self.line.all(&self.request).await?;
        for reply in &replies[..2] {
            if let Reply::Error(words) = reply {
                return Err(self.line.refused("WATCH", words));
            }
        }
        let facts = read_stream(&mut self.line, &replies[2])?;
        self.watched = Some((key.to_vec(), facts.clone()));
        Ok(facts)
    }

    /// As [`Writer::look`], and never from memory: of a stream that is not written nobody else would tell.
    pub async fn look_again(&mut self, key: &[u8]) -> Result<Option<StreamFacts>, WireError> {
        self.watched = None;
        self.look(key).await
    }

    /// Writes entries behind `expected`, in order, all or none. `items` are places in `bytes`.
    ///
    /// A crash before the answer leaves all of them on the target, or none; the target's own last id tells which.
    pub async fn write(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        items: &[&Item],
        expected: EntryId,
        carry: Carry,
    ) -> Result<Written, WireError> {
        let facts = self.look(key).await?;
        if facts.as_ref().map_or(EntryId::ZERO, |facts| facts.last) != expected {
            return Ok(Written::Moved(facts));
        }
        self.watched = None;
        self.request.clear();
        self.request.command(&[b"MULTI"]);
        for item in items {
            self.request.begin(3 + item.arguments);
            self.request.encoded(b"$4\r\nXADD\r\n");
            self.request.argument(key);
            self.request.encoded(item.id_bytes(bytes));
            self.request.encoded(item.fields(bytes));
        }
        let last = items.last().map_or(expected, |item| item.id).max(carry.last.unwrap_or_default());
        let is_missing = facts.is_none() && items.is_empty();
        if is_missing {
            // An empty stream with a past: an entry that is trimmed in the same command.
            let id = last.to_string();
            self.request.command(&[b"XADD", key, b"MAXLEN", b"0", id.as_bytes(), b"-", b"-"]);
        }
        self.carry(key, last, carry, items.is_empty());
        self.execute(key).await
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

    /// Sends what was queued with its `EXEC`, and the next look behind it.
    async fn execute(&mut self, key: &[u8]) -> Result<Written, WireError> {
        let queued = self.request.answers - 1;
        self.request.command(&[b"EXEC"]).command(&[b"WATCH", key]).command(&[b"XINFO", b"STREAM", key]);
        self.line.send(&self.request).await?;
        let begun = self.line.reply().await?;
        let refused = self.line.queued(queued).await?;
        let done = self.line.reply().await?;
        let watch = self.line.reply().await?;
        let look = self.line.reply().await?;
        let facts = read_stream(&mut self.line, &look)?;
        if let Reply::Error(words) = begun {
            return Err(self.line.refused("MULTI", &words));
        }
        if let Reply::Error(words) = watch {
            return Err(self.line.refused("WATCH", &words));
        }
        self.watched = Some((key.to_vec(), facts.clone()));
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
