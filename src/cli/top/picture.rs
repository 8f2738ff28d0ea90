//! One picture, as a pure function of what was seen, what is chosen, and the size.

use jiff::Timestamp;

use super::controls::{Controls, Section};
use super::fit::{Look, Piece, Row, cut, cut_name, tidy, width_of};
use super::past::Past;
use super::sections::{self, rate};
use crate::cli::words::{age, bytes, count, grouped};
use crate::http::status::Status;

/// Moves that the overview shows; the section of their own shows all.
const MOVES_AT_A_GLANCE: usize = 5;
/// Between two figures of a line.
const GAP: u16 = 2;
const KEYS: &str = "q quit  Tab section  Up/Down PgUp/PgDn scroll  s order  p pause  ? hide";

/// What one picture is made of.
pub(super) struct View<'p> {
    pub past: &'p Past,
    pub controls: &'p Controls,
    /// Redis, as its address is written for people.
    pub address: &'p str,
    /// Milliseconds since 1970 by the clock of this host.
    pub now_ms: u64,
}

/// Lines from the top of the terminal on, as many as there are.
pub(super) struct Picture {
    pub rows: Vec<Row>,
    /// Lines of the body that are shown at a time, for a page up or down.
    pub page: usize,
    /// The farthest that the body can be scrolled.
    pub scroll_max: usize,
}

/// Composes the picture for a terminal of this size.
pub(super) fn compose(view: &View<'_>, width: u16, height: u16) -> Picture {
    let mut rows = vec![first_line(view, width)];
    rows.extend(view.past.current.as_ref().map(|status| second_line(status, view.past, width)));
    rows.extend(notice(view, width));
    rows.push(tabs(view.controls, width));
    let mut body = body(view, width);
    // The head of a table that fills the screen stays in sight.
    let pinned = view.controls.section != Section::All && body.len() > 1;
    if pinned {
        rows.push(body.remove(0));
    }
    let page = usize::from(height).saturating_sub(rows.len() + 1);
    let scroll_max = body.len().saturating_sub(page);
    let scroll = view.controls.scroll.min(scroll_max);
    let all = body.len();
    rows.extend(body.into_iter().skip(scroll).take(page));
    rows.resize(usize::from(height).saturating_sub(1), Row::default());
    let shown = (scroll_max > 0).then(|| format!("{}-{} of {all}", scroll + 1, (scroll + page).min(all)));
    rows.push(last_line(view, shown, width));
    // Of a terminal that is too low the upper lines are kept.
    rows.truncate(usize::from(height));
    Picture { rows, page, scroll_max }
}

/// Figures side by side, as many as fit; each is whole or not there.
fn figures(figures: &[(String, Look)], width: u16) -> Row {
    let mut pieces = Vec::new();
    let mut x = 0u16;
    for (text, look) in figures.iter().filter(|(text, _)| !text.is_empty()) {
        let text = tidy(text);
        let needs = width_of(&text);
        if needs <= width.saturating_sub(x) {
            pieces.push(Piece { x, width: needs, text, look: *look });
            x = x.saturating_add(needs + GAP);
        }
    }
    Row(pieces)
}

fn clock(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "?".to_owned(), |time| format!("{} UTC", time.strftime("%H:%M:%S")))
}

/// Who, where, and how Redis is.
fn first_line(view: &View<'_>, width: u16) -> Row {
    let title = ("gapless top".to_owned(), Look::Head);
    let address = (cut_name(&tidy(view.address), (width / 3).max(20)), Look::Plain);
    let Some(status) = &view.past.current else { return figures(&[title, address], width) };
    let redis = &status.redis;
    let memory = match redis.memory_max {
        0 => bytes(redis.memory_used),
        max => format!("{} of {}", bytes(redis.memory_used), bytes(max)),
    };
    let plain = |text: String| (text, Look::Plain);
    let trip = plain(format!("{:.1} ms", redis.round_trip_ms));
    let server = plain(format!("{} {}", redis.server, redis.version));
    figures(&[title, address, server, trip, plain(memory), (clock(status.time_ms), Look::Dim)], width)
}

