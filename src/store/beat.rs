//! The regular exchange of a node with Redis, all of it in one script: leases renewed, units and mailboxes seen, who
//! lives, which Redis this is.

use super::Store;
use super::error::StoreError;
use super::lease::{Inbox, Mail, address, slot_name};
use super::link::Link;
use super::membership::{NodeInfo, read_members};
use super::reply::Row;
use super::script;
use crate::ids::{EntryId, PipelineId, RandomId, Token, UnitId};

/// Units of one script: it is short, whatever a node has.
pub const BEAT_UNITS_MAX: usize = 250;

/// A unit, as a beat asks for it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which unit.
    pub unit: UnitId,
    /// The token and the acquisition to renew, where the caller holds it.
    pub held: Option<(Token, RandomId)>,
    /// How it reads its mailbox, where that is to be looked into.
    pub mail: Option<Mail>,
}

/// A unit as Redis shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSeen {
    /// Whether the lease that was named has been renewed.
    pub renewed: bool,
    /// Milliseconds until it is free; 0 if it is.
    pub left_ms: u64,
    /// The acquisition that holds it.
    pub owner: RandomId,
    /// The node that holds it, or held it last.
    pub node: String,
    /// The newest token.
    pub token: Token,
    /// The stored tip.
    pub tip: RandomId,
    /// Its mailbox, if it was asked for.
    pub mail: Option<MailSeen>,
}

/// A mailbox as one of its units sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailSeen {
    /// The id of the newest entry; of an empty stream the highest id that it ever had; zero where there is none. A
    /// failover may make it smaller.
    pub last: EntryId,
    /// Whether a read of this unit would find something: an entry, or a mailbox that is broken.
    pub waits: bool,
}

/// What one exchange shows.
#[derive(Debug, Clone)]
pub struct Exchanged {
    /// The id of this Redis; none if it has none: it was emptied.
    pub cluster: Option<RandomId>,
    /// The live nodes.
    pub nodes: Vec<NodeInfo>,
    /// The units, in the order in which they were asked for.
    pub units: Vec<UnitSeen>,
}

impl Store {
    /// Renews the leases of a node, looks at its units whatever their pipelines, and says that it lives, for one lease.
    ///
    /// One request for each [`BEAT_UNITS_MAX`] units. Refused as a whole where Redis cannot let one script touch all of
    /// these keys (another hash slot, a right that is missing); [`Store::look`] and [`Store::heartbeat`] ask piece by
    /// piece. A repeat renews again.
    pub async fn exchange(&self, link: &Link, me: &NodeInfo, asked: &[Asked]) -> Result<Exchanged, StoreError> {
        let json = serde_json::to_vec(me).map_err(|e| StoreError::Protocol(e.to_string()))?;
        let (first, others) = asked.split_at(asked.len().min(BEAT_UNITS_MAX));
        let mut keys = vec![self.keys.nodes(), self.keys.cluster()];
        let mut args = head(link, "1", me.incarnation.as_str(), json);
        self.name_units(first, &mut keys, &mut args);
        let mut row = Row::new("beat", link.run(&script::BEAT, &keys, &args).await?)?;
        let cluster = Some(row.text()?).filter(|id| !id.is_empty()).map(|id| RandomId::stored(&id));
        let nodes = read_members(Row::new("beat", row.value()?)?)?;
        let mut units = units_seen(row.value()?, first)?;
        units.extend(self.look(link, others).await?);
        Ok(Exchanged { cluster, nodes, units })
    }

    /// Renews the leases named with their token and owner, and shows these units. In a Redis Cluster they must be of one
    /// pipeline: one hash tag a script.
    pub async fn look(&self, link: &Link, asked: &[Asked]) -> Result<Vec<UnitSeen>, StoreError> {
        let mut seen = Vec::with_capacity(asked.len());
        for part in asked.chunks(BEAT_UNITS_MAX) {
            let mut keys = Vec::new();
            let mut args = head(link, "0", "", Vec::new());
            self.name_units(part, &mut keys, &mut args);
            let mut row = Row::new("beat", link.run(&script::BEAT, &keys, &args).await?)?;
            let (_cluster, _nodes) = (row.value()?, row.value()?);
            seen.extend(units_seen(row.value()?, part)?);
        }
        Ok(seen)
    }

    /// As [`Store::look`], without a look into the mailboxes.
    pub async fn beat(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        units: &[(UnitId, Option<(Token, RandomId)>)],
    ) -> Result<Vec<UnitSeen>, StoreError> {
        debug_assert!(units.iter().all(|(unit, _)| unit.pipeline == *pipeline), "one hash tag a script");
        let asked = |(unit, held): &(UnitId, _)| Asked { unit: unit.clone(), held: Option::clone(held), mail: None };
        self.look(link, &units.iter().map(asked).collect::<Vec<_>>()).await
    }

    fn name_units(&self, asked: &[Asked], keys: &mut Vec<String>, args: &mut Vec<Vec<u8>>) {
        for Asked { unit, held, mail } in asked {
            keys.extend([self.keys.checkpoint(unit), self.keys.expiry(unit)]);
            let (token, owner) = held.as_ref().map_or((String::new(), ""), |(t, o)| (t.to_string(), o.as_str()));
            let slot = mail.map_or_else(|| "-".to_owned(), |mail| slot_name(unit, mail));
            if let Some(mail) = mail {
                keys.push(Inbox::of(unit, *mail).key(&self.keys));
                if !slot.is_empty() {
                    keys.push(self.keys.later(&address(unit)));
                }
            }
            args.extend([token.into_bytes(), owner.as_bytes().to_vec(), slot.into_bytes()]);
        }
    }
}

/// The first arguments.
fn head(link: &Link, members: &str, incarnation: &str, json: Vec<u8>) -> Vec<Vec<u8>> {
    let lease = link.options().lease.as_millis().to_string();
    vec![lease.into_bytes(), members.into(), incarnation.into(), json]
}

fn units_seen(value: redis::Value, asked: &[Asked]) -> Result<Vec<UnitSeen>, StoreError> {
    let units = Row::new("beat", value)?.rest().zip(asked);
    let units = units.map(|(value, asked)| unit_seen(value, asked.mail.is_some())).collect::<Result<Vec<_>, _>>()?;
    // A shorter answer would take the lease of one unit for another's.
    match units.len() == asked.len() {
        true => Ok(units),
        false => Err(StoreError::Protocol(format!("beat: {} units of {}", units.len(), asked.len()))),
    }
}

fn unit_seen(value: redis::Value, mail_asked: bool) -> Result<UnitSeen, StoreError> {
    let mut row = Row::new("beat", value)?;
    let seen = UnitSeen {
        renewed: row.number()? == 1,
        left_ms: row.number()?,
        owner: RandomId::stored(&row.text()?),
        node: row.text()?,
        token: Token(row.text()?.parse().unwrap_or(0)),
        tip: RandomId::stored(&row.text()?),
        mail: None,
    };
    if !mail_asked {
        return Ok(seen);
    }
    let mail = MailSeen { last: row.text()?.parse().map_err(StoreError::Protocol)?, waits: row.number()? == 1 };
    Ok(UnitSeen { mail: Some(mail), ..seen })
}
