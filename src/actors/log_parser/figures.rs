//! What a LogParser says of its work, and how far it is behind the lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::state::ParserState;
use crate::actors::turn::{Error, Unit};
use crate::ids::EntryId;
use crate::telemetry::parse::ParseFigures;

/// How often the stream of lines is looked at, at the most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The figures of one life.
pub(super) struct Figures {
    figures: ParseFigures,
    seen: Mutex<Seen>,
}

/// How the stream of lines stood at the last look.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    at: Option<Instant>,
    /// Entries that were ever added, and those that it held.
    added: u64,
    length: u64,
    /// What the parser has missed of it, ever.
    missed: u64,
    /// See [`ParserState::place`].
    place: Option<u64>,
    /// The last entry that it had at a look at rest; none since there was work.
    at_rest: Option<EntryId>,
    /// Nothing waited then: until there is work there is nothing to look at.
    settled: bool,
}

impl Figures {
    pub fn new(unit: &Unit) -> Self {
        let figures = ParseFigures::new(&unit.metrics, &unit.pipeline().to_string());
        Self { figures, seen: Mutex::default() }
    }

    /// Before lines are parsed: looks at the stream, if that was not done a moment ago, and brings the place in `state` up
    /// to date.
    pub async fn before_work(&self, unit: &Unit, lines: &str, state: &mut ParserState) -> Result<(), Error> {
        let mut seen = *self.seen();
        (seen.at_rest, seen.settled) = (None, false);
        state.place = seen.place.or(state.place);
        if seen.at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) || state.place.is_none() {
            look(unit, lines, &mut seen).await?;
            // What is there at the very first look is what is to come, and nothing of it was dealt with.
            state.place = state.place.or(Some(seen.added.saturating_sub(seen.length)));
        }
        seen.place = state.place;
        self.keep(seen);
        Ok(())
    }

    /// When nothing was found that waits: where nothing waits indeed, the place is that of the newest line. `last` is the
    /// last line that was dealt with, if this life knows it.
    pub async fn at_rest(
        &self,
        unit: &Unit,
        lines: &str,
        state: &ParserState,
        last: Option<EntryId>,
    ) -> Result<(), Error> {
        let mut seen = *self.seen();
        if seen.settled {
            return Ok(());
        }
        let newest = look(unit, lines, &mut seen).await?;
        // What was the newest line at the rest before, and nothing was found since, is dealt with.
        seen.settled = seen.length == 0 || last == Some(newest) || seen.at_rest == Some(newest);
        seen.at_rest = Some(newest);
        seen.place = if seen.settled { Some(seen.added) } else { seen.place.or(state.place) };
        self.keep(seen);
        Ok(())
    }

    /// Lines were committed.
    pub fn committed(&self, state: &ParserState, events: u64, reasons: &BTreeMap<&'static str, u64>) {
        self.figures.committed(events, reasons);
        let seen = *self.seen();
        self.keep(Seen { place: state.place, ..seen });
    }

    /// Records left the outputs, so many of them before everybody had acknowledged them.
    pub fn trimmed(&self, records: u64, unread: u64) {
        self.figures.trimmed(records, unread);
    }

    fn keep(&self, seen: Seen) {
        *self.seen() = seen;
        self.figures.seen(lag(&seen), seen.missed);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks how the stream stands; answers its newest line.
async fn look(unit: &Unit, lines: &str, seen: &mut Seen) -> Result<EntryId, Error> {
    let (store, link) = (unit.lease.store(), unit.lease.link());
    let facts = store.output_facts(link, unit.pipeline(), lines).await?.unwrap_or_default();
    let missed = store.missed(link, unit.lease.unit(), lines).await?;
    if missed > seen.missed && seen.at.is_some() {
        let lines = missed - seen.missed;
        tracing::warn!(unit = %unit.lease.unit(), lines, "lines left the stream before they were parsed: it is full");
    }
    (seen.at, seen.missed, seen.added, seen.length) = (Some(Instant::now()), missed, facts.added, facts.length);
    Ok(facts.last)
}

/// Lines that wait, as far as the last look told.
fn lag(seen: &Seen) -> u64 {
    seen.place.map_or(seen.length, |place| seen.added.saturating_sub(place)).min(seen.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_behind_the_place_and_is_still_there_is_the_lag() {
        let seen = |added, length, place| Seen { added, length, place, ..Seen::default() };
        for (added, length, place, lines) in
            [(10, 10, None, 10), (10, 4, Some(6), 4), (10, 10, Some(7), 3), (10, 2, Some(0), 2), (5, 5, Some(9), 0)]
        {
            assert_eq!(lag(&seen(added, length, place)), lines);
        }
    }
}
