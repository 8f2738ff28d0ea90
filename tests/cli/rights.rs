//! The least user of Redis that suffices, as `doctor` prints it: enough for everything, and what lacks is named.

use super::support::node::{Workspace, config};
use super::support::redis::RedisServer;
use super::{eventually, sim};

/// Blocks of the simulated chain.
const HEAD: u64 = 120;

/// A configuration for the ACL user `node` with the password `secret`.
fn as_node(redis: &RedisServer, more: &str) -> String {
    config(&redis.url().replace("redis://", "redis://node:secret@"), more)
}

/// Makes a user by the line that `doctor --acl` prints, with `more` rules behind it.
fn make_user(redis: &RedisServer, workspace: &Workspace, more: &str) {
    let printed = workspace.run(&["doctor", "--acl"]);
    assert_eq!((printed.code, printed.err.as_str(), printed.out.lines().count()), (0, "", 1), "{printed:?}");
    let line = printed.out.replace("PASSWORD", "secret");
    let words: Vec<&str> = line.split_whitespace().chain(more.split_whitespace()).collect();
    redis.command(&words);
}

/// Everything that Redis denied so far, as text.
fn denied(redis: &RedisServer) -> String {
    let log = redis.command(&["ACL", "LOG"]);
    if log == redis::Value::Array(Vec::new()) { String::new() } else { format!("{log:?}") }
}

#[test]
fn the_printed_user_is_enough_for_every_pipeline_and_command() {
    let redis = RedisServer::start();
    let sim = sim::Sim::start(sim::plan(7, HEAD));
    let workspace = Workspace::new(&as_node(
        &redis,
        &format!(
            "[selftest.main]\nactors = 2\nmessages = 2000\n[blocks.main]\nendpoints = [\"{}\"]\nstart = 0\n\
             store = \"store\"\nconfirmations = 10\npoll_ms = 100\nseed_view = true\n\
             [logs.web]\npaths = [\"*.txt\"]\nchannel_prefix = \"tap:\"\n",
            sim.url
        ),
    ));
    std::fs::write(workspace.path().join("a.txt"), "INFO one\nWARN two\n").expect("a log file");
    make_user(&redis, &workspace, "");
    let mut listener = redis.connection();
    let mut listener = listener.as_pubsub();
    listener.psubscribe("tap:*").expect("a subscription");
    let mut node = workspace.started("a", &[]);
    let told: String = listener.get_message().and_then(|told| told.get_payload()).expect("a line");
    assert_eq!(told, "INFO one");
    eventually(&workspace, "all blocks", &["blocks", "status"], |status| status["pipelines"][0]["held"] == HEAD + 1);
    let outputs = || [0, 1].map(|n| redis.command(&["XLEN", &format!("t:{{selftest.main}}:out:tally_{n}")]));
    super::poll("all messages", || (outputs() == [redis::Value::Int(2000), redis::Value::Int(2000)]).then_some(()));
    for args in [
        &["status"][..],
        &["mailbox", "list"],
        &["mailbox", "peek", "selftest.main/tally_0"],
        &["mailbox", "dead", "list", "selftest.main/tally_0"],
        &["checkpoint", "list"],
        &["checkpoint", "history", "selftest.main/tally_0"],
        &["send", "selftest.main/tally_0", "number", "{\"n\":2001}"],
        &["blocks", "gaps"],
        &["blocks", "verify"],
        &["logs", "status"],
        &["logs", "verify"],
    ] {
        let done = workspace.run(args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
    }
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    assert_eq!(denied(&redis), "", "something was denied");
    // Only now: it asks who it is, which no node needs to know.
    let doctor = workspace.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:?}");
}

#[test]
fn doctor_names_each_right_that_lacks() {
    let redis = RedisServer::start();
    let workspace = Workspace::new(&as_node(&redis, super::QUIET));
    for (less, named) in [
        ("-xadd", "node lacks +xadd"),
        ("-evalsha -xgroup|create", "node lacks +evalsha +xgroup|create"),
        ("resetkeys ~other:*", "node lacks ~t:*"),
        ("resetchannels", "node lacks &t:*"),
    ] {
        // With the right to ask for a dry run, and without it.
        for more in ["+acl|whoami +acl|dryrun", "+acl|whoami", ""] {
            make_user(&redis, &workspace, &format!("{less} {more}"));
            let doctor = workspace.run(&["doctor", "--json"]);
            assert_eq!(doctor.code, 1, "{doctor:?}");
            let checks = doctor.json()["checks"].clone();
            let check = checks.as_array().expect("checks").iter().find(|check| check["name"] == "rights");
            let check = check.unwrap_or_else(|| panic!("{checks:?}"));
            let named = if more.is_empty() { named.replace("node", "the user") } else { named.to_owned() };
            assert_eq!(
                (check["verdict"].as_str(), check["words"].as_str()),
                (Some("bad"), Some(named.as_str())),
                "{more}"
            );
            // What the remedy says cures it.
            let remedy = check["remedy"].as_str().expect("a remedy").replace("the user", "node");
            redis.command(&remedy.split_whitespace().collect::<Vec<_>>());
            let cured = workspace.run(&["doctor"]);
            assert_eq!(cured.code, 0, "{cured:?}");
        }
    }
    let keys: Vec<String> = redis::from_redis_value(redis.command(&["KEYS", "*doctor*"])).expect("keys");
    assert_eq!(keys, Vec::<String>::new(), "the trial leaves nothing behind");
}

#[test]
fn doctor_names_the_channels_of_log_lines_that_lack() {
    let redis = RedisServer::start();
    let workspace = Workspace::new(&as_node(&redis, "[logs.web]\npaths = [\"*.txt\"]\nchannel_prefix = \"tap:\"\n"));
    make_user(&redis, &workspace, "resetchannels &t:* +acl|whoami");
    let doctor = workspace.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.out.contains("node lacks &tap:*"), "{}", doctor.out);
    make_user(&redis, &workspace, "");
    assert_eq!(workspace.run(&["doctor"]).code, 0);
}

#[test]
fn a_wrong_user_is_refused_not_waited_for() {
    let redis = RedisServer::start();
    let workspace = Workspace::new(&as_node(&redis, super::QUIET));
    for args in [&["status"][..], &["run"]] {
        let done = workspace.run(args);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.err.contains("redis.username") && !done.err.contains("secret"), "{}", done.err);
    }
}
