//! A unit that breaks again and again is given up for a while: here, not everywhere, and not its siblings.

use std::time::{Duration, Instant};

use gapless::ids::{Kind, PipelineId, UnitId};
use gapless::supervisor::SupervisorOptions;
use gapless::telemetry::metrics::RestartReason;

use crate::frail::{LEASE, Place, Site, Trouble, quick, spec};
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
