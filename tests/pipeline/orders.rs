//! `blocks fill`, `park` and `unpark` end to end: what operators order is done, said truly, and survives a death.

use gapless::simulate::chain::ChainPlan;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::oracle::{self, assert_whole};
use crate::sim::{Sim, plan};
use crate::support::node::{Done, poll};
use crate::world::{World, pipeline};

const HEAD: u64 = 200;
/// Everything but the pool: heights are asked for, and nobody fetches them.
const WITHOUT_POOL: [&str; 2] = ["--only", "blocks.main/collector,blocks.main/gap_detector"];

fn parked_bounds(world: &World) -> Vec<(u64, u64)> {
    oracle::parked(&world.redis, "main").iter().map(|(lo, hi, _)| (*lo, *hi)).collect()
}

#[track_caller]
fn wait_parked(world: &World, bounds: &[(u64, u64)]) {
    poll(&format!("{bounds:?} to be parked"), || (parked_bounds(world) == bounds).then_some(()));
}

/// The ranges of the tasks that wait for the pool, in their order.
fn tasks(world: &World) -> Vec<(u64, u64)> {
    let entries: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
        .arg(oracle::key("main", "in:gap_fixer"))
        .arg("-")
        .arg("+")
        .query(&mut world.redis.connection())
        .expect("a mailbox");
    let body = |fields: &[String]| serde_json::from_str::<Value>(&fields[3]).expect("JSON");
    let bounds = |fields: &[String]| body(fields)["range"].clone();
    entries.iter().map(|(_, fields)| serde_json::from_value::<(u64, u64)>(bounds(fields)).expect("a range")).collect()
}

/// Entries that wait for the detector.
fn waiting(world: &World) -> u64 {
    let key = oracle::key("main", "in:gap_detector");
    redis::cmd("XLEN").arg(key).query(&mut world.redis.connection()).expect("a length")
}

