//! What is really there: the held heights as Redis has them, and the files as the folder has them, both read without
//! any code of the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gapless::simulate::chain::SimChain;

use crate::support::redis::RedisServer;

/// A held interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub lo: u64,
    pub hi: u64,
    pub parent: String,
    pub hash: String,
}

/// One block file with the line beside it; `raw` is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub path: PathBuf,
    pub hash: String,
    pub raw: Vec<u8>,
    pub meta: Option<serde_json::Value>,
}

/// The key of a pipeline in the tests' Redis.
pub fn key(pipeline: &str, rest: &str) -> String {
    format!("t:{{blocks.{pipeline}}}:{rest}")
}

/// The held intervals, ascending.
pub fn held(redis: &RedisServer, pipeline: &str) -> Vec<Held> {
    let members: Vec<String> =
        redis::cmd("ZRANGE").arg(key(pipeline, "held")).arg(0).arg(-1).query(&mut redis.connection()).expect("members");
    members.iter().map(|member| parse(member)).collect()
}

fn parse(member: &str) -> Held {
    let parts: Vec<&str> = member.split(' ').collect();
    let [lo, hi, parent, hash] = parts[..] else { panic!("`{member}` is no interval") };
    let height = |text: &str| text.parse().expect("a height");
    Held { lo: height(lo), hi: height(hi), parent: parent.to_owned(), hash: hash.to_owned() }
}

/// The bounds of the held intervals.
pub fn bounds(redis: &RedisServer, pipeline: &str) -> Vec<(u64, u64)> {
    held(redis, pipeline).iter().map(|held| (held.lo, held.hi)).collect()
}

/// The parked heights with their reasons, ascending; neighbours with the same reason are one, whenever each was parked.
pub fn parked(redis: &RedisServer, pipeline: &str) -> Vec<(u64, u64, String)> {
    let members: Vec<String> = redis::cmd("ZRANGE")
        .arg(key(pipeline, "parked"))
        .arg(0)
        .arg(-1)
        .query(&mut redis.connection())
        .expect("members");
    let parse = |member: &String| {
        let mut parts = member.splitn(3, ' ');
        let mut next = || parts.next().expect("a part");
        let (lo, hi, rest) = (next().parse().expect("a height"), next().parse().expect("a height"), next());
        let (since, reason) = rest.split_once(' ').expect("a time and a reason");
        assert!(since.strip_prefix('@').is_some_and(|ms| ms.parse::<u64>().is_ok()), "`{member}` has no time");
        (lo, hi, reason.to_owned())
    };
    let mut all: Vec<(u64, u64, String)> = Vec::new();
    for (lo, hi, reason) in members.iter().map(parse) {
        match all.last_mut() {
            Some(last) if last.1 + 1 == lo && last.2 == reason => last.1 = hi,
            _ => all.push((lo, hi, reason)),
        }
    }
    all
}

/// A fact; empty if there is none.
pub fn fact(redis: &RedisServer, pipeline: &str, name: &str) -> String {
    let value: Option<String> =
        redis::cmd("HGET").arg(key(pipeline, "facts")).arg(name).query(&mut redis.connection()).expect("a fact");
    value.unwrap_or_default()
}

/// The node that holds, or held last, a unit.
pub fn holder(redis: &RedisServer, pipeline: &str, unit: &str) -> String {
    let ck = key(pipeline, &format!("ck:{unit}"));
    let value: Option<String> = redis::cmd("HGET").arg(ck).arg("node").query(&mut redis.connection()).expect("a node");
    value.unwrap_or_default()
}

/// Every block file of a store, by height.
pub fn files(store: &Path) -> BTreeMap<u64, Vec<Stored>> {
    let mut all: BTreeMap<u64, Vec<Stored>> = BTreeMap::new();
    let Ok(folders) = std::fs::read_dir(store.join("blocks")) else { return all };
    for folder in folders {
        for file in std::fs::read_dir(folder.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            let Some((stem, extension @ ("json" | "json.zst"))) = name.split_once('.') else { continue };
            let (height, hash) = stem.split_once('-').expect("height and hash");
            let meta = std::fs::read(path.with_file_name(format!("{stem}.meta"))).ok();
            let meta = meta.map(|line| serde_json::from_slice(&line).expect("JSON"));
            let raw = std::fs::read(&path).expect("a file");
            let raw = if extension == "json" { raw } else { zstd::decode_all(&raw[..]).expect("a zstd frame") };
            let (height, hash, path) = (height.to_owned(), hash.to_owned(), path.clone());
            let stored = Stored { hash, raw, meta, path };
            all.entry(height.parse().expect("a height")).or_default().push(stored);
        }
    }
    all
}

/// Asserts that exactly the blocks `lo..=hi` of the simulated chain are held, in one piece, each a file once, byte for
/// byte, with the digest beside it.
#[track_caller]
pub fn assert_whole(redis: &RedisServer, pipeline: &str, store: &Path, truth: &SimChain, lo: u64, hi: u64) {
    let (first, last) = (truth.truth(lo), truth.truth(hi));
    let piece = Held { lo, hi, parent: first.parent.to_string(), hash: last.hash.to_string() };
    assert_eq!(held(redis, pipeline), [piece]);
    let files = files(store);
    for height in lo..=hi {
        let truth = truth.truth(height);
        let [stored] = files.get(&height).map_or(&[][..], Vec::as_slice) else {
            panic!("height {height} has the files {:?}", files.get(&height))
        };
        assert_eq!(stored.hash, truth.hash.as_str(), "height {height}");
        assert!(stored.raw == truth.raw, "height {height} has other bytes than the chain");
        let meta = stored.meta.as_ref().unwrap_or_else(|| panic!("height {height} has no digest"));
        assert_eq!(meta["blake3"], blake3::hash(&stored.raw).to_string(), "height {height}");
        assert_eq!(meta["parent"], truth.parent.as_str(), "height {height}");
    }
    assert!(files.keys().all(|height| (lo..=hi).contains(height)), "files outside of {lo}..{hi}");
}
