//! Questions of people about Redis itself: how late it is, how far away it is, and whether what gapless needs works.

use std::time::{Duration, Instant};

use super::Store;
use super::effect::{Ack, Commit, Effect, Outgoing};
use super::error::StoreError;
use super::lease::{Fate, Lease, Mail};
use super::link::Link;
use super::reply::{self, Row};
use crate::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use crate::messages::tally::TallyMessage;

/// Milliseconds since 1970 by the clock of the server, the only one that ages are counted by.
pub async fn server_ms(link: &Link) -> Result<u64, StoreError> {
    let mut row = Row::new("TIME", link.call("TIME", &redis::cmd("TIME")).await?)?;
    let (seconds, micros) = (row.number()?, row.number()?);
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

/// Whether the append-only file has everything that was answered, as far as the process goes: `kill -9` of the server takes
/// nothing of it. A write waits there while a sync of the disk is under way.
pub async fn is_written(link: &Link) -> Result<bool, StoreError> {
    let info = reply::text("INFO", link.call("INFO", redis::cmd("INFO").arg("persistence")).await?)?;
    let waits = info.lines().find_map(|line| line.strip_prefix("aof_buffer_length:"));
    Ok(waits.is_none_or(|bytes| bytes.trim() == "0"))
}

/// One round trip.
pub async fn round_trip(link: &Link) -> Result<Duration, StoreError> {
    let started = Instant::now();
    link.call("PING", &redis::cmd("PING")).await?;
    Ok(started.elapsed())
}

/// A trial that failed: which step, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// What was tried.
    pub step: &'static str,
    /// What was the matter.
    pub fault: StoreError,
}

impl Store {
    /// Sends, reads and commits one message the way actors do, in keys of its own (`PREFIX:doctor:RANDOM:`), and
    /// deletes them. Answers how long it took.
    ///
    /// A crash in between leaves these few keys behind; nothing ever reads them.
    pub async fn trial(&self, link: &Link) -> Result<Duration, FailedStep> {
        let started = Instant::now();
        let prefix = format!("{}:doctor:{}", self.keys.prefix(), RandomId::new().short());
        let store = Store::new(&prefix, &self.node, RandomId::new());
        let pipeline = PipelineId::new(Kind::Selftest, "doctor");
        let tried = store.try_everything(link, &pipeline).await;
        let swept = store.sweep_trial(link, &pipeline).await;
        tried?;
        swept.map_err(|fault| FailedStep { step: "deleting the keys of the trial", fault })?;
        Ok(started.elapsed())
    }

    async fn try_everything(&self, link: &Link, pipeline: &PipelineId) -> Result<(), FailedStep> {
        let at = |step: &'static str| move |fault: StoreError| FailedStep { step, fault };
        let (unit, address) = (UnitId::exclusive(pipeline, "trial"), Address::new(pipeline, "trial"));
        self.mark_pipeline(link, pipeline, false).await.map_err(at("writing a hash"))?;
        let message = Outgoing::new(&TallyMessage::Number { n: 1 }).map_err(at("writing a message"))?;
        self.send(link, &address, 1, Some("trial"), &message).await.map_err(at("sending to a mailbox"))?;
        let lease = Lease::acquire(self, link, &unit, Mail::Offset, None, &Fate::Clean).await;
        let lease = lease.map_err(at("taking a lease"))?;
        let delivery = lease.claim().await.map_err(at("reading a mailbox"))?;
        let Some(entry) = delivery.entries.first() else {
            let fault = StoreError::Protocol("the message that was just sent is not there".to_owned());
            return Err(FailedStep { step: "reading a mailbox", fault });
        };
        let record = vec![(b"n".to_vec(), b"1".to_vec())];
        let append = Effect::Append { output: "trial".to_owned(), records: vec![record] };
        let ack = Ack::Through { last: entry.id, count: 1 };
        let commit = Commit { state: Some("{}".to_owned()), ack, effects: vec![append] };
        lease.commit(&commit).await.map_err(at("committing a turn"))?;
        lease.release().await.map_err(at("giving a lease back"))
    }

    async fn sweep_trial(&self, link: &Link, pipeline: &PipelineId) -> Result<(), StoreError> {
        let (unit, address) = (UnitId::exclusive(pipeline, "trial"), Address::new(pipeline, "trial"));
        let keys = [
            self.keys.facts(pipeline),
            self.keys.checkpoint(&unit),
            self.keys.expiry(&unit),
            self.keys.history(&unit),
            self.keys.mailbox(&address),
            self.keys.later(&address),
            self.keys.dead(&address),
            self.keys.dedupe(&address),
            self.keys.output(pipeline, "trial"),
        ];
        let answer = link.call("DEL", redis::cmd("DEL").arg(&keys)).await?;
        reply::text("DEL", answer).map(drop)
    }
}
