//! The guarantees of `docs/guarantees.md` as functions. Each computes the truth from the plan of the test alone,
//! never from what the program says of itself.

use std::ops::RangeInclusive;

use redis::FromRedisValue;

use super::redis::RedisServer;

/// What the self-test must have left behind.
#[derive(Debug, Clone)]
pub struct Truth {
    /// First part of every key.
    pub prefix: String,
    /// Tallies.
    pub actors: u32,
    /// Messages sent to each.
    pub messages: u64,
}

impl Truth {
    pub fn new(actors: u32, messages: u64) -> Self {
        Self { prefix: "gapless".to_owned(), actors, messages }
    }

    pub fn key(&self, rest: &str) -> String {
        format!("{}:{{selftest.x}}:{rest}", self.prefix)
    }

    fn total(&self) -> u64 {
        self.messages * u64::from(self.actors)
    }
}

/// What is wrong with the outputs, in records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Records in their place with another sum than all numbers up to theirs have.
    pub wrong: u64,
    /// Numbers that are nowhere.
    pub lost: u64,
    /// Numbers that are there again.
    pub doubled: u64,
    /// Numbers that stand behind a greater one.
    pub reordered: u64,
}

impl Damage {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wrong, lost, doubled, reordered } = self;
        write!(f, "wrong={wrong} lost={lost} doubled={doubled} reordered={reordered}")
    }
}

/// Judges one output against the numbers 1 to `upto`: the sum of n numbers is n(n+1)/2, whoever added them.
pub fn judge(records: &[(u64, u64)], upto: u64) -> Damage {
    let mut damage = Damage::default();
    let mut seen = vec![false; usize::try_from(upto).expect("a count") + 1];
    let mut greatest = 0;
    for (n, sum) in records {
        let place = usize::try_from(*n).ok().and_then(|place| seen.get_mut(place));
        match place.map(|seen| std::mem::replace(seen, true)) {
            None => damage.wrong += 1,
            Some(true) => damage.doubled += 1,
            Some(false) if *n < greatest => damage.reordered += 1,
            Some(false) if *sum != n * (n + 1) / 2 => damage.wrong += 1,
            Some(false) => {}
        }
        greatest = greatest.max(*n);
    }
    damage.lost = seen[1..].iter().filter(|seen| !**seen).count() as u64;
    damage
}

/// The records of one tally's output.
pub fn output(redis: &RedisServer, truth: &Truth, tally: u32) -> Vec<(u64, u64)> {
    type Records = Vec<(String, Vec<(String, u64)>)>;
    let key = truth.key(&format!("out:tally_{tally}"));
    let records: Records = Records::from_redis_value(redis.command(&["XRANGE", &key, "-", "+"])).expect("records");
    let field = |fields: &[(String, u64)], name: &str| fields.iter().find(|(f, _)| f == name).expect(name).1;
    records.iter().map(|(_, fields)| (field(fields, "n"), field(fields, "sum"))).collect()
}

/// Everything that is wrong with the outputs, as far as they go: what is still to come is not lost.
pub fn damage_so_far(redis: &RedisServer, truth: &Truth) -> Damage {
    let mut damage = Damage::default();
    for tally in 0..truth.actors {
        let records = output(redis, truth, tally);
        let upto = records.iter().map(|(n, _)| *n).max().unwrap_or(0);
        damage.add(judge(&records, upto));
    }
    damage
}

/// Everything that is wrong with the outputs of work that is done.
pub fn damage(redis: &RedisServer, truth: &Truth) -> Damage {
    let mut damage = Damage::default();
    for tally in 0..truth.actors {
        damage.add(judge(&output(redis, truth, tally), truth.messages));
    }
    damage
}

fn length(redis: &RedisServer, key: &str) -> u64 {
    u64::from_redis_value(redis.command(&["XLEN", key])).expect("a length")
}

/// Records in all outputs together.
pub fn records(redis: &RedisServer, truth: &Truth) -> u64 {
    (0..truth.actors).map(|tally| length(redis, &truth.key(&format!("out:tally_{tally}")))).sum()
}

/// Whether every tally's mailbox is empty and nothing remains to be sent.
pub fn is_done(redis: &RedisServer, truth: &Truth) -> bool {
    let waits = |tally| length(redis, &truth.key(&format!("in:tally_{tally}")));
    sent(redis, truth) == truth.messages && (0..truth.actors).all(|tally| waits(tally) == 0)
}

