//! States in which a server takes no writes, or answers nothing but that it cannot: waited for, told once, nothing is lost
//! and nothing is there twice.

use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::node::{Node, Workspace, config, poll};
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::Cluster;
use crate::world::{World, add, entries, length, pipeline, query, raw};

/// Waits until a unit says that it waits because of this.
#[track_caller]
fn wait_told(space: &Workspace, word: &str) {
    let mut heard = std::collections::BTreeSet::new();
    poll(&format!("a wait for {word}"), || {
        let status = space.run(&["status", "--json"]).json();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        let words = units.iter().filter_map(|unit| unit["last_error"].as_str());
        // Where it is waited for in vain, this is what was said instead.
        words.for_each(|words| {
            if heard.insert(words.to_owned()) {
                eprintln!("heard: {words}");
            }
        });
        heard.iter().any(|words| words.contains(word)).then_some(())
    });
}

/// The copy goes on where it was, and no stream was left alone.
#[track_caller]
fn goes_on(world: &World) {
    add(&world.source, 0, "s", 5001..=5010);
    world.wait_equal("s");
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
    let verify = world.run(&["sync", "verify"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}

/// Ten entries copied by a node.
fn copied(world: &World) -> Node {
    add(&world.source, 0, "s", 1..=10);
    let node = world.node();
    world.wait_equal("s");
    node
}

/// Lets a process write files up to this length only, as a full disk would.
fn limit_files(server: &RedisServer, most: Option<u64>) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).expect("a process id");
    let limit = Rlimit { current: most, maximum: None };
    prlimit(Some(pid), Resource::Fsize, limit).expect("a limit");
}

/// The length of the append-only file.
fn appended(server: &RedisServer) -> u64 {
    let files = std::fs::read_dir(server.folder().join("appendonlydir")).expect("the folder");
    files.map(|file| file.expect("a file").metadata().expect("its length").len()).max().unwrap_or(0)
}

