//! The answers of one call while it is under way: what is known of each height, and what is still to be asked.

use super::ENDPOINTS_MAX;
use crate::messages::heights::{Height, HeightRange};
use crate::sources::{Absence, Fetched};

/// One bit for each endpoint: those that were heard.
type Heard = u64;
const _: () = assert!(ENDPOINTS_MAX <= Heard::BITS as usize);

/// What is known of one height.
#[derive(Default)]
struct Known {
    fetched: Option<Fetched>,
    heard: Heard,
    /// Requests that asked for it.
    attempts: u32,
}

/// The answers for one range.
pub struct Answers {
    range: HeightRange,
    known: Vec<Known>,
    /// All endpoints.
    everyone: Heard,
    /// The endpoint at hand.
    hearing: Heard,
    /// Heights that the endpoint at hand has not been heard on, ascending.
    open: Vec<Height>,
    /// The lowest height that the endpoint at hand was heard to lack.
    lacking: Option<Height>,
}

impl Answers {
    /// Nothing is known yet, and none of `endpoints` (1 to [`ENDPOINTS_MAX`]) was heard.
    pub fn new(range: HeightRange, endpoints: usize) -> Self {
        let known = (range.lo()..=range.hi()).map(|_| Known::default()).collect();
        let everyone = (0..endpoints).fold(0, |all, place| all | 1 << place);
        Self { range, known, everyone, hearing: 0, open: Vec::new(), lacking: None }
    }

    /// Turns to the endpoint at `place`: it is asked for what is no block so far, unless it was heard on that before.
    pub fn turn_to(&mut self, place: usize) {
        (self.hearing, self.lacking) = (1 << place, None);
        let heights = (self.range.lo()..=self.range.hi()).zip(&self.known);
        let missing = heights.filter(|(_, known)| !known.is_block() && known.heard & self.hearing == 0);
        self.open = missing.map(|(height, _)| height).collect();
    }

    /// The next heights to ask for, at most `count`; none when the endpoint was heard on all.
    pub fn next(&self, count: u32) -> Vec<Height> {
        self.open.iter().copied().take(count.max(1) as usize).collect()
    }

    /// How many of the heights that are still to be asked for are not above `last`.
    pub fn open_up_to(&self, last: Height) -> usize {
        self.open.partition_point(|height| *height <= last)
    }

    /// Notes that a request asks for these heights.
    pub fn ask(&mut self, heights: &[Height]) {
        for height in heights {
            if let Some(known) = self.at(*height) {
                known.attempts = known.attempts.saturating_add(1);
            }
        }
    }

    /// What is known of a height of the range.
    fn at(&mut self, height: Height) -> Option<&mut Known> {
        let place = usize::try_from(height.checked_sub(self.range.lo())?).ok()?;
        self.known.get_mut(place)
    }

    /// Takes an answer of the endpoint at hand. A block counts for good. Without one the first reason stands, but
    /// "pruned" is final and therefore yields to every other: one endpoint that may get the height is enough.
    pub fn take(&mut self, mut fetched: Fetched) {
        let height = match &fetched {
            Fetched::Block(block) => block.id.height,
            Fetched::Absent(height, _) => *height,
        };
        let Ok(place) = self.open.binary_search(&height) else { return };
        self.open.remove(place);
        if matches!(fetched, Fetched::Absent(_, Absence::Unknown | Absence::Pruned(_))) {
            self.lacking = Some(self.lacking.map_or(height, |lowest| lowest.min(height)));
        }
        let hearing = self.hearing;
        let Some(known) = self.at(height) else { return };
        known.heard |= hearing;
        if let Fetched::Block(block) = &mut fetched {
            block.origin.attempt = known.attempts;
        }
        let yields = matches!(known.fetched, None | Some(Fetched::Absent(_, Absence::Pruned(_))));
        let again = matches!(fetched, Fetched::Absent(_, Absence::Pruned(_))) && known.fetched.is_some();
        if matches!(fetched, Fetched::Block(_)) || (yields && !again) {
            known.fetched = Some(fetched);
        }
    }

