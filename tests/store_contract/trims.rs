//! Bounds of an output: nothing that somebody has not acknowledged leaves it, or what leaves is counted.

use gapless::ids::{EntryId, UnitId};
use gapless::store::StoreError;
use gapless::store::effect::{Ack, Commit};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::trim::{Dropped, Keep, Trimmed};

use crate::lines::{offsets, stream, turn};
use crate::world::World;

/// A world with so many lines, and their holder.
async fn with_lines(count: u64) -> (World, Lease) {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    for from in (0..count).step_by(1000) {
        assert_eq!(lease.commit(&turn(from..count.min(from + 1000))).await, Ok(Committed::Now));
    }
    (world, lease)
}

impl World {
    fn group(&self, name: &str) {
        self.server.command(&["XGROUP", "CREATE", &stream(self), name, "0", "MKSTREAM"]);
    }

    /// Reads so many entries as a consumer of a group; answers their ids.
    fn serve(&self, group: &str, count: usize) -> Vec<String> {
        let count = count.to_string();
        let args = ["XREADGROUP", "GROUP", group, "c", "COUNT", &count, "STREAMS", &stream(self), ">"];
        type Served = Vec<(String, Vec<(String, Vec<String>)>)>;
        let served: Option<Served> = redis::from_redis_value(self.server.command(&args)).expect("entries");
        served.into_iter().flatten().flat_map(|(_, entries)| entries).map(|(id, _)| id).collect()
    }

    fn acknowledge(&self, group: &str, ids: &[String]) {
        let key = stream(self);
        let args = ["XACK", &key, group].into_iter().chain(ids.iter().map(String::as_str)).collect::<Vec<_>>();
        self.server.command(&args);
    }
}

/// Trims until nothing more may leave.
async fn trim(lease: &Lease, keep: Keep, newest: u64, readers: &[UnitId]) -> Trimmed {
    let mut left = 0;
    loop {
        let trimmed = lease.trim("lines", keep, newest, readers).await.expect("a trim");
        left += trimmed.left;
        if !trimmed.has_more {
            return Trimmed { left, ..trimmed };
        }
    }
}

async fn first(world: &World) -> Option<u64> {
    offsets(world).await.first().copied()
}

#[actix_rt::test]
async fn nothing_that_a_group_has_not_acknowledged_ever_leaves() {
    let (world, lease) = with_lines(1000).await;
    world.group("fast");
    world.group("slow");
    let fast = world.serve("fast", 900);
    world.acknowledge("fast", &fast);
    let trimmed = trim(&lease, Keep::Acknowledged, 1, &[]).await;
    assert_eq!((trimmed.left, trimmed.length), (0, 1000));
    assert_eq!(trimmed.held_by.as_deref(), Some("group slow"));
    // What it was served and owes holds back what lies behind it, however much of that is acknowledged.
    let slow = world.serve("slow", 700);
    world.acknowledge("slow", &slow[1..]);
    assert_eq!(trim(&lease, Keep::Acknowledged, 1, &[]).await.left, 0);
    world.acknowledge("slow", &slow[..1]);
    world.serve("slow", 1);
    let trimmed = trim(&lease, Keep::Acknowledged, 1, &[]).await;
    assert_eq!((trimmed.left, trimmed.length, first(&world).await), (700, 300, Some(700)));
    assert_eq!(trimmed.held_by.as_deref(), Some("group slow"));
    // Entries that exist no more hold nobody up.
    world.server.command(&["XDEL", &stream(&world), &fast[700]]);
    assert_eq!(trim(&lease, Keep::Acknowledged, 1, &[]).await.left, 0);
    assert_eq!(first(&world).await, Some(701));
    let rest = world.serve("slow", 1000);
    world.acknowledge("slow", &rest);
    let trimmed = trim(&lease, Keep::Acknowledged, 1, &[]).await;
    assert_eq!((trimmed.left, trimmed.length, first(&world).await), (199, 100, Some(900)));
    assert_eq!(trimmed.held_by.as_deref(), Some("group fast"));
    world.serve("fast", 1000);
    assert_eq!(trim(&lease, Keep::Acknowledged, 1, &[]).await.left, 0);
    let owed: Vec<String> = world
        .store
        .output(&world.link, &world.pipeline, "lines", EntryId::ZERO, 1000)
        .await
        .expect("entries")
        .iter()
        .map(|entry| entry.id.to_string())
        .collect();
    world.acknowledge("fast", &owed);
    let trimmed = trim(&lease, Keep::Acknowledged, 1, &[]).await;
    assert_eq!((trimmed.length, trimmed.dropped), (0, Dropped::default()), "what all have read was not dropped");
}

#[actix_rt::test]
async fn a_unit_that_reads_by_its_offset_holds_back_what_it_has_not_committed() {
    let (world, lease) = with_lines(500).await;
    let unit = world.unit("parser");
    // It has not even begun.
    let trimmed = trim(&lease, Keep::Acknowledged, 1, std::slice::from_ref(&unit)).await;
    assert_eq!((trimmed.left, trimmed.held_by), (0, Some("selftest.laws/parser".to_owned())));
    let follow = Mail::Follow("lines");
    let parser = Lease::acquire(&world.store, &world.link, &unit, follow, None, &Fate::Clean).await.expect("free");
    let mut read = 0;
    while read < 400 {
        let delivery = parser.claim().await.expect("a delivery");
        let count = delivery.entries.len() as u64;
        let ack = Ack::Through { last: delivery.entries.last().expect("an entry").id, count };
        assert_eq!(parser.commit(&Commit { ack, ..Commit::default() }).await, Ok(Committed::Now));
        read += count;
        assert_eq!(offsets(&world).await.len(), 500, "a reader by offset trims nothing");
    }
    let trimmed = trim(&lease, Keep::Acknowledged, 1, std::slice::from_ref(&unit)).await;
    assert_eq!((trimmed.left, first(&world).await), (read, Some(read)));
    // A group beside it counts as well, and one that is new begins with what is left.
    world.group("late");
    let parser_rest = parser.claim().await.expect("a delivery");
    let ack = Ack::Through { last: parser_rest.entries.last().expect("an entry").id, count: 1 };
    parser.commit(&Commit { ack, ..Commit::default() }).await.expect("a commit");
    let trimmed = trim(&lease, Keep::Acknowledged, 1, std::slice::from_ref(&unit)).await;
    assert_eq!((trimmed.left, trimmed.held_by.as_deref()), (0, Some("group late")));
}

