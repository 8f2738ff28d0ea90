//! A panic of an actor is a restart, in every build: `panic = "unwind"` stands in the profiles, a binary with another
//! strategy does not compile, and a node goes on.
//!
//! Cargo builds what tests use with `unwind`, whatever the profile says, so running the binary alone would prove nothing
//! about a release. That one is held by the compile-time assertion in `src/main.rs`, which is shown to bite.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::node::{Workspace, config, poll};
use support::redis::RedisServer;

#[test]
fn no_profile_aborts_and_release_says_so() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a text");
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    let profiles = manifest["profile"].as_table().expect("profiles");
    for (name, profile) in profiles {
        let panic = profile.get("panic").and_then(toml::Value::as_str).unwrap_or("unwind");
        assert_eq!(panic, "unwind", "profile {name}");
    }
    assert_eq!(profiles["release"]["panic"].as_str(), Some("unwind"));
}

/// Compiles the root of the binary alone; the library is missing, so it always ends with some error.
fn compile(strategy: &str) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "-C", &format!("panic={strategy}")])
        .arg("--out-dir")
        .arg(folder.path())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs"))
        .output()
        .expect("rustc")
}

#[test]
fn a_binary_that_aborts_does_not_compile() {
    let refused = |strategy| String::from_utf8_lossy(&compile(strategy).stderr).contains("build with panic = ");
    assert!(refused("abort"));
    assert!(!refused("unwind"));
}

#[test]
fn a_node_goes_on_after_panics_and_loses_nothing() {
    let redis = RedisServer::start();
    // A turn panics by chance, one in three: at least 80 turns, however fast the messages come.
    let more = "[mailbox]\nfailed_attempts_max = 1000\nturn_entries_max = 5\n\
        [supervisor]\nbackoff_min_ms = 1\nbackoff_max_ms = 5\nrestarts_max = 1000\n\
        [selftest.main]\nactors = 2\nmessages = 200\nbatch = 10\npanic_every = 3\n";
    let workspace = Workspace::new(&config(&redis.url(), more));
    let mut node = workspace.started("a", &[]);
    // 1 + 2 + ... + 200, each exactly once.
    let sum = serde_json::json!({ "n": 200, "sum": 20_100 });
    for unit in ["selftest.main/tally_0", "selftest.main/tally_1"] {
        poll("all messages added up", || {
            let shown = workspace.run(&["--json", "checkpoint", "show", unit]);
            (shown.code == 0 && shown.json()["state"] == sum).then_some(())
        });
    }
    // The log is read beside the test, and may lag behind Redis.
    poll("a planted panic in the log", || {
        node.lines().iter().any(|line| line.contains("panic: a planted panic")).then_some(())
    });
    assert!(node.lives());
    let status = workspace.run(&["--json", "status"]).json();
    assert_eq!((&status["pipelines"][0]["dead"], &status["nodes"][0]["pid"]), (&0.into(), &node.pid().into()));
}
