//! `gapless simulate`: peers to try gapless with.

use clap::Subcommand;

use super::exit::Exit;
use crate::simulate::chain::{self, ChainArgs};

/// What to play.
#[derive(Debug, Subcommand)]
pub enum Simulate {
    /// A chain behind an endpoint of EVM JSON-RPC or Cosmos REST, byte for byte the same for the same seed
    #[command(after_help = "Examples:\n  \
        gapless simulate chain --blocks 5000 --block-time 1 --faults reorg=50:3,429=0.02\n  \
        gapless simulate chain --dialect cosmos-rest --chain-id migaloo-sim --block-time 6\n\n\
        A pipeline that follows it (cosmos-rest: chain = \"cosmos-rest\", start = 1):\n  \
        [blocks.practice]\n  \
        chain = \"evm\"\n  \
        endpoints = [\"http://127.0.0.1:8545\"]\n\n\
        The same options are the same chain, byte for byte, so what was collected can be compared with what there was.\n\
        An EVM node also serves newHeads at ws://, and drops a reader that falls 10,000 heights behind, as geth does.\n\
        It serves until SIGTERM or Ctrl-C.")]
    Chain(Box<ChainArgs>),
}

/// Plays it until SIGTERM.
pub fn run(what: Simulate) -> Exit {
    let played = actix_rt::System::new().block_on(async {
        match what {
            Simulate::Chain(args) => chain::run(*args).await,
        }
    });
    match played {
        Ok(()) => Exit::good(),
        Err(error) => Exit::usage(&format!("{error:#}")),
    }
}
