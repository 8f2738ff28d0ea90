//! The table of a unit: records beside its checkpoint, for states that are larger than a checkpoint may be.
//!
//! Only the commits of the unit write it ([`Effect::PutRow`](super::effect::Effect::PutRow)), so its content is a
//! function of the tip, like the state. That is why it may be read in pages, beside everything else that goes on: each
//! page is given only under the tip that the lease holds. Two pages under one tip show one table, whichever server
//! gave them, since the histories that have this tip agree in all that came before it, and no commit came after. And
//! what is decided on the table is committed on that tip as its base: if a failover took some of the table back it
//! took the tip too, and the commit is MOVED. No new tip is left: nobody else adds to a table, as senders do to a
//! mailbox. A unit that reloads acquires, and reads the table anew.

use std::collections::BTreeMap;

use super::Store;
use super::error::StoreError;
use super::lease::Lease;
use super::link::Link;
use super::reply::{self, Row, refusal};
use super::script;
use crate::ids::{PipelineId, RandomId, UnitId};

/// Rows of one page, about.
const PAGE_ROWS: u64 = 200;

/// Most bytes of the name and the value of one row.
pub const ROW_BYTES_MAX: usize = 16 * 1024;

/// A table: each row's name and its value (JSON).
pub type Table = BTreeMap<String, String>;

impl Lease {
    /// The table of this unit as of the tip that the lease holds. Between turns: with a commit under way it is `Moved`.
    ///
    /// A crash before or after changes nothing. As large as commits let it become.
    pub async fn table(&self) -> Result<Table, StoreError> {
        let held = self.held();
        let keys = [self.store().keys.checkpoint(self.unit()), self.store().keys.table(self.unit())];
        let mut args = self.fence_args(&held, &RandomId::stored("-"));
        let (mut table, mut cursor) = (Table::new(), "0".to_owned());
        loop {
            args.truncate(4);
            args.extend([cursor.into_bytes(), PAGE_ROWS.to_string().into_bytes()]);
            let mut row = Row::new("table", self.link().run(&script::TABLE_PAGE, &keys, &args).await?)?;
            match row.text()?.as_str() {
                "OK" => {}
                word => return Err(refusal(word, &mut row)?),
            }
            cursor = row.text()?;
            table.extend(reply::pairs("table", row.value()?)?);
            if cursor == "0" {
                return Ok(table);
            }
        }
    }
}

impl Store {
    /// The units of a pipeline that have a table, as [`UnitId::local`] names them, sorted. For people.
    pub async fn tables(&self, link: &Link, pipeline: &PipelineId) -> Result<Vec<String>, StoreError> {
        let names = link.call("HKEYS", redis::cmd("HKEYS").arg(self.keys.tables(pipeline))).await?;
        let mut names = reply::texts("HKEYS", names)?;
        names.sort();
        Ok(names)
    }

    /// Rows of a table by their names, as they stand now; none of those that it lacks. For what nothing is decided on.
    pub async fn peek_rows(
        &self,
        link: &Link,
        unit: &UnitId,
        names: &[String],
    ) -> Result<Vec<Option<String>>, StoreError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.table(unit)).arg(names);
        let values = reply::texts("HMGET", link.call("HMGET", &cmd).await?)?;
        // No row is empty.
        Ok(values.into_iter().map(|value| Some(value).filter(|value| !value.is_empty())).collect())
    }

    /// A table as it stands, for people: it may change between two pages. At most `rows_max` rows, and whether there
    /// are more.
    pub async fn peek_table(&self, link: &Link, unit: &UnitId, rows_max: usize) -> Result<(Table, bool), StoreError> {
        let key = self.keys.table(unit);
        let (mut table, mut cursor) = (Table::new(), "0".to_owned());
        loop {
            let mut cmd = redis::cmd("HSCAN");
            cmd.arg(&key).arg(&cursor).arg("COUNT").arg(PAGE_ROWS);
            let mut row = Row::new("HSCAN", link.call("HSCAN", &cmd).await?)?;
            cursor = row.text()?;
            for (name, value) in reply::pairs("HSCAN", row.value()?)? {
                if table.len() >= rows_max && !table.contains_key(&name) {
                    return Ok((table, true));
                }
                table.insert(name, value);
            }
            if cursor == "0" {
                return Ok((table, false));
            }
        }
    }
}
