//! `logs status`: each file, the stream, and its readers.

use serde_json::{Value, json};

use super::{Chosen, Desk, Exit};
use crate::cli::output::{self, Paint, Side, Table};
use crate::cli::words::{age, bytes, count, grouped, maybe_age, plain};
use crate::config::Keep;
use crate::http::logs::{self, FileSeen, LogsSeen, ParserSeen, WatcherSeen};
use crate::store::StoreError;
use crate::store::output::{GroupFacts, OutputFacts};
use crate::store::status::server_ms;

/// Files that are shown unless all are asked for.
const FILES_SHOWN: usize = 50;
/// Places of one unit that are read: more than a unit may keep with the defaults.
const ROWS_MAX: usize = 200_000;

pub(super) async fn run(desk: &Desk, chosen: &[Chosen], all: bool) -> Result<Exit, StoreError> {
    let time_ms = server_ms(&desk.link).await?;
    let nodes = desk.store.nodes(&desk.link).await?;
    let mut seen = Vec::new();
    for one in chosen {
        let now = (nodes.as_slice(), time_ms);
        let look = logs::look(&desk.settings, &desk.store, &desk.link, &one.pipeline, now, ROWS_MAX);
        seen.push((one, look.await?));
    }
    if desk.json {
        let pipelines: Vec<Value> = seen.iter().map(|(one, seen)| to_json(one, seen, all, time_ms)).collect();
        return Ok(output::json(&json!({ "pipelines": pipelines }), Exit::good()));
    }
    let paint = Paint::stdout();
    let texts: Vec<String> = seen.iter().map(|(one, seen)| text(one, seen, all, paint, time_ms)).collect();
    Ok(output::text(&texts.join("\n"), Exit::good()))
}

/// The files that are shown, in their order: those that are open, of too many those that are farthest behind.
fn shown(files: &[FileSeen], all: bool) -> Vec<&FileSeen> {
    if all {
        return files.iter().collect();
    }
    let mut open: Vec<(usize, &FileSeen)> = files.iter().enumerate().filter(|(_, file)| file.is_open()).collect();
    open.sort_by_key(|(place, file)| (std::cmp::Reverse(file.behind), *place));
    open.truncate(FILES_SHOWN);
    open.sort_by_key(|(place, _)| *place);
    open.into_iter().map(|(_, file)| file).collect()
}

fn keep_word(chosen: &Chosen) -> &'static str {
    match chosen.section.keep {
        Keep::Acknowledged => "acknowledged",
        Keep::Newest => "newest",
    }
}

fn to_json(chosen: &Chosen, seen: &LogsSeen, all: bool, time_ms: u64) -> Value {
    let files = shown(&seen.files, all);
    let stream = seen.stream.as_ref().map(|stream| {
        json!({
            "length": stream.length, "added": stream.added, "max": chosen.section.stream_entries_max,
            "keep": keep_word(chosen), "first": stream.first.map(|id| id.to_string()), "last": stream.last.to_string(),
            "oldest_age_ms": stream.first.map(|id| time_ms.saturating_sub(id.ms)),
            "trimmed": stream.added.saturating_sub(stream.length), "dropped": stream.dropped,
            "groups": stream.groups,
        })
    });
    json!({
        "pipeline": chosen.pipeline.to_string(),
        "watchers": seen.watchers,
        "orphans": orphans(seen).map(|watcher| watcher.host.as_str()).collect::<Vec<_>>(),
        "behind": seen.files.iter().map(|file| file.behind).sum::<u64>(),
        "files": files, "more": seen.files.len() - files.len(), "whole": !seen.has_more,
        "stream": stream,
        "parser": seen.parser,
    })
}

fn orphans(seen: &LogsSeen) -> impl Iterator<Item = &WatcherSeen> {
    seen.watchers.iter().filter(|watcher| watcher.orphan)
}

fn text(chosen: &Chosen, seen: &LogsSeen, all: bool, paint: Paint, time_ms: u64) -> String {
    let mut text = format!("{}\n", chosen.pipeline);
    text.push_str(&files(seen, all, paint));
    text.push_str(&stream(chosen, seen.stream.as_ref(), paint, time_ms));
    text.push_str(&seen.parser.as_ref().map_or_else(String::new, |parser| parsed(parser, paint)));
    for watcher in &seen.watchers {
        text.push_str(&trouble(chosen, watcher, paint));
    }
    text
}

