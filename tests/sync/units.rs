//! The unit of work: streams are shared out over units, units over nodes, and no stream holds up another one.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;

use crate::support::node::{Node, poll};
use crate::world::{World, add, entries, length, query};

/// Which unit copies each stream, as the scout has listed it.
fn buckets(world: &World) -> BTreeMap<String, u64> {
    let rows: Vec<(String, String)> = query(&world.redis, 0, &["HGETALL", "t:{sync.x}:files:scout"]);
    let of = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["bucket"].as_u64();
    rows.into_iter().filter_map(|(name, text)| Some((name, of(&text)?))).collect()
}

/// Which node has each unit that copies.
fn holders(world: &World) -> BTreeMap<u64, String> {
    let status = world.run(&["status", "--json"]).json();
    let units = status["units"].as_array().cloned().unwrap_or_default();
    let held = units.iter().filter_map(|unit| {
        let bucket = unit["unit"].as_str()?.rsplit_once("stream_sync_")?.1.parse().ok()?;
        Some((bucket, unit["node"].as_str()?.to_owned()))
    });
    held.collect()
}

#[test]
fn each_of_a_few_streams_has_a_unit_of_its_own() {
    let world = World::new("buckets = 8");
    (0..8).for_each(|n| add(&world.source, 0, &format!("s{n}"), 1..=10));
    let _node = world.node();
    (0..8).for_each(|n| world.wait_equal(&format!("s{n}")));
    let used: BTreeSet<u64> = buckets(&world).into_values().collect();
    assert_eq!(used, (0..8).collect(), "eight streams, eight units");
}

#[test]
fn two_nodes_copy_about_half_of_the_streams_each() {
    let world = World::new("buckets = 8");
    let _nodes: Vec<Node> = ["a", "b"].iter().map(|name| world.space.started(name, &[])).collect();
    // The scout is a unit too: nine of them, five and four.
    let units = poll("both nodes with about half of the units", || {
        let held = holders(&world);
        let of = |name: &str| held.values().filter(|node| *node == name).count();
        let units = [of("a"), of("b")];
        (units.iter().sum::<usize>() == 8 && units.iter().all(|units| (3..=5).contains(units))).then_some(units)
    });
    (0..40).for_each(|n| add(&world.source, 0, &format!("s{n}"), 1..=50));
    (0..40).for_each(|n| world.wait_equal(&format!("s{n}")));
    let (buckets, held) = (buckets(&world), holders(&world));
    let of = |name: &str| buckets.values().filter(|bucket| held.get(bucket).is_some_and(|node| node == name)).count();
    assert_eq!([of("a"), of("b")], units.map(|units| 5 * units), "five streams a unit: {buckets:?} {held:?}");
}

#[test]
fn more_units_take_streams_over_with_what_was_noted_of_them() {
    let world = World::new("buckets = 1");
    (0..12).for_each(|n| add(&world.source, 0, &format!("s{n}"), 1..=30));
    let mut node = world.node();
    (0..12).for_each(|n| world.wait_equal(&format!("s{n}")));
    // Each stream has a note that must not be lost.
    node.kill();
    for n in 0..12 {
        add(&world.source, 0, &format!("s{n}"), 31..=60);
        query::<()>(&world.source, 0, &["XTRIM", &format!("s{n}"), "MINID", "41-0"]);
    }
    let mut node = world.space.started("b", &[]);
    poll("a gap of each", || {
        let notes = world.notes();
        (0..12).all(|n| notes.get(&format!("db0:s{n}")).is_some_and(|row| !row["notes"].is_null())).then_some(())
    });
    poll("how far s0 is, written down", || (world.notes().get("db0:s0")?["position"] == "60-0").then_some(()));
    node.signal(Signal::TERM);
    node.wait();
    // Whoever takes it over must know how far it was, to see that.
    query::<()>(&world.target, 0, &["DEL", "s0"]);
    let text = crate::support::node::config(
        &world.redis.url(),
        &crate::world::pipeline("x", &world.source.url(), &world.target.url(), "buckets = 4"),
    );
    world.space.write("gapless.toml", &text);
    let _node = world.space.started("c", &[]);
    poll("streams in all units", || {
        let used: BTreeSet<u64> = buckets(&world).into_values().collect();
        (used == (0..4).collect()).then_some(())
    });
    (0..12).for_each(|n| add(&world.source, 0, &format!("s{n}"), 61..=70));
    for n in 0..12 {
        let (key, count) = (format!("s{n}"), if n == 0 { 30 } else { 60 });
        poll("what came afterwards", || (length(&world.target, 0, &key) == count).then_some(()));
    }
    let status = world.run(&["sync", "status", "--json"]).json();
    for stream in status["streams"].as_array().expect("streams") {
        assert_eq!((&stream["state"], &stream["gap_entries"]), (&"even".into(), &10.into()), "{stream}");
        assert_eq!(stream.to_string().contains("target_loss"), stream["stream"] == "db0:s0", "{stream}");
    }
}

