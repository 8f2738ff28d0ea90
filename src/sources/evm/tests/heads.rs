//! Which head is believed, what is final, and who is not trusted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A node whose head is `head`, and which has a block at each height up to `blocks`.
async fn node(head: &Arc<AtomicU64>, blocks: u64) -> Server {
    let head = head.clone();
    server(move |request, _| {
        let head = head.load(Ordering::Relaxed);
        each(request, |item| match item["method"].as_str() {
            Some("eth_blockNumber") => json!({"id": item["id"], "result": format!("{head:#x}")}),
            Some(BLOCK) if height(item) > blocks => json!({"id": item["id"], "result": null}),
            _ => sound(item),
        })
    })
    .await
}

fn at(head: u64) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(head))
}

const MAD: u64 = 1_000_000_000_000;

/// A source whose endpoints rest for longer than the test takes.
fn patient(servers: &[&Server]) -> EvmSource {
    let rest = Duration::from_secs(600);
    EvmSource::new(EvmOptions { rest_min: rest, rest_max: rest, ..options(servers) }).expect("a source")
}

#[tokio::test]
async fn a_mad_head_is_believed_only_if_a_second_endpoint_is_as_high() {
    let (one, other) = (at(100), at(101));
    let (first, second) = (node(&one, MAD).await, node(&other, MAD).await);
    let (alone, agreed) = (patient(&[&first, &second]), patient(&[&first, &second]));
    assert_eq!((alone.head().await, agreed.head().await), (Ok(100), Ok(100)));
    one.store(MAD, Ordering::Relaxed);
    assert_eq!(alone.head().await, Ok(101), "its own block is no witness where another endpoint answers");
    let asked = first.count();
    assert_eq!((alone.head().await, first.count()), (Ok(101), asked), "it rests");

    other.store(3_000_000, Ordering::Relaxed);
    one.store(3_000_002, Ordering::Relaxed);
    assert_eq!(agreed.head().await, Ok(3_000_000), "what both have");
    other.store(3_000_001, Ordering::Relaxed);
    one.store(3_000_001, Ordering::Relaxed);
    assert_eq!(agreed.head().await, Ok(3_000_001), "what follows is no jump");
}

#[tokio::test]
async fn of_two_high_heads_the_lower_is_what_both_have() {
    let (one, other) = (at(100), at(100));
    let (first, second) = (node(&one, MAD).await, node(&other, MAD).await);
    let source = patient(&[&first, &second]);
    assert_eq!(source.head().await, Ok(100));
    one.store(MAD, Ordering::Relaxed);
    other.store(2_000_000, Ordering::Relaxed);
    assert_eq!(source.head().await, Ok(2_000_000));
    let asked = first.count();
    assert_eq!((source.head().await, first.count()), (Ok(2_000_000), asked), "what it has beyond is its word alone");
}

