//! `redis.durability`: what a unit's next turn may rest on survives the death of the master.

use std::sync::Arc;
use std::time::Duration;

use gapless::config::Durability;
use gapless::store::StoreError;
use gapless::store::effect::Commit;
use gapless::store::lease::Lease;
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;

use crate::support::redis::RedisServer;
use crate::support::replica::Pair;
use crate::support::wait;
use crate::world::{LONG_LEASE, World, append, options};

fn write(n: u64) -> Commit {
    Commit { effects: vec![append("out", &[n])], ..Commit::default() }
}

/// A node that reaches `url` and asks for this.
fn node(url: &str, durability: Durability) -> Link {
    let wait = Duration::from_millis(150);
    let options = StoreOptions { durability, wait, ..options(url, LONG_LEASE) };
    Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, Patience::For(Duration::from_secs(15)))
}

const ONE: Durability = Durability::Replicated { replicas: 1 };

/// Commits `n` and asks until it is kept, as a unit does: a replica that is slow for a moment is asked again.
async fn kept(lease: &Lease, n: u64) -> Result<(), StoreError> {
    lease.commit(&write(n)).await?;
    wait::until_some("the commit to be kept", || async {
        match lease.confirmed().await {
            Err(StoreError::Unconfirmed { .. }) => None,
            outcome => Some(outcome),
        }
    })
    .await
}

#[actix_rt::test]
async fn no_confirmed_commit_is_lost_with_the_master() {
    let mut pair = Pair::start().await;
    let link = node(&pair.front.url(), ONE);
    let server = std::mem::replace(&mut pair.master, RedisServer::start());
    let world = World::through(server, link).await;
    let lease = world.acquire("tally").await.expect("free");
    for n in 1..=50 {
        kept(&lease, n).await.expect("a replica that follows");
    }
    // All of that is known to be there, so that only a wait for the very next write can tell the difference.
    wait::until_true("the master to hear of all", || {
        let info = world.server.text(&["INFO", "replication"]);
        let number = |name: &str, end: char| info.split(name).nth(1)?.split(end).next()?.trim().parse::<u64>().ok();
        number(",offset=", ',') >= number("master_repl_offset:", '\n')
    })
    .await;
    // From here on the replica hears nothing. What it does not have is not confirmed, however often one asks.
    pair.leave_behind();
    lease.commit(&write(51)).await.expect("the master takes it");
    for _ in 0..2 {
        let refused = lease.confirmed().await.expect_err("nobody has it");
        assert!(matches!(refused, StoreError::Unconfirmed { found: 0, wanted: 1, .. }), "{refused:?}");
    }
    let mut world = world;
    world.server.kill();
    pair.fail_over();
    world.server = std::mem::replace(&mut pair.replica, RedisServer::start());
    // It cannot be confirmed by the heir of the master, which never had it.
    let refused = lease.confirmed().await.expect_err("another history");
    assert!(matches!(refused, StoreError::Moved { .. }), "{refused:?}");
    assert_eq!(world.output("out").await, (1..=50).collect::<Vec<u64>>());
}

#[actix_rt::test]
async fn a_confirmation_speaks_of_all_units_that_committed_before_it() {
    let pair = Pair::start().await;
    let link = node(&pair.front.url(), ONE);
    let world = World::through(RedisServer::start(), link).await;
    let mut leases = Vec::new();
    for n in 0..8 {
        leases.push(world.acquire(&format!("tally_{n}")).await.expect("free"));
    }
    for round in 0..5 {
        let commits = leases.iter().enumerate().map(|(n, lease)| kept(lease, round * 10 + n as u64));
        for outcome in futures_util::future::join_all(commits).await {
            outcome.expect("a replica that follows");
        }
        // Whatever was confirmed stands on the replica at that moment, not some time later.
        let there: u64 =
            redis::from_redis_value(pair.replica.command(&["XLEN", "t:{selftest.laws}:out:out"])).expect("a length");
        assert_eq!(there, 8 * (round + 1));
    }
}

#[actix_rt::test]
async fn a_restart_between_a_commit_and_its_confirmation_is_another_history() {
    let server = RedisServer::start();
    let link = node(&server.url(), ONE);
    let mut world = World::through(server, link).await;
    let lease = world.acquire("tally").await.expect("free");
    lease.commit(&write(1)).await.expect("committed");
    world.server.kill();
    world.server.resume();
    // The old connection is found dead, and the new one speaks with another life of the server.
    let refused = lease.confirmed().await.expect_err("another life");
    assert!(matches!(refused, StoreError::Moved { .. }), "{refused:?}");
}

#[actix_rt::test]
async fn fast_asks_for_nothing_and_writes_nothing() {
    let server = RedisServer::start();
    let world = World::through(RedisServer::start(), node(&server.url(), Durability::Fast)).await;
    let lease = world.acquire("tally").await.expect("free");
    kept(&lease, 1).await.expect("at once");
    let there: u64 = redis::from_redis_value(server.command(&["EXISTS", "t:confirmed"])).expect("a number");
    assert_eq!(there, 0);
}

#[actix_rt::test]
async fn the_disk_is_waited_for_where_the_server_can_say() {
    let server = RedisServer::start();
    let knows = server.accepts(&["WAITAOF", "0", "0", "1"]);
    let link = node(&server.url(), Durability::Fsync);
    let world = World::through(server, link).await;
    let lease = world.acquire("tally").await.expect("free");
    if !knows {
        // It is let in only with `appendfsync always`, which syncs before it answers.
        eprintln!("SKIPPED in part: redis-server on this machine has no WAITAOF (7.2 or newer has)");
    }
    kept(&lease, 1).await.expect("on the disk");
    wait::until_true("the key behind the commit", || world.server.accepts(&["GET", "t:confirmed"])).await;
}
