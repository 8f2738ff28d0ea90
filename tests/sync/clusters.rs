//! Redis Cluster as source and as target: real nodes, streams on all of them, slots that move while they are copied.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::node::{Workspace, config, poll};
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::Cluster;
use crate::world::{Entry, add, entries, pipeline, query};

/// Either kind of end.
enum End {
    One(RedisServer),
    Many(Cluster),
}

impl End {
    fn url(&self) -> String {
        match self {
            End::One(server) => server.url(),
            End::Many(cluster) => cluster.url(),
        }
    }

    fn of(&self, key: &str) -> &RedisServer {
        match self {
            End::One(server) => server,
            End::Many(cluster) => cluster.node_of(key),
        }
    }

    fn entries(&self, key: &str) -> Vec<Entry> {
        entries(self.of(key), 0, key)
    }
}

fn names() -> Vec<String> {
    let loose = (0..12).map(|n| format!("s{n}"));
    loose.chain(["s{tag}one".to_owned(), "s{tag}two".to_owned()]).collect()
}

#[track_caller]
fn wait_equal(source: &End, target: &End) {
    for key in names() {
        let wanted = source.entries(&key);
        poll(&format!("{} entries in {key}", wanted.len()), || (target.entries(&key) == wanted).then_some(()));
    }
}

/// Copies what is there and what comes, groups too; takes over; compares; mends a hole.
fn copies(source: End, target: End) {
    let redis = RedisServer::start();
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "")));
    for key in names() {
        add(source.of(&key), 0, &key, 1..=200);
    }
    let grouped = source.of("s3");
    query::<()>(grouped, 0, &["XGROUP", "CREATE", "s3", "g", "0"]);
    query::<redis::Value>(grouped, 0, &["XREADGROUP", "GROUP", "g", "c", "COUNT", "9", "STREAMS", "s3", ">"]);
    let plan = space.run(&["sync", "plan", "--json"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    assert_eq!(plan.json()["streams"].as_array().map(Vec::len), Some(14), "{plan:?}");
    let mut node = space.started("a", &[]);
    wait_equal(&source, &target);
    node.kill();
    for key in names() {
        add(source.of(&key), 0, &key, 201..=300);
    }
    let _node = space.started("b", &[]);
    wait_equal(&source, &target);
    poll("what the group holds", || {
        let there: Vec<redis::Value> = query(target.of("s3"), 0, &["XINFO", "GROUPS", "s3"]);
        let held = || query::<Vec<redis::Value>>(target.of("s3"), 0, &["XPENDING", "s3", "g", "-", "+", "100"]).len();
        (!there.is_empty() && held() == 9).then_some(())
    });
    let verify = space.run(&["sync", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["same"]), (0, &(14 * 300).into()), "{verify:?}");
    let status = space.run(&["sync", "status", "--json"]).json();
    assert!(status["streams"].as_array().expect("streams").iter().all(|s| s["state"] == "even"), "{status}");
    query::<()>(target.of("s5"), 0, &["XDEL", "s5", "7-0"]);
    let repaired = space.run(&["sync", "verify", "--repair", "--stream", "db0:s5"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert_eq!(target.entries("s5"), source.entries("s5"));
}

#[test]
fn from_a_cluster_to_one_server() {
    copies(End::Many(Cluster::start()), End::One(RedisServer::start()));
}

#[test]
fn from_one_server_to_a_cluster() {
    copies(End::One(RedisServer::start()), End::Many(Cluster::start()));
}

#[test]
fn a_node_of_a_cluster_is_enough_to_find_the_others() {
    let (source, target) = (Cluster::start(), Cluster::start());
    let redis = RedisServer::start();
    let urls = [source.nodes[2].url(), target.nodes[1].url()];
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &urls[0], &urls[1], "mode = \"group\"")));
    let (source, target) = (End::Many(source), End::Many(target));
    for key in names() {
        add(source.of(&key), 0, &key, 1..=100);
    }
    let _node = space.started("a", &[]);
    wait_equal(&source, &target);
    poll("nothing pending", || {
        let held = |key: &String| {
            let rows: Vec<redis::Value> = query(source.of(key), 0, &["XPENDING", key, "gapless-sync", "-", "+", "10"]);
            rows.is_empty()
        };
        names().iter().all(held).then_some(())
    });
}

fn connect(port: u16) -> redis::Connection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a client");
    client.get_connection().expect("a connection")
}

