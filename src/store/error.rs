//! What Redis, or a script, may refuse.

use crate::messages::heights::Height;

/// Every answer of the store that is not success. All of them mean: nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has acquired the unit since: stop, acquire again.
    #[error("fenced: the lease is held under token {token} now")]
    Fenced {
        /// The newest token.
        token: String,
    },
    /// The checkpoint is not where the decision started from (a failover, or a request of our own that came late):
    /// reload, decide again.
    #[error("moved: the checkpoint stands at another tip (sequence {seq})")]
    Moved {
        /// The stored sequence number; smaller than ours after a rollback.
        seq: u64,
    },
    /// A mailbox, a stream of lines or a table has no room: wait, decide again.
    #[error("{key} is full")]
    Full {
        /// Its key.
        key: String,
    },
    /// A block does not stand on the block that is held below it.
    #[error("heights {below} and {above} do not link: {hash} below, but the parent is {parent}")]
    Link {
        /// The lower height of the pair.
        below: Height,
        /// The upper height of the pair.
        above: Height,
        /// The hash of the lower one.
        hash: String,
        /// The parent that the upper one names.
        parent: String,
    },
    /// A part of the range has been held meanwhile: read the set again, decide again.
    #[error("heights {lo}..{hi} overlap what is held by now")]
    Overlap {
        /// Lowest height of the refused range.
        lo: Height,
        /// Highest height of the refused range.
        hi: Height,
    },
    /// A task would have left this height neither held, parked nor sent on.
    #[error("height {height} would have been left out silently")]
    Uncovered {
        /// The lowest such height.
        height: Height,
    },
    /// A key is of another type, or refuses appends: an operator must look at it.
    #[error("key {key} is broken: {reason}; repair or remove it (`gapless mailbox list` shows all mailboxes)")]
    Broken {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The lease is held by another node for some time yet.
    #[error("held by node {node} for another {left_ms} ms")]
    Held {
        /// The holder.
        node: String,
        /// Milliseconds until it is free, if it is not renewed.
        left_ms: u64,
    },
    /// The checkpoint was written by a newer release.
    #[error("the checkpoint needs format {needs}, this release knows {known}; run the newer release")]
    TooOld {
        /// The format it needs.
        needs: u64,
        /// The newest format known here.
        known: u64,
    },
    /// The pipeline has another configuration by now than this node was started with.
    #[error(
        "node {node} has started this pipeline with other values (configuration {generation}) while this node was not \
         seen to live: start this node again with the same values; it then says which ones differ"
    )]
    Config {
        /// The newest configuration.
        generation: u64,
        /// Who wrote it.
        node: String,
    },
    /// This Redis is not the one that the node has worked with: emptied, restored or another one.
    #[error(
        "this Redis is not the one that this node worked with (cluster id `{found}`, expected `{expected}`): \
         it was emptied, or the address leads to another server. Restore it, or accept the loss with \
         `gapless run --accept-data-loss`"
    )]
    Alien {
        /// The id that the node remembers.
        expected: String,
        /// The id found; empty if there is none.
        found: String,
    },
    /// Redis has no memory left for appends.
    #[error("redis is out of memory: {0}")]
    OutOfMemory(String),
    /// Redis did not answer within the time that the caller gave it.
    #[error("redis at {address} is out of reach: {reason}")]
    Unreachable {
        /// Where it was expected, without the password.
        address: String,
        /// What happened last.
        reason: String,
    },
    /// Too few replicas, or not the disk, have the last commit yet (`redis.durability`): ask again.
    #[error("the last commit is not kept yet: {found} of {wanted} {what}")]
    Unconfirmed {
        /// How many have it.
        found: u64,
        /// How many must.
        wanted: u64,
        /// What is counted.
        what: &'static str,
    },
    /// Something is too large for its bound.
    #[error("{what} has {found} bytes, the limit is {limit} (configuration key {key})")]
    TooLarge {
        /// What it is.
        what: String,
        /// Its size in bytes.
        found: usize,
        /// The bound in bytes.
        limit: usize,
        /// The configuration key of the bound.
        key: &'static str,
    },
    /// A commit that no script can take, whatever Redis holds: a fault of ours.
    #[error("cannot be committed: {0}")]
    Unfit(String),
    /// Redis refused a command for a reason that waiting does not cure.
    #[error("redis refused {command}: {reason}")]
    Refused {
        /// The command or script.
        command: String,
        /// Its words.
        reason: String,
    },
    /// An answer that this release does not understand.
    #[error("unexpected answer from redis: {0}")]
    Protocol(String),
}
