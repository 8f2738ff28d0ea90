//! What a Cosmos block looks like: the answer of a Cosmos SDK REST gateway (0.47 and later) to `/blocks/{height}`.
//!
//! Bytes are base64, 64-bit numbers are strings. The block stands there twice: as CometBFT has it, and as `sdk_block`,
//! where only the proposer's address is written in another way.

use super::template::{Template, fill, length, pieces};
use crate::simulate::noise::Noise;

/// The whole answer; `%1` and `%2` are the two blocks.
const ANSWER: &str = r#"
    {"block_id":{"hash":"@H","part_set_header":{"total":1,"hash":"@Q"}},"block":%1,"sdk_block":%2}
"#;
/// A block; `%C` is the chain, `%T` its transactions, `%L` and `%S` say what the last commit holds, `%A` is the proposer.
const BLOCK: &str = r##"
    {"header":{"version":{"block":"11","app":"0"},"chain_id":%C,"height":"@N","time":"@T","last_block_id":%L,
    "last_commit_hash":"#32","data_hash":"#32","validators_hash":"#32","next_validators_hash":"#32",
    "consensus_hash":"#32","app_hash":"#32","last_results_hash":"#32","evidence_hash":"#32","proposer_address":"%A"},
    "data":{"txs":[%T]},"evidence":{"evidence":[]},
    "last_commit":{"height":"@B","round":0,"block_id":%L,"signatures":[%S]}}
"##;
/// The block below.
const BELOW: &str = r#"{"hash":"@P","part_set_header":{"total":1,"hash":"@R"}}"#;
/// What the first block says of the block below.
const NOTHING_BELOW: &str = r#"{"hash":"","part_set_header":{"total":0,"hash":""}}"#;
/// A validator's signature under the block below.
const SIGNATURE: &str = r##"
    {"block_id_flag":"BLOCK_ID_FLAG_COMMIT","validator_address":"#20","timestamp":"@T","signature":"#64"}
"##;
/// A hash in base64.
const HASH_BYTES: usize = 44;
/// Validators that sign each block.
const VALIDATORS: usize = 3;
/// The longest transaction, in bytes before base64.
const TRANSACTION_BYTES: usize = 600;
/// The shortest: what remains below it stays empty.
const TRANSACTION_BYTES_MIN: usize = 60;
/// The digits of an address in bech32. The checksum of ours is noise like the rest.
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Digits of an address of 20 bytes with its checksum.
const ADDRESS_DIGITS: usize = 38;

/// Renders a block of about `bytes` bytes; the first block of a chain (`bytes` = 0) has neither transactions nor
/// signatures, and nothing below it.
pub(super) fn template(noise: &mut Noise, chain_id: &str, bytes: usize) -> Template {
    let is_first = bytes == 0;
    let (below, signatures) = if is_first { (NOTHING_BELOW, String::new()) } else { (BELOW, signatures()) };
    let address: String =
        (0..ADDRESS_DIGITS).map(|_| char::from(BECH32[noise.below(32) as usize & 31])).collect::<String>();
    let frame = BLOCK.replace("%C", &format!("\"{chain_id}\"")).replace("%L", below).replace("%S", &signatures);
    // What is noise must be the same in both blocks, so it is filled in before they part.
    let frame = fill(&frame, noise, Noise::base64);
    let around = length(&pieces(&ANSWER.replace("%1", &frame).replace("%2", &frame), 0), HASH_BYTES);
    let transactions = transactions(noise, bytes.saturating_sub(around) / 2);
    let frame = frame.replace("%T", &transactions);
    let (own, sdk) = (frame.replace("%A", &noise.base64(20)), frame.replace("%A", &format!("simvalcons1{address}")));
    let answer: String = ANSWER.split_whitespace().collect();
    let answer = answer.replace("%1", &own).replace("%2", &sdk);
    Template { before: pieces(&answer, 0), transactions: Vec::new(), transaction_count: 0, after: Vec::new() }
}

fn signatures() -> String {
    [SIGNATURE; VALIDATORS].join(",")
}

/// Transactions that take `left` bytes together.
fn transactions(noise: &mut Noise, mut left: usize) -> String {
    let mut all = Vec::new();
    loop {
        // Quotes and a comma; four digits for three bytes.
        let bytes = (left.saturating_sub(3) / 4 * 3).min(TRANSACTION_BYTES);
        if bytes < TRANSACTION_BYTES_MIN {
            return all.join(",");
        }
        let text = format!("\"{}\"", noise.base64(bytes));
        left = left.saturating_sub(text.len() + 1);
        all.push(text);
    }
}
