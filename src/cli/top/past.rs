//! What the view remembers: the sample before, who held what, which nodes are gone, and since when Redis is away.

use std::collections::{BTreeMap, VecDeque};

use crate::http::status::{MailboxStatus, NodeStatus, Status};
use crate::http::units::UnitStatus;

/// Moves that are kept to be shown; all of them are counted.
const MOVES_KEPT: usize = 1_000;
/// Nodes that are remembered after their end.
const GONE_KEPT: usize = 64;
/// How long they are shown, and what counts as lately; milliseconds.
pub(super) const LATELY_MS: u64 = 60_000;

/// One lease that went from one holder to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    /// Server milliseconds at which it was seen.
    pub at_ms: u64,
    pub unit: String,
    pub from: String,
    pub to: String,
}

/// Since when there is no fresh sample, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Away {
    /// Milliseconds since 1970 by the clock of this host: that of Redis cannot be asked.
    pub since_ms: u64,
    pub reason: String,
    /// It answers, but not with what was asked for.
    pub refuses: bool,
}

/// A node as the leases know it: names may repeat, incarnations may be unknown for a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    node: String,
    incarnation: String,
}

/// Everything that was seen so far, bounded.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub previous: Option<Status>,
    pub current: Option<Status>,
    pub away: Option<Away>,
    /// Moves since the view began.
    pub moves_total: u64,
    /// The newest of them, newest first.
    pub moves: VecDeque<Move>,
    /// Nodes that were there, with the server milliseconds at which they were missed first; newest first.
    pub gone: VecDeque<(NodeStatus, u64)>,
    holders: BTreeMap<String, Holder>,
}

impl Past {
    /// A fresh sample.
    pub fn note(&mut self, status: Status) {
        self.away = None;
        self.note_moves(&status);
        self.note_gone(&status);
        self.previous = self.current.replace(status);
    }

    /// No sample this time; the last picture stays.
    pub fn note_away(&mut self, now_ms: u64, reason: String, refuses: bool) {
        let since_ms = self.away.as_ref().map_or(now_ms, |away| away.since_ms);
        self.away = Some(Away { since_ms, reason, refuses });
    }

    fn note_moves(&mut self, status: &Status) {
        for unit in status.units.iter().filter(|unit| unit.is_held()) {
            let now = Holder { node: unit.node.clone(), incarnation: unit.incarnation.clone() };
            let Some(before) = self.holders.get_mut(&unit.unit) else {
                self.holders.insert(unit.unit.clone(), now);
                continue;
            };
            // Of a holder that says nothing yet only the name is known.
            let unknown = now.incarnation.is_empty() || before.incarnation.is_empty();
            if before.node == now.node && (unknown || before.incarnation == now.incarnation) {
                if !now.incarnation.is_empty() {
                    *before = now;
                }
                continue;
            }
            let [from, to] = [&before.node, &now.node].map(Clone::clone);
            *before = now;
            self.moves_total += 1;
            self.moves.push_front(Move { at_ms: status.time_ms, unit: unit.unit.clone(), from, to });
        }
        self.moves.truncate(MOVES_KEPT);
        // A unit that is no more named by anybody is forgotten, so that nothing grows.
        self.holders.retain(|name, _| status.units.iter().any(|unit| unit.unit == *name));
    }

    fn note_gone(&mut self, status: &Status) {
        let there = |node: &NodeStatus| status.nodes.iter().any(|other| other.incarnation == node.incarnation);
        let before = self.current.iter().flat_map(|before| &before.nodes);
        for node in before.filter(|node| !there(node)) {
            self.gone.push_front((node.clone(), status.time_ms));
        }
        self.gone.retain(|(node, at_ms)| !there(node) && status.time_ms.saturating_sub(*at_ms) < LATELY_MS);
        self.gone.truncate(GONE_KEPT);
    }

    /// Moves within the last minute, of those kept.
    pub fn moves_lately(&self) -> usize {
        let now = self.current.as_ref().map_or(0, |status| status.time_ms);
        self.moves.iter().filter(|one| now.saturating_sub(one.at_ms) < LATELY_MS).count()
    }

    /// Seconds between the two samples; none where there is only one, or where a clock went back.
    fn seconds(&self) -> Option<f64> {
        let (previous, current) = (self.previous.as_ref()?, self.current.as_ref()?);
        let passed = current.time_ms.checked_sub(previous.time_ms).filter(|ms| *ms > 0)?;
        Some(passed as f64 / 1000.0)
    }

    /// Each unit's commits a second. A count that went back (a failover, a rewind) has none this time.
    pub fn commit_rates(&self) -> BTreeMap<&str, f64> {
        let (Some(seconds), Some(previous), Some(current)) = (self.seconds(), &self.previous, &self.current) else {
            return BTreeMap::new();
        };
        let before: BTreeMap<&str, u64> = previous.units.iter().map(|unit| (unit.unit.as_str(), unit.seq)).collect();
        let rate = |unit: &UnitStatus| Some(unit.seq.checked_sub(*before.get(unit.unit.as_str())?)? as f64 / seconds);
        current.units.iter().filter_map(|unit| Some((unit.unit.as_str(), rate(unit)?))).collect()
    }

    /// Each mailbox's entries in and out a second.
    pub fn mail_rates(&self) -> BTreeMap<&str, (f64, f64)> {
        let (Some(seconds), Some(previous), Some(current)) = (self.seconds(), &self.previous, &self.current) else {
            return BTreeMap::new();
        };
        let before: BTreeMap<&str, &MailboxStatus> =
            previous.mailboxes.iter().map(|m| (m.mailbox.as_str(), m)).collect();
        let rate = |now: &MailboxStatus| {
            let before = before.get(now.mailbox.as_str())?;
            // Before its first entry a mailbox has counted nothing.
            let added = now.added?.checked_sub(before.added.unwrap_or(0))?;
            // What was there and what came, without what is there now, went out.
            let gone = (before.waiting + added).saturating_sub(now.waiting);
            Some((added as f64 / seconds, gone as f64 / seconds))
        };
        current.mailboxes.iter().filter_map(|m| Some((m.mailbox.as_str(), rate(m)?))).collect()
    }
}
