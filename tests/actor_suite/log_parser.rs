//! LogParser under the suite: a unit of work is a line in the stream, of which each third is no event. Its world is Redis.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use gapless::actors::log_parser::{LogParser, ParsePlan};
use gapless::actors::turn::{self, Unit};
use gapless::ids::UnitId;
use gapless::messages::line::{FileId, Label, Level, Line, LineId, Part};
use gapless::messages::log_file::{LOG_FILE_VERSION, LogFile, Print, marker_of};
use gapless::messages::udm::{Facts, Mapping, Parser};
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::lines::Lines;
use gapless::store::trim::Keep;

use crate::suite::{Site, Subject};
use crate::support::proxy::Faults;

const FILE: FileId = FileId { head: 7, inode: 1, generation: 0 };
const PATH: &str = "/l/a.log";

pub struct LogParserSubject {
    written: u64,
}

fn parser() -> Parser {
    Parser::new(&Mapping { preset: Some("json".to_owned()), ..Mapping::default() }).expect("a mapping")
}

fn line(n: u64) -> Line {
    let text = match n.is_multiple_of(3) {
        true => format!("no event {n}"),
        false => format!(r#"{{"time":"2026-01-02T03:04:05Z","level":"error","n":{n},"msg":"line {n}"}}"#),
    };
    Line { id: LineId { file: FILE, offset: n }, level: Level::UNKNOWN, bytes: text.into(), part: Part::Whole }
}

fn record() -> Effect {
    let record = LogFile {
        version: LOG_FILE_VERSION,
        id: FILE,
        path: PATH.into(),
        dev: 1,
        inode: 1,
        head: Print::of(b""),
        offset: 0,
        marker: marker_of(b""),
        inside: false,
        size: 0,
        mtime: 0,
        rotated: false,
        finished: false,
        packed: None,
        gone_seconds: None,
    };
    Effect::PutRow { row: record.key(), value: record.to_json(), capacity: 100 }
}

impl Subject for LogParserSubject {
    const ACTOR: &'static str = "log_parser";
    const MAIL: Mail = Mail::Follow("lines");

    async fn new(_: &Site) -> Self {
        Self { written: 0 }
    }

    /// Does what the watcher does.
    async fn offer(&mut self, site: &Site, units: u64) {
        let watcher = UnitId::exclusive(&site.pipeline, "log_watcher@h");
        let lease = Lease::acquire(&site.store, &site.direct, &watcher, Mail::Offset, None, &Fate::Clean).await;
        let lease = lease.expect("a free unit");
        let lines = (self.written + 1..=self.written + units).map(line).collect();
        self.written += units;
        let lines = Effect::Lines(Lines { output: "lines".to_owned(), lines, ..Lines::default() });
        lease.commit(&Commit { effects: vec![lines, record()], ..Commit::default() }).await.expect("committed");
        lease.release().await.expect("released");
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        let plan = ParsePlan {
            lines: "lines",
            events: ("events".to_owned(), 1000),
            unparsed: ("unparsed".to_owned(), 1000),
            keep: Keep::Newest,
            // Small turns, so that little work takes several.
            batch_lines: 2,
            batch_bytes: 1000,
        };
        turn::live(LogParser::new(unit, Arc::new(parser()), Arc::new(plan)))
    }

    async fn done(&self, site: &Site) -> Vec<String> {
        let text = |entry: &gapless::store::Entry, names: &[&str]| {
            let (label, bytes) = Label::of(&entry.fields).expect("a line");
            let first = [label.id.to_string(), String::from_utf8_lossy(bytes).into_owned()];
            let others = names.iter().map(|name| entry.text(name).expect("a field"));
            first.into_iter().chain(others).collect::<Vec<_>>().join(" ")
        };
        let events = site.output("events").await;
        let unparsed = site.output("unparsed").await;
        let events = events.iter().map(|entry| text(entry, &[]));
        events.chain(unparsed.iter().map(|entry| text(entry, &["r", "h", "f"]))).collect()
    }

    fn truth(units: u64) -> Vec<String> {
        let (parser, mut events, mut unparsed) = (parser(), Vec::new(), Vec::new());
        for line in (1..=units).map(line) {
            let Line { id, level, bytes, part } = &line;
            let facts = Facts { id, level, part: *part, received: jiff::Timestamp::UNIX_EPOCH, host: "h", file: PATH };
            match parser.parse(bytes, &facts) {
                Ok(event) => events.push(format!("{id} {}", serde_json::to_string(&event).expect("JSON"))),
                Err(_) => unparsed.push(format!("{id} {} not_json h {PATH}", String::from_utf8_lossy(bytes))),
            }
        }
        events.extend(unparsed);
        events
    }

    fn world_down(&self, site: &Site, down: bool) {
        site.proxy.set(Faults { refuse: down, ..Faults::default() });
        site.proxy.cut();
    }
}
