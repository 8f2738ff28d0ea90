//! `gapless simulate`: peers to try gapless with.

use clap::Subcommand;

use super::exit::Exit;
use crate::simulate::chain::{self, ChainArgs};
use crate::simulate::logs::{self, LogArgs};

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
    /// Log files that grow, are cut anywhere and are rotated in every style, with a list of what was written
    #[command(after_help = "Examples:\n  \
        mkdir -p /tmp/practice\n  \
        gapless simulate logs --dir /tmp/practice --lines 10000 --rate 500\n  \
        gapless simulate logs --dir /tmp/practice --seed 7 --files 3 --format seed,nginx,trace \\\n      \
        --rotate mix --rotate-lines 500 --faults partial=0.3,late=0.5,crlf=0.01\n\n\
        A pipeline that follows them:\n  \
        [logs.practice]\n  \
        paths = [\"/tmp/practice/app*.log*\"]\n\n\
        The same options are the same files, byte for byte. Each line is listed in FILE with its\n\
        offset, length and BLAKE3 digest before it is written, so what was collected can be\n\
        compared with what there was; a generator that is killed leaves there lines of at most one\n\
        append that are not in the file.\n\
        On SIGTERM or Ctrl-C it ends the lines that are begun, and exits.")]
    Logs(Box<LogArgs>),
}

/// Plays it until it is over, or until SIGTERM.
pub fn run(what: Simulate) -> Exit {
    let played = actix_rt::System::new().block_on(async {
        match what {
            Simulate::Chain(args) => chain::run(*args).await,
            Simulate::Logs(args) => logs::run(*args).await,
        }
    });
    match played {
        Ok(()) => Exit::good(),
        Err(error) => Exit::usage(&format!("{error:#}")),
    }
}
