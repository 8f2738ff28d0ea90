//! A mailbox that slots share: each entry to one slot at a time, none lost.

use gapless::ids::{EntryId, UnitId};
use gapless::messages::heights::HeightRange;
use gapless::store::StoreError;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::pool::Owed;

use crate::world::{LEASE, World, copy, number, numbers};

async fn served(lease: &Lease) -> Vec<u64> {
    numbers(&lease.claim().await.expect("a delivery"))
}

async fn finish(lease: &Lease) -> Result<Committed, StoreError> {
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await
}

#[actix_rt::test]
async fn each_entry_goes_to_one_slot_at_a_time_and_is_gone_when_acknowledged() {
    let world = World::new().await;
    world.send_all("fixer", 1..=5).await;
    let (zero, one) = (world.slot("fixer", 0).await, world.slot("fixer", 1).await);
    assert_eq!((served(&zero).await, served(&one).await), (vec![1], vec![2]));
    assert_eq!(served(&zero).await, [1], "one turn in flight");
    assert_eq!(finish(&one).await, Ok(Committed::Now));
    assert_eq!(served(&one).await, [3]);
    assert_eq!(finish(&zero).await, Ok(Committed::Now));
    while !served(&zero).await.is_empty() {
        assert_eq!(finish(&zero).await, Ok(Committed::Now));
    }
    assert_eq!(finish(&one).await, Ok(Committed::Now));
    assert_eq!(served(&one).await, [] as [u64; 0]);
    assert_eq!(world.output("out").await, [2, 1, 4, 5, 3]);
    assert_eq!(world.server.command(&["XLEN", &world.mailbox("fixer")]), redis::Value::Int(0));
    let pending = world.server.command(&["XPENDING", &world.mailbox("fixer"), "pool", "-", "+", "10"]);
    assert_eq!(pending, redis::Value::Array(Vec::new()));
}

#[actix_rt::test]
async fn what_a_slot_owes_is_served_again_only_under_that_slots_lease() {
    let world = World::with_lease(LEASE).await;
    world.send_all("fixer", 1..=2).await;
    let zero = world.slot("fixer", 0).await;
    assert_eq!(served(&zero).await, [1]);
    let one = world.slot("fixer", 1).await;
    assert_eq!(served(&one).await, [2]);
    assert_eq!(finish(&one).await, Ok(Committed::Now));
    assert_eq!(served(&one).await, [] as [u64; 0], "the entry of slot 0 is not for slot 1");
    let heir = world.take_over(zero.unit()).await;
    let delivery = heir.claim().await.expect("a delivery");
    assert_eq!((numbers(&delivery), delivery.unfinished), (vec![1], 1));
    assert!(matches!(finish(&zero).await, Err(StoreError::Fenced { .. })));
    assert_eq!(finish(&heir).await, Ok(Committed::Now));
    assert_eq!(world.output("out").await, [2, 1]);
}

#[actix_rt::test]
async fn failed_attempts_follow_an_entry_of_a_pool() {
    let world = World::new().await;
    world.send_all("fixer", 1..=2).await;
    let lease = world.slot("fixer", 0).await;
    assert_eq!(served(&lease).await, [1]);
    let lease = world.again(&lease, &Fate::Failed("a panic".to_owned())).await.expect("ours");
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!((numbers(&delivery), delivery.failed, delivery.fault.as_str()), (vec![1], 1, "a panic"));
    // Kept through a commit that does not acknowledge it.
    lease.commit(&Commit::default()).await.expect("a commit");
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!((numbers(&delivery), delivery.failed), (vec![1], 1));
    assert_eq!(finish(&lease).await, Ok(Committed::Now));
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!((numbers(&delivery), delivery.failed), (vec![2], 0));
}

