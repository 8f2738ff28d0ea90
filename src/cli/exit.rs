//! Exit codes, and the one line on standard error that goes with the bad ones.

use std::io::Write;
use std::process::ExitCode;

use crate::store::StoreError;

/// How the address of a managed Redis begins.
const MANAGED: &str = "managed in ";

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// 0: all is well.
    pub fn good() -> Self {
        Self(0)
    }

    /// The worse of two: how a command ends that did several things.
    pub fn worse(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// 1: a check found something missing or wrong; the check has printed what.
    pub fn found() -> Self {
        Self(1)
    }

    /// 1: what was asked for is not there, or did not happen.
    pub fn missing(what: &str) -> Self {
        complain(what);
        Self(1)
    }

    /// 2: unusable arguments or configuration.
    pub fn usage(fault: &str) -> Self {
        complain(fault);
        Self(2)
    }

    /// 3: Redis or a source is out of reach.
    pub fn out_of_reach(fault: &str) -> Self {
        complain(fault);
        Self(3)
    }

    /// 3 where Redis is out of reach, 2 where it refused.
    pub fn store(error: &StoreError) -> Self {
        match error {
            // Its last node takes the managed server with it.
            StoreError::Unreachable { address, reason } if address.starts_with(MANAGED) => {
                Self::out_of_reach(&format!("{}; start a node: gapless run", unreachable(address, reason)))
            }
            StoreError::Unreachable { address, reason } => Self::out_of_reach(&unreachable(address, reason)),
            StoreError::Fenced { .. }
            | StoreError::Moved { .. }
            | StoreError::Full { .. }
            | StoreError::Link { .. }
            | StoreError::Overlap { .. }
            | StoreError::Uncovered { .. }
            | StoreError::Broken { .. }
            | StoreError::Held { .. }
            | StoreError::TooOld { .. }
            | StoreError::Alien { .. }
            | StoreError::Config { .. }
            | StoreError::OutOfMemory(_)
            | StoreError::Unconfirmed { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Unfit(_)
            | StoreError::Refused { .. }
            | StoreError::Protocol(_) => Self::usage(&error.to_string()),
        }
    }

    /// 70: the node gave itself up, for its service manager to start it afresh.
    pub fn gave_up(words: &str) -> Self {
        complain(words);
        Self(70)
    }

    /// 130: the second signal; leases run out by themselves.
    pub fn second_signal() -> Self {
        complain("second signal; ending at once");
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

/// A Redis out of reach, by its address for people ([`crate::store::options::StoreOptions::address`]).
pub fn unreachable(address: &str, reason: &str) -> String {
    let at = if address.starts_with(MANAGED) { "the redis" } else { "redis at" };
    format!("{at} {address} is out of reach: {reason}")
}

/// One line to standard error; a closed one leaves nobody to tell, and must not end the process with a panic.
pub fn complain(words: &str) {
    let _ = writeln!(std::io::stderr(), "gapless: {words}");
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::store::managed::Managed;
    use crate::store::options::{Place, StoreOptions};

    #[test]
    fn a_redis_out_of_reach_is_named_in_a_sentence() {
        let mut options = StoreOptions::at("redis://h:1/");
        assert_eq!(unreachable(&options.address(), "it is away"), "redis at redis://h:1/ is out of reach: it is away");
        options.place = Place::Managed(Arc::new(Managed::new(Path::new("data/redis"), 0, false)));
        assert_eq!(
            unreachable(&options.address(), "it is away"),
            "the redis managed in data/redis is out of reach: it is away"
        );
    }
}
