//! The world fails for a while: endpoints down, the disk full. Nothing exits, nothing is lost, work goes on.

use std::fs;
use std::process::Command;

use crate::oracle::{self, assert_whole};
use crate::sim::{Sim, plan};
use crate::support::node::poll;
use crate::world::{World, pipeline};

#[test]
fn an_outage_of_every_endpoint_is_waited_out() {
    let (one, two) = (Sim::start(plan(8, 60)), Sim::start(plan(8, 60)));
    let world = World::new(&pipeline("main", &[&one.url, &two.url], "0", ""));
    one.control.set_outage(true);
    two.control.set_outage(true);
    let mut node = world.space.started("one", &[]);
    let line = node.wait_for("waiting");
    assert!(line.contains("blocks.main/collector") && line.contains("out of reach"), "{line}");
    two.control.set_outage(false);
    // One of them is enough.
    world.wait_held("main", &[(0, 60)]);
    two.control.set_outage(true);
    let asked = two.control.requests();
    poll("some vain questions", || (two.control.requests() > asked + 3).then_some(()));
    assert!(node.lives());
    for sim in [&one, &two] {
        sim.control.advance(5);
        sim.control.set_outage(false);
    }
    world.wait_held("main", &[(0, 65)]);
    assert_whole(&world.redis, "main", &world.store("main"), &one.truth, 0, 65);
    assert!(node.lives());
}

/// A small file system of its own; unmounted at drop.
pub struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    /// None where this user may not mount.
    pub fn mount(path: &std::path::Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Self { path: path.to_owned() })
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

#[test]
fn a_full_disk_is_waited_out() {
    let sim = Sim::start(plan(9, 100));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    let Some(disk) = SmallDisk::mount(&world.store("main"), "3m") else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    let ballast = disk.path.join("ballast");
    fs::write(&ballast, vec![7; 2_700_000]).expect("ballast");
    let mut node = world.space.started("one", &[]);
    let line = node.wait_for("no space left to ");
    assert!(line.contains("free space or raise the quota"), "{line}");
    // Whatever is held by now is whole: a height never counts before its file is durable.
    let held = oracle::held(&world.redis, "main");
    let files = oracle::files(&disk.path);
    for height in held.iter().flat_map(|held| held.lo..=held.hi) {
        assert_eq!(files[&height].len(), 1);
        assert!(files[&height][0].raw == sim.truth.truth(height).raw, "height {height}");
    }
    assert!(held.iter().map(|held| held.hi + 1 - held.lo).sum::<u64>() < 101, "the disk is not full: {held:?}");
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    assert!(node.lives());
    fs::remove_file(&ballast).expect("the ballast");
    world.wait_held("main", &[(0, 100)]);
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    assert_whole(&world.redis, "main", &disk.path, &sim.truth, 0, 100);
    let left = fs::read_dir(disk.path.join("tmp")).expect("the folder").count();
    assert_eq!(left, 0, "temporary files are left behind");
    assert!(node.lives());
    node.kill();
}

#[test]
fn the_demo_ends_with_its_table_and_nothing_missing() {
    let space = crate::support::node::Workspace::new("");
    let done = space.run(&["demo", "--pipeline", "blocks", "--seconds", "6", "--dir", "work"]);
    assert_eq!(done.code, 0, "{}\n{}", done.out, done.err);
    for row in ["missing", "altered or mismatched", "doubled", "without digest", "parked"] {
        let line = done.out.lines().find(|line| line.trim_start().starts_with(row));
        let line = line.unwrap_or_else(|| panic!("no row `{row}` in {}", done.out));
        assert_eq!(line.trim_start()[row.len()..].trim(), "0", "{line}");
    }
    assert!(done.out.trim_end().ends_with("nothing is missing"), "{}", done.out);
    let kills = done.out.lines().find(|line| line.contains("node kills survived")).expect("a row");
    assert!(!kills.trim().ends_with(" 0"), "no node was killed: {kills}");
}

#[test]
fn the_demo_of_logs_ends_with_its_table_and_no_line_missing() {
    let space = crate::support::node::Workspace::new("");
    let done = space.run(&["demo", "--pipeline", "logs", "--seconds", "6", "--dir", "work"]);
    assert_eq!(done.code, 0, "{}\n{}", done.out, done.err);
    let row = |name: &str| {
        let line = done.out.lines().find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no row `{name}` in {}", done.out)).trim_start();
        let number = line[name.len()..].split_whitespace().next().expect("a number").replace(',', "");
        number.parse::<u64>().expect("a number")
    };
    for name in ["missing", "doubled", "altered or foreign", "reordered"] {
        assert_eq!(row(name), 0, "{}", done.out);
    }
    let truth =
        std::fs::read_to_string(space.path().join("work/truth.jsonl")).expect("the list").lines().count() as u64;
    assert_eq!((row("lines written"), row("in stream")), (truth, truth));
    assert!(row("node kills survived") > 0 && row("rotations") > 0, "{}", done.out);
    assert!(done.out.trim_end().ends_with("nothing is missing"), "{}", done.out);
}
