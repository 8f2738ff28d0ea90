//! Heights to blocks, and back from hashes: pure, in constant time.

use bytes::Bytes;

use super::reorg::Reorgs;
use super::template::{Template, Values};
use super::{BLOCK_BYTES_MAX, ChainPlan, Network, cosmos_block, evm_block};
use crate::messages::block::{Block, BlockHash, BlockRef, Origin};
use crate::messages::heights::Height;
use crate::simulate::noise::{Noise, base64, hex, unhex};

/// How many blocks differ in more than hashes and numbers. More would only cost memory.
const TEMPLATES: u64 = 16;
/// The time of the genesis block, in seconds since 1970.
const GENESIS_TIME: u64 = 1_700_000_000;
/// The latest time of a block: the last day that RFC 3339 can write, and one before.
const TIME_MAX: u64 = 253_402_100_000;
/// The hash that stands for the parent of the first block.
const NO_HASH: [u8; 32] = [0; 32];
/// The main branch: what is final.
const MAIN: u32 = 0;
/// The branch of all blocks that the reorg plan replaces.
const ORPHANS: u32 = u32::MAX;

/// A block as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimBlock {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// The hash of the block below it; all zeros below the first block.
    pub parent: BlockHash,
    /// Seconds since 1970.
    pub time: u64,
    /// Its JSON, as the server sends it.
    pub raw: Bytes,
}

impl From<SimBlock> for Block {
    fn from(block: SimBlock) -> Self {
        let SimBlock { height, hash, parent, time, raw } = block;
        let id = BlockRef { height, hash, parent, time: i64::try_from(time).unwrap_or(i64::MAX) };
        Block { id, raw, origin: Origin::default() }
    }
}

/// All blocks of a plan. Building it renders the templates once; after that a block costs microseconds.
#[derive(Debug)]
pub struct SimChain {
    key: [u8; 32],
    network: Network,
    reorgs: Option<Reorgs>,
    genesis: Template,
    templates: Vec<Template>,
}

impl SimChain {
    /// The chain of a plan: seed, network and block sizes decide, each of them changes every hash. The reorg plan adds
    /// orphans and changes no final block.
    pub fn new(plan: &ChainPlan) -> Self {
        let network = plan.network.clone();
        let smallest = *plan.block_bytes.start().clamp(&network.block_bytes_min(), &BLOCK_BYTES_MAX);
        let largest = *plan.block_bytes.end().clamp(&smallest, &BLOCK_BYTES_MAX);
        let named = match &network {
            Network::Evm(id) => id.to_string(),
            Network::CosmosRest(id) => format!("cosmos-rest {id}"),
        };
        let key = format!("gapless simulated chain {} {named} {smallest} {largest}", plan.seed);
        let key = *blake3::hash(key.as_bytes()).as_bytes();
        let template = |number, bytes: u64| {
            let (mut noise, bytes) = (Noise::new(&key, number), usize::try_from(bytes).unwrap_or(usize::MAX));
            match &network {
                Network::Evm(id) => evm_block::template(&mut noise, *id, bytes),
                Network::CosmosRest(id) => cosmos_block::template(&mut noise, id, bytes),
            }
        };
        // Spread evenly, so that the mean is the middle of the range whatever the seed.
        let bytes = |number| u64::from(smallest) + u64::from(largest - smallest) * number / (TEMPLATES - 1);
        let genesis = template(TEMPLATES, 0);
        let templates = (0..TEMPLATES).map(|number| template(number, bytes(number))).collect();
        Self { key, network, reorgs: plan.faults.reorg, genesis, templates }
    }

    /// The final block at `height`, once no reorg replaces it any more: the truth that an audit compares with.
    ///
    /// Final is what lies below the last multiple of the plan's EVERY that the head has passed, and everything above
    /// that is not among the last DEPTH blocks up to the next one. Without a reorg plan all of it is.
    pub fn truth(&self, height: Height) -> SimBlock {
        self.block(height, MAIN)
    }

