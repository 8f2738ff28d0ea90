//! `gapless status`: nodes, pipelines, units, mailboxes and Redis, once or again and again.

use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::output::{self, Paint, Side, Table};
use super::reach::{self, Reach};
use super::watch;
use super::words::{age, bytes, maybe_age, or_dash, plain};
use crate::config::Settings;
use crate::http::status::{self, Status};
use crate::http::units::UnitStatus;
use crate::store::StoreError;

/// Longest pause between two looks, in seconds.
pub(super) const INTERVAL_MAX: u64 = 3600;
/// One of many looks that takes longer is given up.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// `gapless status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Again every so many seconds, 1 to 3600 [default: 2], until it is told to end
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=INTERVAL_MAX))]
    watch: Option<u64>,
}

/// Shows how everything stands. 0 whenever it could be shown, however it stands: `doctor` judges.
pub fn run(settings: Settings, args: &StatusArgs, json: bool) -> Exit {
    match args.watch {
        None => once(settings, json),
        Some(seconds) => watch::run(settings, Duration::from_secs(seconds), json),
    }
}

/// One look of many. It is bounded: what takes longer counts as out of reach.
pub(super) async fn read(reach: &Reach) -> Result<Status, StoreError> {
    let status = status::gather(&reach.settings, &reach.store, &reach.link);
    tokio::time::timeout(READ_DEADLINE, status).await.unwrap_or_else(|_| {
        let reason = format!("no whole answer within {} s", READ_DEADLINE.as_secs());
        Err(StoreError::Unreachable { address: reach.link.options().address(), reason })
    })
}

fn once(settings: Settings, json: bool) -> Exit {
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(exit) => return exit,
    };
    reach::block_on(async {
        let status = status::gather(&reach.settings, &reach.store, &reach.link).await?;
        Ok(match json {
            true => output::json(&status, Exit::good()),
            false => output::text(&text(&status, Paint::stdout()), Exit::good()),
        })
    })
}

/// The status for people.
pub(super) fn text(status: &Status, paint: Paint) -> String {
    let mut parts = vec![redis(status, paint), nodes(status)];
    match status.pipelines.is_empty() {
        true => parts.push("no pipeline is configured; name a file with --config\n".to_owned()),
        false => parts.extend([pipelines(status), units(status), troubles(status, paint), mailboxes(status)]),
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn redis(status: &Status, paint: Paint) -> String {
    let redis = &status.redis;
    let memory = match redis.memory_max {
        0 => bytes(redis.memory_used),
        max => format!("{} of {}", bytes(redis.memory_used), bytes(max)),
    };
    let cluster = redis.cluster.as_ref().map_or("not marked yet", |id| id.get(..8).unwrap_or(id));
    let mut text = format!(
        "redis {}  {} {}  round trip {:.1} ms  {memory}  cluster {cluster}\n",
        redis.address, redis.server, redis.version, redis.round_trip_ms
    );
    for danger in &redis.dangers {
        text.push_str(&format!("{} {danger}\n", paint.yellow("warning:")));
    }
    text
}

fn nodes(status: &Status) -> String {
    if status.nodes.is_empty() {
        return "no node lives; start one: gapless run\n".to_owned();
    }
    let columns = [
        ("NODE", Side::Left),
        ("STATE", Side::Left),
        ("UNITS", Side::Right),
        ("UP", Side::Right),
        ("PID", Side::Right),
        ("RELEASE", Side::Left),
        ("HTTP", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for node in &status.nodes {
        table.row(vec![
            plain(&node.node),
            node.state.to_owned(),
            node.units.to_string(),
            age(node.up_ms),
            node.pid.to_string(),
            plain(&node.release),
            or_dash(&plain(&node.http)),
        ]);
    }
    table.render()
}

fn pipelines(status: &Status) -> String {
    let columns = [
        ("PIPELINE", Side::Left),
        ("UNITS", Side::Right),
        ("HELD", Side::Right),
        ("FAILED", Side::Right),
        ("WAITING", Side::Right),
        ("DEAD", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for pipeline in &status.pipelines {
        let summary = pipeline.summary.as_ref().map_or_else(String::new, |summary| plain(&summary.words));
        let cells = vec![
            pipeline.pipeline.clone(),
            pipeline.units.to_string(),
            pipeline.held.to_string(),
            pipeline.failed.to_string(),
            pipeline.waiting.to_string(),
            pipeline.dead.to_string(),
        ];
        table.row_with(cells, summary);
    }
    table.render()
}

fn units(status: &Status) -> String {
    let columns = [
        ("UNIT", Side::Left),
        ("NODE", Side::Left),
        ("STATE", Side::Left),
        ("LEASE", Side::Right),
        ("SEQ", Side::Right),
        ("COMMIT", Side::Right),
        ("RESTARTS", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for unit in &status.units {
        table.row(vec![
            unit.unit.clone(),
            or_dash(&plain(&unit.node)),
            state(unit),
            if unit.is_held() { age(unit.lease_left_ms) } else { "-".to_owned() },
            unit.seq.to_string(),
            maybe_age(unit.commit_age_ms),
            unit.restarts.to_string(),
        ]);
    }
    table.render()
}

/// As its node says; a paused unit runs, and does nothing.
pub(super) fn state(unit: &UnitStatus) -> String {
    let paused = unit.paused_age_ms.is_some() && unit.state == "running";
    if paused { "paused".to_owned() } else { plain(&unit.state) }
}

/// What units and mailboxes complain of, below the tables: errors are longer than a column.
fn troubles(status: &Status, paint: Paint) -> String {
    let unready = status.nodes.iter().filter(|node| !node.unready.is_empty());
    let unready = unready.map(|node| format!("node {}: {}\n", paint.red(&plain(&node.node)), plain(&node.unready)));
    let given_up = status.nodes.iter().flat_map(|node| node.given_up.iter().map(move |group| (node, group)));
    let given_up = given_up.map(|(node, group)| {
        let (name, again_in) = (plain(&node.node), age(group.again_in_ms));
        let pipeline = paint.red(&plain(&group.pipeline));
        format!("{pipeline}: node {name} gave it up, tries again in {again_in}: {}\n", plain(&group.reason))
    });
    let units = status.units.iter().filter(|unit| !unit.last_error.is_empty());
    let units = units.map(|unit| {
        let name = if unit.has_failed() { paint.red(&unit.unit) } else { paint.yellow(&unit.unit) };
        format!("{name}: {}\n", plain(&unit.last_error))
    });
    let paused = status.units.iter().filter_map(|unit| Some((unit, age(unit.paused_age_ms?))));
    let paused = paused.map(|(unit, age)| {
        let name = paint.yellow(&unit.unit);
        format!("{name}: paused by an operator {age} ago; to go on: gapless resume {}\n", unit.pipeline)
    });
    let mailboxes = status.mailboxes.iter().filter(|mailbox| !mailbox.fault.is_empty());
    let mailboxes = mailboxes.map(|m| format!("mailbox {}: {}\n", paint.red(&m.mailbox), plain(&m.fault)));
    unready.chain(given_up).chain(units).chain(paused).chain(mailboxes).collect()
}

fn mailboxes(status: &Status) -> String {
    super::mailbox::table(&status.mailboxes)
}
