//! What stands in a range: heights by names alone, lines about blocks, heights with several, blocks to adopt.
//!
//! Everything here lists each folder of a range once, and is bounded in heights a call. None of it changes anything.

use std::path::Path;

use crate::messages::block::{BlockHash, BlockRef};
use crate::messages::heights::{Height, HeightRange, HeightSet};

use super::SinkError;
use super::block_check::{Judge, Verdict, hashes_at};
use super::block_files::{BlockFiles, CHECK_HEIGHTS_MAX};
use super::block_form::Form;
use super::block_meta::{BlockMeta, META_BYTES_MAX};
use super::block_names::{BlockPaths, Listing, folder_of, folder_range, list};
use super::durable::Opened;

/// How many heights one [`BlockFiles::present`] or [`BlockFiles::several`] takes: a hundred folders, which take a
/// second or so to list when they are full.
pub const PRESENT_HEIGHTS_MAX: u64 = 100_000;

/// How many heights one [`BlockFiles::list`] takes.
pub const LIST_HEIGHTS_MAX: u64 = 10_000;

/// A block file as a listing shows it: by its name and the line beside it; its bytes were not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    /// The height in its name.
    pub height: Height,
    /// The hash in its name.
    pub hash: BlockHash,
    /// Its file, from the store's folder: `blocks/0000000000/0000000000005-0xab.json`, or with `.zst` where it is packed.
    pub file: String,
    /// The line beside it; else why there is none that counts.
    pub meta: Result<BlockMeta, String>,
    /// Whether its height has more than one block.
    pub several: bool,
}

/// A file that stands there and is not what was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlteredBlock {
    /// The height in its name.
    pub height: Height,
    /// The hash in its name.
    pub hash: BlockHash,
    /// What is wrong with it.
    pub reason: String,
}

/// What of a range could be held without being fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoptable {
    /// The blocks of heights with exactly one good one, ascending. Their bytes have the digest beside them and are the
    /// block that the name says; whether they link is for the caller to see.
    pub good: Vec<BlockRef>,
    /// Heights with more than one good block, ascending: only the links around them tell which one belongs to the chain.
    pub several: Vec<(Height, Vec<BlockRef>)>,
    /// Files that are not what was stored, ascending. [`BlockFiles::discard_bad`] moves them away.
    pub altered: Vec<AlteredBlock>,
}

impl BlockFiles {
    /// The heights of a range (at most [`PRESENT_HEIGHTS_MAX`]) that have a block and its meta, by file names alone.
    /// Costs one listing a folder of 1,000 heights, and opens no file.
    pub async fn present(&self, range: HeightRange) -> Result<HeightSet, SinkError> {
        self.bounded(range, PRESENT_HEIGHTS_MAX)?;
        self.look(move |room| {
            let mut runs: Vec<HeightRange> = Vec::new();
            each_folder(&room.blocks, range, |part, listing| {
                let whole = listing.range(part.lo()..=part.hi()).filter(|(_, h)| h.values().any(|p| p.block && p.meta));
                for (height, _) in whole {
                    match runs.last_mut() {
                        Some(run) if run.hi() + 1 == *height => *run = run.up_to(*height),
                        _ => runs.push(HeightRange::one(*height)),
                    }
                }
                Ok(())
            })?;
            Ok(HeightSet::from(runs))
        })
        .await
    }

    /// Reads and judges the files of a range (at most [`CHECK_HEIGHTS_MAX`] heights): what could be held as it stands
    /// there. O(files of the range), besides one listing a folder. A block without its digest is in none of the lists: it
    /// was never reported as durable, and storing it again completes it.
    pub async fn adoptable(&self, range: HeightRange) -> Result<Adoptable, SinkError> {
        self.bounded(range, CHECK_HEIGHTS_MAX)?;
        self.look(move |room| {
            let mut found = Adoptable::default();
            each_folder(&room.blocks, range, |part, listing| {
                listing
                    .range(part.lo()..=part.hi())
                    .try_for_each(|(height, _)| adopt(room.judge(), *height, &hashes_at(listing, *height), &mut found))
            })?;
            Ok(found)
        })
        .await
    }

    /// The block files of a range (at most [`LIST_HEIGHTS_MAX`] heights) with the lines beside them, ascending. Reads the
    /// lines, no block.
    pub async fn list(&self, range: HeightRange) -> Result<Vec<BlockEntry>, SinkError> {
        self.bounded(range, LIST_HEIGHTS_MAX)?;
        self.look(move |room| {
            let mut entries = Vec::new();
            each_folder(&room.blocks, range, |part, listing| {
                listing.range(part.lo()..=part.hi()).try_for_each(|(height, _)| {
                    entries.extend(entries_at(&room.blocks, *height, &hashes_at(listing, *height))?);
                    Ok(())
                })
            })?;
            Ok(entries)
        })
        .await
    }

