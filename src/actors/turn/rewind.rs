//! What an operator's rewind makes of a source actor's state: the words that its pure function speaks.

/// Where an actor is sent back to. A position is the last thing that counts as done: a height, a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This position; what lies above it is done again.
    To(u64),
    /// So many below the present one.
    By(u64),
    /// Where this earlier state stood (JSON; empty: before the first commit).
    Stood(String),
}

/// What a rewind does, before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// The new state (JSON).
    pub state: String,
    /// The present position.
    pub from: u64,
    /// The lowest that is done again: the position after the rewind lies just below.
    pub again: u64,
    /// What is done again, and how; one sentence.
    pub replayed: String,
    /// What cannot be done again, and what happens twice; one sentence each.
    pub lost: Vec<String>,
}

impl Rewound {
    /// How many heights or numbers are done again.
    pub fn count(&self) -> u64 {
        (self.from + 1).saturating_sub(self.again)
    }
}

/// The lowest position that is done again, or why the target cannot be: `lowest` is the first position there can be,
/// `from` the present one, `stood` reads the position of an earlier state.
pub fn again_from(
    target: &Target,
    lowest: u64,
    from: u64,
    stood: impl Fn(&str) -> Result<Option<u64>, String>,
) -> Result<u64, String> {
    let all = (from + 1).saturating_sub(lowest);
    let again = match target {
        Target::To(position) => position.checked_add(1).ok_or_else(|| format!("{position} is no position"))?,
        Target::By(count) if *count > all => {
            return Err(format!("there are only {all} from {lowest} to {from}; write at most --by {all}"));
        }
        Target::By(count) => from + 1 - count,
        Target::Stood(state) => stood(state)?.map_or(lowest, |position| position + 1),
    };
    if again > from {
        return Err(format!("it stands at {from}: nothing lies above {}", again - 1));
    }
    if again < lowest {
        return Err(format!(
            "{} lies below what it begins with, {lowest}; for everything again write --by {all}",
            again - 1
        ));
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(target: Target) -> Result<u64, String> {
        again_from(&target, 10, 99, |state| match state {
            "" => Ok(None),
            state => state.parse().map(Some).map_err(|_| "no state".to_owned()),
        })
    }

    #[test]
    fn what_lies_above_the_position_is_done_again() {
        assert_eq!(again(Target::To(50)), Ok(51));
        assert_eq!(again(Target::To(9)), Ok(10), "everything");
        assert_eq!(again(Target::By(1)), Ok(99));
        assert_eq!(again(Target::By(90)), Ok(10));
        assert_eq!(again(Target::Stood("70".to_owned())), Ok(71));
        assert_eq!(again(Target::Stood(String::new())), Ok(10));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        for (target, words) in [
            (Target::To(99), "it stands at 99: nothing lies above 99"),
            (Target::To(200), "it stands at 99: nothing lies above 200"),
            (Target::To(u64::MAX), "is no position"),
            (Target::To(8), "8 lies below what it begins with, 10; for everything again write --by 90"),
            (Target::By(91), "there are only 90 from 10 to 99; write at most --by 90"),
            (Target::By(0), "nothing lies above 99"),
            (Target::Stood("99".to_owned()), "nothing lies above 99"),
            (Target::Stood("x".to_owned()), "no state"),
        ] {
            let refused = again(target.clone()).expect_err("refused");
            assert!(refused.contains(words), "{target:?}: {refused}");
        }
    }
}
