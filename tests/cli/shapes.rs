//! The shapes of JSON that `docs/cli.md` documents: every field, and nothing beside.

use serde_json::Value;

use super::support::node::Workspace;
use super::{QUIET, eventually, names, world};

const UNIT: [&str; 13] = [
    "commit_age_ms",
    "incarnation",
    "last_error",
    "lease_left_ms",
    "node",
    "offset",
    "paused_age_ms",
    "pipeline",
    "restarts",
    "seq",
    "state",
    "token",
    "unit",
];
const NODE: [&str; 11] =
    ["given_up", "host", "http", "incarnation", "node", "pid", "release", "state", "units", "unready", "up_ms"];
const MAILBOX: [&str; 9] =
    ["added", "capacity", "dead", "fault", "later", "mailbox", "next_later_ms", "oldest_age_ms", "waiting"];

#[test]
fn status_of_a_running_node() {
    let (_redis, workspace) = world("[selftest.main]\nactors = 2\nmessages = 40\n");
    let _node = workspace.started("a", &[]);
    let done = eventually(&workspace, "everything added up", &["status"], |status| {
        let working = |unit: &Value| unit["state"] == "running" && unit["seq"] != 0;
        status["units"].as_array().expect("units").iter().all(working) && status["pipelines"][0]["waiting"] == 0
    });
    let status = done.json();
    assert_eq!(names(&status), ["mailboxes", "nodes", "pipelines", "redis", "time_ms", "units"]);
    let redis = &status["redis"];
    let fields = ["address", "cluster", "dangers", "memory_max", "memory_used", "round_trip_ms", "server", "version"];
    assert_eq!(names(redis), fields);
    assert_eq!((redis["dangers"].clone(), redis["cluster"].as_str().map(str::len)), (Value::Array(vec![]), Some(32)));
    let node = &status["nodes"][0];
    assert_eq!(names(node), NODE);
    assert_eq!((&node["node"], &node["state"], &node["units"]), (&"a".into(), &"running".into(), &3.into()));
    let pipeline = &status["pipelines"][0];
    assert_eq!(names(pipeline), ["dead", "failed", "held", "pipeline", "summary", "units", "waiting"]);
    assert_eq!((&pipeline["units"], &pipeline["held"], &pipeline["failed"]), (&3.into(), &3.into(), &0.into()));
    for unit in status["units"].as_array().expect("units") {
        assert_eq!(names(unit), UNIT);
        assert_eq!((&unit["node"], &unit["incarnation"]), (&"a".into(), &node["incarnation"]));
        let left = unit["lease_left_ms"].as_u64().expect("a number");
        assert!(left > 0 && left <= 1000, "{unit}");
    }
    for mailbox in status["mailboxes"].as_array().expect("mailboxes") {
        assert_eq!(names(mailbox), MAILBOX);
    }
    let text = workspace.run(&["status"]);
    assert_eq!((text.code, text.err.as_str()), (0, ""));
    let wide: Vec<&str> = text.out.lines().skip(1).filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty() && !text.out.contains('\u{1b}'), "{}", text.out);
}

#[test]
fn status_before_the_first_node() {
    let (_redis, workspace) = world(QUIET);
    let status = workspace.run(&["--json", "status"]).json();
    assert_eq!((&status["nodes"], &status["redis"]["cluster"]), (&Value::Array(vec![]), &Value::Null));
    for unit in status["units"].as_array().expect("units") {
        assert_eq!(names(unit), UNIT);
        assert_eq!((&unit["state"], &unit["commit_age_ms"]), (&"free".into(), &Value::Null));
    }
    let text = workspace.run(&["status"]).out;
    assert!(text.contains("no node lives; start one: gapless run"), "{text}");
}

