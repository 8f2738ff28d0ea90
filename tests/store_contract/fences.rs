//! G2 and G3: only the newest holder commits, a repeat changes nothing, and a turn decided again is another commit.

use std::time::Duration;

use gapless::store::StoreError;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Fate, Lease, Mail};

use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::world::{LEASE, LONG_LEASE, World, append, copy, link_with, number, numbers, options};

fn is_fenced<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Fenced { .. }))
}

/// Commits that append these numbers to `out`.
fn write(numbers: &[u64]) -> Commit {
    Commit { effects: vec![append("out", numbers)], ..Commit::default() }
}

/// A world whose node reaches Redis through a proxy, and gives each try up soon.
async fn behind_proxy() -> (World, Proxy) {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port).await;
    let mut options = options(&proxy.url(), LONG_LEASE);
    options.command_timeout = Duration::from_millis(120);
    let world = World::through(server, link_with(options)).await;
    // Loads the scripts, so that the first sending of each is the one that counts.
    let lease = world.acquire("warm").await.expect("free");
    lease.claim().await.expect("nothing");
    lease.commit(&write(&[])).await.expect("a commit");
    (world, proxy)
}

/// The commits that Redis has made for a unit, asked beside the proxy.
fn seq(world: &World, actor: &str) -> String {
    world.server.text(&["EVAL", "return redis.call('HGET', KEYS[1], 'seq') or '0'", "1", &world.checkpoint(actor)])
}

/// How many scripts Redis has run.
fn scripts_run(world: &World) -> u64 {
    let stats = world.server.text(&["INFO", "commandstats"]);
    let calls = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    calls("cmdstat_evalsha") + calls("cmdstat_eval")
}

/// Whatever a former holder tries is refused, and changes nothing.
async fn assert_can_do_nothing(world: &World, lease: &Lease) {
    let before = world.keyspace();
    assert!(is_fenced(&lease.commit(&write(&[1])).await));
    assert!(is_fenced(&lease.claim().await));
    assert!(!world.beat(&world.link, lease.unit(), Some(lease)).await.renewed);
    lease.release().await.expect("no error");
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn a_former_holder_is_refused_and_changes_nothing() {
    let world = World::with_lease(LEASE).await;
    world.send_all("tally", 1..=3).await;
    let (zombie, idle) = (world.acquire("tally").await.expect("free"), world.acquire("idle").await.expect("free"));
    let delivery = zombie.claim().await.expect("a delivery");
    let heir = world.take_over(zombie.unit()).await;
    world.take_over(idle.unit()).await;
    assert!(heir.held().token > zombie.held().token);
    assert_eq!(heir.node_before, "node-a");
    let before = world.keyspace();
    assert!(is_fenced(&zombie.commit(&copy(&delivery)).await));
    assert!(is_fenced(&zombie.commit(&Commit::default()).await));
    assert!(is_fenced(&idle.claim().await));
    let seen = world.beat(&world.link, zombie.unit(), Some(&zombie)).await;
    assert_eq!((seen.renewed, seen.owner), (false, heir.held().owner));
    zombie.release().await.expect("releasing what is gone is no error");
    assert_eq!(world.keyspace(), before);
    for entry in &delivery.entries {
        let served = heir.claim().await.expect("a delivery");
        assert_eq!(served.entries, std::slice::from_ref(entry));
        assert_eq!(heir.commit(&copy(&served)).await, Ok(Committed::Now));
    }
    assert_eq!(world.output("out").await, [1, 2, 3]);
}

#[actix_rt::test]
async fn an_equal_token_under_another_owner_is_refused() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    world.server.command(&["HSET", &world.checkpoint("tally"), "owner", "somebody else"]);
    assert_can_do_nothing(&world, &lease).await;
}

#[actix_rt::test]
async fn an_old_token_under_the_same_owner_is_refused() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let newer = (lease.held().token.0 + 1).to_string();
    world.server.command(&["HSET", &world.checkpoint("tally"), "token", &newer]);
    assert_can_do_nothing(&world, &lease).await;
}

