//! Lines under faults: whatever is cut, lost, late, killed or taken back, the stream holds each line once, in order, and
//! exactly the lines that the checkpoint says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gapless::ids::{Kind, PipelineId, RandomId, UnitId};
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::link::Link;
use gapless::store::{Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::lines::{lines, offsets_of, stream, turn};
use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::{RedisServer, free_port};
use crate::support::replica::Pair;
use crate::support::wait;
use crate::world::{LEASE, LONG_LEASE, World, link_with, options};

async fn behind_proxy(timeout: Duration) -> (World, Proxy) {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port).await;
    let mut options = options(&proxy.url(), LONG_LEASE);
    options.command_timeout = timeout;
    (World::through(server, link_with(options)).await, proxy)
}

/// The line behind the last, as the state says.
fn at(state: &str) -> u64 {
    let json: serde_json::Value =
        serde_json::from_str(if state.is_empty() { "{\"at\":0}" } else { state }).expect("JSON");
    json["at"].as_u64().expect("a number")
}

/// State, table and stream say the same; looked at beside the faults of the network.
async fn assert_exact(world: &World, lease: &Lease) {
    let at = at(&lease.state());
    let direct = link_with(options(&world.server.url(), LONG_LEASE));
    let found = offsets_of(&world.store, &direct, &world.pipeline).await;
    let wrong = (0..).zip(&found).find(|(n, offset)| n != *offset);
    assert!(wrong.is_none() && found.len() as u64 == at, "{} lines, the state says {at}; {wrong:?}", found.len());
    let row = lease.table().await.expect("a table").remove("file").unwrap_or_default();
    assert_eq!(row, lease.state());
}

