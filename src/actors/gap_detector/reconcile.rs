//! Files and index compared: a held height whose block file is gone becomes a gap. (A file without a held height is
//! adopted by the pool.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::GapDetector;
use super::look::DetectorState;
use crate::actors::turn::Error;
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange, HeightSet};
use crate::sinks::store_marker;
use crate::store::effect::{Ack, Commit, Effect};
use crate::store::heights::PAGE;

/// Heights compared in one turn: one folder of the store, listed by names alone.
const SLICE_HEIGHTS: u64 = 1_000;
/// The pause between two of them.
pub(super) const WALK_PAUSE: Duration = Duration::from_millis(20);
/// How old the notes of another node may be that are gone on with after a takeover, in milliseconds.
const RECENT_MS: u64 = 600_000;
/// How often the place is written down.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// How far a comparison has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Walk {
    /// The next height; none when it has come to the end.
    pub next: Option<Height>,
    /// Server milliseconds of its last step; 0 if there never was one.
    pub at_ms: u64,
}

/// Whether this process has compared files and index: a folder may have changed while it did not run.
#[derive(Debug, Default)]
pub struct Walks {
    begun: AtomicBool,
}

/// The comparison as this life knows it.
#[derive(Debug, Default)]
pub(super) struct Walking {
    /// None before the first step of this life.
    walk: Option<Walk>,
    saved: Option<Instant>,
    /// When the next one begins.
    again: Option<Instant>,
}

/// What a step of the comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// Nothing to compare now.
    Resting,
    /// There is more.
    On,
    /// Heights are no longer held.
    Lost,
}

impl GapDetector {
    /// The place that the next commit writes down; none before the first step.
    pub(super) fn walk_so_far(&self) -> Option<Walk> {
        self.memory().walking.walk
    }

    /// One step: the held heights of one folder against the names in it.
    ///
    /// A crash loses at most the place: what is lost is found again.
    pub(super) async fn walk_on(&self) -> Result<Walked, Error> {
        let Some(next) = self.walk_due().await? else { return Ok(Walked::Resting) };
        // The index first: whatever is held then was durable before the folder is listed.
        let Some((slice, held)) = self.slice(next).await? else {
            self.walked_to(None).await?;
            return Ok(Walked::Resting);
        };
        let mut lost = held;
        let present = self.unit.outside(self.files.present(slice)).await?;
        present.ranges().iter().for_each(|range| lost.remove(*range));
        let after = slice.hi().checked_add(1).filter(|next| *next <= HEIGHT_MAX);
        if lost.is_empty() {
            self.walked_to(after).await?;
            return Ok(Walked::On);
        }
        self.insist_on_the_store().await?;
        let ranges: Vec<String> = lost.ranges().iter().take(5).map(ToString::to_string).collect();
        let (heights, ranges) = (lost.count(), ranges.join(", "));
        tracing::warn!(unit = %self.unit.lease.unit(), heights, ranges, "held blocks have no file; they become gaps");
        let dropped = self.drop_bad(&lost).await?;
        self.note_walk(after).await?;
        self.save_walk(dropped.effects).await?;
        self.count_lost(dropped.heights);
        Ok(if dropped.heights > 0 { Walked::Lost } else { Walked::On })
    }

    /// Where to go on; none while there is nothing to compare.
    async fn walk_due(&self) -> Result<Option<Height>, Error> {
        let known = {
            let memory = self.memory();
            let is_early = memory.walking.again.is_none_or(|again| Instant::now() < again);
            match memory.walking.walk {
                Some(Walk { next: None, .. }) if is_early => return Ok(None),
                Some(Walk { next, .. }) => Some(next.unwrap_or(0)),
                None => None,
            }
        };
        if known.is_some() {
            return Ok(known);
        }
        let lease = &self.unit.lease;
        if lease.store().fact(lease.link(), self.unit.pipeline(), "store").await?.is_none() {
            // No folder was ever registered for this pipeline.
            self.memory().walking.walk = Some(Walk::default());
            return Ok(None);
        }
        let now_ms = lease.store().now_ms(lease.link()).await?;
        let stored = self.state()?.walk;
        let is_first = !self.walks.begun.swap(true, Ordering::SeqCst);
        let is_takeover = !lease.node_before.is_empty() && lease.node_before != lease.store().node;
        let is_recent = stored.at_ms > 0 && stored.at_ms <= now_ms && now_ms - stored.at_ms < RECENT_MS;
        let walk = match is_first && !(is_takeover && is_recent) {
            true => Walk { next: Some(0), at_ms: now_ms },
            false => stored,
        };
        let again = self.next_walk(&walk, now_ms);
        let mut memory = self.memory();
        (memory.walking.walk, memory.walking.again) = (Some(walk), again);
        Ok(walk.next)
    }

