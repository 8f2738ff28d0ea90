//! Simulated logs: files that grow, are flushed in the middle of lines and are rotated in every style, and beside them a
//! list of what a reader must find.
//!
//! Everything follows from the plan: which bytes go into which file, in which order, cut where ([`Generator`]). One
//! [`Generator::step`] is one thing that a logger or a rotation does, so that a test can put a kill between any two.
//!
//! | file | what it knows |
//! |---|---|
//! | `words` | what lines look like, by format |
//! | `faults` | which faults there are, and their notation |
//! | `rotate` | the styles of rotation, as lists of steps |
//! | `files` | one file on the disk: its lives, its name, its steps |
//! | `generator` | which step is next |
//! | `truth` | the list of lines, and why it is written first |
//! | `args` | the command line |

mod args;
mod faults;
mod files;
mod generator;
mod rotate;
mod truth;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::args::{LogArgs, Rate, run};
pub use self::faults::LogFaults;
pub use self::generator::{Generator, Planned};
pub use self::rotate::{Packing, Rotate, Step};
pub use self::truth::{LineEnd, TruthLine, read_truth};
pub use self::words::LogFormat;

/// Most files that can be asked for: each is held open.
pub const FILES_MAX: u32 = 200;
/// The largest text whose lines can be asked for, in bytes.
pub const TEXT_BYTES_MAX: u64 = 256 << 20;
/// Most lines of one append.
pub const BURST_MAX: u32 = 100_000;

/// What is simulated. Two equal plans are the same files and the same steps, byte for byte, on any machine.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPlan {
    /// What everything random follows from.
    pub seed: u64,
    /// The folder of the files; it is there.
    pub dir: PathBuf,
    /// The list of lines, a new file outside of `dir`.
    pub truth: PathBuf,
    /// How many files grow, 1 to [`FILES_MAX`]: `app.log`, `app-2.log` and so on.
    pub files: u32,
    /// What their lines look like: the first file has the first format, and so on, again and again. Not empty.
    pub formats: Vec<LogFormat>,
    /// Lines to write instead of made-up ones, each with its own end, as often as they are there; the last gets one if it
    /// has none. Their levels in the list are those of [`level_of`](crate::messages::level::level_of).
    pub text: Option<Arc<[u8]>>,
    /// How many lines in all; `None` = no end, or that of the text.
    pub lines: Option<u64>,
    /// Most lines of one append, 1 to [`BURST_MAX`].
    pub burst: u32,
    /// How files are rotated.
    pub rotate: Rotate,
    /// After about so many lines, at least 1: from half of it to one and a half.
    pub rotate_lines: u32,
    /// How many rotated files of each file are kept, the oldest is deleted; 0 = all.
    pub keep: u32,
    /// What goes wrong.
    pub faults: LogFaults,
}

impl Default for LogPlan {
    /// One file as the first log watcher read it, never rotated; `dir` and `truth` are to be set.
    fn default() -> Self {
        Self {
            seed: 1,
            dir: PathBuf::new(),
            truth: PathBuf::new(),
            files: 1,
            formats: vec![LogFormat::Seed],
            text: None,
            lines: None,
            burst: 20,
            rotate: Rotate::None,
            rotate_lines: 1000,
            keep: 5,
            faults: LogFaults::default(),
        }
    }
}

impl LogPlan {
    /// Whether its parts are possible; the error says which are not, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=FILES_MAX).contains(&self.files) || self.formats.is_empty() {
            return Err(format!("{} files: write 1 to {FILES_MAX}, with at least one format", self.files));
        }
        if !(1..=BURST_MAX).contains(&self.burst) || self.rotate_lines == 0 {
            return Err(format!(
                "a burst of {} lines: write 1 to {BURST_MAX}, and a rotation after 1 or more",
                self.burst
            ));
        }
        let faults = &self.faults;
        if self.text.is_some() && faults.long + faults.empty + faults.invalid > 0.0 {
            return Err(
                "the faults long, empty and invalid would change the lines that are given; leave them out".to_owned()
            );
        }
        if self.rotate.is_chain() && self.keep == 0 {
            return Err("a chain keeps 1 file or more: each rotation renames them all".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
