//! Evidence: a chain of digests over what was copied, so that an auditor can prove that nothing was left out or altered.
//!
//! A record covers the entries of one stream behind one id and through another one: their number and the digest of their
//! bytes. It names the record before it, so none can be taken out, and each begins where the last one ended.

use serde::{Deserialize, Serialize};

use crate::ids::EntryId;

/// The end of a stream's chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// Up to where it reaches.
    pub through: String,
    /// The digest of its last record; empty before the first.
    pub chain: String,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// Entries that were written.
    #[default]
    Written,
    /// The target has lost entries: the chain goes on from a lower id.
    Rewound,
}

/// One record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// Which stream, as it is shown.
    pub stream: String,
    /// What it is about.
    #[serde(default)]
    pub kind: RecordKind,
    /// The entries lie behind this id,
    pub after: String,
    /// and not behind this one.
    pub through: String,
    /// How many.
    pub count: u64,
    /// blake3 over each entry's id and fields as Redis sends them (RESP2 texts), in order; hex.
    pub digest: String,
    /// `chain` of the record before; empty for the first.
    pub prev: String,
    /// blake3 over the other fields; hex.
    pub chain: String,
    /// When it was made, in milliseconds of the target's clock.
    pub at_ms: u64,
}

impl EvidenceRecord {
    /// The digest that `chain` must be.
    pub fn link(&self) -> String {
        let kind = match self.kind {
            RecordKind::Written => "written",
            RecordKind::Rewound => "rewound",
        };
        let text = [
            &self.prev,
            kind,
            &self.stream,
            &self.after,
            &self.through,
            &self.count.to_string(),
            &self.digest,
            &self.at_ms.to_string(),
        ];
        let mut hasher = blake3::Hasher::new();
        for part in text {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The end of the chain behind this record.
    pub fn end(&self) -> ChainEnd {
        ChainEnd { through: self.through.clone(), chain: self.chain.clone() }
    }

    /// The stretch that it covers.
    pub fn stretch(&self) -> (EntryId, EntryId) {
        (self.after.parse().unwrap_or_default(), self.through.parse().unwrap_or_default())
    }
}

/// What is wrong with the chain of one stream, oldest record first; nothing if it holds. Older records may have left: the
/// first one that is there is taken as it is.
pub fn broken(records: &[EvidenceRecord], end: &ChainEnd) -> Option<String> {
    let place = |record: &EvidenceRecord| format!("the record {}..{}", record.after, record.through);
    if let Some(record) = records.iter().find(|record| record.chain != record.link()) {
        return Some(format!("{} was altered", place(record)));
    }
    for pair in records.windows(2) {
        if pair[1].prev != pair[0].chain {
            return Some(format!("a record is missing before {}", place(&pair[1])));
        }
        if pair[1].kind == RecordKind::Written && pair[1].after != pair[0].through {
            return Some(format!("{} does not begin where the one before it ends", place(&pair[1])));
        }
    }
    // A unit at work may have added records since its end was read.
    let is_whole = end.chain.is_empty() || records.iter().any(|record| record.end() == *end);
    match records.last() {
        _ if is_whole => None,
        Some(last) => Some(format!("the chain ends at {}, and not at {}", last.through, end.through)),
        None => Some("no record of it is kept".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(after: u64, prev: &str) -> EvidenceRecord {
        let mut record = EvidenceRecord {
            stream: "db0:s".to_owned(),
            after: format!("{after}-0"),
            through: format!("{}-0", after + 10),
            count: 10,
            digest: "d".to_owned(),
            prev: prev.to_owned(),
            ..EvidenceRecord::default()
        };
        record.chain = record.link();
        record
    }

    #[test]
    fn a_record_that_is_altered_taken_out_or_added_breaks_the_chain() {
        let first = record(0, "");
        let second = record(10, &first.chain);
        let third = record(20, &second.chain);
        let (all, end) = ([first.clone(), second.clone(), third.clone()], third.end());
        assert_eq!(broken(&all, &end), None);
        assert_eq!(broken(&all[1..], &end), None, "older ones may have left");
        let says = |records: &[EvidenceRecord]| broken(records, &end).expect("a fault");
        let altered = EvidenceRecord { count: 9, ..second.clone() };
        assert!(says(&[first.clone(), altered, third.clone()]).contains("was altered"));
        assert!(says(&[first.clone(), third.clone()]).contains("missing before"));
        assert!(says(&all[..2]).contains("ends at 20-0"));
        assert!(says(&[]).contains("no record"));
        let apart = record(25, &third.chain);
        assert!(says(&[third, apart]).contains("does not begin"));
        assert_eq!(broken(&[], &ChainEnd::default()), None);
    }
}
