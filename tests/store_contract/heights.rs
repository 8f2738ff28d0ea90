//! G5: the held and parked heights agree with a model chain, whatever history of commits made them.

use std::collections::BTreeMap;

use gapless::ids::UnitId;
use gapless::messages::block::BlockHash;
use gapless::messages::heights::{Height, HeightRange, HeightSet};
use gapless::store::StoreError;
use gapless::store::effect::{Commit, Effect, Piece};
use gapless::store::lease::{Committed, Lease};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::world::World;

fn range(lo: Height, hi: Height) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

/// The block of a branch at a height. Branch 1 forks from branch 0 at 100: below that they are one chain.
fn hash(branch: u64, height: Height) -> BlockHash {
    let branch = if height < 100 { 0 } else { branch };
    BlockHash::new(&format!("b{branch}h{height}")).expect("a hash")
}

/// The parent that block 0 names is no block of ours.
fn parent(branch: u64, height: Height) -> BlockHash {
    if height == 0 { BlockHash::new("none").expect("a hash") } else { hash(branch, height - 1) }
}

fn piece(branch: u64, lo: Height, hi: Height) -> Piece {
    Piece { range: range(lo, hi), parent: parent(branch, lo), hash: hash(branch, hi) }
}

fn merge(branch: u64, lo: Height, hi: Height) -> Effect {
    Effect::Merge(piece(branch, lo, hi))
}

fn park(lo: Height, hi: Height, reason: &str) -> Effect {
    Effect::Park { range: range(lo, hi), reason: reason.to_owned() }
}

async fn apply(lease: &Lease, effects: Vec<Effect>) -> Result<Committed, StoreError> {
    lease.commit(&Commit { effects, ..Commit::default() }).await
}

async fn held(world: &World) -> Vec<Piece> {
    world.store.held(&world.link, &world.pipeline, range(0, 1 << 40)).await.expect("intervals")
}

async fn parked(world: &World) -> Vec<(HeightRange, String)> {
    let parked = world.store.parked(&world.link, &world.pipeline, range(0, 1 << 40)).await.expect("intervals");
    parked.into_iter().map(|p| (p.range, p.reason)).collect()
}

async fn collector() -> (World, Lease) {
    let world = World::new().await;
    let lease = world.acquire("collector").await.expect("free");
    (world, lease)
}

#[actix_rt::test]
async fn a_piece_joins_the_neighbours_that_it_links_to() {
    let (world, lease) = collector().await;
    for (lo, hi) in [(10, 19), (30, 39), (20, 29), (9, 9), (40, 40)] {
        assert_eq!(apply(&lease, vec![merge(0, lo, hi)]).await, Ok(Committed::Now));
    }
    assert_eq!(held(&world).await, [piece(0, 9, 40)]);
    // Again is no change, whether at an edge or inside.
    let before = (held(&world).await, parked(&world).await);
    for (lo, hi) in [(9, 40), (9, 12), (15, 20), (40, 40)] {
        assert_eq!(apply(&lease, vec![merge(0, lo, hi)]).await, Ok(Committed::Now));
    }
    assert_eq!((held(&world).await, parked(&world).await), before);
}

#[actix_rt::test]
async fn a_held_height_under_another_hash_is_an_overlap_and_never_passed_over() {
    let (world, lease) = collector().await;
    assert_eq!(apply(&lease, vec![merge(0, 100, 110)]).await, Ok(Committed::Now));
    for (lo, hi) in [(110, 110), (105, 110), (105, 111), (99, 105), (90, 120)] {
        let refused = apply(&lease, vec![merge(1, lo, hi)]).await;
        assert!(matches!(refused, Err(StoreError::Overlap { .. })), "{lo}..{hi}: {refused:?}");
    }
    let mut other = piece(0, 100, 105);
    other.parent = BlockHash::new("another").expect("a hash");
    assert!(matches!(apply(&lease, vec![Effect::Merge(other)]).await, Err(StoreError::Overlap { .. })));
    assert_eq!(held(&world).await, [piece(0, 100, 110)]);
}

