//! Every way to reach Redis: TLS, a socket file, an ACL user, Sentinels; and that all connections go one way.

use std::sync::Arc;
use std::time::Duration;

use gapless::config::RedisTls;
use gapless::store::StoreError;
use gapless::store::link::{Class, Health, Link, Patience};
use gapless::store::options::StoreOptions;
use gapless::store::status::round_trip;

use crate::lines::{offsets, turn};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::sentinel::{Fleet, MASTER};
use crate::support::tls::{Authority, TlsServer};
use crate::support::wait;
use crate::world::{LONG_LEASE, World, append, options};

use gapless::store::effect::Commit;
use gapless::store::lease::Committed;

/// A link with little patience: what cannot work is to be told soon.
fn impatient(options: StoreOptions) -> Link {
    let patience = Patience::For(Duration::from_millis(50));
    Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, patience)
}

fn with_tls(url: &str, tls: RedisTls) -> Link {
    impatient(StoreOptions { tls, ..options(url, LONG_LEASE) })
}

/// Why it could not be reached.
async fn reason(link: &Link) -> String {
    match round_trip(link).await {
        Err(StoreError::Unreachable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Lines have connections of their own, which must find the same way.
async fn lines_pass(world: &World) {
    let lease = world.acquire("watcher").await.expect("a free unit");
    for numbers in [0..300, 300..310] {
        assert_eq!(lease.commit(&turn(numbers)).await, Ok(Committed::Now));
    }
    assert_eq!(offsets(world).await, Vec::from_iter(0..310));
}

#[actix_rt::test]
async fn tls_trusts_the_named_authority_and_the_named_host() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let Some(server) = TlsServer::start(&ours, &["localhost"], false) else { return };
    let trusting = |authority: &Authority| RedisTls { ca_file: Some(authority.ca_file()), ..RedisTls::default() };
    let good = with_tls(&server.url("localhost"), trusting(&ours));
    round_trip(&good).await.expect("a server with a certificate of the authority");
    let world = World::through(server.server, good).await;
    let lease = world.acquire("tally").await.expect("free");
    let commit = Commit { effects: vec![append("out", &[1])], ..Commit::default() };
    lease.commit(&commit).await.expect("a commit over TLS");
    assert_eq!(world.output("out").await, [1]);
    lines_pass(&world).await;
    let url = |host: &str| format!("rediss://{host}:{}/", server.tls_port);
    for (link, words) in [
        (with_tls(&url("localhost"), trusting(&theirs)), "UnknownIssuer; name the authority that signed it"),
        (with_tls(&url("localhost"), RedisTls::default()), "UnknownIssuer; name the authority that signed it"),
        (with_tls(&url("127.0.0.1"), trusting(&ours)), "the certificate must name the host"),
        (
            with_tls(&format!("rediss://localhost:{}", world.server.port), trusting(&ours)),
            "perhaps the server speaks no TLS on this port",
        ),
    ] {
        let reason = reason(&link).await;
        assert!(reason.contains(words), "{words}: {reason}");
    }
    let careless = with_tls(&url("127.0.0.1"), RedisTls { insecure: true, ..RedisTls::default() });
    round_trip(&careless).await.expect("any certificate is good enough");
}

#[actix_rt::test]
async fn a_server_that_wants_a_client_certificate_gets_it() {
    let authority = Authority::new();
    let Some(server) = TlsServer::start(&authority, &["localhost"], true) else { return };
    let ca_file = Some(authority.ca_file());
    let (cert, key) = authority.sign("client", &["a node"]);
    let client = Some((cert.clone(), key.clone()));
    let known = RedisTls { ca_file: ca_file.clone(), client, insecure: false };
    let known = with_tls(&server.url("localhost"), known);
    round_trip(&known).await.expect("a known client");
    let unknown = with_tls(&server.url("localhost"), RedisTls { ca_file: ca_file.clone(), ..RedisTls::default() });
    reason(&unknown).await;
    // Another authority's certificate opens nothing either.
    let foreign = RedisTls { ca_file, client: Some(Authority::new().sign("x", &["x"])), insecure: false };
    reason(&with_tls(&server.url("localhost"), foreign)).await;
    // A renewed certificate is taken by the next connection, without a restart.
    std::fs::write(&cert, "").expect("written");
    server.server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    reason(&known).await;
    let (fresh_cert, fresh_key) = authority.sign("renewed", &["a node"]);
    std::fs::copy(fresh_cert, cert).expect("copied");
    std::fs::copy(fresh_key, key).expect("copied");
    round_trip(&known).await.expect("the renewed certificate");
}

#[actix_rt::test]
async fn a_socket_file_leads_to_redis_and_its_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("redis.sock");
    let server = RedisServer::with(&["--appendonly", "yes", "--unixsocket", &socket.display().to_string()]);
    for (url, db) in
        [(format!("redis+unix://{}?db=3", socket.display()), "3"), (format!("unix://{}", socket.display()), "0")]
    {
        let link = impatient(options(&url, LONG_LEASE));
        link.call("SET", redis::cmd("SET").arg(format!("in {db}")).arg("x")).await.expect("written");
    }
    let keys = server.text(&["INFO", "keyspace"]);
    assert!(keys.contains("db0:keys=1,") && keys.contains("db3:keys=1,"), "{keys}");
    let world =
        World::through(server, impatient(options(&format!("unix://{}?db=3", socket.display()), LONG_LEASE))).await;
    lines_pass(&world).await;
    let keys = world.server.text(&["INFO", "keyspace"]);
    assert!(keys.contains("db0:keys=1,"), "all that a node writes is in its database: {keys}");
    let gone = impatient(options("unix:///nowhere/redis.sock", LONG_LEASE));
    assert!(reason(&gone).await.contains("No such file"));
}

#[actix_rt::test]
async fn an_acl_user_is_let_in_by_its_own_password_alone() {
    let server = RedisServer::start();
    server.command(&["ACL", "SETUSER", "node", "on", ">p@ss", "~t:*", "&t:*", "+@all"]);
    server.command(&["ACL", "SETUSER", "default", "off"]);
    let at = |url: &str| impatient(options(&url.replace("PORT", &server.port.to_string()), LONG_LEASE));
    round_trip(&at("redis://node:p%40ss@127.0.0.1:PORT")).await.expect("the user of the URL");
    let mut apart = options(&server.url(), LONG_LEASE);
    (apart.username, apart.password) = (Some("node".to_owned()), Some("p@ss".to_owned()));
    round_trip(&impatient(apart)).await.expect("the user of the configuration");
    for url in ["redis://node:wrong@127.0.0.1:PORT", "redis://nobody:p%40ss@127.0.0.1:PORT", "redis://127.0.0.1:PORT"] {
        let refused = round_trip(&at(url)).await.expect_err(url);
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("redis.username") && !text.contains("wrong") && !text.contains("p@ss"), "{text}");
    }
    let forbidden = at("redis://node:p%40ss@127.0.0.1:PORT");
    let refused = forbidden.call("GET", redis::cmd("GET").arg("other:key")).await.expect_err("not its key");
    assert!(refused.to_string().contains("`gapless doctor` prints the rights"), "{refused}");
}

