//! What a person meets: commands over ends that are away, refuse, or hold something else; doctor, status, and the demo.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::node::{Workspace, config, get, poll};
use crate::support::redis::{RedisServer, free_port};
use crate::world::{World, add, length, pipeline, query};

/// What status says of one stream.
fn row(report: &Value, name: &str) -> Value {
    let streams = report["streams"].as_array().expect("streams");
    streams.iter().find(|stream| stream["stream"] == name).cloned().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn a_stream_that_cannot_be_looked_at_hides_no_other() {
    let world = World::new("databases = \"0-1\"");
    for key in ["s1", "s2"] {
        add(&world.source, 0, key, 1..=10);
    }
    add(&world.source, 1, "s1", 1..=10);
    query::<()>(&world.target, 0, &["SET", "s2", "no stream"]);
    let _node = world.node();
    world.wait_equal("s1");
    world.wait_stopped("db0:s2");
    let status = world.run(&["sync", "status", "--json"]);
    assert_eq!(status.code, 0, "{status:?}");
    let report = status.json();
    assert_eq!(row(&report, "db0:s1")["state"], "even", "{report}");
    assert_eq!(row(&report, "db0:s2")["state"], "stopped", "{report}");
    assert!(row(&report, "db0:s2")["fault"].as_str().is_some_and(|why| why.contains("WRONGTYPE")), "{report}");
    assert_eq!(row(&report, "db1:s1")["state"], "refused", "{report}");
    assert!(world.run(&["sync", "status"]).out.contains("WRONGTYPE"));
    let verify = world.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 1, "{verify:?}");
    let report = verify.json();
    assert_eq!((&row(&report, "db0:s1")["same"], &report["bad"]), (&10.into(), &1.into()), "{report}");
    let fault = &row(&report, "db0:s2")["faults"][0];
    assert!(fault.as_str().is_some_and(|why| why.starts_with("it cannot be compared: ")), "{report}");
    assert_eq!(report["refused"][0]["stream"], "db1:s1", "{report}");
    // What is refused is not whole: the comparison of all says so, that of one stream does not mind.
    assert_eq!(world.run(&["sync", "verify", "--stream", "db0:s1"]).code, 0);
    let cutover = world.run(&["sync", "cutover"]);
    cutover.failed(
        1,
        "gapless: nothing was done: these streams are not copied: db0:s2, db1:s1; gapless sync status says why\n",
    );
    // The whole fleet in one line.
    let facts = poll("the summary", || {
        let status = world.run(&["status", "--json"]).json();
        let facts = status["pipelines"][0]["summary"]["facts"].clone();
        (facts["stopped"] == 1).then_some(facts)
    });
    assert_eq!((&facts["streams"], &facts["refused"], &facts["gap_entries"]), (&2.into(), &1.into(), &0.into()));
    let words = world.run(&["status"]).out;
    assert!(words.contains("ALARM: 1 left alone (gapless sync status)"), "{words}");
    // Once the key is gone, it goes on when it is told to.
    query::<()>(&world.target, 0, &["DEL", "s2"]);
    assert_eq!(world.run(&["sync", "retry"]).out, "db0:s2\n");
    world.wait_equal("s2");
}

#[test]
fn the_lag_stands_in_status_while_a_pipeline_rests() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    assert_eq!(world.run(&["sync", "pause"]).code, 0);
    poll("the pause", || (world.run(&["sync", "status", "--json"]).json()["resting"] == true).then_some(()));
    add(&world.source, 0, "s", 11..=30);
    let status = world.run(&["status", "--json"]).json();
    let summary = &status["pipelines"][0]["summary"];
    assert_eq!(summary["words"], "streams 1, lag 20 in 1 of them, paused");
    assert_eq!(
        (&summary["facts"]["lag_entries"], &summary["facts"]["behind_streams"], &summary["facts"]["whole"]),
        (&20.into(), &1.into(), &true.into())
    );
}

