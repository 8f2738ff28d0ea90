//! `blocks status`, `blocks gaps`, `blocks get`.

use std::io::Write;

use serde_json::json;

use super::index::{self, Index, Request};
use super::{Chosen, Desk, Exit, fault};
use crate::cli::output::{self, say};
use crate::cli::words::{self, count, grouped};
use crate::ids::{RandomId, UnitId};
use crate::messages::block::BlockHash;
use crate::messages::facts::AlarmNote;
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sinks::{BlockFiles, Verdict};
use crate::sources;

/// Opens a store for reading; the incarnation only names temporary files.
pub(super) fn open(chosen: &Chosen) -> Result<BlockFiles, Exit> {
    let parse = sources::parse_block(chosen.section.chain);
    BlockFiles::open(&chosen.section.store, RandomId::new().as_str(), parse, 1)
        .map_err(|error| Exit::usage(&error.to_string()))
}

pub(super) async fn status(desk: &Desk, chosen: &[Chosen]) -> Result<Exit, Exit> {
    let mut shown = Vec::new();
    for chosen in chosen {
        let (index, asked) = (Index::read(desk, chosen, None).await?, Asked::read(desk, chosen).await?);
        if desk.json {
            shown.push(status_json(&index, chosen, &asked));
        } else {
            status_text(&index, chosen, &asked);
        }
    }
    if desk.json {
        return Ok(output::json(&json!({ "pipelines": shown }), Exit::good()));
    }
    Ok(Exit::good())
}

/// What the detector has asked for, since when the collector is paused, and the time that ages count from.
struct Asked {
    requests: Vec<Request>,
    paused_ms: Option<u64>,
    now_ms: u64,
}

impl Asked {
    async fn read(desk: &Desk, chosen: &Chosen) -> Result<Self, Exit> {
        let requests = index::requests(desk, chosen).await?;
        let collector = UnitId::exclusive(&chosen.pipeline, "collector");
        let shown = desk.store.checkpoint(&desk.link, &collector).await.map_err(fault)?;
        let paused_ms = shown.and_then(|shown| shown.paused_ms());
        Ok(Self { requests, paused_ms, now_ms: desk.store.now_ms(&desk.link).await.map_err(fault)? })
    }

    /// How long the collector has been paused, if it is.
    fn paused_age_ms(&self) -> Option<u64> {
        self.paused_ms.map(|since| self.now_ms.saturating_sub(since))
    }

    /// Missing heights that are asked for.
    fn count(&self, missing: &HeightSet) -> u64 {
        let asked: HeightSet = self.requests.iter().map(|request| request.range).collect();
        let both = asked.ranges().iter().map(|range| range.count() - missing.gaps(*range).count());
        both.sum()
    }

    /// The age of the oldest request for any of these ranges.
    fn age_ms(&self, ranges: &[HeightRange]) -> Option<u64> {
        let oldest = ranges.iter().filter_map(|range| Index::asked_ms(&self.requests, *range)).min()?;
        Some(self.now_ms.saturating_sub(oldest))
    }
}

fn status_json(index: &Index, chosen: &Chosen, asked: &Asked) -> serde_json::Value {
    let wanted = index.wanted(chosen);
    let missing = wanted.map_or_else(HeightSet::new, |range| index.missing(range));
    json!({
        "pipeline": chosen.pipeline.to_string(),
        "chain_id": index.chain_id,
        "store": chosen.section.store.display().to_string(),
        "paused_age_ms": asked.paused_age_ms(),
        "head": index.head,
        "finalized": index.finalized,
        "alarms": index.alarms,
        "wanted": wanted,
        "held": wanted.map_or(0, |range| index.held_count(range)),
        "held_intervals": index.held.len(),
        "missing": missing.count(),
        "asked_for": asked.count(&missing),
        "oldest_request_age_ms": asked.age_ms(missing.ranges()),
        "parked": index.parked_count(),
        "oldest_parked_age_ms": oldest_parked(index, asked.now_ms),
    })
}

/// The age of what has been parked for longest, as far as it is known.
fn oldest_parked(index: &Index, now_ms: u64) -> Option<u64> {
    let oldest = index.parked.iter().filter_map(|parked| parked.since_ms).min();
    oldest.map(|since| now_ms.saturating_sub(since))
}

