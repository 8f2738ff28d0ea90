//! `gapless blocks scan`: gaps from names alone, of a store's folder, of bare heights, and of folders full of nonsense.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use super::names;
use super::support::node::Workspace;

/// What `blocks scan` says.
const SCAN: [&str; 15] = [
    "count",
    "doubled",
    "doubled_ranges",
    "files",
    "folder",
    "gaps",
    "highest",
    "lowest",
    "metas",
    "missing",
    "more",
    "outside",
    "range",
    "strange",
    "strange_names",
];

fn touch(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).expect("a folder");
    names.iter().for_each(|name| fs::write(folder.join(name), "").expect("a file"));
}

/// A folder without configuration, in which nothing answers.
fn place() -> Workspace {
    // A broken configuration must not matter either.
    Workspace::new("[redis]\nurl = 7\n")
}

#[test]
fn bare_heights_and_the_store_s_own_names_are_told_with_their_gaps() {
    let space = place();
    let store = space.path().join("store");
    touch(&store, &["gapless-store.json", "7", "0012.json", "13.json.zst"]);
    touch(&store.join("blocks/0000000000"), &["0000000000003-0xab.json", "0000000000003-0xab.meta"]);
    touch(&store.join("blocks/0000000001"), &["0000000001000-0xcd.json.zst"]);
    // What waits in the trash of a store is no block of it.
    touch(&store.join("trash"), &["5"]);
    touch(&store.join("tmp"), &["a-0.tmp"]);
    let done = space.run(&["blocks", "scan", "store", "--json"]);
    assert_eq!((done.code, done.err.as_str(), names(&done.json())), (1, "", SCAN.to_vec()));
    let gap = |lo: u64, hi: u64| json!({"range": [lo, hi], "count": hi - lo + 1});
    let report = done.json();
    assert_eq!((&report["lowest"], &report["highest"], &report["range"]), (&json!(3), &json!(1000), &json!([3, 1000])));
    assert_eq!((&report["count"], &report["files"], &report["metas"]), (&json!(5), &json!(5), &json!(1)));
    assert_eq!(report["gaps"], json!([gap(4, 6), gap(8, 11), gap(14, 999)]));
    assert_eq!((&report["missing"], &report["strange"], &report["doubled"]), (&json!(993), &json!(0), &json!(0)));
    let text = space.run(&["blocks", "scan", "store", "--limit", "2"]);
    assert_eq!(
        (text.code, text.out.as_str()),
        (
            1,
            "                    4..6            3 missing\n\
             \x20                  8..11            4 missing\n\
             ... and 1 more range (--limit)\n\
             998 heights, 3..1000: 5 there, 993 missing in 3 gaps\n"
        )
    );
    assert_eq!(text.err, "");
}

