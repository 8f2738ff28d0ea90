//! How a turn of the Collector becomes durable, and what is said of it then.

use super::Collector;
use super::alarm::{self, Alarm};
use super::event;
use super::window::{Mismatch, Recorded, Reorg, Window};
use crate::actors::turn::{Brought, Claimed, Error, Turn};
use crate::messages::block::{BlockHash, BlockRef};
use crate::messages::facts::ChainFacts;
use crate::messages::gap::{CollectorMessage, DetectorMessage};
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange};
use crate::sources::SourceError;
use crate::store::StoreError;
use crate::store::effect::{Ack, Commit, Effect, Outgoing};

/// Blocks that left the chain: how many, and the event that says so.
pub(super) type Orphaned = (u64, Vec<u8>);

impl Collector {
    /// The event of a reorganisation.
    pub(super) fn reorg_event(&self, reorg: &Reorg, window: &Window) -> Result<Vec<u8>, Error> {
        event::reorg(self.unit.pipeline(), reorg, window).map_err(|e| Error::Fault(e.to_string()))
    }

    /// Makes a turn durable. Where the blocks do not link to final ones, nothing is, and the alarm is answered.
    pub(super) async fn commit(
        &self,
        recorded: Recorded,
        orphaned: Option<Orphaned>,
        brought: &[Brought],
        wishes: &Claimed<CollectorMessage>,
        told: Option<Height>,
    ) -> Result<Option<Alarm>, Error> {
        let Recorded { window, head, finalized, mut effects } = recorded;
        if let Some((_, event)) = &orphaned {
            let channel = self.unit.lease.store().keys.reorgs(self.unit.pipeline());
            effects.push(Effect::Publish { channel, payload: event.clone() });
        }
        if let Some(head) = head {
            effects.push(Effect::Send {
                to: self.unit.address("gap_detector"),
                capacity: self.plan.capacity,
                messages: vec![Outgoing::new(&DetectorMessage::HeadMoved { head })?],
            });
        }
        let state = Some(serde_json::to_string(&window).map_err(|e| Error::Fault(e.to_string()))?);
        match self.try_commit(Commit { state, ack: wishes.ack, effects }, brought).await {
            Ok(()) => {}
            Err(StoreError::Link { below, above, hash, parent }) => {
                return Ok(Some(contradicted(brought, (below, &hash), (above, &parent))?));
            }
            Err(error) => return Err(error.into()),
        }
        let figures = &self.watch.figures;
        figures.set_heads(head, finalized);
        if let Some((depth, _)) = orphaned {
            figures.reorg(depth);
        }
        if let Some(newest) = brought.last() {
            figures.stored(brought.len() as u64, newest.id.time);
        }
        // News is what lies above the head of before; at the very first look the head alone.
        let news = head.map(|head| told.map_or(head, |told| head.min(told + 1)));
        for block in brought {
            block.say(&self.unit, news.is_some_and(|news| block.id.height >= news));
        }
        Ok(None)
    }

    async fn try_commit(&self, mut commit: Commit, brought: &[Brought]) -> Result<(), StoreError> {
        let mut answer = self.unit.commit(&commit).await;
        if let (Err(StoreError::Overlap { .. }), Some(lowest)) = (&answer, brought.first()) {
            match self.make_way(&lowest.id).await {
                Ok(effect) => commit.effects.insert(0, effect),
                Err(Error::Store(error)) => return Err(error),
                Err(error) => return Err(StoreError::Protocol(error.to_string())),
            }
            answer = self.unit.commit(&commit).await;
        }
        if let Err(StoreError::Full { .. } | StoreError::OutOfMemory(_)) = answer {
            // The detector looks by itself: a hint that finds no room must not hold the head up.
            commit.effects.retain(|effect| !matches!(effect, Effect::Send { .. }));
            answer = self.unit.commit(&commit).await;
        }
        answer.map(drop)
    }

