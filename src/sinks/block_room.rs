//! One block on its way into the store: the blocking side of [`super::block_files`].
//!
//! One store is (1) the block and its line as two temporaries, both written, then both synced; (2) the block's name;
//! (3) the line's name; (4) one sync of each folder for the whole batch. Only then is anything reported.
//!
//! | a crash | leaves | next time |
//! |---|---|---|
//! | within (1) | temporaries, whole or torn, no name | swept; written |
//! | between (2) and (3) | a block without meta: `NoDigest` | found; its meta is written for the bytes that stand there |
//! | before (4), with a power cut | either name, both or none; each file whole | a missing one is written; a meta that speaks of other bytes goes to the trash |
//! | while a wrong file is moved away | it stands in its place, or in the trash | moved, or written anew |
//! | while a block is discarded | its meta alone may stay | no block of that name: missing; the meta is judged at the next store |
//!
//! A block may stand packed, as it came, or, after two nodes with different settings met, in both forms. Whatever stands
//! there stays; the line says which bytes count.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::messages::block::{Block, BlockHash, BlockRef};
use crate::messages::heights::Height;

use super::SinkError;
use super::block_check::{Judge, Looked, standing};
use super::block_files::{BLOCK_BYTES_MAX, ParseBlock, Stored};
use super::block_form::{Form, Packers};
use super::block_meta::{BlockMeta, Digest, META_BYTES_MAX};
use super::block_names::BlockPaths;
use super::durable::{Opened, Placed, Scratch, create_folder};
use super::trash::Trash;

/// How often one name is tried again because others changed it meanwhile.
const PLACE_ATTEMPTS_MAX: usize = 4;

/// How many blocks that stand there already are read at a time, however many are being written: bounds memory.
const JUDGES_MAX: usize = 4;

/// How many folders are remembered as durable; forgetting one costs a sync.
const FOLDERS_KNOWN_MAX: usize = 4_096;

/// The folders of one store, and what is needed to write there. Every method blocks the thread.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) blocks: PathBuf,
    pub(super) scratch: Scratch,
    pub(super) trash: Trash,
    parse: ParseBlock,
    folders_known: Mutex<HashSet<PathBuf>>,
    packers: Packers,
    /// Held while what stands under a block's names is read: it may be as large as a block can be.
    judges: [Mutex<()>; JUDGES_MAX],
}

impl Room {
    /// Creates the folders of the store durably.
    pub(super) fn open(root: &Path, incarnation: &str, parse: ParseBlock) -> Result<Self, SinkError> {
        let scratch = Scratch::open(&root.join("tmp"), incarnation)?;
        let trash = Trash::open(&root.join("trash"), incarnation)?;
        let blocks = root.join("blocks");
        create_folder(&blocks)?;
        Ok(Self {
            blocks,
            scratch,
            trash,
            parse,
            folders_known: Mutex::default(),
            packers: Packers::default(),
            judges: Default::default(),
        })
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge { blocks: &self.blocks, parse: self.parse }
    }

    /// Makes one block and its meta stand under their names; durable but for the sync of their folder. `level`: packed
    /// with zstd, where that makes it smaller.
    pub(super) fn store(&self, block: &Block, level: Option<i32>) -> Result<Stored, SinkError> {
        let paths = BlockPaths::new(&self.blocks, block.id.height, &block.id.hash)?;
        let refused = |reason| SinkError::refused(&paths.plain, reason);
        if block.raw.len() as u64 > BLOCK_BYTES_MAX {
            return Err(refused(format!("it is larger than {BLOCK_BYTES_MAX} bytes")));
        }
        // Judged first: a file that would be refused once it stands there would be trashed and written for ever.
        let ours = self.line_of(&block.id, &block.raw).map_err(refused)?;
        self.create_folder_once(&paths.folder)?;
        let mut placed = false;
        for _ in 0..PLACE_ATTEMPTS_MAX {
            let there = self.accepted(&paths, &block.id)?;
            if !there.is_empty() {
                return self.complete(&paths, &block.id, there).map(|line| stored(line, !placed));
            }
            let packed = level
                .and_then(|level| self.packers.pack(&block.raw, level).transpose())
                .transpose()
                .map_err(refused)?;
            let (form, file) = packed.as_ref().map_or((Form::Plain, &block.raw[..]), |packed| (Form::Zstd, packed));
            let line = ours.clone().came_by(&block.origin).standing_as(form, file.len() as u64);
            match self.place(&paths, form, file, &line)? {
                Outcome::Whole => return Ok(stored(line, false)),
                Outcome::BlockOnly => placed = true,
                Outcome::Taken => {}
            }
        }
        Err(SinkError::Contended { path: paths.plain })
    }

