//! `sync verify`: every entry, group and pending entry of both ends compared; what differs is named.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ends::{Ends, copied, exit_of, known};
use super::evidence::Checked;
use super::{Chosen, Desk, Exit, VerifyArgs, evidence, repair};
use crate::actors::stream_sync::{Difference, Side, difference, same_entry};
use crate::cli::output;
use crate::cli::words::{count, grouped, plain};
use crate::config::Deletes;
use crate::ids::EntryId;
use crate::messages::sync::StreamName;
use crate::sinks::replica::Clocks;
use crate::wire::look::{self, GroupFacts, PENDING_PAGE, PendingRow, entry, groups, pending, stream_facts};
use crate::wire::{Line, WireError};

/// Ids of one kind that are named.
const NAMED: usize = 20;
/// Entries between two lines of the progress file.
const PROGRESS_EVERY: u64 = 100_000;

/// What one stream came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// Which one, as [`StreamName::shown`].
    pub stream: String,
    /// Entries that both ends have alike.
    pub same: u64,
    /// Entries that the source has below the target's last id, and the target has not.
    pub missing: u64,
    /// Entries under one id with other content.
    pub other: u64,
    /// Entries that only the target has and should not have.
    pub extra: u64,
    /// Entries that only the target has, since the source has deleted them.
    pub kept: u64,
    /// Entries of the source above the target's last id.
    pub behind: u64,
    /// What differs of groups, pending entries and counters, in words.
    pub faults: Vec<String>,
    /// Some of the ids that differ.
    pub ids: Vec<String>,
    /// What checking the chain of digests came to, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Checked>,
    /// The stream was rebuilt; why it was not, if that was tried in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
    /// It was compared to its end.
    pub done: bool,
    /// Up to here, where it was not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
}

impl Verdict {
    /// Whether both ends are the same, as far as the target has come.
    pub fn is_good(&self) -> bool {
        self.missing + self.other + self.extra == 0 && self.faults.is_empty()
    }
}

pub(super) async fn run(desk: &Desk, chosen: &Chosen, args: &VerifyArgs) -> Result<Exit, Exit> {
    let known = known(desk, chosen).await?;
    let left_out: Vec<(String, String)> = match args.streams.stream.is_empty() {
        true => known.iter().map(|(name, known)| (name.shown(), known.row.refused.clone())).collect(),
        false => Vec::new(),
    };
    let left_out: Vec<(String, String)> = left_out.into_iter().filter(|(_, reason)| !reason.is_empty()).collect();
    let streams = copied(known, &args.streams.stream)?;
    if streams.is_empty() && left_out.is_empty() {
        return Err(Exit::missing("nothing was compared: no stream is listed; is a node running?"));
    }
    let mut ends = Ends::open(chosen).await?;
    let mut progress = Progress::open(args.progress.as_deref())?;
    let mut records = evidence::records(desk, chosen, streams.keys()).await?;
    let mut verdicts = Vec::new();
    for (name, known) in &streams {
        let before = progress.known.remove(&name.shown());
        let mut verdict = match before {
            Some(done) if done.done => done,
            before => {
                let began = before.unwrap_or_else(|| Verdict { stream: name.shown(), ..Verdict::default() });
                let mut verdict = or_fault(name, one(&mut ends, name, began, &mut progress).await)?;
                if chosen.section.evidence {
                    let records = records.remove(&name.shown()).unwrap_or_default();
                    match evidence::check(&mut ends, name, known, &records).await {
                        Ok((checked, faults)) => {
                            verdict.faults.extend(faults);
                            verdict.evidence = Some(checked);
                        }
                        Err(error @ WireError::Refused { .. }) => verdict.faults.push(format!("evidence: {error}")),
                        Err(error) => return Err(exit_of(&error)),
                    }
                }
                verdict
            }
        };
        if args.repair && verdict.missing + verdict.other > 0 {
            verdict = or_fault(name, mend(&mut ends, name, verdict, &mut progress).await)?;
        }
        progress.write(&verdict)?;
        if !desk.json {
            output::say(&line(&verdict));
        }
        verdicts.push(verdict);
    }
    if !desk.json {
        left_out.iter().for_each(|(name, reason)| output::say(&plain(&format!("refused  {name}  {reason}"))));
    }
    let bad = verdicts.iter().filter(|verdict| !verdict.is_good()).count();
    let same: u64 = verdicts.iter().map(|verdict| verdict.same).sum();
    let exit = if bad == 0 && left_out.is_empty() { Exit::good() } else { Exit::found() };
    if desk.json {
        let refused: Vec<_> =
            left_out.iter().map(|(name, reason)| json!({ "stream": name, "reason": reason })).collect();
        let answer = json!({
            "pipeline": chosen.pipeline.to_string(), "streams": verdicts, "bad": bad, "same": same, "refused": refused,
        });
        return Ok(output::json(&answer, exit));
    }
    let (streams, same) = (count(verdicts.len(), "stream", "streams"), grouped(same));
    let refused = if left_out.is_empty() { String::new() } else { format!(", {} refused", left_out.len()) };
    Ok(output::text(&format!("{streams}, {same} entries are the same, {bad} differ{refused}\n"), exit))
}

