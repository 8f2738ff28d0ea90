//! What a line of a log costs before it is on its way: its level, and its event. `cargo bench --bench lines`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gapless::messages::level::level_of;

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

criterion_group!(benches, levels);
criterion_main!(benches);