#[actix_rt::test]
async fn link_race_with_reorg_the_piece_of_the_old_branch_is_refused() {
    let (world, lease) = collector().await;
    // Held: 90..104 of branch 0 and its head 110..111; a fixer fetches 105..109 of branch 0.
    assert_eq!(apply(&lease, vec![merge(0, 90, 104), merge(0, 110, 111)]).await, Ok(Committed::Now));
    let unit = UnitId::slot(&world.pipeline, "fixer", 0);
    let fixer = world.slot("fixer", 0).await;
    let task = vec![merge(0, 105, 109), Effect::Cover { range: range(105, 109), resent: Vec::new() }];
    // Meanwhile the collector walks a reorg back to the hole: 110' replaces 110..111.
    let reorg = vec![Effect::Remove { range: range(110, 111), below: None, above: None }, merge(1, 110, 110)];
    assert_eq!(apply(&lease, reorg).await, Ok(Committed::Now));
    let refused = apply(&fixer, task).await;
    let expected =
        StoreError::Link { below: 109, above: 110, hash: hash(0, 109).to_string(), parent: hash(1, 109).to_string() };
    assert_eq!(refused, Err(expected), "{unit}");
    assert_eq!(held(&world).await, [piece(0, 90, 104), piece(1, 110, 110)]);
}

#[actix_rt::test]
async fn a_reorg_removes_and_merges_in_one_commit_or_not_at_all() {
    let (world, lease) = collector().await;
    assert_eq!(apply(&lease, vec![merge(0, 50, 105)]).await, Ok(Committed::Now));
    let remove = |below| Effect::Remove { range: range(100, 105), below, above: None };
    let unknown = apply(&lease, vec![remove(None), merge(1, 100, 106)]).await;
    assert!(matches!(unknown, Err(StoreError::Overlap { .. })), "a cut without its new edge: {unknown:?}");
    let wrong = apply(&lease, vec![remove(Some(hash(1, 100))), merge(1, 100, 106)]).await;
    assert!(matches!(wrong, Err(StoreError::Link { below: 99, above: 100, .. })), "{wrong:?}");
    assert_eq!(held(&world).await, [piece(0, 50, 105)]);
    assert_eq!(apply(&lease, vec![remove(Some(hash(0, 99))), merge(1, 100, 106)]).await, Ok(Committed::Now));
    assert_eq!(held(&world).await, [Piece { hash: hash(1, 106), ..piece(0, 50, 106) }]);
}

#[actix_rt::test]
async fn a_demoted_height_leaves_two_intervals_with_edges_from_its_file() {
    let (world, lease) = collector().await;
    assert_eq!(apply(&lease, vec![merge(0, 10, 20)]).await, Ok(Committed::Now));
    let demote = |below, above| Effect::Remove { range: range(15, 15), below, above };
    for (below, above) in [(None, Some(hash(0, 15))), (Some(hash(0, 14)), None)] {
        assert!(matches!(apply(&lease, vec![demote(below, above)]).await, Err(StoreError::Overlap { .. })));
    }
    assert_eq!(apply(&lease, vec![demote(Some(hash(0, 14)), Some(hash(0, 15)))]).await, Ok(Committed::Now));
    assert_eq!(held(&world).await, [piece(0, 10, 14), piece(0, 16, 20)]);
    assert_eq!(apply(&lease, vec![merge(0, 15, 15)]).await, Ok(Committed::Now));
    assert_eq!(held(&world).await, [piece(0, 10, 20)]);
}