fn status_text(index: &Index, chosen: &Chosen, asked: &Asked) {
    let row = |name: &str, value: String, words: String| say(format!("  {name:<10} {value:>16}  {words}").trim_end());
    say(&format!("{}  ({})", chosen.pipeline, chosen.section.store.display()));
    if let Some(ms) = asked.paused_age_ms() {
        row("paused", words::age(ms), format!("by an operator; to go on: gapless resume {}", chosen.pipeline));
    }
    let Some(wanted) = index.wanted(chosen) else {
        say("  nothing yet: no collector has seen the chain");
        return;
    };
    row("chain", index.chain_id.clone().unwrap_or_default(), String::new());
    row("head", grouped(wanted.hi()), String::new());
    if let Some(finalized) = index.finalized {
        row(
            "finalized",
            grouped(finalized),
            format!("head - {}", index.head.unwrap_or(finalized).saturating_sub(finalized)),
        );
    }
    row("wanted", grouped(wanted.count()), format!("{wanted}"));
    row("held", grouped(index.held_count(wanted)), format!("in {}", count(index.held.len(), "interval", "intervals")));
    let missing = index.missing(wanted);
    row("missing", grouped(missing.count()), format!("in {}", count(missing.ranges().len(), "gap", "gaps")));
    if !missing.is_empty() {
        let age = asked.age_ms(missing.ranges());
        let age = age.map_or_else(String::new, |ms| format!("the oldest request is {} old", words::age(ms)));
        row("asked for", grouped(asked.count(&missing)), age);
    }
    let since = oldest_parked(index, asked.now_ms).map(|ms| format!("the first {} ago; ", words::age(ms)));
    let parked = match index.parked.is_empty() {
        true => String::new(),
        false => format!("{}see: gapless blocks gaps", since.unwrap_or_default()),
    };
    row("parked", grouped(index.parked_count()), parked);
    for alarm in &index.alarms {
        say(&format!("  ALARM      {}", alarm_words(alarm)));
    }
}

/// What an endpoint showed against a final block. Nothing was rewritten: an operator judges who is right.
fn alarm_words(alarm: &AlarmNote) -> String {
    let at = |ms: u64| jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or_default();
    let who = if alarm.endpoint.is_empty() { "the source" } else { &alarm.endpoint };
    let held = alarm.held.as_ref().map_or("another block", BlockHash::as_str);
    format!(
        "{:.0}: {who} shows {} at the final height {}, where {held} is held ({})",
        at(alarm.last_ms),
        alarm.shown,
        alarm.height,
        count(usize::try_from(alarm.times).unwrap_or(usize::MAX), "time", "times"),
    )
}

/// A range that is not held.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Gap<'a> {
    range: HeightRange,
    state: &'static str,
    reason: &'a str,
    /// Since it was parked, or first asked for as far as the detector remembers.
    age_ms: Option<u64>,
}

pub(super) async fn gaps(desk: &Desk, chosen: &Chosen, limit: usize) -> Result<Exit, Exit> {
    let (index, asked) = (Index::read(desk, chosen, None).await?, Asked::read(desk, chosen).await?);
    let wanted = index.wanted(chosen);
    let rows = wanted.map_or_else(Vec::new, |wanted| rows(&index, &asked, wanted));
    let (shown, more) = (&rows[..limit.min(rows.len())], rows.len().saturating_sub(limit));
    if desk.json {
        let shown = shown.iter().map(|Gap { range, state, reason, age_ms }| {
            json!({ "range": range, "count": range.count(), "state": state, "reason": reason, "age_ms": age_ms })
        });
        let shown: Vec<_> = shown.collect();
        return Ok(output::json(&json!({ "wanted": wanted, "gaps": shown, "more": more }), Exit::good()));
    }
    match wanted {
        None => say("nothing yet: no collector has seen the chain"),
        Some(wanted) if rows.is_empty() => say(&format!("no gaps in {wanted}")),
        Some(_) => {}
    }
    for Gap { range, state, reason, age_ms } in shown {
        let (count, age) = (grouped(range.count()), words::maybe_age(*age_ms));
        say(format!("{:>24} {count:>12} {state:<8} {age:>8}  {}", range.to_string(), words::plain(reason)).trim_end());
    }
    if more > 0 {
        say(&format!("... and {} (--limit)", count(more, "more range", "more ranges")));
    }
    if let Some(parked) = index.parked.first() {
        let named = chosen.option(desk);
        say(&format!("to fetch parked heights again: gapless blocks unpark {}{named}, or --all", parked.range));
    }
    Ok(Exit::good())
}

/// The missing and the parked ranges, ascending, with the reason of those that are parked.
fn rows<'a>(index: &'a Index, asked: &Asked, wanted: HeightRange) -> Vec<Gap<'a>> {
    let missing = index.missing(wanted);
    let missing = missing.ranges().iter().map(|range| Gap {
        range: *range,
        state: "missing",
        reason: "",
        age_ms: asked.age_ms(&[*range]),
    });
    let parked = index.parked.iter().map(|parked| Gap {
        range: parked.range,
        state: "parked",
        reason: &parked.reason,
        age_ms: parked.since_ms.map(|since| asked.now_ms.saturating_sub(since)),
    });
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
