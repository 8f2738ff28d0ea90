//! `blocks scan DIR`: the gaps of a folder from its file names alone, without Redis and without configuration.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::scan_names::{Name, judge};
use super::{Exit, height};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::words::{count, grouped, heights, plain};
use crate::messages::heights::{Height, HeightRange, HeightSet};

/// Heights that are gathered before they are merged into the set: a folder lists its names in any order.
const BATCH: usize = 65_536;
/// Names that are no blocks: so many are shown, the rest is counted.
const STRANGE_SHOWN: usize = 5;
/// Folders that wait to be listed, at the most.
const FOLDERS_MAX: usize = 1_000_000;
/// Files between two looks of the progress.
const STEP: u64 = 1_000;
/// What marks the folder of a store; beside it, these folders hold no blocks of it.
const MARKER: &str = "gapless-store.json";
const NOT_BLOCKS: [&str; 2] = ["tmp", "trash"];

/// What was found by names.
#[derive(Debug, Default)]
struct Found {
    heights: HeightSet,
    /// Heights with more than one file.
    doubled: HeightSet,
    /// Files that are blocks by their name.
    files: u64,
    /// Lines beside blocks.
    metas: u64,
    /// Names that are no blocks.
    strange: u64,
    /// The first of them.
    strange_names: Vec<String>,
    /// Not merged yet.
    batch: Vec<Height>,
}

impl Found {
    fn block(&mut self, height: Height) {
        self.files += 1;
        self.batch.push(height);
        if self.batch.len() >= BATCH {
            self.merge();
        }
    }

    fn strange(&mut self, path: &Path) {
        self.strange += 1;
        if self.strange_names.len() < STRANGE_SHOWN {
            self.strange_names.push(path.display().to_string());
        }
    }

    /// Merges the batch into the set in one pass over both: memory and time follow the gaps, not the order of names.
    fn merge(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_unstable();
        for pair in batch.windows(2) {
            if pair[0] == pair[1] {
                self.doubled.insert(HeightRange::one(pair[0]));
            }
        }
        batch.dedup();
        for height in batch.iter().filter(|height| self.heights.contains(**height)) {
            self.doubled.insert(HeightRange::one(*height));
        }
        let mut all = HeightSet::new();
        let mut old = self.heights.ranges().iter().copied().peekable();
        for height in batch {
            while let Some(range) = old.next_if(|range| range.lo() <= height) {
                all.insert(range);
            }
            all.insert(HeightRange::one(height));
        }
        old.for_each(|range| all.insert(range));
        self.heights = all;
    }
}

/// `gapless blocks scan ...`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gapless blocks scan data/blocks/mainnet\n  \
    gapless blocks scan ../blocks_repo --from 0 --to 20000 --json\n\n\
    Blocks are files named as this store names them, or HEIGHT, HEIGHT.json, HEIGHT.json.zst, in this folder and those \
    below. No file is opened: `blocks verify` reads them.")]
pub struct ScanArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The lowest height that should be there [default: the lowest found]
    #[arg(long, value_name = "HEIGHT", value_parser = height, allow_hyphen_values = true)]
    from: Option<Height>,
    /// The highest height that should be there [default: the highest found]
    #[arg(long, value_name = "HEIGHT", value_parser = height, allow_hyphen_values = true)]
    to: Option<Height>,
    /// Ranges to print at the most
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// Scans, prints, and ends with 1 if there are gaps or no blocks at all.
pub fn run(args: &ScanArgs, json: bool) -> Exit {
    scan(args, json).unwrap_or_else(|exit| exit)
}

fn scan(args: &ScanArgs, json: bool) -> Result<Exit, Exit> {
    let ScanArgs { folder, from, to, limit } = args;
    let (from, to, limit) = (*from, *to, *limit);
    if let (Some(from), Some(to)) = (from, to) {
        HeightRange::new(from, to).map_err(|_| Exit::usage(&format!("--from {from} lies above --to {to}")))?;
    }
    let found = walk(folder)?;
    let report = Report::new(folder, found, from, to, limit);
    let exit = if report.is_whole() { Exit::good() } else { Exit::found() };
    Ok(if json { output::json(&report.to_json(), exit) } else { output::text(&report.to_text(), exit) })
}

