//! What stands at a height: judged by the bytes, the digest beside them, and the parent links.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::messages::block::{BlockHash, BlockRef};
use crate::messages::heights::{Height, HeightRange};

use super::SinkError;
use super::block_files::{BLOCK_BYTES_MAX, ParseBlock};
use super::block_form::Form;
use super::block_meta::{BlockMeta, Digest, META_BYTES_MAX};
use super::block_names::{BlockPaths, Listing, folder_of, folder_range, list};
use super::durable::Opened;

/// What a check found at one height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The file is the block that its name says, and its bytes have the digest beside it.
    Good(BlockRef),
    /// No file.
    Missing,
    /// A file stands there, but it is not what was stored.
    Altered {
        /// The hash in its name.
        hash: BlockHash,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is the block, but no digest stands beside it: its store was cut by a crash and never reported as
    /// durable. Storing the block again completes it.
    NoDigest(BlockRef),
    /// A good block, but another one than was expected there: the links do not meet.
    Other {
        /// What stands there.
        found: BlockRef,
        /// What should: the parent of the block above, or what the caller expected.
        wanted: BlockHash,
    },
    /// Several good blocks, and nothing says which one belongs to the chain (after a reorg at the top of a range).
    Several(Vec<BlockRef>),
}

impl Verdict {
    /// The hash that the height below must have, as far as this verdict tells. Another block than the wanted one tells
    /// nothing: it may be an orphan, whose parent is one too.
    pub fn wanted_below(&self) -> Option<&BlockHash> {
        match self {
            Verdict::Good(id) | Verdict::NoDigest(id) => Some(&id.parent),
            Verdict::Several(ids) => {
                let first = ids.first()?;
                ids.iter().all(|id| id.parent == first.parent).then_some(&first.parent)
            }
            Verdict::Missing | Verdict::Altered { .. } | Verdict::Other { .. } => None,
        }
    }
}

/// One file of a height, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// The hash in its name.
    pub hash: BlockHash,
    /// Its raw bytes, good or not; empty if they cannot be unpacked, or are larger than [`BLOCK_BYTES_MAX`].
    pub raw: Bytes,
    /// The line beside it, if there is one that can be read.
    pub meta: Option<BlockMeta>,
    /// Whether all of this belongs together.
    pub verdict: Verdict,
}

/// Judges the files below one `blocks` folder. Reads only; blocks the thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    /// The folder of the folders.
    pub(super) blocks: &'a Path,
    /// Reads a block's identity from its raw bytes.
    pub(super) parse: ParseBlock,
}

