//! The world, out: durable stores on a local folder.
//!
//! | file | what it is for |
//! |---|---|
//! | [`block_files`] | the block store: store, read, check, discard |
//! | `block_list` | what stands in a range: heights by names alone, lines, several of a height, blocks to adopt |
//! | `block_room` | one block on its way in, step by step, and what a crash leaves at each |
//! | `block_check` | what stands at a height, judged by its bytes, its digest and its parent links |
//! | `block_form` | the bytes as they came, or packed with zstd |
//! | `block_meta` | the line beside each block: its identity and the digest of its bytes |
//! | `block_names` | heights and hashes as file names, and back |
//! | [`bare_names`] | a view of a store: indented blocks under their bare heights |
//! | `indent` | JSON as Python indents it |
//! | [`store_marker`] | whose folder this is; refuses another pipeline's, or an emptied Redis |
//! | `trash` | where what is superseded waits out the rollback horizon (rule D) |
//! | `durable` | write aside, sync, link to the name; never over another file |

pub mod bare_names;
mod block_check;
pub mod block_files;
mod block_form;
mod block_list;
mod block_meta;
mod block_names;
mod block_room;
mod durable;
#[cfg(test)]
mod fixtures;
mod indent;
#[cfg(test)]
mod packed_tests;
pub mod replica;
pub mod store_marker;
mod trash;

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use bare_names::BareNames;
pub use block_check::{StoredBlock, Verdict};
pub use block_files::{BlockFiles, ParseBlock, Stored};
pub use block_form::Form;
pub use block_list::{Adoptable, AlteredBlock, BlockEntry, LIST_HEIGHTS_MAX, PRESENT_HEIGHTS_MAX};
pub use block_meta::{BlockMeta, Digest};
pub use store_marker::{Claim, MarkerVerdict, StoreMarker};

/// Why a store did not do what it was asked. Whatever it is, no file that stood there was replaced, and nothing
/// that was asked for may be taken as durable; asking again is safe.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file system or the quota is full. Wait and ask again: nothing else is wrong.
    #[error("no space left to {operation} {}; free space or raise the quota, and collecting goes on", path.display())]
    Full {
        /// What was being done.
        operation: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither hard links nor a rename that never replaces: such a file system cannot hold a store.
    #[error("{} lies on a file system without hard links and without renameat2; put the store on another", path.display())]
    Unsupported {
        /// The name that could not be given.
        path: PathBuf,
    },
    /// What was to be stored is not what it says it is. Asking again with the same input fails again.
    #[error("refused to store {}: {reason}", path.display())]
    Refused {
        /// The name it would have had.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// Other nodes changed this very name several times meanwhile. Ask again.
    #[error("{} was changed by others while it was being stored; asking again is safe", path.display())]
    Contended {
        /// The name.
        path: PathBuf,
    },
    /// The store's marker is damaged, or newer than this program.
    #[error("{} is no usable store marker: {reason}; restore it from a backup, or use another folder", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// The runtime is shutting down.
    #[error("the node is stopping; nothing was promised")]
    Stopping,
}

impl SinkError {
    /// Sorts a failure of the system: a full disk is waited out, anything else is reported.
    fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full { operation, path },
            Some(_) | None => Self::Io { operation, path, source },
        }
    }

    fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), reason: reason.into() }
    }
}

/// Runs file work off the arbiter's thread. Dropping the future does not stop work that has begun: everything that
/// goes through here must therefore be harmless when it finishes late.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        // The supervisor restarts the unit on a panic, and must see this one too.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(SinkError::Stopping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_spent_quota_are_told_from_other_failures() {
        let sort = |errno: Errno| SinkError::io("write", Path::new("/store/x"), errno.into());
        assert!(matches!(sort(Errno::NOSPC), SinkError::Full { .. }));
        assert!(matches!(sort(Errno::DQUOT), SinkError::Full { .. }));
        let other = sort(Errno::ACCESS);
        assert!(matches!(other, SinkError::Io { .. }));
        assert!(other.to_string().starts_with("cannot write /store/x: "), "{other}");
    }
}
