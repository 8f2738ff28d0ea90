//! The parse step end to end: real files, a watcher and a parser; the events are those that the mapping gives for each
//! line of the file, computed from the file, whatever dies at which point.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapless::actors::log_parser::{LogParser, ParsePlan};
use gapless::actors::log_watcher::WatchPlan;
use gapless::actors::turn::crash::CrashPoint;
use gapless::actors::turn::{self, Exit, Unit};
use gapless::ids::{EntryId, PipelineId, RandomId, UnitId};
use gapless::messages::level::level_of;
use gapless::messages::line::{FileId, Label, LineId, Part};
use gapless::messages::log_file::first_line_head;
use gapless::messages::udm::{Facts, Mapping, Parser};
use gapless::sources::files::Budget;
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::store::trim::Keep;

use crate::support::wait;
use crate::watch::{Site, Watched, files, hold, pattern};

const CLOCK: &str = "2026-03-01T00:00:00Z";

/// One kind of log, of which some lines are no event.
fn content(preset: &str, lines: u32) -> String {
    let line = |n: u32| match (preset, n % 7) {
        (_, 3) => format!("no form of any kind {n}"),
        (_, 5) => String::new(),
        ("nginx", _) => format!(
            r#"203.0.113.{} - eva [01/Jan/2026:00:{:02}:03 +0000] "GET /x/{n} HTTP/1.1" {} {n} "-" "curl/8""#,
            n % 250,
            n % 60,
            200 + n % 300
        ),
        ("json", _) => format!(r#"{{"time":"{CLOCK}","level":"warn","msg":"it is {n}","deep":{{"n":{n}}}}}"#),
        (_, _) => format!("<34>1 2026-01-02T03:04:{:02}Z host-{n} app {n} ID47 - it failed {n}", n % 60),
    };
    (0..lines).map(|n| line(n) + "\n").collect()
}

fn mapping(preset: &str) -> Parser {
    Parser::new(&Mapping { preset: Some(preset.to_owned()), ..Mapping::default() }).expect("a preset")
}

/// What both outputs must hold, from the file alone: `ID EVENT`, and `ID REASON LINE`.
fn truth(preset: &str, path: &Path) -> (Vec<String>, Vec<String>) {
    let bytes = std::fs::read(path).expect("the file");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("the file"));
    let file = FileId { head: first_line_head(&bytes, false).expect("a first line"), inode, generation: 0 };
    let (parser, mut offset) = (mapping(preset), 0);
    let (mut events, mut unparsed) = (Vec::new(), Vec::new());
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let id = LineId { file: file.clone(), offset };
        offset += line.len() as u64;
        let line = line.strip_suffix(b"\n").expect("whole lines");
        let level = level_of(line);
        let received = CLOCK.parse().expect("a time");
        let (host, file) = ("", path.to_str().expect("text"));
        match parser.parse(line, &Facts { id: &id, level: &level, part: Part::Whole, received, host, file }) {
            Ok(event) => events.push(format!("{id} {}", serde_json::to_string(&event).expect("JSON"))),
            Err(why) => unparsed.push(format!("{id} {} {}", why.word(), String::from_utf8_lossy(line))),
        }
    }
    assert!(!events.is_empty() && !unparsed.is_empty(), "both kinds");
    (events, unparsed)
}

/// A file, its watcher and its parser.
struct Case {
    watched: Watched,
    preset: &'static str,
    folder: tempfile::TempDir,
    plan: Arc<ParsePlan>,
}

impl Case {
    async fn new(site: &Rc<Site>, name: &str, preset: &'static str, lines: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("a path").join("a.log");
        std::fs::write(&path, content(preset, lines)).expect("written");
        let plan = WatchPlan {
            budget: Budget { lines: 40, bytes: 100_000 },
            from_beginning: true,
            places_max: 100,
            capacity: 100_000,
            keep: Keep::Newest,
            publish: None,
        };
        let watched = Watched {
            site: site.clone(),
            pipeline: site.pipeline(name).await,
            files: files(vec![pattern(&path, false)], |_| {}),
            plan: Arc::new(plan),
        };
        let plan = ParsePlan {
            lines: "lines",
            events: ("events".to_owned(), 100_000),
            unparsed: ("unparsed".to_owned(), 100_000),
            keep: Keep::Newest,
            batch_lines: 16,
            batch_bytes: 50_000,
        };
        Self { watched, preset, folder, plan: Arc::new(plan) }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().canonicalize().expect("a path").join("a.log")
    }

    /// Lives of the parser, one after the other, until it is cut.
    fn begin(&self) -> tokio::task::JoinHandle<()> {
        let (site, pipeline) = (self.watched.site.clone(), self.watched.pipeline.clone());
        let (parser, plan) = (Arc::new(mapping(self.preset)), self.plan.clone());
        actix_rt::spawn(async move { lives(site, pipeline, parser, plan).await })
    }

