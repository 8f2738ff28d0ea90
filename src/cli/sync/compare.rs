//! One stream of both ends compared: entries in steps, then groups, what they hold, and counters.

use std::collections::{BTreeMap, BTreeSet};

use super::ends::Ends;
use super::verify::Verdict;
use crate::actors::stream_sync::{Difference, Side, Terms, difference, same_entry};
use crate::config::Deletes;
use crate::http::sync::Known;
use crate::ids::EntryId;
use crate::messages::sync::StreamName;
use crate::sinks::replica::Clocks;
use crate::wire::look::{
    self, GroupFacts, PENDING_PAGE, PendingRow, StreamFacts, behind, entry, groups, pending, range, stream_facts,
};
use crate::wire::{Line, WireError};

/// Ids of one kind that are named.
const NAMED: usize = 20;
/// Entries of one step; what was found in it is looked at once more, and settled.
const STEP: u64 = 50_000;
/// Entries that are not copied yet are counted so far.
const BEHIND_MAX: usize = 10_000;

/// Compares one stream from where it stopped. `settled` hears of each step: what was found so far, and entries more.
pub(super) async fn one(
    ends: &mut Ends,
    (name, known): (&StreamName, &Known),
    mut verdict: Verdict,
    settled: &mut dyn FnMut(&Verdict, u64),
) -> Result<Verdict, WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let (_, target) = ends.both(name).await?;
    let there = stream_facts(target, &key).await?.unwrap_or_default();
    let foreign: BTreeSet<EntryId> = known.notes.foreign().collect();
    let capped = matches!(ends.plan.settings.deletes, Deletes::Cap(_));
    let mut terms = Terms {
        after: verdict.after.parse().unwrap_or_default(),
        foreign: &foreign,
        limit: STEP,
        tells: ends.source_server.tells_deletions(),
        // What the cap took below the target's first entry is no hole.
        floor: there.first.filter(|_| capped).unwrap_or_default(),
        keep: NAMED,
        ..Terms::through(there.last)
    };
    loop {
        let (source, target) = ends.both(name).await?;
        let (mut a, mut b) = (Side { line: source, key: &name.key }, Side { line: target, key: &key });
        let found = difference(&mut a, &mut b, terms).await?;
        let (found, stopped) = (looked_again(ends, name, &key, &found).await?, found.stopped);
        let entries = found.same + found.counts.iter().sum::<u64>();
        verdict.add(&found, ends.plan.settings.deletes);
        let Some(stopped) = stopped else { break };
        terms.after = stopped;
        verdict.after = stopped.to_string();
        settled(&verdict, entries);
    }
    ends_of_both(ends, (name, &key), &mut verdict).await?;
    (verdict.done, verdict.after) = (true, String::new());
    Ok(verdict)
}

impl Verdict {
    /// Takes in what one step found.
    fn add(&mut self, found: &Difference, deletes: Deletes) {
        let [missing, extra, other, kept, _] = found.counts;
        self.same += found.same;
        self.missing += missing;
        self.other += other;
        // What is kept on purpose is no fault, and is not called one.
        let is_mirror = deletes == Deletes::Mirror;
        self.extra += if is_mirror { extra + kept } else { extra };
        self.kept += if is_mirror { 0 } else { kept };
        let kept_word = if is_mirror { "extra" } else { "kept" };
        let named = [("missing", &found.missing), ("extra", &found.extra), (kept_word, &found.kept)];
        for (kind, ids) in named.into_iter().chain([("other", &found.other)]) {
            let there = self.ids.iter().filter(|id| id.starts_with(kind)).count();
            self.ids.extend(ids.iter().take(NAMED.saturating_sub(there)).map(|id| format!("{kind} {id}")));
        }
    }
}

/// What follows the entries: how far the target is, groups, counters.
async fn ends_of_both(
    ends: &mut Ends,
    (name, key): (&StreamName, &[u8]),
    verdict: &mut Verdict,
) -> Result<(), WireError> {
    let counts = ends.source_server.counts() && ends.target_server.counts();
    let mark = ends.mark(key).await?;
    let (source, target) = ends.both(name).await?;
    // The target first: the source may only be farther.
    let there = stream_facts(target, key).await?.unwrap_or_default();
    let here = stream_facts(source, &name.key).await?.unwrap_or_default();
    if here.last > there.last {
        let page = range(source, &name.key, &behind(there.last), "+", BEHIND_MAX).await?;
        verdict.behind = page.items().len() as u64;
    }
    if there.last > here.last && here != StreamFacts::default() {
        verdict.faults.push(format!(
            "the last id is {} here, {} there: what the source adds below that cannot be written",
            here.last, there.last
        ));
    }
    if ends.plan.settings.groups.is_some() {
        let (source, target) = ends.both(name).await?;
        let wanted: Vec<GroupFacts> = groups(source, &name.key).await?;
        let known = groups(target, key).await?;
        let own: Vec<GroupFacts> = wanted.into_iter().filter(|group| !ends.plan.is_own_group(&group.name)).collect();
        compare_groups(ends, name, key, (&own, &known), (there.last, counts), &mut verdict.faults).await?;
    }
    // Where the mark says by how much the counts differ; without it nobody ever compared them.
    let base = mark.and_then(|mark| mark.counted).filter(|_| counts && there.last == here.last);
    let wanted = here.added.zip(base).and_then(|(added, base)| added.checked_add_signed(base));
    if let Some(wanted) = wanted.filter(|wanted| there.added != Some(*wanted)) {
        let words = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let because = if here.added == Some(wanted) { String::new() } else { format!(" instead of {wanted}") };
        verdict.faults.push(format!(
            "entries-added is {} here, {} there{because}",
            words(here.added),
            words(there.added)
        ));
    }
    Ok(())
}

