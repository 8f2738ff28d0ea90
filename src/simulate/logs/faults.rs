//! What goes wrong in simulated logs, and how it is written.
//!
//! ```text
//! PLAN  = "none" | PART ("," PART)*   each part at most once
//! PART  = "partial=" SHARE            of appends: cut anywhere, in the middle of a line or of a character
//!       | "torn=" SHARE               of rotations: the last line never gets its end
//!       | "late=" SHARE               of renames: the logger writes on into the renamed file for a while
//!       | "crlf=" SHARE               of lines: end with CR LF
//!       | "empty=" SHARE              of lines: nothing in them
//!       | "invalid=" SHARE            of lines: bytes that are no UTF-8
//!       | "nul=" SHARE                of lines: a run of NUL bytes before them, as a truncated sparse file has it
//!       | "long=" SHARE [":" BYTES]   of lines: so long, 100000 bytes by default
//! SHARE = 0 to 1, for example 0.01
//! ```

use std::str::FromStr;

/// How long a long line is unless the plan says otherwise, in bytes.
const LONG_BYTES: u32 = 100_000;
/// The longest line that can be asked for, in bytes.
const LONG_BYTES_MAX: u32 = 64 << 20;

/// Which faults occur, and how often. Shares run from 0 (never) to 1 (always).
#[derive(Debug, Clone, PartialEq)]
pub struct LogFaults {
    /// The share of appends that are cut at a random byte.
    pub partial: f64,
    /// The share of rotations that leave a line without its end.
    pub torn: f64,
    /// The share of renames after which the logger still writes to the renamed file.
    pub late: f64,
    /// The share of lines that end with CR LF.
    pub crlf: f64,
    /// The share of empty lines.
    pub empty: f64,
    /// The share of lines with bytes that are no UTF-8.
    pub invalid: f64,
    /// The share of lines with a run of NUL bytes before them.
    pub nul: f64,
    /// The share of long lines.
    pub long: f64,
    /// About how long a long line is, in bytes.
    pub long_bytes: u32,
}

impl Default for LogFaults {
    fn default() -> Self {
        Self {
            partial: 0.0,
            torn: 0.0,
            late: 0.0,
            crlf: 0.0,
            empty: 0.0,
            invalid: 0.0,
            nul: 0.0,
            long: 0.0,
            long_bytes: LONG_BYTES,
        }
    }
}

impl FromStr for LogFaults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        if matches!(text, "" | "none") {
            return Ok(plan);
        }
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("fault `{part}`: write NAME=VALUE, for example partial=0.2"))?;
            if seen.contains(&name) {
                return Err(format!("fault `{part}`: `{name}` is named twice"));
            }
            seen.push(name);
            plan.set(name, value).map_err(|reason| format!("fault `{part}`: {reason}"))?;
        }
        Ok(plan)
    }
}

impl LogFaults {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let of = match name {
            "partial" => &mut self.partial,
            "torn" => &mut self.torn,
            "late" => &mut self.late,
            "crlf" => &mut self.crlf,
            "empty" => &mut self.empty,
            "invalid" => &mut self.invalid,
            "nul" => &mut self.nul,
            "long" => return self.set_long(value),
            _ => {
                return Err(format!(
                    "`{name}` is unknown; there are partial, torn, late, crlf, empty, invalid, nul, long"
                ));
            }
        };
        *of = share(value)?;
        Ok(())
    }

    fn set_long(&mut self, value: &str) -> Result<(), String> {
        let (part, bytes) = value.split_once(':').map_or((value, None), |(part, bytes)| (part, Some(bytes)));
        self.long = share(part)?;
        if let Some(bytes) = bytes {
            let size = bytes.parse().ok().filter(|size| (1..=LONG_BYTES_MAX).contains(size));
            self.long_bytes = size.ok_or_else(|| format!("write 1 to {LONG_BYTES_MAX} bytes, as in 0.01:200000"))?;
        }
        Ok(())
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share from 0 to 1, for example 0.01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read() {
        let plan: LogFaults = "partial=0.2,torn=1,crlf=0,long=0.5:2000".parse().expect("a plan");
        let expected = LogFaults { partial: 0.2, torn: 1.0, long: 0.5, long_bytes: 2000, ..LogFaults::default() };
        assert_eq!(plan, expected);
        assert_eq!("none".parse(), Ok(LogFaults::default()));
    }

    #[test]
    fn what_is_impossible_is_refused_with_the_remedy() {
        for (plan, reason) in [
            ("partial", "write NAME=VALUE"),
            ("partial=2", "share from 0 to 1"),
            ("nul=NaN", "share from 0 to 1"),
            ("late=0.1,late=0.1", "named twice"),
            ("lost=0.1", "there are partial, torn"),
            ("long=0.1:0", "as in 0.01:200000"),
        ] {
            let fault = plan.parse::<LogFaults>().expect_err(plan);
            assert!(fault.contains(reason), "{plan}: {fault}");
        }
    }
}
