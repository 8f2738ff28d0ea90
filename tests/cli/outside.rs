//! Programs that are not gapless: the example in `docs/protocol.md` sends, and what it sent is handled once.

use std::process::Command;

use serde_json::json;

use super::support::node::poll;
use super::{QUIET, eventually, world};

const TALLY: &str = "selftest.main/tally_0";

/// The Python program of the page, as it stands there.
fn example() -> String {
    let page = include_str!("../../docs/protocol.md");
    let programs: Vec<&str> = page.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let whole: Vec<&&str> = programs.iter().filter(|program| program.starts_with("#!/usr/bin/env python3")).collect();
    assert_eq!(whole.len(), 1, "the page has one complete program");
    (*whole[0]).to_owned()
}

#[test]
fn a_python_program_sends_and_the_message_is_handled_once_across_a_kill() {
    let (redis, workspace) = world(QUIET);
    let (mailbox, checkpoint) = ("t:{selftest.main}:in:tally_0", "t:{selftest.main}:ck:tally_0");
    // Its turn stops with the message in hand.
    let stops = ("GAPLESS_CRASH_POINT", "after_decide@tally_0:hang:1");
    let mut holder = workspace.node_with("a", &[], stops);
    holder.wait_for("node started");
    eventually(&workspace, "the tally", &["checkpoint", "show", TALLY], |shown| shown["owned"] == true);
    let program = workspace.write("send.py", &example());
    let send = |body: &str| {
        let mut python = Command::new("python3");
        python.arg(&program).args(["127.0.0.1", &redis.port.to_string(), mailbox, "number", body]);
        let done = python.output().expect("python3; make test installs it");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    let (code, entry, err) = send("{\"n\": 7}");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let in_hand = || redis.text(&["EVAL", "return redis.call('HGET', KEYS[1], 'serving') or ''", "1", checkpoint]);
    let served = poll("the message in hand", || Some(in_hand()).filter(|served| !served.is_empty()));
    assert_eq!(served, format!("{0} {0} 1", entry.trim()), "it is the entry that the program was told");
    holder.kill();
    let _heir = workspace.started("b", &[]);
    let show = ["checkpoint", "show", TALLY];
    eventually(&workspace, "the sum", &show, |shown| shown["state"] == json!({ "n": 7, "sum": 7 }));
    // A second message passes behind it, and nothing came twice.
    assert_eq!(send("{\"n\": 8}").0, Some(0));
    eventually(&workspace, "both", &show, |shown| shown["state"] == json!({ "n": 8, "sum": 15 }));
    assert_eq!(redis.command(&["XLEN", "t:{selftest.main}:out:tally_0"]), redis::Value::Int(2));
    assert_eq!(redis.command(&["XLEN", mailbox]), redis::Value::Int(0));
    // What is no message is refused where it is written, and what Redis refuses is said.
    let (code, out, err) = send("{\"n\": ");
    assert!(code == Some(1) && out.is_empty() && err.contains("JSONDecodeError"), "{err}");
    redis.command(&["SET", "t:{selftest.main}:in:tally_1", "x"]);
    let mut python = Command::new("python3");
    python.arg(&program).args(["127.0.0.1", &redis.port.to_string(), "t:{selftest.main}:in:tally_1", "number", "{}"]);
    let refused = python.output().expect("python3");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("WRONGTYPE"), "{refused:?}");
}

/// An id that is repeated within the window is told so; behind it, it is another message.
#[test]
fn the_window_of_an_id_ends_by_the_clock_of_redis() {
    let (_redis, workspace) = world(&format!("{QUIET}[mailbox]\ndedupe_window_seconds = 1\n"));
    let send = || {
        let sent = workspace.run(&["send", TALLY, "number", "{\"n\": 1}", "--id", "import-7", "--json"]);
        assert_eq!((sent.code, sent.err.as_str()), (0, ""), "{sent:?}");
        sent.json()
    };
    let ms = |sent: &serde_json::Value| {
        let entry = sent["entry"].as_str()?;
        Some(entry.split('-').next().expect("a time").parse::<u64>().expect("a number"))
    };
    let first = ms(&send()).expect("sent");
    let second = poll("the window to pass", || {
        let sent = send();
        assert!(ms(&sent).is_some() || sent["before"] == true, "{sent}");
        ms(&sent)
    });
    assert!(second - first >= 1000, "sent again after {} ms", second - first);
}
