//! The crash matrix with real processes: each dies by `kill -9` at its named point, under each style of rotation; another
//! node of its host goes on.

use gapless::actors::turn::crash::CrashPoint;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fields::{Field, node};
use crate::matrix;
use crate::support::redis::RedisServer;
use crate::support::{chaos, wait};
use crate::writer::Style;

/// Of one point: a process for each style, which dies there; then one node that finishes all of it.
async fn at(redis: &RedisServer, point: CrashPoint, styles: &[Style], seed: u64) -> (u32, u64, Vec<String>) {
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
    (deaths, fields.iter().map(Field::want).sum(), faults)
}

/// Returns the deaths and the lines.
async fn deaths(seed: u64, styles_of: impl Fn(usize) -> Vec<Style>) -> (u32, u64) {
    let redis = RedisServer::start();
    let (mut deaths, mut lines, mut faults) = (0, 0, Vec::new());
    for (n, point) in CrashPoint::ALL.into_iter().enumerate() {
        let (died, written, found) = at(&redis, point, &styles_of(n), seed + n as u64).await;
        (deaths, lines) = (deaths + died, lines + written);
        faults.extend(found);
    }
    println!("logs: {deaths} processes died at their point, from seed {seed}");
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    (deaths, lines)
}

#[tokio::test]
async fn a_process_that_dies_at_each_point_loses_and_doubles_nothing() {
    // One style of rotation for each point; the next seed has others.
    let seed = chaos::seed(5);
    let of = |n: usize| Style::ALL[(n + usize::try_from(seed).expect("small")) % Style::ALL.len()];
    let _ = deaths(seed, |n| vec![of(n)]).await;
}

/// The whole matrix: each point, style and fault twice in this process (`GAPLESS_LOGS_CASES`), and twice a real process
/// that dies at each point under each style.
#[actix_rt::test]
#[ignore = "long: make chaos"]
async fn the_whole_crash_matrix_of_lines() {
    let seed = chaos::seed(20_261_126);
    let tally = matrix::run(seed..seed + matrix::cases(576)).await;
    tally.passed();
    let (mut real, mut lines) = (0, tally.lines);
    for round in 0..2 {
        let (died, written) = deaths(100 + round * 100, |_| Style::ALL.to_vec()).await;
        (real, lines) = (real + died, lines + written);
    }
    let cases = tally.cases + real;
    println!(
        "logs: crash matrix: {cases} cases, {real} of them kill -9 of a real node, {lines} lines, 0 lost, 0 doubled"
    );
}
