//! The points of a turn at which a process may die, by name.
//!
//! Each passage is counted (metric `gapless_turn_points_total`), so that a test that kills a node at a point can
//! prove that the point was reached. In debug builds, and with the feature `failpoints`, the environment variable
//! `GAPLESS_CRASH_POINT=name:action:nth` makes the nth passage `kill` the process as `kill -9` does, `panic`, `hang`
//! the turn, or `block` its thread; `name@actor` restricts it to one actor.

use crate::telemetry::metrics::{Metrics, PointLabels};

/// A place between two steps of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// The lease is taken; nothing was read under it.
    AfterAcquire,
    /// Entries were claimed; nothing was decided.
    AfterClaim,
    /// The turn is decided; nothing was done.
    AfterDecide,
    /// The world outside Redis has changed; Redis has not.
    AfterApply,
    /// The commit is about to be sent.
    BeforeCommit,
    /// The commit was sent; its answer has not been read.
    CommitUnderWay,
    /// The commit was answered; the actor has not gone on.
    AfterCommit,
    /// The unit stopped; its lease is not given back yet.
    BeforeRelease,
}

impl CrashPoint {
    /// Every point, in the order of a turn.
    pub const ALL: [CrashPoint; 8] = [
        CrashPoint::AfterAcquire,
        CrashPoint::AfterClaim,
        CrashPoint::AfterDecide,
        CrashPoint::AfterApply,
        CrashPoint::BeforeCommit,
        CrashPoint::CommitUnderWay,
        CrashPoint::AfterCommit,
        CrashPoint::BeforeRelease,
    ];

    /// Its name, in metrics and in the environment variable.
    pub fn as_str(self) -> &'static str {
        match self {
            CrashPoint::AfterAcquire => "after_acquire",
            CrashPoint::AfterClaim => "after_claim",
            CrashPoint::AfterDecide => "after_decide",
            CrashPoint::AfterApply => "after_apply",
            CrashPoint::BeforeCommit => "before_commit",
            CrashPoint::CommitUnderWay => "commit_under_way",
            CrashPoint::AfterCommit => "after_commit",
            CrashPoint::BeforeRelease => "before_release",
        }
    }
}

/// Passes a point: counts it, and does what was asked for there.
pub async fn pass(point: CrashPoint, actor: &str, metrics: &Metrics) {
    metrics.points.get_or_create(&PointLabels { point: point.as_str() }).inc();
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    armed::act(point, actor).await;
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    let _ = actor;
}

/// Whether something was asked for at this point; lets the commit be split only where it must be.
pub fn is_armed(point: CrashPoint) -> bool {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    return armed::is_armed(point);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    {
        let _ = point;
        false
    }
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::CrashPoint;

    /// What to do, where, and at which passage.
    struct Plan {
        point: CrashPoint,
        actor: Option<String>,
        action: String,
        nth: u64,
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| parse(&std::env::var("GAPLESS_CRASH_POINT").ok()?));
    static PASSAGES: AtomicU64 = AtomicU64::new(0);

    fn parse(text: &str) -> Option<Plan> {
        let mut parts = text.split(':');
        let (name, action) = (parts.next()?, parts.next()?.to_owned());
        let (name, actor) = match name.split_once('@') {
            Some((name, actor)) => (name, Some(actor.to_owned())),
            None => (name, None),
        };
        let point = CrashPoint::ALL.into_iter().find(|p| p.as_str() == name)?;
        let nth = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        Some(Plan { point, actor, action, nth })
    }

    pub(super) fn is_armed(point: CrashPoint) -> bool {
        PLAN.as_ref().is_some_and(|plan| plan.point == point)
    }

    pub(super) async fn act(point: CrashPoint, actor: &str) {
        let Some(plan) = PLAN.as_ref() else { return };
        if plan.point != point || plan.actor.as_deref().is_some_and(|a| a != actor) {
            return;
        }
        if PASSAGES.fetch_add(1, Ordering::SeqCst) + 1 != plan.nth {
            return;
        }
        match plan.action.as_str() {
            "panic" => panic!("asked to panic {} of {actor}", point.as_str()),
            "hang" => std::future::pending::<()>().await,
            "block" => loop {
                std::thread::park();
            },
            _ => {
                let me = rustix::process::getpid();
                let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            }
        }
    }
}
