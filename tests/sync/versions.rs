//! Other versions as source and as target: Redis 6.2, which counts nothing, and Valkey 9. `make test` installs both.

use crate::support::node::poll;
use crate::support::redis::RedisServer;
use crate::world::{World, add, entries, info, query};

const AOF: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];

fn server(name: &str) -> RedisServer {
    let path = format!("{}/.tools/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(std::path::Path::new(&path).exists(), "no {path}: run scripts/install-tools.sh versions (make test does)");
    RedisServer::of(&path, &AOF)
}

/// Copies, takes over after a kill, copies groups, and verifies.
fn copies(source: RedisServer, target: RedisServer) {
    let world = World::with(source, target, "");
    add(&world.source, 0, "s", 1..=500);
    add(&world.source, 5, "s5", 1..=50);
    query::<()>(&world.source, 0, &["XDEL", "s", "500-0", "100-0"]);
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "g", "0"]);
    query::<redis::Value>(&world.source, 0, &["XREADGROUP", "GROUP", "g", "c", "COUNT", "9", "STREAMS", "s", ">"]);
    let mut node = world.node();
    world.wait_equal("s");
    poll("the other database", || (entries(&world.target, 0, "s5") == entries(&world.source, 5, "s5")).then_some(()));
    poll("the last id", || {
        (info(&world.target, "s", "last-generated-id") == info(&world.source, "s", "last-generated-id")).then_some(())
    });
    node.kill();
    add(&world.source, 0, "s", 501..=900);
    let _node = world.space.started("b", &[]);
    world.wait_equal("s");
    poll("what the group holds", || {
        let rows = |server: &RedisServer| -> Vec<(String, String, u64, u64)> {
            query(server, 0, &["XPENDING", "s", "g", "-", "+", "100"])
        };
        let plain =
            |server: &RedisServer| rows(server).into_iter().map(|(id, who, _, n)| (id, who, n)).collect::<Vec<_>>();
        let groups: Vec<redis::Value> = query(&world.target, 0, &["XINFO", "GROUPS", "s"]);
        (!groups.is_empty() && plain(&world.target).len() == 9 && plain(&world.target) == plain(&world.source))
            .then_some(())
    });
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 0, "{verify:?}");
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
    let plan = world.run(&["sync", "plan"]);
    assert_eq!(plan.code, 0, "{plan:?}");
}

#[test]
fn redis_6_2_as_source() {
    copies(server("redis-6.2"), RedisServer::start());
}

#[test]
fn redis_6_2_as_target() {
    copies(RedisServer::start(), server("redis-6.2"));
}

#[test]
fn valkey_9_as_source() {
    copies(server("valkey-9"), RedisServer::start());
}

#[test]
fn valkey_9_as_target() {
    copies(RedisServer::start(), server("valkey-9"));
}

#[test]
fn from_redis_6_2_to_valkey_9() {
    copies(server("redis-6.2"), server("valkey-9"));
}

#[test]
fn in_group_mode_from_redis_6_2() {
    let world = World::with(server("redis-6.2"), RedisServer::start(), "mode = \"group\"");
    add(&world.source, 0, "s", 1..=300);
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "gapless-sync", "0"]);
    query::<redis::Value>(
        &world.source,
        0,
        &["XREADGROUP", "GROUP", "gapless-sync", "dead", "COUNT", "20", "STREAMS", "s", ">"],
    );
    // What a dead consumer holds, and somebody has deleted, is no stone in the way.
    query::<()>(&world.source, 0, &["XDEL", "s", "7-0"]);
    let _node = world.node();
    world.wait_equal("s");
    poll("nothing pending", || {
        let rows: Vec<redis::Value> = query(&world.source, 0, &["XPENDING", "s", "gapless-sync", "-", "+", "100"]);
        rows.is_empty().then_some(())
    });
}

/// What is pending in our own group on the source.
fn unread(world: &World) -> usize {
    query::<Vec<redis::Value>>(&world.source, 0, &["XPENDING", "s", "gapless-sync", "-", "+", "100"]).len()
}

#[test]
fn a_position_is_withheld_until_the_disk_has_what_it_stands_for() {
    // No other server here has WAITAOF.
    let world = World::with(
        RedisServer::start(),
        server("valkey-9"),
        "publish_group = \"copied\"\nwait_aof = true\nwait_ms = 50",
    );
    // Left to the system, so that nobody knows when it is there.
    query::<()>(&world.target, 0, &["CONFIG", "SET", "appendfsync", "no"]);
    add(&world.source, 0, "s", 1..=30);
    let node = world.node();
    world.wait_equal("s");
    let told = node.wait_for("positions are withheld");
    assert!(told.contains("the disk of 0 of 1 masters"), "{told}");
    let position = || {
        let groups: redis::Value = query(&world.source, 0, &["XINFO", "GROUPS", "s"]);
        format!("{groups:?}")
    };
    // The copy does not wait for it; without an append-only file nobody can say anything, and no stream is left alone.
    query::<()>(&world.target, 0, &["CONFIG", "SET", "appendonly", "no"]);
    add(&world.source, 0, "s", 31..=60);
    world.wait_equal("s");
    assert_eq!(position(), "array([])");
    query::<()>(&world.target, 0, &["CONFIG", "SET", "appendfsync", "everysec"]);
    query::<()>(&world.target, 0, &["CONFIG", "SET", "appendonly", "yes"]);
    poll("the position", || position().contains("60-0").then_some(()));
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
}

#[test]
fn in_group_mode_nothing_is_acknowledged_that_the_disk_lacks() {
    let world =
        World::with(RedisServer::start(), server("valkey-9"), "mode = \"group\"\nwait_aof = true\nwait_ms = 50");
    query::<()>(&world.target, 0, &["CONFIG", "SET", "appendfsync", "no"]);
    add(&world.source, 0, "s", 1..=30);
    let _node = world.node();
    poll("the wait", || {
        let status = world.run(&["status", "--json"]).json();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        units
            .iter()
            .any(|unit| unit["last_error"].as_str().is_some_and(|w| w.contains("the disk of 0 of 1")))
            .then_some(())
    });
    assert!(unread(&world) > 0, "it was acknowledged before it was on disk");
    query::<()>(&world.target, 0, &["CONFIG", "SET", "appendfsync", "everysec"]);
    world.wait_equal("s");
    poll("nothing pending", || (unread(&world) == 0).then_some(()));
}
