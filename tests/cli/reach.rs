//! Redis away: one-shot commands give up in time with code 3, nodes wait.

use std::time::Duration;

use rustix::process::Signal;

use super::support::node::{Workspace, config, send_signal};
use super::support::redis::{RedisServer, free_port};
use super::{QUIET, eventually, world};

#[test]
fn one_shot_commands_give_up_within_four_seconds() {
    let url = format!("redis://127.0.0.1:{}/", free_port());
    let workspace = Workspace::new(&config(&url, QUIET));
    let words = format!("gapless: redis at {url} is out of reach: Connection refused (os error 111)\n");
    let commands = [&["status"][..], &["send", "selftest.main/tally_0", "number", "{}"], &["checkpoint", "list"]];
    let done = std::thread::scope(|scope| {
        let runs = commands.map(|args| scope.spawn(|| workspace.run(args)));
        runs.map(|run| run.join().expect("an end"))
    });
    for done in done {
        done.failed(3, &words);
        assert!(done.took < Duration::from_millis(4500), "{:?}", done.took);
    }
}

#[test]
fn a_redis_that_hangs_is_out_of_reach_too() {
    let (redis, workspace) = world(QUIET);
    send_signal(redis.pid(), Signal::STOP);
    let done = workspace.run(&["mailbox", "list"]);
    send_signal(redis.pid(), Signal::CONT);
    assert_eq!((done.code, done.out.as_str()), (3, ""), "{done:?}");
    assert!(done.err.starts_with("gapless: redis at ") && done.err.lines().count() == 1, "{}", done.err);
    assert!(done.took < Duration::from_secs(6), "{:?}", done.took);
}

#[test]
fn doctor_says_so_among_its_checks() {
    let url = format!("redis://127.0.0.1:{}/", free_port());
    let done = Workspace::new(&config(&url, QUIET)).run(&["doctor"]);
    assert_eq!((done.code, done.err.as_str()), (3, ""));
    assert_eq!(
        done.out,
        format!(
            "good  configuration  1 pipeline: selftest.main\n\
             bad   redis          redis at {url} is out of reach: Connection refused (os error 111)\n\
             {:21}-> start it, or correct redis.url\n\n\
             1 good, 0 warnings, 1 bad\n",
            ""
        )
    );
}

#[test]
fn a_managed_redis_is_never_started_by_looking() {
    let workspace = Workspace::new(QUIET);
    for args in [&["status"][..], &["mailbox", "list"], &["checkpoint", "list"]] {
        let words = "gapless: no managed redis in data/redis: start a node first: gapless run\n";
        let done = workspace.run(args);
        done.failed(3, words);
        assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
    }
    let left: Vec<_> = std::fs::read_dir(workspace.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "only gapless.toml: {left:?}");
}

#[test]
fn a_node_waits_for_redis_and_says_so_in_one_line() {
    let mut redis = RedisServer::start();
    redis.kill();
    let workspace = Workspace::new(&config(&redis.url(), QUIET));
    let mut node = workspace.node("a", &[]);
    let waiting = node.wait_for("redis is away; waiting");
    assert!(waiting.contains(&redis.url()), "{waiting}");
    redis.resume();
    node.wait_for("redis answers again");
    node.wait_for("node started");
    let said = node.lines().iter().filter(|line| line.contains("redis is away")).count();
    assert_eq!(said, 1, "{:?}", node.lines());
    eventually(&workspace, "all units held", &["status"], |status| status["pipelines"][0]["held"] == 3);
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
}
