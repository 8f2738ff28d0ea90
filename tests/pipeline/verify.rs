//! `blocks verify` names every kind of damage with its class, the running node repairs it, and nothing else is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gapless::simulate::chain::{SimBlock, SimChain};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::oracle::{self, Stored};
use crate::sim::{Sim, plan};
use crate::support::node::{Done, poll};
use crate::world::{World, pipeline};

const HEAD: u64 = 150;

#[test]
fn damage_is_named_repaired_and_verified() {
    let sim = Sim::start(plan(12, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, HEAD)]);
    assert_eq!(world.space.run(&["blocks", "verify"]).code, 0);
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);

    let damaged = damage(&world, &sim.truth);
    let before = (tree(&world.store("main")), oracle::held(&world.redis, "main"));
    let report = world.space.run(&["blocks", "verify", "--no-repair", "--json"]);
    assert_eq!(classes(&report), damaged);
    assert_eq!((report.code, &report.json()["sent_to_repair"]), (1, &json!(0)));
    let after = (tree(&world.store("main")), oracle::held(&world.redis, "main"));
    assert!(before == after, "--no-repair changed something");
    get_tells_the_truth(&world, &sim.truth);

    let text = world.space.run(&["blocks", "verify"]);
    assert_eq!(text.code, 1, "{text:?}");
    for (height, class) in &damaged {
        let named = text.out.lines().any(|line| line.trim_start().starts_with(&format!("{height}  {class}")));
        assert!(named, "{height} {class} is not named in {}", text.out);
    }
    assert!(
        text.out.contains(&format!("{} of {} heights, 0..{HEAD}, are not as", damaged.len(), HEAD + 1)),
        "{text:?}"
    );

    let mut node = world.space.started("one", &[]);
    poll("the damage to be repaired", || {
        (world.space.run(&["blocks", "verify", "--no-repair"]).code == 0).then_some(())
    });
    whole_again(&world, &sim.truth);
    in_the_trash(&world.store("main"), &[40, 60, 100, 101, 146]);
    assert!(node.lives());
    // Beyond finality and back: the repaired window still follows.
    sim.control.advance(25);
    world.wait_held("main", &[(0, HEAD + 25)]);
    ranges(&world, &sim.truth);
    node.kill();
    the_trash_is_emptied(&world);
}

/// Damages the store and the index, and answers what must be found.
fn damage(world: &World, truth: &SimChain) -> BTreeMap<u64, &'static str> {
    let files = oracle::files(&world.store("main"));
    let path = |height: u64| files[&height][0].path.clone();
    let remove = |height: u64| {
        fs::remove_file(path(height)).expect("a file");
        fs::remove_file(path(height).with_extension("meta")).expect("its line");
    };
    let rewrite = |height: u64, change: fn(&mut Vec<u8>)| {
        let mut raw = fs::read(path(height)).expect("a file");
        change(&mut raw);
        fs::write(path(height), raw).expect("a file");
    };
    // Heights from 141 on lie above finality.
    [20, 21, 145].into_iter().for_each(remove);
    rewrite(40, |raw| {
        let place = raw.windows(7).position(|w| w == b"\"nonce\"").expect("a nonce") + 10;
        raw[place] ^= 1;
    });
    rewrite(60, |raw| raw.truncate(1_000));
    rewrite(146, |raw| raw.truncate(0));
    fs::remove_file(path(80).with_extension("meta")).expect("its line");
    let (one, two) = (fs::read(path(100)).expect("a file"), fs::read(path(101)).expect("a file"));
    fs::write(path(100), two).expect("a file");
    fs::write(path(101), one).expect("a file");
    // Only the block of another branch stands there, whole in itself.
    remove(120);
    plant(&world.store("main"), &truth.block(120, 1));
    // Two good blocks, and the one above that would tell which belongs is gone.
    plant(&world.store("main"), &truth.block(130, 1));
    remove(131);
    // The index names another block at the head than the one that is stored.
    let key = oracle::key("main", "held");
    let held = oracle::held(&world.redis, "main").remove(0);
    world.redis.command(&["DEL", &key]);
    let wrong = truth.block(HEAD, 7).hash;
    world.redis.command(&["ZADD", &key, "0", &format!("0 {HEAD} {} {wrong}", held.parent)]);
    BTreeMap::from([
        (20, "missing"),
        (21, "missing"),
        (40, "altered"),
        (60, "altered"),
        (80, "no digest"),
        (100, "altered"),
        (101, "altered"),
        (120, "wrong link"),
        (130, "doubled"),
        (131, "missing"),
        (145, "missing"),
        (146, "altered"),
        (HEAD, "wrong link"),
    ])
}

/// Puts a block and its line where a store would.
pub fn plant(store: &Path, block: &SimBlock) {
    let folder = store.join(format!("blocks/{:010}", block.height / 1000));
    let path = folder.join(format!("{:013}-{}.json", block.height, block.hash));
    let line = json!({
        "height": block.height, "hash": block.hash, "parent": block.parent, "time": block.time,
        "bytes": block.raw.len(), "blake3": blake3::hash(&block.raw).to_string(), "stored_at": "2026-01-01T00:00:00Z",
    });
    fs::write(path.with_extension("meta"), line.to_string()).expect("a line");
    fs::write(path, &block.raw).expect("a file");
}

