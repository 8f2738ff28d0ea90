//! Heights to blocks, and back from hashes: pure, in constant time.

use bytes::Bytes;

use super::noise::{Noise, hex, unhex};
use super::template::{Template, Values};
use super::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, ChainPlan};
use crate::messages::block::{Block, BlockHash, BlockRef, Origin};
use crate::messages::heights::Height;

/// How many blocks differ in more than hashes and numbers. More would only cost memory.
const TEMPLATES: u64 = 16;
/// The time of the genesis block, in seconds since 1970.
const GENESIS_TIME: u64 = 1_700_000_000;
/// Seconds between two blocks, as the blocks say: a slot of Ethereum.
const SLOT_SECONDS: u64 = 12;
/// The parent of the genesis block.
const NO_HASH: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";

/// A block as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimBlock {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// The hash of the block below it; all zeros below the genesis block.
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
    genesis: Template,
    templates: Vec<Template>,
}

impl SimChain {
    /// The chain of a plan: seed, chain id and block sizes decide, each of them changes every hash.
    pub fn new(plan: &ChainPlan) -> Self {
        let smallest = *plan.block_bytes.start().clamp(&BLOCK_BYTES_MIN, &BLOCK_BYTES_MAX);
        let largest = *plan.block_bytes.end().clamp(&smallest, &BLOCK_BYTES_MAX);
        let key = format!("gapless simulated chain {} {} {smallest} {largest}", plan.seed, plan.chain_id);
        let key = *blake3::hash(key.as_bytes()).as_bytes();
        let template = |number| {
            let mut noise = Noise::new(&key, number);
            // Spread evenly, so that the mean is the middle of the range whatever the seed.
            let bytes = u64::from(smallest) + u64::from(largest - smallest) * number / (TEMPLATES - 1);
            Template::new(&mut noise, plan.chain_id, usize::try_from(bytes).unwrap_or(usize::MAX))
        };
        let genesis = Template::new(&mut Noise::new(&key, TEMPLATES), plan.chain_id, 0);
        Self { key, genesis, templates: (0..TEMPLATES).map(template).collect() }
    }

    /// The block of the main branch at `height`: the truth that an audit compares with.
    pub fn truth(&self, height: Height) -> SimBlock {
        self.block(height, 0)
    }

    /// The block at `height` of a branch; branch 0 is the main one.
    pub fn block(&self, height: Height, branch: u32) -> SimBlock {
        let (hash, parent) = (self.hash(height, branch), self.parent(height, branch));
        let mut raw = Vec::new();
        self.render_with(height, &hash, &parent, true, &mut raw);
        // Both are `0x` and hexadecimal digits, which every BlockHash may be.
        let known = |text: &str| BlockHash::new(text).unwrap_or_else(|_| unreachable!("hexadecimal digits"));
        SimBlock { height, hash: known(&hash), parent: known(&parent), time: time(height), raw: raw.into() }
    }

    /// Appends the JSON of a block; `full` = whole transactions, else only their hashes.
    pub(super) fn render(&self, height: Height, branch: u32, full: bool, out: &mut Vec<u8>) {
        self.render_with(height, &self.hash(height, branch), &self.parent(height, branch), full, out);
    }

    fn render_with(&self, height: Height, hash: &str, parent: &str, full: bool, out: &mut Vec<u8>) {
        // The last digit of the hash is as good as a random number, and known without the key.
        let last = hash.as_bytes()[hash.len() - 1];
        let place = char::from(last).to_digit(16).unwrap_or(0) as usize % self.templates.len();
        let template = if height == 0 { &self.genesis } else { &self.templates[place] };
        template.render(&Values { hash, parent, number: height, time: time(height) }, full, out);
    }

    fn parent(&self, height: Height, branch: u32) -> String {
        height.checked_sub(1).map_or_else(|| NO_HASH.to_owned(), |below| self.hash(below, branch))
    }

    /// A hash: 20 bytes of BLAKE3 over height and branch, then these two under a mask that follows from the 20 bytes.
    /// So the server finds a block by its hash without a table.
    fn hash(&self, height: Height, branch: u32) -> String {
        let mut id = [0; 12];
        id[..8].copy_from_slice(&height.to_le_bytes());
        id[8..].copy_from_slice(&branch.to_le_bytes());
        let mut hash = *blake3::keyed_hash(&self.key, &id).as_bytes();
        let mask = blake3::keyed_hash(&self.key, &hash[..20]);
        for ((byte, id), mask) in hash[20..].iter_mut().zip(id).zip(mask.as_bytes()) {
            *byte = id ^ mask;
        }
        hex(&hash)
    }

    /// Which height and branch a hash belongs to; `None` if it is no hash of this chain.
    pub fn find(&self, hash: &str) -> Option<(Height, u32)> {
        let bytes = unhex::<32>(hash)?;
        let mask = blake3::keyed_hash(&self.key, &bytes[..20]);
        let mut id = [0; 12];
        for ((id, byte), mask) in id.iter_mut().zip(&bytes[20..]).zip(mask.as_bytes()) {
            *id = byte ^ mask;
        }
        let height = u64::from_le_bytes(id[..8].try_into().ok()?);
        let branch = u32::from_le_bytes(id[8..].try_into().ok()?);
        (self.hash(height, branch) == hash.to_ascii_lowercase()).then_some((height, branch))
    }
}

fn time(height: Height) -> u64 {
    GENESIS_TIME.saturating_add(height.saturating_mul(SLOT_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

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
            ChainPlan { chain_id: 2, ..plan.clone() },
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
    }
}
