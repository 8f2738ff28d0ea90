//! Tests of packed blocks: alone, torn, beside plain ones, and as bombs.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::block_files::{BLOCK_BYTES_MAX, BlockFiles};
use super::fixtures::{block, block_with, count, hash, open, paths, range};
use super::{Digest, Form, Verdict};
use crate::messages::block::Block;

fn packing(root: &Path, incarnation: &str) -> BlockFiles {
    open(root, incarnation).with_zstd(Some(3))
}

/// A block that gets smaller when it is packed.
fn wordy(height: u64) -> Block {
    block_with(height, &format!("b{height}"), &format!("b{}", height - 1), &format!(r#","pad":"{}""#, "ab".repeat(200)))
}

async fn verdict(store: &BlockFiles, height: u64) -> Verdict {
    store.check(height, None).await.expect("checked")
}

#[tokio::test]
async fn a_packed_block_is_read_as_its_raw_bytes() {
    let root = tempfile::tempdir().expect("a folder");
    let store = packing(root.path(), "a");
    let blocks: Vec<Block> = (5..=8).map(wordy).collect();
    let stored = store.store(blocks.clone()).await.expect("stored");
    for (block, stored) in blocks.iter().zip(stored) {
        let paths = paths(root.path(), block);
        let file = fs::read(&paths.packed).expect("the packed file");
        assert!(!paths.plain.exists() && file.len() < block.raw.len() / 2);
        assert_eq!(zstd::decode_all(file.as_slice()).expect("a zstd frame"), block.raw);
        assert_eq!((stored.bytes, stored.found), (block.raw.len() as u64, false));
        assert_eq!(stored.digest, Digest::of(&block.raw), "of the raw bytes");
        let read = store.read(block.id.height).await.expect("read").remove(0);
        assert_eq!((&read.raw, &read.verdict), (&block.raw, &Verdict::Good(block.id.clone())));
        let meta = read.meta.expect("a line");
        assert_eq!((meta.bytes, meta.compression), (block.raw.len() as u64, Some(Form::Zstd)));
        assert_eq!(meta.stored_bytes, Some(file.len() as u64));
    }
    assert_eq!(store.present(range(0, 100)).await.expect("listed").ranges(), [range(5, 8)]);
    assert!(store.store(blocks).await.expect("found").iter().all(|s| s.found));
    assert_eq!((count(root.path().join("tmp")), count(root.path().join("trash"))), (0, 0));
}

#[tokio::test]
async fn a_block_that_does_not_get_smaller_stays_as_it_came() {
    let root = tempfile::tempdir().expect("a folder");
    packing(root.path(), "a").store(vec![block(5)]).await.expect("stored");
    assert_eq!(fs::read(paths(root.path(), &block(5)).plain).expect("as it came"), block(5).raw);
}

#[tokio::test]
async fn a_packed_file_torn_at_any_byte_is_found_and_written_anew() {
    let root = tempfile::tempdir().expect("a folder");
    let store = packing(root.path(), "a");
    store.store(vec![wordy(5)]).await.expect("stored");
    let path = paths(root.path(), &wordy(5)).packed;
    let whole = fs::read(&path).expect("the file");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("torn");
        assert!(matches!(verdict(&store, 5).await, Verdict::Altered { .. }), "cut at {cut}");
        assert!(!store.store(vec![wordy(5)]).await.expect("written anew")[0].found, "cut at {cut}");
        assert_eq!(verdict(&store, 5).await, Verdict::Good(wordy(5).id));
    }
    assert_eq!(count(root.path().join("trash")), whole.len(), "nothing was destroyed");
    for at in 0..whole.len() {
        let mut file = whole.clone();
        file[at] ^= 1;
        fs::write(&path, &file).expect("a bit has fallen");
        // The header has bits that mean nothing to the content; every other one is found.
        match verdict(&store, 5).await {
            Verdict::Altered { .. } => {}
            good => assert_eq!(zstd::decode_all(file.as_slice()).ok().as_deref(), Some(&wordy(5).raw[..]), "{good:?}"),
        }
    }
}

#[tokio::test]
async fn a_bomb_is_altered_and_moves_to_the_trash() {
    let root = tempfile::tempdir().expect("a folder");
    let store = packing(root.path(), "a");
    store.store(vec![wordy(5)]).await.expect("stored");
    let bomb = zstd::encode_all(io::repeat(b' ').take(BLOCK_BYTES_MAX + 1), 1).expect("packed");
    assert!(bomb.len() < 1 << 20, "small, and yet too large");
    fs::write(paths(root.path(), &wordy(5)).packed, &bomb).expect("planted");
    let read = store.read(5).await.expect("read").remove(0);
    assert!(read.raw.is_empty());
    let Verdict::Altered { reason, .. } = read.verdict else { panic!("not noticed") };
    assert!(reason.contains("unpacks to more than 268435456 bytes"), "{reason}");
    assert_eq!(store.discard_bad(5, &hash("b5")).await.expect("moved").len(), 2);
    assert_eq!(verdict(&store, 5).await, Verdict::Missing);
    assert_eq!(count(root.path().join("trash")), 2);
}

#[tokio::test]
async fn a_store_may_hold_both_kinds_and_what_stands_there_stays() {
    let root = tempfile::tempdir().expect("a folder");
    let (plain, packed) = (open(root.path(), "a"), packing(root.path(), "b"));
    plain.store(vec![wordy(5), wordy(6)]).await.expect("stored");
    packed.store(vec![wordy(7), wordy(8)]).await.expect("stored");
    for store in [&plain, &packed] {
        let again = store.store((5..=8).map(wordy).collect()).await.expect("found");
        assert!(again.iter().all(|s| s.found), "storing again keeps what stands there");
        let verdicts = store.check_range(range(5, 8), None).await.expect("checked");
        assert!(verdicts.iter().all(|(h, v)| *v == Verdict::Good(wordy(*h).id)), "{verdicts:?}");
    }
    assert_eq!(count(root.path().join("blocks/0000000000")), 8, "no form was added");
    let entries = plain.list(range(0, 10)).await.expect("listed");
    let names: Vec<_> = entries.iter().map(|e| e.file.rsplit('/').next().expect("a name")).collect();
    let name = |h: u64, extension: &str| format!("{h:013}-b{h}.{extension}");
    assert_eq!(names, [name(5, "json"), name(6, "json"), name(7, "json.zst"), name(8, "json.zst")]);

    // Both kinds are found bad, and leave, by whichever node.
    fs::write(paths(root.path(), &wordy(5)).plain, b"{}").expect("damaged");
    fs::write(paths(root.path(), &wordy(7)).packed, b"{}").expect("damaged");
    assert_eq!(packed.discard_bad(5, &hash("b5")).await.expect("moved").len(), 2);
    assert_eq!(plain.discard_bad(7, &hash("b7")).await.expect("moved").len(), 2);
    assert!(plain.discard_bad(8, &hash("b8")).await.expect("left").is_empty(), "a good packed block stays");
    assert_eq!(plain.discard(8, &hash("b8"), "orphaned").await.expect("moved").len(), 2);
    assert_eq!(plain.present(range(0, 10)).await.expect("listed").ranges(), [range(6, 6)]);
}

#[tokio::test]
async fn a_block_in_both_forms_is_one_block() {
    let root = tempfile::tempdir().expect("a folder");
    let store = packing(root.path(), "a");
    store.store(vec![wordy(5)]).await.expect("stored");
    let paths = paths(root.path(), &wordy(5));
    let other = block_with(5, "b5", "b4", r#","note":"the same block in other bytes""#);
    fs::write(&paths.plain, &other.raw).expect("by a node with another setting");
    assert_eq!(verdict(&store, 5).await, Verdict::Good(wordy(5).id), "the line tells which bytes count");
    assert_eq!(store.read(5).await.expect("read").len(), 1);
    assert_eq!(store.read(5).await.expect("read")[0].raw, wordy(5).raw);
    assert!(store.several(range(0, 10)).await.expect("listed").is_empty());
    assert!(store.list(range(0, 10)).await.expect("listed")[0].file.ends_with(".json.zst"));
    assert_eq!(store.adoptable(range(0, 10)).await.expect("judged").good, [wordy(5).id]);
    assert_eq!(store.store(vec![other.clone()]).await.expect("found")[0].digest, Digest::of(&wordy(5).raw));

    fs::write(&paths.packed, b"torn").expect("the one that counts is damaged");
    assert!(matches!(verdict(&store, 5).await, Verdict::Altered { .. }), "the other one is not what the line says");
    assert_eq!(store.discard_bad(5, &hash("b5")).await.expect("moved").len(), 3);
    assert_eq!(count(root.path().join("blocks/0000000000")), 0);
    assert!(!store.store(vec![other]).await.expect("anew")[0].found);
}

#[tokio::test]
async fn writers_of_both_kinds_that_race_agree_on_one_digest() {
    let root = tempfile::tempdir().expect("a folder");
    for round in 0..10_u64 {
        let heights = round * 20 + 1..=round * 20 + 20;
        let stores = (0..8).map(|n| open(root.path(), &format!("n{n}")).with_zstd((n % 2 == 0).then_some(1)));
        let stores: Vec<BlockFiles> = stores.collect();
        let offers = stores.iter().enumerate().map(|(n, store)| {
            let extra = format!(r#","by":{n},"pad":"{}""#, "ab".repeat(100));
            store.store(heights.clone().map(|h| block_with(h, &format!("b{h}"), "p", &extra)).collect())
        });
        let answers = futures_util::future::try_join_all(offers).await.expect("all stored");
        for (at, height) in heights.enumerate() {
            let read = stores[0].read(height).await.expect("read").remove(0);
            assert!(matches!(read.verdict, Verdict::Good(_)), "{height}: {:?}", read.verdict);
            assert!(answers.iter().all(|a| a[at].digest == Digest::of(&read.raw)), "height {height}");
        }
    }
    assert_eq!((count(root.path().join("tmp")), count(root.path().join("trash"))), (0, 0));
}