#[test]
fn ends_that_are_away_hide_nothing_that_is_known() {
    let mut world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let node = world.node();
    world.wait_equal("s");
    drop(node);
    world.target.kill();
    let status = world.run(&["sync", "status", "--json"]);
    assert_eq!(status.code, 3, "{status:?}");
    assert!(status.err.contains(&format!("127.0.0.1:{}/ is out of reach", world.target.port)), "{status:?}");
    assert_eq!(row(&status.json(), "db0:s")["state"], "unknown", "{status:?}");
    assert_eq!(world.run(&["sync", "verify"]).code, 3);
    let summary = world.run(&["status", "--json"]).json()["pipelines"][0]["summary"].clone();
    assert_eq!(summary["facts"]["lag_entries"], Value::Null, "{summary}");
    assert!(summary["words"].as_str().is_some_and(|words| words.contains("lag unknown; ")), "{summary}");
    let doctor = world.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    let check = check(&doctor.json(), "sync.x target");
    assert_eq!(check["verdict"], "bad", "{check}");
    assert!(check["remedy"].as_str().is_some_and(|remedy| remedy.contains("correct sync.x.target")), "{check}");
}

#[test]
fn wrong_names_and_wrong_passwords_are_told_with_what_to_do() {
    let world = World::new("");
    let none = "gapless: nothing was compared: no stream is listed; is a node running?\n";
    world.run(&["sync", "verify"]).failed(1, none);
    let unknown = "gapless: there is no [sync.y] in the configuration; there is: x\n";
    world.run(&["sync", "plan", "--pipeline", "y"]).failed(2, unknown);
    let stream = "gapless: no stream `db0:s` is copied; `gapless sync status` lists them\n";
    world.run(&["sync", "verify", "--stream", "db0:s"]).failed(2, stream);
    let empty = world.run(&["sync", "plan"]);
    assert!(empty.code == 0 && empty.out.contains("no stream matches"), "{empty:?}");
    add(&world.source, 0, "s", 1..=10);
    let total = "1 stream would be copied: 10 entries, about ";
    assert!(world.run(&["sync", "plan"]).out.contains(total));
    // The password is wrong.
    query::<()>(&world.target, 0, &["CONFIG", "SET", "requirepass", "right"]);
    let target = format!("redis://:wrong@127.0.0.1:{}", world.target.port);
    world.space.write("gapless.toml", &config(&world.redis.url(), &pipeline("x", &world.source.url(), &target, "")));
    let plan = world.run(&["sync", "plan"]);
    assert!(plan.code == 2 && plan.err.contains("WRONGPASS") && !plan.err.contains("wrong@"), "{plan:?}");
    let check = check(&world.run(&["doctor", "--json"]).json(), "sync.x target");
    assert!(check["remedy"].as_str().is_some_and(|remedy| remedy.contains("target_password_file")), "{check}");
    // Two pipelines: one must be named.
    let two = format!(
        "{}{}",
        pipeline("x", &world.source.url(), &target, ""),
        pipeline("z", &world.source.url(), &target, "")
    );
    world.space.write("gapless.toml", &config(&world.redis.url(), &two));
    let which = "gapless: which one? say --pipeline NAME; there is: x, z\n";
    world.run(&["sync", "status"]).failed(2, which);
}

