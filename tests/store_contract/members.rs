//! Who lives, and what is asked of Redis before anything is written.

use std::collections::BTreeMap;

use gapless::ids::RandomId;
use gapless::store::membership::NodeInfo;
use gapless::store::startup::{Danger, Server};

use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::world::{LONG_LEASE, World};

fn node(name: &str) -> NodeInfo {
    NodeInfo {
        name: name.to_owned(),
        incarnation: RandomId::new(),
        pid: 1,
        release: "0.1.0".to_owned(),
        format: 1,
        host: "host-1".to_owned(),
        http: String::new(),
        draining: false,
        runs: vec!["selftest.laws/tally".to_owned()],
        slots: BTreeMap::from([("selftest.laws/pool".to_owned(), 3)]),
        started_at: 0,
        units: Vec::new(),
        ..NodeInfo::default()
    }
}

async fn names(world: &World) -> Vec<String> {
    world.store.nodes(&world.link).await.expect("nodes").into_iter().map(|node| node.name).collect()
}

#[actix_rt::test]
async fn a_node_lives_until_its_heartbeat_runs_out_or_it_leaves() {
    let world = World::new().await;
    let (a, b, c) = (node("a"), node("b"), node("c"));
    let beat = |node: NodeInfo, ttl| {
        let world = &world;
        async move { world.store.heartbeat(&world.link, &node, ttl).await.expect("a heartbeat") }
    };
    beat(a.clone(), 60_000).await;
    beat(b.clone(), 60_000).await;
    assert_eq!(beat(c.clone(), 60_000).await, [a.clone(), b.clone(), c.clone()]);
    beat(b.clone(), 50).await;
    wait::until("b's heartbeat to run out", || async { names(&world).await == ["a", "c"] }).await;
    assert_eq!(world.store.leave(&world.link, &c.incarnation).await.expect("the others"), [a]);
    // It may come back, as it was.
    beat(b, 60_000).await;
    assert_eq!(names(&world).await, ["a", "b"]);
}

#[actix_rt::test]
async fn nodes_of_one_name_are_told_apart() {
    let world = World::new().await;
    let (one, two) = (node("a"), node("a"));
    world.store.heartbeat(&world.link, &one, 60_000).await.expect("a heartbeat");
    world.store.heartbeat(&world.link, &two, 60_000).await.expect("a heartbeat");
    assert_eq!(names(&world).await, ["a", "a"]);
    world.store.leave(&world.link, &one.incarnation).await.expect("the others");
    assert_eq!(world.store.nodes(&world.link).await.expect("nodes"), [two]);
}

#[actix_rt::test]
async fn heartbeats_that_no_clock_can_have_written_count_for_nothing() {
    let world = World::new().await;
    world.store.heartbeat(&world.link, &node("a"), 60_000).await.expect("a heartbeat");
    let hour =
        world.server.text(&["EVAL", "return string.format('%.0f', redis.call('TIME')[1] * 1000 + 3600000)", "0"]);
    let json = serde_json::to_string(&node("b")).expect("JSON");
    let key = world.store.keys.nodes();
    world.server.command(&["HSET", &key, "far", &format!("{hour} 5000 {json}"), "odd", "nonsense"]);
    // Alive, but of a release that says other things: no plan can be made with it.
    world.server.command(&["HSET", &key, "new", &format!("{hour} 9999999999 {{\"name\":\"c\"}}")]);
    assert_eq!(names(&world).await, ["a"]);
    assert_eq!(world.server.command(&["HLEN", &key]), redis::Value::Int(2));
}

#[actix_rt::test]
async fn the_first_node_gives_a_redis_its_id_and_facts_are_pinned_once() {
    let world = World::new().await;
    let (store, link, pipeline) = (&world.store, &world.link, &world.pipeline);
    assert_eq!(store.cluster_id(link).await, Ok(Some(store.cluster.clone())));
    assert_eq!(store.claim_cluster(link, &RandomId::new()).await, Ok(store.cluster.clone()));
    assert_eq!(store.fact_once(link, pipeline, "start", "100").await, Ok("100".to_owned()));
    assert_eq!(store.fact_once(link, pipeline, "start", "200").await, Ok("100".to_owned()));
    assert_eq!(store.fact(link, pipeline, "head").await, Ok(None));
    let facts = store.facts(link, pipeline).await.expect("facts");
    assert_eq!(facts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cluster", "start"]);
}

#[actix_rt::test]
async fn settings_that_would_lose_data_are_found_on_a_real_server() {
    let safe = World::new().await;
    let server = Server::ask(&safe.link).await.expect("an answer");
    assert_eq!((server.dangers(), server.append_fsync.as_str()), (Vec::new(), "everysec"));
    assert!(server.memory_used > 0 && server.version.contains('.'));
    safe.server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let dangers = Server::ask(&safe.link).await.expect("an answer").dangers();
    assert!(matches!(&dangers[..], [Danger::Eviction(text)] if text.contains("allkeys-lru")), "{dangers:?}");
    let forgetful = World::on(RedisServer::with(&["--appendonly", "no"]), LONG_LEASE).await;
    let dangers = Server::ask(&forgetful.link).await.expect("an answer").dangers();
    assert!(matches!(&dangers[..], [Danger::Persistence(_)]), "{dangers:?}");
}
