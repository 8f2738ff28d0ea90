//! `gapless blocks` over a small simulated chain: shapes, exit codes, and what is said of heights that nobody judged.

use serde_json::{Value, json};

use super::sim::{self, Sim};
use super::support::invariants::{self, BlockFile, BlockTruth, Index};
use super::support::node::{Node, Workspace, poll};
use super::support::redis::RedisServer;
use super::{names, oracle, world};

const HEAD: u64 = 60;
/// What `blocks status` says of a pipeline.
const STATUS: [&str; 15] = [
    "alarms",
    "asked_for",
    "chain_id",
    "finalized",
    "head",
    "held",
    "held_intervals",
    "missing",
    "oldest_parked_age_ms",
    "oldest_request_age_ms",
    "parked",
    "paused_age_ms",
    "pipeline",
    "store",
    "wanted",
];
/// What `blocks verify` says.
const VERIFY: [&str; 7] = ["faults", "found", "judged", "more", "not_judged", "range", "sent_to_repair"];

/// A node that follows a chain whose heights `hole` no source has.
fn followed(seed: u64, faults: &str) -> (Sim, RedisServer, Workspace, Node) {
    let faults = faults.parse().expect("faults");
    let sim = Sim::start(gapless::simulate::chain::ChainPlan { faults, ..sim::plan(seed, HEAD) });
    let (redis, workspace) = world(&format!(
        "[blocks.main]\nendpoints = [\"{}\"]\nstart = 0\nstore = \"store\"\nconfirmations = 10\npoll_ms = 100\n\
         request_age_seconds = 1\ntask_heights = 20\nattempts_max = 1\n",
        sim.url
    ));
    let node = workspace.started("a", &[]);
    (sim, redis, workspace, node)
}

fn wait_held(redis: &RedisServer, bounds: &[(u64, u64)]) {
    poll(&format!("{bounds:?} to be held"), || (oracle::bounds(redis, "main") == bounds).then_some(()));
}

#[test]
fn a_whole_chain_in_json_and_words() {
    let (sim, redis, workspace, _node) = followed(3, "none");
    wait_held(&redis, &[(0, HEAD)]);
    let status = workspace.run(&["blocks", "status", "--json"]).json();
    assert_eq!((names(&status), names(&status["pipelines"][0])), (vec!["pipelines"], STATUS.to_vec()));
    let of = |name: &str| status["pipelines"][0][name].clone();
    assert_eq!((of("head"), of("finalized"), of("wanted")), (json!(HEAD), json!(HEAD - 10), json!([0, HEAD])));
    assert_eq!((of("held"), of("held_intervals"), of("missing")), (json!(HEAD + 1), json!(1), json!(0)));
    let text = workspace.run(&["blocks", "status"]).out;
    assert!(text.contains("in 1 interval\n") && text.contains("in 0 gaps\n"), "{text}");
    let gaps = workspace.run(&["blocks", "gaps", "--json"]).json();
    assert_eq!(gaps, json!({ "wanted": [0, HEAD], "gaps": [], "more": 0 }));
    assert_eq!(workspace.run(&["blocks", "gaps"]).out, format!("no gaps in 0..{HEAD}\n"));

    // Nobody takes the heights above the head for verified.
    let beyond = workspace.run(&["blocks", "verify", "0..99999", "--json"]);
    assert_eq!((beyond.code, names(&beyond.json())), (0, VERIFY.to_vec()));
    let why = format!("above the head, {HEAD}");
    assert_eq!(beyond.json()["not_judged"], json!([{ "range": [HEAD + 1, 99_999], "why": why }]));
    assert_eq!((&beyond.json()["judged"], &beyond.json()["faults"]), (&json!(HEAD + 1), &json!(0)));
    let beyond = workspace.run(&["blocks", "verify", "0..99999"]);
    assert_eq!(
        (beyond.code, beyond.out.as_str()),
        (
            0,
            "61 heights, 0..60: all held, whole and linked\n99,939 heights, 61..99999, lie above the head, 60: not judged\n"
        )
    );
    let whole = workspace.run(&["blocks", "verify", "--json"]).json();
    assert_eq!((&whole["not_judged"], &whole["found"]), (&json!([]), &json!([])));

    // Whole, on a line of its own, also where nobody sees a terminal.
    let status = workspace.run(&["status"]).out;
    let line = format!("\n  head {HEAD}, held 61 of 61, missing 0 in 0 gaps, parked 0\n");
    assert!(status.contains(&line), "{status}");
    g5(&sim, &redis, &workspace);
    damage_is_sent_to_the_detector(&sim, &redis, &workspace);
}

