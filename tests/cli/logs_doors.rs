//! What the commands that know every kind of pipeline say of logs: doctor, pause, resume, rescan, rewind.

use serde_json::{Value, json};

use super::eventually;
use super::logs::{append, followed, logs, path, wait_lines};
use super::support::node::{Done, Workspace, poll};
use super::support::redis::RedisServer;

const WATCHER: &str = "logs.web/log_watcher@h";
const LINES: &str = "t:{logs.web}:out:lines";

/// A check of `doctor`, by its name.
#[track_caller]
fn check(workspace: &Workspace, name: &str) -> (String, String, String) {
    check_of(&workspace.run(&["doctor", "--json"]), name)
}

#[track_caller]
fn check_of(done: &Done, name: &str) -> (String, String, String) {
    let checks = done.json()["checks"].clone();
    let check = checks.as_array().expect("checks").iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name} in {checks:#}"));
    let text = |key: &str| check[key].as_str().expect("a text").to_owned();
    (text("verdict"), text("words"), text("remedy"))
}

fn length(redis: &RedisServer) -> u64 {
    redis.text(&["XLEN", LINES]).parse().expect("a number")
}

#[test]
fn doctor_says_what_the_patterns_match_and_what_keeps_it_from_being_followed() {
    let (_redis, workspace) = logs("");
    let (verdict, words, remedy) = check(&workspace, "logs.web files");
    assert_eq!((verdict.as_str(), words.as_str()), ("warn", "no file matches logs/*.log"), "its folder is there");
    assert!(remedy.contains("correct the patterns"), "{remedy}");
    append(&workspace, "a.log", &["INFO a"]);
    append(&workspace, "b.log", &["INFO b"]);
    let (verdict, words, _) = check(&workspace, "logs.web files");
    assert_eq!((verdict.as_str(), words.as_str()), ("good", "2 files match, 14 B"));
    let (verdict, words, _) = check(&workspace, "logs.web watch");
    assert_eq!((verdict.as_str(), words.as_str()), ("good", "by events, and every 100 ms in any case"));
    assert_eq!(check(&workspace, "logs.web stream").1, "0 of 1,000,000 entries");

    let (_redis, workspace) = logs("files_max = 1\nheld_max = 100000\nwatch = \"poll\"\n");
    append(&workspace, "a.log", &["INFO a"]);
    append(&workspace, "b.log", &["INFO b"]);
    let (verdict, words, remedy) = check(&workspace, "logs.web files");
    assert_eq!(verdict, "warn");
    assert!(words.ends_with("1 are not followed, files_max is 1"), "{words}");
    assert!(remedy.starts_with("raise logs.web.files_max"), "{remedy}");
    assert_eq!(check(&workspace, "logs.web watch").1, "files are looked at every 100 ms, as configured");
    let (_, words, _) = check(&workspace, "open files");
    assert!(words.starts_with("100257 may be needed"), "{words}");
    let text = workspace.run(&["doctor"]);
    assert_eq!(text.code, 0, "a warning is no fault: {text:?}");
}

/// Runs the program as root is not: without the right to read whatever it likes. Others have no such right anyway.
fn as_nobody(workspace: &Workspace, args: &[&str]) -> Done {
    use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};
    let rights = [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH];
    // The rights of this one thread, which its child inherits.
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            for right in rights {
                let _ = remove_capability_from_bounding_set(right);
            }
            if let Ok(mut sets) = capabilities(None) {
                sets.inheritable.remove(rights[0] | rights[1]);
                let _ = set_capabilities(None, sets);
            }
            workspace.run(args)
        });
        run.join().expect("it runs")
    })
}

#[test]
fn doctor_names_what_cannot_be_read_with_the_remedy_that_helps() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (_redis, workspace) = logs("");
    append(&workspace, "a.log", &["INFO a"]);
    append(&workspace, "shut.log", &["INFO b"]);
    let shut = path(&workspace, "shut.log");
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o000)).expect("shut");
    let (verdict, words, remedy) = check_of(&as_nobody(&workspace, &["doctor", "--json"]), "logs.web files");
    assert_eq!(verdict, "warn");
    let real = shut.canonicalize().expect("a path").display().to_string();
    assert!(words.contains(&format!("cannot read {real}: Permission denied")), "{words}");
    assert!(remedy.starts_with("give the user of the node the right to read it"), "{remedy}");
    std::fs::remove_file(&shut).expect("removed");

    // A link that leads to itself. One that leads nowhere is a file that may still come.
    symlink("loop.log", path(&workspace, "loop.log")).expect("a link");
    symlink("nowhere", path(&workspace, "later.log")).expect("a link");
    let (verdict, words, remedy) = check(&workspace, "logs.web files");
    assert_eq!(verdict, "warn");
    assert!(
        words.starts_with("1 file matches, 7 B; cannot read ") && words.contains("loop.log: Too many levels"),
        "{words}"
    );
    assert!(remedy.contains("exclude = [...]"), "{remedy}");
}

