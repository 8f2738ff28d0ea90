//! Redis: the only room that speaks it.
//!
//! | file | what it keeps |
//! |---|---|
//! | `keys` | every key, built here only |
//! | `link` | the connection: the way there, classes, deadlines, reconnecting for ever |
//! | `managed` | a private server on this machine |
//! | `startup` | which Redis this is, and whether it may be trusted |
//! | `lease` | a held unit: acquire, claim (fenced read), commit, release |
//! | `turn` | the words of a turn: deliveries, fates, what a commit answered |
//! | `effect` | the closed list of what a commit may do |
//! | `lines` | lines of log files, appended by a transaction that the commit judges |
//! | `trim` | what stays of an output |
//! | `output` | outputs from outside: facts, reading on, groups |
//! | `table` | records of a unit beside its checkpoint |
//! | `mailbox` | sending from outside, looking |
//! | `dead` | the letters that were set aside: looking, retrying, dropping |
//! | `membership` | who lives |
//! | `beat` | the regular exchange of a node: renewals, units and mailboxes, who lives |
//! | `format` | which formats this release reads and writes |
//! | `pool` | what the slots of a pool still owe |
//! | `identity` | what each pipeline is configured to be, so that nodes agree |
//! | `heights` | the held and parked heights, read page by page |
//! | `view` | the heights as two plain keys, for others |
//! | `checkpoint` | checkpoints and their history, for people |
//! | `rewind` | a unit sent back by an operator |
//! | `rights` | what the user must be allowed to do, and what it is not |
//! | `status` | how far away Redis is, and whether what gapless needs works |
//! | `scripts/` | the Lua of all of these |
//!
//! What a crash before or after each call means stands at the call. The protocol is argued in `docs/protocol.md`
//! and searched exhaustively in `tests/model/`.

mod aof;
pub mod beat;
pub mod checkpoint;
pub mod dead;
pub mod effect;
pub mod error;
pub mod format;
pub mod heights;
pub mod identity;
pub mod keys;
pub mod lease;
pub mod lines;
pub mod link;
pub mod mailbox;
pub mod managed;
pub mod membership;
pub mod options;
pub mod output;
mod packed;
pub mod pool;
mod reply;
pub mod rewind;
pub mod rights;
mod sabotage;
mod script;
mod settings;
pub mod startup;
pub mod status;
pub mod table;
pub mod trim;
mod turn;
pub mod view;

pub use error::StoreError;
pub use reply::Entry;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{PipelineId, RandomId};
use format::Formats;
use keys::Keys;

/// What every call needs to know; cheap to clone. Connections are given to each call, so that every arbiter uses
/// its own.
#[derive(Debug, Clone)]
pub struct Store {
    /// Builds the keys.
    pub keys: Keys,
    /// The name of this node.
    pub node: String,
    /// The id of the Redis that this node works with.
    pub cluster: RandomId,
    /// The operator accepts that Redis lost data (`run --accept-data-loss`).
    pub accept_data_loss: bool,
    /// The formats that this node reads and may write.
    pub formats: Arc<Formats>,
    /// The digest of each pipeline's configuration, which an acquisition compares; a pipeline that is not named is not
    /// compared.
    pub configs: Arc<BTreeMap<PipelineId, String>>,
}

impl Store {
    /// A store for `node` on the Redis with the id `cluster`.
    pub fn new(prefix: &str, node: &str, cluster: RandomId) -> Self {
        let (formats, configs) = (Arc::new(Formats::new(format::newest())), Arc::default());
        Self { keys: Keys::new(prefix), node: node.to_owned(), cluster, accept_data_loss: false, formats, configs }
    }
}