/// Commands that wait in an open transaction, of all connections.
fn queued(world: &World) -> u64 {
    let clients = world.server.text(&["CLIENT", "LIST"]);
    clients.split(" multi=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).max().unwrap_or(0)
}

/// Whether a request has been sent again.
fn given_up(link: &Link) -> bool {
    link.health().repeats_total.load(Ordering::Relaxed) > 0
}

fn length(world: &World) -> String {
    world.server.text(&["XLEN", &stream(world)])
}

#[actix_rt::test]
async fn a_lost_answer_appends_nothing_twice() {
    let (world, proxy) = behind_proxy(Duration::from_millis(150)).await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    assert_eq!(lease.commit(&turn(0..300)).await, Ok(Committed::Now));
    proxy.set(Faults { hold_answers: true, ..Faults::default() });
    let commit = turn(300..600);
    let healed = async {
        wait::until_true("the commit to be done", || length(&world) == "600").await;
        wait::until_true("its answer to be given up", || given_up(&world.link)).await;
        proxy.heal();
    };
    let (answer, ()) = tokio::join!(lease.commit(&commit), healed);
    assert_eq!(answer, Ok(Committed::Before));
    assert_exact(&world, &lease).await;
    assert_eq!(lease.commit(&turn(600..601)).await, Ok(Committed::Now));
    assert_exact(&world, &lease).await;
}

#[actix_rt::test]
async fn a_transaction_that_is_cut_half_way_leaves_nothing() {
    let (world, proxy) = behind_proxy(Duration::from_secs(10)).await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    assert_eq!(lease.commit(&turn(0..1)).await, Ok(Committed::Now));
    proxy.set(Faults { bytes_per_second: 40_000, ..Faults::default() });
    let commit = turn(1..500);
    let cut = async {
        wait::until_true("a part of it to be there", || queued(&world) > 100).await;
        proxy.cut();
        wait::until_true("the server to see that", || queued(&world) == 0).await;
        assert_eq!(length(&world), "1");
        proxy.heal();
    };
    let (answer, ()) = tokio::join!(lease.commit(&commit), cut);
    assert_eq!(answer, Ok(Committed::Now), "it was never run, so the second sending is the first copy");
    assert_exact(&world, &lease).await;
}

/// A turn is dropped at every moment of its sending; the unit goes on under the same lease, on what the checkpoint says.
#[actix_rt::test]
async fn a_commit_that_is_dropped_at_any_moment_is_done_whole_or_not_at_all() {
    let world = World::new().await;
    let mut lease = world.acquire("watcher").await.expect("a free unit");
    for looks in 0..40 {
        let from = at(&lease.state());
        {
            let commit = turn(from..from + 350);
            let mut under_way = Box::pin(lease.commit(&commit));
            for _ in 0..looks {
                if futures_util::poll!(under_way.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // Another unit of the node goes on beside it, and never comes into an open transaction.
        let other = world.unit("other");
        world.beat(&world.link, &other, None).await;
        let next = at(&lease.state());
        match lease.commit(&turn(next..next + 1)).await {
            Ok(_) => {}
            Err(StoreError::Moved { .. }) => lease = world.again(&lease, &Fate::Clean).await.expect("ours"),
            Err(other) => panic!("{other}"),
        }
        assert_exact(&world, &lease).await;
    }
}

#[actix_rt::test]
async fn a_former_holder_that_wakes_late_appends_nothing() {
    let (world, proxy) = behind_proxy(Duration::from_secs(10)).await;
    let short = link_with(options(&proxy.url(), LEASE));
    let unit = world.unit("watcher");
    let zombie = Lease::acquire(&world.store, &short, &unit, Mail::Offset, None, &Fate::Clean).await.expect("free");
    assert_eq!(zombie.commit(&turn(0..300)).await, Ok(Committed::Now));
    // Its next transaction is on the way when it is paused, and arrives after another node has gone on.
    proxy.strand();
    let commit = turn(300..600);
    let mut late = Box::pin(zombie.commit(&commit));
    for _ in 0..10 {
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let direct = link_with(options(&world.server.url(), LONG_LEASE));
    let store = world.other_store();
    let heir = wait::until_some("the lease to run out", || async {
        Lease::acquire(&store, &direct, &unit, Mail::Offset, None, &Fate::Clean).await.ok()
    })
    .await;
    assert_eq!(heir.commit(&turn(300..500)).await, Ok(Committed::Now));
    proxy.heal();
    assert!(matches!(late.await, Err(StoreError::Fenced { .. })));
    let taken = world.server.text(&["INFO", "commandstats"]).contains("cmdstat_xdel:");
    assert!(taken, "the late transaction has not arrived");
    assert_exact(&world, &heir).await;
    assert_eq!(heir.commit(&turn(500..600)).await, Ok(Committed::Now));
    assert_exact(&world, &heir).await;
}

/// Rights are asked when a command is queued, and again at EXEC. Where XADD is withdrawn in between, the lines are
/// missing and the script must see that: else it would take others for them.
#[actix_rt::test]
async fn a_right_to_append_that_is_withdrawn_under_way_refuses_the_commit() {
    let server = RedisServer::start();
    server.command(&["ACL", "SETUSER", "node", "on", ">secret", "~*", "&*", "+@all"]);
    let proxy = Proxy::to(server.port).await;
    let mut options = options(&proxy.url(), LONG_LEASE);
    (options.username, options.password) = (Some("node".to_owned()), Some("secret".to_owned()));
    options.command_timeout = Duration::from_secs(10);
    let world = World::through(server, link_with(options)).await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    assert_eq!(lease.commit(&turn(0..200)).await, Ok(Committed::Now));
    // The same lines once more, as a repeat would have them; the last command is longer than the window is wide.
    proxy.set(Faults { bytes_per_second: 20_000, ..Faults::default() });
    let commit = turn(0..200);
    let withdrawn = async {
        wait::until_true("every line to be queued", || queued(&world) >= 200).await;
        world.server.command(&["ACL", "SETUSER", "node", "-xadd"]);
        assert_eq!(queued(&world), 200, "the script was queued too early for this test");
        proxy.heal();
    };
    let (answer, ()) = tokio::join!(lease.commit(&commit), withdrawn);
    let told = format!("{answer:?}");
    assert!(matches!(answer, Err(StoreError::Broken { .. })) && told.contains("NOPERM"), "{told}");
    assert_exact(&world, &lease).await;
}

/// Puts another command in the place of the script, once: one that Redis queues, and refuses at EXEC.
async fn without_the_script(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let armed = Arc::new(AtomicBool::new(false));
    let watched = armed.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
            let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), server.into_split());
            let armed = watched.clone();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            tokio::spawn(async move {
                let (mut buffer, mut held) = (vec![0; 1 << 16], Vec::new());
                while let Ok(n @ 1..) = from.read(&mut buffer).await {
                    held.extend_from_slice(&buffer[..n]);
                    let found = held.windows(8).position(|bytes| bytes == b"\r\nEVAL\r\n");
                    if let Some(place) = found.filter(|_| armed.swap(false, Ordering::SeqCst)) {
                        held[place + 2..place + 6].copy_from_slice(b"ZADD");
                    }
                    // The end of what was read may be the beginning of the word.
                    let keep = (1..8).rev().find(|n| held.ends_with(&b"\r\nEVAL\r\n"[..*n])).unwrap_or(0);
                    let keep = if held.ends_with(b"\r\n") { 0 } else { keep };
                    let rest = held.split_off(held.len() - keep);
                    if to.write_all(&held).await.is_err() {
                        return;
                    }
                    held = rest;
                }
            });
        }
    });
    (address.port(), armed)
}

