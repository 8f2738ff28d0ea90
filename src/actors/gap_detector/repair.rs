//! What `blocks verify` doubts, judged again: bad files go to the trash, and their heights out of the held ones.

use super::GapDetector;
use crate::actors::turn::Error;
use crate::messages::block::{BlockHash, BlockRef, Piece};
use crate::messages::gap::DetectorMessage;
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange, HeightSet};
use crate::sinks::Verdict;
use crate::store::effect::{Ack, Commit, Effect};

/// Notes of bad blocks that the trash list may hold.
const TRASH_MAX: u64 = 100_000;

/// Doubted heights that are judged at a time.
const JUDGE_HEIGHTS: u64 = 1000;
/// Effects of one commit, about: it must stay within its bounds however much was found bad.
const EFFECTS_MAX: usize = 200;

/// What `blocks verify` found and this actor agrees with.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Not committed yet.
    pub effects: Vec<Effect>,
    /// So many heights are no longer held.
    pub heights: u64,
}

impl GapDetector {
    /// Judges doubted heights again, moves what is bad to the trash, and takes those heights out of the held ones.
    /// Answers the last effects; many of them are committed on the way, which acknowledges nothing.
    ///
    /// A crash before a commit leaves the files in the trash and the wish in the mailbox: judged once more, the
    /// heights are missing, and go.
    pub(super) async fn drop_bad(&self, doubted: &HeightSet) -> Result<Dropped, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let mut dropped = Dropped::default();
        for range in doubted.ranges().iter().flat_map(|range| range.chunks(JUDGE_HEIGHTS)) {
            for piece in store.held(link, self.unit.pipeline(), range).await? {
                let Some(part) = piece.range.intersect(range) else { continue };
                let bad = self.bad(&piece, part).await?;
                for height in bad.ranges().iter().flat_map(|bad| bad.lo()..=bad.hi()) {
                    self.discard(height, &mut dropped.effects).await?;
                }
                for bad in bad.ranges() {
                    dropped.effects.push(self.remove(&piece, *bad).await?);
                    dropped.heights += bad.count();
                    if dropped.effects.len() >= EFFECTS_MAX {
                        let effects = std::mem::take(&mut dropped.effects);
                        self.unit.commit(&Commit { state: None, ack: Ack::Nothing, effects }).await?;
                    }
                }
            }
        }
        Ok(dropped)
    }

    /// The heights of a held piece for which no good file stands, or another block than the links and the index say.
    async fn bad(&self, piece: &Piece, part: HeightRange) -> Result<HeightSet, Error> {
        let top = self.files.wanted_at(piece, part.hi()).await?;
        let verdicts = self.files.check_range(part, top).await?;
        self.unit.progress();
        let is_good = |verdict: &Verdict| match verdict {
            Verdict::Good(id) => id.height > piece.range.lo() || id.parent == piece.parent,
            Verdict::Missing
            | Verdict::Altered { .. }
            | Verdict::NoDigest(_)
            | Verdict::Other { .. }
            | Verdict::Several(_) => false,
        };
        Ok(verdicts.iter().filter(|(_, v)| !is_good(v)).map(|(height, _)| HeightRange::one(*height)).collect())
    }

    /// Moves the altered files of a height to the trash. Good ones stay: another block's, or one whose index is wrong.
    async fn discard(&self, height: Height, effects: &mut Vec<Effect>) -> Result<(), Error> {
        for stored in self.files.read(height).await? {
            if let Verdict::Altered { hash, reason } = stored.verdict {
                let moved = self.files.discard_bad(height, &hash).await?;
                tracing::warn!(unit = %self.unit.lease.unit(), height, %hash, reason, "bad block moved to the trash");
                let item = serde_json::json!({ "height": height, "hash": hash, "reason": reason, "files": moved });
                effects.push(Effect::Trash { item: item.to_string(), capacity: TRASH_MAX });
            }
        }
        self.unit.progress();
        Ok(())
    }

    /// The effect that takes `bad` out of a held piece, with the edges that stay. Where a neighbour cannot be told
    /// for sure it goes too: a height that is dropped needlessly is only fetched again.
    async fn remove(&self, piece: &Piece, bad: HeightRange) -> Result<Effect, Error> {
        let (mut lo, mut hi) = (bad.lo(), bad.hi());
        let mut below = None;
        while lo > piece.range.lo() {
            below = self.standing(piece, lo - 1).await?;
            if below.is_some() {
                break;
            }
            lo -= 1;
            self.unit.progress();
        }
        let mut above = None;
        while hi < piece.range.hi() {
            above = self.files.wanted_at(piece, hi).await?;
            if above.is_some() {
                break;
            }
            hi += 1;
            self.unit.progress();
        }
        let range = HeightRange::new(lo, hi).map_err(Error::Fault)?;
        Ok(Effect::Remove { range, below, above })
    }

    /// The hash of the block at a height of a held piece, if it can be told for sure: the only good one there, standing
    /// on the only good one below it. An orphan that stands where the block was lost would pass for it otherwise.
    async fn standing(&self, piece: &Piece, height: Height) -> Result<Option<BlockHash>, Error> {
        let Some(block) = self.only_good(height).await? else { return Ok(None) };
        let below = match height > piece.range.lo() {
            true => self.only_good(height - 1).await?.map(|below| below.hash),
            false => Some(piece.parent.clone()),
        };
        Ok((below.as_ref() == Some(&block.parent)).then_some(block.hash))
    }

    /// The one good block at a height; none if there is none, or more than one.
    async fn only_good(&self, height: Height) -> Result<Option<BlockRef>, Error> {
        let mut good = self.files.read(height).await?.into_iter().filter_map(|stored| match stored.verdict {
            Verdict::Good(id) => Some(id),
            Verdict::Missing
            | Verdict::Altered { .. }
            | Verdict::NoDigest(_)
            | Verdict::Other { .. }
            | Verdict::Several(_) => None,
        });
        Ok(good.next().filter(|_| good.next().is_none()))
    }
}

/// The heights that somebody doubts.
pub(super) fn doubted<'a>(messages: impl Iterator<Item = &'a DetectorMessage>) -> HeightSet {
    let mut set = HeightSet::new();
    for message in messages {
        match message {
            DetectorMessage::HeadMoved { .. }
            | DetectorMessage::Fill { .. }
            | DetectorMessage::Park { .. }
            | DetectorMessage::Unpark { .. } => {}
            DetectorMessage::Recheck { heights } => {
                let heights = heights.iter().filter(|h| **h <= HEIGHT_MAX);
                heights.for_each(|height| set.insert(HeightRange::one(*height)));
            }
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    #[test]
    fn doubts_are_gathered_and_absurd_heights_dropped() {
        let messages =
            [DetectorMessage::HeadMoved { head: 7 }, DetectorMessage::Recheck { heights: vec![3, 4, 9, u64::MAX] }];
        assert_eq!(doubted(messages.iter()).ranges(), [range(3, 4), range(9, 9)]);
    }
}
