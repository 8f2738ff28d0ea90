//! Blocks packed with zstd: the same bytes come out of every command, beside blocks that were stored as they came.

use std::fs;

use crate::oracle::{self, assert_whole};
use crate::sim::{Sim, plan};
use crate::support::node::poll;
use crate::world::{World, pipeline};

#[test]
fn a_store_of_both_kinds_is_whole_and_is_repaired() {
    let sim = Sim::start(plan(21, 100));
    let world = World::new(&pipeline("main", &[&sim.url], "0", "compression = \"zstd\"\ncompression_level = 5"));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, 100)]);
    node.kill();
    world.configure(&pipeline("main", &[&sim.url], "0", ""));
    sim.control.advance(20);
    let _node = world.space.started("two", &[]);
    world.wait_held("main", &[(0, 120)]);
    assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, 120);
    let files = oracle::files(&world.store("main"));
    let is_packed = |height: u64| files[&height][0].path.to_string_lossy().ends_with(".json.zst");
    let packed: Vec<u64> = (0..=120).filter(|height| is_packed(*height)).collect();
    assert_eq!(packed, (0..=100).collect::<Vec<_>>(), "what was packed stays packed, what comes now is not");
    for height in [30, 110] {
        let get = world.space.run(&["blocks", "get", &height.to_string()]);
        assert_eq!((get.code, get.out.trim_end().as_bytes()), (0, &sim.truth.truth(height).raw[..]), "{}", get.err);
        let path = &files[&height][0].path;
        let mut bytes = fs::read(path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("damaged");
    }
    let verify = world.space.run(&["blocks", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["faults"]), (1, &serde_json::json!(2)), "{}", verify.out);
    poll("both to be fetched again", || (world.space.run(&["blocks", "verify"]).code == 0).then_some(()));
    assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, 120);
    assert!(!oracle::files(&world.store("main"))[&30][0].path.to_string_lossy().ends_with(".zst"), "written anew");
}
