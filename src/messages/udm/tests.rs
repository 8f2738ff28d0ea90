//! Events: spelled out for made-up lines of every preset, counted for real logs, and what is refused or set aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::*;
use crate::messages::level::level_of;
use crate::messages::line::{LineId, Part};

const RECEIVED: &str = "2026-03-01T12:00:00Z";

fn parser(text: &str) -> Parser {
    Parser::new(&toml::from_str(text).expect("a mapping")).expect("a good mapping")
}

fn preset(name: &str) -> Parser {
    parser(&format!("preset = \"{name}\""))
}

fn id(offset: u64) -> LineId {
    format!("9c1185a5c5e9fc54-3a1f-0:{offset}").parse().expect("a line id")
}

fn parsed_at(parser: &Parser, line: &[u8], offset: u64, received: &str) -> Result<Event, Unparsed> {
    let (id, level) = (id(offset), level_of(line));
    let received: Timestamp = received.parse().expect("a time");
    let facts =
        Facts { id: &id, level: &level, part: Part::Whole, received, host: "node-1", file: "/var/log/shop.log" };
    parser.parse(line, &facts)
}

fn parsed(parser: &Parser, line: &str) -> Result<Event, Unparsed> {
    parsed_at(parser, line.as_bytes(), 0, RECEIVED)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/udm").join(name)
}

