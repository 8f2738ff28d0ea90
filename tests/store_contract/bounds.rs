//! What Redis keeps for a unit does not grow with what happens to it.

use std::collections::BTreeSet;

use gapless::store::StoreError;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Fate, Lease, Mail};

use crate::support::wait;
use crate::world::{World, number};

fn length(world: &World, command: &[&str]) -> i64 {
    match world.server.command(command) {
        redis::Value::Int(length) => length,
        other => panic!("{command:?}: {other:?}"),
    }
}

#[actix_rt::test]
async fn attempts_leave_one_record_however_many_entries_fail_and_however_often() {
    let world = World::with_options(|options| options.limits.history_max = 3).await;
    let (unit, checkpoint) = (world.unit("tally"), world.checkpoint("tally"));
    let mut lease = world.acquire("tally").await.expect("a free unit");
    let mut fields = BTreeSet::new();
    for n in 0..40 {
        world.store.send(&world.link, &world.address("tally"), 1000, None, &number(n)).await.expect("sent");
        lease.claim().await.expect("entries");
        // Each failure says something else, and more than anybody wants to keep.
        let fate = Fate::Failed(format!("{n}: {}", "why ".repeat(5_000)));
        let (store, owner) = (&world.store, lease.held().owner);
        lease = Lease::acquire(store, &world.link, &unit, Mail::Offset, Some(&owner), &fate).await.expect("ours");
        fields.insert(length(&world, &["HLEN", &checkpoint]));
        assert!(length(&world, &["HSTRLEN", &checkpoint, "fault"]) <= 1000);
        assert!(length(&world, &["LLEN", &world.store.keys.history(&unit)]) <= 3);
    }
    assert!(fields.len() <= 3 && fields.iter().all(|count| *count <= 20), "fields of the checkpoint: {fields:?}");
    let keys: BTreeSet<String> = world.keyspace().into_keys().filter(|key| key.contains("tally")).collect();
    assert_eq!(keys.len(), 4, "checkpoint, expiry, history, mailbox: {keys:?}");
}

#[actix_rt::test]
async fn a_full_trash_list_refuses_until_its_old_notes_are_trimmed() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("a free unit");
    let note = || {
        let effects = vec![Effect::Trash { item: "{}".to_owned(), capacity: 2 }];
        Commit { effects, ..Commit::default() }
    };
    let key = world.store.keys.trash(&world.pipeline);
    for _ in 0..2 {
        lease.commit(&note()).await.expect("there is room");
    }
    assert_eq!(lease.commit(&note()).await, Err(StoreError::Full { key: key.clone() }));
    assert_eq!(length(&world, &["XLEN", &key]), 2);
    // What lies within the rollback horizon stays.
    let now = world.store.now_ms(&world.link).await.expect("a time");
    world.store.trim_trash(&world.link, &world.pipeline, now - 60_000).await.expect("trimmed");
    assert_eq!(length(&world, &["XLEN", &key]), 2);
    wait::until("another millisecond", || async { world.store.now_ms(&world.link).await.expect("a time") > now + 1 })
        .await;
    world.store.trim_trash(&world.link, &world.pipeline, now + 1).await.expect("trimmed");
    lease.commit(&note()).await.expect("room again");
}
