//! The source against a tiny server that answers what each test tells it to.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

mod figures;
mod heads;

use super::*;
use crate::messages::heights::HeightRange;
use crate::sources::{Absence, ChainIdentity, ChainSource, Fetched};

/// What the server answers: a status, headers and a body, from the request and its number (from 0).
type Script = dyn Fn(&Value, usize) -> Reply + Send + Sync;
type Shared = (Arc<Script>, Arc<Mutex<Vec<Value>>>);

struct Reply {
    status: u16,
    header: Option<(&'static str, &'static str)>,
    body: String,
}

fn ok(body: impl ToString) -> Reply {
    Reply { status: 200, header: None, body: body.to_string() }
}

fn status(status: u16) -> Reply {
    Reply { status, header: None, body: "no".to_owned() }
}

struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// How many heights each request for blocks asked for.
    fn batches(&self) -> Vec<usize> {
        let requests = self.requests.lock().expect("requests");
        requests.iter().filter_map(|r| r.as_array().map(Vec::len).or((r["method"] == BLOCK).then_some(1))).collect()
    }

    fn count(&self) -> usize {
        self.requests.lock().expect("requests").len()
    }
}

const BLOCK: &str = "eth_getBlockByNumber";

/// Serves `script` on a free port until the test's runtime ends.
async fn server(script: impl Fn(&Value, usize) -> Reply + Send + Sync + 'static) -> Server {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let script: Arc<Script> = Arc::new(script);
    let state = (script, requests.clone());
    async fn answer(State((script, requests)): State<Shared>, body: String) -> Response<Body> {
        let request: Value = serde_json::from_str(&body).expect("the source sends JSON");
        let mut requests = requests.lock().expect("requests");
        let reply = script(&request, requests.len());
        requests.push(request);
        let response = Response::builder().status(StatusCode::from_u16(reply.status).expect("a status"));
        let response = reply.header.into_iter().fold(response, |r, (name, value)| r.header(name, value));
        response.body(Body::from(reply.body)).expect("a response")
    }
    let app = Router::new().fallback(answer).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { url, requests }
}

fn hash(height: u64) -> String {
    format!("0x{height:064x}")
}

fn block(height: u64) -> Value {
    json!({"number": format!("{height:#x}"), "hash": hash(height), "parentHash": hash(height.wrapping_sub(1)),
        "timestamp": "0x1", "transactions": []})
}

fn height(item: &Value) -> u64 {
    let text = item["params"][0].as_str().expect("a height");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
}

/// What a sound node answers to one item.
fn sound(item: &Value) -> Value {
    let result = match item["method"].as_str() {
        Some("eth_chainId") => json!("0x1092"),
        Some("eth_blockNumber") => json!("0x64"),
        _ => block(height(item)),
    };
    json!({"jsonrpc": "2.0", "id": item["id"], "result": result})
}

/// Answers a request, single or batch, item by item.
fn each(request: &Value, item: impl Fn(&Value) -> Value) -> Reply {
    match request.as_array() {
        Some(items) => ok(Value::from(items.iter().rev().map(item).collect::<Vec<_>>())),
        None => ok(item(request)),
    }
}

fn error(item: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": item["id"], "error": {"code": code, "message": message}})
}

fn options(servers: &[&Server]) -> EvmOptions {
    let endpoints = servers.iter().map(|server| server.url.clone()).collect();
    let rest = Duration::from_millis(20);
    EvmOptions { endpoints, rest_min: rest, rest_max: rest, ..EvmOptions::default() }
}

fn source(servers: &[&Server]) -> EvmSource {
    EvmSource::new(options(servers)).expect("a source")
}

fn range(lo: u64, hi: u64) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

fn heights(fetched: &[Fetched]) -> Vec<(u64, &'static str)> {
    let word = |fetched: &Fetched| match fetched {
        Fetched::Block(block) => (block.id.height, "block"),
        Fetched::Absent(height, Absence::Unknown) => (*height, "unknown"),
        Fetched::Absent(height, Absence::Pruned(_)) => (*height, "pruned"),
        Fetched::Absent(height, Absence::Malformed(_)) => (*height, "malformed"),
        Fetched::Absent(height, Absence::Unheard(_)) => (*height, "unheard"),
    };
    fetched.iter().map(word).collect()
}

fn all_blocks(lo: u64, hi: u64) -> Vec<(u64, &'static str)> {
    (lo..=hi).map(|height| (height, "block")).collect()
}