/// One stream that cannot be compared is a fault of that stream; an end that is away ends the comparison.
fn or_fault(name: &StreamName, compared: Result<Verdict, WireError>) -> Result<Verdict, Exit> {
    match compared {
        Err(WireError::Refused { address, reason, .. }) => {
            let faults = vec![format!("it cannot be compared: {address}: {reason}")];
            Ok(Verdict { stream: name.shown(), faults, ..Verdict::default() })
        }
        compared => compared.map_err(|error| exit_of(&error)),
    }
}

async fn mend(
    ends: &mut Ends,
    name: &StreamName,
    found: Verdict,
    progress: &mut Progress,
) -> Result<Verdict, WireError> {
    let told = repair::rebuild(ends, name).await?;
    let again = Verdict { stream: name.shown(), ..Verdict::default() };
    Ok(match told {
        None => Verdict { repair: Some("rebuilt".to_owned()), ..one(ends, name, again, progress).await? },
        Some(why) => Verdict { repair: Some(format!("not rebuilt: {why}")), ..found },
    })
}

/// Compares one stream from where it stopped.
pub(super) async fn one(
    ends: &mut Ends,
    name: &StreamName,
    mut verdict: Verdict,
    progress: &mut Progress,
) -> Result<Verdict, WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let deletes = ends.plan.settings.deletes;
    let counts = ends.source_server.counts() && ends.target_server.counts();
    let after: EntryId = verdict.after.parse().unwrap_or_default();
    let (source, target) = ends.both(name).await?;
    let there = stream_facts(target, &key).await?.unwrap_or_default();
    let here = stream_facts(source, &name.key).await?.unwrap_or_default();
    let (mut settled, began) = (0, verdict.clone());
    let found = {
        let (mut a, mut b) = (Side { line: source, key: &name.key }, Side { line: target, key: &key });
        // Whole pages are settled; a line of the progress file says up to where.
        difference(&mut a, &mut b, (after, there.last), NAMED, |at| {
            settled += 500;
            if settled >= PROGRESS_EVERY {
                settled = 0;
                progress.note(&began, at);
            }
        })
        .await?
    };
    let found = looked_again(ends, name, &key, found).await?;
    let (source, target) = ends.both(name).await?;
    let ahead = found.extra.iter().filter(|id| **id > here.last).count() as u64;
    // What the cap took below the target's first entry is no hole.
    let capped =
        matches!(deletes, Deletes::Cap(_)) && found.missing.iter().all(|id| there.first.is_some_and(|f| *id < f));
    verdict.same += found.same;
    verdict.missing += if capped { 0 } else { found.counts[0] };
    verdict.other += found.counts[2];
    match deletes {
        Deletes::Mirror => verdict.extra += found.counts[1],
        Deletes::Keep | Deletes::Cap(_) => {
            verdict.extra += ahead;
            verdict.kept += found.counts[1] - ahead;
        }
    }
    // What is kept on purpose is no fault, and is not called one.
    let is_fault = |id: &EntryId| deletes == Deletes::Mirror || *id > here.last;
    let (extra, kept): (Vec<EntryId>, Vec<EntryId>) = found.extra.iter().partition(|id| is_fault(id));
    let named = [("missing", &found.missing), ("extra", &extra), ("kept", &kept), ("other", &found.other)];
    let named = named.into_iter().filter(|(kind, _)| !(capped && *kind == "missing"));
    verdict.ids.extend(named.flat_map(|(kind, ids)| ids.iter().map(move |id| format!("{kind} {id}"))));
    verdict.behind = match here.last > there.last {
        true => {
            crate::wire::look::range(source, &name.key, &format!("({}", there.last), "+", 10_000).await?.items().len()
                as u64
        }
        false => 0,
    };
    let wanted: Vec<GroupFacts> = groups(source, &name.key).await?;
    let known = groups(target, &key).await?;
    let own: Vec<GroupFacts> = wanted.into_iter().filter(|group| !ends.plan.is_own_group(&group.name)).collect();
    if ends.plan.settings.groups.is_some() {
        compare_groups(ends, name, &key, (&own, &known), (there.last, counts), &mut verdict.faults).await?;
    }
    if there.last == here.last && counts && there.added != here.added && there.length <= here.added.unwrap_or(0) {
        let words = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        verdict.faults.push(format!("entries-added is {} here, {} there", words(here.added), words(there.added)));
    }
    verdict.done = true;
    verdict.after = String::new();
    Ok(verdict)
}

