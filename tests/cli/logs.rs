//! `gapless logs status` and what `status` says of logs: real nodes that follow real files.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::node::{Node, Workspace, poll};
use super::support::redis::RedisServer;
use super::{eventually, names, world};

/// What follows the files of its folder, with short waits.
pub const SECTION: &str =
    "[logs.web]\npaths = [\"logs/*.log\"]\npoll_ms = 100\npoll_only_ms = 100\nrotate_wait_ms = 200\n";
/// What `logs status` says of a pipeline, of a file, of a watcher and of the stream.
const PIPELINE: [&str; 9] = ["behind", "files", "more", "orphans", "parser", "pipeline", "stream", "watchers", "whole"];
const FILE: [&str; 10] =
    ["behind", "fault", "file", "host", "looked_at", "offset", "oldest_ms", "path", "size", "state"];
const WATCHER: [&str; 9] =
    ["commit_age_ms", "files", "host", "lines", "orphan", "paused_age_ms", "runs", "unit", "waits"];
const STREAM: [&str; 10] =
    ["added", "dropped", "first", "groups", "keep", "last", "length", "max", "oldest_age_ms", "trimmed"];

/// A folder of files, and a configuration that follows them on the host `h`.
pub fn logs(more: &str) -> (RedisServer, Workspace) {
    let (redis, workspace) = world(&format!("host = \"h\"\n{SECTION}{more}"));
    std::fs::create_dir(workspace.path().join("logs")).expect("a folder");
    (redis, workspace)
}

/// The path of a followed file.
pub fn path(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.path().join("logs").join(name)
}

/// Appends lines to a file, each with its end.
pub fn append(workspace: &Workspace, name: &str, lines: &[&str]) {
    let mut file = OpenOptions::new().append(true).create(true).open(path(workspace, name)).expect("a file");
    for line in lines {
        file.write_all(format!("{line}\n").as_bytes()).expect("written");
    }
}

/// Waits until the stream has had so many lines.
#[track_caller]
pub fn wait_lines(redis: &RedisServer, count: u64) {
    let key = "t:{logs.web}:out:lines";
    poll(&format!("{count} lines"), || {
        let length = redis.text(&["XLEN", key]).parse::<u64>().expect("a number");
        (length >= count).then_some(())
    });
}

/// A node that has followed two files of three lines each.
pub fn followed() -> (RedisServer, Workspace, Node) {
    let (redis, workspace) = logs("");
    append(&workspace, "a.log", &["INFO a1", "ERROR a2", "INFO a3"]);
    append(&workspace, "b.log", &["WARN b1", "INFO b2", "INFO b3"]);
    let node = workspace.started("n", &[]);
    wait_lines(&redis, 6);
    (redis, workspace, node)
}

#[test]
fn each_file_is_shown_with_its_place_in_json_and_words() {
    let (redis, workspace, _node) = followed();
    let status = workspace.run(&["logs", "status", "--json"]).json();
    let one = &status["pipelines"][0];
    assert_eq!((names(&status), names(one)), (vec!["pipelines"], PIPELINE.to_vec()));
    let (file, watcher, stream) = (&one["files"][0], &one["watchers"][0], &one["stream"]);
    assert_eq!((names(file), names(watcher), names(stream)), (FILE.to_vec(), WATCHER.to_vec(), STREAM.to_vec()));
    let shown = (&file["path"], &file["state"], &file["offset"], &file["size"], &file["behind"], &file["host"]);
    let real = path(&workspace, "a.log").canonicalize().expect("a path").display().to_string();
    let size = std::fs::metadata(&real).expect("a file").len();
    assert_eq!(shown, (&json!(real), &json!("followed"), &json!(size), &json!(size), &json!(0), &json!("h")));
    assert_eq!(one["files"][1]["path"], json!(real.replace("a.log", "b.log")), "by path");
    assert_eq!((&watcher["unit"], &watcher["lines"]), (&json!("logs.web/log_watcher@h"), &json!(6)));
    assert_eq!((&watcher["runs"], &watcher["orphan"], &one["orphans"]), (&json!(true), &json!(false), &json!([])));
    let (length, keep) = (&stream["length"], &stream["keep"]);
    assert_eq!((length, keep, &stream["groups"]), (&json!(6), &json!("acknowledged"), &json!([])));
    assert_eq!(stream["dropped"], json!({ "all": 0, "unread": 0 }));

    let text = workspace.run(&["logs", "status"]).out;
    assert!(text.starts_with("logs.web\nHOST  STATE     OFFSET  SIZE  BEHIND  WAITS  FILE\n"), "{text}");
    assert!(text.contains("\n2 files, 0 B behind in 0\nstream lines: 6 of 1,000,000 (keep acknowledged), "), "{text}");

    let status = workspace.run(&["status"]).out;
    let line = "\n  lines 6, behind 0 bytes in 0 of 2 files, stream 6\n";
    assert!(status.contains(line), "{status}");
    let summary = workspace.run(&["status", "--json"]).json()["pipelines"][0]["summary"]["facts"].clone();
    assert_eq!((&summary["lines"], &summary["files"], &summary["whole"]), (&json!(6), &json!(2), &json!(true)));
    drop(redis);
}

