//! What is followed and how, as the configuration says it; impossible values are refused with the key's name.

use std::time::Duration;

use regex::bytes::Regex;

use super::globs::Globs;

/// Followed files, at most, that may be configured: each holds a handle.
pub const FILES_MAX: usize = 100_000;
/// Bytes of a line, at least, that may be configured as its limit.
pub const LINE_BYTES_MIN: usize = 64;
/// Bytes of a line, at most, that may be configured as its limit: a record must fit into one commit.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Where reading begins in files that stand there when a pipeline begins for the very first time. A file that appears
/// later is always read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first byte.
    #[default]
    Beginning,
    /// Behind the last complete line.
    End,
    /// At the first byte of files that were changed at this time or later (seconds since 1970), behind the last
    /// complete line of the others. A file is taken or left as a whole: lines have no time that could be trusted.
    Since(i64),
}

/// Records of several lines.
#[derive(Debug, Clone)]
pub struct Multiline {
    /// What the first line of a record looks like.
    pub start: Regex,
    /// A record whose next one does not begin is complete after so long without growth.
    pub wait: Duration,
}

/// How a set of files is followed.
#[derive(Debug, Clone)]
pub struct FilesOptions {
    /// The table of the configuration, for messages: `logs.web`.
    pub name: String,
    /// Patterns of followed files; `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for folders of any depth.
    pub paths: Vec<String>,
    /// Patterns of paths that are not followed.
    pub exclude: Vec<String>,
    /// Patterns of further places where rotated files may lie. They are looked for beside the followed file anyway.
    pub rotated: Vec<String>,
    /// Where reading begins in what is there at the very first look.
    pub start: Start,
    /// Files followed at a time. What is beyond is reported, and not read.
    pub files_max: usize,
    /// Handles of rotated and deleted files that are kept for the horizon.
    pub held_max: usize,
    /// Bytes of a line; a longer one is cut into records.
    pub line_bytes_max: usize,
    /// Bytes that one file may give before the next one has its turn.
    pub turn_bytes: usize,
    /// Records of several lines, if they are wanted.
    pub multiline: Option<Multiline>,
    /// How long a batch that is not full waits for more after the one before it. A line that comes alone waits never.
    pub linger: Duration,
    /// Whether events of the file system are used as hints.
    pub events: bool,
    /// How often everything is looked at where events come.
    pub poll: Duration,
    /// How often everything is looked at where no events come.
    pub poll_only: Duration,
    /// How long a rotated file must stand still before it counts as finished.
    pub rotate_wait: Duration,
    /// For how long after its last commit a rotated or deleted file can still be read again.
    pub horizon: Duration,
    /// For how long a file must have been gone until its record is dropped.
    pub forget_after: Duration,
}

impl FilesOptions {
    /// With everything but the patterns as in the configuration's defaults.
    pub fn new(name: impl Into<String>, paths: Vec<String>) -> Self {
        Self {
            name: name.into(),
            paths,
            exclude: Vec::new(),
            rotated: Vec::new(),
            start: Start::Beginning,
            files_max: 1_000,
            held_max: 200,
            line_bytes_max: 128 * 1024,
            turn_bytes: 128 * 1024,
            multiline: None,
            linger: Duration::ZERO,
            events: true,
            poll: Duration::from_secs(2),
            poll_only: Duration::from_millis(250),
            rotate_wait: Duration::from_secs(5),
            horizon: Duration::from_secs(600),
            forget_after: Duration::from_secs(7 * 86_400),
        }
    }

    /// Everything that is wrong, each with its key and the remedy; empty if it can be followed.
    pub fn faults(&self) -> Vec<String> {
        let name = &self.name;
        let mut faults = Vec::new();
        if self.paths.is_empty() {
            faults.push(format!("{name}.paths is empty; name at least one file or pattern"));
        }
        for (key, patterns) in [("paths", &self.paths), ("exclude", &self.exclude), ("rotated", &self.rotated)] {
            if let Err(fault) = Globs::new(patterns) {
                faults.push(format!("{name}.{key}: {fault}"));
            }
        }
        let mut range = |key: &str, value: usize, min: usize, max: usize| {
            if !(min..=max).contains(&value) {
                faults.push(format!("{name}.{key} is {value}; give a number from {min} to {max}"));
            }
        };
        range("files_max", self.files_max, 1, FILES_MAX);
        range("held_max", self.held_max, 1, FILES_MAX);
        range("line_bytes_max", self.line_bytes_max, LINE_BYTES_MIN, LINE_BYTES_MAX);
        range("turn_bytes", self.turn_bytes, 1024, 16 << 20);
        for (key, value) in [("poll", self.poll), ("poll_only", self.poll_only)] {
            if value.is_zero() {
                faults.push(format!("{name}.{key} is 0; polling must pause between two looks"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_followed_is_refused_with_its_key() {
        let mut options = FilesOptions::new("logs.web", vec!["/var/log/*.log".into()]);
        assert_eq!(options.faults(), Vec::<String>::new());
        options.paths = vec!["/var/log/[".into()];
        options.exclude = vec![String::new()];
        options.files_max = 0;
        options.poll = Duration::ZERO;
        let faults = options.faults().join("\n");
        for part in ["logs.web.paths: ", "logs.web.exclude: ", "logs.web.files_max is 0", "logs.web.poll is 0"] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
        options.paths.clear();
        assert!(options.faults()[0].contains("name at least one"));
    }
}