    /// Of each record the line's id, the reason if it has one, and what stands behind its label.
    async fn output(&self, name: &str) -> Vec<String> {
        let (store, link) = (&self.watched.site.store, self.watched.site.link());
        let entries = store.output(&link, &self.watched.pipeline, name, EntryId::ZERO, 100_000).await;
        let text = |entry: gapless::store::Entry| {
            let (label, bytes) = Label::of(&entry.fields).expect("a line");
            let said = [Some(label.id.to_string()), entry.text("r"), Some(String::from_utf8_lossy(bytes).into_owned())];
            said.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        entries.expect("an output").into_iter().map(text).collect()
    }

    /// Waits until as many records stand there as there must be, and compares.
    async fn judge(&self) {
        let (events, unparsed) = truth(self.preset, &self.path());
        wait::until("every line is a record", || async {
            let [e, u] = [self.output("events").await, self.output("unparsed").await];
            e.len() >= events.len() && u.len() >= unparsed.len()
        })
        .await;
        assert_eq!(self.output("events").await, events, "{}", self.preset);
        assert_eq!(self.output("unparsed").await, unparsed, "{}", self.preset);
    }
}

async fn lives(site: Rc<Site>, pipeline: PipelineId, parser: Arc<Parser>, plan: Arc<ParsePlan>) {
    let (link, unit) = (site.link(), UnitId::exclusive(&pipeline, "log_parser"));
    let mut previous: Option<RandomId> = None;
    loop {
        let follow = Mail::Follow("lines");
        let Ok(lease) = Lease::acquire(&site.store, &link, &unit, follow, previous.as_ref(), &Fate::Clean).await else {
            wait::step().await;
            continue;
        };
        previous = Some(lease.held().owner);
        let unit = Unit::new(lease, site.metrics.clone(), Duration::from_millis(20));
        unit.point(CrashPoint::AfterAcquire).await;
        turn::live(LogParser::new(unit.clone(), parser.clone(), plan.clone())).await;
        match unit.exit() {
            Some(Exit::Reload(_)) => {}
            other => panic!("{pipeline}: {other:?}"),
        }
    }
}

#[actix_rt::test]
async fn each_line_is_one_event_or_is_set_aside_whatever_point_a_parser_dies_at() {
    let site = Rc::new(Site::new().await);
    for preset in ["nginx", "json", "syslog"] {
        for point in CrashPoint::ALL.into_iter().filter(|point| *point != CrashPoint::BeforeRelease) {
            let name = format!("{preset}_{}", point.as_str());
            let case = Case::new(&site, &name, preset, 150).await;
            let watcher = case.watched.begin(None);
            let (events, unparsed) = truth(preset, &case.path());
            let lines = (events.len() + unparsed.len()) as u64;
            wait::until_true("all lines are in the stream", || site.length(&case.watched.pipeline) == lines).await;
            assert!(watcher.drained().await);
            // A commit may be answered before it can be seen under way: of this point the first passage counts, if any.
            let is_rare = point == CrashPoint::CommitUnderWay;
            let nth = if is_rare || point == CrashPoint::AfterAcquire { 1 } else { 3 };
            let held = hold(&case.watched.pipeline, point, nth);
            let first = case.begin();
            wait::until(&format!("{name}: the point"), || async {
                held.is_reached() || (is_rare && case.output("events").await.len() == events.len())
            })
            .await;
            // It stands there past its lease, like a process that is stopped, while another takes over; then it dies.
            let second = case.begin();
            case.judge().await;
            held.go_on();
            first.abort();
            let _ = first.await;
            case.judge().await;
            second.abort();
            let _ = second.await;
        }
    }
}

#[actix_rt::test]
async fn each_line_is_one_event_although_redis_dies_and_forgets() {
    let site = Rc::new(Site::new().await);
    let case = Case::new(&site, "forgets", "json", 3000).await;
    // What stands in the append-only file by now stays.
    let (_, floor) = site.append_only_file();
    let watcher = case.watched.begin(None);
    let parser = case.begin();
    for round in 0..4_u64 {
        let most = truth("json", &case.path()).0.len();
        let more = (most / 8) * usize::try_from(round + 1).expect("small");
        wait::until("some events", || async { case.output("events").await.len() >= more }).await;
        site.kill_redis(|file| {
            let size = std::fs::metadata(file).expect("its size").len();
            let keep = floor.max(size.saturating_sub(3_000 * (round + 1)));
            let file = std::fs::OpenOptions::new().write(true).open(file).expect("the append-only file");
            file.set_len(keep).expect("cut");
        });
    }
    case.judge().await;
    parser.abort();
    let _ = parser.await;
    assert!(watcher.drained().await);
    case.judge().await;
}
