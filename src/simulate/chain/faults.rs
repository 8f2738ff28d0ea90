//! What goes wrong in a simulated chain, and how it is written.
//!
//! ```text
//! PLAN     = "none" | PART ("," PART)*        each part at most once
//! PART     = "outage=" DURATION "+" DURATION  each first DURATION, the last DURATION of it: 503, or the connection is cut
//!          | "429=" SHARE                     of requests: HTTP 429 with `Retry-After: 1`
//!          | "slow=" SHARE ":" DURATION       of requests: answered so much later
//!          | "null=" SHARE                    of the questions for the last 3 heights: as if they were not known yet
//!          | "error=" SHARE                   of requests: HTTP 500, or JSON-RPC error -32603
//!          | "malformed=" SHARE               of requests: the JSON is cut off, or one block is another one
//!          | "short_batch=" SHARE             of batches: up to half of the answers are left out (EVM)
//!          | "reorder=" SHARE                 of batches: the answers come in another order, which is allowed (EVM)
//!          | "hole=" HEIGHTS                  of these heights nothing is known, ever
//!          | "pruned=" HEIGHTS                these heights were thrown away
//!          | "keep=" NUMBER                   only so many newest blocks are kept: those below are pruned
//!          | "reorg=" NUMBER ":" NUMBER       above each multiple of the first, the last so many blocks are replaced (EVM)
//!          | "silent=" SHARE                  of WebSockets: after a while nothing comes any more (EVM)
//! HEIGHTS  = NUMBER [".." NUMBER]             one height, or both ends included
//! SHARE    = 0 to 1, for example 0.01
//! DURATION = NUMBER ("ms" | "s" | "m"), for example 800ms, 2.5s
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::reorg::Reorgs;
use crate::messages::heights::{HEIGHT_MAX, HeightRange};

/// The longest duration in a plan.
const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// Which faults occur, and how often. Shares run from 0 (never) to 1 (always).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FaultPlan {
    /// Periodic outages.
    pub outage: Option<Outage>,
    /// The share of requests that are answered with HTTP 429.
    pub limited: f64,
    /// Slow answers.
    pub slow: Option<Slow>,
    /// The share of questions for the last 3 heights that are answered as if these were not known yet.
    pub null: f64,
    /// The share of requests that end in a server error.
    pub error: f64,
    /// The share of requests with a malformed answer.
    pub malformed: f64,
    /// The share of batches whose answers are incomplete.
    pub short_batch: f64,
    /// The share of batches whose answers come in another order.
    pub reorder: f64,
    /// Heights that are never known.
    pub hole: Option<HeightRange>,
    /// Heights that the node no longer keeps.
    pub pruned: Option<HeightRange>,
    /// How many of the newest blocks the node keeps.
    pub keep: Option<u64>,
    /// Reorganisations.
    pub reorg: Option<Reorgs>,
    /// The share of WebSockets that go silent without closing.
    pub silent: f64,
}

/// An outage that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// From the start of one period to the next. A period begins with the server up.
    pub every: Duration,
    /// How long the server is down at the end of each period.
    pub down: Duration,
}

/// Answers that come late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slow {
    /// The share of requests.
    pub share: f64,
    /// How much later they are answered.
    pub delay: Duration,
}

impl Outage {
    /// Whether the server is down so long after its start.
    pub fn is_down(&self, since_start: Duration) -> bool {
        let every = self.every.as_nanos().max(1);
        since_start.as_nanos() % every >= every.saturating_sub(self.down.as_nanos())
    }
}

impl FromStr for FaultPlan {
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
                .ok_or_else(|| format!("fault `{part}`: write NAME=VALUE, for example 429=0.02"))?;
            if seen.contains(&name) {
                return Err(format!("fault `{part}`: `{name}` is named twice"));
            }
            seen.push(name);
            plan.set(name, value).map_err(|reason| format!("fault `{part}`: {reason}"))?;
        }
        Ok(plan)
    }
}

