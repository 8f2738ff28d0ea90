//! The crash matrix in this process: each named point of a turn, each style of rotation, each fault. Hundreds of cases, a
//! group of them side by side on one Redis.
//!
//! `GAPLESS_CHAOS_SEED=N` runs one, and says what it does.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cases::{Case, Fault};
use crate::watch::Site;

/// Cases side by side.
const GROUP: usize = 24;

/// What a run of cases came to.
#[derive(Default)]
pub struct Tally {
    pub cases: u32,
    /// Faults that came at their point.
    at_point: BTreeMap<&'static str, u32>,
    redis_kills: u32,
    /// Lines that were written, pieces of long ones each for itself.
    pub lines: u64,
    failed: Vec<String>,
}

impl Tally {
    fn report(&self) {
        let Self { cases, at_point, redis_kills, .. } = self;
        println!("logs: {cases} cases, {redis_kills} deaths of redis, at their point {at_point:?}");
    }

    pub fn passed(&self) {
        self.report();
        assert!(self.failed.is_empty(), "{} cases failed:\n{}", self.failed.len(), self.failed.join("\n\n"));
    }
}

/// Runs cases, in groups of one kind: all of a Redis that dies, or none.
pub async fn run(seeds: impl IntoIterator<Item = u64>) -> Tally {
    let (with, without): (Vec<u64>, Vec<u64>) =
        seeds.into_iter().partition(|seed| crate::cases::Spec::new(*seed).fault == Fault::RedisKill);
    let mut tally = Tally::default();
    for seeds in [with, without] {
        let mut site = None;
        for seeds in seeds.chunks(GROUP) {
            let site_of_group = match site.take() {
                Some(site) => site,
                None => Site::new().await,
            };
            site = Some(group(site_of_group, seeds, &mut tally).await);
        }
    }
    tally
}

async fn group(site: Site, seeds: &[u64], tally: &mut Tally) -> Site {
    let mut rng = StdRng::seed_from_u64(seeds[0]);
    let site = Rc::new(site);
    let begun = site.append_only_file().1;
    let mut cases = Vec::new();
    for seed in seeds {
        cases.push(Case::new(&site, *seed).await);
    }
    let dies = cases.iter().any(|case| case.spec.fault == Fault::RedisKill);
    for _ in 0..Case::ROUNDS {
        join_all(cases.iter_mut().map(Case::work)).await;
        for case in cases.iter().filter(|case| case.is_held()) {
            *tally.at_point.entry(case.spec.point.as_str()).or_default() += 1;
        }
        if dies {
            let floor = cases.iter().map(Case::floor).fold(begun, u64::max);
            kill_redis(&site, floor, &mut rng);
            tally.redis_kills += 1;
        }
        join_all(cases.iter_mut().map(Case::fault)).await;
    }
    println!("logs: group of seed {} did its rounds", seeds[0]);
    let verdicts = join_all(cases.iter_mut().map(Case::judge)).await;
    for (case, faults) in cases.iter().zip(verdicts) {
        tally.cases += 1;
        tally.lines += case.certain();
        if !faults.is_empty() {
            tally.failed.push(format!("{}: {}\n{}", case.spec, faults.join("\n"), case.story()));
        }
    }
    let pipelines: Vec<String> = cases.iter().map(Case::pipeline).collect();
    drop(cases);
    for pipeline in pipelines {
        let pattern = format!("*{{{pipeline}}}*");
        let keys: Vec<String> = redis::from_redis_value(site.redis().command(&["KEYS", &pattern])).expect("keys");
        keys.iter().for_each(|key| drop(site.redis().command(&["DEL", key])));
    }
    Rc::into_inner(site).expect("nobody else holds it")
}

/// Kills the server and starts it again; what it wrote last may be gone, down to `floor`.
fn kill_redis(site: &Site, floor: u64, rng: &mut StdRng) {
    site.kill_redis(|path| {
        let size = std::fs::metadata(path).expect("its size").len();
        if rng.random_ratio(2, 3) && size > floor {
            let keep = rng.random_range(floor.max(size.saturating_sub(20_000))..=size);
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("the append-only file");
            file.set_len(keep).expect("cut");
        }
    });
}

/// Cases of a long run.
pub fn cases(fixed: u64) -> u64 {
    std::env::var("GAPLESS_LOGS_CASES").ok().map_or(fixed, |text| text.parse().expect("GAPLESS_LOGS_CASES: a number"))
}

/// One case, or some, that the environment asks for.
fn asked() -> Option<Vec<u64>> {
    let seeds = std::env::var("GAPLESS_CHAOS_SEED").ok()?;
    let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false).try_init();
    Some(seeds.split(',').map(|seed| seed.parse().expect("GAPLESS_CHAOS_SEED: a number, or several: 3,17")).collect())
}

/// Every combination of point and style, each with one of the faults.
#[actix_rt::test]
async fn every_line_once_whatever_dies_at_any_point_under_any_rotation() {
    let seeds = asked().unwrap_or_else(|| (0..72).map(|n| n * 4 + (n + n / 8) % 4).collect());
    run(seeds).await.passed();
}

/// Seeds that failed at some time.
#[actix_rt::test]
async fn cases_that_failed_once_do_not_fail_again() {
    let small = [7, 29, 38, 63, 98, 99, 101, 114, 130, 151, 154, 162, 170, 178, 191, 207, 215, 255];
    run(small.into_iter().chain([20_261_830, 20_261_852, 20_262_074, 20_262_718, 20_262_822])).await.passed();
}
