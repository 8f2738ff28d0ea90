//! Exit codes, and the one line on standard error that goes with the bad ones.

use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// 0: all is well.
    pub fn good() -> Self {
        Self(0)
    }

    /// 1: a check found something missing or wrong; the check has printed what.
    pub fn found() -> Self {
        Self(1)
    }

    /// 2: unusable arguments or configuration.
    pub fn usage(fault: &str) -> Self {
        eprintln!("gapless: {fault}");
        Self(2)
    }

    /// 3: Redis or a source is out of reach.
    pub fn out_of_reach(fault: &str) -> Self {
        eprintln!("gapless: {fault}");
        Self(3)
    }

    /// 130: the second signal; leases run out by themselves.
    pub fn second_signal() -> Self {
        eprintln!("gapless: second signal; ending at once");
        Self(130)
    }

    /// For what has printed its own words.
    pub fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// The number.
    pub fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.0)
    }
}
