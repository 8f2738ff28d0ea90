//! What happened to files that an operator may want to know: for the log, once each.

use std::fmt;
use std::path::PathBuf;

use crate::messages::line::FileId;

/// Notices that are kept until somebody takes them; later ones are counted.
pub const NOTICES_MAX: usize = 256;

/// Something that happened. Fields are named as in [`FileReport`](super::FileReport).
#[allow(missing_docs, reason = "path, id, offset and the words of the message say it")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A file is read from now on, from this byte.
    Found { path: PathBuf, offset: u64 },
    /// A file left its name; it is read to its end.
    Rotated { path: PathBuf, id: Option<FileId> },
    /// A file began anew in place.
    Restarted { path: PathBuf, id: FileId },
    /// What was left of a life was found elsewhere.
    Recovered { id: FileId, path: PathBuf },
    /// What was left of a life is nowhere: so many bytes were known to be unread, more may be.
    Lost { path: PathBuf, id: FileId, offset: u64, unread: u64 },
    /// A file or folder cannot be read, and is tried again with pauses.
    Fault { path: PathBuf, reason: String },
    /// It can be read again.
    Healed { path: PathBuf },
    /// A packed file matches a pattern and is nobody's continuation.
    LeftAlone { path: PathBuf },
    /// More files match than may be followed.
    TooMany { key: String, max: usize, first: PathBuf },
    /// A bound of the walk or of what is kept was reached.
    Bound { what: String },
    /// A folder gives no events and is polled.
    Polled { folder: PathBuf, reason: &'static str },
}

impl Notice {
    /// Whether somebody should act.
    pub fn is_warning(&self) -> bool {
        match self {
            Notice::Lost { unread, .. } => *unread > 0,
            Notice::Fault { .. } | Notice::TooMany { .. } | Notice::Bound { .. } => true,
            Notice::Found { .. }
            | Notice::Rotated { .. }
            | Notice::Restarted { .. }
            | Notice::Recovered { .. }
            | Notice::Healed { .. }
            | Notice::LeftAlone { .. }
            | Notice::Polled { .. } => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Found { path, offset } => write!(f, "{} is followed from byte {offset}", path.display()),
            Notice::Rotated { path, id: Some(id) } => write!(f, "{} was rotated away ({id})", path.display()),
            Notice::Rotated { path, id: None } => write!(f, "{} was rotated away", path.display()),
            Notice::Restarted { path, id } => write!(f, "{} began anew in place (was {id})", path.display()),
            Notice::Recovered { id, path } => write!(f, "the rest of {id} is read from {}", path.display()),
            Notice::Lost { path, id, offset, unread: 0 } => {
                write!(f, "{} ({id}) is gone; everything known of it, {offset} bytes, was read", path.display())
            }
            Notice::Lost { path, id, offset, unread } => write!(
                f,
                "{} ({id}) is gone with {unread} unread bytes behind byte {offset}; rotate by renaming, or keep the \
                 rotated file beside it until it is read",
                path.display()
            ),
            Notice::Fault { path, reason } => write!(f, "{} cannot be read: {reason}", path.display()),
            Notice::Healed { path } => write!(f, "{} can be read again", path.display()),
            Notice::LeftAlone { path } => {
                write!(f, "{} is packed and the continuation of no followed file; it is left alone", path.display())
            }
            Notice::TooMany { key, max, first } => write!(
                f,
                "more than {max} files match; {} and others are not read; raise {key} or narrow the patterns",
                first.display()
            ),
            Notice::Bound { what } => f.write_str(what),
            Notice::Polled { folder, reason } => {
                write!(f, "{} is looked at regularly: {reason}", folder.display())
            }
        }
    }
}

/// Notices that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Notices {
    kept: Vec<Notice>,
    dropped: usize,
}

impl Notices {
    pub(super) fn add(&mut self, notice: Notice) {
        if self.kept.len() < NOTICES_MAX {
            self.kept.push(notice);
        } else {
            self.dropped += 1;
        }
    }

    /// Takes them all.
    pub(super) fn take(&mut self) -> Vec<Notice> {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.kept.push(Notice::Bound { what: format!("{dropped} further notices of files were not kept") });
        }
        std::mem::take(&mut self.kept)
    }
}