/// The last number that the feeder has sent.
pub fn sent(redis: &RedisServer, truth: &Truth) -> u64 {
    let state = redis.command(&["HGET", &truth.key("ck:feeder"), "state"]);
    let state = Option::<String>::from_redis_value(state).expect("a state").unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
    state.get("sent").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// G1: checkpoint, acknowledgement and output of a turn became durable together: each tally's stored state is the last
/// record of its output, and nothing it took is still in its mailbox.
pub fn g1_commit(redis: &RedisServer, truth: &Truth) {
    for tally in 0..truth.actors {
        let state = redis.command(&["HGET", &truth.key(&format!("ck:tally_{tally}")), "state"]);
        let state = Option::<String>::from_redis_value(state).expect("a state").unwrap_or_default();
        let state: serde_json::Value = serde_json::from_str(&state).expect("the state of a tally");
        let (n, sum) = (truth.messages, truth.messages * (truth.messages + 1) / 2);
        assert_eq!((state["n"].as_u64(), state["sum"].as_u64()), (Some(n), Some(sum)), "G1: state of tally_{tally}");
        assert_eq!(length(redis, &truth.key(&format!("in:tally_{tally}"))), 0, "G1: mailbox of tally_{tally}");
    }
}

/// G2: nobody but the newest holder committed: a former holder's records would stand twice, or out of order.
pub fn g2_fence(redis: &RedisServer, truth: &Truth) {
    let damage = damage(redis, truth);
    assert!(damage.doubled == 0 && damage.reordered == 0, "G2: {damage}");
}

/// G3: repeated commits and turns that were decided again changed nothing: each number once, with the right sum.
pub fn g3_retry(redis: &RedisServer, truth: &Truth) {
    let damage = damage(redis, truth);
    assert!(damage.is_none(), "G3: {damage}");
    assert_eq!(records(redis, truth), truth.total(), "G3: records");
}

/// G4: what a dead node held was resumed from its last commit: nothing is missing.
pub fn g4_takeover(redis: &RedisServer, truth: &Truth) {
    let damage = damage(redis, truth);
    assert!(damage.lost == 0, "G4: {damage}");
}

/// What Redis says of a chain, read without any code of the program.
#[derive(Debug, Clone)]
pub struct Index {
    /// From the start to the head.
    pub wanted: RangeInclusive<u64>,
    /// Lowest and highest height, the parent of the lowest and the hash of the highest block.
    pub held: Vec<(u64, u64, String, String)>,
    /// Lowest and highest height, and the reason.
    pub parked: Vec<(u64, u64, String)>,
}

/// A block file as the folder has it, with the digest that stands beside it.
#[derive(Debug, Clone)]
pub struct BlockFile {
    pub hash: String,
    pub raw: Vec<u8>,
    pub digest: Option<String>,
}

/// A block as the chain has it.
#[derive(Debug, Clone)]
pub struct BlockTruth {
    pub hash: String,
    pub parent: String,
    pub raw: Vec<u8>,
}

/// Everything that G5 forbids in a pipeline that has caught up: nothing is asked for any more, so that each wanted
/// height is held or parked. Files of other branches may stand beside the chain's block.
pub fn block_faults(
    index: &Index,
    files: &dyn Fn(u64) -> Vec<BlockFile>,
    truth: &dyn Fn(u64) -> BlockTruth,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (lo, hi, parent, hash) in &index.held {
        let (below, top) = (truth(*lo).parent, truth(*hi).hash);
        if *parent != below {
            faults.push(format!("{lo}..{hi} is held on {parent}, the chain has {below}"));
        }
        if *hash != top {
            faults.push(format!("{lo}..{hi} is held up to {hash}, the chain has {top}"));
        }
    }
    let silent = index.parked.iter().filter(|(.., reason)| reason.is_empty());
    faults.extend(silent.map(|(lo, hi, _)| format!("{lo}..{hi} is parked without a reason")));
    for height in index.wanted.clone() {
        let held = index.held.iter().any(|(lo, hi, ..)| (lo..=hi).contains(&&height));
        let parked = index.parked.iter().any(|(lo, hi, _)| (lo..=hi).contains(&&height));
        match (held, parked) {
            (false, false) => faults.push(format!("height {height} is neither held nor parked")),
            (true, true) => faults.push(format!("height {height} is held and parked")),
            (false, true) => {}
            (true, false) => faults.extend(file_fault(height, &files(height), &truth(height))),
        }
    }
    faults
}

/// What is wrong with the file of a held height.
fn file_fault(height: u64, files: &[BlockFile], truth: &BlockTruth) -> Option<String> {
    let own: Vec<&BlockFile> = files.iter().filter(|file| file.hash == truth.hash).collect();
    let [file] = own[..] else {
        return Some(format!("height {height} is held and has {} files of the chain's block", own.len()));
    };
    if file.raw != truth.raw {
        return Some(format!("height {height} has other bytes than the chain"));
    }
    let digest = blake3::hash(&file.raw).to_string();
    (file.digest.as_deref() != Some(digest.as_str()))
        .then(|| format!("height {height} has no digest of its bytes beside it"))
}

/// G5: each wanted height is held, its file whole with its digest and linked as the chain is, or parked with a reason.
pub fn g5_blocks(index: &Index, files: &dyn Fn(u64) -> Vec<BlockFile>, truth: &dyn Fn(u64) -> BlockTruth) {
    let faults = block_faults(index, files, truth);
    assert!(faults.is_empty(), "G5: {faults:#?}");
}

/// G10: no mailbox was ever seen longer than its capacity and one send.
pub fn g10_bounded(longest_seen: u64, capacity: u64, batch: u64) {
    assert!(longest_seen < capacity + batch, "G10: {longest_seen} entries, at most {}", capacity + batch - 1);
}

/// G11: good input was not set aside.
pub fn g11_loud(redis: &RedisServer, truth: &Truth) {
    for tally in 0..truth.actors {
        assert_eq!(length(redis, &truth.key(&format!("dead:tally_{tally}"))), 0, "G11: dead letters of tally_{tally}");
    }
}

/// The longest mailbox at this moment.
pub fn longest_mailbox(redis: &RedisServer, truth: &Truth) -> u64 {
    (0..truth.actors).map(|tally| length(redis, &truth.key(&format!("in:tally_{tally}")))).max().unwrap_or(0)
}

/// All of them, for work that is done.
pub fn all(redis: &RedisServer, truth: &Truth) {
    g1_commit(redis, truth);
    g2_fence(redis, truth);
    g3_retry(redis, truth);
    g4_takeover(redis, truth);
    g11_loud(redis, truth);
}
