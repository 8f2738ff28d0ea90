//! A unit sent back by an operator: its holder is fenced, its mailbox offset stays, and a repeat changes nothing.

use gapless::ids::RandomId;
use gapless::store::effect::Commit;
use gapless::store::lease::{Committed, Lease};
use gapless::store::rewind::Rewind;
use gapless::store::{Store, StoreError};

use crate::world::{World, copy, numbers};

fn stored(state: &str) -> Commit {
    Commit { state: Some(state.to_owned()), ..Commit::default() }
}

async fn rewind(world: &World, lease: &Lease, base: &str, new: &RandomId, state: &str) -> Result<Rewind, StoreError> {
    world.store.rewind(&world.link, lease.unit(), base, new, state).await
}

#[actix_rt::test]
async fn a_rewind_fences_the_holder_and_leaves_the_mailbox_offset_alone() {
    let world = World::new().await;
    world.send_all("tally", 1..=3).await;
    let lease = world.acquire("tally").await.expect("free");
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    world.send_all("tally", 4..=5).await;
    let in_hand = lease.claim().await.expect("a delivery");
    let before = world.store.checkpoint(&world.link, lease.unit()).await.expect("an answer").expect("a checkpoint");
    let (held, new) = (lease.held(), RandomId::new());
    let Ok(Rewind::Now(token)) = rewind(&world, &lease, held.tip.as_str(), &new, r#"{"last":1}"#).await else {
        panic!("no rewind")
    };
    assert!(token > held.token, "the token rises");
    // The holder can do nothing more, wherever it stood in its turn.
    let fenced = lease.commit(&copy(&in_hand)).await;
    assert_eq!(fenced, Err(StoreError::Fenced { token: token.to_string() }));
    assert!(!world.beat(&world.link, lease.unit(), Some(&lease)).await.renewed);
    let shown = world.store.checkpoint(&world.link, lease.unit()).await.expect("an answer").expect("a checkpoint");
    assert_eq!((shown.state.as_str(), shown.owned, shown.seq), (r#"{"last":1}"#, false, before.seq + 1));
    assert_eq!((&shown.offset, shown.tip.as_str()), (&before.offset, new.as_str()));
    // What stood before can be gone back to.
    let past = world.store.history(&world.link, lease.unit()).await.expect("samples");
    assert_eq!((past[0].why.as_str(), &past[0].state, past[0].seq.as_str()), ("rewind", &before.state, "1"));
    // Whoever takes it next, at once, begins there, with the mailbox where it was.
    let heir = world.acquire("tally").await.expect("free at once");
    assert!(heir.held().token > token);
    assert_eq!(heir.state(), r#"{"last":1}"#);
    let delivery = heir.claim().await.expect("a delivery");
    assert_eq!((numbers(&delivery), delivery.unfinished), (vec![4, 5], 0), "no attempt was counted");
    assert_eq!(heir.commit(&copy(&delivery)).await, Ok(Committed::Now));
    assert_eq!(world.output("out").await, [1, 2, 3, 4, 5]);
}

#[actix_rt::test]
async fn a_repeated_rewind_changes_nothing() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    lease.commit(&stored("{}")).await.expect("a commit");
    let (base, new) = (lease.held().tip, RandomId::new());
    let Ok(Rewind::Now(token)) = rewind(&world, &lease, base.as_str(), &new, "[]").await else { panic!("no rewind") };
    let before = world.keyspace();
    assert_eq!(rewind(&world, &lease, base.as_str(), &new, "[]").await, Ok(Rewind::Before(token)));
    assert_eq!(world.keyspace(), before);
    // Once the unit has gone on, a late copy comes too late.
    world.acquire("tally").await.expect("free").commit(&stored("[1]")).await.expect("a commit");
    let before = world.keyspace();
    let late = rewind(&world, &lease, base.as_str(), &new, "[]").await;
    assert!(matches!(late, Err(StoreError::Moved { .. })), "{late:?}");
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn a_rewind_rests_on_the_state_that_it_was_made_from() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let base = lease.held().tip;
    lease.commit(&stored("[1]")).await.expect("a commit");
    let before = world.keyspace();
    let stale = rewind(&world, &lease, base.as_str(), &RandomId::new(), "[]").await;
    assert_eq!(stale, Err(StoreError::Moved { seq: 1 }));
    let never = world.unit("nobody");
    let nothing = world.store.rewind(&world.link, &never, "", &RandomId::new(), "[]").await;
    assert_eq!(nothing, Err(StoreError::Moved { seq: 0 }));
    let tip = lease.held().tip;
    let large = "x".repeat(world.link.options().limits.state_bytes_max + 1);
    let large = rewind(&world, &lease, tip.as_str(), &RandomId::new(), &large).await;
    assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
    // A Redis that is not the one whose state was read.
    let alien = Store { cluster: RandomId::new(), ..world.store.clone() };
    let alien = alien.rewind(&world.link, lease.unit(), tip.as_str(), &RandomId::new(), "[]").await;
    assert!(matches!(alien, Err(StoreError::Alien { .. })), "{alien:?}");
    world.server.command(&["HSET", &world.checkpoint("tally"), "needs", "99"]);
    let newer = rewind(&world, &lease, tip.as_str(), &RandomId::new(), "[]").await;
    assert!(matches!(newer, Err(StoreError::TooOld { needs: 99, .. })), "{newer:?}");
    world.server.command(&["HSET", &world.checkpoint("tally"), "needs", "1"]);
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn the_token_rises_past_a_clock_that_went_back() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    // As after a clock that was far ahead.
    world.server.command(&["HSET", &world.checkpoint("tally"), "token", "8999999999999999"]);
    let rewound = rewind(&world, &lease, lease.held().tip.as_str(), &RandomId::new(), "[]").await;
    assert!(matches!(rewound, Ok(Rewind::Now(token)) if token.0 == 9_000_000_000_000_000), "{rewound:?}");
}
