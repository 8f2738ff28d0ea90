//! `blocks verify`: every file read again, every digest and link compared with what was recorded.

use std::io::{IsTerminal, Write};

use serde_json::json;

use super::index::Index;
use super::{Chosen, Desk, Exit, fault};
use crate::cli::output::say;
use crate::cli::words::grouped;
use crate::ids::Address;
use crate::messages::block::{BlockHash, Piece};
use crate::messages::gap::DetectorMessage;
use crate::messages::heights::{Height, HeightRange};
use crate::sinks::{BlockFiles, Verdict};
use crate::store::effect::Outgoing;
use crate::supervisor::wiring;

/// Heights judged at a time.
const STEP: u64 = 1000;
/// Faults that are printed one by one; the rest is counted.
const SHOWN_MAX: usize = 1000;
/// Heights named in one message to the detector.
const RECHECK_MAX: usize = 1000;

/// A height that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    range: HeightRange,
    class: &'static str,
    words: String,
}

pub(super) async fn run(desk: &Desk, chosen: &Chosen, range: Option<HeightRange>, repair: bool) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, range).await?;
    let Some(wanted) = index.wanted(chosen) else {
        return Err(Exit::usage("there is nothing to verify: no collector has seen the chain yet"));
    };
    let range = match range {
        None => wanted,
        Some(range) => range.intersect(wanted).ok_or_else(|| {
            Exit::usage(&format!("{range} lies outside of what is wanted, {wanted} (the head committed now)"))
        })?,
    };
    let mut found = absent(&index, range);
    let files = super::show::open(chosen)?;
    let mut doubted = Vec::new();
    let mut progress = Progress::new(range);
    for piece in index.held.iter().rev() {
        for height in judge(&files, piece, range, &mut progress).await? {
            // The world moves on: what was judged against an older index is judged once more.
            let Some((fault, is_held)) = again(desk, chosen, &files, height).await? else { continue };
            doubted.extend(is_held.then_some(height));
            found.push(fault);
        }
    }
    progress.end();
    found.sort_by_key(|found| found.range.lo());
    let asked = if repair { ask(desk, chosen, &mut doubted).await? } else { 0 };
    report(desk, range, &found, asked);
    Ok(if found.is_empty() { Exit::good() } else { Exit::found() })
}

/// What the index itself lacks.
fn absent(index: &Index, range: HeightRange) -> Vec<Found> {
    let missing = index.missing(range);
    let missing = missing.ranges().iter().map(|range| Found {
        range: *range,
        class: "missing",
        words: "not held; the detector asks for it".to_owned(),
    });
    let parked = index.parked.iter().filter_map(|parked| {
        let range = parked.range.intersect(range)?;
        Some(Found { range, class: "parked", words: parked.reason.clone() })
    });
    missing.chain(parked).collect()
}

/// Judges the part of a held piece that lies in `range`, from the top down: the block above says which block belongs.
/// Answers the heights that are not as they should be.
async fn judge(
    files: &BlockFiles,
    piece: &Piece,
    range: HeightRange,
    progress: &mut Progress,
) -> Result<Vec<Height>, Exit> {
    let mut found = Vec::new();
    // The whole piece above the range need not be read: the blocks right above it say what belongs.
    let Some(part) = piece.range.intersect(range) else { return Ok(found) };
    let mut top = files.wanted_at(piece, part.hi()).await.map_err(|e| Exit::usage(&e.to_string()))?;
    let mut hi = part.hi();
    loop {
        let lo = part.lo().max(hi.saturating_sub(STEP - 1));
        let step = HeightRange::new(lo, hi).map_err(|fault| Exit::usage(&fault))?;
        let verdicts = files.check_range(step, top.clone()).await.map_err(|e| Exit::usage(&e.to_string()))?;
        top = verdicts.first().and_then(|(_, verdict)| verdict.wanted_below().cloned());
        found.extend(
            verdicts.into_iter().filter_map(|(height, verdict)| Some(fault_at(piece, height, verdict)?.range.lo())),
        );
        progress.add(step.count());
        if lo == part.lo() {
            return Ok(found);
        }
        hi = lo - 1;
    }
}

/// Judges one height by the index of now; the second value tells whether it is held. None if all is well.
async fn again(
    desk: &Desk,
    chosen: &Chosen,
    files: &BlockFiles,
    height: Height,
) -> Result<Option<(Found, bool)>, Exit> {
    let one = HeightRange::one(height);
    let held = desk.store.held(&desk.link, &chosen.pipeline, one).await.map_err(fault)?;
    if let Some(piece) = held.into_iter().find(|piece| piece.range.contains(height)) {
        let top = files.wanted_at(&piece, height).await.map_err(|e| Exit::usage(&e.to_string()))?;
        let verdicts = files.check_range(one, top).await.map_err(|e| Exit::usage(&e.to_string()))?;
        let found = verdicts.into_iter().find_map(|(height, verdict)| fault_at(&piece, height, verdict));
        return Ok(found.map(|found| (found, true)));
    }
    let parked = desk.store.parked(&desk.link, &chosen.pipeline, one).await.map_err(fault)?;
    let index = Index { chain_id: None, head: None, start: None, held: Vec::new(), parked };
    Ok(absent(&index, one).pop().map(|found| (found, false)))
}

