//! The mailbox of an exclusive unit: by offset, in order, each entry until it is acknowledged; and the attempts that
//! are counted against the entry at its head.

use std::time::Duration;

use gapless::ids::EntryId;
use gapless::store::effect::{Ack, Commit, Outgoing};
use gapless::store::lease::{Committed, Fate, Inbox, Lease};
use gapless::store::mailbox::Sent;
use gapless::store::{Store, StoreError};

use crate::support::wait;
use crate::world::{LEASE, LONG_LEASE, World, ack, append, copy, link_with, number, numbers, options};

async fn served(lease: &Lease) -> Vec<u64> {
    numbers(&lease.claim().await.expect("a delivery"))
}

/// Failed, unfinished and the reason, as the next turn is told.
async fn past(lease: &Lease) -> (u64, u64, String) {
    let delivery = lease.claim().await.expect("a delivery");
    (delivery.failed, delivery.unfinished, delivery.fault.clone())
}

fn failed(reason: &str) -> Fate {
    Fate::Failed(reason.to_owned())
}

fn past_of(failed: u64, unfinished: u64, fault: &str) -> (u64, u64, String) {
    (failed, unfinished, fault.to_owned())
}

#[actix_rt::test]
async fn entries_come_in_order_in_bounded_batches_each_once() {
    let world = World::with_options(|options| options.limits.turn_entries_max = 4).await;
    world.send_all("tally", 1..=10).await;
    let lease = world.acquire("tally").await.expect("free");
    let mut batches = Vec::new();
    loop {
        let delivery = lease.claim().await.expect("a delivery");
        if delivery.entries.is_empty() {
            break;
        }
        batches.push(numbers(&delivery));
        assert_eq!(lease.commit(&copy(&delivery)).await, Ok(Committed::Now));
    }
    assert_eq!(batches, [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10]]);
    assert_eq!(world.output("out").await, (1..=10).collect::<Vec<_>>());
    assert_eq!(world.store.depth(&world.link, &world.address("tally")).await.expect("a depth").entries, 0);
}

