//! One block on its way into the store: the blocking side of [`super::block_files`].
//!
//! One store is (1) the block file by the steps of `durable`, (2) its meta file by the same steps, (3) one sync of each
//! folder for the whole batch; only then is anything reported.
//!
//! | a crash | leaves | next time |
//! |---|---|---|
//! | within (1) | nothing under the name, or the whole block file | written, or found |
//! | between (1) and (2) | a block without meta: `NoDigest` | found; its meta is written for the bytes that stand there |
//! | before (3), with a power cut | either file, both or none; each whole | a missing one is written; a meta that speaks of other bytes goes to the trash |
//! | while a wrong file is moved away | it stands in its place, or in the trash | moved, or written anew |
//! | while a block is discarded | its meta alone may stay | no block of that name: missing; the meta is judged at the next store |

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::messages::block::{Block, BlockHash, BlockRef};
use crate::messages::heights::Height;

use super::SinkError;
use super::block_check::Judge;
use super::block_files::{BLOCK_BYTES_MAX, ParseBlock, Stored};
use super::block_meta::{BlockMeta, Digest, META_BYTES_MAX};
use super::block_names::BlockPaths;
use super::durable::{Opened, Placed, Scratch, create_folder};
use super::trash::Trash;

/// How often one name is tried again because others changed it meanwhile.
const PLACE_ATTEMPTS_MAX: usize = 4;

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
}

impl Room {
    /// Creates the folders of the store durably.
    pub(super) fn open(root: &Path, incarnation: &str, parse: ParseBlock) -> Result<Self, SinkError> {
        let scratch = Scratch::open(&root.join("tmp"), incarnation)?;
        let trash = Trash::open(&root.join("trash"), incarnation)?;
        let blocks = root.join("blocks");
        create_folder(&blocks)?;
        Ok(Self { blocks, scratch, trash, parse, folders_known: Mutex::default() })
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge { blocks: &self.blocks, parse: self.parse }
    }

    /// Makes one block and its meta stand under their names; durable but for the sync of their folder.
    pub(super) fn store(&self, block: &Block) -> Result<Stored, SinkError> {
        let id = &block.id;
        let paths = BlockPaths::new(&self.blocks, id.height, &id.hash)?;
        if block.raw.len() as u64 > BLOCK_BYTES_MAX {
            return Err(SinkError::refused(&paths.block, format!("it is larger than {BLOCK_BYTES_MAX} bytes")));
        }
        self.create_folder_once(&paths.folder)?;
        let (meta, found) = self.settle(&paths.block, &block.raw, BLOCK_BYTES_MAX, |raw| {
            let there = self.judge().identify(id.height, &id.hash, raw)?;
            if there.parent != id.parent {
                return Err(format!("its parent is {}, not {}", there.parent, id.parent));
            }
            Ok(BlockMeta::new(&there, raw.len() as u64, Digest::of(raw)))
        })?;
        // Bytes that stood there came by another way than the ones that were offered.
        let meta = if found { meta } else { meta.came_by(&block.origin) };
        self.settle(&paths.meta, &meta.line(), META_BYTES_MAX, |line| BlockMeta::parse(line)?.agrees(&meta))?;
        let id = BlockRef { height: meta.height, hash: meta.hash, parent: meta.parent, time: meta.time };
        Ok(Stored { id, bytes: meta.bytes, digest: meta.blake3, found })
    }

    /// Makes `bytes` stand at `path`, unless a file that `accept` takes stands there: then that one stays. Returns what
    /// `accept` says about the file that stands there, and whether it was found. A file that `accept` refuses, or that
    /// cannot be synced, moves to the trash.
    fn settle<T>(
        &self,
        path: &Path,
        bytes: &[u8],
        bytes_max: u64,
        accept: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<(T, bool), SinkError> {
        // Judged first: a file that would be refused once it stands there would be trashed and written for ever.
        let ours = accept(bytes).map_err(|reason| SinkError::refused(path, reason))?;
        for _ in 0..PLACE_ATTEMPTS_MAX {
            let Some(there) = Opened::read(path, bytes_max)? else {
                match self.scratch.write(bytes)?.place(path)? {
                    Placed::New => return Ok((ours, false)),
                    Placed::Exists => continue,
                }
            };
            let judged = there.bytes.as_ref().map_err(Clone::clone).and_then(|bytes| accept(bytes));
            // Whoever put it there may not have synced it (a restored backup); a failed sync is not believed twice.
            let synced = || there.file.sync_data().map_err(|e| format!("it cannot be synced: {e}"));
            match judged.and_then(|fact| synced().map(|()| fact)) {
                Ok(fact) => return Ok((fact, true)),
                Err(reason) => {
                    let trashed = self.trash.take(path, Some(&there))?;
                    tracing::warn!(file = %path.display(), reason, trashed, "a stored file is not what its name says; written anew");
                }
            }
        }
        Err(SinkError::Contended { path: path.to_owned() })
    }

    /// Moves a block and its meta to the trash; only the judged file, if one was judged.
    pub(super) fn discard(
        &self,
        height: Height,
        hash: &BlockHash,
        why: &str,
        judged: Option<&Opened>,
    ) -> Result<Vec<String>, SinkError> {
        let paths = BlockPaths::new(&self.blocks, height, hash)?;
        let block = self.trash.take(&paths.block, judged)?;
        if judged.is_some() && block.is_none() {
            // Another file stands there by now; the meta is its own.
            return Ok(Vec::new());
        }
        let meta = self.trash.take(&paths.meta, None)?;
        let names: Vec<String> = block.into_iter().chain(meta).collect();
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
