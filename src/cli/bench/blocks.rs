//! Blocks: what the node and the disk give alone, then a real node that stores a chain; each round on fresh folders.
//!
//! | file | what it does |
//! |---|---|
//! | `limits` | the thinnest client of the chain's node, and of the disk |
//! | `follow` | a real node, from when it holds nothing yet to its last block |
//! | `report` | the table |

mod follow;
mod limits;
mod report;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::child::Child;
use super::node::on_a_runtime;
use super::place::Place;
use super::server::{Durability, Server};
use follow::{Follow, Part};
use limits::Blocks;
use report::{Conditions, Report, Row};

/// Heights in one request, as a node is configured by default.
const BATCH: u64 = 20;
/// Requests under way at a time in the limit, like the slots of one pipeline by default.
const REQUESTS: usize = 4;
/// Blocks that only the Collector may write: the largest window that can be configured.
const WINDOW: u64 = 512;
/// Blocks of the rows about the disk alone, at the most.
const DISK_BLOCKS_MAX: u64 = 4_000;

/// What may be chosen.
#[derive(Debug, Args)]
pub struct BlocksArgs {
    /// Blocks of the past in a round
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    blocks: u64,
    /// Bytes of a block's JSON, about
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    bytes: u32,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Where the blocks go: the disk that is measured; a folder of its own is made there, and removed
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "DIR")]
    dir: PathBuf,
}

/// Runs all rounds.
pub fn run(args: &BlocksArgs) -> Result<Report> {
    let place = Place::new(&args.dir)?;
    let mut report = Report::new(Conditions {
        blocks: args.blocks,
        bytes: args.bytes,
        runs: args.runs,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        redis: Server::start(Durability::Nothing)?.info("redis_version")?,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    for n in 0..args.runs {
        round(args, &place.folder(&format!("round-{n}"))?, &mut report)?;
    }
    Ok(report)
}

fn round(args: &BlocksArgs, folder: &Path, report: &mut Report) -> Result<()> {
    let head = args.blocks + WINDOW;
    let (mut chain, url) = Child::chain(folder, head, args.bytes)?;
    let fetch = on_a_runtime(limits::fetch(&url, args.blocks))?;
    report.add(Row::Fetch, fetch, fetch);
    let blocks = Blocks { count: args.blocks.min(DISK_BLOCKS_MAX), bytes: args.bytes };
    let disk = on_a_runtime(limits::files(folder.join("limit"), blocks))?;
    report.add(Row::Files, disk, disk);
    for batch in [BATCH, 200] {
        let stored = on_a_runtime(limits::store(folder.join(format!("store-{batch}")), blocks, batch))?;
        report.add(Row::Store(batch), stored, disk);
    }
    for (row, part) in [(Row::Head, Part::Head), (Row::Past(1), Part::Past)] {
        // The append-only file is on, as it is by default.
        let server = Server::start(Durability::EverySecond)?;
        let follow = Follow { server: &server, chain: &url, folder, part, head, window: WINDOW };
        report.add(row, follow.measure()?, fetch);
    }
    chain.check()
}
