//! Connections beside the library's that take bytes as they are. A commit of lines is written down before it is sent, and
//! of the thousands of answers to it only one is of interest: the library makes a value of each.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::connect::response_timeout;
use super::{Failure, Link, wrong_password};
use crate::store::error::StoreError;
use crate::wire::{Door, Line, WireError};

/// One such connection, for one exchange at a time. Dropped half-way, its transaction is not done, or nobody hears of it.
pub(super) struct Raw {
    pub(super) line: Line,
    /// Of the library's connection that it stands beside, and the home of both.
    pub(super) at: (u64, u64),
    /// It was seen that this user may send transactions.
    pub(super) may_transact: bool,
}

/// Those that nobody uses: at most as many as transactions were under way at once, one for each unit that appends lines.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Raw>>);

impl Link {
    /// A connection to the server that all others have found.
    pub(super) async fn raw(&self) -> Result<Raw, Failure> {
        let (_, generation, home) = self.connection().await?;
        let kept = {
            let mut spare = self.inner.raw.0.lock().unwrap_or_else(PoisonError::into_inner);
            spare.retain(|raw| raw.at == (generation, home));
            spare.pop()
        };
        match kept {
            Some(raw) => Ok(raw),
            None => Box::pin(self.open_raw((generation, home))).await,
        }
    }

    /// For the next exchange.
    pub(super) fn keep(&self, raw: Raw) {
        if raw.line.is_whole() {
            self.inner.raw.0.lock().unwrap_or_else(PoisonError::into_inner).push(raw);
        }
    }

    async fn open_raw(&self, at: (u64, u64)) -> Result<Raw, Failure> {
        let (options, health) = (&self.inner.options, &self.inner.health);
        let gone = || Failure::Passing { reason: "the connection was closed".to_owned(), dropped: true };
        let place = self.inner.slot.lock().await.place.clone().ok_or_else(gone)?;
        let door = Door {
            side: "redis.",
            connect_timeout: options.connect_timeout,
            command_timeout: response_timeout(options, self.inner.class),
            name: String::new(),
            shown: Some(place.shown.clone()),
            asking: false,
            end: place.end.clone(),
        };
        let opened = self.while_at_home(at, door.open(door.end.url.db)).await?;
        health.connects_total.fetch_add(1, Ordering::Relaxed);
        let (line, server) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(self.raw_failed(error, at, "a connection").await),
        };
        let history = match (server.run_id.as_str(), server.replid.as_str()) {
            ("", "") => place.shown.clone(),
            (run, line_of_writes) => format!("{run}/{line_of_writes}"),
        };
        if health.settle(&history, &place.shown) != at.1 {
            let reason = "it is another server than the other connections have found".to_owned();
            return Err(Failure::Passing { reason, dropped: true });
        }
        Ok(Raw { line, at, may_transact: false })
    }

    /// What an error says. Where the server is out of reach the library's connection is of no more use either: the next one
    /// asks anew who the master is.
    pub(super) async fn raw_failed(&self, error: WireError, at: (u64, u64), command: &str) -> Failure {
        if matches!(error, WireError::Away { .. }) {
            self.forget(at.0).await;
        }
        wire_failure(error, command)
    }
}

/// What an error says: wait, or give up.
fn wire_failure(error: WireError, command: &str) -> Failure {
    match error {
        WireError::Away { reason, .. } | WireError::Moving { reason, .. } => Failure::Passing { reason, dropped: true },
        WireError::Shut { reason, .. } if reason.starts_with("NOAUTH") || reason.starts_with("WRONGPASS") => {
            Failure::Final(wrong_password(reason))
        }
        // Too many clients: that passes.
        WireError::Shut { reason, .. } => Failure::Passing { reason, dropped: true },
        WireError::Refused { command, reason, .. } => Failure::Final(StoreError::Refused { command, reason }),
        WireError::Nonsense { reason, .. } => Failure::Final(StoreError::Protocol(format!("{command}: {reason}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_does_not_cure_is_given_up() {
        let address = "127.0.0.1:6379".to_owned();
        let shut = |words: &str| WireError::Shut { address: address.clone(), reason: words.to_owned() };
        let away = WireError::Away { address: address.clone(), reason: "the connection was closed".to_owned() };
        for passing in [shut("ERR max number of clients reached"), away] {
            assert!(matches!(wire_failure(passing, "commit"), Failure::Passing { dropped: true, .. }));
        }
        let nonsense = WireError::Nonsense { address: address.clone(), reason: "x".to_owned() };
        for last in [shut("WRONGPASS invalid username-password pair"), shut("NOAUTH no"), nonsense] {
            assert!(matches!(wire_failure(last, "commit"), Failure::Final(_)));
        }
    }
}
