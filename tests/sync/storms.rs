//! Kills of nodes and servers, and a target that takes no writes: nothing is lost, nothing is there twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::node::poll;
use crate::support::redis::RedisServer;
use crate::world::{World, add, entries, info, length, query};

/// Adds entries until it is told to stop; a server that is away is waited for. Answers how many were taken.
fn produce(port: u16, stop: &AtomicBool, added: &AtomicU64) {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a client");
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_secs(1)) else { continue };
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let mut pipe = redis::pipe();
            for key in 0..4 {
                for copy in 0..5 {
                    pipe.cmd("XADD").arg(format!("s{key}")).arg("*").arg("n").arg(n).arg("copy").arg(copy).ignore();
                }
            }
            if pipe.query::<()>(&mut connection).is_err() {
                break;
            }
            added.fetch_add(20, Ordering::Relaxed);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

#[track_caller]
fn all_equal(world: &World) {
    for key in 0..4 {
        world.wait_equal(&format!("s{key}"));
    }
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}

/// Each batch brought its link: none had to be made afterwards, and all hold.
#[track_caller]
fn all_proved(world: &World) {
    let verify = world.run(&["sync", "verify", "--json"]).json();
    for stream in verify["streams"].as_array().expect("streams") {
        let evidence = &stream["evidence"];
        assert!(evidence["good"].as_u64().is_some_and(|good| good > 0), "{verify}");
        assert_eq!((&evidence["gone"], &evidence["found"]), (&0.into(), &0.into()), "{verify}");
    }
}

/// A pause at random, the same for the same seed.
fn pause(seed: u64, round: u64, around: u64) -> Duration {
    let digest = blake3::hash(format!("{seed} {round}").as_bytes());
    Duration::from_millis(around / 2 + u64::from(digest.as_bytes()[0]) * around / 256)
}

/// Rounds of a storm; `make chaos` asks for many.
fn rounds(few: u64) -> u64 {
    if std::env::var("GAPLESS_CHAOS").is_ok_and(|text| text == "long") { few * 20 } else { few }
}

#[test]
fn nodes_killed_every_300_ms_lose_and_double_nothing() {
    let world = World::new("evidence = true\nevidence_links = 100000");
    let (stop, added) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| produce(world.source.port, &stop, &added));
        let mut nodes = [world.space.started("a", &[]), world.space.started("b", &[])];
        for round in 0..rounds(20) {
            std::thread::park_timeout(pause(7, round, 300));
            let which = usize::try_from(round % 2).expect("small");
            nodes[which].kill();
            nodes[which] = world.space.node(["a", "b"][which], &[]);
        }
        stop.store(true, Ordering::Relaxed);
        all_equal(&world);
        all_proved(&world);
    });
    assert!(added.load(Ordering::Relaxed) > 1000, "too little was added to mean anything");
}

#[test]
fn kills_of_source_and_target_lose_nothing_that_they_kept() {
    let always = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut world = World::with(RedisServer::with(&always), RedisServer::with(&always), "evidence = true");
    let (stop, added) = (AtomicBool::new(false), AtomicU64::new(0));
    let port = world.source.port;
    std::thread::scope(|scope| {
        scope.spawn(|| produce(port, &stop, &added));
        let node = world.node();
        for round in 0..rounds(8) {
            std::thread::park_timeout(pause(11, round, 400));
            let server = if round % 2 == 0 { &mut world.target } else { &mut world.source };
            server.kill();
            server.resume();
        }
        stop.store(true, Ordering::Relaxed);
        drop(node);
    });
    for server in [&world.source, &world.target] {
        poll("its data", || crate::world::raw::<usize>(server, 0, &[b"DBSIZE"]).ok());
    }
    let _node = world.space.started("b", &[]);
    all_equal(&world);
    all_proved(&world);
    assert!(added.load(Ordering::Relaxed) > 200, "too little was added to mean anything");
}

#[test]
fn a_target_without_memory_refuses_and_then_gets_everything() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let node = world.node();
    world.wait_equal("s");
    query::<()>(&world.target, 0, &["CONFIG", "SET", "maxmemory", "1"]);
    add(&world.source, 0, "s", 11..=5000);
    // It waits, and says for what.
    poll("the wait", || {
        let status = world.run(&["status", "--json"]).json();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        units.iter().any(|unit| unit["last_error"].as_str().is_some_and(|words| words.contains("OOM"))).then_some(())
    });
    assert_eq!(length(&world.target, 0, "s"), 10);
    query::<()>(&world.target, 0, &["CONFIG", "SET", "maxmemory", "0"]);
    world.wait_equal("s");
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
    drop(node);
}

#[test]
fn a_target_that_became_a_replica_is_waited_for() {
    let world = World::new("");
    let other = RedisServer::start();
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    query::<()>(&world.target, 0, &["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
    query::<()>(&world.target, 0, &["REPLICAOF", "127.0.0.1", "1"]);
    add(&world.source, 0, "s", 11..=500);
    poll("the wait", || {
        let status = world.run(&["status", "--json"]).json();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        units
            .iter()
            .any(|unit| unit["last_error"].as_str().is_some_and(|w| w.contains("replica") || w.contains("READONLY")))
            .then_some(())
    });
    assert_eq!(length(&world.target, 0, "s"), 10);
    query::<()>(&world.target, 0, &["REPLICAOF", "NO", "ONE"]);
    world.wait_equal("s");
    drop(other);
}

#[test]
fn a_second_writer_on_the_target_is_noticed_and_nothing_is_written_behind_it() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    query::<()>(&world.target, 0, &["XADD", "s", "15-0", "of", "somebody"]);
    add(&world.source, 0, "s", 11..=20);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("another entry") || why.contains("ahead of the source"), "{why}");
    assert_eq!(info(&world.target, "s", "last-generated-id"), "15-0");
    assert_eq!(entries(&world.target, 0, "s").len(), 11);
}

#[test]
fn a_rate_is_kept() {
    let world = World::new("rate_entries = 1000\nbatch_entries = 50\nbuckets = 1");
    add(&world.source, 0, "s", 1..=1500);
    let _node = world.node();
    poll("the beginning", || (length(&world.target, 0, "s") > 0).then_some(()));
    let began = Instant::now();
    let before = length(&world.target, 0, "s");
    world.wait_equal("s");
    let (took, copied) = (began.elapsed().as_secs_f64(), (1500 - before) as f64);
    assert!(copied / took < 1300.0, "{copied} entries in {took} s");
}