#[test]
fn bounds_tell_the_gaps_at_the_ends() {
    let space = place();
    touch(&space.path().join("d"), &["5", "6", "7"]);
    let whole = space.run(&["blocks", "scan", "d"]);
    assert_eq!((whole.code, whole.out.as_str()), (0, "3 heights, 5..7: 3 there, no gaps\n"));
    let wide = space.run(&["blocks", "scan", "d", "--from", "0", "--to", "9", "--json"]);
    let ranges = |report: &Value| {
        report["gaps"].as_array().expect("gaps").iter().map(|gap| gap["range"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((wide.code, ranges(&wide.json())), (1, vec![json!([0, 4]), json!([8, 9])]));
    let narrow = space.run(&["blocks", "scan", "d", "--from", "6"]);
    assert_eq!(
        (narrow.code, narrow.out.as_str()),
        (0, "1 height outside of the bounds\n2 heights, 6..7: 2 there, no gaps\n")
    );
    let beyond = space.run(&["blocks", "scan", "d", "--from", "8"]);
    assert_eq!(
        (beyond.code, beyond.out.as_str()),
        (1, "3 heights outside of the bounds\nno block within the bounds in d\n")
    );
    space.run(&["blocks", "scan", "d", "--from", "9", "--to", "3"]).failed(2, "gapless: --from 9 lies above --to 3\n");
    let negative = space.run(&["blocks", "scan", "d", "--from", "-1"]);
    assert!(negative.code == 2 && negative.err.contains("`-1` is no height"), "{negative:?}");
    space
        .run(&["blocks", "scan", "nowhere"])
        .failed(2, "gapless: cannot list nowhere: No such file or directory (os error 2)\n");
    space.run(&["blocks", "scan", "d/5"]).failed(2, "gapless: cannot list d/5: Not a directory (os error 20)\n");
    fs::create_dir(space.path().join("empty")).expect("a folder");
    let empty = space.run(&["blocks", "scan", "empty"]);
    assert_eq!((empty.code, empty.out.as_str()), (1, "no block in empty\n"));
    let whole = space.run(&["blocks", "scan", "empty", "--from", "3", "--to", "4", "--json"]).json();
    assert_eq!((&whole["lowest"], ranges(&whole)), (&Value::Null, vec![json!([3, 4])]));
}

#[test]
fn hostile_and_doubled_names_are_counted_and_nothing_panics() {
    let space = place();
    let folder = space.path().join("d");
    touch(
        &folder,
        &["1", "1.json", "0001-0xab.json", "2", "-3", "3.txt", "99999999999999999999", "4-..json", "5.json.bak"],
    );
    touch(&folder.join("1234"), &["3", "9007199254740992"]);
    fs::write(folder.join(OsStr::from_bytes(b"6\xff\x1b[2J")), "").expect("a file");
    std::os::unix::fs::symlink(&folder, folder.join("loop")).expect("a link");
    std::os::unix::fs::symlink(folder.join("2"), folder.join("4")).expect("a link");
    std::os::unix::fs::symlink("gone", folder.join("8")).expect("a link");
    let done = space.run(&["blocks", "scan", "d", "--json"]);
    let report = done.json();
    assert_eq!((done.code, &report["gaps"]), (0, &json!([])), "{report}");
    assert_eq!((&report["range"], &report["count"], &report["files"]), (&json!([1, 4]), &json!(4), &json!(6)));
    assert_eq!((&report["doubled"], &report["doubled_ranges"]), (&json!(1), &json!([[1, 1]])));
    // -3, 3.txt, the two numbers that are too large, 4-..json, 5.json.bak, the bytes, the loop and the broken link.
    assert_eq!(report["strange"], json!(9));
    assert_eq!(report["strange_names"].as_array().map(Vec::len), Some(5));
    let text = space.run(&["blocks", "scan", "d"]);
    assert!(text.out.starts_with("1 height has several files: 1\n9 names are no blocks:\n  "), "{text:?}");
    assert!(text.out.ends_with("  ...\n4 heights, 1..4: 4 there, no gaps\n"), "{text:?}");
    assert!(!text.out.contains('\u{1b}'), "{text:?}");
}

/// Names come in the order of the folder's hash: more of them than one batch, every third one missing.
#[test]
fn a_large_folder_is_told_right() {
    let space = place();
    let folder = space.path().join("d");
    fs::create_dir(&folder).expect("a folder");
    let present = |height: &u64| height % 3 != 1;
    (0..100_000_u64).filter(present).for_each(|height| {
        fs::File::create(folder.join(height.to_string())).expect("a file");
    });
    let done = space.run(&["blocks", "scan", "d", "--json", "--limit", "1"]);
    let report = done.json();
    let count = (0..100_000_u64).filter(present).count();
    assert_eq!((done.code, &report["count"], &report["missing"]), (1, &json!(count), &json!(100_000 - count)));
    assert_eq!((&report["gaps"], &report["more"]), (&json!([{"range": [1, 1], "count": 1}]), &json!(33_332)));
}
