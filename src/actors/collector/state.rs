//! What the Collector's checkpoint holds, and what an operator's rewind makes of it. Pure.

use serde::{Deserialize, Serialize};

use super::window::Window;
use crate::actors::turn::rewind::{Rewound, Target, again_from};
use crate::messages::heights::Height;

/// The checkpoint's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorState {
    /// The topmost blocks.
    #[serde(flatten)]
    pub window: Window,
    /// After a rewind: what is held from here on is taken out before anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_from: Option<Height>,
    /// Server milliseconds since when an operator has it paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_ms: Option<u64>,
}

impl CollectorState {
    /// Reads it; an empty text is that of a pipeline that begins.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|e| format!("the checkpoint's state cannot be read: {e}"))
    }

    /// The highest height that counts as followed; none before the first, and after a rewind to the very beginning.
    fn position(&self) -> Option<Height> {
        match self.again_from {
            Some(again) => again.checked_sub(1),
            None => self.window.top().map(|(top, _)| top),
        }
    }
}

/// The state that sends the Collector back to `target`. `start` is the lowest wanted height.
pub fn rewind(state: &str, target: &Target, start: Height) -> Result<Rewound, String> {
    let mut state = CollectorState::parse(state)?;
    let Some(from) = state.position().filter(|from| *from >= start) else {
        return Err("it has followed no block yet: there is nothing to rewind".to_owned());
    };
    let stood = |text: &str| CollectorState::parse(text).map(|state| state.position());
    let again = again_from(target, start, from, stood)?;
    state.window.keep_below(again);
    state.again_from = Some(again);
    let text = serde_json::to_string(&state).map_err(|e| e.to_string())?;
    Ok(Rewound {
        state: text,
        from,
        again,
        replayed: format!(
            "heights {again}..{from} are taken out of the held ones and collected again: by the pool where they are \
             final, above that by the collector; blocks that stand in the store whole are found there, not written again"
        ),
        lost: vec![
            "blocks that have left the chain do not come again; their files are kept".to_owned(),
            "parked heights stay parked; gapless blocks unpark lets them go".to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::block::BlockHash;

    fn state(lowest: Height, count: u64) -> CollectorState {
        let hash = |height: Height| BlockHash::new(&format!("h{height}")).expect("a hash");
        let hashes = (lowest..lowest + count).map(hash).collect();
        let window = Window { lowest, hashes, parent: lowest.checked_sub(1).map(hash) };
        CollectorState { window, ..CollectorState::default() }
    }

    fn text(state: &CollectorState) -> String {
        serde_json::to_string(state).expect("JSON")
    }

    fn rewound(before: &CollectorState, target: Target, start: Height) -> (CollectorState, Rewound) {
        let rewound = rewind(&text(before), &target, start).expect("a rewind");
        (CollectorState::parse(&rewound.state).expect("a state"), rewound)
    }

    #[test]
    fn within_the_window_the_rest_of_it_is_kept() {
        let (after, rewound) = rewound(&state(91, 10), Target::By(3), 0);
        assert_eq!((after.window, after.again_from), (state(91, 7).window, Some(98)));
        assert_eq!((rewound.from, rewound.again, rewound.count()), (100, 98, 3));
    }

    #[test]
    fn below_the_window_it_begins_at_finality_again() {
        for (target, again) in [(Target::To(90), 91), (Target::By(60), 41), (Target::Stood(String::new()), 7)] {
            let (after, rewound) = rewound(&state(91, 10), target, 7);
            assert_eq!((after.window, after.again_from), (Window::default(), Some(again)));
            assert_eq!(rewound.count(), 101 - again);
        }
    }

    #[test]
    fn it_may_be_sent_back_twice_and_stays_paused() {
        let before = CollectorState { paused_ms: Some(5), ..state(91, 10) };
        let (once, _) = rewound(&before, Target::By(2), 0);
        let (twice, rewound) = rewound(&once, Target::By(2), 0);
        assert_eq!((rewound.from, rewound.again), (98, 97));
        assert_eq!((twice.again_from, twice.paused_ms), (Some(97), Some(5)));
    }

    #[test]
    fn where_a_sample_stood_is_a_target() {
        let stood = Target::Stood(text(&state(80, 11)));
        assert_eq!(rewound(&state(91, 10), stood, 0).1.again, 91);
        assert!(rewind(&text(&state(91, 10)), &Target::Stood("{".to_owned()), 0).is_err());
    }

    #[test]
    fn what_has_followed_nothing_cannot_be_rewound() {
        for state in [CollectorState::default(), CollectorState { again_from: Some(7), ..CollectorState::default() }] {
            let refused = rewind(&text(&state), &Target::By(1), 7).expect_err("refused");
            assert!(refused.contains("followed no block yet"), "{refused}");
        }
    }

    #[test]
    fn a_state_of_an_earlier_release_is_read_and_an_ordinary_one_is_written_as_before() {
        let before = text(&state(91, 2));
        assert_eq!(before, r#"{"lowest":91,"hashes":["h91","h92"],"parent":"h90"}"#);
        assert_eq!(CollectorState::parse(&before), Ok(state(91, 2)));
        assert_eq!(CollectorState::parse(""), Ok(CollectorState::default()));
    }
}
