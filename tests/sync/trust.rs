//! Whom the ends trust: certificates on both ways, and users who may do exactly what `sync plan` prints.

use std::path::Path;

use crate::support::node::{config, poll};
use crate::support::redis::RedisServer;
use crate::support::tls::{Authority, TlsServer};
use crate::world::{World, add, entries, info, length, pipeline, query};

/// A configuration with other addresses and these keys.
fn point(world: &World, source: &str, target: &str, more: &str) {
    world.space.write("gapless.toml", &config(&world.redis.url(), &pipeline("x", source, target, more)));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn both_ends_by_tls_with_certificates_of_both_sides() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let Some(source) = TlsServer::start(&authority, &["localhost"], true) else { return };
    let Some(target) = TlsServer::start(&authority, &["localhost"], false) else { return };
    let (source_url, target_url) = (source.url("localhost"), target.url("localhost"));
    let (elsewhere, plain_port) = (target.url("127.0.0.1"), format!("rediss://localhost:{}", source.server.port));
    let world = World::with(source.server, target.server, "");
    add(&world.source, 0, "s", 1..=300);
    let (cert, key) = authority.sign("gapless", &["gapless"]);
    let (strange_cert, strange_key) = stranger.sign("gapless", &["gapless"]);
    let line = |name: &str, path: &Path| format!("{name} = '{}'", shown(path));
    let trusts = [line("source_tls_ca_file", &authority.ca_file()), line("target_tls_ca_file", &authority.ca_file())];
    let ours = [line("source_tls_cert_file", &cert), line("source_tls_key_file", &key)];
    let strange = [line("source_tls_cert_file", &strange_cert), line("source_tls_key_file", &strange_key)];
    let refused = |source: &str, target: &str, lines: &[String], words: &str| {
        point(&world, source, target, &lines.join("\n"));
        let plan = world.run(&["sync", "plan"]);
        assert!(plan.code == 3 && plan.err.contains(words), "{words}: {plan:?}");
    };
    // Each way to be refused, with the key that mends it.
    let wrong_ca = [line("source_tls_ca_file", &stranger.ca_file()), trusts[1].clone(), ours.join("\n")];
    refused(&source_url, &target_url, &wrong_ca, "source_tls_ca_file names the PEM file of who signed it");
    refused(&source_url, &target_url, &[trusts[0].clone(), ours.join("\n")], "target_tls_ca_file names the PEM file");
    refused(
        &source_url,
        &target_url,
        &trusts,
        "asks for our certificate: source_tls_cert_file and source_tls_key_file",
    );
    let unknown = [trusts.join("\n"), strange.join("\n")];
    refused(&source_url, &target_url, &unknown, "let its authority sign the one in source_tls_cert_file");
    let good = [trusts.join("\n"), ours.join("\n")];
    refused(&source_url, &elsewhere, &good, "use a name that it holds in `target`");
    refused(&plain_port, &target_url, &good, "may speak no TLS on this port: write redis:// in `source`");
    let gone = [trusts.join("\n"), line("source_tls_cert_file", &cert), "source_tls_key_file = 'gone.key'".to_owned()];
    point(&world, &source_url, &target_url, &gone.join("\n"));
    let plan = world.run(&["sync", "plan"]);
    assert!(plan.code == 2 && plan.err.contains("source_tls_key_file = \"gone.key\": cannot be used"), "{plan:?}");
    point(&world, &source_url, &target_url, &wrong_ca.join("\n"));
    let doctor = world.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.out.contains("source_tls_ca_file names"), "{doctor:?}");
    // And with all of them it works: a node, the comparison, what doctor says.
    point(&world, &source_url, &target_url, &good.join("\n"));
    let node = world.node();
    world.wait_equal("s");
    add(&world.source, 0, "s", 301..=400);
    world.wait_equal("s");
    assert_eq!(world.run(&["sync", "verify"]).code, 0);
    drop(node);
    point(&world, &source_url, &elsewhere, &[&good.join("\n"), "target_tls_insecure = true"].join("\n"));
    assert_eq!(world.run(&["sync", "verify"]).code, 0);
}

/// Makes the users of the lines that `sync plan` prints, and points the pipeline at them.
fn with_users(world: &World, more: &str) -> Vec<String> {
    point(world, &world.source.url(), &world.target.url(), more);
    let plan = world.run(&["sync", "plan", "--json"]).json();
    let lines: Vec<String> = serde_json::from_value(plan["acl"].clone()).expect("lines");
    for (server, line) in [(&world.source, &lines[0]), (&world.target, &lines[1])] {
        let line = line.replace(">PASSWORD", ">pw");
        query::<()>(server, 0, &line.split(' ').collect::<Vec<_>>());
    }
    let url = |user: &str, server: &RedisServer| format!("redis://{user}:pw@127.0.0.1:{}", server.port);
    point(world, &url("gapless_source", &world.source), &url("gapless_target", &world.target), more);
    lines
}