    /// The block at `height` of the chain that shows this head: the truth, or an orphan to be.
    pub fn canonical(&self, height: Height, head: Height) -> SimBlock {
        self.block(height, self.branch(height, head))
    }

    /// The block at `height` that the reorg plan replaces: shown from the moment it is the head until the chain grows
    /// above the next multiple of EVERY. None where a height never changes.
    pub fn orphan(&self, height: Height) -> Option<SimBlock> {
        self.reorgs?.replaced_after(height).map(|_| self.block(height, ORPHANS))
    }

    /// The block at `height` of a branch; branch 0 is the main one, the others stand beside it from the first block on.
    pub fn block(&self, height: Height, branch: u32) -> SimBlock {
        let (hash, parent) = (self.hash(height, branch), self.parent(height, branch));
        let mut raw = Vec::new();
        self.render(height, branch, true, &mut raw);
        let time = self.time(height);
        SimBlock { height, hash: self.shown(&hash), parent: self.shown(&parent), time, raw: raw.into() }
    }

    /// The branch of the block at `height` in the chain that shows this head.
    pub(super) fn branch(&self, height: Height, head: Height) -> u32 {
        let is_orphan = self.reorgs.is_some_and(|reorgs| reorgs.is_orphan(height, head));
        if is_orphan { ORPHANS } else { MAIN }
    }

    /// Whether a branch is the one of the orphans.
    pub(super) fn is_orphans(branch: u32) -> bool {
        branch == ORPHANS
    }

    /// The reorg plan.
    pub(super) fn reorgs(&self) -> Option<Reorgs> {
        self.reorgs
    }

    /// Which chain it is.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Appends the JSON of a block; `full` = whole transactions, else only their hashes (EVM).
    pub(super) fn render(&self, height: Height, branch: u32, full: bool, out: &mut Vec<u8>) {
        let (hash, parent) = (self.hash(height, branch), self.parent(height, branch));
        // The last digit of the hash is as good as a random number, and known without the key.
        let place = usize::from(hash[31] & 15) % self.templates.len();
        let is_first = height <= self.network.first();
        let template = if is_first { &self.genesis } else { &self.templates[place] };
        template.render(&self.values(height, &hash, &parent), full, out);
    }

    fn values(&self, height: Height, hash: &[u8; 32], parent: &[u8; 32]) -> Values {
        let time = self.time(height);
        match &self.network {
            Network::Evm(_) => Values {
                hash: hex(hash),
                parent: hex(parent),
                number: format!("{height:#x}"),
                time: format!("{time:#x}"),
                ..Values::default()
            },
            Network::CosmosRest(_) => Values {
                hash: base64(hash),
                parent: base64(parent),
                number: height.to_string(),
                below: height.saturating_sub(1).to_string(),
                time: rfc3339(time, hash),
                parts: parts(hash),
                parent_parts: parts(parent),
            },
        }
    }

    /// A hash as the sources normalise it: EVM `0x` and lower case, Cosmos upper-case hexadecimal.
    fn shown(&self, hash: &[u8; 32]) -> BlockHash {
        let hex = hex(hash);
        let text = match &self.network {
            Network::Evm(_) => hex,
            Network::CosmosRest(_) => hex[2..].to_ascii_uppercase(),
        };
        BlockHash::new(&text).unwrap_or_else(|_| unreachable!("hexadecimal digits"))
    }

    fn parent(&self, height: Height, branch: u32) -> [u8; 32] {
        if height <= self.network.first() {
            return NO_HASH;
        }
        let below = height - 1;
        let leaves = branch == ORPHANS && self.reorgs.is_none_or(|reorgs| reorgs.replaced_after(below).is_none());
        self.hash(below, if leaves { MAIN } else { branch })
    }

