//! The tables of the view, each from the samples to rows that fit a width.

use std::collections::BTreeMap;

use super::fit::{Cells, Column, Look, Row, name, number, table, word};
use super::past::Past;
use crate::cli::status::state as state_word;
use crate::cli::words::{age, grouped, maybe_age, or_dash};
use crate::http::status::{MailboxStatus, NodeStatus, PipelineStatus, Status};
use crate::http::units::UnitStatus;

/// Cells between the brackets of a bar.
const BAR: u64 = 10;

/// The order of units and mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    /// As the configuration has them.
    #[default]
    Name,
    /// What needs a look first, then the longest backlog.
    Worst,
}

fn cell(text: impl Into<String>) -> (String, Look) {
    (text.into(), Look::Plain)
}

/// A count that should be 0.
fn count_of_bad(n: u64) -> (String, Look) {
    (grouped(n), if n > 0 { Look::Bad } else { Look::Plain })
}

/// `0`, `0.5`, `12`, `1,234`; a dash where nobody knows.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate <= 0.0 => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => grouped(rate.round() as u64),
    }
}

/// `[###.......]`; something is never nothing, and only what is full looks full.
pub(super) fn bar(waiting: u64, capacity: u64) -> String {
    let marks = match (waiting, capacity) {
        (0, _) => 0,
        (_, 0) => BAR,
        (waiting, capacity) => {
            (u128::from(waiting) * u128::from(BAR) / u128::from(capacity)).clamp(1, u128::from(BAR)) as u64
        }
    };
    let marks = marks as usize;
    format!("[{}{}]", "#".repeat(marks), ".".repeat(BAR as usize - marks))
}

fn look_of_state(state: &str) -> Look {
    match state {
        "running" | "waiting" => Look::Good,
        "failed" | "blocked" | "unready" | "gone" => Look::Bad,
        // The words of nodes of any release; what is in between deserves a look.
        _ => Look::Warn,
    }
}

pub(super) fn nodes(status: &Status, past: &Past, width: u16) -> Vec<Row> {
    const COLUMNS: [Column; 9] = [
        name("NODE", 12, 0),
        word("STATE", 0),
        number("UP", 2),
        number("UNITS", 1),
        word("RELEASE", 3),
        number("PID", 5),
        name("HTTP", 21, 4),
        word("INCARNATION", 6),
        word("HOST", 7),
    ];
    let row = |node: &NodeStatus, state: &str, up: String, look| Cells {
        cells: vec![
            (node.node.clone(), look),
            (state.to_owned(), look_of_state(state)),
            (up, look),
            (node.units.to_string(), look),
            (node.release.clone(), look),
            (node.pid.to_string(), look),
            (or_dash(&node.http), look),
            (first(&node.incarnation), look),
            (first(&node.host), look),
        ],
        words: String::new(),
        look,
    };
    let live = status.nodes.iter().map(|node| row(node, node.state, age(node.up_ms), Look::Plain));
    let gone = past.gone.iter().map(|(node, at_ms)| {
        let since = age(status.time_ms.saturating_sub(*at_ms));
        let row = row(node, "gone", format!("{since} ago"), Look::Dim);
        // What it held is shown with its heirs.
        Cells {
            cells: row.cells.into_iter().enumerate().map(|(at, c)| if at == 3 { cell("-") } else { c }).collect(),
            ..row
        }
    });
    let rows: Vec<Cells> = live.chain(gone).collect();
    if rows.is_empty() {
        return vec![Row::text("no node lives; start one: gapless run", Look::Warn, width)];
    }
    table(&COLUMNS, "", &rows, width)
}

/// The beginning of an id: enough to tell it from others.
fn first(id: &str) -> String {
    id.chars().take(8).collect()
}

pub(super) fn pipelines(status: &Status, rates: &BTreeMap<&str, f64>, width: u16) -> Vec<Row> {
    const COLUMNS: [Column; 7] = [
        name("PIPELINE", 20, 0),
        number("UNITS", 0),
        number("HELD", 0),
        number("FAILED", 1),
        number("COMMIT/S", 4),
        number("WAITING", 2),
        number("DEAD", 3),
    ];
    let row = |pipeline: &PipelineStatus| {
        let units = status.units.iter().filter(|unit| unit.pipeline == pipeline.pipeline);
        let rates: Vec<f64> = units.filter_map(|unit| rates.get(unit.unit.as_str()).copied()).collect();
        let commits = (!rates.is_empty()).then(|| rates.iter().sum());
        let all = pipeline.held == pipeline.units;
        Cells {
            cells: vec![
                cell(&pipeline.pipeline),
                cell(pipeline.units.to_string()),
                (pipeline.held.to_string(), if all { Look::Good } else { Look::Warn }),
                count_of_bad(pipeline.failed as u64),
                cell(rate(commits)),
                cell(grouped(pipeline.waiting)),
                count_of_bad(pipeline.dead),
            ],
            words: pipeline.summary.as_ref().map_or_else(String::new, |summary| summary.words.clone()),
            look: Look::Plain,
        }
    };
    if status.pipelines.is_empty() {
        return vec![Row::text("no pipeline is configured; name a file with --config", Look::Warn, width)];
    }
    table(&COLUMNS, "SUMMARY", &status.pipelines.iter().map(row).collect::<Vec<_>>(), width)
}

/// The mailbox of a unit: its own, or that of its pool.
fn mailbox_of<'s>(mailboxes: &BTreeMap<&str, &'s MailboxStatus>, unit: &UnitStatus) -> Option<&'s MailboxStatus> {
    let pool = || mailboxes.get(unit.unit.rsplit_once('/')?.0);
    mailboxes.get(unit.unit.as_str()).or_else(pool).copied()
}

