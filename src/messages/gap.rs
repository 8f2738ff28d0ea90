//! Words between Collector, GapDetector and GapFixer.

use serde::{Deserialize, Serialize};

use super::heights::{Height, HeightRange};

/// A range that somebody must fetch: a task of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum GapTask {
    /// Fetch every height of the range that is neither held nor parked. Doubles are harmless.
    Fill {
        /// The heights, inclusive.
        range: HeightRange,
        /// How often some of them could not be had; at the limit they are parked.
        #[serde(default)]
        tries: u32,
    },
}

/// What wakes the detector. It decides from the sets in Redis alone: a lost message delays, and never hides, a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum DetectorMessage {
    /// The Collector committed a new head.
    HeadMoved {
        /// The newest height held by it.
        head: Height,
    },
    /// `blocks verify` found stored blocks that are missing or wrong: judge them again, and drop what is bad.
    Recheck {
        /// The heights, ascending, at most 1,000.
        heights: Vec<Height>,
    },
}

/// What the Collector is told beside its clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum CollectorMessage {
    /// Look at the head now.
    Poll {},
}