#[actix_rt::test]
async fn lines_whose_script_was_refused_are_taken_back_by_their_holder() {
    let server = RedisServer::start();
    let (port, armed) = without_the_script(server.port).await;
    let world = World::through(server, link_with(options(&format!("redis://127.0.0.1:{port}/"), LONG_LEASE))).await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    assert_eq!(lease.commit(&turn(0..3)).await, Ok(Committed::Now));
    armed.store(true, Ordering::SeqCst);
    let error = lease.commit(&turn(3..6)).await.expect_err("a transaction without a script");
    assert!(matches!(&error, StoreError::Refused { .. }), "{error}");
    let stats = world.server.text(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_xadd:calls=6,"), "the lines were never appended: {stats}");
    assert!(!armed.load(Ordering::SeqCst));
    assert_exact(&world, &lease).await;
    assert_eq!(lease.commit(&turn(3..6)).await, Ok(Committed::Now));
    assert_exact(&world, &lease).await;
}

#[actix_rt::test]
async fn after_kill_9_of_redis_lines_and_checkpoint_agree() {
    let (mut world, proxy) = behind_proxy(Duration::from_secs(2)).await;
    let mut lease = world.acquire("watcher").await.expect("a free unit");
    let mut owners = Vec::new();
    for round in 0..4_u64 {
        let mut committed = 0;
        // Killed while commits are under way, each time at another place.
        while committed < 3 + round {
            let from = at(&lease.state());
            lease.commit(&turn(from..from + 400)).await.expect("a commit");
            committed += 1;
        }
        let from = at(&lease.state());
        let commit = turn(from..from + 400);
        let mut under_way = Box::pin(lease.commit(&commit));
        let mut answer = None;
        for _ in 0..2 + round {
            if let std::task::Poll::Ready(done) = futures_util::poll!(under_way.as_mut()) {
                answer = Some(done);
                break;
            }
            tokio::task::yield_now().await;
        }
        world.server.kill();
        // Elsewhere: another test may have taken its port meanwhile.
        while !world.server.is_running() {
            world.server.port = free_port();
            world.server.resume();
        }
        proxy.lead_to(world.server.port);
        if answer.is_none() {
            let _ = under_way.as_mut().await;
        }
        drop(under_way);
        // A server that is late with its disk answers before it has written: what it loses it loses together, an
        // acquisition too.
        owners.push(lease.held().owner);
        lease = 'taken: {
            for owner in owners.iter().rev() {
                let (unit, clean) = (lease.unit(), &Fate::Clean);
                match Lease::acquire(&world.store, &world.link, unit, Mail::Offset, Some(owner), clean).await {
                    Ok(taken) => break 'taken taken,
                    Err(StoreError::Held { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            panic!("none of ours");
        };
        assert_exact(&world, &lease).await;
    }
}

struct Cluster {
    pair: Pair,
    world: (Store, Link, PipelineId),
}

impl Cluster {
    async fn start() -> Self {
        let pair = Pair::start().await;
        let link = link_with(options(&pair.front.url(), LONG_LEASE));
        let (store, pipeline) = (Store::new("t", "node-a", RandomId::new()), PipelineId::new(Kind::Selftest, "laws"));
        store.claim_cluster(&link, &store.cluster).await.expect("a cluster id");
        store.mark_pipeline(&link, &pipeline, false).await.expect("a mark");
        Self { pair, world: (store, link, pipeline) }
    }

    async fn acquire(&self, previous: Option<&Lease>) -> Lease {
        let (store, link, pipeline) = &self.world;
        let previous = previous.map(|lease| lease.held().owner);
        let unit = UnitId::exclusive(pipeline, "watcher");
        Lease::acquire(store, link, &unit, Mail::Offset, previous.as_ref(), &Fate::Clean).await.expect("free")
    }

    async fn offsets(&self) -> Vec<u64> {
        let (store, link, pipeline) = &self.world;
        offsets_of(store, link, pipeline).await
    }
}

#[actix_rt::test]
async fn lines_that_a_failover_takes_back_are_appended_again_once() {
    let mut cluster = Cluster::start().await;
    let lease = cluster.acquire(None).await;
    assert_eq!(lease.commit(&turn(0..10)).await, Ok(Committed::Now));
    cluster.pair.caught_up().await;
    cluster.pair.leave_behind();
    assert_eq!(lease.commit(&turn(10..20)).await, Ok(Committed::Now));
    cluster.pair.fail_over();
    assert_eq!(lease.commit(&turn(20..30)).await, Err(StoreError::Moved { seq: 1 }));
    assert_eq!(cluster.offsets().await, (0..10).collect::<Vec<_>>());
    let again = cluster.acquire(Some(&lease)).await;
    assert_eq!(again.state(), "{\"at\":10}");
    assert_eq!(again.table().await.expect("a table")["file"], "{\"at\":10}");
    assert_eq!(again.commit(&turn(10..30)).await, Ok(Committed::Now));
    assert_eq!(cluster.offsets().await, (0..30).collect::<Vec<_>>());
}

/// The answer is lost, and the repeat meets another history: one that has the commit, or one that does not.
#[actix_rt::test]
async fn a_repeat_after_a_failover_appends_exactly_what_is_missing() {
    for is_known in [true, false] {
        let mut cluster = Cluster::start().await;
        let lease = cluster.acquire(None).await;
        assert_eq!(lease.commit(&turn(0..10)).await, Ok(Committed::Now));
        cluster.pair.caught_up().await;
        if !is_known {
            cluster.pair.leave_behind();
        }
        cluster.pair.front.set(Faults { drop_answers: true, ..Faults::default() });
        assert!(!given_up(&cluster.world.1));
        let commit = turn(10..20);
        let mut under_way = Box::pin(lease.commit(&commit));
        let key = cluster.world.0.keys.output(&cluster.world.2, "lines");
        wait::until("the commit to be done", || {
            let answer = futures_util::FutureExt::now_or_never(&mut under_way);
            assert!(answer.is_none(), "no answer passes");
            std::future::ready(cluster.pair.master.text(&["XLEN", &key]) == "20" && given_up(&cluster.world.1))
        })
        .await;
        if is_known {
            cluster.pair.caught_up().await;
        }
        cluster.pair.fail_over();
        cluster.pair.front.heal();
        let answer = under_way.await;
        // Without the lines the base is there as it was, so the repeat is the first copy in this history.
        assert_eq!(answer, Ok(if is_known { Committed::Before } else { Committed::Now }));
        assert_eq!(cluster.offsets().await, (0..20).collect::<Vec<_>>());
    }
}

/// A table read on another server than the one that the lease was taken on, or after a failover, is refused.
#[actix_rt::test]
async fn a_table_is_read_only_under_the_tip_of_its_lease() {
    let mut cluster = Cluster::start().await;
    let lease = cluster.acquire(None).await;
    assert_eq!(lease.commit(&turn(0..10)).await, Ok(Committed::Now));
    cluster.pair.caught_up().await;
    cluster.pair.leave_behind();
    assert_eq!(lease.commit(&turn(10..20)).await, Ok(Committed::Now));
    let again = cluster.acquire(Some(&lease)).await;
    assert!(matches!(lease.table().await, Err(StoreError::Fenced { .. })));
    assert_eq!(again.table().await.expect("a table")["file"], "{\"at\":20}");
    cluster.pair.fail_over();
    assert!(matches!(again.table().await, Err(StoreError::Fenced { .. } | StoreError::Moved { .. })));
}

/// Cuts, lost answers, late requests and takeovers by chance; every transaction of a former holder is refused.
#[actix_rt::test]
async fn any_history_of_faults_leaves_each_line_once_in_order() {
    for seed in [1_u64, 2, 3] {
        let (world, proxy) = behind_proxy(Duration::from_millis(150)).await;
        let proxy = Arc::new(proxy);
        let mut rng = StdRng::seed_from_u64(seed);
        let direct = link_with(options(&world.server.url(), LONG_LEASE));
        let mut lease = world.acquire("watcher").await.expect("a free unit");
        let mut former: Vec<Lease> = Vec::new();
        for step in 0..120 {
            let from = at(&lease.state());
            let commit = turn(from..from + rng.random_range(1..400));
            match rng.random_range(0..8) {
                0 => proxy.set(Faults { drop_answers: true, ..Faults::default() }),
                1 => proxy.strand(),
                2 => proxy.set(Faults { lose_answers: true, ..Faults::default() }),
                _ => proxy.heal(),
            }
            let looks = rng.random_range(0..60);
            let answer = {
                let mut under_way = Box::pin(lease.commit(&commit));
                let mut answer = None;
                for look in 0..looks {
                    if let std::task::Poll::Ready(done) = futures_util::poll!(under_way.as_mut()) {
                        answer = Some(done);
                        break;
                    }
                    if look == looks / 2 && rng.random_ratio(1, 3) {
                        proxy.cut();
                    }
                    tokio::task::yield_now().await;
                }
                if answer.is_none() && rng.random_ratio(3, 4) {
                    proxy.heal();
                    answer = Some(under_way.await);
                }
                answer
            };
            let is_lost = !matches!(answer, Some(Ok(_)));
            if is_lost || rng.random_ratio(1, 10) {
                // Somebody takes it over, on what Redis says now; the former holder tries once more, or never learns of it.
                proxy.heal();
                let link = if rng.random_ratio(1, 2) { &direct } else { &world.link };
                let (owner, unit) = (lease.held().owner, lease.unit().clone());
                let next = Lease::acquire(&world.store, link, &unit, Mail::Offset, Some(&owner), &Fate::Clean);
                let next = next.await.expect("ours");
                former.push(std::mem::replace(&mut lease, next));
                let zombie = &former[rng.random_range(0..former.len())];
                let old =
                    Commit { effects: vec![Effect::Lines(lines(0..rng.random_range(1..300)))], ..Commit::default() };
                let refused = zombie.commit(&old).await;
                assert!(matches!(refused, Err(StoreError::Fenced { .. })), "seed {seed}, step {step}: {refused:?}");
            }
        }
        proxy.heal();
        let owner = lease.held().owner;
        let last = Lease::acquire(&world.store, &direct, lease.unit(), Mail::Offset, Some(&owner), &Fate::Clean).await;
        let last = last.expect("ours");
        assert!(at(&last.state()) > 1000, "seed {seed}: hardly anything was committed");
        assert_exact(&world, &last).await;
    }
}
