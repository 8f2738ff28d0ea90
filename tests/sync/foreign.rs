//! What others wrote to the target: told as a conflict, called so by the comparison, and taken out by nobody.

use crate::support::node::poll;
use crate::world::{Entry, World, add, entries, info, length, query};

/// Ten entries copied, then one of somebody else on the target; the source goes past its id while nobody copies.
fn passed_by(more: &str) -> World {
    let world = World::new(more);
    for key in ["s", "s2"] {
        add(&world.source, 0, key, 1..=10);
    }
    let node = world.node();
    world.wait_equal("s");
    world.wait_equal("s2");
    drop(node);
    query::<()>(&world.target, 0, &["XADD", "s", "15-0", "of", "somebody"]);
    add(&world.source, 0, "s", 16..=20);
    add(&world.source, 0, "s2", 11..=20);
    world
}

fn row(world: &World, args: &[&str]) -> (i32, serde_json::Value) {
    let verify = world.run(&[&["sync", "verify", "--json", "--stream", "db0:s"], args].concat());
    (verify.code, verify.json()["streams"][0].clone())
}

#[track_caller]
fn is_told_and_goes_on(world: &World) {
    let node = world.space.started("b", &[]);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("entries that the source never had"), "{why}");
    let note = world.wait_noted("db0:s", "conflict");
    assert_eq!(
        (&note["after"], &note["through"], &note["count"]),
        (&"10-0".into(), &"15-0".into(), &1.into()),
        "{note}"
    );
    world.wait_equal("s2");
    assert_eq!(length(&world.target, 0, "s"), 11, "nothing is written behind it");
    let (code, row) = row(world, &[]);
    assert_eq!((code, &row["extra"], &row["kept"]), (1, &1.into(), &0.into()), "{row}");
    assert_eq!(row["ids"], serde_json::json!(["extra 15-0"]));
    // Whoever has looked lets it go on behind it; it is not told again.
    assert_eq!(world.run(&["sync", "retry"]).code, 0);
    let wanted = with_foreign(&entries(&world.source, 0, "s"));
    world.wait_for("s", &wanted);
    let notes = world.notes();
    let kinds: Vec<_> = notes["db0:s"]["notes"].as_array().expect("notes").iter().map(|note| &note["kind"]).collect();
    assert_eq!(kinds, ["conflict"], "{notes:?}");
    drop(node);
}

/// What the target holds: the source's entries, and the foreign one in its place.
fn with_foreign(source: &[Entry]) -> Vec<Entry> {
    let foreign = ("15-0".to_owned(), vec![b"of".to_vec(), b"somebody".to_vec()]);
    [&source[..10], &[foreign], &source[10..]].concat()
}

#[test]
fn an_entry_that_the_source_never_had_is_a_conflict_also_when_the_source_has_gone_past_it() {
    let world = passed_by("");
    is_told_and_goes_on(&world);
    // The count goes on as well: what is trimmed before it is copied is told exactly.
    let node = world.space.started("c", &[]);
    poll("the count", || world.target_mark("s")?.contains("counted").then_some(()));
    drop(node);
    add(&world.source, 0, "s", 21..=40);
    query::<()>(&world.source, 0, &["XTRIM", "s", "MAXLEN", "5"]);
    let _node = world.space.started("d", &[]);
    let gap = world.wait_noted("db0:s", "gap");
    assert_eq!((&gap["after"], &gap["count"]), (&"20-0".into(), &15.into()), "{gap}");
    // The comparison still tells the foreign one apart from those that the source has trimmed.
    poll("the rest", || (info(&world.target, "s", "last-generated-id") == "40-0").then_some(()));
    let (code, row) = row(&world, &["--repair"]);
    assert_eq!((code, &row["extra"], &row["kept"]), (1, &1.into(), &15.into()), "{row}");
    assert!(row["repair"].as_str().is_some_and(|words| words.contains("takes nothing out")), "{row}");
    assert_eq!(length(&world.target, 0, "s"), 21, "nothing was taken out");
    // Whoever knows better does it.
    query::<()>(&world.target, 0, &["XDEL", "s", "15-0"]);
    let verify = world.run(&["sync", "verify"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}

#[test]
fn in_group_mode_too_an_entry_that_the_source_never_had_is_a_conflict() {
    let world = passed_by("mode = \"group\"");
    is_told_and_goes_on(&world);
    let pending = || query::<Vec<redis::Value>>(&world.source, 0, &["XPENDING", "s", "gapless-sync", "-", "+", "100"]);
    let _node = world.space.started("c", &[]);
    poll("nothing pending", || pending().is_empty().then_some(()));
}

#[test]
fn a_later_deletion_on_the_source_hides_no_entry_that_it_never_had() {
    let world = passed_by("");
    query::<()>(&world.target, 0, &["XADD", "s", "15-5", "of", "somebody", "else", "too"]);
    // Highest deleted above both: they might have been deleted as well. The count of what was added tells.
    query::<()>(&world.source, 0, &["XDEL", "s", "17-0"]);
    let _node = world.space.started("b", &[]);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("entries that the source never had"), "{why}");
    let note = world.wait_noted("db0:s", "conflict");
    assert_eq!(
        (&note["after"], &note["through"], &note["count"]),
        (&"10-0".into(), &"15-5".into(), &1.into()),
        "at least one: {note}"
    );
    let (code, row) = row(&world, &[]);
    assert_eq!((code, &row["extra"], &row["kept"]), (1, &2.into(), &0.into()), "{row}");
}

#[test]
fn a_source_that_lost_what_was_copied_and_went_on_is_a_conflict() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let node = world.node();
    world.wait_equal("s");
    drop(node);
    // It fails over to a copy that lacks 8 to 10, and goes on with later ids.
    query::<()>(&world.source, 0, &["DEL", "s"]);
    add(&world.source, 0, "s", 1..=7);
    add(&world.source, 0, "s", 20..=30);
    let _node = world.space.started("b", &[]);
    let why = world.wait_stopped("db0:s");
    assert!(why.contains("never had, or has lost"), "{why}");
    let note = world.wait_noted("db0:s", "conflict");
    assert_eq!((&note["after"], &note["count"]), (&"7-0".into(), &3.into()), "{note}");
}