    /// Whether the endpoint at hand lacks a height up to `head`, which the chain has.
    pub fn lacks_up_to(&self, head: Option<Height>) -> bool {
        self.lacking.zip(head).is_some_and(|(lowest, head)| lowest <= head)
    }

    /// How many heights have an answer.
    pub fn known(&self) -> usize {
        self.known.iter().filter(|known| known.fetched.is_some()).count()
    }

    /// The highest block.
    pub fn highest_block(&self) -> Option<Height> {
        let place = self.known.iter().rposition(Known::is_block)?;
        Some(self.range.lo() + place as u64)
    }

    /// Whether each height has an answer.
    pub fn complete(&self) -> bool {
        self.known.iter().all(|known| known.fetched.is_some())
    }

    /// Whether each height has its block.
    pub fn all_blocks(&self) -> bool {
        self.known.iter().all(Known::is_block)
    }

    /// The answers, ascending. Where an endpoint was not heard nobody knows of the absence, because of `silence`.
    pub fn finish(self, silence: &str) -> Vec<Fetched> {
        let unheard = |height, said: Option<Absence>| {
            let said = said.map(|absence| format!("; of those that were, one says: {absence}")).unwrap_or_default();
            Fetched::Absent(height, Absence::Unheard(format!("{silence}{said}")))
        };
        let judge = |(height, known): (Height, Known)| match known.fetched {
            Some(Fetched::Block(block)) => Fetched::Block(block),
            Some(Fetched::Absent(_, absence)) if known.heard == self.everyone => Fetched::Absent(height, absence),
            Some(Fetched::Absent(_, absence)) => unheard(height, Some(absence)),
            None => unheard(height, None),
        };
        (self.range.lo()..=self.range.hi()).zip(self.known).map(judge).collect()
    }
}

impl Known {
    fn is_block(&self) -> bool {
        matches!(self.fetched, Some(Fetched::Block(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(height: Height) -> Fetched {
        Fetched::Absent(height, Absence::Pruned("gone".into()))
    }

    fn unknown(height: Height) -> Fetched {
        Fetched::Absent(height, Absence::Unknown)
    }

    #[test]
    fn the_next_endpoint_is_asked_for_what_the_first_lacks_and_pruned_is_the_word_of_all() {
        let mut answers = Answers::new(HeightRange::new(5, 7).expect("a range"), 2);
        answers.turn_to(0);
        assert_eq!(answers.next(2), [5, 6]);
        answers.take(pruned(6));
        answers.take(unknown(99));
        assert_eq!(answers.next(9), [5, 7]);
        assert_eq!((answers.open_up_to(4), answers.open_up_to(6), answers.open_up_to(7)), (0, 1, 2));
        answers.take(unknown(5));
        answers.take(pruned(7));
        answers.turn_to(1);
        answers.take(pruned(5));
        answers.take(pruned(6));
        answers.take(unknown(7));
        assert!(answers.complete() && !answers.all_blocks() && answers.next(9).is_empty());
        answers.turn_to(0);
        assert!(answers.next(9).is_empty(), "nobody is asked twice for what it lacks");
        assert_eq!(answers.finish("-"), [unknown(5), pruned(6), unknown(7)]);
    }

    #[test]
    fn an_absence_that_one_endpoint_was_not_heard_on_is_unheard() {
        let mut answers = Answers::new(HeightRange::new(5, 7).expect("a range"), ENDPOINTS_MAX);
        for place in 0..ENDPOINTS_MAX {
            answers.turn_to(place);
            answers.take(pruned(5));
            if place != ENDPOINTS_MAX - 1 {
                answers.take(unknown(6));
            }
        }
        let unheard = |height, why: &str| Fetched::Absent(height, Absence::Unheard(why.to_owned()));
        let six = "a is down; of those that were, one says: the source has no such block (yet)";
        assert_eq!(answers.finish("a is down"), [pruned(5), unheard(6, six), unheard(7, "a is down")]);
    }
}
