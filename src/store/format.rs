//! Which formats of stored things this release reads, and which it writes: the one place that says so.
//!
//! What one node stores, a node of another release may have to read: the checkpoint's state, mailbox entries, held and
//! parked heights, facts. A *format* is a number for all of these together. A release reads every format from
//! [`OLDEST`] to [`NEWEST`], and writes the newest one that every live node reads.
//!
//! Which that is travels with the heartbeats ([`NodeInfo::format`](super::membership::NodeInfo)). An acquisition fixes
//! it for its life, and writes it down as `needs`, in the checkpoint and in the pipeline's facts: from then on a node
//! that does not read it is answered TOO_OLD and leaves the unit to others. See "Rolling upgrade" in
//! `docs/protocol.md`.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The newest format that this release reads and writes.
///
/// Format 1: everything so far. To change a stored form: raise this, write the old form while
/// [`Lease::format`](super::lease::Lease::format) is below, and read both.
pub const NEWEST: u64 = 1;

/// The oldest format that this release reads and can still write.
pub const OLDEST: u64 = 1;

/// The newest format of this process.
///
/// Debug builds and the feature `failpoints`: `GAPLESS_FORMAT=2` plays a later release, whose scripts have other texts
/// (and so other digests) as well.
pub fn newest() -> u64 {
    static PLAYED: LazyLock<Option<u64>> = LazyLock::new(played);
    PLAYED.unwrap_or(NEWEST)
}

#[cfg(not(any(debug_assertions, feature = "failpoints")))]
fn played() -> Option<u64> {
    None
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
fn played() -> Option<u64> {
    let text = std::env::var("GAPLESS_FORMAT").ok()?;
    match text.parse() {
        Ok(format) if format >= OLDEST => Some(format),
        _ => panic!("GAPLESS_FORMAT={text}: write a format from {OLDEST}"),
    }
}

/// A script's text as the release that this process plays has it.
pub(super) fn dressed(text: String) -> String {
    match newest() {
        NEWEST => text,
        later => format!("{text}\n-- the text of a release that knows format {later}\n"),
    }
}

/// What a node may write now; shared by all its units.
#[derive(Debug)]
pub struct Formats {
    newest: u64,
    writes: AtomicU64,
}

impl Formats {
    /// For a release that reads up to `newest`. Until it has seen the other nodes it writes the oldest.
    pub fn new(newest: u64) -> Self {
        Self { newest, writes: AtomicU64::new(OLDEST.min(newest)) }
    }

    /// The newest format that is read here.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The format for lives that begin now, unless what they find is newer already.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn set(&self, format: u64) {
        self.writes.store(format.clamp(OLDEST.min(self.newest), self.newest), Ordering::Relaxed);
    }
}

/// Watches the formats of the live nodes. Down at once, up only after some time without an older node: one that is
/// restarted in the middle of an upgrade must not find itself locked out.
#[derive(Debug, Default)]
pub struct Agreement {
    /// The format that all have read since then.
    since: Option<(u64, Instant)>,
}

impl Agreement {
    /// Takes note of the lowest format among the live nodes, this one included.
    pub fn see(&mut self, formats: &Formats, lowest: u64, now: Instant, settles: Duration) {
        let (agreed, since) = *self.since.get_or_insert((lowest, now));
        if agreed != lowest {
            // An older node came, or the oldest left: the time begins anew.
            self.since = Some((lowest, now));
        }
        if lowest < formats.writes() || (agreed == lowest && now.duration_since(since) >= settles) {
            formats.set(lowest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_format_is_written_only_after_some_time_without_an_older_node() {
        let (formats, mut agreement) = (Formats::new(3), Agreement::default());
        let (start, settles) = (Instant::now(), Duration::from_secs(30));
        let mut see = |lowest, seconds| {
            agreement.see(&formats, lowest, start + Duration::from_secs(seconds), settles);
            formats.writes()
        };
        assert_eq!(see(1, 0), 1);
        assert_eq!(see(3, 100), 1, "the old node has just left");
        assert_eq!(see(1, 120), 1, "it was only restarted");
        assert_eq!(see(2, 130), 1);
        assert_eq!(see(2, 159), 1);
        assert_eq!(see(2, 160), 2);
        assert_eq!(see(3, 161), 2);
        assert_eq!(see(3, 191), 3);
        assert_eq!(see(1, 192), 1, "an older node: at once");
        assert_eq!(see(9, 192), 1);
        assert_eq!(see(9, 300), 3, "others may know more than this release does");
    }
}
