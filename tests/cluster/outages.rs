//! Redis goes away, comes back, and runs out of memory: nothing exits, nothing is counted, work goes on.

use std::time::{Duration, Instant};

use redis::FromRedisValue;

use crate::support::chaos::{World, restart};
use crate::support::fleet::{LogLine, Plan};
use crate::support::invariants;
use crate::support::wait;

#[tokio::test]
async fn work_goes_on_within_two_seconds_of_the_return_of_redis() {
    let mut plan = Plan { messages: 3500, pause_ms: 40, ..Plan::default() };
    // The defaults, so that the figure is theirs.
    let defaults = ["connect_timeout_ms = 1000", "command_timeout_ms = 2000", "lease_timeout_ms = 500"];
    plan.more = defaults.map(|line| ("redis", line.to_owned())).into();
    plan.more.push(("redis", "reconnect_min_ms = 20".to_owned()));
    plan.more.push(("redis", "reconnect_max_ms = 2000".to_owned()));
    plan.more.push(("node", "lease_seconds = 3".to_owned()));
    let mut world = World::new(2, plan);
    world.start(&[]);
    world.records(1000).await;
    let mut figures = Vec::new();
    for outage in [300, 1500] {
        let away = Instant::now();
        world.redis.kill();
        let outage = Duration::from_millis(outage);
        wait::until_true("the length of the outage", || away.elapsed() > outage).await;
        restart(&mut world.redis);
        let (answers, records) = (Instant::now(), invariants::records(&world.redis, &world.truth));
        world.records(records + 50).await;
        figures.push((outage, answers.elapsed()));
    }
    println!("work after redis kill -9 (length of the outage, time after its first answer): {figures:?}");
    for (outage, took) in figures {
        assert!(took <= Duration::from_secs(2), "{took:?} after an outage of {outage:?}");
    }
    world.done().await;
    invariants::all(&world.redis, &world.truth);
    for node in &mut world.nodes {
        assert!(node.is_running(), "{} ended: {:?}", node.name, node.last_end);
        assert_eq!(node.logged("failed; restarting"), 0, "an outage is nobody's fault");
    }
}

#[tokio::test]
async fn leases_live_while_redis_is_out_of_memory_and_work_resumes_after() {
    let mut world = World::new(2, Plan { messages: 3000, pause_ms: 20, ..Plan::default() });
    world.start(&[]);
    world.records(500).await;
    world.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let is_full = |line: &LogLine| line.get("error").is_some_and(|error| error.to_string().contains("OOM"));
    let full = |world: &World| world.log().iter().any(is_full);
    wait::until_true("a unit that waits for memory", || full(&world)).await;
    // Nodes that have just started may still be sharing the units out: that goes on without memory, and ends.
    let tokens = |world: &World| -> Vec<String> {
        let token = |unit: &str| world.redis.text(&["HGET", &world.truth.key(&format!("ck:{unit}")), "token"]);
        ["feeder", "tally_0", "tally_1", "tally_2", "tally_3", "tally_4", "tally_5"].map(token).into()
    };
    let (mut held, mut since) = (tokens(&world), Instant::now());
    wait::until_true("two leases in which no lease changed hands", || {
        let now = tokens(&world);
        if now != held {
            (held, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(2200)
    })
    .await;
    let records = invariants::records(&world.redis, &world.truth);
    assert!(records < 6 * 3000, "the work was over before memory was short");
    let expiry = world.redis.text(&["GET", &world.truth.key("exp:tally_0")]);
    let now = Vec::<u64>::from_redis_value(world.redis.command(&["TIME"])).expect("a time");
    let at: u64 = expiry.split(' ').next().and_then(|at| at.parse().ok()).expect("an expiry");
    assert!(at > now[0] * 1000 + now[1] / 1000, "the lease of tally_0 ran out");
    world.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let raised = Instant::now();
    world.records(records + 300).await;
    println!("work after memory was raised: {:?}", raised.elapsed());
    world.done().await;
    invariants::all(&world.redis, &world.truth);
    assert_eq!(world.log().iter().filter(|line| crate::support::fleet::says(line, "failed; restarting")).count(), 0);
}