impl Judge<'_> {
    /// Judges the file of one block; none if there is no such file. Where it stands in both forms, the good one counts.
    /// The second value keeps the files that were looked at open.
    pub(super) fn file(self, height: Height, hash: &BlockHash) -> Result<Option<(StoredBlock, Looked)>, SinkError> {
        let paths = BlockPaths::new(self.blocks, height, hash)?;
        let standing = standing(&paths)?;
        if standing.is_empty() {
            return Ok(None);
        }
        let line = Opened::read(&paths.meta, META_BYTES_MAX)?;
        let meta = line.map(|l| l.bytes.and_then(|bytes| BlockMeta::parse(&bytes)));
        let mut best: Option<(Vec<u8>, Verdict)> = None;
        let mut looked = Looked::new();
        for (form, opened, raw) in standing {
            let verdict = match &raw {
                Ok(raw) => self.judge(height, hash, raw, meta.as_ref()),
                Err(reason) => Verdict::Altered { hash: hash.clone(), reason: reason.clone() },
            };
            if best.as_ref().is_none_or(|(_, known)| rank(&verdict) < rank(known)) {
                best = Some((raw.unwrap_or_default(), verdict));
            }
            looked.push((paths.of(form).to_owned(), opened));
        }
        let block = best.map(|(raw, verdict)| StoredBlock {
            hash: hash.clone(),
            raw: Bytes::from(raw),
            meta: meta.and_then(Result::ok),
            verdict,
        });
        Ok(block.map(|block| (block, looked)))
    }

    /// Judges raw bytes and the line about them.
    fn judge(self, height: Height, hash: &BlockHash, raw: &[u8], meta: Option<&Result<BlockMeta, String>>) -> Verdict {
        let altered = |reason: String| Verdict::Altered { hash: hash.clone(), reason };
        match (self.identify(height, hash, raw), meta) {
            (Err(reason), _) => altered(reason),
            (Ok(_), Some(Err(reason))) => altered(reason.clone()),
            (Ok(id), None) => Verdict::NoDigest(id),
            (Ok(id), Some(Ok(meta))) => match meta.agrees(&BlockMeta::new(&id, raw.len() as u64, Digest::of(raw))) {
                Ok(()) => Verdict::Good(id),
                Err(reason) => altered(reason),
            },
        }
    }

    /// Parses raw bytes and insists on the block that their name says.
    pub(super) fn identify(self, height: Height, hash: &BlockHash, raw: &[u8]) -> Result<BlockRef, String> {
        let id = (self.parse)(raw).map_err(|e| format!("its bytes are no block: {e}"))?;
        if (id.height, &id.hash) == (height, hash) {
            return Ok(id);
        }
        Err(format!("its bytes are block {} {}, not {height} {hash}", id.height, id.hash))
    }

    /// Judges one height among the hashes that a listing has for it.
    fn height(self, height: Height, hashes: &[&BlockHash], wanted: Option<&BlockHash>) -> Result<Verdict, SinkError> {
        let file = |hash: &BlockHash| Ok::<_, SinkError>(self.file(height, hash)?.map(|(block, _)| block.verdict));
        if let Some(wanted) = wanted.filter(|w| hashes.contains(w)) {
            return Ok(file(wanted)?.unwrap_or(Verdict::Missing));
        }
        let mut good = Vec::new();
        let mut bad = None;
        for hash in hashes {
            match file(hash)? {
                Some(Verdict::Good(id)) => good.push(id),
                Some(verdict) => bad = bad.or(Some(verdict)),
                None => {}
            }
        }
        Ok(match (good.pop(), wanted) {
            (None, _) => bad.unwrap_or(Verdict::Missing),
            (Some(found), Some(wanted)) => Verdict::Other { found, wanted: wanted.clone() },
            (Some(id), None) if good.is_empty() => Verdict::Good(id),
            (Some(id), None) => {
                good.push(id);
                Verdict::Several(good)
            }
        })
    }

    /// Judges one height.
    pub(super) fn one(self, height: Height, wanted: Option<&BlockHash>) -> Result<Verdict, SinkError> {
        let listing = list(self.blocks, folder_of(height))?;
        self.height(height, &hashes_at(&listing, height), wanted)
    }

    /// Judges a range from its top downwards, because a block names the one below it and not the one above: where a
    /// reorg left several files, the link from above tells which one belongs to the chain.
    pub(super) fn range(self, range: HeightRange, top: Option<BlockHash>) -> Result<Vec<(Height, Verdict)>, SinkError> {
        let mut verdicts = Vec::new();
        let mut wanted = top;
        for folder in (folder_of(range.lo())..=folder_of(range.hi())).rev() {
            let listing = list(self.blocks, folder)?;
            let Some(part) = folder_range(folder).and_then(|r| r.intersect(range)) else { continue };
            for height in (part.lo()..=part.hi()).rev() {
                let verdict = self.height(height, &hashes_at(&listing, height), wanted.as_ref())?;
                wanted = verdict.wanted_below().cloned();
                verdicts.push((height, verdict));
            }
        }
        verdicts.reverse();
        Ok(verdicts)
    }
}

/// Files that were looked at, each with its path; kept open, so that they can be told from ones that come after them.
pub(super) type Looked = Vec<(PathBuf, Opened)>;

/// A form that a block stands in: its open file, and its raw bytes, or what is wrong with it.
pub(super) type Standing = (Form, Opened, Result<Vec<u8>, String>);

/// The forms that a block stands in; usually one.
pub(super) fn standing(paths: &BlockPaths) -> Result<Vec<Standing>, SinkError> {
    let mut standing = Vec::new();
    for form in Form::ALL {
        let Some(mut opened) = Opened::read(paths.of(form), BLOCK_BYTES_MAX)? else { continue };
        let file = std::mem::replace(&mut opened.bytes, Ok(Vec::new()));
        let raw = file.and_then(|file| form.unpack(file, BLOCK_BYTES_MAX));
        standing.push((form, opened, raw));
    }
    Ok(standing)
}

/// Of two forms of one block, the one with the lower rank counts.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Good(_) => 0,
        Verdict::NoDigest(_) => 1,
        Verdict::Altered { .. } | Verdict::Missing | Verdict::Other { .. } | Verdict::Several(_) => 2,
    }
}

/// The hashes that a listing has a block file of, for one height.
pub(super) fn hashes_at(listing: &Listing, height: Height) -> Vec<&BlockHash> {
    let blocks = listing.get(&height).into_iter().flatten();
    blocks.filter(|(_, parts)| parts.block).map(|(hash, _)| hash).collect()
}
