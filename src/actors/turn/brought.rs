//! What the log says of each block that is stored: one line, with everything that an operator asks for later.

use super::Unit;
use crate::messages::block::{Block, BlockRef, Origin};

/// What is said of a block once it is held.
#[derive(Debug)]
pub struct Brought {
    /// Which block.
    pub id: BlockRef,
    /// Size of its raw bytes.
    pub bytes: usize,
    /// How it came.
    pub origin: Origin,
}

impl Brought {
    /// Of each block of a turn.
    pub fn of(blocks: &[Block]) -> Vec<Self> {
        let one = |block: &Block| Self { id: block.id.clone(), bytes: block.raw.len(), origin: block.origin.clone() };
        blocks.iter().map(one).collect()
    }

    /// One line: for everybody where the block is news, else for those who look closely.
    pub fn say(&self, unit: &Unit, is_news: bool) {
        let unit = unit.lease.unit();
        let Self { id, bytes, origin } = self;
        let time = jiff::Timestamp::from_second(id.time).map_or_else(|_| id.time.to_string(), |time| time.to_string());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    %unit, height = id.height, hash = %id.hash, parent = %id.parent, time, bytes,
                    endpoint = origin.endpoint, attempt = origin.attempt, ms = origin.millis, "block stored"
                )
            };
        }
        if is_news { line!(info) } else { line!(debug) }
    }
}
