//! A simulated EVM chain, served as real JSON-RPC over HTTP.
//!
//! Every block follows from the plan and its height alone ([`SimChain`]): an audit computes the truth without asking
//! the server, in constant time for any height.
//!
//! | file | what it knows |
//! |---|---|
//! | `blocks` | heights to blocks, and back from hashes |
//! | `template` | what a block looks like in JSON |
//! | `noise` | random numbers that follow from a seed |
//! | `faults` | which faults there are, and their notation |
//! | `node` | the head, the methods, the errors |
//! | `server` | HTTP, faults, control at run time |
//! | `args` | the command line |

mod args;
mod blocks;
mod faults;
mod node;
mod noise;
mod server;
mod template;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use self::args::{ChainArgs, Dialect, run};
pub use self::blocks::{SimBlock, SimChain};
pub use self::faults::{FaultPlan, Outage, Slow};
pub use self::server::{Control, Running, serve};
use crate::messages::heights::Height;

/// The smallest block that can be asked for, in bytes: its own members without a transaction take about 1,700.
pub const BLOCK_BYTES_MIN: u32 = 2_000;
/// The largest block that can be asked for, in bytes.
pub const BLOCK_BYTES_MAX: u32 = 1_000_000;

/// What is simulated. Two equal plans are the same chain, byte for byte, on any machine.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainPlan {
    /// What everything random follows from.
    pub seed: u64,
    /// The head at the start: heights 0 to `blocks` exist.
    pub blocks: Height,
    /// A new block each; `None` = the head stays.
    pub block_time: Option<Duration>,
    /// About how large a block is, in bytes of JSON, within [`BLOCK_BYTES_MIN`] to [`BLOCK_BYTES_MAX`]; the genesis block is smaller.
    pub block_bytes: RangeInclusive<u32>,
    /// What `eth_chainId` answers.
    pub chain_id: u64,
    /// What goes wrong. It changes no block.
    pub faults: FaultPlan,
}

impl Default for ChainPlan {
    fn default() -> Self {
        Self {
            seed: 1,
            blocks: 1000,
            block_time: None,
            block_bytes: 5_000..=20_000,
            chain_id: 1337,
            faults: FaultPlan::default(),
        }
    }
}

#[cfg(test)]
mod tests;
