//! Simulated chains, served as real nodes do it: EVM JSON-RPC over HTTP and WebSocket, or the REST gateway of a Cosmos
//! chain.
//!
//! Every block follows from the plan and its height alone ([`SimChain`]): an audit computes the truth without asking
//! the server, in constant time for any height.
//!
//! | file | what it knows |
//! |---|---|
//! | `network` | which chain is played: its dialect and its id |
//! | `blocks` | heights to blocks, and back from hashes |
//! | `reorg` | which blocks are replaced, and when |
//! | `template`, `evm_block`, `cosmos_block` | what a block looks like in JSON |
//! | `faults` | which faults there are, and their notation |
//! | `fate` | what goes wrong with one request |
//! | `node` | the head, and which heights the node shows |
//! | `rpc` | the methods and errors of EVM JSON-RPC |
//! | `gateway` | the paths and errors of Cosmos REST |
//! | `socket` | `newHeads` over WebSocket |
//! | `server` | HTTP, control at run time |
//! | `args` | the command line |

mod args;
mod blocks;
mod cosmos_block;
mod evm_block;
mod fate;
mod faults;
mod gateway;
mod network;
mod node;
mod reorg;
mod rpc;
mod server;
mod socket;
mod template;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use self::args::{ChainArgs, Dialect, run};
pub use self::blocks::{SimBlock, SimChain};
pub use self::faults::{FaultPlan, Outage, Slow};
pub use self::network::Network;
pub use self::reorg::{REORG_DEPTH_MAX, Reorgs};
pub use self::server::{Control, Running, serve};
use crate::messages::heights::Height;

/// The largest block that can be asked for, in bytes.
pub const BLOCK_BYTES_MAX: u32 = 1_000_000;
/// How far `finalized` is behind the head unless the plan says otherwise: two epochs of Ethereum.
pub const FINALIZED_DEPTH: u64 = 64;

/// What is simulated. Two equal plans are the same chain, byte for byte, on any machine.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainPlan {
    /// What everything random follows from.
    pub seed: u64,
    /// Which chain it is, and how it is served.
    pub network: Network,
    /// The head at the start: heights from [`Network::first`] to `blocks` exist.
    pub blocks: Height,
    /// A new block each; `None` = the head stays.
    pub block_time: Option<Duration>,
    /// About how large a block is, in bytes of JSON, within [`Network::block_bytes_min`] to [`BLOCK_BYTES_MAX`]; the
    /// first block is smaller.
    pub block_bytes: RangeInclusive<u32>,
    /// How far the tag `finalized` is behind the head (EVM); `safe` is half as far. 0 = the node knows neither tag.
    pub finalized_depth: u64,
    /// What goes wrong. It changes no final block.
    pub faults: FaultPlan,
}

impl Default for ChainPlan {
    fn default() -> Self {
        Self {
            seed: 1,
            network: Network::default(),
            blocks: 1000,
            block_time: None,
            block_bytes: 5_000..=20_000,
            finalized_depth: FINALIZED_DEPTH,
            faults: FaultPlan::default(),
        }
    }
}

impl ChainPlan {
    /// Whether its parts fit together; the error says which do not, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        self.network.check()?;
        let (first, least) = (self.network.first(), self.network.block_bytes_min());
        if self.blocks < first {
            return Err(format!("the head {} is below the first height of this chain, {first}", self.blocks));
        }
        if *self.block_bytes.start() < least {
            let asked = self.block_bytes.start();
            return Err(format!("blocks of {asked} bytes are too small for this dialect; write {least} or more"));
        }
        match &self.network {
            Network::Evm(_) => self.check_finality(),
            Network::CosmosRest(_) => self.faults.without_evm(),
        }
    }

    /// What is called final or safe must not be replaced.
    fn check_finality(&self) -> Result<(), String> {
        let Some(depth) = self.faults.reorg.map(Reorgs::depth) else { return Ok(()) };
        if self.finalized_depth > 0 && self.finalized_depth / 2 < depth {
            return Err(format!(
                "reorgs of {depth} blocks would replace blocks that are called safe or finalized; make the finalized \
                 depth {} or more, or 0 for a node without these tags",
                2 * depth
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