#[actix_rt::test]
async fn a_batch_of_more_than_a_page_is_whole() {
    let world = World::new().await;
    world.send_all("tally", 1..=230).await;
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!(served(&lease).await, (1..=200).collect::<Vec<_>>());
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    assert_eq!(served(&lease).await, (201..=230).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn a_batch_is_bounded_in_bytes_yet_at_least_one_entry_travels() {
    let world = World::with_options(|options| options.limits.turn_bytes_max = 600).await;
    let to = world.address("tally");
    for bytes in [200, 200, 200, 5000, 200, 200] {
        let message = Outgoing { kind: "number".to_owned(), body: "x".repeat(bytes) };
        world.store.send(&world.link, &to, 100, None, &message).await.expect("room");
    }
    let lease = world.acquire("tally").await.expect("free");
    let mut counts = Vec::new();
    loop {
        let delivery = lease.claim().await.expect("a delivery");
        if delivery.entries.is_empty() {
            break;
        }
        counts.push(delivery.entries.len());
        lease.commit(&Commit { ack: ack(&delivery), ..Commit::default() }).await.expect("a commit");
    }
    assert_eq!(counts, [2, 1, 1, 2]);
}

#[actix_rt::test]
async fn only_what_is_acknowledged_is_passed() {
    let world = World::new().await;
    world.send_all("tally", 1..=5).await;
    let lease = world.acquire("tally").await.expect("free");
    let delivery = lease.claim().await.expect("a delivery");
    let ack = Ack::Through { last: delivery.entries[1].id, count: 2 };
    lease.commit(&Commit { ack, ..Commit::default() }).await.expect("a commit");
    assert_eq!(served(&lease).await, [3, 4, 5]);
    // A commit that acknowledges nothing passes nothing.
    lease.commit(&Commit { effects: vec![append("out", &[1])], ..Commit::default() }).await.expect("a commit");
    assert_eq!(served(&lease).await, [3, 4, 5]);
    lease.release().await.expect("released");
    let heir = world.acquire("tally").await.expect("free");
    assert_eq!(served(&heir).await, [3, 4, 5]);
}

#[actix_rt::test]
async fn what_a_commit_delivers_is_what_a_read_would_have_given() {
    let world = World::with_options(|options| options.limits.turn_entries_max = 3).await;
    world.send_all("tally", 1..=8).await;
    let lease = world.acquire("tally").await.expect("free");
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    let delivered = lease.claim().await.expect("a delivery");
    assert_eq!(numbers(&delivered), [4, 5, 6]);
    // A reload forgets what the commit delivered and reads it afresh; so does an heir.
    let reloaded = world.again(&lease, &Fate::Clean).await.expect("ours");
    assert_eq!(reloaded.claim().await.expect("a delivery"), delivered);
    reloaded.release().await.expect("released");
    let heir = world.acquire("tally").await.expect("free");
    assert_eq!(heir.claim().await.expect("a delivery"), delivered);
}

#[actix_rt::test]
async fn an_idle_mailbox_serves_nothing_and_leaves_the_checkpoint_alone() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let before = world.keyspace();
    assert_eq!(served(&lease).await, [] as [u64; 0]);
    assert_eq!(world.keyspace(), before);
    world.send("tally", 1).await;
    assert_eq!(served(&lease).await, [1]);
}

#[actix_rt::test]
async fn a_batch_whose_turn_failed_is_served_one_by_one_and_counts_against_none_of_them() {
    let world = World::new().await;
    world.send_all("tally", 1..=3).await;
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!(served(&lease).await, [1, 2, 3]);
    let lease = world.again(&lease, &failed("a panic")).await.expect("ours");
    world.send_all("tally", 4..=6).await;
    let mut batches = Vec::new();
    for _ in 0..4 {
        let delivery = lease.claim().await.expect("a delivery");
        assert_eq!((delivery.failed, delivery.unfinished), (0, 0));
        batches.push(numbers(&delivery));
        lease.commit(&copy(&delivery)).await.expect("a commit");
    }
    assert_eq!(batches, [vec![1], vec![2], vec![3], vec![4, 5, 6]]);
    let careful = world.server.command(&["HEXISTS", &world.checkpoint("tally"), "careful"]);
    assert_eq!(careful, redis::Value::Int(0), "the bad time is over and forgotten");
}

#[actix_rt::test]
async fn a_failed_turn_of_one_entry_counts_against_it_until_it_has_passed() {
    let world = World::new().await;
    world.send("tally", 1).await;
    let mut lease = world.acquire("tally").await.expect("free");
    for n in 1..=3 {
        assert_eq!(served(&lease).await, [1]);
        lease = world.again(&lease, &failed(&format!("panic {n}"))).await.expect("ours");
        assert_eq!(past(&lease).await, past_of(n, 0, &format!("panic {n}")));
    }
    // A commit that does not acknowledge it forgets nothing.
    lease.commit(&Commit { state: Some("{}".to_owned()), ..Commit::default() }).await.expect("a commit");
    assert_eq!(past(&lease).await, past_of(3, 0, "panic 3"));
    world.send("tally", 2).await;
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    assert_eq!((served(&lease).await, past(&lease).await), (vec![2], past_of(0, 0, "")));
    let shown = world.store.checkpoint(&world.link, lease.unit()).await.expect("an answer").expect("a checkpoint");
    assert_eq!(shown.failed, 0, "people are shown the entry in hand");
    let lease = world.again(&lease, &failed("another")).await.expect("ours");
    assert_eq!(past(&lease).await, past_of(1, 0, "another"));
}

#[actix_rt::test]
async fn a_failure_with_nothing_in_hand_counts_against_nothing() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    assert!(served(&lease).await.is_empty());
    let lease = world.again(&lease, &failed("the source is down")).await.expect("ours");
    world.send("tally", 1).await;
    assert_eq!((served(&lease).await, past(&lease).await), (vec![1], past_of(0, 0, "")));
}

#[actix_rt::test]
async fn a_holder_that_vanished_leaves_an_unfinished_attempt() {
    let world = World::with_lease(LEASE).await;
    world.send("tally", 1).await;
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!(served(&lease).await, [1]);
    let heir = world.take_over(lease.unit()).await;
    assert_eq!((served(&heir).await, past(&heir).await), (vec![1], past_of(0, 1, "")));
    let heir = world.take_over(lease.unit()).await;
    assert_eq!((served(&heir).await, past(&heir).await), (vec![1], past_of(0, 2, "")));
    // Whoever vanishes before it is served anything has attempted nothing.
    world.take_over(lease.unit()).await;
    let heir = world.take_over(lease.unit()).await;
    assert_eq!((served(&heir).await, past(&heir).await), (vec![1], past_of(0, 3, "")));
    // Both kinds are counted apart, and only the holder itself can say that a turn failed.
    let heir = world.again(&heir, &failed("a panic")).await.expect("ours");
    assert_eq!(past(&heir).await, past_of(1, 3, "a panic"));
    let stranger = world.take_over(lease.unit()).await;
    assert_eq!(past(&stranger).await, past_of(1, 4, "a panic"));
}

