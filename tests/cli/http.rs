//! The node's HTTP door.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::sim::{self, Sim};
use super::support::node::{Answer, DEADLINE, Workspace, get, poll, request, send_signal};
use super::support::redis::{RedisServer, free_port};

fn door(redis: &RedisServer, more: &str) -> (SocketAddr, Workspace) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let url = redis.url();
    let text = format!("[redis]\nurl = \"{url}\"\n[node]\nhttp = \"{address}\"\nlease_seconds = 1\n{more}");
    (address, Workspace::new(&text))
}

fn ready(address: SocketAddr, is: bool) -> Answer {
    let wanted = if is { 200 } else { 503 };
    poll("the wanted health", || get(address, "/healthz").filter(|answer| answer.status == wanted))
}

#[test]
fn health_follows_redis_and_the_node() {
    let mut redis = RedisServer::start();
    redis.kill();
    let (address, workspace) = door(
        &redis,
        "turn_grace_ms = 60000\n[supervisor]\nhang_seconds = 600\n\
        [selftest.main]\nactors = 1\nmessages = 1\nhang_every = 1\n",
    );
    let mut node = workspace.node("a", &[]);
    let reasons = |answer: Answer| answer.json()["reasons"].clone();
    let away = format!("redis is away: {}", redis.url());
    let both = json!([away, "the node has not started yet"]);
    poll("both reasons", || {
        get(address, "/healthz").filter(|answer| answer.status == 503 && answer.json()["reasons"] == both)
    });
    redis.resume();
    let answer = poll("all units", || {
        get(address, "/healthz").filter(|answer| answer.status == 200 && answer.json()["units"] == 2)
    });
    assert_eq!(
        answer.json(),
        json!({ "ready": true, "node": "a", "reasons": [], "units": 2, "failed": [], "given_up": [] })
    );
    redis.kill();
    assert_eq!(reasons(ready(address, false)), json!([away]));
    redis.resume();
    ready(address, true);
    node.signal(Signal::TERM);
    // A connection that broke with the old server finds it out only now.
    poll("only the drain", || {
        get(address, "/healthz").filter(|answer| answer.json()["reasons"] == json!(["the node is draining"]))
    });
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 130);
}

#[test]
fn metrics_show_every_mailbox_and_never_hang() {
    let redis = RedisServer::start();
    let (address, workspace) = door(&redis, "[selftest.main]\nactors = 1\n");
    let _node = workspace.started("a", &["--only", "selftest.main/feeder"]);
    assert_eq!(workspace.run(&["send", "selftest.main/tally_0", "number", "{\"n\":1}"]).code, 0);
    let waits = "gapless_mailbox_entries{pipeline=\"selftest.main\",actor=\"tally_0\"} 1";
    let answer = poll("the depth", || get(address, "/metrics").filter(|answer| answer.body.contains(waits)));
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.status == 200 && answer.headers.contains(kind), "{}", answer.headers);
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    assert!(answer.body.contains("gapless_mailbox_dead{pipeline=\"selftest.main\",actor=\"tally_0\"} 0"));
    send_signal(redis.pid(), Signal::STOP);
    // Some of these ask Redis, and none of them waits for it longer than its bound.
    poll("redis found away, and no old figures", || {
        let began = Instant::now();
        let answer = get(address, "/metrics").expect("an answer");
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        let gone = !answer.body.contains("gapless_mailbox_entries{");
        (answer.body.contains("gapless_redis_up 0") && gone).then_some(())
    });
    let answer = get(address, "/status").expect("an answer");
    assert_eq!((answer.status, answer.json()["error"].is_string()), (503, true));
    send_signal(redis.pid(), Signal::CONT);
    poll("the depth again", || get(address, "/metrics").filter(|answer| answer.body.contains(waits)));
}

