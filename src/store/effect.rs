//! The closed list of what a commit may do, and how it is written down for the script.

use std::time::Duration;

use serde::Serialize;

use super::error::StoreError;
use super::keys::Keys;
use super::lines::Lines;
use super::options::Limits;
use super::table::ROW_BYTES_MAX;
use crate::ids::{Address, EntryId, PipelineId, UnitId};
pub use crate::messages::block::Piece;

use crate::messages::block::BlockHash;
use crate::messages::heights::HeightRange;

/// A message on its way into a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What kind of message it is; the mailbox's actor must know it.
    pub kind: String,
    /// The rest of it, as JSON.
    pub body: String,
}

impl Outgoing {
    /// Takes a message apart: an enum tagged `type`, with its content under `body`.
    pub fn new<M: Serialize>(message: &M) -> Result<Self, StoreError> {
        let fault = |reason: String| StoreError::Protocol(format!("a message cannot be written: {reason}"));
        let value = serde_json::to_value(message).map_err(|e| fault(e.to_string()))?;
        let kind = value.get("type").and_then(|t| t.as_str()).ok_or_else(|| fault("it has no type".to_owned()))?;
        let body = value.get("body").map_or_else(|| "{}".to_owned(), ToString::to_string);
        Ok(Self { kind: kind.to_owned(), body })
    }

    /// The fields of its stream entry.
    pub fn fields(&self) -> Fields {
        vec![(b"type".to_vec(), self.kind.clone().into_bytes()), (b"body".to_vec(), self.body.clone().into_bytes())]
    }
}

/// Fields and values of one stream entry, in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One thing that a commit does. Each is judged by the script before the first write, so all happen or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Sends messages; refused as `Full` when the mailbox had `capacity` entries before the turn and the turn
    /// would make it longer.
    Send {
        /// The mailbox.
        to: Address,
        /// Entries that it may hold.
        capacity: u64,
        /// The messages, in order.
        messages: Vec<Outgoing>,
    },
    /// Appends records to an output stream.
    Append {
        /// The output's name within the pipeline.
        output: String,
        /// The records, in order.
        records: Vec<Fields>,
    },
    /// Appends records to an output stream that is bounded; refused as `Full` when it had `capacity` entries before the
    /// turn.
    AppendWithin {
        /// The output's name within the pipeline.
        output: String,
        /// Entries that it may hold.
        capacity: u64,
        /// The records, in order.
        records: Vec<Fields>,
    },
    /// As [`Effect::AppendWithin`], of entries that could not be dealt with: their records may be of any size, since
    /// however large a foreign entry is, it must be possible to set it aside.
    SetAside {
        /// The output's name within the pipeline.
        output: String,
        /// Entries that it may hold.
        capacity: u64,
        /// Each entry's own fields, then what is said of it.
        records: Vec<Fields>,
    },
    /// Lets the entry that this commit acknowledges come again after a while, in place of sending it on: only in a pool,
    /// whose order nobody relies on. It keeps its fields, its first id and its attempts, and counts as one of the
    /// mailbox's entries; the slot is free meanwhile.
    Again {
        /// The pool's mailbox.
        of: Address,
        /// After how long, by the server's clock; at most 300 s.
        after: Duration,
        /// The type and body that it comes with.
        message: Outgoing,
    },
    /// Sets an entry aside, with its reason.
    Bury {
        /// The mailbox that it came from.
        of: Address,
        /// The entry's own fields, then the reason, attempts and times.
        fields: Fields,
    },
    /// Adds a piece to the held heights, if it links to every held neighbour; takes it off the parked ones.
    ///
    /// Keeps G5: the parent link is compared with each held neighbour in the very script that records the piece.
    Merge(Piece),
    /// Takes heights out of the held ones.
    Remove {
        /// The heights; those not held are no error.
        range: HeightRange,
        /// The hash of the height below the range: needed where that height stays held.
        below: Option<BlockHash>,
        /// The parent link of the height above the range: needed where that height stays held.
        above: Option<BlockHash>,
    },
    /// Parks what of the range is not held, with the reason, as of the server's now.
    Park {
        /// The heights.
        range: HeightRange,
        /// Why they cannot be filled; shown to people.
        reason: String,
    },
    /// Takes heights off the parked ones: they are missing again, and the next look of the detector asks for them.
    Unpark {
        /// The heights; those not parked are no error.
        range: HeightRange,
    },
    /// Refuses the commit unless every height of a task ends up held, parked or sent on.
    Cover {
        /// The task's heights.
        range: HeightRange,
        /// What this commit sends on.
        resent: Vec<HeightRange>,
    },
    /// Notes something in the world that this commit supersedes; destroyed only after the rollback horizon.
    Trash {
        /// What and where, as JSON.
        item: String,
        /// Entries that the list may hold.
        capacity: u64,
    },
    /// Sets a fact of the pipeline.
    Put {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Sets a row of this unit's table; refused as `Full` when the table would become longer than `capacity`.
    PutRow {
        /// Which row.
        row: String,
        /// Its value, as JSON; never empty. With the name at most [`ROW_BYTES_MAX`].
        value: String,
        /// Rows that the table may hold.
        capacity: u64,
    },
    /// Drops a row of this unit's table; one that is not there is no error.
    DropRow {
        /// Which row.
        row: String,
    },
    /// Appends lines of log files. At most one in a commit, which then may hold no effect on heights, and no `Again`.
    Lines(Lines),
    /// Publishes, inside the script and only where somebody listens.
    Publish {
        /// The channel.
        channel: String,
        /// The payload.
        payload: Vec<u8>,
    },
}

