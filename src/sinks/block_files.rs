//! The block store: every block a file of raw upstream bytes, with a line about it beside it.
//!
//! ```text
//! gapless-store.json                                  whose store this is (store_marker)
//! blocks/0000020123/0000020123456-0xab….json          the bytes as the node sent them
//! blocks/0000020123/0000020123456-0xab….json.zst      or the same bytes, packed; a store may hold both kinds
//! blocks/0000020123/0000020123456-0xab….meta          height, hash, parent, size and digest of the raw bytes
//! tmp/<incarnation>-<n>.tmp                           being written; nothing here is part of the store
//! trash/<milliseconds>-<incarnation>-<n>-<name>       moved away; destroyed after the rollback horizon
//! ```
//!
//! How one block gets there, and what a crash leaves at each step: `block_room`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::messages::block::{Block, BlockHash, BlockRef, Piece};
use crate::messages::heights::{Height, HeightRange, HeightSet};

use super::block_check::{StoredBlock, Verdict, hashes_at};
use super::block_meta::Digest;
use super::block_names::{Listing, folder_of, folder_path, folders, list};
use super::block_room::Room;
use super::durable::sync_folder;
use super::{SinkError, blocking};

/// The largest block that is written, read or unpacked: far above any chain's, and still no danger to a node.
pub const BLOCK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many heights one [`BlockFiles::check_range`] takes.
pub const CHECK_HEIGHTS_MAX: u64 = 10_000;

/// How many blocks one blocking task writes before its thread is free for others.
const TASK_BLOCKS_MAX: usize = 16;

/// How many threads read at a time: a check on a disk that hangs holds these, and no more.
const READERS_MAX: usize = 4;

/// How far [`BlockFiles::wanted_at`] climbs: above the deepest reorganisation that is followed.
pub const CLIMB_MAX: u64 = 1_024;

/// Heights whose bytes are read at a time: bounds memory.
pub const READ_HEIGHTS_MAX: u64 = 250;

/// Reads a block's identity from its raw bytes. It is given hostile bytes, and must not panic.
pub type ParseBlock = fn(&[u8]) -> Result<BlockRef, String>;

/// A block that is durable, as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which block.
    pub id: BlockRef,
    /// Size of the raw bytes that stand there.
    pub bytes: u64,
    /// Digest of the raw bytes that stand there: the first writer's, which need not be the ones that were offered.
    pub digest: Digest,
    /// Whether it stood there before.
    pub found: bool,
}

/// A store of blocks in a folder. Clones share it; open one a folder and process, since opening sweeps the
/// temporaries of the same incarnation.
///
/// Keeps G5, the first half: a height counts as held only when its file was durable with its digest beside it.
#[derive(Debug, Clone)]
pub struct BlockFiles {
    room: Arc<Room>,
    free_writers: Arc<Semaphore>,
    free_readers: Arc<Semaphore>,
    writers: usize,
    /// At which level new blocks are packed with zstd; none: they are stored as they came.
    level: Option<i32>,
}

impl BlockFiles {
    /// Opens the store below `root`: creates its folders durably and sweeps stale temporaries. Blocks the thread for
    /// a few file operations. `writers` (at least 1) bounds the threads that write at a time, those of cut turns
    /// included. A crash leaves folders, and opening again goes on.
    pub fn open(root: &Path, incarnation: &str, parse: ParseBlock, writers: usize) -> Result<Self, SinkError> {
        let room = Arc::new(Room::open(root, incarnation, parse)?);
        let swept = room.scratch.sweep()?;
        if swept > 0 {
            tracing::info!(store = %root.display(), swept, "stale temporary files removed");
        }
        let writers = writers.max(1);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Ok(Self { room, free_writers: semaphore(writers), free_readers: semaphore(READERS_MAX), writers, level: None })
    }

    /// Packs new blocks with zstd at a level (1 to 19), where that makes them smaller; none: stores them as they came.
    /// What stands there stays as it is, and is read either way.
    pub fn with_zstd(self, level: Option<i32>) -> Self {
        Self { level, ..self }
    }

