//! A pool from outside: what each of its slots still owes.

use redis::Value;

use super::Store;
use super::error::StoreError;
use super::keys::POOL_GROUP;
use super::link::Link;
use super::reply::{self, Row};
use crate::ids::Address;

/// Entries that a slot was served and has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owed {
    /// The slot.
    pub slot: u32,
    /// How many; never 0.
    pub entries: u64,
}

impl Store {
    /// The slots of a pool that owe something, ascending, whoever configured them. Changes nothing.
    ///
    /// A mailbox or group that does not exist owes nothing. Consumers of other names are not the pool's own: left alone.
    pub async fn owed(&self, link: &Link, of: &Address) -> Result<Vec<Owed>, StoreError> {
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(self.keys.mailbox(of)).arg(POOL_GROUP);
        let mut row = match link.call("XPENDING", &cmd).await {
            Ok(value) => Row::new("XPENDING", value)?,
            Err(StoreError::Refused { reason, .. }) if reason.contains("NOGROUP") => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let (_count, _lowest, _highest) = (row.value()?, row.value()?, row.value()?);
        let consumers = match row.value()? {
            Value::Nil => return Ok(Vec::new()),
            value => Row::new("XPENDING", value)?,
        };
        let owed = consumers.rest().map(|consumer| {
            let mut row = Row::new("XPENDING", consumer)?;
            let (name, entries) = (row.value()?, row.number()?);
            let name = reply::text("XPENDING", name)?;
            Ok(name.strip_prefix("slot").and_then(|slot| slot.parse().ok()).map(|slot| Owed { slot, entries }))
        });
        let mut owed: Vec<Owed> = owed.filter_map(Result::transpose).collect::<Result<_, StoreError>>()?;
        owed.sort_unstable();
        Ok(owed)
    }
}