/// What of the mailbox a commit acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything up to this entry: the offset moves there.
    Through {
        /// The last entry that the turn dealt with.
        last: EntryId,
        /// How many entries that are.
        count: u64,
    },
}

/// A turn's outcome, to become durable together or not at all.
///
/// Keeps G1: checkpoint, acknowledgements, messages to other actors and records written to the shared Redis become
/// durable together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The new state of the checkpoint (JSON); none leaves it as it is.
    pub state: Option<String>,
    /// What of the mailbox is done.
    pub ack: Ack,
    /// Everything else.
    pub effects: Vec<Effect>,
}

impl Commit {
    /// Whether it appends anywhere; such a commit is refused when Redis is out of memory.
    pub(super) fn appends(&self) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Send { .. }
            | Effect::Append { .. }
            | Effect::AppendWithin { .. }
            | Effect::SetAside { .. }
            | Effect::Bury { .. }
            | Effect::Trash { .. }
            | Effect::Lines(_) => true,
            Effect::Merge(_)
            | Effect::Remove { .. }
            | Effect::Park { .. }
            | Effect::Unpark { .. }
            | Effect::Cover { .. }
            | Effect::Again { .. }
            | Effect::Put { .. }
            | Effect::PutRow { .. }
            | Effect::DropRow { .. }
            | Effect::Publish { .. } => false,
        })
    }

    /// The lines that it appends, where there are any: then the commit is a transaction, and what its script does not
    /// know must not be in it.
    pub(super) fn lines(&self) -> Result<Option<&Lines>, StoreError> {
        let mut all = self.effects.iter().filter_map(|effect| match effect {
            Effect::Lines(lines) if !lines.lines.is_empty() => Some(lines),
            _ => None,
        });
        let Some(lines) = all.next() else { return Ok(None) };
        let is_alone = all.next().is_none();
        let fits = |effect: &Effect| match effect {
            Effect::Append { output, .. } | Effect::AppendWithin { output, .. } | Effect::SetAside { output, .. } => {
                *output != lines.output
            }
            Effect::Merge(_)
            | Effect::Remove { .. }
            | Effect::Park { .. }
            | Effect::Unpark { .. }
            | Effect::Cover { .. }
            | Effect::Again { .. } => false,
            _ => true,
        };
        if is_alone && self.effects.iter().all(fits) {
            return Ok(Some(lines));
        }
        Err(StoreError::Unfit("a commit of lines holds an effect that cannot travel with them".to_owned()))
    }
}

