//! What is final: by count, by the chain's own word, or at once; and what becomes of an endpoint that contradicts it.

use gapless::actors::collector::FollowPlan;
use gapless::messages::facts::{AlarmNote, ChainFacts};
use gapless::supervisor;
use serde_json::{Value, json};

use crate::oracle;
use crate::reorgs::{Stage, follow_plan};
use crate::support::wait;
use crate::voices::{Tag, Voice, Voices};

fn number(stage: &Stage, fact: &str) -> u64 {
    oracle::fact(&stage.redis, "main", fact).parse().unwrap_or(0)
}

/// Waits until these heights, and no others, are held, with the hash at the top.
async fn wait_held(stage: &Stage, lo: u64, hi: u64, hash: &str) {
    wait::until_true(&format!("{lo}..{hi} to be held"), || {
        let held = oracle::held(&stage.redis, "main");
        matches!(&held[..], [one] if (one.lo, one.hi, one.hash.as_str()) == (lo, hi, hash))
    })
    .await;
}

async fn wait_fact(stage: &Stage, fact: &str, value: u64) {
    wait::until_true(&format!("{fact} to be {value}"), || number(stage, fact) == value).await;
}

fn alarms(stage: &Stage) -> Vec<AlarmNote> {
    let fact = ("alarms".to_owned(), oracle::fact(&stage.redis, "main", "alarms"));
    ChainFacts::read(&[fact], 10).alarms()
}

fn counted(stage: &Stage, metric: &str) -> u64 {
    let text = stage.metrics.render();
    let start = format!("gapless_{metric}{{pipeline=\"blocks.main\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&start))
        .map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
}

/// Waits for a figure: it follows the commit that a look at Redis shows already.
async fn wait_counted(stage: &Stage, metric: &str, value: u64) {
    wait::until_true(&format!("{metric} to be {value}"), || counted(stage, metric) == value).await;
}

fn grow(voice: &mut Voice) {
    voice.head += 1;
}

/// Alarms that the Collector's metric counts.
fn rung(stage: &Stage) -> u64 {
    let text = stage.metrics.render();
    let start = "gapless_blocks_alarms_total{pipeline=\"blocks.main\",actor=\"collector\",kind=\"final_link\"} ";
    text.lines().find_map(|line| line.strip_prefix(start)).map_or(0, |value| value.parse().expect("a number"))
}

/// The unit's last error, once it has failed.
async fn wait_failed(collector: &supervisor::Handle) -> String {
    wait::until_some("the collector to fail", || {
        let failed = collector.me.borrow().units.iter().find(|unit| unit.state == "failed").cloned();
        std::future::ready(failed.map(|unit| unit.last_error))
    })
    .await
}

#[actix_rt::test]
async fn bounded_by_finality_by_count_tag_and_at_once() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["a"], 109, Tag::Silent);
    let _collector = stage.follow(chain.clone(), follow_plan(), None);
    // By count, as long as nobody says more: the Collector writes what is above it, and nothing below.
    wait_held(&stage, 100, 109, &chain.hash(109, 0, 0)).await;
    assert_eq!((number(&stage, "head"), number(&stage, "finalized")), (109, 99));
    // A tag makes blocks final earlier, without a new block.
    *chain.tag.lock().expect("the tag") = Tag::At(105);
    wait_fact(&stage, "finalized", 105).await;
    // It takes nothing back, and one that fails is no error: the head goes on.
    *chain.tag.lock().expect("the tag") = Tag::At(50);
    chain.set_all(grow);
    wait_held(&stage, 100, 110, &chain.hash(110, 0, 0)).await;
    *chain.tag.lock().expect("the tag") = Tag::Fails;
    chain.set_all(|voice| voice.head = 112);
    wait_held(&stage, 100, 112, &chain.hash(112, 0, 0)).await;
    assert_eq!((number(&stage, "head"), number(&stage, "finalized")), (112, 105));
    // Never above the head.
    *chain.tag.lock().expect("the tag") = Tag::At(5000);
    wait_fact(&stage, "finalized", 112).await;
    assert_eq!(number(&stage, "head"), 112);
    // The pool reads the same fact: with it, all that is final is held, from the start on.
    let _pool = stage.fill(chain.clone());
    wait_held(&stage, 0, 112, &chain.hash(112, 0, 0)).await;
    wait_counted(&stage, "blocks_finalized", 112).await;
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn a_chain_that_is_final_at_once_is_followed_and_filled() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["a"], 300, Tag::AtHead);
    let _collector = stage.follow(chain.clone(), follow_plan(), None);
    // No pool: the newest block does not wait for one.
    wait_held(&stage, 300, 300, &chain.hash(300, 0, 0)).await;
    assert_eq!((number(&stage, "head"), number(&stage, "finalized")), (300, 300));
    chain.set_all(|voice| voice.head = 305);
    wait_held(&stage, 300, 305, &chain.hash(305, 0, 0)).await;
    wait_fact(&stage, "finalized", 305).await;
    // More than a turn holds: the newest one first, the rest is the pool's.
    chain.set_all(|voice| voice.head = 400);
    wait::until_true("the head", || oracle::bounds(&stage.redis, "main") == [(300, 305), (400, 400)]).await;
    let _pool = stage.fill(chain.clone());
    wait_held(&stage, 0, 400, &chain.hash(400, 0, 0)).await;
    assert!(oracle::parked(&stage.redis, "main").is_empty());
    assert_eq!(alarms(&stage), []);
    actix_rt::System::current().stop();
}

