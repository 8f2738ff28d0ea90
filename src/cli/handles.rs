//! Open files: how many a node may have, and how many its configuration may need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// Handles beside followed files: connections, logs, watches, block files.
const OTHERS: u64 = 256;

/// Handles that a node with this configuration may come to need.
pub(super) fn needed(settings: &Settings) -> u64 {
    let files = settings.logs.values().map(|section| (section.files_max + section.held_max) as u64);
    files.fold(OTHERS, u64::saturating_add)
}

/// Handles that a process may have: the limit that it can raise itself to; none if there is no limit.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Raises this process's limit to what its configuration may need, as far as the system lets it. Says so where it is not
/// enough: files beyond it are not followed, and `status` and the log name them.
pub(super) fn raise(settings: &Settings) {
    let (needed, now) = (needed(settings), getrlimit(Resource::Nofile));
    if settings.logs.is_empty() || now.current.is_none_or(|current| current >= needed) {
        return;
    }
    let current = now.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..now });
    if raised.is_err() || current < needed {
        tracing::warn!(
            needed,
            limit = current,
            "followed files may need more handles than this process may have; {REMEDY}"
        );
    }
}

/// What helps.
pub(super) const REMEDY: &str =
    "raise the limit (ulimit -Hn, LimitNOFILE= of a systemd unit), or lower files_max and held_max";