    /// What would stand in the line about raw bytes; or why they are not the block that they should be.
    fn line_of(&self, id: &BlockRef, raw: &[u8]) -> Result<BlockMeta, String> {
        let there = self.judge().identify(id.height, &id.hash, raw)?;
        if there.parent != id.parent {
            return Err(format!("its parent is {}, not {}", there.parent, id.parent));
        }
        Ok(BlockMeta::new(&there, raw.len() as u64, Digest::of(raw)))
    }

    /// Writes and names a block and its line: the usual way, where neither name is taken.
    fn place(&self, paths: &BlockPaths, form: Form, file: &[u8], line: &BlockMeta) -> Result<Outcome, SinkError> {
        let (block, meta) = (self.scratch.draft(file)?, self.scratch.draft(&line.line())?);
        let (block, meta) = (block.sync()?, meta.sync()?);
        if block.place(paths.of(form))? == Placed::Exists {
            return Ok(Outcome::Taken);
        }
        Ok(match meta.place(&paths.meta)? {
            Placed::New => Outcome::Whole,
            Placed::Exists => Outcome::BlockOnly,
        })
    }

    /// The lines that would fit to what stands there under the block's names and is that block. What is not it, or cannot
    /// be synced, moves to the trash.
    fn accepted(&self, paths: &BlockPaths, id: &BlockRef) -> Result<Vec<BlockMeta>, SinkError> {
        let exists = |form: &Form| {
            let path = paths.of(*form);
            path.try_exists().map_err(|e| SinkError::io("look at", path, e))
        };
        if !(exists(&Form::Plain)? || exists(&Form::Zstd)?) {
            return Ok(Vec::new());
        }
        let judge = usize::try_from(id.height).unwrap_or_default() % JUDGES_MAX;
        let _judge = self.judges[judge].lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for (form, opened, raw) in standing(paths)? {
            let line = raw.and_then(|raw| self.line_of(id, &raw)).and_then(|line| {
                synced(&opened)?;
                let size = opened.file.metadata().map_err(|e| e.to_string())?.len();
                Ok(line.standing_as(form, size))
            });
            match line {
                Ok(line) => lines.push(line),
                Err(reason) => self.set_aside(paths.of(form), &opened, &reason)?,
            }
        }
        Ok(lines)
    }

    /// Makes a line that fits to what stands there stand beside it, and returns the one that does.
    fn complete(&self, paths: &BlockPaths, id: &BlockRef, mut there: Vec<BlockMeta>) -> Result<BlockMeta, SinkError> {
        let path = &paths.meta;
        for _ in 0..PLACE_ATTEMPTS_MAX {
            let Some(opened) = Opened::read(path, META_BYTES_MAX)? else {
                let Some(line) = there.first() else { break };
                match self.scratch.write(&line.line())?.place(path)? {
                    Placed::New => return Ok(line.clone()),
                    Placed::Exists => continue,
                }
            };
            let line = opened.bytes.as_ref().map_err(Clone::clone).and_then(|bytes| BlockMeta::parse(bytes));
            let line = match line.and_then(|line| synced(&opened).map(|()| line)) {
                Ok(line) => line,
                Err(reason) => {
                    self.set_aside(path, &opened, &reason)?;
                    continue;
                }
            };
            if fitting(&line, &there).is_ok() {
                return Ok(line);
            }
            // It may speak of another form that came meanwhile: whatever it speaks of was named before it.
            there = self.accepted(paths, id)?;
            match fitting(&line, &there) {
                Ok(()) => return Ok(line),
                Err(reason) => self.set_aside(path, &opened, &reason)?,
            }
        }
        Err(SinkError::Contended { path: path.to_owned() })
    }

    /// Moves a file that is not what its name says to the trash.
    fn set_aside(&self, path: &Path, judged: &Opened, reason: &str) -> Result<(), SinkError> {
        let trashed = self.trash.take(path, Some(judged))?;
        tracing::warn!(file = %path.display(), reason, trashed, "a stored file is not what its name says; written anew");
        Ok(())
    }

    /// Moves a block, in whatever form, and its meta to the trash; only the judged files, if some were judged.
    pub(super) fn discard(
        &self,
        height: Height,
        hash: &BlockHash,
        why: &str,
        judged: Option<&Looked>,
    ) -> Result<Vec<String>, SinkError> {
        let paths = BlockPaths::new(&self.blocks, height, hash)?;
        let mut names = Vec::new();
        match judged {
            None => {
                for form in Form::ALL {
                    names.extend(self.trash.take(paths.of(form), None)?);
                }
            }
            Some(judged) => {
                for (path, opened) in judged {
                    names.extend(self.trash.take(path, Some(opened))?);
                }
                if names.len() < judged.len() {
                    // Another file stands there by now; the meta is its own.
                    return Ok(names);
                }
            }
        }
        names.extend(self.trash.take(&paths.meta, None)?);
        tracing::info!(height, %hash, why, trashed = ?names, "block moved to the trash");
        Ok(names)
    }