/// Streams live: what differed is looked at once more, entry by entry, before it is called a fault.
async fn looked_again(
    ends: &mut Ends,
    name: &StreamName,
    key: &[u8],
    found: &Difference,
) -> Result<Difference, WireError> {
    let mut found = found.clone();
    let (source, target) = ends.both(name).await?;
    for (kind, list) in [(0, found.missing.clone()), (1, found.extra.clone()), (2, found.other.clone())] {
        for id in list {
            let (here, there) = (entry(source, &name.key, id).await?, entry(target, key, id).await?);
            let good = match (here.items().first(), there.items().first()) {
                (Some(a), Some(b)) => same_entry((&here, a), (&there, b)),
                (None, None) => true,
                (Some(_), None) => kind != 0,
                (None, Some(_)) => kind == 0,
            };
            if good {
                found.counts[kind] -= 1;
                found.same += u64::from(kind == 2);
                found.lists()[kind].retain(|known| *known != id);
            }
        }
    }
    Ok(found)
}

async fn compare_groups(
    ends: &mut Ends,
    name: &StreamName,
    key: &[u8],
    (wanted, known): (&[GroupFacts], &[GroupFacts]),
    (top, counts): (EntryId, bool),
    faults: &mut Vec<String>,
) -> Result<(), WireError> {
    for group in wanted {
        let shown = String::from_utf8_lossy(&group.name).into_owned();
        let Some(there) = known.iter().find(|known| known.name == group.name) else {
            faults.push(format!("group {shown} is missing on the target"));
            continue;
        };
        if there.delivered != group.delivered.min(top) {
            faults.push(format!("group {shown} stands at {} here, at {} there", group.delivered, there.delivered));
        }
        if counts && group.delivered <= top && group.read.is_some() && there.read != group.read {
            let words =
                |read: Option<u64>| read.map_or_else(|| "an unknown number".to_owned(), |read| read.to_string());
            faults.push(format!("group {shown} has read {} here, {} there", words(group.read), words(there.read)));
        }
        let (source, target) = ends.both(name).await?;
        let wanted = look::consumers(source, &name.key, &group.name).await?;
        let known = look::consumers(target, key, &group.name).await?;
        let missing: Vec<_> = wanted.iter().filter(|consumer| !known.contains(consumer)).collect();
        if let Some(first) = missing.first() {
            let first = String::from_utf8_lossy(first);
            faults.push(format!("group {shown} lacks {} consumers on the target, {first} first", missing.len()));
        }
        let now = Clocks { source: look::now_ms(source).await?, target: look::now_ms(target).await? };
        let (here, held) =
            (all_pending(source, &name.key, &group.name).await?, all_pending(target, key, &group.name).await?);
        let mut lacks = 0u64;
        for (id, row) in here.iter().filter(|(id, _)| **id <= top) {
            let same = held.get(id).is_some_and(|held| now.is_same(row, held));
            if !same && !entry(target, key, *id).await?.items().is_empty() {
                lacks += 1;
            }
        }
        let extra = held.keys().filter(|id| !here.contains_key(id)).count();
        if lacks > 0 || extra > 0 {
            faults.push(format!(
                "group {shown}: {lacks} pending entries differ or are missing, {extra} are held only there"
            ));
        }
    }
    Ok(())
}

async fn all_pending(line: &mut Line, key: &[u8], group: &[u8]) -> Result<BTreeMap<EntryId, PendingRow>, WireError> {
    let (mut rows, mut after) = (BTreeMap::new(), EntryId::ZERO);
    loop {
        let page = pending(line, key, group, after).await?;
        let (count, last) = (page.len(), page.last().map(|row| row.id));
        rows.extend(page.into_iter().map(|row| (row.id, row)));
        match last {
            Some(last) if count == PENDING_PAGE => after = last,
            _ => return Ok(rows),
        }
    }
}
