//! What a pipeline is configured to be: one of two that differ wins, and nobody works with the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use gapless::store::StoreError;
use gapless::store::identity::{Identity, Recorded, StoredIdentity};
use gapless::store::lease::{Fate, Lease, Mail};

use crate::world::World;

fn of(start: u64) -> Identity {
    Identity(BTreeMap::from([("start".to_owned(), start.to_string())]))
}

async fn record(world: &World, identity: &Identity, seen: u64) -> Recorded {
    world.store.record_identity(&world.link, &world.pipeline, identity, seen).await.expect("an answer")
}

#[actix_rt::test]
async fn the_first_configuration_is_written_down_and_a_repeat_changes_nothing() {
    let world = World::new().await;
    assert_eq!(world.store.identity(&world.link, &world.pipeline).await, Ok(None));
    assert_eq!(record(&world, &of(1), 0).await, Recorded::Written(1));
    assert_eq!(record(&world, &of(1), 0).await, Recorded::Same(1), "the answer to the first was lost");
    let (digest, node) = (of(1).digest(), "node-a".to_owned());
    let stored = StoredIdentity { generation: 1, digest, keys: of(1), node };
    assert_eq!(world.store.identity(&world.link, &world.pipeline).await, Ok(Some(stored)));
}

#[actix_rt::test]
async fn of_two_that_write_at_once_one_wins_and_the_other_sees_it() {
    let world = World::new().await;
    record(&world, &of(1), 0).await;
    // Both have seen generation 1.
    let (a, b, other) = (of(2), of(3), world.other_store());
    let (a, b) = tokio::join!(record(&world, &a, 1), other.record_identity(&world.link, &world.pipeline, &b, 1));
    match (a, b.expect("an answer")) {
        (Recorded::Written(2), Recorded::Other(seen)) => assert_eq!((seen.keys, seen.node.as_str()), (of(2), "node-a")),
        (Recorded::Other(seen), Recorded::Written(2)) => assert_eq!((seen.keys, seen.node.as_str()), (of(3), "node-b")),
        both => panic!("exactly one must win: {both:?}"),
    }
    // A generation that has passed is not written again.
    assert!(matches!(record(&world, &of(9), 1).await, Recorded::Other(seen) if seen.generation == 2));
}

#[actix_rt::test]
async fn a_node_left_behind_takes_no_unit_any_more() {
    let world = World::new().await;
    let acquire = |start: Option<u64>, actor: &'static str| {
        let (mut store, world) = (world.store.clone(), &world);
        let configs = start.map(|start| (world.pipeline.clone(), of(start).digest()));
        store.configs = Arc::new(configs.into_iter().collect());
        async move {
            let (unit, fate) = (world.unit(actor), Fate::Clean);
            Lease::acquire(&store, &world.link, &unit, Mail::Offset, None, &fate).await.map(drop)
        }
    };
    assert_eq!(acquire(Some(1), "of_a_redis_without_one").await, Ok(()), "earlier releases wrote none");
    record(&world, &of(1), 0).await;
    assert_eq!(acquire(Some(1), "before").await, Ok(()));
    record(&world, &of(2), 1).await;
    let config = StoreError::Config { generation: 2, node: "node-a".to_owned() };
    assert_eq!(acquire(Some(1), "after").await, Err(config));
    assert!(!world.keyspace().contains_key(&world.checkpoint("after")), "nothing was written");
    assert_eq!(acquire(Some(2), "after").await, Ok(()));
    // A command that acquires for an operator compares nothing.
    assert_eq!(acquire(None, "by_a_command").await, Ok(()));
}