fn files(seen: &LogsSeen, all: bool, paint: Paint) -> String {
    if seen.files.is_empty() {
        return "no file has a place yet: a node follows them: gapless run; what the patterns match: gapless doctor\n"
            .to_owned();
    }
    let shown = shown(&seen.files, all);
    let columns = [
        ("HOST", Side::Left),
        ("STATE", Side::Left),
        ("OFFSET", Side::Right),
        ("SIZE", Side::Right),
        ("BEHIND", Side::Right),
        ("WAITS", Side::Right),
        ("FILE", Side::Left),
    ];
    let mut table = Table::new(&columns).whole();
    for file in &shown {
        let fault = if file.fault.is_empty() { String::new() } else { paint.red(&plain(&file.fault)) };
        let cells = vec![
            if file.host.is_empty() { "(shared)".to_owned() } else { plain(&file.host) },
            file.state.as_str().to_owned(),
            file.offset.to_string(),
            if file.looked_at { file.size.to_string() } else { format!("({})", file.size) },
            file.behind.to_string(),
            maybe_age(file.oldest_ms),
            plain(&file.path),
        ];
        table.row_with(cells, fault);
    }
    let mut text = if shown.is_empty() { String::new() } else { table.render() };
    let behind: u64 = seen.files.iter().map(|file| file.behind).sum();
    let late = seen.files.iter().filter(|file| file.behind > 0).count();
    let more = seen.files.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!("; {} not shown (--all)", grouped(more as u64)) };
    let whole = if seen.has_more { " or more" } else { "" };
    text.push_str(&format!(
        "{}{whole}, {} behind in {late}{more}\n",
        count(seen.files.len(), "file", "files"),
        bytes(behind)
    ));
    text
}

fn stream(chosen: &Chosen, stream: Option<&OutputFacts>, paint: Paint, time_ms: u64) -> String {
    let Some(stream) = stream else { return "stream lines: nothing was appended yet\n".to_owned() };
    let oldest =
        stream.first.map_or_else(String::new, |id| format!(", the oldest {} old", age(time_ms.saturating_sub(id.ms))));
    let mut text = format!(
        "stream lines: {} of {} (keep {}){oldest}; {} ever, {} trimmed, {} of them unread\n",
        grouped(stream.length),
        grouped(chosen.section.stream_entries_max),
        keep_word(chosen),
        grouped(stream.added),
        grouped(stream.added.saturating_sub(stream.length)),
        if stream.dropped.unread > 0 { paint.yellow(&grouped(stream.dropped.unread)) } else { "0".to_owned() },
    );
    if !stream.groups.is_empty() {
        text.push_str(&groups(&stream.groups));
    }
    text
}

/// What became of the lines.
fn parsed(parser: &ParserSeen, paint: Paint) -> String {
    let reasons: Vec<String> =
        parser.reasons.iter().map(|(reason, n)| format!("{} {}", plain(reason), grouped(*n))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let bad = |n: u64| if n > 0 { paint.yellow(&grouped(n)) } else { "0".to_owned() };
    format!(
        "parser: {} events, {} unparsed{reasons}; {} lines behind, {} missed; streams hold {} and {}, {} dropped unread\n{}",
        grouped(parser.events),
        bad(parser.unparsed),
        grouped(parser.lag),
        bad(parser.missed),
        grouped(parser.held[0]),
        grouped(parser.held[1]),
        bad(parser.dropped.iter().sum()),
        if parser.runs {
            waits(&parser.unit, &parser.waits, paint)
        } else {
            format!("{}: no living node runs it\n", paint.red(&plain(&parser.unit)))
        },
    )
}

/// Why nothing gets on.
fn waits(unit: &str, why: &str, paint: Paint) -> String {
    if why.is_empty() { String::new() } else { format!("{}: waits: {}\n", paint.yellow(&plain(unit)), plain(why)) }
}

fn groups(groups: &[GroupFacts]) -> String {
    let columns = [
        ("GROUP", Side::Left),
        ("CONSUMERS", Side::Right),
        ("LAG", Side::Right),
        ("PENDING", Side::Right),
        ("THROUGH", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for group in groups {
        table.row(vec![
            plain(&group.name),
            group.consumers.to_string(),
            group.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            group.pending.to_string(),
            group.through.clone(),
        ]);
    }
    table.render()
}

fn trouble(chosen: &Chosen, watcher: &WatcherSeen, paint: Paint) -> String {
    let mut text = String::new();
    if watcher.orphan {
        let name = paint.red(&plain(&watcher.unit));
        text.push_str(&format!(
            "{name}: nobody follows its {}: no node of this host lives; start one there\n",
            count(watcher.files, "file", "files")
        ));
    }
    text.push_str(&waits(&watcher.unit, &watcher.waits, paint));
    if let Some(since) = watcher.paused_age_ms {
        let name = paint.yellow(&plain(&watcher.unit));
        text.push_str(&format!(
            "{name}: paused by an operator {} ago; to go on: gapless resume {}\n",
            age(since),
            chosen.pipeline
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::logs::FileState;

    fn file(n: u64, behind: u64, state: FileState) -> FileSeen {
        FileSeen {
            path: format!("/l/{n:03}.log"),
            host: "a".to_owned(),
            file: "0000000000000001-1-0".to_owned(),
            state,
            offset: 10,
            size: 10 + behind,
            behind,
            oldest_ms: None,
            looked_at: true,
            fault: String::new(),
        }
    }

    #[test]
    fn of_too_many_files_those_farthest_behind_are_shown_in_their_order() {
        let mut files: Vec<FileSeen> = (0..80).map(|n| file(n, n % 2 * n, FileState::Followed)).collect();
        files.push(file(90, 0, FileState::Finished));
        let shown = shown(&files, false);
        assert_eq!(shown.len(), FILES_SHOWN);
        assert!(shown.windows(2).all(|pair| pair[0].path < pair[1].path));
        assert_eq!(shown.iter().filter(|file| file.behind > 0).count(), 40, "all that are behind");
        assert_eq!(super::shown(&files, true).len(), 81);
    }
}
