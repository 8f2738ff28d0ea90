//! Dead letters by command: moved back once, or dropped, in scripts of bounded size.

use gapless::ids::EntryId;
use gapless::messages::heights::HeightRange;
use gapless::store::StoreError;
use gapless::store::dead::{LETTERS_MAX, Letter, Retried};
use gapless::store::effect::{Ack, Commit, Effect, Fields};

use crate::world::World;

fn field(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// An entry with a dedupe id and a trace, as it is buried.
fn buried(n: u64) -> Fields {
    vec![
        field("type", "number"),
        field("body", &format!("{{\"n\":{n}}}")),
        field("id", &format!("import-{n}")),
        field("traceparent", "00-1-2-03"),
        field("dead.reason", "5 failed attempts, the last: a panic"),
        field("dead.entry", "5-0"),
        field("dead.unit", "selftest.laws/tally"),
        field("dead.failed", "5"),
        field("dead.unfinished", "0"),
    ]
}

/// Buries numbers 1 to `count`, and answers their letters.
async fn graveyard(world: &World, count: u64) -> Vec<Letter> {
    let lease = world.acquire("tally").await.expect("free");
    for n in 1..=count {
        let bury = Effect::Bury { of: world.address("tally"), fields: buried(n) };
        lease.commit(&Commit { ack: Ack::Nothing, effects: vec![bury], ..Commit::default() }).await.expect("a commit");
    }
    lease.release().await.expect("released");
    let dead = world.store.dead(&world.link, &world.address("tally"), EntryId::ZERO, 10_000).await.expect("letters");
    dead.iter().map(|letter| Letter { id: letter.id, task: None }).collect()
}

async fn retry(world: &World, capacity: u64, letters: &[Letter]) -> Result<Retried, StoreError> {
    world.store.retry(&world.link, &world.address("tally"), capacity, letters).await
}

async fn counts(world: &World) -> (u64, u64) {
    let depth = world.store.depth(&world.link, &world.address("tally")).await.expect("a depth");
    (depth.entries, depth.dead)
}

#[actix_rt::test]
async fn a_letter_moves_back_once_with_its_identity_and_without_its_attempts() {
    let world = World::new().await;
    let letters = graveyard(&world, 2).await;
    let done = |moved, gone| Ok(Retried { moved, gone, is_full: false });
    assert_eq!(retry(&world, 10, &letters[1..]).await, done(1, 0));
    // As a request that is sent again after its answer was lost.
    let before = world.keyspace();
    assert_eq!(retry(&world, 10, &letters[1..]).await, done(0, 1));
    assert_eq!(world.keyspace(), before);
    assert_eq!(counts(&world).await, (1, 1));
    let lease = world.acquire("tally").await.expect("free");
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!(delivery.entries[0].fields, buried(2)[..4], "its own fields, in their order, and no more");
    assert_eq!((delivery.failed, delivery.unfinished), (0, 0));
    assert_eq!(retry(&world, 10, &letters).await, done(1, 1));
    assert_eq!(counts(&world).await, (2, 0));
}

#[actix_rt::test]
async fn letters_move_back_in_their_order_as_far_as_there_is_room() {
    let world = World::new().await;
    let letters = graveyard(&world, 450).await;
    assert!(letters.len() > 2 * LETTERS_MAX, "more than one script deals with");
    world.send("tally", 1000).await;
    let done = retry(&world, 431, &letters).await;
    assert_eq!(done, Ok(Retried { moved: 430, gone: 0, is_full: true }));
    assert_eq!(counts(&world).await, (431, 20));
    let full = retry(&world, 431, &letters[430..]).await;
    assert_eq!(full, Ok(Retried { moved: 0, gone: 0, is_full: true }));
    let entries = world.store.peek(&world.link, &world.address("tally"), EntryId::ZERO, 1000).await.expect("entries");
    let bodies: Vec<String> = entries.iter().filter_map(|entry| entry.text("body")).collect();
    let wanted = std::iter::once(1000).chain(1..=430).map(|n| format!("{{\"n\":{n}}}"));
    assert_eq!(bodies, wanted.collect::<Vec<_>>());
    let done = retry(&world, 1000, &letters).await;
    assert_eq!(done, Ok(Retried { moved: 20, gone: 430, is_full: false }));
}

#[actix_rt::test]
async fn a_mailbox_that_takes_nothing_keeps_its_letters() {
    let world = World::new().await;
    let letters = graveyard(&world, 2).await;
    let mailbox = world.mailbox("tally");
    world.server.command(&["DEL", &mailbox]);
    world.server.command(&["SET", &mailbox, "x"]);
    let before = world.keyspace();
    assert!(matches!(retry(&world, 10, &letters).await, Err(StoreError::Broken { .. })));
    world.server.command(&["DEL", &mailbox]);
    // After a foreign entry with the largest id none can follow.
    world.server.command(&["XADD", &mailbox, "18446744073709551615-18446744073709551615", "a", "b"]);
    assert!(matches!(retry(&world, 10, &letters).await, Err(StoreError::Broken { .. })));
    world.server.command(&["DEL", &mailbox]);
    world.server.command(&["SET", &mailbox, "x"]);
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn a_task_that_is_retried_has_its_heights_let_go_and_no_others() {
    let world = World::new().await;
    let letters = graveyard(&world, 1).await;
    let range = |lo, hi| HeightRange::new(lo, hi).expect("a range");
    let lease = world.acquire("tally").await.expect("free");
    // 100..2299 were parked as one task; of these, every second height of 200..1799 has been parked by an operator.
    let aside = |lo, hi| Effect::Park { range: range(lo, hi), reason: "its task was set aside: a panic".to_owned() };
    lease.commit(&Commit { effects: vec![aside(100, 2299)], ..Commit::default() }).await.expect("a commit");
    for chunk in (200..1800).step_by(2).collect::<Vec<u64>>().chunks(100) {
        let by_hand = |h: &u64| Effect::Park { range: range(*h, *h), reason: "by an operator: lost".to_owned() };
        let effects = chunk.iter().map(by_hand).collect();
        lease.commit(&Commit { effects, ..Commit::default() }).await.expect("a commit");
    }
    let letter = Letter { task: Some(range(150, 2199)), ..letters[0] };
    assert_eq!(retry(&world, 10, &[letter]).await, Ok(Retried { moved: 1, gone: 0, is_full: false }));
    let (mut parked, mut at) = (Vec::new(), 0);
    loop {
        let page = world.store.parked(&world.link, &world.pipeline, range(at, 5000)).await.expect("intervals");
        let Some(last) = page.last() else { break };
        at = last.range.hi() + 1;
        parked.extend(page.iter().map(|p| (p.range.lo(), p.range.hi(), p.by_operator())));
    }
    let mut wanted = vec![(100, 149, false)];
    wanted.extend((200..1800).step_by(2).map(|h| (h, h, true)));
    wanted.push((2200, 2299, false));
    assert_eq!(parked, wanted);
    assert_eq!(counts(&world).await, (1, 0));
}

#[actix_rt::test]
async fn dropped_letters_are_gone_and_nothing_else_is() {
    let world = World::new().await;
    let letters = graveyard(&world, 450).await;
    let ids: Vec<EntryId> = letters.iter().map(|letter| letter.id).collect();
    let of = world.address("tally");
    assert_eq!(world.store.drop_dead(&world.link, &of, &ids[10..]).await, Ok(440));
    assert_eq!(world.store.drop_dead(&world.link, &of, &ids[9..]).await, Ok(1), "a repeat drops what is there");
    assert_eq!(world.store.drop_dead(&world.link, &of, &[]).await, Ok(0));
    let left = world.store.dead(&world.link, &of, EntryId::ZERO, 1000).await.expect("letters");
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), ids[..9]);
    assert_eq!(counts(&world).await.0, 0);
}
