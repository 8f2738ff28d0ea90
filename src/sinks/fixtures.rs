//! Blocks and stores that the tests of this room share.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::block_files::BlockFiles;
use super::block_names::BlockPaths;
use crate::messages::block::{Block, BlockHash, BlockRef, Origin};
use crate::messages::heights::{Height, HeightRange};

pub(super) fn hash(text: &str) -> BlockHash {
    BlockHash::new(text).expect("a hash")
}

pub(super) fn range(lo: Height, hi: Height) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

/// A block of the tests' chain: its JSON has the members of its identity, and whatever `extra` adds to it.
pub(super) fn block_with(height: Height, own: &str, parent: &str, extra: &str) -> Block {
    let raw = format!(r#"{{"height":{height},"hash":"{own}","parent":"{parent}","time":7{extra}}}"#);
    Block {
        id: BlockRef { height, hash: hash(own), parent: hash(parent), time: 7 },
        raw: Bytes::from(raw),
        origin: Origin::default(),
    }
}

pub(super) fn block(height: Height) -> Block {
    block_with(height, &format!("b{height}"), &format!("b{}", height.saturating_sub(1)), "")
}

/// Reads the identity of such a block.
pub(super) fn parse(raw: &[u8]) -> Result<BlockRef, String> {
    serde_json::from_slice(raw).map_err(|e| e.to_string())
}

pub(super) fn open(root: &Path, incarnation: &str) -> BlockFiles {
    BlockFiles::open(root, incarnation, parse, 4).expect("a store")
}

pub(super) fn paths(root: &Path, block: &Block) -> BlockPaths {
    BlockPaths::new(&root.join("blocks"), block.id.height, &block.id.hash).expect("paths")
}

/// How many files a folder has.
pub(super) fn count(folder: PathBuf) -> usize {
    fs::read_dir(folder).expect("listed").count()
}
