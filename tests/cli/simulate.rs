//! `gapless simulate chain` as users start it: what it prints, serves and refuses, and that no fault is left out of the
//! help and the page.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::support::node::{Workspace, get, request, send_signal};

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
    let refused = workspace.run(&["simulate", "chain", "--faults", "nothing=1"]).err;
    let names = refused.split("there are ").nth(1).and_then(|rest| rest.split('\n').next()).expect("the names");
    let names: Vec<&str> = names.trim().split(", ").collect();
    assert_eq!(names.len(), 13, "{names:?}");
    let help = workspace.run(&["simulate", "chain", "--help"]).out;
    let page = include_str!("../../docs/cli.md");
    for name in names {
        assert!(help.contains(&format!("\n          {name}=")), "--help lacks {name}");
        assert!(page.contains(&format!("\n| `{name}=")), "docs/cli.md lacks {name}");
    }
}
