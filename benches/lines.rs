//! What a line of a log costs before it is on its way: its level, and its event. `cargo bench --bench lines`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gapless::messages::level::level_of;
use gapless::messages::line::Part;
use gapless::messages::udm::{Facts, Mapping, Parser};

/// Lines of 142 bytes, padded in the message.
fn lines() -> Vec<(&'static str, String)> {
    let fill =
        |head: &str, tail: &str| format!("{head}{}{tail}", "x ".repeat(142))[..142 - tail.len()].to_owned() + tail;
    vec![
        ("json", fill(r#"{"timestamp": "2026-01-02T03:04:05.000006", "type": "INFO", "message": ""#, r#""}"#)),
        ("json_level_first", fill(r#"{"level":"info","ts":1767323045,"msg":""#, r#""}"#)),
        (
            "json_nested",
            fill(r#"{"ctx":{"type":"x","tags":["a","b"],"at":{"line":12}},"severity":"warn","msg":""#, r#""}"#),
        ),
        ("text", fill("081109 203615 148 INFO dfs.DataNode$PacketResponder: ", "")),
        ("text_without", fill("Dec 10 06:55:46 host sshd[24200]: Invalid user webmaster from 192.0.2.7 ", "")),
        ("logfmt", fill("time=2026-01-02T03:04:05Z caller=main.go:12 level=info msg=\"", "\"")),
    ]
}

fn levels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("level_of");
    for (name, line) in lines() {
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(name, |bench| bench.iter(|| level_of(black_box(line.as_bytes()))));
    }
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("udm");
    let id = "9c1185a5c5e9fc54-3a1f-0:8841".parse().expect("a line id");
    for (preset, line) in [
        ("seed", r#"{"timestamp": "2026-01-02T03:04:05.000006", "type": "INFO", "message": "order accepted"}"#),
        (
            "nginx",
            r#"192.0.2.7 - eva [02/Jan/2026:03:04:05 +0100] "GET /a?b=1 HTTP/1.1" 200 512 "https://example.org/" "Mozilla/5.0""#,
        ),
        (
            "openssh",
            "Jan  2 03:04:05 gate sshd[17]: Failed password for invalid user eva from 192.0.2.7 port 4022 ssh2",
        ),
        (
            "hdfs",
            "260102 030405 17 INFO dfs.DataNode$DataXceiver: Receiving block blk_-17 src: /192.0.2.7:4022 dest: /192.0.2.8:50010",
        ),
    ] {
        let mapping = Mapping { preset: Some(preset.to_owned()), ..Mapping::default() };
        let parser = Parser::new(&mapping).expect("a preset");
        let level = level_of(line.as_bytes());
        let received = "2026-03-01T12:00:00Z".parse().expect("a time");
        let facts =
            Facts { id: &id, level: &level, part: Part::Whole, received, host: "node-1", file: "/var/log/x.log" };
        group.throughput(Throughput::Elements(1));
        group.bench_function(preset, |bench| {
            bench.iter(|| parser.parse(black_box(line.as_bytes()), &facts).expect("an event").to_json());
        });
    }
    group.finish();
}

criterion_group!(benches, levels, events);
criterion_main!(benches);