#[tokio::test]
async fn a_sound_endpoint_answers_everything_in_batches() {
    let server = server(|request, _| each(request, sound)).await;
    let source = source(&[&server]);
    assert_eq!(source.identity().await, Ok(ChainIdentity { chain_id: "4242".into() }));
    assert_eq!(source.head().await, Ok(100));
    let fetched = source.blocks(range(1, 250)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_blocks(1, 250));
    assert_eq!(server.batches(), [100, 100, 50]);
    let Fetched::Block(last) = &fetched[249] else { panic!("no block") };
    assert_eq!(last.raw, block(250).to_string().as_bytes());
}

#[tokio::test]
async fn what_is_said_of_one_height_leaves_the_others_alone() {
    let server = server(|request, _| {
        each(request, |item| match item["params"][0].as_str() {
            Some("0x2") => json!({"id": item["id"], "result": null}),
            Some("0x3") => error(item, 4444, "pruned history unavailable"),
            Some("0x4") => json!({"id": item["id"], "result": block(5)}),
            Some("0x6") => error(item, -32603, "internal error"),
            _ => sound(item),
        })
    })
    .await;
    let fetched = source(&[&server]).blocks(range(1, 7)).await.expect("blocks");
    let expected =
        [(1, "block"), (2, "unknown"), (3, "pruned"), (4, "malformed"), (5, "block"), (6, "malformed"), (7, "block")];
    assert_eq!(heights(&fetched), expected);
    assert_eq!(fetched[3], Fetched::Absent(4, Absence::Malformed("asked for 4, got number 5".into())));
    assert_eq!(server.batches(), [7, 1], "the height in trouble is asked for once more, alone");
}

#[tokio::test]
async fn a_batch_that_leaves_heights_out_is_asked_for_the_rest() {
    let server = server(|request, _| match request.as_array() {
        Some(items) if items.len() > 3 => ok(Value::from(items.iter().skip(2).map(sound).collect::<Vec<_>>())),
        _ => each(request, sound),
    })
    .await;
    let fetched = source(&[&server]).blocks(range(1, 9)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_blocks(1, 9));
    assert_eq!(server.batches(), [9, 2]);
}

