//! What people ask Sentinels: whether each answers, whom it calls the master, and whether they could fail over.

use redis::Value;

use super::Failure;
use super::connect::{ask_sentinel, sentinel_call};
use crate::config::{HostPort, Route};
use crate::store::error::StoreError;
use crate::store::options::{Place, StoreOptions};
use crate::store::reply;

/// What one Sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelSeen {
    /// Which one.
    pub sentinel: HostPort,
    /// The server that it calls the master, and what else it knows; or why it says nothing.
    pub told: Result<MasterTold, String>,
}

/// What a Sentinel knows of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterTold {
    /// Where it is.
    pub master: HostPort,
    /// Its replicas.
    pub replicas: u64,
    /// The other Sentinels that it knows.
    pub others: u64,
    /// How many must agree that the master is gone.
    pub quorum: u64,
    /// Whether quorum and majority could be reached now, in its words.
    pub judged: Result<(), String>,
}

/// Asks every Sentinel of the address; none where it names none.
pub async fn look(options: &StoreOptions) -> Vec<SentinelSeen> {
    let Place::Server(url) = &options.place else { return Vec::new() };
    let Route::Sentinel { sentinels, master: name } = &url.route else { return Vec::new() };
    let mut seen = Vec::with_capacity(sentinels.len());
    for sentinel in sentinels {
        let told = async {
            let master = ask_sentinel(options, url, sentinel, name).await?;
            let ask = async |word: &str| {
                let mut cmd = redis::cmd("SENTINEL");
                cmd.arg(word).arg(name);
                sentinel_call(options, url, sentinel, &cmd).await
            };
            let facts = reply::pairs("SENTINEL", ask("MASTER").await?).map_err(Failure::Final)?;
            let number = |name: &str| {
                facts.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
            };
            let judged = match ask("CKQUORUM").await {
                Ok(Value::SimpleString(_) | Value::BulkString(_) | Value::Okay) => Ok(()),
                Ok(other) => Err(format!("{other:?}")),
                Err(failure) => Err(words(failure)),
            };
            Ok(MasterTold {
                master,
                replicas: number("num-slaves"),
                others: number("num-other-sentinels"),
                quorum: number("quorum"),
                judged,
            })
        };
        seen.push(SentinelSeen { sentinel: sentinel.clone(), told: told.await.map_err(words) });
    }
    seen
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Passing { reason, .. } => reason,
        Failure::NoScript => "it asks for a script".to_owned(),
        Failure::Final(StoreError::Refused { command, reason }) => format!("refused {command}: {reason}"),
        Failure::Final(error) => error.to_string(),
    }
}
