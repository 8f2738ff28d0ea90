//! What cannot be copied is told: with its range and its count, on that stream alone.

use crate::support::node::poll;
use crate::world::{World, add, entries, info, length, query};

#[test]
fn what_was_trimmed_past_the_position_is_a_gap_with_the_right_count() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=100);
    let node = world.node();
    world.wait_equal("s");
    poll("the count on the target", || (info(&world.target, "s", "entries-added") == "100").then_some(()));
    drop(node);
    add(&world.source, 0, "s", 101..=300);
    query::<()>(&world.source, 0, &["XTRIM", "s", "MAXLEN", "50"]);
    let wanted = [entries(&world.target, 0, "s"), entries(&world.source, 0, "s")].concat();
    let node = world.space.started("b", &[]);
    world.wait_for("s", &wanted);
    let gap = world.wait_noted("db0:s", "gap");
    assert_eq!(gap["count"], 150, "{gap}");
    assert_eq!((&gap["after"], &gap["through"]), (&"100-0".into(), &"251-0".into()), "{gap}");
    // The count on the target goes on as the source's, and tells the next gap as well.
    poll("the count", || (info(&world.target, "s", "entries-added") == "300").then_some(()));
    drop(node);
    add(&world.source, 0, "s", 301..=310);
    query::<()>(&world.source, 0, &["XDEL", "s", "303-0", "305-0"]);
    let wanted = [wanted, entries(&world.source, 0, "s").split_off(50)].concat();
    let _node = world.space.started("c", &[]);
    world.wait_for("s", &wanted);
    poll("the second gap", || {
        let notes = world.notes();
        let gaps = notes["db0:s"]["notes"].as_array()?.clone();
        (gaps.len() == 2 && gaps[1]["count"] == 2).then_some(())
    });
    let status = world.run(&["sync", "status", "--json"]).json();
    assert_eq!(status["streams"][0]["gap_entries"], 152, "{status}");
}

#[test]
fn a_stream_may_be_stopped_at_a_gap_and_goes_on_when_told() {
    let world = World::new("gap = \"stop\"");
    add(&world.source, 0, "s", 1..=10);
    add(&world.source, 0, "s2", 1..=10);
    let node = world.node();
    world.wait_equal("s");
    world.wait_equal("s2");
    poll("the count", || (info(&world.target, "s", "entries-added") == "10").then_some(()));
    drop(node);
    add(&world.source, 0, "s", 11..=20);
    query::<()>(&world.source, 0, &["XTRIM", "s", "MAXLEN", "5"]);
    let _node = world.space.started("b", &[]);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("the source lost entries") && why.contains("5 entries"), "{why}");
    add(&world.source, 0, "s2", 11..=20);
    world.wait_equal("s2");
    assert_eq!(length(&world.target, 0, "s"), 10, "a stopped stream stays as it is");
}

#[test]
fn the_same_id_with_other_content_stops_that_stream_alone() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    add(&world.source, 0, "s2", 1..=10);
    let node = world.node();
    world.wait_equal("s");
    world.wait_equal("s2");
    drop(node);
    // The source fails over: it has forgotten 8 to 10, and gives their ids to others.
    query::<()>(&world.source, 0, &["DEL", "s"]);
    add(&world.source, 0, "s", 1..=7);
    for n in 8..=12 {
        query::<()>(&world.source, 0, &["XADD", "s", &format!("{n}-0"), "other", "content"]);
    }
    add(&world.source, 0, "s2", 11..=20);
    let before = entries(&world.target, 0, "s");
    let _node = world.space.started("b", &[]);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("another entry under the same id"), "{why}");
    world.wait_equal("s2");
    let note = world.wait_noted("db0:s", "conflict");
    assert_eq!(
        (&note["after"], &note["through"], &note["count"]),
        (&"7-0".into(), &"10-0".into(), &3.into()),
        "{note}"
    );
    assert_eq!(entries(&world.target, 0, "s"), before, "nothing is written over");
}

#[test]
fn ids_that_a_source_gave_anew_below_the_targets_top_are_a_conflict() {
    let world = World::new("");
    for key in ["s", "s2"] {
        add(&world.source, 0, key, 1..=10);
    }
    let node = world.node();
    world.wait_equal("s");
    world.wait_equal("s2");
    drop(node);
    // The source fails over: it has forgotten 9 and 10, and its clock gives ids below the target's top, and above it.
    query::<()>(&world.source, 0, &["DEL", "s"]);
    add(&world.source, 0, "s", 1..=8);
    query::<()>(&world.source, 0, &["XADD", "s", "8-5", "between", "both"]);
    add(&world.source, 0, "s", 11..=12);
    add(&world.source, 0, "s2", 11..=12);
    let node = world.space.started("b", &[]);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("cannot be written"), "{why}");
    let note = world.wait_noted("db0:s", "conflict");
    assert_eq!(
        (&note["after"], &note["through"], &note["count"]),
        (&"8-0".into(), &"10-0".into(), &3.into()),
        "{note}"
    );
    world.wait_equal("s2");
    // Whoever has looked lets it go on behind it.
    let wanted = [entries(&world.target, 0, "s"), entries(&world.source, 0, "s").split_off(9)].concat();
    assert_eq!(world.run(&["sync", "retry"]).code, 0);
    world.wait_for("s", &wanted);
    drop(node);
}

