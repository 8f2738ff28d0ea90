//! `gapless simulate chain` as users start it: what it prints, serves and refuses, and that no fault is left out of the
//! help and the page.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use gapless::simulate::logs::read_truth;
use rustix::process::Signal;

use super::support::node::{Workspace, get, poll, request, send_signal};

/// A served chain: the process, its first line, its address.
fn served(workspace: &Workspace, args: &[&str]) -> (Child, String, SocketAddr) {
    let all = [&["simulate", "chain", "--listen", "127.0.0.1:0"], args].concat();
    let mut child = workspace.program(&all).stdout(Stdio::piped()).spawn().expect("the program");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let address = address.parse().expect("an address");
    (child, line, address)
}

#[track_caller]
fn ended_well(mut child: Child) {
    send_signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

#[test]
fn each_dialect_is_served_until_sigterm() {
    let workspace = Workspace::new("");
    let (child, line, address) = served(&workspace, &["--seed", "5", "--blocks", "70"]);
    assert_eq!(line, format!("serving chain seed=5 on http://{address} (head 70)\n"));
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}"#;
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(request(address, &head).expect("an answer").json()["result"], "0x46");
    ended_well(child);
    let (child, line, address) = served(&workspace, &["--dialect", "cosmos-rest", "--chain-id", "migaloo-sim"]);
    assert_eq!(line, format!("serving chain seed=1 on http://{address} (head 1000)\n"));
    let latest = get(address, "/cosmos/base/tendermint/v1beta1/blocks/latest").expect("an answer").json();
    let header = &latest["block"]["header"];
    assert_eq!((&header["height"], &header["chain_id"]), (&"1000".into(), &"migaloo-sim".into()));
    assert_eq!(get(address, "/cosmos/base/tendermint/v1beta1/blocks/1001").expect("an answer").status, 400);
    ended_well(child);
}

/// A hint that does not work is a warning: the poll alone is enough.
#[test]
fn doctor_tries_each_hint() {
    let (child, _, address) = served(&Workspace::new(""), &["--blocks", "70"]);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let config = format!(
        "[redis]\nurl = \"redis://{dead}\"\n[blocks.main]\nendpoints = [\"http://{address}\"]\nstart = 0\n\
         store = \"blocks\"\nhints = [\"ws://{address}\", \"ws://{dead}/key-0123456789\"]\n"
    );
    let doctor = Workspace::new(&config).run(&["doctor"]);
    let line = |title: &str| doctor.out.lines().find(|line| line.contains(title)).unwrap_or_default().to_owned();
    let (works, fails) = (line("blocks.main hint 1"), line("blocks.main hint 2"));
    assert!(works.starts_with("good") && works.contains(&format!("ws://{address} pushes new heads")), "{}", doctor.out);
    assert!(fails.starts_with("warn") && fails.contains(&format!("ws://{dead}")), "{}", doctor.out);
    assert!(!doctor.out.contains("0123456789"), "a key was shown: {}", doctor.out);
    ended_well(child);
}

#[test]
fn arguments_that_do_not_fit_together_end_with_2() {
    let workspace = Workspace::new("");
    for (args, why) in [
        (&["--chain-id", "migaloo-sim"][..], "--chain-id `migaloo-sim`: an EVM chain has a number, for example 1337"),
        (
            &["--dialect", "cosmos-rest", "--faults", "reorg=50:3"],
            "fault `reorg`: blocks of this chain are final at once; leave it out, or use --dialect evm",
        ),
    ] {
        workspace.run(&[&["simulate", "chain"], args].concat()).failed(2, &format!("gapless: {why}\n"));
    }
}

#[test]
fn every_fault_stands_in_the_help_and_on_the_page() {
    let workspace = Workspace::new("");
    let page = include_str!("../../docs/cli.md");
    for (what, more, count) in [("chain", &[][..], 13), ("logs", &["--dir", "logs"], 8)] {
        let refused = workspace.run(&[&["simulate", what], more, &["--faults", "nothing=1"]].concat()).err;
        let names = refused.split("there are ").nth(1).and_then(|rest| rest.split('\n').next()).expect("the names");
        let names: Vec<&str> = names.trim().split(", ").collect();
        assert_eq!(names.len(), count, "{names:?}");
        let help = workspace.run(&["simulate", what, "--help"]).out;
        let page = page.split(&format!("\n### `simulate {what}`")).nth(1).and_then(|rest| rest.split("\n### ").next());
        for name in names {
            assert!(help.contains(&format!("\n          {name}=")), "--help lacks {name}");
            assert!(page.expect("its part").contains(&format!("\n| `{name}=")), "docs/cli.md lacks {name}");
        }
    }
}

