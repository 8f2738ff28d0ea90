//! The audit: what should be there is computed from the chain's seed, what is there is read from the files.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Kills;
use crate::cli::desk::{Desk, fault};
use crate::cli::exit::Exit;
use crate::cli::words::{count, grouped};
use crate::ids::{Kind, PipelineId, RandomId};
use crate::messages::block::{BlockHash, Piece};
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::simulate::chain::{ChainPlan, Control, SimBlock, SimChain};
use crate::sinks::block_files::READ_HEIGHTS_MAX;
use crate::sinks::{BlockFiles, StoredBlock};
use crate::sources;

/// The demo's only pipeline.
fn pipeline() -> PipelineId {
    PipelineId::new(Kind::Blocks, "demo")
}

/// What the audit found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Heights that must be there.
    pub wanted: u64,
    /// Heights that the index holds.
    pub held: u64,
    /// Intervals of the index.
    pub intervals: usize,
    /// Heights that are not held, or whose file is gone.
    pub missing: Vec<Height>,
    /// Heights with other bytes than the chain has there, or with a block that it never showed.
    pub altered: Vec<Height>,
    /// Heights whose canonical block stands there more than once.
    pub doubled: Vec<Height>,
    /// Heights whose block has not the right digest beside it.
    pub unmarked: Vec<Height>,
    pub parked: u64,
    /// Replaced blocks that the chain showed.
    pub orphans_shown: u64,
    /// Those of them that are kept, whole.
    pub orphans_kept: u64,
    pub reorgs: u64,
    /// Of the canonical blocks.
    pub bytes: u64,
    pub kills: Kills,
    pub takeovers: u64,
}

impl Found {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        let faults = [&self.missing, &self.altered, &self.doubled, &self.unmarked];
        self.held == self.wanted && self.parked == 0 && faults.iter().all(|heights| heights.is_empty())
    }
}

/// The chain as it must be under its head of now.
struct Truth {
    chain: SimChain,
    head: Height,
    /// The orphans that were shown.
    orphans: BTreeSet<(Height, BlockHash)>,
}

impl Truth {
    fn canonical(&self, height: Height) -> SimBlock {
        self.chain.canonical(height, self.head)
    }

    /// The orphan at a height, if this is its hash and it was shown.
    fn orphan(&self, height: Height, hash: &BlockHash) -> Option<SimBlock> {
        self.orphans.get(&(height, hash.clone()))?;
        self.chain.orphan(height).filter(|orphan| orphan.hash == *hash)
    }
}

async fn pieces(desk: &Desk, head: Height) -> Result<Vec<Piece>, Exit> {
    let range = HeightRange::new(0, head).map_err(|fault| Exit::usage(&fault))?;
    desk.store.held(&desk.link, &pipeline(), range).await.map_err(fault)
}

fn heights(pieces: &[Piece]) -> HeightSet {
    pieces.iter().map(|piece| piece.range).collect()
}

/// How many reorgs the chain went through while it grew from `past` to `head`.
pub(super) fn reorgs(plan: &ChainPlan, head: Height) -> u64 {
    let Some(reorgs) = plan.faults.reorg else { return 0 };
    (plan.blocks..head).filter(|height| reorgs.replaced_above(*height).is_some()).count() as u64
}

/// One line on how it stands.
pub(super) async fn line(desk: &Desk, plan: &ChainPlan, head: Height, since: Duration, nodes: &str) -> String {
    let held = match tokio::time::timeout(Duration::from_millis(400), pieces(desk, head)).await {
        Ok(Ok(pieces)) => heights(&pieces),
        _ => return format!("{:>4} s  redis is away", since.as_secs()),
    };
    let percent = held.count() * 100 / (head + 1);
    format!(
        "{:>4} s  head {:>6}  held {:>6} ({percent:>3} %) in {:>12}  reorgs {:>2}  {nodes}",
        since.as_secs(),
        grouped(head),
        grouped(held.count()),
        count(held.ranges().len(), "interval", "intervals"),
        reorgs(plan, head),
    )
}

