//! `gapless simulate chain`: the command line of the simulated chain.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::{BLOCK_BYTES_MAX, ChainPlan, FINALIZED_DEPTH, FaultPlan, Network, serve};
use crate::messages::heights::{HEIGHT_MAX, Height};

/// The shortest time between blocks, in seconds.
const BLOCK_SECONDS_MIN: f64 = 0.001;
/// The longest time between blocks, in seconds.
const BLOCK_SECONDS_MAX: f64 = 86_400.0;

/// The smallest block of any dialect, in bytes.
const BLOCK_BYTES_MIN: u32 = 2_000;
/// The chain id of a Cosmos chain that was given none.
const COSMOS_CHAIN_ID: &str = "gapless-sim-1";

/// The arguments of `gapless simulate chain`.
#[derive(Debug, Clone, Args)]
pub struct ChainArgs {
    /// Where to listen; port 0 takes any free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545")]
    pub listen: SocketAddr,
    /// What the chain follows from: another seed, another chain
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The height of the head at the start; blocks 0 (cosmos-rest: 1) to N exist
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX))]
    pub blocks: Height,
    /// Seconds from one new block to the next, for example 2 or 0.5; without it the head stays where it is
    #[arg(long, value_name = "SECONDS", value_parser = block_time)]
    pub block_time: Option<Duration>,
    /// How large blocks are, in bytes of JSON: one size, or SMALLEST..LARGEST (cosmos-rest: from 5000 on)
    #[arg(long, value_name = "BYTES", default_value = "5000..20000", value_parser = block_bytes)]
    pub block_bytes: RangeInclusive<u32>,
    /// Which chain the node says it serves: a number for evm [default: 1337], for cosmos-rest a text
    /// such as migaloo-sim [default: gapless-sim-1]
    #[arg(long, value_name = "ID")]
    pub chain_id: Option<String>,
    /// Which kind of node to play
    #[arg(long, value_enum, default_value_t = Dialect::Evm)]
    pub dialect: Dialect,
    /// How far the tag "finalized" is behind the head, "safe" half as far; 0: the node knows neither,
    /// error -39001 (evm) [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX))]
    pub finalized_depth: Option<u64>,
    /// What goes wrong, as a list: for example outage=20s+5s,429=0.02,slow=0.01:800ms
    ///
    /// outage=20s+5s     of each 20 seconds the last 5: HTTP 503, or the connection is cut
    /// 429=0.02          2 % of requests: HTTP 429 with Retry-After: 1
    /// slow=0.01:800ms   1 % of requests: answered 800 ms later
    /// null=0.01         1 % of questions for the newest 3 heights: not known (yet);
    ///                   cosmos-rest: "bigger then the chain length", never for `latest`
    /// error=0.01        1 % of requests: HTTP 500, or JSON-RPC error -32603
    /// malformed=0.005   0.5 % of requests: cut off, or another block than was asked for
    /// hole=100..120     these heights are never known, as on a node that lost them: null;
    ///                   cosmos-rest: HTTP 200 with "block":null
    /// pruned=0..50      these heights were thrown away: error 4444;
    ///                   cosmos-rest: HTTP 500, "is not available, lowest height is 51"
    /// keep=500          only the newest 500 blocks are kept: a horizon that moves with the head
    ///
    /// Of EVM nodes only:
    ///
    /// short_batch=0.01  1 % of batches: up to half of the answers are missing
    /// reorder=0.5       half of the batches: answers in another order, as the protocol allows
    /// reorg=50:3        the block above each 50th stands on another branch: it replaces the 3
    ///                   blocks below it. A height is final once the head has passed the next
    ///                   multiple of 50, or at once where it is not among the last 3 up to it
    /// silent=0.1        10 % of WebSockets: after 1 to 9 headers nothing comes any more but
    ///                   pongs, and nobody closes
    ///
    /// Which request is hit follows from the seed and the request's number.
    /// No fault changes a final block.
    #[arg(long, value_name = "PLAN", default_value = "none", verbatim_doc_comment)]
    pub faults: FaultPlan,
}

/// Which node is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Ethereum JSON-RPC
    Evm,
    /// The REST gateway of a Cosmos SDK node
    CosmosRest,
}

