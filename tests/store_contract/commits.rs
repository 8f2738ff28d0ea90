//! G1: a turn's state, offset, messages, records and heights become durable together or not at all.

use gapless::ids::EntryId;
use gapless::messages::block::BlockHash;
use gapless::messages::heights::HeightRange;
use gapless::store::StoreError;
use gapless::store::effect::{Ack, Commit, Effect, Piece};
use gapless::store::lease::{Committed, Delivery, Lease};

use crate::world::{World, ack, append, number, numbers, record};

fn range(lo: u64, hi: u64) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

fn hash(height: u64) -> BlockHash {
    BlockHash::new(&format!("h{height}")).expect("a hash")
}

fn piece(lo: u64, hi: u64) -> Piece {
    Piece { range: range(lo, hi), parent: hash(lo - 1), hash: hash(hi) }
}

/// A turn that does everything there is to do.
fn rich(world: &World, delivery: &Delivery) -> Commit {
    let effects = vec![
        append("one", &[1, 2]),
        Effect::Send { to: world.address("peer"), capacity: 5, messages: vec![number(7), number(8)] },
        append("two", &[3]),
        Effect::Merge(piece(50, 59)),
        Effect::Remove { range: range(12, 13), below: Some(hash(11)), above: Some(hash(13)) },
        Effect::Park { range: range(70, 79), reason: "pruned".to_owned() },
        Effect::Trash { item: "{}".to_owned(), capacity: 10 },
        Effect::Bury { of: world.address("tally"), fields: record(9) },
        Effect::Put { field: "head", value: "59".to_owned() },
        Effect::Cover { range: range(50, 79), resent: vec![range(60, 69)] },
        Effect::Publish { channel: "heads".to_owned(), payload: b"59".to_vec() },
    ];
    Commit { state: Some("{\"head\":59}".to_owned()), ack: ack(delivery), effects }
}

/// Holds 10..19, parks 55..75, and has three entries in hand.
async fn prepared() -> (World, Lease, Delivery) {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("a free unit");
    let effects = vec![Effect::Merge(piece(10, 19)), Effect::Park { range: range(55, 75), reason: "early".to_owned() }];
    lease.commit(&Commit { effects, ..Commit::default() }).await.expect("a commit");
    world.send_all("tally", 1..=3).await;
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!(numbers(&delivery), [1, 2, 3]);
    (world, lease, (*delivery).clone())
}

/// Commits, and holds the whole keyspace against what it was.
async fn refused(world: &World, lease: &Lease, commit: &Commit) -> StoreError {
    let before = world.keyspace();
    let error = lease.commit(commit).await.expect_err("a refusal");
    assert_eq!(world.keyspace(), before, "a refused commit has changed something: {error}");
    error
}

/// The rich turn goes through, and every part of it is there.
async fn accepted(world: &World, lease: &Lease, commit: &Commit) {
    assert_eq!(lease.commit(commit).await, Ok(Committed::Now));
    assert_eq!((world.output("one").await, world.output("two").await), (vec![1, 2], vec![3]));
    let (store, link) = (&world.store, &world.link);
    let peer = store.peek(link, &world.address("peer"), EntryId::ZERO, 10).await.expect("entries");
    assert_eq!(peer.len(), 2);
    let held = store.held(link, &world.pipeline, range(0, 99)).await.expect("intervals");
    assert_eq!(held.iter().map(|p| p.range.to_string()).collect::<Vec<_>>(), ["10..11", "14..19", "50..59"]);
    let parked = store.parked(link, &world.pipeline, range(0, 99)).await.expect("intervals");
    let parked: Vec<_> = parked.iter().map(|p| format!("{} {}", p.range, p.reason)).collect();
    assert_eq!(parked, ["60..69 early", "70..79 pruned"]);
    assert_eq!(store.fact(link, &world.pipeline, "head").await, Ok(Some("59".to_owned())));
    assert_eq!(store.dead(link, &world.address("tally"), EntryId::ZERO, 10).await.expect("entries").len(), 1);
    let shown = store.checkpoint(link, &world.unit("tally")).await.expect("an answer").expect("a checkpoint");
    assert_eq!((shown.seq, shown.state.as_str()), (2, "{\"head\":59}"));
    assert_eq!(store.depth(link, &world.address("tally")).await.expect("a depth").entries, 0);
}

