//! Consumer groups: copied with what they hold; read through, with dead consumers' entries recovered; published.

use crate::support::node::poll;
use crate::world::{World, add, entries, query};

/// What `XPENDING` says of each entry: id, consumer, deliveries.
fn held(server: &crate::support::redis::RedisServer, key: &str, group: &str) -> Vec<(String, String, u64)> {
    let rows: Vec<(String, String, u64, u64)> = query(server, 0, &["XPENDING", key, group, "-", "+", "1000"]);
    rows.into_iter().map(|(id, consumer, _, deliveries)| (id, consumer, deliveries)).collect()
}

fn groups(server: &crate::support::redis::RedisServer, key: &str) -> Vec<Vec<String>> {
    let groups: Vec<redis::Value> = query(server, 0, &["XINFO", "GROUPS", key]);
    groups.into_iter().map(texts).collect()
}

fn texts(value: redis::Value) -> Vec<String> {
    let redis::Value::Array(values) = value else { panic!("{value:?}") };
    values
        .into_iter()
        .map(|value| match value {
            redis::Value::BulkString(bytes) => String::from_utf8(bytes).expect("text"),
            redis::Value::Int(n) => n.to_string(),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn groups_their_positions_and_what_they_hold_are_the_same() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=20);
    let source = |args: &[&str]| query::<redis::Value>(&world.source, 0, args);
    source(&["XGROUP", "CREATE", "s", "g", "0"]);
    source(&["XGROUP", "CREATE", "s", "late", "15-0", "ENTRIESREAD", "15"]);
    source(&["XREADGROUP", "GROUP", "g", "alice", "COUNT", "5", "STREAMS", "s", ">"]);
    source(&["XREADGROUP", "GROUP", "g", "bob", "COUNT", "5", "STREAMS", "s", ">"]);
    source(&["XACK", "s", "g", "2-0", "6-0"]);
    source(&["XCLAIM", "s", "g", "bob", "0", "3-0"]);
    source(&["XGROUP", "CREATECONSUMER", "s", "g", "idle"]);
    // What is held and deleted cannot be held on the target: it is counted.
    source(&["XDEL", "s", "4-0"]);
    let _node = world.node();
    world.wait_equal("s");
    let wanted: Vec<_> = held(&world.source, "s", "g").into_iter().filter(|(id, ..)| id != "4-0").collect();
    poll("what the group holds", || {
        (groups(&world.target, "s").len() == 2 && held(&world.target, "s", "g") == wanted).then_some(())
    });
    poll("the one that is lost", || (world.notes().get("db0:s")?["pending_lost"] == 1).then_some(()));
    let consumers: Vec<redis::Value> = query(&world.target, 0, &["XINFO", "CONSUMERS", "s", "g"]);
    let names: Vec<String> = consumers.into_iter().map(|consumer| texts(consumer)[1].clone()).collect();
    assert_eq!(names, ["alice", "bob", "idle"]);
    // Positions, counts, lag: all but what is held.
    let shown = |groups: Vec<Vec<String>>| -> Vec<Vec<String>> {
        groups
            .into_iter()
            .map(|group| group.into_iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, text)| text).collect())
            .collect()
    };
    let source_groups = shown(groups(&world.source, "s"));
    assert_eq!(shown(groups(&world.target, "s")), source_groups);
    // Work that goes on: acknowledged there, acknowledged here.
    source(&["XACK", "s", "g", "1-0", "3-0", "5-0"]);
    source(&["XREADGROUP", "GROUP", "g", "carol", "COUNT", "3", "STREAMS", "s", ">"]);
    poll("the work that went on", || {
        let wanted: Vec<_> = held(&world.source, "s", "g").into_iter().filter(|(id, ..)| id != "4-0").collect();
        (held(&world.target, "s", "g") == wanted).then_some(())
    });
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}

