//! Loops and collisions: two-way pipelines, one key for two streams, two pipelines for one stream.

use crate::support::node::{Workspace, config, poll};
use crate::support::redis::RedisServer;
use crate::world::{World, add, entries, pipeline, query};

#[test]
fn two_ways_between_two_servers_make_no_loop() {
    let (a, b, redis) = (RedisServer::start(), RedisServer::start(), RedisServer::start());
    let text = [
        pipeline("there", &a.url(), &b.url(), "prefix = \"a:\"\npatterns = [\"*\"]\nbuckets = 1"),
        pipeline("back", &b.url(), &a.url(), "prefix = \"b:\"\npatterns = [\"*\"]\nbuckets = 1"),
    ];
    let space = Workspace::new(&config(&redis.url(), &text.concat()));
    add(&a, 0, "s", 1..=20);
    add(&b, 0, "s", 1..=30);
    let _node = space.started("n", &[]);
    poll("both ways", || (entries(&b, 0, "a:s").len() == 20 && entries(&a, 0, "b:s").len() == 30).then_some(()));
    // Several looks later there is nothing else: `b:a:s` would be the loop.
    add(&a, 0, "s", 21..=25);
    add(&a, 0, "new", 1..=3);
    poll("what came later", || (entries(&b, 0, "a:s").len() == 25 && entries(&b, 0, "a:new").len() == 3).then_some(()));
    let keys = |server: &RedisServer| {
        let mut keys: Vec<String> = query(server, 0, &["KEYS", "*"]);
        keys.sort();
        keys
    };
    assert_eq!(keys(&a), ["b:s", "gapless:replicas", "new", "s"]);
    assert_eq!(keys(&b), ["a:new", "a:s", "gapless:replicas", "s"]);
}

#[test]
fn one_server_copies_to_another_key_without_end_only_once() {
    let server = RedisServer::start();
    let redis = RedisServer::start();
    let text = pipeline("x", &server.url(), &server.url(), "prefix = \"copy-\"\npatterns = [\"*\"]\nbuckets = 1");
    let space = Workspace::new(&config(&redis.url(), &text));
    add(&server, 0, "s", 1..=20);
    let _node = space.started("n", &[]);
    poll("the copy", || (entries(&server, 0, "copy-s").len() == 20).then_some(()));
    add(&server, 0, "s2", 1..=3);
    poll("the next one", || (entries(&server, 0, "copy-s2").len() == 3).then_some(()));
    assert_eq!(query::<u64>(&server, 0, &["EXISTS", "copy-copy-s"]), 0);
}

#[test]
fn the_same_key_of_two_databases_is_refused_for_the_later_one() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    add(&world.source, 1, "s", 100..=110);
    let plan = world.run(&["sync", "plan"]);
    assert_eq!(plan.code, 1, "{plan:?}");
    assert!(plan.out.contains("db0:s goes to the same key of the target; use {db} in map"), "{plan:?}");
    let _node = world.node();
    world.wait_equal("s");
    // One that appears while it runs is refused as well, and the others go on.
    add(&world.source, 2, "s", 1..=5);
    poll("both refused", || {
        let status = world.run(&["sync", "status", "--json"]).json();
        let streams = status["streams"].as_array().cloned().unwrap_or_default();
        (streams.iter().filter(|stream| stream["state"] == "refused").count() == 2).then_some(())
    });
    add(&world.source, 0, "s", 11..=20);
    world.wait_equal("s");
}

#[test]
fn a_stream_that_another_pipeline_copies_to_is_left_alone() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    add(&world.source, 0, "s2", 1..=10);
    query::<()>(&world.target, 0, &["HSET", "gapless:replicas", "s", "sync.other@0123"]);
    let _node = world.node();
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("sync.other@0123 copies to this key"), "{why}");
    world.wait_equal("s2");
    // The other one is gone for good: its mark is taken off, and the operator says so.
    query::<()>(&world.target, 0, &["HDEL", "gapless:replicas", "s"]);
    assert_eq!(world.run(&["sync", "retry", "--stream", "db0:s"]).code, 0);
    world.wait_equal("s");
}

#[test]
fn a_target_with_entries_of_its_own_is_left_alone() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    query::<()>(&world.target, 0, &["XADD", "s", "999-0", "of", "somebody else"]);
    let _node = world.node();
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("ahead of the source"), "{why}");
    assert_eq!(entries(&world.target, 0, "s").len(), 1);
}
