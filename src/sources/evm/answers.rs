//! The answers of one call while it is under way: what is known of each height, and what is still to be asked.

use crate::messages::heights::{Height, HeightRange};
use crate::sources::Fetched;

/// The answers for one range.
pub(super) struct Answers {
    range: HeightRange,
    known: Vec<Option<Fetched>>,
    /// Heights that the endpoint at hand has not been heard on, ascending.
    open: Vec<Height>,
}

impl Answers {
    /// Nothing is known yet.
    pub fn new(range: HeightRange) -> Self {
        let known = (range.lo()..=range.hi()).map(|_| None).collect();
        Self { range, known, open: Vec::new() }
    }

    /// Turns to another endpoint: it is asked for whatever is no block so far.
    pub fn turn_to_next(&mut self) {
        let heights = self.range.lo()..=self.range.hi();
        let missing = heights.zip(&self.known).filter(|(_, known)| !matches!(known, Some(Fetched::Block(_))));
        self.open = missing.map(|(height, _)| height).collect();
    }

    /// The next heights to ask for, at most `count`; none when the endpoint was heard on all.
    pub fn next(&self, count: u32) -> Vec<Height> {
        self.open.iter().copied().take(count.max(1) as usize).collect()
    }

    /// Takes an answer. A block counts for good; without one, the first endpoint's reason stands.
    pub fn take(&mut self, fetched: Fetched) {
        let height = match &fetched {
            Fetched::Block(block) => block.id.height,
            Fetched::Absent(height, _) => *height,
        };
        let Ok(place) = self.open.binary_search(&height) else { return };
        self.open.remove(place);
        // `open` holds heights of the range only, so the index fits.
        let known = &mut self.known[(height - self.range.lo()) as usize];
        if known.is_none() || matches!(fetched, Fetched::Block(_)) {
            *known = Some(fetched);
        }
    }

    /// How many heights have an answer.
    pub fn known(&self) -> usize {
        self.known.iter().flatten().count()
    }

    /// Whether each height has an answer.
    pub fn complete(&self) -> bool {
        self.known.iter().all(Option::is_some)
    }

    /// Whether each height has its block.
    pub fn all_blocks(&self) -> bool {
        self.known.iter().all(|known| matches!(known, Some(Fetched::Block(_))))
    }

    /// The answers, ascending; all of them if they are [`Self::complete`].
    pub fn finish(self) -> Vec<Fetched> {
        self.known.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Absence;

    #[test]
    fn the_next_endpoint_is_asked_for_what_the_first_lacks_and_the_first_reason_stands() {
        let mut answers = Answers::new(HeightRange::new(5, 7).expect("a range"));
        answers.turn_to_next();
        assert_eq!(answers.next(2), [5, 6]);
        answers.take(Fetched::Absent(6, Absence::Pruned("gone".into())));
        answers.take(Fetched::Absent(99, Absence::Unknown));
        assert_eq!(answers.next(9), [5, 7]);
        answers.turn_to_next();
        for height in 5..=7 {
            answers.take(Fetched::Absent(height, Absence::Unknown));
        }
        assert!(answers.complete() && !answers.all_blocks() && answers.next(9).is_empty());
        let pruned = Fetched::Absent(6, Absence::Pruned("gone".into()));
        let unknown = |height| Fetched::Absent(height, Absence::Unknown);
        assert_eq!(answers.finish(), [unknown(5), pruned, unknown(7)]);
    }
}
