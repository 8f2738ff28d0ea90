//! The source against a tiny server that answers what each test tells it to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use base64::Engine;
use serde_json::{Value, json};

use super::*;
use crate::messages::block::Origin;
use crate::messages::heights::HeightRange;
use crate::sources::{Absence, ChainIdentity, ChainSource, Fetched};
use crate::telemetry::endpoints::{RequestLabels, RequestOutcome, SourceWatch};
use crate::telemetry::metrics::Metrics;

const PATH: &str = "/cosmos/base/tendermint/v1beta1";
/// The head of a sound node.
const HEAD: u64 = 100;

/// What is answered to the last part of a path below `blocks`, or to `syncing`; with the number of the request.
type Script = dyn Fn(&str, usize) -> Reply + Send + Sync;

struct Reply {
    status: u16,
    header: Option<(&'static str, &'static str)>,
    body: String,
}

fn reply(status: u16, body: impl ToString) -> Reply {
    Reply { status, header: None, body: body.to_string() }
}

struct Server {
    url: String,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn count(&self) -> usize {
        self.paths.lock().expect("paths").len()
    }

    /// The last parts of the paths that were asked for, sorted.
    fn asked(&self) -> Vec<String> {
        let paths = self.paths.lock().expect("paths");
        let mut last: Vec<_> = paths.iter().filter_map(|p| p.rsplit('/').next()).map(str::to_owned).collect();
        last.sort();
        last
    }
}

async fn server(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Server {
    let paths = Arc::new(Mutex::new(Vec::new()));
    type Shared = (Arc<Script>, Arc<Mutex<Vec<String>>>);
    async fn answer(State((script, paths)): State<Shared>, uri: Uri) -> Response<Body> {
        let mut paths = paths.lock().expect("paths");
        let reply = script(uri.path().rsplit('/').next().expect("a part"), paths.len());
        paths.push(uri.path().to_owned());
        let response = Response::builder().status(StatusCode::from_u16(reply.status).expect("a status"));
        let response = reply.header.into_iter().fold(response, |r, (name, value)| r.header(name, value));
        response.body(Body::from(reply.body)).expect("a response")
    }
    let state: Shared = (Arc::new(script), paths.clone());
    let app = Router::new().fallback(answer).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { url, paths }
}

fn hash(height: u64) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&height.to_be_bytes());
    bytes
}

fn block(height: u64) -> Value {
    let id = |height| json!({"hash": base64::engine::general_purpose::STANDARD.encode(hash(height)), "part_set_header": {"total": 1}});
    json!({
        "block_id": id(height),
        "block": {
            "header": {"chain_id": "migaloo-1", "height": height.to_string(), "time": "2023-02-03T04:05:06.7Z",
                "last_block_id": id(height - 1)},
            "data": {"txs": []},
        },
    })
}

fn above() -> Reply {
    reply(400, json!({"code": 3, "message": "requested block height is bigger then the chain length", "details": []}))
}

fn pruned(height: &str) -> Reply {
    let message = format!("height {height} is not available, lowest height is 50");
    reply(500, json!({"code": 2, "message": message, "details": []}))
}

/// What a sound node answers.
fn sound(part: &str) -> Reply {
    match part {
        "latest" => reply(200, block(HEAD)),
        "syncing" => reply(200, json!({"syncing": false})),
        part => match part.parse() {
            Ok(height) if (1..=HEAD).contains(&height) => reply(200, block(height)),
            Ok(_) => above(),
            Err(_) => reply(501, json!({"code": 12, "message": "Not Implemented", "details": []})),
        },
    }
}

fn options(servers: &[&Server]) -> SourceOptions {
    let endpoints = servers.iter().map(|server| server.url.clone()).collect();
    let rest = Duration::from_millis(20);
    SourceOptions { endpoints, rest_min: rest, rest_max: rest, ..SourceOptions::default() }
}

fn source(servers: &[&Server]) -> CosmosSource {
    CosmosSource::new(options(servers)).expect("a source")
}

fn range(lo: u64, hi: u64) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

