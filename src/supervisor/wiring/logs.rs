//! The units of a logs pipeline.

use std::sync::Arc;

use super::exclusive;
use crate::actors::log_parser::{LogParser, ParsePlan};
use crate::actors::log_watcher::{LINES, LogWatcher, WatchPlan};
use crate::actors::turn;
use crate::config::{self, LogStart, LogsSettings, ParseSettings, Settings};
use crate::ids::{Address, Kind, PipelineId, UnitId, local_actor};
use crate::messages::udm::Parser;
use crate::sources::files::{Budget, FilesOptions, LogFiles, Multiline, Start};
use crate::store::lease::Mail;
use crate::store::lines::{Payload, Publishing};
use crate::store::trim::Keep;
use crate::supervisor::life::{Factory, UnitSpec};
use crate::supervisor::placement::Placement;

/// The actor that follows files; behind an `@` stands its host, unless the folders are the same on every host.
pub const LOG_WATCHER: &str = "log_watcher";

/// The actor that makes events of lines.
pub const LOG_PARSER: &str = "log_parser";

/// Lives of files whose places one unit keeps, for each file that it may follow: every rotation leaves one, until it is
/// forgotten.
const PLACES_A_FILE: u64 = 100;

/// The watcher of a pipeline on a host.
pub(super) fn watcher(name: &str, section: &LogsSettings, host: &str) -> Address {
    let pipeline = PipelineId::new(Kind::Logs, name);
    match section.shared {
        true => Address::new(&pipeline, LOG_WATCHER),
        false => Address::new(&pipeline, &local_actor(LOG_WATCHER, host)),
    }
}

/// The parser of a pipeline, where it has one.
pub(super) fn parser(name: &str, section: &LogsSettings) -> Option<Address> {
    section.parse.as_ref().map(|_| Address::new(&PipelineId::new(Kind::Logs, name), LOG_PARSER))
}

/// The units of one pipeline on this host.
pub(super) fn units(name: &str, section: &LogsSettings, settings: &Settings) -> Vec<UnitSpec> {
    let address = watcher(name, section, &settings.node.host);
    let plan = Arc::new(plan(section));
    // Made once: rotated files stay open from one life of the unit to the next.
    let files = LogFiles::new(options(name, section, settings)).map_err(|faults| faults.join("; "));
    let parser = parser(name, section).map(|address| UnitId::exclusive(&address.pipeline, &address.actor));
    let readers: Vec<UnitId> = parser.iter().cloned().collect();
    let factory: Factory = Arc::new(move |unit| match &files {
        Ok(files) => turn::live(LogWatcher::with_readers(unit, files.clone(), plan.clone(), readers.clone())),
        Err(fault) => {
            let fault = fault.clone();
            Box::pin(async move { unit.give_up(fault) })
        }
    });
    let spec = exclusive(UnitId::exclusive(&address.pipeline, &address.actor), factory, section.poll);
    let placement = match section.shared {
        true => Placement::Exclusive,
        false => Placement::Local { host: settings.node.host.clone() },
    };
    let watcher = UnitSpec { placement, ..spec };
    let parser = parser.zip(section.parse.as_ref()).map(|(id, parse)| UnitSpec {
        mail: Mail::Follow(LINES),
        // Lines wake it; this is for what leaves its outputs.
        ..exclusive(id, parse_factory(parse), settings.node.lease)
    });
    std::iter::once(watcher).chain(parser).collect()
}

fn parse_factory(section: &ParseSettings) -> Factory {
    let plan = Arc::new(ParsePlan {
        lines: LINES,
        events: (section.events.clone(), section.events_entries_max),
        unparsed: (section.unparsed.clone(), section.unparsed_entries_max),
        keep: keep(section.keep),
        batch_lines: section.batch_lines,
        batch_bytes: section.batch_bytes,
    });
    // Checked when the configuration was read.
    let parser = Parser::new(&section.mapping).map(Arc::new);
    let parser = parser.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    Arc::new(move |unit| match &parser {
        Ok(parser) => turn::live(LogParser::new(unit, parser.clone(), plan.clone())),
        Err(fault) => {
            let fault = fault.clone();
            Box::pin(async move { unit.give_up(fault) })
        }
    })
}

fn keep(keep: config::Keep) -> Keep {
    match keep {
        config::Keep::Acknowledged => Keep::Acknowledged,
        config::Keep::Newest => Keep::Newest,
    }
}

fn plan(section: &LogsSettings) -> WatchPlan {
    let publish = section.channel_prefix.clone().map(|prefix| Publishing {
        prefix,
        payload: if section.envelope { Payload::Envelope } else { Payload::Bytes },
    });
    WatchPlan {
        budget: Budget { lines: section.batch_lines, bytes: section.batch_bytes },
        from_beginning: section.start == LogStart::Beginning,
        places_max: PLACES_A_FILE * section.files_max as u64,
        capacity: section.stream_entries_max,
        keep: keep(section.keep),
        publish,
    }
}

/// How the files are followed, as the reader of files is told.
pub fn options(name: &str, section: &LogsSettings, settings: &Settings) -> FilesOptions {
    FilesOptions {
        exclude: section.exclude.clone(),
        rotated: section.rotated.clone(),
        start: match section.start {
            LogStart::Beginning => Start::Beginning,
            LogStart::End => Start::End,
            LogStart::Since(time) => Start::Since(time.as_second()),
        },
        files_max: section.files_max,
        held_max: section.held_max,
        line_bytes_max: section.line_bytes_max,
        turn_bytes: section.batch_bytes,
        multiline: section.record_start.as_ref().and_then(|start| {
            // Checked when the configuration was read.
            let start = regex::bytes::Regex::new(start).ok()?;
            Some(Multiline { start, wait: section.record_wait })
        }),
        linger: section.linger,
        events: section.events,
        poll: section.poll,
        poll_only: section.poll_only,
        rotate_wait: section.rotate_wait,
        horizon: settings.node.rollback_horizon,
        forget_after: section.forget,
        ..FilesOptions::new(format!("logs.{name}"), section.paths.clone())
    }
}
