//! What stands in the store already is not fetched: after a death between store and commit, or of an emptied index.

use super::GapFixer;
use super::catch::{Came, Catch, Caught};
use crate::actors::turn::Error;
use crate::messages::heights::{HeightRange, HeightSet};

/// Heights whose files are judged in one step: each is read whole, and the turn must be seen to get on.
const ADOPT_HEIGHTS: u64 = 250;

impl GapFixer {
    /// Takes the heights out of `missing` whose single good file stands in the store: its bytes have the digest beside
    /// them and are the block that the name says, and it links to the adopted ones around it. Whether it links to what
    /// is held is judged by the commit, as for every block. Heights with several files are fetched: the chain tells.
    ///
    /// Only a first try does this: a file that turns out not to belong to the chain is fetched by the next one.
    pub(super) async fn adopt(&self, missing: &mut HeightSet, catch: &mut Catch) -> Result<(), Error> {
        let chunks: Vec<HeightRange> = missing.ranges().iter().flat_map(|range| range.chunks(ADOPT_HEIGHTS)).collect();
        let mut found = Catch::default();
        for chunk in chunks {
            let good = self.unit.outside(self.files.adoptable(chunk)).await?.good;
            found.add(good.into_iter().map(|id| Caught { id, came: Came::FromStore }).collect(), Vec::new());
        }
        // What does not link among them is fetched in this very turn.
        found.drop_unlinked();
        found.blocks.iter().for_each(|caught| missing.remove(HeightRange::one(caught.id.height)));
        catch.add(found.blocks, Vec::new());
        Ok(())
    }
}