/// A user who may not ask what the server is learns of it by trying; the lines of two units pass side by side, over no more
/// connections than that.
#[actix_rt::test]
async fn lines_of_several_units_pass_under_a_user_of_few_rights_over_connections_that_are_kept() {
    let server = RedisServer::start();
    let rights =
        ["ACL", "SETUSER", "node", "on", ">p@ss", "~t:*", "~gapless:*", "&*", "+@all", "-info", "-role", "-client"];
    server.command(&rights);
    let url = format!("redis://node:p%40ss@127.0.0.1:{}", server.port);
    let world = World::through(server, impatient(options(&url, LONG_LEASE))).await;
    let [one, two] = ["watcher", "other"].map(|actor| world.acquire(actor));
    let (one, two) = (one.await.expect("a free unit"), two.await.expect("a free unit"));
    for n in 0..20 {
        let (first, second) = (turn(20 * n..20 * n + 10), turn(20 * n + 10..20 * n + 20));
        let (first, second) = tokio::join!(one.commit(&first), two.commit(&second));
        assert_eq!((first, second), (Ok(Committed::Now), Ok(Committed::Now)));
    }
    let mut stored = offsets(&world).await;
    stored.sort_unstable();
    assert_eq!(stored, Vec::from_iter(0..400));
    let opened = world.link.health().connects_total.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(opened, 3, "one for everything, and one for each unit that appends lines");
    let refused = format!("{:?}", world.server.command(&["ACL", "LOG"]));
    assert!(refused.contains("role") && !refused.contains("setname"), "nothing is tried that is not needed: {refused}");
}

