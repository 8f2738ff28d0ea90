//! Mailboxes from outside: what is refused, what is sent once, and what is set aside.

use super::{QUIET, eventually, world};

const TALLY: &str = "selftest.main/tally_0";

#[test]
fn a_message_to_nobody_is_refused_with_those_who_exist() {
    let (_redis, workspace) = world(QUIET);
    let list = "there is: selftest.main/feeder, selftest.main/tally_0, selftest.main/tally_1\n";
    workspace
        .run(&["send", "selftest.main/nobody", "number", "{}"])
        .failed(2, &format!("gapless: there is no actor `selftest.main/nobody`; {list}"));
    workspace
        .run(&["mailbox", "peek", "selftest.main"])
        .failed(2, &format!("gapless: there is no actor `selftest.main`; {list}"));
    workspace
        .run(&["checkpoint", "show", "selftest.main/tally_9"])
        .failed(2, &format!("gapless: there is no unit `selftest.main/tally_9`; {list}"));
}

#[test]
fn a_body_must_be_json_within_its_limit() {
    let (redis, workspace) = world(&format!("{QUIET}[mailbox]\nentry_bytes_max = 256\n"));
    workspace
        .run(&["send", TALLY, "number", "{\"n\": 1"])
        .failed(2, "gapless: the body is not JSON: EOF while parsing an object at line 1 column 7\n");
    let large = format!("\"{}\"", "x".repeat(298));
    let done = workspace.run(&["send", TALLY, "number", &large, "--id", "a"]);
    done.failed(
        2,
        "gapless: the message has 307 bytes, the limit is 256 (configuration key mailbox.entry_bytes_max)\n",
    );
    workspace.run_with(&["send", TALLY, "number", "-"], &large).failed(
        2,
        "gapless: the message has more than 256 bytes, the limit (configuration key mailbox.entry_bytes_max)\n",
    );
    assert_eq!(redis.command(&["XLEN", "t:{selftest.main}:in:tally_0"]), redis::Value::Int(0));
    let done = workspace.run_with(&["send", TALLY, "number", "-"], "{\"n\": 1}\n");
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[test]
fn a_full_mailbox_takes_nothing() {
    let (redis, workspace) = world(&format!("{QUIET}[mailbox]\ncapacity = 2\n"));
    for _ in 0..2 {
        assert_eq!(workspace.run(&["send", TALLY, "number", "{\"n\": 1}"]).code, 0);
    }
    workspace
        .run(&["send", TALLY, "number", "{\"n\": 1}"])
        .failed(1, "gapless: mailbox is full (2 of capacity 2); try again later\n");
    assert_eq!(redis.command(&["XLEN", "t:{selftest.main}:in:tally_0"]), redis::Value::Int(2));
}

#[test]
fn the_same_id_is_sent_once() {
    let (redis, workspace) = world(QUIET);
    let args = ["send", TALLY, "number", "{\"n\": 1}", "--id", "import-7"];
    let first = workspace.run(&args);
    assert!(first.code == 0 && first.out.starts_with("sent to selftest.main/tally_0 as "), "{first:?}");
    let second = workspace.run(&args);
    assert_eq!(
        (second.code, second.out.as_str(), second.err.as_str()),
        (0, "sent before under the id `import-7`; nothing was sent now\n", "")
    );
    let third = workspace.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(third, serde_json::json!({ "mailbox": TALLY, "entry": null, "before": true }));
    assert_eq!(redis.command(&["XLEN", "t:{selftest.main}:in:tally_0"]), redis::Value::Int(1));
}

#[test]
fn an_entry_that_cannot_be_read_is_set_aside_and_the_next_ones_pass() {
    let (redis, workspace) = world(QUIET);
    let _node = workspace.started("a", &[]);
    let mailbox = "t:{selftest.main}:in:tally_0";
    for fields in [
        &["type", "number", "body", "{\"n\":1}"][..],
        &["type", "number", "body", "{\"n\":"],
        &["colour", "\u{1b}[2J"],
        &["type", "number", "body", "{\"n\":2}"],
    ] {
        redis.command(&[&["XADD", mailbox, "*"], fields].concat());
    }
    let shown = eventually(&workspace, "both numbers added", &["checkpoint", "show", TALLY], |shown| {
        shown["state"] == serde_json::json!({ "n": 2, "sum": 3 })
    });
    assert_eq!(shown.json()["failed"], 0);
    let letters = workspace.run(&["--json", "mailbox", "dead", "list", TALLY]).json();
    let letters = letters["letters"].as_array().expect("letters").clone();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in &letters {
        let reason = letter["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("malformed: "), "{reason}");
        assert_eq!(letter["unit"], TALLY);
    }
    assert_eq!(letters[0]["fields"][1], serde_json::json!(["body", "{\"n\":"]));
    let text = workspace.run(&["mailbox", "dead", "list", TALLY]).out;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("malformed: ") && !text.contains('\u{1b}'), "{text:?}");
    assert_eq!(workspace.run(&["mailbox", "dead", "list", "selftest.main/tally_1"]).out, "nothing was set aside\n");
}

#[test]
fn looking_takes_nothing_and_goes_page_by_page() {
    let (_redis, workspace) = world(QUIET);
    for n in 1..=3 {
        let body = format!("{{\"n\":{n}}}");
        assert_eq!(workspace.run(&["send", TALLY, "number", &body]).code, 0);
    }
    let bodies = |done: serde_json::Value| -> Vec<String> {
        let entries = done["entries"].as_array().expect("entries").clone();
        entries.iter().map(|entry| entry["fields"][1][1].as_str().expect("a body").to_owned()).collect()
    };
    let first = workspace.run(&["--json", "mailbox", "peek", TALLY, "--count", "2"]).json();
    assert_eq!(bodies(first.clone()), ["{\"n\":1}", "{\"n\":2}"]);
    let last = first["entries"][1]["id"].as_str().expect("an id");
    let next = workspace.run(&["--json", "mailbox", "peek", TALLY, "--after", last]).json();
    assert_eq!(bodies(next), ["{\"n\":3}"]);
    let text = workspace.run(&["mailbox", "peek", TALLY, "--count", "2"]).out;
    assert!(text.ends_with(&format!("there may be more: --after {last}\n")), "{text}");
}

#[test]
fn a_key_of_another_type_hides_no_other_mailbox() {
    let (redis, workspace) = world(QUIET);
    redis.command(&["SET", "t:{selftest.main}:in:tally_0", "x"]);
    let list = workspace.run(&["mailbox", "list", "--json"]).json();
    let fault = list["mailboxes"][1]["fault"].as_str().expect("a fault");
    assert!(fault.starts_with("WRONGTYPE"), "{list}");
    assert_eq!(list["mailboxes"][2]["fault"], "");
    let send = workspace.run(&["send", TALLY, "number", "{}"]);
    assert_eq!(send.code, 2, "{send:?}");
}
