//! Sync: what the thinnest clients copy from one Redis to another, then a real node that does so; each on a fresh target.
//!
//! | file | what it does |
//! |---|---|
//! | `limits` | the thinnest clients that copy streams, by position and through a group |
//! | `follow` | a real node, from its first entry on the target to the last; and whether both ends are the same then |
//! | `report` | the table |

mod follow;
mod limits;
mod report;

use anyhow::Result;
use clap::Args;

use super::server::{Aof, Durability, Server};
use super::wire;
use follow::Follow;
use report::{Conditions, Figure, Report, Row};

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
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Append-only file of both Redis servers: synced every second (the default of gapless), off, or one after the other
    #[arg(long, value_enum, default_value_t = Aof::Both)]
    aof: Aof,
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

/// Runs all rounds.
pub fn run(args: &SyncArgs) -> Result<Report> {
    let mut report = Report::new(Conditions {
        entries: args.entries,
        bytes: args.bytes,
        runs: args.runs,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        redis: Server::start(Durability::Nothing)?.info("redis_version")?,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        evidence: args.evidence,
    });
    for _ in 0..args.runs {
        for durability in args.aof.durabilities() {
            for streams in &args.streams {
                round(args, *durability, *streams, &mut report)?;
            }
        }
    }
    Ok(report)
}

/// Both limits, then both ways of a node; one source, a fresh target for each.
fn round(args: &SyncArgs, durability: Durability, streams: u32, report: &mut Report) -> Result<()> {
    let source = Server::start(durability)?;
    fill(args, &source, streams)?;
    let mut limits = Vec::new();
    for way in [Way::Tail, Way::Group] {
        let target = Server::start(durability)?;
        let seconds = limits::copy(&source, &target, streams, way)?;
        follow::compare(&source, &target, streams, args.entries)?;
        limits.push(Figure { entries: args.entries, seconds, ..Figure::default() });
    }
    let of = [limits[0], limits[1]];
    for (way, figure) in [Way::Tail, Way::Group].into_iter().zip(&limits) {
        report.add(durability, streams, Row::Limit(way), *figure, of);
    }
    for way in [Way::Tail, Way::Group] {
        let (target, own) = (Server::start(durability)?, Server::start(Durability::EverySecond)?);
        let follow = Follow {
            source: &source,
            target: &target,
            own: &own,
            streams,
            entries: args.entries,
            way,
            evidence: args.evidence,
        };
        report.add(durability, streams, Row::Node(way), follow.measure()?, of);
        follow::compare(&source, &target, streams, args.entries)?;
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
