//! The served chain against the real source: what arrives is the truth of the plan, whatever goes wrong on the way.

use std::time::Instant;

use super::*;
use crate::messages::block::{Block, Origin};
use crate::messages::heights::{HeightRange, HeightSet};
use crate::sources::evm::{EvmOptions, EvmSource};
use crate::sources::{Absence, ChainSource, Fetched, SourceError};

async fn start(plan: &ChainPlan) -> (Running, EvmSource) {
    let running = serve(plan.clone(), "127.0.0.1:0".parse().expect("an address")).await.expect("serves");
    let rest = Duration::from_millis(5);
    let endpoints = vec![running.url()];
    let options = EvmOptions { endpoints, batch_heights: 20, rest_min: rest, rest_max: rest, ..EvmOptions::default() };
    (running, EvmSource::new(options).expect("a source"))
}

fn range(lo: u64, hi: u64) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

/// What was fetched, without how it came: the plan knows only the blocks.
fn plain(fetched: Vec<Fetched>) -> Vec<Fetched> {
    let plain = |fetched| match fetched {
        Fetched::Block(block) => Fetched::Block(Block { origin: Origin::default(), ..block }),
        absent @ Fetched::Absent(..) => absent,
    };
    fetched.into_iter().map(plain).collect()
}

fn truth(plan: &ChainPlan, range: HeightRange) -> Vec<Fetched> {
    let chain = SimChain::new(plan);
    (range.lo()..=range.hi()).map(|height| Fetched::Block(chain.truth(height).into())).collect()
}

#[tokio::test]
async fn the_source_sees_the_plan() {
    let plan = ChainPlan { blocks: 300, chain_id: 99, seed: 5, ..ChainPlan::default() };
    let (running, source) = start(&plan).await;
    assert_eq!(source.identity().await.expect("an identity").chain_id, "99");
    assert_eq!(source.head().await, Ok(300));
    assert_eq!(plain(source.blocks(range(0, 250)).await.expect("blocks")), truth(&plan, range(0, 250)));
    assert_eq!(source.blocks(range(301, 301)).await, Ok(vec![Fetched::Absent(301, Absence::Unknown)]));
    running.control().advance(1);
    assert_eq!((source.head().await, running.control().head()), (Ok(301), 301));
    assert_eq!(plain(source.blocks(range(301, 301)).await.expect("a block")), truth(&plan, range(301, 301)));
}

#[tokio::test]
async fn an_outage_is_an_outage_and_ends() {
    let (running, source) = start(&ChainPlan::default()).await;
    running.control().set_outage(true);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut refused, mut broken) = (false, false);
    while !(refused && broken) {
        assert!(Instant::now() < deadline, "503 {refused}, cut {broken}");
        match source.head().await {
            Err(SourceError::Unreachable { reason, .. }) if reason.contains("HTTP 503") => refused = true,
            Err(SourceError::Unreachable { .. }) => broken = true,
            other => panic!("{other:?} in an outage"),
        }
        tokio::task::yield_now().await;
    }
    running.control().set_outage(false);
    while source.head().await != Ok(1000) {
        assert!(Instant::now() < deadline, "the outage does not end");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stopped_chain_frees_its_port_and_a_dropped_one_goes_silent() {
    let (running, source) = start(&ChainPlan::default()).await;
    source.head().await.expect("a head");
    let addr = running.addr();
    running.stop().await;
    let again = serve(ChainPlan::default(), addr).await.expect("the port is free");
    drop(again);
    let deadline = Instant::now() + Duration::from_secs(10);
    while source.head().await.is_ok() {
        assert!(Instant::now() < deadline, "it still answers");
        tokio::task::yield_now().await;
    }
}

/// All faults at once: every block that arrives is the true one, and asking again for the gaps brings them all.
#[tokio::test]
async fn through_all_faults_only_the_truth_arrives() {
    let faults = "slow=0.05:5ms,null=0.3,error=0.05,malformed=0.1,short_batch=0.3,reorder=0.5".parse().expect("faults");
    let plan = ChainPlan { blocks: 1000, faults, ..ChainPlan::default() };
    let (running, source) = start(&plan).await;
    source.expect_chain("1337");
    let (chain, deadline) = (SimChain::new(&plan), Instant::now() + Duration::from_secs(60));
    let (mut held, mut absent, mut failed) = (HeightSet::new(), 0, 0);
    while let Some(asked) = held.gaps(range(0, 1000)).ranges().first().and_then(|gap| gap.chunks(100).next()) {
        assert!(Instant::now() < deadline, "{} blocks so far", held.count());
        let fetched = source.blocks(asked).await.unwrap_or_else(|_| {
            failed += 1;
            Vec::new()
        });
        assert!(fetched.is_empty() || fetched.len() as u64 == asked.count());
        for (fetched, height) in fetched.into_iter().zip(asked.lo()..) {
            match fetched {
                Fetched::Block(block) => {
                    assert_eq!((&block.origin.endpoint, block.origin.attempt > 0), (&running.url(), true));
                    assert_eq!(Block { origin: Origin::default(), ..block }, chain.truth(height).into());
                    held.insert(HeightRange::one(height));
                }
                Fetched::Absent(at, _) => {
                    assert_eq!(at, height);
                    absent += 1;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(absent + failed > 0, "the plan does nothing: {absent} absent, {failed} failed");
    assert!(running.control().requests() > 50);
}

#[tokio::test]
async fn a_limited_request_names_its_pause() {
    let faults = FaultPlan { limited: 1.0, ..FaultPlan::default() };
    let (running, source) = start(&ChainPlan { faults, ..ChainPlan::default() }).await;
    let retry_after = Some(Duration::from_secs(1));
    assert_eq!(source.head().await, Err(SourceError::RateLimited { endpoint: running.url(), retry_after }));
}
