//! `gapless logs follow`: lines as they come, and none missed from a group, whatever ends the command.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::logs::{append, followed, logs, path, wait_lines};
use super::support::node::{DEADLINE, Workspace, poll, send_signal};
use super::support::redis::RedisServer;

const LINES: &str = "t:{logs.web}:out:lines";

/// A follower, and what it says.
struct Follower {
    child: Child,
    out: mpsc::Receiver<String>,
}

impl Follower {
    fn start(workspace: &Workspace, args: &[&str]) -> Self {
        let mut child = workspace.program(&[&["logs", "follow"], args].concat()).spawn().expect("the program");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Dropping the receiver closes the pipe at the next line.
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, out: receiver }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.out.recv_timeout(DEADLINE).expect("a line")
    }

    #[track_caller]
    fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    /// Its exit code, and what it still printed.
    #[track_caller]
    fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let status = poll("its end", || self.child.try_wait().expect("its status"));
        (status.code(), self.out.iter().collect())
    }

    #[track_caller]
    fn end(self, signal: Signal) -> (Option<i32>, Vec<String>) {
        send_signal(self.child.id(), signal);
        self.ended()
    }
}

#[test]
fn events_and_unparsed_lines_are_followed_like_lines() {
    let (_redis, workspace) = logs("[logs.web.parse]\npreset = \"json\"\n");
    append(&workspace, "a.log", &[r#"{"level":"error","msg":"one"}"#, "no event"]);
    let _node = workspace.started("n", &[]);
    let mut events = Follower::start(&workspace, &["--events", "--from", "beginning", "--json"]);
    let event: Value = serde_json::from_str(&events.line()).expect("JSON");
    let summary = &event["event"]["security_result"][0]["summary"];
    assert_eq!((&event["level"], summary), (&json!("ERROR"), &json!("one")));
    assert!(event.get("line").is_none() && event["file"].is_string(), "{event}");
    let mut unparsed = Follower::start(&workspace, &["--unparsed", "--group", "g", "--json"]);
    let line: Value = serde_json::from_str(&unparsed.line()).expect("JSON");
    assert_eq!((&line["line"], &line["reason"]), (&json!("no event"), &json!("not_json")));
    assert!(line["why"].is_string(), "{line}");
    assert_eq!(events.end(Signal::TERM).0, Some(0));
    assert_eq!(unparsed.end(Signal::TERM).0, Some(0));
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn lines_are_printed_as_they_come_by_level_and_file() {
    let (redis, workspace, _node) = followed();
    let mut all = Follower::start(&workspace, &["--from", "beginning"]);
    let lines = all.lines(6);
    assert_eq!(sorted(lines), ["ERROR a2", "INFO a1", "INFO a3", "INFO b2", "INFO b3", "WARN b1"]);
    append(&workspace, "a.log", &["INFO live"]);
    assert_eq!(all.line(), "INFO live");
    assert_eq!(all.end(Signal::TERM).0, Some(0));

    let mut some = Follower::start(&workspace, &["--from", "beginning", "--level", "error,WARN"]);
    assert_eq!(sorted(some.lines(2)), ["ERROR a2", "WARN b1"]);
    assert_eq!(some.end(Signal::INT).0, Some(130));
    let mut some = Follower::start(&workspace, &["--from", "beginning", "--file", "b.*"]);
    assert_eq!(some.lines(3), ["WARN b1", "INFO b2", "INFO b3"]);
    append(&workspace, "a.log", &["INFO other"]);
    wait_lines(&redis, 8);
    append(&workspace, "b.log", &["INFO ours"]);
    assert_eq!(some.line(), "INFO ours");
    drop(some.end(Signal::TERM));

    // Behind the last entry but one, in JSON.
    wait_lines(&redis, 9);
    let mut all = Follower::start(&workspace, &["--from", "beginning", "--json"]);
    let entries: Vec<Value> = all.lines(9).iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
    drop(all.end(Signal::TERM));
    let from = entries[7]["entry"].as_str().expect("an id").to_owned();
    let mut last = Follower::start(&workspace, &["--json", "--from", &from]);
    let document: Value = serde_json::from_str(&last.line()).expect("an object");
    assert_eq!(document, entries[8]);
    let real = path(&workspace, "b.log").canonicalize().expect("a path").display().to_string();
    assert_eq!(
        (&document["file"], &document["level"], &document["line"]),
        (&json!(real), &json!("INFO"), &json!("INFO ours"))
    );
    assert!(document["id"].as_str().is_some_and(|id| id.ends_with(":24")), "{document}");
    drop(last.end(Signal::TERM));
}

#[test]
fn a_group_misses_nothing_over_restarts_and_kills() {
    let (redis, workspace, _node) = followed();
    let mut first = Follower::start(&workspace, &["--group", "g"]);
    let mut seen = first.lines(6);
    // It was printed and, since nothing more came, acknowledged.
    poll("the acknowledgement", || {
        let status = workspace.run(&["logs", "status", "--json"]).json();
        let group = status["pipelines"][0]["stream"]["groups"][0].clone();
        (group["name"] == "g" && group["pending"] == 0 && group["lag"] == 0).then_some(())
    });
    assert_eq!(first.end(Signal::INT).0, Some(130));
    for turn in 0..4_u64 {
        append(&workspace, "a.log", &[&format!("INFO turn {turn} a"), &format!("INFO turn {turn} b")]);
        wait_lines(&redis, 6 + 2 * (turn + 1));
        let mut next = Follower::start(&workspace, &["--group", "g"]);
        let end = format!("INFO turn {turn} b");
        seen.extend(std::iter::from_fn(|| Some(next.line())).take_while(|line| *line != end));
        seen.push(end);
        // Killed at any moment: what was not acknowledged is printed again.
        assert_eq!(next.end(Signal::KILL).0, None);
    }
    let mut expected: Vec<String> =
        ["ERROR a2", "INFO a1", "INFO a3", "INFO b2", "INFO b3", "WARN b1"].map(str::to_owned).into();
    expected.extend((0..4).flat_map(|n| [format!("INFO turn {n} a"), format!("INFO turn {n} b")]));
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once, sorted(expected), "nothing is missed: {seen:?}");
}

#[test]
fn what_is_not_acknowledged_comes_again() {
    let (_redis, workspace, _node) = followed();
    let mut first = Follower::start(&workspace, &["--group", "g", "--no-ack"]);
    let lines = first.lines(6);
    drop(first.end(Signal::TERM));
    let mut again = Follower::start(&workspace, &["--group", "g"]);
    assert_eq!(again.lines(6), lines);
    append(&workspace, "a.log", &["INFO new"]);
    assert_eq!(again.line(), "INFO new");
    drop(again.end(Signal::TERM));
}

#[test]
fn a_new_group_begins_where_it_is_told_to() {
    let (_redis, workspace, _node) = followed();
    let mut now = Follower::start(&workspace, &["--group", "late", "--from", "now"]);
    poll("the group", || {
        let status = workspace.run(&["logs", "status", "--json"]).json();
        (status["pipelines"][0]["stream"]["groups"][0]["name"] == "late").then_some(())
    });
    append(&workspace, "a.log", &["INFO new"]);
    assert_eq!(now.line(), "INFO new");
    drop(now.end(Signal::TERM));
}

#[test]
fn a_reader_that_goes_away_ends_it_and_nothing_is_lost_by_that() {
    let (redis, workspace, _node) = followed();
    let mut child = workspace.program(&["logs", "follow", "--group", "g"]).spawn().expect("the program");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    for _ in 0..6 {
        assert!(out.read_line(&mut String::new()).expect("a line") > 0);
    }
    drop(out);
    let status = poll("its end", || child.try_wait().expect("its status"));
    assert_eq!(status.code(), Some(0), "also while nothing is printed");
    append(&workspace, "a.log", &["INFO new"]);
    wait_lines(&redis, 7);
    let mut next = Follower::start(&workspace, &["--group", "g"]);
    let rest: Vec<String> = std::iter::from_fn(|| Some(next.line())).take_while(|line| line != "INFO new").collect();
    assert!(rest.len() <= 6, "{rest:?}");
    drop(next.end(Signal::TERM));
}

/// Waits until the group `g` owes nothing, and all of that is in Redis's file: `kill -9` takes nothing of it.
fn wait_kept(redis: &RedisServer) {
    poll("the acknowledgement to be kept", || {
        let pending = redis.text(&["EVAL", "return redis.call('XPENDING', KEYS[1], 'g')[1]", "1", LINES]);
        (pending == "0" && redis.text(&["INFO", "persistence"]).contains("aof_buffer_length:0\r")).then_some(())
    });
}

#[test]
fn an_outage_is_said_once_and_nothing_is_missed_over_it() {
    let (mut redis, workspace, _node) = followed();
    let mut follower = Follower::start(&workspace, &["--group", "g"]);
    drop(follower.lines(6));
    wait_kept(&redis);
    redis.kill();
    append(&workspace, "a.log", &["INFO meanwhile"]);
    let mut err = BufReader::new(follower.child.stderr.take().expect("a pipe"));
    let mut words = String::new();
    err.read_line(&mut words).expect("a line");
    assert!(words.contains("is out of reach: ") && words.ends_with("; waiting for it\n"), "{words}");
    redis.resume();
    assert_eq!(follower.line(), "INFO meanwhile", "the others were acknowledged");
    send_signal(follower.child.id(), Signal::TERM);
    let mut words = String::new();
    err.read_to_string(&mut words).expect("text");
    assert_eq!(words, "gapless: redis answers again\n");
}

/// What a crash of Redis may do to a group that is young: its last moment is gone, and the group with it.
#[test]
fn a_group_that_redis_has_lost_begins_once_more_and_one_that_was_destroyed_does_not() {
    let (mut redis, workspace, _node) = followed();
    let file = std::fs::read_dir(redis.folder().join("appendonlydir")).expect("its folder");
    let file =
        file.map(|entry| entry.expect("an entry").path()).find(|path| path.to_string_lossy().ends_with(".incr.aof"));
    let file = file.expect("the append-only file");
    poll("all lines to be kept", || {
        redis.text(&["INFO", "persistence"]).contains("aof_buffer_length:0\r").then_some(())
    });
    let before = std::fs::metadata(&file).expect("its size").len();
    let mut follower = Follower::start(&workspace, &["--group", "g"]);
    let lines = sorted(follower.lines(6));
    wait_kept(&redis);
    redis.kill();
    std::fs::OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(before)).expect("cut");
    redis.resume();
    let mut again: BTreeSet<String> = BTreeSet::new();
    while again.len() < lines.len() {
        again.insert(follower.line());
    }
    assert_eq!(Vec::from_iter(again), lines, "none is missed; each came twice");
    append(&workspace, "a.log", &["INFO after"]);
    poll("the line behind them", || (follower.line() == "INFO after").then_some(()));
    redis.command(&["XGROUP", "DESTROY", LINES, "g"]);
    let err = follower.child.stderr.take().expect("a pipe");
    let (code, rest) = follower.ended();
    let said: Vec<String> = BufReader::new(err).lines().map_while(Result::ok).collect();
    assert_eq!(rest, [""; 0]);
    assert!(said.iter().any(|line| line.contains("redis has lost the group")), "{said:?}");
    assert!(
        code == Some(2) && said.last().is_some_and(|line| line.contains("its group g is gone")),
        "{code:?} {said:?}"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let (_redis, workspace) = logs("[logs.other]\npaths = [\"other/*\"]\n");
    let several = workspace.run(&["logs", "follow"]);
    several.failed(2, "gapless: several logs pipelines; say --pipeline, one of: logs.other, logs.web\n");
    for (args, words) in [
        (["--level", "a b"], "a level is a word"),
        (["--file", "a["], "is no pattern of paths"),
        (["--from", "yesterday"], "write beginning, now, or an entry ID"),
        (["--consumer", "c"], "--group"),
    ] {
        let done = workspace.run(&[&["logs", "follow", "--pipeline", "web"], args.as_slice()].concat());
        assert!(done.code == 2 && done.err.contains(words), "{done:?}");
    }
    let group = workspace.run(&["logs", "follow", "--pipeline", "web", "--group", "g", "--from", "5-1"]);
    assert!(group.code == 2 && group.err.contains("drop --from, or --group"), "{group:?}");
}