#[actix_rt::test]
async fn a_decision_that_rests_on_another_tip_is_refused() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    world.send("tally", 1).await;
    world.server.command(&["HSET", &world.checkpoint("tally"), "tip", "another history"]);
    let before = world.keyspace();
    assert_eq!(lease.commit(&write(&[1])).await, Err(StoreError::Moved { seq: 0 }));
    assert_eq!(lease.claim().await, Err(StoreError::Moved { seq: 0 }));
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn a_lease_is_taken_over_only_after_it_ran_out_and_released_at_once() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let refused = world.acquire("tally").await;
    assert!(matches!(&refused, Err(StoreError::Held { node, left_ms }) if node == "node-a" && *left_ms > 50_000));
    assert!(world.beat(&world.link, lease.unit(), None).await.left_ms > 50_000);
    lease.release().await.expect("released");
    assert_eq!(world.beat(&world.link, lease.unit(), None).await.left_ms, 0);
    let expiry = world.store.keys.expiry(lease.unit());
    assert_eq!(world.server.command(&["EXISTS", &expiry]), redis::Value::Int(0), "and leaves nothing behind");
    assert!(world.acquire("tally").await.is_ok());
}

#[actix_rt::test]
async fn a_renewed_lease_stays_and_one_that_ran_out_unnoticed_may_go_on() {
    let world = World::with_lease(LEASE).await;
    let lease = world.acquire("tally").await.expect("free");
    let free = || async { world.beat(&world.link, lease.unit(), None).await.left_ms == 0 };
    wait::until("the lease to run out", free).await;
    // Nobody took it, so it may be renewed, and committed under.
    let long = link_with(options(&world.server.url(), LONG_LEASE));
    assert!(world.beat(&long, lease.unit(), Some(&lease)).await.renewed);
    assert!(matches!(world.acquire("tally").await, Err(StoreError::Held { .. })));
    assert_eq!(lease.commit(&write(&[1])).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn clock_back_takeover_an_expiry_farther_away_than_its_lease_counts_as_expired() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let in_an_hour =
        world.server.text(&["EVAL", "return string.format('%.0f', redis.call('TIME')[1] * 1000 + 3600000)", "0"]);
    let key = world.store.keys.expiry(lease.unit());
    world.server.command(&["SET", &key, &format!("{in_an_hour} 60000")]);
    assert_eq!(world.beat(&world.link, lease.unit(), None).await.left_ms, 0);
    let heir = world.acquire("tally").await.expect("a lease that no clock can have written is free");
    assert!(heir.held().token > lease.held().token);
    assert!(is_fenced(&lease.commit(&write(&[1])).await));
    // One that nobody can read is free too, and stops nobody else's renewal.
    let other = world.acquire("other").await.expect("free");
    world.server.command(&["SET", &key, "nonsense"]);
    world.server.command(&["SET", &world.checkpoint("broken"), "nonsense"]);
    let units = [
        (world.unit("broken"), None),
        (world.unit("tally"), None),
        (world.unit("other"), Some((other.held().token, other.held().owner))),
    ];
    let seen = world.store.beat(&world.link, &world.pipeline, &units).await.expect("a beat");
    assert_eq!((seen[1].left_ms, seen[2].renewed), (0, true));
    world.acquire("tally").await.expect("free");
}

#[actix_rt::test]
async fn tokens_rise_even_when_redis_forgot_the_last_one() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let first = lease.held().token;
    world.server.command(&["HSET", &world.checkpoint("tally"), "token", "7"]);
    let second = world.again(&lease, &Fate::Clean).await.expect("ours");
    assert!(second.held().token > first, "{} is not above {first}", second.held().token);
    // And above a token of a clock that went ahead.
    world.server.command(&["HSET", &world.checkpoint("tally"), "token", "4000000000000000"]);
    let third = world.again(&second, &Fate::Clean).await.expect("ours");
    assert_eq!(third.held().token.0, 4_000_000_000_000_001);
}