#[tokio::test]
async fn a_mad_head_of_the_only_endpoint_is_believed_only_with_its_block() {
    let head = at(100);
    let server = node(&head, 5_000_000).await;
    let options = EvmOptions { head_jump_max: 1000, ..options(&[&server]) };
    let source = EvmSource::new(options).expect("a source");
    assert_eq!(source.head().await, Ok(100), "the first head is believed");
    head.store(1100, Ordering::Relaxed);
    assert_eq!(source.head().await, Ok(1100), "no jump");
    assert!(server.batches().is_empty(), "and no block was asked for");
    head.store(MAD, Ordering::Relaxed);
    let error = source.head().await.expect_err("a mad head");
    assert!(
        matches!(&error, SourceError::Malformed { reason, .. } if reason.contains("head_jump_max") && reason.contains("no block at that height")),
        "{error}"
    );
    head.store(5_000_000, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(10);
    while source.head().await != Ok(5_000_000) {
        assert!(Instant::now() < deadline, "it has the block, and is not believed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_mad_head_whose_witness_is_out_of_reach_needs_its_block_too() {
    let head = at(100);
    let (first, dead) = (node(&head, 100).await, server(|_, _| status(502)).await);
    let source = source(&[&first, &dead]);
    assert_eq!(source.head().await, Ok(100));
    head.store(MAD, Ordering::Relaxed);
    assert!(matches!(source.head().await, Err(SourceError::Malformed { .. })));
}

#[tokio::test]
async fn a_head_below_what_was_seen_counts_only_if_no_endpoint_is_higher() {
    let (one, other) = (at(100), at(120));
    let (first, second) = (node(&one, MAD).await, node(&other, MAD).await);
    let source = source(&[&first, &second]);
    assert_eq!(source.head().await, Ok(100));
    one.store(90, Ordering::Relaxed);
    assert_eq!(source.head().await, Ok(120));
    let asked = first.count();
    assert_eq!((source.head().await, first.count()), (Ok(120), asked), "the one that lags is no longer asked first");
    other.store(80, Ordering::Relaxed);
    assert_eq!(source.head().await, Ok(90), "all fell: the highest");
}

fn tagged(servers: &[&Server], tag: FinalityTag) -> EvmSource {
    EvmSource::new(EvmOptions { finality_tag: Some(tag), ..options(servers) }).expect("a source")
}

/// A node that answers a question for a tag with `answer`.
async fn tags(answer: fn(&Value) -> Value) -> Server {
    server(move |request, _| {
        each(request, |item| match item["params"][0].as_str() {
            Some("finalized" | "safe") => answer(item),
            _ => sound(item),
        })
    })
    .await
}

#[tokio::test]
async fn the_final_height_is_the_tags_or_unknown_where_no_endpoint_knows_the_tag() {
    let knows = tags(|item| {
        let number = if item["params"][0] == "safe" { "0x50" } else { "0x40" };
        json!({"id": item["id"], "result": {"number": number}})
    })
    .await;
    assert_eq!(tagged(&[&knows], FinalityTag::Finalized).finalized().await, Ok(Some(0x40)));
    assert_eq!(tagged(&[&knows], FinalityTag::Safe).finalized().await, Ok(Some(0x50)));
    let ignorant: [fn(&Value) -> Value; 4] = [
        |item| error(item, -39001, "Unknown block"),
        |item| error(item, -32602, "invalid argument 0: hex string without 0x prefix"),
        |item| error(item, -32000, "finalized block not found"),
        |item| json!({"id": item["id"], "result": null}),
    ];
    for answer in ignorant {
        let ignorant = tags(answer).await;
        assert_eq!(tagged(&[&ignorant], FinalityTag::Finalized).finalized().await, Ok(None));
        assert_eq!(tagged(&[&ignorant, &knows], FinalityTag::Finalized).finalized().await, Ok(Some(0x40)));
    }
}

#[tokio::test]
async fn who_was_not_told_to_ask_for_the_final_height_asks_nobody() {
    let server = tags(|item| json!({"id": item["id"], "result": {"number": "0x40"}})).await;
    assert_eq!((source(&[&server]).finalized().await, server.count()), (Ok(None), 0));
}

#[tokio::test]
async fn while_nobody_answers_the_final_height_is_an_error_and_not_unknown() {
    let dead = server(|_, _| status(502)).await;
    let silent = tagged(&[&dead], FinalityTag::Finalized);
    assert!(matches!(silent.finalized().await, Err(SourceError::Unreachable { .. })));
    let limited: fn(&Value) -> Value = |item| error(item, -32005, "limit exceeded");
    let nonsense: fn(&Value) -> Value = |item| json!({"id": item["id"], "result": {"number": 7}});
    let limited = tagged(&[&tags(limited).await], FinalityTag::Finalized).finalized().await;
    assert!(matches!(limited, Err(SourceError::RateLimited { .. })), "{limited:?}");
    let nonsense = tagged(&[&tags(nonsense).await], FinalityTag::Finalized).finalized().await;
    assert!(matches!(nonsense, Err(SourceError::Malformed { .. })), "{nonsense:?}");
}

#[tokio::test]
async fn a_mad_final_height_is_not_believed() {
    let mad = tags(|item| json!({"id": item["id"], "result": {"number": "0xe8d4a51000"}})).await;
    let source = tagged(&[&mad], FinalityTag::Finalized);
    assert_eq!(source.head().await, Ok(100));
    assert!(matches!(source.finalized().await, Err(SourceError::Malformed { .. })));
}

#[tokio::test]
async fn a_distrusted_endpoint_is_left_alone_until_its_quarantine_ends() {
    let (liar, other) = (server(|r, _| each(r, sound)).await, server(|r, _| each(r, sound)).await);
    let source = source(&[&liar, &other]);
    assert_eq!(source.head().await, Ok(100));
    source.distrust("http://somebody.else", "nobody knows it");
    source.distrust(&liar.url, "block 7 is another one");
    let asked = liar.count();
    assert_eq!(source.head().await, Ok(100));
    assert_eq!((liar.count(), other.count()), (asked, 1));
    source.distrust(&other.url, "block 7 is another one here too");
    let error = source.head().await.expect_err("nobody is left");
    assert!(matches!(&error, SourceError::Distrusted { reason, .. } if reason.contains("another one")), "{error}");

    let brief = EvmOptions { quarantine: Duration::from_millis(20), ..options(&[&liar]) };
    let brief = EvmSource::new(brief).expect("a source");
    brief.distrust(&liar.url, "block 7 is another one");
    let deadline = Instant::now() + Duration::from_secs(10);
    while brief.head().await.is_err() {
        assert!(Instant::now() < deadline, "the quarantine does not end");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn distrust_reaches_an_endpoint_that_rests_for_something_else() {
    let limited = server(|_, _| Reply { header: Some(("retry-after", "1")), ..status(429) }).await;
    let source = source(&[&limited]);
    source.head().await.expect_err("limited");
    source.distrust(&limited.url, "block 7 is another one");
    let error = source.head().await.expect_err("resting");
    assert!(matches!(error, SourceError::Distrusted { .. }), "{error}");
}

#[tokio::test]
async fn endpoints_that_look_alike_are_told_apart_by_their_place() {
    let server = server(|request, _| each(request, sound)).await;
    let endpoints = ["first", "second"].map(|key| format!("{}/{key}", server.url)).to_vec();
    let source = EvmSource::new(EvmOptions { endpoints, ..EvmOptions::default() }).expect("a source");
    let origin = async || match &source.blocks(range(1, 1)).await.expect("a block")[..] {
        [Fetched::Block(block)] => block.origin.endpoint.clone(),
        other => panic!("{other:?}"),
    };
    let first = origin().await;
    assert_eq!(first, format!("{}/…", server.url));
    source.distrust(&first, "block 7 is another one");
    assert_eq!(origin().await, format!("{first}#2"));
}