/// Adds an entry as a producer does that knows clusters; whether it was taken.
fn add_somewhere(connections: &mut [redis::Connection], ports: &[u16], key: &str) -> bool {
    let mut cmd = redis::cmd("XADD");
    cmd.arg(key).arg("*").arg("text").arg(key);
    for at in 0..connections.len() {
        let Err(error) = cmd.query::<String>(&mut connections[at]) else { return true };
        if error.code() == Some("ASK") {
            let words = error.to_string();
            let asked = ports.iter().position(|port| words.contains(&format!(":{port}"))).expect("a node");
            let mut pipe = redis::pipe();
            pipe.cmd("ASKING").ignore().add_command(cmd.clone()).ignore();
            return pipe.query::<()>(&mut connections[asked]).is_ok();
        }
    }
    false
}

#[test]
fn slots_that_move_while_they_are_copied_lose_nothing() {
    let (source, target) = (Cluster::start(), Cluster::start());
    let redis = RedisServer::start();
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "")));
    let (stop, added) = (AtomicBool::new(false), AtomicU64::new(0));
    let ports: Vec<u16> = source.nodes.iter().map(|node| node.port).collect();
    for key in names() {
        add(source.node_of(&key), 0, &key, 1..=50);
    }
    let _node = space.started("a", &[]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connections: Vec<redis::Connection> = ports.iter().map(|port| connect(*port)).collect();
            while !stop.load(Ordering::Relaxed) {
                for key in names() {
                    added.fetch_add(u64::from(add_somewhere(&mut connections, &ports, &key)), Ordering::Relaxed);
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        for key in ["s1", "s2", "s{tag}one", "s1"] {
            source.move_slot(key);
            target.move_slot(key);
        }
        poll("a load that means something", || (added.load(Ordering::Relaxed) > 2000).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    let (source, target) = (End::Many(source), End::Many(target));
    wait_equal(&source, &target);
    let verify = space.run(&["sync", "verify", "--json"]);
    assert_eq!(verify.code, 0, "{verify:?}");
}

/// Adds entries at a node that the stream's slot is on its way to.
fn add_asking(server: &RedisServer, key: &str, ids: std::ops::RangeInclusive<u64>) {
    let mut pipe = redis::pipe();
    for n in ids {
        pipe.cmd("ASKING").ignore();
        pipe.cmd("XADD").arg(key).arg(format!("{n}-0")).arg("n").arg(n).arg("text").arg(format!("{key} {n}")).ignore();
    }
    pipe.query::<()>(&mut server.connection()).expect("entries");
}

/// How many entries a stream has at a node that its slot is on its way to.
fn length_asking(server: &RedisServer, key: &str) -> usize {
    let mut pipe = redis::pipe();
    let (length,): (usize,) =
        pipe.cmd("ASKING").ignore().cmd("XLEN").arg(key).query(&mut server.connection()).expect("a length");
    length
}

#[test]
fn streams_of_a_slot_on_its_way_are_followed_on_the_source() {
    let (source, target) = (Cluster::start(), RedisServer::start());
    let redis = RedisServer::start();
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "evidence = true")));
    let (one, two, three) = ("s{tag}one", "s{tag}two", "s{tag}three");
    [one, two].iter().for_each(|key| add(source.node_of(key), 0, key, 1..=50));
    let arrives = |key: &str, count: usize| {
        poll(&format!("{count} entries in {key}"), || (entries(&target, 0, key).len() == count).then_some(()));
    };
    let _node = space.started("a", &[]);
    [one, two].iter().for_each(|key| arrives(key, 50));
    // One stream goes over, the other stays, a third one begins there: the slot stays between the nodes all the while.
    let way = source.open_slot(one);
    source.carry(&way, one);
    add_asking(source.receiver(&way), one, 51..=100);
    add(source.node_of(two), 0, two, 51..=100);
    add_asking(source.receiver(&way), three, 1..=100);
    [one, two, three].iter().for_each(|key| arrives(key, 100));
    add_asking(source.receiver(&way), one, 101..=150);
    arrives(one, 150);
    // The move is called off: the stream goes back, and is looked for where its slot is.
    source.call_off(&way, &[one, three]);
    [one, two, three].iter().for_each(|key| add(source.node_of(key), 0, key, 151..=200));
    arrives(one, 200);
    arrives(two, 150);
    arrives(three, 150);
    source.forget_move(&way);
    let verify = space.run(&["sync", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["same"]), (0, &500.into()), "{verify:?}");
}

