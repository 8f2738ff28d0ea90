//! The commands: plan before any write, status, verify with planted faults of every class, repair, pause, cut-over.

use crate::support::node::poll;
use crate::support::redis::RedisServer;
use crate::world::{World, add, entries, length, query, raw};

#[test]
fn plan_writes_nothing_and_names_what_is_in_the_way() {
    let world = World::new("");
    add(&world.source, 0, "s1", 1..=10);
    add(&world.source, 0, "s2", 1..=10);
    query::<()>(&world.target, 0, &["SET", "s2", "no stream"]);
    let before: u64 = query(&world.target, 0, &["DBSIZE"]);
    let plan = world.run(&["sync", "plan", "--json"]);
    assert_eq!(plan.code, 1, "{plan:?}");
    let plan = plan.json();
    assert_eq!(plan["streams"][0]["entries"], 10, "{plan}");
    assert_eq!(plan["streams"][0]["refused"], "", "{plan}");
    assert_eq!(plan["streams"][1]["refused"], "the target has a key of type string there", "{plan}");
    assert_eq!(plan["missing_rights"]["source"].as_array().map(Vec::len), Some(0), "{plan}");
    assert_eq!(query::<u64>(&world.target, 0, &["DBSIZE"]), before);
    assert_eq!(query::<u64>(&world.source, 0, &["DBSIZE"]), 2);
}

#[test]
fn planted_faults_of_every_class_are_named_and_a_hole_is_repaired() {
    let world = World::new("");
    let keys = ["s good", "s hole", "s other", "s extra", "s group", "s groups", "s count"];
    for key in keys {
        add(&world.source, 0, key, 1..=50);
    }
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s group", "g", "0"]);
    for group in ["gone", "moved", "lonely", "given"] {
        query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s groups", group, "20-0", "ENTRIESREAD", "20"]);
        query::<redis::Value>(
            &world.source,
            0,
            &["XREADGROUP", "GROUP", group, "c", "COUNT", "5", "STREAMS", "s groups", ">"],
        );
    }
    query::<()>(&world.source, 0, &["XGROUP", "CREATECONSUMER", "s groups", "lonely", "idle"]);
    query::<redis::Value>(
        &world.source,
        0,
        &["XREADGROUP", "GROUP", "g", "c", "COUNT", "5", "STREAMS", "s group", ">"],
    );
    let mut node = world.node();
    for key in keys {
        world.wait_equal(key);
    }
    poll("the groups", || (world.run(&["sync", "verify"]).code == 0).then_some(()));
    node.kill();
    query::<()>(&world.target, 0, &["XDEL", "s hole", "7-0", "8-0"]);
    query::<()>(&world.target, 0, &["DEL", "s other"]);
    for entry in entries(&world.source, 0, "s other") {
        let value: &[u8] = if entry.0 == "9-0" { b"altered" } else { &entry.1[1] };
        let args = [b"XADD".as_slice(), b"s other", entry.0.as_bytes(), &entry.1[0], value, &entry.1[2], &entry.1[3]];
        raw::<()>(&world.target, 0, &args).expect("an entry");
    }
    query::<()>(&world.target, 0, &["XADD", "s extra", "77-0", "of", "nobody"]);
    query::<()>(&world.target, 0, &["XACK", "s group", "g", "2-0"]);
    query::<()>(&world.target, 0, &["XGROUP", "DESTROY", "s groups", "gone"]);
    query::<()>(&world.target, 0, &["XGROUP", "SETID", "s groups", "moved", "22-0", "ENTRIESREAD", "22"]);
    query::<()>(&world.target, 0, &["XGROUP", "DELCONSUMER", "s groups", "lonely", "idle"]);
    query::<redis::Value>(&world.target, 0, &["XCLAIM", "s groups", "given", "thief", "0", "21-0", "JUSTID"]);
    query::<()>(&world.source, 0, &["XACK", "s groups", "given", "22-0"]);
    query::<()>(&world.target, 0, &["XSETID", "s count", "50-0", "ENTRIESADDED", "77"]);
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 1, "{verify:?}");
    let report = verify.json();
    let of = |name: &str| {
        let streams = report["streams"].as_array().expect("streams");
        streams
            .iter()
            .find(|stream| stream["stream"] == format!("db0:{}", name.replace(' ', "%20")))
            .cloned()
            .expect("a stream")
    };
    assert_eq!(of("s good")["same"], 50);
    assert_eq!((&of("s hole")["missing"], &of("s hole")["ids"][0]), (&2.into(), &"missing 7-0".into()));
    assert_eq!((&of("s other")["other"], &of("s other")["ids"][0]), (&1.into(), &"other 9-0".into()));
    assert_eq!((&of("s extra")["extra"], &of("s extra")["ids"][0]), (&1.into(), &"extra 77-0".into()));
    assert!(of("s group")["faults"][0].as_str().expect("words").contains("1 pending entries differ"), "{report}");
    let faults = of("s groups")["faults"].to_string();
    for words in [
        "group gone is missing on the target",
        "group moved stands at 25-0 here, at 22-0 there",
        "group moved has read 25 here, 22 there",
        "group lonely lacks 1 consumers on the target, idle first",
        "group given: 1 pending entries differ or are missing, 1 are held only there",
    ] {
        assert!(faults.contains(words), "{words} in {faults}");
    }
    assert_eq!(of("s count")["faults"][0], "entries-added is 50 here, 77 there");
    assert_eq!(report["bad"], 6);
    // A repair makes good what can be made good.
    let repaired = world.run(&["sync", "verify", "--repair", "--stream", "db0:s%20hole", "--stream", "db0:s%20other"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    for key in ["s hole", "s other"] {
        assert_eq!(entries(&world.target, 0, key), entries(&world.source, 0, key));
    }
    // And the copy goes on from there.
    add(&world.source, 0, "s hole", 51..=60);
    let _node = world.space.started("b", &[]);
    world.wait_equal("s hole");
    assert_eq!(query::<Vec<String>>(&world.target, 0, &["KEYS", "gapless:repair*"]), Vec::<String>::new());
}

#[test]
fn a_comparison_goes_on_where_it_was_interrupted() {
    let world = World::new("");
    for n in 0..5 {
        add(&world.source, 0, &format!("s{n}"), 1..=20);
    }
    let _node = world.node();
    (0..5).for_each(|n| world.wait_equal(&format!("s{n}")));
    assert_eq!(world.run(&["sync", "verify", "--progress", "p"]).code, 0);
    let lines = std::fs::read_to_string(world.space.path().join("p")).expect("the file");
    assert_eq!((lines.lines().count(), lines.lines().last()), (6, Some("{\"ended\":true}")), "{lines}");
    // As a kill leaves it: two streams done, the third one half written.
    let kept: Vec<&str> = lines.lines().take(2).collect();
    world.space.write("p", &format!("{}\n{{\"stream\":\"db0", kept.join("\n")));
    query::<()>(&world.source, 0, &["CONFIG", "RESETSTAT"]);
    let verify = world.run(&["sync", "verify", "--progress", "p", "--json"]);
    assert_eq!((verify.code, &verify.json()["same"]), (0, &100.into()), "{verify:?}");
}

#[test]
fn a_comparison_that_is_interrupted_within_a_stream_forgets_no_fault() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=60_000);
    let node = world.node();
    poll("all of them", || (length(&world.target, 0, "s") == 60_000).then_some(()));
    drop(node);
    query::<()>(&world.target, 0, &["XDEL", "s", "7-0", "59999-0"]);
    let verify = || world.run(&["sync", "verify", "--progress", "p", "--json"]);
    assert_eq!(verify().code, 1);
    let lines = std::fs::read_to_string(world.space.path().join("p")).expect("the file");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "a step, the verdict, the end: {lines:?}");
    // As Ctrl-C behind the first step leaves it.
    world.space.write("p", &format!("{}\n", lines[0]));
    query::<()>(&world.source, 0, &["XADD", "s", "60001-0", "n", "v"]);
    let report = verify().json();
    let stream = &report["streams"][0];
    assert_eq!((&stream["same"], &stream["missing"]), (&59_998.into(), &2.into()), "{report}");
    assert_eq!(stream["ids"], serde_json::json!(["missing 7-0", "missing 59999-0"]), "{report}");
    // A comparison that came to its end is not taken for the next one.
    query::<()>(&world.target, 0, &["XDEL", "s", "8-0"]);
    assert_eq!(verify().json()["streams"][0]["missing"], 3);
    world.space.write("p", "no progress\nof anything\n");
    let refused = verify();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("p is no progress file of sync verify; it is left as it is"), "{refused:?}");
}