#[test]
fn a_target_whose_disk_is_full_is_waited_for() {
    // Beyond the limit a write fails; that the process is also sent a signal must not end it.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("server.sh");
    std::fs::write(&program, "#!/bin/sh\ntrap '' XFSZ\nexec redis-server \"$@\"\n").expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let target = RedisServer::of(&program.display().to_string(), &["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut world = World::with(RedisServer::start(), target, "batch_entries = 100");
    let node = copied(&world);
    limit_files(&world.target, Some(appended(&world.target) + 50_000));
    add(&world.source, 0, "s", 11..=5000);
    wait_told(&world.space, "MISCONF");
    let stands = length(&world.target, 0, "s");
    assert!((11..5000).contains(&stands), "{stands}");
    node.wait_for("MISCONF");
    let told = || node.lines().iter().filter(|line| line.contains("MISCONF")).count();
    assert_eq!(told(), 1, "{:?}", node.lines());
    limit_files(&world.target, None);
    goes_on(&world);
    node.wait_for("working again");
    assert_eq!(told(), 1, "{:?}", node.lines());
    // What is on its disk is what it answered.
    poll("its disk", || {
        let info: String = query(&world.target, 0, &["INFO", "persistence"]);
        (info.contains("aof_last_write_status:ok") && info.contains("aof_pending_bio_fsync:0")).then_some(())
    });
    let there = entries(&world.target, 0, "s");
    drop(node);
    world.target.kill();
    world.target.resume();
    poll("its data", || (raw::<usize>(&world.target, 0, &[b"XLEN", b"s"]) == Ok(there.len())).then_some(()));
    assert_eq!(entries(&world.target, 0, "s"), there);
}

#[test]
fn a_target_without_enough_replicas_is_waited_for() {
    let world = World::new("");
    let _node = copied(&world);
    query::<()>(&world.target, 0, &["CONFIG", "SET", "min-replicas-to-write", "1"]);
    add(&world.source, 0, "s", 11..=500);
    wait_told(&world.space, "NOREPLICAS");
    assert_eq!(length(&world.target, 0, "s"), 10);
    query::<()>(&world.target, 0, &["CONFIG", "SET", "min-replicas-to-write", "0"]);
    goes_on(&world);
}

#[test]
fn an_end_that_runs_a_long_script_is_waited_for() {
    for is_source in [true, false] {
        let world = World::new("");
        let _node = copied(&world);
        let server = if is_source { &world.source } else { &world.target };
        query::<()>(server, 0, &["CONFIG", "SET", "busy-reply-threshold", "50"]);
        std::thread::scope(|scope| {
            let script = scope.spawn(|| raw::<()>(server, 0, &[b"EVAL", b"while true do end", b"0"]));
            if !is_source {
                add(&world.source, 0, "s", 11..=500);
            }
            wait_told(&world.space, "BUSY");
            query::<()>(server, 0, &["SCRIPT", "KILL"]);
            assert!(script.join().expect("no panic").is_err());
        });
        goes_on(&world);
    }
}

#[test]
fn an_end_that_loads_its_data_is_waited_for() {
    // A pause at each command that is read from disk: some seconds for what lies beside the stream.
    let slow = ["--appendonly", "yes", "--key-load-delay", "100"];
    for is_source in [true, false] {
        let [source, target] = [is_source, !is_source].map(|is_slow| match is_slow {
            true => RedisServer::with(&slow),
            false => RedisServer::start(),
        });
        let mut world = World::with(source, target, "");
        let _node = copied(&world);
        let server = if is_source { &mut world.source } else { &mut world.target };
        add(server, 0, "filler", 1..=20_000);
        poll("its disk", || {
            let info: String = query(server, 0, &["INFO", "persistence"]);
            info.contains("aof_pending_bio_fsync:0").then_some(())
        });
        server.kill();
        server.resume();
        wait_told(&world.space, "LOADING");
        let server = if is_source { &world.source } else { &world.target };
        poll("its data", || raw::<usize>(server, 0, &[b"XLEN", b"s"]).ok());
        goes_on(&world);
    }
}

#[test]
fn a_source_that_is_a_replica_without_its_master_is_waited_for() {
    let mut master = RedisServer::start();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &master.port.to_string(), "--appendonly", "yes"]);
    query::<()>(&replica, 0, &["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    add(&master, 0, "s", 1..=10);
    let world = World::with(replica, RedisServer::start(), "source_replica = true");
    let _node = world.node();
    poll("the entries", || (length(&world.target, 0, "s") == 10).then_some(()));
    master.kill();
    wait_told(&world.space, "MASTERDOWN");
    master.resume();
    // It listens at once, and answers LOADING for a while.
    poll("its data", || crate::world::raw::<usize>(&master, 0, &[b"XLEN", b"s"]).ok());
    add(&master, 0, "s", 11..=20);
    let wanted = entries(&master, 0, "s");
    world.wait_for("s", &wanted);
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
}

#[test]
fn a_cluster_that_is_down_is_waited_for() {
    let mut source = Cluster::start();
    for node in &source.nodes {
        query::<()>(node, 0, &["CONFIG", "SET", "cluster-node-timeout", "500"]);
    }
    let (redis, target) = (RedisServer::start(), RedisServer::start());
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "")));
    // Of nodes that live: they refuse as well, since the cluster is not whole.
    let gone = source.nodes[2].port;
    let keys: Vec<String> = (0..12).map(|n| format!("s{n}")).filter(|key| source.node_of(key).port != gone).collect();
    keys.iter().for_each(|key| add(source.node_of(key), 0, key, 1..=10));
    let _node = space.started("a", &[]);
    let equal = |source: &Cluster| {
        keys.iter().for_each(|key| {
            let wanted = entries(source.node_of(key), 0, key);
            poll(key, || (entries(&target, 0, key) == wanted).then_some(()));
        });
    };
    equal(&source);
    source.nodes[2].kill();
    wait_told(&space, "CLUSTERDOWN");
    source.nodes[2].resume();
    poll("a whole cluster", || {
        let whole = |node: &RedisServer| node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        source.nodes.iter().all(whole).then_some(())
    });
    keys.iter().for_each(|key| add(source.node_of(key), 0, key, 11..=20));
    equal(&source);
    let verify = space.run(&["sync", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["same"]), (0, &(20 * keys.len()).into()), "{verify:?}");
}