#[test]
fn checkpoints_and_their_past() {
    let (_redis, workspace) = world("[selftest.main]\nactors = 1\nmessages = 5\n");
    workspace
        .run(&["checkpoint", "show", "selftest.main/tally_0"])
        .failed(1, "gapless: selftest.main/tally_0 has no checkpoint: no node has held it yet\n");
    assert_eq!(workspace.run(&["checkpoint", "list", "--json"]).json(), serde_json::json!({ "checkpoints": [] }));
    let _node = workspace.started("a", &[]);
    let done = eventually(&workspace, "five added up", &["checkpoint", "show", "selftest.main/tally_0"], |shown| {
        shown["state"] == serde_json::json!({ "n": 5, "sum": 15 })
    });
    let shown = done.json();
    let fields = [
        "commit_age_ms",
        "failed",
        "fault",
        "format",
        "node",
        "offset",
        "owned",
        "seq",
        "state",
        "tip",
        "token",
        "unfinished",
        "unit",
    ];
    assert_eq!(names(&shown), fields);
    assert_eq!(
        (&shown["unit"], &shown["node"], &shown["owned"]),
        (&"selftest.main/tally_0".into(), &"a".into(), &true.into())
    );
    let list = workspace.run(&["checkpoint", "list", "--json"]).json();
    assert_eq!(names(&list["checkpoints"][1]), fields);
    let past = workspace.run(&["checkpoint", "history", "selftest.main/tally_0", "--json"]).json();
    assert_eq!(names(&past), ["samples", "unit"]);
    let samples = past["samples"].as_array().expect("samples");
    let oldest = samples.last().expect("the acquisition");
    assert_eq!(names(oldest), ["age_ms", "node", "offset", "seq", "state", "time_ms", "token", "why"]);
    assert_eq!((&oldest["why"], &oldest["seq"], &oldest["state"]), (&"acquire".into(), &0.into(), &Value::Null));
}

#[test]
fn doctor_and_mailboxes() {
    let (redis, workspace) = world(QUIET);
    let doctor = workspace.run(&["doctor", "--json"]);
    assert_eq!((doctor.code, doctor.err.as_str()), (0, ""), "{}", doctor.out);
    let doctor = doctor.json();
    assert_eq!(names(&doctor), ["bad", "checks", "good", "warn"]);
    let checks = doctor["checks"].as_array().expect("checks");
    let found: Vec<&str> = checks.iter().map(|check| check["name"].as_str().expect("a name")).collect();
    let wanted =
        ["configuration", "redis", "eviction", "persistence", "memory", "round trip", "rights", "scripts", "identity"];
    assert_eq!(found, wanted);
    for check in checks {
        assert_eq!(names(check), ["name", "remedy", "verdict", "words"]);
    }
    assert_eq!(redis.command(&["DBSIZE"]), redis::Value::Int(0), "the trial leaves nothing behind");
    let list = workspace.run(&["mailbox", "list", "--json"]).json();
    assert_eq!(names(&list), ["mailboxes"]);
    assert_eq!(list["mailboxes"].as_array().map(Vec::len), Some(3));
    assert_eq!(names(&list["mailboxes"][0]), MAILBOX);
}

#[test]
fn a_small_measurement() {
    let arguments = ["bench", "mailbox", "--messages", "1000", "--runs", "1", "--aof", "off", "--kills", "0", "--json"];
    let report = Workspace::new("").run(&arguments);
    assert_eq!((report.code, report.err.as_str()), (0, ""), "{report:?}");
    let report = report.json();
    assert_eq!(names(&report), ["conditions", "rerun_seconds", "rows"]);
    assert_eq!(names(&report["conditions"]), ["build", "bytes", "cpus", "messages", "redis", "runs"]);
    let fields = [
        "aof",
        "commit_p50_seconds",
        "commit_p99_seconds",
        "max",
        "min",
        "of_limit_by_50",
        "of_limit_by_500",
        "own_cpu_seconds",
        "own_peak_kib",
        "per_second",
        "redis_cpu_seconds",
        "what",
    ];
    assert_eq!(names(&report["rows"][0]), fields);
}

#[test]
fn a_small_measurement_of_blocks() {
    let workspace = Workspace::new("");
    let folder = workspace.path().display().to_string();
    let report = workspace.run(&["bench", "blocks", "--blocks", "100", "--runs", "1", "--dir", &folder, "--json"]);
    assert_eq!((report.code, report.err.as_str()), (0, ""), "{report:?}");
    let report = report.json();
    assert_eq!(names(&report), ["conditions", "rows"]);
    assert_eq!(names(&report["conditions"]), ["blocks", "build", "bytes", "cpus", "redis", "runs"]);
    let fields = ["cpu_seconds_per_1000", "limit", "max", "min", "of_limit", "peak_kib", "per_second", "what"];
    let rows = report["rows"].as_array().expect("rows");
    assert!(rows.len() >= 6 && rows.iter().all(|row| names(row) == fields), "{report}");
    assert!(rows.iter().all(|row| row["per_second"].as_f64().is_some_and(|rate| rate > 0.0)), "{report}");
    let left = std::fs::read_dir(workspace.path()).expect("the folder").filter_map(Result::ok);
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("gapless-bench")).collect();
    assert!(left.is_empty(), "its folder is removed: {left:?}");
}

