//! Dead letters by command: which are meant, what is said, and what is left.

use serde_json::{Value, json};

use super::support::node::Workspace;
use super::support::redis::RedisServer;
use super::{QUIET, eventually, names, oracle, world};

const TALLY: &str = "selftest.main/tally_0";

/// Letters of the numbers 1 to `count`; every second died of a panic, the others of malformed bodies.
fn graveyard(redis: &RedisServer, count: u64) -> Vec<String> {
    let letter = |n: u64| {
        let body = format!("{{\"n\":{n}}}");
        let reason = if n % 2 == 1 { "5 failed attempts, the last: a panic" } else { "malformed: no number" };
        let dead = "t:{selftest.main}:dead:tally_0";
        redis.text(&["XADD", dead, "*", "type", "number", "body", &body, "dead.reason", reason, "dead.failed", "5"])
    };
    (1..=count).map(letter).collect()
}

fn bodies(workspace: &Workspace) -> Vec<Value> {
    let entries = workspace.run(&["mailbox", "peek", TALLY, "--json", "--count", "1000"]).json();
    let body = |entry: &Value| serde_json::from_str::<Value>(entry["fields"][1][1].as_str().expect("a body"));
    entries["entries"].as_array().expect("entries").iter().map(|e| body(e).expect("JSON")["n"].clone()).collect()
}

fn dead(workspace: &Workspace) -> usize {
    let letters = workspace.run(&["mailbox", "dead", "list", TALLY, "--json", "--count", "1000"]).json();
    letters["letters"].as_array().expect("letters").len()
}

#[test]
fn letters_are_retried_by_id_by_reason_and_all_of_them() {
    let (redis, workspace) = world(QUIET);
    let ids = graveyard(&redis, 6);
    let retry = |more: &[&str]| workspace.run(&[&["mailbox", "dead", "retry", TALLY], more].concat());
    let done = retry(&[&ids[3], &ids[0]]);
    assert_eq!((done.code, done.out.as_str()), (0, "2 letters moved back to the end of selftest.main/tally_0\n"));
    assert_eq!(bodies(&workspace), [4, 1]);
    let done = retry(&["--reason", "a panic", "--limit", "1"]);
    assert_eq!((done.code, done.out.as_str()), (0, "1 letter moved back to the end of selftest.main/tally_0\n"));
    assert_eq!(bodies(&workspace), [4, 1, 3]);
    let done = retry(&["--all", "--json"]).json();
    assert_eq!(names(&done), ["gone", "left", "mailbox", "moved", "unknown"]);
    assert_eq!(done, json!({ "mailbox": TALLY, "moved": 3, "gone": 0, "left": 0, "unknown": [] }));
    assert_eq!(
        (bodies(&workspace), dead(&workspace)),
        (vec![4, 1, 3, 2, 5, 6].into_iter().map(Value::from).collect(), 0)
    );
    let done = retry(&[&ids[0], "7-7"]);
    assert_eq!(done.code, 1);
    assert_eq!(done.err, format!("gapless: no such letter: {}, 7-7\n", ids[0]));
    for bad in [&[][..], &["--all", "1-1"], &["--all", "--reason", "x"], &["--all", "--limit", "0"], &["x"]] {
        assert_eq!(retry(bad).code, 2, "{bad:?}");
    }
}

#[test]
fn a_full_mailbox_leaves_letters_and_says_how_many() {
    let (redis, workspace) = world(&format!("{QUIET}[mailbox]\ncapacity = 260\n"));
    graveyard(&redis, 500);
    let retry = ["mailbox", "dead", "retry", TALLY, "--all"];
    let done = workspace.run(&retry);
    assert_eq!((done.code, done.out.as_str()), (1, "260 letters moved back to the end of selftest.main/tally_0\n"));
    let words =
        "mailbox selftest.main/tally_0 is full (capacity 260): 240 letters are left; run it again when there is room";
    assert_eq!(done.err, format!("gapless: {words}\n"));
    assert_eq!((bodies(&workspace).len(), dead(&workspace)), (260, 240));
    // A node makes room, and the rest follows.
    let _node = workspace.started("a", &[]);
    let show = ["checkpoint", "show", TALLY];
    eventually(&workspace, "260 numbers", &show, |shown| shown["state"]["sum"] == 260 * 261 / 2);
    let done = workspace.run(&retry);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    eventually(&workspace, "all numbers, once each", &show, |shown| shown["state"]["sum"] == 500 * 501 / 2);
    assert_eq!(dead(&workspace), 0);
}

#[test]
fn letters_are_dropped_only_on_purpose() {
    let (redis, workspace) = world(QUIET);
    let ids = graveyard(&redis, 4);
    let drop = |more: &[&str]| workspace.run(&[&["mailbox", "dead", "drop", TALLY], more].concat());
    drop(&["--all"]).failed(2, "gapless: nothing was changed: say --yes, since nobody can be asked here\n");
    assert_eq!(dead(&workspace), 4);
    let done = drop(&[&ids[1], "--yes"]);
    assert_eq!((done.code, done.out.as_str()), (0, "1 letter of selftest.main/tally_0 dropped\n"));
    let done = workspace.run(&["mailbox", "dead", "drop", TALLY, "--all", "--yes", "--json", "--log-level", "info"]);
    assert_eq!(done.json(), json!({ "mailbox": TALLY, "dropped": 3, "unknown": [] }));
    assert!(done.err.contains("dead letters dropped by an operator") && done.err.contains("dropped=3"), "{done:?}");
    assert_eq!((dead(&workspace), bodies(&workspace)), (0, vec![]));
}

/// A task that was set aside has its heights parked; retried, they are let go, and a node would ask for them.
#[test]
fn a_task_of_the_pool_comes_back_with_its_heights() {
    let blocks = "[blocks.main]\nendpoints = [\"http://127.0.0.1:9\"]\nstart = 0\nstore = \"store\"\n";
    let (redis, workspace) = world(blocks);
    let (dead, parked) = (oracle::key("main", "dead:gap_fixer"), oracle::key("main", "parked"));
    let task = ["type", "fill", "body", "{\"range\":[100,149]}", "dead.reason", "5 failed attempts"];
    for _ in 0..2 {
        redis.command(&[&["XADD", &dead, "*"], &task[..]].concat());
    }
    redis.command(&["ZADD", &parked, "90", "90 99 @5 by an operator: lost"]);
    redis.command(&["ZADD", &parked, "100", "100 149 @5 its task was set aside: 5 failed attempts"]);
    let fixer = "blocks.main/gap_fixer";
    let dropped = workspace.run(&["mailbox", "dead", "drop", fixer, "--all", "--yes"]);
    assert!(dropped.out.contains("the heights of its tasks stay parked"), "{dropped:?}");
    assert_eq!(oracle::parked(&redis, "main").len(), 2);
    redis.command(&[&["XADD", &dead, "*"], &task[..]].concat());
    let done = workspace.run(&["mailbox", "dead", "retry", fixer, "--all"]);
    let words =
        "1 letter moved back to the end of blocks.main/gap_fixer\nheights that were parked because of it are let go\n";
    assert_eq!((done.code, done.out.as_str()), (0, words));
    assert_eq!(oracle::parked(&redis, "main"), [(90, 99, "by an operator: lost".to_owned())]);
}
