//! Logs: what a thin client reaches that appends the lines of a file, then a real node that follows the file; each on a
//! Redis of its own, in turns.
//!
//! | file | what it does |
//! |---|---|
//! | `corpus` | the file and its lines |
//! | `limits` | the thinnest client that appends them |
//! | `follow` | a real node, timed and checked |
//! | `listener` | a subscriber of all lines |
//! | `latency` | from a line's writing until it can be read from the stream |
//! | `report` | the table |

mod corpus;
mod follow;
mod latency;
mod limits;
mod listener;
mod report;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::place::Place;
use super::server::{Aof, Durability, Server};
use corpus::Corpus;
use follow::Follow;
use latency::Latency;
use limits::Fields;
use report::{Conditions, Report, Row};

/// What may be chosen.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Lines of the file that is made
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    lines: u64,
    /// Bytes of one of its lines, with the line end
    #[arg(long, default_value_t = 142, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    bytes: u32,
    /// Takes the complete lines of this file instead; it is only read
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lines", "bytes"])]
    file: Option<PathBuf>,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Append-only file of Redis: synced every second (the default of gapless), off, or one after the other
    #[arg(long, value_enum, default_value_t = Aof::Everysec)]
    aof: Aof,
    /// Seconds of each measurement of latency; 0 = none
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=600))]
    seconds: u32,
    /// Lines a second that are written meanwhile
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Where the file is made, in a folder of its own that is removed
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "DIR")]
    dir: PathBuf,
}

/// Runs all rounds.
pub fn run(args: &LogsArgs) -> Result<Report> {
    let place = Place::new(&args.dir)?;
    let corpus = match &args.file {
        Some(file) => Corpus::open(file)?,
        None => Corpus::make(&place.folder("logs")?.join("app.log"), args.lines, args.bytes as usize)?,
    };
    let mut report = Report::new(Conditions {
        lines: corpus.lines,
        bytes: corpus.bytes,
        rate: args.rate,
        runs: args.runs,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        redis: Server::start(Durability::Nothing)?.info("redis_version")?,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    for _ in 0..args.runs {
        for durability in args.aof.durabilities() {
            throughput(&corpus, *durability, &mut report)?;
            if args.seconds > 0 {
                latency(args, *durability, &place, &mut report)?;
            }
        }
    }
    Ok(report)
}

fn throughput(corpus: &Corpus, durability: Durability, report: &mut Report) -> Result<()> {
    let mut limit = [0.0; 2];
    for (place, fields) in [Fields::One, Fields::Same].into_iter().enumerate() {
        let server = Server::start(durability)?;
        let figure = limits::append(&server, corpus, fields)?;
        limit[place] = figure.rate();
        report.add(durability, Row::Limit(fields), figure, limit);
    }
    for listeners in [0, 1] {
        let server = Server::start(durability)?;
        let figure = Follow { server: &server, corpus, listeners }.measure()?;
        report.add(durability, Row::Follow(listeners), figure, limit);
    }
    Ok(())
}

fn latency(args: &LogsArgs, durability: Durability, place: &Place, report: &mut Report) -> Result<()> {
    let folder = place.folder("latency")?;
    let of = |server: &Server, through: latency::Through| {
        Latency { server, lines: u64::from(args.seconds) * u64::from(args.rate), rate: args.rate, through }.measure()
    };
    let server = Server::start(durability)?;
    report.add_latency(durability, "limit: the writer appends itself", of(&server, latency::Through::Nothing)?);
    let server = Server::start(durability)?;
    let through = latency::Through::File(folder.join("app.log"));
    report.add_latency(durability, "a file that is followed", of(&server, through)?);
    Ok(())
}
