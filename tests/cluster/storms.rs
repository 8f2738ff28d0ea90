//! A unit that breaks again and again is given up for a while: here, not everywhere, and not its siblings.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use gapless::ids::{Kind, PipelineId, UnitId};
use gapless::store::membership::NodeInfo;
use gapless::supervisor::ladder::LadderOptions;
use gapless::supervisor::life::{Factory, UnitSpec};
use gapless::supervisor::{Ended, SupervisorOptions};
use gapless::telemetry::metrics::{CooldownLabels, CooldownLevel, RestartReason};

use crate::frail::{LEASE, Place, Running, Site, Trouble, quick, spec};
use crate::support::wait;

fn impatient(cooldown: Duration) -> SupervisorOptions {
    let mut options = quick();
    options.restart.restarts_max = 2;
    options.restart.cooldown = cooldown;
    options
}

#[actix_rt::test]
async fn a_unit_that_was_given_up_is_tried_again_after_the_cool_down() {
    let site = Site::new().await;
    site.send("frail", 1..=5).await;
    let cooldown = Duration::from_millis(700);
    let node =
        site.node("a", impatient(cooldown), &[("frail", Trouble::new(Place::Started, 3)), ("sound", Trouble::none())]);
    wait::until_true("the state failed", || node.state("frail") == "failed").await;
    let given_up = Instant::now();
    assert_eq!(node.metrics.units_failed.get(), 1);
    site.send("sound", 1..=5).await;
    site.counted("sound", 5).await;
    assert_eq!(site.output("frail").await, Vec::<u64>::new(), "tried again too early");
    site.counted("frail", 5).await;
    // The report that the test saw is up to a beat older than the state.
    assert!(given_up.elapsed() + LEASE > cooldown, "tried again after {:?}", given_up.elapsed());
    node.drain().await;
}

#[actix_rt::test]
async fn another_node_takes_what_one_gave_up_and_keeps_it() {
    let site = Site::new().await;
    site.send("frail", 1..=5).await;
    let long = Duration::from_secs(60);
    let bad = |name| site.node(name, impatient(long), &[("frail", Trouble::new(Place::Started, u32::MAX))]);
    let good = |name| site.node(name, impatient(long), &[("frail", Trouble::none())]);
    // Whichever node is the first choice, it must end where it works.
    for (bad_name, good_name) in [("a", "b"), ("b", "a")] {
        let failing = bad(bad_name);
        wait::until_true("the state failed", || failing.state("frail") == "failed").await;
        let working = good(good_name);
        let sent = site.output("frail").await.len() as u64 + 5;
        site.send("frail", sent - 4..=sent).await;
        wait::until_true("a working holder", || working.state("frail") == "running").await;
        let held = site.store.checkpoint(&site.link, &site.unit("frail")).await.expect("an answer").expect("held");
        let since = Instant::now();
        wait::until("three leases", || async {
            let now = site.store.checkpoint(&site.link, &site.unit("frail")).await.expect("an answer").expect("held");
            assert_eq!(now.token, held.token, "the unit moved although the other node had given it up");
            since.elapsed() > 3 * LEASE
        })
        .await;
        failing.drain().await;
        working.drain().await;
    }
}