#[actix_rt::test]
async fn parked_heights_never_lie_over_held_ones() {
    let (world, lease) = collector().await;
    let effects = vec![merge(0, 10, 19), merge(0, 30, 39), park(5, 45, "pruned")];
    assert_eq!(apply(&lease, effects).await, Ok(Committed::Now));
    let pruned = |lo, hi| (range(lo, hi), "pruned".to_owned());
    assert_eq!(parked(&world).await, [pruned(5, 9), pruned(20, 29), pruned(40, 45)]);
    // What is held at last is not parked any more; a newer reason replaces an older one where they meet.
    let effects = vec![merge(0, 22, 25), park(28, 42, "null: the node\nhas \"none\"")];
    assert_eq!(apply(&lease, effects).await, Ok(Committed::Now));
    let null = |lo, hi| (range(lo, hi), "null: the node\nhas \"none\"".to_owned());
    assert_eq!(
        parked(&world).await,
        [pruned(5, 9), pruned(20, 21), pruned(26, 27), null(28, 29), null(40, 42), pruned(43, 45)]
    );
    assert_eq!(apply(&lease, vec![merge(0, 20, 21), merge(0, 26, 29)]).await, Ok(Committed::Now));
    assert_eq!(held(&world).await, [piece(0, 10, 39)]);
    assert_eq!(parked(&world).await, [pruned(5, 9), null(40, 42), pruned(43, 45)]);
}

#[actix_rt::test]
async fn parked_heights_carry_since_when_and_are_let_go_again() {
    let (world, lease) = collector().await;
    let now = async || world.store.now_ms(&world.link).await.expect("a time");
    let all = async || world.store.parked(&world.link, &world.pipeline, range(0, 1 << 40)).await.expect("intervals");
    let before = now().await;
    assert_eq!(apply(&lease, vec![park(5, 45, "@7 pruned")]).await, Ok(Committed::Now));
    let (first, after) = (all().await.remove(0), now().await);
    assert_eq!((first.range, first.reason.as_str()), (range(5, 45), "@7 pruned"), "only the script's own time is one");
    assert!(first.since_ms.is_some_and(|since| (before..=after).contains(&since)), "{first:?}");
    // A member as an earlier release wrote it, cut with the others.
    world.server.command(&["ZADD", &world.store.keys.parked(&world.pipeline), "50", "50 60 pruned"]);
    let unpark = |lo, hi| Effect::Unpark { range: range(lo, hi) };
    assert_eq!(apply(&lease, vec![unpark(10, 20), unpark(40, 52), unpark(100, 200)]).await, Ok(Committed::Now));
    let rest: Vec<_> = all().await.into_iter().map(|parked| (parked.range, parked.since_ms)).collect();
    let since = first.since_ms;
    assert_eq!(rest, [(range(5, 9), since), (range(21, 39), since), (range(53, 60), None)]);
    // What a commit lets go it may park or cover again, and a repeat changes nothing.
    let again = vec![unpark(0, 100), park(7, 8, "again"), Effect::Cover { range: range(7, 8), resent: Vec::new() }];
    assert_eq!(apply(&lease, again).await, Ok(Committed::Now));
    assert_eq!(apply(&lease, vec![unpark(20, 30)]).await, Ok(Committed::Now));
    assert_eq!(parked(&world).await, [(range(7, 8), "again".to_owned())]);
    let uncovered = vec![unpark(7, 7), Effect::Cover { range: range(7, 8), resent: Vec::new() }];
    assert_eq!(apply(&lease, uncovered).await, Err(StoreError::Uncovered { height: 7 }));
}

#[actix_rt::test]
async fn letting_a_thousand_parked_intervals_go_costs_a_few_commands_for_each() {
    let (world, lease) = collector().await;
    for chunk in 0..20 {
        let parks = (0..50).map(|n| park((chunk * 50 + n) * 4, (chunk * 50 + n) * 4 + 1, "pruned")).collect();
        assert_eq!(apply(&lease, parks).await, Ok(Committed::Now));
    }
    let before = commands_run(&world);
    assert_eq!(apply(&lease, vec![Effect::Unpark { range: range(0, 1 << 40) }]).await, Ok(Committed::Now));
    let cost = commands_run(&world) - before;
    assert!(cost < 5 * 1000, "{cost} commands for 1,000 intervals");
    assert_eq!(parked(&world).await, []);
}

