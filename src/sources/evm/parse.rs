//! EVM JSON-RPC answers, from foreign bytes to typed outcomes. Pure; no input makes it panic.
//!
//! The protocol: <https://ethereum.github.io/execution-apis/> and JSON-RPC 2.0, section 6 (batch). Blocks are parsed
//! loosely (forks add members), but what the commit rests on is strict: number, hash, parent, time, transactions.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::refusal::{Refusal, RpcError};
use crate::messages::block::{Block, BlockHash, BlockRef, Origin};
use crate::messages::heights::{HEIGHT_MAX, Height};
use crate::sources::Absence;
use crate::sources::pool::text::{not_json, short};

/// What one response says about the heights that were asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    /// One verdict for each height that was answered, each height at most once; heights may be missing.
    Heights(Vec<(Height, Said)>),
    /// One error for the whole request.
    Refused(RpcError),
}

/// What a response says about one height.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// Here it is.
    Block(Block),
    /// There is none, for a reason that asking again does not change at once.
    Absent(Absence),
    /// Not now: too many requests.
    Limited,
    /// An error that says nothing certain about the height.
    Trouble(String),
}

/// One JSON-RPC response object.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    // `null` is an answer (no such block), a missing member is not: serde's Option would mix them up.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: de::Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Envelope<'_> {
    /// The id as a number; some servers send numbers back as strings.
    fn id(&self) -> Option<u64> {
        self.id?.get().trim_matches('"').parse().ok()
    }

    fn error(&self) -> Option<RpcError> {
        self.error.map(|raw| RpcError::parse(raw.get()))
    }
}

/// Reads at most `limit` objects, so that an array of millions of `{}` cannot fill the memory.
struct Envelopes {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Envelopes {
    type Value = Vec<Envelope<'de>>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Envelopes {
    type Value = Vec<Envelope<'de>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} JSON-RPC answers", self.limit)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut envelopes = Vec::with_capacity(self.limit);
        while let Some(envelope) = items.next_element()? {
            if envelopes.len() == self.limit {
                return Err(de::Error::custom(format!("more than {} answers", self.limit)));
            }
            envelopes.push(envelope);
        }
        Ok(envelopes)
    }
}

/// Reads the answer to `asked` (ascending, no doubles; the id of each request is its height).
///
/// The raw bytes of the blocks are slices of `body`: they keep it alive, and cost no copy.
pub(super) fn read(body: &Bytes, asked: &[Height]) -> Result<Reading, String> {
    if first_byte(body) == Some(b'[') {
        return read_batch(body, asked);
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|e| not_json(&e, body))?;
    match (envelope.error(), asked) {
        (Some(error), &[height]) => Ok(one(height, said_error(&error))),
        (Some(error), _) => Ok(Reading::Refused(error)),
        (None, &[height]) if envelope.id() == Some(height) => Ok(one(height, said(&envelope, body, height))),
        (None, _) => Err(format!("one answer with id {} to a batch of {}", shown_id(&envelope), asked.len())),
    }
}

fn read_batch(body: &Bytes, asked: &[Height]) -> Result<Reading, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let limit = asked.len();
    let envelopes = Envelopes { limit }.deserialize(&mut json).map_err(|e| not_json(&e, body))?;
    json.end().map_err(|e| not_json(&e, body))?;
    // Some servers refuse a batch with an array of one error that has no id.
    if let [only] = &envelopes[..]
        && only.id().is_none()
        && let Some(error) = only.error()
    {
        return Ok(Reading::Refused(error));
    }
    let mut heights = Vec::with_capacity(envelopes.len());
    let mut seen = vec![false; asked.len()];
    for envelope in &envelopes {
        let Some(place) = envelope.id().and_then(|id| asked.binary_search(&id).ok()) else { continue };
        if !std::mem::replace(&mut seen[place], true) {
            heights.push((asked[place], said(envelope, body, asked[place])));
        }
    }
    Ok(Reading::Heights(heights))
}

fn one(height: Height, said: Said) -> Reading {
    Reading::Heights(vec![(height, said)])
}

fn shown_id(envelope: &Envelope<'_>) -> String {
    envelope.id.map_or_else(|| "none".to_owned(), |id| short(id.get()))
}

fn said(envelope: &Envelope<'_>, body: &Bytes, asked: Height) -> Said {
    if let Some(error) = envelope.error() {
        return said_error(&error);
    }
    match envelope.result.map(RawValue::get) {
        None => Said::Trouble("an answer with neither result nor error".to_owned()),
        Some("null") => Said::Absent(Absence::Unknown),
        Some(raw) => match block(body.slice_ref(raw.as_bytes()), asked) {
            Ok(block) => Said::Block(block),
            Err(reason) => Said::Absent(Absence::Malformed(reason)),
        },
    }
}

fn said_error(error: &RpcError) -> Said {
    match error.refusal() {
        Refusal::Limited => Said::Limited,
        Refusal::Pruned => Said::Absent(Absence::Pruned(error.to_string())),
        Refusal::Unknown => Said::Absent(Absence::Unknown),
        Refusal::TooLarge | Refusal::Other => Said::Trouble(error.to_string()),
    }
}

