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

/// Bytes of an operator's reason that are kept: it stands in every parked interval.
pub const PARK_REASON_MAX: usize = 300;

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
    /// `blocks fill`: let parked heights go, and ask for what is not held before anything else.
    Fill {
        /// The heights; those above finality are not asked for.
        range: HeightRange,
    },
    /// `blocks park`: what of the range is not held is not asked for until it is unparked.
    Park {
        /// The heights.
        range: HeightRange,
        /// Why, in the operator's words; one line, cut to [`PARK_REASON_MAX`] bytes.
        reason: String,
    },
    /// `blocks unpark`: parked heights are missing again, and asked for in their order.
    Unpark {
        /// The heights; those not parked are no error.
        range: HeightRange,
    },
}

/// What the Collector is told beside its clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum CollectorMessage {
    /// Look at the head now, and wake the detector.
    Poll {},
    /// The same, by the word that every source actor knows.
    Rescan {},
    /// Ask the chain nothing more until told to, whatever happens to the node. Told twice, the first time counts.
    Pause {},
    /// Go on, at once.
    Resume {},
}