#[actix_rt::test]
async fn an_acquire_that_had_to_be_resent_is_followed_by_one_that_cannot_come_late() {
    let (world, proxy) = behind_proxy().await;
    proxy.set(Faults { drop_answers: true, ..Faults::default() });
    let history = world.store.keys.history(&world.unit("tally"));
    let reached = || world.server.command(&["LLEN", &history]) != redis::Value::Int(0);
    let (lease, ()) = tokio::join!(world.acquire("tally"), async {
        wait::until_true("the acquire to reach Redis", reached).await;
        proxy.heal();
    });
    let lease = lease.expect("an answer at last");
    // The repeat found the first copy done; then the unit was acquired anew, from that acquisition, so that a copy
    // which comes late in another history meets another owner.
    assert_eq!(world.server.command(&["LLEN", &history]), redis::Value::Int(2), "acquired twice");
    assert_eq!(
        world.store.checkpoint(&world.link, &world.unit("tally")).await.expect("an answer").expect("stored").unfinished,
        0,
        "and counted nothing"
    );
    assert_eq!(lease.commit(&write(&[1])).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn a_commit_whose_answer_was_lost_is_asked_for_again_and_changes_nothing() {
    let (world, proxy) = behind_proxy().await;
    world.send_all("tally", 1..=3).await;
    let lease = world.acquire("tally").await.expect("free");
    let commit = copy(&lease.claim().await.expect("a delivery"));
    proxy.set(Faults { drop_answers: true, ..Faults::default() });
    let (committed, before) = tokio::join!(lease.commit(&commit), async {
        wait::until_true("the commit to reach Redis", || seq(&world, "tally") == "1").await;
        let before = world.keyspace();
        proxy.heal();
        before
    });
    assert_eq!(committed, Ok(Committed::Before));
    assert_eq!(world.keyspace(), before);
    assert_eq!(world.output("out").await, [1, 2, 3]);
    // What follows a DUP is a read of its own, and the turns go on.
    world.send("tally", 4).await;
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!(numbers(&delivery), [4]);
    assert_eq!(lease.commit(&copy(&delivery)).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn a_read_whose_answer_was_lost_is_served_again() {
    let (world, proxy) = behind_proxy().await;
    world.send_all("tally", 1..=3).await;
    let lease = world.acquire("tally").await.expect("free");
    let tip = || world.server.text(&["HGET", &world.checkpoint("tally"), "tip"]);
    let before = tip();
    proxy.set(Faults { drop_answers: true, ..Faults::default() });
    let (delivery, ()) = tokio::join!(lease.claim(), async {
        wait::until_true("the read to reach Redis", || tip() != before).await;
        proxy.heal();
    });
    let delivery = delivery.expect("an answer at last");
    assert_eq!(numbers(&delivery), [1, 2, 3]);
    assert_eq!(lease.commit(&copy(&delivery)).await, Ok(Committed::Now));
}

/// A commit times out and stays under way; its repeat is refused as FULL; the actor decides anew.
async fn full_while_under_way(world: &World, proxy: &Proxy, lease: &Lease) {
    world.send("peer", 1).await;
    let send = Effect::Send { to: world.address("peer"), capacity: 1, messages: vec![number(2)] };
    let first = Commit { effects: vec![append("out", &[1, 2]), send], ..Commit::default() };
    proxy.strand();
    let refused = lease.commit(&first).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    world.server.command(&["DEL", &world.mailbox("peer")]);
}

#[actix_rt::test]
async fn redecide_after_full_the_late_first_commit_lands_before_the_second() {
    let (world, proxy) = behind_proxy().await;
    let lease = world.acquire("tally").await.expect("free");
    full_while_under_way(&world, &proxy, &lease).await;
    proxy.heal();
    wait::until_true("the late commit to land", || seq(&world, "tally") == "1").await;
    assert_eq!(lease.commit(&write(&[1, 2, 3])).await, Err(StoreError::Moved { seq: 1 }));
    assert_eq!(world.output("out").await, [1, 2]);
    // Reload, decide again: nothing is lost and nothing doubled.
    let lease = world.again(&lease, &Fate::Clean).await.expect("ours");
    assert_eq!((lease.held().seq, lease.commit(&write(&[3])).await), (1, Ok(Committed::Now)));
    assert_eq!(world.output("out").await, [1, 2, 3]);
}

#[actix_rt::test]
async fn redecide_after_full_the_late_first_commit_lands_after_the_second() {
    let (world, proxy) = behind_proxy().await;
    let lease = world.acquire("tally").await.expect("free");
    full_while_under_way(&world, &proxy, &lease).await;
    assert!(lease.commit(&write(&[1, 2, 3])).await.is_ok());
    let (before, run) = (world.keyspace(), scripts_run(&world));
    proxy.heal();
    wait::until_true("the late commit to land", || scripts_run(&world) > run).await;
    assert_eq!(world.keyspace(), before);
    assert_eq!(world.output("out").await, [1, 2, 3]);
}

#[actix_rt::test]
async fn cut_with_commit_in_flight_the_late_commit_is_refused() {
    let (world, proxy) = behind_proxy().await;
    let lease = world.acquire("tally").await.expect("free");
    let even = lease.operations();
    assert_eq!(even % 2, 0);
    proxy.strand();
    // The turn is cut while its commit is under way.
    let cut = tokio::time::timeout(Duration::from_millis(10), lease.commit(&write(&[1, 2]))).await;
    assert!(cut.is_err(), "the commit was not cut: {cut:?}");
    assert_eq!(lease.operations() % 2, 1, "a tip may be on its way");
    let heir = world.again(&lease, &Fate::Clean).await.expect("ours");
    assert!(heir.commit(&write(&[1, 2, 3])).await.is_ok());
    let (before, run) = (world.keyspace(), scripts_run(&world));
    proxy.heal();
    wait::until_true("the late commit and acquire to land", || scripts_run(&world) >= run + 2).await;
    assert_eq!(world.keyspace(), before);
    assert_eq!(world.output("out").await, [1, 2, 3]);
    assert!(heir.commit(&write(&[4])).await.is_ok());
}

#[actix_rt::test]
async fn after_a_cut_the_same_lease_may_go_on_and_learns_what_landed() {
    let (world, proxy) = behind_proxy().await;
    let lease = world.acquire("tally").await.expect("free");
    proxy.strand();
    let cut = tokio::time::timeout(Duration::from_millis(10), lease.commit(&write(&[1, 2]))).await;
    assert!(cut.is_err(), "the commit was not cut: {cut:?}");
    // Another turn of the same lease: odd while under way, even once an answer has made the late one harmless.
    assert!(lease.commit(&write(&[1, 2, 3])).await.is_ok());
    assert_eq!(lease.operations() % 2, 0, "an answer came, and what is late can only be refused");
    let (before, run) = (world.keyspace(), scripts_run(&world));
    proxy.heal();
    wait::until_true("the late commits to land", || scripts_run(&world) >= run + 2).await;
    assert_eq!(world.keyspace(), before);
    assert_eq!(world.output("out").await, [1, 2, 3]);
}

#[actix_rt::test]
async fn a_checkpoint_of_a_newer_release_is_left_to_it() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    lease.release().await.expect("released");
    world.server.command(&["HSET", &world.checkpoint("tally"), "needs", "9"]);
    let before = world.keyspace();
    assert_eq!(
        world.acquire("tally").await.err(),
        Some(StoreError::TooOld { needs: 9, known: gapless::store::format::NEWEST })
    );
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn an_emptied_redis_is_met_as_alien() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    world.server.command(&["FLUSHALL"]);
    assert!(is_fenced(&lease.commit(&write(&[1])).await));
    let alien = Err(StoreError::Alien { expected: world.store.cluster.to_string(), found: String::new() });
    assert_eq!(world.again(&lease, &Fate::Clean).await.map(|lease| lease.held()), alien);
    assert_eq!(world.keyspace(), [].into(), "nothing was written into it");
    // Another node makes it its own meanwhile.
    let other = gapless::ids::RandomId::new();
    let store = gapless::store::Store::new("t", "node-b", other.clone());
    store.mark_pipeline(&world.link, &world.pipeline, false).await.expect("marked");
    let found = world.acquire("tally").await.map(|lease| lease.held());
    assert_eq!(found, Err(StoreError::Alien { expected: world.store.cluster.to_string(), found: other.to_string() }));
    world.store.mark_pipeline(&world.link, &world.pipeline, true).await.expect("the operator accepts the loss");
    let unit = world.unit("tally");
    let taken = Lease::acquire(&world.store, &world.link, &unit, Mail::Offset, None, &Fate::Clean).await;
    assert!(taken.is_ok());
}
