//! `blocks status`, `blocks gaps`, `blocks get`.

use std::io::Write;

use serde_json::json;

use super::index::Index;
use super::{Chosen, Desk, Exit};
use crate::cli::output::say;
use crate::cli::words::grouped;
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
        say(&serde_json::Value::Array(shown).to_string());
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
    row("held", grouped(index.held_count(wanted)), format!("in {} intervals", grouped(index.held.len() as u64)));
    let missing = index.missing(wanted);
    row("missing", grouped(missing.count()), format!("in {} gaps", grouped(missing.ranges().len() as u64)));
    let parked = if index.parked.is_empty() { String::new() } else { "see: gapless blocks gaps".to_owned() };
    row("parked", grouped(index.parked_count()), parked);
}

pub(super) async fn gaps(desk: &Desk, chosen: &Chosen, limit: usize) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, None).await?;
    let Some(wanted) = index.wanted(chosen) else {
        say(if desk.json { "[]" } else { "nothing yet: no collector has seen the chain" });
        return Ok(Exit::good());
    };
    let mut rows: Vec<(HeightRange, &'static str, &str)> =
        index.missing(wanted).ranges().iter().map(|range| (*range, "missing", "")).collect();
    rows.extend(index.parked.iter().map(|parked| (parked.range, "parked", parked.reason.as_str())));
    rows.sort();
    if desk.json {
        let rows = rows.iter().take(limit).map(|(range, state, reason)| {
            json!({ "range": range, "count": range.count(), "state": state, "reason": reason })
        });
        say(&serde_json::Value::Array(rows.collect()).to_string());
        return Ok(Exit::good());
    }
    if rows.is_empty() {
        say(&format!("no gaps in {wanted}"));
    }
    for (range, state, reason) in rows.iter().take(limit) {
        say(format!("{:>24} {:>12} {state:<8} {reason}", range.to_string(), grouped(range.count())).trim_end());
    }
    if rows.len() > limit {
        say(&format!("... and {} more ranges (--limit)", grouped((rows.len() - limit) as u64)));
    }
    Ok(Exit::good())
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