    /// A hash: 20 bytes of BLAKE3 over height and branch, then these two under a mask that follows from the 20 bytes.
    /// So the server finds a block by its hash without a table.
    fn hash(&self, height: Height, branch: u32) -> [u8; 32] {
        let mut id = [0; 12];
        id[..8].copy_from_slice(&height.to_le_bytes());
        id[8..].copy_from_slice(&branch.to_le_bytes());
        let mut hash = *blake3::keyed_hash(&self.key, &id).as_bytes();
        let mask = blake3::keyed_hash(&self.key, &hash[..20]);
        for ((byte, id), mask) in hash[20..].iter_mut().zip(id).zip(mask.as_bytes()) {
            *byte = id ^ mask;
        }
        hash
    }

    /// Which height and branch a hash in EVM notation belongs to; `None` if it is no hash of this chain.
    pub fn find(&self, hash: &str) -> Option<(Height, u32)> {
        let bytes = unhex::<32>(hash)?;
        let mask = blake3::keyed_hash(&self.key, &bytes[..20]);
        let mut id = [0; 12];
        for ((id, byte), mask) in id.iter_mut().zip(&bytes[20..]).zip(mask.as_bytes()) {
            *id = byte ^ mask;
        }
        let height = u64::from_le_bytes(id[..8].try_into().ok()?);
        let branch = u32::from_le_bytes(id[8..].try_into().ok()?);
        (self.hash(height, branch) == bytes).then_some((height, branch))
    }

    fn time(&self, height: Height) -> u64 {
        GENESIS_TIME.saturating_add(height.saturating_mul(self.network.slot_seconds())).min(TIME_MAX)
    }
}

/// The hash of the parts of a block (Cosmos): follows from the block's, so that the block above can name it.
fn parts(hash: &[u8; 32]) -> String {
    base64(blake3::hash(hash).as_bytes())
}

