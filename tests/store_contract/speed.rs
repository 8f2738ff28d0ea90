//! How fast a turn is, for whoever changes a script: `cargo test --release --test store_contract -- --ignored speed`
//! with `--nocapture`. Prints figures and asserts none; the published ones come from `gapless bench`.

use std::time::{Duration, Instant};

use gapless::store::effect::{Ack, Commit};

use crate::support::redis::RedisServer;
use crate::world::{LONG_LEASE, World, ack, append, numbers};

const ENTRIES: u64 = 400_000;

/// Fills a mailbox with entries of 200 bytes, as fast as Redis takes them.
fn fill(world: &World, actor: &str, entries: u64) -> Duration {
    let (key, body) = (world.mailbox(actor), format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(180)));
    let mut connection = world.server.connection();
    let started = Instant::now();
    for _ in 0..entries / 500 {
        let mut pipe = redis::pipe();
        for _ in 0..500 {
            pipe.cmd("XADD").arg(&key).arg("*").arg("type").arg("number").arg("body").arg(&body).ignore();
        }
        pipe.query::<()>(&mut connection).expect("appended");
    }
    started.elapsed()
}

fn script_seconds(world: &World) -> f64 {
    let redis::Value::BulkString(stats) = world.server.command(&["INFO", "commandstats"]) else { panic!("no stats") };
    let stats = String::from_utf8(stats).expect("text");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).expect("scripts");
    let usec = line.split(',').find_map(|f| f.strip_prefix("usec=")).expect("usec");
    usec.parse::<f64>().expect("a number") / 1e6
}

#[actix_rt::test]
#[ignore = "a measurement"]
async fn speed_of_claim_and_commit() {
    // As the managed server is set; a rewrite of the file in the middle would measure the rewrite.
    let settings = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-min-size", "1gb"];
    let world = World::on(RedisServer::with(&settings), LONG_LEASE).await;
    let filled = fill(&world, "tally", ENTRIES);
    println!("XADD pipelined, AOF everysec: {:.0} entries/s", ENTRIES as f64 / filled.as_secs_f64());
    for outputs in [false, true] {
        let actor = if outputs { "both" } else { "tally" };
        if outputs {
            fill(&world, actor, ENTRIES);
        }
        world.server.command(&["CONFIG", "RESETSTAT"]);
        let lease = world.acquire(actor).await.expect("a free unit");
        let (mut turns, mut entries, started) = (0u32, 0u64, Instant::now());
        loop {
            let delivery = lease.claim().await.expect("a delivery");
            if delivery.entries.is_empty() {
                break;
            }
            let effects = if outputs { vec![append("out", &numbers(&delivery))] } else { Vec::new() };
            let commit = Commit { state: Some(format!("{{\"n\":{entries}}}")), ack: ack(&delivery), effects };
            assert_ne!(commit.ack, Ack::Nothing);
            lease.commit(&commit).await.expect("a commit");
            entries += delivery.entries.len() as u64;
            turns += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        let scripts = script_seconds(&world);
        println!(
            "claim and commit{}: {:.0} entries/s, {:.0} commits/s; scripts take {:.0} % of the time, {:.2} us an entry",
            if outputs { " with one record an entry" } else { "" },
            entries as f64 / seconds,
            f64::from(turns) / seconds,
            100.0 * scripts / seconds,
            1e6 * scripts / entries as f64,
        );
    }
}
