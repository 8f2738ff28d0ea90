//! The world of the actors that collect a chain: a simulated chain in this process, a folder of blocks, and a look at
//! what is held that uses no code of the program.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use gapless::ids::RandomId;
use gapless::messages::heights::{Height, HeightRange};
use gapless::simulate::chain::{ChainPlan, SimChain};
use gapless::sinks::BlockFiles;
use gapless::sources::{Absence, ChainIdentity, ChainSource, Fetched, SourceError, evm};

use crate::suite::Site;

/// What the chain says it is.
pub const CHAIN_ID: &str = "1337";

/// The chain that every subject collects, and that every truth is computed from.
pub fn chain() -> SimChain {
    SimChain::new(&ChainPlan { seed: 21, block_bytes: 2_000..=4_000, ..ChainPlan::default() })
}

/// A source whose head the test moves, and that can be out of reach.
pub struct Source {
    chain: SimChain,
    head: AtomicU64,
    down: AtomicBool,
}

impl Source {
    fn reach(&self) -> Result<(), SourceError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(SourceError::Unreachable { endpoint: "the chain".to_owned(), reason: "it is down".to_owned() }),
            false => Ok(()),
        }
    }
}

impl ChainSource for Source {
    fn expect_chain(&self, chain_id: &str) {
        assert_eq!(chain_id, CHAIN_ID);
    }

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        Box::pin(async { self.reach().map(|()| ChainIdentity { chain_id: CHAIN_ID.to_owned() }) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        Box::pin(async { self.reach().map(|()| self.head.load(Ordering::SeqCst)) })
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        Box::pin(async { Ok(None) })
    }

    fn distrust(&self, _: &str, _: &str) {}

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(async move {
            // Another task has a turn between request and answer, as with any source: a cut may come here.
            tokio::task::yield_now().await;
            self.reach()?;
            let head = self.head.load(Ordering::SeqCst);
            let answer = |height| match height <= head {
                true => Fetched::Block(self.chain.truth(height).into()),
                false => Fetched::Absent(height, Absence::Unknown),
            };
            Ok((range.lo()..=range.hi()).map(answer).collect())
        })
    }
}

/// A chain and a store for its blocks, of one subject.
pub struct World {
    pub source: Arc<Source>,
    pub files: BlockFiles,
    folder: tempfile::TempDir,
}

impl World {
    /// A chain with its head, and an empty store.
    pub fn new(head: Height) -> Self {
        let source = Source { chain: chain(), head: AtomicU64::new(head), down: AtomicBool::new(false) };
        let folder = tempfile::tempdir().expect("a folder");
        let files = BlockFiles::open(folder.path(), RandomId::new().as_str(), evm::identity, 2).expect("a store");
        Self { source: Arc::new(source), files, folder }
    }

    /// The chain has so many blocks more.
    pub fn grow(&self, blocks: u64) {
        self.source.head.fetch_add(blocks, Ordering::SeqCst);
    }

    pub fn set_down(&self, down: bool) {
        self.source.down.store(down, Ordering::SeqCst);
    }

    /// The held heights, each with the hash in its file's name and the digest of the file's bytes. What is held
    /// without a file, or with a digest beside it that is not that of its bytes, fails the test at once.
    pub fn held(&self, site: &Site) -> Vec<String> {
        // The set first: a file must be there before its height counts.
        let key = site.store.keys.held(&site.pipeline);
        let members: Vec<String> =
            redis::from_redis_value(site.server.command(&["ZRANGE", &key, "0", "-1"])).expect("the held heights");
        let files = files(self.folder.path());
        let mut lines = Vec::new();
        for member in members {
            let parts: Vec<&str> = member.split(' ').collect();
            let [lo, hi, _, hash] = parts[..] else { panic!("`{member}` is no interval") };
            let [lo, hi] = [lo, hi].map(|height| height.parse::<Height>().expect("a height"));
            lines.extend((lo..=hi).map(|height| {
                files.get(&height).unwrap_or_else(|| panic!("height {height} is held without a file")).clone()
            }));
            assert!(files[&hi].split(' ').nth(1) == Some(hash), "`{member}` does not end with {}", files[&hi]);
        }
        lines
    }
}

/// The block of the chain as [`World::held`] shows it.
pub fn line(chain: &SimChain, height: Height) -> String {
    let block = chain.truth(height);
    format!("{height} {} {}", block.hash, blake3::hash(&block.raw))
}

/// Every block of a store that has its digest beside it, by height: a line for each. No chain here has two branches.
fn files(store: &Path) -> BTreeMap<Height, String> {
    let mut all = BTreeMap::new();
    for folder in std::fs::read_dir(store.join("blocks")).expect("a folder") {
        for file in std::fs::read_dir(folder.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            // The digest is written last, so the bytes are whole where it is.
            if path.extension().is_none_or(|extension| extension != "meta") {
                continue;
            }
            let meta: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).expect("a digest")).expect("JSON");
            let digest = blake3::hash(&std::fs::read(path.with_extension("json")).expect("a file")).to_string();
            assert_eq!(meta["blake3"], digest, "{}", path.display());
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
            let (height, hash) = stem.split_once('-').expect("height and hash");
            let height: Height = height.parse().expect("a height");
            let twice = all.insert(height, format!("{height} {hash} {digest}"));
            assert_eq!(twice, None, "height {height} has two files");
        }
    }
    all
}