    /// Creates the folder durably, unless this process knows that it is.
    fn create_folder_once(&self, folder: &Path) -> Result<(), SinkError> {
        // A panic elsewhere leaves at worst a set that forgot a folder.
        let known = || self.folders_known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(folder) && folder.is_dir() {
            return Ok(());
        }
        create_folder(folder)?;
        let mut known = known();
        if known.len() >= FOLDERS_KNOWN_MAX {
            known.clear();
        }
        known.insert(folder.to_owned());
        Ok(())
    }
}

/// What came of writing a block and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Both stand under their names.
    Whole,
    /// The block does; others were here, and the line must fit to all that stands there.
    BlockOnly,
    /// Another file has the block's name.
    Taken,
}

/// What is reported of a block by the line beside it.
fn stored(line: BlockMeta, found: bool) -> Stored {
    let id = BlockRef { height: line.height, hash: line.hash, parent: line.parent, time: line.time };
    Stored { id, bytes: line.bytes, digest: line.blake3, found }
}

/// Whoever put a file there may not have synced it (a restored backup); a failed sync is not believed twice.
fn synced(opened: &Opened) -> Result<(), String> {
    opened.file.sync_data().map_err(|e| format!("it cannot be synced: {e}"))
}

/// Whether a line fits to one of the forms that stand there; else why it does not.
fn fitting(line: &BlockMeta, there: &[BlockMeta]) -> Result<(), String> {
    let mut why = Err("no block stands beside it".to_owned());
    for truth in there {
        why = line.agrees(truth);
        if why.is_ok() {
            break;
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::block_check::Verdict;
    use super::super::fixtures::{block, block_with, count, open, parse, paths};
    use super::*;

    /// What a crash leaves after each step is what the table says, and the next store completes it.
    #[tokio::test]
    async fn a_crash_after_each_step_leaves_what_the_table_says() {
        let block = block(5);
        for step in 0..=5 {
            let root = tempfile::tempdir().expect("a folder");
            let room = Room::open(root.path(), "a", parse).expect("a room");
            let paths = paths(root.path(), &block);
            room.create_folder_once(&paths.folder).expect("created");
            let line = room.line_of(&block.id, &block.raw).expect("a line");
            let mut synced = Vec::new();
            for (written, bytes) in [(1, &block.raw[..]), (2, &line.line())] {
                if step >= written {
                    let draft = room.scratch.draft(bytes).expect("written");
                    // A forgotten temporary is what a crash leaves of it.
                    if step >= 3 { synced.push(draft.sync().expect("synced")) } else { std::mem::forget(draft) }
                }
            }
            for (named, name) in [(4, &paths.plain), (5, &paths.meta)] {
                if step >= named {
                    assert_eq!(synced.remove(0).place(name).expect("placed"), Placed::New);
                }
            }
            synced.into_iter().for_each(std::mem::forget);

            let left = room.judge().file(5, &block.id.hash).expect("judged").map(|(block, _)| block.verdict);
            match step {
                0..=3 => assert_eq!(left, None, "step {step}"),
                4 => assert_eq!(left, Some(Verdict::NoDigest(block.id.clone()))),
                _ => assert_eq!(left, Some(Verdict::Good(block.id.clone()))),
            }
            let again = open(root.path(), "a");
            assert_eq!(count(root.path().join("tmp")), 0, "what step {step} left is swept");
            let stored = again.store(vec![block.clone()]).await.expect("completed").remove(0);
            assert_eq!((stored.found, stored.digest), (step >= 4, Digest::of(&block.raw)), "step {step}");
            let verdict = again.check(5, None).await.expect("checked");
            assert_eq!((verdict, count(root.path().join("trash"))), (Verdict::Good(block.id.clone()), 0));
        }
    }

    #[tokio::test]
    async fn a_line_about_a_form_that_came_meanwhile_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let room = Room::open(root.path(), "late", parse).expect("a room");
        let first = block_with(5, "b5", "b4", r#","by":"another node""#);
        let own = block_with(5, "b5", "b4", &format!(r#","pad":"{}""#, "ab".repeat(100)));
        let paths = paths(root.path(), &own);
        room.create_folder_once(&paths.folder).expect("created");
        // This node named its packed file and looked around; then another node stored the block as it came.
        let packed = Packers::default().pack(&own.raw, 3).expect("packed").expect("smaller");
        fs::write(&paths.packed, packed).expect("written");
        let there = room.accepted(&paths, &own.id).expect("looked");
        room.place(&paths, Form::Plain, &first.raw, &room.line_of(&first.id, &first.raw).expect("a line"))
            .expect("placed");
        let line = room.complete(&paths, &own.id, there).expect("completed");
        assert_eq!(line.blake3, Digest::of(&first.raw), "the line that stands there counts");
        assert_eq!(count(root.path().join("trash")), 0);
        let verdict = open(root.path(), "b").check(5, None).await.expect("checked");
        assert_eq!(verdict, Verdict::Good(own.id));
    }
}
