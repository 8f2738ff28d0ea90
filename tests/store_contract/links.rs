//! The connection: it waits for Redis, tells what waiting does not cure, and gives up after its patience alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gapless::store::StoreError;
use gapless::store::effect::Commit;
use gapless::store::lease::Committed;
use gapless::store::link::{Class, Health, Link, Patience};

use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::world::{LONG_LEASE, World, append, link_with, options};

fn write(n: u64) -> Commit {
    Commit { effects: vec![append("out", &[n])], ..Commit::default() }
}

/// What is not cured by waiting must be told at once, also to those who would wait for ever.
async fn at_once<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(Duration::from_secs(10), answer).await.expect("it waits although waiting cures nothing")
}

#[actix_rt::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    for n in 1..=3 {
        world.server.command(&["SCRIPT", "FLUSH"]);
        assert_eq!(lease.commit(&write(n)).await, Ok(Committed::Now));
    }
    assert_eq!(world.output("out").await, [1, 2, 3]);
}

#[actix_rt::test]
async fn a_request_outlives_the_death_of_redis_and_is_done_once() {
    let mut world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!(lease.commit(&write(1)).await, Ok(Committed::Now));
    world.server.kill();
    let health = world.link.health().clone();
    let (second, (), server) = tokio::join!(
        async {
            let commit = write(2);
            lease.commit(&commit).await
        },
        wait::until_true("the outage to be known", || health.is_down()),
        async {
            wait::until_true("the outage to be known", || health.is_down()).await;
            world.server.resume();
        }
    );
    let () = server;
    assert_eq!(second, Ok(Committed::Now));
    assert!(!world.link.health().is_down());
    assert_eq!(world.output("out").await, [1, 2]);
}

#[actix_rt::test]
async fn a_request_to_a_redis_that_hangs_is_sent_again_and_done_once() {
    let server = RedisServer::start();
    let mut options = options(&server.url(), LONG_LEASE);
    options.command_timeout = Duration::from_millis(80);
    let world = World::through(server, link_with(options)).await;
    let lease = world.acquire("tally").await.expect("free");
    assert!(lease.commit(&write(1)).await.is_ok());
    world.server.pause(true);
    let repeats = || world.link.health().repeats_total.load(Ordering::Relaxed);
    let before = repeats();
    let commit = write(2);
    let (second, ()) = tokio::join!(lease.commit(&commit), async {
        wait::until_true("two repeats", || repeats() >= before + 2).await;
        world.server.pause(false);
    });
    assert!(second.is_ok(), "{second:?}");
    assert!(lease.commit(&write(3)).await.is_ok());
    assert_eq!(world.output("out").await, [1, 2, 3]);
}

#[actix_rt::test]
async fn a_redis_that_loads_its_data_is_waited_for() {
    let slow = ["--appendonly", "yes", "--key-load-delay", "-2"];
    let mut world = World::on(RedisServer::with(&slow), LONG_LEASE).await;
    let mut pipe = redis::pipe();
    for n in 0..20_000 {
        pipe.cmd("SET").arg(format!("key {n}")).arg("x").ignore();
    }
    pipe.query::<()>(&mut world.server.connection()).expect("written");
    let lease = world.acquire("tally").await.expect("free");
    world.server.kill();
    world.server.resume();
    let loading = || world.server.text(&["INFO", "persistence"]).contains("loading:1");
    assert!(loading(), "the server was too quick for this test");
    assert_eq!(lease.commit(&write(1)).await, Ok(Committed::Now));
    assert!(world.link.health().repeats_total.load(Ordering::Relaxed) > 0);
}

#[actix_rt::test]
async fn a_redis_that_cannot_write_to_its_disk_is_waited_for() {
    let world = World::on(RedisServer::with(&["--save", "3600 1000000"]), LONG_LEASE).await;
    let lease = world.acquire("tally").await.expect("free");
    // A folder where the snapshot belongs: as good as a full disk.
    let snapshot = world.server.folder().join("dump.rdb");
    std::fs::create_dir_all(snapshot.join("x")).expect("a folder");
    world.server.command(&["BGSAVE"]);
    let status = |word: &str| world.server.text(&["INFO", "persistence"]).contains(word);
    wait::until_true("the snapshot to fail", || status("rdb_last_bgsave_status:err")).await;
    let commit = write(1);
    let (committed, ()) = tokio::join!(lease.commit(&commit), async {
        wait::until_true("the outage to be known", || world.link.health().is_down()).await;
        std::fs::remove_dir_all(&snapshot).expect("room again");
        world.server.command(&["BGSAVE"]);
    });
    assert_eq!(committed, Ok(Committed::Now));
    assert_eq!(world.output("out").await, [1]);
}