    /// Stores blocks; all of them are durable, with their digests, when it returns, in the order given.
    ///
    /// Never replaces: where a file of that name stands, it is judged; if it is that block, it stays and *its* digest
    /// is reported, else it moves to the trash and the block is written anew. Fails on a block whose bytes are not what
    /// its identity says. After an error or a crash some blocks may stand there, and storing them again finds them;
    /// dropping the future lets tasks under way finish, which adds at most names that nobody has.
    pub async fn store(&self, blocks: Vec<Block>) -> Result<Vec<Stored>, SinkError> {
        let numbers: BTreeSet<u64> = blocks.iter().map(|b| folder_of(b.id.height)).collect();
        let per_task = blocks.len().div_ceil(self.writers).clamp(1, TASK_BLOCKS_MAX);
        let tasks: Vec<Vec<Block>> = blocks.chunks(per_task).map(<[Block]>::to_vec).collect();
        let level = self.level;
        let stored = stream::iter(tasks)
            .map(|task| {
                self.write(move |room| task.iter().map(|block| room.store(block, level)).collect::<Result<Vec<_>, _>>())
            })
            .buffered(self.writers)
            .try_concat()
            .await?;
        self.write(move |room| numbers.into_iter().try_for_each(|n| sync_folder(&folder_path(&room.blocks, n))))
            .await?;
        Ok(stored)
    }

    /// Reads all files of a height, good or not: several after a reorg.
    pub async fn read(&self, height: Height) -> Result<Vec<StoredBlock>, SinkError> {
        self.look(move |room| {
            let listing = list(&room.blocks, folder_of(height))?;
            let mut found = Vec::new();
            for hash in hashes_at(&listing, height) {
                found.extend(room.judge().file(height, hash)?.map(|(block, _)| block));
            }
            Ok(found)
        })
        .await
    }

    /// Reads all files of a range of at most [`READ_HEIGHTS_MAX`] heights, ascending; one listing per folder. Heights
    /// without a file have an empty list.
    pub async fn read_range(&self, range: HeightRange) -> Result<Vec<(Height, Vec<StoredBlock>)>, SinkError> {
        self.bounded(range, READ_HEIGHTS_MAX)?;
        self.look(move |room| {
            let mut all = Vec::new();
            let mut listing = (u64::MAX, Listing::new());
            for height in range.lo()..=range.hi() {
                if listing.0 != folder_of(height) {
                    listing = (folder_of(height), list(&room.blocks, folder_of(height))?);
                }
                let mut found = Vec::new();
                for hash in hashes_at(&listing.1, height) {
                    found.extend(room.judge().file(height, hash)?.map(|(block, _)| block));
                }
                all.push((height, found));
            }
            Ok(all)
        })
        .await
    }

    /// Reads and judges a height: bytes against digest, parsed identity against name. With an expected hash only that
    /// block is good; another good one is [`Verdict::Other`].
    pub async fn check(&self, height: Height, expected: Option<&BlockHash>) -> Result<Verdict, SinkError> {
        let expected = expected.cloned();
        self.look(move |room| room.judge().one(height, expected.as_ref())).await
    }

    /// Reads and judges every height of a range (at most [`CHECK_HEIGHTS_MAX`]) and links each to the one above it;
    /// one listing per folder. Ascending, one verdict a height.
    ///
    /// `top` is the hash that the highest one must have, if it is known. To check more, go downwards chunk by chunk, with
    /// [`Verdict::wanted_below`] of each chunk's first verdict as the next one's `top`: no link is left out.
    pub async fn check_range(
        &self,
        range: HeightRange,
        top: Option<BlockHash>,
    ) -> Result<Vec<(Height, Verdict)>, SinkError> {
        self.bounded(range, CHECK_HEIGHTS_MAX)?;
        self.look(move |room| room.judge().range(range, top)).await
    }

