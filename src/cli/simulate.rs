//! `gapless simulate`: peers to try gapless with.

use clap::Subcommand;

use super::exit::Exit;
use crate::simulate::chain::{self, ChainArgs};

/// What to play.
#[derive(Debug, Subcommand)]
pub enum Simulate {
    /// An EVM chain behind a JSON-RPC endpoint, byte for byte the same for the same seed
    #[command(after_help = "Example:\n  gapless simulate chain --blocks 5000 --block-time 1 --faults 429=0.02\n\n\
        Serves until SIGTERM or Ctrl-C.")]
    Chain(ChainArgs),
}

/// Plays it until SIGTERM.
pub fn run(what: Simulate) -> Exit {
    let played = actix_rt::System::new().block_on(async {
        match what {
            Simulate::Chain(args) => chain::run(args).await,
        }
    });
    match played {
        Ok(()) => Exit::good(),
        Err(error) => Exit::usage(&format!("{error:#}")),
    }
}