#[actix_rt::test]
async fn an_index_without_the_fact_is_read_by_count_until_it_is_written() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["a"], 109, Tag::Silent);
    // As an earlier release left it.
    for (name, value) in [("head", "100"), ("start", "0")] {
        stage.store.fact_once(&stage.link, &stage.pipeline, name, value).await.expect("a fact");
    }
    let _pool = stage.fill(chain.clone());
    wait_held(&stage, 0, 90, &chain.hash(90, 0, 0)).await;
    assert_eq!(oracle::fact(&stage.redis, "main", "finalized"), "");
    let _collector = stage.follow(chain.clone(), follow_plan(), None);
    wait_held(&stage, 0, 109, &chain.hash(109, 0, 0)).await;
    wait_fact(&stage, "finalized", 99).await;
    actix_rt::System::current().stop();
}

/// One of two endpoints shows another branch from a final height on: it is named, left alone, and nothing is rewritten.
#[actix_rt::test]
async fn a_mismatch_below_finality_is_an_alarm_and_nothing_is_rewritten() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["http://good", "http://bad", "http://fine"], 109, Tag::Silent);
    let _collector = stage.follow(chain.clone(), follow_plan(), None);
    wait_held(&stage, 100, 109, &chain.hash(109, 0, 0)).await;
    let files = oracle::files(stage.folder.path());
    chain.set("http://bad", |voice| (voice.from, voice.branch, voice.head) = (95, 1, 112));
    wait::until_true("the alarm", || !alarms(&stage).is_empty()).await;
    let all = alarms(&stage);
    let [alarm] = &all[..] else { panic!("{all:?}") };
    let held = alarm.held.as_ref().map(ToString::to_string);
    assert_eq!((alarm.height, alarm.endpoint.as_str(), alarm.times), (99, "http://bad", 1));
    assert_eq!((held, alarm.shown.to_string()), (Some(chain.hash(99, 0, 0)), chain.hash(99, 95, 1)));
    wait::until_true("the endpoint to be left alone", || chain.distrusted() == ["http://bad"]).await;
    assert!(chain.reasons.lock().expect("reasons")[0].contains("at the final height 99"));
    // The others go on, from what was held.
    chain.set_all(|voice| voice.head = 115);
    wait_held(&stage, 100, 115, &chain.hash(115, 0, 0)).await;
    let now = oracle::files(stage.folder.path());
    assert!(files.iter().all(|(height, stored)| now.get(height) == Some(stored)), "files were rewritten");
    assert!(now.values().all(|stored| stored.len() == 1), "a block of the other branch was stored");
    assert_eq!((rung(&stage), counted(&stage, "blocks_reorgs_total")), (1, 0));
    actix_rt::System::current().stop();
}

