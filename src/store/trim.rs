//! Bounding an output: what its readers have acknowledged leaves, or what is older than the newest so many.

use super::Store;
use super::error::StoreError;
use super::lease::Lease;
use super::link::Link;
use super::reply::{self, Row, refusal};
use super::script;
use crate::ids::{PipelineId, UnitId};

/// Where it is counted what a unit that reads an output by its offset has missed of it.
fn missed_field(output: &str, reader: &UnitId) -> String {
    format!("missed.{output}.{}", reader.local())
}

/// Entries that leave in one run: what bounds the time for which others wait for Redis.
const RUN_ENTRIES_MAX: u64 = 2000;

/// What stays of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What some reader has not acknowledged. Readers are the consumer groups that the stream has, and the units that are
    /// named. Where there is none at all nobody acknowledges anything, and the rule is `Newest`.
    Acknowledged,
    /// The newest entries, read or not. What leaves is counted.
    Newest,
}

/// What became of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trimmed {
    /// Entries that left.
    pub left: u64,
    /// Entries that stay.
    pub length: u64,
    /// More may leave: run it again.
    pub has_more: bool,
    /// Who has not acknowledged the oldest of what stays: `group NAME`, or a unit. None where nobody reads.
    pub held_by: Option<String>,
    /// What was dropped.
    pub dropped: Dropped,
}

/// Entries that left an output by the rule of the newest, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Dropped {
    /// All of them.
    pub all: u64,
    /// Those that some reader had not acknowledged, or nobody read.
    pub unread: u64,
}

impl Lease {
    /// Trims an output of the pipeline, some entries a run, as the holder of this unit. `readers` are units that follow
    /// it by their offset; `newest` is what stays at least where the rule is `Newest`.
    ///
    /// An entry that a group has been served and has not acknowledged stays, and so does all behind it. What leaves by the
    /// rule of the newest before one of the `readers` had it is counted for that unit too: [`Store::missed`]. A crash before
    /// or after changes nothing but the time. Sent twice it trims what may leave by then.
    pub async fn trim(&self, output: &str, keep: Keep, newest: u64, readers: &[UnitId]) -> Result<Trimmed, StoreError> {
        let (held, unit, names) = (self.held(), self.unit(), &self.store().keys);
        let mut keys = vec![names.checkpoint(unit), names.output(&unit.pipeline, output), names.facts(&unit.pipeline)];
        let keep = if keep == Keep::Acknowledged { "acknowledged" } else { "newest" };
        let (token, newest, most) = (held.token.to_string(), newest.to_string(), RUN_ENTRIES_MAX.to_string());
        let args = [token.as_str(), held.owner.as_str(), keep, &newest, &most, output];
        let mut args: Vec<Vec<u8>> = args.into_iter().map(|arg| arg.as_bytes().to_vec()).collect();
        for reader in readers {
            keys.push(names.checkpoint(reader));
            args.push(reader.to_string().into_bytes());
            args.push(missed_field(output, reader).into_bytes());
        }
        let mut row = Row::new("trim", self.link().run(&script::TRIM, &keys, &args).await?)?;
        match row.text()?.as_str() {
            "OK" => {}
            word => return Err(refusal(word, &mut row)?),
        }
        Ok(Trimmed {
            left: row.number()?,
            length: row.number()?,
            has_more: row.number()? == 1,
            held_by: Some(row.text()?).filter(|name| !name.is_empty()),
            dropped: Dropped { all: row.number()?, unread: row.number()? },
        })
    }
}

impl Store {
    /// What has been dropped of an output.
    pub async fn dropped(&self, link: &Link, pipeline: &PipelineId, output: &str) -> Result<Dropped, StoreError> {
        let mut cmd = redis::cmd("HMGET");
        let fields = [format!("dropped.{output}"), format!("dropped_unread.{output}")];
        cmd.arg(self.keys.facts(pipeline)).arg(&fields);
        let counts = reply::texts("HMGET", link.call("HMGET", &cmd).await?)?;
        let count = |place: usize| counts.get(place).and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok(Dropped { all: count(0), unread: count(1) })
    }

    /// Entries of an output, ever, that left it before this unit, which reads it by its offset, had them.
    pub async fn missed(&self, link: &Link, reader: &UnitId, output: &str) -> Result<u64, StoreError> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.facts(&reader.pipeline)).arg(missed_field(output, reader));
        let counts = reply::texts("HMGET", link.call("HMGET", &cmd).await?)?;
        Ok(counts.first().and_then(|count| count.parse().ok()).unwrap_or(0))
    }
}
