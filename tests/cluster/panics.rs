//! Panics and hangs, in each place where an actor can have one: its unit starts again, its neighbour never notices.

use gapless::supervisor::Ended;
use gapless::telemetry::metrics::RestartReason;

use crate::frail::{Place, Site, Trouble, quick};
use crate::support::wait;

async fn breaks_three_times(place: Place, reason: RestartReason) {
    let site = Site::new().await;
    site.send("frail", 1..=30).await;
    let node = site.node("a", quick(), &[("frail", Trouble::new(place, 3)), ("sound", Trouble::none())]);
    site.counted("frail", 30).await;
    site.send("sound", 1..=10).await;
    site.counted("sound", 10).await;
    assert_eq!(node.restarts("frail", reason), 3, "{place:?}");
    let others = [RestartReason::Error, RestartReason::Panic, RestartReason::Hang, RestartReason::Reload];
    for other in others {
        assert_eq!(node.restarts("sound", other), 0, "the neighbour of {place:?} was restarted: {other:?}");
    }
    assert_eq!(site.dead("frail").await, Vec::<String>::new());
    assert_eq!(node.drain().await, Ended::Drained { others: 0 });
}

#[actix_rt::test]
async fn a_panic_in_the_factory() {
    breaks_three_times(Place::Factory, RestartReason::Panic).await;
}

#[actix_rt::test]
async fn a_panic_in_started() {
    breaks_three_times(Place::Started, RestartReason::Panic).await;
}

#[actix_rt::test]
async fn a_panic_in_the_handler() {
    breaks_three_times(Place::Handler, RestartReason::Panic).await;
}

#[actix_rt::test]
async fn a_panic_in_the_turn() {
    breaks_three_times(Place::Turn, RestartReason::Panic).await;
}

#[actix_rt::test]
async fn a_panic_in_a_spawned_future() {
    breaks_three_times(Place::Spawned, RestartReason::Panic).await;
}

#[actix_rt::test]
async fn a_panic_in_a_future_that_the_actor_waits_for() {
    breaks_three_times(Place::Waited, RestartReason::Panic).await;
}

#[actix_rt::test]
async fn a_turn_that_hangs_is_cut() {
    breaks_three_times(Place::Hang, RestartReason::Hang).await;
}

#[actix_rt::test]
async fn an_entry_that_always_fails_is_set_aside_alone_and_the_rest_goes_on() {
    let site = Site::new().await;
    site.send("frail", 1..=1).await;
    // Five failed attempts are the limit, so that is how often it breaks.
    let node = site.node("a", quick(), &[("frail", Trouble::new(Place::Turn, 5))]);
    wait::until("a dead letter", || async { !site.dead("frail").await.is_empty() }).await;
    let dead = site.dead("frail").await;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].contains("5 failed attempts") && dead[0].contains("asked to break in Turn"), "{dead:?}");
    site.send("frail", 2..=4).await;
    wait::until("the rest", || async { site.output("frail").await == [2, 3, 4] }).await;
    node.drain().await;
}

#[actix_rt::test]
async fn a_poison_entry_leaves_its_batch_unharmed() {
    let site = Site::new().await;
    // All of them are one delivery: the poison is in the middle of a batch.
    site.send("frail", 1..=9).await;
    let node = site.node("a", quick(), &[("frail", Trouble::new(Place::Number(4), 0))]);
    wait::until("the others", || async { site.output("frail").await.len() == 8 }).await;
    assert_eq!(site.output("frail").await, [1, 2, 3, 5, 6, 7, 8, 9], "each once, in order");
    let dead = site.dead("frail").await;
    assert_eq!(dead, ["5 failed attempts, the last: panic: number 4 is poison"]);
    assert_eq!(node.restarts("frail", RestartReason::Panic), 6, "once as a batch, then five times alone");
    node.drain().await;
}

#[actix_rt::test]
async fn a_poison_entry_of_a_pool_stops_no_other_slot() {
    let site = Site::new().await;
    site.send("pool", 1..=9).await;
    let specs = crate::frail::pool(&site.pipeline, "pool", 3, &Trouble::new(Place::Number(4), 0));
    let node = site.node_of("a", quick(), specs);
    wait::until("a dead letter and the others", || async {
        site.output("pool").await.len() == 8 && !site.dead("pool").await.is_empty()
    })
    .await;
    let mut output = site.output("pool").await;
    output.sort_unstable();
    assert_eq!(output, [1, 2, 3, 5, 6, 7, 8, 9]);
    assert_eq!(site.dead("pool").await, ["5 failed attempts, the last: panic: number 4 is poison"]);
    assert_eq!(node.restarts("pool", RestartReason::Panic), 5);
    node.drain().await;
}

#[actix_rt::test]
async fn a_world_that_hangs_counts_nothing_against_the_entry_in_hand() {
    let site = Site::new().await;
    site.send("frail", 1..=1).await;
    // More often than the five failed attempts after which an entry is set aside.
    let node = site.node("a", quick(), &[("frail", Trouble::new(Place::Outside, 6))]);
    site.counted("frail", 1).await;
    assert_eq!(node.restarts("frail", RestartReason::Hang), 6, "each hang was cut");
    assert_eq!(site.dead("frail").await, Vec::<String>::new());
    node.drain().await;
}
