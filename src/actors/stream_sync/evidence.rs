//! Evidence: records over what was written, committed now and then. What a death cuts off is read from the target again.

use std::time::Instant;

use super::StreamSync;
use super::hands::Hands;
use super::plan::evidence_name;
use super::stream::{Phase, Stream};
use super::trouble::Trouble;
use crate::actors::turn::Error;
use crate::ids::EntryId;
use crate::messages::evidence::{EvidenceRecord, RecordKind};
use crate::messages::sync::StreamName;
use crate::store::effect::{Commit, Effect, Fields};
use crate::store::trim::Keep;
use crate::wire::look::{behind, range};
use crate::wire::{Answer, Item};

/// Streams whose records go into one commit.
const STREAMS: usize = 100;
/// Entries of one page that is read again.
const PAGE: usize = 500;

/// A record that is being made.
#[derive(Debug)]
pub(super) struct Proof {
    hasher: blake3::Hasher,
    count: u64,
    through: EntryId,
    since: Instant,
}

impl Proof {
    pub(super) fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), count: 0, through: EntryId::ZERO, since: Instant::now() }
    }

    /// Adds entries, in order.
    pub(super) fn add<'a>(&mut self, bytes: &[u8], items: impl IntoIterator<Item = &'a Item>) {
        for item in items {
            self.hasher.update(item.id_bytes(bytes));
            self.hasher.update(item.fields(bytes));
            self.count += 1;
            self.through = item.id;
        }
    }

    /// How many entries, and their digest.
    pub(super) fn end(&self) -> (u64, String) {
        (self.count, self.hasher.finalize().to_hex().to_string())
    }
}

/// The entries of a stretch of the target, or of its rest that is there.
pub async fn digest_of(
    line: &mut crate::wire::Line,
    key: &[u8],
    (after, through): (EntryId, EntryId),
) -> Result<(u64, String), crate::wire::WireError> {
    let (mut proof, mut from) = (Proof::new(), after);
    loop {
        let page: Answer = range(line, key, &behind(from), &through.to_string(), PAGE).await?;
        proof.add(&page.bytes, page.items());
        match page.items().last() {
            Some(last) if page.items().len() == PAGE => from = last.id,
            _ => return Ok(proof.end()),
        }
        line.reuse(page.bytes);
    }
}

fn record(name: &StreamName, stream: &Stream, through: EntryId, (count, digest): (u64, String)) -> EvidenceRecord {
    let end = &stream.notes.proof;
    let after = Some(end.through.clone()).filter(|id| !id.is_empty()).unwrap_or_else(|| "0-0".to_owned());
    let (stream, through, prev) = (name.shown(), through.to_string(), end.chain.clone());
    EvidenceRecord { stream, after, through, count, digest, prev, ..EvidenceRecord::default() }
}

impl StreamSync {
    /// When a stream is taken up: what the target has and the chain does not cover is covered now.
    pub(super) async fn catch_up(&self, hands: &mut Hands, name: &StreamName, at_ms: u64) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get_mut(name).filter(|_| self.plan.settings.evidence) else { return Ok(()) };
        stream.proof = None;
        let (top, key) = (stream.position, stream.target.clone());
        let covered: EntryId = stream.notes.proof.through.parse().unwrap_or_default();
        if top == covered {
            return Ok(());
        }
        let found = match top > covered {
            true => digest_of(hands.target.of(&key).await?.line(), &key, (covered, top)).await?,
            false => (0, String::new()),
        };
        let Some(stream) = hands.streams.get_mut(name) else { return Ok(()) };
        let kind = if top > covered { RecordKind::Written } else { RecordKind::Rewound };
        let mut record = record(name, stream, top, found);
        (record.kind, record.at_ms) = (kind, at_ms);
        Ok(self.commit_records(hands, vec![(name.clone(), record)]).await?)
    }

    /// Commits the records that are old enough; all of them where the unit is about to rest.
    pub(super) async fn prove(&self, hands: &mut Hands, all: bool) -> Result<(), Error> {
        let settings = &self.plan.settings;
        if !settings.evidence {
            return Ok(());
        }
        let is_due = |stream: &Stream| {
            let old = |proof: &Proof| all || proof.since.elapsed() >= settings.evidence_every;
            stream.phase == Phase::Live && stream.proof.as_ref().is_some_and(old)
        };
        let names: Vec<StreamName> =
            hands.streams.iter().filter(|(_, stream)| is_due(stream)).map(|(name, _)| name.clone()).collect();
        for part in names.chunks(STREAMS) {
            let at_ms = self.target_ms(hands, part).await.map_err(|error| Error::Source(error.into()))?;
            let mut records = Vec::new();
            for name in part {
                let Some(stream) = hands.streams.get_mut(name) else { continue };
                let Some(proof) = stream.proof.take() else { continue };
                let mut record = record(name, stream, proof.through, proof.end());
                record.at_ms = at_ms;
                records.push((name.clone(), record));
            }
            self.commit_records(hands, records).await?;
        }
        Ok(())
    }

    async fn target_ms(&self, hands: &mut Hands, names: &[StreamName]) -> Result<u64, crate::wire::WireError> {
        let Some(name) = names.first() else { return Ok(0) };
        let (_, writer) = hands.both(&self.plan, name).await?;
        crate::wire::look::now_ms(writer.line()).await
    }

    /// Records and the ends of their chains are one commit: after a death both are there, or neither.
    async fn commit_records(&self, hands: &mut Hands, records: Vec<(StreamName, EvidenceRecord)>) -> Result<(), Error> {
        let (mut effects, mut fields, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (name, mut record) in records {
            record.chain = record.link();
            let Some(stream) = hands.streams.get_mut(&name) else { continue };
            let before = std::mem::replace(&mut stream.notes.proof, record.end());
            effects.push(stream.row(&name, self.rows_max()));
            ends.push((name, std::mem::replace(&mut stream.notes.proof, before)));
            fields.push(one_field(&record)?);
        }
        effects.push(Effect::Append { output: evidence_name(self.plan.bucket), records: fields });
        self.unit.commit(&Commit { effects, ..Commit::default() }).await?;
        for (name, end) in ends {
            if let Some(stream) = hands.streams.get_mut(&name) {
                stream.notes.proof = end;
            }
        }
        Ok(())
    }

    /// Lets the oldest records go.
    pub(super) async fn trim_evidence(&self) -> Result<(), Error> {
        if self.plan.settings.evidence {
            let newest = self.plan.settings.evidence_records;
            self.unit.lease.trim(&evidence_name(self.plan.bucket), Keep::Newest, newest, &[]).await?;
        }
        Ok(())
    }
}

fn one_field(record: &EvidenceRecord) -> Result<Fields, Error> {
    let text = serde_json::to_vec(record).map_err(|error| Error::Fault(error.to_string()))?;
    Ok(vec![(b"record".to_vec(), text)])
}
