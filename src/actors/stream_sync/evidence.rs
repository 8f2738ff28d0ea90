//! Evidence: the chain of a stream reaches as far as the stream does, before anything more is written.

use super::StreamSync;
use super::attach::note;
use super::hands::Hands;
use super::trouble::Trouble;
use crate::config::OnTrouble;
use crate::ids::EntryId;
use crate::messages::evidence::{ChainEnd, LinkKind, broken};
use crate::messages::sync::{NoteKind, StreamName};
use crate::sinks::replica::{Digest, chain_key, digest_of, links};

impl StreamSync {
    /// When a stream is taken up: what the target has and no link covers is covered now. As a rule there is nothing: a
    /// batch brings its link. There is where evidence was off, where somebody else wrote, and where the target lost entries.
    pub(super) async fn catch_up(&self, hands: &mut Hands, name: &StreamName, at_ms: u64) -> Result<(), Trouble> {
        if !self.plan.settings.evidence {
            return Ok(());
        }
        self.compare_chain(hands, name, at_ms).await?;
        let Some(stream) = hands.streams.get(name) else { return Ok(()) };
        let (top, key) = (stream.position, stream.target.clone());
        let writer = hands.target.of(&key).await?;
        let covered = writer.head(&key).await?.map_or(EntryId::ZERO, |head| head.last);
        if top != covered {
            let (kind, found) = match top > covered {
                true => {
                    let read = digest_of(writer.line(), &key, (covered, top), || self.unit.progress());
                    (LinkKind::Found, read.await?)
                }
                false => (LinkKind::Rewound, Digest::default()),
            };
            tracing::info!(unit = %self.unit.lease.unit(), stream = name.shown(), kind = kind.as_str(), "evidence caught up");
            // A stream that has moved on meanwhile is noticed by the next batch, and taken up again.
            writer.add_link(&key, top, found.link(kind, (covered, top))).await?;
        }
        let end = writer.chain_end();
        if let Some(stream) = hands.streams.get_mut(name) {
            stream.chain = end;
        }
        Ok(())
    }

    /// Whether the chain holds the link that was written down of it: if not, somebody has altered it, and that is noted
    /// before the end is written down anew.
    async fn compare_chain(&self, hands: &mut Hands, name: &StreamName, at_ms: u64) -> Result<(), Trouble> {
        let Some(stream) = hands.streams.get(name) else { return Ok(()) };
        let (top, key) = (stream.position, stream.target.clone());
        // What this holder saw is newer than what was written down.
        let seen = [&stream.chain, &stream.notes.proof].into_iter().find(|end| **end != ChainEnd::default());
        let seen = seen.cloned().unwrap_or_default();
        let through: EntryId = seen.through.parse().unwrap_or_default();
        let writer = hands.target.of(&key).await?;
        let head = writer.head(&key).await?.map(|head| head.end()).unwrap_or_default();
        if head == seen {
            return Ok(());
        }
        // A target that has lost entries has lost their links with them; that is noted already.
        let why = match top >= through {
            true => broken(&key, &links(writer.line(), &chain_key(&key)).await?, &seen),
            false => Some(String::new()),
        };
        let Some(why) = why else { return Ok(()) };
        if let Some(stream) = hands.streams.get_mut(name) {
            (stream.chain, stream.notes.proof) = (ChainEnd::default(), ChainEnd::default());
        }
        if why.is_empty() {
            return Ok(self.note(hands, name).await?);
        }
        let note = note(NoteKind::Evidence, EntryId::ZERO, top, None, at_ms);
        self.add_note(hands, name, note, OnTrouble::GoOn, &format!("the chain of evidence is broken: {why}")).await
    }
}
