//! Mailbox: one round measures the limit, then enqueueing and processing, on fresh servers; rounds take turns.

use anyhow::{Result, ensure};
use clap::Args;

use super::node::Bench;
use super::rerun;
use super::server::{Aof, Durability, Server};
use super::table::{Conditions, Report, Row};
use super::usage::{Meter, Spent};
use super::wire;

/// Batches of the limit's consumer: as job queues commonly have it, and as large as pays.
const LIMIT_BATCHES: [u32; 2] = [50, 500];
/// Units of the second measurement.
const UNITS: u32 = 6;

/// What may be chosen.
#[derive(Debug, Args)]
pub struct MailboxArgs {
    /// Messages in a round
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    messages: u64,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(40..=65_536))]
    bytes: u32,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Append-only file of Redis: synced every second (the default of gapless), off, or one after the other
    #[arg(long, value_enum, default_value_t = Aof::Both)]
    aof: Aof,
    /// Times that a node is killed, to see when its work runs again; each takes up to two lease times (6 s)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    kills: u32,
}

/// Runs all rounds.
pub fn run(args: &MailboxArgs) -> Result<Report> {
    let mut report = Report::new(Conditions {
        messages: args.messages,
        bytes: u64::from(args.bytes),
        runs: args.runs,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        redis: Server::start(Durability::Nothing)?.info("redis_version")?,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    for _ in 0..args.runs {
        for durability in args.aof.durabilities() {
            round(args, *durability, &mut report)?;
        }
    }
    for _ in 0..args.kills {
        report.add_rerun(rerun::measure()?);
    }
    Ok(report)
}

/// Seconds that the limit took: to append, and to consume with each of its batches.
struct Limit {
    fill: f64,
    consume: [f64; 2],
}

fn round(args: &MailboxArgs, durability: Durability, report: &mut Report) -> Result<()> {
    let limit = limit(args, durability, report)?;
    for units in [1, UNITS] {
        let server = Server::start(durability)?;
        let bench = Bench { server: &server, units, messages: args.messages, bytes: args.bytes as usize };
        let sent = bench.enqueue()?;
        let done = bench.process()?;
        let of = |limits: [f64; 2], seconds: f64| limits.map(|limit| limit / seconds);
        if units == 1 {
            report.add(durability, Row::Enqueue, &sent, of([limit.fill; 2], sent.seconds));
        }
        report.add(durability, Row::Process(units), &done, of(limit.consume, done.seconds));
        let both = Spent { seconds: sent.seconds + done.seconds, ..Spent::default() };
        report.add(durability, Row::Both(units), &both, of(limit.consume.map(|c| limit.fill + c), both.seconds));
    }
    Ok(())
}

fn limit(args: &MailboxArgs, durability: Durability, report: &mut Report) -> Result<Limit> {
    let mut limit = Limit { fill: 0.0, consume: [0.0; 2] };
    let mut spent = Vec::new();
    for (place, batch) in LIMIT_BATCHES.into_iter().enumerate() {
        let server = Server::start(durability)?;
        let mut wire = server.wire()?;
        let meter = Meter::start(&server)?;
        let seconds = wire::fill(&mut wire, "s", args.messages, args.bytes as usize)?.as_secs_f64();
        if place == 0 {
            limit.fill = seconds;
            spent.push((Row::LimitFill, Spent { seconds, ..meter.stop(&server)? }));
        }
        let meter = Meter::start(&server)?;
        let (entries, took) = wire::consume(&mut wire, "s", batch)?;
        ensure!(entries == args.messages, "the limit has read {entries} of {} entries", args.messages);
        limit.consume[place] = took.as_secs_f64();
        spent.push((Row::LimitConsume(batch), Spent { seconds: limit.consume[place], ..meter.stop(&server)? }));
    }
    for (row, spent) in spent {
        let of = match row {
            Row::LimitConsume(_) => limit.consume.map(|seconds| seconds / spent.seconds),
            Row::LimitFill | Row::Enqueue | Row::Process(_) | Row::Both(_) => [1.0; 2],
        };
        report.add(durability, row, &spent, of);
    }
    Ok(limit)
}
