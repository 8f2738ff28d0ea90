//! `sync status`: lag in entries, time and bytes, from both ends themselves; and what nodes have noted.

use serde_json::json;

use super::ends::{Ends, exit_of, known, rests, some};
use super::{Chosen, Desk, Exit};
use crate::actors::stream_sync::describe;
use crate::cli::desk::fault;
use crate::cli::output::{self, Side, Table};
use crate::cli::words::{age, bytes, count, grouped, plain};
use crate::http::sync::{Known, lag_entries};
use crate::ids::EntryId;
use crate::messages::sync::{NoteKind, StreamName};
use crate::wire::look::{StreamFacts, behind, now_ms, range, stream_facts};
use crate::wire::{Request, WireError};

/// Ids below this are no times: streams whose ids producers choose. The first of January 2000.
const TIME_MIN_MS: u64 = 946_684_800_000;

/// How one stream stands.
#[derive(Default)]
pub(super) struct Standing {
    pub source: Option<StreamFacts>,
    pub target: Option<StreamFacts>,
    /// Entries that are not copied; none where that cannot be told.
    pub lag_entries: Option<u64>,
    /// The age of the oldest of them; none where ids are no times.
    pub lag_ms: Option<u64>,
    /// About as many bytes, by the mean of the stream.
    pub lag_bytes: Option<u64>,
    /// Why an end says nothing of it; empty where both do.
    pub fault: String,
}

impl Standing {
    /// Nothing is left on the source to be behind of.
    fn is_gone(&self) -> bool {
        self.source.is_none() && self.fault.is_empty()
    }

    pub(super) fn is_even(&self) -> bool {
        match (&self.source, &self.target) {
            (Some(source), Some(target)) => source.last == target.last,
            (Some(source), None) => source.last == EntryId::ZERO,
            (None, _) => true,
        }
    }
}

/// Asks both ends about one stream.
pub(super) async fn standing(ends: &mut Ends, name: &StreamName) -> Result<Standing, WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let mark = ends.mark(&key).await?;
    let (source, target) = ends.both(name).await?;
    // The target first: what is copied in between makes the lag smaller than it was, never negative.
    let there = stream_facts(target, &key).await?;
    let here = stream_facts(source, &name.key).await?;
    let position = there.as_ref().map_or(EntryId::ZERO, |facts| facts.last);
    let Some(facts) = &here else {
        return Ok(Standing { target: there, ..Standing::default() });
    };
    if facts.last <= position {
        let none = Some(0);
        let lag = Standing { lag_entries: none, lag_ms: none, lag_bytes: none, ..Standing::default() };
        return Ok(Standing { source: here, target: there, ..lag });
    }
    let lag_entries = lag_entries(facts, there.as_ref(), mark.as_ref());
    let next = range(source, &name.key, &behind(position), "+", 1).await?;
    let now = now_ms(source).await?;
    let oldest = next.items().first().map(|item| item.id.ms).filter(|ms| *ms >= TIME_MIN_MS);
    let memory = source.all(&Request::of(&[b"MEMORY", b"USAGE", &name.key])).await?;
    let memory = memory.first().and_then(|reply| reply.int()).and_then(|n| u64::try_from(n).ok());
    let mean = memory.map(|memory| memory / facts.length.max(1));
    Ok(Standing {
        lag_entries,
        lag_ms: oldest.map(|ms| now.saturating_sub(ms)),
        lag_bytes: lag_entries.zip(mean).map(|(entries, mean)| entries * mean),
        source: here,
        target: there,
        fault: String::new(),
    })
}

/// The same where one stream that cannot be looked at hides no other: only an end that is away ends the look.
async fn standing_or_fault(ends: &mut Ends, name: &StreamName) -> Result<Standing, WireError> {
    match standing(ends, name).await {
        Err(WireError::Refused { address, reason, .. }) => {
            Ok(Standing { fault: format!("{address}: {reason}"), ..Standing::default() })
        }
        other => other,
    }
}

fn state(known: &Known, standing: &Standing) -> &'static str {
    match (known.row.refused.is_empty(), known.notes.stopped.is_empty()) {
        (false, _) => "refused",
        (true, false) => "stopped",
        (true, true) if !standing.fault.is_empty() => "unknown",
        (true, true) if standing.source.is_none() => "gone",
        (true, true) if standing.is_even() => "even",
        (true, true) => "behind",
    }
}