#[test]
fn parked_heights_stay_until_they_are_let_go_and_fill_brings_them() {
    let sim = Sim::start(plan(21, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    let mut node = world.space.started("one", &WITHOUT_POOL);
    world.wait_held("main", &[(HEAD - 9, HEAD)]);
    let run = |args: &[&str]| world.space.run(&[&["blocks"], args].concat());

    let parked = run(&["park", "50..69", "--reason", "known to be lost"]);
    assert_eq!((parked.code, parked.err.as_str()), (0, ""));
    assert_eq!(parked.out, "20 heights, 50..69: the detector parks 20\n");
    wait_parked(&world, &[(50, 69)]);
    assert_eq!(oracle::parked(&world.redis, "main")[0].2, "by an operator: known to be lost");
    node.kill();

    // With the pool everything else is filled, and nobody asks for these.
    let mut node = world.space.started("two", &[]);
    world.wait_held("main", &[(0, 49), (70, HEAD)]);
    assert_eq!(parked_bounds(&world), [(50, 69)]);
    gaps_name_the_next_step(&world);
    // Held heights stay held, and are counted.
    let mixed = run(&["park", "45..52", "--reason", "again", "--json"]);
    assert_eq!(mixed.json(), json!({"range": [45, 52], "held": 5, "to_park": 3, "sent": true, "runs": true}));
    poll("the newer reason", || (oracle::parked(&world.redis, "main").len() == 2).then_some(()));
    world.wait_held("main", &[(0, 49), (70, HEAD)]);
    let held = run(&["park", "0..9", "--reason", "x"]);
    assert_eq!((held.code, &*held.out), (0, "10 heights, 0..9: all held; held heights are never parked\n"));

    let unparked = run(&["unpark", "50..54"]);
    assert_eq!(
        unparked.out, "5 heights in 50..54 are let go: missing again, and the detector asks for them\n",
        "{unparked:?}"
    );
    world.wait_held("main", &[(0, 54), (70, HEAD)]);
    wait_parked(&world, &[(55, 69)]);
    let filled = run(&["fill", "40..60", "--wait", "--json"]);
    let report = filled.json();
    assert_eq!(
        (filled.code, &report["held"], &report["parked"], &report["missing"]),
        (0, &json!(15), &json!(6), &json!(0))
    );
    let waited = &report["waited"];
    assert_eq!((&waited["held"], &waited["parked"], &waited["timed_out"]), (&json!(21), &json!(0), &json!(false)));
    world.wait_held("main", &[(0, 60), (70, HEAD)]);
    assert_eq!(
        run(&["unpark", "--all", "--json"]).json(),
        json!({"range": null, "parked": 9, "sent": true, "runs": true})
    );
    world.wait_held("main", &[(0, HEAD)]);
    assert_eq!(run(&["unpark", "--all"]).out, "nothing is parked\n");
    let whole = run(&["fill", "0..200", "--wait"]);
    assert_eq!((whole.code, &*whole.out), (0, "201 heights, 0..200: all held; there is nothing to fetch\n"));
    assert_whole(&world.redis, "main", &world.store("main"), &sim.truth, 0, HEAD);
    assert!(node.lives());
}

fn gaps_name_the_next_step(world: &World) {
    let gaps = world.space.run(&["blocks", "gaps"]);
    let lines: Vec<&str> = gaps.out.lines().collect();
    assert_eq!(lines.len(), 2, "{gaps:?}");
    assert!(lines[0].starts_with("                  50..69           20 parked "), "{gaps:?}");
    assert!(lines[0].ends_with("  by an operator: known to be lost"), "{gaps:?}");
    assert_eq!(lines[1], "to fetch parked heights again: gapless blocks unpark 50..69, or --all");
    let gaps = world.space.run(&["blocks", "gaps", "--json"]).json();
    assert!(gaps["gaps"][0]["age_ms"].as_u64().is_some_and(|age| age < 60_000), "{gaps}");
    let status = world.space.run(&["blocks", "status", "--json"]).json();
    let status = &status["pipelines"][0];
    assert_eq!((&status["parked"], &status["missing"], &status["asked_for"]), (&json!(20), &json!(0), &json!(0)));
    assert_eq!(status["oldest_parked_age_ms"].as_u64().map(|age| age < 60_000), Some(true), "{status}");
}

#[test]
fn what_no_source_has_is_parked_again_and_fill_says_so() {
    let faults = "pruned=0..9,hole=100..104".parse().expect("a plan");
    let sim = Sim::start(ChainPlan { faults, ..plan(22, HEAD) });
    let whole = Sim::start(plan(22, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", "attempts_max = 2"));
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(10, 99), (105, HEAD)]);
    wait_parked(&world, &[(0, 9), (100, 104)]);
    let since = |lo: u64| -> u64 {
        let key = oracle::key("main", "parked");
        let members: Vec<String> =
            redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query(&mut world.redis.connection()).expect("members");
        let member = members.iter().find(|member| member.starts_with(&format!("{lo} "))).expect("parked");
        member.split(' ').nth(2).and_then(|at| at.strip_prefix('@')?.parse().ok()).expect("a time")
    };
    let before = since(100);
    let filled = world.space.run(&["blocks", "fill", "95..104", "--wait", "--timeout", "25"]);
    assert_eq!(filled.code, 1, "{filled:?}");
    let first = "10 heights, 95..104: 0 missing, 5 parked and let go, 5 held and skipped; the detector asks for what is not held\n";
    let rest = "5 held, 5 parked, 0 missing; see: gapless blocks gaps\nparked: the source has no such block (yet); tried 2 times\n";
    assert_eq!(filled.out, format!("{first}{rest}"));
    assert!(since(100) > before, "it was tried again");
    let pruned = world.space.run(&["blocks", "fill", "0..9", "--wait", "--json"]);
    assert_eq!((pruned.code, &pruned.json()["waited"]["parked"]), (1, &json!(10)), "{pruned:?}");
    // It takes itself off the list of the living.
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    poll("no node to live", || {
        let status = world.space.run(&["status", "--json"]).json();
        status["nodes"].as_array().expect("nodes").is_empty().then_some(())
    });

    // Another endpoint has them.
    world.configure(&pipeline("main", &[&whole.url], "0", "attempts_max = 2"));
    let nobody = world.space.run(&["blocks", "fill", "0..9", "--wait", "--timeout", "1"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.out.contains("no node runs blocks.main/gap_detector now: it is done when one does\n"), "{nobody:?}");
    assert!(nobody.out.contains("timed out after 1."), "{nobody:?}");
    let mut node = world.space.started("two", &[]);
    world.wait_held("main", &[(0, 99), (105, HEAD)]);
    assert_eq!(world.space.run(&["blocks", "fill", "100..104", "--wait"]).code, 0);
    assert_whole(&world.redis, "main", &world.store("main"), &whole.truth, 0, HEAD);
    assert!(node.lives());
}

#[test]
fn what_was_wished_for_is_asked_for_before_the_rest() {
    let sim = Sim::start(plan(23, HEAD));
    // The detector fills the mailbox with the lowest heights; nobody takes a task away but the test.
    let world = World::new(
        &pipeline("main", &[&sim.url], "0", "task_capacity = 3").replace("task_heights = 50", "task_heights = 2"),
    );
    let mut node = world.space.started("one", &WITHOUT_POOL);
    poll("a full mailbox", || (tasks(&world) == [(0, 1), (2, 3), (4, 5)]).then_some(()));
    assert_eq!(world.space.run(&["blocks", "fill", "150..153"]).code, 0);
    poll("the wish to be taken", || (waiting(&world) == 0).then_some(()));
    assert_eq!(tasks(&world), [(0, 1), (2, 3), (4, 5)], "no room: a wish grows no mailbox");
    world.redis.command(&["XTRIM", &oracle::key("main", "in:gap_fixer"), "MAXLEN", "0"]);
    poll("room again", || (tasks(&world).len() == 3).then_some(()));
    assert_eq!(tasks(&world), [(150, 151), (152, 153), (6, 7)]);
    let state: String = redis::cmd("HGET")
        .arg(oracle::key("main", "ck:gap_detector"))
        .arg("state")
        .query(&mut world.redis.connection())
        .expect("a state");
    assert!(!state.contains("wishes"), "a wish ends when it was asked for: {state}");
    assert!(node.lives());
}

#[test]
fn an_order_survives_the_death_of_the_detector_half_way() {
    let sim = Sim::start(plan(24, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "0", ""));
    let mut first = world.space.started("one", &WITHOUT_POOL);
    world.wait_held("main", &[(HEAD - 9, HEAD)]);
    first.kill();
    let run = |args: &[&str]| -> Done { world.space.run(&[&["blocks"], args].concat()) };
    for order in
        [&["park", "10..19", "--reason", "a"][..], &["unpark", "0..14"], &["park", "100..109", "--reason", "b"]]
    {
        // Nothing is parked yet for `unpark`: it is sent all the same, as another operator's terminal would.
        let done = if order[0] == "unpark" {
            world.space.run(&["send", "blocks.main/gap_detector", "unpark", "{\"range\":[0,14]}"])
        } else {
            run(order)
        };
        assert_eq!(done.code, 0, "{done:?}");
    }
    // The first of its commits parks 10..19 and acknowledges nothing; the node dies right behind it.
    for (n, at) in ["after_commit", "before_commit", "commit_under_way"].into_iter().enumerate() {
        let armed = format!("{at}@gap_detector:kill:1");
        let mut node = world.space.node_with(&format!("d{n}"), &WITHOUT_POOL, ("GAPLESS_CRASH_POINT", &armed));
        assert_ne!(node.wait(), 0, "{at}: it must die there");
        // A commit that is answered at once is not caught under way, and the next one may acknowledge.
        assert!(at == "commit_under_way" || waiting(&world) >= 3, "{at}: a turn that was cut acknowledges nothing");
    }
    let orders = world.space.started("last", &WITHOUT_POOL);
    poll("the mailbox to be empty", || (waiting(&world) == 0).then_some(()));
    drop(orders);
    let mut node = world.space.started("pool", &[]);
    world.wait_held("main", &[(0, 14), (20, 99), (110, HEAD)]);
    let parked = oracle::parked(&world.redis, "main");
    let reasons: Vec<_> = parked.iter().map(|(lo, hi, reason)| (*lo, *hi, reason.as_str())).collect();
    assert_eq!(reasons, [(15, 19, "by an operator: a"), (100, 109, "by an operator: b")]);
    let dead = world.redis.command(&["EXISTS", &oracle::key("main", "dead:gap_detector")]);
    assert_eq!(dead, redis::Value::Int(0));
    assert!(node.lives());
}

#[test]
fn orders_that_cannot_be_are_refused_with_what_to_write() {
    let sim = Sim::start(plan(25, HEAD));
    let world = World::new(&pipeline("main", &[&sim.url], "20", "end = 180"));
    let run = |args: &[&str]| -> Done { world.space.run(&[&["blocks"], args].concat()) };
    let unseen = "gapless: no collector has seen the chain yet; start a node: gapless run\n";
    run(&["fill", "20..30"]).failed(2, unseen);
    run(&["park", "20..30", "--reason", "x"]).failed(2, unseen);
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(20, 180)]);
    node.kill();
    let above = "reaches above the configured end, 180: heights above it are not wanted";
    run(&["fill", "100..190"]).failed(2, &format!("gapless: 100..190 {above}; write 100..180\n"));
    run(&["fill", "190..195"]).failed(2, &format!("gapless: 190..195 {above}; wanted are 20..180\n"));
    let below = "gapless: 5..30 reaches below the start, 20: heights below it are not wanted; write 20..30\n";
    run(&["fill", "5..30"]).failed(2, below);
    run(&["park", "5..30", "--reason", "x"]).failed(2, below);
    for (args, words) in [
        (&["fill", "30..20"][..], "the range 30..20 runs backwards; write LOWEST..HIGHEST"),
        (&["fill", "-5..20"], "`-5` is no height; write a whole number from 0, or A..B"),
        (&["verify", "-5..20"], "`-5` is no height; write a whole number from 0, or A..B"),
        (&["get", "-5"], "`-5` is no height; write a whole number from 0, or A..B"),
        (&["park", "20..30", "--reason", " "], "the reason is empty; say why"),
        (&["park", "20..30"], "--reason <TEXT>"),
        (&["fill", "20..30", "--timeout", "3"], "--wait"),
        (&["fill", "20..30", "--wait", "--timeout", "0"], "0 is not in 1.."),
        (&["unpark"], "--all"),
        (&["unpark", "20..30", "--all"], "cannot be used with"),
    ] {
        let done = run(args);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}: {done:?}");
        assert!(done.err.contains(words), "{args:?}: {done:?}");
    }
    world.configure(&pipeline("main", &[&sim.url], "20", ""));
    let _second = world.space.started("two", &[]);
    world.wait_held("main", &[(20, HEAD)]);
    let head =
        "gapless: 199..900 reaches above the head, 200: no node of the chain has those heights yet; write 199..200\n";
    run(&["fill", "199..900"]).failed(2, head);
    let top = "gapless: 185..195 reaches above finality (final is 190 and below): the collector follows there, and parking \
               would not stop it\n";
    run(&["park", "185..195", "--reason", "x"]).failed(2, top);
}