#[actix_rt::test]
async fn a_task_is_refused_while_a_height_of_it_would_be_silently_absent() {
    let (world, lease) = collector().await;
    let cover = |resent: &[(Height, Height)]| {
        let resent = resent.iter().map(|(lo, hi)| range(*lo, *hi)).collect();
        Effect::Cover { range: range(100, 199), resent }
    };
    // Named before what fills it: judged after.
    let task = |resent: &[(Height, Height)]| vec![cover(resent), merge(0, 100, 149), park(160, 169, "pruned")];
    assert_eq!(apply(&lease, task(&[])).await, Err(StoreError::Uncovered { height: 150 }));
    assert_eq!(apply(&lease, task(&[(150, 158), (170, 199)])).await, Err(StoreError::Uncovered { height: 159 }));
    assert_eq!(apply(&lease, task(&[(170, 198), (140, 165)])).await, Err(StoreError::Uncovered { height: 199 }));
    assert_eq!(held(&world).await, []);
    assert_eq!(apply(&lease, task(&[(170, 199), (150, 159)])).await, Ok(Committed::Now));
}

#[actix_rt::test]
async fn the_largest_heights_stay_exact() {
    let (world, lease) = collector().await;
    let max = gapless::messages::heights::HEIGHT_MAX;
    for (lo, hi) in [(max - 1, max), (max - 3, max - 3), (max - 2, max - 2), (0, 0), (1, 1)] {
        assert_eq!(apply(&lease, vec![merge(0, lo, hi)]).await, Ok(Committed::Now));
    }
    let everything = world.store.held(&world.link, &world.pipeline, range(0, max)).await.expect("intervals");
    assert_eq!(everything, [piece(0, 0, 1), piece(0, max - 3, max)]);
}

/// Commands that Redis has run, those inside scripts included.
fn commands_run(world: &World) -> u64 {
    let stats = world.server.text(&["INFO", "commandstats"]);
    let calls = |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter_map(calls).sum()
}

#[actix_rt::test]
async fn a_merge_costs_the_same_among_a_thousand_gaps_as_among_none() {
    let (world, lease) = collector().await;
    let cost = |world: &World, before: u64| commands_run(world) - before;
    assert_eq!(apply(&lease, vec![merge(0, 5000, 5000)]).await, Ok(Committed::Now));
    let before = commands_run(&world);
    assert_eq!(apply(&lease, vec![merge(0, 5001, 5001)]).await, Ok(Committed::Now));
    let alone = cost(&world, before);
    for chunk in 0..20 {
        let merges = (0..50).map(|n| merge(0, (chunk * 50 + n) * 4, (chunk * 50 + n) * 4)).collect();
        assert_eq!(apply(&lease, merges).await, Ok(Committed::Now));
    }
    assert_eq!(world.store.held_intervals(&world.link, &world.pipeline).await, Ok(1001));
    let before = commands_run(&world);
    assert_eq!(apply(&lease, vec![merge(0, 2001, 2001)]).await, Ok(Committed::Now));
    assert!(cost(&world, before) <= alone + 2, "{} commands, alone {alone}", cost(&world, before));
    // Taking many out, or over many parked, costs a few commands for each: not their square.
    let before = commands_run(&world);
    let (edge, all) = (Some(hash(0, 0)), range(1, 3998));
    let effects = vec![Effect::Remove { range: all, below: edge, above: None }, park(1, 3998, "pruned")];
    assert_eq!(apply(&lease, effects).await, Ok(Committed::Now));
    assert!(cost(&world, before) < 5 * 1000, "{} commands for 1,000 intervals", cost(&world, before));
    assert_eq!(held(&world).await, [piece(0, 0, 0), piece(0, 5000, 5001)]);
}

#[actix_rt::test]
async fn a_piece_over_a_thousand_parked_intervals_costs_a_few_commands_for_each() {
    let (world, lease) = collector().await;
    for chunk in 0..20 {
        let parks = (0..50).map(|n| park((chunk * 50 + n) * 4, (chunk * 50 + n) * 4 + 1, "pruned")).collect();
        assert_eq!(apply(&lease, parks).await, Ok(Committed::Now));
    }
    let before = commands_run(&world);
    assert_eq!(apply(&lease, vec![merge(0, 1, 3996)]).await, Ok(Committed::Now));
    let cost = commands_run(&world) - before;
    assert!(cost < 5 * 1000, "{cost} commands for 1,000 intervals");
    let rest: Vec<_> = parked(&world).await.into_iter().map(|(range, _)| range).collect();
    assert_eq!(rest, [range(0, 0), range(3997, 3997)]);
}

