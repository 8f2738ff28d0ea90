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
