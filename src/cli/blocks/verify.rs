//! `blocks verify`: every file read again, every digest and link compared with what was recorded.

use serde_json::json;

use super::index::Index;
use super::orders;
use super::{Chosen, Desk, Exit, fault};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::words::{grouped, heights};
use crate::messages::block::{BlockHash, Piece};
use crate::messages::gap::DetectorMessage;
use crate::messages::heights::{Height, HeightRange};
use crate::sinks::{BlockFiles, Verdict};

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
    let asked_for = range.unwrap_or(wanted);
    let range = asked_for.intersect(wanted).ok_or_else(|| {
        Exit::usage(&format!("{asked_for} lies outside of what is wanted, {wanted} (the head committed now)"))
    })?;
    let outside = outside(asked_for, wanted, index.head);
    let mut found = absent(&index, range);
    let files = super::show::open(chosen)?;
    let mut doubted = Vec::new();
    let mut progress = Progress::new("heights", Some(index.held_count(range)));
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
    let exit = if found.is_empty() { Exit::good() } else { Exit::found() };
    Ok(Report { range, outside, found, asked }.print(desk.json, exit))
}

/// What was asked for and is not wanted, with the reason: nobody may take it for verified.
fn outside(asked_for: HeightRange, wanted: HeightRange, head: Option<Height>) -> Vec<(HeightRange, String)> {
    let mut outside = Vec::new();
    if asked_for.lo() < wanted.lo() {
        let below = HeightRange::new(asked_for.lo(), wanted.lo() - 1);
        outside.extend(below.map(|range| (range, format!("below the start, {}", wanted.lo()))));
    }
    if asked_for.hi() > wanted.hi() {
        let limit = if head == Some(wanted.hi()) { "head" } else { "configured end" };
        let above = HeightRange::new(wanted.hi() + 1, asked_for.hi());
        outside.extend(above.map(|range| (range, format!("above the {limit}, {}", wanted.hi()))));
    }
    outside
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
    let index = Index { parked, ..Index::default() };
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
    for heights in doubted.chunks(RECHECK_MAX) {
        orders::tell(desk, chosen, &DetectorMessage::Recheck { heights: heights.to_vec() }).await?;
    }
    Ok(doubted.len())
}

/// What is told at the end.
struct Report {
    /// What was judged.
    range: HeightRange,
    /// What was asked for and not judged, with the reason.
    outside: Vec<(HeightRange, String)>,
    found: Vec<Found>,
    /// Heights that the detector was asked about.
    asked: usize,
}

impl Report {
    fn print(&self, json: bool, exit: Exit) -> Exit {
        if json { output::json(&self.to_json(), exit) } else { output::text(&self.to_text(), exit) }
    }

    fn faults(&self) -> u64 {
        self.found.iter().map(|found| found.range.count()).sum()
    }

    fn to_json(&self) -> serde_json::Value {
        let shown = self.found.iter().take(SHOWN_MAX);
        let shown = shown.map(|found| json!({ "range": found.range, "class": found.class, "words": found.words }));
        let outside = self.outside.iter().map(|(range, why)| json!({ "range": range, "why": why }));
        json!({
            "range": self.range,
            "judged": self.range.count(),
            "not_judged": outside.collect::<Vec<_>>(),
            "faults": self.faults(),
            "sent_to_repair": self.asked,
            "found": shown.collect::<Vec<_>>(),
            "more": self.found.len().saturating_sub(SHOWN_MAX),
        })
    }

    fn to_text(&self) -> String {
        let mut lines = Vec::new();
        for found in self.found.iter().take(SHOWN_MAX) {
            let place = if found.range.count() == 1 { found.range.lo().to_string() } else { found.range.to_string() };
            lines.push(format!("{place:>16}  {:<10}  {}", found.class, found.words));
        }
        if self.found.len() > SHOWN_MAX {
            lines.push(format!("... and {} more", grouped((self.found.len() - SHOWN_MAX) as u64)));
        }
        let (judged, range) = (heights(self.range.count()), self.range);
        lines.push(match self.faults() {
            0 => format!("{judged}, {range}: all held, whole and linked"),
            1 => format!("1 of {judged}, {range}, is not as it should be"),
            faults => format!("{} of {judged}, {range}, are not as they should be", grouped(faults)),
        });
        for (range, why) in &self.outside {
            let verbs = if range.count() == 1 { "lies" } else { "lie" };
            lines.push(format!("{}, {range}, {verbs} {why}: not judged", heights(range.count())));
        }
        if self.asked > 0 {
            lines.push(format!(
                "{} sent to the detector, which judges them again; what is bad goes to the trash and is fetched again by \
                 a running node",
                heights(self.asked as u64)
            ));
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    #[test]
    fn what_is_not_wanted_is_named_with_its_reason() {
        let below = (range(0, 9), "below the start, 10".to_owned());
        let above = (range(852, 99_999), "above the head, 851".to_owned());
        assert_eq!(outside(range(0, 99_999), range(10, 851), Some(851)), [below, above]);
        let ended = (range(852, 852), "above the configured end, 851".to_owned());
        assert_eq!(outside(range(10, 852), range(10, 851), Some(2_000)), [ended]);
        assert_eq!(outside(range(10, 851), range(10, 851), Some(851)), []);
    }

    #[test]
    fn one_height_is_no_plural() {
        let found = Found { range: range(5, 5), class: "missing", words: "its file is gone".to_owned() };
        let outside = outside(range(5, 6), range(5, 5), Some(5));
        assert_eq!(
            Report { range: range(5, 5), outside, found: vec![found], asked: 1 }.to_text(),
            "               5  missing     its file is gone\n\
             1 of 1 height, 5..5, is not as it should be\n\
             1 height, 6..6, lies above the head, 5: not judged\n\
             1 height sent to the detector, which judges them again; what is bad goes to the trash and is fetched again \
             by a running node\n"
        );
    }
}