/// One file is gone: `get` and `verify` say so with code 1.
fn damage_is_sent_to_the_detector(sim: &Sim, redis: &RedisServer, workspace: &Workspace) {
    let path = oracle::files(&workspace.path().join("store"))[&30][0].path.clone();
    std::fs::remove_file(&path).expect("a file");
    let faults = faults(sim, redis, workspace);
    assert_eq!(faults, ["height 30 is held and has 0 files of the chain's block"], "the oracle sees it too");
    let get = workspace.run(&["blocks", "get", "30"]);
    get.failed(1, "gapless: height 30 is held, but its file is gone; run: gapless blocks verify 30\n");
    workspace.run(&["blocks", "get", "999"]).failed(1, "gapless: height 999 lies above the head, 60\n");
    let report = workspace.run(&["blocks", "verify", "--no-repair", "--json"]);
    let found = report.json();
    assert_eq!((report.code, &found["faults"], &found["sent_to_repair"]), (1, &json!(1), &json!(0)));
    assert_eq!(found["found"], json!([{ "range": [30, 30], "class": "missing", "words": "its file is gone" }]));
    let sent = workspace.run(&["blocks", "verify", "30"]);
    assert_eq!(
        (sent.code, sent.out.as_str()),
        (
            1,
            "              30  missing     its file is gone\n\
             1 of 1 height, 30..30, is not as it should be\n\
             1 height sent to the detector, which judges them again; what is bad goes to the trash and is fetched again \
             by a running node\n"
        )
    );
    poll("the file to be there again", || path.exists().then_some(()));
    wait_held(redis, &[(0, HEAD)]);
    g5(sim, redis, workspace);
}

#[test]
fn parked_ranges_are_gaps_with_a_reason() {
    let (sim, redis, workspace, _node) = followed(4, "pruned=0..4,hole=20..24");
    wait_held(&redis, &[(5, 19), (25, HEAD)]);
    poll("two parked ranges", || (oracle::parked(&redis, "main").len() == 2).then_some(()));
    let reasons: Vec<Value> = oracle::parked(&redis, "main").into_iter().map(|(.., reason)| reason.into()).collect();
    let mut gaps = workspace.run(&["blocks", "gaps", "--json"]).json();
    for gap in gaps["gaps"].as_array_mut().expect("gaps") {
        let age = gap.as_object_mut().expect("an object").remove("age_ms").expect("its age");
        assert!(age.as_u64().is_some_and(|age| age < 60_000), "{age}");
    }
    let rows = json!([
        { "range": [0, 4], "count": 5, "state": "parked", "reason": reasons[0] },
        { "range": [20, 24], "count": 5, "state": "parked", "reason": reasons[1] },
    ]);
    assert_eq!(gaps, json!({ "wanted": [0, HEAD], "gaps": rows, "more": 0 }));
    let one = workspace.run(&["blocks", "gaps", "--limit", "1", "--json"]).json();
    assert_eq!((one["gaps"].as_array().map(Vec::len), &one["more"]), (Some(1), &json!(1)));
    let one = workspace.run(&["blocks", "gaps", "--limit", "1"]).out;
    let next = "to fetch parked heights again: gapless blocks unpark 0..4, or --all\n";
    assert!(one.ends_with(&format!("... and 1 more range (--limit)\n{next}")), "{one}");
    let status = workspace.run(&["blocks", "status"]).out;
    assert!(status.contains("  parked                   10  the first ") && status.contains(" ago; see: "), "{status}");
    let verify = workspace.run(&["blocks", "verify", "--json"]);
    assert_eq!((verify.code, &verify.json()["faults"]), (1, &json!(10)));
    g5(&sim, &redis, &workspace);
}

#[test]
fn before_the_first_node_there_is_nothing_to_judge() {
    let (_redis, workspace) =
        world("[blocks.main]\nendpoints = [\"http://127.0.0.1:1\"]\nstart = 0\nstore = \"store\"\n");
    let status = workspace.run(&["blocks", "status", "--json"]).json();
    assert_eq!(names(&status["pipelines"][0]), STATUS);
    assert_eq!(status["pipelines"][0]["wanted"], Value::Null);
    let gaps = workspace.run(&["blocks", "gaps", "--json"]).json();
    assert_eq!(gaps, json!({ "wanted": null, "gaps": [], "more": 0 }));
    workspace
        .run(&["blocks", "verify"])
        .failed(2, "gapless: there is nothing to verify: no collector has seen the chain yet\n");
}

