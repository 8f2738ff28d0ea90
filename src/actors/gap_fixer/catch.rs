//! What a turn brought home: durable blocks, each with where it came from, and heights without one. Pure.

use crate::messages::block::BlockRef;
use crate::messages::heights::{Height, HeightSet};
use crate::sources::Absence;

/// Where a block of the catch came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// It stood in the store already, without being held.
    FromStore,
    /// An endpoint sent it; empty where the source does not say which one.
    From(String),
}

/// A durable block that is not held yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caught {
    pub id: BlockRef,
    pub came: Came,
}

impl Caught {
    fn is_adopted(&self) -> bool {
        self.came == Came::FromStore
    }

    fn carries(&self, above: &Caught) -> bool {
        self.id.height + 1 == above.id.height && self.id.hash == above.id.parent
    }
}

/// Why a height has no block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lack {
    /// The word of the source.
    Absent(Absence),
    /// The block that stood in the store links to nothing here: it is asked for next time. Never parked for that.
    Refetch(String),
    /// Every endpoint shows a block that contradicts held ones: asking again would change nothing.
    Contradicted(String),
}

/// What a turn brought home.
#[derive(Debug, Default)]
pub(super) struct Catch {
    /// Ascending, each height once.
    pub blocks: Vec<Caught>,
    pub lacks: Vec<(Height, Lack)>,
}

impl Catch {
    /// Adds blocks and heights without one.
    pub fn add(&mut self, blocks: Vec<Caught>, lacks: Vec<(Height, Lack)>) {
        self.blocks.extend(blocks);
        self.blocks.sort_by_key(|caught| caught.id.height);
        self.blocks.dedup_by_key(|caught| caught.id.height);
        self.lacks.extend(lacks);
    }

    /// The block at a height.
    pub fn at(&self, height: Height) -> Option<&Caught> {
        self.blocks.binary_search_by_key(&height, |caught| caught.id.height).ok().map(|place| &self.blocks[place])
    }

    /// How many of the blocks at `heights` were adopted, and how many were fetched.
    pub fn count(&self, heights: &HeightSet) -> (u64, u64) {
        let counted = self.blocks.iter().filter(|caught| heights.contains(caught.id.height));
        counted.fold((0, 0), |(adopted, fetched), caught| match caught.came {
            Came::FromStore => (adopted + 1, fetched),
            Came::From(_) => (adopted, fetched + 1),
        })
    }

    /// Takes out everything that an endpoint sent; answers those heights.
    pub fn take_from(&mut self, endpoint: &str) -> HeightSet {
        let is_its = |caught: &Caught| matches!(&caught.came, Came::From(from) if from == endpoint);
        let taken = self.blocks.iter().filter(|caught| is_its(caught));
        let heights = taken.map(|caught| crate::messages::heights::HeightRange::one(caught.id.height)).collect();
        self.blocks.retain(|caught| !is_its(caught));
        heights
    }

    /// Takes a block out whose links disagree: which side is wrong cannot be told here. One that was adopted takes
    /// along what it links to of the adopted ones: if it is an orphan, so are they.
    pub fn disagree(&mut self, height: Height, reason: &str) {
        let Some(caught) = self.at(height) else { return };
        if caught.is_adopted() {
            return self.refetch(height, reason);
        }
        self.lack(height, Lack::Absent(Absence::Malformed(format!("links disagree: {reason}"))));
    }

    /// Takes a block out that contradicts held ones, whoever is asked.
    pub fn contradict(&mut self, height: Height, reason: String) {
        self.lack(height, Lack::Contradicted(reason));
    }

    fn lack(&mut self, height: Height, lack: Lack) {
        self.blocks.retain(|caught| caught.id.height != height);
        self.lacks.push((height, lack));
    }

    /// Takes out the adopted blocks that link to the one at `height`, and it.
    fn refetch(&mut self, height: Height, reason: &str) {
        let Some(at) = self.blocks.iter().position(|caught| caught.id.height == height) else { return };
        let (mut from, mut to) = (at, at);
        while from > 0 && self.blocks[from - 1].is_adopted() && self.blocks[from - 1].carries(&self.blocks[from]) {
            from -= 1;
        }
        while to + 1 < self.blocks.len()
            && self.blocks[to + 1].is_adopted()
            && self.blocks[to].carries(&self.blocks[to + 1])
        {
            to += 1;
        }
        let gone = self.blocks.drain(from..=to).map(|caught| (caught.id.height, Lack::Refetch(reason.to_owned())));
        self.lacks.extend(gone);
    }

    /// Takes out neighbours that do not link.
    ///
    /// An adopted block gives way to a fetched one, and nobody is blamed. What disagrees on both sides, or stands alone,
    /// is doubted alone: its neighbours link to others at least. Where neither side can be told from the other, both
    /// edges go.
    pub fn drop_unlinked(&mut self) {
        for (height, reason) in self.doubted() {
            self.disagree(height, &reason);
        }
    }

