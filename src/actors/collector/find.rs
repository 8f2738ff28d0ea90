//! How the Collector asks the chain: upwards from its window, over a gap, once more, and back along a reorg.

use super::window::{Compared, Place, Reorg, Window};
use super::{Collector, Next};
use crate::actors::turn::Error;
use crate::messages::block::{Block, BlockRef, Piece};
use crate::messages::heights::{Height, HeightRange};
use crate::sources::Fetched;

/// What the chain showed.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub blocks: Vec<Block>,
    pub reorg: Option<Reorg>,
    pub place: Place,
    /// The head is to be written down even if no block came.
    pub tell_head: bool,
}

impl Collector {
    /// What the chain shows of what is to be fetched.
    pub(super) async fn find(&self, window: &Window, next: &Next, start: Height, head: Height) -> Result<Found, Error> {
        match next {
            Next::CaughtUp => Ok(Found::default()),
            Next::Confirm => self.confirm(window, start).await,
            Next::Follow(range) => self.follow(window, *range, start).await,
            Next::Jump(range) => self.jump(window, *range, start, head).await,
            Next::Mend(range) => self.mend(window, *range, start).await,
        }
    }

    /// The blocks above the window, as far as they link.
    async fn follow(&self, window: &Window, range: HeightRange, start: Height) -> Result<Found, Error> {
        let blocks = self.fetch(range).await?;
        match (window.top(), blocks.first()) {
            (Some((_, hash)), Some(first)) if first.id.parent != *hash => self.walk_back(window, start).await,
            _ => Ok(Found { blocks, ..Found::default() }),
        }
    }

    /// Whether the highest wanted block is still part of the chain.
    async fn confirm(&self, window: &Window, start: Height) -> Result<Found, Error> {
        let Some((top, hash)) = window.top() else { return Ok(Found::default()) };
        match self.fetch(HeightRange::one(top)).await?.first() {
            Some(block) if block.id.hash != *hash => self.walk_back(window, start).await,
            found => Ok(Found { tell_head: found.is_some(), ..Found::default() }),
        }
    }

    /// After a long absence: go on at finality, if the old top is still part of the chain. Where the source has
    /// neither the block above it nor the top itself, the links that the pool commits will tell.
    async fn jump(
        &self,
        window: &Window,
        range: Option<HeightRange>,
        start: Height,
        head: Height,
    ) -> Result<Found, Error> {
        if let Some((top, hash)) = window.top() {
            let left = match self.fetch(HeightRange::one(top + 1)).await?.first() {
                Some(above) => above.id.parent != *hash,
                None => self.fetch(HeightRange::one(top)).await?.first().is_some_and(|block| block.id.hash != *hash),
            };
            if left {
                return self.walk_back(window, start).await;
            }
        }
        let blocks = match range {
            Some(range) => self.fetch(range).await?,
            None => Vec::new(),
        };
        // What is final is the pool's work, even where nothing above it can be had; but a head is believed only with
        // a block to show for it, or one wrong answer would send the pool after heights that do not exist.
        let tell_head = !blocks.is_empty() || !self.fetch(HeightRange::one(head)).await?.is_empty();
        Ok(Found { blocks, place: Place::Afresh, tell_head, ..Found::default() })
    }

    /// Lost blocks of the window, if the chain still has the same ones.
    async fn mend(&self, window: &Window, range: HeightRange, start: Height) -> Result<Found, Error> {
        let blocks = self.fetch(range).await?;
        if blocks.iter().any(|block| window.hash(block.id.height) != Some(&block.id.hash)) {
            return self.walk_back(window, start).await;
        }
        if !blocks.is_empty() {
            tracing::info!(unit = %self.unit.lease.unit(), %range, "lost blocks above finality are stored again");
        }
        Ok(Found { blocks, place: Place::Within, ..Found::default() })
    }

    /// Finds where our window leaves the chain, and brings the blocks of the other branch.
    async fn walk_back(&self, window: &Window, start: Height) -> Result<Found, Error> {
        let Some((top, _)) = window.top() else { return Ok(Found::default()) };
        let whole = HeightRange::new(window.lowest, top).map_err(Error::Fault)?;
        let canonical = self.fetch(whole).await?;
        let ids: Vec<BlockRef> = canonical.iter().map(|block| block.id.clone()).collect();
        match window.compare(&ids, start, self.plan.confirmations) {
            // The source changed its mind between two answers, or could not show the other branch: ask again later.
            Compared::Same => Ok(Found::default()),
            Compared::TooDeep => Err(Error::Refused(format!(
                "the chain changed below its {} confirmations: none of the held blocks {whole} is part of it any \
                 more; nothing was rewritten, an operator must decide",
                self.plan.confirmations
            ))),
            Compared::Left(reorg) => {
                tracing::warn!(
                    unit = %self.unit.lease.unit(), from = reorg.from, orphans = top + 1 - reorg.from,
                    "reorg: blocks above the common ancestor are replaced; their files are kept"
                );
                let blocks = canonical.into_iter().filter(|block| block.id.height >= reorg.from).collect();
                Ok(Found { blocks, reorg: Some(reorg), ..Found::default() })
            }
        }
    }

    /// The blocks of a range as far as they are there and link to each other.
    async fn fetch(&self, range: HeightRange) -> Result<Vec<Block>, Error> {
        let mut blocks: Vec<Block> = Vec::new();
        for chunk in range.chunks(self.plan.batch) {
            for fetched in self.unit.outside(self.source.blocks(chunk)).await? {
                match fetched {
                    Fetched::Block(block) => {
                        let links = blocks.last().is_none_or(|below| Piece::of(&below.id).carries(&block.id));
                        if !links {
                            return Ok(blocks);
                        }
                        blocks.push(block);
                    }
                    Fetched::Absent(height, absence) => {
                        tracing::debug!(unit = %self.unit.lease.unit(), height, %absence, "not there yet");
                        return Ok(blocks);
                    }
                }
            }
            self.unit.progress();
        }
        Ok(blocks)
    }
}