/// What the sets must be, computed from single heights.
#[derive(Debug, Clone, Default)]
struct Model {
    /// Branch of each held height.
    held: BTreeMap<Height, u64>,
    parked: BTreeMap<Height, String>,
}

#[derive(Debug, Clone)]
enum Step {
    Merge { branch: u64, lo: Height, len: u64 },
    Remove { lo: Height, len: u64, edges: bool },
    Park { lo: Height, len: u64, reason: u8 },
    Unpark { lo: Height, len: u64 },
    Cover { lo: Height, len: u64, resent: Option<(Height, u64)> },
}

/// Heights around the fork at 100.
fn step() -> impl Strategy<Value = Step> {
    let (lo, len) = (80u64..125, 0u64..10);
    prop_oneof![
        5 => (0u64..2, lo.clone(), len.clone()).prop_map(|(branch, lo, len)| Step::Merge { branch, lo, len }),
        2 => (lo.clone(), len.clone(), prop::bool::weighted(0.8))
            .prop_map(|(lo, len, edges)| Step::Remove { lo, len, edges }),
        1 => (lo.clone(), len.clone(), 0u8..3).prop_map(|(lo, len, reason)| Step::Park { lo, len, reason }),
        1 => (lo.clone(), len.clone()).prop_map(|(lo, len)| Step::Unpark { lo, len }),
        1 => (lo.clone(), len.clone(), prop::option::of((lo, len)))
            .prop_map(|(lo, len, resent)| Step::Cover { lo, len, resent }),
    ]
}

#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Link,
    Overlap,
    Uncovered,
}

impl Model {
    fn hash(&self, height: Height) -> Option<BlockHash> {
        self.held.get(&height).map(|branch| hash(*branch, height))
    }

    fn parent(&self, height: Height) -> Option<BlockHash> {
        self.held.get(&height).map(|branch| parent(*branch, height))
    }

    /// The effect of a step, and what must become of it; the model is changed as if it were accepted.
    fn take(&mut self, step: &Step) -> (Effect, Result<(), Refused>) {
        match *step {
            Step::Merge { branch, lo, len } => (merge(branch, lo, lo + len), self.merge(branch, lo, lo + len)),
            Step::Remove { lo, len, edges } => {
                let hi = lo + len;
                let (below, above) = (self.hash(lo - 1), self.parent(hi + 1));
                // Cut means: an interval reaches over the edge of what is removed.
                let cut_below = below.is_some() && self.held.contains_key(&lo);
                let cut_above = above.is_some() && self.held.contains_key(&hi);
                let verdict = if !edges && (cut_below || cut_above) { Err(Refused::Overlap) } else { Ok(()) };
                self.held.retain(|height, _| !(lo..=hi).contains(height));
                let (below, above) = if edges { (below, above) } else { (None, None) };
                (Effect::Remove { range: range(lo, hi), below, above }, verdict)
            }
            Step::Park { lo, len, reason } => {
                let reason = format!("reason {reason}");
                for height in lo..=lo + len {
                    if !self.held.contains_key(&height) {
                        self.parked.insert(height, reason.clone());
                    }
                }
                (park(lo, lo + len, &reason), Ok(()))
            }
            Step::Unpark { lo, len } => {
                self.parked.retain(|height, _| !(lo..=lo + len).contains(height));
                (Effect::Unpark { range: range(lo, lo + len) }, Ok(()))
            }
            Step::Cover { lo, len, resent } => {
                let again = resent.map(|(lo, len)| range(lo, lo + len));
                (Effect::Cover { range: range(lo, lo + len), resent: again.into_iter().collect() }, Ok(()))
            }
        }
    }