#[actix_rt::test]
async fn a_commit_makes_all_its_parts_durable_together() {
    let (world, lease, delivery) = prepared().await;
    accepted(&world, &lease, &rich(&world, &delivery)).await;
}

#[actix_rt::test]
async fn a_commit_refused_for_what_it_wants_changes_nothing() {
    let (world, lease, delivery) = prepared().await;
    let with = |effect: Effect| {
        let mut commit = rich(&world, &delivery);
        commit.effects.push(effect);
        commit
    };
    let link = with(Effect::Merge(Piece { range: range(20, 29), parent: hash(99), hash: hash(29) }));
    assert!(matches!(refused(&world, &lease, &link).await, StoreError::Link { below: 19, above: 20, .. }));
    let below = with(Effect::Merge(Piece { range: range(5, 9), parent: hash(4), hash: hash(99) }));
    assert!(matches!(refused(&world, &lease, &below).await, StoreError::Link { below: 9, above: 10, .. }));
    let overlap = with(Effect::Merge(piece(15, 25)));
    assert!(matches!(refused(&world, &lease, &overlap).await, StoreError::Overlap { lo: 15, hi: 25 }));
    let uncovered = with(Effect::Cover { range: range(50, 80), resent: vec![range(60, 69)] });
    assert_eq!(refused(&world, &lease, &uncovered).await, StoreError::Uncovered { height: 80 });
    let wide = with(Effect::Append { output: "two".to_owned(), records: vec![vec![(vec![b'n'], vec![b'1']); 4000]] });
    assert!(matches!(refused(&world, &lease, &wide).await, StoreError::Broken { .. }));
    let empty = with(Effect::Append { output: "two".to_owned(), records: vec![Vec::new()] });
    assert!(matches!(refused(&world, &lease, &empty).await, StoreError::Broken { .. }));
    let full = with(Effect::Send { to: world.address("full"), capacity: 1, messages: vec![number(1)] });
    world.send("full", 1).await;
    assert_eq!(refused(&world, &lease, &full).await, StoreError::Full { key: world.mailbox("full") });
    accepted(&world, &lease, &rich(&world, &delivery)).await;
}

#[actix_rt::test]
async fn a_key_of_another_type_among_several_refuses_the_whole_commit() {
    let (world, lease, delivery) = prepared().await;
    let (keys, pipeline) = (&world.store.keys, &world.pipeline);
    let targets = [
        keys.output(pipeline, "two"),
        world.mailbox("peer"),
        world.mailbox("tally"),
        keys.held(pipeline),
        keys.parked(pipeline),
        keys.trash(pipeline),
        keys.dead(&world.address("tally")),
        keys.facts(pipeline),
    ];
    for key in targets {
        let there = world.server.command(&["EXISTS", &key]) == redis::Value::Int(1);
        if there {
            world.server.command(&["RENAME", &key, "aside"]);
        }
        world.server.command(&["SET", &key, "something else"]);
        let error = refused(&world, &lease, &rich(&world, &delivery)).await;
        assert!(matches!(&error, StoreError::Broken { key: found, .. } if *found == key), "{key}: {error}");
        world.server.command(&["DEL", &key]);
        if there {
            world.server.command(&["RENAME", "aside", &key]);
        }
    }
    accepted(&world, &lease, &rich(&world, &delivery)).await;
}

