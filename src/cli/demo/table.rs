//! The table at the end: what the audit found, in numbers that line up and a few words beside them.

use super::audit::Found;
use crate::cli::words::{bytes, count, grouped, heights};
use crate::messages::heights::{Height, HeightRange, HeightSet};

/// Heights that a row names.
const NAMED_MAX: usize = 5;

/// The lines of the table.
pub(super) fn lines(found: &Found, seed: u64) -> Vec<String> {
    let top = found.wanted.saturating_sub(1);
    let missing: HeightSet = found.missing.iter().map(|height| HeightRange::one(*height)).collect();
    let kills = &found.kills;
    let mut lines =
        vec![String::new(), format!("audit of heights 0..{top} against the chain computed from seed {seed}")];
    let mut row = |name: &str, value: u64, note: String| {
        lines.push(format!("  {name:<22} {:>12}  {note}", grouped(value)).trim_end().to_owned());
    };
    row("wanted", found.wanted, String::new());
    row("held", found.held, format!("in {}", count(found.intervals, "interval", "intervals")));
    row("gaps", missing.ranges().len() as u64, gaps(&missing));
    row("missing", found.missing.len() as u64, named(&found.missing));
    row("altered or mismatched", found.altered.len() as u64, named(&found.altered));
    row("doubled", found.doubled.len() as u64, named(&found.doubled));
    row("without digest", found.unmarked.len() as u64, named(&found.unmarked));
    row("parked", found.parked, String::new());
    row("reorgs", found.reorgs, String::new());
    row("orphans kept", found.orphans_kept, format!("of {} that the chain showed", grouped(found.orphans_shown)));
    row("bytes", found.bytes, bytes(found.bytes));
    row("node kills survived", kills.nodes, String::new());
    row("redis kills survived", kills.redis, String::new());
    row("units taken over", found.takeovers, String::new());
    lines
}

/// What is missing, in words.
fn gaps(missing: &HeightSet) -> String {
    if missing.ranges().is_empty() {
        return "every height is there".to_owned();
    }
    let first: Vec<String> = missing.ranges().iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = missing.ranges().len().saturating_sub(first.len());
    let more = if more == 0 { String::new() } else { format!(" and {} more", grouped(more as u64)) };
    format!("{} in {}{more}", heights(missing.count()), first.join(", "))
}

fn named(heights: &[Height]) -> String {
    let first: Vec<String> = heights.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if heights.len() > first.len() { ", ..." } else { "" };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_and_gaps_are_told_in_words() {
        let missing = vec![3, 4, 9, 20, 30, 40, 50, 60];
        let found =
            Found { wanted: 10_101, held: 10_093, intervals: 8, missing, bytes: 126_000_000, ..Found::default() };
        assert!(!found.is_whole());
        let lines = lines(&found, 7);
        let line = |name: &str| lines.iter().find(|line| line.trim_start().starts_with(name)).expect("a row").as_str();
        assert_eq!(line("held"), "  held                         10,093  in 8 intervals");
        assert_eq!(
            line("gaps"),
            "  gaps                              7  8 heights in 3..4, 9..9, 20..20, 30..30, 40..40 and 2 more"
        );
        assert_eq!(line("missing"), "  missing                           8  3, 4, 9, 20, 30, ...");
        assert_eq!(line("doubled"), "  doubled                           0");
        assert_eq!(line("bytes"), "  bytes                   126,000,000  120.1 MiB");
        let whole = Found { wanted: 1, held: 1, ..Found::default() };
        assert!(whole.is_whole());
        assert!(super::lines(&whole, 7).iter().any(|line| line.ends_with("0  every height is there")));
        assert!(!Found { parked: 1, ..whole }.is_whole());
    }
}
