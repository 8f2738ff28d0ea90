//! Entries of a pool that come again later: with their identity and attempts, counted, bounded, and once.

use std::time::Duration;

use gapless::ids::EntryId;
use gapless::store::StoreError;
use gapless::store::effect::{Commit, Effect, Outgoing};
use gapless::store::lease::{Committed, Fate, Lease};

use crate::support::wait;
use crate::world::{World, ack, copy, number, numbers};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(200);

/// The turn that lets the entry in hand come again as number `n`.
async fn again(world: &World, lease: &Lease, after: Duration, n: u64) -> Commit {
    let delivery = lease.claim().await.expect("a delivery");
    let effects = vec![Effect::Again { of: world.address("fixer"), after, message: number(n) }];
    Commit { state: None, ack: ack(&delivery), effects }
}

async fn put_off(world: &World, lease: &Lease, after: Duration, n: u64) {
    assert_eq!(lease.commit(&again(world, lease, after, n).await).await, Ok(Committed::Now));
}

async fn depth(world: &World) -> (u64, u64) {
    let depth = world.store.depth(&world.link, &world.address("fixer")).await.expect("a depth");
    (depth.entries, depth.later)
}

/// Waits until the slot is served something, and answers the number.
async fn served(lease: &Lease) -> u64 {
    wait::until_some("an entry", || async { numbers(&lease.claim().await.expect("a delivery")).first().copied() }).await
}

#[actix_rt::test]
async fn an_entry_comes_again_once_with_its_identity_and_its_attempts() {
    let world = World::new().await;
    let to = world.address("fixer");
    let first = world.server.text(&[
        "XADD",
        &world.mailbox("fixer"),
        "*",
        "type",
        "number",
        "body",
        "{\"n\":1}",
        "id",
        "import-7",
        "traceparent",
        "00-1",
        "colour",
        "red",
    ]);
    let lease = world.slot("fixer", 0).await;
    assert_eq!(served(&lease).await, 1);
    let lease = world.again(&lease, &Fate::Failed("a panic".to_owned())).await.expect("ours");
    assert_eq!(lease.claim().await.expect("a delivery").failed, 1);
    put_off(&world, &lease, Duration::ZERO, 2).await;
    // Any slot may be the next to have it; what it went through is known there.
    lease.release().await.expect("released");
    let other = world.slot("fixer", 1).await;
    assert_eq!(served(&other).await, 2);
    let delivery = other.claim().await.expect("a delivery");
    assert_eq!((delivery.failed, delivery.unfinished, delivery.fault.as_str()), (1, 0, "a panic"));
    let text = |name: &str| delivery.entries[0].text(name).unwrap_or_default();
    assert_eq!(["id", "traceparent", "colour", "later.first"].map(text), ["import-7", "00-1", "red", first.as_str()]);
    // Twice more, with another failure in between: they add up, so that poison dies however often it is put off.
    let other = world.again(&other, &Fate::Failed("another".to_owned())).await.expect("ours");
    assert_eq!(other.claim().await.expect("a delivery").failed, 2);
    put_off(&world, &other, Duration::ZERO, 3).await;
    assert_eq!(served(&other).await, 3);
    put_off(&world, &other, Duration::ZERO, 4).await;
    assert_eq!(served(&other).await, 4);
    let delivery = other.claim().await.expect("a delivery");
    assert_eq!((delivery.failed, delivery.fault.as_str()), (2, "another"));
    let fields = &delivery.entries[0].fields;
    let of = |name: &str| fields.iter().filter(|(field, _)| field == name.as_bytes()).count();
    assert_eq!(["type", "body", "id", "later.first", "later.times", "later.failed"].map(of), [1; 6]);
    assert_eq!(delivery.entries[0].text("later.times").as_deref(), Some("3"));
    assert_eq!(other.commit(&copy(&delivery)).await, Ok(Committed::Now));
    assert_eq!((depth(&world).await, world.output("out").await), ((0, 0), vec![4]));
    assert_eq!(world.store.depth(&world.link, &to).await.expect("a depth").next_ms, None);
}

#[actix_rt::test]
async fn the_slot_is_free_meanwhile_and_what_waits_is_counted() {
    let world = World::new().await;
    world.send_all("fixer", 1..=3).await;
    let lease = world.slot("fixer", 0).await;
    put_off(&world, &lease, LONG, 1).await;
    assert_eq!(served(&lease).await, 2);
    put_off(&world, &lease, LONG, 2).await;
    assert_eq!(depth(&world).await, (1, 2));
    // From outside, from another turn, and by the turn that puts off: room is counted with what comes later.
    let (store, to) = (&world.store, world.address("fixer"));
    let full = Err(StoreError::Full { key: world.mailbox("fixer") });
    assert_eq!(store.send(&world.link, &to, 3, None, &number(9)).await, full);
    let send = Effect::Send { to: to.clone(), capacity: 3, messages: vec![number(9)] };
    let sender = world.acquire("sender").await.expect("free");
    let sent = Commit { effects: vec![send.clone()], ..Commit::default() };
    assert_eq!(sender.commit(&sent).await, Err(StoreError::Full { key: world.mailbox("fixer") }));
    let mut both = again(&world, &lease, LONG, 3).await;
    both.effects.push(send);
    let before = world.keyspace();
    assert_eq!(lease.commit(&both).await, Err(StoreError::Full { key: world.mailbox("fixer") }));
    assert_eq!(world.keyspace(), before);
    both.effects.pop();
    assert_eq!(lease.commit(&both).await, Ok(Committed::Now), "no growth: it passes a full mailbox");
    assert_eq!(depth(&world).await, (0, 3));
    // Nothing is due, and the slot is told how long it may sleep.
    let idle = lease.claim().await.expect("nothing");
    assert!(idle.entries.is_empty());
    let next = idle.next_ms.expect("a time");
    assert!(next > 100_000 && next <= 200_000, "{next}");
    assert!(world.store.depth(&world.link, &to).await.expect("a depth").next_ms.is_some());
}

