//! The parse step from outside: a node that makes events of lines, and what the commands say of it.

use serde_json::json;

use super::eventually;
use super::logs::{append, logs};

const PARSE: &str = "[logs.web.parse]\npreset = \"json\"\n";

#[test]
fn events_and_what_is_none_are_counted_shown_and_printed() {
    let (_redis, workspace) = logs(PARSE);
    append(&workspace, "a.log", &[r#"{"level":"error","msg":"one"}"#, "no event", r#"{"msg":"two"}"#]);
    let node = workspace.started("n", &[]);
    let done = eventually(&workspace, "three lines parsed", &["logs", "status"], |status| {
        let parser = &status["pipelines"][0]["parser"];
        (&parser["events"], &parser["unparsed"], &parser["lag"]) == (&json!(2), &json!(1), &json!(0))
    });
    let parser = done.json()["pipelines"][0]["parser"].clone();
    assert_eq!((&parser["reasons"], &parser["missed"]), (&json!({ "not_json": 1 }), &json!(0)));
    assert_eq!((&parser["unit"], &parser["held"]), (&json!("logs.web/log_parser"), &json!([2, 1])));
    let text = workspace.run(&["logs", "status"]).out;
    assert!(text.contains("parser: 2 events, 1 unparsed (not_json 1); 0 lines behind, 0 missed;"), "{text}");
    let status = workspace.run(&["status"]).out;
    assert!(status.contains(", events 2, unparsed 1\n") && status.contains("logs.web/log_parser"), "{status}");
    assert!(!workspace.run(&["mailbox", "list"]).out.contains("log_parser"), "it has no mailbox");
    let refused = workspace.run(&["send", "logs.web/log_parser", "x", "{}"]);
    assert!(refused.code == 2 && refused.err.contains("has no mailbox"), "{refused:?}");
    let refused = workspace.run(&["checkpoint", "rewind", "logs.web/log_parser", "--by", "1", "--yes"]);
    assert!(refused.code == 2 && refused.err.contains("cannot be rewound"), "{refused:?}");
    drop(node);
}

#[test]
fn a_mapping_that_cannot_be_is_refused_before_anything_starts() {
    let (_redis, workspace) = logs("[logs.web.parse]\npreset = \"jsn\"\n");
    let refused = workspace.run(&["run"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("logs.web.parse.preset = \"jsn\": is no preset; there are seed, json"), "{refused:?}");
    let (_redis, workspace) = logs("");
    let refused = workspace.run(&["logs", "follow", "--events"]);
    assert!(refused.code == 2 && refused.err.contains("[logs.web.parse]"), "{refused:?}");
}
