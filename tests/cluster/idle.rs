//! What a node with nothing to do asks Redis, and that it hears of mail all the same: with a deaf bell, and after a
//! failover that made ids smaller.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use gapless::ids::{Address, Kind, PipelineId, UnitId};
use gapless::store::lease::Mail;
use gapless::supervisor::life::UnitSpec;
use gapless::supervisor::placement::Placement;
use gapless::telemetry::metrics::RestartReason;

use crate::frail::{BELL_BLOCK, LEASE, Site, Trouble, quick, spec};
use crate::support::fleet::{Node, Plan};
use crate::support::redis::RedisServer;
use crate::support::wait;

impl Site {
    /// From here on the blocking read of the bell is refused: every ring is lost.
    fn deafen(&self) {
        self.server.command(&["ACL", "SETUSER", "default", "-xread"]);
    }

    fn mailbox(&self, actor: &str) -> String {
        self.store.keys.mailbox(&Address::new(&self.pipeline, actor))
    }

    /// A number under an id of the test's choice.
    fn send_as(&self, actor: &str, id: &str, n: u64) {
        let body = format!("{{\"n\":{n}}}");
        self.server.command(&["XADD", &self.mailbox(actor), id, "type", "number", "body", &body]);
    }

    async fn puts_out(&self, actor: &str, numbers: &[u64]) {
        wait::until(&format!("{actor} at {numbers:?}"), || async { self.output(actor).await == numbers }).await;
    }

    async fn emptied(&self, actor: &str) {
        let length = || self.server.command(&["XLEN", &self.mailbox(actor)]);
        wait::until_true("an empty mailbox", || length() == redis::Value::Int(0)).await;
    }

    fn slot(&self, actor: &str) -> UnitSpec {
        let id = UnitId::slot(&self.pipeline, actor, 0);
        UnitSpec { mail: Mail::Pool, placement: Placement::Shared, ..spec(id, Trouble::none()) }
    }
}

