//! The chain of digests: whole after kills, and broken by whatever is altered or taken out.

use crate::support::node::poll;
use crate::support::redis::RedisServer;
use crate::world::{World, add, entries, query, raw};

/// Waits until the chain of a stream reaches to an id.
#[track_caller]
fn wait_covered(world: &World, stream: &str, through: &str) {
    poll(&format!("a chain through {through}"), || {
        (world.notes().get(stream)?["proof"]["through"] == through).then_some(())
    });
}

/// Where the records of the streams lie, in both buckets.
fn records(redis: &RedisServer) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for bucket in 0..2 {
        let key = format!("t:{{sync.x}}:out:evidence_{bucket}");
        let rows: Vec<(String, Vec<String>)> = query(redis, 0, &["XRANGE", &key, "-", "+"]);
        all.extend(rows.into_iter().map(|(id, _)| (key.clone(), id)));
    }
    all
}

#[test]
fn a_chain_of_digests_covers_everything_through_kills_and_tells_what_was_altered() {
    let world = World::new("evidence = true\nevidence_seconds = 1");
    add(&world.source, 0, "s", 1..=500);
    let mut node = world.node();
    world.wait_equal("s");
    // Killed before and after records are made: the next one reads from the target what is not covered.
    for round in 1..=4u64 {
        node.kill();
        add(&world.source, 0, "s", 1000 * round..=1000 * round + 99);
        node = world.space.started(&format!("n{round}"), &[]);
        world.wait_equal("s");
        if round == 2 {
            wait_covered(&world, "db0:s", "2099-0");
        }
    }
    wait_covered(&world, "db0:s", "4099-0");
    add(&world.source, 0, "s", 5000..=5000);
    wait_covered(&world, "db0:s", "5000-0");
    let verify = world.run(&["sync", "verify", "--json"]);
    let verdict = verify.json()["streams"][0].clone();
    assert_eq!((verify.code, &verdict["evidence"]["gone"]), (0, &0.into()), "{verify:?}");
    assert!(verdict["evidence"]["good"].as_u64().is_some_and(|good| good >= 4), "{verdict}");
    node.kill();
    // What a consumer of the target has trimmed is gone, and no fault.
    query::<()>(&world.target, 0, &["XTRIM", "s", "MINID", "400-0"]);
    let trimmed = world.run(&["sync", "verify", "--json"]).json();
    let verdict = &trimmed["streams"][0];
    assert!(verdict["evidence"]["gone"].as_u64().is_some_and(|gone| gone >= 1), "{trimmed}");
    assert!(!verdict["faults"].to_string().contains("evidence"), "{trimmed}");
    // Another entry in place of one: the chain tells, whatever the source says.
    let all = entries(&world.target, 0, "s");
    query::<()>(&world.target, 0, &["DEL", "s"]);
    for (id, fields) in &all {
        let value: &[u8] = if id == "3050-0" { b"altered" } else { &fields[1] };
        let args = [b"XADD".as_slice(), b"s", id.as_bytes(), &fields[0], value, &fields[2], &fields[3]];
        raw::<()>(&world.target, 0, &args).expect("an entry");
    }
    let altered = world.run(&["sync", "verify", "--json"]);
    assert_eq!(altered.code, 1, "{altered:?}");
    assert!(altered.json()["streams"][0]["faults"].to_string().contains("evidence: behind"), "{altered:?}");
    // And a record that is taken out.
    let all = records(&world.redis);
    let (key, id) = &all[all.len() / 2];
    query::<()>(&world.redis, 0, &["XDEL", key, id]);
    let missing = world.run(&["sync", "verify", "--json"]).json();
    assert!(missing["streams"][0]["faults"].to_string().contains("a record is missing before"), "{missing}");
}

#[test]
fn a_chain_goes_on_from_a_target_that_was_flushed_and_keeps_its_newest_records() {
    let world = World::new("evidence = true\nevidence_seconds = 1\nevidence_records = 100");
    add(&world.source, 0, "s", 1..=50);
    let _node = world.node();
    world.wait_equal("s");
    wait_covered(&world, "db0:s", "50-0");
    query::<()>(&world.target, 0, &["FLUSHALL"]);
    add(&world.source, 0, "s", 51..=60);
    world.wait_equal("s");
    wait_covered(&world, "db0:s", "60-0");
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}