#[test]
fn streams_of_a_slot_on_its_way_are_followed_on_the_target() {
    let (source, target) = (RedisServer::start(), Cluster::start());
    let redis = RedisServer::start();
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "")));
    let (one, two, three) = ("s{tag}one", "s{tag}two", "s{tag}three");
    [one, two].iter().for_each(|key| add(&source, 0, key, 1..=50));
    query::<()>(&source, 0, &["XGROUP", "CREATE", one, "g", "10-0"]);
    let _node = space.started("a", &[]);
    let here =
        |key: &str, count| poll("entries", || (entries(target.node_of(key), 0, key).len() == count).then_some(()));
    [one, two].iter().for_each(|key| here(key, 50));
    let way = target.open_slot(one);
    target.carry(&way, one);
    // The marks, too, lie on a slot that is on its way by now.
    let marks = target.open_slot("gapless:replicas");
    target.carry(&marks, "gapless:replicas");
    [one, two, three].iter().for_each(|key| add(&source, 0, key, 51..=100));
    query::<()>(&source, 0, &["XGROUP", "SETID", one, "g", "60-0"]);
    let there = |key: &str, count| {
        poll(&format!("{count} entries in {key}"), || {
            (length_asking(target.receiver(&way), key) == count).then_some(())
        });
    };
    there(one, 100);
    here(two, 100);
    there(three, 50);
    add(&source, 0, one, 101..=150);
    there(one, 150);
    target.close_slot(&marks);
    target.carry(&way, two);
    target.close_slot(&way);
    [one, two, three].iter().for_each(|key| add(&source, 0, key, 151..=200));
    let (source, target) = (End::One(source), End::Many(target));
    for key in [one, two, three] {
        let wanted = source.entries(key);
        poll(&format!("all of {key}"), || (target.entries(key) == wanted).then_some(()));
    }
    poll("groups too", || (space.run(&["sync", "verify"]).code == 0).then_some(()));
    let status = space.run(&["sync", "status", "--json"]).json();
    let streams = status["streams"].as_array().expect("streams");
    assert!(streams.iter().all(|s| s["state"] == "even" && s["conflict_entries"] == 0), "{status}");
    assert!(!status.to_string().contains("target_loss"), "{status}");
}

#[test]
fn a_move_of_the_target_that_is_called_off_is_no_loss() {
    let (source, target) = (RedisServer::start(), Cluster::start());
    let redis = RedisServer::start();
    let space = Workspace::new(&config(&redis.url(), &pipeline("x", &source.url(), &target.url(), "")));
    let key = "s{tag}one";
    add(&source, 0, key, 1..=50);
    let _node = space.started("a", &[]);
    let here = |count| poll("entries", || (entries(target.node_of(key), 0, key).len() == count).then_some(()));
    here(50);
    for round in 0..3u64 {
        let way = target.open_slot(key);
        target.carry(&way, key);
        add(&source, 0, key, 1000 * round + 51..=1000 * round + 100);
        let count = usize::try_from(150 * round + 100).expect("small");
        poll("entries there", || (length_asking(target.receiver(&way), key) == count).then_some(()));
        target.call_off(&way, &[key]);
        add(&source, 0, key, 1000 * round + 101..=1000 * round + 150);
        here(count + 50);
        target.forget_move(&way);
        add(&source, 0, key, 1000 * round + 151..=1000 * round + 200);
        here(count + 100);
    }
    let verify = space.run(&["sync", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["same"]), (0, &500.into()), "{verify:?}");
    let status = space.run(&["sync", "status", "--json"]).json();
    assert!(!status.to_string().contains("target_loss"), "{status}");
    assert_eq!(status["streams"][0]["state"], "even", "{status}");
}

#[test]
fn a_stream_whose_evidence_is_on_another_node_waits_for_it() {
    let (source, target) = (RedisServer::start(), Cluster::start());
    let redis = RedisServer::start();
    let text = pipeline("x", &source.url(), &target.url(), "evidence = true\nbuckets = 1");
    let space = Workspace::new(&config(&redis.url(), &text));
    let (key, chain) = ("s{tag}one", "gapless:chain:{tag}:s{tag}one");
    add(&source, 0, key, 1..=50);
    add(&source, 0, "s1", 1..=50);
    let _node = space.started("a", &[]);
    for key in [key, "s1"] {
        poll("entries", || (entries(target.node_of(key), 0, key).len() == 50).then_some(()));
    }
    let way = target.open_slot(key);
    target.carry(&way, key);
    add(&source, 0, key, 51..=100);
    // Others go on meanwhile.
    for n in 51..=60 {
        add(&source, 0, "s1", n..=n);
        poll("the others", || (entries(target.node_of("s1"), 0, "s1").len() == usize::try_from(n).ok()?).then_some(()));
    }
    assert_eq!(length_asking(target.receiver(&way), key), 50, "no entry without its link");
    target.carry(&way, chain);
    poll("both on one node", || (length_asking(target.receiver(&way), key) == 100).then_some(()));
    target.close_slot(&way);
    let verify = space.run(&["sync", "verify", "--json"]).json();
    assert!(verify["streams"].as_array().expect("streams").iter().all(|s| s["evidence"]["found"] == 0), "{verify}");
    assert_eq!(verify["bad"], 0, "{verify}");
}
