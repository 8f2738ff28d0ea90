//! An endpoint that contradicts what is held below finality: an alarm, not a rewrite. The actor is real; which endpoint
//! shows what is the test's to say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use gapless::messages::block::{Block, Origin};
use gapless::messages::heights::{Height, HeightRange};
use gapless::simulate::chain::SimChain;
use gapless::sources::{ChainIdentity, ChainSource, Fetched, SourceError};
use gapless::telemetry::blocks::AlarmLabels;

use crate::chains::Woven;
use crate::oracle;
use crate::reorgs::Stage;
use crate::sim::plan;
use crate::support::wait;
use crate::world::{World, pipeline};

/// The height at which endpoints may lie.
const LIE: Height = 95;

/// Some endpoints of one chain; the first one that is not left alone answers. Each lies at one height, or not.
struct Several {
    chain: SimChain,
    endpoints: Vec<(&'static str, bool)>,
    left_alone: Mutex<BTreeSet<String>>,
}

impl Several {
    fn new(endpoints: &[(&'static str, bool)]) -> Arc<Self> {
        let endpoints = endpoints.to_vec();
        Arc::new(Self { chain: SimChain::new(&plan(33, 200)), endpoints, left_alone: Mutex::default() })
    }

    fn left_alone(&self) -> Vec<String> {
        self.left_alone.lock().expect("the list").iter().cloned().collect()
    }

    fn asked(&self) -> Option<(&'static str, bool)> {
        let left_alone = self.left_alone.lock().expect("the list");
        self.endpoints.iter().find(|(name, _)| !left_alone.contains(*name)).copied()
    }
}

impl ChainSource for Several {
    fn expect_chain(&self, _: &str) {}

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        Box::pin(async { Ok(ChainIdentity { chain_id: "1337".to_owned() }) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        Box::pin(async { Ok(200) })
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        Box::pin(async { Ok(None) })
    }

    fn distrust(&self, endpoint: &str, _: &str) {
        self.left_alone.lock().expect("the list").insert(endpoint.to_owned());
    }

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(async move {
            let Some((name, lies)) = self.asked() else {
                return Err(SourceError::Unreachable { endpoint: "all".to_owned(), reason: "left alone".to_owned() });
            };
            let block = |height: Height| {
                let branch = u32::from(lies && height == LIE);
                let origin = Origin { endpoint: name.to_owned(), ..Origin::default() };
                Fetched::Block(Block { origin, ..self.chain.block(height, branch).into() })
            };
            Ok((range.lo()..=range.hi()).map(block).collect())
        })
    }
}

/// How many alarms the fixer has counted.
fn alarms(stage: &Stage) -> u64 {
    let (pipeline, actor) = (stage.pipeline.to_string(), "gap_fixer".to_owned());
    stage.metrics.blocks.alarms.get_or_create(&AlarmLabels { pipeline, actor, kind: "final_link" }).get()
}

/// Both sides of the lie are held.
async fn around_the_lie(stage: &Stage) {
    stage.store.fact_once(&stage.link, &stage.pipeline, "head", "200").await.expect("a fact");
    stage.ask(90, LIE - 1).await;
    stage.ask(LIE + 1, 99).await;
    wait::until_true("both sides of the lie", || oracle::bounds(&stage.redis, "main") == [(90, 94), (96, 99)]).await;
}

#[actix_rt::test]
async fn a_final_block_that_contradicts_held_ones_is_an_alarm_and_the_others_are_asked() {
    let stage = Stage::new().await;
    let source = Several::new(&[("http://liar", true), ("http://honest", false)]);
    let _fixer = stage.fixer_of(source.clone(), 2, 2);
    around_the_lie(&stage).await;
    assert_eq!((alarms(&stage), source.left_alone()), (0, vec![]));
    stage.ask(LIE, LIE).await;
    wait::until_true("the truth", || oracle::bounds(&stage.redis, "main") == [(90, 99)]).await;
    assert_eq!((alarms(&stage), source.left_alone()), (1, vec!["http://liar".to_owned()]));
    assert_eq!(oracle::held(&stage.redis, "main")[0].hash, source.chain.truth(99).hash.as_str());
    assert_eq!(oracle::parked(&stage.redis, "main"), []);
    // The lie is kept beside the truth, as every block that was stored.
    let files = oracle::files(stage.folder.path());
    assert!(files[&LIE].iter().any(|stored| stored.raw == source.chain.truth(LIE).raw));
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn what_every_endpoint_shows_is_parked_with_both_hashes_and_nothing_is_rewritten() {
    for endpoints in [&[("http://one", true)][..], &[("http://one", true), ("http://two", true)]] {
        let stage = Stage::new().await;
        let source = Several::new(endpoints);
        let _fixer = stage.fixer_of(source.clone(), endpoints.len(), 1000);
        around_the_lie(&stage).await;
        let before = oracle::held(&stage.redis, "main");
        stage.ask(LIE, LIE).await;
        wait::until_true("the height to be parked", || !oracle::parked(&stage.redis, "main").is_empty()).await;
        let parked = oracle::parked(&stage.redis, "main");
        let [(LIE, LIE, reason)] = &parked[..] else { panic!("{parked:?}") };
        let (named, held) = (source.chain.block(LIE, 1).parent, source.chain.truth(LIE - 1).hash);
        assert!(reason.contains(named.as_str()) && reason.contains(held.as_str()), "{reason}");
        assert!(reason.contains("what is held is not rewritten"), "{reason}");
        assert_eq!(oracle::held(&stage.redis, "main"), before);
        assert_eq!(alarms(&stage), endpoints.len() as u64);
        // The last one that is left is asked on.
        assert_eq!(source.left_alone().len(), endpoints.len() - 1);
    }
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn nobody_is_blamed_while_neither_side_is_held() {
    let stage = Stage::new().await;
    let source = Several::new(&[("http://liar", true), ("http://honest", false)]);
    stage.store.fact_once(&stage.link, &stage.pipeline, "head", "200").await.expect("a fact");
    let _fixer = stage.fixer_of(source.clone(), 2, 3);
    stage.ask(LIE, LIE + 1).await;
    wait::until_true("both to be parked", || {
        oracle::parked(&stage.redis, "main").iter().map(|(lo, hi, _)| hi + 1 - lo).sum::<u64>() == 2
    })
    .await;
    assert_eq!((alarms(&stage), source.left_alone()), (0, vec![]));
    assert_eq!(oracle::held(&stage.redis, "main"), []);
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn the_held_neighbours_tell_who_is_wrong_in_the_end() {
    let stage = Stage::new().await;
    let source = Several::new(&[("http://liar", true), ("http://honest", false)]);
    stage.store.fact_once(&stage.link, &stage.pipeline, "head", "200").await.expect("a fact");
    let _fixer = stage.fixer_of(source.clone(), 2, 3);
    stage.ask(90, 99).await;
    wait::until_true("the truth", || oracle::bounds(&stage.redis, "main") == [(90, 99)]).await;
    assert_eq!((alarms(&stage), source.left_alone()), (1, vec!["http://liar".to_owned()]));
    actix_rt::System::current().stop();
}

/// The same with real endpoints: whichever is asked first, the lie never stays, and the liar is named.
#[test]
fn of_two_real_endpoints_the_lying_one_is_named_and_left_alone() {
    let chain = || SimChain::new(&plan(34, 140));
    let liar = Woven::start(chain(), 140, |height| Some(u32::from(height == LIE)));
    let honest = Woven::start(chain(), 140, |_| Some(0));
    let world = World::new(&pipeline("main", &[&liar.url, &honest.url], "0", "slots = 1\nattempts_max = 3"));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(0, 140)]);
    let line = node.wait_for("ALARM: a final block contradicts what is held");
    assert!(line.contains("ERROR") && line.contains("height=95") && line.contains(&liar.url), "{line}");
    assert_eq!(node.lines().iter().filter(|line| line.contains("ALARM")).count(), 1, "said once");
    assert_eq!(oracle::parked(&world.redis, "main"), []);
    let held = oracle::held(&world.redis, "main");
    assert_eq!(held[0].hash, chain().truth(140).hash.as_str());
    let truth = chain().truth(LIE);
    assert!(oracle::files(&world.store("main"))[&LIE].iter().any(|stored| stored.raw == truth.raw));
    assert_eq!(world.space.run(&["blocks", "verify"]).code, 0);
    assert!(node.lives());
}