#[actix_rt::test]
async fn a_broken_history_never_undoes_a_commit_and_is_told_at_the_next_acquire() {
    let (world, lease, delivery) = prepared().await;
    let history = world.store.keys.history(&world.unit("tally"));
    world.server.command(&["HDEL", &world.checkpoint("tally"), "sampled"]);
    world.server.command(&["SET", &history, "something else"]);
    accepted(&world, &lease, &rich(&world, &delivery)).await;
    lease.release().await.expect("released");
    let before = world.keyspace();
    let error = world.acquire("tally").await.err().expect("a refusal");
    assert!(matches!(&error, StoreError::Broken { key, .. } if *key == history), "{error}");
    assert_eq!(world.keyspace(), before);
}

const LAST_ID: &str = "18446744073709551615-18446744073709551615";

#[actix_rt::test]
async fn a_stream_whose_ids_have_run_out_refuses_the_whole_commit() {
    let (world, lease, delivery) = prepared().await;
    let two = world.store.keys.output(&world.pipeline, "two");
    world.server.command(&["XADD", &two, LAST_ID, "n", "0"]);
    // Told before the first append: not even the last id of the other stream moves.
    let one = world.store.keys.output(&world.pipeline, "one");
    world.server.command(&["XADD", &one, "5-5", "n", "0"]);
    let error = refused(&world, &lease, &rich(&world, &delivery)).await;
    assert!(matches!(&error, StoreError::Broken { key, .. } if *key == two), "{error}");
    world.server.command(&["DEL", &one, &two]);
    accepted(&world, &lease, &rich(&world, &delivery)).await;
}

/// The one refusal that Redis gives only half-way: the stream is empty, but its last id is the largest. What was
/// appended before is taken back; nothing but a higher last id of `one` may remain.
#[actix_rt::test]
async fn an_append_that_fails_half_way_takes_the_earlier_ones_with_it() {
    let (world, lease, delivery) = prepared().await;
    let (one, two) = (world.store.keys.output(&world.pipeline, "one"), world.store.keys.output(&world.pipeline, "two"));
    world.server.command(&["XADD", &two, LAST_ID, "n", "0"]);
    world.server.command(&["XDEL", &two, LAST_ID]);
    // First where the commit itself would create `one` and the peer's mailbox: they must be gone again.
    let error = refused(&world, &lease, &rich(&world, &delivery)).await;
    assert!(matches!(&error, StoreError::Broken { key, .. } if *key == two), "{error}");
    // Then where `one` was there before.
    world.server.command(&["XADD", &one, "5-5", "n", "0"]);
    let mut before = world.keyspace();
    let entries = world.output("one").await;
    lease.commit(&rich(&world, &delivery)).await.expect_err("a refusal");
    let mut after = world.keyspace();
    assert_eq!((before.remove(&one).is_some(), after.remove(&one).is_some()), (true, true));
    assert_eq!(after, before);
    assert_eq!(world.output("one").await, entries);
    world.server.command(&["DEL", &one, &two]);
    accepted(&world, &lease, &rich(&world, &delivery)).await;
}

