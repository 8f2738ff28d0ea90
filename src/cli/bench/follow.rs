//! Follow: a node in a process of its own, timed until it has brought everything to where it belongs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::child::Child;
use super::usage::Figure;

/// The longest that a node may take; far more than any machine needs.
const FOLLOW_MAX: Duration = Duration::from_secs(1800);
/// Between two looks at how far it is; the error of a time.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until `look` answers `all`. The first look that shows something starts the clock, and what it shows is not
/// counted: the work for it came before. What is complete at that look is timed from the look before.
pub fn follow(node: &mut Child, all: u64, mut look: impl FnMut() -> Result<u64>) -> Result<Figure> {
    let begun = Instant::now();
    let mut from = (begun, 0, node.used());
    loop {
        let there = look()?;
        let now = Instant::now();
        if there == 0 || (from.1 == 0 && there < all) {
            from = (now, there, node.used());
        }
        ensure!(there <= all, "{there} are there of {all}");
        if there == all {
            let (end, (at, before, used)) = (node.used(), from);
            return Ok(Figure {
                count: there - before,
                seconds: now.duration_since(at).as_secs_f64(),
                cpu: end.cpu - used.cpu,
                peak_kib: end.peak_kib,
                ..Figure::default()
            });
        }
        node.check()?;
        ensure!(begun.elapsed() < FOLLOW_MAX, "only {there} of {all} within {FOLLOW_MAX:?}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}