/// A time with the nanoseconds that follow from the block's hash.
fn rfc3339(seconds: u64, hash: &[u8; 32]) -> String {
    let nanos = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % 1_000_000_000;
    let time = jiff::Timestamp::new(i64::try_from(seconds).unwrap_or(0), i32::try_from(nanos).unwrap_or(0));
    // TIME_MAX keeps it in range.
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const NO_HASH: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";

    fn chain() -> SimChain {
        SimChain::new(&ChainPlan { seed: 7, ..ChainPlan::default() })
    }

    #[test]
    fn every_block_stands_on_the_one_below_and_is_found_by_its_hash() {
        let chain = chain();
        assert_eq!(chain.truth(0).parent.as_str(), NO_HASH);
        for height in (1..50).chain([1 << 20, (1 << 53) - 1]) {
            let block = chain.truth(height);
            assert_eq!(block.parent, chain.truth(height - 1).hash);
            assert_eq!(chain.find(block.hash.as_str()), Some((height, 0)));
        }
        assert_eq!(chain.find(NO_HASH), None);
        assert_eq!(chain.find("0x12"), None);
        assert_eq!(chain.find(&format!("0x{}", "é".repeat(32))), None);
    }

    #[test]
    fn seed_chain_sizes_and_branch_each_make_another_chain() {
        let plan = ChainPlan { seed: 7, ..ChainPlan::default() };
        let others = [
            ChainPlan { seed: 8, ..plan.clone() },
            ChainPlan { network: Network::Evm(2), ..plan.clone() },
            ChainPlan { network: Network::CosmosRest("2".to_owned()), ..plan.clone() },
            ChainPlan { block_bytes: 5_000..=6_000, ..plan.clone() },
        ];
        let truth = SimChain::new(&plan).truth(5);
        assert_eq!(SimChain::new(&plan).truth(5), truth);
        assert_ne!(SimChain::new(&plan).block(5, 1).hash, truth.hash);
        for other in others {
            assert_ne!(SimChain::new(&other).truth(5).hash, truth.hash, "{other:?}");
        }
    }

    #[test]
    fn a_block_has_the_members_of_a_real_one() {
        let block = chain().truth(300);
        let json: Value = serde_json::from_slice(&block.raw).expect("JSON");
        assert_eq!(json["number"], "0x12c");
        assert_eq!(json["hash"], block.hash.as_str());
        assert_eq!(json["parentHash"], block.parent.as_str());
        let members = "baseFeePerGas blobGasUsed difficulty excessBlobGas extraData gasLimit gasUsed hash logsBloom miner \
            mixHash nonce number parentBeaconBlockRoot parentHash receiptsRoot requestsHash sha3Uncles size stateRoot \
            timestamp transactions transactionsRoot uncles withdrawals withdrawalsRoot";
        let found: Vec<_> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(found, members.split_whitespace().collect::<Vec<_>>());
        let bytes = |member: &str| json[member].as_str().map(|text| text.len() / 2 - 1);
        assert_eq!((bytes("logsBloom"), bytes("miner"), bytes("stateRoot")), (Some(256), Some(20), Some(32)));
        let transactions = json["transactions"].as_array().expect("a list");
        assert!(!transactions.is_empty());
        let mut hashes: Vec<_> = transactions.iter().map(|t| t["hash"].to_string()).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), transactions.len(), "no two transactions share a hash");
        for (index, transaction) in transactions.iter().enumerate() {
            assert_eq!(transaction["blockHash"], json["hash"]);
            assert_eq!(transaction["blockNumber"], json["number"]);
            assert_eq!(transaction["transactionIndex"], format!("{index:#x}"));
            assert_eq!(transaction["hash"].as_str().map(str::len), Some(66));
        }
    }

    fn cosmos() -> ChainPlan {
        ChainPlan { seed: 7, network: Network::CosmosRest("migaloo-sim".to_owned()), ..ChainPlan::default() }
    }

    /// The bytes of a base64 text, as upper-case hexadecimal.
    fn bytes(json: &Value) -> String {
        use ::base64::Engine;
        let text = json.as_str().expect("a text");
        let bytes = ::base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        hex(&bytes)[2..].to_ascii_uppercase()
    }

    /// The member names of an object, all the way down, lists by their first item.
    fn shape(json: &Value) -> Value {
        match json {
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
            Value::Array(items) => items.iter().take(1).map(shape).collect(),
            _ => Value::Null,
        }
    }

    #[test]
    fn a_cosmos_block_has_the_members_of_a_real_one() {
        let chain = SimChain::new(&cosmos());
        for height in [1, 2, 300, (1 << 53) - 1] {
            let block = chain.truth(height);
            let json: Value = serde_json::from_slice(&block.raw).expect("JSON");
            let header = &json["block"]["header"];
            assert_eq!(bytes(&json["block_id"]["hash"]), block.hash.as_str());
            assert_eq!(header["height"], height.to_string());
            assert_eq!(header["chain_id"], "migaloo-sim");
            let time: jiff::Timestamp = header["time"].as_str().expect("a text").parse().expect("RFC 3339");
            assert_eq!(u64::try_from(time.as_second()), Ok(block.time));
            assert_eq!(json["block"]["last_commit"]["height"], (height - 1).to_string());
            let below = &header["last_block_id"];
            assert_eq!(&json["block"]["last_commit"]["block_id"], below);
            if height == 1 {
                assert_eq!(bytes(&below["hash"]), "");
                assert_eq!(block.parent.as_str(), "0".repeat(64));
            } else {
                let parent = chain.truth(height - 1);
                assert_eq!(bytes(&below["hash"]), parent.hash.as_str());
                let parent: Value = serde_json::from_slice(&parent.raw).expect("JSON");
                assert_eq!(below, &parent["block_id"]);
            }
            let mut sdk = json["sdk_block"].clone();
            assert!(sdk["header"]["proposer_address"].as_str().is_some_and(|text| text.starts_with("simvalcons1")));
            sdk["header"]["proposer_address"] = header["proposer_address"].clone();
            assert_eq!(sdk, json["block"], "both say the same");
        }
    }

    /// Compared with what a real node answered: the same members, by the names that the gateway gives to two of them.
    #[test]
    fn a_cosmos_block_has_the_shape_of_a_captured_one() {
        let Some(data) = std::env::var_os("GAPLESS_REAL_DATA") else { return };
        let path = std::path::Path::new(&data).join("chain/cometbft/block_at_height_10.json");
        let text = std::fs::read_to_string(path).expect("the capture").replace("\"parts\"", "\"part_set_header\"");
        let real: Value = serde_json::from_str(&text).expect("JSON");
        let mut own: Value = serde_json::from_slice(&SimChain::new(&cosmos()).truth(10).raw).expect("JSON");
        // The captured block has no transactions, and its application no version.
        own["block"]["data"]["txs"] = Value::Array(Vec::new());
        own["block"]["header"]["version"].as_object_mut().expect("an object").remove("app");
        assert_eq!(shape(&own["block"]), shape(&real["result"]["block"]));
        assert_eq!(shape(&own["block_id"]), shape(&real["result"]["block_id"]));
    }

    fn reorganised() -> SimChain {
        let faults = "reorg=10:3".parse().expect("faults");
        SimChain::new(&ChainPlan { seed: 7, faults, ..ChainPlan::default() })
    }

    #[test]
    fn a_reorg_plan_adds_orphans_and_changes_no_final_block() {
        let (plain, chain) = (chain(), reorganised());
        for height in 0..60 {
            assert_eq!(chain.truth(height), plain.truth(height));
            let orphan = chain.orphan(height);
            assert_eq!(orphan.is_some(), matches!(height % 10, 8 | 9 | 0) && height > 0, "{height}");
            let Some(orphan) = orphan else { continue };
            let last = height.next_multiple_of(10);
            assert_ne!(orphan.hash, chain.truth(height).hash);
            assert_eq!(chain.canonical(height, last), orphan);
            assert_eq!(chain.canonical(height, last + 1), chain.truth(height));
            assert_eq!(chain.find(orphan.hash.as_str()).map(|(height, _)| height), Some(height));
        }
    }

    proptest! {
        /// Whatever the head: the chain that it shows is one chain, from the first block to the head.
        #[test]
        fn links_hold_under_every_head(head in 1u64..200, every in 2u64..40, depth in 1u64..40, seed in any::<u64>()) {
            let reorg = Some(Reorgs::new(every.max(depth + 1), depth).expect("a plan"));
            let faults = crate::simulate::chain::FaultPlan { reorg, ..Default::default() };
            let chain = SimChain::new(&ChainPlan { seed, block_bytes: 2_000..=2_000, faults, ..ChainPlan::default() });
            for height in head.saturating_sub(90).max(1)..=head {
                prop_assert_eq!(chain.canonical(height, head).parent, chain.canonical(height - 1, head).hash);
            }
        }
    }

    #[test]
    fn blocks_are_about_as_large_as_was_asked_for() {
        for range in [2_000..=2_000, 5_000..=20_000, 12_000..=12_000, 300_000..=300_000] {
            let chain = SimChain::new(&ChainPlan { block_bytes: range.clone(), ..ChainPlan::default() });
            for height in 1..100 {
                let bytes = chain.truth(height).raw.len() as f64;
                let (lo, hi) = (f64::from(*range.start()) * 0.98 - 400.0, f64::from(*range.end()) * 1.02 + 400.0);
                assert!((lo..=hi).contains(&bytes), "{bytes} of {range:?}");
            }
        }
        for range in [5_000..=5_000, 5_000..=20_000, 300_000..=300_000] {
            let chain = SimChain::new(&ChainPlan { block_bytes: range.clone(), ..cosmos() });
            for height in 2..100 {
                let bytes = chain.truth(height).raw.len() as f64;
                let (lo, hi) = (f64::from(*range.start()) - 400.0, f64::from(*range.end()) + 400.0);
                assert!((lo..=hi).contains(&bytes), "{bytes} of {range:?}");
            }
        }
    }
}
