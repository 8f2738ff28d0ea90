//! Which chain is played: its dialect, its id, and what follows from the two.

use crate::messages::heights::Height;

/// The longest id of a Cosmos chain, as in CometBFT.
const CHAIN_ID_MAX: usize = 50;

/// A chain by its dialect and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Ethereum JSON-RPC; what `eth_chainId` answers.
    Evm(u64),
    /// The REST gateway of a Cosmos SDK node; the `chain_id` of each header: letters, digits, `.`, `_` and `-`.
    CosmosRest(String),
}

impl Default for Network {
    fn default() -> Self {
        Self::Evm(1337)
    }
}

impl Network {
    /// The height of the first block.
    pub fn first(&self) -> Height {
        match self {
            Self::Evm(_) => 0,
            Self::CosmosRest(_) => 1,
        }
    }

    /// The smallest block that can be asked for, in bytes: without a transaction it takes a little less.
    pub fn block_bytes_min(&self) -> u32 {
        match self {
            Self::Evm(_) => 2_000,
            Self::CosmosRest(_) => 5_000,
        }
    }

    /// Seconds between two blocks, as the blocks say.
    pub(super) fn slot_seconds(&self) -> u64 {
        match self {
            Self::Evm(_) => 12,
            Self::CosmosRest(_) => 6,
        }
    }

    /// Whether the id has the form of the dialect.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::CosmosRest(id) = self else { return Ok(()) };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=CHAIN_ID_MAX).contains(&id.len()) && id.chars().all(plain) {
            return Ok(());
        }
        let id = id.escape_debug();
        Err(format!(
            "`{id}` is no chain id of a Cosmos chain; write 1 to {CHAIN_ID_MAX} letters, digits, `.`, `_` or `-`, for \
             example migaloo-sim"
        ))
    }
}
