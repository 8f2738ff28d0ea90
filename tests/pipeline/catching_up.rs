//! Catching up: one turn of the Collector fetches the next blocks while it stores the ones before, and commits what links.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use gapless::actors::collector::FollowPlan;
use gapless::messages::heights::{Height, HeightRange};
use gapless::sources::{ChainIdentity, ChainSource, Fetched, SourceError};
use tokio::sync::Notify;

use crate::oracle;
use crate::reorgs::{Stage, Staged, follow_plan};
use crate::support::wait;

/// Five heights a batch; the third batch begins here.
const THIRD: Height = 10;

/// A chain of 40 blocks, none of them final, that answers the third batch only when it is told to, and once with an
/// error where it is told so.
struct Gate {
    chain: Arc<Staged>,
    asked: AtomicBool,
    fails: AtomicBool,
    go: Notify,
}

impl Gate {
    fn new(fails: bool) -> Arc<Self> {
        let chain = Staged::new(0, 39, false);
        Arc::new(Self { chain, asked: AtomicBool::new(false), fails: AtomicBool::new(fails), go: Notify::new() })
    }

    /// Runs a Collector until it has asked for the third batch and stored the first two.
    async fn until_there(self: &Arc<Self>, stage: &Stage) -> gapless::supervisor::Handle {
        let plan = FollowPlan { confirmations: 100, batch: 5, turn: 25, ..follow_plan() };
        let running = stage.follow(self.clone(), plan, None);
        wait::until_true("the third batch to be asked for", || self.asked.load(Ordering::SeqCst)).await;
        wait::until_true("the first two to be stored", || {
            (0..THIRD).all(|height| oracle::files(stage.folder.path()).contains_key(&height))
        })
        .await;
        running
    }
}

impl ChainSource for Gate {
    fn expect_chain(&self, _: &str) {}

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        self.chain.identity()
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        self.chain.head()
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        self.chain.finalized()
    }

    fn distrust(&self, _: &str, _: &str) {}

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(async move {
            if range.lo() == THIRD && !self.asked.swap(true, Ordering::SeqCst) {
                self.go.notified().await;
                if self.fails.load(Ordering::SeqCst) {
                    return Err(SourceError::Unreachable {
                        endpoint: "the chain".to_owned(),
                        reason: "it is down".to_owned(),
                    });
                }
            }
            self.chain.blocks(range).await
        })
    }
}

#[actix_rt::test]
async fn blocks_are_stored_while_the_next_are_fetched_and_count_together() {
    let (stage, gate) = (Stage::new().await, Gate::new(false));
    let _running = gate.until_there(&stage).await;
    assert!(oracle::held(&stage.redis, "main").is_empty(), "the turn is not over");
    gate.go.notify_one();
    stage.wait_followed(&gate.chain, 0, 39).await;
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn a_source_that_fails_half_way_leaves_what_it_brought() {
    let (stage, gate) = (Stage::new().await, Gate::new(true));
    let _running = gate.until_there(&stage).await;
    // Nothing else is answered from here on, so that what counts is what the first turn brought.
    gate.chain.turn(0, 0, THIRD - 1);
    gate.go.notify_one();
    wait::until_true("the first two batches to count", || oracle::bounds(&stage.redis, "main") == [(0, THIRD - 1)])
        .await;
    gate.chain.turn(0, 0, 39);
    stage.wait_followed(&gate.chain, 0, 39).await;
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn a_reorg_between_two_batches_of_a_turn_is_walked_back() {
    let (stage, gate) = (Stage::new().await, Gate::new(false));
    let _running = gate.until_there(&stage).await;
    // What the turn has stored leaves the chain from 7 on: the third batch does not stand on it.
    gate.chain.turn(7, 1, 39);
    gate.go.notify_one();
    stage.wait_followed(&gate.chain, 0, 39).await;
    let files = oracle::files(stage.folder.path());
    assert_eq!([6, 7, 9, 10].map(|height: Height| files[&height].len()), [1, 2, 2, 1], "orphans are kept");
    actix_rt::System::current().stop();
}