#[test]
fn in_group_mode_a_dead_consumers_pending_entries_are_recovered() {
    let world = World::new("mode = \"group\"\ngroup = \"redis-sync-group\"");
    add(&world.source, 0, "s", 1..=50);
    let source = |args: &[&str]| query::<redis::Value>(&world.source, 0, args);
    source(&["XGROUP", "CREATE", "s", "redis-sync-group", "0"]);
    // A consumer of another program took entries and died; another one acknowledged what it never copied.
    source(&["XREADGROUP", "GROUP", "redis-sync-group", "dead-4711", "COUNT", "20", "STREAMS", "s", ">"]);
    source(&["XACK", "s", "redis-sync-group", "3-0", "4-0"]);
    let mut node = world.node();
    world.wait_equal("s");
    let is_empty = |world: &World| held(&world.source, "s", "redis-sync-group").is_empty();
    poll("nothing pending", || is_empty(&world).then_some(()));
    // Killed again and again while it copies: whatever it held is done by the next one.
    for round in 0..4u64 {
        add(&world.source, 0, "s", 1000 * (round + 1)..=1000 * (round + 1) + 500);
        node.kill();
        node = world.space.started(&format!("n{round}"), &[]);
    }
    world.wait_equal("s");
    poll("nothing pending at the end", || is_empty(&world).then_some(()));
    let at = groups(&world.source, "s");
    assert!(at[0].contains(&"4500-0".to_owned()), "{at:?}");
}

#[test]
fn in_group_mode_what_a_dead_consumer_holds_of_what_is_copied_is_acknowledged() {
    let world = World::new("mode = \"group\"");
    add(&world.source, 0, "s", 1..=50);
    let mut node = world.node();
    world.wait_equal("s");
    node.kill();
    // A consumer of another name, as an earlier release or another program has it, holds what is on the target already.
    let source = |args: &[&str]| query::<redis::Value>(&world.source, 0, args);
    source(&["XGROUP", "SETID", "s", "gapless-sync", "20-0"]);
    source(&["XREADGROUP", "GROUP", "gapless-sync", "dead", "COUNT", "100", "STREAMS", "s", ">"]);
    assert_eq!(held(&world.source, "s", "gapless-sync").len(), 30);
    let _node = world.space.started("b", &[]);
    poll("nothing pending", || held(&world.source, "s", "gapless-sync").is_empty().then_some(()));
    assert_eq!(entries(&world.target, 0, "s").len(), 50);
}

#[test]
fn in_group_mode_what_a_dead_consumer_took_is_copied_even_if_nothing_follows() {
    let world = World::new("mode = \"group\"");
    add(&world.source, 0, "s", 1..=50);
    let source = |args: &[&str]| query::<redis::Value>(&world.source, 0, args);
    source(&["XGROUP", "CREATE", "s", "gapless-sync", "0"]);
    source(&["XREADGROUP", "GROUP", "gapless-sync", "dead", "COUNT", "100", "STREAMS", "s", ">"]);
    source(&["XACK", "s", "gapless-sync", "50-0"]);
    let _node = world.node();
    world.wait_equal("s");
    poll("nothing pending", || held(&world.source, "s", "gapless-sync").is_empty().then_some(()));
}

#[test]
fn the_position_is_published_on_the_source_as_a_group() {
    let world = World::new("publish_group = \"copied\"");
    add(&world.source, 0, "s", 1..=30);
    let _node = world.node();
    world.wait_equal("s");
    poll("the group", || {
        let groups = groups(&world.source, "s");
        (groups.len() == 1 && groups[0][1] == "copied" && groups[0].contains(&"30-0".to_owned())).then_some(())
    });
    let lag = groups(&world.source, "s")[0].clone();
    assert_eq!(lag[lag.len() - 1], "0", "{lag:?}");
    assert_eq!(groups(&world.target, "s").len(), 0, "our own group is not copied");
}

#[test]
fn in_tail_mode_the_source_is_not_touched() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=30);
    query::<()>(&world.source, 0, &["CONFIG", "RESETSTAT"]);
    let _node = world.node();
    world.wait_equal("s");
    world.wait_noted_position();
    let stats: String = query(&world.source, 0, &["INFO", "commandstats"]);
    for write in ["xadd", "xack", "xgroup|create", "xgroup|setid", "xreadgroup", "hset", "set"] {
        assert!(!stats.contains(&format!("cmdstat_{write}:")), "{write} in {stats}");
    }
    assert_eq!(entries(&world.source, 0, "s").len(), 30);
}
