//! A final block that is contradicted: said loudly, noted for the operator, held against the endpoint. Nothing is
//! rewritten. Pure, but for the memory of one life.

use std::collections::BTreeMap;
use std::fmt;

use super::window::Mismatch;
use crate::messages::block::BlockHash;
use crate::messages::facts::{AlarmNote, ChainFacts};
use crate::messages::heights::Height;

/// Alarms that are kept for the operator, the newest ones.
const ALARMS_MAX: usize = 16;
/// Endpoints whose word is remembered; a source has no more.
const ENDPOINTS_MAX: usize = 64;

/// An endpoint's word against a held final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alarm {
    pub mismatch: Mismatch,
    /// Who showed it; empty where the source cannot tell.
    pub endpoint: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { height, held, shown } = &self.mismatch;
        let who = if self.endpoint.is_empty() { "the source" } else { &self.endpoint };
        let held = held.as_ref().map_or("another block", BlockHash::as_str);
        write!(f, "{who} shows {shown} at the final height {height}, where {held} is held")
    }
}

/// The fact `alarms` with one more: newest first, bounded; what came before is counted. A fact that cannot be read
/// (written by hand) begins anew.
pub(super) fn noted(before: &ChainFacts, alarm: &Alarm, now_ms: u64) -> Result<String, serde_json::Error> {
    let mut notes = before.alarms();
    let Mismatch { height, held, shown } = alarm.mismatch.clone();
    let is_same = |note: &AlarmNote| (note.height, &note.shown, &note.endpoint) == (height, &shown, &alarm.endpoint);
    let (times, first_ms) = match notes.iter().position(is_same) {
        Some(place) => {
            let note = notes.remove(place);
            (note.times.saturating_add(1), note.first_ms)
        }
        None => (1, now_ms),
    };
    let endpoint = alarm.endpoint.clone();
    notes.insert(0, AlarmNote { height, held, shown, endpoint, times, first_ms, last_ms: now_ms });
    notes.truncate(ALARMS_MAX);
    serde_json::to_string(&notes)
}

/// What each endpoint showed against a final block, in this life of the Collector.
#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<String, (Height, BlockHash)>);

impl Doubts {
    /// Remembers; true where the endpoint had not shown this yet.
    pub fn add(&mut self, alarm: &Alarm) -> bool {
        let shown = (alarm.mismatch.height, alarm.mismatch.shown.clone());
        if self.0.len() >= ENDPOINTS_MAX && !self.0.contains_key(&alarm.endpoint) {
            return false;
        }
        self.0.insert(alarm.endpoint.clone(), shown.clone()) != Some(shown)
    }

    /// The block that every endpoint that was heard showed, where all showed the same one: then they are not to blame.
    pub fn agree(&self) -> Option<(Height, &BlockHash, usize)> {
        let mut all = self.0.values();
        let first = all.next()?;
        all.all(|shown| shown == first).then_some((first.0, &first.1, self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(endpoint: &str, height: Height, shown: &str) -> Alarm {
        let hash = |text: &str| BlockHash::new(text).expect("a hash");
        Alarm {
            mismatch: Mismatch { height, held: Some(hash("h9")), shown: hash(shown) },
            endpoint: endpoint.to_owned(),
        }
    }

    #[test]
    fn alarms_are_listed_newest_first_counted_and_bounded() {
        let facts = |list: &str| ChainFacts { alarms: Some(list.to_owned()), ..ChainFacts::default() };
        let one = noted(&ChainFacts::default(), &alarm("a", 9, "x9"), 100).expect("a list");
        let two = noted(&facts(&one), &alarm("b", 9, "x9"), 200).expect("a list");
        let again = noted(&facts(&two), &alarm("a", 9, "x9"), 300).expect("a list");
        let notes: Vec<AlarmNote> = serde_json::from_str(&again).expect("a list");
        let seen: Vec<_> = notes.iter().map(|n| (n.endpoint.as_str(), n.times, n.first_ms, n.last_ms)).collect();
        assert_eq!(seen, [("a", 2, 100, 300), ("b", 1, 200, 200)]);
        let mut all = again;
        for height in 10..50 {
            all = noted(&facts(&all), &alarm("a", height, "x"), height).expect("a list");
        }
        let notes: Vec<AlarmNote> = serde_json::from_str(&all).expect("a list");
        assert_eq!((notes.len(), notes[0].height), (ALARMS_MAX, 49));
        assert!(noted(&facts("by hand"), &alarm("a", 9, "x9"), 1).is_ok());
    }

    #[test]
    fn endpoints_agree_only_on_the_same_block() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.agree(), None);
        assert!(doubts.add(&alarm("a", 9, "x9")) && !doubts.add(&alarm("a", 9, "x9")));
        assert!(doubts.add(&alarm("b", 9, "x9")));
        assert!(matches!(doubts.agree(), Some((9, _, 2))));
        assert!(doubts.add(&alarm("c", 9, "y9")));
        assert_eq!(doubts.agree(), None);
    }

    #[test]
    fn an_alarm_names_who_what_and_where() {
        assert_eq!(alarm("http://a", 9, "x9").to_string(), "http://a shows x9 at the final height 9, where h9 is held");
    }
}
