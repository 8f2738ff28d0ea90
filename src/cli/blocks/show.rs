//! `blocks status`, `blocks gaps`, `blocks get`.

use std::io::Write;

use serde_json::json;

use super::index::Index;
use super::{Chosen, Desk, Exit};
use crate::cli::output::{self, say};
use crate::cli::words::{count, grouped};
use crate::ids::RandomId;
use crate::messages::heights::{Height, HeightRange};
use crate::sinks::{BlockFiles, Verdict};
use crate::sources::evm;

/// Opens a store for reading; the incarnation only names temporary files.
pub(super) fn open(chosen: &Chosen) -> Result<BlockFiles, Exit> {
    BlockFiles::open(&chosen.section.store, RandomId::new().as_str(), evm::identity, 1)
        .map_err(|error| Exit::usage(&error.to_string()))
}

pub(super) async fn status(desk: &Desk, chosen: &[Chosen]) -> Result<Exit, Exit> {
    let mut shown = Vec::new();
    for chosen in chosen {
        let index = Index::read(desk, chosen, None).await?;
        if desk.json {
            shown.push(status_json(&index, chosen));
        } else {
            status_text(&index, chosen);
        }
    }
    if desk.json {
        return Ok(output::json(&json!({ "pipelines": shown }), Exit::good()));
    }
    Ok(Exit::good())
}

fn status_json(index: &Index, chosen: &Chosen) -> serde_json::Value {
    let wanted = index.wanted(chosen);
    json!({
        "pipeline": chosen.pipeline.to_string(),
        "chain_id": index.chain_id,
        "store": chosen.section.store.display().to_string(),
        "head": index.head,
        "finalized": index.finalized(chosen),
        "wanted": wanted,
        "held": wanted.map_or(0, |range| index.held_count(range)),
        "held_intervals": index.held.len(),
        "missing": wanted.map_or(0, |range| index.missing(range).count()),
        "parked": index.parked_count(),
    })
}

fn status_text(index: &Index, chosen: &Chosen) {
    let row = |name: &str, value: String, words: String| say(format!("  {name:<10} {value:>16}  {words}").trim_end());
    say(&format!("{}  ({})", chosen.pipeline, chosen.section.store.display()));
    let Some(wanted) = index.wanted(chosen) else {
        say("  nothing yet: no collector has seen the chain");
        return;
    };
    row("chain", index.chain_id.clone().unwrap_or_default(), String::new());
    row("head", grouped(wanted.hi()), String::new());
    if let Some(finalized) = index.finalized(chosen) {
        row("finalized", grouped(finalized), format!("head - {}", chosen.section.confirmations));
    }
    row("wanted", grouped(wanted.count()), format!("{wanted}"));
    row("held", grouped(index.held_count(wanted)), format!("in {}", count(index.held.len(), "interval", "intervals")));
    let missing = index.missing(wanted);
    row("missing", grouped(missing.count()), format!("in {}", count(missing.ranges().len(), "gap", "gaps")));
    let parked = if index.parked.is_empty() { String::new() } else { "see: gapless blocks gaps".to_owned() };
    row("parked", grouped(index.parked_count()), parked);
}

pub(super) async fn gaps(desk: &Desk, chosen: &Chosen, limit: usize) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, None).await?;
    let wanted = index.wanted(chosen);
    let rows = wanted.map_or_else(Vec::new, |wanted| rows(&index, wanted));
    let (shown, more) = (&rows[..limit.min(rows.len())], rows.len().saturating_sub(limit));
    if desk.json {
        let shown = shown.iter().map(|(range, state, reason)| {
            json!({ "range": range, "count": range.count(), "state": state, "reason": reason })
        });
        let shown: Vec<_> = shown.collect();
        return Ok(output::json(&json!({ "wanted": wanted, "gaps": shown, "more": more }), Exit::good()));
    }
    match wanted {
        None => say("nothing yet: no collector has seen the chain"),
        Some(wanted) if rows.is_empty() => say(&format!("no gaps in {wanted}")),
        Some(_) => {}
    }
    for (range, state, reason) in shown {
        say(format!("{:>24} {:>12} {state:<8} {reason}", range.to_string(), grouped(range.count())).trim_end());
    }
    if more > 0 {
        say(&format!("... and {} (--limit)", count(more, "more range", "more ranges")));
    }
    Ok(Exit::good())
}

/// The missing and the parked ranges, ascending, with the reason of those that are parked.
fn rows(index: &Index, wanted: HeightRange) -> Vec<(HeightRange, &'static str, &str)> {
    let missing = index.missing(wanted);
    let missing = missing.ranges().iter().map(|range| (*range, "missing", ""));
    let parked = index.parked.iter().map(|parked| (parked.range, "parked", parked.reason.as_str()));
    let mut rows: Vec<_> = missing.chain(parked).collect();
    rows.sort();
    rows
}

pub(super) async fn get(desk: &Desk, chosen: &Chosen, height: Height, meta: bool) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, Some(HeightRange::one(height))).await?;
    if !index.held.iter().any(|piece| piece.range.contains(height)) {
        let parked = index.parked.iter().find(|parked| parked.range.contains(height));
        let words = match (parked, index.head) {
            (Some(parked), _) => format!("height {height} is parked: {}", parked.reason),
            (None, Some(head)) if height > head => format!("height {height} lies above the head, {head}"),
            (None, _) => format!("height {height} is not held (yet); see: gapless blocks gaps"),
        };
        eprintln!("gapless: {words}");
        return Ok(Exit::found());
    }
    let stored = open(chosen)?.read(height).await.map_err(|error| Exit::usage(&error.to_string()))?;
    // After a reorg the orphan's file stays; which one belongs is known to the block above, so ask the whole check.
    let belongs = super::verify::belonging(desk, chosen, height).await?;
    let block = stored.iter().find(|block| belongs.as_ref().is_none_or(|hash| *hash == block.hash));
    let Some(block) = block else {
        eprintln!("gapless: height {height} is held, but its file is gone; run: gapless blocks verify {height}");
        return Ok(Exit::found());
    };
    if let Verdict::Altered { reason, .. } = &block.verdict {
        eprintln!(
            "gapless: the file of height {height} is not what was stored: {reason}; run: gapless blocks verify {height}"
        );
        return Ok(Exit::found());
    }
    if meta {
        let line = block.meta.as_ref().map(serde_json::to_string).transpose();
        say(&line.ok().flatten().unwrap_or_else(|| "{}".to_owned()));
    } else {
        let mut out = std::io::stdout().lock();
        // A reader that has seen enough is no fault.
        let _ = out.write_all(&block.raw).and_then(|()| out.write_all(b"\n"));
    }
    Ok(Exit::good())
}