#[actix_rt::test]
async fn where_nobody_reads_the_newest_stay_and_what_leaves_is_counted() {
    for keep in [Keep::Acknowledged, Keep::Newest] {
        let (world, lease) = with_lines(5000).await;
        let run = lease.trim("lines", keep, 300, &[]).await.expect("a trim");
        assert!(run.left < 4700 && run.has_more, "one run is bounded: {run:?}");
        let trimmed = trim(&lease, keep, 300, &[]).await;
        assert_eq!((run.left + trimmed.left, trimmed.length, first(&world).await), (4700, 300, Some(4700)));
        assert_eq!((trimmed.held_by, trimmed.dropped), (None, Dropped { all: 4700, unread: 4700 }));
        let told = world.store.dropped(&world.link, &world.pipeline, "lines").await;
        assert_eq!(told, Ok(Dropped { all: 4700, unread: 4700 }));
        assert_eq!(trim(&lease, keep, 300, &[]).await.left, 0);
    }
}

#[actix_rt::test]
async fn the_newest_stay_read_or_not_and_what_was_not_acknowledged_is_told_apart() {
    let (world, lease) = with_lines(1000).await;
    world.group("readers");
    let served = world.serve("readers", 250);
    world.acknowledge("readers", &served);
    // All read; then half and half; then none.
    for (newest, unread) in [(800, 0), (600, 150), (500, 250)] {
        let trimmed = trim(&lease, Keep::Newest, newest, &[]).await;
        assert_eq!((trimmed.length, trimmed.dropped), (newest, Dropped { all: 1000 - newest, unread }));
    }
    assert_eq!(first(&world).await, Some(500));
    // Whoever has read everything loses nothing.
    let rest = world.serve("readers", 1000);
    world.acknowledge("readers", &rest);
    assert_eq!(trim(&lease, Keep::Newest, 100, &[]).await.dropped, Dropped { all: 900, unread: 250 });
}

#[actix_rt::test]
async fn only_the_holder_trims_and_a_stream_of_another_type_is_told() {
    let (world, old) = with_lines(100).await;
    let lease = world.again(&old, &Fate::Clean).await.expect("ours");
    let before = world.keyspace();
    assert!(matches!(old.trim("lines", Keep::Newest, 1, &[]).await, Err(StoreError::Fenced { .. })));
    assert_eq!(world.keyspace(), before);
    let none = lease.trim("nothing", Keep::Acknowledged, 1, &[]).await.expect("an answer");
    assert_eq!((none, world.keyspace()), (Trimmed::default(), before));
    let key = world.store.keys.output(&world.pipeline, "wrong");
    world.server.command(&["SET", &key, "x"]);
    let error = lease.trim("wrong", Keep::Newest, 1, &[]).await;
    assert!(matches!(&error, Err(StoreError::Broken { key: found, .. }) if *found == key), "{error:?}");
}

/// Ids with the largest sequence, as foreign writers may leave them: the one behind is the next millisecond's.
#[actix_rt::test]
async fn ids_at_the_end_of_a_millisecond_are_followed_by_the_next() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    let key = stream(&world);
    for id in ["9-18446744073709551615", "10-0", "99-9", "99-10", "99-18446744073709551614", "100-1"] {
        world.server.command(&["XADD", &key, id, "n", "1"]);
    }
    world.group("readers");
    for left in (0..6).rev() {
        let served = world.serve("readers", 1);
        world.acknowledge("readers", &served);
        let trimmed = trim(&lease, Keep::Acknowledged, 1, &[]).await;
        assert_eq!((trimmed.left, trimmed.length), (1, left), "behind {served:?}");
    }
}

#[actix_rt::test]
async fn what_leaves_before_a_follower_had_it_is_counted_for_that_one() {
    let (world, lease) = with_lines(500).await;
    let unit = world.unit("parser");
    let parser = Lease::acquire(&world.store, &world.link, &unit, Mail::Follow("lines"), None, &Fate::Clean).await;
    let parser = parser.expect("free");
    parser.deliver_at_most(120, 1 << 20);
    let delivery = parser.claim().await.expect("a delivery");
    assert_eq!(delivery.entries.len(), 120, "its own bound");
    let ack = Ack::Through { last: delivery.entries[119].id, count: 120 };
    assert_eq!(parser.commit(&Commit { ack, ..Commit::default() }).await, Ok(Committed::Now));
    let readers = std::slice::from_ref(&unit);
    trim(&lease, Keep::Newest, 400, readers).await;
    assert_eq!(world.store.missed(&world.link, &unit, "lines").await, Ok(0), "it had all of these");
    let trimmed = trim(&lease, Keep::Newest, 300, readers).await;
    assert_eq!(world.store.missed(&world.link, &unit, "lines").await, Ok(80));
    assert_eq!(trimmed.dropped, Dropped { all: 200, unread: 80 });
}