/// Streams live: what differed is looked at once more, entry by entry, before it is called a fault.
async fn looked_again(
    ends: &mut Ends,
    name: &StreamName,
    key: &[u8],
    mut found: Difference,
) -> Result<Difference, WireError> {
    let (source, target) = ends.both(name).await?;
    let mut settled = [0u64; 3];
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
                settled[kind] += 1;
                [&mut found.missing, &mut found.extra, &mut found.other][kind].retain(|known| *known != id);
            }
        }
    }
    for (count, settled) in found.counts.iter_mut().zip(settled) {
        *count -= settled;
    }
    found.same += settled[2];
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

fn line(verdict: &Verdict) -> String {
    let word = if verdict.is_good() { "same" } else { "DIFFERS" };
    let mut text = format!("{word:<8} {}  {} entries", verdict.stream, verdict.same);
    for (count, what) in [
        (verdict.missing, "missing"),
        (verdict.other, "of other content"),
        (verdict.extra, "only on the target"),
        (verdict.kept, "kept that the source has deleted"),
        (verdict.behind, "not copied yet"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(checked) = &verdict.evidence {
        text.push_str(&format!(", {} records of evidence hold", checked.good));
        if checked.gone > 0 {
            text.push_str(&format!(", {} were deleted since", checked.gone));
        }
    }
    verdict.faults.iter().for_each(|fault| text.push_str(&format!("\n         {fault}")));
    if !verdict.ids.is_empty() {
        text.push_str(&format!("\n         {}", verdict.ids.join(", ")));
    }
    if let Some(repair) = &verdict.repair {
        text.push_str(&format!("\n         {repair}"));
    }
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// The file that says how far a comparison is: a line of JSON for each step; the last line of a stream counts.
pub(super) struct Progress {
    pub known: BTreeMap<String, Verdict>,
    file: Option<std::fs::File>,
}

impl Progress {
    pub(super) fn none() -> Self {
        Self { known: BTreeMap::new(), file: None }
    }

    fn open(path: Option<&Path>) -> Result<Self, Exit> {
        let Some(path) = path else { return Ok(Self::none()) };
        let fault = |error: std::io::Error| Exit::usage(&format!("cannot use {}: {error}", path.display()));
        let mut known = BTreeMap::new();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                // A line that was cut off by a kill says nothing.
                for verdict in text.lines().filter_map(|line| serde_json::from_str::<Verdict>(line).ok()) {
                    known.insert(verdict.stream.clone(), verdict);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(error)),
        }
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(fault)?;
        Ok(Self { known, file: Some(file) })
    }

    fn write(&mut self, verdict: &Verdict) -> Result<(), Exit> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let line = serde_json::to_string(verdict).unwrap_or_default();
        writeln!(file, "{line}").map_err(|error| Exit::usage(&format!("cannot write the progress file: {error}")))
    }

    /// Up to `at` nothing is told twice: what was found before stands in `began`. Only a good part may be passed over.
    fn note(&mut self, began: &Verdict, at: EntryId) {
        let Some(file) = &mut self.file else { return };
        if !began.is_good() {
            return;
        }
        let verdict = Verdict { after: at.to_string(), ..began.clone() };
        let line = serde_json::to_string(&verdict).unwrap_or_default();
        // A progress that cannot be written costs a longer second look, nothing else.
        let _ = writeln!(file, "{line}");
    }
}