/// G5 over what Redis and the folder have, read without any code of the program.
fn g5(sim: &Sim, redis: &RedisServer, workspace: &Workspace) {
    judged(sim, redis, workspace, |index, files, truth| invariants::g5_blocks(index, files, truth));
}

fn faults(sim: &Sim, redis: &RedisServer, workspace: &Workspace) -> Vec<String> {
    judged(sim, redis, workspace, |index, files, truth| invariants::block_faults(index, files, truth))
}

fn judged<T>(
    sim: &Sim,
    redis: &RedisServer,
    workspace: &Workspace,
    judge: impl FnOnce(&Index, &dyn Fn(u64) -> Vec<BlockFile>, &dyn Fn(u64) -> BlockTruth) -> T,
) -> T {
    let held = oracle::held(redis, "main").into_iter().map(|held| (held.lo, held.hi, held.parent, held.hash)).collect();
    let index = Index { wanted: 0..=HEAD, held, parked: oracle::parked(redis, "main") };
    let files = oracle::files(&workspace.path().join("store"));
    let file = |stored: &oracle::Stored| BlockFile {
        hash: stored.hash.clone(),
        raw: stored.raw.clone(),
        digest: stored.meta.as_ref().and_then(|meta| meta["blake3"].as_str()).map(str::to_owned),
    };
    let files = |height| files.get(&height).map_or_else(Vec::new, |files| files.iter().map(file).collect());
    let truth = |height| {
        let block = sim.truth.truth(height);
        BlockTruth { hash: block.hash.to_string(), parent: block.parent.to_string(), raw: block.raw.to_vec() }
    };
    judge(&index, &files, &truth)
}

/// An oracle that finds nothing proves nothing: each kind of damage is shown to it.
#[test]
fn g5_finds_every_kind_of_damage() {
    let truth = |height: u64| BlockTruth {
        hash: format!("h{height}"),
        parent: format!("h{}", height.wrapping_sub(1)),
        raw: vec![7; 3],
    };
    let digest = blake3::hash(&[7; 3]).to_string();
    let file =
        move |height: u64| BlockFile { hash: format!("h{height}"), raw: vec![7; 3], digest: Some(digest.clone()) };
    let piece = |lo: u64, hi: u64| (lo, hi, format!("h{}", lo - 1), format!("h{hi}"));
    let index = |held| Index { wanted: 1..=9, held, parked: vec![(5, 6, "pruned".to_owned())] };
    let whole = || index(vec![piece(1, 4), piece(7, 9)]);
    let good = |height: u64| vec![file(height)];
    let none = Vec::<String>::new();
    assert_eq!(invariants::block_faults(&whole(), &good, &truth), none);
    let absent = index(vec![piece(1, 4), piece(8, 9)]);
    assert_eq!(invariants::block_faults(&absent, &good, &truth), ["height 7 is neither held nor parked"]);
    let twice = index(vec![piece(1, 5), piece(7, 9)]);
    assert_eq!(invariants::block_faults(&twice, &good, &truth), ["height 5 is held and parked"]);
    let silent = Index { parked: vec![(5, 6, String::new())], ..whole() };
    assert_eq!(invariants::block_faults(&silent, &good, &truth), ["5..6 is parked without a reason"]);
    let mut other = whole();
    other.held[0].2 = "x".to_owned();
    other.held[1].3 = "y".to_owned();
    let edges = ["1..4 is held on x, the chain has h0", "7..9 is held up to y, the chain has h9"];
    assert_eq!(invariants::block_faults(&other, &good, &truth), edges);
    for (change, words) in [
        (|files: &mut Vec<BlockFile>| files.clear(), "height 8 is held and has 0 files of the chain's block"),
        (
            |files: &mut Vec<BlockFile>| files.extend(files.clone()),
            "height 8 is held and has 2 files of the chain's block",
        ),
        (|files: &mut Vec<BlockFile>| files[0].raw[0] = 8, "height 8 has other bytes than the chain"),
        (|files: &mut Vec<BlockFile>| files[0].digest = None, "height 8 has no digest of its bytes beside it"),
    ] as [(fn(&mut Vec<BlockFile>), &str); 4]
    {
        let files = |height: u64| {
            let mut files = good(height);
            if height == 8 {
                change(&mut files);
            }
            files
        };
        assert_eq!(invariants::block_faults(&whole(), &files, &truth), [words]);
    }
}
