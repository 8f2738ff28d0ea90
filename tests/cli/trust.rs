//! Which Redis a node trusts with its data, and what it says when it does not.

use rustix::process::Signal;

use super::support::node::{Workspace, config};
use super::support::redis::RedisServer;
use super::{QUIET, eventually, world};

#[test]
fn a_wrong_password_is_refused_not_waited_for() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", "right"]);
    let url = redis.url().replace("redis://", "redis://:wrong@");
    let workspace = Workspace::new(&config(&url, QUIET));
    for args in [&["status"][..], &["run"]] {
        let words = "gapless: redis refused the user or password (redis.username, redis.password, \
                     redis.password_file, redis.url): Password authentication failed - AuthenticationFailed\n";
        workspace.run(args).failed(2, words);
    }
}

#[test]
fn an_eviction_policy_is_refused_unless_accepted() {
    let (redis, workspace) = world(QUIET);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    workspace.run(&["run"]).failed(
        2,
        "gapless: redis would lose data: maxmemory-policy is allkeys-lru: redis may drop mailboxes and checkpoints; set \
         it to noeviction (or set redis.eviction = \"warn\")\n",
    );
    let doctor = workspace.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.out.contains("\nbad   eviction       maxmemory-policy is allkeys-lru"), "{}", doctor.out);
    let accepted = format!("[redis]\nurl = \"{}\"\neviction = \"warn\"\n[node]\nhttp = \"\"\n{QUIET}", redis.url());
    let workspace = Workspace::new(&accepted);
    let node = workspace.started("a", &[]);
    let line = node.wait_for("redis may lose data: maxmemory-policy is allkeys-lru");
    assert!(line.contains(" WARN "), "{line}");
    assert_eq!(workspace.run(&["doctor"]).code, 0);
}

#[test]
fn missing_persistence_is_warned_about_unless_refused() {
    let redis = RedisServer::with(&["--appendonly", "no"]);
    let workspace = Workspace::new(&config(&redis.url(), QUIET));
    let node = workspace.started("a", &[]);
    let words = "neither appendonly nor save is set: a restart of redis forgets everything; set appendonly yes";
    let line = node.wait_for(&format!("redis may lose data: {words}"));
    assert!(line.contains(" WARN "), "{line}");
    workspace.write("strict.toml", "[redis]\npersistence = \"refuse\"\n");
    workspace
        .run(&["run", "--config", "gapless.toml", "--config", "strict.toml"])
        .failed(2, &format!("gapless: redis would lose data: {words} (or set redis.persistence = \"warn\")\n"));
}

#[test]
fn an_emptied_redis_stops_the_node_until_the_loss_is_accepted() {
    let (redis, workspace) = world("[selftest.main]\nactors = 1\nmessages = 5\n");
    let mut node = workspace.started("a", &[]);
    let added =
        |n: u64, sum: u64| move |shown: &serde_json::Value| shown["state"] == serde_json::json!({ "n": n, "sum": sum });
    let show = ["checkpoint", "show", "selftest.main/tally_0"];
    eventually(&workspace, "five added up", &show, added(5, 15));
    let status = workspace.run(&["--json", "status"]).json();
    let cluster = status["redis"]["cluster"].as_str().expect("an id").to_owned();
    redis.command(&["FLUSHALL"]);
    assert_eq!(node.wait(), 2, "{:?}", node.lines());
    let words = format!(
        "gapless: this Redis is not the one that this node worked with (cluster id ``, expected `{cluster}`): it was \
         emptied, or the address leads to another server. Restore it, or accept the loss with `gapless run \
         --accept-data-loss`"
    );
    let errors: Vec<String> = node.lines().into_iter().filter(|line| line.starts_with("gapless: ")).collect();
    assert_eq!(errors, std::slice::from_ref(&words));
    workspace.run(&["run"]).failed(2, &format!("{words}\n"));
    let doctor = workspace.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.out.contains(&format!("worked with cluster {}, it has no id now", &cluster[..8])), "{}", doctor.out);
    let mut again = workspace.started("a", &["--accept-data-loss"]);
    eventually(&workspace, "five added up again", &show, added(5, 15));
    again.signal(Signal::TERM);
    assert_eq!(again.wait(), 0);
    let _third = workspace.started("a", &[]);
}

/// `[redis]` with one more line, and a self-test that has work.
fn with_redis(redis: &RedisServer, line: &str) -> String {
    let rest = "[node]\nhttp = \"\"\nlease_seconds = 1\n[selftest.main]\nactors = 1\nmessages = 500\n";
    format!("[redis]\nurl = \"{}\"\nprefix = \"t\"\n{line}\n{rest}", redis.url())
}