#[test]
fn many_entries_that_the_source_has_deleted_hide_no_fault() {
    for (more, kept) in [("", 50), ("deletes = \"cap\"\ncap_entries = 60", 10)] {
        let world = World::new(more);
        add(&world.source, 0, "s", 1..=100);
        let node = world.node();
        let length_there = if kept == 10 { 60 } else { 100 };
        poll("the last one", || {
            let last = entries(&world.target, 0, "s").pop()?;
            (last.0 == "100-0" && length(&world.target, 0, "s") == length_there).then_some(())
        });
        drop(node);
        query::<()>(&world.source, 0, &["XTRIM", "s", "MAXLEN", "50"]);
        query::<()>(&world.target, 0, &["XADD", "s", "101-0", "of", "somebody"]);
        query::<()>(&world.target, 0, &["XDEL", "s", "90-0"]);
        let (code, row) = row(&world, &[]);
        assert_eq!((code, &row["extra"], &row["missing"]), (1, &1.into(), &1.into()), "{row}");
        assert_eq!(row["kept"], kept, "{row}");
    }
}

#[test]
fn a_repair_keeps_what_only_the_target_has() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=50);
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "both", "20-0", "ENTRIESREAD", "20"]);
    let node = world.node();
    world.wait_equal("s");
    poll("the group", || (world.run(&["sync", "verify"]).code == 0).then_some(()));
    drop(node);
    query::<()>(&world.source, 0, &["XTRIM", "s", "MINID", "6-0"]);
    query::<()>(&world.source, 0, &["XDEL", "s", "30-0"]);
    query::<()>(&world.target, 0, &["XGROUP", "CREATE", "s", "own", "10-0", "ENTRIESREAD", "10"]);
    let read = ["XREADGROUP", "GROUP", "own", "me", "COUNT", "3", "STREAMS", "s", ">"];
    query::<redis::Value>(&world.target, 0, &read);
    let wanted = entries(&world.target, 0, "s");
    query::<()>(&world.target, 0, &["XDEL", "s", "40-0", "41-0"]);
    let (code, row) = row(&world, &["--repair"]);
    assert_eq!((code, &row["repair"], &row["kept"]), (0, &"rebuilt".into(), &6.into()), "{row}");
    assert_eq!(entries(&world.target, 0, "s"), wanted);
    assert_eq!(info(&world.target, "s", "entries-added"), "50");
    let held: Vec<(String, String, u64, u64)> = query(&world.target, 0, &["XPENDING", "s", "own", "-", "+", "9"]);
    assert_eq!(held.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["11-0", "12-0", "13-0"]);
    // A foreign entry stays, too, and is still told.
    query::<()>(&world.target, 0, &["XADD", "s", "60-0", "of", "somebody"]);
    query::<()>(&world.target, 0, &["XDEL", "s", "42-0"]);
    let (code, row) = self::row(&world, &["--repair"]);
    assert_eq!((code, &row["missing"], &row["extra"]), (1, &0.into(), &1.into()), "{row}");
    assert!(
        row["repair"].as_str().is_some_and(|words| words.starts_with("rebuilt; a repair takes nothing out")),
        "{row}"
    );
    // Without it, a repair brings the last id back to the source's, and the copy goes on.
    query::<()>(&world.target, 0, &["XDEL", "s", "60-0"]);
    let (code, row) = self::row(&world, &["--repair"]);
    assert_eq!((code, &row["repair"]), (0, &"rebuilt".into()), "{row}");
    add(&world.source, 0, "s", 51..=59);
    let _node = world.space.started("b", &[]);
    world.wait_for("s", &[wanted, entries(&world.source, 0, "s").split_off(44)].concat());
}

#[test]
fn a_conflict_that_was_mended_hides_no_later_one() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    let mend = |id: &str| {
        let why = world.wait_stopped("db0:s");
        assert!(why.contains("ahead of the source: others wrote there"), "{why}");
        let status = world.run(&["sync", "status"]).out;
        assert!(status.contains("1 stream: 1 stopped; lag ") && status.contains("left alone: db0:s; "), "{status}");
        assert!(world.run(&["sync", "verify"]).out.ends_with("1 differs: db0:s\n"));
        query::<()>(&world.target, 0, &["XDEL", "s", id]);
        assert_eq!(row(&world, &["--repair"]).0, 0);
        assert_eq!(world.run(&["sync", "retry"]).code, 0);
    };
    query::<()>(&world.target, 0, &["XADD", "s", "9999-0", "of", "somebody"]);
    mend("9999-0");
    add(&world.source, 0, "s", 11..=20);
    world.wait_equal("s");
    // The note of the first one reaches far above.
    query::<()>(&world.target, 0, &["XADD", "s", "25-5", "of", "somebody"]);
    mend("25-5");
    add(&world.source, 0, "s", 22..=40);
    world.wait_equal("s");
    query::<()>(&world.source, 0, &["XTRIM", "s", "MAXLEN", "3"]);
    let (code, row) = row(&world, &[]);
    assert_eq!((code, &row["kept"], &row["extra"]), (0, &36.into(), &0.into()), "{row}");
}
