//! Lines of log files on their way into a stream, as native appends that the commit behind them judges.
//!
//! A script that appends copies each line three times more; with native appends the server spends a quarter less on a
//! line. See `docs/decisions/0011-lines-in-a-transaction.md`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{MutexGuard, PoisonError};

use redis::Value;

use super::effect::{Encoder, bound};
use super::error::StoreError;
use super::lease::{Answered, Lease};
use super::link::{Told, Transacted, Transaction};
use super::options::Limits;
use super::reply::Row;
use super::script;
use crate::messages::line::{FileId, Line, LineId, Part};
use crate::wire::Request;

/// Most lines of one commit: what bounds the time for which others wait for Redis.
pub const LINES_MAX: usize = 5000;

/// Lines that a commit appends to a stream, in order: its [`Effect::Lines`](super::effect::Effect::Lines).
///
/// A record has one field: the line's [`Label`](crate::messages::line::Label), and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines {
    /// The stream: an output of the pipeline, by name.
    pub output: String,
    /// Entries that the stream may hold; 0 = no bound. Refused as `Full` when it had so many before the turn.
    pub capacity: u64,
    /// The lines; at most [`LINES_MAX`]. None at all is a commit without this effect.
    pub lines: Vec<Line>,
    /// Where they are published, if at all.
    pub publish: Option<Publishing>,
    /// The same lines as they travel, where that was written down before; else the commit does it.
    pub packed: Option<Packed>,
}

/// Lines as the beginning of their transaction, for one stream. Whoever reads ahead has it made while Redis is busy with the
/// commit before, which would wait for it otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    key: String,
    /// The ends of what they were written from.
    ends: Option<(LineId, LineId)>,
    request: Request,
}

/// Writes lines down for one stream, on whichever thread.
#[derive(Debug, Clone)]
pub struct Packer {
    key: String,
}

impl Packer {
    /// Writes lines down.
    pub fn pack(&self, lines: &[Line]) -> Packed {
        let bytes: usize = lines.iter().map(|line| line.bytes.len() + self.key.len() + APPEND_BYTES).sum();
        let (mut request, mut labels) = (Transaction::begin(bytes), Labels::default());
        for line in lines {
            request.command(&[b"XADD", self.key.as_bytes(), b"*", labels.of(line).as_bytes(), &line.bytes]);
        }
        Packed { key: self.key.clone(), ends: ends(lines), request }
    }
}

/// What an append takes beside key and line: its label and what frames it.
const APPEND_BYTES: usize = 96;

fn ends(lines: &[Line]) -> Option<(LineId, LineId)> {
    Some((lines.first()?.id.clone(), lines.last()?.id.clone()))
}

/// How lines are published: inside the commit, in their order, only where somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// What channels begin with: each line goes to `PREFIXall` and to `PREFIXLEVEL`.
    pub prefix: String,
    /// What is heard.
    pub payload: Payload,
}

/// What subscribers hear of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Payload {
    /// Its bytes.
    #[default]
    Bytes,
    /// A JSON object: `id`, `level`, `line`; of a line that is not UTF-8 in base64, and `"base64":true`; of one that is
    /// not whole `part`.
    Envelope,
}

/// How the stream stood at the last commit of lines, as the commit's own script saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Appended {
    /// Entries of the stream; 0 before the first commit.
    pub length: u64,
    /// Why lines were not published, in the words of Redis. They are in the stream all the same.
    pub unheard: Option<String>,
    /// Somebody listens: the next commit hands its script the bytes, so that it need not read them back.
    pub is_heard: bool,
    /// The last one was refused as `Full`.
    pub is_full: bool,
}

/// How often lines that a transaction left without its verdict are taken back and sent anew.
const STRANDED_MAX: u32 = 3;

impl Lease {
    /// How the stream stood at the last commit of lines of this life.
    pub fn appended(&self) -> Appended {
        self.lock_appended().clone()
    }

    /// Writes lines down for an output of the pipeline, ahead of their commit.
    pub fn packer(&self, output: &str) -> Packer {
        Packer { key: self.store().keys.output(&self.unit().pipeline, output) }
    }

