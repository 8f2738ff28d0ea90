//! The points of a turn at which a process may die, by name.
//!
//! Each passage is counted (metric `gapless_turn_points_total`), so that a test that kills a node at a point can
//! prove that the point was reached. In debug builds, and with the feature `failpoints`, the environment variable
//! `GAPLESS_CRASH_POINT=name:action:nth` makes the nth passage `kill` the process as `kill -9` does, `panic`, `hang`
//! the turn, or `block` its thread; `name@actor` restricts it to one actor. A test in the same process holds the turn of
//! one pipeline with [`Hold`].

use crate::ids::UnitId;
use crate::telemetry::metrics::{Metrics, PointLabels};
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub use armed::Hold;

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
pub async fn pass(point: CrashPoint, unit: &UnitId, metrics: &Metrics) {
    metrics.points.get_or_create(&PointLabels { point: point.as_str() }).inc();
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    armed::act(point, unit).await;
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    let _ = unit;
}

/// Whether something was asked for at this point; lets the commit be split only where it must be.
pub fn is_armed(point: CrashPoint, unit: &UnitId) -> bool {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    return armed::is_armed(point, unit);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    {
        let _ = (point, unit);
        false
    }
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

    use tokio::sync::Notify;

    use super::CrashPoint;
    use crate::ids::{PipelineId, UnitId};

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

    /// Holds one turn of one pipeline of this process at a point: the first that passes it for the nth time. Whoever drops
    /// that turn meanwhile has a death at this point; whoever calls [`Hold::go_on`] has a process that stood still there.
    #[derive(Debug)]
    pub struct Hold {
        pipeline: PipelineId,
        point: CrashPoint,
        nth: u64,
        passages: AtomicU64,
        is_reached: AtomicBool,
        go_on: Notify,
    }

    static HOLDS: Mutex<Vec<Weak<Hold>>> = Mutex::new(Vec::new());

    impl Hold {
        /// Arms it; it is gone with this value.
        pub fn at(pipeline: &PipelineId, point: CrashPoint, nth: u64) -> Arc<Self> {
            let (passages, is_reached) = (AtomicU64::new(0), AtomicBool::new(false));
            let hold = Self { pipeline: pipeline.clone(), point, nth, passages, is_reached, go_on: Notify::new() };
            let hold = Arc::new(hold);
            let mut holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
            holds.retain(|hold| hold.strong_count() > 0);
            holds.push(Arc::downgrade(&hold));
            hold
        }

        /// Whether a turn stands at the point, or stood there.
        pub fn is_reached(&self) -> bool {
            self.is_reached.load(Ordering::SeqCst)
        }

        /// Lets the turn that stands there go on.
        pub fn go_on(&self) {
            self.go_on.notify_one();
        }

        async fn stand(&self) {
            if self.passages.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
                self.is_reached.store(true, Ordering::SeqCst);
                self.go_on.notified().await;
            }
        }
    }

    fn hold_of(point: CrashPoint, unit: &UnitId) -> Option<Arc<Hold>> {
        let holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |hold: &Arc<Hold>| hold.point == point && hold.pipeline == unit.pipeline;
        holds.iter().filter_map(Weak::upgrade).find(of)
    }

    pub(super) fn is_armed(point: CrashPoint, unit: &UnitId) -> bool {
        PLAN.as_ref().is_some_and(|plan| plan.point == point) || hold_of(point, unit).is_some()
    }

    pub(super) async fn act(point: CrashPoint, unit: &UnitId) {
        if let Some(hold) = hold_of(point, unit) {
            hold.stand().await;
        }
        let Some(plan) = PLAN.as_ref() else { return };
        let actor = &unit.actor;
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