fn classes(report: &Done) -> BTreeMap<u64, &'static str> {
    let known = ["missing", "altered", "no digest", "wrong link", "doubled", "parked"];
    let found = report.json()["found"].as_array().cloned().unwrap_or_default();
    let class = |fault: &Value| {
        let class = fault["class"].as_str().expect("a class");
        let class = known.into_iter().find(|known| *known == class);
        assert_eq!(fault["range"][0], fault["range"][1]);
        (fault["range"][0].as_u64().expect("a height"), class.expect("a known class"))
    };
    found.iter().map(class).collect()
}

/// `get` answers the block, or says what is wrong with it.
fn get_tells_the_truth(world: &World, truth: &SimChain) {
    let get = |args: &[&str]| world.space.run(&[&["blocks", "get"], args].concat());
    let whole = get(&["30"]);
    assert_eq!((whole.code, whole.out.trim_end().as_bytes()), (0, truth.truth(30).raw.as_ref()), "{}", whole.err);
    let meta = get(&["30", "--meta"]).json();
    assert_eq!((&meta["height"], &meta["hash"]), (&json!(30), &json!(truth.truth(30).hash)));
    assert_eq!(meta["bytes"], json!(truth.truth(30).raw.len()));
    get(&["20"]).failed(1, "gapless: height 20 is held, but its file is gone; run: gapless blocks verify 20\n");
    get(&["999"]).failed(1, &format!("gapless: height 999 lies above the head, {HEAD}\n"));
    let altered = get(&["60"]);
    assert_eq!((altered.code, altered.out.as_str()), (1, ""));
    assert!(altered.err.contains("the file of height 60 is not what was stored: "), "{altered:?}");
}

/// Every block of the chain is there; only the planted orphans stay beside theirs, and are shown.
fn whole_again(world: &World, truth: &SimChain) {
    let mut files = oracle::files(&world.store("main"));
    for height in [120, 130] {
        let orphan = files.get_mut(&height).expect("files");
        assert_eq!(orphan.len(), 2, "{:?}", orphan.iter().map(|s| &s.path).collect::<Vec<_>>());
        orphan.retain(|stored| stored.hash == truth.truth(height).hash.as_str());
    }
    let orphans = world.space.run(&["blocks", "orphans", "--json"]).json();
    let of = |height: u64| json!({"height": height, "hash": truth.block(height, 1).hash, "canonical": truth.truth(height).hash});
    assert_eq!(orphans, json!({"range": [0, HEAD], "orphans": [of(120), of(130)], "more": 0}));
    for height in 0..=HEAD {
        let is = |stored: &Stored| stored.raw == truth.truth(height).raw && stored.meta.is_some();
        assert!(files[&height].len() == 1 && is(&files[&height][0]), "height {height}");
    }
    let held = oracle::held(&world.redis, "main");
    assert_eq!((held.len(), held[0].hash.as_str()), (1, truth.truth(HEAD).hash.as_str()));
}

fn in_the_trash(store: &Path, heights: &[u64]) {
    let names: Vec<String> = fs::read_dir(store.join("trash"))
        .expect("the trash")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    for height in heights {
        let stem = format!("-{height:013}-0x");
        let kept = |end: &str| names.iter().filter(|name| name.contains(&stem) && name.ends_with(end)).count();
        assert!(kept(".json") == 1 && kept(".meta") == 1, "height {height} in {names:?}");
    }
    assert_eq!(names.len(), 2 * heights.len(), "{names:?}");
}

/// With a horizon of nothing, what is in the trash goes; by default it stays for ten minutes.
fn the_trash_is_emptied(world: &World) {
    let path = world.space.path().join("gapless.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let node = world.space.started("two", &[]);
    node.wait_for("blocks.main/gap_detector");
    assert!(fs::read_dir(world.store("main").join("trash")).expect("the trash").count() > 0);
    drop(node);
    fs::write(&path, text.replace("[node]", "[node]\nrollback_horizon_seconds = 0")).expect("a configuration");
    let _node = world.space.started("three", &[]);
    poll("the trash to be emptied", || {
        (fs::read_dir(world.store("main").join("trash")).expect("the trash").count() == 0).then_some(())
    });
}

/// Ranges that cannot be verified are refused with the reason.
fn ranges(world: &World, truth: &SimChain) {
    let outside = world.space.run(&["blocks", "verify", "900..950"]);
    let head = HEAD + 25;
    outside
        .failed(2, &format!("gapless: 900..950 lies outside of what is wanted, 0..{head} (the head committed now)\n"));
    let backwards = world.space.run(&["blocks", "verify", "9..3"]);
    assert_eq!(backwards.code, 2, "{backwards:?}");
    assert!(backwards.err.contains("the range 9..3 runs backwards; write LOWEST..HIGHEST"), "{backwards:?}");
    let part = world.space.run(&["blocks", "verify", "110..130", "--json"]);
    assert_eq!((part.code, &part.json()["range"], &part.json()["judged"]), (0, &json!([110, 130]), &json!(21)));
    // Two orphans in a row: only the block above both tells which ones belong.
    plant(&world.store("main"), &truth.block(119, 1));
    for height in ["119", "120", "118..119"] {
        let verified = world.space.run(&["blocks", "verify", height]);
        assert_eq!(verified.code, 0, "{height}: {verified:?}");
    }
    let block = world.space.run(&["blocks", "get", "119"]);
    assert_eq!(block.out.trim_end().as_bytes(), truth.truth(119).raw.as_ref());
}

/// Every file with its bytes.
fn tree(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    all
}
