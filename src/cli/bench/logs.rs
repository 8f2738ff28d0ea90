//! Logs: what a thin client reaches that appends the lines of a file, then a real node that follows the file; each on a
//! Redis of its own, in turns. Beside that how soon a line is visible, and what files cost in which nothing happens.
//!
//! | file | what it does |
//! |---|---|
//! | `corpus` | the file and its lines |
//! | `limits` | the thinnest client that appends them |
//! | `node` | the node that is measured |
//! | `throughput` | a node with a whole file before it, timed and checked |
//! | `listener` | a subscriber of all lines |
//! | `latency` | from a line's writing until it can be read from the stream, in one file or in many |
//! | `visible` | the reader of that stream |
//! | `idle` | a node whose files are quiet |

mod corpus;
mod idle;
mod latency;
mod limits;
mod listener;
mod node;
mod throughput;
mod visible;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::place::Place;
use super::report::{Column, Group, Report, Table};
use super::server::{Durability, Rounds, Server};
use super::usage::Figure;
use corpus::Corpus;
use idle::{Idle, Quiet};
use latency::{Latency, Pace, Through};
use limits::Fields;
use throughput::Throughput;

/// What may be chosen.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// What is measured, in this order
    #[arg(long, value_enum, value_delimiter = ',', default_value = "throughput,latency", value_name = "WHAT,...")]
    measure: Vec<What>,
    /// Lines of the file that is made
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    lines: u64,
    /// Bytes of one of its lines, with the line end
    #[arg(long, default_value_t = 142, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    bytes: u32,
    /// Takes the complete lines of this file instead; it is only read
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lines", "bytes"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    rounds: Rounds,
    /// Seconds of each measurement of latency and of quiet files
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Lines a second that are written where latency is measured, into all files together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Files that are written in turns where latency is measured, or that are quiet
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: u32,
    /// Where files are made, in a folder of its own that is removed
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "DIR")]
    dir: PathBuf,
}

/// What may be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A whole file, as fast as it goes: alone, and with a subscriber of all lines
    Throughput,
    /// Lines that are written at a pace: how soon each can be read
    Latency,
    /// Files in which nothing happens: what they cost
    Idle,
}

/// The columns of what is read as fast as it goes.
const ROWS: [Column; 6] = [
    Column::rate("lines/s"),
    Column::new("of_limit", "of limit"),
    Column::new("of_limit_same_fields", "of same"),
    Column::new("own_cpu_us_a_line", "own us a line"),
    Column::new("redis_cpu_us_a_line", "redis us a line"),
    Column::peak("peak_kib"),
];
/// The columns of what is written at a pace.
const LATENCY: [Column; 7] = [
    Column::rate("written/s"),
    Column::new("p50_ms", "p50"),
    Column::new("p99_ms", "p99"),
    Column::new("longest_ms", "longest").most(),
    Column::new("own_cpu", "own CPU %").times(100.0).digits(1),
    Column::new("redis_cpu", "redis CPU %").times(100.0).digits(1),
    Column::peak("peak_kib"),
];
/// The columns of quiet files.
const IDLE: [Column; 4] = [
    Column::new("own_cpu", "own CPU %").times(100.0),
    Column::new("redis_cpu", "redis CPU %").times(100.0),
    Column::new("requests_per_second", "requests/s").digits(1),
    Column::peak("peak_kib"),
];

/// Lines a second that a writer can append by itself, waiting for each answer; above it there is no such row.
const ALONE_MAX: u32 = 10_000;

