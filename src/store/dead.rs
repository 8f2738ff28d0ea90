//! The letters that were set aside: looking at them, moving them back into their mailbox, throwing them away.

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply::{self, Entry, Row};
use super::script;
use crate::ids::{Address, EntryId};
use crate::messages::heights::{Height, HeightRange};

/// Letters that one script deals with: bounds how long Redis is busy with it.
pub const LETTERS_MAX: usize = 200;
/// Parked intervals that one script looks at.
const INTERVALS_MAX: usize = 500;

/// How the reason begins under which the heights of a task are parked when the task is set aside.
const SET_ASIDE: &str = "its task was set aside: ";

/// The reason under which the heights of a task are parked that is set aside for `reason`.
pub fn reason_of_set_aside(reason: &str) -> String {
    format!("{SET_ASIDE}{reason}")
}

/// A letter to move back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// Its id among the dead letters.
    pub id: EntryId,
    /// The heights of the task that it is: what was parked because of its death is let go.
    pub task: Option<HeightRange>,
}

/// What became of some letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retried {
    /// Moved back.
    pub moved: usize,
    /// Were no longer there: moved or dropped meanwhile, perhaps by an earlier sending of this very request.
    pub gone: usize,
    /// The mailbox has no room for the letters that were not dealt with.
    pub is_full: bool,
}

impl Store {
    /// Letters set aside behind `after`, oldest first, at most `count`.
    pub async fn dead(&self, link: &Link, of: &Address, after: EntryId, count: u32) -> Result<Vec<Entry>, StoreError> {
        self.range(link, &self.keys.dead(of), after, count).await
    }

    /// One letter; none if it is not there.
    pub async fn dead_letter(&self, link: &Link, of: &Address, id: EntryId) -> Result<Option<Entry>, StoreError> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.keys.dead(of)).arg(id.to_string()).arg(id.to_string());
        Ok(reply::entries("XRANGE", link.call("XRANGE", &cmd).await?)?.into_iter().next())
    }

    /// The newest letter; none if there is none.
    pub async fn dead_newest(&self, link: &Link, of: &Address) -> Result<Option<EntryId>, StoreError> {
        let mut cmd = redis::cmd("XREVRANGE");
        cmd.arg(self.keys.dead(of)).arg("+").arg("-").arg("COUNT").arg(1);
        Ok(reply::entries("XREVRANGE", link.call("XREVRANGE", &cmd).await?)?.first().map(|entry| entry.id))
    }

    /// Moves letters back to the end of their mailbox, in their order, in scripts of at most [`LETTERS_MAX`], as far as
    /// `capacity` goes. They keep their fields and begin with no attempt.
    ///
    /// A crash between two scripts leaves the rest where it is. A letter is never in both places and never in none; a
    /// repeat after a lost answer finds it `gone`.
    pub async fn retry(
        &self,
        link: &Link,
        of: &Address,
        capacity: u64,
        letters: &[Letter],
    ) -> Result<Retried, StoreError> {
        let keys = [self.keys.dead(of), self.keys.mailbox(of), self.keys.parked(&of.pipeline), self.keys.later(of)];
        let (mut done, mut rest) = (Retried::default(), letters.to_vec());
        while !rest.is_empty() && !done.is_full {
            let chunk = &rest[..rest.len().min(LETTERS_MAX)];
            let mut args = vec![capacity.to_string(), SET_ASIDE.to_owned(), INTERVALS_MAX.to_string()];
            for Letter { id, task } in chunk {
                let edge = |height: Option<Height>| height.map_or_else(String::new, |height| height.to_string());
                args.extend([id.to_string(), edge(task.map(|t| t.lo())), edge(task.map(|t| t.hi()))]);
            }
            let args: Vec<Vec<u8>> = args.into_iter().map(String::into_bytes).collect();
            let mut row = Row::new("retry", link.run(&script::RETRY, &keys, &args).await?)?;
            match row.text()?.as_str() {
                "OK" => {}
                word => return Err(reply::refusal(word, &mut row)?),
            }
            let (moved, gone) = (count(&mut row)?, count(&mut row)?);
            (done.moved, done.gone) = (done.moved + moved, done.gone + gone);
            done.is_full = row.text()? == "full";
            rest.drain(..(moved + gone).min(rest.len()));
            let below: Option<Height> = row.text()?.parse().ok();
            if let (Some(below), Some(Letter { task: Some(task), .. })) = (below, rest.first_mut()) {
                *task = HeightRange::new(task.lo(), below).map_err(StoreError::Protocol)?;
            }
        }
        Ok(done)
    }

    /// Throws letters away, in scripts of at most [`LETTERS_MAX`]; answers how many were there. Safe to repeat, then
    /// the answer is smaller.
    pub async fn drop_dead(&self, link: &Link, of: &Address, letters: &[EntryId]) -> Result<usize, StoreError> {
        let keys = [self.keys.dead(of)];
        let mut dropped = 0;
        for chunk in letters.chunks(LETTERS_MAX) {
            let args: Vec<Vec<u8>> = chunk.iter().map(|id| id.to_string().into_bytes()).collect();
            let mut row = Row::new("drop", link.run(&script::DROP, &keys, &args).await?)?;
            match row.text()?.as_str() {
                "OK" => dropped += count(&mut row)?,
                word => return Err(reply::refusal(word, &mut row)?),
            }
        }
        Ok(dropped)
    }
}

fn count(row: &mut Row) -> Result<usize, StoreError> {
    row.number().map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}
