//! Which heights are wanted: `latest` is pinned, `end` ends, a start above the head waits, a lower start reaches down.

use std::fs;

use crate::oracle::{self, assert_whole};
use crate::sim::{Sim, plan};
use crate::world::{World, pipeline};

#[test]
fn start_and_end_mean_the_same_after_every_restart() {
    let sim = Sim::start(plan(3, 100));
    let all = |extended: &str| {
        [
            pipeline("latest", &[&sim.url], "\"latest\"", ""),
            pipeline("ended", &[&sim.url], "20", "end = 60"),
            pipeline("near", &[&sim.url], "70", "end = 104"),
            pipeline("later", &[&sim.url], "103", ""),
            pipeline("extended", &[&sim.url], extended, ""),
        ]
        .join("")
    };
    let world = World::new(&all("95"));
    let mut node = world.space.started("one", &[]);
    world.wait_held("latest", &[(100, 100)]);
    // The whole range was final at the first look: the pool fills it, the collector only tells the head.
    world.wait_held("ended", &[(20, 60)]);
    world.wait_held("near", &[(70, 100)]);
    world.wait_held("extended", &[(95, 100)]);
    assert_eq!(oracle::held(&world.redis, "later"), []);
    sim.control.advance(2);
    world.wait_held("latest", &[(100, 102)]);
    world.wait_held("near", &[(70, 102)]);
    node.kill();

    sim.control.advance(3);
    world.configure(&all("40"));
    let mut node = world.space.started("one", &[]);
    // The head stands still after this: a lower start must reach the detector all the same.
    world.wait_held("extended", &[(40, 105)]);
    world.wait_held("latest", &[(100, 105)]);
    world.wait_held("near", &[(70, 104)]);
    world.wait_held("later", &[(103, 105)]);
    sim.control.advance(30);
    world.wait_held("latest", &[(100, 135)]);
    for (name, lo, hi) in
        [("latest", 100, 135), ("ended", 20, 60), ("near", 70, 104), ("later", 103, 135), ("extended", 40, 135)]
    {
        world.wait_held(name, &[(lo, hi)]);
        assert_whole(&world.redis, name, &world.store(name), &sim.truth, lo, hi);
    }
    assert!(node.lives());
    let status = world.space.run(&["blocks", "status", "--json"]).json();
    let near =
        status["pipelines"].as_array().expect("a list").iter().find(|s| s["pipeline"] == "blocks.near").expect("near");
    assert_eq!((&near["wanted"], &near["missing"]), (&serde_json::json!([70, 104]), &serde_json::json!(0)), "{near}");
}

#[test]
fn an_emptied_redis_takes_the_store_over_only_when_told() {
    let sim = Sim::start(plan(5, 120));
    let pipelines =
        [pipeline("main", &[&sim.url], "0", ""), pipeline("latest", &[&sim.url], "\"latest\"", "")].join("");
    let world = World::new(&pipelines);
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, 120)]);
    world.wait_held("latest", &[(120, 120)]);
    sim.control.advance(4);
    world.wait_held("latest", &[(120, 124)]);
    world.wait_held("main", &[(0, 124)]);
    node.kill();
    let before = written(&world);
    world.redis.command(&["FLUSHALL"]);

    let refused = world.space.run(&["run", "--node", "one"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--accept-data-loss"), "{refused:?}");
    // Without what the node remembers, the folder itself refuses.
    fs::remove_dir_all(world.space.path().join("data/node")).expect("the state folder");
    let refused = world.space.run(&["run", "--node", "one"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("store store-latest: the folder's index is in Redis "), "{refused:?}");
    assert!(refused.err.contains("or start with --accept-data-loss to build the index anew"), "{refused:?}");
    assert_eq!(oracle::held(&world.redis, "main"), []);

    sim.control.advance(20);
    let mut node = world.space.started("one", &["--accept-data-loss"]);
    world.wait_held("main", &[(0, 144)]);
    // `latest` still is where it was, not the head of today.
    world.wait_held("latest", &[(120, 144)]);
    assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, 144);
    let after = written(&world);
    let rewritten: Vec<_> = before.iter().filter(|file| !after.contains(file)).collect();
    assert!(rewritten.is_empty(), "files that stood there were written again: {rewritten:?}");
    // Without the flag from now on.
    node.kill();
    let node = world.space.started("one", &[]);
    drop(node);
}

/// Path, inode and time of every block file.
fn written(world: &World) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    let stores = ["main", "latest"].map(|name| oracle::files(&world.store(name)));
    let files = stores.into_iter().flat_map(|store| store.into_values().flatten());
    files
        .map(|stored| {
            let meta = fs::metadata(&stored.path).expect("a file");
            (stored.path, meta.ino(), meta.modified().expect("a time"))
        })
        .collect()
}
