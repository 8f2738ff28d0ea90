//! How the streams of a sync pipeline stand: what nodes have noted of them, and how far both ends are apart.
//! `gapless sync status` shows each stream, `gapless status` all of them in a line.

use std::collections::BTreeMap;
use std::time::Duration;

use super::status::Summary;
use crate::actors::stream_sync::{ROWS_SPARE, SCOUT, SyncPlan, bucket_name};
use crate::config::{Settings, SyncSettings};
use crate::ids::{EntryId, PipelineId, UnitId};
use crate::messages::sync::{NoteKind, StreamName, StreamNotes, StreamRow, database_of};
use crate::sinks::replica::{MARKS, Mark, marks_of};
use crate::store::link::Link;
use crate::store::{Store, StoreError};
use crate::supervisor::wiring;
use crate::wire::look::{StreamFacts, ask_stream, read_stream};
use crate::wire::{Lines, Node, Request, WireError};

/// Streams that the summary asks both ends about: beyond it, its lag is a lower bound.
const ASKED_MAX: usize = 500;
/// Streams of one request. An end answers with two entries of each.
const PAGE: usize = 50;
/// How long both ends may take altogether; `/status` waits for it.
const ENDS_MAX: Duration = Duration::from_millis(700);

/// A stream as nodes know it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the scout has listed.
    pub row: StreamRow,
    /// What is noted of it.
    pub notes: StreamNotes,
}

/// The streams that the scout has listed, with what is noted of them.
pub async fn known(
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
    section: &SyncSettings,
) -> Result<BTreeMap<StreamName, Known>, StoreError> {
    let rows = usize::try_from(section.streams_max.saturating_add(ROWS_SPARE)).unwrap_or(usize::MAX);
    let (listed, _) = store.peek_table(link, &UnitId::exclusive(pipeline, SCOUT), rows).await?;
    let of_row = |(row, text): (&String, &String)| {
        let says: StreamRow = serde_json::from_str(text).unwrap_or_default();
        // A key that no row can hold is refused, and known by what is shown of it.
        let shown = || {
            let key = row.split_once(':').map_or(row.as_str(), |(_, key)| key).as_bytes().to_vec();
            StreamName { db: database_of(row).unwrap_or(0), key }
        };
        let name = says.name(row).or_else(|| (!says.refused.is_empty()).then(shown))?;
        Some((name, Known { row: says, notes: StreamNotes::default() }))
    };
    let mut streams: BTreeMap<StreamName, Known> = listed.iter().filter_map(of_row).collect();
    let names: BTreeMap<String, StreamName> = streams.keys().map(|name| (name.shown(), name.clone())).collect();
    for bucket in 0..section.buckets {
        let unit = UnitId::exclusive(pipeline, &bucket_name(bucket));
        let (notes, _) = store.peek_table(link, &unit, rows).await?;
        for (row, text) in notes {
            let Some(known) = names.get(&row).and_then(|name| streams.get_mut(name)) else { continue };
            // What another unit noted counts as long as this one has nothing.
            let is_own = known.row.bucket(&row, section.buckets) == bucket;
            let is_older = known.row.before == Some(bucket) && known.notes == StreamNotes::default();
            if is_own || is_older {
                known.notes = serde_json::from_str(&text).unwrap_or_default();
            }
        }
    }
    Ok(streams)
}

/// Entries of the source that the target has not; none where that cannot be told.
pub fn lag_entries(source: &StreamFacts, target: Option<&StreamFacts>, mark: Option<&Mark>) -> Option<u64> {
    let Some(target) = target else { return Some(source.length) };
    if source.last <= target.last {
        return Some(0);
    }
    let base = mark.and_then(|mark| mark.counted)?;
    let copied = u64::try_from(i64::try_from(target.added?).ok()?.checked_sub(base)?).ok()?;
    source.added?.checked_sub(copied)
}

/// How far the target is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lag {
    /// Streams that are behind.
    streams: usize,
    /// Entries, of those streams whose entries can be counted.
    entries: u64,
    /// Something could not be counted, or was not asked.
    more: bool,
}