/// The effects as keys and arguments of the script.
pub(super) struct Encoder<'a> {
    names: &'a Keys,
    unit: &'a UnitId,
    pipeline: &'a PipelineId,
    limits: &'a Limits,
    pub(super) keys: Vec<String>,
    pub(super) args: Vec<Vec<u8>>,
    /// Bytes of entries that are set aside: however large a foreign entry is, it must be possible to bury it.
    pub(super) buried_bytes: usize,
}

impl<'a> Encoder<'a> {
    /// Effects name keys by their place, so `keys` begins with those that every commit has.
    pub(super) fn new(names: &'a Keys, unit: &'a UnitId, limits: &'a Limits, keys: Vec<String>) -> Self {
        Self { names, unit, pipeline: &unit.pipeline, limits, keys, args: Vec::new(), buried_bytes: 0 }
    }

    /// Writes the number of effects and each of them.
    pub(super) fn effects(&mut self, effects: &[Effect]) -> Result<(), StoreError> {
        // Lines are not written down here: they stand before the script.
        let written = || effects.iter().filter(|effect| !matches!(effect, Effect::Lines(_)));
        self.number(written().count() as u64);
        written().try_for_each(|effect| self.effect(effect))
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), StoreError> {
        let (held, parked) = (self.names.held(self.pipeline), self.names.parked(self.pipeline));
        match effect {
            Effect::Send { to, capacity, messages } => {
                self.send(to, *capacity, messages)?;
            }
            Effect::Append { output, records } => {
                self.append(self.names.output(self.pipeline, output), 0, records)?;
            }
            Effect::AppendWithin { output, capacity, records } => {
                self.append(self.names.output(self.pipeline, output), *capacity, records)?;
            }
            Effect::SetAside { output, capacity, records } => {
                self.buried_bytes += records.iter().map(size).sum::<usize>();
                self.put_entries(self.names.output(self.pipeline, output), *capacity, records);
            }
            Effect::Again { of, after, message } => {
                let size = message.kind.len() + message.body.len();
                bound("an entry", size, self.limits.entry_bytes_max, "mailbox.entry_bytes_max")?;
                let (later, after) = (self.key(self.names.later(of)), after.as_millis().to_string());
                self.op("again", &[&later, &after, &message.kind, &message.body]);
            }
            Effect::Bury { of, fields } => {
                let (key, capacity) = (self.names.dead(of), self.limits.dead_letters_max);
                self.buried_bytes += size(fields);
                self.put_entries(key, capacity, std::slice::from_ref(fields));
            }
            Effect::Trash { item, capacity } => {
                let fields = vec![(b"item".to_vec(), item.clone().into_bytes())];
                self.append(self.names.trash(self.pipeline), *capacity, &[fields])?;
            }
            Effect::Merge(piece) => {
                let (lo, hi) = (piece.range.lo().to_string(), piece.range.hi().to_string());
                let sets = [self.key(held), self.key(parked)];
                self.op("merge", &[&sets[0], &sets[1], &lo, &hi, piece.parent.as_str(), piece.hash.as_str()]);
            }
            Effect::Remove { range, below, above } => {
                let (lo, hi) = (range.lo().to_string(), range.hi().to_string());
                let set = self.key(held);
                let edge = |hash: &Option<BlockHash>| hash.as_ref().map_or(String::new(), |h| h.as_str().to_owned());
                self.op("remove", &[&set, &lo, &hi, &edge(below), &edge(above)]);
            }
            Effect::Park { range, reason } => {
                let (lo, hi) = (range.lo().to_string(), range.hi().to_string());
                let sets = [self.key(held), self.key(parked)];
                self.op("park", &[&sets[0], &sets[1], &lo, &hi, reason]);
            }
            Effect::Unpark { range } => {
                let (lo, hi) = (range.lo().to_string(), range.hi().to_string());
                let set = self.key(parked);
                self.op("unpark", &[&set, &lo, &hi]);
            }
            Effect::Cover { range, resent } => {
                let mut args = vec![self.key(held), self.key(parked), range.lo().to_string(), range.hi().to_string()];
                args.extend(resent.iter().flat_map(|r| [r.lo().to_string(), r.hi().to_string()]));
                self.op("cover", &args.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Effect::Put { field, value } => {
                let facts = self.key(self.names.facts(self.pipeline));
                self.op("put", &[&facts, field, value]);
            }
            Effect::PutRow { row, value, capacity } => {
                if value.is_empty() || row.len() + value.len() > ROW_BYTES_MAX {
                    let found = value.len();
                    return Err(StoreError::Unfit(format!(
                        "the row `{row}` of {found} bytes; 1 to {ROW_BYTES_MAX}, its name included"
                    )));
                }
                self.row(row, value, *capacity);
            }
            Effect::DropRow { row } => self.row(row, "", 0),
            Effect::Lines(_) => {}
            Effect::Publish { channel, payload } => {
                self.text("publish");
                self.number(2);
                self.text(channel);
                self.args.push(payload.clone());
            }
        }
        Ok(())
    }

    fn row(&mut self, row: &str, value: &str, capacity: u64) {
        let (table, tables) = (self.names.table(self.unit), self.names.tables(self.pipeline));
        let (table, tables, name) = (self.key(table), self.key(tables), self.unit.local());
        self.op("row", &[&table, &tables, &name, &capacity.to_string(), row, value]);
    }

    /// As an append of what [`Outgoing::fields`] says, without making those fields first: a feeder sends hundreds.
    fn send(&mut self, to: &Address, capacity: u64, messages: &[Outgoing]) -> Result<(), StoreError> {
        let names = [b"type".as_slice(), b"body".as_slice()];
        let named = names.iter().map(|name| name.len()).sum::<usize>();
        let (key, later) = (self.names.mailbox(to), self.names.later(to));
        self.head(key, capacity, Some(later), (messages.len(), 5 * messages.len()));
        for message in messages {
            let size = named + message.kind.len() + message.body.len();
            bound("an entry", size, self.limits.entry_bytes_max, "mailbox.entry_bytes_max")?;
            self.text("4");
            for (name, value) in names.into_iter().zip([&message.kind, &message.body]) {
                self.args.push(name.to_vec());
                self.text(value);
            }
        }
        Ok(())
    }

    fn append(&mut self, key: String, capacity: u64, entries: &[Fields]) -> Result<(), StoreError> {
        for fields in entries {
            bound("an entry", size(fields), self.limits.entry_bytes_max, "mailbox.entry_bytes_max")?;
        }
        self.put_entries(key, capacity, entries);
        Ok(())
    }

    fn put_entries(&mut self, key: String, capacity: u64, entries: &[Fields]) {
        let count: usize = entries.iter().map(|fields| 1 + 2 * fields.len()).sum();
        self.head(key, capacity, None, (entries.len(), count));
        for fields in entries {
            self.number(2 * fields.len() as u64);
            for (name, value) in fields {
                self.args.push(name.clone());
                self.args.push(value.clone());
            }
        }
    }

    /// What stands before the entries of an append; `count` is the number of arguments that they take. Entries of `later`
    /// take room as well.
    fn head(&mut self, key: String, capacity: u64, later: Option<String>, (entries, count): (usize, usize)) {
        let (key, later) = (self.key(key), later.map_or_else(|| "0".to_owned(), |later| self.key(later)));
        self.args.reserve(6 + count);
        self.text("send");
        self.number((4 + count) as u64);
        self.text(&key);
        self.number(capacity);
        self.text(&later);
        self.number(entries as u64);
    }

    fn op(&mut self, name: &str, args: &[&str]) {
        self.text(name);
        self.number(args.len() as u64);
        for arg in args {
            self.text(arg);
        }
    }

    /// The place of a key, as the script counts: from 1.
    fn key(&mut self, key: String) -> String {
        let place = self.keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        (place + 1).to_string()
    }

    pub(super) fn text(&mut self, text: &str) {
        self.args.push(text.as_bytes().to_vec());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.text(&number.to_string());
    }
}

fn size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Refuses what is larger than its bound, naming the bound's key.
pub(super) fn bound(what: &str, found: usize, limit: usize, key: &'static str) -> Result<(), StoreError> {
    if found > limit {
        return Err(StoreError::TooLarge { what: what.to_owned(), found, limit, key });
    }
    Ok(())
}