#[actix_rt::test]
async fn without_memory_appends_are_refused_whole_while_everything_else_goes_on() {
    let (world, lease, delivery) = prepared().await;
    world.server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(matches!(refused(&world, &lease, &rich(&world, &delivery)).await, StoreError::OutOfMemory(_)));
    let refused_send = world.store.send(&world.link, &world.address("tally"), 10, None, &number(4)).await;
    assert!(matches!(refused_send, Err(StoreError::OutOfMemory(_))), "{refused_send:?}");
    // Renewal, heartbeat, acknowledgement, release, acquisition and read.
    assert!(world.beat(&world.link, &world.unit("tally"), Some(&lease)).await.renewed);
    world.store.nodes(&world.link).await.expect("the members");
    let through = Ack::Through { last: delivery.entries[0].id, count: 1 };
    let commit = Commit { state: Some("{}".to_owned()), ack: through, ..Commit::default() };
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    lease.release().await.expect("released");
    let lease = world.acquire("tally").await.expect("a free unit");
    let delivery = lease.claim().await.expect("a delivery");
    assert_eq!(numbers(&delivery), [2, 3]);
    world.server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(lease.commit(&rich(&world, &delivery)).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn what_is_larger_than_its_bound_is_refused_before_it_travels() {
    let (world, lease, _) = prepared().await;
    let limits = &world.link.options().limits;
    let large = |bytes: usize| vec![(b"n".to_vec(), vec![b'x'; bytes])];
    let state = Commit { state: Some("x".repeat(limits.state_bytes_max + 1)), ..Commit::default() };
    let entry = Effect::Append { output: "one".to_owned(), records: vec![large(limits.entry_bytes_max)] };
    let entry = Commit { effects: vec![entry], ..Commit::default() };
    let records = vec![large(limits.entry_bytes_max - 1); 9];
    let commit = Effect::Append { output: "one".to_owned(), records };
    let commit = Commit { effects: vec![commit], ..Commit::default() };
    for (commit, key) in
        [(state, "mailbox.state_bytes_max"), (entry, "mailbox.entry_bytes_max"), (commit, "mailbox.turn_bytes_max")]
    {
        let error = refused(&world, &lease, &commit).await;
        assert!(matches!(&error, StoreError::TooLarge { key: found, .. } if *found == key), "{error}");
    }
    // A foreign entry of any size must leave the mailbox somehow.
    let buried = Effect::Bury { of: world.address("tally"), fields: large(3 << 20) };
    let commit = Commit { effects: vec![buried], ..Commit::default() };
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn capacity_counts_the_net_growth_and_full_is_judged_before_the_turn() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("a free unit");
    let send = |capacity: u64, n: u64| {
        let messages = (0..n).map(number).collect();
        Commit { effects: vec![Effect::Send { to: world.address("peer"), capacity, messages }], ..Commit::default() }
    };
    // More than the capacity at once passes while there is room for one: else it would never fit.
    assert_eq!(lease.commit(&send(2, 3)).await, Ok(Committed::Now));
    assert_eq!(refused(&world, &lease, &send(3, 1)).await, StoreError::Full { key: world.mailbox("peer") });
    assert_eq!(lease.commit(&send(4, 1)).await, Ok(Committed::Now));
    // Nothing sent is no growth, however full it is.
    assert_eq!(lease.commit(&send(1, 0)).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn a_full_dead_letter_stream_stops_its_unit_loudly() {
    let world = World::with_options(|options| options.limits.dead_letters_max = 1).await;
    let lease = world.acquire("tally").await.expect("a free unit");
    let bury = Effect::Bury { of: world.address("tally"), fields: record(1) };
    let commit = Commit { effects: vec![bury], ..Commit::default() };
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    let key = world.store.keys.dead(&world.address("tally"));
    assert_eq!(refused(&world, &lease, &commit).await, StoreError::Full { key });
}

#[actix_rt::test]
async fn a_publication_is_heard_only_when_its_commit_is_done() {
    let (world, lease, delivery) = prepared().await;
    let (mut direct, mut pattern) = (world.server.connection(), world.server.connection());
    let (mut direct, mut pattern) = (direct.as_pubsub(), pattern.as_pubsub());
    direct.subscribe("heads").expect("subscribed");
    pattern.psubscribe("tail*").expect("subscribed");
    let mut commit = rich(&world, &delivery);
    for payload in ["1", "2"] {
        commit.effects.push(Effect::Publish { channel: "tails".to_owned(), payload: payload.as_bytes().to_vec() });
    }
    let mut wrong = commit.clone();
    wrong.effects.push(Effect::Merge(piece(15, 25)));
    refused(&world, &lease, &wrong).await;
    accepted(&world, &lease, &commit).await;
    for (heard, expected) in [(&mut direct, &["59"][..]), (&mut pattern, &["1", "2"][..])] {
        for payload in expected {
            let message = heard.get_message().expect("a message");
            assert_eq!(message.get_payload::<String>().as_deref(), Ok(*payload));
        }
        heard.set_read_timeout(Some(std::time::Duration::from_millis(1))).expect("a timeout");
        assert!(heard.get_message().is_err(), "the refused commit was published too");
    }
}