/// Each way of refusing a batch of more than 10 that providers know.
#[tokio::test]
async fn a_refused_batch_is_halved_and_the_size_is_remembered() {
    let refusals: [fn() -> Reply; 5] = [
        || status(413),
        || ok(json!({"id": null, "error": {"code": -32600, "message": "batch too large"}})),
        || ok(json!([{"id": null, "error": {"code": -32000, "message": "batch limit exceeded"}}])),
        || Reply { status: 400, ..ok(json!({"error": {"code": -32600, "message": "no more than 10"}})) },
        || ok(r#"[{"id":1,"result":{"number""#),
    ];
    for refusal in refusals {
        let server = server(move |request, _| match request.as_array() {
            Some(items) if items.len() > 10 => refusal(),
            _ => each(request, sound),
        })
        .await;
        let source = source(&[&server]);
        assert_eq!(heights(&source.blocks(range(1, 30)).await.expect("blocks")), all_blocks(1, 30));
        assert_eq!(server.batches(), [30, 15, 7, 7, 7, 7, 2]);
        source.blocks(range(1, 7)).await.expect("blocks");
        assert_eq!(server.batches().last(), Some(&7), "the size is remembered");
    }
}

#[tokio::test]
async fn an_endpoint_without_batches_is_asked_one_by_one() {
    let server = server(|request, _| if request.is_array() { status(413) } else { each(request, sound) }).await;
    let fetched = source(&[&server]).blocks(range(1, 4)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_blocks(1, 4));
    assert_eq!(server.batches(), [4, 2, 1, 1, 1, 1]);
}

#[tokio::test]
async fn an_answer_beyond_the_byte_limit_is_halved_down_to_the_one_block_that_is_too_large() {
    let server = server(|request, _| {
        each(request, |item| {
            let mut answer = sound(item);
            if item["params"][0] == "0x3" {
                answer["result"]["extraData"] = "x".repeat(5_000).into();
            }
            answer
        })
    })
    .await;
    let options =
        EvmOptions { endpoints: vec![server.url.clone()], response_bytes_max: 4_000, ..EvmOptions::default() };
    let fetched = EvmSource::new(options).expect("a source").blocks(range(1, 4)).await.expect("blocks");
    assert_eq!(heights(&fetched), [(1, "block"), (2, "block"), (3, "malformed"), (4, "block")]);
    assert!(matches!(&fetched[2], Fetched::Absent(_, Absence::Malformed(why)) if why.contains("response_bytes_max")));
}

#[tokio::test]
async fn each_way_of_limiting_the_rate_is_seen() {
    type Limit = (fn() -> Reply, Option<u64>);
    let limits: [Limit; 5] = [
        (|| Reply { header: Some(("retry-after", "7")), ..status(429) }, Some(7)),
        (|| Reply { header: Some(("retry-after", "7")), ..status(503) }, Some(7)),
        (|| status(429), None),
        (|| ok(json!({"id": 1, "error": {"code": -32005, "message": "slow down"}})), None),
        (|| Reply { status: 400, ..ok(json!({"error": {"code": -32000, "message": "rate limit reached"}})) }, None),
    ];
    for (limit, pause) in limits {
        let server = server(move |_, _| limit()).await;
        for head in [false, true] {
            let source = source(&[&server]);
            let failure = match head {
                true => source.head().await.map(|_| ()),
                false => source.blocks(range(1, 9)).await.map(|_| ()),
            };
            let retry_after = pause.map(Duration::from_secs);
            assert_eq!(failure, Err(SourceError::RateLimited { endpoint: server.url.clone(), retry_after }));
        }
    }
}

/// An endpoint that lets three heights through and then wants a pause: calls larger than that must still succeed.
#[tokio::test]
async fn a_call_goes_on_after_a_pause_while_it_makes_progress() {
    let server = server(|request, _| {
        let items = request.as_array().expect("a batch or nothing but batches").iter().enumerate();
        let answer = |(i, item)| if i < 3 { sound(item) } else { error(item, -32005, "limit exceeded") };
        ok(Value::from(items.map(answer).collect::<Vec<_>>()))
    })
    .await;
    let fetched = source(&[&server]).blocks(range(1, 12)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_blocks(1, 12));
}

#[tokio::test]
async fn failures_of_an_endpoint_are_told_apart() {
    type Check = fn(&SourceError) -> bool;
    let cases: [(fn() -> Reply, Check); 4] = [
        (|| status(500), |e| matches!(e, SourceError::Unreachable { reason, .. } if reason.contains("HTTP 500"))),
        (|| status(401), |e| matches!(e, SourceError::Unreachable { reason, .. } if reason.contains("HTTP 401"))),
        (
            || Reply { header: Some(("location", "http://127.0.0.1:1/")), ..status(301) },
            |e| matches!(e, SourceError::Unreachable { reason, .. } if reason.contains("HTTP 301")),
        ),
        (
            || ok("<html>welcome</html>"),
            |e| matches!(e, SourceError::Malformed { reason, .. } if reason.contains("<html>")),
        ),
    ];
    for (reply, check) in cases {
        let server = server(move |_, _| reply()).await;
        for failure in [
            source(&[&server]).head().await.map(|_| ()),
            source(&[&server]).identity().await.map(|_| ()),
            source(&[&server]).blocks(range(1, 4)).await.map(|_| ()),
        ] {
            let error = failure.expect_err("a failure");
            assert!(check(&error), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_hung_endpoint_ends_with_the_time_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoints = vec![format!("http://{}", listener.local_addr().expect("bound"))];
    let options = EvmOptions { endpoints, request_timeout: Duration::from_millis(50), ..EvmOptions::default() };
    let source = EvmSource::new(options).expect("a source");
    let error = source.blocks(range(1, 8)).await.expect_err("nobody answers");
    assert!(matches!(&error, SourceError::Unreachable { reason, .. } if reason.contains("timed out")), "{error}");
    assert_eq!(source.batch_of(0), 100, "once may be an accident");
    let deadline = Instant::now() + Duration::from_secs(10);
    while source.batch_of(0) > 4 {
        assert!(Instant::now() < deadline, "twice in a row, the batch may be too large");
        source.blocks(range(1, 8)).await.expect_err("nobody answers");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_ends_at_its_own_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoints = vec![format!("http://{}", listener.local_addr().expect("bound"))];
    let options = EvmOptions { endpoints, call_timeout: Duration::from_millis(50), ..EvmOptions::default() };
    let source = EvmSource::new(options).expect("a source");
    for failure in [source.blocks(range(1, 8)).await.map(|_| ()), source.head().await.map(|_| ())] {
        let error = failure.expect_err("nobody answers");
        assert!(
            matches!(&error, SourceError::Unreachable { reason, .. } if reason.contains("call_timeout")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_dead_endpoint_rests_and_the_next_takes_over_in_the_same_call() {
    let dead = server(|_, _| status(502)).await;
    let alive = server(|request, _| each(request, sound)).await;
    let source = {
        let endpoints = vec![dead.url.clone(), alive.url.clone()];
        EvmSource::new(EvmOptions { endpoints, rest_min: Duration::from_secs(60), ..EvmOptions::default() })
    }
    .expect("a source");
    for _ in 0..3 {
        assert_eq!(source.head().await, Ok(100));
        assert_eq!(heights(&source.blocks(range(1, 3)).await.expect("blocks")), all_blocks(1, 3));
    }
    assert_eq!((dead.count(), alive.count()), (1, 6), "the dead one is left alone, the other one sticks");
}

#[tokio::test]
async fn while_all_rest_nothing_is_asked_and_the_reason_stays() {
    let server = server(|_, _| Reply { header: Some(("retry-after", "60")), ..status(429) }).await;
    let source = source(&[&server]);
    source.head().await.expect_err("limited");
    let error = source.head().await.expect_err("resting");
    let SourceError::RateLimited { retry_after: Some(left), .. } = error else { panic!("{error:?}") };
    assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn what_one_endpoint_lacks_the_next_is_asked_for() {
    let pruned = server(|request, _| {
        each(request, |item| if height(item) < 5 { error(item, 4444, "pruned") } else { sound(item) })
    })
    .await;
    let lagging = server(|request, _| {
        each(request, |item| if height(item) > 7 { json!({"id": item["id"], "result": null}) } else { sound(item) })
    })
    .await;
    let fetched = source(&[&pruned, &lagging]).blocks(range(1, 9)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_blocks(1, 9));
    assert_eq!((pruned.batches(), lagging.batches()), (vec![9], vec![4]));
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_not_used() {
    let wrong = server(|request, _| {
        each(
            request,
            |item| if item["method"] == "eth_chainId" { json!({"id": 1, "result": "0x1"}) } else { sound(item) },
        )
    })
    .await;
    let right = server(|request, _| each(request, sound)).await;
    let both = source(&[&wrong, &right]);
    both.expect_chain("4242");
    assert_eq!(heights(&both.blocks(range(1, 2)).await.expect("blocks")), all_blocks(1, 2));
    assert_eq!(both.head().await, Ok(100));
    assert!(wrong.batches().is_empty(), "no block of the wrong chain was asked for");
    assert_eq!(wrong.count(), 1);

    let alone = source(&[&wrong]);
    alone.expect_chain("4242");
    let expected = SourceError::WrongChain { endpoint: wrong.url.clone(), expected: "4242".into(), found: "1".into() };
    assert_eq!(alone.blocks(range(1, 2)).await, Err(expected.clone()));
    assert_eq!(alone.head().await, Err(expected));
}

#[tokio::test]
async fn the_chain_is_asked_for_again_after_a_failure() {
    let server = server(|request, number| match number {
        // chain, block, then an outage behind which another chain answers
        2 => status(502),
        3 => ok(json!({"id": 1, "result": "0x1"})),
        _ => each(request, sound),
    })
    .await;
    let source = source(&[&server]);
    source.expect_chain("4242");
    source.blocks(range(1, 1)).await.expect("the right chain");
    source.head().await.expect_err("an outage");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(Instant::now() < deadline, "never asked again");
        match source.head().await {
            Err(SourceError::WrongChain { found, .. }) => break assert_eq!(found, "1"),
            Err(_) => tokio::task::yield_now().await,
            Ok(head) => panic!("head {head} of an unknown chain was used"),
        }
    }
}

#[tokio::test]
async fn no_error_shows_a_key() {
    let server = server(|request, _| match request["method"].as_str() {
        Some("eth_chainId") => Reply { status: 403, ..ok("key 0123456789abcdef is not allowed") },
        _ => each(request, |item| error(item, -32000, "project 0123456789abcdef is pruned for hunter2")),
    })
    .await;
    let url = format!("{}/v3/0123456789abcdef", server.url.replace("http://", "http://me:hunter2@"));
    let dead = "http://me:hunter2@127.0.0.1:1/v3/0123456789abcdef".to_owned();
    for url in [url, dead] {
        let options = EvmOptions { endpoints: vec![url], ..EvmOptions::default() };
        let shown = format!("{options:?}");
        let source = EvmSource::new(options).expect("a source");
        let texts =
            [shown, format!("{:?}", source.blocks(range(1, 2)).await), format!("{:?}", source.identity().await)];
        for text in texts {
            assert!(!text.contains("hunter2") && !text.contains("0123456789abcdef"), "{text}");
        }
    }
}

/// Says of every height that it was thrown away.
async fn pruned_node() -> Server {
    server(|request, _| {
        each(request, |item| if item["method"] == BLOCK { error(item, 4444, "pruned") } else { sound(item) })
    })
    .await
}

#[tokio::test]
async fn pruned_is_not_believed_while_another_endpoint_fails_or_rests() {
    let failures: [fn() -> Reply; 3] =
        [|| status(502), || status(401), || Reply { header: Some(("retry-after", "60")), ..status(429) }];
    for failure in failures {
        let archive = server(move |_, _| failure()).await;
        let pruned = pruned_node().await;
        let endpoints = vec![archive.url.clone(), pruned.url.clone()];
        let options = EvmOptions { endpoints, rest_min: Duration::from_secs(60), ..EvmOptions::default() };
        let source = EvmSource::new(options).expect("a source");
        for state in ["fails", "rests"] {
            let fetched = source.blocks(range(1, 2)).await.expect("an answer");
            assert_eq!(heights(&fetched), [(1, "unheard"), (2, "unheard")], "the archive {state}");
            let Fetched::Absent(_, absence) = &fetched[0] else { panic!("a block") };
            assert!(absence.to_string().contains(&archive.url), "the archive {state}: {absence}");
        }
    }
}

#[tokio::test]
async fn unknown_is_not_believed_while_another_endpoint_fails() {
    let archive = server(|_, _| status(502)).await;
    let lagging = server(|request, _| {
        each(request, |item| match item["params"][0].as_str() {
            Some("0x1") => json!({"id": item["id"], "result": null}),
            Some("0x2") => json!({"id": item["id"], "result": {}}),
            _ => sound(item),
        })
    })
    .await;
    let fetched = source(&[&archive, &lagging]).blocks(range(1, 3)).await.expect("an answer");
    assert_eq!(heights(&fetched), [(1, "unheard"), (2, "unheard"), (3, "block")]);
}

#[tokio::test]
async fn pruned_is_believed_when_all_endpoints_say_so() {
    let (one, other) = (pruned_node().await, pruned_node().await);
    let fetched = source(&[&one, &other]).blocks(range(1, 2)).await.expect("an answer");
    assert_eq!(heights(&fetched), [(1, "pruned"), (2, "pruned")]);
    assert_eq!((one.batches(), other.batches()), (vec![2], vec![2]));
}

/// A gateway fails on `bad` heights, alone or among others, and answers everything else.
async fn gateway(bad: &'static [u64], code: u16) -> Server {
    server(move |request, _| {
        let items = request.as_array().cloned().unwrap_or_else(|| vec![request.clone()]);
        let is_bad = |item: &Value| item["method"] == BLOCK && bad.contains(&height(item));
        if items.iter().any(is_bad) { status(code) } else { each(request, sound) }
    })
    .await
}

fn all_but(bad: &[u64], lo: u64, hi: u64) -> Vec<(u64, &'static str)> {
    (lo..=hi).map(|height| (height, if bad.contains(&height) { "malformed" } else { "block" })).collect()
}

#[tokio::test]
async fn heights_on_which_an_endpoint_always_fails_leave_the_others_alone() {
    for bad in [&[1_u64][..], &[37], &[100], &[101], &[250], &[1, 2, 99, 101, 250]] {
        for code in [500, 502, 503, 504] {
            let server = gateway(bad, code).await;
            let source = source(&[&server]);
            source.expect_chain("4242");
            let fetched = source.blocks(range(1, 250)).await.expect("blocks");
            assert_eq!(heights(&fetched), all_but(bad, 1, 250), "HTTP {code} at {bad:?}");
            let Fetched::Absent(_, absence) = &fetched[bad[0] as usize - 1] else { panic!("a block") };
            let text = absence.to_string();
            assert!(text.contains("fails on this height") && text.contains(&code.to_string()), "{text}");
            assert!(server.count() < 40 * bad.len() + 20, "{} requests for {bad:?}", server.count());
            assert_eq!(source.head().await, Ok(100), "the endpoint does not rest");
        }
    }
}

#[tokio::test]
async fn a_height_that_fails_here_is_taken_from_the_next_endpoint_without_a_search() {
    let (ill, well) = (gateway(&[3], 504).await, gateway(&[], 504).await);
    let fetched = source(&[&ill, &well]).blocks(range(1, 9)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_blocks(1, 9));
    assert_eq!((ill.batches(), well.batches()), (vec![9], vec![9]));
}

#[tokio::test]
async fn a_height_that_fails_here_is_not_pruned_because_another_endpoint_lacks_it() {
    let (ill, pruned) = (gateway(&[3], 504).await, pruned_node().await);
    let fetched = source(&[&ill, &pruned]).blocks(range(1, 9)).await.expect("blocks");
    assert_eq!(heights(&fetched), all_but(&[3], 1, 9));
}

#[tokio::test]
async fn an_endpoint_that_changed_its_chain_with_a_failure_gives_no_block() {
    let server = server(|request, number| match number {
        0 => each(request, sound),
        1 => status(502),
        _ if request["method"] == "eth_chainId" => ok(json!({"id": 1, "result": "0x1"})),
        _ => each(request, sound),
    })
    .await;
    let source = source(&[&server]);
    source.expect_chain("4242");
    let error = source.blocks(range(1, 9)).await.expect_err("another chain");
    assert!(matches!(error, SourceError::WrongChain { .. }), "{error}");
}

/// Answers like [`gateway`], but hangs where that one fails, and for each height from `silent_from` on.
async fn hanging(bad: &'static [u64], silent_from: u64) -> String {
    let answer = move |body: String| async move {
        let request: Value = serde_json::from_str(&body).expect("the source sends JSON");
        let items = request.as_array().cloned().unwrap_or_else(|| vec![request.clone()]);
        let hangs =
            |item: &Value| item["method"] == BLOCK && (bad.contains(&height(item)) || height(item) >= silent_from);
        if items.iter().any(hangs) {
            std::future::pending::<()>().await;
        }
        each(&request, sound).body
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

/// A call has time for two time-outs, as in a node: the search goes on in the next call.
#[tokio::test]
async fn a_height_that_always_times_out_leaves_the_others_alone() {
    for bad in [&[1_u64][..], &[60], &[120]] {
        let endpoints = vec![hanging(bad, u64::MAX).await];
        let (request_timeout, call_timeout) = (Duration::from_millis(400), Duration::from_millis(800));
        let options = EvmOptions { endpoints, request_timeout, call_timeout, ..EvmOptions::default() };
        let source = EvmSource::new(options).expect("a source");
        let (mut found, mut calls) = (std::collections::BTreeMap::new(), 0);
        while found.len() < 120 {
            calls += 1;
            assert!(calls <= 6, "{calls} calls, and only {} heights for {bad:?}", found.len());
            let lowest = (1..=120).find(|height| !found.contains_key(height)).expect("not all are found");
            let fetched = source.blocks(range(lowest, 120)).await.unwrap_or_default();
            found.extend(heights(&fetched).into_iter().filter(|(_, word)| *word != "unheard"));
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), all_but(bad, 1, 120), "{bad:?}");
    }
}

#[tokio::test]
async fn what_came_before_the_deadline_is_kept() {
    let endpoints = vec![hanging(&[], 51).await];
    let call_timeout = Duration::from_secs(2);
    let options = EvmOptions { endpoints, call_timeout, batch_heights: 10, ..EvmOptions::default() };
    let fetched = EvmSource::new(options).expect("a source").blocks(range(1, 60)).await.expect("blocks");
    let unheard = (51..=60).map(|height| (height, "unheard"));
    assert_eq!(heights(&fetched), all_blocks(1, 50).into_iter().chain(unheard).collect::<Vec<_>>());
}

#[test]
fn impossible_options_are_refused() {
    let with = |endpoints: usize, batch_heights| {
        let endpoints = vec!["http://127.0.0.1:1".to_owned(); endpoints];
        EvmSource::new(EvmOptions { endpoints, batch_heights, ..EvmOptions::default() }).err()
    };
    assert_eq!(with(1, 1000), None);
    assert!(with(0, 100).expect("no endpoint").contains("name 1 to 64"));
    assert!(with(65, 100).expect("too many").contains("name 1 to 64"));
    assert!(with(1, 0).expect("no batch").contains("1 to 1000"));
    assert!(with(1, 1001).expect("too large").contains("1 to 1000"));
}
