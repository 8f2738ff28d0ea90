//! Sync: what the thinnest clients copy from one Redis to another, then a real node that does so; each on a fresh target.
//!
//! | file | what it does |
//! |---|---|
//! | `limits` | the thinnest clients that copy streams, by position and through a group |
//! | `copied` | a real node, from its first entry on the target to the last; and whether both ends are the same then |

mod copied;
mod limits;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::report::{Column, Group, Report, Table};
use super::server::{Durability, Rounds, Server};
use super::usage::Figure;
use super::wire;
use copied::Copied;

/// What may be chosen.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Entries in a round, all streams together
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    entries: u64,
    /// Bytes of an entry's only value
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=65_536))]
    bytes: u32,
    /// Streams that the entries are spread over, one measurement for each number
    #[arg(long, default_value = "1,16", value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    streams: Vec<u32>,
    #[command(flatten)]
    rounds: Rounds,
    /// The node keeps a chain of evidence, a link for each batch
    #[arg(long)]
    evidence: bool,
}

/// How entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By position: nothing is written to the source.
    Tail,
    /// Through a consumer group, and acknowledged.
    Group,
}

/// The key of a stream.
fn key(stream: u32) -> String {
    format!("bench:{stream}")
}

/// What every row shows.
const COLUMNS: [Column; 5] = [
    Column::rate("entries/s"),
    Column::new("of_limit_tail", "of tail"),
    Column::new("of_limit_group", "of group"),
    Column::new("cpu_seconds_per_million", "CPU s / M"),
    Column::peak("peak_kib"),
];

/// Runs all rounds.
pub fn run(args: &SyncArgs) -> Result<Report> {
    let of = format!("{} entries of {} B, every one compared", args.entries, args.bytes);
    let conditions = json!({ "entries": args.entries, "bytes": args.bytes, "evidence": args.evidence });
    let mut report = Report::new(&of, args.rounds.runs, conditions, vec![Table::new("rows", "", &COLUMNS)])?;
    for durability in args.rounds.turns() {
        for streams in &args.streams {
            round(args, durability, *streams, report.table("rows")?)?;
        }
    }
    Ok(report)
}

/// Both limits, then both ways of a node; one source, a fresh target for each.
fn round(args: &SyncArgs, durability: Durability, streams: u32, table: &mut Table) -> Result<()> {
    let source = Server::start(durability)?;
    fill(args, &source, streams)?;
    let mut limits = Vec::new();
    for way in [Way::Tail, Way::Group] {
        let target = Server::start(durability)?;
        let seconds = limits::copy(&source, &target, streams, way)?;
        copied::compare(&source, &target, streams, args.entries)?;
        limits.push(Figure { count: args.entries, seconds, ..Figure::default() });
    }
    let rates: Vec<f64> = limits.iter().map(|limit| limit.rate()).collect();
    let mut add = |what: &str, figure: Figure| {
        let heading = if streams == 1 { "1 stream".to_owned() } else { format!("{streams} streams") };
        let mut values = vec![figure.rate()];
        values.extend(rates.iter().map(|limit| figure.rate() / limit));
        values.extend([figure.cpu_for(1e6), figure.peak_kib as f64]);
        table.add(Group::of(durability).and(&heading, "streams", json!(streams)), what, values);
    };
    add("limit: XREAD, XADD by 1000", limits[0]);
    add("limit: XREADGROUP, XADD, XACK by 1000", limits[1]);
    for (way, what) in [(Way::Tail, "node: mode = \"tail\""), (Way::Group, "node: mode = \"group\"")] {
        let (target, own) = (Server::start(durability)?, Server::start(Durability::EverySecond)?);
        let (entries, evidence) = (args.entries, args.evidence);
        let node = Copied { source: &source, target: &target, own: &own, streams, entries, way, evidence };
        add(what, node.measure()?);
        copied::compare(&source, &target, streams, args.entries)?;
    }
    Ok(())
}

/// Spreads the entries over the streams of the source.
fn fill(args: &SyncArgs, source: &Server, streams: u32) -> Result<()> {
    let mut wire = source.wire()?;
    for stream in 0..streams {
        let (n, of) = (u64::from(stream), u64::from(streams));
        let share = args.entries / of + u64::from(n < args.entries % of);
        wire::fill(&mut wire, &key(stream), share, args.bytes as usize)?;
    }
    Ok(())
}