#[actix_rt::test]
async fn entries_deleted_under_a_slot_are_skipped() {
    let world = World::new().await;
    let first = world.send("fixer", 1).await;
    world.send("fixer", 2).await;
    let lease = world.slot("fixer", 0).await;
    assert_eq!(served(&lease).await, [1]);
    lease.release().await.expect("released");
    world.server.command(&["XDEL", &world.mailbox("fixer"), &first.to_string()]);
    let lease = world.slot("fixer", 0).await;
    assert_eq!(served(&lease).await, [2]);
    let pending = world.server.command(&["XPENDING", &world.mailbox("fixer"), "pool", "-", "+", "10"]);
    assert!(matches!(&pending, redis::Value::Array(rows) if rows.len() == 1), "{pending:?}");
}

#[actix_rt::test]
async fn a_lost_group_is_made_again_without_loss_or_doubles() {
    let world = World::new().await;
    world.send_all("fixer", 1..=3).await;
    let (zero, one) = (world.slot("fixer", 0).await, world.slot("fixer", 1).await);
    assert_eq!((served(&zero).await, served(&one).await), (vec![1], vec![2]));
    world.server.command(&["XGROUP", "DESTROY", &world.mailbox("fixer"), "pool"]);
    // Slot 2 meets a group that is gone, makes it again, and gets what slot 0 had in hand.
    let two = world.slot("fixer", 2).await;
    assert_eq!(served(&two).await, [1]);
    assert!(matches!(finish(&zero).await, Err(StoreError::Moved { .. })), "slot 0 lost its entry");
    assert_eq!(finish(&two).await, Ok(Committed::Now));
    world.server.command(&["XGROUP", "DESTROY", &world.mailbox("fixer"), "pool"]);
    assert!(matches!(finish(&one).await, Err(StoreError::Moved { .. })), "no group, no entry in hand");
    assert_eq!(served(&two).await, [2], "a read makes the group again");
    let (zero, one) =
        (world.again(&zero, &Fate::Clean).await.expect("ours"), world.again(&one, &Fate::Clean).await.expect("ours"));
    assert_eq!((served(&zero).await, served(&one).await), (vec![3], vec![]));
    assert_eq!((finish(&zero).await, finish(&two).await), (Ok(Committed::Now), Ok(Committed::Now)));
    assert_eq!(world.output("out").await, [1, 3, 2]);
}

#[actix_rt::test]
async fn gapfixer_resend_when_full_a_remainder_passes_and_growth_is_refused() {
    let world = World::new().await;
    world.send_all("fixer", 1..=3).await;
    let lease = world.slot("fixer", 0).await;
    let delivery = lease.claim().await.expect("a delivery");
    let resend = |n: u64| {
        let messages = (0..n).map(|k| number(100 + k)).collect();
        let mut commit = copy(&delivery);
        commit.effects.push(Effect::Send { to: world.address("fixer"), capacity: 3, messages });
        commit
    };
    let before = world.keyspace();
    assert_eq!(lease.commit(&resend(2)).await, Err(StoreError::Full { key: world.mailbox("fixer") }));
    assert_eq!(world.keyspace(), before);
    assert_eq!(lease.commit(&resend(1)).await, Ok(Committed::Now));
    let waiting = world.store.peek(&world.link, &world.address("fixer"), EntryId::ZERO, 10).await.expect("entries");
    let bodies: Vec<_> = waiting.iter().filter_map(|entry| entry.text("body")).collect();
    assert_eq!(bodies, ["{\"n\":2}", "{\"n\":3}", "{\"n\":100}"]);
}

#[actix_rt::test]
async fn a_task_that_is_set_aside_parks_its_range_in_the_same_commit() {
    let world = World::new().await;
    world.send("fixer", 1).await;
    let lease = world.slot("fixer", 0).await;
    let delivery = lease.claim().await.expect("a delivery");
    let range = HeightRange::new(5, 9).expect("a range");
    let mut commit = copy(&delivery);
    commit.effects = vec![
        Effect::Cover { range, resent: Vec::new() },
        Effect::Bury { of: world.address("fixer"), fields: delivery.entries[0].fields.clone() },
        Effect::Park { range, reason: "five failed attempts".to_owned() },
    ];
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    let parked = world.store.parked(&world.link, &world.pipeline, range).await.expect("intervals");
    assert_eq!((parked.len(), parked[0].range), (1, range));
    let depth = world.store.depth(&world.link, &world.address("fixer")).await.expect("a depth");
    assert_eq!((depth.entries, depth.dead), (0, 1));
}

