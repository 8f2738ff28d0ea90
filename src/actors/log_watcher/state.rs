//! What the checkpoint of a LogWatcher holds, and what an operator's rewind makes of it. Pure.
//!
//! The place in each file stands in the table beside it, since there may be thousands of files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::actors::turn::Error;
use crate::actors::turn::rewind::{Rewound, Target};
use crate::messages::line::FileId;

/// Most lines that one rewind goes back in each file: they are compared with the stream, and their names are kept in
/// memory for that.
pub const BACK_MAX: u64 = 1_000_000;

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherState {
    /// Lines that this unit appended, ever.
    pub lines: u64,
    /// The files of the very first look have their places: whatever appears now is read from its beginning.
    #[serde(default, skip_serializing_if = "is_not")]
    pub begun: bool,
    /// Server milliseconds since when an operator has it paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_ms: Option<u64>,
    /// An operator sent it back by so many lines in each file; not done yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<u64>,
    /// Files that are read again, each with the byte up to which its lines were appended before: up to there they are
    /// compared with the stream's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub again: BTreeMap<FileId, u64>,
    /// The time in the id of the stream's newest entry when lines were sent back: lines behind it may have come again, out
    /// of their order. The earliest one, as long as older entries are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewound_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_not(flag: &bool) -> bool {
    !flag
}

impl WatcherState {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|e| format!("the checkpoint's state cannot be read: {e}"))
    }

    pub(super) fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| Error::Fault(e.to_string()))
    }
}

/// The state that sends a LogWatcher back by so many lines in each file. Pure; the watcher itself finds where those
/// lines begin.
pub fn rewind(state: &str, target: &Target) -> Result<Rewound, String> {
    let mut state = WatcherState::parse(state)?;
    let by = match target {
        Target::By(lines) => *lines,
        Target::To(_) | Target::Stood(_) => {
            return Err(
                "a place among lines of many files has no number; write --by N, so many lines of each file".to_owned()
            );
        }
    };
    if state.lines == 0 {
        return Err("it has appended no line yet: there is nothing to rewind".to_owned());
    }
    if by > BACK_MAX {
        return Err(format!("at most {BACK_MAX} lines at a time; write at most --by {BACK_MAX}"));
    }
    state.back = Some(state.back.unwrap_or(0).max(by));
    Ok(Rewound {
        state: serde_json::to_string(&state).map_err(|e| e.to_string())?,
        from: state.lines,
        again: (state.lines + 1).saturating_sub(by).max(1),
        replayed: format!(
            "the last {by} lines before the place in each file are read again; those that the stream still holds are \
             not appended a second time"
        ),
        lost: vec![
            "lines that were trimmed from the stream are appended, and published, once more, under the same id"
                .to_owned(),
            "of a file that is gone, or packed and gone, nothing can be read again".to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewind_names_lines_of_each_file_and_waits_in_the_state() {
        let rewound = rewind(r#"{"lines":50000,"begun":true,"paused_ms":7}"#, &Target::By(10_000)).expect("a rewind");
        assert_eq!(rewound.state, r#"{"lines":50000,"begun":true,"paused_ms":7,"back":10000}"#);
        assert_eq!(rewound.count(), 10_000);
        // Asked for twice before it was done: the farther one counts.
        let twice = rewind(&rewound.state, &Target::By(5)).expect("a rewind");
        assert!(twice.state.contains(r#""back":10000"#));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        for (state, target, words) in [
            ("", Target::By(5), "nothing to rewind"),
            (r#"{"lines":5}"#, Target::To(3), "--by N"),
            (r#"{"lines":5}"#, Target::By(BACK_MAX + 1), "at most --by 1000000"),
        ] {
            let refused = rewind(state, &target).expect_err("refused");
            assert!(refused.contains(words), "{refused}");
        }
    }
}