#[test]
fn a_stuck_stream_and_a_hot_one_do_not_hold_up_those_of_the_same_unit() {
    let world = World::new("buckets = 1\nbatch_entries = 100\nentry_kb_max = 1\nrate_entries = 20000");
    // One that cannot be written, one with an entry that is too large, one of another content.
    query::<()>(&world.target, 0, &["SET", "s-other-type", "x"]);
    add(&world.source, 0, "s-other-type", 1..=10);
    query::<()>(&world.source, 0, &["XADD", "s-large", "1-0", "large", &"x".repeat(2000)]);
    add(&world.source, 0, "s-conflict", 1..=10);
    query::<()>(&world.target, 0, &["XADD", "s-conflict", "10-0", "of", "somebody"]);
    add(&world.source, 0, "s-calm", 1..=10);
    let _node = world.node();
    world.wait_equal("s-calm");
    for stuck in ["s-other-type", "s-large", "s-conflict"] {
        world.wait_stopped(&format!("db0:{stuck}"));
    }
    // And one whose backlog takes seconds at the rate that is allowed.
    add(&world.source, 0, "s-hot", 1..=100_000);
    poll("the backlog under way", || (length(&world.target, 0, "s-hot") > 0).then_some(()));
    for n in 11..=15 {
        add(&world.source, 0, "s-calm", n..=n);
        world.wait_equal("s-calm");
    }
    let left = 100_000 - length(&world.target, 0, "s-hot");
    assert!(left > 0, "five entries of the calm stream waited for the whole backlog of the hot one");
    world.wait_equal("s-hot");
}

#[test]
fn a_node_that_wakes_up_after_it_was_replaced_writes_nothing_twice() {
    let world = World::new("buckets = 1\nbatch_entries = 20\nevidence = true");
    add(&world.source, 0, "s", 1..=100);
    let sleeper = world.space.started("a", &[]);
    world.wait_equal("s");
    for round in 1..=3u64 {
        // It is stopped in the middle of a copy, replaced, and goes on with what it had in hand.
        add(&world.source, 0, "s", 1000 * round..=1000 * round + 900);
        sleeper.signal(Signal::STOP);
        let mut heir = world.space.started(&format!("b{round}"), &[]);
        world.wait_equal("s");
        sleeper.signal(Signal::CONT);
        add(&world.source, 0, "s", 1000 * round + 901..=1000 * round + 950);
        world.wait_equal("s");
        heir.signal(Signal::TERM);
        heir.wait();
        poll("the first node at work again", || (holders(&world).get(&0)? == "a").then_some(()));
    }
    let all = entries(&world.target, 0, "s");
    assert_eq!(all.len(), 100 + 3 * 951);
    let verify = world.run(&["sync", "verify", "--json"]).json();
    let evidence = &verify["streams"][0]["evidence"];
    assert_eq!((&evidence["gone"], &evidence["found"]), (&0.into(), &0.into()), "{verify}");
}