    /// The heights of a range (at most [`PRESENT_HEIGHTS_MAX`]) with more than one block, ascending, each with its blocks:
    /// a reorganisation was here. Which one belongs to the chain is told by the links ([`BlockFiles::wanted_at`]). Reads
    /// the lines of those blocks only.
    pub async fn several(&self, range: HeightRange) -> Result<Vec<(Height, Vec<BlockEntry>)>, SinkError> {
        self.bounded(range, PRESENT_HEIGHTS_MAX)?;
        self.look(move |room| {
            let mut several = Vec::new();
            each_folder(&room.blocks, range, |part, listing| {
                for (height, _) in listing.range(part.lo()..=part.hi()) {
                    let hashes = hashes_at(listing, *height);
                    if hashes.len() > 1 {
                        several.push((*height, entries_at(&room.blocks, *height, &hashes)?));
                    }
                }
                Ok(())
            })?;
            Ok(several)
        })
        .await
    }
}

/// Lists each folder of a range once, lowest first.
fn each_folder(
    blocks: &Path,
    range: HeightRange,
    mut work: impl FnMut(HeightRange, &Listing) -> Result<(), SinkError>,
) -> Result<(), SinkError> {
    for folder in folder_of(range.lo())..=folder_of(range.hi()) {
        if let Some(part) = folder_range(folder).and_then(|heights| heights.intersect(range)) {
            work(part, &list(blocks, folder)?)?;
        }
    }
    Ok(())
}

/// Sorts the blocks of one height into what can be adopted and what cannot.
fn adopt(judge: Judge<'_>, height: Height, hashes: &[&BlockHash], found: &mut Adoptable) -> Result<(), SinkError> {
    let mut good = Vec::new();
    for hash in hashes {
        match judge.file(height, hash)?.map(|(block, _)| block.verdict) {
            Some(Verdict::Good(id)) => good.push(id),
            Some(Verdict::Altered { hash, reason }) => found.altered.push(AlteredBlock { height, hash, reason }),
            // One file is judged here: the verdicts on whole heights do not occur.
            Some(Verdict::NoDigest(_) | Verdict::Missing | Verdict::Other { .. } | Verdict::Several(_)) | None => {}
        }
    }
    if good.len() > 1 {
        found.several.push((height, good));
    } else {
        found.good.extend(good);
    }
    Ok(())
}