/// A golden file holds lines and what becomes of them. With GAPLESS_WRITE_GOLDEN set it is written anew, to be read
/// by people before it is committed.
#[test]
fn every_preset_gives_the_events_that_are_spelled_out() {
    for name in preset_names() {
        let (parser, path) = (preset(name), golden(&format!("{name}.json")));
        let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).expect("a golden file")).expect("JSON");
        assert!(!cases.is_empty(), "{name}");
        let case = |case: &Value| {
            let line = case["line"].as_str().expect("a line");
            match parsed(&parser, line) {
                Ok(event) => json!({ "line": line, "event": event }),
                Err(reason) => json!({ "line": line, "unparsed": reason.to_string() }),
            }
        };
        let found: Vec<Value> = cases.iter().map(case).collect();
        if std::env::var_os("GAPLESS_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&found).expect("JSON") + "\n").expect("written");
            continue;
        }
        for (found, expected) in found.iter().zip(&cases) {
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn an_event_is_written_in_a_fixed_order() {
    let line = r#"{"zeta":1,"msg":"m","alpha":{"b":[1,2.5,null],"a":"x"},"user":"eva","ip":"192.0.2.7","level":"warn","ts":1767323045}"#;
    let text = parsed(&preset("json"), line).expect("an event").to_json();
    let expected = concat!(
        r#"{"metadata":{"event_timestamp":"2026-01-02T03:04:05Z","event_type":"GENERIC_EVENT","vendor_name":"unknown","#,
        r#""product_name":"unknown","product_log_id":"9c1185a5c5e9fc54-3a1f-0:0"},"#,
        r#""principal":{"hostname":"node-1","ip":["192.0.2.7"],"user":{"userid":"eva"}},"#,
        r#""security_result":[{"severity":"MEDIUM","severity_details":"warn","summary":"m"}],"#,
        r#""additional":{"alpha":{"a":"x","b":[1,2.5,null]},"gapless.file":"/var/log/shop.log","zeta":1}}"#
    );
    assert_eq!(text, expected);
    let event: Event = serde_json::from_str(&text).expect("an event");
    assert_eq!(event.to_json(), text);
}

#[test]
fn a_mapping_lies_over_its_preset() {
    let parser = parser(
        r#"
        preset = "json"
        time = { zone = "+01:00" }
        severity = { words = { Oops = "CRITICAL" } }
        fields = { "principal.ip" = ["/req/peer/ip", "ip"], "target.hostname" = "@host", "principal.hostname" = "nobody" }
        constants = { "metadata.product_name" = "shop", "network.application_protocol" = "HTTP" }

        [[rules]]
        field = "/msg"
        pattern = 'never'

        [[rules]]
        field = "msg"
        pattern = '^user (?<who>\w+) (?<did>left)'
        constants = { "metadata.event_type" = "USER_LOGOUT", "network.application_protocol" = "TLS" }
        "#,
    );
    let line = r#"{"time":"2026-01-02T03:04:05","level":"OOPS","msg":"user eva left","req":{"peer":{"ip":"192.0.2.7"},"n":1},"ip":"x"}"#;
    let event = parsed(&parser, line).expect("an event");
    assert_eq!(event.metadata.event_timestamp, "2026-01-02T02:04:05Z");
    assert_eq!(
        (event.metadata.event_type.as_str(), event.metadata.product_name.as_deref()),
        ("USER_LOGOUT", Some("shop"))
    );
    assert_eq!(event.network.application_protocol.as_deref(), Some("TLS"));
    assert_eq!(event.security_result[0].severity, "CRITICAL");
    assert_eq!(event.principal.ip, ["192.0.2.7".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!((event.principal.hostname, event.target.hostname.as_deref()), (None, Some("node-1")));
    let kept =
        json!({ "did": "left", "gapless.file": "/var/log/shop.log", "ip": "x", "req": { "n": 1 }, "who": "eva" });
    assert_eq!(Value::from(event.additional), kept);
}

#[test]
fn a_fixed_year_and_a_year_that_follows_from_the_clock() {
    let line = "Dec 31 23:59:59 gate sshd[17]: x";
    let year = |text: &str, received| {
        let event = parsed_at(&parser(text), line.as_bytes(), 0, received).expect("an event");
        event.metadata.event_timestamp[..4].to_owned()
    };
    assert_eq!(year("preset = \"openssh\"", "2026-01-01T00:00:01Z"), "2025");
    assert_eq!(year("preset = \"openssh\"", "2025-12-31T12:00:00Z"), "2025");
    assert_eq!(year("preset = \"openssh\"", "2025-12-30T12:00:00Z"), "2024");
    assert_eq!(year("preset = \"openssh\"\ntime.year = 2031", "2025-12-30T12:00:00Z"), "2031");
}

#[test]
fn what_is_no_event_is_told_apart() {
    let json_parser = preset("json");
    let (id, level) = (id(0), level_of(b""));
    let received = RECEIVED.parse().expect("a time");
    let mut facts = Facts { id: &id, level: &level, part: Part::Cut, received, host: "", file: "" };
    assert_eq!(json_parser.parse(b"{}", &facts), Err(Unparsed::Piece));
    facts.part = Part::Rest;
    assert_eq!(json_parser.parse(b"{}", &facts), Err(Unparsed::Piece));
    facts.part = Part::Torn;
    let event = json_parser.parse(b"{}", &facts).expect("a torn line may be whole");
    assert_eq!((event.principal, event.additional.len()), (Noun::default(), 0));
    let reason = |parser: &Parser, line: &[u8]| parsed_at(parser, line, 0, RECEIVED).expect_err("no event");
    assert_eq!(reason(&json_parser, &vec![b' '; LINE_BYTES_MAX + 1]), Unparsed::TooLong { bytes: LINE_BYTES_MAX + 1 });
    assert_eq!(reason(&json_parser, b" \t"), Unparsed::Empty);
    assert_eq!(reason(&json_parser, b"{\"a\":\"\xff\"}").word(), "not_json");
    let deep = ["{\"a\":".repeat(200_000), "1".to_owned()].concat();
    assert!(reason(&json_parser, deep.as_bytes()).to_string().contains("recursion limit"));
    let late = format!("{{\"ts\":\"\u{1b}[31m{}\"}}", "x".repeat(1000)).replace('\u{1b}', "\\u001b");
    let text = reason(&json_parser, late.as_bytes()).to_string();
    assert!(text.len() < 300 && !text.contains('\u{1b}'), "{text}");
    let words = [Unparsed::NotLogfmt, Unparsed::NoPattern].map(|reason| reason.word());
    assert_eq!(words, ["not_logfmt", "no_pattern"]);
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_it_is_said() {
    let line = b"Jan  2 03:04:05 web-1 app[17]: caf\xe9";
    let event = parsed_at(&preset("syslog"), line, 0, RECEIVED).expect("an event");
    assert_eq!(event.security_result[0].summary.as_deref(), Some("caf\u{fffd}"));
    assert_eq!(event.additional["gapless.not_utf8"], true);
}

#[track_caller]
fn faults(text: &str) -> Vec<String> {
    let faults = Parser::new(&toml::from_str(text).expect("a mapping")).expect_err("faults");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_of_a_mapping_is_named_with_its_key_and_remedy() {
    for (mapping, expected) in [
        ("", &["format: is not set; write \"json\""][..]),
        ("preset = \"ngnix\"", &["preset = \"ngnix\": is no preset; there are seed, json, logfmt, nginx"]),
        ("format = \"text\"", &["patterns: is not set; write one with named groups"]),
        ("format = \"json\"\npatterns = ['(?<a>.)']", &["patterns: only format = \"text\" has patterns"]),
        (
            "format = \"text\"\npatterns = ['x(', 'abc']",
            &["patterns[0] = \"x(\": is no regular expression: unclosed group", "patterns[1] = \"abc\": names nothing"],
        ),
        (
            "format = \"text\"\npatterns = ['(?<a>x))(?:y']",
            &["patterns[0] = \"(?<a>x))(?:y\": is no regular expression: unopened group"],
        ),
        ("format = \"text\"\npatterns = ['(?<a>(?:\\w{100}){100}{100})']", &["is too large when compiled"]),
        (
            "preset = \"json\"\ntime = { formats = [\"ISO\"], zone = \"Middle/Earth\", year = 12 }",
            &[
                "time.formats[0] = \"ISO\": must be rfc3339",
                "time.zone = \"Middle/Earth\": is no zone",
                "time.year = \"12\": must be a year",
            ],
        ),
        ("format = \"json\"\ntime.field = \"t\"", &["time.formats: is not set; say how the time is written"]),
        (
            "preset = \"json\"\nseverity.words.oops = \"BAD\"",
            &["severity.words.oops = \"BAD\": must be UNKNOWN_SEVERITY, INFORMATIONAL"],
        ),
        (
            "preset = \"json\"\nfields = { \"principal.hostnam\" = \"h\", \"target.ip\" = [] }",
            &[
                "fields.\"principal.hostnam\": is no path that can be mapped; there are metadata.event_type",
                "fields.\"target.ip\": names no value",
            ],
        ),
        (
            "preset = \"json\"\nfields = { \"metadata.event_timestamp\" = \"t\", \"metadata.product_log_id\" = \"i\" }",
            &["comes from `time`", "is the id of the line"],
        ),
        (
            "preset = \"json\"\nfields.\"principal.hostname\" = \"@hots\"",
            &["fields.\"principal.hostname\" = \"@hots\": is not known; there are @host, @file, @level"],
        ),
        (
            "preset = \"openssh\"\nfields.\"principal.url\" = \"uri\"",
            &["= \"uri\": is no named group of a pattern; there are client, code, host"],
        ),
        (
            "preset = \"json\"\nconstants = { \"principal.port\" = \"ssh\", \"metadata.event_type\" = \"login\" }",
            &[
                "constants.\"metadata.event_type\" = \"login\": must be a word in capitals",
                "constants.\"principal.port\" = \"ssh\": must be a number from 0 to 65535",
            ],
        ),
        (
            "preset = \"json\"\n[[rules]]\npattern = '['\nconstants = { \"principal.ip\" = \"x\" }",
            &[
                "rules[0].field: is not set",
                "rules[0].pattern = \"[\": is no regular expression",
                "rules[0].constants.\"principal.ip\" = \"x\": must be an IP address",
            ],
        ),
    ] {
        let found = faults(mapping);
        assert_eq!(found.len(), expected.len(), "{mapping}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{mapping}: {found}");
        }
    }
    let many = format!("format = \"text\"\npatterns = [{}]", "'(?<a>x)',".repeat(PATTERNS_MAX + 1));
    assert_eq!(faults(&many), ["patterns: must be at most 100, and are 101"]);
    let long = format!("format = \"text\"\npatterns = ['(?<a>{})']", "x".repeat(PATTERN_BYTES_MAX));
    assert_eq!(faults(&long), ["patterns[0]: must be at most 4096 bytes long, and is 4102"]);
    for unknown in ["formt = \"json\"", "format = \"xml\"", "fields.\"principal.ip\" = 5", "[[rules]]\nfeld = \"x\""] {
        assert!(toml::from_str::<Mapping>(unknown).is_err(), "{unknown}");
    }
}

/// Every path that is offered can be written, and is read back where it belongs.
#[test]
fn every_path_is_in_the_event_under_its_name() {
    for path in paths() {
        let value = match path.rsplit('.').next().expect("a name") {
            "ip" => "192.0.2.7",
            "port" | "response_code" | "sent_bytes" | "received_bytes" => "17",
            "severity" => "LOW",
            "event_type" | "action" => "WORD",
            _ => "text",
        };
        let event = parsed(
            &parser(&format!("format = \"json\"\nfields.\"{path}\" = \"v\"")),
            &json!({ "v": value }).to_string(),
        );
        let event = serde_json::to_value(event.expect("an event")).expect("JSON");
        let pointer = format!("/{}", path.replace("security_result.", "security_result.0.").replace('.', "/"));
        let found = event.pointer(&pointer).unwrap_or_else(|| panic!("{path} in {event}")).to_string();
        assert!(found.trim_matches(['[', ']']).trim_matches('"') == value, "{path}: {found}");
        assert_eq!(event.pointer("/additional/v"), None, "{path}");
    }
}

/// All texts and numbers of a value, with how often they occur.
fn leaves(value: &Value, all: &mut BTreeMap<String, usize>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, all)),
        Value::Object(members) => members.values().for_each(|item| leaves(item, all)),
        // An address is written in its shortest form: `::0` comes as `::`.
        Value::String(text) => {
            let text = text.parse::<std::net::IpAddr>().map_or_else(|_| text.clone(), |address| address.to_string());
            *all.entry(text).or_default() += 1;
        }
        other => *all.entry(other.to_string()).or_default() += 1,
    }
}

proptest! {
    /// What a line of JSON says is in the event, wherever it was put.
    #[test]
    fn nothing_of_a_line_is_lost(members in prop::collection::btree_map(
        prop_oneof![prop::sample::select(vec!["user", "ip", "msg", "status", "host", "pid", "level", "url", "/x"]).prop_map(str::to_owned), "[a-z/~]{1,6}"],
        prop_oneof![
            "[ -~]{0,12}".prop_map(Value::from),
            any::<u32>().prop_map(Value::from),
            Just(json!({"n": ["deep", 7], "m": {"k": "v"}})),
            Just(json!(["192.0.2.7"])),
            Just(Value::Null),
        ],
        0..8,
    )) {
        let whole = json!(members);
        if ["timestamp", "time", "ts"].iter().any(|name| members.contains_key(*name)) {
            return Ok(());
        }
        let event = serde_json::to_value(parsed(&preset("json"), &whole.to_string()).expect("an event")).expect("JSON");
        let (mut said, mut kept) = (BTreeMap::new(), BTreeMap::new());
        leaves(&whole, &mut said);
        leaves(&event, &mut kept);
        for (leaf, count) in said {
            prop_assert!(kept.get(&leaf).is_some_and(|kept| *kept >= count), "{leaf} of {whole} in {event}");
        }
    }

    #[test]
    fn no_bytes_do_harm(line in prop::collection::vec(any::<u8>(), 0..300), near in "[A-Z][a-z]{2} [ \\d]?\\d [0-9:]{8} [a-z]{1,4} [a-z]{1,5}(\\[\\d{1,3}\\])?: .{0,60}") {
        for name in preset_names() {
            let parser = preset_parser(name);
            for line in [&line[..], near.as_bytes()] {
                if let Ok(event) = parsed_at(&parser, line, 0, RECEIVED) {
                    prop_assert!(event.to_json().len() < 10 * line.len() + 1000);
                }
            }
        }
    }
}

/// The parsers of the presets, made once: patterns are compiled.
fn preset_parser(name: &'static str) -> Parser {
    static ALL: std::sync::OnceLock<BTreeMap<&'static str, Parser>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| preset_names().map(|name| (name, preset(name))).collect())[name].clone()
}

/// Counts of a real log by plain rules for whole lines, which say nothing of how we parse.
fn counted(text: &str, rules: &[(&str, &str)]) -> BTreeMap<String, usize> {
    let count = |rule: &str| {
        let rule = Regex::new(rule).expect("a pattern");
        text.lines().filter(|line| rule.is_match(line)).count()
    };
    rules.iter().map(|(name, rule)| ((*name).to_owned(), count(rule))).collect()
}

/// Every line of three real logs is an event; types, severities, addresses and users are as many as plain rules find.
#[test]
fn real_logs_are_events_as_many_as_plain_rules_find() {
    let Some(data) = std::env::var_os("GAPLESS_REAL_DATA") else { return };
    let expected: BTreeMap<String, String> =
        serde_json::from_slice(&std::fs::read(golden("real.json")).expect("a golden file")).expect("JSON");
    let mut digests = BTreeMap::new();
    for (name, rules) in [
        (
            "hdfs",
            &[
                (
                    "type NETWORK_CONNECTION",
                    r" src: /| of size \d+ from /|Got exception while serving| Served block | Starting thread to transfer ",
                ),
                ("severity MEDIUM", r"^\d+ \d+ \d+ WARN "),
                ("severity INFORMATIONAL", r"^\d+ \d+ \d+ INFO "),
                ("with target.resource.name", r"^(?:[^*]|\* NameSystem)*blk_"),
                ("with target.file.full_path", r"allocateBlock: |Deleting block .* file /"),
                ("with network.received_bytes", r" of size \d+"),
            ][..],
        ),
        (
            "openssh",
            &[
                (
                    "type USER_LOGIN",
                    r"Failed \S+ for|Accepted password|: Invalid user|authentication failure|invalid user .* \[preauth|Too many authentication failures for|session opened",
                ),
                ("type USER_LOGOUT", "session closed for user"),
                ("type NETWORK_CONNECTION", "Received disconnect|Connection closed by|Did not receive identification"),
                (
                    "action BLOCK",
                    r"Failed \S+ for|: Invalid user|authentication failure|invalid user .* \[preauth|Too many authentication failures for",
                ),
                ("action ALLOW", "Accepted password|session opened"),
                (
                    "with principal.ip",
                    r"from (?:\d+\.){3}\d+|by (?:\d+\.){3}\d+|rhost=(?:\d+\.){3}\d+(?: |$)|\[(?:\d+\.){3}\d+\] failed",
                ),
                ("with principal.hostname", r"getaddrinfo for |rhost=\S*[a-z]"),
                ("with target.hostname", "LabSZ"),
                ("severity HIGH", "BREAK-IN|: error: "),
                ("severity CRITICAL", ": fatal: "),
            ],
        ),
        (
            "openstack",
            &[
                ("type NETWORK_HTTP", "HTTP/1.1\" status: "),
                ("severity MEDIUM", " WARNING nova"),
                ("severity INFORMATIONAL", " INFO nova"),
                ("with network.http.method", "\"(?:GET|POST|DELETE) "),
                ("with principal.user.userid", r"\[req-\S+ [0-9a-f]{32} "),
                ("with network.session_id", r" \[req-"),
                ("with target.resource.name", r"\] \[instance: | for instance [0-9a-f-]{36}"),
            ],
        ),
    ] {
        let path = Path::new(&data).join("logs").join(format!("{name}.log"));
        let text = std::fs::read_to_string(&path).expect("a real log");
        let (parser, mut found, mut digest) = (preset(name), BTreeMap::<String, usize>::new(), blake3::Hasher::new());
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let event = parsed_at(&parser, line.trim_end_matches(['\r', '\n']).as_bytes(), offset, RECEIVED);
            let event = event.unwrap_or_else(|reason| panic!("{name}: {reason}: {line}"));
            digest.update(event.to_json().as_bytes()).update(b"\n");
            offset += line.len() as u64;
            let value = serde_json::to_value(&event).expect("JSON");
            *found.entry(format!("type {}", event.metadata.event_type)).or_default() += 1;
            *found.entry(format!("severity {}", event.security_result[0].severity)).or_default() += 1;
            for action in &event.security_result[0].action {
                *found.entry(format!("action {action}")).or_default() += 1;
            }
            for path in paths() {
                let pointer = format!("/{}", path.replace('.', "/"));
                *found.entry(format!("with {path}")).or_default() += usize::from(value.pointer(&pointer).is_some());
            }
        }
        let counts = counted(&text, rules);
        let same: BTreeMap<String, usize> =
            counts.keys().map(|key| (key.clone(), found.get(key).copied().unwrap_or(0))).collect();
        assert_eq!(same, counts, "{name}");
        assert!(counts.values().all(|count| *count > 0), "{name}: a rule finds nothing: {counts:?}");
        digests.insert(name.to_owned(), digest.finalize().to_hex().to_string());
    }
    if std::env::var_os("GAPLESS_WRITE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(&digests).expect("JSON") + "\n";
        return std::fs::write(golden("real.json"), text).expect("written");
    }
    assert_eq!(digests, expected, "events of real logs have changed; read what, then set GAPLESS_WRITE_GOLDEN=1 once");
}