#[test]
fn an_entry_that_a_source_has_again_and_the_target_cannot_take_is_told() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    query::<()>(&world.source, 0, &["XDEL", "s", "10-0"]);
    let node = world.node();
    world.wait_equal("s");
    poll("the last id", || (info(&world.target, "s", "last-generated-id") == "10-0").then_some(()));
    drop(node);
    // The source fails over to a copy from before the deletion.
    query::<()>(&world.source, 0, &["DEL", "s"]);
    add(&world.source, 0, "s", 1..=12);
    let _node = world.space.started("b", &[]);
    let note = world.wait_noted("db0:s", "hole");
    assert_eq!((&note["through"], &note["count"]), (&"10-0".into(), &1.into()), "{note}");
    let mut wanted = entries(&world.source, 0, "s");
    wanted.remove(9);
    world.wait_for("s", &wanted);
}

#[test]
fn what_consumers_of_the_target_trimmed_there_is_no_conflict() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=100);
    let node = world.node();
    world.wait_equal("s");
    drop(node);
    query::<()>(&world.target, 0, &["XTRIM", "s", "MAXLEN", "5"]);
    add(&world.source, 0, "s", 101..=110);
    let wanted = entries(&world.source, 0, "s").split_off(95);
    let _node = world.space.started("b", &[]);
    world.wait_for("s", &wanted);
    assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
}

#[test]
fn a_flushed_target_is_filled_again_and_the_loss_is_noted() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=100);
    let node = world.node();
    world.wait_equal("s");
    poll("the position to be written down", || (world.notes().get("db0:s")?["position"] == "100-0").then_some(()));
    query::<()>(&world.target, 0, &["FLUSHALL"]);
    add(&world.source, 0, "s", 101..=110);
    world.wait_equal("s");
    let note = world.wait_noted("db0:s", "target_loss");
    assert_eq!((&note["after"], &note["through"]), (&"0-0".into(), &"100-0".into()), "{note}");
    // A stream that nobody adds to is looked at as well.
    query::<()>(&world.target, 0, &["FLUSHALL"]);
    world.wait_equal("s");
    drop(node);
}

#[test]
fn an_entry_that_is_too_large_stops_its_stream_or_is_left_out() {
    for (policy, stops) in [("stop", true), ("go_on", false)] {
        let world = World::new(&format!("entry_kb_max = 100\noversize = \"{policy}\""));
        add(&world.source, 0, "s", 1..=5);
        query::<()>(&world.source, 0, &["XADD", "s", "6-0", "big", &"x".repeat(200_000)]);
        add(&world.source, 0, "s", 7..=9);
        add(&world.source, 0, "s2", 1..=3);
        query::<()>(&world.source, 0, &["XADD", "s2", "4-0", "big", &"x".repeat(200_000)]);
        let mut wanted = entries(&world.source, 0, "s");
        wanted.remove(5);
        if stops {
            wanted.truncate(5);
        }
        let _node = world.node();
        world.wait_for("s", &wanted);
        let note = world.wait_noted("db0:s", "oversize");
        assert_eq!((&note["after"], &note["through"], &note["count"]), (&"5-0".into(), &"6-0".into(), &1.into()));
        if stops {
            assert!(world.wait_stopped("db0:s").contains("entry_kb_max"));
        } else {
            poll("the last id", || (info(&world.target, "s2", "last-generated-id") == "4-0").then_some(()));
        }
    }
}

#[test]
fn a_stream_that_is_deleted_and_made_anew_is_copied_on() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    let before = entries(&world.target, 0, "s");
    query::<()>(&world.source, 0, &["DEL", "s"]);
    add(&world.source, 0, "s", 50..=60);
    let wanted = [before, entries(&world.source, 0, "s")].concat();
    world.wait_for("s", &wanted);
    add(&world.source, 0, "s", 61..=65);
    world.wait_for("s", &[&wanted[..10], &entries(&world.source, 0, "s")].concat());
    assert!(world.notes().get("db0:s").is_none_or(|notes| notes["stopped"].is_null()), "{:?}", world.notes());
    let note = world.wait_noted("db0:s", "anew");
    assert_eq!((&note["after"], &note["count"]), (&"10-0".into(), &serde_json::Value::Null), "{note}");
}

#[test]
fn deletions_are_mirrored_but_not_past_what_a_group_of_the_target_wants() {
    let world = World::new("deletes = \"mirror\"\ngroups_ms = 0");
    add(&world.source, 0, "s", 1..=100);
    add(&world.source, 0, "s2", 1..=100);
    let _node = world.node();
    world.wait_equal("s");
    world.wait_equal("s2");
    query::<()>(&world.target, 0, &["XGROUP", "CREATE", "s2", "reader", "40-0"]);
    for key in ["s", "s2"] {
        query::<()>(&world.source, 0, &["XTRIM", key, "MINID", "61-0"]);
        query::<()>(&world.source, 0, &["XDEL", key, "70-0", "100-0"]);
    }
    world.wait_equal("s");
    poll("the trim up to the fence", || (length(&world.target, 0, "s2") == 60).then_some(()));
    let kept = entries(&world.target, 0, "s2");
    assert_eq!(kept[0].0, "41-0", "what the group has not read is kept");
}

#[test]
fn a_cap_keeps_the_newest() {
    let world = World::new("deletes = \"cap\"\ncap_entries = 30");
    add(&world.source, 0, "s", 1..=100);
    let wanted = entries(&world.source, 0, "s").split_off(70);
    let _node = world.node();
    world.wait_for("s", &wanted);
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}