    fn lock_appended(&self) -> MutexGuard<'_, Appended> {
        self.appended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what stands behind the answer of every commit.
    pub(super) fn note_lines(&self, row: &mut Row) -> Result<(), StoreError> {
        let (length, unheard, is_heard) = (row.number()?, row.text()?, row.number()? == 1);
        let unheard = Some(unheard).filter(|reason| !reason.is_empty());
        *self.lock_appended() = Appended { length, unheard, is_heard, is_full: false };
        Ok(())
    }

    /// Appends lines and has them judged. `keys` and `args` are the script's.
    pub(super) async fn fenced_lines(
        &self,
        lines: &Lines,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Answered<'_>, StoreError> {
        let (script, stream) = (&script::COMMIT_LINES, keys.get(3).map_or("", String::as_str));
        let limits = &self.link().options().limits;
        lines.check(limits)?;
        self.ask_for_room(lines, stream).await?;
        let packed = match &lines.packed {
            Some(packed) if packed.is_of(stream, lines) => Cow::Borrowed(packed),
            _ => Cow::Owned(Packer { key: stream.to_owned() }.pack(&lines.lines)),
        };
        let mut verdict = Request::new();
        script.write_whole(&mut verdict, keys, args);
        let transaction = Transaction::new(&packed.request, verdict);
        let answered = self.answered(script.name, self.transact(lines, &transaction, keys, args)).await?;
        self.lock_appended().is_full = answered.row.starts_with("FULL");
        Ok(answered)
    }

    /// Lines that find no room travel in vain, so after the first such commit the length is asked for before the next.
    async fn ask_for_room(&self, lines: &Lines, stream: &str) -> Result<(), StoreError> {
        if lines.capacity == 0 || !self.lock_appended().is_full {
            return Ok(());
        }
        let length = self.store().length(self.link(), stream).await?;
        if length >= lines.capacity { Err(StoreError::Full { key: stream.to_owned() }) } else { Ok(()) }
    }

    async fn transact(
        &self,
        lines: &Lines,
        transaction: &Transaction<'_>,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Told, StoreError> {
        let mut stranded = 0;
        loop {
            let (answers, cause) = match self.link().transact(script::COMMIT_LINES.name, transaction).await? {
                Transacted::Judged(told) => return Ok(Told { resent: told.resent || stranded > 0, ..told }),
                Transacted::Stranded { answers, cause } => (answers, cause),
            };
            stranded += 1;
            self.take_back(lines, answers, keys, args).await?;
            match cause {
                Some(cause) => return Err(cause),
                None if stranded >= STRANDED_MAX => {
                    let reason = format!("it appended lines and did not judge them, {stranded} times");
                    return Err(StoreError::Refused { command: script::COMMIT_LINES.name.to_owned(), reason });
                }
                None => {}
            }
        }
    }

    /// Removes what a transaction has appended whose script was not run. A crash before it leaves these lines without a
    /// checkpoint: they are read again, and stand twice in the stream, under the same line id.
    async fn take_back(
        &self,
        lines: &Lines,
        answers: Vec<Value>,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        let ids = lines.stranded(answers);
        tracing::error!(unit = %self.unit(), lines = ids.len() / 2, "redis appended lines and did not run the script behind them; taking them back");
        let keys: Vec<String> = [keys.first(), keys.get(3)].into_iter().flatten().cloned().collect();
        let mut fenced = args.get(..4).unwrap_or(args).to_vec();
        fenced.extend(ids);
        let mut row = Row::new("undo", self.link().run(&script::UNDO, &keys, &fenced).await?)?;
        match row.text()?.as_str() {
            "OK" | "LEFT" => Ok(()),
            word => Err(StoreError::Protocol(format!("undo: `{word}`"))),
        }
    }
}

