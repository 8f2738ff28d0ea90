//! What keeps a file from being read, and when it is tried again.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// The first and the longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why a file or folder cannot be read; a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// No permission.
    Denied,
    /// The process or the machine has no handle left.
    NoHandles,
    /// A form that cannot be unpacked, or a packed file that is damaged or still being written.
    Packed,
    /// The device or its file system failed.
    Device,
    /// Anything else.
    Other,
}

impl FaultKind {
    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Denied => "denied",
            FaultKind::NoHandles => "no_handles",
            FaultKind::Packed => "packed",
            FaultKind::Device => "device",
            FaultKind::Other => "other",
        }
    }

    /// Sorts an error.
    pub(super) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::ACCESS | Errno::PERM) => FaultKind::Denied,
            Some(Errno::MFILE | Errno::NFILE) => FaultKind::NoHandles,
            Some(Errno::IO | Errno::STALE | Errno::NODEV | Errno::NXIO) => FaultKind::Device,
            Some(_) => FaultKind::Other,
            None if error.kind() == io::ErrorKind::PermissionDenied => FaultKind::Denied,
            None if error.kind() == io::ErrorKind::Other => FaultKind::Packed,
            None => match error.kind() {
                io::ErrorKind::Unsupported | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                    FaultKind::Packed
                }
                io::ErrorKind::InvalidInput => FaultKind::Packed,
                _ => FaultKind::Other,
            },
        }
    }
}

/// Failures of one file in a row, and the pause after them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault {
    last: Option<(FaultKind, String)>,
    pause: Duration,
    again_at: Option<Instant>,
}

impl Fault {
    /// Takes note of a failure; says whether it is news.
    pub(super) fn failed(&mut self, error: &io::Error, now: Instant) -> bool {
        let failure = (FaultKind::of(error), error.to_string());
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.again_at = Some(now + self.pause);
        self.last.replace(failure.clone()) != Some(failure)
    }

    /// Takes note of a success; says whether there had been a failure.
    pub(super) fn healed(&mut self) -> bool {
        self.pause = Duration::ZERO;
        self.again_at = None;
        self.last.take().is_some()
    }

    /// Whether it is to be left alone for now.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.again_at.is_some_and(|at| now < at)
    }

    /// When it is tried again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// The failure that stands.
    pub(super) fn last(&self) -> Option<(FaultKind, &str)> {
        self.last.as_ref().map(|(kind, text)| (*kind, text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_and_pause_longer_each_time_up_to_a_bound() {
        let (now, mut fault) = (Instant::now(), Fault::default());
        for (errno, kind) in [
            (Errno::ACCESS, FaultKind::Denied),
            (Errno::MFILE, FaultKind::NoHandles),
            (Errno::IO, FaultKind::Device),
            (Errno::NAMETOOLONG, FaultKind::Other),
        ] {
            assert!(fault.failed(&errno.into(), now), "news");
            assert_eq!(fault.last().expect("a failure").0, kind);
        }
        assert!(!fault.failed(&Errno::NAMETOOLONG.into(), now), "the same is no news");
        for _ in 0..10 {
            fault.failed(&Errno::IO.into(), now);
        }
        assert!(fault.rests(now) && !fault.rests(now + PAUSE_MAX));
        assert!(fault.healed() && !fault.healed() && !fault.rests(now));
    }
}