impl TryFrom<ChainArgs> for ChainPlan {
    type Error = String;

    /// The error says which arguments do not fit together, and what to write instead.
    fn try_from(args: ChainArgs) -> Result<Self, String> {
        let ChainArgs { seed, blocks, block_time, block_bytes, chain_id, faults, dialect, finalized_depth, listen: _ } =
            args;
        let network = network(dialect, chain_id)?;
        if finalized_depth.is_some() && dialect == Dialect::CosmosRest {
            return Err("--finalized-depth: blocks of this chain are final at once; leave it out".to_owned());
        }
        let finalized_depth = finalized_depth.unwrap_or(FINALIZED_DEPTH);
        let plan = Self { seed, network, blocks, block_time, block_bytes, finalized_depth, faults };
        plan.check()?;
        Ok(plan)
    }
}

fn network(dialect: Dialect, chain_id: Option<String>) -> Result<Network, String> {
    match (dialect, chain_id) {
        (Dialect::Evm, None) => Ok(Network::default()),
        (Dialect::Evm, Some(id)) => {
            let fault = || format!("--chain-id `{id}`: an EVM chain has a number, for example 1337");
            id.parse().map(Network::Evm).map_err(|_| fault())
        }
        (Dialect::CosmosRest, id) => Ok(Network::CosmosRest(id.unwrap_or_else(|| COSMOS_CHAIN_ID.to_owned()))),
    }
}

/// Serves until SIGINT or SIGTERM. The error names the address that could not be listened on.
pub async fn run(args: ChainArgs) -> anyhow::Result<()> {
    // Before the line that says it serves: whoever reads it may send a signal at once.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (listen, seed) = (args.listen, args.seed);
    let cannot = || format!("cannot listen on {listen}; is something else there? choose another --listen");
    let plan = ChainPlan::try_from(args).map_err(anyhow::Error::msg)?;
    let running = serve(plan, listen).await.with_context(cannot)?;
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
        Line::try_parse_from(words).map_err(|e| e.to_string())?.args.try_into()
    }

    #[test]
    fn a_bare_command_is_the_default_plan() {
        assert_eq!(parse(""), Ok(ChainPlan::default()));
    }

    #[test]
    fn every_option_reaches_the_plan() {
        let line = "--seed 7 --blocks 50 --block-time 0.5 --block-bytes 3000 --chain-id 5 --dialect evm --finalized-depth 9 \
             --faults 429=0.5";
        let expected = ChainPlan {
            seed: 7,
            blocks: 50,
            block_time: Some(Duration::from_millis(500)),
            block_bytes: 3000..=3000,
            network: Network::Evm(5),
            finalized_depth: 9,
            faults: FaultPlan { limited: 0.5, ..FaultPlan::default() },
        };
        assert_eq!(parse(line), Ok(expected));
        let cosmos = |id: &str| ChainPlan { network: Network::CosmosRest(id.to_owned()), ..ChainPlan::default() };
        assert_eq!(parse("--dialect cosmos-rest"), Ok(cosmos("gapless-sim-1")));
        assert_eq!(parse("--dialect cosmos-rest --chain-id migaloo-sim"), Ok(cosmos("migaloo-sim")));
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
            ("--chain-id migaloo-sim", "an EVM chain has a number"),
            ("--dialect cosmos-rest --chain-id a\"b", "letters, digits"),
            ("--dialect cosmos-rest --blocks 0", "below the first height of this chain, 1"),
            ("--dialect cosmos-rest --block-bytes 2000", "write 5000 or more"),
            ("--dialect cosmos-rest --finalized-depth 3", "final at once"),
            ("--dialect cosmos-rest --faults reorg=50:3", "fault `reorg`: blocks of this chain are final at once"),
            ("--dialect cosmos-rest --faults short_batch=0.1", "knows no batches; leave it out"),
            ("--dialect cosmos-rest --faults reorder=0.1", "knows no batches; leave it out"),
            ("--dialect cosmos-rest --faults silent=0.1", "has no WebSocket; leave it out"),
            ("--faults reorg=50:40", "make the finalized depth 80 or more"),
        ] {
            let fault = parse(line).expect_err(line);
            assert!(fault.contains(reason), "{line}: {fault}");
        }
    }
}