pub(super) async fn run(desk: &Desk, chosen: &Chosen) -> Result<Exit, Exit> {
    let streams = known(desk, chosen).await?;
    let paused = desk.store.fact(&desk.link, &chosen.pipeline, "paused_ms").await.map_err(fault)?;
    let paused = paused.filter(|since| !since.is_empty()).and_then(|since| since.parse::<u64>().ok());
    let now = desk.store.now_ms(&desk.link).await.map_err(fault)?;
    let paused_age_ms = paused.map(|since| now.saturating_sub(since));
    let resting = rests(desk, chosen).await?;
    let (mut rows, mut exit) = (Vec::new(), Exit::good());
    let mut ends = Ends::open(chosen).await;
    for (name, known) in &streams {
        // What nodes have noted is worth showing where an end is away, too.
        let standing = match &mut ends {
            Ok(open) => standing_or_fault(open, name).await.map_err(|error| exit_of(&error)),
            Err(exit) => Err(*exit),
        };
        let standing = standing.unwrap_or_else(|away| {
            (exit, ends) = (away, Err(away));
            Standing { fault: "not looked at".to_owned(), ..Standing::default() }
        });
        rows.push((name, known, standing));
    }
    if let (true, Err(away)) = (rows.is_empty(), &ends) {
        return Ok(*away);
    }
    if desk.json {
        let streams: Vec<_> = rows.iter().map(|(name, known, standing)| to_json(name, known, standing)).collect();
        let answer = json!({
            "pipeline": chosen.pipeline.to_string(), "paused_age_ms": paused_age_ms, "resting": resting,
            "streams": streams,
        });
        return Ok(output::json(&answer, exit));
    }
    let mut text = format!("{}\n", chosen.pipeline);
    if let Some(ms) = paused_age_ms {
        let yet = if resting { "" } else { " (not every unit has heard of it yet)" };
        text.push_str(&format!("paused for {}{yet}; to go on: gapless sync resume\n", age(ms)));
    }
    if rows.is_empty() {
        text.push_str("no stream is listed yet: is a node running? gapless sync plan shows what it would find\n");
        return Ok(output::text(&text, Exit::good()));
    }
    text.push_str(&table(&rows));
    total(&rows).iter().for_each(|line| text.push_str(&format!("{}\n", plain(line))));
    Ok(output::text(&text, exit))
}

fn to_json(name: &StreamName, known: &Known, standing: &Standing) -> serde_json::Value {
    json!({
        "stream": name.shown(), "state": state(known, standing),
        "refused": known.row.refused, "stopped": known.notes.stopped, "fault": standing.fault,
        "source_last_id": standing.source.as_ref().map(|facts| facts.last.to_string()),
        "target_last_id": standing.target.as_ref().map(|facts| facts.last.to_string()),
        "lag_entries": standing.lag_entries, "lag_ms": standing.lag_ms, "lag_bytes_about": standing.lag_bytes,
        "gap_entries": known.notes.count(NoteKind::Gap), "conflict_entries": known.notes.count(NoteKind::Conflict),
        "pending_lost": known.notes.pending_lost, "notes": known.notes.notes,
    })
}

/// All of them in a line, for whom the table is too long: how many stand how, and what asks for somebody.
fn total(rows: &[(&StreamName, &Known, Standing)]) -> Vec<String> {
    let of = |wanted: &'static str| {
        rows.iter().filter(move |(_, known, standing)| state(known, standing) == wanted).map(|(name, ..)| name.shown())
    };
    let states = ["even", "behind", "stopped", "refused", "gone", "unknown"];
    let counts: Vec<String> = states
        .iter()
        .map(|word| (of(word).count(), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", grouped(count as u64)))
        .collect();
    let copied = || rows.iter().filter(|(_, known, _)| known.row.refused.is_empty()).map(|(_, _, standing)| standing);
    let lag: u64 = copied().filter_map(|standing| standing.lag_entries).sum();
    let is_whole = copied().all(|standing| standing.lag_entries.is_some() || standing.is_gone());
    let lag = if is_whole { grouped(lag) } else { format!("{} and what is unknown", grouped(lag)) };
    let streams = count(rows.len(), "stream", "streams");
    let mut lines = vec![format!("{streams}: {}; lag {lag}", counts.join(", "))];
    let stopped: Vec<String> = of("stopped").collect();
    if !stopped.is_empty() {
        let names = some(stopped.iter().map(String::as_str));
        lines.push(format!("left alone: {names}; mend what the reason says, then gapless sync retry"));
    }
    lines
}

fn table(rows: &[(&StreamName, &Known, Standing)]) -> String {
    let mut table = Table::new(&[
        ("STREAM", Side::Left),
        ("STATE", Side::Left),
        ("LAG", Side::Right),
        ("AGE", Side::Right),
        ("BYTES", Side::Right),
        ("GAPS", Side::Right),
        ("POSITION", Side::Left),
    ]);
    let unknown = || "-".to_owned();
    for (name, known, standing) in rows {
        let older = known.notes.notes.len().saturating_sub(1);
        let more = if older == 0 { String::new() } else { format!(", and {older} more before it (--json)") };
        let newest = known.notes.notes.last().map(describe);
        // The reason for which it is left alone says it.
        let newest = newest.filter(|words| !known.notes.stopped.contains(words.as_str()));
        let mut notes: Vec<String> = newest.map(|words| format!("{words}{more}")).into_iter().collect();
        let fault = if known.notes.stopped.is_empty() { &standing.fault } else { &known.notes.stopped };
        notes.extend([&known.row.refused, fault].into_iter().filter(|w| !w.is_empty()).cloned());
        let cells = vec![
            plain(&name.shown()),
            state(known, standing).to_owned(),
            standing.lag_entries.map_or_else(unknown, |count| count.to_string()),
            standing.lag_ms.map_or_else(unknown, age),
            standing.lag_bytes.map_or_else(unknown, bytes),
            known.notes.count(NoteKind::Gap).to_string(),
            standing.target.as_ref().map_or_else(unknown, |facts| facts.last.to_string()),
        ];
        table.row_with(cells, plain(&notes.join("; ")));
    }
    table.render()
}