    /// Takes out what is held from `lowest` upwards: after an index or a checkpoint was changed by hand,
    /// heights are held that the window knows nothing of. They are followed once more; their files are found.
    async fn make_way(&self, lowest: &BlockRef) -> Result<Effect, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let above = HeightRange::new(lowest.height, HEIGHT_MAX).map_err(Error::Fault)?;
        let held = store.held(link, self.unit.pipeline(), above).await?;
        let top = held.last().map_or(lowest.height, |piece| piece.range.hi());
        let range = HeightRange::new(lowest.height, top.max(lowest.height)).map_err(Error::Fault)?;
        tracing::warn!(unit = %self.unit.lease.unit(), %range, "held above the window; followed once more");
        let below = match held.first().filter(|piece| piece.range.lo() < lowest.height) {
            Some(piece) => self.files.wanted_at(piece, lowest.height - 1).await?,
            None => None,
        };
        Ok(Effect::Remove { range, below, above: None })
    }

    /// Says that a final block was contradicted, notes it for the operator, and leaves the endpoint alone. The others
    /// are asked; where nobody can be left alone, only an operator can help.
    pub(super) async fn sound(&self, alarm: Alarm, facts: &ChainFacts, ack: Ack) -> Result<Turn, Error> {
        let words = alarm.to_string();
        tracing::error!(unit = %self.unit.lease.unit(), reason = words, "ALARM: a final block is contradicted; nothing is rewritten");
        self.watch.figures.alarm();
        let now_ms = self.unit.lease.store().now_ms(self.unit.lease.link()).await?;
        let value = alarm::noted(facts, &alarm, now_ms).map_err(|e| Error::Fault(e.to_string()))?;
        let effects = vec![Effect::Put { field: "alarms", value }];
        self.unit.commit(&Commit { state: None, ack, effects }).await?;
        if alarm.endpoint.is_empty() {
            return Err(Error::Refused(format!(
                "the chain changed below finality: {words}; nothing was rewritten, an operator must decide"
            )));
        }
        self.source.distrust(&alarm.endpoint, &words);
        if self.watch.doubt(&alarm) {
            return Ok(Turn::Worked);
        }
        // It was left alone before and is heard again: not in a hurry.
        Err(SourceError::Distrusted { endpoint: alarm.endpoint, reason: words }.into())
    }
}

/// The alarm of a link that the commit refused: of `below`, which has the hash, and `above`, which names the parent, one
/// is held and the other was brought.
fn contradicted(
    brought: &[Brought],
    (below, hash): (Height, &str),
    (above, parent): (Height, &str),
) -> Result<Alarm, Error> {
    let name = |text: &str| BlockHash::new(text).map_err(Error::Fault);
    let of = |height| brought.iter().find(|block| block.id.height == height);
    let (held, shown, block) = match of(above) {
        Some(block) => (name(hash)?, name(parent)?, Some(block)),
        None => (name(parent)?, name(hash)?, of(below)),
    };
    let endpoint = block.map(|block| block.origin.endpoint.clone()).unwrap_or_default();
    Ok(Alarm { mismatch: Mismatch { height: below, held: Some(held), shown }, endpoint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::{Block, Origin};

    #[test]
    fn a_refused_link_names_the_held_block_and_the_shown_one() {
        let hash = |text: &str| BlockHash::new(text).expect("a hash");
        let id = BlockRef { height: 100, hash: hash("n100"), parent: hash("n99"), time: 0 };
        let origin = Origin { endpoint: "http://a".to_owned(), ..Origin::default() };
        let brought = Brought::of(&[Block { id, raw: Default::default(), origin }]);
        let alarm = contradicted(&brought, (99, "h99"), (100, "n99")).expect("an alarm");
        let expected = Mismatch { height: 99, held: Some(hash("h99")), shown: hash("n99") };
        assert_eq!((alarm.mismatch, alarm.endpoint.as_str()), (expected, "http://a"));
        // The held one may stand above.
        let alarm = contradicted(&brought, (100, "n100"), (101, "h100")).expect("an alarm");
        let expected = Mismatch { height: 100, held: Some(hash("h100")), shown: hash("n100") };
        assert_eq!((alarm.mismatch, alarm.endpoint.as_str()), (expected, "http://a"));
    }
}