impl Lines {
    /// Bytes of all lines.
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.bytes.len()).sum()
    }

    /// Refuses what is over its bound.
    fn check(&self, limits: &Limits) -> Result<(), StoreError> {
        if self.lines.len() > LINES_MAX {
            let reason = format!("{} lines in one commit; at most {LINES_MAX}", self.lines.len());
            return Err(StoreError::Unfit(reason));
        }
        let one = |line: &Line| bound("a line", line.bytes.len(), limits.entry_bytes_max, "mailbox.entry_bytes_max");
        self.lines.iter().try_for_each(one)
    }

    /// What the script must know of them, as it stands there from argument 14 on. `is_heard` hands over the bytes as well
    /// where those are what subscribers hear; answers how many bytes that are.
    pub(super) fn describe(&self, encoder: &mut Encoder<'_>, is_heard: bool) -> usize {
        encoder.number(self.lines.len() as u64);
        encoder.text(&self.lines.first().map_or_else(String::new, |line| line.label().to_string()));
        encoder.number(self.capacity);
        let Some(Publishing { prefix, payload }) = &self.publish else {
            ["", "0", "0", "0", "0"].into_iter().for_each(|nothing| encoder.text(nothing));
            return 0;
        };
        encoder.text(prefix);
        encoder.text(if *payload == Payload::Envelope { "1" } else { "0" });
        let levels: BTreeSet<&str> = self.lines.iter().map(|line| line.level.as_str()).collect();
        encoder.number(levels.len() as u64);
        levels.iter().for_each(|level| encoder.text(level));
        let is_foreign = |line: &Line| *payload == Payload::Envelope && std::str::from_utf8(&line.bytes).is_err();
        let foreign: Vec<_> = self.lines.iter().enumerate().filter(|(_, line)| is_foreign(line)).collect();
        encoder.number(foreign.len() as u64);
        for (place, line) in foreign {
            encoder.number(place as u64 + 1);
            encoder.text(&base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &line.bytes));
        }
        if !is_heard || *payload == Payload::Envelope {
            encoder.number(0);
            return 0;
        }
        encoder.number(self.lines.len() as u64);
        encoder.args.extend(self.lines.iter().map(|line| line.bytes.to_vec()));
        encoder.args.push(self.places(&levels));
        self.bytes()
    }

    /// The place of each line's level among the levels, two bytes each.
    fn places(&self, levels: &BTreeSet<&str>) -> Vec<u8> {
        let places: BTreeMap<&str, usize> = levels.iter().enumerate().map(|(place, level)| (*level, place)).collect();
        let place = |line: &Line| places.get(line.level.as_str()).copied().unwrap_or(0);
        // A commit has at most LINES_MAX levels.
        self.lines.iter().flat_map(|line| (place(line) as u16).to_be_bytes()).collect()
    }

    /// The lines that were appended, by the answers to their appends: the id of each entry and its label.
    fn stranded(&self, answers: Vec<Value>) -> Vec<Vec<u8>> {
        let mut ids = Vec::with_capacity(2 * answers.len());
        for (line, answer) in self.lines.iter().zip(answers) {
            if let Value::BulkString(entry) = answer {
                ids.extend([entry, line.label().to_string().into_bytes()]);
            }
        }
        ids
    }
}

impl Packed {
    /// Whether it is these lines, for this stream.
    fn is_of(&self, key: &str, lines: &Lines) -> bool {
        // MULTI stands before them.
        self.key == key && self.request.answers == lines.lines.len() + 1 && self.ends == ends(&lines.lines)
    }
}

/// Writes the labels of lines; what names the file stays as long as the file does.
#[derive(Default)]
struct Labels {
    file: Option<FileId>,
    text: String,
    named: usize,
}

impl Labels {
    fn of(&mut self, line: &Line) -> &str {
        if self.file.as_ref() != Some(&line.id.file) {
            self.text.clear();
            let _ = write!(self.text, "{}:", line.id.file);
            self.named = self.text.len();
            self.file = Some(line.id.file.clone());
        }
        self.text.truncate(self.named);
        let _ = write!(self.text, "{} {}", line.id.offset, line.level);
        if line.part != Part::Whole {
            let _ = write!(self.text, " {}", line.part.as_str());
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::line::{Level, LineId};

    #[test]
    fn labels_are_written_as_lines_name_themselves() {
        let mut labels = Labels::default();
        for (inode, offset, part) in
            [(1, 0, Part::Whole), (1, 142, Part::Torn), (2, 7, Part::Whole), (1, u64::MAX, Part::Cut)]
        {
            let id = LineId { file: FileId { head: 5, inode, generation: 3 }, offset };
            let line = Line { id, level: Level::UNKNOWN, bytes: "x".into(), part };
            assert_eq!(labels.of(&line), line.label().to_string());
        }
    }
}