/// The page for users: its mapping makes its event of its line, and it names every preset, path and reason.
#[test]
fn the_page_shows_what_is_there() {
    let page = include_str!("../../../docs/logs.md");
    let part = |from: &str, to: &str| page.split(from).nth(1).and_then(|rest| rest.split(to).next()).expect("a part");
    let mapping =
        part("```toml\n[logs.shop.parse]", "```").replace("[logs.shop.parse.", "[").replace("[[logs.shop.parse.", "[[");
    let event = parsed(&parser(&mapping), part("makes of `", "`\n")).expect("an event");
    let shown: Event =
        serde_json::from_str(part("makes of `", "| key").split("```").nth(1).expect("JSON").trim_start_matches("json"))
            .expect("an event");
    assert_eq!(event.to_json(), shown.to_json());
    for name in preset_names() {
        assert!(page.contains(&format!("`{name}`")), "docs/logs.md lacks the preset {name}");
    }
    let names = part("Paths that can be mapped: ", "\n\n");
    for path in paths() {
        let leaf = path.trim_start_matches("principal.").trim_start_matches("target.");
        assert!(names.contains(&format!("`{leaf}`")), "docs/logs.md lacks the path {path}");
    }
    let reasons = part("| reason | what it is |", "## ");
    for word in ["piece", "too_long", "empty", "not_json", "not_logfmt", "no_pattern", "time"] {
        assert!(reasons.contains(&format!("`{word}`")), "docs/logs.md lacks the reason {word}");
    }
}