    /// When the comparison after this one begins; none if there is none.
    fn next_walk(&self, walk: &Walk, now_ms: u64) -> Option<Instant> {
        let since = Duration::from_millis(now_ms.saturating_sub(walk.at_ms));
        self.plan.reconcile.map(|every| Instant::now() + every.saturating_sub(since))
    }

    /// The held heights of the folder that the next held height lies in, as far as one page reaches.
    async fn slice(&self, next: Height) -> Result<Option<(HeightRange, HeightSet)>, Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let rest = HeightRange::new(next, HEIGHT_MAX).map_err(Error::Fault)?;
        let held = store.held(link, self.unit.pipeline(), rest).await?;
        let (Some(first), Some(last)) = (held.first(), held.last()) else { return Ok(None) };
        let lo = first.range.lo().max(next);
        let mut hi = (lo / SLICE_HEIGHTS * SLICE_HEIGHTS).saturating_add(SLICE_HEIGHTS - 1).min(HEIGHT_MAX);
        if held.len() >= PAGE {
            hi = hi.min(last.range.hi());
        }
        let slice = HeightRange::new(lo, hi).map_err(Error::Fault)?;
        Ok(Some((slice, held.iter().filter_map(|piece| piece.range.intersect(slice)).collect())))
    }

    /// A folder that was unmounted looks like one whose every block is lost: then nothing may be dropped.
    async fn insist_on_the_store(&self) -> Result<(), Error> {
        let lease = &self.unit.lease;
        let expected = lease.store().fact(lease.link(), self.unit.pipeline(), "store").await?;
        let marker = self.unit.outside(self.files.marker()).await?;
        if marker.as_ref().map(|marker| marker.uuid.as_str()) == expected.as_deref() {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the folder of {} is no longer its store ({} is gone, or another one); mount the folder again: nothing was \
             taken out of the index",
            self.unit.pipeline(),
            store_marker::MARKER_NAME
        )))
    }

    /// Goes on at `next`, and writes the place down from time to time, and at the end.
    async fn walked_to(&self, next: Option<Height>) -> Result<(), Error> {
        let is_due = self.memory().walking.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY);
        if next.is_none() || is_due {
            self.note_walk(next).await?;
            return self.save_walk(Vec::new()).await;
        }
        if let Some(walk) = &mut self.memory().walking.walk {
            walk.next = next;
        }
        Ok(())
    }

    async fn note_walk(&self, next: Option<Height>) -> Result<(), Error> {
        let lease = &self.unit.lease;
        let at_ms = lease.store().now_ms(lease.link()).await?;
        let walk = Walk { next, at_ms };
        let again = self.next_walk(&walk, at_ms);
        let mut memory = self.memory();
        (memory.walking.walk, memory.walking.again) = (Some(walk), again);
        Ok(())
    }

    async fn save_walk(&self, effects: Vec<Effect>) -> Result<(), Error> {
        let Some(walk) = self.walk_so_far() else { return Ok(()) };
        let state = DetectorState { walk, ..self.state()? };
        let state = serde_json::to_string(&state).map_err(|e| Error::Fault(e.to_string()))?;
        self.unit.commit(&Commit { state: Some(state), ack: Ack::Nothing, effects }).await?;
        self.memory().walking.saved = Some(Instant::now());
        Ok(())
    }
}
