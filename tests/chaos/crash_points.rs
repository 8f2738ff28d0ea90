//! Every named point of a turn, hit by a death, a panic and a hang, with a second node at hand.

use gapless::actors::turn::crash::CrashPoint;

use crate::support::fleet::{Node, Plan};
use crate::support::invariants::{self, Truth};
use crate::support::redis::RedisServer;
use crate::support::wait;

/// One point, with two nodes and keys of its own on the Redis that all share.
struct Case<'a> {
    redis: &'a RedisServer,
    truth: Truth,
    point: CrashPoint,
    /// The node that meets the point, and the other.
    nodes: [Node; 2],
    environment: String,
}

impl<'a> Case<'a> {
    fn new(redis: &'a RedisServer, folder: &std::path::Path, actor: &str, point: CrashPoint, action: &str) -> Self {
        let prefix = format!("{}_{actor}_{action}", point.as_str());
        let more = vec![("redis", format!("prefix = \"{prefix}\""))];
        let plan = Plan { messages: 1500, actors: 2, pause_ms: 15, more, ..Plan::default() };
        let truth = Truth { prefix: prefix.clone(), actors: plan.actors, messages: plan.messages };
        let folder = folder.join(prefix);
        let nodes = ["victim", "heir"].map(|name| Node::new(&folder, name, &plan, &redis.url()));
        // A life has one acquisition and one release, and many turns.
        let nth = if matches!(point, CrashPoint::AfterAcquire | CrashPoint::BeforeRelease) { 1 } else { 4 };
        let environment = format!("{}@{actor}:{action}:{nth}", point.as_str());
        Self { redis, truth, point, nodes, environment }
    }

    async fn run(mut self, action: &str) {
        let [victim, heir] = &mut self.nodes;
        victim.start_with(&[("GAPLESS_CRASH_POINT", &self.environment)]);
        // The first node alone takes every unit; the second joins then.
        let (redis, truth) = (self.redis, &self.truth);
        wait::until_true("a first node at work", || !victim.is_running() || victim.logged("started") > 3).await;
        heir.start();
        if self.point == CrashPoint::BeforeRelease {
            wait::until_true("some work", || invariants::records(redis, truth) > 200).await;
            victim.terminate();
        }
        match action {
            "kill" => {
                wait::until_true(&format!("a death at {}", self.environment), || !victim.is_running()).await;
                assert_eq!(victim.died_of(), Some(9), "{}: the point was not reached", self.environment);
            }
            "panic" => wait::until_true(&self.environment, || victim.logged("asked to panic") > 0).await,
            // Whoever hangs while it gives a unit back is no turn: the lease runs out.
            _ if self.point == CrashPoint::BeforeRelease => {}
            _ => wait::until_true(&self.environment, || victim.logged("no progress") > 0).await,
        }
        wait::until_true(&format!("the end of the work after {}", self.environment), || {
            invariants::is_done(redis, truth)
        })
        .await;
        invariants::all(redis, truth);
    }
}

async fn at_every_point(actor: &str, action: &str, points: &[CrashPoint]) {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let cases = points.iter().map(|point| Case::new(&redis, folder.path(), actor, *point, action).run(action));
    futures_util::future::join_all(cases).await;
}

/// The points that the Feeder passes: it claims nothing and applies nothing.
const OF_THE_FEEDER: [CrashPoint; 6] = [
    CrashPoint::AfterAcquire,
    CrashPoint::AfterDecide,
    CrashPoint::BeforeCommit,
    CrashPoint::CommitUnderWay,
    CrashPoint::AfterCommit,
    CrashPoint::BeforeRelease,
];

#[tokio::test]
async fn a_tally_survives_a_death_at_every_point() {
    at_every_point("tally_0", "kill", &CrashPoint::ALL).await;
}

#[tokio::test]
async fn a_tally_survives_a_panic_at_every_point() {
    at_every_point("tally_0", "panic", &CrashPoint::ALL).await;
}

#[tokio::test]
async fn a_tally_survives_a_hang_at_every_point() {
    at_every_point("tally_0", "hang", &CrashPoint::ALL).await;
}

#[tokio::test]
async fn a_feeder_survives_a_death_at_every_point() {
    at_every_point("feeder", "kill", &OF_THE_FEEDER).await;
}
