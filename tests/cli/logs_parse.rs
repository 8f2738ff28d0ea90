//! The parse step from outside: a node that makes events of lines, and what the commands say of it.

use serde_json::{Value, json};

use super::eventually;
use super::logs::{append, logs};
use super::support::node::poll;
use super::support::redis::RedisServer;

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

/// Entries of an output.
fn length(redis: &RedisServer, output: &str) -> u64 {
    redis.text(&["XLEN", &format!("t:{{logs.web}}:out:{output}")]).parse().expect("a number")
}

#[test]
fn a_parser_whose_outputs_are_full_waits_and_with_it_the_lines_and_nothing_is_lost() {
    const EVENTS: &str = "t:{logs.web}:out:events";
    const LINES: u64 = 5000;
    /// Streams, their entries, and the fields and values of each.
    type Streams = Vec<(String, Vec<(String, Vec<String>)>)>;
    let keys = format!("stream_entries_max = 1000\n{PARSE}events_entries_max = 1000\nunparsed_entries_max = 1000\n");
    let (redis, workspace) = logs(&keys);
    redis.command(&["XGROUP", "CREATE", EVENTS, "slow", "0", "MKSTREAM"]);
    let _node = workspace.started("n", &[]);
    // Each tenth line is no event; nobody reads those, so of them the newest stay.
    let texts: Vec<String> = (0..LINES)
        .map(|n| if n % 10 == 9 { format!("none {n}") } else { format!(r#"{{"msg":"it is {n}"}}"#) })
        .collect();
    append(&workspace, "a.log", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let full = eventually(&workspace, "both to wait", &["logs", "status"], |status| {
        let one = &status["pipelines"][0];
        let waits = |of: &Value, word: &str| of["waits"].as_str().is_some_and(|why| why.contains(word));
        waits(&one["parser"], EVENTS) && waits(&one["watchers"][0], ":out:lines")
    });
    let one = full.json()["pipelines"][0].clone();
    assert!(one["behind"].as_u64().is_some_and(|behind| behind > 0) && one["parser"]["lag"] != json!(0), "{one}");
    let (events, lines) = (length(&redis, "events"), length(&redis, "lines"));
    // Whether one is full is judged before a commit, which may bring a whole batch.
    assert!(events < 1000 + 500 && lines < 1000 + 1000, "{events} events, {lines} lines");
    let text = workspace.run(&["logs", "status"]).out;
    assert!(text.contains(&format!("logs.web/log_parser: waits: {EVENTS} is full")), "{text}");
    assert!(text.contains("logs.web/log_watcher@h: waits: t:{logs.web}:out:lines is full"), "{text}");
    assert!(workspace.run(&["status"]).out.contains(&format!("logs.web/log_parser: {EVENTS} is full")));

    // Somebody reads and acknowledges: all of it comes, in order, once.
    let mut read: Vec<String> = Vec::new();
    poll("all events", || {
        let page = redis.command(&["XREADGROUP", "GROUP", "slow", "a", "COUNT", "300", "STREAMS", EVENTS, ">"]);
        let page: Option<Streams> = redis::from_redis_value(page).expect("entries");
        for (entry, fields) in page.into_iter().flatten().flat_map(|(_, entries)| entries) {
            let event: Value = serde_json::from_str(&fields[1]).expect("JSON");
            read.push(event["security_result"][0]["summary"].as_str().expect("its message").to_owned());
            redis.command(&["XACK", EVENTS, "slow", &entry]);
        }
        (read.len() as u64 >= LINES - LINES / 10).then_some(())
    });
    let want: Vec<String> = (0..LINES).filter(|n| n % 10 != 9).map(|n| format!("it is {n}")).collect();
    assert!(read == want, "{} events of {}, the last {:?}", read.len(), want.len(), read.last());
    let done = eventually(&workspace, "the end of the wait", &["logs", "status"], |status| {
        let one = &status["pipelines"][0];
        (&one["parser"]["lag"], &one["behind"]) == (&json!(0), &json!(0))
            && (&one["parser"]["waits"], &one["watchers"][0]["waits"]) == (&json!(""), &json!(""))
    });
    let parser = done.json()["pipelines"][0]["parser"].clone();
    assert_eq!((&parser["events"], &parser["unparsed"]), (&json!(LINES - LINES / 10), &json!(LINES / 10)));
    assert_eq!((&parser["missed"], &parser["reasons"]), (&json!(0), &json!({ "not_json": LINES / 10 })));
}