    fn merge(&mut self, branch: u64, lo: Height, hi: Height) -> Result<(), Refused> {
        let all = (lo..=hi).all(|height| self.held.contains_key(&height));
        let any = (lo..=hi).any(|height| self.held.contains_key(&height));
        if all {
            // Redis knows the hashes only at the edges of an interval.
            let at_lo = !self.held.contains_key(&(lo - 1)) && self.parent(lo) != Some(parent(branch, lo));
            let at_hi = !self.held.contains_key(&(hi + 1)) && self.hash(hi) != Some(hash(branch, hi));
            return if at_lo || at_hi { Err(Refused::Overlap) } else { Ok(()) };
        }
        if any {
            return Err(Refused::Overlap);
        }
        let below = self.hash(lo - 1).is_some_and(|below| below != parent(branch, lo));
        let above = self.parent(hi + 1).is_some_and(|above| above != hash(branch, hi));
        if below || above {
            return Err(Refused::Link);
        }
        for height in lo..=hi {
            self.held.insert(height, branch);
            self.parked.remove(&height);
        }
        Ok(())
    }

    fn covers(&self, step: &Step) -> Result<(), Refused> {
        let Step::Cover { lo, len, resent } = *step else { return Ok(()) };
        let again = |height: Height| resent.is_some_and(|(lo, len)| (lo..=lo + len).contains(&height));
        let there = |h: &Height| self.held.contains_key(h) || self.parked.contains_key(h) || again(*h);
        if (lo..=lo + len).all(|height| there(&height)) { Ok(()) } else { Err(Refused::Uncovered) }
    }

    /// The held intervals with their edges.
    fn pieces(&self) -> Vec<Piece> {
        let set: HeightSet = self.held.keys().map(|height| HeightRange::one(*height)).collect();
        let edges = |r: &HeightRange| {
            let (parent, hash) = (self.parent(r.lo()).expect("held"), self.hash(r.hi()).expect("held"));
            Piece { range: *r, parent, hash }
        };
        set.ranges().iter().map(edges).collect()
    }
}

fn verdict(answer: Result<Committed, StoreError>) -> Result<(), Refused> {
    match answer {
        Ok(_) => Ok(()),
        Err(StoreError::Link { .. }) => Err(Refused::Link),
        Err(StoreError::Overlap { .. }) => Err(Refused::Overlap),
        Err(StoreError::Uncovered { .. }) => Err(Refused::Uncovered),
        Err(other) => panic!("{other}"),
    }
}

#[actix_rt::test]
async fn any_history_of_commits_leaves_what_the_model_chain_says() {
    let (world, lease) = collector().await;
    // Seeded, so that a failure is met again; 600 commits of one to four steps.
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let steps = prop::collection::vec(step(), 1..5);
    let (mut model, mut verdicts) = (Model::default(), BTreeMap::new());
    for n in 0..600 {
        let steps = steps.new_tree(&mut runner).expect("steps").current();
        let (mut next, mut effects, mut expected) = (model.clone(), Vec::new(), Ok(()));
        for step in &steps {
            let (effect, verdict) = next.take(step);
            effects.push(effect);
            expected = verdict;
            if expected.is_err() {
                break;
            }
        }
        if expected.is_ok() {
            expected = steps.iter().try_for_each(|step| next.covers(step));
        }
        let answer = verdict(apply(&lease, effects).await);
        assert_eq!(answer, expected, "commit {n}: {steps:?} on {model:?}");
        *verdicts.entry(format!("{answer:?}")).or_insert(0) += 1;
        if answer.is_ok() {
            model = next;
        }
        assert_eq!(held(&world).await, model.pieces(), "commit {n}: {steps:?}");
        let in_redis = parked(&world).await.into_iter();
        let in_redis: Vec<_> = in_redis.flat_map(|(r, why)| (r.lo()..=r.hi()).map(move |h| (h, why.clone()))).collect();
        assert_eq!(in_redis, model.parked.clone().into_iter().collect::<Vec<_>>(), "commit {n}: {steps:?}");
    }
    assert_eq!(verdicts.len(), 4, "the histories meet every answer: {verdicts:?}");
}
