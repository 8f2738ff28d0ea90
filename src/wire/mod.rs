//! Wire: Redis as bytes. To servers that are not ours, whose entries must stay what they were; and to our own for what is
//! sent by the thousand.
//!
//! | file | what it does |
//! |---|---|
//! | `scan` | where a reply ends; a reply as values |
//! | `request` | commands as bytes |
//! | `line` | one connection: sends, reads, keeps deadlines |
//! | `open` | from an address, through Sentinels and TLS, to a server that has said what it is |
//! | `slots` | which node of a cluster a key lies on |
//! | `lines` | the connections to one end, one for each node in use |
//! | `tls` | certificates, as the configuration wants them judged |
//! | `look` | what either end says of a stream, its groups and what they hold |
//! | `entries` | the entries of an answer, as places in its bytes |
//!
//! The store speaks to gapless's own Redis through a library, but for commits of lines. Here a library would cost what the
//! job is about: it makes maps of fields (order and doubles are lost) or values of bytes (five copies and four times the
//! CPU, measured).

pub mod entries;
mod line;
mod lines;
pub mod look;
mod open;
mod request;
mod scan;
mod slots;
mod tls;

use crate::config::HostPort;

pub use entries::{Answer, Item, Part};
pub use line::Line;
pub use lines::{Lines, Nodes};
pub use open::{Door, Server};
pub use request::Request;
pub use scan::{Reply, items};
pub use slots::{Node, Seat, beside, slot_of};

/// Why a Redis gave no answer, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No connection, a time-out, or a server that is not ready; waiting may cure it.
    #[error("{address} is out of reach: {reason}")]
    Away {
        /// The server, without credentials.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The key's slot is on its way to another node of the cluster: the key is there already (`ASK`), or not all keys of
    /// the command are on one side (`TRYAGAIN`); that passes.
    #[error("{address} is giving the slot away: {reason}")]
    Moving {
        /// The server, without credentials.
        address: String,
        /// Its words.
        reason: String,
    },
    /// The server lets nobody in with these credentials, or nobody more; whoever has the keys must cure it.
    #[error("{address} does not let gapless in: {reason}")]
    Shut {
        /// The server, without credentials.
        address: String,
        /// Its words.
        reason: String,
    },
    /// The server says no, and will say so again.
    #[error("{address} refused {command}: {reason}")]
    Refused {
        /// The server, without credentials.
        address: String,
        /// What it was asked.
        command: String,
        /// Its words.
        reason: String,
    },
    /// An answer that is not the protocol, or not of the form that the command has.
    #[error("{address} answers nonsense: {reason}")]
    Nonsense {
        /// The server, without credentials.
        address: String,
        /// What was wrong.
        reason: String,
    },
}

impl WireError {
    /// The node at which a key is to be asked for, while its slot is on its way there.
    pub fn asks_at(&self) -> Option<HostPort> {
        let WireError::Moving { address, reason } = self else { return None };
        let (host, port) = reason.strip_prefix("ASK ")?.split_once(' ')?.1.trim().rsplit_once(':')?;
        // A node that does not say its host is the one that was asked.
        let host = if host.is_empty() { address.rsplit_once(':')?.0 } else { host };
        Some(HostPort { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// Whether the server has no memory left for writes.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, WireError::Refused { reason, .. } if reason.starts_with("OOM") || reason.contains("OOM command"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ask_says_where_to_ask() {
        let moving =
            |reason: &str| WireError::Moving { address: "10.0.0.1:7000".to_owned(), reason: reason.to_owned() };
        let at = |host: &str, port| Some(HostPort { host: host.to_owned(), port });
        assert_eq!(moving("ASK 866 10.0.0.2:7001").asks_at(), at("10.0.0.2", 7001));
        assert_eq!(moving("ASK 866 :7001").asks_at(), at("10.0.0.1", 7001));
        assert_eq!(moving("ASK 866 fe80::1:7001").asks_at(), at("fe80::1", 7001));
        assert_eq!(moving("TRYAGAIN Multiple keys request during rehashing of slot").asks_at(), None);
        let away = WireError::Away { address: String::new(), reason: "ASK 866 10.0.0.2:7001".to_owned() };
        assert_eq!(away.asks_at(), None);
    }
}
