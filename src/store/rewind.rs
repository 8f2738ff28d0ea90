//! Rewinding a checkpoint: the one thing that an operator writes past a unit's own turns.

use super::Store;
use super::effect::bound;
use super::error::StoreError;
use super::link::Link;
use super::reply::{Row, refusal};
use super::script;
use crate::ids::{RandomId, Token, UnitId};

/// What became of a rewind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewind {
    /// Done now, under this token.
    Now(Token),
    /// Done by an earlier sending of the same request, whose answer was lost.
    Before(Token),
}

impl Store {
    /// Replaces the state of a unit by `state`, which was made from the one under the tip `base`, and fences its holder.
    ///
    /// A crash before the script ran changes nothing; after it, whoever takes the unit begins with the new state. Sent
    /// again under the same `new` it changes nothing. `Moved`: the unit has committed meanwhile; read it again.
    pub async fn rewind(
        &self,
        link: &Link,
        unit: &UnitId,
        base: &str,
        new: &RandomId,
        state: &str,
    ) -> Result<Rewind, StoreError> {
        let limits = &link.options().limits;
        bound("the state", state.len(), limits.state_bytes_max, "mailbox.state_bytes_max")?;
        let keys = [
            self.keys.checkpoint(unit),
            self.keys.expiry(unit),
            self.keys.history(unit),
            self.keys.facts(&unit.pipeline),
        ];
        let args: Vec<Vec<u8>> = [
            base,
            new.as_str(),
            state,
            &self.node,
            self.cluster.as_str(),
            &self.formats.newest().to_string(),
            &limits.history_max.to_string(),
        ]
        .map(|arg| arg.as_bytes().to_vec())
        .into();
        let mut row = Row::new("rewind", link.run(&script::REWIND, &keys, &args).await?)?;
        match row.text()?.as_str() {
            "OK" => Ok(Rewind::Now(Token(row.number()?))),
            "DUP" => Ok(Rewind::Before(Token(row.number()?))),
            "ALIEN" => Err(StoreError::Alien { expected: self.cluster.to_string(), found: row.text()? }),
            "TOO_OLD" => Err(StoreError::TooOld { needs: row.number()?, known: self.formats.newest() }),
            word => Err(refusal(word, &mut row)?),
        }
    }
}
