//! The command line as users meet it: exact texts, exit codes, shapes of JSON, signals, and what is refused.

#[path = "../support/mod.rs"]
mod support;

mod agreement;
mod arguments;
mod blocks;
mod blocks_list;
mod blocks_scan;
mod docs;
mod gives_up;
mod http;
mod letters;
mod logs;
mod logs_doors;
mod logs_follow;
mod logs_parse;
mod logs_verify;
mod mailboxes;
mod manual;
#[path = "../pipeline/oracle.rs"]
#[allow(dead_code)]
mod oracle;
mod outside;
mod paused;
mod reach;
mod rewinds;
mod rights;
mod shapes;
mod signals;
#[path = "../pipeline/sim.rs"]
#[allow(dead_code)]
mod sim;
mod simulate;
mod top;
mod trust;
mod watch;

use std::collections::BTreeSet;

use support::node::{Done, Workspace, config, poll};
use support::redis::RedisServer;

/// A pipeline that does nothing by itself.
const QUIET: &str = "[selftest.main]\nactors = 2\n";

/// A Redis, and a folder whose configuration leads to it.
fn world(more: &str) -> (RedisServer, Workspace) {
    let redis = RedisServer::start();
    let workspace = Workspace::new(&config(&redis.url(), more));
    (redis, workspace)
}

/// Asks until the answer's JSON is as wanted.
#[track_caller]
fn eventually(workspace: &Workspace, what: &str, args: &[&str], is: impl Fn(&serde_json::Value) -> bool) -> Done {
    let mut all = vec!["--json"];
    all.extend(args);
    poll(what, || Some(workspace.run(&all)).filter(|done| done.code == 0 && is(&done.json())))
}

/// The names of an object, sorted.
#[track_caller]
fn names(value: &serde_json::Value) -> Vec<&str> {
    let names: BTreeSet<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.into_iter().collect()
}
