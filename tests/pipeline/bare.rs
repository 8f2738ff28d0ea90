//! Final blocks also stand under their bare heights, byte for byte as Python's `json.dump(block, indent=2)` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use gapless::simulate::chain::SimChain;

use crate::sim::{Sim, plan};
use crate::support::node::poll;
use crate::trouble::SmallDisk;
use crate::world::{CONFIRMATIONS, World, pipeline};

/// What Python writes for the blocks `0..=last`; none where there is no Python.
fn python(truth: &SimChain, last: u64) -> Option<Vec<String>> {
    let program = "import json, sys\nfor line in sys.stdin: print(json.dumps(json.dumps(json.loads(line), indent=2)))";
    let child = Command::new("python3").args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        println!("python3 is not here: only the values are compared");
        return None;
    };
    let lines: Vec<u8> = (0..=last).flat_map(|h| [&truth.truth(h).raw[..], b"\n"].concat()).collect();
    let mut input = child.stdin.take().expect("its input");
    let writer = std::thread::spawn(move || input.write_all(&lines));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("no panic").expect("written");
    let text = String::from_utf8(output.stdout).expect("text");
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a text")).collect())
}

/// The files of the view by their names; temporaries and marker are elsewhere.
fn view(folder: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let files = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    files.map(|path| (name(&path), fs::read_to_string(&path).expect("a whole file"))).collect()
}

/// Waits until the heights `0..=last` stand there, and judges every file.
#[track_caller]
fn assert_view(folder: &Path, suffix: &str, truth: &SimChain, last: u64) {
    let all = usize::try_from(last).expect("a count") + 1;
    poll(&format!("{all} names"), || (view(folder).len() >= all).then_some(()));
    let files = view(folder);
    assert_eq!(files.len(), all, "names that nobody asked for: {:?}", files.keys());
    let python = python(truth, last);
    for height in 0..=last {
        let text = files.get(&format!("{height}{suffix}")).unwrap_or_else(|| panic!("no name for {height}"));
        if let Some(python) = &python {
            assert!(*text == python[usize::try_from(height).expect("an index")], "height {height}: {text}");
        }
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let raw: serde_json::Value = serde_json::from_slice(&truth.truth(height).raw).expect("JSON");
        assert_eq!(value, raw, "height {height}");
    }
}

#[test]
fn final_blocks_stand_under_their_bare_heights_also_after_kills() {
    let sim = Sim::start(plan(31, 40));
    let keys = |suffix: &str| format!("bare_names = \"bare\"\nbare_suffix = \"{suffix}\"");
    let world = World::new(&pipeline("main", &[&sim.url], "0", &keys("")));
    let folder = world.space.path().join("bare");
    let mut node = world.space.started("one", &[]);
    assert_view(&folder, "", &sim.truth, 40 - CONFIRMATIONS);
    node.kill();
    // A death that leaves a torn temporary and, from a copy by hand, a wrong file of a height that is not done yet.
    fs::write(folder.join(".gapless/old-1.tmp"), "{").expect("torn");
    fs::write(folder.join("35"), "{").expect("wrong");
    sim.control.advance(20);
    let mut node = world.space.started("two", &[]);
    assert_view(&folder, "", &sim.truth, 60 - CONFIRMATIONS);
    poll("the wrong one to be replaced", || (view(&folder)["35"].len() > 1).then_some(()));
    assert_view(&folder, "", &sim.truth, 60 - CONFIRMATIONS);
    node.kill();
    // An emptied folder is another view, and so are other names.
    fs::remove_dir_all(&folder).expect("removed");
    world.configure(&pipeline("main", &[&sim.url], "0", &keys(".json")));
    let mut node = world.space.started("three", &[]);
    assert_view(&folder, ".json", &sim.truth, 60 - CONFIRMATIONS);
    assert!(node.lives());
    node.kill();
}

#[test]
fn names_wait_while_their_disk_is_full_and_nothing_else_does() {
    let sim = Sim::start(plan(32, 60));
    let world = World::new(&pipeline("main", &[&sim.url], "0", "bare_names = \"bare\""));
    let folder = world.space.path().join("bare");
    let Some(disk) = SmallDisk::mount(&folder, "2m") else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![b'7'; 1_900_000]).expect("ballast");
    let mut node = world.space.started("one", &[]);
    let line = node.wait_for("no space left to ");
    assert!(line.contains("blocks.main/namer"), "{line}");
    world.wait_held("main", &[(0, 60)]);
    // What stands there is whole.
    for (name, text) in view(&folder).iter().filter(|(name, _)| *name != "ballast") {
        let raw: serde_json::Value =
            serde_json::from_slice(&sim.truth.truth(name.parse().expect("a height")).raw).expect("JSON");
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).expect("whole"), raw, "{name}");
    }
    fs::remove_file(&ballast).expect("removed");
    assert_view(&folder, "", &sim.truth, 60 - CONFIRMATIONS);
    assert!(node.lives());
    node.kill();
}