/// The fleet in one line.
fn second_line(status: &Status, past: &Past, width: u16) -> Row {
    let held: usize = status.pipelines.iter().map(|pipeline| pipeline.held).sum();
    let failed: usize = status.pipelines.iter().map(|pipeline| pipeline.failed).sum();
    let sum = |of: fn(&crate::http::status::MailboxStatus) -> u64| status.mailboxes.iter().map(of).sum::<u64>();
    let (waiting, dead) = (sum(|m| m.waiting), sum(|m| m.dead));
    let rates = past.commit_rates();
    let commits = (!rates.is_empty()).then(|| rates.values().sum());
    let all = held == status.units.len();
    let bad = |bad: bool| if bad { Look::Bad } else { Look::Plain };
    let lately = match past.moves_lately() {
        0 => String::new(),
        lately => format!("({} lately)", grouped(lately as u64)),
    };
    figures(
        &[
            (count(status.nodes.len(), "node", "nodes"), bad(status.nodes.is_empty())),
            (format!("held {held}/{}", status.units.len()), if all { Look::Good } else { Look::Warn }),
            (format!("failed {failed}"), bad(failed > 0)),
            (format!("{} commits/s", rate(commits)), Look::Plain),
            (format!("waiting {}", grouped(waiting)), Look::Plain),
            (format!("dead {}", grouped(dead)), bad(dead > 0)),
            (format!("moves {}", grouped(past.moves_total)), Look::Plain),
            (lately, Look::Warn),
        ],
        width,
    )
}

/// What stands above everything else: Redis is away, the view is paused, or Redis is set to lose data.
fn notice(view: &View<'_>, width: u16) -> Option<Row> {
    if let Some(away) = &view.past.away {
        let what = if away.refuses { "redis refuses" } else { "redis is away" };
        let since = format!("{} ({})", clock(away.since_ms), age(view.now_ms.saturating_sub(away.since_ms)));
        let words = format!("{what} since {since}: {}", away.reason);
        return Some(Row::text(&words, Look::Bad, width));
    }
    let Some(status) = &view.past.current else { return Some(Row::text("asking redis ...", Look::Dim, width)) };
    if view.controls.paused {
        return Some(Row::text("paused; p goes on", Look::Warn, width));
    }
    let dangers = &status.redis.dangers;
    let more = if dangers.len() > 1 { format!(" (and {} more)", dangers.len() - 1) } else { String::new() };
    Some(Row::text(&format!("warning: {}{more}", dangers.first()?), Look::Warn, width))
}

/// The sections, the chosen one marked.
fn tabs(controls: &Controls, width: u16) -> Row {
    let tab = |section: Section| {
        let chosen = section == controls.section;
        // Marked without colours, too, also where a terminal shows nothing reversed.
        let text = if chosen { format!("[{}]", section.title()) } else { format!(" {} ", section.title()) };
        (text, if chosen { Look::Chosen } else { Look::Dim })
    };
    figures(&Section::ALL.map(tab), width)
}

fn body(view: &View<'_>, width: u16) -> Vec<Row> {
    let Some(status) = &view.past.current else { return Vec::new() };
    let (past, order) = (view.past, view.controls.order);
    let (commits, mail) = (past.commit_rates(), past.mail_rates());
    let section = |section: Section| match section {
        Section::All => Vec::new(),
        Section::Nodes => sections::nodes(status, past, width),
        Section::Pipelines => sections::pipelines(status, &commits, width),
        Section::Units => sections::units(status, &commits, order, width),
        Section::Mailboxes => sections::mailboxes(status, &mail, order, width),
        Section::Moves => sections::moves(status, past, width),
    };
    if view.controls.section != Section::All {
        return section(view.controls.section);
    }
    let mut body = [section(Section::Nodes), section(Section::Pipelines)].to_vec();
    if !status.pipelines.is_empty() {
        body.extend([section(Section::Units), section(Section::Mailboxes)]);
    }
    if !past.moves.is_empty() {
        let mut moves = section(Section::Moves);
        moves.truncate(1 + MOVES_AT_A_GLANCE);
        body.push(moves);
    }
    body.join(&Row::default())
}

/// The keys, and which lines of how many are shown.
fn last_line(view: &View<'_>, shown: Option<String>, width: u16) -> Row {
    let keys = if view.controls.help { KEYS } else { "? keys  q quit" };
    let shown = shown.unwrap_or_default();
    let at = width.saturating_sub(width_of(&shown));
    let room = at.saturating_sub(if shown.is_empty() { 0 } else { GAP });
    let keys = Piece { x: 0, width: room, text: cut(keys, room), look: Look::Dim };
    let shown = Piece { x: at, width: width - at, text: shown, look: Look::Dim };
    Row(vec![keys, shown])
}
