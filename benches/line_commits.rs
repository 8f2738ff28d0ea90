//! Lines a second through the commit that appends them, at three sizes, against the limit: pipelined XADD of one field,
//! nothing atomic, from bytes made beforehand. Each in turns with the others, each run on a server of its own that syncs
//! its append-only file once a second. `cargo bench --bench line_commits`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gapless::ids::{Kind, PipelineId, RandomId, UnitId};
use gapless::messages::line::{FileId, Level, Line, LineId, Part};
use gapless::store::Store;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::lines::{Lines, Payload, Publishing};
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;

#[path = "../tests/support/mod.rs"]
mod support;

/// Lines of one run.
const LINES: usize = 300_000;
/// Bytes of a line.
const LINE_BYTES: usize = 142;
/// Lines of one commit.
const BATCHES: [usize; 3] = [200, 500, 1000];
/// Runs of each.
const ROUNDS: usize = 5;

fn text(n: usize) -> String {
    let mut text = format!("{{\"timestamp\":\"2026-11-21T10:00:00Z\",\"type\":\"INFO\",\"n\":{n},\"message\":\"");
    while text.len() < LINE_BYTES - 2 {
        text.push('x');
    }
    text.push_str("\"}");
    text
}

/// Lines a second of the limit.
fn limit(port: u16) -> f64 {
    let mut batches = Vec::new();
    for batch in 0..LINES / 500 {
        let mut bytes = Vec::new();
        for n in batch * 500..(batch + 1) * 500 {
            let line = text(n);
            let head = format!("*5\r\n$4\r\nXADD\r\n$5\r\nlines\r\n$1\r\n*\r\n$1\r\nd\r\n${}\r\n", line.len());
            bytes.extend([head.as_bytes(), line.as_bytes(), b"\r\n"].concat());
        }
        batches.push(bytes);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_nodelay(true).expect("an option");
    let mut buffer = vec![0; 1 << 16];
    let started = Instant::now();
    for batch in &batches {
        stream.write_all(batch).expect("sent");
        let mut left = 2 * 500;
        while left > 0 {
            let n = stream.read(&mut buffer).expect("answers");
            left -= buffer[..n].iter().filter(|b| **b == b'\n').count();
        }
    }
    LINES as f64 / started.elapsed().as_secs_f64()
}

async fn held(url: &str) -> Lease {
    let mut options = StoreOptions::at(url);
    options.lease = Duration::from_secs(3600);
    let patience = Patience::For(Duration::from_secs(10));
    let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience);
    let mut store = Store::new("bench", "bench", RandomId::default());
    store.cluster = store.claim_cluster(&link, &RandomId::new()).await.expect("a cluster id");
    let pipeline = PipelineId::new(Kind::Selftest, "bench");
    store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
    let unit = UnitId::exclusive(&pipeline, "watcher");
    Lease::acquire(&store, &link, &unit, Mail::Offset, None, &Fate::Clean).await.expect("a free unit")
}

/// The lines of one batch, cut from the bytes of the file.
fn batch(file: &Bytes, from: usize, count: usize) -> Vec<Line> {
    let level = Level::new(b"INFO").expect("a level");
    let id = FileId { head: 0x9c11_85a5_c5e9_fc54, inode: 0x3a1f, generation: 0 };
    let line = |n: usize| {
        let offset = n * (LINE_BYTES + 1);
        let bytes = file.slice(offset..offset + LINE_BYTES);
        let id = LineId { file: id.clone(), offset: offset as u64 };
        Line { id, level: level.clone(), bytes, part: Part::Whole }
    };
    (from..from + count).map(line).collect()
}

/// Lines a second of commits, one at a time.
async fn commits(lease: &Lease, file: &Bytes, size: usize) -> f64 {
    let started = Instant::now();
    for from in (0..LINES).step_by(size) {
        let lines = Lines {
            output: "lines".to_owned(),
            capacity: 10_000_000,
            lines: batch(file, from, size.min(LINES - from)),
            publish: Some(Publishing { prefix: "logs:".to_owned(), payload: Payload::Bytes }),
            packed: None,
        };
        let row = Effect::PutRow {
            row: "9c1185a5c5e9fc54-3a1f".to_owned(),
            value: format!("{{\"path\":\"/var/log/a.log\",\"offset\":{from},\"marker\":\"0123456789abcdef\"}}"),
            capacity: 1000,
        };
        let commit = Commit {
            state: Some(format!("{{\"lines\":{from}}}")),
            effects: vec![Effect::Lines(lines), row],
            ..Commit::default()
        };
        lease.commit(&commit).await.expect("a commit");
    }
    LINES as f64 / started.elapsed().as_secs_f64()
}

/// Seconds of processor time that a process has used so far.
fn processor(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn main() {
    let mut file = String::new();
    for n in 0..LINES {
        file.push_str(&text(n));
        file.push('\n');
    }
    let file = Bytes::from(file);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut runs = vec![Vec::new(); BATCHES.len()];
    let mut limits = Vec::new();
    for _ in 0..ROUNDS {
        let most = limit(support::redis::RedisServer::start().port);
        limits.push(most);
        for (place, size) in BATCHES.into_iter().enumerate() {
            let server = support::redis::RedisServer::start();
            let lease = runtime.block_on(held(&server.url()));
            let pid = server.pid().to_string();
            let before = (processor("self"), processor(&pid));
            let rate = runtime.block_on(commits(&lease, &file, size));
            let cost = |now: f64, before: f64| (now - before) * 1e6 / LINES as f64;
            runs[place].push([rate, rate / most, cost(processor("self"), before.0), cost(processor(&pid), before.1)]);
        }
    }
    println!("limit: {:.0} lines/s", median(limits));
    for (size, runs) in BATCHES.into_iter().zip(runs) {
        let of = |what: usize| median(runs.iter().map(|run| run[what]).collect());
        let [rate, ratio, client, server] = [of(0), of(1), of(2), of(3)];
        println!(
            "commits of {size}: {rate:.0} lines/s, {ratio:.2} of the limit; processor us a line: {client:.2} here, {server:.2} in redis"
        );
    }
}