#[test]
fn status_is_what_the_command_prints() {
    let redis = RedisServer::start();
    let (address, workspace) = door(&redis, "[selftest.main]\nactors = 1\n");
    let _node = workspace.started("a", &[]);
    let still = |mut status: serde_json::Value| {
        for field in ["time_ms", "redis", "nodes"] {
            status[field] = json!(null);
        }
        for unit in status["units"].as_array_mut().expect("units") {
            unit["lease_left_ms"] = json!(null);
        }
        status
    };
    poll("the same answer twice", || {
        let (served, printed) = (get(address, "/status")?.json(), workspace.run(&["status", "--json"]).json());
        (served["pipelines"][0]["held"] == 2 && still(served) == still(printed)).then_some(())
    });
}

#[test]
fn what_is_not_there_is_refused_in_json() {
    let redis = RedisServer::start();
    let (address, workspace) = door(&redis, "[selftest.main]\nactors = 1\n");
    let _node = workspace.started("a", &[]);
    let answer = get(address, "/nope").expect("an answer");
    assert_eq!((answer.status, answer.json()), (404, json!({ "error": "there is no /nope; / lists what there is" })));
    let answer = request(address, "POST /status HTTP/1.1\r\ncontent-length: 0").expect("an answer");
    assert_eq!((answer.status, answer.json()), (405, json!({ "error": "/status takes GET only, not POST" })));
    let index = get(address, "/").expect("an answer");
    assert!(index.status == 200 && index.body.contains("/healthz"), "{index:?}");
    // A request without an end is cut; the door stays open.
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let line = format!("x: {}\r\n", "y".repeat(1000));
    let sent = stream.write_all(b"GET / HTTP/1.1\r\n");
    let sent = sent.and_then(|()| (0..2000).try_for_each(|_| stream.write_all(line.as_bytes())));
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    assert!(sent.is_err() || read.is_err() || !answer.contains(" 200 "), "{answer}");
    assert_eq!(get(address, "/").expect("an answer").status, 200);
}

#[test]
fn metrics_show_how_every_endpoint_does() {
    let (redis, sim) = (RedisServer::start(), Sim::start(sim::plan(7, 60)));
    let dead = format!("http://127.0.0.1:{}", free_port());
    let pipeline = |name: &str, url: &str| {
        format!("[blocks.{name}]\nendpoints = [\"{url}\"]\nstart = 0\nstore = \"{name}\"\nbatch_heights = 7\n")
    };
    let (address, workspace) = door(&redis, &(pipeline("main", &sim.url) + &pipeline("dead", &dead)));
    let _node = workspace.node("a", &[]);
    let value = |text: &str, line: &str| -> Option<f64> {
        text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
    };
    let of_dead = format!("{{pipeline=\"blocks.dead\",endpoint=\"{dead}\"");
    poll("a dead endpoint at rest", || {
        let text = get(address, "/metrics")?.body;
        let failed = value(&text, &format!("gapless_endpoint_requests_total{of_dead},outcome=\"unreachable\"}}"))?;
        let rests = value(&text, &format!("gapless_endpoint_rest_seconds{of_dead}}}"))?;
        (failed >= 3.0 && rests > 0.0 && rests <= 5.0).then_some(())
    });
    let of_sim = format!("{{pipeline=\"blocks.main\",endpoint=\"{}\"", sim.url);
    let text = poll("all requests to a sound endpoint", || {
        let text = get(address, "/metrics")?.body;
        // Every request has one outcome and one time, as soon as none is being written down.
        let requests = format!("gapless_endpoint_requests_total{of_sim}");
        let outcomes = text.lines().filter(|line| line.starts_with(&requests));
        let sum: f64 = outcomes.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        let count = value(&text, &format!("gapless_endpoint_request_seconds_count{of_sim}}}"))?;
        (count >= 10.0 && sum == count).then_some(text)
    });
    let of = |name: &str, more: &str| value(&text, &format!("gapless_endpoint_{name}{of_sim}{more}}}"));
    assert_eq!(of("requests_total", ",outcome=\"unreachable\""), Some(0.0), "{text}");
    assert_eq!(of("batch_heights", ""), Some(7.0), "{text}");
    assert_eq!(of("rest_seconds", ""), Some(0.0), "{text}");
}