/// The summary of one sync pipeline; none before its streams are listed.
pub async fn sync_summary(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
    time_ms: u64,
) -> Result<Option<Summary>, StoreError> {
    let Some(section) = settings.sync.get(&pipeline.name) else { return Ok(None) };
    let streams = known(store, link, pipeline, section).await?;
    let paused = store.fact(link, pipeline, "paused_ms").await?.and_then(|since| since.parse::<u64>().ok());
    if streams.is_empty() && paused.is_none() {
        return Ok(None);
    }
    let copied = streams.iter().filter(|(_, known)| known.row.refused.is_empty()).map(|(name, _)| name);
    let copied: Vec<&StreamName> = copied.collect();
    let plan = wiring::sync_plan(&pipeline.name, section, 0);
    let asked = tokio::time::timeout(ENDS_MAX, lag(&plan, &copied)).await;
    let lag = match asked {
        Ok(Ok(lag)) => Ok(lag),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("source and target do not answer within {} ms", ENDS_MAX.as_millis())),
    };
    Ok(Some(sum_up(&streams, &lag, paused.map(|since| time_ms.saturating_sub(since)))))
}

/// Asks both ends, the target first: what is copied in between makes the lag smaller than it was, never negative.
async fn lag(plan: &SyncPlan, names: &[&StreamName]) -> Result<Lag, WireError> {
    let mut lag = Lag { more: names.len() > ASKED_MAX, ..Lag::default() };
    let (mut source, mut target) = (Lines::new(plan.source()), Lines::new(plan.target()));
    let target_db = plan.settings.target_db;
    for part in names[..names.len().min(ASKED_MAX)].chunk_by(|a, b| a.db == b.db).flat_map(|db| db.chunks(PAGE)) {
        let keys: Vec<Vec<u8>> = part.iter().map(|name| plan.settings.target_key(name.db, &name.key)).collect();
        let there = facts(&mut target, target_db, &keys).await?;
        let marks = marks_of(target.of(target_db, MARKS).await?, &keys).await?;
        let keys: Vec<Vec<u8>> = part.iter().map(|name| name.key.clone()).collect();
        let here = facts(&mut source, part[0].db, &keys).await?;
        for ((here, there), mark) in here.iter().zip(&there).zip(&marks) {
            let Some(here) = here else { continue };
            if here.last > there.as_ref().map_or(EntryId::ZERO, |there| there.last) {
                lag.streams += 1;
                match lag_entries(here, there.as_ref(), mark.as_ref()) {
                    Some(entries) => lag.entries = lag.entries.saturating_add(entries),
                    None => lag.more = true,
                }
            }
        }
    }
    Ok(lag)
}

/// What one end says of these keys; none of a key that is no stream. One request a node.
async fn facts(lines: &mut Lines, db: u16, keys: &[Vec<u8>]) -> Result<Vec<Option<StreamFacts>>, WireError> {
    let mut by_node: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
    let nodes = lines.nodes().await?;
    for (place, key) in keys.iter().enumerate() {
        by_node.entry(nodes.of(key)?).or_default().push(place);
    }
    let mut facts = vec![None; keys.len()];
    for (node, places) in by_node {
        let mut request = Request::new();
        places.iter().for_each(|place| ask_stream(&mut request, &keys[*place]));
        let line = lines.at(db, &node).await?;
        for (place, reply) in places.into_iter().zip(line.all(&request).await?) {
            facts[place] = match read_stream(line, &reply) {
                Err(WireError::Refused { .. }) => None,
                facts => facts?,
            };
        }
    }
    Ok(facts)
}