/// What is wrong at a height of a held piece.
fn fault_at(piece: &Piece, height: Height, verdict: Verdict) -> Option<Found> {
    if let Some(parent) = verdict.wanted_below()
        && height == piece.range.lo()
        && *parent != piece.parent
    {
        let words = format!("its parent is {parent}, recorded was {}", piece.parent);
        return Some(Found { range: HeightRange::one(height), class: "wrong link", words });
    }
    fault_of(height, verdict)
}

fn fault_of(height: Height, verdict: Verdict) -> Option<Found> {
    let (class, words) = match verdict {
        Verdict::Good(_) => return None,
        Verdict::Missing => ("missing", "its file is gone".to_owned()),
        Verdict::Altered { hash, reason } => ("altered", format!("{hash}: {reason}")),
        Verdict::NoDigest(id) => ("no digest", format!("{}: the file has no digest beside it", id.hash)),
        Verdict::Other { found, wanted } => ("wrong link", format!("{} stands there, {wanted} belongs", found.hash)),
        Verdict::Several(ids) => {
            let hashes: Vec<&str> = ids.iter().map(|id| id.hash.as_str()).collect();
            ("doubled", format!("several blocks and nothing says which belongs: {}", hashes.join(", ")))
        }
    };
    Some(Found { range: HeightRange::one(height), class, words })
}

/// The hash of the block that belongs at a held height, if the block above or the index says so.
pub(super) async fn belonging(desk: &Desk, chosen: &Chosen, height: Height) -> Result<Option<BlockHash>, Exit> {
    let one = HeightRange::one(height);
    let held = desk.store.held(&desk.link, &chosen.pipeline, one).await.map_err(fault)?;
    match held.into_iter().find(|piece| piece.range.contains(height)) {
        Some(piece) => {
            let files = super::show::open(chosen)?;
            files.wanted_at(&piece, height).await.map_err(|e| Exit::usage(&e.to_string()))
        }
        None => Ok(None),
    }
}

/// Asks the detector to judge the doubted heights again; answers how many it was asked about.
async fn ask(desk: &Desk, chosen: &Chosen, doubted: &mut Vec<Height>) -> Result<usize, Exit> {
    doubted.sort_unstable();
    doubted.dedup();
    let detector = Address::new(&chosen.pipeline, "gap_detector");
    let capacity = wiring::capacity(&desk.settings, &detector);
    for heights in doubted.chunks(RECHECK_MAX) {
        let message = Outgoing::new(&DetectorMessage::Recheck { heights: heights.to_vec() }).map_err(fault)?;
        desk.store.send(&desk.link, &detector, capacity, None, &message).await.map_err(fault)?;
    }
    Ok(doubted.len())
}

fn report(desk: &Desk, range: HeightRange, found: &[Found], asked: usize) {
    let faults: u64 = found.iter().map(|found| found.range.count()).sum();
    if desk.json {
        let rows: Vec<_> = found
            .iter()
            .take(SHOWN_MAX)
            .map(|found| json!({ "range": found.range, "class": found.class, "words": found.words }))
            .collect();
        let verdict = json!({ "range": range, "judged": range.count(), "faults": faults, "sent_to_repair": asked, "found": rows });
        return say(&verdict.to_string());
    }
    for found in found.iter().take(SHOWN_MAX) {
        let place = if found.range.count() == 1 { found.range.lo().to_string() } else { found.range.to_string() };
        say(&format!("{place:>16}  {:<10}  {}", found.class, found.words));
    }
    if found.len() > SHOWN_MAX {
        say(&format!("... and {} more", grouped((found.len() - SHOWN_MAX) as u64)));
    }
    match faults {
        0 => say(&format!("{} heights, {range}: all held, whole and linked", grouped(range.count()))),
        faults => say(&format!(
            "{} of {} heights, {range}, are not as they should be",
            grouped(faults),
            grouped(range.count())
        )),
    }
    if asked > 0 {
        say(&format!("{} of them go to the trash and are fetched again by a running node", grouped(asked as u64)));
    }
}

/// A line that moves on a terminal; nothing elsewhere, where only the result counts.
struct Progress {
    done: u64,
    of: u64,
    shown: bool,
}

impl Progress {
    fn new(range: HeightRange) -> Self {
        Self { done: 0, of: range.count(), shown: std::io::stderr().is_terminal() }
    }

    fn add(&mut self, heights: u64) {
        self.done += heights;
        if self.shown {
            let percent = self.done * 100 / self.of.max(1);
            eprint!("\r{:>12} of {} heights  {percent:>3} %", grouped(self.done), grouped(self.of));
            // Only a picture for people.
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r{:60}\r", "");
        }
    }
}