#[test]
fn an_unfinished_line_is_behind_and_not_late_and_a_rotated_file_is_finished() {
    let (_redis, workspace, node) = followed();
    let file = OpenOptions::new().append(true).open(path(&workspace, "a.log"));
    file.and_then(|mut file| file.write_all(b"half")).expect("written");
    let half = |status: &Value| {
        let file = &status["pipelines"][0]["files"][0];
        (file["behind"] == 4 && file["oldest_ms"].is_null()).then_some(())
    };
    poll("an unfinished line", || half(&workspace.run(&["logs", "status", "--json"]).json()));
    #[expect(clippy::disallowed_methods, reason = "this is what rotation does")]
    std::fs::rename(path(&workspace, "b.log"), path(&workspace, "b.log.1")).expect("renamed");
    let is_finished = |status: &Value| {
        let files = status["pipelines"][0]["files"].as_array().expect("files").clone();
        files
            .iter()
            .any(|file| file["state"] == "finished" && file["path"].as_str().is_some_and(|p| p.contains("/b.log")))
    };
    eventually(&workspace, "a finished file", &["logs", "status", "--all"], is_finished);
    let few = workspace.run(&["logs", "status", "--json"]).json();
    let few = &few["pipelines"][0];
    assert_eq!((few["files"].as_array().map(Vec::len), &few["more"]), (Some(1), &json!(1)));
    let text = workspace.run(&["logs", "status"]).out;
    assert!(text.contains("; 1 not shown (--all)\n"), "{text}");
    drop(node);
}

#[test]
fn a_host_without_a_node_is_an_orphan_and_a_paused_watcher_says_how_to_go_on() {
    let (_redis, workspace, mut node) = followed();
    assert_eq!(workspace.run(&["pause", "logs.web"]).code, 0);
    eventually(&workspace, "the pause", &["logs", "status"], |status| {
        status["pipelines"][0]["watchers"][0]["paused_age_ms"].is_number()
    });
    let text = workspace.run(&["logs", "status"]).out;
    assert!(
        text.contains("logs.web/log_watcher@h: paused by an operator ") && text.ends_with("gapless resume logs.web\n"),
        "{text}"
    );
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    let done = eventually(&workspace, "an orphan", &["logs", "status"], |status| {
        status["pipelines"][0]["orphans"] == json!(["h"])
    });
    assert_eq!(done.json()["pipelines"][0]["watchers"][0]["orphan"], json!(true));
    let text = workspace.run(&["logs", "status"]).out;
    let words = "logs.web/log_watcher@h: nobody follows its 2 files: no node of this host lives; start one there\n";
    assert!(text.contains(words), "{text}");
    let text = workspace.run(&["status"]).out;
    assert!(text.contains(", ALARM: orphans (gapless logs status)\n"), "{text}");
}

#[test]
fn before_the_first_node_and_without_a_pipeline_it_says_what_to_do() {
    let (mut redis, workspace) = logs("");
    let text = workspace.run(&["logs", "status"]).out;
    let words = "logs.web\nno file has a place yet: a node follows them: gapless run; what the patterns match: gapless \
                 doctor\nstream lines: nothing was appended yet\n";
    assert_eq!(text, words);
    assert_eq!(workspace.run(&["status", "--json"]).json()["pipelines"][0]["summary"], Value::Null);
    let unknown = workspace.run(&["logs", "status", "--pipeline", "x"]);
    unknown.failed(2, "gapless: no pipeline x; there are: logs.web\n");
    redis.kill();
    assert_eq!(workspace.run(&["logs", "status"]).code, 3);
    let (_redis, workspace) = world("");
    let none = workspace.run(&["logs", "status"]);
    none.failed(2, "gapless: the configuration has no logs pipeline; add a table [logs.NAME]\n");
}
