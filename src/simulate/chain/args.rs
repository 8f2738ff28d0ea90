//! `gapless simulate chain`: the command line of the simulated chain.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, ChainPlan, FaultPlan, serve};
use crate::messages::heights::{HEIGHT_MAX, Height};

/// The shortest time between blocks, in seconds.
const BLOCK_SECONDS_MIN: f64 = 0.001;
/// The longest time between blocks, in seconds.
const BLOCK_SECONDS_MAX: f64 = 86_400.0;

/// Serve a made-up blockchain as a real node would, to try gapless on without one
///
/// Every block follows from the seed: two runs with the same options serve the same
/// chain, byte for byte, so what was collected can be compared with what there was.
/// Point a pipeline at it:
///
///   [blocks.practice]
///   chain = "evm"
///   endpoints = ["http://127.0.0.1:8545"]
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct ChainArgs {
    /// Where to listen; port 0 takes any free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545")]
    pub listen: SocketAddr,
    /// What the chain follows from: another seed, another chain
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The height of the head at the start; blocks 0 to N exist
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX))]
    pub blocks: Height,
    /// Seconds from one new block to the next, for example 2 or 0.5; without it the head stays where it is
    #[arg(long, value_name = "SECONDS", value_parser = block_time)]
    pub block_time: Option<Duration>,
    /// How large blocks are, in bytes of JSON: one size, or SMALLEST..LARGEST
    #[arg(long, value_name = "BYTES", default_value = "5000..20000", value_parser = block_bytes)]
    pub block_bytes: RangeInclusive<u32>,
    /// What the node answers when it is asked which chain it serves
    #[arg(long, value_name = "ID", default_value_t = 1337)]
    pub chain_id: u64,
    /// Which kind of node to play
    #[arg(long, value_enum, default_value_t = Dialect::Evm)]
    pub dialect: Dialect,
    /// What goes wrong, as a list: for example outage=20s+5s,429=0.02,slow=0.01:800ms
    ///
    /// outage=20s+5s     of each 20 seconds the last 5: HTTP 503, or the connection is cut
    /// 429=0.02          2 % of requests: HTTP 429 with Retry-After: 1
    /// slow=0.01:800ms   1 % of requests: answered 800 ms later
    /// null=0.01         1 % of questions for the newest 3 heights: not known (yet)
    /// error=0.01        1 % of requests: HTTP 500, or JSON-RPC error -32603
    /// malformed=0.005   0.5 % of requests: cut off, or another block than was asked for
    /// short_batch=0.01  1 % of batches: up to half of the answers are missing
    /// reorder=0.5       half of the batches: answers in another order, as the protocol allows
    /// hole=100..120     these heights are never known, as on a node that lost them
    /// pruned=0..50      these heights were thrown away: error 4444
    ///
    /// Which request is hit follows from the seed and the request's number.
    /// No fault changes a block.
    #[arg(long, value_name = "PLAN", default_value = "none", verbatim_doc_comment)]
    pub faults: FaultPlan,
}

/// Which node is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Ethereum JSON-RPC
    Evm,
}

impl From<ChainArgs> for ChainPlan {
    fn from(args: ChainArgs) -> Self {
        let ChainArgs { seed, blocks, block_time, block_bytes, chain_id, faults, dialect: Dialect::Evm, listen: _ } =
            args;
        Self { seed, blocks, block_time, block_bytes, chain_id, faults }
    }
}

/// Serves until SIGINT or SIGTERM. The error names the address that could not be listened on.
pub async fn run(args: ChainArgs) -> anyhow::Result<()> {
    // Before the line that says it serves: whoever reads it may send a signal at once.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (listen, seed) = (args.listen, args.seed);
    let cannot = || format!("cannot listen on {listen}; is something else there? choose another --listen");
    let running = serve(args.into(), listen).await.with_context(cannot)?;
    println!("serving chain seed={seed} on {} (head {})", running.url(), running.control().head());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    running.stop().await;
    Ok(())
}

fn block_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (BLOCK_SECONDS_MIN..=BLOCK_SECONDS_MAX).contains(s));
    let fault = || format!("write seconds from {BLOCK_SECONDS_MIN} to {BLOCK_SECONDS_MAX}, for example 2 or 0.5");
    seconds.map(Duration::from_secs_f64).ok_or_else(fault)
}

fn block_bytes(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (smallest, largest) = text.split_once("..").unwrap_or((text, text));
    let size = |text: &str| text.parse::<u32>().ok().filter(|s| (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(s));
    let range = size(smallest).zip(size(largest)).filter(|(smallest, largest)| smallest <= largest);
    let fault = || format!("write one size, or SMALLEST..LARGEST, from {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX} bytes");
    range.map(|(smallest, largest)| smallest..=largest).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ChainArgs,
    }

    fn parse(line: &str) -> Result<ChainPlan, String> {
        let words = std::iter::once("chain").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args.into()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_bare_command_is_the_default_plan() {
        assert_eq!(parse(""), Ok(ChainPlan::default()));
    }

    #[test]
    fn every_option_reaches_the_plan() {
        let line =
            "--seed 7 --blocks 50 --block-time 0.5 --block-bytes 3000 --chain-id 5 --dialect evm --faults 429=0.5";
        let expected = ChainPlan {
            seed: 7,
            blocks: 50,
            block_time: Some(Duration::from_millis(500)),
            block_bytes: 3000..=3000,
            chain_id: 5,
            faults: FaultPlan { limited: 0.5, ..FaultPlan::default() },
        };
        assert_eq!(parse(line), Ok(expected));
    }

    #[test]
    fn what_is_impossible_is_refused_with_the_remedy() {
        for (line, reason) in [
            ("--block-time 0", "write seconds from"),
            ("--block-time inf", "write seconds from"),
            ("--block-bytes 9..3000", "SMALLEST..LARGEST"),
            ("--block-bytes 4000..3000", "SMALLEST..LARGEST"),
            ("--faults 429=2", "fault `429=2`"),
            ("--blocks 9007199254740992", "9007199254740991"),
            ("--dialect bitcoin", "evm"),
        ] {
            let fault = parse(line).expect_err(line);
            assert!(fault.contains(reason), "{line}: {fault}");
        }
    }
}