/// The lines of a file as `(offset, length)`, without their ends.
fn lines_of(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut offset = 0;
    let mut lines = Vec::new();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n').filter(|piece| piece.ends_with(b"\n")) {
        lines.push((offset, piece.len() as u64 - 1));
        offset += piece.len() as u64;
    }
    lines
}

fn listed(list: &std::path::Path) -> Vec<(u64, u64)> {
    read_truth(list).expect("a list").iter().map(|line| (line.offset, line.length)).collect()
}

#[test]
fn logs_are_written_to_the_end_and_listed() {
    let workspace = Workspace::new("");
    let dir = workspace.path().join("logs");
    std::fs::create_dir(&dir).expect("a folder");
    let args = ["simulate", "logs", "--dir", dir.to_str().expect("a name"), "--lines", "3000", "--rate", "max"];
    let faults = ["--seed", "4", "--faults", "partial=0.4", "--format", "json"];
    let done = workspace.run(&[&args[..], &faults].concat());
    let list = workspace.path().join("logs.truth.jsonl");
    let expected = format!(
        "writing logs seed=4 to {} (1 files; lines listed in {})\nwrote 3000 lines in 1 lives of 1 files\n",
        dir.display(),
        list.display()
    );
    assert_eq!((done.code, done.out.as_str()), (0, expected.as_str()), "{}", done.err);
    let bytes = std::fs::read(dir.join("app.log")).expect("a log");
    assert_eq!(listed(&list), lines_of(&bytes));
    assert_eq!(bytes.last(), Some(&b'\n'));
    let why =
        format!("gapless: --dir {} holds app.log already; name an empty folder, or delete it first\n", dir.display());
    workspace.run(&args).failed(2, &why);
}

/// A generator that is killed at any time has listed every line that is in the file, and of one append those that are
/// not; one that is asked to end leaves neither.
#[test]
fn a_list_is_never_behind_its_file() {
    for (round, end) in [Signal::KILL, Signal::KILL, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let workspace = Workspace::new("");
        let (dir, list) = (workspace.path().join("logs"), workspace.path().join("list"));
        std::fs::create_dir(&dir).expect("a folder");
        let (folder, truth) = (dir.to_str().expect("a name"), list.to_str().expect("a name"));
        let args = ["simulate", "logs", "--dir", folder, "--truth", truth, "--rate", "max", "--faults", "partial=0.5"];
        let mut child = workspace.program(&args).stdout(Stdio::piped()).spawn().expect("the program");
        let log = dir.join("app.log");
        let size = 20_000 * (round as u64 + 1);
        poll("some lines", || std::fs::metadata(&log).ok().filter(|file| file.len() > size));
        send_signal(child.id(), end);
        let code = child.wait().expect("its end").code();
        let (listed, lines) = (listed(&list), lines_of(&std::fs::read(&log).expect("a log")));
        assert!(listed.starts_with(&lines), "{} listed, {} written", listed.len(), lines.len());
        assert!(listed.len() - lines.len() < 50, "{} listed, {} written", listed.len(), lines.len());
        if end == Signal::TERM {
            assert_eq!((code, listed.len()), (Some(0), lines.len()));
        }
    }
}

#[test]
fn arguments_of_logs_that_are_impossible_end_with_2() {
    let workspace = Workspace::new("");
    std::fs::create_dir(workspace.path().join("logs")).expect("a folder");
    for (args, why) in [
        (&["--rate", "0"][..], "write 1 to 10000000 lines a second, or max"),
        (&["--lines", "0"], "0 is not in 1.."),
        (&["--files", "201"], "201 is not in 1..=200"),
        (
            &["--rotate", "weekly"],
            "possible values: none, rename, copytruncate, gz, zst, delete, truncate, chain, chain-gz",
        ),
        (&["--rotate", "chain", "--keep", "0"], "a chain keeps 1 file or more"),
        (&["--faults", "lost=1"], "there are partial, torn, late, crlf, empty, invalid, nul, long"),
        (&["--truth", "logs/list"], "is inside --dir logs; name a file elsewhere"),
        (&["--text", "none"], "--text none cannot be read; name a file of lines"),
        (&["--text", "x", "--format", "json"], "cannot be used with"),
        (&["--dir", "none"], "--dir none cannot be read; name a folder that is there (mkdir -p none)"),
    ] {
        let dir = if args[0] == "--dir" { &[][..] } else { &["--dir", "logs"] };
        let refused = workspace.run(&[&["simulate", "logs"], dir, args].concat());
        assert_eq!(refused.code, 2, "{args:?}");
        assert!(refused.err.contains(why), "{args:?}: {}", refused.err);
    }
}