impl FaultPlan {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "outage" => self.outage = Some(outage(value)?),
            "slow" => self.slow = Some(slow(value)?),
            "429" => self.limited = share(value)?,
            "null" => self.null = share(value)?,
            "error" => self.error = share(value)?,
            "malformed" => self.malformed = share(value)?,
            "short_batch" => self.short_batch = share(value)?,
            "reorder" => self.reorder = share(value)?,
            "hole" => self.hole = Some(value.parse()?),
            "pruned" => self.pruned = Some(value.parse()?),
            "keep" => self.keep = Some(keep(value)?),
            "reorg" => self.reorg = Some(value.parse()?),
            "silent" => self.silent = share(value)?,
            _ => {
                return Err(format!(
                    "`{name}` is unknown; there are outage, 429, slow, null, error, malformed, short_batch, reorder, \
                     hole, pruned, keep, reorg, silent"
                ));
            }
        }
        Ok(())
    }

    /// Refuses what only EVM nodes can do wrong.
    pub(super) fn without_evm(&self) -> Result<(), String> {
        let parts = [
            ("reorg", self.reorg.is_some(), "blocks of this chain are final at once"),
            ("short_batch", self.short_batch > 0.0, "this dialect knows no batches"),
            ("reorder", self.reorder > 0.0, "this dialect knows no batches"),
            ("silent", self.silent > 0.0, "this dialect has no WebSocket"),
        ];
        match parts.iter().find(|(_, is_set, _)| *is_set) {
            Some((name, _, why)) => Err(format!("fault `{name}`: {why}; leave it out, or use --dialect evm")),
            None => Ok(()),
        }
    }
}

fn keep(value: &str) -> Result<u64, String> {
    let blocks = value.parse::<u64>().ok().filter(|blocks| (1..=HEIGHT_MAX).contains(blocks));
    blocks.ok_or_else(|| format!("`{value}` is no number of blocks; write 1 or more"))
}

fn outage(value: &str) -> Result<Outage, String> {
    let (every, down) = value.split_once('+').ok_or("write EVERY+DOWN, for example 20s+5s")?;
    let (every, down) = (duration(every)?, duration(down)?);
    if down >= every {
        return Err(format!("down for {down:?} of each {every:?} is for ever; make the first longer"));
    }
    Ok(Outage { every, down })
}