#[actix_rt::test]
async fn a_node_with_a_unit_given_up_drains_at_once() {
    let site = Site::new().await;
    let node = site.node("a", impatient(Duration::from_secs(60)), &[("frail", Trouble::new(Place::Started, u32::MAX))]);
    wait::until_true("the state failed", || node.state("frail") == "failed").await;
    let asked = Instant::now();
    node.drain().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[actix_rt::test]
async fn a_pipeline_with_a_broken_key_costs_the_others_no_lease() {
    let site = Site::new().await;
    // Looked at before the sound one, by its name.
    let broken = PipelineId::new(Kind::Selftest, "a");
    site.store.mark_pipeline(&site.link, &broken, false).await.expect("a mark");
    let unit = UnitId::exclusive(&broken, "frail");
    site.server.command(&["HSET", &site.store.keys.checkpoint(&unit), "owner", "somebody", "token", "1"]);
    site.server.command(&["HSET", &site.store.keys.expiry(&unit), "not", "a text"]);
    let specs = vec![spec(unit, Trouble::none()), spec(site.unit("frail"), Trouble::none())];
    let node = site.node_of("a", quick(), specs);
    site.send("frail", 1..=3).await;
    site.counted("frail", 3).await;
    let begun = Instant::now();
    wait::until_true("several lease times", || begun.elapsed() > 4 * LEASE).await;
    site.send("frail", 4..=6).await;
    site.counted("frail", 6).await;
    assert_eq!(node.restarts("frail", RestartReason::Reload), 0, "the lease was kept all the time");
    node.drain().await;
}

/// Its pipelines run elsewhere: it is not ready, and ends in time.
fn ladder(exit: Option<Duration>) -> LadderOptions {
    LadderOptions { groups: 0, exit }
}

fn all_panic(pipeline: &PipelineId, actors: usize) -> Vec<UnitSpec> {
    let trouble = |n| spec(UnitId::exclusive(pipeline, &format!("frail_{n}")), Trouble::new(Place::Started, u32::MAX));
    (0..actors).map(trouble).collect()
}

async fn second_pipeline(site: &Site) -> PipelineId {
    let pipeline = PipelineId::new(Kind::Selftest, "y");
    site.store.mark_pipeline(&site.link, &pipeline, false).await.expect("a mark");
    pipeline
}

/// The states that a node reports of a pipeline, sorted.
fn states(node: &Running, pipeline: &PipelineId) -> Vec<String> {
    let (me, inside) = (node.handle.me.borrow(), format!("{pipeline}/"));
    let mut states: Vec<String> =
        me.units.iter().filter(|report| report.unit.starts_with(&inside)).map(|report| report.state.clone()).collect();
    states.sort();
    states
}

#[actix_rt::test]
async fn a_pipeline_that_storms_is_given_up_as_a_whole_and_its_sibling_goes_on() {
    let site = Site::new().await;
    let stormy = second_pipeline(&site).await;
    let mut options = quick();
    // Each unit alone stays far below its own bound.
    options.restart.restarts_max = 1000;
    options.restart.group_restarts_max = 12;
    options.restart.cooldown = Duration::from_secs(60);
    let mut specs = all_panic(&stormy, 3);
    specs.push(spec(UnitId::exclusive(&stormy, "innocent"), Trouble::none()));
    specs.push(spec(site.unit("sound"), Trouble::none()));
    let node = site.node_of("a", options, specs);
    wait::until_true("the whole pipeline given up", || states(&node, &stormy) == ["failed"; 4]).await;
    assert_eq!(node.metrics.pipelines_given_up.get(), 1);
    let given_up = node.handle.me.borrow().given_up.clone();
    assert_eq!((given_up.len(), given_up[0].pipeline.as_str()), (1, "selftest.y"));
    assert!(given_up[0].reason.contains("asked to break in Started"), "{given_up:?}");
    assert!((50_000..=60_000).contains(&given_up[0].again_in_ms), "{given_up:?}");
    let innocent = "selftest.y/innocent";
    let words = node.handle.me.borrow().units.iter().find(|u| u.unit == innocent).map(|u| u.last_error.clone());
    assert!(words.expect("a report").starts_with("its pipeline was given up here"), "the sibling says why");
    let key = CooldownLabels { pipeline: "selftest.y".to_owned(), level: CooldownLevel::Pipeline };
    assert_eq!(node.metrics.cooldowns.get_or_create(&key).get(), 1);
    // Its leases are free for others.
    wait::until("all leases given back", || async {
        let units = [UnitId::exclusive(&stormy, "frail_0"), UnitId::exclusive(&stormy, "innocent")];
        let asked: Vec<_> = units.iter().map(|unit| (unit.clone(), None)).collect();
        let seen = site.store.beat(&site.link, &stormy, &asked).await.expect("an answer");
        seen.iter().all(|unit| unit.left_ms == 0)
    })
    .await;
    site.send("sound", 1..=5).await;
    site.counted("sound", 5).await;
    assert_eq!(node.restarts("sound", RestartReason::Reload), 0);
    assert_eq!(node.metrics.ready.get(), 1, "a pipeline works here");
    // Another node takes it over, and keeps it.
    let specs = (0..3).map(|n| UnitId::exclusive(&stormy, &format!("frail_{n}")));
    let specs = specs.chain([UnitId::exclusive(&stormy, "innocent")]).map(|id| spec(id, Trouble::none())).collect();
    let other = site.node_of("b", quick(), specs);
    wait::until_true("the pipeline on the other node", || states(&other, &stormy) == ["running"; 4]).await;
    node.drain().await;
    other.drain().await;
}

#[actix_rt::test]
async fn a_pipeline_is_tried_again_after_its_cool_down() {
    let site = Site::new().await;
    let mut options = quick();
    options.restart.restarts_max = 1000;
    options.restart.group_restarts_max = 3;
    options.restart.cooldown = Duration::from_millis(700);
    site.send("frail", 1..=5).await;
    let node = site.node("a", options, &[("frail", Trouble::new(Place::Started, 4)), ("sound", Trouble::none())]);
    wait::until_true("the pipeline given up", || node.metrics.pipelines_given_up.get() == 1).await;
    let given_up = Instant::now();
    site.counted("frail", 5).await;
    assert!(given_up.elapsed() + LEASE > Duration::from_millis(700), "tried again after {:?}", given_up.elapsed());
    site.send("sound", 1..=5).await;
    site.counted("sound", 5).await;
    assert_eq!(node.metrics.pipelines_given_up.get(), 0);
    node.drain().await;
}

#[actix_rt::test]
async fn a_node_whose_pipelines_run_elsewhere_is_not_ready_and_gives_itself_up() {
    let site = Site::new().await;
    let mut options = impatient(Duration::from_secs(60));
    options.ladder = ladder(Some(Duration::from_millis(1500)));
    let ill = site.node("a", options, &[("frail", Trouble::new(Place::Started, u32::MAX))]);
    wait::until_true("not ready", || ill.metrics.ready.get() == 0).await;
    let alone = |me: &NodeInfo| me.unready.contains("a restart would not help");
    wait::until_true("the reason", || alone(&ill.handle.me.borrow())).await;
    // Alone it stays; how long does not matter, so it is looked at for longer than the time after which it would end.
    let begun = Instant::now();
    wait::until_true("twice the time", || begun.elapsed() > Duration::from_secs(3)).await;
    assert!(alone(&ill.handle.me.borrow()), "{:?}", ill.handle.me.borrow().unready);
    let healthy = site.node("b", quick(), &[("frail", Trouble::none())]);
    let joined = Instant::now();
    let me = ill.handle.me.clone();
    wait::until_true("the announcement", || me.borrow().unready.contains("ends with code 70 in")).await;
    let Ended::GaveUp(words) = ill.ended.await.expect("an end") else { panic!("it ended otherwise") };
    assert!(words.contains("selftest.x") && words.contains("giving this process up"), "{words}");
    assert!(joined.elapsed() >= Duration::from_millis(1500), "{:?}", joined.elapsed());
    site.send("frail", 1..=5).await;
    site.counted("frail", 5).await;
    healthy.drain().await;
}

#[actix_rt::test]
async fn what_fails_on_every_node_ends_none_of_them() {
    let site = Site::new().await;
    let mut options = impatient(Duration::from_secs(60));
    options.ladder = ladder(Some(Duration::from_millis(300)));
    let poisoned = || [("frail", Trouble::new(Place::Started, u32::MAX))];
    let (mut a, mut b) = (site.node("a", options.clone(), &poisoned()), site.node("b", options, &poisoned()));
    wait::until_true("both not ready", || a.metrics.ready.get() == 0 && b.metrics.ready.get() == 0).await;
    let begun = Instant::now();
    wait::until_true("ten times the time", || begun.elapsed() > Duration::from_secs(3)).await;
    assert!(a.ended.try_recv().is_err() && b.ended.try_recv().is_err(), "an exit loop helps nobody");
    a.drain().await;
    b.drain().await;
}

#[actix_rt::test]
async fn no_more_units_start_at_a_time_than_the_bound_says() {
    let site = Site::new().await;
    let mut options = quick();
    (options.workers, options.starts_at_a_time) = (1, 2);
    (options.watchdog.blocked, options.watchdog.blocked_exit) = (Duration::from_secs(60), Duration::from_secs(120));
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let held_up = |n| {
        let sound = spec(site.unit(&format!("sound_{n}")), Trouble::none());
        let (gate, factory) = (gate.clone(), sound.factory.clone());
        // The first one holds the thread on which all of them start.
        let factory: Factory = Arc::new(move |unit| {
            if let Some(gate) = gate.lock().expect("the gate").take() {
                gate.recv().expect("the test opens it");
            }
            factory(unit)
        });
        UnitSpec { factory, ..sound }
    };
    let node = site.node_of("a", options, (0..24).map(held_up).collect());
    let count = |state: &str| node.handle.me.borrow().units.iter().filter(|report| report.state == state).count();
    // The second one may have got through before the thread was held.
    wait::until_true("two that start, and all others wait", || {
        let (running, starting) = (count("running"), count("starting"));
        assert!(starting <= 2, "{starting} start at a time");
        starting == 2 && running <= 2 && node.metrics.starts_waiting.get() == 22 - running as i64
    })
    .await;
    open.send(()).expect("somebody waits");
    wait::until_true("all of them", || count("running") == 24).await;
    assert_eq!(node.metrics.starts_waiting.get(), 0);
    node.drain().await;
}