/// Waits until the index holds everything, up to the head's own block; false if it takes too long.
pub(super) async fn wait(desk: &Desk, plan: &ChainPlan, head: Height, limit: Duration) -> bool {
    let top = SimChain::new(plan).canonical(head, head).hash;
    let deadline = Instant::now() + limit;
    loop {
        let is_whole = |pieces: Vec<Piece>| matches!(&pieces[..], [one] if (one.range.lo(), one.range.hi()) == (0, head) && one.hash == top);
        let whole = pieces(desk, head).await.is_ok_and(is_whole);
        if whole || Instant::now() >= deadline {
            return whole;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Compares every height with the truth.
pub(super) async fn audit(desk: &Desk, plan: &ChainPlan, chain: &Control, kills: &Kills) -> Result<Found, Exit> {
    let head = chain.head();
    let truth = Truth { chain: SimChain::new(plan), head, orphans: chain.orphans().into_iter().collect() };
    let section = desk.settings.blocks.get("demo").ok_or_else(|| Exit::usage("the demo's pipeline is gone"))?;
    let files = BlockFiles::open(&section.store, RandomId::new().as_str(), sources::parse_block(section.chain), 1)
        .map_err(|error| Exit::usage(&error.to_string()))?;
    let pieces = pieces(desk, head).await?;
    let held = heights(&pieces);
    let all = HeightRange::new(0, head).map_err(|fault| Exit::usage(&fault))?;
    let parked = desk.store.parked(&desk.link, &pipeline(), all).await.map_err(fault)?;
    let mut found = Found {
        wanted: head + 1,
        held: held.count(),
        parked: parked.iter().map(|parked| parked.range.count()).sum(),
        intervals: held.ranges().len(),
        orphans_shown: truth.orphans.len() as u64,
        reorgs: reorgs(plan, head),
        kills: kills.clone(),
        takeovers: super::takeovers(desk).await?,
        ..Found::default()
    };
    for piece in &pieces {
        judge_edges(&mut found, &truth, piece);
    }
    for chunk in all.chunks(READ_HEIGHTS_MAX) {
        let read = files.read_range(chunk).await.map_err(|error| Exit::usage(&error.to_string()))?;
        for (height, stored) in read {
            compare(&mut found, &truth, height, &stored, held.contains(height));
        }
    }
    let stored = files.heights().await.map_err(|error| Exit::usage(&error.to_string()))?;
    found.altered.extend(stored.ranges().iter().filter(|range| range.hi() > head).map(|range| range.hi()));
    found.altered.sort_unstable();
    found.altered.dedup();
    Ok(found)
}

/// An interval of the index begins and ends with blocks of the chain; in between, links hold it.
fn judge_edges(found: &mut Found, truth: &Truth, piece: &Piece) {
    for (height, same) in [
        (piece.range.lo(), truth.canonical(piece.range.lo()).parent == piece.parent),
        (piece.range.hi(), truth.canonical(piece.range.hi()).hash == piece.hash),
    ] {
        if !same {
            found.altered.push(height);
        }
    }
}

/// Compares what stands at a height with the truth: the canonical block once, and beside it only orphans.
fn compare(found: &mut Found, truth: &Truth, height: Height, stored: &[StoredBlock], is_held: bool) {
    let canonical = truth.canonical(height);
    let (ours, others): (Vec<_>, Vec<_>) = stored.iter().partition(|stored| stored.hash == canonical.hash);
    match ours[..] {
        [] => found.missing.push(height),
        _ if !is_held => found.missing.push(height),
        [one] => {
            found.bytes += one.raw.len() as u64;
            let digest = one.meta.as_ref().map(|meta| meta.blake3.to_string());
            if one.raw != canonical.raw {
                found.altered.push(height);
            } else if digest.as_deref() != Some(blake3::hash(&one.raw).to_hex().as_str()) {
                found.unmarked.push(height);
            }
        }
        _ => found.doubled.push(height),
    }
    for other in others {
        match truth.orphan(height, &other.hash) {
            Some(orphan) if orphan.raw == other.raw => found.orphans_kept += 1,
            Some(_) | None => found.altered.push(height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::chain::serve;
    use crate::sinks::Verdict;

    fn plan() -> ChainPlan {
        let faults = "reorg=10:3".parse().expect("faults");
        ChainPlan { blocks: 20, block_bytes: 2_000..=2_000, faults, ..ChainPlan::default() }
    }

    fn truth(shown: &[Height]) -> Truth {
        let chain = SimChain::new(&plan());
        let orphan = |height: &Height| (*height, chain.orphan(*height).expect("an orphan").hash);
        let orphans = shown.iter().map(orphan).collect();
        Truth { chain, head: 21, orphans }
    }

    fn stored(block: &SimBlock) -> StoredBlock {
        let SimBlock { hash, raw, .. } = block.clone();
        StoredBlock { hash, raw, meta: None, verdict: Verdict::Missing }
    }

    /// What is found at height 20, of which the orphan was shown.
    fn found(stored: &[StoredBlock], shown: &[Height], is_held: bool) -> Found {
        let mut found = Found { wanted: 1, held: u64::from(is_held), ..Found::default() };
        compare(&mut found, &truth(shown), 20, stored, is_held);
        found
    }

    #[test]
    fn each_fault_at_a_height_is_found() {
        let chain = SimChain::new(&plan());
        let (ours, orphan, stranger) = (chain.truth(20), chain.orphan(20).expect("an orphan"), chain.block(20, 5));
        let good = stored(&ours);
        // Without a line beside it even the right block is not as it should be.
        assert_eq!(found(std::slice::from_ref(&good), &[20], true).unmarked, [20]);
        assert_eq!(found(std::slice::from_ref(&good), &[20], false).missing, [20]);
        assert_eq!(found(&[stored(&orphan)], &[20], true).missing, [20]);
        assert_eq!(found(&[good.clone(), good.clone()], &[20], true).doubled, [20]);
        let torn = StoredBlock { raw: ours.raw.slice(..9), ..good.clone() };
        assert_eq!(found(&[torn], &[20], true).altered, [20]);
        let kept = found(&[good.clone(), stored(&orphan)], &[20], true);
        assert_eq!((kept.orphans_kept, kept.altered.len()), (1, 0));
        assert_eq!(found(&[good.clone(), stored(&orphan)], &[], true).altered, [20], "it was never shown");
        assert_eq!(found(&[good, stored(&stranger)], &[20], true).altered, [20]);
    }

    #[test]
    fn an_interval_that_ends_with_an_orphan_is_found() {
        let (truth, chain) = (truth(&[20]), SimChain::new(&plan()));
        let piece = |top: SimBlock| Piece {
            range: HeightRange::new(5, 20).expect("a range"),
            parent: chain.truth(4).hash,
            hash: top.hash,
        };
        let judged = |piece: &Piece| {
            let mut found = Found::default();
            judge_edges(&mut found, &truth, piece);
            found.altered
        };
        assert_eq!(judged(&piece(chain.truth(20))), Vec::<Height>::new());
        assert_eq!(judged(&piece(chain.orphan(20).expect("an orphan"))), [20]);
    }

    #[tokio::test]
    async fn the_truth_is_that_of_the_heads_own_branch() {
        let running = serve(plan(), ([127, 0, 0, 1], 0).into()).await.expect("serves");
        let chain = SimChain::new(&plan());
        assert_eq!(chain.canonical(20, running.control().head()), chain.orphan(20).expect("an orphan"));
        running.control().advance(1);
        assert_eq!(chain.canonical(20, running.control().head()), chain.truth(20));
        assert_eq!((reorgs(&plan(), 20), reorgs(&plan(), 21), reorgs(&plan(), 31)), (0, 1, 2));
    }
}
