//! The crash matrix with real processes: each dies by `kill -9` at its named point, under each style of rotation; another
//! node of its host goes on.

use gapless::actors::turn::crash::CrashPoint;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fields::{Field, node};
use crate::support::redis::RedisServer;
use crate::support::{chaos, wait};
use crate::writer::Style;

/// Of one point: a process for each style, which dies there; then one node that finishes all of it.
async fn at(redis: &RedisServer, point: CrashPoint, styles: &[Style], seed: u64) -> (u32, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = format!("{}_{seed}", point.as_str());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut fields: Vec<Field> = (0..)
        .zip(styles)
        .map(|(n, style)| Field::new(folder.path(), &prefix, &format!("x{n}"), *style, seed + n))
        .collect();
    let mut connection = redis.connection();
    let mut deaths = 0;
    for field in &mut fields {
        let mut victim =
            node(folder.path(), &format!("v-{}", field.name), "h", &redis.url(), &prefix, &field.section());
        let nth = match point {
            CrashPoint::AfterAcquire | CrashPoint::BeforeRelease | CrashPoint::AfterClaim => 1,
            _ => rng.random_range(1..6),
        };
        let at = format!("{}@log_watcher@h:kill:{nth}", point.as_str());
        victim.start_with(&[("GAPLESS_CRASH_POINT", &at)]);
        field.writer.append(3, false);
        let mut was_asked = false;
        for looks in 0..2500 {
            if !victim.is_running() {
                break;
            }
            let is_read = field.length(&mut connection) >= field.want();
            if is_read && point == CrashPoint::AfterClaim && !was_asked {
                // An order, so that something is claimed.
                let key = format!("{prefix}:{{logs.{}}}:in:log_watcher@h", field.name);
                redis.command(&["XADD", &key, "*", "type", "rescan", "body", "{}"]);
                was_asked = true;
            }
            if is_read && point == CrashPoint::BeforeRelease && !was_asked {
                victim.terminate();
                was_asked = true;
            }
            if is_read || looks % 40 == 39 {
                field.step(&mut rng, is_read);
            }
            wait::step().await;
        }
        assert_eq!(victim.died_of(), Some(9), "{at} under {:?}: the point was not reached", field.writer.habits.style);
        deaths += 1;
        for _ in 0..rng.random_range(1..5) {
            field.step(&mut rng, false);
        }
    }
    let sections: String = fields.iter().map(Field::section).collect();
    let mut heir = node(folder.path(), "heir", "h", &redis.url(), &prefix, &sections);
    heir.start();
    fields.iter_mut().for_each(Field::end);
    let mut faults = Vec::new();
    for field in &fields {
        faults.extend(field.faults(redis).await.iter().map(|fault| format!("{} seed {seed}: {fault}", point.as_str())));
    }
    heir.kill();
    (deaths, faults)
}

async fn deaths(seed: u64, styles_of: impl Fn(usize) -> Vec<Style>) {
    let redis = RedisServer::start();
    let (mut deaths, mut faults) = (0, Vec::new());
    for (n, point) in CrashPoint::ALL.into_iter().enumerate() {
        let (died, found) = at(&redis, point, &styles_of(n), seed + n as u64).await;
        deaths += died;
        faults.extend(found);
    }
    println!("logs: {deaths} processes died at their point, from seed {seed}");
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[tokio::test]
async fn a_process_that_dies_at_each_point_loses_and_doubles_nothing() {
    // One style of rotation for each point; the next seed has others.
    let seed = chaos::seed(5);
    let of = |n: usize| Style::ALL[(n + usize::try_from(seed).expect("small")) % Style::ALL.len()];
    deaths(seed, |n| vec![of(n)]).await;
}

#[tokio::test]
#[ignore = "long: make chaos"]
async fn a_process_that_dies_at_each_point_under_each_rotation_loses_and_doubles_nothing() {
    if std::env::var("GAPLESS_CHAOS").is_ok_and(|size| size == "long") {
        deaths(chaos::seed(100), |_| Style::ALL.to_vec()).await;
    }
}
