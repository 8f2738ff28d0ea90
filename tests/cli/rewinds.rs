//! `checkpoint rewind`: what is said, what is asked, and what is refused.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::node::Workspace;
use super::{QUIET, eventually, names, world};

const FEEDER: &str = "selftest.main/feeder";
/// Runs a program on a terminal of its own, types one line, and prints what it showed; ends with its code.
const ON_A_TERMINAL: &str = "import os, pty, sys\n\
    pid, terminal = pty.fork()\n\
    if pid == 0: os.execv(sys.argv[2], sys.argv[2:])\n\
    os.write(terminal, sys.argv[1].encode() + b'\\n')\n\
    seen = b''\n\
    try:\n\
    \x20   while chunk := os.read(terminal, 4096): seen += chunk\n\
    except OSError: pass\n\
    sys.stdout.write(seen.decode())\n\
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";

fn state(workspace: &Workspace, unit: &str) -> Value {
    workspace.run(&["checkpoint", "show", unit, "--json"]).json()["state"].clone()
}

#[test]
fn the_feeder_sends_again_what_lies_above() {
    let (redis, workspace) = world("[selftest.main]\nactors = 1\nmessages = 500\n");
    let mut node = workspace.started("a", &[]);
    let sum = |to: u64| to * (to + 1) / 2;
    let added = |n: u64, sum: u64| move |shown: &Value| shown["state"] == json!({ "n": n, "sum": sum });
    let show = ["checkpoint", "show", "selftest.main/tally_0"];
    eventually(&workspace, "500 added up", &show, added(500, sum(500)));
    let token = |workspace: &Workspace| {
        let shown = workspace.run(&["checkpoint", "show", FEEDER, "--json"]).json();
        shown["token"].as_str().expect("a token").parse::<u64>().expect("a number")
    };
    let before = token(&workspace);
    // Nothing is changed without a yes, but everything is said.
    let asked = workspace.run(&["checkpoint", "rewind", FEEDER, "--by", "100"]);
    let words = "selftest.main/feeder: from 500 back to 400\n  numbers 401..500 are sent again to every tally\n  \
        the mailbox offset stays where it is: messages that were taken do not come again\n  \
        a tally adds a number that comes twice a second time: it does not ask whether it had it\n";
    let refused = "gapless: nothing was changed: say --yes, since nobody can be asked here\n";
    assert_eq!((asked.code, asked.out.as_str(), asked.err.as_str()), (2, words, refused));
    assert_eq!((state(&workspace, FEEDER), token(&workspace)), (json!({ "sent": 500 }), before));
    let done = workspace.run(&["checkpoint", "rewind", FEEDER, "--by", "100", "--yes"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    assert!(done.out.starts_with(words) && done.out.contains("\ndone under token "), "{done:?}");
    // As it was said: the tally counts them twice.
    let twice = sum(500) + sum(500) - sum(400);
    eventually(&workspace, "401 to 500 added once more", &show, added(500, twice));
    assert!(token(&workspace) > before);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    // Back to where it stood before the rewind, by its sample.
    let past = workspace.run(&["checkpoint", "history", FEEDER, "--json"]).json();
    let sample =
        past["samples"].as_array().expect("samples").iter().find(|s| s["why"] == "rewind").expect("one").clone();
    assert_eq!(sample["state"], json!({ "sent": 500 }));
    redis.command(&["HSET", "t:{selftest.main}:ck:feeder", "state", "{\"sent\":900}"]);
    let seq = sample["seq"].to_string();
    let done = workspace.run(&["checkpoint", "rewind", FEEDER, "--sample", &seq, "--yes", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = done.json();
    assert_eq!(names(&done), ["again_from", "count", "done", "from", "notes", "replayed", "token", "unit"]);
    assert_eq!((&done["from"], &done["again_from"], &done["count"]), (&json!(900), &json!(501), &json!(400)));
    assert_eq!(state(&workspace, FEEDER), json!({ "sent": 500 }));
    let none = workspace.run(&["checkpoint", "rewind", FEEDER, "--sample", "77777"]);
    let words =
        "no sample of selftest.main/feeder has SEQ 77777; there are: gapless checkpoint history selftest.main/feeder";
    none.failed(1, &format!("gapless: {words}\n"));
}

#[test]
fn on_a_terminal_it_is_asked() {
    let (_redis, workspace) = world("[selftest.main]\nactors = 1\nmessages = 5\n");
    let mut node = workspace.started("a", &[]);
    eventually(&workspace, "5 sent", &["checkpoint", "show", FEEDER], |shown| shown["state"]["sent"] == 5);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), 0);
    let answer = |line: &str| {
        let program = env!("CARGO_BIN_EXE_gapless");
        let mut python = Command::new("python3");
        python.args(["-c", ON_A_TERMINAL, line, program, "checkpoint", "rewind", FEEDER, "--to", "0"]);
        python.current_dir(workspace.path()).stdin(Stdio::null());
        let done = python.output().expect("python3; make test installs it");
        (done.status.code(), String::from_utf8(done.stdout).expect("text"))
    };
    let (code, shown) = answer("n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("send selftest.main/feeder back over 5 positions? [y/N]"), "{shown}");
    assert!(shown.contains("gapless: nothing was changed"), "{shown}");
    assert_eq!(state(&workspace, FEEDER), json!({ "sent": 5 }));
    let (code, shown) = answer("y");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(state(&workspace, FEEDER), json!({ "sent": 0 }));
}

#[test]
fn units_without_a_place_are_refused_with_what_helps() {
    let (_redis, workspace) = world(&format!(
        "{QUIET}[blocks.main]\nendpoints = [\"http://127.0.0.1:9\"]\nstart = 0\nstore = \"store\"\nslots = 1\n"
    ));
    for (unit, words) in [
        ("selftest.main/tally_0", "checkpoint rewind of the feeder"),
        ("blocks.main/gap_detector", "gapless blocks verify A..B"),
        ("blocks.main/gap_fixer/0", "gapless blocks fill A..B"),
    ] {
        let done = workspace.run(&["checkpoint", "rewind", unit, "--by", "1", "--yes"]);
        assert!(done.code == 2 && done.err.contains("cannot be rewound") && done.err.contains(words), "{done:?}");
    }
    let unknown = workspace.run(&["checkpoint", "rewind", "blocks.other/collector", "--by", "1", "--yes"]);
    assert!(unknown.code == 2 && unknown.err.contains("there is no unit `blocks.other/collector`"), "{unknown:?}");
    workspace
        .run(&["checkpoint", "rewind", FEEDER, "--by", "1", "--yes"])
        .failed(1, "gapless: selftest.main/feeder has no checkpoint: no node has held it yet\n");
    let _node = workspace.started("a", &["--only", "selftest"]);
    eventually(&workspace, "the feeder", &["checkpoint", "show", FEEDER], |shown| shown["owned"] == true);
    workspace.run(&["checkpoint", "rewind", FEEDER, "--by", "1", "--yes"]).failed(
        2,
        &format!("gapless: {FEEDER} cannot be rewound: it has sent no number yet: there is nothing to rewind\n"),
    );
    for bad in [&["--by", "0"][..], &["--to", "-1"], &["--by", "1", "--to", "2"], &[]] {
        let done = workspace.run(&[&["checkpoint", "rewind", FEEDER, "--yes"], bad].concat());
        assert_eq!(done.code, 2, "{bad:?}: {done:?}");
    }
}
