//! Limits: the thinnest client of the chain's node, the thinnest writer of durable files, and the store itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::super::usage::Figure;
use super::{BATCH, REQUESTS};
use crate::ids::RandomId;
use crate::messages::block::Block;
use crate::messages::heights::HeightRange;
use crate::simulate::chain::{ChainPlan, SimChain};
use crate::sinks::BlockFiles;
use crate::sources::{evm, tls};
use crate::supervisor::node::STORE_WRITERS;

/// Threads that write at a time; as many as a node has for one store.
const WRITERS: usize = STORE_WRITERS;
/// Files between two syncs of their folder, in the limit.
const FOLDER_SYNC_EVERY: usize = 20;

/// The blocks of a row about the disk alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    pub count: u64,
    /// Of one block.
    pub bytes: u32,
}

/// Fetches all blocks in batches and throws them away: neither parsed nor stored.
pub(super) async fn fetch(url: &str, blocks: u64) -> Result<Figure> {
    tls::install();
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).tls_certs_only([]).build()?;
    let all = HeightRange::new(0, blocks - 1).map_err(anyhow::Error::msg)?;
    let started = Instant::now();
    let bytes: usize = stream::iter(all.chunks(BATCH).map(|range| {
        let request = client.post(url).header("content-type", "application/json").body(batch(range));
        async move { anyhow::Ok(request.send().await?.error_for_status()?.bytes().await?.len()) }
    }))
    .buffer_unordered(REQUESTS)
    .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
    .await?;
    ensure!(bytes as u64 > blocks * 1000, "the simulated chain sent only {bytes} bytes");
    Ok(Figure { count: blocks, seconds: started.elapsed().as_secs_f64(), ..Figure::default() })
}

fn batch(range: HeightRange) -> String {
    let one = |h| format!(r#"{{"jsonrpc":"2.0","id":{h},"method":"eth_getBlockByNumber","params":["{h:#x}",true]}}"#);
    format!("[{}]", (range.lo()..=range.hi()).map(one).collect::<Vec<_>>().join(","))
}

/// Writes files of the blocks' size, each under its last name at once, and synced; their folder synced now and then.
pub(super) async fn files(folder: PathBuf, blocks: Blocks) -> Result<Figure> {
    fs::create_dir_all(&folder)?;
    let body = vec![b'x'; blocks.bytes as usize];
    let share = blocks.count as usize / WRITERS;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let write = |writer: usize| write_files(&folder, writer * share..(writer + 1) * share, &body);
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
    })?;
    Ok(Figure { count: (share * WRITERS) as u64, seconds: started.elapsed().as_secs_f64(), ..Figure::default() })
}

fn write_files(folder: &Path, names: std::ops::Range<usize>, body: &[u8]) -> Result<()> {
    for name in names {
        let mut file = File::create_new(folder.join(name.to_string()))?;
        file.write_all(body)?;
        file.sync_data()?;
        if (name + 1) % FOLDER_SYNC_EVERY == 0 {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok(())
}

/// The block store by itself, so many blocks a call: durable, each with its digest beside it.
pub(super) async fn store(folder: PathBuf, blocks: Blocks, batch: u64) -> Result<Figure> {
    let chain = SimChain::new(&ChainPlan { block_bytes: blocks.bytes..=blocks.bytes, ..ChainPlan::default() });
    let files = BlockFiles::open(&folder, RandomId::new().as_str(), evm::identity, WRITERS)?;
    let all = HeightRange::new(0, blocks.count - 1).map_err(anyhow::Error::msg)?;
    let mut seconds = 0.0;
    for range in all.chunks(batch) {
        let batch: Vec<Block> = (range.lo()..=range.hi()).map(|height| chain.truth(height).into()).collect();
        let started = Instant::now();
        let stored = files.store(batch).await.context("the store")?;
        seconds += started.elapsed().as_secs_f64();
        ensure!(stored.len() as u64 == range.count(), "{} of {} blocks were stored", stored.len(), range.count());
    }
    Ok(Figure { count: blocks.count, seconds, ..Figure::default() })
}
