//! Slow and half-open networks: every wait is bounded, leases live beside slow data, and nothing is lost or doubled.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapless::ids::Address;
use gapless::store::StoreError;
use gapless::store::effect::Commit;
use gapless::store::lease::Inbox;
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;

use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::world::{LONG_LEASE, World, append, number, options};

/// Waits of a node in these tests; all far below the deadline of a test.
fn bounded(url: &str, lease: Duration) -> StoreOptions {
    StoreOptions {
        connect_timeout: Duration::from_millis(150),
        command_timeout: Duration::from_millis(200),
        lease_timeout: Duration::from_millis(100),
        bell_block: Duration::from_millis(200),
        ..options(url, lease)
    }
}

fn write(n: u64) -> Commit {
    Commit { effects: vec![append("out", &[n])], ..Commit::default() }
}

fn node(options: StoreOptions) -> Link {
    let patience = Patience::For(Duration::from_secs(15));
    Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience)
}

#[actix_rt::test]
async fn a_lease_lives_beside_data_that_crawls() {
    let server = RedisServer::start();
    let (fast, slow) = (Proxy::to(server.port).await, Proxy::to(server.port).await);
    let lease_time = Duration::from_millis(600);
    // The same node; only its data goes by the slow way, and is given the time that it needs.
    let patient = StoreOptions { command_timeout: Duration::from_secs(20), ..bounded(&slow.url(), lease_time) };
    let world = World::through(server, node(patient)).await;
    let renewals = node(bounded(&fast.url(), lease_time)).sibling(Class::Lease);
    let lease = world.acquire("tally").await.expect("free");
    slow.set(Faults { bytes_per_second: 40_000, delay: Duration::from_millis(20), ..Faults::default() });
    // 80 KB take about two seconds: more than three leases.
    let big = vec![(b"n".to_vec(), b"1".to_vec()), (b"x".to_vec(), vec![b'x'; 80_000])];
    let effect = gapless::store::effect::Effect::Append { output: "out".to_owned(), records: vec![big] };
    let commit = Commit { effects: vec![effect], ..Commit::default() };
    let started = Instant::now();
    let unit = world.unit("tally");
    let renew = async {
        loop {
            assert!(world.beat(&renewals, &unit, Some(&lease)).await.renewed, "the lease ran out");
            tokio::task::yield_now().await;
        }
    };
    let committed = tokio::select! {
        committed = lease.commit(&commit) => committed,
        () = renew => unreachable!("it renews for ever"),
    };
    committed.expect("slow, but whole");
    assert!(started.elapsed() > 2 * lease_time, "it was not slow: nothing was proved");
    slow.heal();
    assert_eq!(world.output("out").await, [1], "once");
}

#[actix_rt::test]
async fn a_connection_that_died_in_one_direction_is_given_up_and_its_commit_done_once() {
    for faults in
        [Faults { lose_answers: true, ..Faults::default() }, Faults { lose_requests: true, ..Faults::default() }]
    {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port).await;
        let world = World::through(server, node(bounded(&proxy.url(), LONG_LEASE))).await;
        let lease = world.acquire("tally").await.expect("free");
        lease.commit(&write(1)).await.expect("a good network");
        proxy.set(faults);
        let commit = write(2);
        let (second, ()) = tokio::join!(lease.commit(&commit), async {
            wait::until_true("the outage to be known", || world.link.health().is_down()).await;
            proxy.heal();
        });
        second.expect("by another connection");
        lease.commit(&write(3)).await.expect("and on");
        assert_eq!(world.output("out").await, [1, 2, 3], "{faults:?}");
    }
}

