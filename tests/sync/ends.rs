//! The two ends: Sentinels and failovers, databases and streams that cannot be read, passwords that change, replicas that
//! lack what was written.

use crate::support::node::{Workspace, config, poll};
use crate::support::redis::RedisServer;
use crate::support::sentinel::Fleet;
use crate::world::{World, add, entries, length, pipeline, query};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[track_caller]
fn wait_same(source: &RedisServer, target: &RedisServer, key: &str) {
    let wanted = entries(source, 0, key);
    poll(&format!("{} entries in {key}", wanted.len()), || {
        (length(target, 0, key) == wanted.len() && entries(target, 0, key) == wanted).then_some(())
    });
}

#[test]
fn masters_are_found_through_sentinels_and_followed_when_they_fail_over() {
    let mut source = run(Fleet::start(1, &[]));
    let mut target = run(Fleet::start(1, &[]));
    let redis = RedisServer::start();
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "")));
    add(&source.servers[0], 0, "s", 1..=300);
    let _node = space.started("a", &[]);
    wait_same(&source.servers[0], &target.servers[0], "s");
    // The target's master dies. What its replica lacked is written again; what it had is not written twice.
    let before = target.servers[0].port;
    target.servers[0].kill();
    add(&source.servers[0], 0, "s", 301..=400);
    let promoted = run(target.promoted(before));
    wait_same(&source.servers[0], &target.servers[promoted], "s");
    // And then the source's, once its replica has everything.
    poll("a replica in step", || (length(&source.servers[1], 0, "s") == 400).then_some(()));
    let before = source.servers[0].port;
    source.servers[0].kill();
    let master = run(source.promoted(before));
    add(&source.servers[master], 0, "s", 401..=500);
    wait_same(&source.servers[master], &target.servers[promoted], "s");
    let verify = space.run(&["sync", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["same"]), (0, &500.into()), "{verify:?}");
}

#[test]
fn a_database_and_a_stream_that_cannot_be_read_stop_nothing_else() {
    let source = RedisServer::with(&["--databases", "4", "--appendonly", "yes"]);
    let world = World::with(source, RedisServer::start(), "");
    add(&world.source, 0, "s1", 1..=10);
    add(&world.source, 0, "s2", 1..=10);
    add(&world.source, 3, "s3", 1..=10);
    let user = ["ACL", "SETUSER", "u", "on", ">pw", "+@all", "~s1*", "~s3*", "~gapless:*"];
    query::<()>(&world.source, 0, &user);
    let url = format!("redis://u:pw@127.0.0.1:{}", world.source.port);
    let text = pipeline("x", &url, &world.target.url(), "databases = \"0-15\"");
    world.space.write("gapless.toml", &config(&world.redis.url(), &text));
    let plan = world.run(&["sync", "plan", "--json"]).json();
    assert_eq!(plan["databases_left_out"].as_object().map(serde_json::Map::len), Some(12), "{plan}");
    let _node = world.node();
    world.wait_equal("s1");
    world.wait_for("s3", &entries(&world.source, 3, "s3"));
    let why = world.wait_stopped("db0:s2");
    assert!(why.contains("NOPERM") || why.contains("No permissions"), "{why}");
    // A right that is taken away while it runs stops the stream that it was for.
    query::<()>(&world.source, 0, &["ACL", "SETUSER", "u", "resetkeys", "~s1*", "~gapless:*"]);
    add(&world.source, 0, "s1", 11..=20);
    add(&world.source, 3, "s3", 11..=20);
    world.wait_stopped("db3:s3");
    world.wait_equal("s1");
    assert_eq!(length(&world.target, 0, "s3"), 10);
    // Given back, and told so, it goes on.
    query::<()>(&world.source, 0, &["ACL", "SETUSER", "u", "~s2*", "~s3*"]);
    assert_eq!(world.run(&["sync", "retry"]).code, 0);
    world.wait_equal("s2");
    world.wait_for("s3", &entries(&world.source, 3, "s3"));
}

#[test]
fn a_password_that_changes_is_waited_for_and_leaves_no_stream_alone() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    for server in [&world.target, &world.source] {
        // Who has a connection stays in; all others are asked for a password.
        let mut operator = server.connection();
        let run = |operator: &mut redis::Connection, args: &[&str]| {
            redis::cmd(args[0]).arg(&args[1..]).query::<redis::Value>(operator).expect("an answer")
        };
        run(&mut operator, &["CONFIG", "SET", "requirepass", "new"]);
        run(&mut operator, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        poll("the wait", || {
            let status = world.run(&["status", "--json"]).json();
            let units = status["units"].as_array().cloned().unwrap_or_default();
            units.iter().any(|unit| unit["last_error"].as_str().is_some_and(|w| w.contains("NOAUTH"))).then_some(())
        });
        run(&mut operator, &["CONFIG", "SET", "requirepass", ""]);
    }
    add(&world.source, 0, "s", 11..=20);
    world.wait_equal("s");
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
}

/// Makes a server a replica of another one.
fn follow(replica: &RedisServer, master: &RedisServer) {
    query::<()>(replica, 0, &["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
}

#[test]
fn a_position_is_withheld_until_replicas_have_what_it_stands_for() {
    let world = World::new("publish_group = \"copied\"\nwait_replicas = 1\nwait_ms = 50");
    add(&world.source, 0, "s", 1..=30);
    let node = world.node();
    world.wait_equal("s");
    node.wait_for("positions are withheld");
    let groups = || query::<Vec<redis::Value>>(&world.source, 0, &["XINFO", "GROUPS", "s"]).len();
    assert_eq!(groups(), 0);
    // The copy does not wait for it.
    add(&world.source, 0, "s", 31..=60);
    world.wait_equal("s");
    let replica = RedisServer::start();
    follow(&replica, &world.target);
    poll("the position", || (groups() == 1).then_some(()));
}

#[test]
fn in_group_mode_nothing_is_acknowledged_that_replicas_lack() {
    let world = World::new("mode = \"group\"\nwait_replicas = 1\nwait_ms = 50");
    add(&world.source, 0, "s", 1..=30);
    let mut node = world.node();
    let pending = || query::<Vec<redis::Value>>(&world.source, 0, &["XPENDING", "s", "gapless-sync", "-", "+", "100"]);
    poll("the wait", || {
        let status = world.run(&["status", "--json"]).json();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        units.iter().any(|unit| unit["last_error"].as_str().is_some_and(|w| w.contains("not kept yet"))).then_some(())
    });
    // What is not acknowledged is there, and nothing more is read meanwhile.
    let there = length(&world.target, 0, "s");
    assert!((1..=pending().len()).contains(&there), "{there} entries, {} pending", pending().len());
    // Who takes over finds it on the target, and still may not acknowledge it.
    node.kill();
    let _node = world.space.started("b", &[]);
    poll("the wait of the next one", || {
        let status = world.run(&["status", "--json"]).json();
        let units = status["units"].as_array().cloned().unwrap_or_default();
        let waits = |unit: &&serde_json::Value| {
            unit["node"] == "b" && unit["last_error"].as_str().is_some_and(|w| w.contains("not kept yet"))
        };
        units.iter().find(waits).map(drop)
    });
    assert!(pending().len() >= there);
    let replica = RedisServer::start();
    follow(&replica, &world.target);
    world.wait_equal("s");
    poll("nothing pending", || pending().is_empty().then_some(()));
    assert_eq!(length(&replica, 0, "s"), 30, "the replica has what was acknowledged");
}
