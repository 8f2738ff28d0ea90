//! `gapless logs verify`: nothing is wrong where nothing was done, and each class of fault is named where one was planted.

use std::io::Write;

use redis::Value as Answer;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::logs::{append, followed, logs, path, wait_lines};
use super::support::node::{Done, Workspace, poll};
use super::support::redis::RedisServer;
use super::{eventually, names};

const KEY: &str = "t:{logs.web}:out:lines";
/// What `logs verify` says, and of each finding.
const REPORT: [&str; 14] = [
    "again",
    "altered",
    "doubled",
    "entries",
    "faults",
    "files",
    "found",
    "judged",
    "missing",
    "more",
    "not_judged",
    "pipeline",
    "reordered",
    "rough",
];
const FOUND: [&str; 5] = ["class", "entry", "file", "id", "words"];

fn verify(workspace: &Workspace, args: &[&str]) -> Done {
    workspace.run(&[&["logs", "verify", "--json"], args].concat())
}

/// One entry: its id, and its fields and values.
type Entry = (String, Vec<Vec<u8>>);

fn bytes(value: &Answer) -> Vec<u8> {
    match value {
        Answer::BulkString(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

fn entries(redis: &RedisServer) -> Vec<Entry> {
    let Answer::Array(rows) = redis.command(&["XRANGE", KEY, "-", "+"]) else { panic!("no entries") };
    let entry = |row: &Answer| match row {
        Answer::Array(row) => match &row[..] {
            [id, Answer::Array(fields)] => {
                (String::from_utf8(bytes(id)).expect("an id"), fields.iter().map(bytes).collect())
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    rows.iter().map(entry).collect()
}

/// Puts these entries in place of those that are there.
fn replace(redis: &RedisServer, entries: &[Entry]) {
    let mut connection = redis.connection();
    redis.command(&["DEL", KEY]);
    for (_, fields) in entries {
        let mut cmd = redis::cmd("XADD");
        cmd.arg(KEY).arg("*").arg(fields);
        cmd.query::<String>(&mut connection).expect("an id");
    }
}

/// The line id of an entry.
fn id(entry: &Entry) -> String {
    let label = String::from_utf8(entry.1[0].clone()).expect("a label");
    label.split(' ').next().expect("a line id").to_owned()
}

/// The classes and ids of all findings.
fn found(done: &Done) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = done.json()["found"].as_array().expect("findings").clone();
    found.iter().map(|found| (text(&found["class"]), text(&found["id"]))).collect()
}

fn rename(workspace: &Workspace, from: &str, to: &str) {
    #[expect(clippy::disallowed_methods, reason = "this is what rotation does")]
    std::fs::rename(path(workspace, from), path(workspace, to)).expect("renamed");
}

fn pack(workspace: &Workspace, from: &str, to: &str) {
    let packed = std::fs::File::create(path(workspace, to)).expect("a file");
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::default());
    packed.write_all(&std::fs::read(path(workspace, from)).expect("bytes")).expect("packed");
    packed.finish().expect("packed");
    std::fs::remove_file(path(workspace, from)).expect("removed");
}

#[test]
fn files_rotated_and_packed_and_running_nodes_have_no_fault() {
    let (redis, workspace, _node) = followed();
    let whole = verify(&workspace, &[]);
    let report = whole.json();
    assert_eq!((whole.code, names(&report)), (0, REPORT.to_vec()), "{report}");
    let of = |name: &str| report[name].clone();
    assert_eq!((of("entries"), of("judged"), of("files"), of("faults")), (json!(6), json!(6), json!(2), json!(0)));
    assert_eq!((of("not_judged"), of("found")), (json!([]), json!([])));

    rename(&workspace, "b.log", "b.log.1");
    append(&workspace, "b.log", &["INFO next", ""]);
    wait_lines(&redis, 8);
    eventually(&workspace, "a finished file", &["logs", "status", "--all"], |status| {
        status["pipelines"][0]["files"].as_array().is_some_and(|f| f.iter().any(|f| f["state"] == "finished"))
    });
    pack(&workspace, "b.log.1", "b.log.2.gz");
    let text = workspace.run(&["logs", "verify"]);
    let words = "8 entries of 3 files: each line once, as it is in its file, in order\n";
    assert_eq!((text.code, text.out.as_str()), (0, words));
    let some = workspace.run(&["logs", "verify", "--file", "a.log"]);
    assert_eq!(some.out, "3 entries of 1 file: each line once, as it is in its file, in order\n");
}

#[test]
fn a_file_that_is_renamed_again_and_packed_while_nobody_looks_is_found() {
    let (_redis, workspace, _) = stopped();
    rename(&workspace, "b.log", "b.log.1");
    let mut node = workspace.started("a", &[]);
    eventually(&workspace, "its rotated name", &["logs", "status", "--all"], |status| {
        let files = status["pipelines"][0]["files"].as_array();
        files
            .is_some_and(|files| files.iter().any(|file| file["path"].as_str().is_some_and(|p| p.ends_with("b.log.1"))))
    });
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    pack(&workspace, "b.log.1", "b.log.3.gz");
    let report = verify(&workspace, &[]).json();
    assert_eq!(
        [&report["judged"], &report["faults"], &report["not_judged"]],
        [&json!(6), &json!(0), &json!([])],
        "{report}"
    );
}

/// A stopped world of six lines, and its entries.
fn stopped() -> (RedisServer, Workspace, Vec<Entry>) {
    let (redis, workspace, mut node) = followed();
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    let entries = entries(&redis);
    (redis, workspace, entries)
}

#[test]
fn a_planted_fault_of_every_class_is_named_with_its_line() {
    let (redis, workspace, whole) = stopped();
    let of_one = |file: &str| whole.iter().filter(|e| id(e).starts_with(file)).cloned().collect::<Vec<_>>();
    let a = of_one(id(&whole[0]).split(':').next().expect("a file"));
    assert_eq!(a.len(), 3);
    let check = |class: &str, line: &str| {
        let done = verify(&workspace, &[]);
        assert_eq!((done.code, found(&done)), (1, vec![(class.to_owned(), line.to_owned())]), "{}", done.out);
        let found = done.json()["found"][0].clone();
        assert_eq!(names(&found), FOUND.to_vec());
        assert_eq!((&done.json()[class], &done.json()["faults"]), (&json!(1), &json!(1)));
    };
    let at = |line: &str| whole.iter().position(|entry| id(entry) == line).expect("it is there");

    let middle = id(&a[1]);
    redis.command(&["XDEL", KEY, &a[1].0]);
    check("missing", &middle);
    // The first of all: nothing ever left this stream, so it must be there.
    let mut lines = whole.clone();
    lines.remove(at(&id(&a[0])));
    replace(&redis, &lines);
    check("missing", &id(&a[0]));
    let mut lines = whole.clone();
    lines.remove(at(&id(&a[2])));
    replace(&redis, &lines);
    check("missing", &id(&a[2]));

    for data in ["ERROR aX", "ERROR a", "ERROR a2\r", "ERROR a2 "] {
        let mut lines = whole.clone();
        lines[at(&middle)].1[1] = data.as_bytes().to_vec();
        replace(&redis, &lines);
        check("altered", &middle);
    }

    let mut lines = whole.clone();
    lines.push(a[1].clone());
    replace(&redis, &lines);
    check("doubled", &middle);

    let mut lines = whole.clone();
    let moved = lines.remove(at(&middle));
    lines.push(moved);
    replace(&redis, &lines);
    check("reordered", &middle);

    // All at once, in words.
    let mut lines = whole.clone();
    let b: Vec<Entry> = whole.iter().filter(|entry| !a.contains(entry)).cloned().collect();
    lines[at(&id(&a[0]))].1[1] = b"other".to_vec();
    lines.remove(at(&id(&b[1])));
    lines.push(b[2].clone());
    lines.push((String::new(), [b"x", b"y"].map(|f| f.to_vec()).into()));
    replace(&redis, &lines);
    let done = workspace.run(&["logs", "verify"]);
    let verdict = "\n6 entries of 2 files are NOT as the files are: 1 missing, 2 altered, 1 doubled\n";
    assert!(done.code == 1 && done.out.ends_with(verdict), "{}", done.out);
    for part in [
        format!("missing    {}  /", id(&b[1])),
        format!("altered    {} (entry ", id(&a[0])),
        "altered    entry ".to_owned(),
        format!("doubled    {} (entry ", id(&b[2])),
    ] {
        assert!(done.out.contains(&part), "{part}: {}", done.out);
    }

    replace(&redis, &whole);
    assert_eq!(verify(&workspace, &[]).code, 0, "and nothing where all is back");
}

#[test]
fn what_cannot_be_judged_is_said_with_its_reason_and_is_no_fault() {
    let (redis, workspace, whole) = stopped();
    redis.command(&["XTRIM", KEY, "MINID", &whole[2].0]);
    let done = verify(&workspace, &[]);
    let trimmed = &done.json()["not_judged"][0];
    let size: u64 = whole[..2].iter().map(|entry| entry.1[1].len() as u64 + 1).sum();
    assert_eq!((done.code, &trimmed["bytes"], &trimmed["entries"]), (0, &json!(size), &json!(0)), "{}", done.out);

    let mut elsewhere = workspace.program(&["logs", "verify"]);
    let elsewhere = elsewhere.env("GAPLESS__NODE__HOST", "other").output().expect("its output");
    let words = String::from_utf8(elsewhere.stdout).expect("text");
    assert!(
        words.starts_with("no line of the stream could be compared with its file\n")
            && words.contains("not judged: 4 entries of 2 files: the files lie on the host h: run it there\n"),
        "{words}"
    );
    assert_eq!(elsewhere.status.code(), Some(0));

    std::fs::remove_file(path(&workspace, "b.log")).expect("removed");
    let done = workspace.run(&["logs", "verify"]);
    assert!(done.code == 0 && done.out.contains(" of 1 file: no file holds the bytes any more\n"), "{}", done.out);
    // A file of the same name and length is not the one that was followed.
    append(&workspace, "b.log", &["WARN x1", "INFO x2", "INFO x3"]);
    let done = workspace.run(&["logs", "verify"]);
    assert!(done.code == 0 && done.out.contains(" of 1 file: no file holds the bytes any more\n"), "{}", done.out);

    redis.command(&["DEL", "t:{logs.web}:files:log_watcher@h"]);
    let done = workspace.run(&["logs", "verify"]);
    assert!(done.out.contains("the places of the files are not kept any more\n"), "{}", done.out);
}

#[test]
fn many_lines_are_verified_while_more_come() {
    let (redis, workspace) = logs("");
    let node = workspace.started("n", &[]);
    let long = "x".repeat(100);
    let lines: Vec<String> = (0..20_000).map(|n| format!("INFO line {n} {long}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    append(&workspace, "a.log", &lines[..10_000]);
    wait_lines(&redis, 10_000);
    append(&workspace, "a.log", &lines[10_000..]);
    let done = verify(&workspace, &[]);
    assert_eq!((done.code, &done.json()["faults"]), (0, &json!(0)), "{}", done.out);
    assert!(done.json()["judged"].as_u64().is_some_and(|judged| judged >= 10_000));
    wait_lines(&redis, 20_000);
    poll("the whole file", || (verify(&workspace, &[]).json()["judged"] == json!(20_000)).then_some(()));
    drop(node);
}

#[test]
fn without_a_stream_and_without_redis_it_says_so() {
    let (mut redis, workspace) = logs("");
    workspace.run(&["logs", "verify"]).failed(2, "gapless: there is nothing to verify: no line was appended yet\n");
    redis.kill();
    assert_eq!(workspace.run(&["logs", "verify"]).code, 3);
}