#[actix_rt::test]
async fn a_half_open_network_is_noticed_within_the_time_of_each_class() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port).await;
    let options = bounded(&proxy.url(), LONG_LEASE);
    let world = World::through(server, node(options.clone())).await;
    let address = Address::new(&world.pipeline, "tally");
    let lease = world.acquire("tally").await.expect("free");
    let unit = world.unit("tally");
    let impatient = |class| world.link.sibling(class).with_patience(Patience::For(Duration::ZERO));
    let (command, renewals, bell) = (impatient(Class::Command), impatient(Class::Lease), impatient(Class::Bell));
    command.call("PING", &redis::cmd("PING")).await.expect("a good network");
    let held = Some((lease.held().token, lease.held().owner));
    let asked = [(unit.clone(), held)];
    world.store.beat(&renewals, &world.pipeline, &asked).await.expect("a good network");
    let heard = [(Inbox::Mailbox(address.clone()), gapless::ids::EntryId::ZERO)];
    world.store.wait_for_mail(&bell, &heard).await.expect("a good network");

    // What is open says nothing more, what is new is accepted and then silent.
    proxy.set(Faults { half_open: true, lose_answers: true, ..Faults::default() });
    let unreachable = |answer: Result<(), StoreError>, started: Instant, most: Duration| {
        assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "{answer:?}");
        // Generous: seven tests share this machine. Without the bound it would be for ever.
        assert!(started.elapsed() < most + Duration::from_secs(2), "{:?} of {most:?}", started.elapsed());
    };
    for _ in 0..2 {
        // The first time on the open connection, the second on one that is never answered.
        let started = Instant::now();
        let answer = command.call("PING", &redis::cmd("PING")).await.map(drop);
        unreachable(answer, started, options.command_timeout);
        let started = Instant::now();
        let answer = world.store.beat(&renewals, &world.pipeline, &asked).await.map(drop);
        unreachable(answer, started, options.connect_timeout.max(options.lease_timeout));
        let started = Instant::now();
        let answer = world.store.wait_for_mail(&bell, &heard).await.map(drop);
        unreachable(answer, started, options.bell_block + options.command_timeout);
    }

    // It is over: each class makes a connection anew, and the bell rings.
    proxy.heal();
    proxy.cut();
    let (command, renewals, bell) =
        (world.link.clone(), world.link.sibling(Class::Lease), world.link.sibling(Class::Bell));
    command.call("PING", &redis::cmd("PING")).await.expect("a good network");
    assert!(world.store.beat(&renewals, &world.pipeline, &asked).await.expect("a beat")[0].renewed);
    world.send("tally", 1).await;
    let rung = world.store.wait_for_mail(&bell, &heard).await.expect("a bell");
    assert_eq!(rung.len(), 1);
}

#[actix_rt::test]
async fn a_connection_that_is_never_made_is_given_up_in_time() {
    // A full backlog answers no handshake: what a firewall that drops packets looks like.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    rustix::net::listen(&listener, 0).expect("the shortest backlog");
    let address = listener.local_addr().expect("its address");
    let filler = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok();
    let fillers: Vec<_> = (0..8).map(filler).collect();
    assert!(fillers.iter().any(Option::is_none), "the backlog is not full: nothing is proved");
    let options = bounded(&format!("redis://{address}"), LONG_LEASE);
    for class in [Class::Command, Class::Lease, Class::Bell] {
        let limit = options.connect_timeout;
        let link = node(options.clone()).sibling(class).with_patience(Patience::For(Duration::ZERO));
        let started = Instant::now();
        let answer = link.call("PING", &redis::cmd("PING")).await;
        assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "{answer:?}");
        assert!(started.elapsed() >= limit, "it did not even try");
        assert!(started.elapsed() < limit + Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[actix_rt::test]
async fn a_slow_network_loses_and_doubles_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port).await;
    let world = World::through(server, node(bounded(&proxy.url(), LONG_LEASE))).await;
    let address = Address::new(&world.pipeline, "tally");
    let lease = world.acquire("tally").await.expect("free");
    // Slow enough for some answers to come after their time is over, and quick enough to get on.
    let crawl = Faults { bytes_per_second: 5_000, delay: Duration::from_millis(60), ..Faults::default() };
    for n in 1..=12 {
        world.store.send(&world.link, &address, 100, Some(&n.to_string()), &number(n)).await.expect("sent");
        if n == 4 {
            proxy.set(crawl);
        }
        if n == 9 {
            proxy.heal();
        }
    }
    let mut taken = 0;
    while taken < 12 {
        let delivery = lease.claim().await.expect("entries");
        taken += delivery.entries.len();
        lease.commit(&crate::world::copy(&delivery)).await.expect("a commit");
    }
    assert_eq!(world.output("out").await, (1..=12).collect::<Vec<u64>>());
}