/// The slot as somebody takes it whose configuration has it no more.
async fn removed(world: &World, slot: u32) -> Result<Lease, StoreError> {
    let unit = UnitId::slot(&world.pipeline, "fixer", slot);
    Lease::acquire(&world.other_store(), &world.link, &unit, Mail::Owed, None, &Fate::Clean).await
}

#[actix_rt::test]
async fn a_removed_slot_is_drained_under_its_own_lease_and_gets_nothing_new() {
    let world = World::with_lease(LEASE).await;
    assert_eq!(world.store.owed(&world.link, &world.address("fixer")).await, Ok(Vec::new()), "no mailbox owes nothing");
    world.send_all("fixer", 1..=4).await;
    let (zero, three) = (world.slot("fixer", 0).await, world.slot("fixer", 3).await);
    assert_eq!((served(&zero).await, served(&three).await), (vec![1], vec![2]));
    let owed = world.store.owed(&world.link, &world.address("fixer")).await.expect("what is owed");
    assert_eq!(owed, [Owed { slot: 0, entries: 1 }, Owed { slot: 3, entries: 1 }]);
    // As long as its holder may live, nobody drains it.
    assert!(matches!(removed(&world, 3).await, Err(StoreError::Held { .. })));
    assert_eq!(finish(&zero).await, Ok(Committed::Now));
    assert_eq!(served(&zero).await, [3], "a configured slot does not get what another one owes");
    let drain =
        crate::support::wait::until_some("the lease to run out", || async { removed(&world, 3).await.ok() }).await;
    let delivery = drain.claim().await.expect("a delivery");
    assert_eq!((numbers(&delivery), delivery.unfinished), (vec![2], 1), "attempts follow the entry");
    assert!(!drain.has_settled());
    assert!(matches!(finish(&three).await, Err(StoreError::Fenced { .. })), "the former holder woke up");
    assert_eq!(finish(&drain).await, Ok(Committed::Now));
    assert_eq!(served(&drain).await, [] as [u64; 0], "entry 4 is new: not for a removed slot");
    assert!(drain.has_settled());
    drain.release().await.expect("released");
    let owed = world.store.owed(&world.link, &world.address("fixer")).await.expect("what is owed");
    assert_eq!(owed, [Owed { slot: 0, entries: 1 }]);
    // The count grows again: the slot works as if it had never been gone.
    let three = world.slot("fixer", 3).await;
    assert_eq!(served(&three).await, [4]);
    assert_eq!((finish(&zero).await, finish(&three).await), (Ok(Committed::Now), Ok(Committed::Now)));
    assert_eq!(world.output("out").await, [1, 2, 3, 4]);
}

#[actix_rt::test]
async fn what_slots_owe_is_told_without_a_group_and_among_foreign_consumers() {
    let world = World::new().await;
    world.send("fixer", 1).await;
    let owed = || async { world.store.owed(&world.link, &world.address("fixer")).await };
    assert_eq!(owed().await, Ok(Vec::new()), "no group yet");
    let lease = world.slot("fixer", 10).await;
    assert_eq!(owed().await, Ok(Vec::new()));
    world.send("fixer", 2).await;
    assert_eq!(served(&lease).await, [1]);
    let mailbox = world.mailbox("fixer");
    world.server.command(&["XREADGROUP", "GROUP", "pool", "somebody", "STREAMS", &mailbox, ">"]);
    assert_eq!(owed().await, Ok(vec![Owed { slot: 10, entries: 1 }]));
    world.server.command(&["SET", &world.mailbox("other"), "no stream"]);
    let broken = world.store.owed(&world.link, &world.address("other")).await;
    assert!(matches!(broken, Err(StoreError::Refused { .. })), "{broken:?}");
}
