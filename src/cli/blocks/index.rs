//! What Redis says of a chain, gathered for one command.

use serde::Deserialize;

use super::{Chosen, Desk, Exit, fault};
use crate::ids::UnitId;
use crate::messages::block::Piece;
use crate::messages::facts::{AlarmNote, ChainFacts};
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::store::heights::{PAGE, Parked};

/// The facts and sets of one pipeline. A picture of a set that others change.
#[derive(Default)]
pub(super) struct Index {
    /// The chain's id; none before the Collector has seen it.
    pub chain_id: Option<String>,
    /// The newest height that the Collector has committed.
    pub head: Option<Height>,
    /// The lowest wanted height.
    pub start: Option<Height>,
    /// The highest height that can no longer change.
    pub finalized: Option<Height>,
    /// Final blocks that an endpoint contradicted, newest first.
    pub alarms: Vec<AlarmNote>,
    /// The held pieces, ascending.
    pub held: Vec<Piece>,
    /// The parked ranges, ascending.
    pub parked: Vec<Parked>,
}

/// A range that the detector has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Request {
    /// The heights.
    pub range: HeightRange,
    /// Server milliseconds of the asking.
    pub at_ms: u64,
}

/// What the detector's checkpoint says of its requests; ages only, no truth.
#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    requested: Vec<Request>,
}

impl Index {
    /// Reads it; `within` bounds the sets.
    pub async fn read(desk: &Desk, chosen: &Chosen, within: Option<HeightRange>) -> Result<Self, Exit> {
        let fields = desk.store.facts(&desk.link, &chosen.pipeline).await.map_err(fault)?;
        let facts = ChainFacts::read(&fields, chosen.section.confirmations);
        let alarms = facts.alarms();
        let ChainFacts { chain_id, head, start, finalized, .. } = facts;
        let mut index = Self { chain_id, head, start, finalized, alarms, held: Vec::new(), parked: Vec::new() };
        if let Some(range) = within.or(index.wanted(chosen)) {
            index.held = pages(range, |part| desk.store.held(&desk.link, &chosen.pipeline, part), |p| p.range).await?;
            index.parked = parked(desk, chosen, range).await?;
        }
        Ok(index)
    }

    /// From the start to the head, as committed.
    pub fn wanted(&self, chosen: &Chosen) -> Option<HeightRange> {
        let head = chosen.section.end.map_or(self.head?, |end| end.min(self.head.unwrap_or(end)));
        HeightRange::new(self.start?, head).ok()
    }

    /// Heights of `range` that are not held, the parked ones included.
    pub fn not_held(&self, range: HeightRange) -> HeightSet {
        let mut missing = HeightSet::from_iter([range]);
        self.held.iter().for_each(|piece| missing.remove(piece.range));
        missing
    }

    /// Heights of `range` that are neither held nor parked.
    pub fn missing(&self, range: HeightRange) -> HeightSet {
        let mut missing = self.not_held(range);
        self.parked.iter().for_each(|parked| missing.remove(parked.range));
        missing
    }

    /// Heights held within `range`.
    pub fn held_count(&self, range: HeightRange) -> u64 {
        self.held.iter().filter_map(|piece| piece.range.intersect(range)).map(HeightRange::count).sum()
    }

    /// The oldest request for anything of `range`, in server milliseconds.
    pub fn asked_ms(requests: &[Request], range: HeightRange) -> Option<u64> {
        let asked = requests.iter().filter(|request| request.range.intersect(range).is_some());
        asked.map(|request| request.at_ms).min()
    }

    /// Heights parked.
    pub fn parked_count(&self) -> u64 {
        self.parked.iter().map(|parked| parked.range.count()).sum()
    }
}

/// What the detector has asked for, as it committed last; nothing where that cannot be read.
pub(super) async fn requests(desk: &Desk, chosen: &Chosen) -> Result<Vec<Request>, Exit> {
    let unit = UnitId::exclusive(&chosen.pipeline, "gap_detector");
    let shown = desk.store.checkpoint(&desk.link, &unit).await.map_err(fault)?;
    // Another release may write other things there: the age of a request is no reason to show nothing.
    Ok(shown.and_then(|shown| serde_json::from_str::<Asked>(&shown.state).ok()).unwrap_or_default().requested)
}

/// The parked ranges that touch `range`, ascending.
pub(super) async fn parked(desk: &Desk, chosen: &Chosen, range: HeightRange) -> Result<Vec<Parked>, Exit> {
    let parked = pages(range, |part| desk.store.parked(&desk.link, &chosen.pipeline, part), |p| p.range);
    Ok(joined(parked.await?))
}

/// Neighbours that were parked for the same reason, task by task, are one range to people: parked since the first.
fn joined(parked: Vec<Parked>) -> Vec<Parked> {
    let mut all: Vec<Parked> = Vec::new();
    for parked in parked {
        match all.last_mut() {
            Some(last) if last.range.hi() + 1 == parked.range.lo() && last.reason == parked.reason => {
                last.range = last.range.hull(parked.range);
                last.since_ms = last.since_ms.zip(parked.since_ms).map(|(one, other)| one.min(other));
            }
            _ => all.push(parked),
        }
    }
    all
}

/// Reads a set page by page.
async fn pages<T, F>(
    range: HeightRange,
    read: impl Fn(HeightRange) -> F,
    place: impl Fn(&T) -> HeightRange,
) -> Result<Vec<T>, Exit>
where
    F: Future<Output = Result<Vec<T>, crate::store::StoreError>>,
{
    let (mut all, mut rest) = (Vec::new(), Some(range));
    while let Some(part) = rest {
        let page = read(part).await.map_err(fault)?;
        rest = match page.last() {
            Some(last) if page.len() >= PAGE => HeightRange::new(place(last).hi() + 1, range.hi()).ok(),
            _ => None,
        };
        all.extend(page);
    }
    Ok(all)
}
