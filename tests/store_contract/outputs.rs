//! Outputs read from outside and by units: tails, groups, facts, tables, and the offset of a follower.

use std::time::Duration;

use gapless::ids::EntryId;
use gapless::messages::line::Label;
use gapless::store::effect::{Ack, Commit, Effect};
use gapless::store::lease::{Committed, Fate, Inbox, Lease, Mail};
use gapless::store::link::{Class, Link};
use gapless::store::output::Begin;
use gapless::store::trim::Keep;
use gapless::store::{Entry, StoreError};

use crate::lines::{offsets, stream, turn};
use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::support::replica::Pair;
use crate::support::wait;
use crate::world::{LONG_LEASE, World, link_with, options};

const FOLLOW: Mail = Mail::Follow("lines");

fn texts(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| String::from_utf8_lossy(Label::of(&entry.fields).expect("a line").1).into_owned())
        .collect()
}

fn named(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| format!("line {n}")).collect()
}

async fn follower(world: &World) -> Lease {
    Lease::acquire(&world.store, &world.link, &world.unit("parser"), FOLLOW, None, &Fate::Clean).await.expect("free")
}

fn through(entries: &[Entry]) -> Commit {
    let ack = Ack::Through { last: entries.last().expect("an entry").id, count: entries.len() as u64 };
    Commit { ack, ..Commit::default() }
}

fn bell(world: &World) -> Link {
    world.link.sibling(Class::Bell)
}

#[actix_rt::test]
async fn a_follower_reads_every_line_once_in_order_and_takes_none() {
    let world = World::new().await;
    let (lease, reader) = (world.acquire("watcher").await.expect("free"), follower(&world).await);
    assert!(reader.claim().await.expect("nothing yet").entries.is_empty());
    lease.commit(&turn(0..450)).await.expect("a commit");
    let mut read = Vec::new();
    while read.len() < 450 {
        let delivery = reader.claim().await.expect("a delivery");
        assert_eq!(reader.claim().await.expect("the same"), delivery, "reading again is no progress");
        read.extend(texts(&delivery.entries));
        assert_eq!(reader.commit(&through(&delivery.entries)).await, Ok(Committed::Now));
    }
    assert_eq!(read, named(0..450));
    assert_eq!(offsets(&world).await.len(), 450);
    // Another life goes on behind the offset, and the beat knows that nothing waits.
    let again = world.take(&reader).await;
    assert!(again.claim().await.expect("nothing").entries.is_empty());
    let asked = gapless::store::beat::Asked { unit: world.unit("parser"), held: None, mail: Some(FOLLOW) };
    let seen = world.store.look(&world.link, std::slice::from_ref(&asked)).await.expect("a look");
    assert!(!seen[0].mail.expect("a look").waits, "an idle follower is woken without end");
    // The bell rings for it.
    let heard = [(Inbox::of(&world.unit("parser"), FOLLOW), seen[0].mail.expect("a look").last)];
    let bell = bell(&world);
    let commit = turn(450..451);
    let (rung, done) = tokio::join!(world.store.wait_for_mail(&bell, &heard), lease.commit(&commit));
    assert_eq!((rung.expect("a ring").len(), done), (1, Ok(Committed::Now)));
    assert!(world.store.look(&world.link, &[asked]).await.expect("a look")[0].mail.expect("a look").waits);
    assert_eq!(texts(&again.claim().await.expect("a delivery").entries), named(450..451));
}

impl World {
    /// The unit of a lease, acquired again.
    async fn take(&self, before: &Lease) -> Lease {
        let owner = before.held().owner;
        let taken = Lease::acquire(&self.store, &self.link, before.unit(), before.mail(), Some(&owner), &Fate::Clean);
        taken.await.expect("ours")
    }
}