/// More parked intervals than one commit may touch: the order is done in parts, and whole.
#[test]
fn an_order_over_many_intervals_is_done_in_bounded_parts() {
    const PLANTED: u64 = 1_200;
    let sim = Sim::start(ChainPlan { block_bytes: 2_000..=2_500, ..plan(26, 2 * PLANTED + 20) });
    let world = World::new(&pipeline("main", &[&sim.url], "0", "parked_retry_seconds = 0"));
    let key = oracle::key("main", "parked");
    let plant = || {
        for height in (0..PLANTED).map(|n| 2 * n) {
            world.redis.command(&["ZADD", &key, &height.to_string(), &format!("{height} {height} @7 planted")]);
        }
    };
    plant();
    let mut node = world.space.started("one", &WITHOUT_POOL);
    let head = 2 * PLANTED + 20;
    world.wait_held("main", &[(head - 9, head)]);
    let last = 2 * PLANTED - 1;
    let range = format!("0..{last}");
    assert_eq!(world.space.run(&["blocks", "park", &range, "--reason", "all of it"]).code, 0);
    wait_parked(&world, &[(0, last)]);
    let members: u64 = redis::cmd("ZCARD").arg(&key).query(&mut world.redis.connection()).expect("a number");
    assert_eq!(members, 3, "500 intervals a commit");
    world.redis.command(&["DEL", &key]);
    plant();
    let unparked = world.space.run(&["blocks", "unpark", "--all"]);
    assert_eq!(unparked.code, 0, "{unparked:?}");
    wait_parked(&world, &[]);
    assert!(node.lives());
}
