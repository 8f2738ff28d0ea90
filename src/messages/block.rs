//! A block as it came from a source: the raw bytes, and the few facts that the commit needs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::heights::{Height, HeightRange};

/// A block hash in the chain's own notation, normalised by its source (EVM: `0x` and lower-case hexadecimal).
///
/// Only `[0-9A-Za-z]` may occur, at most 128 bytes: it becomes part of a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct BlockHash(String);

impl BlockHash {
    /// Takes a hash that a source has normalised; anything that could not be a file name is refused.
    pub fn new(text: &str) -> Result<Self, String> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits { Ok(Self(text.to_owned())) } else { Err(format!("`{}` is no block hash", text.escape_debug())) }
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BlockHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl std::fmt::Display for BlockHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which block it is and which one it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its height (EVM: number).
    pub height: Height,
    /// Its own hash.
    pub hash: BlockHash,
    /// The hash of the block below it: the parent link.
    pub parent: BlockHash,
    /// Seconds since 1970, as the block says; for people only.
    pub time: i64,
}

/// How a block came here. For people and for judging endpoints; no part of the block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The endpoint that answered, without credentials; empty where nobody was asked.
    pub endpoint: String,
    /// Which request for its height brought it, counted from 1 within the call; 0 where nobody was asked.
    pub attempt: u32,
    /// How long that request took, in milliseconds.
    pub millis: u64,
}

/// A block with its raw upstream bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The facts, parsed from `raw`.
    pub id: BlockRef,
    /// The block as the node sent it (EVM: the `result` member, byte for byte).
    pub raw: Bytes,
    /// How it came.
    pub origin: Origin,
}

/// A contiguous piece of a chain, whose inner links agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The heights.
    pub range: HeightRange,
    /// The parent that the lowest block names.
    pub parent: BlockHash,
    /// The hash of the highest block.
    pub hash: BlockHash,
}

impl Piece {
    /// One block.
    pub fn of(block: &BlockRef) -> Self {
        Self { range: HeightRange::one(block.height), parent: block.parent.clone(), hash: block.hash.clone() }
    }

    /// Whether `block` stands on this piece.
    pub fn carries(&self, block: &BlockRef) -> bool {
        block.height == self.range.hi() + 1 && block.parent == self.hash
    }

    /// Cuts ascending blocks into pieces wherever a height is missing or a link disagrees.
    pub fn of_all<'a>(blocks: impl IntoIterator<Item = &'a BlockRef>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for block in blocks {
            match pieces.last_mut() {
                Some(piece) if piece.carries(block) => {
                    piece.range = piece.range.up_to(block.height);
                    piece.hash = block.hash.clone();
                }
                _ => pieces.push(Piece::of(block)),
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(height: Height, hash: &str, parent: &str) -> BlockRef {
        let name = |text: &str| BlockHash::new(text).expect("a hash");
        BlockRef { height, hash: name(hash), parent: name(parent), time: 0 }
    }

    #[test]
    fn pieces_end_where_a_height_or_a_link_is_missing() {
        let blocks = [block(5, "e", "d"), block(6, "f", "e"), block(7, "g", "X"), block(9, "i", "h")];
        let ranges: Vec<_> = Piece::of_all(&blocks).iter().map(|p| (p.range.to_string(), p.hash.to_string())).collect();
        let expected = [("5..6", "f"), ("7..7", "g"), ("9..9", "i")];
        assert_eq!(ranges, expected.map(|(range, hash)| (range.to_owned(), hash.to_owned())));
    }

    #[test]
    fn stored_hashes_are_checked_when_they_are_read() {
        assert!(serde_json::from_str::<BlockHash>("\"0xab\"").is_ok());
        assert!(serde_json::from_str::<BlockHash>("\"../etc\"").is_err());
    }
}