#[actix_rt::test]
async fn a_stream_that_lies_behind_its_follower_is_broken_loudly() {
    let world = World::new().await;
    let (lease, reader) = (world.acquire("watcher").await.expect("free"), follower(&world).await);
    lease.commit(&turn(0..3)).await.expect("a commit");
    let delivery = reader.claim().await.expect("a delivery");
    reader.commit(&through(&delivery.entries)).await.expect("a commit");
    // Trimmed to nothing is not behind.
    world.server.command(&["XTRIM", &stream(&world), "MAXLEN", "0"]);
    assert!(reader.claim().await.expect("nothing").entries.is_empty());
    world.server.command(&["DEL", &stream(&world)]);
    assert!(matches!(reader.claim().await, Err(StoreError::Broken { .. })));
    world.server.command(&["XADD", &stream(&world), "5-5", "d", "foreign"]);
    assert!(matches!(reader.claim().await, Err(StoreError::Broken { .. })));
    let owner = reader.held().owner;
    let again = Lease::acquire(&world.store, &world.link, reader.unit(), FOLLOW, Some(&owner), &Fate::Clean).await;
    assert!(matches!(again.map(drop), Err(StoreError::Broken { .. })));
}

#[actix_rt::test]
async fn what_a_follower_read_and_a_failover_took_back_is_not_committed() {
    let mut pair = Pair::start().await;
    let link = link_with(options(&pair.front.url(), LONG_LEASE));
    let server = std::mem::replace(&mut pair.master, RedisServer::start());
    let mut world = World::through(server, link).await;
    let (lease, reader) = (world.acquire("watcher").await.expect("free"), follower(&world).await);
    lease.commit(&turn(0..3)).await.expect("a commit");
    let delivery = reader.claim().await.expect("a delivery");
    reader.commit(&through(&delivery.entries)).await.expect("a commit");
    std::mem::swap(&mut world.server, &mut pair.master);
    pair.caught_up().await;
    pair.leave_behind();
    lease.commit(&turn(3..6)).await.expect("a commit");
    let lost = reader.claim().await.expect("a delivery");
    assert_eq!(texts(&lost.entries), named(3..6));
    pair.fail_over();
    assert!(matches!(reader.commit(&through(&lost.entries)).await, Err(StoreError::Moved { .. })));
    let (lease, reader) = (world.take(&lease).await, world.take(&reader).await);
    assert!(reader.claim().await.expect("nothing").entries.is_empty());
    assert_eq!(lease.state(), "{\"at\":3}");
    lease.commit(&turn(3..6)).await.expect("a commit");
    assert_eq!(texts(&reader.claim().await.expect("a delivery").entries), named(3..6));
}

#[actix_rt::test]
async fn a_tail_waits_for_what_comes_and_the_newest_come_in_order() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("free");
    lease.commit(&turn(0..5)).await.expect("a commit");
    let (store, pipeline, bell) = (&world.store, &world.pipeline, bell(&world));
    let newest = store.newest(&world.link, pipeline, "lines", 2).await.expect("entries");
    assert_eq!(texts(&newest), named(3..5));
    let after = newest[1].id;
    let commit = turn(5..7);
    let (tail, done) = tokio::join!(store.tail(&bell, pipeline, "lines", after, 10), lease.commit(&commit));
    assert_eq!((texts(&tail.expect("entries")), done), (named(5..7), Ok(Committed::Now)));
    assert_eq!(texts(&store.tail(&bell, pipeline, "lines", after, 1).await.expect("entries")), named(5..6));
}

/// A reader that blocks never sees lines that were taken back, and is served what comes after them.
#[actix_rt::test]
async fn a_reader_that_waits_is_served_no_line_of_a_refused_commit() {
    let world = World::new().await;
    let old = world.acquire("watcher").await.expect("free");
    old.commit(&turn(0..3)).await.expect("a commit");
    let lease = world.take(&old).await;
    let (store, pipeline) = (&world.store, &world.pipeline);
    let after = store.newest(&world.link, pipeline, "lines", 1).await.expect("entries")[0].id;
    let (tails, groups) = (bell(&world), bell(&world));
    let join = store.join(&groups, pipeline, "lines", ("readers", "a"), Begin::Behind(after));
    let mut group = join.await.expect("a group");
    let blocked = || world.server.text(&["INFO", "clients"]).contains("blocked_clients:2");
    let refuse = async {
        wait::until_true("both to wait", blocked).await;
        old.commit(&turn(100..400)).await.expect_err("fenced");
        lease.commit(&turn(3..4)).await.expect("a commit");
    };
    let tail = async {
        loop {
            let entries = store.tail(&tails, pipeline, "lines", after, 1000).await.expect("an answer");
            if !entries.is_empty() {
                return entries;
            }
        }
    };
    let served = async {
        loop {
            let entries = group.next(1000).await.expect("an answer");
            if !entries.is_empty() {
                return entries;
            }
        }
    };
    let (tail, served, ()) = tokio::join!(tail, served, refuse);
    assert_eq!((texts(&tail), texts(&served)), (named(3..4), named(3..4)));
    let facts = store.output_facts(&world.link, pipeline, "lines").await.expect("facts").expect("a stream");
    assert_eq!((facts.length, facts.added, facts.groups[0].lag, facts.groups[0].pending), (4, 4, Some(0), 1));
}

