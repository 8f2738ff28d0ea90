//! How the Collector catches up: while blocks are being stored, the ones above them are fetched and stored too.
//!
//! A block waits for the disk, which syncs many files in hardly more time than one; a turn that stored batch after batch
//! would wait most of its time. What one turn takes up is bounded by heights, by time and by bytes.

use std::time::Instant;

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::Collector;
use crate::actors::turn::crash::CrashPoint;
use crate::actors::turn::{Brought, Error};
use crate::messages::block::{Block, Piece};
use crate::messages::heights::HeightRange;

/// Batches that are being stored at a time; one more is being fetched.
const STORES_MAX: usize = 4;

/// Larger batches are stored one a turn: bounds memory, with [`STORES_MAX`].
const AHEAD_BYTES_MAX: usize = 16 << 20;

impl Collector {
    /// Stores blocks, and what of the `rest` stands on them and comes soon. Ascending; all of it is durable then.
    pub(super) async fn store(&self, blocks: Vec<Block>, rest: Option<HeightRange>) -> Result<Vec<Brought>, Error> {
        let above = self.above(follow_on(&blocks, rest));
        let batches = stream::iter(Some(blocks).filter(|blocks| !blocks.is_empty())).chain(above);
        let stored = batches.map(|blocks| async move {
            let brought = Brought::of(&blocks);
            self.unit.outside(self.files.store(blocks)).await?;
            Ok::<_, Error>(brought)
        });
        let stored = stored.buffered(STORES_MAX).try_concat().await?;
        self.unit.point(CrashPoint::AfterApply).await;
        Ok(stored)
    }

    /// The batches of a range above a block, as far as each stands on the one before. A source that fails ends it: the next turn
    /// asks again, and judges.
    fn above(&self, from: Option<(Piece, HeightRange)>) -> impl Stream<Item = Vec<Block>> {
        let until = Instant::now() + self.plan.ahead;
        let next = move |(below, rest): (Piece, HeightRange)| async move {
            if self.unit.is_draining() || Instant::now() >= until {
                return None;
            }
            let (range, rest) = self.divided(rest);
            let blocks = match self.fetch(range).await {
                Ok(blocks) => blocks,
                Err(error) => {
                    tracing::debug!(unit = %self.unit.lease.unit(), %range, %error, "the rest is left to the next turn");
                    return None;
                }
            };
            if !blocks.first().is_some_and(|first| below.carries(&first.id)) {
                return None;
            }
            let more = follow_on(&blocks, rest);
            Some((blocks, more))
        };
        stream::unfold(from, move |state| async move { next(state?).await })
    }
}

/// What the next batch must stand on, and what to ask for; none where the blocks end early or are too large to go on.
fn follow_on(blocks: &[Block], rest: Option<HeightRange>) -> Option<(Piece, HeightRange)> {
    let (rest, last) = (rest?, blocks.last()?);
    let size: usize = blocks.iter().map(|block| block.raw.len()).sum();
    (last.id.height + 1 == rest.lo() && size <= AHEAD_BYTES_MAX).then(|| (Piece::of(&last.id), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::{BlockHash, BlockRef, Origin};

    #[test]
    fn a_turn_goes_on_above_a_whole_batch_of_bounded_size_alone() {
        let block = |height: u64, bytes: usize| {
            let hash = |height: u64| BlockHash::new(&format!("h{height}")).expect("a hash");
            let id = BlockRef { height, hash: hash(height), parent: hash(height - 1), time: 0 };
            Block { id, raw: vec![b' '; bytes].into(), origin: Origin::default() }
        };
        let rest = HeightRange::new(8, 20).ok();
        let (below, range) = follow_on(&[block(6, 1), block(7, 1)], rest).expect("more");
        assert!(below.carries(&block(8, 1).id));
        assert_eq!(Some(range), rest);
        assert_eq!(follow_on(&[block(5, 1), block(6, 1)], rest), None, "the chain ended below");
        assert_eq!(follow_on(&[block(6, 1), block(7, AHEAD_BYTES_MAX)], rest), None, "too large");
        assert_eq!(follow_on(&[], rest), None);
        assert_eq!(follow_on(&[block(7, 1)], None), None);
    }
}