    fn doubted(&self) -> Vec<(Height, String)> {
        let runs: Vec<&[Caught]> = self.blocks.chunk_by(Caught::carries).collect();
        // Whether run i and the one above it are neighbours that disagree.
        let breaks: Vec<Option<String>> = runs.windows(2).map(|pair| disagreement(pair[0], pair[1])).collect();
        let is_between =
            |run: usize| run > 0 && breaks[run - 1].is_some() && breaks.get(run).is_some_and(Option::is_some);
        let is_alone = |run: usize| runs[run].len() == 1 || is_between(run);
        let mut doubted = Vec::new();
        for (below, reason) in breaks.iter().enumerate() {
            let Some(reason) = reason else { continue };
            let (Some(last), Some(first)) = (runs[below].last(), runs[below + 1].first()) else { continue };
            let (doubts_below, doubts_above) = match (last.is_adopted(), first.is_adopted()) {
                (true, false) => (true, false),
                (false, true) => (false, true),
                (true, true) | (false, false) => {
                    let (one_below, one_above) = (is_alone(below), is_alone(below + 1));
                    (one_below || !one_above, one_above || !one_below)
                }
            };
            for (run, edge, is_doubted) in [(below, last, doubts_below), (below + 1, first, doubts_above)] {
                let whole = runs[run].iter().map(|caught| caught.id.height);
                let part = whole.filter(|height| is_doubted && (is_between(run) || *height == edge.id.height));
                doubted.extend(part.map(|height| (height, reason.clone())));
            }
        }
        doubted
    }
}

/// Why two runs do not link; none if they are no neighbours.
fn disagreement(below: &[Caught], above: &[Caught]) -> Option<String> {
    let (below, above) = (&below.last()?.id, &above.first()?.id);
    let reason =
        || format!("{} names the parent {}, but {} is {}", above.height, above.parent, below.height, below.hash);
    (below.height + 1 == above.height).then(reason)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::messages::block::BlockHash;

    pub fn block(height: Height) -> BlockRef {
        let hash = |height: Height| BlockHash::new(&format!("h{height}")).expect("a hash");
        BlockRef { height, hash: hash(height), parent: hash(height.wrapping_sub(1)), time: 0 }
    }

    pub fn fetched(id: BlockRef) -> Caught {
        Caught { id, came: Came::From("http://one".to_owned()) }
    }

    pub fn catch(blocks: impl IntoIterator<Item = Height>, absent: &[(Height, Absence)]) -> Catch {
        let lacks = absent.iter().map(|(height, absence)| (*height, Lack::Absent(absence.clone()))).collect();
        Catch { blocks: blocks.into_iter().map(|height| fetched(block(height))).collect(), lacks }
    }

    fn heights(catch: &Catch) -> Vec<Height> {
        catch.blocks.iter().map(|caught| caught.id.height).collect()
    }

    fn hash(text: &str) -> BlockHash {
        BlockHash::new(text).expect("a hash")
    }

    /// Another branch's block.
    fn other(height: Height) -> BlockRef {
        BlockRef { height, hash: hash(&format!("x{height}")), parent: hash(&format!("x{}", height - 1)), time: 0 }
    }

    #[test]
    fn neighbours_that_do_not_link_are_both_doubted() {
        let mut caught = catch(5..=9, &[]);
        caught.blocks[2].id.parent = hash("other");
        caught.drop_unlinked();
        assert_eq!(heights(&caught), [5, 8, 9]);
    }

    #[test]
    fn a_block_that_stands_alone_is_doubted_alone() {
        let mut caught = catch(5..=9, &[]);
        caught.blocks[2].id = other(7);
        caught.drop_unlinked();
        assert_eq!(heights(&caught), [5, 6, 8, 9]);
        // Heights that are not neighbours need not link; the last two are one each, and both are doubted.
        let mut caught = catch([5, 7, 9, 10], &[]);
        caught.blocks[3].id.parent = hash("x9");
        caught.drop_unlinked();
        assert_eq!(heights(&caught), [5, 7]);
    }

    #[test]
    fn a_run_that_disagrees_on_both_sides_is_doubted_whole() {
        let mut caught = catch(5..=14, &[]);
        for height in 8..=11 {
            caught.blocks[height - 5].id = other(height as Height);
        }
        caught.drop_unlinked();
        assert_eq!(heights(&caught), [5, 6, 7, 12, 13, 14]);
    }

    #[test]
    fn an_adopted_block_that_disagrees_takes_its_whole_run_along_and_is_asked_for_next() {
        let mut caught = catch([], &[]);
        let adopted = |id| Caught { id, came: Came::FromStore };
        let orphans = [other(5), other(6), other(7)].map(adopted).into_iter();
        caught.add(orphans.chain([8, 9, 10].map(|height| fetched(block(height)))).collect(), Vec::new());
        caught.drop_unlinked();
        assert_eq!(heights(&caught), [8, 9, 10], "what was fetched is not to blame");
        let refetched = caught.lacks.iter().filter(|(_, lack)| matches!(lack, Lack::Refetch(_)));
        assert_eq!(refetched.map(|(height, _)| *height).collect::<Vec<_>>(), [5, 6, 7]);
    }

    #[test]
    fn what_an_endpoint_sent_is_taken_out_whole() {
        let mut caught = catch(5..=7, &[]);
        caught.add(vec![Caught { id: block(8), came: Came::From("http://two".to_owned()) }], Vec::new());
        assert_eq!(caught.take_from("http://one").hull().map(|hull| (hull.lo(), hull.hi())), Some((5, 7)));
        assert_eq!(heights(&caught), [8]);
        assert_eq!(caught.at(8).map(|caught| caught.id.height), Some(8));
        assert!(caught.at(5).is_none());
    }
}