/// Lists the folder and those below it. Links to files count as files, links to folders are not followed.
fn walk(folder: &Path) -> Result<Found, Exit> {
    let mut found = Found::default();
    let mut progress = Progress::new("files", None);
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0_u64;
    while let Some(folder) = folders.pop() {
        let fault = |error: std::io::Error| Exit::usage(&format!("cannot list {}: {error}", folder.display()));
        let is_store = folder.join(MARKER).is_file();
        for entry in fs::read_dir(&folder).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            seen += 1;
            if seen.is_multiple_of(STEP) {
                progress.set(seen);
            }
            enter(&entry, is_store, &mut folders, &mut found);
            if folders.len() > FOLDERS_MAX {
                return Err(Exit::usage(&format!("more than {FOLDERS_MAX} folders wait; scan them one by one")));
            }
        }
    }
    found.merge();
    progress.end();
    Ok(found)
}

/// Sorts one entry: a folder to go into, a block, or a name that is none. A file that is gone meanwhile is no file.
fn enter(entry: &DirEntry, is_store: bool, folders: &mut Vec<PathBuf>, found: &mut Found) {
    let (name, path) = (entry.file_name(), entry.path());
    let name = name.to_string_lossy();
    let Ok(kind) = entry.file_type() else { return };
    if kind.is_dir() {
        if !(is_store && NOT_BLOCKS.contains(&&*name)) {
            folders.push(path);
        }
        return;
    }
    let is_file = kind.is_file() || (kind.is_symlink() && path.is_file());
    match judge(&name) {
        Name::Block(height) if is_file => found.block(height),
        Name::Meta if is_file => found.metas += 1,
        Name::Block(_) | Name::Meta => found.strange(&path),
        Name::Strange if is_store && name == MARKER => {}
        Name::Strange => found.strange(&path),
    }
}

/// What is told.
struct Report {
    folder: String,
    found: Found,
    /// What was judged: from the lowest to the highest block, or the bounds; none where there is nothing.
    within: Option<HeightRange>,
    gaps: HeightSet,
    /// Blocks outside of the bounds.
    outside: u64,
    limit: usize,
}

impl Report {
    fn new(folder: &Path, found: Found, from: Option<Height>, to: Option<Height>, limit: usize) -> Self {
        let hull = found.heights.hull();
        let lo = from.or(hull.map(HeightRange::lo));
        let hi = to.or(hull.map(HeightRange::hi));
        // A bound beyond everything that is there leaves nothing to judge, unless the other bound is given as well.
        let within = lo.zip(hi).and_then(|(lo, hi)| HeightRange::new(lo, hi).ok());
        let gaps = within.map_or_else(HeightSet::new, |within| found.heights.gaps(within));
        let inside = within.map_or(0, |within| within.count() - gaps.count());
        let outside = found.heights.count() - inside;
        Self { folder: folder.display().to_string(), found, within, gaps, outside, limit }
    }

    /// Blocks within the bounds.
    fn inside(&self) -> u64 {
        self.found.heights.count() - self.outside
    }

    fn is_whole(&self) -> bool {
        self.within.is_some() && self.gaps.is_empty()
    }

    fn to_json(&self) -> serde_json::Value {
        let gaps = self.gaps.ranges().iter().take(self.limit);
        let gaps: Vec<_> = gaps.map(|range| json!({ "range": range, "count": range.count() })).collect();
        let doubled = &self.found.doubled;
        let hull = self.found.heights.hull();
        json!({
            "folder": self.folder,
            "lowest": hull.map(HeightRange::lo),
            "highest": hull.map(HeightRange::hi),
            "range": self.within,
            "count": self.inside(),
            "outside": self.outside,
            "missing": self.gaps.count(),
            "gaps": gaps,
            "more": self.gaps.ranges().len().saturating_sub(self.limit),
            "doubled": doubled.count(),
            "doubled_ranges": doubled.ranges().iter().take(self.limit).collect::<Vec<_>>(),
            "files": self.found.files,
            "metas": self.found.metas,
            "strange": self.found.strange,
            "strange_names": self.found.strange_names,
        })
    }

