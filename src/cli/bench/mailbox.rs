//! Mailbox: one round measures the limit, then enqueueing and processing, on fresh servers; rounds take turns.

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::node::Bench;
use super::report::{Column, Group, Report, Table};
use super::rerun;
use super::server::{Durability, Rounds, Server};
use super::stats::{least, median, most};
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
    #[command(flatten)]
    rounds: Rounds,
    /// Times that a node is killed, to see when its work runs again; each takes up to two lease times (6 s)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    kills: u32,
}

/// What every row shows.
const COLUMNS: [Column; 8] = [
    Column::rate("msg/s"),
    Column::new("of_limit_by_50", "of lim50"),
    Column::new("of_limit_by_500", "of lim500"),
    Column::new("commit_p50_seconds", "p50 ms").times(1e3),
    Column::new("commit_p99_seconds", "p99 ms").times(1e3),
    Column::new("own_cpu_seconds", "own CPU s"),
    Column::new("redis_cpu_seconds", "redis CPU s"),
    Column::peak("own_peak_kib").digits(1),
];

/// Runs all rounds.
pub fn run(args: &MailboxArgs) -> Result<Report> {
    let of = format!("{} messages of {} B", args.messages, args.bytes);
    let conditions = json!({ "messages": args.messages, "bytes": args.bytes });
    let mut report = Report::new(&of, args.rounds.runs, conditions, vec![Table::new("rows", "", &COLUMNS)])?;
    for durability in args.rounds.turns() {
        round(args, durability, report.table("rows")?)?;
    }
    let reruns: Vec<f64> = (0..args.kills).map(|_| rerun::measure()).collect::<Result<_>>()?;
    let (middle, least, most) = (median(&reruns), least(&reruns), most(&reruns));
    if reruns.is_empty() {
        report.also("rerun_seconds", Value::Null, String::new());
    } else {
        let line = format!(
            "work in flight runs again after kill -9 of its node: {middle:.2} s ({least:.2} to {most:.2}, {} times; lease 3 s)",
            reruns.len()
        );
        report.also("rerun_seconds", json!({ "median": middle, "min": least, "max": most }), line);
    }
    Ok(report)
}

/// Seconds that the limit took: to append, and to consume with each of its batches.
struct Limit {
    fill: f64,
    consume: [f64; 2],
}

fn round(args: &MailboxArgs, durability: Durability, table: &mut Table) -> Result<()> {
    let mut add = |what: &str, spent: Spent, of: [f64; 2]| {
        let [small, large] = of.map(|limit| limit / spent.seconds);
        let values = vec![
            args.messages as f64 / spent.seconds,
            small,
            large,
            spent.commit_p50,
            spent.commit_p99,
            spent.own_cpu,
            spent.redis_cpu,
            spent.peak_kib as f64,
        ];
        table.add(Group::of(durability), what, values);
    };
    let limit = limit(args, durability, &mut add)?;
    for (units, name) in [(1, "1 unit".to_owned()), (UNITS, format!("{UNITS} units"))] {
        let server = Server::start(durability)?;
        let bench = Bench { server: &server, units, messages: args.messages, bytes: args.bytes as usize };
        let sent = bench.enqueue()?;
        let done = bench.process()?;
        if units == 1 {
            add("enqueue: commits of 200", sent, [limit.fill; 2]);
        }
        add(&format!("process: {name}"), done, limit.consume);
        let both = Spent { seconds: sent.seconds + done.seconds, ..Spent::default() };
        add(&format!("both: {name}"), both, limit.consume.map(|consume| limit.fill + consume));
    }
    Ok(())
}

/// Measures the limit, and adds its rows.
fn limit(args: &MailboxArgs, durability: Durability, add: &mut impl FnMut(&str, Spent, [f64; 2])) -> Result<Limit> {
    let mut limit = Limit { fill: 0.0, consume: [0.0; 2] };
    let mut spent = Vec::new();
    for (place, batch) in LIMIT_BATCHES.into_iter().enumerate() {
        let server = Server::start(durability)?;
        let mut wire = server.wire()?;
        let meter = Meter::start(&server)?;
        let seconds = wire::fill(&mut wire, "s", args.messages, args.bytes as usize)?.as_secs_f64();
        if place == 0 {
            limit.fill = seconds;
            add("limit: XADD by 500", Spent { seconds, ..meter.stop(&server)? }, [seconds; 2]);
        }
        let meter = Meter::start(&server)?;
        let (entries, took) = wire::consume(&mut wire, "s", batch)?;
        ensure!(entries == args.messages, "the limit has read {entries} of {} entries", args.messages);
        limit.consume[place] = took.as_secs_f64();
        spent.push(Spent { seconds: limit.consume[place], ..meter.stop(&server)? });
    }
    for (batch, spent) in LIMIT_BATCHES.into_iter().zip(spent) {
        add(&format!("limit: XREADGROUP, XACK by {batch}"), spent, limit.consume);
    }
    Ok(limit)
}
