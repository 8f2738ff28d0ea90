//! The chain of digests, checked: no record altered or missing, and what each covers still is on the target.

use std::collections::BTreeMap;

use super::ends::Ends;
use super::{Chosen, Desk, Exit};
use crate::actors::stream_sync::{digest_of, evidence_name};
use crate::cli::desk::fault;
use crate::http::sync::Known;
use crate::ids::EntryId;
use crate::messages::evidence::{EvidenceRecord, RecordKind, broken};
use crate::messages::sync::{StreamName, bucket_of};
use crate::wire::WireError;
use crate::wire::look::{StreamFacts, stream_facts};

/// Records of one page.
const PAGE: u32 = 1000;
/// Faults of one stream that are named.
const NAMED: usize = 5;

/// The records of every stream, oldest first.
pub(super) type Records = BTreeMap<String, Vec<EvidenceRecord>>;

/// Reads the records of the buckets that have these streams.
pub(super) async fn records<'a>(
    desk: &Desk,
    chosen: &Chosen,
    streams: impl Iterator<Item = &'a StreamName>,
) -> Result<Records, Exit> {
    let mut records = Records::new();
    if !chosen.section.evidence {
        return Ok(records);
    }
    let names: std::collections::BTreeSet<String> = streams.map(StreamName::shown).collect();
    let buckets: std::collections::BTreeSet<u32> =
        names.iter().map(|name| bucket_of(name, chosen.section.buckets)).collect();
    for bucket in buckets {
        let mut after = EntryId::ZERO;
        loop {
            let output = evidence_name(bucket);
            let page = desk.store.output(&desk.link, &chosen.pipeline, &output, after, PAGE).await.map_err(fault)?;
            for entry in &page {
                let text = entry.text("record").unwrap_or_default();
                let record: EvidenceRecord = serde_json::from_str(&text).map_err(|error| {
                    Exit::missing(&format!("record {} of {output} cannot be read: {error}", entry.id))
                })?;
                if names.contains(&record.stream) {
                    records.entry(record.stream.clone()).or_default().push(record);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.id,
                _ => break,
            }
        }
    }
    Ok(records)
}

/// What checking a chain came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Checked {
    /// Records whose entries are on the target as they were.
    pub good: u64,
    /// Records whose entries were deleted or lost since, at least in part.
    pub gone: u64,
}

/// Checks the chain of one stream; answers what it came to, and the faults.
pub(super) async fn check(
    ends: &mut Ends,
    name: &StreamName,
    known: &Known,
    records: &[EvidenceRecord],
) -> Result<(Checked, Vec<String>), WireError> {
    let mut faults: Vec<String> =
        broken(records, &known.notes.proof).map(|words| format!("evidence: {words}")).into_iter().collect();
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let (_, target) = ends.both(name).await?;
    let facts = stream_facts(target, &key).await?.unwrap_or_default();
    let mut checked = Checked::default();
    // What lies above a later rewind was copied anew, as far as the source still had it.
    let mut floor = EntryId { ms: u64::MAX, seq: u64::MAX };
    for record in records.iter().rev() {
        let (after, through) = record.stretch();
        if record.kind == RecordKind::Rewound {
            floor = floor.min(through);
            continue;
        }
        if record.count == 0 {
            continue;
        }
        let (count, digest) = digest_of(target, &key, (after, through)).await?;
        if count == record.count && digest == record.digest {
            checked.good += 1;
        } else if through > floor || may_be_deleted(&facts, after, count < record.count) {
            checked.gone += 1;
        } else if faults.len() < NAMED {
            faults.push(format!(
                "evidence: behind {after} through {through} there were {} entries, digest {:.16}; there are {count}, {:.16}",
                record.count, record.digest, digest
            ));
        }
    }
    Ok((checked, faults))
}

/// Whether entries of a stretch may have been deleted on the target since: trimmed from below, or one by one.
fn may_be_deleted(facts: &StreamFacts, after: EntryId, fewer: bool) -> bool {
    let first_gone = facts.first.is_none_or(|first| first > after);
    fewer && (first_gone || facts.max_deleted.is_none_or(|deleted| deleted > after))
}