#[test]
fn exactly_the_rights_of_plan_are_enough_for_everything() {
    const ALL: &str = "publish_group = \"shown\"\ndeletes = \"mirror\"\ndatabases = \"0-1\"";
    for mode in ["tail", "group"] {
        let world = World::new("");
        add(&world.source, 0, "s", 1..=50);
        add(&world.source, 1, "s1", 1..=50);
        with_users(&world, &format!("mode = \"{mode}\"\n{ALL}"));
        let plan = world.run(&["sync", "plan"]);
        assert_eq!(plan.code, 0, "{plan:?}");
        let mut node = world.node();
        world.wait_equal("s");
        query::<()>(&world.source, 0, &["XTRIM", "s", "MINID", "4-0"]);
        query::<()>(&world.source, 0, &["XDEL", "s", "20-0"]);
        world.wait_equal("s");
        query::<()>(&world.source, 0, &["XGROUP", "CREATE", "s", "g", "0"]);
        query::<()>(&world.source, 0, &["XGROUP", "CREATECONSUMER", "s", "g", "idle"]);
        let read = ["XREADGROUP", "GROUP", "g", "c", "COUNT", "9", "STREAMS", "s", ">"];
        query::<redis::Value>(&world.source, 0, &read);
        // Groups, what they hold, counters, the position that is shown, a takeover.
        poll("the group", || (world.run(&["sync", "verify"]).code == 0).then_some(()));
        poll("the position", || {
            let groups: redis::Value = query(&world.source, 0, &["XINFO", "GROUPS", "s"]);
            format!("{groups:?}").contains("shown").then_some(())
        });
        node.kill();
        add(&world.source, 0, "s", 51..=60);
        let node = world.space.started("b", &[]);
        world.wait_equal("s");
        world.wait_for("s1", &entries(&world.source, 1, "s1"));
        assert_eq!(world.run(&["sync", "pause"]).code, 0);
        poll("the pause", || (world.run(&["sync", "status", "--json"]).json()["resting"] == true).then_some(()));
        query::<()>(&world.target, 0, &["XDEL", "s", "33-0"]);
        let repair = world.run(&["sync", "verify", "--repair"]);
        assert!(repair.code == 0 && repair.out.contains("rebuilt"), "{repair:?}");
        assert_eq!(world.run(&["sync", "resume"]).code, 0);
        let moved = world.run(&["sync", "cutover"]);
        assert_eq!(moved.code, 0, "{moved:?}");
        assert!(world.notes().values().all(|notes| notes["stopped"].is_null()), "{mode}: {:?}", world.notes());
        drop(node);
    }
}

#[test]
fn each_right_that_is_taken_away_is_named_by_plan() {
    let world = World::new("");
    add(&world.source, 0, "s", 1..=10);
    add(&world.source, 1, "s1", 1..=10);
    let more =
        "mode = \"group\"\npublish_group = \"shown\"\ndeletes = \"mirror\"\nwait_replicas = 1\ndatabases = \"0-1\"";
    let lines = with_users(&world, more);
    assert_eq!(world.run(&["sync", "plan"]).code, 0);
    for (server, user, line) in
        [(&world.source, "gapless_source", &lines[0]), (&world.target, "gapless_target", &lines[1])]
    {
        for rule in line.split(' ').filter(|rule| rule.starts_with('+')) {
            query::<()>(server, 0, &["ACL", "SETUSER", user, &rule.replacen('+', "-", 1)]);
            let plan = world.run(&["sync", "plan"]);
            let end = user.trim_start_matches("gapless_");
            let words = format!("the user of the {end} lacks: {rule}\n");
            // Without INFO nobody knows what the server is: then it is said which command was refused.
            let early = format!("refused {}: NOPERM", rule.trim_start_matches('+').to_uppercase());
            let named = plan.code == 1 && plan.out.contains(&words) || plan.code == 2 && plan.err.contains(&early);
            assert!(named, "{rule} of the {end}: {plan:?}");
            query::<()>(server, 0, &["ACL", "SETUSER", user, rule]);
        }
    }
    assert_eq!(world.run(&["sync", "plan"]).code, 0);
    assert_eq!((length(&world.target, 0, "s"), info(&world.source, "s", "entries-added").as_str()), (0, "10"));
}
