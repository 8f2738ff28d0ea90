//! What is copied is what there was: databases, patterns, bytes, counters, deletions before and while it is copied.

use crate::support::node::poll;
use crate::world::{World, add, entries, info, query, raw};

#[test]
fn sixteen_databases_and_a_hundred_and_fifty_streams_are_found_and_copied() {
    let world = World::new(
        "map = \"{db}/{key}\"\nbuckets = 4\npatterns = [\"s*\", \"device:*:stream\"]\nstreams = [\"db3:by hand\"]",
    );
    let name = |n: u64| if n.is_multiple_of(3) { format!("device:{n}:stream") } else { format!("s{n}") };
    for n in 0..150 {
        add(&world.source, u16::try_from(n % 16).expect("small"), &name(n), 1..=20 + n);
        query::<()>(&world.source, u16::try_from(n % 16).expect("small"), &["SET", &format!("s{n}:no stream"), "x"]);
    }
    add(&world.source, 3, "by hand", 5..=9);
    add(&world.source, 0, "other", 1..=3);
    let _node = world.node();
    let copied =
        |db: u16, key: &str| entries(&world.target, 0, &format!("{db}/{key}")) == entries(&world.source, db, key);
    poll("every stream", || (0..150).all(|n| copied(u16::try_from(n % 16).expect("small"), &name(n))).then_some(()));
    poll("the one by hand", || copied(3, "by hand").then_some(()));
    let verify = world.run(&["sync", "verify", "--json"]);
    let all: u64 = (0..150).map(|n| 20 + n).sum::<u64>() + 5;
    assert_eq!((verify.code, &verify.json()["same"]), (0, &all.into()), "{verify:?}");
    // One that appears, and one that goes on.
    add(&world.source, 7, "s late", 1..=4);
    add(&world.source, 0, "s16", 1000..=1100);
    poll("a late stream", || copied(7, "s late").then_some(()));
    poll("new entries", || copied(0, "s16").then_some(()));
    assert_eq!(query::<u64>(&world.target, 0, &["EXISTS", "0/other"]), 0);
    assert_eq!(query::<u64>(&world.target, 0, &["DBSIZE"]), 153, "152 streams and the marks");
}

#[test]
fn keyspace_events_bring_a_look_forward() {
    for events in ["KA", "Et", "Kn"] {
        let world = World::new("discover_seconds = 3600");
        query::<()>(&world.source, 0, &["CONFIG", "SET", "notify-keyspace-events", events]);
        add(&world.source, 0, "s", 1..=5);
        let _node = world.node();
        world.wait_equal("s");
        poll("a listener", || {
            let info: String = query(&world.source, 0, &["INFO", "stats"]);
            (!info.contains("pubsub_patterns:0")).then_some(())
        });
        // A key that is no stream of the pattern, and one that is.
        add(&world.source, 0, "other", 1..=5);
        query::<()>(&world.source, 0, &["SET", "s none", "x"]);
        add(&world.source, 0, "s2", 1..=5);
        world.wait_equal("s2");
        let told: Vec<String> = query(&world.source, 0, &["CONFIG", "GET", "notify-keyspace-events"]);
        let same = told[1].chars().all(|flag| "AKEtn".contains(flag));
        assert!(same, "the setting is left as it was: {told:?}");
    }
}

#[test]
fn long_keys_are_copied_and_those_that_no_row_can_hold_are_refused() {
    let world = World::new("");
    let (long, longer, too_long) = (format!("s{}", "%".repeat(4000)), "s".repeat(11_000), "s".repeat(13_000));
    for key in ["s", &long, &longer, &too_long] {
        add(&world.source, 0, key, 1..=20);
    }
    let plan = world.run(&["sync", "plan", "--json"]);
    assert_eq!(plan.code, 1, "{plan:?}");
    assert!(plan.out.contains("a key of 13000 bytes"), "{plan:?}");
    let node = world.node();
    for key in ["s", &long, &longer] {
        world.wait_equal(key);
    }
    drop(node);
    for key in ["s", &long, &longer] {
        add(&world.source, 0, key, 21..=30);
    }
    let _node = world.space.started("b", &[]);
    for key in ["s", &long, &longer] {
        world.wait_equal(key);
    }
    let verify = world.run(&["sync", "verify", "--json"]);
    // All that is copied is the same; what is not copied is named, and is a reason for 1.
    let report = verify.json();
    assert_eq!((verify.code, &report["same"], &report["bad"]), (1, &90.into(), &0.into()), "{report}");
    assert_eq!(report["refused"].as_array().map(Vec::len), Some(1), "{report}");
    let status = world.run(&["sync", "status", "--json"]).json();
    let refused = status["streams"].as_array().expect("streams").iter().find(|stream| stream["state"] == "refused");
    assert!(refused.is_some_and(|stream| stream["refused"].to_string().contains("13000 bytes")), "{status}");
    assert_eq!(query::<u64>(&world.target, 0, &["EXISTS", &too_long]), 0);
}

#[test]
fn duplicate_and_binary_fields_stay_as_they_are() {
    let world = World::new("");
    let all: Vec<u8> = (0..=255).collect();
    let large = vec![b'x'; 300_000];
    for fields in [
        vec![b"a".as_slice(), b"1", b"a", b"2", b"b", b"", b"a", b"1"],
        vec![b"", b"", b"\r\n", &all, &all, b"\xff\xfe"],
        vec![b"big", &large],
    ] {
        let args = [vec![b"XADD".as_slice(), b"s", b"*"], fields].concat();
        raw::<()>(&world.source, 0, &args).expect("an entry");
    }
    let _node = world.node();
    world.wait_equal("s");
    assert_eq!(entries(&world.target, 0, "s").len(), 3);
}

#[test]
fn counters_and_the_last_id_go_along() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    query::<()>(&world.source, 0, &["XDEL", "s", "3-0", "10-0"]);
    query::<()>(&world.source, 0, &["XTRIM", "s", "MAXLEN", "6"]);
    query::<()>(&world.source, 0, &["XADD", "s empty", "MAXLEN", "0", "7-0", "a", "b"]);
    let node = world.node();
    world.wait_equal("s");
    let same = |key: &str, field: &str| info(&world.target, key, field) == info(&world.source, key, field);
    for field in ["last-generated-id", "max-deleted-entry-id", "entries-added", "length"] {
        poll(&format!("s {field}"), || same("s", field).then_some(()));
    }
    poll("the empty stream", || (query::<u64>(&world.target, 0, &["EXISTS", "s empty"]) == 1).then_some(()));
    for field in ["last-generated-id", "entries-added", "length"] {
        poll(&format!("s empty {field}"), || same("s empty", field).then_some(()));
    }
    // The entry that was deleted at the top is no place to start again from, and yet the copy goes on.
    drop(node);
    add(&world.source, 0, "s", 11..=20);
    let _node = world.space.started("b", &[]);
    world.wait_equal("s");
    poll("the count", || same("s", "entries-added").then_some(()));
    assert!(world.notes().values().all(|notes| notes.get("notes").is_none()), "{:?}", world.notes());
}