pub(super) fn units(status: &Status, rates: &BTreeMap<&str, f64>, order: Order, width: u16) -> Vec<Row> {
    const COLUMNS: [Column; 10] = [
        name("UNIT", 22, 0),
        name("NODE", 8, 2),
        word("STATE", 0),
        number("COMMIT/S", 1),
        number("LAG", 2),
        number("OLDEST", 3),
        number("RESTARTS", 4),
        number("SEQ", 5),
        number("COMMIT", 6),
        number("LEASE", 7),
    ];
    let mailboxes: BTreeMap<&str, &MailboxStatus> = status.mailboxes.iter().map(|m| (m.mailbox.as_str(), m)).collect();
    let row = |unit: &&UnitStatus| {
        let mail = mailbox_of(&mailboxes, unit);
        let state = state_word(unit);
        let lag = mail.map_or_else(|| "-".to_owned(), |mail| grouped(mail.waiting));
        let restarts = if unit.restarts > 0 { Look::Warn } else { Look::Plain };
        Cells {
            cells: vec![
                cell(&unit.unit),
                cell(or_dash(&unit.node)),
                (state.clone(), look_of_state(&state)),
                cell(rate(rates.get(unit.unit.as_str()).copied())),
                cell(lag),
                cell(maybe_age(mail.and_then(|mail| mail.oldest_age_ms))),
                (unit.restarts.to_string(), restarts),
                cell(grouped(unit.seq)),
                cell(maybe_age(unit.commit_age_ms)),
                cell(if unit.is_held() { age(unit.lease_left_ms) } else { "-".to_owned() }),
            ],
            words: unit.last_error.clone(),
            look: if unit.has_failed() { Look::Bad } else { Look::Warn },
        }
    };
    let mut units: Vec<&UnitStatus> = status.units.iter().collect();
    if order == Order::Worst {
        let lag = |unit: &UnitStatus| mailbox_of(&mailboxes, unit).map_or(0, |mail| mail.waiting);
        units.sort_by_cached_key(|unit| {
            (
                std::cmp::Reverse((trouble(unit), !unit.last_error.is_empty(), unit.restarts, lag(unit))),
                unit.unit.clone(),
            )
        });
    }
    table(&COLUMNS, "LAST ERROR", &units.iter().map(row).collect::<Vec<_>>(), width)
}

/// How much a unit needs a look.
fn trouble(unit: &UnitStatus) -> u8 {
    match look_of_state(&state_word(unit)) {
        Look::Bad => 2,
        Look::Warn => 1,
        Look::Plain | Look::Dim | Look::Head | Look::Chosen | Look::Good => 0,
    }
}

pub(super) fn mailboxes(status: &Status, rates: &BTreeMap<&str, (f64, f64)>, order: Order, width: u16) -> Vec<Row> {
    const COLUMNS: [Column; 9] = [
        name("MAILBOX", 26, 0),
        word("FULL", 4),
        number("WAITING", 0),
        number("LATER", 5),
        number("CAPACITY", 6),
        number("OLDEST", 1),
        number("IN/S", 3),
        number("OUT/S", 3),
        number("DEAD", 2),
    ];
    let row = |mailbox: &&MailboxStatus| {
        let rates = rates.get(mailbox.mailbox.as_str());
        // What comes again later takes room as well.
        let taken = mailbox.waiting.saturating_add(mailbox.later);
        let full = taken >= mailbox.capacity;
        Cells {
            cells: vec![
                cell(&mailbox.mailbox),
                (bar(taken, mailbox.capacity), if full { Look::Warn } else { Look::Plain }),
                cell(grouped(mailbox.waiting)),
                cell(grouped(mailbox.later)),
                cell(grouped(mailbox.capacity)),
                cell(maybe_age(mailbox.oldest_age_ms)),
                cell(rate(rates.map(|(enter, _)| *enter))),
                cell(rate(rates.map(|(_, leave)| *leave))),
                count_of_bad(mailbox.dead),
            ],
            words: mailbox.fault.clone(),
            look: Look::Bad,
        }
    };
    let mut mailboxes: Vec<&MailboxStatus> = status.mailboxes.iter().collect();
    if order == Order::Worst {
        let key = |m: &MailboxStatus| std::cmp::Reverse((!m.fault.is_empty(), m.dead > 0, m.waiting, m.dead));
        mailboxes.sort_by_cached_key(|mailbox| (key(mailbox), mailbox.mailbox.clone()));
    }
    table(&COLUMNS, "FAULT", &mailboxes.iter().map(row).collect::<Vec<_>>(), width)
}

pub(super) fn moves(status: &Status, past: &Past, width: u16) -> Vec<Row> {
    const COLUMNS: [Column; 4] = [number("AGO", 0), name("LEASE MOVED", 20, 0), name("FROM", 8, 1), name("TO", 8, 0)];
    let rows: Vec<Cells> = past
        .moves
        .iter()
        .map(|one| Cells {
            cells: vec![
                cell(age(status.time_ms.saturating_sub(one.at_ms))),
                cell(&one.unit),
                cell(or_dash(&one.from)),
                cell(or_dash(&one.to)),
            ],
            words: String::new(),
            look: Look::Plain,
        })
        .collect();
    if rows.is_empty() {
        return vec![Row::text("no lease has moved since this view began", Look::Dim, width)];
    }
    table(&COLUMNS, "", &rows, width)
}
