//! What is refused before the first write: another chain, another host's folder, another Redis's folder.

use std::fs;

use gapless::simulate::chain::{ChainPlan, Network};
use rustix::process::Signal;

use crate::oracle;
use crate::sim::{Sim, plan};
use crate::support::node::{Workspace, config};
use crate::support::redis::RedisServer;
use crate::world::{World, pipeline};

#[test]
fn another_chain_is_refused_before_the_first_write() {
    let (ours, other) = (Sim::start(plan(1, 40)), Sim::start(ChainPlan { network: Network::Evm(4242), ..plan(1, 90) }));
    let mainnet = pipeline("wrong", &[&ours.url], "0", "chain_id = 1");
    let main = |url: &str, more: &str| pipeline("main", &[url], "0", more);
    let world = World::new(&[mainnet.clone(), main(&ours.url, "")].join(""));
    let mut node = world.space.started("one", &[]);
    let reason = world.wait_failed("blocks.wrong/collector");
    assert!(reason.contains("serves chain 1337, but this pipeline holds chain 1"), "{reason}");
    // The other pipeline goes on meanwhile.
    world.wait_held("main", &[(0, 40)]);
    node.wait_for("serves chain 1337, but this pipeline holds chain 1");
    assert_eq!(oracle::files(&world.store("wrong")).len(), 0);
    assert_eq!(oracle::held(&world.redis, "wrong"), []);
    for name in ["head", "start", "chain_id"] {
        assert_eq!(oracle::fact(&world.redis, "wrong", name), "", "{name}");
    }
    node.kill();

    // The pipeline that holds one chain is pointed at another, longer one.
    let before = (oracle::held(&world.redis, "main"), oracle::files(&world.store("main")));
    world.configure(&[mainnet, main(&other.url, "")].join(""));
    let mut node = world.space.started("one", &[]);
    let reason = world.wait_failed("blocks.main/collector");
    assert!(reason.contains("serves chain 4242, but this pipeline holds chain 1337"), "{reason}");
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    assert_eq!((oracle::held(&world.redis, "main"), oracle::files(&world.store("main"))), before);
    assert_eq!(oracle::fact(&world.redis, "main", "head"), "40");

    // A configuration that contradicts what is held is refused too, whoever serves it.
    world.configure(&main(&other.url, "chain_id = 4242"));
    let mut node = world.space.started("one", &[]);
    let reason = world.wait_failed("blocks.main/collector");
    assert!(reason.contains("the configuration says chain_id 4242, but this pipeline holds chain 1337"), "{reason}");
    node.kill();
    assert_eq!(oracle::held(&world.redis, "main"), before.0);
}

#[test]
fn folders_of_others_are_refused_and_left_alone() {
    let sim = Sim::start(plan(2, 15));
    let main = pipeline("main", &[&sim.url], "0", "");
    let world = World::new(&main);
    let node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, 15)]);
    let uuid = oracle::fact(&world.redis, "main", "store");
    let short = &uuid[..8];

    // A second host, with an empty folder under the same name.
    let host = Workspace::new(&config(&world.redis.url(), &main));
    let refused = host.run(&["run", "--node", "two"]);
    refused.failed(
        2,
        &format!(
            "gapless: blocks.main: store store-main: the folder is not the store of blocks.main: it has no \
             gapless-store.json, and Redis expects store {short}; mount the folder of that store here, or collect \
             into this one under a new pipeline name\n"
        ),
    );
    assert!(!host.path().join("store-main").exists(), "nothing may be written into a folder that is not the store");

    // The folder of another Redis: this one has never seen the pipeline.
    let redis = RedisServer::start();
    let store = world.store("main").display().to_string();
    let text = config(&redis.url(), &main.replace("store-main", &store));
    let elsewhere = Workspace::new(&text);
    let refused = elsewhere.run(&["run", "--node", "three"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let words = format!("gapless: blocks.main: store {store}: the folder's index is in Redis ");
    assert!(refused.err.starts_with(&words), "{refused:?}");

    // Two pipelines on one folder.
    let text = main.replace("blocks.main", "blocks.twin").replace("store-main", &store);
    elsewhere.write("gapless.toml", &config(&world.redis.url(), &text));
    fs::remove_dir_all(elsewhere.path().join("data")).expect("what it remembered");
    let refused = elsewhere.run(&["run", "--node", "four"]);
    refused.failed(
        2,
        &format!(
            "gapless: blocks.twin: store {store}: the folder is the store of blocks.main, not of blocks.twin; give \
             each pipeline a folder of its own\n"
        ),
    );
    drop(node);
    oracle::assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, 15);
}
