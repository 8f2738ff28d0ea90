//! The audit: what should be there is computed from the chain's seed, what is there is read from the files.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Kills;
use crate::cli::desk::{Desk, fault};
use crate::cli::exit::Exit;
use crate::cli::output::say;
use crate::cli::words::{count, grouped};
use crate::ids::{Kind, PipelineId, RandomId};
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::simulate::chain::{ChainPlan, SimBlock, SimChain};
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
    wanted: u64,
    held: u64,
    missing: Vec<Height>,
    altered: Vec<Height>,
    doubled: Vec<Height>,
    unmarked: Vec<Height>,
    parked: u64,
    intervals: usize,
    bytes: u64,
    kills: Kills,
    takeovers: u64,
}

async fn held(desk: &Desk, head: Height) -> Result<HeightSet, Exit> {
    let range = HeightRange::new(0, head).map_err(|fault| Exit::usage(&fault))?;
    let pieces = desk.store.held(&desk.link, &pipeline(), range).await.map_err(fault)?;
    Ok(pieces.iter().map(|piece| piece.range).collect())
}

/// One line on how it stands.
pub(super) async fn line(desk: &Desk, head: Height, since: Duration, alive: usize, kills: &Kills) -> String {
    let held = match tokio::time::timeout(Duration::from_millis(400), held(desk, head)).await {
        Ok(Ok(held)) => held,
        _ => return format!("{:>4} s  redis is away", since.as_secs()),
    };
    let wanted = head + 1;
    let percent = held.count() * 100 / wanted;
    format!(
        "{:>4} s  head {:>6}  held {:>6} ({percent:>3} %) in {:>13}  nodes {alive}  kills {}",
        since.as_secs(),
        grouped(head),
        grouped(held.count()),
        count(held.ranges().len(), "interval", "intervals"),
        kills.nodes + kills.redis,
    )
}

/// Waits until the index holds everything; false if it takes too long.
pub(super) async fn wait(desk: &Desk, head: Height, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let whole = held(desk, head).await.is_ok_and(|held| held.count() == head + 1);
        if whole || Instant::now() >= deadline {
            return whole;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Compares every height with the truth.
pub(super) async fn audit(desk: &Desk, plan: &ChainPlan, head: Height, kills: &Kills) -> Result<Found, Exit> {
    let truth = SimChain::new(plan);
    let section = desk.settings.blocks.get("demo").ok_or_else(|| Exit::usage("the demo's pipeline is gone"))?;
    let files = BlockFiles::open(&section.store, RandomId::new().as_str(), sources::parse_block(section.chain), 1)
        .map_err(|error| Exit::usage(&error.to_string()))?;
    let held = held(desk, head).await?;
    let all = HeightRange::new(0, head).map_err(|fault| Exit::usage(&fault))?;
    let parked = desk.store.parked(&desk.link, &pipeline(), all).await.map_err(fault)?;
    let mut found = Found {
        wanted: head + 1,
        held: held.count(),
        parked: parked.iter().map(|parked| parked.range.count()).sum(),
        intervals: held.ranges().len(),
        kills: kills.clone(),
        takeovers: takeovers(desk).await?,
        ..Found::default()
    };
    for chunk in all.chunks(READ_HEIGHTS_MAX) {
        let read = files.read_range(chunk).await.map_err(|error| Exit::usage(&error.to_string()))?;
        for (height, stored) in read {
            compare(&mut found, &truth.truth(height), height, &stored, held.contains(height));
        }
    }
    Ok(found)
}

/// Compares what stands at a height with the truth.
fn compare(found: &mut Found, truth: &SimBlock, height: Height, stored: &[StoredBlock], is_held: bool) {
    match stored {
        [] => found.missing.push(height),
        _ if !is_held => found.missing.push(height),
        [one] => {
            found.bytes += one.raw.len() as u64;
            let digest = one.meta.as_ref().map(|meta| meta.blake3.to_string());
            if one.raw != truth.raw || one.hash != truth.hash {
                found.altered.push(height);
            } else if digest.as_deref() != Some(blake3::hash(&one.raw).to_hex().as_str()) {
                found.unmarked.push(height);
            }
        }
        _ => found.doubled.push(height),
    }
}

/// How often a unit passed from one node to another, by the checkpoints' histories.
async fn takeovers(desk: &Desk) -> Result<u64, Exit> {
    let mut count = 0;
    for unit in crate::supervisor::wiring::units(&desk.settings) {
        let samples = desk.store.history(&desk.link, &unit).await.map_err(fault)?;
        let nodes: Vec<&str> = samples.iter().filter(|s| s.why == "acquire").map(|s| s.node.as_str()).collect();
        count += nodes.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    }
    Ok(count)
}

/// Prints the table; whether all of it is as it should be.
pub(super) fn print(found: &Found, seed: u64) -> bool {
    say("");
    say(&format!("audit of heights 0..{} against the chain computed from seed {seed}", found.wanted.saturating_sub(1)));
    let row =
        |name: &str, value: u64, note: &str| say(format!("  {name:<22} {:>12}  {note}", grouped(value)).trim_end());
    row("wanted", found.wanted, "");
    row("held", found.held, &format!("in {}", count(found.intervals, "interval", "intervals")));
    let faults = BTreeMap::from([
        ("1 missing", &found.missing),
        ("2 altered or mismatched", &found.altered),
        ("3 doubled", &found.doubled),
        ("4 without digest", &found.unmarked),
    ]);
    for (name, heights) in &faults {
        let first: Vec<String> = heights.iter().take(5).map(ToString::to_string).collect();
        row(&name[2..], heights.len() as u64, &first.join(", "));
    }
    row("parked", found.parked, "");
    row("bytes", found.bytes, "");
    row("node kills survived", found.kills.nodes, "");
    row("redis kills survived", found.kills.redis, "");
    row("units taken over", found.takeovers, "");
    found.held == found.wanted && found.parked == 0 && faults.values().all(|heights| heights.is_empty())
}