#[test]
fn doctor_names_a_folder_that_is_not_there_also_beside_one_that_is() {
    let (_redis, workspace) = logs("");
    std::fs::remove_dir(workspace.path().join("logs")).expect("removed");
    let (verdict, words, remedy) = check(&workspace, "logs.web files");
    assert_eq!((verdict.as_str(), words.as_str()), ("warn", "no file matches logs/*.log; there is no folder logs"));
    assert!(remedy.contains("it is made later"), "{remedy}");
    std::fs::create_dir(workspace.path().join("logs")).expect("a folder");
    append(&workspace, "a.log", &["INFO a"]);
    let text = std::fs::read_to_string(workspace.path().join("gapless.toml")).expect("the configuration");
    workspace.write("gapless.toml", &text.replace("\"logs/*.log\"", "\"logs/*.log\", \"logz/*/x.log\""));
    assert_eq!(check(&workspace, "logs.web files").1, "1 file matches, 7 B; there is no folder logz");
}

#[test]
fn doctor_names_hosts_whose_files_nobody_follows() {
    let (_redis, workspace, mut node) = followed();
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    // A node of another host: the places of the first one are orphans.
    let text = std::fs::read_to_string(workspace.path().join("gapless.toml")).expect("the configuration");
    workspace.write("gapless.toml", &text.replace("host = \"h\"", "host = \"other\""));
    let _node = workspace.started("m", &[]);
    let (verdict, words, remedy) = check(&workspace, "logs.web hosts");
    assert_eq!((verdict.as_str(), words.as_str()), ("warn", "nobody follows the files of h: no node of it lives"));
    assert!(remedy.contains("the same node.host"), "{remedy}");
}

#[test]
fn doctor_names_a_stream_of_another_type_and_a_group_that_holds_the_files_up() {
    let (redis, workspace) = logs("stream_entries_max = 1000\n");
    redis.command(&["SET", LINES, "x"]);
    let (verdict, words, _) = check(&workspace, "logs.web stream");
    assert_eq!(verdict, "bad", "{words}");
    assert_eq!(workspace.run(&["doctor"]).code, 1);
    redis.command(&["DEL", LINES]);
    redis.command(&["XGROUP", "CREATE", LINES, "slow", "0", "MKSTREAM"]);
    for _ in 0..950 {
        redis.command(&["XADD", LINES, "*", "d", "x"]);
    }
    let (verdict, words, remedy) = check(&workspace, "logs.web stream");
    assert_eq!(verdict, "warn", "{words}");
    assert!(words.ends_with("the files wait then; the group slow owes 950"), "{words}");
    assert!(remedy.contains("XGROUP DESTROY"), "{remedy}");
}

#[test]
fn a_paused_watcher_reads_nothing_until_it_resumes_and_a_rescan_is_taken() {
    let (redis, workspace, _node) = followed();
    assert_eq!(workspace.run(&["pause", "logs.web"]).code, 0);
    let is_paused = |status: &Value| status["pipelines"][0]["watchers"][0]["paused_age_ms"].is_u64();
    eventually(&workspace, "the pause", &["logs", "status"], is_paused);
    append(&workspace, "a.log", &["INFO a4"]);
    assert_eq!(workspace.run(&["rescan", "logs.web"]).code, 0);
    let mailbox = format!("t:{{logs.web}}:in:{}", WATCHER.trim_start_matches("logs.web/"));
    poll("the order to be taken", || (redis.text(&["XLEN", &mailbox]) == "0").then_some(()));
    let behind = workspace.run(&["logs", "status", "--json"]).json()["pipelines"][0]["behind"].clone();
    assert_eq!((length(&redis), behind), (6, json!(8)), "what waits is shown");
    assert!(workspace.run(&["status"]).out.contains("to go on: gapless resume logs.web"));
    assert_eq!(workspace.run(&["resume", "logs.web"]).code, 0);
    wait_lines(&redis, 7);
    eventually(&workspace, "no pause", &["logs", "status"], |status| !is_paused(status));
    let verified = workspace.run(&["logs", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn a_rewind_is_said_in_lines_and_appends_nothing_that_is_there() {
    let (redis, workspace, mut node) = followed();
    let asked = workspace.run(&["checkpoint", "rewind", WATCHER, "--by", "2"]);
    let head = format!("{WATCHER}: back by 2 lines of each file\n  ");
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(asked.out.starts_with(&head), "{asked:?}");
    let refused = workspace.run(&["checkpoint", "rewind", WATCHER, "--to", "3", "--yes"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--by"), "it says what there is: {refused:?}");
    let elsewhere = workspace.run(&["checkpoint", "rewind", "logs.web/log_watcher@x", "--by", "2", "--yes"]);
    let words = "gapless: logs.web/log_watcher@x has no checkpoint: no node has held it yet; there are: ";
    elsewhere.failed(1, &format!("{words}{WATCHER}\n"));
    let done = workspace.run(&["checkpoint", "rewind", WATCHER, "--by", "2", "--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    append(&workspace, "a.log", &["INFO a4"]);
    wait_lines(&redis, 7);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    assert_eq!(length(&redis), 7, "lines that were there came twice");
    assert_eq!(workspace.run(&["logs", "verify"]).code, 0);
}