#[actix_rt::test]
async fn an_innocent_entry_survives_ten_crashes_of_other_causes() {
    let world = World::new().await;
    world.send("tally", 1).await;
    let expire = || drop(world.server.command(&["DEL", &world.store.keys.expiry(&world.unit("tally"))]));
    let mut lease = world.acquire("tally").await.expect("free");
    for crash in 1..=10 {
        assert_eq!(served(&lease).await, [1]);
        // It is reloaded, and drained to another node, before that one vanishes: neither counts.
        lease = world.again(&lease, &Fate::Clean).await.expect("ours");
        assert_eq!(served(&lease).await, [1]);
        lease.release().await.expect("released");
        lease = world.acquire("tally").await.expect("free");
        assert_eq!(served(&lease).await, [1]);
        expire();
        lease = world.acquire("tally").await.expect("expired");
        assert_eq!((served(&lease).await, past(&lease).await), (vec![1], past_of(0, crash, "")));
    }
    let limits = &world.link.options().limits;
    assert!(limits.unfinished_attempts_max > 10, "an innocent entry would be set aside");
    assert_eq!(lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await, Ok(Committed::Now));
    assert_eq!(world.output("out").await, [1]);
    // The next entry begins from nothing.
    world.send("tally", 2).await;
    assert_eq!((served(&lease).await, past(&lease).await), (vec![2], past_of(0, 0, "")));
}

#[actix_rt::test]
async fn a_delivery_by_commit_is_counted_like_one_by_read() {
    let world = World::with_lease(LEASE).await;
    world.send("tally", 1).await;
    let lease = world.acquire("tally").await.expect("free");
    let first = lease.claim().await.expect("a delivery");
    world.send("tally", 2).await;
    lease.commit(&copy(&first)).await.expect("a commit");
    let heir = world.take_over(lease.unit()).await;
    assert_eq!((served(&heir).await, past(&heir).await), (vec![2], past_of(0, 1, "")));
}

#[actix_rt::test]
async fn drains_and_reloads_count_nothing() {
    let world = World::new().await;
    world.send("tally", 1).await;
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!(served(&lease).await, [1]);
    lease.release().await.expect("released");
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!((served(&lease).await, past(&lease).await), (vec![1], past_of(0, 0, "")));
    let lease = world.again(&lease, &Fate::Clean).await.expect("ours");
    assert_eq!((served(&lease).await, past(&lease).await), (vec![1], past_of(0, 0, "")));
}

#[actix_rt::test]
async fn a_mailbox_that_lies_behind_the_offset_is_broken_until_the_loss_is_accepted() {
    let world = World::new().await;
    world.send_all("tally", 1..=3).await;
    let lease = world.acquire("tally").await.expect("free");
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    let key = world.mailbox("tally");
    world.server.command(&["DEL", &key]);
    // Somebody's entry with an id of the past: it would never be seen.
    world.server.command(&["XADD", &key, "5-1", "type", "number", "body", "{\"n\":4}"]);
    let broken = |error: &StoreError| matches!(error, StoreError::Broken { key: found, .. } if *found == key);
    assert!(lease.claim().await.is_err_and(|e| broken(&e)), "the holder is told");
    lease.release().await.expect("released");
    let before = world.keyspace();
    assert!(world.acquire("tally").await.is_err_and(|e| broken(&e)), "so is the heir");
    assert_eq!(world.keyspace(), before);
    let accepting = World { store: Store { accept_data_loss: true, ..world.store.clone() }, ..world };
    let lease = accepting.acquire("tally").await.expect("the operator accepts the loss");
    assert_eq!(served(&lease).await, [4]);
    lease.commit(&copy(&lease.claim().await.expect("a delivery"))).await.expect("a commit");
    assert_eq!(accepting.output("out").await, [1, 2, 3, 4]);
}

#[actix_rt::test]
async fn a_mailbox_of_another_type_is_broken_and_nothing_is_acquired() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    world.server.command(&["SET", &world.mailbox("tally"), "something else"]);
    assert!(matches!(lease.claim().await, Err(StoreError::Broken { .. })));
    lease.release().await.expect("released");
    let before = world.keyspace();
    assert!(matches!(world.acquire("tally").await.err(), Some(StoreError::Broken { .. })));
    let sent = world.store.send(&world.link, &world.address("tally"), 10, None, &number(1)).await;
    assert!(matches!(sent, Err(StoreError::Broken { .. })), "{sent:?}");
    assert_eq!(world.keyspace(), before);
}

