//! The chain of evidence, checked: no link altered or missing, and what each covers is on both ends, where it still is.

use super::ends::Ends;
use crate::http::sync::Known;
use crate::ids::EntryId;
use crate::messages::evidence::{Link, LinkKind, broken};
use crate::messages::sync::StreamName;
use crate::sinks::replica::{chain_key, digest_of, links};
use crate::wire::look::{StreamFacts, stream_facts};
use crate::wire::{Line, WireError};

/// Faults of one stream that are named, the first ones.
const NAMED: usize = 5;

/// What checking a chain came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Checked {
    /// Links whose entries are as they were, on one end at least and on neither of them others.
    pub good: u64,
    /// Links whose entries were deleted, lost or built anew since, at least in part.
    pub gone: u64,
    /// Links, among these, over what was there and that no batch of ours brought.
    pub found: u64,
}

/// One end of a stream.
struct End<'a> {
    word: &'static str,
    line: &'a mut Line,
    key: &'a [u8],
    facts: StreamFacts,
}

/// How a stretch of an end compares with its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// All of it is there.
    Whole,
    /// Some of it was deleted since.
    Less,
    /// There is something else.
    Other,
}

/// Checks the chain of one stream; answers what it came to, and the faults, the lowest first.
pub(super) async fn check(
    ends: &mut Ends,
    name: &StreamName,
    known: &Known,
) -> Result<(Checked, Vec<String>), WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let (source, target) = ends.both(name).await?;
    let kept = links(target, &chain_key(&key)).await?;
    let broken = broken(&key, &kept, &known.notes.proof);
    let mut faults: Vec<String> = broken.map(|words| format!("evidence: {words}")).into_iter().collect();
    let facts = stream_facts(target, &key).await?.unwrap_or_default();
    let mut there = End { word: "target", line: target, key: &key, facts };
    let facts = stream_facts(source, &name.key).await?.unwrap_or_default();
    let mut here = End { word: "source", line: source, key: &name.key, facts };
    let (mut checked, mut others) = (Checked::default(), 0u64);
    for (link, floor) in kept.iter().zip(floors(&kept)) {
        checked.found += u64::from(link.kind == LinkKind::Found);
        if link.count == 0 {
            continue;
        }
        let on_target = there.compare(link).await?;
        // What was found was never compared with the source by a link.
        let on_source = if link.kind == LinkKind::Found { Holds::Less } else { here.compare(link).await? };
        match (on_target, on_source) {
            // What lies above a later loss, or below a later repair, was written anew.
            (Holds::Other, _) | (_, Holds::Other) if link.last > floor => checked.gone += 1,
            (Holds::Other, _) | (_, Holds::Other) if faults.len() >= NAMED => others += 1,
            (Holds::Other, _) => faults.push(there.differs(link).await?),
            (_, Holds::Other) => faults.push(here.differs(link).await?),
            (Holds::Less, Holds::Less) => checked.gone += 1,
            (Holds::Whole, _) | (_, Holds::Whole) => checked.good += 1,
        }
    }
    if others > 0 {
        faults.push(format!("evidence: {others} more links do not hold"));
    }
    Ok((checked, faults))
}

/// Of each link the id above which what it says was superseded by a later one.
fn floors(links: &[Link]) -> Vec<EntryId> {
    let mut floor = EntryId { ms: u64::MAX, seq: u64::MAX };
    let mut floors: Vec<EntryId> = Vec::with_capacity(links.len());
    for link in links.iter().rev() {
        floors.push(floor);
        floor = match link.kind {
            LinkKind::Rewound => floor.min(link.last),
            LinkKind::Rebuilt => EntryId::ZERO,
            LinkKind::Written | LinkKind::Skipped | LinkKind::Found => floor,
        };
    }
    floors.reverse();
    floors
}

impl End<'_> {
    async fn compare(&mut self, link: &Link) -> Result<Holds, WireError> {
        let held = digest_of(self.line, self.key, (link.after, link.last), || ()).await?;
        let is_same = held.count == link.count && held.hex() == link.digest;
        if held.count < link.count {
            // Streams live: what was deleted a moment ago is explained by how the stream stands now.
            self.facts = stream_facts(self.line, self.key).await?.unwrap_or_default();
        }
        let may_be_less = held.count < link.count && self.may_be_deleted(link);
        Ok(if is_same {
            Holds::Whole
        } else if may_be_less {
            Holds::Less
        } else {
            Holds::Other
        })
    }

    /// Whether entries of a stretch may have been deleted here since: trimmed from below, or one by one.
    fn may_be_deleted(&self, link: &Link) -> bool {
        let first_gone = self.facts.first.is_none_or(|first| first > link.first);
        first_gone || self.facts.max_deleted.is_none_or(|deleted| deleted >= link.first)
    }

    async fn differs(&mut self, link: &Link) -> Result<String, WireError> {
        let held = digest_of(self.line, self.key, (link.after, link.last), || ()).await?;
        Ok(format!(
            "evidence: {} does not hold on the {}: there were {} entries, digest {:.16}; there are {}, {:.16}",
            link.shown(),
            self.word,
            link.count,
            link.digest,
            held.count,
            held.hex()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_anew_lies_above_a_loss_and_before_a_repair() {
        let link = |kind, last: u64| Link { kind, last: EntryId { ms: last, seq: 0 }, ..Link::default() };
        let links = [
            link(LinkKind::Written, 10),
            link(LinkKind::Rewound, 4),
            link(LinkKind::Written, 12),
            link(LinkKind::Rebuilt, 12),
            link(LinkKind::Written, 20),
        ];
        let of: Vec<u64> = floors(&links).iter().map(|floor| floor.ms).collect();
        assert_eq!(of, [0, 0, 0, u64::MAX, u64::MAX]);
        let of: Vec<u64> = floors(&links[..3]).iter().map(|floor| floor.ms).collect();
        assert_eq!(of, [4, u64::MAX, u64::MAX]);
    }
}
