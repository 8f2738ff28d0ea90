//! What is written down of each request and each block.

use super::*;
use crate::telemetry::endpoints::{EndpointLabels, RequestLabels, RequestOutcome, SourceWatch};
use crate::telemetry::metrics::Metrics;

fn watched(server: &Server) -> (EvmSource, Arc<Metrics>) {
    let metrics = Metrics::new();
    let watch = Some(SourceWatch::new(metrics.clone(), "blocks.m"));
    (EvmSource::new(EvmOptions { watch, ..options(&[server]) }).expect("a source"), metrics)
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
    let null: fn(&Value) -> Value = |item| json!({"id": item["id"], "result": null});
    // The head is 100: what a node does not know up to there it should have.
    type Case = (u64, fn(&Value) -> Value, &'static str, &'static str);
    let cases: [Case; 7] = [
        (101, null, "unknown", "not_yet"),
        (90, null, "unknown", "lagging"),
        (90, |item| error(item, -39001, "Unknown block"), "unknown", "lagging"),
        (5, |item| error(item, 4444, "pruned history unavailable"), "pruned", "pruned"),
        (5, |item| json!({"id": item["id"], "result": block(6)}), "malformed", "malformed"),
        (5, |item| json!({"id": item["id"], "result": {}}), "malformed", "malformed"),
        (5, |item| error(item, -32603, "internal error"), "malformed", "unreachable"),
    ];
    for (bad, answer, word, outcome) in cases {
        let is_bad = move |item: &Value| item["method"] == BLOCK && height(item) == bad;
        let server =
            server(move |request, _| each(request, |item| if is_bad(item) { answer(item) } else { sound(item) })).await;
        let (source, metrics) = watched(&server);
        assert_eq!(source.head().await, Ok(100));
        assert_eq!(heights(&source.blocks(range(bad, bad)).await.expect("an answer")), [(bad, word)], "{outcome}");
        let counts = counts(&metrics, &server);
        assert!(counts.iter().any(|(name, count)| (*name, *count) == (outcome, 1)), "{outcome}: {counts:?}");
    }
    let limits: [fn() -> Reply; 2] =
        [|| status(429), || ok(json!({"id": 1, "error": {"code": -32005, "message": "limit exceeded"}}))];
    for limit in limits {
        let server = server(move |_, _| limit()).await;
        let (source, metrics) = watched(&server);
        source.head().await.expect_err("limited");
        assert_eq!(counts(&metrics, &server), [("limited", 1)]);
    }
}

#[tokio::test]
async fn a_wrong_chain_a_failure_and_a_cut_are_counted_as_such() {
    let sound_node = server(|request, _| each(request, sound)).await;
    let (source, metrics) = watched(&sound_node);
    source.expect_chain("1");
    assert!(matches!(source.head().await, Err(SourceError::WrongChain { .. })));
    assert_eq!(counts(&metrics, &sound_node), [("wrong_chain", 1)]);

    let failing = server(|_, _| status(502)).await;
    let (source, metrics) = watched(&failing);
    source.head().await.expect_err("an error of the server");
    assert_eq!(counts(&metrics, &failing), [("unreachable", 1)]);

    let metrics = Metrics::new();
    let endpoints = vec![hanging(&[], 1).await];
    let watch = Some(SourceWatch::new(metrics.clone(), "blocks.m"));
    let call_timeout = Duration::from_millis(100);
    let options = EvmOptions { endpoints, watch, call_timeout, ..EvmOptions::default() };
    EvmSource::new(options).expect("a source").blocks(range(1, 2)).await.expect_err("the end of the call");
    assert!(metrics.render().contains("outcome=\"cut\"} 1\n"), "{}", metrics.render());
}

#[tokio::test]
async fn batch_size_latency_and_rest_of_an_endpoint_are_shown() {
    let server = server(|request, _| match request.as_array() {
        Some(items) if items.len() > 10 => status(413),
        Some(_) => each(request, sound),
        None => Reply { header: Some(("retry-after", "60")), ..status(429) },
    })
    .await;
    let (source, metrics) = watched(&server);
    let labels = EndpointLabels { pipeline: "blocks.m".to_owned(), endpoint: server.url.clone() };
    let batch = || metrics.endpoints.batch_heights.get_or_create(&labels).get();
    assert_eq!(batch(), 100);
    source.blocks(range(1, 40)).await.expect("blocks");
    assert_eq!(batch(), i64::from(source.batch_of(0)));
    assert_eq!(batch(), 10);
    assert_eq!(counts(&metrics, &server), [("ok", 4), ("too_large", 2)]);
    assert!(metrics.render().contains("gapless_endpoint_rest_seconds{pipeline=\"blocks.m\",endpoint=\""));
    source.head().await.expect_err("limited");
    let text = metrics.render();
    let rest = text.lines().find_map(|line| line.strip_prefix("gapless_endpoint_rest_seconds{")).expect("a line");
    let left: f64 = rest.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!((50.0..=60.0).contains(&left), "{rest}");
    assert!(
        text.contains(&format!(
            "endpoint_request_seconds_count{{pipeline=\"blocks.m\",endpoint=\"{}\"}} 7",
            server.url
        ))
    );
}

#[tokio::test]
async fn a_block_says_who_sent_it_at_which_attempt_and_how_long_that_took() {
    // The first request for blocks is refused, so the second one brings the lower half.
    let server = server(|request, _| match request.as_array() {
        Some(items) if items.len() > 2 => status(413),
        _ => each(request, sound),
    })
    .await;
    let started = Instant::now();
    let fetched = source(&[&server]).blocks(range(1, 4)).await.expect("blocks");
    let took = started.elapsed().as_millis();
    for (fetched, attempt) in fetched.iter().zip([2, 2, 2, 2]) {
        let Fetched::Block(block) = fetched else { panic!("no block") };
        assert_eq!((&block.origin.endpoint, block.origin.attempt), (&server.url, attempt));
        assert!(u128::from(block.origin.millis) <= took, "{} of {took} ms", block.origin.millis);
    }
}

/// A slow answer is seen as slow: the time is that of the request, to the end of its answer.
#[tokio::test]
async fn the_time_of_a_block_is_that_of_its_request() {
    let slow = Duration::from_millis(30);
    let answer = async move |body: String| {
        let started = Instant::now();
        while started.elapsed() < slow {
            tokio::task::yield_now().await;
        }
        each(&serde_json::from_str(&body).expect("JSON"), sound).body
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoints = vec![format!("http://{}", listener.local_addr().expect("bound"))];
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let source = EvmSource::new(EvmOptions { endpoints, ..EvmOptions::default() }).expect("a source");
    let Fetched::Block(block) = &source.blocks(range(1, 1)).await.expect("a block")[0] else { panic!("no block") };
    assert!(block.origin.millis >= 30, "{} ms", block.origin.millis);
}