#[actix_rt::test]
async fn a_message_from_outside_meets_capacity_size_and_dedupe() {
    let world = World::new().await;
    let (store, link, to) = (&world.store, &world.link, world.address("tally"));
    let sent = |dedupe: Option<&'static str>, n: u64| {
        let to = to.clone();
        async move { store.send(link, &to, 3, dedupe, &number(n)).await }
    };
    assert!(matches!(sent(Some("a"), 1).await, Ok(Sent::As(_))));
    assert_eq!(sent(Some("a"), 1).await, Ok(Sent::Before));
    assert!(matches!(sent(Some("b"), 2).await, Ok(Sent::As(_))));
    assert!(matches!(sent(None, 3).await, Ok(Sent::As(_))));
    let before = world.keyspace();
    assert_eq!(sent(Some("c"), 4).await, Err(StoreError::Full { key: world.mailbox("tally") }));
    // What was sent is known even when there is no room: its repeat is no error.
    assert_eq!(sent(Some("b"), 2).await, Ok(Sent::Before));
    assert_eq!(world.keyspace(), before);
    let large = Outgoing { kind: "number".to_owned(), body: "x".repeat(link.options().limits.entry_bytes_max) };
    assert!(matches!(store.send(link, &to, 9, None, &large).await, Err(StoreError::TooLarge { .. })));
    world.server.command(&["XTRIM", &world.mailbox("tally"), "MAXLEN", "0"]);
    assert_eq!(sent(Some("a"), 1).await, Ok(Sent::Before));
    let mut brief = options(&world.server.url(), LONG_LEASE);
    brief.limits.dedupe_window = Duration::from_millis(1);
    let brief = link_with(brief);
    let again = || async { matches!(store.send(&brief, &to, 3, Some("a"), &number(1)).await, Ok(Sent::As(_))) };
    wait::until("the window to pass", again).await;
    let depth = store.depth(link, &to).await.expect("a depth");
    assert_eq!((depth.entries, depth.dead), (1, 0));
    let entries = store.peek(link, &to, EntryId::ZERO, 10).await.expect("entries");
    assert_eq!(entries[0].text("id").as_deref(), Some("a"));
}

#[actix_rt::test]
async fn the_ids_kept_for_dedupe_are_bounded_and_the_oldest_go_first() {
    let world = World::with_options(|options| options.limits.dedupe_entries_max = 3).await;
    let (store, link, to) = (&world.store, &world.link, world.address("tally"));
    for id in ["a", "b", "c", "d"] {
        // Ids of one millisecond would be ordered by their text: which these are as well.
        store.send(link, &to, 100, Some(id), &number(1)).await.expect("room");
    }
    assert_eq!(store.send(link, &to, 100, Some("d"), &number(1)).await, Ok(Sent::Before));
    assert!(matches!(store.send(link, &to, 100, Some("a"), &number(1)).await, Ok(Sent::As(_))));
    let key = store.keys.dedupe(&to);
    assert_eq!(world.server.command(&["ZCARD", &key]), redis::Value::Int(3));
}

#[actix_rt::test]
async fn the_bell_wakes_for_the_mailbox_that_got_something() {
    let world = World::new().await;
    let bell = world.link.sibling(gapless::store::link::Class::Bell);
    let last = world.send("quiet", 1).await;
    let inbox = |actor: &str| Inbox::Mailbox(world.address(actor));
    let watched = [(inbox("quiet"), last), (inbox("tally"), EntryId::ZERO)];
    let (rung, id) = tokio::join!(world.store.wait_for_mail(&bell, &watched), world.send("tally", 1));
    assert_eq!(rung, Ok(vec![(1, id)]));
}

#[actix_rt::test]
async fn the_history_of_a_checkpoint_is_sampled_and_bounded() {
    let world = World::with_options(|options| {
        options.limits.history_interval = Duration::from_millis(1);
        options.limits.history_max = 5;
    })
    .await;
    let lease = world.acquire("tally").await.expect("free");
    let mut n = 0;
    let samples = wait::until_some("five samples", || {
        n += 1;
        let (lease, world) = (&lease, &world);
        async move {
            let commit = Commit { state: Some(format!("{{\"n\":{n}}}")), ..Commit::default() };
            lease.commit(&commit).await.expect("a commit");
            let samples = world.store.history(&world.link, lease.unit()).await.expect("a history");
            (n > 20 && samples.len() == 5 && samples.iter().all(|s| s.why == "sample")).then_some(samples)
        }
    })
    .await;
    let seqs: Vec<u64> = samples.iter().map(|s| s.seq.parse().expect("a number")).collect();
    assert!(seqs.windows(2).all(|w| w[0] > w[1]), "newest first: {seqs:?}");
    assert_eq!(samples[0].state, format!("{{\"n\":{}}}", samples[0].seq));
}