/// Commands since `CONFIG RESETSTAT`, those inside scripts included.
fn commands(server: &RedisServer) -> BTreeMap<String, u64> {
    let stats = server.text(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(calls).collect()
}

/// Waits so long while nothing else happens.
async fn pass(time: Duration) -> Duration {
    let since = Instant::now();
    wait::until_true("time to pass", || since.elapsed() > time).await;
    since.elapsed()
}

#[actix_rt::test]
async fn a_lost_ring_is_made_good_by_the_beat() {
    let site = Site::new().await;
    site.deafen();
    let node = site.node_of("a", quick(), vec![spec(site.unit("one"), Trouble::none()), site.slot("pool")]);
    wait::until_true("both units", || node.metrics.units_running.get() == 2).await;
    for upto in 1..=4 {
        for actor in ["one", "pool"] {
            let sent = Instant::now();
            site.send(actor, upto..=upto).await;
            site.counted(actor, upto).await;
            println!("{actor}, no bell: dealt with after {:?}; a beat is {:?}", sent.elapsed(), LEASE / 6);
        }
    }
    assert_eq!(commands(&site.server).get("xread"), Some(&0), "asked for, and always refused");
    node.drain().await;
}

#[actix_rt::test]
async fn smaller_ids_after_a_failover_are_heard() {
    for deaf in [false, true] {
        let site = Site::new().await;
        let node = site.node("a", quick(), &[("one", Trouble::none())]);
        wait::until_true("the unit", || node.metrics.units_running.get() == 1).await;
        site.send_as("one", "10-1", 1);
        site.puts_out("one", &[1]).await;
        let unit = site.unit("one");
        let output = site.store.keys.output(&site.pipeline, "one");
        let keys = [site.store.keys.checkpoint(&unit), site.mailbox("one"), output];
        let mut connection = site.server.connection();
        let dumps: Vec<Vec<u8>> =
            keys.iter().map(|key| redis::cmd("DUMP").arg(key).query(&mut connection).expect("a dump")).collect();
        site.send_as("one", "1000-1", 2);
        site.puts_out("one", &[1, 2]).await;
        if deaf {
            site.deafen();
        }
        // A failover behind a proxy: the connections live on, the second entry and all that came of it is lost.
        let mut failover = redis::pipe();
        failover.atomic();
        for (key, dump) in keys.iter().zip(&dumps) {
            failover.cmd("RESTORE").arg(key).arg(0).arg(dump).arg("REPLACE");
        }
        failover.exec(&mut connection).expect("another history");
        wait::until_true("a unit that knows", || node.restarts("one", RestartReason::Reload) == 1).await;
        wait::until_true("the unit", || node.metrics.units_running.get() == 1).await;
        pass(LEASE).await;
        site.send_as("one", "20-1", 3);
        site.puts_out("one", &[1, 3]).await;
        site.send_as("one", "20-2", 4);
        site.puts_out("one", &[1, 3, 4]).await;
        node.drain().await;
    }
}

#[actix_rt::test]
async fn smaller_ids_are_heard_by_a_unit_that_lost_nothing_itself() {
    for deaf in [false, true] {
        let site = Site::new().await;
        let node = site.node_of("a", quick(), vec![site.slot("pool")]);
        wait::until_true("the slot", || node.metrics.units_running.get() == 1).await;
        site.send_as("pool", "1000-1", 1);
        site.puts_out("pool", &[1]).await;
        site.emptied("pool").await;
        if deaf {
            site.deafen();
        }
        // The slot's own checkpoint is as it was: only ids tell.
        site.server.command(&["DEL", &site.mailbox("pool")]);
        pass(LEASE).await;
        for (id, upto) in [("20-1", 2), ("20-2", 3), ("30-1", 4)] {
            site.send_as("pool", id, upto);
            site.counted("pool", upto).await;
            site.emptied("pool").await;
        }
        assert_eq!(node.restarts("pool", RestartReason::Reload), 0);
        node.drain().await;
    }
}

#[actix_rt::test]
async fn an_idle_node_asks_nothing_but_its_beat_and_its_bell() {
    let site = Site::new().await;
    let other = PipelineId::new(Kind::Selftest, "y");
    site.store.mark_pipeline(&site.link, &other, false).await.expect("a mark");
    let units = |pipeline: &PipelineId| {
        let pipeline = pipeline.clone();
        (0..10).map(move |n| spec(UnitId::exclusive(&pipeline, &format!("unit_{n}")), Trouble::none()))
    };
    let node = site.node_of("a", quick(), units(&site.pipeline).chain(units(&other)).collect());
    wait::until_true("all units", || node.metrics.units_running.get() == 20).await;
    // Every unit has taken its first look.
    let mut stats = BTreeMap::new();
    wait::until("quiet", || async {
        site.server.command(&["CONFIG", "RESETSTAT"]);
        pass(LEASE).await;
        !commands(&site.server).contains_key("xrange")
    })
    .await;
    site.server.command(&["CONFIG", "RESETSTAT"]);
    let passed = pass(BELL_BLOCK * 2).await;
    stats.append(&mut commands(&site.server));
    let at_most = |period: Duration| u64::try_from(passed.as_millis() / period.as_millis()).expect("a count") + 2;
    let beats = stats["evalsha"];
    assert!((1..=at_most(LEASE / 6)).contains(&beats), "{beats} scripts in {passed:?}");
    assert!(stats["xread"] <= at_most(BELL_BLOCK), "{stats:?}");
    // In each beat: the clock once or twice, and for each unit its checkpoint, its lease, its mailbox.
    let inside = BTreeMap::from([
        ("hmget", 20 * beats),
        ("set", 20 * beats),
        ("xlen", 20 * beats),
        ("xinfo|stream", 20 * beats),
        ("time", 2 * beats),
        ("hset", beats),
        ("hgetall", beats),
        ("get", beats),
    ]);
    let asked_by_the_test = ["config|resetstat", "info"];
    for (name, calls) in &stats {
        let known = ["evalsha", "xread"].contains(&name.as_str()) || asked_by_the_test.contains(&name.as_str());
        let expected = inside.get(name.as_str());
        assert!(
            known || expected.is_some_and(|most| calls <= most),
            "{calls} times {name} in {beats} beats: {stats:?}"
        );
    }
    node.drain().await;
}

#[actix_rt::test]
async fn keys_that_one_script_may_not_touch_together_are_renewed_apart() {
    let site = Site::new().await;
    let (other, broken) = (PipelineId::new(Kind::Selftest, "y"), PipelineId::new(Kind::Selftest, "z"));
    for pipeline in [&other, &broken] {
        site.store.mark_pipeline(&site.link, pipeline, false).await.expect("a mark");
    }
    let of = |pipeline: &PipelineId| spec(UnitId::exclusive(pipeline, "one"), Trouble::none());
    let node = site.node_of("a", quick(), vec![of(&site.pipeline), of(&other), of(&broken)]);
    wait::until_true("all units", || node.metrics.units_running.get() == 3).await;
    // From now on no key of the third pipeline may be touched, so no script that names one runs.
    let rules =
        ["ACL", "SETUSER", "default", "resetkeys", "~t:nodes", "~t:cluster", "~t:{selftest.x}:*", "~t:{selftest.y}:*"];
    site.server.command(&rules);
    let expiry = |pipeline: &PipelineId| {
        site.server.text(&["GET", &site.store.keys.expiry(&UnitId::exclusive(pipeline, "one"))])
    };
    let (mut seen, mut renewals) = ([expiry(&site.pipeline), expiry(&other)], 0);
    wait::until_true("ten renewals of both", || {
        let now = [expiry(&site.pipeline), expiry(&other)];
        if now[0] != seen[0] && now[1] != seen[1] {
            (seen, renewals) = (now, renewals + 1);
        }
        renewals == 10
    })
    .await;
    site.send("one", 1..=3).await;
    site.counted("one", 3).await;
    assert_eq!(node.restarts("one", RestartReason::Reload), 0);
    node.drain().await;
}

/// One figure of `INFO`.
fn info(server: &RedisServer, name: &str) -> u64 {
    let all = server.text(&["INFO", "stats"]);
    let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in INFO"))
}

/// Seconds of CPU time of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its figures");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u32>().map(f64::from).expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its figures");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.expect("its memory").trim().to_owned()
}