#[actix_rt::test]
async fn a_repeat_puts_off_nothing_twice_and_a_former_holder_nothing_at_all() {
    let world = World::new().await;
    world.send("fixer", 1).await;
    let lease = world.slot("fixer", 0).await;
    let commit = again(&world, &lease, LONG, 1).await;
    let heir = world.again(&lease, &Fate::Clean).await.expect("ours");
    let before = world.keyspace();
    assert!(matches!(lease.commit(&commit).await, Err(StoreError::Fenced { .. })));
    assert_eq!(world.keyspace(), before);
    put_off(&world, &heir, LONG, 1).await;
    // The group was destroyed under the slot: whoever has the entry now decides.
    world.send("fixer", 2).await;
    let commit = again(&world, &heir, LONG, 2).await;
    world.server.command(&["XGROUP", "DESTROY", &world.mailbox("fixer"), "pool"]);
    assert!(matches!(heir.commit(&commit).await, Err(StoreError::Moved { .. })));
    assert_eq!(depth(&world).await, (1, 1));
}

#[actix_rt::test]
async fn only_a_pool_puts_off() {
    let world = World::new().await;
    world.send("fixer", 1).await;
    let lease = world.acquire("fixer").await.expect("free");
    let commit = again(&world, &lease, LONG, 1).await;
    let before = world.keyspace();
    assert!(matches!(lease.commit(&commit).await, Err(StoreError::Broken { .. })));
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn what_is_due_comes_in_bounded_parts_and_behind_what_waits() {
    let world = World::new().await;
    world.send_all("fixer", 1..=50).await;
    let lease = world.slot("fixer", 0).await;
    for n in 1..=50 {
        put_off(&world, &lease, LONG, n).await;
    }
    assert_eq!(depth(&world).await, (0, 50));
    // All of them are due at once, as after an outage.
    let later = world.store.keys.later(&world.address("fixer"));
    let due = "for i, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], i, m) end";
    world.server.command(&["EVAL", due, "1", &later]);
    assert_eq!(served(&lease).await, 1);
    assert_eq!(depth(&world).await, (20, 30));
    world.send("fixer", 51).await;
    let mut order = Vec::new();
    while depth(&world).await != (0, 0) {
        order.push(served(&lease).await);
        lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    }
    order.sort_unstable();
    assert_eq!(order, (1..=51).collect::<Vec<_>>(), "each once");
}

#[actix_rt::test]
async fn a_clock_that_went_back_keeps_nothing_waiting() {
    let world = World::new().await;
    world.send("fixer", 1).await;
    let lease = world.slot("fixer", 0).await;
    put_off(&world, &lease, LONG, 1).await;
    let later = world.store.keys.later(&world.address("fixer"));
    // Farther away than anything can be put off.
    let far = "local m = redis.call('ZRANGE', KEYS[1], 0, 0)[1] redis.call('ZADD', KEYS[1], 'INCR', 3600000, m)";
    world.server.command(&["EVAL", far, "1", &later]);
    assert_eq!(served(&lease).await, 1);
}

#[actix_rt::test]
async fn foreign_members_and_keys_are_told() {
    let world = World::new().await;
    let (to, later) = (world.address("fixer"), world.store.keys.later(&world.address("fixer")));
    let lease = world.slot("fixer", 0).await;
    world.server.command(&["ZADD", &later, "5", "no entry of ours"]);
    let entry =
        wait::until_some("the entry", || async { lease.claim().await.expect("a delivery").entries.first().cloned() });
    let entry = entry.await;
    assert_eq!(entry.text("later.unreadable").as_deref(), Some("no entry of ours"), "it is set aside as unreadable");
    lease.commit(&Commit { ack: ack(&lease.claim().await.expect("it")), ..Commit::default() }).await.expect("a commit");
    // Hostile counts are no counts.
    let hostile = ["type", "number", "body", "{\"n\":1}", "later.failed", "1e999", "later.unfinished", "99999999999"];
    world.server.command(&[&["XADD", &world.mailbox("fixer"), "*"], &hostile[..]].concat());
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!((delivery.entries.len(), delivery.failed, delivery.unfinished), (1, 0, 0));
    put_off(&world, &lease, LONG, 1).await;
    world.server.command(&["DEL", &later]);
    world.server.command(&["SET", &later, "x"]);
    assert!(matches!(lease.claim().await, Err(StoreError::Broken { .. })));
    let sent = world.store.send(&world.link, &to, 9, None, &number(1)).await;
    assert!(matches!(sent, Err(StoreError::Broken { .. })), "{sent:?}");
    let send = Effect::Send { to, capacity: 9, messages: vec![Outgoing { kind: "number".into(), body: "{}".into() }] };
    let sender = world.acquire("sender").await.expect("free");
    let sent = sender.commit(&Commit { effects: vec![send], ..Commit::default() }).await;
    assert!(matches!(sent, Err(StoreError::Broken { .. })), "{sent:?}");
    assert_eq!(world.store.peek(&world.link, &world.address("fixer"), EntryId::ZERO, 9).await.expect("none"), []);
}
