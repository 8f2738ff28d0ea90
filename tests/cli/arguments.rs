//! What is wrong with arguments and configuration is said in full, with code 2, before anything is touched.

use super::support::node::{Workspace, config};
use super::support::redis::free_port;
use super::{QUIET, world};

#[test]
fn without_a_pipeline_a_node_refuses_to_idle() {
    Workspace::new("").run(&["run"]).failed(
        2,
        "gapless: the configuration has a fault:\n\
         no pipeline is configured; name a file with --config, or write one with a table like [blocks.mainnet] to \
         gapless.toml (see config/node.example.toml)\n",
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    Workspace::new("").run(&["status", "--config", "nowhere.toml"]).failed(
        2,
        "gapless: the configuration has a fault:\n\
         nowhere.toml: cannot be read (No such file or directory (os error 2)); check --config\n",
    );
}

#[test]
fn an_unknown_key_is_shown_in_its_line() {
    Workspace::new("[node]\nleese_seconds = 3\n").run(&["doctor"]).failed(
        2,
        "gapless: the configuration has a fault:\n\
         gapless.toml:2: node.leese_seconds: unknown key; did you mean `lease_seconds`?\n  \
         2 | leese_seconds = ...\n    | ^^^^^^^^^^^^^\n",
    );
}

#[test]
fn two_faults_are_one_report() {
    Workspace::new("[node]\nworkers = 0\n[redis]\nurl = \"http://x\"\n").run(&["run"]).failed(
        2,
        "gapless: the configuration has 2 faults:\n\
         gapless.toml:2: node.workers = 0: must be a whole number, 1 to 64\n  \
         2 | workers = 0\n    |           ^\n\
         gapless.toml:4: redis.url = \"http://x\": must be \"managed\", redis://[user[:password]@]host[:port][/db], \
         rediss://... (TLS), redis+unix:///PATH[?db=N] or redis+sentinel://[user[:password]@]host[:port],.../MASTER[/db]\n  \
         4 | url = ...\n    |       ^^^\n",
    );
}

#[test]
fn a_second_node_needs_an_http_address_of_its_own() {
    let address = format!("127.0.0.1:{}", free_port());
    let (redis, workspace) = world(QUIET);
    let http = format!("[node]\nhttp = \"{address}\"\n");
    workspace.write("http.toml", &http);
    let files = ["--config", "gapless.toml", "--config", "http.toml"];
    let _first = workspace.started("a", &files);
    let mut second = vec!["run", "--node", "b"];
    second.extend(files);
    workspace.run(&second).failed(
        2,
        &format!(
            "gapless: node.http = \"{address}\" cannot be used: Address already in use (os error 98); give each node of \
             a host an address of its own, or \"\" for none\n"
        ),
    );
    drop(redis);
}

#[test]
fn only_what_exists_can_be_run() {
    let (_redis, workspace) = world(QUIET);
    workspace.run(&["run", "--only", "selftest.mian"]).failed(
        2,
        "gapless: --only `selftest.mian` names nothing (did you mean `selftest.main`?); there is: selftest, \
         selftest.main, selftest.main/feeder, selftest.main/tally_0, selftest.main/tally_1\n",
    );
}

#[test]
fn every_command_teaches_with_an_example() {
    let workspace = Workspace::new("");
    for command in [
        &["run"][..],
        &["status"],
        &["top"],
        &["doctor"],
        &["mailbox"],
        &["mailbox", "list"],
        &["mailbox", "peek"],
        &["mailbox", "dead", "list"],
        &["checkpoint"],
        &["checkpoint", "list"],
        &["checkpoint", "show"],
        &["checkpoint", "history"],
        &["send"],
        &["blocks", "status"],
        &["blocks", "gaps"],
        &["blocks", "get"],
        &["blocks", "verify"],
        &["blocks", "fill"],
        &["blocks", "park"],
        &["blocks", "unpark"],
        &["blocks", "scan"],
        &["blocks", "list"],
        &["blocks", "orphans"],
        &["demo"],
        &["simulate", "chain"],
        &["bench", "mailbox"],
        &["bench", "blocks"],
        &["bench", "logs"],
        &["bench", "sync"],
        &["sync", "plan"],
        &["sync", "status"],
        &["sync", "verify"],
        &["sync", "pause"],
        &["sync", "resume"],
        &["sync", "retry"],
        &["sync", "cutover"],
        &["completions"],
        &["man"],
    ] {
        let mut args = command.to_vec();
        args.push("--help");
        let done = workspace.run(&args);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{command:?}");
        let example = format!("\n  gapless {}", command.join(" "));
        assert!(done.out.contains("Example") && done.out.contains(&example), "{command:?}: {}", done.out);
        let longest = done.out.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{command:?}: {longest:?} columns");
    }
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    let workspace = Workspace::new("");
    for args in [&[][..], &["stattus"], &["status", "--lines"], &["mailbox", "peek", "a.b/c", "--count", "0"]] {
        let done = workspace.run(args);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}");
        assert!(done.err.contains("--help") || done.err.contains("Usage"), "{args:?}: {}", done.err);
    }
    assert_eq!(workspace.run(&["--version"]).out, format!("gapless {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_option_that_a_command_would_not_obey_is_refused() {
    let workspace = Workspace::new("");
    let file = workspace.write("other.toml", "");
    let file = file.to_str().expect("a plain path");
    let own = "`gapless demo` writes the configuration of its nodes itself";
    let arguments = "`gapless simulate` takes arguments only";
    let servers = "`gapless bench` measures servers of its own";
    let log = "it has no log of its own";
    let text = "`gapless demo` prints text only; its exit code tells whether all is well";
    let address = "`gapless simulate` prints its address only";
    let picture = "`gapless top` is a picture; for programs: gapless status --watch --json";
    let format = "for a log in JSON set log.format = \"json\", or GAPLESS__LOG__FORMAT=json";
    for (args, option, why) in [
        (&["run", "--json"][..], "--json", format),
        (&["top", "--json"], "--json", picture),
        (&["completions", "bash", "--config", file], "--config", "it reads no configuration"),
        (&["man", "--json"], "--json", "what it prints has a form of its own"),
        (&["--json", "demo"], "--json", text),
        (&["demo", "--config", file], "--config", own),
        (&["demo", "--log-level", "info"], "--log-level", log),
        (&["simulate", "chain", "--json"], "--json", address),
        (&["--config", file, "simulate", "chain"], "--config", arguments),
        (&["simulate", "chain", "--log-level", "info"], "--log-level", log),
        (&["blocks", "scan", ".", "--config", file], "--config", "`gapless blocks scan` reads file names only"),
        (&["--log-level", "info", "blocks", "scan", "."], "--log-level", log),
        (&["bench", "mailbox", "--config", file], "--config", servers),
        (&["bench", "mailbox", "--log-level", "info", "--json"], "--log-level", log),
    ] {
        workspace.run(args).failed(2, &format!("gapless: {option} has no meaning here: {why}\n"));
    }
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    let (redis, workspace) = world(QUIET);
    let other = workspace.write("other.toml", &config(&redis.url(), "[selftest.other]\nactors = 1\n"));
    let other = other.to_str().expect("a plain path");
    let before = workspace.run(&["--json", "--config", other, "mailbox", "list"]);
    let after = workspace.run(&["mailbox", "list", "--config", other, "--json"]);
    assert_eq!(before.json(), after.json());
    assert_eq!(before.json()["mailboxes"][0]["mailbox"], "selftest.other/feeder");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_fault() {
    let (_redis, workspace) = world(QUIET);
    for args in [&["status"][..], &["status", "--json"], &["doctor"], &["checkpoint", "list"], &["--help"]] {
        let mut child = workspace.program(args).spawn().expect("the program");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("its end");
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{args:?}");
    }
}
