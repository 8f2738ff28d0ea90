//! The chain of evidence: a link for each batch wherever a node dies, and broken by whatever is altered or taken out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::node::poll;
use crate::support::proxy::{Faults, Proxy};
use crate::support::redis::RedisServer;
use crate::world::{Entry, World, add, entries, length, pipeline, query, raw};

const CHAIN: &str = "gapless:chain:{s}:s";
/// Small batches, so that a few entries are many links.
const SMALL: &str = "evidence = true\nbuckets = 1\nbatch_entries = 20";

/// A link as it lies on the target.
type Raw = (String, BTreeMap<String, String>);

fn chain(target: &RedisServer) -> Vec<Raw> {
    query(target, 0, &["XRANGE", CHAIN, "-", "+"])
}

fn ms(id: &str) -> u64 {
    id.split_once('-').and_then(|(ms, _)| ms.parse().ok()).expect("an id")
}

/// The digest of entries as `docs/protocol.md` describes it, built from what the source has.
fn digest(entries: &[&Entry]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (id, fields) in entries {
        for text in std::iter::once(id.as_bytes()).chain(fields.iter().map(Vec::as_slice)) {
            hasher.update(format!("${}\r\n", text.len()).as_bytes());
            hasher.update(text);
            hasher.update(b"\r\n");
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// The digest of a link, likewise.
fn seal(link: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    let names = ["kind", "after", "first", "last", "count", "digest", "prev"];
    for text in std::iter::once("s").chain(names.iter().map(|name| link[*name].as_str())) {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Every entry of the source is covered by exactly one link, each brought by its batch, in an unbroken chain.
#[track_caller]
fn assert_whole(source: &RedisServer, target: &RedisServer) -> usize {
    let (all, links) = (entries(source, 0, "s"), chain(target));
    let (mut after, mut prev) = ("0-0".to_owned(), String::new());
    for (_, link) in &links {
        assert_eq!(link["kind"], "written", "{link:?}");
        assert_eq!((&link["after"], &link["prev"]), (&after, &prev), "{link:?}");
        let covered = |(id, _): &&Entry| ms(id) > ms(&link["after"]) && ms(id) <= ms(&link["last"]);
        let covered: Vec<&Entry> = all.iter().filter(covered).collect();
        assert_eq!((link["count"].clone(), &link["first"]), (covered.len().to_string(), &covered[0].0), "{link:?}");
        assert_eq!((link["digest"].clone(), link["chain"].clone()), (digest(&covered), seal(link)), "{link:?}");
        (after, prev) = (link["last"].clone(), link["chain"].clone());
    }
    assert_eq!(after, all.last().expect("entries").0, "the chain ends with the stream");
    links.len()
}

fn last_of(server: &RedisServer) -> String {
    entries(server, 0, "s").last().expect("entries").0.clone()
}

/// Waits until a node has written down that it has seen the link through this id.
#[track_caller]
fn wait_seen(world: &World, through: &str) {
    poll(&format!("a link through {through} that was seen"), || {
        (world.notes().get("db0:s")?["proof"]["through"] == through).then_some(())
    });
}

/// What `sync verify` says of the only stream: its evidence, and the faults in one text.
fn verdict(world: &World) -> (i32, serde_json::Value, String) {
    let verify = world.run(&["sync", "verify", "--json"]);
    let stream = verify.json()["streams"][0].clone();
    (verify.code, stream["evidence"].clone(), stream["faults"].to_string())
}

#[test]
fn each_batch_has_its_link_wherever_a_node_dies_and_another_goes_on() {
    let world = World::new(SMALL);
    let mut last = 0;
    for (round, point) in ["after_decide", "after_apply"].into_iter().cycle().take(6).enumerate() {
        add(&world.source, 0, "s", last + 1..=last + 100);
        last += 100;
        let at = format!("{point}@stream_sync_0:kill:{}", 2 + round / 2);
        let mut victim = world.space.node_with(&format!("v{round}"), &[], ("GAPLESS_CRASH_POINT", &at));
        poll("its death", || (!victim.lives()).then_some(()));
    }
    let _node = world.node();
    world.wait_equal("s");
    let links = assert_whole(&world.source, &world.target);
    assert!(links >= 30, "{links}");
    let (code, evidence, faults) = verdict(&world);
    assert_eq!(
        (code, &evidence["good"], &evidence["gone"], &evidence["found"]),
        (0, &links.into(), &0.into(), &0.into()),
        "{faults}"
    );
}

/// A proxy at work on a thread of its own.
fn proxy_to(port: u16) -> Proxy {
    let (made, proxy) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            made.send(Proxy::to(port).await).expect("somebody waits");
            std::future::pending::<()>().await;
        });
    });
    proxy.recv().expect("a proxy")
}

#[test]
fn a_batch_whose_answer_is_lost_has_one_link() {
    let world = World::new(SMALL);
    let proxy = proxy_to(world.target.port);
    let text = pipeline("x", &world.source.url(), &proxy.url(), SMALL);
    world.space.write("gapless.toml", &crate::support::node::config(&world.redis.url(), &text));
    add(&world.source, 0, "s", 1..=100);
    let _node = world.node();
    world.wait_equal("s");
    let (mut lost, mut next) = (0, 101);
    while lost < 5 {
        // What is written while answers are lost is there, and nobody was told.
        let before = length(&world.target, 0, "s");
        proxy.set(Faults { drop_answers: true, ..Faults::default() });
        add(&world.source, 0, "s", next..=next + 99);
        next += 100;
        // Where a look of the background lost its answer first, no connection comes about: that round shows nothing.
        let until = Instant::now() + Duration::from_secs(4);
        let is_written = poll("a batch without an answer", || {
            let is_there = length(&world.target, 0, "s") > before;
            (is_there || Instant::now() > until).then_some(is_there)
        });
        proxy.set(Faults::default());
        world.wait_equal("s");
        lost += u32::from(is_written);
    }
    assert_whole(&world.source, &world.target);
}

#[test]
fn what_moves_a_stream_without_an_entry_has_a_link_too() {
    let world = World::new(&format!("{SMALL}\nentry_kb_max = 1\noversize = \"go_on\""));
    add(&world.source, 0, "s", 1..=5);
    query::<()>(&world.source, 0, &["XADD", "s", "6-0", "large", &"x".repeat(2000)]);
    add(&world.source, 0, "s", 7..=9);
    query::<()>(&world.source, 0, &["XDEL", "s", "9-0"]);
    let _node = world.node();
    poll("the last id", || (length(&world.target, 0, "s") == 7).then_some(()));
    poll("a link through it", || (chain(&world.target).last()?.1["last"] == "9-0").then_some(()));
    let kinds: Vec<String> = chain(&world.target).iter().map(|(_, link)| link["kind"].clone()).collect();
    assert_eq!(kinds, ["written", "skipped", "written", "skipped"]);
    let (_, evidence, faults) = verdict(&world);
    assert_eq!((&evidence["good"], &evidence["gone"]), (&2.into(), &0.into()), "{faults}");
    assert!(!faults.contains("evidence"), "{faults}");
}

#[test]
fn what_consumers_of_the_target_trimmed_is_gone_and_what_the_source_trimmed_is_not() {
    let world = World::new(SMALL);
    add(&world.source, 0, "s", 1..=100);
    let mut node = world.node();
    world.wait_equal("s");
    node.kill();
    let links = chain(&world.target).len();
    // The source has less: what the target holds is still covered.
    query::<()>(&world.source, 0, &["XTRIM", "s", "MINID", "50-0"]);
    let (code, evidence, faults) = verdict(&world);
    assert_eq!((code, &evidence["good"]), (0, &links.into()), "{faults}");
    // Both have less: nothing is left to prove of those.
    query::<()>(&world.target, 0, &["XTRIM", "s", "MINID", "50-0"]);
    let (code, evidence, faults) = verdict(&world);
    assert!(evidence["gone"].as_u64().is_some_and(|gone| gone >= 2), "{evidence}");
    assert_eq!((code, faults.as_str()), (0, "[]"));
}

/// Puts another value in the place of that of one entry, as only a new stream can.
fn alter(server: &RedisServer, id: &str) {
    let all = entries(server, 0, "s");
    query::<()>(server, 0, &["DEL", "s"]);
    for (known, fields) in &all {
        let value: &[u8] = if known == id { b"altered" } else { &fields[1] };
        let args = [b"XADD".as_slice(), b"s", known.as_bytes(), &fields[0], value, &fields[2], &fields[3]];
        raw::<()>(server, 0, &args).expect("an entry");
    }
}

#[test]
fn the_first_link_that_does_not_hold_is_named_with_its_end() {
    let world = World::new(SMALL);
    add(&world.source, 0, "s", 1..=200);
    let mut node = world.node();
    world.wait_equal("s");
    wait_seen(&world, &last_of(&world.source));
    node.kill();
    let links = chain(&world.target);
    let covering = |id: u64| {
        let (_, link) = links.iter().find(|(_, link)| ms(&link["last"]) >= id).expect("a link");
        format!("the link {}..{}", link["after"], link["last"])
    };
    alter(&world.target, "150-0");
    let (code, _, faults) = verdict(&world);
    assert!(code == 1 && faults.contains(&format!("{} does not hold on the target", covering(150))), "{faults}");
    // On the source too, at another place, the lower one: each is told on its end.
    alter(&world.source, "50-0");
    let (_, _, faults) = verdict(&world);
    let (first, second) = (covering(50), covering(150));
    let at = |words: &str| faults.find(words).unwrap_or_else(|| panic!("no {words}: {faults}"));
    assert!(at(&format!("{first} does not hold on the source")) < at(&second), "{faults}");
}

#[test]
fn a_link_that_is_altered_or_taken_out_is_named() {
    let world = World::new(SMALL);
    add(&world.source, 0, "s", 1..=200);
    let mut node = world.node();
    world.wait_equal("s");
    wait_seen(&world, &last_of(&world.source));
    node.kill();
    let links = chain(&world.target);
    let shown = |at: usize| format!("the link {}..{}", links[at].1["after"], links[at].1["last"]);
    query::<()>(&world.target, 0, &["XDEL", CHAIN, &links[3].0]);
    let (code, _, faults) = verdict(&world);
    assert!(code == 1 && faults.contains(&format!("a link is missing before {}", shown(4))), "{faults}");
    let write = |links: &[Raw]| {
        query::<()>(&world.target, 0, &["DEL", CHAIN]);
        for (id, link) in links {
            let fields = link.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
            let args: Vec<&str> = ["XADD", CHAIN, id].into_iter().chain(fields).collect();
            query::<()>(&world.target, 0, &args);
        }
    };
    // One that says something else.
    let mut altered = links.clone();
    altered[2].1.insert("count".to_owned(), "21".to_owned());
    write(&altered);
    let (code, _, faults) = verdict(&world);
    assert!(code == 1 && faults.contains(&format!("{} was altered", shown(2))), "{faults}");
    // The newest one: the chain alone would not tell, what a node has seen does.
    write(&links[..links.len() - 1]);
    let (code, _, faults) = verdict(&world);
    assert!(code == 1 && faults.contains("without the link that a node has seen"), "{faults}");
    // Whoever takes over notes that, and covers what is there anew.
    let _node = world.space.started("b", &[]);
    world.wait_noted("db0:s", "evidence");
    add(&world.source, 0, "s", 201..=210);
    world.wait_equal("s");
    let (code, evidence, faults) = verdict(&world);
    assert_eq!((code, &evidence["found"]), (0, &1.into()), "{faults}");
}

#[test]
fn a_chain_that_vanishes_is_noted_and_begins_anew_over_what_is_there() {
    let world = World::new(SMALL);
    add(&world.source, 0, "s", 1..=100);
    let _node = world.node();
    world.wait_equal("s");
    query::<()>(&world.target, 0, &["DEL", CHAIN]);
    world.wait_noted("db0:s", "evidence");
    add(&world.source, 0, "s", 101..=110);
    world.wait_equal("s");
    let (code, evidence, faults) = verdict(&world);
    assert_eq!((code, &evidence["found"]), (0, &1.into()), "{faults}");
    assert_eq!(chain(&world.target)[0].1["kind"], "found");
}

#[test]
fn a_chain_goes_on_from_a_target_that_was_flushed_and_keeps_its_newest_links() {
    let world = World::new(&format!("{SMALL}\nevidence_links = 100\nbatch_entries = 1"));
    add(&world.source, 0, "s", 1..=50);
    let _node = world.node();
    world.wait_equal("s");
    query::<()>(&world.target, 0, &["FLUSHALL"]);
    add(&world.source, 0, "s", 51..=60);
    world.wait_equal("s");
    world.wait_noted("db0:s", "target_loss");
    assert_whole(&world.source, &world.target);
    assert_eq!(verdict(&world).0, 0);
    // The stream alone was deleted: the chain says that it went back.
    query::<()>(&world.target, 0, &["DEL", "s"]);
    world.wait_equal("s");
    let (code, evidence, faults) = verdict(&world);
    assert_eq!((code, &evidence["gone"], &evidence["found"]), (0, &0.into(), &0.into()), "{faults}");
    assert!(chain(&world.target).iter().any(|(_, link)| link["kind"] == "rewound"));
    add(&world.source, 0, "s", 61..=600);
    world.wait_equal("s");
    // Redis lets go of links by the hundred.
    let kept = length(&world.target, 0, CHAIN);
    assert!((100..=200).contains(&kept), "{kept} links of some 600");
    let (code, evidence, faults) = verdict(&world);
    assert_eq!((code, &evidence["good"]), (0, &kept.into()), "{faults}");
}

#[test]
fn a_repair_is_a_link_over_all_that_it_built() {
    let world = World::new(SMALL);
    add(&world.source, 0, "s", 1..=100);
    let mut node = world.node();
    world.wait_equal("s");
    wait_seen(&world, &last_of(&world.source));
    node.kill();
    query::<()>(&world.target, 0, &["XDEL", "s", "50-0"]);
    let repaired = world.run(&["sync", "verify", "--repair", "--json"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    let _node = world.space.started("b", &[]);
    add(&world.source, 0, "s", 101..=120);
    world.wait_equal("s");
    let kinds: Vec<String> = chain(&world.target).iter().map(|(_, link)| link["kind"].clone()).collect();
    assert!(
        kinds.iter().any(|kind| kind == "rebuilt") && kinds.last().is_some_and(|kind| kind == "written"),
        "{kinds:?}"
    );
    let (code, evidence, faults) = verdict(&world);
    assert_eq!((code, &evidence["found"], faults.as_str()), (0, &0.into(), "[]"));
    assert!(evidence["good"].as_u64().is_some_and(|good| good >= 2), "{evidence}");
}