#[test]
fn a_small_measurement_of_lines() {
    let workspace = Workspace::new("");
    let folder = workspace.path().display().to_string();
    let arguments = "bench logs --measure throughput,latency,idle --lines 2000 --runs 1 --aof everysec --seconds 1";
    let arguments: Vec<&str> = arguments.split(' ').chain(["--rate", "100", "--files", "30", "--json"]).collect();
    let report = workspace.run(&[&arguments[..], &["--dir", &folder]].concat());
    assert_eq!((report.code, report.err.as_str()), (0, ""), "{report:?}");
    let report = report.json();
    assert_eq!(names(&report), ["conditions", "idle", "latency", "rows"]);
    let conditions = ["build", "bytes", "cpus", "files", "lines", "rate", "redis", "runs", "seconds"];
    assert_eq!(names(&report["conditions"]), conditions);
    assert_eq!((&report["conditions"]["lines"], &report["conditions"]["bytes"]), (&2000.into(), &(2000 * 142).into()));
    let fields = [
        "aof",
        "max",
        "min",
        "of_limit",
        "of_limit_same_fields",
        "own_cpu_us_a_line",
        "peak_kib",
        "per_second",
        "redis_cpu_us_a_line",
        "what",
    ];
    let rows = report["rows"].as_array().expect("rows");
    assert!(rows.len() == 4 && rows.iter().all(|row| names(row) == fields), "{report}");
    assert!(rows.iter().all(|row| row["per_second"].as_f64().is_some_and(|rate| rate > 0.0)), "{report}");
    let latency = report["latency"].as_array().expect("rows");
    let fields = [
        "aof",
        "longest_ms",
        "max",
        "min",
        "own_cpu",
        "p50_ms",
        "p99_ms",
        "peak_kib",
        "per_second",
        "redis_cpu",
        "what",
    ];
    assert!(latency.len() == 2 && latency.iter().all(|row| names(row) == fields), "{report}");
    assert_eq!(latency[1]["what"], "30 files that are followed");
    let idle = report["idle"].as_array().expect("rows");
    let fields = ["aof", "own_cpu", "peak_kib", "redis_cpu", "requests_per_second", "what"];
    assert!(idle.len() == 2 && idle.iter().all(|row| names(row) == fields), "{report}");
    assert!(idle.iter().all(|row| row["peak_kib"].as_f64().is_some_and(|peak| peak > 1000.0)), "{report}");
    let left = std::fs::read_dir(workspace.path()).expect("the folder").filter_map(Result::ok);
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("gapless-bench")).collect();
    assert!(left.is_empty(), "its folder is removed: {left:?}");
}

#[test]
fn a_file_whose_lines_cannot_be_compared_is_not_measured() {
    let workspace = Workspace::new("");
    let file = workspace.write("half.log", "one\ntwo");
    let file = file.to_str().expect("a plain path");
    let refused =
        format!("gapless: bench: the last line of {file} has no end, or the file grows; give a finished one\n");
    workspace.run(&["bench", "logs", "--file", file]).failed(2, &refused);
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "one\ntwo");
}

#[test]
fn a_small_measurement_of_streams() {
    let arguments = ["bench", "sync", "--entries", "1000", "--streams", "1,3", "--runs", "1", "--aof", "off", "--json"];
    let report = Workspace::new("").run(&arguments);
    assert_eq!((report.code, report.err.as_str()), (0, ""), "{report:?}");
    let report = report.json();
    assert_eq!(names(&report), ["conditions", "rows"]);
    assert_eq!(names(&report["conditions"]), ["build", "bytes", "cpus", "entries", "evidence", "redis", "runs"]);
    let fields = [
        "aof",
        "cpu_seconds_per_million",
        "max",
        "min",
        "of_limit_group",
        "of_limit_tail",
        "peak_kib",
        "per_second",
        "streams",
        "what",
    ];
    let rows = report["rows"].as_array().expect("rows");
    assert!(rows.len() == 8 && rows.iter().all(|row| names(row) == fields), "{report}");
    assert!(rows.iter().all(|row| row["per_second"].as_f64().is_some_and(|rate| rate > 0.0)), "{report}");
}