#[actix_rt::test]
async fn a_cut_connection_is_made_anew() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port).await;
    let world = World::through(server, link_with(options(&proxy.url(), LONG_LEASE))).await;
    let lease = world.acquire("tally").await.expect("free");
    for n in 1..=5 {
        proxy.cut();
        assert!(lease.commit(&write(n)).await.is_ok());
    }
    proxy.set(Faults { refuse: true, ..Faults::default() });
    proxy.cut();
    let commit = write(6);
    let (sixth, ()) = tokio::join!(lease.commit(&commit), async {
        wait::until_true("the outage to be known", || world.link.health().is_down()).await;
        proxy.heal();
    });
    assert!(sixth.is_ok());
    assert_eq!(world.output("out").await, [1, 2, 3, 4, 5, 6]);
}

#[actix_rt::test]
async fn a_replica_is_as_good_as_away() {
    let server = RedisServer::start();
    let mut options = options(&server.url(), LONG_LEASE);
    options.command_timeout = Duration::from_millis(100);
    let link = link_with(options).with_patience(Patience::For(Duration::from_millis(50)));
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let refused = link.call("PING", &redis::cmd("PING")).await;
    assert!(matches!(&refused, Err(StoreError::Unreachable { reason, .. }) if reason.contains("slave")), "{refused:?}");
}

#[actix_rt::test]
async fn a_master_that_became_a_replica_is_left_for_the_one_that_the_address_leads_to() {
    let old = RedisServer::with(&["--repl-diskless-sync-delay", "0"]);
    let proxy = Proxy::to(old.port).await;
    let world = World::through(old, link_with(options(&proxy.url(), LONG_LEASE))).await;
    let lease = world.acquire("tally").await.expect("free");
    // A failover in good order: the new master has everything, connections to the old one stay open.
    let new = RedisServer::start();
    new.command(&["REPLICAOF", "127.0.0.1", &world.server.port.to_string()]);
    let offset = |server: &RedisServer, field: &str| {
        let info = server.text(&["INFO", "replication"]);
        info.lines().find_map(|l| l.strip_prefix(field).map(|v| v.trim().to_owned()))
    };
    wait::until_true("the new server to have everything", || {
        new.text(&["INFO", "replication"]).contains("master_link_status:up")
            && offset(&new, "slave_repl_offset:") == offset(&world.server, "master_repl_offset:")
    })
    .await;
    new.command(&["REPLICAOF", "NO", "ONE"]);
    world.server.command(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]);
    proxy.lead_new_to(new.port);
    assert_eq!(lease.commit(&write(1)).await, Ok(Committed::Now));
    assert_eq!(world.output("out").await, [1]);
}

#[actix_rt::test]
async fn a_wrong_or_missing_password_is_told_at_once() {
    let server = RedisServer::with(&["--requirepass", "right"]);
    let ask = |password: Option<&str>| {
        let mut options = options(&server.url(), LONG_LEASE);
        options.password = password.map(str::to_owned);
        let health = Arc::new(Health::default());
        let link = Link::new(Arc::new(options), health, Class::Command, Patience::Forever);
        async move { at_once(link.call("PING", &redis::cmd("PING"))).await }
    };
    assert!(ask(Some("right")).await.is_ok());
    for password in [Some("wrong"), None] {
        let refused = ask(password).await.expect_err("a refusal");
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("redis.password") && !text.contains("right"), "{text}");
    }
}

#[actix_rt::test]
async fn what_redis_refuses_for_good_is_told_at_once() {
    let world = World::new().await;
    world.server.command(&["SET", "text", "x"]);
    let link = world.link.with_patience(Patience::Forever);
    let mut cmd = redis::cmd("LPUSH");
    cmd.arg("text").arg("y");
    let refused = at_once(link.call("LPUSH", &cmd)).await;
    assert!(
        matches!(&refused, Err(StoreError::Refused { command, reason }) if command == "LPUSH"
        && reason.starts_with("WRONGTYPE")),
        "{refused:?}"
    );
}

#[actix_rt::test]
async fn patience_ends_with_the_address_but_not_the_password() {
    let port = crate::support::redis::free_port();
    let options = options(&format!("redis://:secret@127.0.0.1:{port}/"), LONG_LEASE);
    let link = link_with(options).with_patience(Patience::For(Duration::from_millis(30)));
    let error = link.call("PING", &redis::cmd("PING")).await.expect_err("nobody listens");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&port.to_string()) && !text.contains("secret"), "{text}");
    assert!(link.health().is_down());
}
