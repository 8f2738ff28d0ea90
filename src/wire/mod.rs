//! Wire: Redis as spoken to servers that are not ours. Replies stay raw bytes, so that an entry is what it was.
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
//! The store speaks to gapless's own Redis through a library. Here a library would cost what the job is about: it makes
//! maps of fields (order and doubles are lost) or values of bytes (five copies and four times the CPU, measured).

pub mod entries;
mod line;
mod lines;
pub mod look;
mod open;
mod request;
mod scan;
mod slots;
mod tls;

pub use entries::{Answer, Item, Part};
pub use line::Line;
pub use lines::{Lines, Nodes};
pub use open::{Door, Server};
pub use request::Request;
pub use scan::Reply;
pub use slots::{Node, beside, slot_of};

/// Why a foreign Redis gave no answer, or not the one that was asked for.
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
    /// The key's slot is on its way to another node of the cluster; that passes.
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
    /// Whether the server has no memory left for writes.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, WireError::Refused { reason, .. } if reason.starts_with("OOM") || reason.contains("OOM command"))
    }
}