#[actix_rt::test]
async fn sentinels_lead_to_the_master_even_if_some_are_dead_or_lie() {
    let mut fleet = Fleet::start(1, &[]).await;
    let link =
        impatient(StoreOptions { command_timeout: Duration::from_millis(300), ..options(&fleet.url(), LONG_LEASE) });
    link.call("SET", redis::cmd("SET").arg("a").arg("1")).await.expect("the master");
    assert_eq!(fleet.servers[0].text(&["GET", "a"]), "1");
    // One is gone, one calls a replica the master: what the third says holds.
    fleet.sentinels[0].kill();
    let replica = fleet.servers[1].port.to_string();
    fleet.sentinels[1].command(&["SENTINEL", "REMOVE", MASTER]);
    fleet.sentinels[1].command(&["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &replica, "2"]);
    let link = impatient(options(&fleet.url(), LONG_LEASE));
    link.call("SET", redis::cmd("SET").arg("a").arg("2")).await.expect("the third sentinel knows");
    assert_eq!(fleet.servers[0].text(&["GET", "a"]), "2");
    let world = World::through(RedisServer::start(), link).await;
    lines_pass(&world).await;
    let nobody = impatient(options(&fleet.url().replace("/main", "/other"), LONG_LEASE));
    assert!(reason(&nobody).await.contains("it knows no master `other`"));
}

#[actix_rt::test]
async fn sentinels_with_a_password_of_their_own_are_asked_with_it() {
    let fleet = Fleet::start(0, &[]).await;
    for sentinel in &fleet.sentinels {
        sentinel.command(&["ACL", "SETUSER", "default", "resetpass", ">watch"]);
    }
    let ask = |password: Option<&str>| {
        let mut options = options(&fleet.url(), LONG_LEASE);
        options.sentinel_password = password.map(str::to_owned);
        impatient(options)
    };
    round_trip(&ask(Some("watch"))).await.expect("the right password");
    for password in [None, Some("wrong")] {
        let refused = round_trip(&ask(password)).await.expect_err("a refusal");
        assert!(matches!(&refused, StoreError::Refused { command, .. } if command.contains("redis.sentinel_password")));
    }
}

#[actix_rt::test]
async fn when_one_connection_finds_another_master_all_leave_the_old_one() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let front = Proxy::to(old.port).await;
    let mut slow = options(&front.url(), LONG_LEASE);
    // Nothing but the news ends the blocking read in time.
    (slow.command_timeout, slow.bell_block) = (Duration::from_secs(30), Duration::from_secs(30));
    let health = Arc::new(Health::default());
    let patience = Patience::For(Duration::from_secs(15));
    let data = Link::new(Arc::new(slow), health.clone(), Class::Command, patience);
    let (lease, bell) = (data.sibling(Class::Lease), data.sibling(Class::Bell));
    let port = async |link: &Link| {
        let told = link.call("CONFIG", redis::cmd("CONFIG").arg("GET").arg("port")).await.expect("an answer");
        redis::from_redis_value::<Vec<String>>(told).expect("a pair")[1].parse::<u16>().expect("a port")
    };
    for link in [&data, &lease, &bell] {
        assert_eq!(port(link).await, old.port);
    }
    assert_eq!(health.home(), 1);
    // The isolated old master: open connections stay, new ones reach the promoted server.
    front.lead_new_to(new.port);
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK").arg(25_000).arg("STREAMS").arg("mail").arg("0");
    let blocked = async { bell.call("XREAD", &read).await };
    let (rung, ()) = tokio::join!(blocked, async {
        wait::until_true("a blocked reader", || old.text(&["INFO", "clients"]).contains("blocked_clients:1")).await;
        assert_eq!(port(&lease).await, old.port, "nothing has told it yet");
        let mut fresh = redis::cmd("XADD");
        fresh.arg("mail").arg("*").arg("a").arg("b");
        fresh.query::<String>(&mut new.connection()).expect("sent");
        // One connection breaks and is made anew.
        data.sibling(Class::Command).call("PING", &redis::cmd("PING")).await.expect("the new master");
    });
    assert_ne!(rung.expect("an answer of the new master"), redis::Value::Nil);
    assert_eq!(health.home(), 2);
    for link in [&data, &lease, &bell] {
        assert_eq!(port(link).await, new.port);
    }
}