#[test]
fn a_unit_without_its_replicas_waits_loudly_and_goes_on_with_them() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--repl-diskless-sync-delay", "0"]);
    let workspace = Workspace::new(&with_redis(&redis, "durability = \"replicated\"\nwait_ms = 50"));
    let node = workspace.started("a", &[]);
    node.wait_for("the last commit is not kept yet: 0 of 1 replicas (redis.wait_replicas)");
    eventually(&workspace, "waiting units", &["status"], |status| status.to_string().contains("\"waiting\""));
    let doctor = workspace.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.out.contains("0 replicas, but redis.wait_replicas is 1"), "{}", doctor.out);
    let records = || redis.command(&["XLEN", "t:{selftest.main}:out:tally_0"]);
    assert_eq!(records(), redis::Value::Int(0), "nobody's turn has begun");
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &redis.port.to_string()]);
    super::poll("all messages", || (records() == redis::Value::Int(500)).then_some(()));
    node.wait_for("working again");
    drop(replica);
}

#[test]
fn a_redis_that_cannot_give_what_fsync_asks_is_refused() {
    let redis = RedisServer::start();
    let workspace = Workspace::new(&with_redis(&redis, "durability = \"fsync\""));
    if redis.accepts(&["WAITAOF", "0", "0", "1"]) {
        eprintln!("SKIPPED: redis-server on this machine has WAITAOF, so nothing is refused");
        return;
    }
    workspace.run(&["run"]).failed(
        2,
        "gapless: redis would lose data: redis.durability is \"fsync\", but this server has no WAITAOF (Redis 7.2 or newer \
         and Valkey have it) and appendfsync is everysec; set appendfsync always, on every server that may become the \
         master, or use a newer server (or set redis.durability = \"fast\")\n",
    );
    assert!(workspace.run(&["doctor"]).out.contains("\nbad   durability  "));
    redis.command(&["CONFIG", "SET", "appendfsync", "always"]);
    let node = workspace.started("a", &[]);
    let records = || redis.command(&["XLEN", "t:{selftest.main}:out:tally_0"]);
    super::poll("all messages", || (records() == redis::Value::Int(500)).then_some(()));
    drop(node);
}

#[test]
fn doctor_looks_at_tls_and_at_each_sentinel() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut fleet = runtime.block_on(super::support::sentinel::Fleet::start(1, &[]));
    let workspace = Workspace::new(&config(&fleet.url(), QUIET));
    let doctor = workspace.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:?}");
    let words = |done: &super::Done, part: &str| done.out.matches(part).count();
    let master = format!("master 127.0.0.1:{}, 1 replica, quorum 2 of 3 sentinels", fleet.servers[0].port);
    assert_eq!((words(&doctor, "good  sentinel 127.0.0.1:"), words(&doctor, &master)), (3, 3), "{}", doctor.out);
    assert!(doctor.out.contains("min-replicas-to-write is 0"), "{}", doctor.out);
    fleet.servers[0].command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    fleet.sentinels[0].kill();
    let doctor = workspace.run(&["doctor"]);
    assert_eq!((doctor.code, words(&doctor, "warn  sentinel 127.0.0.1:")), (0, 1), "{}", doctor.out);
    assert!(doctor.out.contains("Connection refused") && !doctor.out.contains("min-replicas-to-write is 0"));

    let authority = super::support::tls::Authority::new();
    let Some(server) = super::support::tls::TlsServer::start(&authority, &["localhost"], false) else { return };
    let lines = |line: &str| {
        let rest = "[node]\nhttp = \"\"\n[selftest.main]\n";
        format!("[redis]\nurl = \"{}\"\n{line}\n{rest}", server.url("localhost"))
    };
    let ca = authority.ca_file().display().to_string();
    let workspace = Workspace::new(&lines(&format!("tls_ca_file = '{ca}'")));
    let doctor = workspace.run(&["doctor"]);
    assert!(doctor.code == 0 && doctor.out.contains("its certificate is checked against"), "{doctor:?}");
    let workspace = Workspace::new(&lines("tls_insecure = true"));
    let doctor = workspace.run(&["doctor"]);
    assert!(doctor.code == 0 && doctor.out.contains("any certificate is trusted"), "{doctor:?}");
    workspace.node("a", &[]).wait_for("redis.tls_insecure is true: any server is trusted");
}