#[actix_rt::test]
async fn a_group_serves_again_what_was_not_acknowledged_also_after_a_lost_answer() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port).await;
    let mut options = options(&proxy.url(), LONG_LEASE);
    options.command_timeout = Duration::from_millis(100);
    options.bell_block = Duration::from_millis(50);
    let world = World::through(server, link_with(options)).await;
    let direct = link_with(crate::world::options(&world.server.url(), LONG_LEASE));
    let unit = world.unit("watcher");
    let lease = Lease::acquire(&world.store, &direct, &unit, Mail::Offset, None, &Fate::Clean).await.expect("free");
    lease.commit(&turn(0..10)).await.expect("a commit");
    let (store, pipeline, bell) = (&world.store, &world.pipeline, bell(&world));
    let join = || store.join(&bell, pipeline, "lines", ("readers", "a"), Begin::Oldest);
    let mut reader = join().await.expect("a group");
    let first = reader.next(4).await.expect("entries");
    assert_eq!(texts(&first), named(0..4));
    reader.acknowledge(&[first[0].id, first[1].id]).await.expect("done");
    // The same consumer comes again: what it owes first, then what is new.
    let mut reader = join().await.expect("the same group");
    let owed = reader.next(100).await.expect("entries");
    assert_eq!(texts(&owed), named(2..4));
    reader.acknowledge(&[owed[0].id, owed[1].id]).await.expect("done");
    let mut read = texts(&reader.next(1).await.expect("entries"));
    let pending = || {
        let list = world.server.command(&["XPENDING", &stream(&world), "readers", "-", "+", "99"]);
        redis::from_redis_value::<Vec<Vec<redis::Value>>>(list).expect("a list").len()
    };
    // It is served three, and their answer is lost.
    proxy.set(Faults { drop_answers: true, ..Faults::default() });
    let healed = async {
        wait::until_true("an answer to be lost", || pending() == 4).await;
        proxy.heal();
    };
    let reading = async {
        let mut read = Vec::new();
        while read.len() < 6 {
            let entries = reader.next(3).await.expect("an answer");
            reader.acknowledge(&entries.iter().map(|entry| entry.id).collect::<Vec<_>>()).await.expect("done");
            read.extend(texts(&entries));
        }
        read
    };
    let (again, ()) = tokio::join!(reading, healed);
    // The one in hand comes once more, then those that were lost, then what is new: none is passed over.
    again.into_iter().filter(|text| text != "line 4").for_each(|text| read.push(text));
    assert_eq!(read, named(4..10));
    // Entries that are gone are not served, and hold nothing up.
    lease.commit(&turn(10..13)).await.expect("a commit");
    let owed = reader.next(3).await.expect("entries");
    world.server.command(&["XDEL", &stream(&world), &owed[0].id.to_string(), &owed[1].id.to_string()]);
    let mut reader = join().await.expect("the same group");
    assert_eq!(texts(&reader.next(1).await.expect("entries")).last(), Some(&"line 12".to_owned()));
    world.server.command(&["XGROUP", "DESTROY", &stream(&world), "readers"]);
    let error = reader.next(1).await;
    assert!(matches!(&error, Err(StoreError::Broken { reason, .. }) if reason.contains("readers")), "{error:?}");
}