fn words(fetched: &[Fetched]) -> Vec<(u64, &'static str)> {
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

#[test]
fn every_form_of_the_address_leads_to_the_blocks() {
    for (text, root) in [
        ("http://h:1317", "http://h:1317/cosmos/base/tendermint/v1beta1"),
        ("http://h:1317/", "http://h:1317/cosmos/base/tendermint/v1beta1"),
        ("https://h/api/", "https://h/api/cosmos/base/tendermint/v1beta1"),
        ("https://h/cosmos/base/tendermint/v1beta1", "https://h/cosmos/base/tendermint/v1beta1"),
        ("https://h/cosmos/base/tendermint/v1beta1/blocks/", "https://h/cosmos/base/tendermint/v1beta1"),
        (
            "https://h/x/cosmos/base/tendermint/v1beta1/blocks/latest?k=v",
            "https://h/x/cosmos/base/tendermint/v1beta1?k=v",
        ),
        ("http://h:1317/blocks/latest", "http://h:1317/"),
    ] {
        assert_eq!(CosmosRest::root(text.parse().expect("a URL")).as_str(), root, "{text}");
    }
}

#[tokio::test]
async fn a_sound_endpoint_answers_everything() {
    let server = server(|part, _| sound(part)).await;
    let source = source(&[&server]);
    assert_eq!(source.identity().await, Ok(ChainIdentity { chain_id: "migaloo-1".into() }));
    assert_eq!(source.head().await, Ok(HEAD));
    assert_eq!(source.finalized().await, Ok(Some(HEAD)), "what is there is final");
    let fetched = source.blocks(range(1, 50)).await.expect("blocks");
    for (fetched, height) in fetched.iter().zip(1..=50_u64) {
        let Fetched::Block(found) = fetched else { panic!("no block: {fetched:?}") };
        let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
        assert_eq!((found.id.height, found.id.hash.as_str()), (height, hex(hash(height)).as_str()));
        assert_eq!(found.id.parent.as_str(), hex(hash(height - 1)));
        assert_eq!(found.raw, block(height).to_string().as_bytes(), "the whole body is kept");
        let Origin { endpoint, attempt, .. } = &found.origin;
        assert_eq!((endpoint, *attempt), (&server.url, 1));
    }
    let paths = server.paths.lock().expect("paths");
    assert!(paths.iter().all(|path| path.starts_with(&format!("{PATH}/blocks/"))), "{paths:?}");
}

#[tokio::test]
async fn the_address_of_the_latest_block_is_taken_as_well() {
    let server = server(|part, _| sound(part)).await;
    for path in [format!("{PATH}/blocks/latest"), "/blocks/latest".to_owned()] {
        let endpoints = vec![format!("{}{path}", server.url)];
        let source = CosmosSource::new(SourceOptions { endpoints, ..SourceOptions::default() }).expect("a source");
        assert_eq!(words(&source.blocks(range(7, 8)).await.expect("blocks")), all_blocks(7, 8));
        let last = server.paths.lock().expect("paths").last().cloned().expect("a path");
        assert!(last.starts_with(path.trim_end_matches("latest")), "{last}");
    }
}

/// Counts of requests by what came of them, those that are not zero.
fn counts(metrics: &Metrics, server: &Server) -> Vec<(&'static str, u64)> {
    let count = |outcome: RequestOutcome| {
        let labels = RequestLabels { pipeline: "blocks.m".to_owned(), endpoint: server.url.clone(), outcome };
        (outcome.as_str(), metrics.endpoints.requests.get_or_create(&labels).get())
    };
    RequestOutcome::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn not_yet_pruned_lagging_null_rate_limited_and_malformed_are_told_apart() {
    type Case = (&'static str, fn() -> Reply, &'static str, &'static str);
    let cases: [Case; 10] = [
        ("200", above, "unknown", "not_yet"),
        (
            "200",
            || reply(404, json!({"error": "requested block height is bigger then the chain length"})),
            "unknown",
            "not_yet",
        ),
        ("90", above, "unknown", "lagging"),
        ("5", || pruned("5"), "pruned", "pruned"),
        (
            "5",
            || reply(200, json!({"code": 2, "message": "height 5 is not available, lowest height is 50"})),
            "pruned",
            "pruned",
        ),
        ("5", || reply(200, json!({"block_id": {"hash": ""}, "block": null})), "unknown", "lagging"),
        ("5", || reply(200, json!({"block_id": null, "block": null})), "unknown", "lagging"),
        ("5", || reply(200, block(6)), "malformed", "malformed"),
        ("5", || reply(200, json!({"block_id": {"hash": "x"}, "block": block(5)["block"]})), "malformed", "malformed"),
        ("5", || reply(500, json!({"code": 13, "message": "runtime error"})), "malformed", "unreachable"),
    ];
    for (bad, answer, word, outcome) in cases {
        let server = server(move |part, _| if part == bad { answer() } else { sound(part) }).await;
        let metrics = Metrics::new();
        let watch = Some(SourceWatch::new(metrics.clone(), "blocks.m"));
        let source = CosmosSource::new(SourceOptions { watch, ..options(&[&server]) }).expect("a source");
        source.expect_chain("migaloo-1");
        assert_eq!(source.head().await, Ok(HEAD));
        let height: u64 = bad.parse().expect("a height");
        let fetched = source.blocks(range(height, height)).await.expect("an answer");
        assert_eq!(words(&fetched), [(height, word)], "{outcome}");
        let counts = counts(&metrics, &server);
        assert!(counts.iter().any(|(name, count)| (*name, *count) == (outcome, 1)), "{outcome}: {counts:?}");
    }
}

#[tokio::test]
async fn what_is_said_of_one_height_leaves_the_others_alone() {
    let server = server(|part, _| match part {
        "5" => pruned(part),
        "6" => reply(200, json!({"block_id": {"hash": ""}, "block": null})),
        "8" => reply(200, "<html>welcome</html>"),
        "9" => reply(502, "bad gateway"),
        part => sound(part),
    })
    .await;
    let source = source(&[&server]);
    let fetched = source.blocks(range(4, 60)).await.expect("blocks");
    let expected = (4..=60).map(|height| match height {
        5 => (height, "pruned"),
        6 => (height, "unknown"),
        8 | 9 => (height, "malformed"),
        _ => (height, "block"),
    });
    assert_eq!(words(&fetched), expected.collect::<Vec<_>>());
    assert_eq!(source.head().await, Ok(HEAD), "the endpoint does not rest");
}

/// An accident is not held against the height: it is asked for again, alone.
#[tokio::test]
async fn a_single_failure_costs_no_height() {
    let failed = AtomicUsize::new(0);
    let server = server(move |part, _| {
        if part == "9" && failed.fetch_add(1, Ordering::Relaxed) == 0 { reply(502, "bad gateway") } else { sound(part) }
    })
    .await;
    let fetched = source(&[&server]).blocks(range(1, 20)).await.expect("blocks");
    assert_eq!(words(&fetched), all_blocks(1, 20));
    let Fetched::Block(ninth) = &fetched[8] else { panic!("no block") };
    assert_eq!(ninth.origin.attempt, 2);
}

#[tokio::test]
async fn each_way_of_limiting_the_rate_is_obeyed_and_fewer_are_asked_for() {
    type Limit = (fn() -> Reply, Option<u64>);
    let limits: [Limit; 4] = [
        (|| Reply { header: Some(("retry-after", "7")), ..reply(429, "slow down") }, Some(7)),
        (|| Reply { header: Some(("retry-after", "7")), ..reply(503, "") }, Some(7)),
        (|| reply(429, ""), None),
        (|| reply(500, json!({"code": 8, "message": "too many requests"})), None),
    ];
    for (limit, pause) in limits {
        let server = server(move |_, _| limit()).await;
        let source = source(&[&server]);
        let error = source.blocks(range(1, 40)).await.expect_err("limited");
        let retry_after = pause.map(Duration::from_secs);
        assert_eq!(error, SourceError::RateLimited { endpoint: server.url.clone(), retry_after });
        assert_eq!(server.count(), 8, "no more than what was under way is sent");
        assert_eq!(source.batch_of(0), 20, "half of what was asked for");
        assert!(pause.is_none() || source.head().await.is_err_and(|e| matches!(e, SourceError::RateLimited { .. })));
    }
}

/// A node that takes three requests and then wants a pause: the call goes on while it makes progress.
#[tokio::test]
async fn a_limit_of_the_rate_is_met_with_smaller_rounds_until_all_is_there() {
    let taken = AtomicUsize::new(0);
    let server = server(
        move |part, _| {
            if taken.fetch_add(1, Ordering::Relaxed) % 4 == 3 { reply(429, "") } else { sound(part) }
        },
    )
    .await;
    let source = source(&[&server]);
    assert_eq!(words(&source.blocks(range(1, 30)).await.expect("blocks")), all_blocks(1, 30));
    assert!(source.batch_of(0) < 8, "{} heights at a time", source.batch_of(0));
}

#[tokio::test]
async fn failures_of_an_endpoint_are_told_apart() {
    type Check = fn(&SourceError) -> bool;
    let cases: [(fn() -> Reply, Check); 5] = [
        (|| reply(502, "no"), |e| matches!(e, SourceError::Unreachable { reason, .. } if reason.contains("HTTP 502"))),
        (
            || reply(401, json!({"code": 16, "message": "no"})),
            |e| matches!(e, SourceError::Unreachable { reason, .. } if reason.contains("HTTP 401")),
        ),
        (
            || reply(200, "<html>welcome</html>"),
            |e| matches!(e, SourceError::Malformed { reason, .. } if reason.contains("<html>")),
        ),
        (
            || reply(200, "{}"),
            |e| matches!(e, SourceError::Malformed { reason, .. } if reason.contains("neither block")),
        ),
        (
            || reply(501, json!({"code": 12, "message": "Not Implemented"})),
            |e| matches!(e, SourceError::Malformed { reason, .. } if reason.contains("no Cosmos REST endpoint")),
        ),
    ];
    for (answer, check) in cases {
        let server = server(move |_, _| answer()).await;
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
async fn another_chain_is_seen_in_every_block() {
    let foreign = |height: u64| {
        let mut block = block(height);
        block["block"]["header"]["chain_id"] = "phoenix-1".into();
        block
    };
    // It serves the right chain when asked for it, and another one's block at height 7.
    let server = server(move |part, _| if part == "7" { reply(200, foreign(7)) } else { sound(part) }).await;
    let source = source(&[&server]);
    source.expect_chain("migaloo-1");
    assert_eq!(words(&source.blocks(range(1, 6)).await.expect("blocks")), all_blocks(1, 6));
    let error = source.blocks(range(7, 7)).await.expect_err("another chain");
    let expected = SourceError::WrongChain {
        endpoint: server.url.clone(),
        expected: "migaloo-1".into(),
        found: "phoenix-1".into(),
    };
    assert_eq!(error, expected);
    assert_eq!(source.head().await, Err(expected), "and it rests");
}

#[tokio::test]
async fn a_wrong_chain_gives_no_block() {
    let server = server(|part, _| sound(part)).await;
    let source = source(&[&server]);
    source.expect_chain("phoenix-1");
    let error = source.blocks(range(1, 6)).await.expect_err("another chain");
    assert!(matches!(error, SourceError::WrongChain { .. }), "{error}");
    assert_eq!(server.asked(), ["latest"], "no block of it was asked for");
}

#[tokio::test]
async fn what_one_endpoint_lacks_the_next_is_asked_for_first_from_then_on() {
    let recent = server(|part, _| match part.parse::<u64>() {
        Ok(height) if height < 50 => pruned(part),
        _ => sound(part),
    })
    .await;
    let archive = server(|part, _| sound(part)).await;
    let source = source(&[&recent, &archive]);
    assert_eq!(source.head().await, Ok(HEAD));
    assert_eq!(words(&source.blocks(range(40, 55)).await.expect("blocks")), all_blocks(40, 55));
    let before = recent.count();
    assert_eq!(words(&source.blocks(range(1, 20)).await.expect("blocks")), all_blocks(1, 20));
    assert_eq!(recent.count(), before, "the archive is asked first now");
}

#[tokio::test]
async fn a_node_that_catches_up_is_not_believed_about_what_it_lacks() {
    let server = server(|part, _| match part {
        "syncing" => reply(200, json!({"syncing": true})),
        part => sound(part),
    })
    .await;
    let source = source(&[&server]);
    let fetched = source.blocks(range(99, 103)).await.expect("an answer");
    let unheard = |height| (height, "unheard");
    assert_eq!(words(&fetched), [(99, "block"), (100, "block"), unheard(101), unheard(102), unheard(103)]);
    assert_eq!(server.asked().iter().filter(|part| *part == "syncing").count(), 1, "once for all of them");
}

#[tokio::test]
async fn one_block_that_is_too_large_leaves_the_others_alone() {
    let server = server(|part, _| match part {
        "3" => {
            let mut block = block(3);
            block["block"]["data"]["txs"] = json!(["x".repeat(5_000)]);
            reply(200, block)
        }
        part => sound(part),
    })
    .await;
    let options = SourceOptions { response_bytes_max: 4_000, ..options(&[&server]) };
    let fetched = CosmosSource::new(options).expect("a source").blocks(range(1, 4)).await.expect("blocks");
    assert_eq!(words(&fetched), [(1, "block"), (2, "block"), (3, "malformed"), (4, "block")]);
    assert!(matches!(&fetched[2], Fetched::Absent(_, Absence::Malformed(why)) if why.contains("response_bytes_max")));
}

#[tokio::test]
async fn a_hung_endpoint_ends_with_the_time_out_and_no_more_than_a_few_are_under_way() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let seen = under_way.clone();
    let hang = move || {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<String>()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoints = vec![format!("http://{}", listener.local_addr().expect("bound"))];
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(hang)).await });
    let options = SourceOptions { endpoints, request_timeout: Duration::from_millis(200), ..SourceOptions::default() };
    let started = Instant::now();
    let error = CosmosSource::new(options).expect("a source").blocks(range(1, 60)).await.expect_err("nobody answers");
    assert!(matches!(&error, SourceError::Unreachable { reason, .. } if reason.contains("timed out")), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    // Eight blocks, and the question whether it is well.
    assert_eq!(under_way.load(Ordering::Relaxed), 9);
}