#[test]
fn pause_resume_and_status() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    assert_eq!(world.run(&["sync", "pause"]).code, 0);
    poll("the pause", || {
        let status = world.run(&["sync", "status", "--json"]).json();
        (!status["paused_age_ms"].is_null() && status["resting"] == true).then_some(())
    });
    add(&world.source, 0, "s", 11..=30);
    poll("the lag", || {
        let status = world.run(&["sync", "status", "--json"]).json();
        let stream = &status["streams"][0];
        (stream["state"] == "behind" && stream["lag_entries"] == 20).then_some(())
    });
    assert_eq!(length(&world.target, 0, "s"), 10);
    let text = world.run(&["sync", "status"]).out;
    assert!(text.contains("paused for") && text.contains("db0:s"), "{text}");
    assert_eq!(world.run(&["resume", "sync.x"]).code, 0);
    world.wait_equal("s");
}

#[test]
fn after_a_cutover_groups_and_pending_are_equal_and_both_positions_are_printed() {
    let world = World::new("groups_ms = 60000");
    add(&world.source, 0, "s", 1..=40);
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "g", "0"]);
    let node = world.node();
    world.wait_equal("s");
    query::<redis::Value>(&world.source, 0, &["XREADGROUP", "GROUP", "g", "c", "COUNT", "7", "STREAMS", "s", ">"]);
    query::<()>(&world.source, 0, &["XACK", "s", "g", "1-0", "2-0"]);
    let done = world.run(&["sync", "cutover", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let report = done.json();
    assert_eq!(
        (&report["streams"][0]["source_last_id"], &report["streams"][0]["target_last_id"]),
        (&"40-0".into(), &"40-0".into())
    );
    let held = |server: &RedisServer| -> Vec<(String, String, u64, u64)> {
        query(server, 0, &["XPENDING", "s", "g", "-", "+", "100"])
    };
    let plain = |rows: Vec<(String, String, u64, u64)>| {
        rows.into_iter().map(|(id, who, _, n)| (id, who, n)).collect::<Vec<_>>()
    };
    assert_eq!(plain(held(&world.target)), plain(held(&world.source)));
    // It stays paused: what consumers do on the target now is not undone.
    query::<()>(&world.target, 0, &["XACK", "s", "g", "3-0"]);
    assert!(!world.run(&["sync", "status", "--json"]).json()["paused_age_ms"].is_null());
    drop(node);
    // Producers that were not stopped are noticed before anything is done.
    world
        .space
        .write("gapless.toml", &std::fs::read_to_string(world.space.path().join("gapless.toml")).expect("the file"));
    assert_eq!(world.run(&["sync", "resume"]).code, 0);
    add(&world.source, 0, "s", 41..=50);
    let refused = world.run(&["sync", "cutover", "--timeout", "1"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("still behind: db0:s"), "{refused:?}");
}