    /// The hash that the block at a height of a held piece must have: the parent that the block above names. Where a
    /// reorg left several blocks above, or one of them is lost, it climbs to the next that stands alone, at most
    /// [`CLIMB_MAX`] heights. None if nothing tells.
    pub async fn wanted_at(&self, piece: &Piece, height: Height) -> Result<Option<BlockHash>, SinkError> {
        let hi = piece.range.hi();
        if height >= hi {
            return Ok((height == hi).then(|| piece.hash.clone()));
        }
        let last = hi.min(height.saturating_add(CLIMB_MAX));
        let (mut top, mut wanted) = (height, None);
        while top < last && wanted.is_none() {
            top += 1;
            wanted = match self.check(top, None).await? {
                _ if top == hi => Some(piece.hash.clone()),
                Verdict::Good(id) => Some(id.hash),
                Verdict::Missing
                | Verdict::Altered { .. }
                | Verdict::NoDigest(_)
                | Verdict::Other { .. }
                | Verdict::Several(_) => None,
            };
        }
        let above =
            HeightRange::new(height + 1, top).map_err(|reason| SinkError::refused(&self.room.blocks, reason))?;
        let verdicts = self.check_range(above, wanted).await?;
        Ok(verdicts.first().and_then(|(_, verdict)| verdict.wanted_below().cloned()))
    }

    /// Moves a block, packed or not, and its meta to the trash, durably, and returns their names there; none that were not there.
    /// Calling it again is safe. A crash between the two leaves the meta, which counts as nothing.
    pub async fn discard(&self, height: Height, hash: &BlockHash, why: &str) -> Result<Vec<String>, SinkError> {
        let (hash, why) = (hash.clone(), why.to_owned());
        self.write(move |room| room.discard(height, &hash, &why, None)).await
    }

    /// Like [`Self::discard`], but judges the block again and leaves one that is good (or lacks only its meta): between
    /// a check and the move that it asked for, another node may have stored the block anew.
    pub async fn discard_bad(&self, height: Height, hash: &BlockHash) -> Result<Vec<String>, SinkError> {
        let hash = hash.clone();
        self.write(move |room| match room.judge().file(height, &hash)? {
            Some((StoredBlock { verdict: Verdict::Altered { reason, .. }, .. }, looked)) => {
                room.discard(height, &hash, &reason, Some(&looked))
            }
            Some(_) | None => Ok(Vec::new()),
        })
        .await
    }

    /// Destroys what came to the trash longer ago than `horizon` (the rollback horizon, 10 minutes by default), at most
    /// 1,000 files a call, oldest first. Returns how many; the full number means that more may be due.
    pub async fn sweep_trash(&self, horizon: Duration) -> Result<usize, SinkError> {
        self.write(move |room| room.trash.sweep(horizon)).await
    }

    /// The heights that have a block and its meta, by file names alone: O(files), opens none.
    pub async fn heights(&self) -> Result<HeightSet, SinkError> {
        self.look(|room| {
            let mut set = HeightSet::new();
            for folder in folders(&room.blocks)? {
                for (height, hashes) in list(&room.blocks, folder)? {
                    if hashes.values().any(|parts| parts.block && parts.meta) {
                        set.insert(HeightRange::one(height));
                    }
                }
            }
            Ok(set)
        })
        .await
    }

    /// Refuses a range that is longer than what one call takes.
    pub(super) fn bounded(&self, range: HeightRange, heights_max: u64) -> Result<(), SinkError> {
        if range.count() <= heights_max {
            return Ok(());
        }
        let reason = format!("the range {range} has more than {heights_max} heights; go through it in chunks");
        Err(SinkError::refused(&self.room.blocks, reason))
    }