    fn to_text(&self) -> String {
        let mut lines = self.gap_lines();
        let doubled = &self.found.doubled;
        if !doubled.is_empty() {
            let shown = doubled.ranges().iter().take(STRANGE_SHOWN).map(|range| place(*range)).collect::<Vec<_>>();
            let more = if doubled.ranges().len() > STRANGE_SHOWN { ", ..." } else { "" };
            let verb = if doubled.count() == 1 { "has" } else { "have" };
            lines.push(format!("{} {verb} several files: {}{more}", heights(doubled.count()), shown.join(", ")));
        }
        if self.found.strange > 0 {
            let verb = if self.found.strange == 1 { "name is no block" } else { "names are no blocks" };
            lines.push(format!("{} {verb}:", grouped(self.found.strange)));
            lines.extend(self.found.strange_names.iter().map(|name| format!("  {}", plain(name))));
            if self.found.strange > STRANGE_SHOWN as u64 {
                lines.push("  ...".to_owned());
            }
        }
        if self.outside > 0 {
            lines.push(format!("{} outside of the bounds", heights(self.outside)));
        }
        lines.push(self.last_line());
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn gap_lines(&self) -> Vec<String> {
        let ranges = self.gaps.ranges();
        let shown = ranges.iter().take(self.limit);
        let mut lines: Vec<String> =
            shown.map(|range| format!("{:>24} {:>12} missing", place(*range), grouped(range.count()))).collect();
        if ranges.len() > self.limit {
            let more = count(ranges.len() - self.limit, "more range", "more ranges");
            lines.push(format!("... and {more} (--limit)"));
        }
        lines
    }

    fn last_line(&self) -> String {
        let Some(within) = self.within else {
            let where_to = if self.found.heights.is_empty() { "" } else { " within the bounds" };
            return format!("no block{where_to} in {}", plain(&self.folder));
        };
        let there = format!("{}, {within}: {} there", heights(within.count()), grouped(self.inside()));
        match self.gaps.ranges().len() {
            0 => format!("{there}, no gaps"),
            gaps => format!("{there}, {} missing in {}", grouped(self.gaps.count()), count(gaps, "gap", "gaps")),
        }
    }
}

fn place(range: HeightRange) -> String {
    if range.count() == 1 { range.lo().to_string() } else { range.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In whatever order names come, and wherever a batch ends: the heights and the doubled ones are the truth.
        #[test]
        fn batches_in_any_order_are_the_set_of_their_heights(
            batches in prop::collection::vec(prop::collection::vec(0u64..80, 0..30), 0..8)
        ) {
            let (mut found, mut truth) = (Found::default(), BTreeMap::<u64, u32>::new());
            for batch in batches {
                for height in batch {
                    found.block(height);
                    *truth.entry(height).or_default() += 1;
                }
                found.merge();
            }
            let of = |set: &HeightSet| set.ranges().iter().flat_map(|r| r.lo()..=r.hi()).collect::<Vec<_>>();
            prop_assert_eq!(of(&found.heights), truth.keys().copied().collect::<Vec<_>>());
            let doubled: Vec<u64> = truth.iter().filter(|(_, times)| **times > 1).map(|(height, _)| *height).collect();
            prop_assert_eq!(of(&found.doubled), doubled);
        }
    }

    fn report(heights: &[u64], from: Option<u64>, to: Option<u64>) -> Report {
        let mut found = Found::default();
        heights.iter().for_each(|height| found.block(*height));
        found.merge();
        Report::new(Path::new("d"), found, from, to, 100)
    }

    #[test]
    fn bounds_show_the_gaps_at_the_ends_and_leave_the_rest_out() {
        assert!(report(&[5, 6, 7], None, None).is_whole());
        let wide = report(&[5, 6, 9], Some(3), Some(11));
        assert_eq!(wide.gaps.ranges().iter().map(ToString::to_string).collect::<Vec<_>>(), ["3..4", "7..8", "10..11"]);
        assert_eq!((wide.inside(), wide.outside), (3, 0));
        let narrow = report(&[5, 6, 9], Some(6), Some(8));
        assert_eq!((narrow.inside(), narrow.outside, narrow.gaps.count()), (1, 2, 2));
        let beyond = report(&[5, 6], Some(9), None);
        assert_eq!((beyond.within, beyond.is_whole(), beyond.outside), (None, false, 2));
        let nothing = report(&[], Some(3), Some(4));
        assert_eq!((nothing.gaps.count(), nothing.is_whole()), (2, false));
    }
}
