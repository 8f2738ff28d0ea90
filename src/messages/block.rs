//! A block as it came from a source: the raw bytes, and the few facts that the commit needs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::heights::Height;

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

/// A block with its raw upstream bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The facts, parsed from `raw`.
    pub id: BlockRef,
    /// The block as the node sent it (EVM: the `result` member, byte for byte).
    pub raw: Bytes,
}