    pub(super) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Room) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        self.run(&self.free_readers, work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Room) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        self.run(&self.free_writers, work).await
    }

    /// Work waits for a free thread, and keeps it to its end even when its future is dropped: on a disk that hangs,
    /// cut turns do not pile up threads.
    async fn run<T: Send + 'static>(
        &self,
        free: &Arc<Semaphore>,
        work: impl FnOnce(&Room) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        // The semaphores are never closed; if one were, nothing could be promised.
        let permit = Arc::clone(free).acquire_owned().await.map_err(|_| SinkError::Stopping)?;
        let room = Arc::clone(&self.room);
        blocking(move || {
            let _permit = permit;
            work(&room)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::durable::Placed;
    use super::super::fixtures::{block, block_with, count, hash, open, parse, paths};
    use super::*;
    use crate::messages::block::Origin;
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::Instant;

    async fn verdict(store: &BlockFiles, height: Height) -> Verdict {
        store.check(height, None).await.expect("checked")
    }

    #[tokio::test]
    async fn a_stored_block_has_its_bytes_its_line_and_a_good_verdict() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let blocks: Vec<Block> = (998..=1_040).map(block).collect();
        let stored = store.store(blocks.clone()).await.expect("stored");
        assert_eq!(
            stored.iter().map(|s| s.id.clone()).collect::<Vec<_>>(),
            blocks.iter().map(|b| b.id.clone()).collect::<Vec<_>>()
        );
        for (block, stored) in blocks.iter().zip(&stored) {
            let raw = fs::read(paths(root.path(), block).plain).expect("the file");
            assert_eq!(raw, block.raw);
            assert_eq!((stored.bytes, stored.found), (raw.len() as u64, false));
            assert_eq!(stored.digest.to_string(), blake3::hash(&raw).to_string());
            assert_eq!(verdict(&store, block.id.height).await, Verdict::Good(block.id.clone()));
        }
        assert_eq!(count(root.path().join("tmp")), 0);
        assert_eq!(count(root.path().join("trash")), 0);
        assert_eq!(store.heights().await.expect("listed").ranges(), [HeightRange::new(998, 1_040).expect("a range")]);
        let again = store.store(blocks).await.expect("found");
        assert!(again.iter().all(|s| s.found));
    }

    #[tokio::test]
    async fn the_first_writer_wins_and_the_digest_is_of_what_is_there() {
        let root = tempfile::tempdir().expect("a folder");
        let (store, other) = (open(root.path(), "a"), open(root.path(), "b"));
        let (first, second) = (block(5), block_with(5, "b5", "b4", r#","note":"another endpoint""#));
        store.store(vec![first.clone()]).await.expect("stored");
        let stored = other.store(vec![second]).await.expect("found").remove(0);
        assert!(stored.found);
        assert_eq!(stored.digest.to_string(), blake3::hash(&first.raw).to_string());
        assert_eq!(fs::read(paths(root.path(), &first).plain).expect("the file"), first.raw);
        assert_eq!(verdict(&store, 5).await, Verdict::Good(first.id));
        assert_eq!(count(root.path().join("trash")), 0);
    }

    #[tokio::test]
    async fn the_line_names_the_endpoint_only_of_bytes_that_it_sent() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let from = |endpoint: &str| Block {
            origin: Origin { endpoint: endpoint.to_owned(), attempt: 1, millis: 20 },
            ..block(5)
        };
        let meta = async || store.read(5).await.expect("read")[0].meta.clone().expect("a line");
        store.store(vec![from("http://one")]).await.expect("stored");
        assert_eq!((meta().await.endpoint.as_deref(), meta().await.fetched_ms), (Some("http://one"), Some(20)));
        store.store(vec![from("http://two")]).await.expect("found");
        assert_eq!(meta().await.endpoint.as_deref(), Some("http://one"), "the first line stays");
        fs::remove_file(paths(root.path(), &block(5)).meta).expect("a store that was cut");
        store.store(vec![from("http://two")]).await.expect("completed");
        assert_eq!(meta().await.endpoint, None, "whoever sent the bytes that stood there is not known");
    }

    #[tokio::test]
    async fn a_zombie_that_wakes_after_its_write_cannot_replace() {
        let root = tempfile::tempdir().expect("a folder");
        let (zombie, living) = (open(root.path(), "zombie"), open(root.path(), "living"));
        let block = block(5);
        let late = zombie.room.scratch.write(b"other bytes of the same block").expect("written");
        living.store(vec![block.clone()]).await.expect("stored");
        assert_eq!(late.place(&paths(root.path(), &block).plain).expect("looked"), Placed::Exists);
        assert_eq!(fs::read(paths(root.path(), &block).plain).expect("the file"), block.raw);
        assert_eq!(verdict(&living, 5).await, Verdict::Good(block.id));
    }

    #[tokio::test]
    async fn writers_that_race_agree_on_one_file() {
        let root = tempfile::tempdir().expect("a folder");
        let stores: Vec<BlockFiles> = (0..8).map(|n| open(root.path(), &format!("n{n}"))).collect();
        let offers = stores.iter().enumerate().map(|(n, store)| {
            store.store((0..20).map(|h| block_with(h, &format!("b{h}"), "p", &format!(r#","by":{n}"#))).collect())
        });
        let answers = futures_util::future::try_join_all(offers).await.expect("all stored");
        for height in 0..20_usize {
            let path = paths(root.path(), &block(height as u64)).plain;
            let truth = blake3::hash(&fs::read(path).expect("the file")).to_string();
            assert!(answers.iter().all(|a| a[height].digest.to_string() == truth), "height {height}");
            assert_eq!(answers.iter().filter(|a| !a[height].found).count(), 1, "height {height}");
            assert!(matches!(verdict(&stores[0], height as u64).await, Verdict::Good(_)));
        }
        assert_eq!((count(root.path().join("tmp")), count(root.path().join("trash"))), (0, 0));
    }

    #[tokio::test]
    async fn a_torn_temporary_counts_as_nothing_and_is_swept() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        fs::write(root.path().join("tmp/a-0.tmp"), br#"{"height":5,"#).expect("a crash within the write");
        assert_eq!(verdict(&store, 5).await, Verdict::Missing);
        assert!(store.heights().await.expect("listed").is_empty());
        open(root.path(), "a");
        assert_eq!(count(root.path().join("tmp")), 0);
    }

    #[tokio::test]
    async fn a_crash_between_link_and_unlink_leaves_a_whole_block() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let block = block(5);
        let paths = paths(root.path(), &block);
        fs::create_dir(&paths.folder).expect("created");
        fs::write(root.path().join("tmp/a-0.tmp"), &block.raw).expect("written");
        fs::hard_link(root.path().join("tmp/a-0.tmp"), &paths.plain).expect("linked");
        let store_again = open(root.path(), "a");
        assert_eq!(verdict(&store, 5).await, Verdict::NoDigest(block.id.clone()));
        assert!(store.heights().await.expect("listed").is_empty(), "without its digest it is not held");
        assert!(store_again.store(vec![block.clone()]).await.expect("completed")[0].found);
        assert_eq!(verdict(&store, 5).await, Verdict::Good(block.id));
        assert_eq!(count(root.path().join("tmp")), 0);
    }

    #[tokio::test]
    async fn a_meta_that_outlived_its_block_is_replaced_through_the_trash() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let lost = block_with(5, "b5", "b4", r#","note":"lost in a power cut""#);
        store.store(vec![lost.clone()]).await.expect("stored");
        fs::remove_file(paths(root.path(), &lost).plain).expect("lost");
        assert_eq!(verdict(&store, 5).await, Verdict::Missing);
        let stored = store.store(vec![block(5)]).await.expect("stored");
        assert!(!stored[0].found);
        assert_eq!(verdict(&store, 5).await, Verdict::Good(block(5).id));
        assert_eq!(count(root.path().join("trash")), 1);
    }

    #[tokio::test]
    async fn a_file_torn_at_any_byte_is_found_and_written_anew() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let block = block(5);
        let path = paths(root.path(), &block).plain;
        for cut in 0..block.raw.len() {
            store.store(vec![block.clone()]).await.expect("stored");
            fs::write(&path, &block.raw[..cut]).expect("torn");
            assert!(matches!(verdict(&store, 5).await, Verdict::Altered { .. }), "cut at {cut}");
        }
        assert!(!store.store(vec![block.clone()]).await.expect("written anew")[0].found);
        assert_eq!(verdict(&store, 5).await, Verdict::Good(block.id));
        assert_eq!(count(root.path().join("trash")), block.raw.len(), "nothing was destroyed");
    }

    #[tokio::test]
    async fn another_block_under_the_name_moves_to_the_trash() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let block = block(5);
        for wrong in [block_with(6, "b5", "b4", ""), block_with(5, "b6", "b4", ""), block_with(5, "b5", "b3", "")] {
            store.store(vec![block.clone()]).await.expect("stored");
            fs::write(paths(root.path(), &block).plain, &wrong.raw).expect("swapped");
            let stored = store.store(vec![block.clone()]).await.expect("stored").remove(0);
            assert_eq!((stored.found, stored.digest.to_string()), (false, blake3::hash(&block.raw).to_string()));
            assert_eq!(verdict(&store, 5).await, Verdict::Good(block.id.clone()));
        }
        assert_eq!(count(root.path().join("trash")), 3);
    }

    #[tokio::test]
    async fn a_block_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let mut liar = block(5);
        liar.raw = block(6).raw;
        let error = store.store(vec![liar]).await.expect_err("refused");
        assert!(matches!(error, SinkError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("block 6 b6, not 5 b5"), "{error}");
        assert_eq!(verdict(&store, 5).await, Verdict::Missing);
        assert_eq!(count(root.path().join("tmp")), 0);
    }

    #[tokio::test]
    async fn altered_bytes_are_found_by_their_digest_and_discarded() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let block = block_with(5, "b5", "b4", r#","balance":"100""#);
        store.store(vec![block.clone()]).await.expect("stored");
        assert!(store.discard_bad(5, &block.id.hash).await.expect("left").is_empty(), "a good block stays");

        let forged = String::from_utf8_lossy(&block.raw).replace("100", "999");
        fs::write(paths(root.path(), &block).plain, forged).expect("altered");
        let Verdict::Altered { hash, reason } = verdict(&store, 5).await else { panic!("not noticed") };
        assert_eq!((hash, reason.contains("digest")), (block.id.hash.clone(), true));
        assert_eq!(store.read(5).await.expect("read")[0].verdict, verdict(&store, 5).await);
        assert_eq!(store.discard_bad(5, &block.id.hash).await.expect("moved").len(), 2);
        assert_eq!(verdict(&store, 5).await, Verdict::Missing);
        assert_eq!(count(root.path().join("trash")), 2);
    }

    #[tokio::test]
    async fn a_discarded_block_waits_in_the_trash_for_the_horizon() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        store.store(vec![block(5)]).await.expect("stored");
        let names = store.discard(5, &hash("b5"), "orphaned").await.expect("moved");
        assert_eq!(fs::read(root.path().join("trash").join(&names[0])).expect("kept"), block(5).raw);
        assert!(store.discard(5, &hash("b5"), "orphaned").await.expect("again").is_empty());
        assert_eq!(store.sweep_trash(Duration::from_secs(600)).await.expect("swept"), 0);
        assert_eq!(store.sweep_trash(Duration::ZERO).await.expect("swept"), 2);
        assert_eq!(count(root.path().join("trash")), 0);
    }

    #[tokio::test]
    async fn a_discard_that_was_cut_between_its_moves_is_a_missing_block() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        store.store(vec![block(5)]).await.expect("stored");
        store.room.trash.take(&paths(root.path(), &block(5)).plain, None).expect("the first move").expect("was there");
        assert_eq!(verdict(&store, 5).await, Verdict::Missing);
        assert!(store.heights().await.expect("listed").is_empty());
        assert_eq!(store.discard(5, &hash("b5"), "orphaned").await.expect("finished").len(), 1);
        assert_eq!(count(root.path().join("blocks/0000000000")), 0);
    }

    #[tokio::test]
    async fn both_blocks_of_a_reorged_height_are_kept_and_told_apart() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let (old, new) = (block_with(5, "b5", "b4", ""), block_with(5, "c5", "b4", ""));
        store.store(vec![old.clone(), new.clone()]).await.expect("stored");
        assert_eq!(verdict(&store, 5).await, Verdict::Several(vec![old.id.clone(), new.id.clone()]));
        assert_eq!(store.check(5, Some(&hash("c5"))).await.expect("checked"), Verdict::Good(new.id.clone()));
        let other = store.check(5, Some(&hash("d5"))).await.expect("checked");
        assert!(matches!(other, Verdict::Other { wanted, .. } if wanted == hash("d5")));
        assert_eq!(
            store.read(5).await.expect("read").iter().map(|b| b.hash.as_str()).collect::<Vec<_>>(),
            ["b5", "c5"]
        );
    }

    #[tokio::test]
    async fn a_range_is_linked_from_its_top_across_folders_and_orphans() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let mut blocks: Vec<Block> = (990..=1_010).filter(|h| *h != 994).map(block).collect();
        blocks.push(block_with(1_005, "orphan", "b1004", ""));
        blocks[2] = block_with(992, "x992", "b991", "");
        store.store(blocks).await.expect("stored");
        let range = HeightRange::new(989, 1_010).expect("a range");
        let verdicts = store.check_range(range, Some(hash("b1010"))).await.expect("checked");
        assert_eq!(verdicts.iter().map(|(h, _)| *h).collect::<Vec<_>>(), (989..=1_010).collect::<Vec<_>>());
        for (height, verdict) in verdicts {
            match height {
                989 | 994 => assert_eq!(verdict, Verdict::Missing),
                992 => assert!(
                    matches!(&verdict, Verdict::Other { found, wanted } if found.hash == hash("x992") && *wanted == hash("b992")),
                    "{verdict:?}"
                ),
                _ => assert_eq!(verdict, Verdict::Good(block(height).id)),
            }
        }
        let too_many = HeightRange::new(0, CHECK_HEIGHTS_MAX).expect("a range");
        assert!(store.check_range(too_many, None).await.is_err());
    }

    #[tokio::test]
    async fn a_cut_store_leaves_whole_blocks_only_and_is_completed() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let blocks: Vec<Block> = (0..200).map(block).collect();
        let first_file = async {
            let deadline = Instant::now() + Duration::from_secs(20);
            while store.heights().await.expect("listed").is_empty() {
                assert!(Instant::now() < deadline, "nothing was stored");
                tokio::task::yield_now().await;
            }
        };
        // A turn that is cut as soon as the first file stands there.
        tokio::select! {
            done = store.store(blocks.clone()) => panic!("200 blocks were stored before one was seen: {done:?}"),
            () = first_file => {}
        }
        assert!(store.store(blocks).await.expect("completed").iter().any(|s| s.found));
        let range = HeightRange::new(0, 199).expect("a range");
        let verdicts = store.check_range(range, None).await.expect("checked");
        assert!(verdicts.iter().all(|(h, v)| *v == Verdict::Good(block(*h).id)));
    }

    /// A mount of the test, gone with it however the test ends.
    struct Mounted(PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            let unmounted = Command::new("umount").arg("-l").arg(&self.0).output();
            println!("unmounted: {}", unmounted.is_ok_and(|o| o.status.success()));
        }
    }

    /// Needs the right to mount; prints a line where it is lacking.
    #[tokio::test]
    async fn a_full_disk_is_its_own_error_and_is_survived() {
        let root = tempfile::tempdir().expect("a folder");
        let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(root.path()).output();
        if !mounted.is_ok_and(|o| o.status.success()) {
            println!("skipped: this user cannot mount a small tmpfs");
            return;
        }
        let _mounted = Mounted(root.path().to_owned());
        // One writer: several would still be at work when the first of them reports that the disk is full.
        let store = BlockFiles::open(root.path(), "a", parse, 1).expect("a store");
        let big = |height: u64| {
            block_with(height, &format!("b{height}"), "p", &format!(r#","pad":"{}""#, "x".repeat(60_000)))
        };
        let outcome = store.store((0..10).map(big).collect()).await;
        fs::remove_file(paths(root.path(), &big(0)).plain).expect("space is made");
        let after = store.store(vec![block(50)]).await;
        assert!(matches!(outcome, Err(SinkError::Full { .. })), "{outcome:?}");
        assert!(after.is_ok(), "{after:?}");
        assert_eq!(count(root.path().join("tmp")), 0, "what did not fit leaves no temporary");
    }

    #[tokio::test]
    #[ignore = "measures: cargo nextest run --run-ignored only --no-capture files_a_second"]
    async fn files_a_second() {
        let pad: String = (0..2_000).map(|n| format!("{:06x}", n * 7_919 % 0xff_ffff)).collect();
        // Deleting thousands of files slows the creation of others for minutes: all go at the end.
        let mut kept = Vec::new();
        for (writers, batch, level) in
            [(4, 20, None), (32, 20, None), (32, 100, None), (32, 500, None), (32, 20, Some(3)), (32, 500, Some(3))]
        {
            let root = tempfile::tempdir().expect("a folder");
            let store = BlockFiles::open(root.path(), "a", parse, writers).expect("a store").with_zstd(level);
            let pad = format!(r#","pad":"{pad}""#);
            let blocks: Vec<Block> = (0..2_000).map(|h| block_with(h, &format!("b{h}"), "p", &pad)).collect();
            let began = Instant::now();
            for batch in blocks.chunks(batch) {
                store.store(batch.to_vec()).await.expect("stored");
            }
            let rate = 2_000.0 / began.elapsed().as_secs_f64();
            println!("{writers:>2} writers, batches of {batch}, zstd {level:?}: {rate:.0} blocks/s of 12 KB, durable");
            kept.push(root);
        }
    }
}
