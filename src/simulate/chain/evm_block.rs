//! What an EVM block looks like: JSON with the members of a geth node after the Prague fork, in geth's order.

use serde_json::{Map, Value};

use super::template::{Template, fill, length, pieces};
use crate::simulate::noise::Noise;

/// The members before the transactions.
const BEFORE: &str = r##"
    {"baseFeePerGas":"0x3b9aca07","blobGasUsed":"0x20000","difficulty":"0x0","excessBlobGas":"0x0",
    "extraData":"0x6761706c6573732073696d756c61746f72","gasLimit":"0x1c9c380","gasUsed":"0x@G","hash":"@H",
    "logsBloom":"#256","miner":"#20","mixHash":"#32","nonce":"0x0000000000000000","number":"@N",
    "parentBeaconBlockRoot":"#32","parentHash":"@P","receiptsRoot":"#32",
    "requestsHash":"0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha3Uncles":"0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347","size":"0x@S",
    "stateRoot":"#32","timestamp":"@T","transactions":[
"##;
/// The members after them.
const AFTER: &str = r##"
    ],"transactionsRoot":"#32","uncles":[],"withdrawals":[{"index":"0x2f3a1c1","validatorIndex":"0x8d3f1",
    "address":"#20","amount":"0x11f6e3a"}],"withdrawalsRoot":"#32"}
"##;
/// A transaction that moves a token (EIP-1559): what most blocks are full of.
const TRANSACTION: &str = r##"
    {"blockHash":"@H","blockNumber":"@N","from":"#20","gas":"0x15f90","gasPrice":"0x3b9aca08",
    "maxFeePerGas":"0x77359400","maxPriorityFeePerGas":"0x1","hash":"@X","input":"@I","nonce":"0x@C","to":"#20",
    "transactionIndex":"0x@J","value":"0x0","type":"0x2","accessList":[],"chainId":"0x@D","v":"0x1","r":"#32",
    "s":"#32","yParity":"0x1"}
"##;
/// Bytes of call data: `transfer(address,uint256)` takes 68.
const INPUT_BYTES: usize = 68;
/// What remains below this is filled with call data of the last transaction instead of another one.
const TRANSACTION_BYTES: usize = 1000;
/// The members of a block that are no part of its header.
const NO_HEADER: [&str; 4] = ["size", "transactions", "uncles", "withdrawals"];

/// Renders a block of about `bytes` bytes; a genesis block (`bytes` = 0) has no transactions.
pub(super) fn template(noise: &mut Noise, chain_id: u64, bytes: usize) -> Template {
    let around = BEFORE.len() + AFTER.len() + 1_200;
    let mut left = bytes.saturating_sub(around);
    let (mut transactions, mut count) = (Vec::new(), 0);
    while left > 300 {
        let more = if left < 2 * TRANSACTION_BYTES { left.saturating_sub(TRANSACTION_BYTES) / 2 } else { 0 };
        let mut text = if count > 0 { ",".to_owned() } else { String::new() };
        text.push_str(&TRANSACTION.replace("@I", &format!("#{}", INPUT_BYTES + more)));
        text = text.replace("@C", &format!("{:x}", noise.below(5_000)));
        text = text.replace("@J", &format!("{count:x}")).replace("@D", &format!("{chain_id:x}"));
        let pieces = pieces(&fill(&text, noise, Noise::hex), count);
        left = left.saturating_sub(if more > 0 { left } else { length(&pieces, 66) });
        transactions.extend(pieces);
        count += 1;
    }
    let before = BEFORE.replace("@G", &format!("{:x}", 21_000 + 69_000 * count));
    let before = before.replace("@S", &format!("{:x}", 600 + bytes / 3));
    Template {
        before: pieces(&fill(&before, noise, Noise::hex), 0),
        transactions,
        transaction_count: count,
        after: pieces(&fill(AFTER, noise, Noise::hex), 0),
    }
}

/// The header of a block, as `newHeads` sends it: the block without its transactions, uncles and withdrawals.
pub(super) fn header(block: &[u8]) -> Map<String, Value> {
    // Our own rendering is JSON; anything else would show as an empty header.
    let mut header: Map<String, Value> = serde_json::from_slice(block).unwrap_or_default();
    header.retain(|member, _| !NO_HEADER.contains(&member.as_str()));
    header
}