/// The block files of one height, with the lines beside them.
fn entries_at(blocks: &Path, height: Height, hashes: &[&BlockHash]) -> Result<Vec<BlockEntry>, SinkError> {
    let entry = |hash: &BlockHash| {
        let paths = BlockPaths::new(blocks, height, hash)?;
        let line = Opened::read(&paths.meta, META_BYTES_MAX)?.map(|line| line.bytes);
        let meta = match line {
            Some(line) => line.and_then(|line| BlockMeta::parse(&line)).and_then(|meta| meta.speaks_of(height, hash)),
            None => {
                Err("no meta file stands beside it: its store was cut; storing the block again completes it".into())
            }
        };
        // The form that the line names, if it stands there; else the one that does.
        let named = meta.as_ref().ok().and_then(|meta: &BlockMeta| meta.compression);
        let mut forms = named.into_iter().chain(Form::ALL);
        let file = paths.of(forms.find(|form| paths.of(*form).is_file()).unwrap_or(Form::Plain));
        let file = file.strip_prefix(blocks.parent().unwrap_or(blocks)).unwrap_or(file);
        let (hash, file) = (hash.clone(), file.display().to_string());
        Ok(BlockEntry { height, hash, file, meta, several: hashes.len() > 1 })
    };
    hashes.iter().map(|hash| entry(hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{block, block_with, hash, open, paths, range};
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn what_is_present_is_told_by_names_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let held = [(995, 1_005), (1_007, 1_007), (3_000, 3_002)];
        let blocks = held.iter().flat_map(|(lo, hi)| (*lo..=*hi).map(block)).collect();
        store.store(blocks).await.expect("stored");
        // Altered bytes do not matter here; a block without its meta is not present, a meta without its block neither.
        fs::write(paths(root.path(), &block(1_000)).plain, b"altered").expect("altered");
        fs::remove_file(paths(root.path(), &block(1_001)).meta).expect("removed");
        fs::remove_file(paths(root.path(), &block(1_002)).plain).expect("removed");
        fs::write(root.path().join("blocks/0000000001/notes.txt"), b"mine").expect("written");
        let present = store.present(range(997, 3_001)).await.expect("listed");
        let expected = [range(997, 1_000), range(1_003, 1_005), range(1_007, 1_007), range(3_000, 3_001)];
        assert_eq!(present.ranges(), expected);
        assert!(store.present(range(50_000, 60_000)).await.expect("no folders").is_empty());
        let refused = store.present(range(0, PRESENT_HEIGHTS_MAX)).await.expect_err("too many");
        assert!(refused.to_string().contains("100000 heights"), "{refused}");
    }

    #[tokio::test]
    async fn only_good_single_blocks_are_adoptable_and_bad_ones_are_named() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let mut blocks: Vec<_> = (998..=1_008).map(block).collect();
        blocks.push(block_with(1_003, "orphan", "b1002", ""));
        blocks.push(block_with(1_005, "torn", "b1004", ""));
        store.store(blocks).await.expect("stored");
        let path = |height, own: &str| paths(root.path(), &block_with(height, own, "p", ""));
        fs::write(path(999, "b999").plain, b"{").expect("torn");
        fs::write(path(1_001, "b1001").plain, &block_with(1_001, "b1001", "b1000", r#","forged":1"#).raw)
            .expect("forged");
        fs::remove_file(path(1_002, "b1002").meta).expect("a store that was cut");
        fs::write(path(1_004, "b1004").plain, &block(1_007).raw).expect("another block");
        fs::write(path(1_005, "torn").plain, b"").expect("torn");
        let found = store.adoptable(range(998, 1_007)).await.expect("judged");
        let good: Vec<_> = [998, 1_000, 1_005, 1_006, 1_007].into_iter().map(|h| block(h).id).collect();
        assert_eq!(found.good, good);
        let orphan = block_with(1_003, "orphan", "b1002", "").id;
        assert_eq!(found.several, [(1_003, vec![block(1_003).id, orphan])]);
        let altered: Vec<_> = found.altered.iter().map(|a| (a.height, a.hash.as_str())).collect();
        assert_eq!(altered, [(999, "b999"), (1_001, "b1001"), (1_004, "b1004"), (1_005, "torn")]);
        for (altered, word) in found.altered.iter().zip(["no block", "digest", "block 1007", "no block"]) {
            assert!(altered.reason.contains(word), "{altered:?}");
        }
        assert!(store.adoptable(range(0, CHECK_HEIGHTS_MAX)).await.is_err());
    }

    #[tokio::test]
    async fn a_listing_shows_lines_and_says_which_are_several() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(root.path(), "a");
        let orphan = block_with(5, "c5", "b4", "");
        store.store(vec![block(4), block(5), orphan.clone(), block(6), block(1_000)]).await.expect("stored");
        fs::remove_file(paths(root.path(), &block(6)).meta).expect("a store that was cut");
        fs::copy(paths(root.path(), &block(5)).meta, paths(root.path(), &block(4)).meta).expect("a line of another");
        let entries = store.list(range(0, 1_500)).await.expect("listed");
        let shown: Vec<_> = entries.iter().map(|e| (e.height, e.hash.as_str(), e.several, e.meta.is_ok())).collect();
        let expected = [
            (4, "b4", false, false),
            (5, "b5", true, true),
            (5, "c5", true, true),
            (6, "b6", false, false),
            (1_000, "b1000", false, true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(entries[4].file, "blocks/0000000001/0000000001000-b1000.json");
        assert_eq!(fs::read(root.path().join(&entries[2].file)).expect("there"), orphan.raw);
        let bytes = |n: usize| entries[n].meta.as_ref().expect("a line").bytes;
        assert_eq!(bytes(1), block(5).raw.len() as u64);
        assert!(entries[0].meta.as_ref().expect_err("another's").contains("block 5 b5"), "{:?}", entries[0]);
        assert!(entries[3].meta.as_ref().expect_err("none").contains("no meta"), "{:?}", entries[3]);
        assert!(store.list(range(0, LIST_HEIGHTS_MAX)).await.is_err());

        let several = store.several(range(0, 1_500)).await.expect("listed");
        assert_eq!(several, [(5, entries[1..=2].to_vec())]);
        assert!(store.several(range(0, 4)).await.expect("listed").is_empty());
        assert_eq!(store.check(5, Some(&hash("c5"))).await.expect("checked"), Verdict::Good(orphan.id));
    }
}
