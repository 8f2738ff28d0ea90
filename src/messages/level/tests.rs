//! Levels of lines: a table of forms, random JSON beside a real parser, and real logs beside plain rules.

use proptest::prelude::*;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::*;

fn level(line: &str) -> String {
    level_of(line.as_bytes()).to_string()
}

#[track_caller]
fn all(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(level(line), *expected, "{line}");
    }
}

#[test]
fn json_has_it_under_level_severity_or_type_of_the_outermost_object() {
    all(&[
        (r#"{"timestamp": "2026-01-02T03:04:05.000006", "type": "INFO", "message": "up"}"#, "INFO"),
        (r#"{"type":"audit","severity":"notice","level":"warn"}"#, "WARN"),
        (r#"{"type":"audit","severity":"notice"}"#, "NOTICE"),
        (r#"{"type":"audit","severity":null,"level":{"name":"ERROR"}}"#, "AUDIT"),
        (r#"{"type":"two words"}"#, "UNKNOWN"),
        (r#"{"message":"say \"type\":\"FATAL\", \"level\":\"x\"","type":"DEBUG"}"#, "DEBUG"),
        (r#"{"message":"\\","type":"DEBUG"}"#, "DEBUG"),
        (r#"{"message":"\\\",\"type\":\"FATAL","other":1}"#, "UNKNOWN"),
        (r#"{"a":{"level":"FATAL","b":["}",{"type":"x"}]},"type":"info"}"#, "INFO"),
        (r#"{"a":{"level":"FATAL"}}"#, "UNKNOWN"),
        (r#"["level","FATAL"]"#, "UNKNOWN"),
        (r#"{"le\u0076el":"in\u0066o"}"#, "INFO"),
        (r#"{"level":"in\u00e4"}"#, "UNKNOWN"),
        ("  {\t\"level\" :\r\n \"info\" }", "INFO"),
        (r#"{"level":"first","level":"second"}"#, "FIRST"),
        ("{}", "UNKNOWN"),
        ("{", "UNKNOWN"),
    ]);
}

#[test]
fn numbers_of_syslog_pino_and_google_have_words() {
    all(&[
        (r#"{"severity":0}"#, "EMERGENCY"),
        (r#"{"severity":3,"level":"x y"}"#, "ERROR"),
        (r#"{"severity":"6"}"#, "INFO"),
        (r#"{"level":10}"#, "TRACE"),
        (r#"{"level":30,"time":1}"#, "INFO"),
        (r#"{"time":1,"level":60}"#, "FATAL"),
        (r#"{"severity":100}"#, "DEBUG"),
        (r#"{"severity":800}"#, "EMERGENCY"),
        (r#"{"severity":8}"#, "UNKNOWN"),
        (r#"{"severity":35,"type":"job"}"#, "JOB"),
        (r#"{"severity":70}"#, "UNKNOWN"),
        (r#"{"severity":900}"#, "UNKNOWN"),
        (r#"{"severity":-3}"#, "UNKNOWN"),
        (r#"{"severity":3.0}"#, "UNKNOWN"),
        (r#"{"type":30}"#, "UNKNOWN"),
        (r#"{"type":"30"}"#, "30"),
        ("level=50 msg=down", "ERROR"),
    ]);
    assert_eq!([&b""[..], b"1000", b"x", b"00", b"000"].map(level_of_number), [None, None, None, None, None]);
}

#[test]
fn broken_json_counts_up_to_the_break() {
    all(&[
        (r#"{"type":"INFO","message":"cut he"#, "INFO"),
        (r#"{"type":"INFO","message""#, "INFO"),
        (r#"{"type":"INF"#, "UNKNOWN"),
        (r#"{"message":"cut he","type":"#, "UNKNOWN"),
        (r#"{"severity":3"#, "UNKNOWN"),
        (r#"{"a":[1,{"b":2},"type":"INFO"}"#, "UNKNOWN"),
        (r#"{"type":"INFO"}{"level":"FATAL"}"#, "INFO"),
        (r#"{"type" "INFO"}"#, "UNKNOWN"),
        (r#"{"a":1 ERROR b"#, "UNKNOWN"),
    ]);
}

#[test]
fn text_has_it_where_loggers_write_it() {
    all(&[
        ("081109 203615 148 INFO dfs.DataNode: up", "INFO"),
        ("2026-01-02 03:04:05,678 [main] WARN  a.b.C - slow", "WARN"),
        ("2026-01-02T03:04:05Z  INFO gapless: up", "INFO"),
        ("\u{1b}[2m2026-01-02T03:04:05Z\u{1b}[0m \u{1b}[32mINFO\u{1b}[0m gapless: up", "INFO"),
        ("\u{1b}[31merror: no such file\u{1b}[0m", "ERROR"),
        ("2026/01/02 03:04:05 [error] 12#12: *1 open() failed", "ERROR"),
        ("[Thu Jan 01 00:00:00 2026] [core:error] [pid 1] AH1: no", "ERROR"),
        ("[INFO ] padded", "INFO"),
        ("[info  ] padded", "INFO"),
        ("[12:00:00 INF] up", "INF"),
        ("WARNING:root:deprecated", "WARNING"),
        ("root:WARNING:deprecated", "WARNING"),
        ("2026-01-02 - app - CRITICAL - down", "CRITICAL"),
        ("(DEBUG) x", "DEBUG"),
        ("10:00|TRACE|x", "TRACE"),
        ("error: no such file", "ERROR"),
        ("Dec 10 06:55:46 host sshd[1]: fatal: no key", "FATAL"),
        ("SEVERE: down", "SEVERE"),
        ("time=2026-01-02 level=info msg=\"an ERROR\"", "INFO"),
        ("time=\"2026 ERROR\" lvl='warn' msg=x", "WARN"),
        ("ts=1 severity=\"banana\"", "BANANA"),
        ("<34>Oct 11 22:14:15 host su: failed", "CRITICAL"),
        ("<165>1 2026-01-02T03:04:05Z host app - - - INFO", "NOTICE"),
        ("I0102 15:04:05.678901       1 main.go:12] ERROR", "INFO"),
        ("W0102 15:04:05.678901       1 main.go:12] x", "WARNING"),
        ("ends with ERROR", "ERROR"),
        ("{not json} INFO x", "INFO"),
    ]);
}

#[test]
fn what_only_looks_like_a_level_is_none() {
    let late = format!("{}ERROR", "x ".repeat(LOOK / 2));
    all(&[
        ("", "UNKNOWN"),
        ("   ", "UNKNOWN"),
        ("an error: of the user", "UNKNOWN"),
        ("no error here, no info either", "UNKNOWN"),
        ("GET /ERROR HTTP/1.1", "UNKNOWN"),
        ("1.2.3.4 - - [02/Jan/2026:03:04:05 +0000] \"GET / ERROR HTTP/1.1\" 200 5 \"-\" \"a WARN b\"", "UNKNOWN"),
        ("\"quoted\"ERROR xERROR ERRORx E ER ERROr", "UNKNOWN"),
        ("array[24200]: names[err] = 1", "UNKNOWN"),
        ("ERROR_CODE=5 MY_INFO x-ERROR", "UNKNOWN"),
        ("INFOS WARNED", "UNKNOWN"),
        ("\u{c4}ERROR \u{c4} ERROR\u{c4}", "UNKNOWN"),
        ("mylevel=info", "UNKNOWN"),
        ("level=", "UNKNOWN"),
        ("level=\u{e4}", "UNKNOWN"),
        ("<192>x", "UNKNOWN"),
        ("<+13>x", "UNKNOWN"),
        ("<>x", "UNKNOWN"),
        ("I0102 text", "UNKNOWN"),
        ("\u{1b}", "UNKNOWN"),
        ("\u{1b}[31;1", "UNKNOWN"),
        ("+INF INF", "UNKNOWN"),
        (&late, "UNKNOWN"),
    ]);
    assert_eq!(level(&format!("level={}", "x".repeat(33))), "UNKNOWN");
    // A quote without an end hides nothing, and does not end the search.
    assert_eq!(level("a 5\" disk: ERROR here"), "ERROR");
}

/// A level is found wherever it stands in what is looked at, also across the blocks of the search.
#[test]
fn a_level_is_found_at_every_place() {
    for width in 0..LOOK - 10 {
        let before = "-".repeat(width);
        let found = ["ERROR", "[error]", "\u{1b}[1mERROR\u{1b}[0m", "level=error", "x: error: y"]
            .map(|form| level(&format!("{before} {form} behind it")));
        assert_eq!(found, ["ERROR"; 5], "behind {width}");
        assert_eq!(level(&format!("{before} ERROR")), "ERROR", "at the end, behind {width}");
    }
}

/// How far a level is looked for.
const LOOK: usize = 240;

/// Any JSON; `level`, `severity` and `type` are often among the keys, also of what is nested.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![any::<i64>(), 0..9_i64, (0..9_i64).prop_map(|n| n * 10), (0..10_i64).prop_map(|n| n * 100)]
            .prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            any_object(inner).prop_map(Value::Object),
        ]
    })
}

fn any_object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((any_text(), inner), 0..6).prop_map(|members| members.into_iter().collect())
}

/// Texts that could be mistaken for something else.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["level", "severity", "type", "INFO", "warn", "6", "30", "Level", "a b", "\\", "\""])
            .prop_map(str::to_owned),
        Just(r#"","level":"FATAL","x":""#.to_owned()),
        Just(r#"{"type":"FATAL"}"#.to_owned()),
        any::<String>(),
    ]
}

/// Choices that follow from a number.
struct Choices(u64);

impl Choices {
    /// 0 to 15.
    fn next(&mut self) -> u64 {
        self.0 = self.0.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        self.0 >> 60
    }

    fn space(&mut self) -> &'static str {
        ["", " ", "\t", " \r\n "][(self.next() & 3) as usize]
    }
}

/// A text with escapes that a writer may choose.
fn written_text(text: &str, choices: &mut Choices) -> String {
    let mut out = String::from("\"");
    for unit in text.chars() {
        let plain = !matches!(unit, '"' | '\\' | '\0'..='\u{1f}');
        if plain && choices.next() > 0 {
            out.push(unit);
        } else {
            unit.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out.push('"');
    out
}

/// JSON with escapes and spaces that a writer may choose.
fn written(value: &Value, choices: &mut Choices) -> String {
    match value {
        Value::String(text) => written_text(text, choices),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item, choices)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let mut member = |(key, item): (&String, &Value)| {
                let (key, item) = (written_text(key, choices), written(item, choices));
                format!("{}{key}{}:{}{item}{}", choices.space(), choices.space(), choices.space(), choices.space())
            };
            let members: Vec<_> = members.iter().map(&mut member).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// What a parsed object gives as its level.
fn expected(object: &Map<String, Value>) -> String {
    const SYSLOG: [&str; 8] = ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    let number = |number: &str| match number {
        "10" => Some("TRACE".to_owned()),
        "20" | "100" => Some("DEBUG".to_owned()),
        "30" | "200" => Some("INFO".to_owned()),
        "40" => Some("WARN".to_owned()),
        "50" | "500" => Some("ERROR".to_owned()),
        "60" => Some("FATAL".to_owned()),
        "300" => Some("NOTICE".to_owned()),
        "400" => Some("WARNING".to_owned()),
        "600" => Some("CRITICAL".to_owned()),
        "700" => Some("ALERT".to_owned()),
        "800" => Some("EMERGENCY".to_owned()),
        digit if digit.len() == 1 => SYSLOG.get(digit.parse::<usize>().ok()?).map(|word| (*word).to_owned()),
        _ => None,
    };
    let word = Regex::new("^[A-Za-z0-9_]{1,32}$").expect("a pattern");
    let digits = Regex::new("^[0-9]+$").expect("a pattern");
    let usable = |key: &str| match object.get(key)? {
        Value::String(text) if key != "type" && digits.is_match(text) => number(text),
        Value::String(text) if word.is_match(text) => Some(text.to_uppercase()),
        Value::Number(value) if key != "type" => number(&value.to_string()),
        _ => None,
    };
    ["level", "severity", "type"].into_iter().find_map(usable).unwrap_or_else(|| "UNKNOWN".to_owned())
}

proptest! {
    #[test]
    fn random_json_has_the_level_that_a_parser_finds(object in any_object(any_json()), choices in any::<u64>()) {
        let expected = expected(&object);
        let value = Value::Object(object);
        prop_assert_eq!(level(&value.to_string()), &*expected);
        let line = written(&value, &mut Choices(choices));
        prop_assert_eq!(&serde_json::from_str::<Value>(&line).expect("JSON"), &value);
        prop_assert_eq!(level(&line), expected, "{}", line);
    }

    #[test]
    fn cut_json_gives_a_level_of_its_own_or_none(object in any_object(any_json()), cut in 0.0..1.0) {
        let own = ["level", "severity", "type"].map(|key| {
            expected(&object.iter().filter(|(name, _)| *name == key).map(|(k, v)| (k.clone(), v.clone())).collect())
        });
        let line = Value::Object(object).to_string();
        let found = level_of(&line.as_bytes()[..(line.len() as f64 * cut) as usize]).to_string();
        prop_assert!(found == "UNKNOWN" || own.contains(&found), "{found} of {line}");
    }

    #[test]
    fn no_bytes_do_harm(line in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        prop::collection::vec(prop::sample::select(b"{}[]\":,\\ \x1b[mEROlevel=<>0".to_vec()), 0..400),
    ]) {
        level_of(&line);
    }
}

#[test]
fn depth_and_length_do_no_harm() {
    let deep = format!("{{\"a\":{}1{},\"type\":\"INFO\"}}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(level(&deep), "INFO");
    let escapes = format!("{{\"a\":\"{}\",\"type\":\"INFO\"}}", "\\\\".repeat(500_000));
    assert_eq!(level(&escapes), "INFO");
    assert_eq!(level(&"\" ".repeat(500_000)), "UNKNOWN");
    assert_eq!(level(&"x".repeat(1_000_000)), "UNKNOWN");
    let long_key = json!({ "\u{1}".repeat(1000): 1, "type": "INFO" }).to_string();
    assert_eq!(level(&long_key), "INFO");
}

/// Each real line beside a rule for its file; the counts were taken with grep.
#[test]
fn real_logs_have_the_levels_that_a_plain_rule_finds() {
    let Some(data) = std::env::var_os("GAPLESS_REAL_DATA") else { return };
    for (name, rule, counts) in [
        ("hdfs", r"^\d{6} \d{6} \d+ ([A-Z]+) ", &[("INFO", 1920), ("WARN", 80)][..]),
        ("openssh", r"^.{15} LabSZ sshd\[\d+\]: (error|fatal): ", &[("ERROR", 47), ("FATAL", 1), ("UNKNOWN", 1952)]),
        ("openstack", r"^\S+ \S+ \S+ \d+ ([A-Z]+) nova\.", &[("INFO", 1969), ("WARNING", 31)]),
    ] {
        let path = std::path::Path::new(&data).join("logs").join(format!("{name}.log"));
        let text = std::fs::read_to_string(&path).expect("a real log");
        let rule = Regex::new(rule).expect("a pattern");
        let mut found = std::collections::BTreeMap::new();
        for line in text.lines() {
            let expected = rule.captures(line).map_or_else(|| "UNKNOWN".to_owned(), |found| found[1].to_uppercase());
            assert_eq!(level(line), expected, "{name}: {line}");
            *found.entry(expected).or_insert(0) += 1;
        }
        let counts: std::collections::BTreeMap<_, _> = counts.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect();
        assert_eq!(found, counts, "{name}");
    }
}
