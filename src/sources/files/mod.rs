//! Log files: found, told apart, followed through every rotation, and read line by line in bounded memory.
//!
//! | file | what it is for |
//! |---|---|
//! | [`door`](LogFiles) | the whole, for an actor: file work off its thread, waiting for events |
//! | [`tails`](Tails) | the files of one unit: what is stored, what is next |
//! | `look`, `place`, `evidence` | one look at the world; which file is whose, and by what that is told |
//! | `between`, `copies` | lives that nobody saw in their time; copies of what is known |
//! | `siblings` | names that rotation gives, and files that may hold the rest of another |
//! | [`batch`](Batch) | lines on their way, and what a commit means |
//! | [`back`](Back) | places farther back, for a rewind |
//! | `tail` | one life of one file, and one turn of reading |
//! | `cursor` | a place in a file, with the evidence that it still is that file |
//! | `source`, `packed` | the bytes: of a file, or of its packed copy |
//! | `split` | bytes to records |
//! | `globs`, `hints` | patterns of paths; events of folders |
//! | `meanwhile` | for tests: what happens between two questions to the file system |
//! | [`reread`](Finder) | the bytes of a life once more, for whoever checks the stream |
//! | `options`, `notice`, `report`, `fault` | what is configured, what is said, what is measured, what fails |
//!
//! A *life* is what one file held from its beginning until it was truncated: a truncation begins another life of the
//! same inode, and what was left of the old one may go on in a copy.

mod back;
mod batch;
mod between;
mod copies;
mod cursor;
mod door;
mod evidence;
mod fault;
mod globs;
mod hints;
mod look;
mod meanwhile;
mod notice;
mod options;
mod packed;
mod place;
mod report;
mod reread;
mod siblings;
mod source;
mod split;
mod tail;
mod tails;

pub use back::Back;
pub use batch::{Batch, Budget, RECORDS_MAX};
pub use door::LogFiles;
pub use fault::FaultKind;
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub use meanwhile::meanwhile;
pub use notice::{NOTICES_MAX, Notice};
pub use options::{FILES_MAX, FilesOptions, LINE_BYTES_MAX, LINE_BYTES_MIN, Multiline, Start};
pub use report::{FileReport, FileState, FilesReport};
pub use reread::{Finder, Kept};
pub use tails::Tails;