/// With finality at once any other block is a contradiction; where all show it, only an operator can help.
#[actix_rt::test]
async fn every_endpoint_on_another_chain_stops_it_loudly() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["http://a", "http://b"], 109, Tag::AtHead);
    let collector = stage.follow(chain.clone(), follow_plan(), None);
    wait_held(&stage, 109, 109, &chain.hash(109, 0, 0)).await;
    chain.set_all(|voice| (voice.from, voice.branch, voice.head) = (109, 1, 110));
    let error = wait_failed(&collector).await;
    let shown = chain.hash(109, 109, 1);
    assert!(error.contains(&format!("all 2 endpoints show {shown} at the final height 109")), "{error}");
    assert!(error.contains("nothing was rewritten"), "{error}");
    assert_eq!(oracle::held(&stage.redis, "main")[0].hash, chain.hash(109, 0, 0));
    assert_eq!(oracle::files(stage.folder.path())[&109].len(), 1);
    let mut named: Vec<String> = alarms(&stage).into_iter().map(|alarm| alarm.endpoint).collect();
    named.sort();
    assert_eq!(named, ["http://a", "http://b"]);
    actix_rt::System::current().stop();
}

/// A block whose link the commit refuses stands on another final block than the held one, though no window tells.
#[actix_rt::test]
async fn a_block_that_does_not_stand_on_the_final_ones_is_an_alarm_too() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["http://good", "http://bad"], 109, Tag::Silent);
    for (name, value) in [("head", "109"), ("start", "0")] {
        stage.store.fact_once(&stage.link, &stage.pipeline, name, value).await.expect("a fact");
    }
    let _pool = stage.fill(chain.clone());
    wait_held(&stage, 0, 99, &chain.hash(99, 0, 0)).await;
    // The checkpoint is empty, so only what the pool holds can tell.
    let other = Voices::new(&["http://bad", "http://good"], 109, Tag::Silent);
    other.set("http://bad", |voice| (voice.from, voice.branch) = (90, 1));
    // The good one is behind at first.
    other.set("http://good", |voice| voice.head = 50);
    let collector = stage.follow(other.clone(), follow_plan(), None);
    wait::until_true("the endpoint to be left alone", || other.distrusted() == ["http://bad"]).await;
    let all = alarms(&stage);
    let [alarm] = &all[..] else { panic!("{all:?}") };
    assert_eq!((alarm.height, alarm.endpoint.as_str()), (99, "http://bad"));
    assert_eq!(alarm.shown.to_string(), chain.hash(99, 90, 1));
    other.set("http://good", |voice| voice.head = 109);
    wait_held(&stage, 0, 109, &chain.hash(109, 0, 0)).await;
    let restarts: u64 = collector.me.borrow().units.iter().map(|unit| unit.restarts).sum();
    assert_eq!(restarts, 0);
    assert!(oracle::files(stage.folder.path())[&99].len() == 1, "height 99 was rewritten");
    actix_rt::System::current().stop();
}

/// An endpoint that contradicts itself, as several nodes behind one name do, is asked again and is no reorganisation.
#[actix_rt::test]
async fn an_inconsistent_endpoint_is_no_reorg_until_its_branch_is_whole() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["http://a"], 109, Tag::Silent);
    let collector = stage.follow(chain.clone(), follow_plan(), None);
    wait_held(&stage, 100, 109, &chain.hash(109, 0, 0)).await;
    // 107 and above are another branch, but what is below is ours, and does not carry them.
    chain.set_all(|voice| (voice.from, voice.branch, voice.head, voice.broken) = (107, 1, 110, true));
    wait::until_true("the doubt to be shown", || {
        let units = collector.me.borrow().units.clone();
        units.iter().any(|unit| unit.last_error.contains("no branch that it belongs to is shown"))
    })
    .await;
    assert_eq!(oracle::held(&stage.redis, "main")[0].hash, chain.hash(109, 0, 0));
    assert_eq!((counted(&stage, "blocks_reorgs_total"), alarms(&stage).len()), (0, 0));
    chain.set_all(|voice| voice.broken = false);
    wait_held(&stage, 100, 110, &chain.hash(110, 107, 1)).await;
    wait_counted(&stage, "blocks_reorgs_total", 1).await;
    assert_eq!(alarms(&stage), []);
    actix_rt::System::current().stop();
}

