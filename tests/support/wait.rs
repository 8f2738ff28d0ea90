//! Waiting for an observed state, with a deadline: what tests do instead of sleeping.

use std::future::Future;
use std::time::{Duration, Instant};

/// Longer than anything that a correct program takes here, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks.
const STEP: Duration = Duration::from_millis(3);

/// Between two looks of a loop of a test's own, which has its own end.
pub async fn step() {
    tokio::time::sleep(Duration::from_millis(8)).await;
}

/// Looks until there is something to see.
pub async fn until_some<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Looks until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    until_some(what, || {
        let look = look();
        async move { look.await.then_some(()) }
    })
    .await;
}

/// As [`until`], for looks that need no runtime.
pub async fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until_some(what, || std::future::ready(look().then_some(()))).await;
}