/// One check of doctor.
fn check(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).cloned().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn doctor_judges_both_ends() {
    let world = World::with(RedisServer::start(), RedisServer::with(&["--appendonly", "no"]), "databases = \"0-1\"");
    add(&world.source, 0, "s", 1..=10);
    let doctor = world.run(&["doctor", "--json"]).json();
    let verdict = |report: &Value, name: &str| check(report, name)["verdict"].as_str().expect("a verdict").to_owned();
    for name in ["source", "source rights", "source memory", "target", "target rights", "target memory", "streams"] {
        assert_eq!(verdict(&doctor, &format!("sync.x {name}")), "good", "{doctor}");
    }
    assert_eq!(check(&doctor, "sync.x streams")["words"], "1 stream");
    assert_eq!(verdict(&doctor, "sync.x target persistence"), "warn");
    // Settings that would lose entries, a collision, and a right that is missing.
    query::<()>(&world.target, 0, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    query::<()>(&world.target, 0, &["ACL", "SETUSER", "default", "-xsetid"]);
    add(&world.source, 1, "s", 1..=10);
    let doctor = world.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    let doctor = doctor.json();
    assert_eq!(verdict(&doctor, "sync.x target memory"), "warn", "{doctor}");
    let rights = check(&doctor, "sync.x target rights");
    assert_eq!((&rights["verdict"], &rights["words"]), (&"bad".into(), &"default lacks +xsetid".into()));
    assert!(rights["remedy"].as_str().is_some_and(|line| line.starts_with("ACL SETUSER default ")), "{rights}");
    query::<()>(&world.target, 0, &["ACL", "SETUSER", "default", "+xsetid"]);
    let streams = check(&world.run(&["doctor", "--json"]).json(), "sync.x streams");
    assert_eq!(streams["verdict"], "warn", "{streams}");
    assert!(
        streams["words"].as_str().is_some_and(|words| words.starts_with("1 stream, 1 refused: db1:s: ")),
        "{streams}"
    );
    // A replica is no place to write to.
    query::<()>(&world.target, 0, &["REPLICAOF", "127.0.0.1", &world.source.port.to_string()]);
    let target = check(&world.run(&["doctor", "--json"]).json(), "sync.x target");
    assert_eq!(
        (&target["verdict"], &target["remedy"]),
        (&"bad".into(), &"use the master: a replica takes no writes".into())
    );
}

#[test]
fn what_is_kept_on_purpose_is_not_called_a_fault() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    let _node = world.node();
    world.wait_equal("s");
    query::<()>(&world.source, 0, &["XDEL", "s", "4-0"]);
    let verify = world.run(&["sync", "verify", "--json"]);
    let stream = row(&verify.json(), "db0:s");
    assert_eq!((verify.code, &stream["kept"], &stream["ids"][0]), (0, &1.into(), &"kept 4-0".into()), "{verify:?}");
    query::<()>(&world.target, 0, &["XADD", "s", "99-0", "of", "nobody"]);
    let verify = world.run(&["sync", "verify", "--json"]);
    let stream = row(&verify.json(), "db0:s");
    assert_eq!((verify.code, &stream["extra"]), (1, &1.into()), "{verify:?}");
    assert_eq!(stream["ids"], serde_json::json!(["extra 99-0", "kept 4-0"]));
}

#[test]
fn a_backlog_keeps_no_group_waiting_and_its_lag_is_told() {
    // Some minutes of work, so that something is always to be copied.
    let world = World::new("rate_entries = 200\nbatch_entries = 20");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = std::fs::read_to_string(world.space.path().join("gapless.toml")).expect("the configuration");
    world.space.write("gapless.toml", &text.replace("http = \"\"", &format!("http = \"{address}\"")));
    add(&world.source, 0, "s", 1..=20_000);
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "g", "7-0"]);
    let _node = world.node();
    poll("the first entries", || (length(&world.target, 0, "s") > 0).then_some(()));
    // What is made now is seen only by the background.
    query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "late", "7-0"]);
    poll("both groups, while there is a backlog", || {
        let groups: Vec<redis::Value> = query(&world.target, 0, &["XINFO", "GROUPS", "s"]);
        (groups.len() == 2).then_some(())
    });
    assert!(length(&world.target, 0, "s") < 10_000, "the backlog is over");
    let lag = poll("the lag", || {
        let metrics = get(address, "/metrics")?.body;
        let lags = metrics.lines().filter(|line| line.starts_with("gapless_sync_lag_entries{"));
        let lag: u64 = lags.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        (lag > 0).then_some(lag)
    });
    assert!((10_000..20_000).contains(&lag), "{lag}");
}

#[test]
fn the_demo_ends_well_and_leaves_nothing_behind() {
    let space = Workspace::new("");
    let done = space.run(&["demo", "--pipeline", "sync", "--seconds", "5", "--dir", "work"]);
    assert_eq!(done.code, 0, "{done:?}");
    for row in ["entries written", "same on the target", "deleted before copied", "node kills survived"] {
        assert!(done.out.contains(row), "{done:?}");
    }
    assert!(done.out.ends_with("nothing is missing\n"), "{done:?}");
}