/// A lagging endpoint beside one with the new branch: the branch is followed as far as one endpoint shows all of it,
/// whichever answers which request, and the old one is not followed back.
#[actix_rt::test]
async fn a_lagging_endpoint_does_not_look_like_a_reorg() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["http://a", "http://b", "http://c"], 109, Tag::Silent);
    // One height a request, so that a walk-back takes turns between the endpoints.
    let plan = FollowPlan { batch: 1, ..follow_plan() };
    let _collector = stage.follow(chain.clone(), plan, None);
    wait_held(&stage, 100, 109, &chain.hash(109, 0, 0)).await;
    chain.set("http://a", |voice| (voice.from, voice.branch, voice.head) = (101, 1, 111));
    chain.set("http://c", |voice| (voice.from, voice.branch, voice.head) = (101, 1, 111));
    wait_held(&stage, 100, 111, &chain.hash(111, 101, 1)).await;
    chain.set("http://a", |voice| voice.head = 112);
    wait_held(&stage, 100, 112, &chain.hash(112, 101, 1)).await;
    wait_counted(&stage, "blocks_reorgs_total", 1).await;
    assert_eq!(alarms(&stage), []);
    actix_rt::System::current().stop();
}

/// The new branch is held, the orphans' files stay, and whoever listens hears of it.
#[actix_rt::test]
async fn a_reorg_is_repaired_published_and_its_orphans_kept() {
    let stage = Stage::new().await;
    let chain = Voices::new(&["http://a"], 109, Tag::Silent);
    let _collector = stage.follow(chain.clone(), follow_plan(), None);
    wait_held(&stage, 100, 109, &chain.hash(109, 0, 0)).await;
    let mut connection = stage.redis.connection();
    let mut listener = connection.as_pubsub();
    listener.subscribe("t:{blocks.main}:reorgs").expect("subscribed");
    listener.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a time-out");
    chain.set_all(|voice| (voice.from, voice.branch, voice.head) = (107, 1, 110));
    wait_held(&stage, 100, 110, &chain.hash(110, 107, 1)).await;
    let payload: String = listener.get_message().expect("an event").get_payload().expect("text");
    let orphan = |height| json!({ "height": height, "hash": chain.hash(height, 0, 0) });
    let expected = json!({
        "pipeline": "blocks.main", "from": 107, "top": 109, "ancestor_hash": chain.hash(106, 0, 0),
        "orphans": [orphan(107), orphan(108), orphan(109)],
    });
    assert_eq!(serde_json::from_str::<Value>(&payload).expect("JSON"), expected);
    let files = oracle::files(stage.folder.path());
    for height in 107..=109 {
        let stored: Vec<&[u8]> = files[&height].iter().map(|stored| &stored.raw[..]).collect();
        assert_eq!(stored.len(), 2, "height {height}");
        assert!(stored.contains(&&chain.block(height, 0, 0).raw[..]), "the orphan at {height} is gone");
        assert!(stored.contains(&&chain.block(height, 107, 1).raw[..]), "height {height} is not of the new branch");
    }
    wait_counted(&stage, "blocks_reorg_depth_sum", 3).await;
    assert_eq!(counted(&stage, "blocks_reorgs_total"), 1);
    // Ten at the first look, then three of the new branch and one above; all of them are held.
    wait_counted(&stage, "blocks_head_stored_total", 14).await;
    actix_rt::System::current().stop();
}