/// Runs all rounds.
pub fn run(args: &LogsArgs) -> Result<Report> {
    let place = Place::new(&args.dir)?;
    let corpus = match (&args.file, args.measure.contains(&What::Throughput)) {
        (Some(file), _) => Some(Corpus::open(file)?),
        (None, true) => Some(Corpus::make(&place.folder("logs")?.join("app.log"), args.lines, args.bytes as usize)?),
        (None, false) => None,
    };
    let (lines, bytes) = corpus.as_ref().map_or((0, 0), |corpus| (corpus.lines, corpus.bytes));
    let conditions =
        json!({ "lines": lines, "bytes": bytes, "rate": args.rate, "files": args.files, "seconds": args.seconds });
    let tables = [
        (What::Throughput, Table::new("rows", "", &ROWS)),
        (What::Latency, Table::new("latency", "from writing to visible, ms", &LATENCY)),
        (What::Idle, Table::new("idle", "", &IDLE)),
    ];
    let tables = tables.into_iter().filter(|(what, _)| args.measure.contains(what)).map(|(_, table)| table).collect();
    let of = corpus.as_ref().map_or_else(
        || "log lines".to_owned(),
        |corpus| format!("{lines} lines of {:.0} B", corpus.bytes as f64 / corpus.lines as f64),
    );
    let mut report = Report::new(&of, args.rounds.runs, conditions, tables)?;
    for durability in args.rounds.turns() {
        for what in &args.measure {
            match (what, &corpus) {
                (What::Throughput, Some(corpus)) => throughput(corpus, durability, report.table("rows")?)?,
                (What::Throughput, None) => {}
                (What::Latency, _) => latency(args, durability, &place, report.table("latency")?)?,
                (What::Idle, _) => quiet(args, durability, &place, report.table("idle")?)?,
            }
        }
    }
    Ok(report)
}

fn throughput(corpus: &Corpus, durability: Durability, table: &mut Table) -> Result<()> {
    let mut limits = [f64::NAN; 2];
    let mut add = |what: &str, figure: Figure, limits: [f64; 2]| {
        let [one, same] = limits.map(|limit| figure.rate() / limit);
        let values =
            vec![figure.rate(), one, same, figure.cpu_for(1e6), figure.redis_cpu_for(1e6), figure.peak_kib as f64];
        table.add(Group::of(durability), what, values);
    };
    let names = ["limit: XADD by 500, the line alone", "limit: XADD by 500, the same fields"];
    for (place, fields) in [Fields::One, Fields::Same].into_iter().enumerate() {
        let figure = limits::append(&Server::start(durability)?, corpus, fields)?;
        limits[place] = figure.rate();
        add(names[place], figure, limits);
    }
    for (listeners, name) in [(0, "logs: nobody listens"), (1, "logs: one subscriber of all lines")] {
        let server = Server::start(durability)?;
        add(name, Throughput { server: &server, corpus, listeners }.measure()?, limits);
    }
    Ok(())
}

fn latency(args: &LogsArgs, durability: Durability, place: &Place, table: &mut Table) -> Result<()> {
    let lines = u64::from(args.seconds) * u64::from(args.rate);
    let followed = match args.files {
        1 => "a file that is followed".to_owned(),
        files => format!("{files} files that are followed"),
    };
    let files = Through::Files(place.folder("latency")?, args.files);
    let limit = (args.rate <= ALONE_MAX).then(|| ("limit: the writer appends itself".to_owned(), Through::Nothing));
    for (what, through) in limit.into_iter().chain([(followed, files)]) {
        let server = Server::start(durability)?;
        let Pace { waits, seconds, cpu, redis_cpu, peak_kib } =
            Latency { server: &server, lines, rate: args.rate, through }.measure()?;
        let at = |share: f64| waits.get(((waits.len() as f64 * share).ceil() as usize).saturating_sub(1));
        let ms = |wait: Option<&f64>| wait.copied().unwrap_or(0.0) * 1e3;
        let values = vec![
            waits.len() as f64 / seconds,
            ms(at(0.5)),
            ms(at(0.99)),
            ms(waits.last()),
            cpu / seconds,
            redis_cpu / seconds,
            peak_kib as f64,
        ];
        table.add(Group::of(durability), what, values);
    }
    Ok(())
}

fn quiet(args: &LogsArgs, durability: Durability, place: &Place, table: &mut Table) -> Result<()> {
    let folder = place.folder("idle")?;
    for (is_polled, how) in [(false, "events"), (true, "polled alone")] {
        let server = Server::start(durability)?;
        let idle = Idle { server: &server, folder: &folder, files: args.files, seconds: args.seconds, is_polled };
        let Quiet { cpu, redis_cpu, requests, peak_kib } = idle.measure()?;
        let values = vec![cpu, redis_cpu, requests, peak_kib as f64];
        table.add(Group::of(durability), format!("{} quiet files, {how}", args.files), values);
    }
    Ok(())
}
