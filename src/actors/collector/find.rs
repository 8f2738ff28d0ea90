//! How the Collector asks the chain: upwards from its window, over a gap, once more, and back along a reorg.

use super::alarm::Alarm;
use super::window::{Compared, Place, Reorg, Window};
use super::{Collector, Next, View};
use crate::actors::turn::Error;
use crate::messages::block::{Block, BlockRef, Piece};
use crate::messages::heights::{Height, HeightRange};
use crate::sources::{Fetched, SourceError};

/// Walks along another branch in one turn, until one endpoint has shown all of it.
const WALKS_MAX: usize = 3;

/// Times a part of a branch is asked for until the endpoint that showed the upper parts answers: a pool that gives each
/// request to another one comes round.
const PARTS_MAX: usize = 8;

/// What the chain showed.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub blocks: Vec<Block>,
    /// What may stand on these blocks and was not asked for yet.
    pub rest: Option<HeightRange>,
    pub reorg: Option<Reorg>,
    pub place: Place,
    /// A block bears the source's head out, so it may be written down.
    pub head_seen: bool,
    /// What lies between the window and finality is left to the pool.
    pub beyond: bool,
    /// Nothing else counts then.
    pub alarm: Option<Alarm>,
}

impl Collector {
    /// What the chain shows of what is to be fetched.
    pub(super) async fn find(&self, window: &Window, next: &Next, view: &View) -> Result<Found, Error> {
        match next {
            Next::CaughtUp => {
                // Nothing above what is held, so nothing is to be borne out.
                let head_seen = window.top().is_some_and(|(top, _)| view.head <= top);
                Ok(Found { head_seen, ..Found::default() })
            }
            Next::Confirm => self.confirm(window, view).await,
            Next::Follow(range) => self.follow(window, *range, view).await,
            Next::Jump(range) => self.jump(window, *range, view).await,
            Next::Mend(range) => self.mend(window, *range, view).await,
        }
    }

    /// The blocks above the window, as far as they link.
    async fn follow(&self, window: &Window, range: HeightRange, view: &View) -> Result<Found, Error> {
        let (first, rest) = self.divided(range);
        let blocks = self.fetch(first).await?;
        match (window.top(), blocks.first()) {
            (Some((_, hash)), Some(first)) if first.id.parent != *hash => self.walk_back(window, view).await,
            _ => Ok(Found { head_seen: !blocks.is_empty(), blocks, rest, ..Found::default() }),
        }
    }

    /// Whether the highest wanted block is still part of the chain.
    async fn confirm(&self, window: &Window, view: &View) -> Result<Found, Error> {
        let Some((top, hash)) = window.top() else { return Ok(Found::default()) };
        match self.fetch(HeightRange::one(top)).await?.first() {
            Some(block) if block.id.hash != *hash => self.walk_back(window, view).await,
            Some(_) => {
                // Nothing above the end is wanted, so nobody but us has seen a block of the head.
                let head_seen = view.told >= Some(view.head) || self.is_there(view.head).await?;
                Ok(Found { head_seen, beyond: head_seen, ..Found::default() })
            }
            None => Ok(Found::default()),
        }
    }

    /// After a long absence: go on at finality, if the old top is still part of the chain. Where the source has
    /// neither the block above it nor the top itself, the links that the pool commits will tell.
    async fn jump(&self, window: &Window, range: Option<HeightRange>, view: &View) -> Result<Found, Error> {
        if let Some((top, hash)) = window.top() {
            let left = match self.fetch(HeightRange::one(top + 1)).await?.first() {
                Some(above) => above.id.parent != *hash,
                None => self.fetch(HeightRange::one(top)).await?.first().is_some_and(|block| block.id.hash != *hash),
            };
            if left {
                return self.walk_back(window, view).await;
            }
        }
        let (first, rest) = range.map(|range| self.divided(range)).unzip();
        let blocks = match first {
            Some(first) => self.fetch(first).await?,
            None => Vec::new(),
        };
        // What is final is the pool's work, even where nothing above it can be had; but a head is believed only with
        // a block to show for it, or one wrong answer would send the pool after heights that do not exist.
        let head_seen = !blocks.is_empty() || self.is_there(view.head).await?;
        let rest = rest.flatten();
        Ok(Found { beyond: blocks.is_empty(), blocks, rest, place: Place::Afresh, head_seen, ..Found::default() })
    }

    /// Lost blocks of the window, if the chain still has the same ones.
    async fn mend(&self, window: &Window, range: HeightRange, view: &View) -> Result<Found, Error> {
        let blocks = self.fetch(range).await?;
        if blocks.iter().any(|block| window.hash(block.id.height) != Some(&block.id.hash)) {
            return self.walk_back(window, view).await;
        }
        if !blocks.is_empty() {
            tracing::info!(unit = %self.unit.lease.unit(), %range, "lost blocks above finality are stored again");
        }
        Ok(Found { blocks, place: Place::Within, ..Found::default() })
    }

