//! `status --watch`: again and again, over an outage, until the reader or a signal ends it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command};

use rustix::process::Signal;
use serde_json::Value;

use super::support::node::{Workspace, poll, send_signal};
use super::{QUIET, names, world};

/// A watch, and what it says.
fn watch(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().expect("the program");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, out)
}

fn line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    line
}

#[track_caller]
fn ended(mut child: Child) -> (Option<i32>, String) {
    poll("its end", || child.try_wait().expect("its status"));
    let output = child.wait_with_output().expect("its output");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn json_is_one_document_a_line_over_an_outage() {
    let (mut redis, workspace) = world(QUIET);
    let (child, mut out) = watch(workspace.program(&["status", "--watch", "1", "--json"]));
    let once = workspace.run(&["status", "--json"]).json();
    let mut last = 0;
    for turn in 0..4 {
        if turn == 2 {
            redis.kill();
            redis.resume();
        }
        let status: Value = serde_json::from_str(&line(&mut out)).expect("a document in a line");
        assert_eq!(names(&status), names(&once));
        let time = status["time_ms"].as_u64().expect("a number");
        assert!(time > last, "{time} after {last}");
        last = time;
    }
    send_signal(child.id(), Signal::INT);
    drop(out);
    assert_eq!(ended(child).0, Some(0));
}

#[test]
fn an_outage_is_said_once_and_is_no_end() {
    let (mut redis, workspace) = world(QUIET);
    redis.kill();
    let (child, mut out) = watch(workspace.program(&["status", "--watch", "1"]));
    let stamp = line(&mut out);
    assert!(stamp.parse::<jiff::Timestamp>().is_err() && stamp.trim().parse::<jiff::Timestamp>().is_ok(), "{stamp}");
    let words = format!("redis at {} is out of reach: ", redis.url());
    let said = line(&mut out);
    assert!(said.starts_with(&words), "{said}");
    assert_eq!(line(&mut out), "\n");
    redis.resume();
    // The next that is said is the whole status; not a word of the outage twice.
    line(&mut out).trim().parse::<jiff::Timestamp>().expect("a stamp");
    let first = line(&mut out);
    assert!(first.starts_with(&format!("redis {}  redis ", redis.url())), "{first}");
    send_signal(child.id(), Signal::TERM);
    drop(out);
    assert_eq!(ended(child), (Some(0), String::new()));
}

#[test]
fn json_says_an_outage_on_standard_error() {
    let (mut redis, workspace) = world(QUIET);
    redis.kill();
    let (mut child, mut out) = watch(workspace.program(&["status", "--watch", "1", "--json"]));
    let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut say = || {
        let mut line = String::new();
        err.read_line(&mut line).expect("a line");
        line
    };
    let words = say();
    assert!(words.starts_with(&format!("gapless: redis at {} is out of reach: ", redis.url())), "{words}");
    redis.resume();
    assert_eq!(say(), "gapless: redis answers again\n");
    serde_json::from_str::<Value>(&line(&mut out)).expect("a document in a line");
    drop(out);
    assert_eq!(ended(child).0, Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_it_at_once() {
    let (_redis, workspace) = world(QUIET);
    // Without a look at the pipe it would notice an hour later.
    let (child, mut out) = watch(workspace.program(&["status", "--watch=3600"]));
    line(&mut out);
    drop(out);
    assert_eq!(ended(child), (Some(0), String::new()));
}

#[test]
fn a_reader_that_rests_keeps_no_signal_away() {
    let many: String = (0..12).map(|at| format!("[selftest.many_{at}]\nactors = 64\n")).collect();
    let (_redis, workspace) = world(&many);
    let (child, out) = watch(workspace.program(&["status", "--watch", "1"]));
    // Nobody reads; a pipe holds less than one such status, so that it must wait in the middle of it.
    let pipe = rustix::pipe::fcntl_getpipe_size(out.get_ref()).expect("its size");
    let held = || rustix::io::ioctl_fionread(out.get_ref()).expect("its content");
    poll("a pipe full to the last page", || (held() as usize + 4096 > pipe).then_some(()));
    send_signal(child.id(), Signal::TERM);
    assert_eq!(ended(child), (Some(0), String::new()));
    drop(out);
}

#[test]
fn an_interval_that_makes_no_sense_is_refused() {
    let workspace = Workspace::new("");
    for args in [&["status", "--watch", "0"][..], &["status", "--watch", "3601"], &["top", "--interval", "0"]] {
        let done = workspace.run(args);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}");
        assert!(done.err.contains("1..=3600"), "{}", done.err);
    }
}