/// The line of a pipeline. Pure.
fn sum_up(streams: &BTreeMap<StreamName, Known>, lag: &Result<Lag, String>, paused_age_ms: Option<u64>) -> Summary {
    let refused = streams.values().filter(|known| !known.row.refused.is_empty()).count();
    let stopped = streams.values().filter(|known| !known.notes.stopped.is_empty()).count();
    let count = |kind| streams.values().map(|known| known.notes.count(kind)).fold(0, u64::saturating_add);
    let (gaps, conflicts) = (count(NoteKind::Gap), count(NoteKind::Conflict));
    let pending_lost: u64 = streams.values().map(|known| known.notes.pending_lost).fold(0, u64::saturating_add);
    let mut words = format!("streams {}", streams.len() - refused);
    match lag {
        Ok(Lag { streams: 0, more: false, .. }) => words.push_str(", lag 0"),
        Ok(lag) => {
            let more = if lag.more { " (or more)" } else { "" };
            words.push_str(&format!(", lag {} in {} of them{more}", lag.entries, lag.streams));
        }
        Err(_) => words.push_str(", lag unknown"),
    }
    for (number, what) in [(gaps, "lost"), (conflicts, "in conflict"), (refused as u64, "refused")] {
        if number > 0 {
            words.push_str(&format!(", {what} {number}"));
        }
    }
    if paused_age_ms.is_some() {
        words.push_str(", paused");
    }
    if stopped > 0 {
        words.push_str(&format!(", ALARM: {stopped} left alone (gapless sync status)"));
    }
    if let Err(reason) = lag {
        words.push_str(&format!("; {reason}"));
    }
    let facts = serde_json::json!({
        "streams": streams.len() - refused, "refused": refused, "stopped": stopped,
        "behind_streams": lag.as_ref().ok().map(|lag| lag.streams), "lag_entries": lag.as_ref().ok().map(|lag| lag.entries),
        "whole": lag.as_ref().is_ok_and(|lag| !lag.more), "ends": lag.as_ref().err(),
        "gap_entries": gaps, "conflict_entries": conflicts, "pending_lost": pending_lost, "paused_age_ms": paused_age_ms,
    });
    Summary { words, facts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::sync::Note;

    fn facts(last: u64, added: Option<u64>) -> StreamFacts {
        StreamFacts { length: 10, last: EntryId { ms: last, seq: 0 }, added, ..StreamFacts::default() }
    }

    fn streams() -> BTreeMap<StreamName, Known> {
        let name = |key: &str| StreamName { db: 0, key: key.as_bytes().to_vec() };
        let note = Note {
            kind: NoteKind::Gap,
            after: "1-0".to_owned(),
            through: "9-0".to_owned(),
            count: Some(8),
            only_there: Vec::new(),
            at_ms: 1,
        };
        let notes = StreamNotes { notes: vec![note], stopped: "why".to_owned(), ..StreamNotes::default() };
        let row = StreamRow { refused: "no".to_owned(), ..StreamRow::default() };
        BTreeMap::from([
            (name("a"), Known::default()),
            (name("b"), Known { notes, ..Known::default() }),
            (name("c"), Known { row, ..Known::default() }),
        ])
    }

    #[test]
    fn a_lag_is_counted_by_what_was_ever_added() {
        let mark = |counted| Mark { owner: "x".to_owned(), begun: true, counted };
        let lag =
            |here, there: Option<StreamFacts>, mark: Option<Mark>| lag_entries(&here, there.as_ref(), mark.as_ref());
        assert_eq!(lag(facts(9, Some(40)), Some(facts(9, Some(1))), None), Some(0), "the last ids are the same");
        assert_eq!(lag(facts(9, Some(40)), None, None), Some(10), "all that is there");
        assert_eq!(lag(facts(9, Some(40)), Some(facts(5, Some(30))), Some(mark(Some(0)))), Some(10));
        assert_eq!(lag(facts(9, Some(40)), Some(facts(5, Some(130))), Some(mark(Some(100)))), Some(10));
        assert_eq!(lag(facts(9, Some(40)), Some(facts(5, Some(30))), Some(mark(None))), None);
        assert_eq!(lag(facts(9, None), Some(facts(5, Some(30))), Some(mark(Some(0)))), None, "before Redis 7.0");
    }

    #[test]
    fn the_line_says_what_is_behind_and_what_needs_somebody() {
        let lag = Lag { streams: 1, entries: 20, more: false };
        let summary = sum_up(&streams(), &Ok(lag), None);
        let wanted = "streams 2, lag 20 in 1 of them, lost 8, refused 1, ALARM: 1 left alone (gapless sync status)";
        assert_eq!(summary.words, wanted);
        assert_eq!((&summary.facts["stopped"], &summary.facts["whole"]), (&1.into(), &true.into()));
        let good = BTreeMap::from_iter(streams().into_iter().take(1));
        assert_eq!(sum_up(&good, &Ok(Lag::default()), Some(5)).words, "streams 1, lag 0, paused");
        let away = sum_up(&good, &Err("redis://h:1 is out of reach: no".to_owned()), None);
        assert_eq!(away.words, "streams 1, lag unknown; redis://h:1 is out of reach: no");
        assert_eq!((&away.facts["lag_entries"], &away.facts["whole"]), (&serde_json::Value::Null, &false.into()));
    }
}