fn slow(value: &str) -> Result<Slow, String> {
    let (part, delay) = value.split_once(':').ok_or("write SHARE:DURATION, for example 0.01:800ms")?;
    Ok(Slow { share: share(part)?, delay: duration(delay)? })
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no share; write a number from 0 to 1"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let fault = || format!("`{text}` is no duration; write for example 800ms, 2.5s or 1m, at most a day");
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(fault()),
    };
    let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| fault())?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| fault())?;
    if duration.is_zero() || duration > DURATION_MAX { Err(fault()) } else { Ok(duration) }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = [
            ("429", self.limited),
            ("null", self.null),
            ("error", self.error),
            ("malformed", self.malformed),
            ("short_batch", self.short_batch),
            ("reorder", self.reorder),
            ("silent", self.silent),
        ];
        let mut parts: Vec<_> =
            shares.iter().filter(|(_, s)| *s > 0.0).map(|(name, share)| format!("{name}={share}")).collect();
        if let Some(outage) = self.outage {
            parts.push(format!("outage={}ms+{}ms", millis(outage.every), millis(outage.down)));
        }
        if let Some(slow) = self.slow {
            parts.push(format!("slow={}:{}ms", slow.share, millis(slow.delay)));
        }
        for (name, heights) in [("hole", self.hole), ("pruned", self.pruned)] {
            parts.extend(heights.map(|heights| format!("{name}={heights}")));
        }
        parts.extend(self.keep.map(|blocks| format!("keep={blocks}")));
        parts.extend(self.reorg.map(|reorgs| format!("reorg={reorgs}")));
        if parts.is_empty() { f.write_str("none") } else { f.write_str(&parts.join(",")) }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plan_is_read_part_by_part() {
        let text = "outage=20s+5s,429=0.02,slow=0.01:800ms,null=0.01,error=0.01,malformed=0.005,short_batch=0.01";
        let plan: FaultPlan = text.parse().expect("a plan");
        let expected = FaultPlan {
            outage: Some(Outage { every: Duration::from_secs(20), down: Duration::from_secs(5) }),
            limited: 0.02,
            slow: Some(Slow { share: 0.01, delay: Duration::from_millis(800) }),
            null: 0.01,
            error: 0.01,
            malformed: 0.005,
            short_batch: 0.01,
            ..FaultPlan::default()
        };
        assert_eq!(plan, expected);
        assert_eq!("none".parse(), Ok(FaultPlan::default()));
        assert_eq!("".parse(), Ok(FaultPlan::default()));
    }

    #[test]
    fn a_fault_of_the_notation_names_its_part_and_the_remedy() {
        let cases = [
            ("429", "fault `429`: write NAME=VALUE"),
            ("429=0.1,429=0.2", "fault `429=0.2`: `429` is named twice"),
            ("null=0.1,error=1.5", "fault `error=1.5`: `1.5` is no share"),
            ("error=NaN", "is no share"),
            ("eror=0.1", "`eror` is unknown; there are outage"),
            ("outage=20s", "write EVERY+DOWN"),
            ("outage=5s+5s", "is for ever"),
            ("slow=0.1", "write SHARE:DURATION"),
            ("slow=0.1:5", "`5` is no duration"),
            ("slow=0.1:ms", "`ms` is no duration"),
            ("slow=0.1:0s", "is no duration"),
            ("slow=0.1:99999m", "is no duration"),
            ("slow=0.1:5µs", "is no duration"),
            ("429=0.1,", "fault ``"),
            ("hole=9..3", "runs backwards"),
            ("pruned=x", "`x` is no height"),
            ("keep=0", "write 1 or more"),
            ("reorg=50", "write EVERY:DEPTH"),
            ("reorg=3:3", "fault `reorg=3:3`: 3 blocks cannot be replaced"),
            ("silent=2", "is no share"),
        ];
        for (text, reason) in cases {
            let fault = text.parse::<FaultPlan>().expect_err(text);
            assert!(fault.contains(reason), "{text}: {fault}");
        }
    }

    #[test]
    fn an_outage_ends_each_period() {
        let outage = Outage { every: Duration::from_secs(20), down: Duration::from_secs(5) };
        let down: Vec<_> = (0..45).filter(|s| outage.is_down(Duration::from_secs(*s))).collect();
        assert_eq!(down, [15, 16, 17, 18, 19, 35, 36, 37, 38, 39]);
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "(outage|slow|429|null|reorg|keep)?=?\\PC{0,20}") {
            let _ = text.parse::<FaultPlan>();
        }

        #[test]
        fn what_is_shown_can_be_read_back(
            shares in prop::array::uniform7(0.0..=1.0f64),
            outage in prop::option::of((2u64..100_000, 1u64..100)),
            slow in prop::option::of((0.0..=1.0f64, 1u64..10_000)),
            heights in prop::option::of((0u64..1000, 0u64..1000)),
            keep in prop::option::of(1u64..1000),
            reorg in prop::option::of((1u64..=100, 1u64..1000)),
        ) {
            let [limited, null, error, malformed, short_batch, reorder, silent] = shares;
            let outage = outage.map(|(every, part)| Outage {
                every: Duration::from_millis(every),
                down: Duration::from_millis((every * part / 100).max(1).min(every - 1)),
            });
            let slow = slow.map(|(share, delay)| Slow { share, delay: Duration::from_millis(delay) });
            let hole = heights.and_then(|(lo, more)| HeightRange::new(lo, lo + more).ok());
            let reorg = reorg.and_then(|(depth, more)| Reorgs::new(depth + more, depth).ok());
            let plan = FaultPlan {
                outage, limited, slow, null, error, malformed, short_batch, reorder, hole, pruned: hole, keep, reorg, silent,
            };
            prop_assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }
}