    /// Finds where our window leaves the chain, and brings the blocks of the other branch.
    ///
    /// It is believed only where one endpoint showed all of it. Behind a load balancer one node is always a little
    /// behind the others, and a patchwork of their answers is no chain.
    async fn walk_back(&self, window: &Window, view: &View) -> Result<Found, Error> {
        let Some((top, _)) = window.top() else { return Ok(Found::default()) };
        let mut last = "the source".to_owned();
        for _ in 0..WALKS_MAX {
            let canonical = self.branch(window).await?;
            let Some(endpoint) = one_endpoint(&canonical) else { continue };
            let ids: Vec<BlockRef> = canonical.iter().map(|block| block.id.clone()).collect();
            match window.compare(&ids, view.start, view.told_final) {
                Compared::Same => last = endpoint,
                Compared::Contradicted(mismatch) => {
                    return Ok(Found { alarm: Some(Alarm { mismatch, endpoint }), ..Found::default() });
                }
                Compared::Left(reorg) => {
                    tracing::warn!(
                        unit = %self.unit.lease.unit(), from = reorg.from, orphans = top + 1 - reorg.from, endpoint,
                        "reorg: blocks above the common ancestor are replaced; their files are kept"
                    );
                    let blocks = canonical.into_iter().filter(|block| block.id.height >= reorg.from).collect();
                    return Ok(Found { blocks, reorg: Some(reorg), ..Found::default() });
                }
            }
        }
        // The source changed its mind between two answers, or could not show the other branch: ask again soon.
        let reason =
            format!("a block does not stand on the held height {top}, and no branch that it belongs to is shown");
        Err(SourceError::Malformed { endpoint: last, reason }.into())
    }

    /// The chain's blocks from where it meets the window, or from the window's lowest height, up to the window's top:
    /// asked for downwards, since most reorganisations are short.
    async fn branch(&self, window: &Window) -> Result<Vec<Block>, Error> {
        let mut branch: Vec<Block> = Vec::new();
        let Some((mut hi, _)) = window.top() else { return Ok(branch) };
        loop {
            let lo = window.lowest.max((hi + 1).saturating_sub(self.plan.batch.max(1)));
            let mut part = self.part(HeightRange::new(lo, hi).map_err(Error::Fault)?, &branch).await?;
            if let Some((last, above)) = part.last().zip(branch.first())
                && !Piece::of(&last.id).carries(&above.id)
            {
                // Another branch than a moment ago: the lower part alone says what it says.
                branch.clear();
            }
            part.append(&mut branch);
            branch = part;
            let is_met = branch.first().is_some_and(|lowest| window.is_met_by(&lowest.id));
            if is_met || lo <= window.lowest {
                return Ok(branch);
            }
            hi = lo - 1;
        }
    }

    /// The lower part of a branch, by the endpoint that showed the rest if it can be met.
    async fn part(&self, range: HeightRange, branch: &[Block]) -> Result<Vec<Block>, Error> {
        let mut part = self.fetch(range).await?;
        for _ in 1..PARTS_MAX {
            let is_met = branch.first().is_none_or(|above| one_endpoint(part.iter().chain([above])).is_some());
            if is_met || part.is_empty() {
                break;
            }
            part = self.fetch(range).await?;
        }
        Ok(part)
    }

    /// What is asked for at once, and what may follow while that is being stored.
    pub(super) fn divided(&self, range: HeightRange) -> (HeightRange, Option<HeightRange>) {
        let last = range.hi().min(range.lo().saturating_add(self.plan.batch.max(1) - 1));
        let first = HeightRange::one(range.lo()).up_to(last);
        (first, HeightRange::new(last + 1, range.hi()).ok())
    }

    /// Whether the source has a block at a height.
    async fn is_there(&self, height: Height) -> Result<bool, Error> {
        Ok(!self.fetch(HeightRange::one(height)).await?.is_empty())
    }

    /// The blocks of a range as far as they are there and link to each other.
    pub(super) async fn fetch(&self, range: HeightRange) -> Result<Vec<Block>, Error> {
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

/// Who showed all of these blocks; none if several did. Empty where the source does not say, or there is nothing.
fn one_endpoint<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Option<String> {
    let mut names = blocks.into_iter().map(|block| block.origin.endpoint.as_str());
    let first = names.next().unwrap_or_default();
    names.all(|name| name == first).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::{BlockHash, Origin};

    #[test]
    fn a_branch_is_shown_by_one_endpoint_or_by_nobody() {
        let block = |endpoint: &str| {
            let hash = || BlockHash::new("h").expect("a hash");
            let id = BlockRef { height: 1, hash: hash(), parent: hash(), time: 0 };
            let origin = Origin { endpoint: endpoint.to_owned(), ..Origin::default() };
            Block { id, raw: Default::default(), origin }
        };
        let who = |names: &[&str]| one_endpoint(&names.iter().map(|name| block(name)).collect::<Vec<_>>());
        assert_eq!(who(&["a", "a", "a"]), Some("a".to_owned()));
        assert_eq!(who(&["a", "b", "a"]), None);
        assert_eq!(who(&["", "a"]), None);
        assert_eq!(who(&["", ""]), Some(String::new()));
        assert_eq!(who(&[]), Some(String::new()));
    }
}
