//! Blocks: what the node and the disk give alone, then a real node that stores a chain; each round on fresh folders.
//!
//! | file | what it does |
//! |---|---|
//! | `limits` | the thinnest client of the chain's node, and of the disk |
//! | `held` | a real node, from when it holds nothing yet to its last block |

mod held;
mod limits;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::child::Child;
use super::node::on_a_runtime;
use super::place::Place;
use super::report::{Column, Group, Report, Table};
use super::server::{Durability, Server};
use super::usage::Figure;
use held::{Held, Part};
use limits::Blocks;

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

/// What every row shows.
const COLUMNS: [Column; 4] = [
    Column::rate("blocks/s"),
    Column::new("of_limit", "of limit"),
    Column::new("cpu_seconds_per_1000", "CPU s / 1,000").digits(3),
    Column::peak("peak_kib"),
];

/// Runs all rounds.
pub fn run(args: &BlocksArgs) -> Result<Report> {
    let place = Place::new(&args.dir)?;
    let of = format!("{} blocks of about {} B, append-only file everysec", args.blocks, args.bytes);
    let conditions = json!({ "blocks": args.blocks, "bytes": args.bytes });
    let mut report = Report::new(&of, args.runs, conditions, vec![Table::new("rows", "", &COLUMNS)])?;
    for n in 0..args.runs {
        round(args, &place.folder(&format!("round-{n}"))?, report.table("rows")?)?;
    }
    Ok(report)
}

fn round(args: &BlocksArgs, folder: &Path, table: &mut Table) -> Result<()> {
    let head = args.blocks + WINDOW;
    let (mut chain, url) = Child::chain(folder, head, args.bytes)?;
    let mut add = |limit: &str, of: Figure, what: &str, figure: Figure| {
        let values = vec![figure.rate(), figure.rate() / of.rate(), figure.cpu_for(1e3), figure.peak_kib as f64];
        table.add(Group::new(format!("of the limit: {limit}"), "limit", json!(limit)), what, values);
    };
    let fetch = on_a_runtime(limits::fetch(&url, args.blocks))?;
    add("fetch", fetch, "limit: fetched in batches of 20, forgotten", fetch);
    let blocks = Blocks { count: args.blocks.min(DISK_BLOCKS_MAX), bytes: args.bytes };
    let disk = on_a_runtime(limits::files(folder.join("limit"), blocks))?;
    add("files", disk, "limit: a file each, synced", disk);
    for batch in [BATCH, 200] {
        let stored = on_a_runtime(limits::store(folder.join(format!("store-{batch}")), blocks, batch))?;
        add("files", disk, &format!("store: {batch} a call, digests"), stored);
    }
    for (what, part) in [("head: one collector", Part::Head), ("past: one node, 4 slots", Part::Past)] {
        // The append-only file is on, as it is by default.
        let server = Server::start(Durability::EverySecond)?;
        let node = Held { server: &server, chain: &url, folder, part, head, window: WINDOW };
        add("fetch", fetch, what, node.measure()?);
    }
    chain.check()
}