#[actix_rt::test]
async fn facts_tell_what_there_is_and_who_reads_it() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("free");
    let (store, link, pipeline) = (&world.store, &world.link, &world.pipeline);
    assert_eq!(store.output_facts(link, pipeline, "lines").await, Ok(None));
    lease.commit(&turn(0..10)).await.expect("a commit");
    world.server.command(&["XGROUP", "CREATE", &stream(&world), "b", "0"]);
    world.server.command(&["XGROUP", "CREATE", &stream(&world), "a", "$"]);
    world.server.command(&["XREADGROUP", "GROUP", "b", "c", "COUNT", "3", "STREAMS", &stream(&world), ">"]);
    lease.trim("lines", Keep::Newest, 8, &[]).await.expect("a trim");
    let facts = store.output_facts(link, pipeline, "lines").await.expect("facts").expect("a stream");
    let entries = store.output(link, pipeline, "lines", EntryId::ZERO, 100).await.expect("entries");
    assert_eq!((facts.length, facts.added), (8, 10));
    assert_eq!((facts.first, facts.last), (Some(entries[0].id), entries[7].id));
    assert_eq!((facts.dropped.all, facts.dropped.unread), (2, 2));
    let groups: Vec<_> = facts.groups.iter().map(|g| (g.name.as_str(), g.pending, g.lag)).collect();
    assert_eq!(groups, [("a", 0, Some(0)), ("b", 3, Some(7))]);
    let wrong = store.keys.output(pipeline, "wrong");
    world.server.command(&["SET", &wrong, "x"]);
    assert!(matches!(store.output_facts(link, pipeline, "wrong").await, Err(StoreError::Broken { .. })));
}

#[actix_rt::test]
async fn tables_are_listed_while_they_have_rows_and_read_in_pages() {
    let world = World::new().await;
    let (store, link, pipeline) = (&world.store, &world.link, &world.pipeline);
    let lease = world.acquire("watcher").await.expect("free");
    let put = |n: u64, capacity| Effect::PutRow { row: format!("row {n}"), value: "x".repeat(80), capacity };
    let commit = |effects| Commit { effects, ..Commit::default() };
    lease.commit(&commit((0..1000).map(|n| put(n, 1000)).collect())).await.expect("a commit");
    assert_eq!(store.tables(link, pipeline).await, Ok(vec!["watcher".to_owned()]));
    let table = lease.table().await.expect("a table");
    assert_eq!((table.len(), table.contains_key("row 999")), (1000, true));
    let (part, has_more) = store.peek_table(link, &world.unit("watcher"), 300).await.expect("rows");
    assert_eq!((part.len(), has_more), (300, true));
    let (all, has_more) = store.peek_table(link, &world.unit("watcher"), 1000).await.expect("rows");
    assert_eq!((all, has_more), (table, false));
    // A full table takes no more rows, and changes those that it has; one that goes makes room in the same commit.
    let before = world.keyspace();
    let full = Err(StoreError::Full { key: store.keys.table(lease.unit()) });
    assert_eq!(lease.commit(&commit(vec![put(1000, 1000)])).await, full);
    assert_eq!(world.keyspace(), before);
    lease.commit(&commit(vec![put(999, 10)])).await.expect("a row that was there");
    let drop = |n: u64| Effect::DropRow { row: format!("row {n}") };
    lease.commit(&commit(vec![put(1000, 1000), drop(0), drop(5000)])).await.expect("room");
    lease.commit(&commit(vec![put(1, 1000), drop(1), put(2, 1000)])).await.expect("the last word counts");
    let table = lease.table().await.expect("a table");
    assert_eq!((table.len(), table.contains_key("row 1"), table.contains_key("row 2")), (999, false, true));
    for from in (0..1100).step_by(100) {
        lease.commit(&commit((from..from + 100).map(drop).collect())).await.expect("a commit");
    }
    assert_eq!(store.tables(link, pipeline).await, Ok(Vec::new()));
    assert!(!world.keyspace().contains_key(&store.keys.table(lease.unit())));
    world.server.command(&["SET", &store.keys.table(lease.unit()), "x"]);
    assert!(matches!(lease.commit(&commit(vec![put(1, 9)])).await, Err(StoreError::Broken { .. })));
    assert!(matches!(lease.table().await, Err(StoreError::Broken { .. })));
}