/// `cargo nextest run --test cluster --run-ignored only --no-capture -E 'test(cost_of_an_idle_node)'`
#[tokio::test]
#[ignore = "prints figures; asserts none"]
async fn cost_of_an_idle_node() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let more = vec![("node", "lease_seconds = 3".to_owned())];
    let plan = Plan { messages: 0, actors: 49, more, ..Plan::default() };
    let mut node = Node::new(folder.path(), "idle", &plan, &server.url());
    let second = "[selftest.y]\nactors = 49\n";
    let mut file = OpenOptions::new().append(true).open(folder.path().join("idle/node.toml")).expect("its file");
    file.write_all(second.as_bytes()).expect("a second pipeline");
    node.start();
    let leases =
        || redis::cmd("KEYS").arg("*:exp:*").query::<Vec<String>>(&mut server.connection()).expect("keys").len();
    wait::until_true("100 units", || leases() == 100).await;
    pass(Duration::from_secs(8)).await;
    server.command(&["CONFIG", "RESETSTAT"]);
    let names =
        ["total_commands_processed", "total_reads_processed", "total_net_input_bytes", "total_net_output_bytes"];
    let before = (names.map(|name| info(&server, name)), cpu_seconds(node.pid()), cpu_seconds(server.pid()));
    let passed = pass(Duration::from_secs(15)).await.as_secs_f64();
    let after = (names.map(|name| info(&server, name)), cpu_seconds(node.pid()), cpu_seconds(server.pid()));
    let sent: u64 = ["evalsha", "eval", "xread"].iter().filter_map(|name| commands(&server).get(*name).copied()).sum();
    println!("100 idle units of two pipelines, lease 3 s, over {passed:.1} s, a second:");
    println!("  requests (scripts, XREAD): {:.2}", sent as f64 / passed);
    for (n, name) in names.iter().enumerate() {
        println!("  {name}: {:.1}", (after.0[n] - before.0[n]) as f64 / passed);
    }
    println!(
        "  CPU of the node {:.2} %, of Redis {:.2} %",
        (after.1 - before.1) / passed * 100.0,
        (after.2 - before.2) / passed * 100.0
    );
    println!("  memory of the node: {}", memory(node.pid()));
    println!("  by command, those inside scripts included: {:?}", commands(&server));
    assert!(node.is_running());
}
