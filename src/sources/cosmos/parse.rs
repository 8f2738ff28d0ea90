//! Answers of Cosmos REST, from foreign bytes to typed outcomes. Pure; no input makes it panic.
//!
//! Blocks are parsed loosely (versions add members), but what the commit rests on is strict: chain, height, hash,
//! parent, time, and that the transactions are there.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::messages::block::{BlockHash, BlockRef};
use crate::messages::heights::{HEIGHT_MAX, Height};
use crate::sources::pool::text::{not_json, short};

/// The parent of the first block of a chain, which names none: 64 zeros.
pub const FIRST_PARENT: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Bytes of a hash (SHA-256).
const HASH_BYTES: usize = 32;

/// A block and its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Which block.
    pub id: BlockRef,
    /// Of which chain.
    pub chain_id: String,
}

/// What an answer with a success says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A block.
    Block(Named),
    /// The height is within the chain, but the node has no block there: `block` is null, or its hash is empty.
    Missing,
    /// A block that is not what it should be; the reason.
    Malformed(String),
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    block_id: Option<WireId<'a>>,
    #[serde(borrow, default)]
    block: Option<WireBlock<'a>>,
}

#[derive(Deserialize)]
struct WireId<'a> {
    #[serde(borrow, default)]
    hash: Cow<'a, str>,
    // The older server says `parts`.
    #[serde(default, alias = "parts")]
    part_set_header: Option<WireParts>,
}

#[derive(Deserialize)]
struct WireParts {
    #[serde(default)]
    total: serde_json::Value,
}

#[derive(Deserialize)]
struct WireBlock<'a> {
    #[serde(borrow)]
    header: WireHeader<'a>,
    #[serde(borrow)]
    data: WireData<'a>,
}

#[derive(Deserialize)]
struct WireHeader<'a> {
    #[serde(borrow)]
    chain_id: Cow<'a, str>,
    #[serde(borrow)]
    height: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    last_block_id: Option<WireId<'a>>,
}

#[derive(Deserialize)]
struct WireData<'a> {
    #[serde(borrow)]
    txs: &'a RawValue,
}

/// Reads a response body; the error says that it is not the protocol.
pub(super) fn read(body: &[u8]) -> Result<Reading, String> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| not_json(&e, body))?;
    let (Some(block), Some(block_id)) = (wire.block, wire.block_id) else {
        // An object of another kind has neither member: that is no answer about a block.
        let named = |name: &str| serde_json::from_slice::<serde_json::Map<_, _>>(body).is_ok_and(|m| has(&m, name));
        return match named("block") || named("block_id") {
            true => Ok(Reading::Missing),
            false => Err(short(&format!("neither block nor block_id, in {} bytes", body.len()))),
        };
    };
    if block_id.hash.is_empty() {
        return Ok(Reading::Missing);
    }
    Ok(named(&block, &block_id.hash).map_or_else(Reading::Malformed, Reading::Block))
}

fn has(members: &serde_json::Map<String, serde_json::Value>, name: &str) -> bool {
    members.contains_key(name)
}

fn named(block: &WireBlock<'_>, hash_text: &str) -> Result<Named, String> {
    let header = &block.header;
    if !matches!(block.data.txs.get().as_bytes().first(), Some(b'[' | b'n')) {
        return Err("data.txs: not a list".to_owned());
    }
    if header.chain_id.is_empty() {
        return Err("chain_id: empty".to_owned());
    }
    let time = header.time.parse::<jiff::Timestamp>().map_err(|e| format!("time: {}", short(&e.to_string())))?;
    let id = BlockRef {
        height: height(&header.height)?,
        hash: hash(hash_text).map_err(|e| format!("hash: {e}"))?,
        parent: parent(header.last_block_id.as_ref()).map_err(|e| format!("last_block_id: {e}"))?,
        time: time.as_second(),
    };
    Ok(Named { id, chain_id: header.chain_id.clone().into_owned() })
}

/// Which block these bytes are, whole or not at all; the error is a short reason. Never panics.
pub fn identity(raw: &[u8]) -> Result<BlockRef, String> {
    match read(raw)? {
        Reading::Block(named) => Ok(named.id),
        Reading::Missing => Err("no block: `block` is null or has no hash".to_owned()),
        Reading::Malformed(reason) => Err(reason),
    }
}

/// Decimal digits: 64-bit numbers travel as texts.
fn height(text: &str) -> Result<Height, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let height = text.parse().ok().filter(|height| digits && (1..=HEIGHT_MAX).contains(height));
    height.ok_or_else(|| format!("height: `{}` is no height; 1 to {HEIGHT_MAX} are possible", short(text)))
}

/// The block below. The first block of a chain stands on none, and says so twice: no hash, and of no parts.
fn parent(last: Option<&WireId<'_>>) -> Result<BlockHash, String> {
    let parts = last.and_then(|last| last.part_set_header.as_ref()).map(|parts| &parts.total);
    let none = matches!(parts, None | Some(serde_json::Value::Null)) || parts.is_some_and(|n| n == 0 || n == "0");
    match last.map_or("", |last| &last.hash) {
        "" if none => BlockHash::new(FIRST_PARENT),
        "" => Err("it has parts but no hash".to_owned()),
        text => hash(text),
    }
}

/// 32 bytes in base64, or (the older server) in hexadecimal; becomes upper-case hexadecimal, as CometBFT writes it.
fn hash(text: &str) -> Result<BlockHash, String> {
    let fault = || format!("`{}` is no block hash; 32 bytes in base64 are expected", short(text));
    if text.len() == HASH_BYTES * 2 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return BlockHash::new(&text.to_ascii_uppercase());
    }
    let bytes = BASE64.decode(text).ok().filter(|bytes| bytes.len() == HASH_BYTES).ok_or_else(fault)?;
    BlockHash::new(&bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
}

/// The answer of `/syncing`: whether the node is still catching up; none where it says something else.
pub(super) fn syncing(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Wire {
        syncing: bool,
    }
    serde_json::from_slice::<Wire>(body).ok().map(|wire| wire.syncing)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