/// The members of a block that the commit rests on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    #[serde(borrow)]
    number: Cow<'a, str>,
    #[serde(borrow)]
    hash: Cow<'a, str>,
    #[serde(borrow)]
    parent_hash: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    transactions: &'a RawValue,
}

/// Reads one block, which must be the one at `asked`; the error is a short reason.
pub(super) fn block(raw: Bytes, asked: Height) -> Result<Block, String> {
    let id = identity(&raw)?;
    if id.height != asked {
        return Err(format!("asked for {asked}, got number {}", id.height));
    }
    Ok(Block { id, raw, origin: Origin::default() })
}

/// Which block these bytes are, whole or not at all; the error is a short reason. Never panics.
pub fn identity(raw: &[u8]) -> Result<BlockRef, String> {
    let header: Header<'_> = serde_json::from_slice(raw).map_err(|e| format!("no block: {}", short(&e.to_string())))?;
    let height = quantity(&header.number).map_err(|e| format!("number: {e}"))?;
    if height > u128::from(HEIGHT_MAX) {
        return Err(format!("number {height} is above the largest possible height, {HEIGHT_MAX}"));
    }
    let time = quantity(&header.timestamp).map_err(|e| format!("timestamp: {e}"))?;
    check_transactions(header.transactions.get())?;
    Ok(BlockRef {
        height: u64::try_from(height).map_err(|_| format!("number {height} is no height"))?,
        hash: hash(&header.hash).map_err(|e| format!("hash: {e}"))?,
        parent: hash(&header.parent_hash).map_err(|e| format!("parentHash: {e}"))?,
        time: i64::try_from(time).map_err(|_| format!("timestamp {time} is no time"))?,
    })
}

/// A block whose transactions were left out would be kept for ever as if it were whole.
fn check_transactions(raw: &str) -> Result<(), String> {
    let inside = raw.strip_prefix('[').ok_or("transactions: not a list")?;
    match inside.trim_start().bytes().next() {
        Some(b'"') => Err("transactions: only their hashes were sent".to_owned()),
        _ => Ok(()),
    }
}

/// A `0x` quantity of up to 128 bits. Leading zeros are let through: some nodes write them.
pub(super) fn quantity(text: &str) -> Result<u128, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let fits = (1..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let fault = || format!("`{}` is no quantity; 0x and hexadecimal digits are expected", short(text));
    if fits { u128::from_str_radix(digits, 16).map_err(|_| fault()) } else { Err(fault()) }
}

/// `0x` and 64 hexadecimal digits, in lower case.
fn hash(text: &str) -> Result<BlockHash, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        BlockHash::new(&text.to_ascii_lowercase())
    } else {
        Err(format!("`{}` is no block hash; 0x and 64 hexadecimal digits are expected", short(text)))
    }
}

/// The answer to a question whose result is one quantity (`eth_chainId`, `eth_blockNumber`).
pub(super) fn read_quantity(body: &Bytes) -> Result<Result<u128, RpcError>, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|e| not_json(&e, body))?;
    if let Some(error) = envelope.error() {
        return Ok(Err(error));
    }
    let raw = envelope.result.ok_or("an answer with neither result nor error")?.get();
    let text: Cow<'_, str> = serde_json::from_str(raw).map_err(|_| format!("`{}` is no quantity", short(raw)))?;
    quantity(&text).map(Ok)
}

/// The answer to a question whose result is a block, of which only the number counts; none for `null`.
pub(super) fn read_number(body: &Bytes) -> Result<Result<Option<Height>, RpcError>, String> {
    #[derive(Deserialize)]
    struct Numbered<'a> {
        #[serde(borrow)]
        number: Cow<'a, str>,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|e| not_json(&e, body))?;
    if let Some(error) = envelope.error() {
        return Ok(Err(error));
    }
    let raw = envelope.result.ok_or("an answer with neither result nor error")?.get();
    if raw == "null" {
        return Ok(Ok(None));
    }
    let block: Numbered<'_> = serde_json::from_str(raw).map_err(|e| format!("no block: {}", short(&e.to_string())))?;
    let number = quantity(&block.number).map_err(|e| format!("number: {e}"))?;
    let height = u64::try_from(number).ok().filter(|height| *height <= HEIGHT_MAX);
    height.map(|height| Ok(Some(height))).ok_or_else(|| format!("number {number} is above the largest possible height"))
}

/// Whether bytes that came with an HTTP error are a JSON-RPC answer all the same.
pub(super) fn is_rpc(body: &[u8]) -> bool {
    match first_byte(body) {
        Some(b'[') => true,
        Some(b'{') => serde_json::from_slice::<Envelope<'_>>(body).is_ok_and(|e| e.error.is_some()),
        Some(_) | None => false,
    }
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|b| !b.is_ascii_whitespace())
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
