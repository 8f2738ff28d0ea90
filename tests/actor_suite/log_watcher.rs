//! LogWatcher under the suite: a unit of work is a line at the end of a file; its world is Redis, since nobody can
//! take a file away from a process that has it open.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use gapless::actors::log_watcher::{LogWatcher, WatchPlan};
use gapless::actors::turn::{self, Unit};
use gapless::ids::EntryId;
use gapless::messages::line::Label;
use gapless::sources::files::{Budget, FilesOptions, LogFiles};

use gapless::store::Entry;
use gapless::store::trim::Keep;

use crate::suite::{Site, Subject};
use crate::support::proxy::Faults;

pub struct LogWatcherSubject {
    folder: tempfile::TempDir,
    files: LogFiles,
    written: u64,
}

fn line(n: u64) -> String {
    format!("line {n} ERROR {}", "x".repeat(usize::try_from(n % 7).expect("small")))
}

fn append(path: &Path, line: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
    writeln!(file, "{line}").expect("written");
}

impl Subject for LogWatcherSubject {
    const ACTOR: &'static str = "log_watcher";

    async fn new(_: &Site) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = FilesOptions {
            poll: Duration::from_millis(20),
            poll_only: Duration::from_millis(20),
            rotate_wait: Duration::ZERO,
            ..FilesOptions::new("logs.x", vec![format!("{}/*.log", folder.path().display())])
        };
        let files = LogFiles::new(options).expect("files");
        Self { folder, files, written: 0 }
    }

    async fn offer(&mut self, _: &Site, units: u64) {
        let path = self.folder.path().join("a.log");
        for _ in 0..units {
            self.written += 1;
            append(&path, &line(self.written));
        }
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        // Small turns, so that little work takes several.
        let plan = WatchPlan {
            budget: Budget { lines: 2, bytes: 1000 },
            from_beginning: true,
            places_max: 1000,
            capacity: 1000,
            keep: Keep::Newest,
            publish: None,
        };
        turn::live(LogWatcher::new(unit, self.files.clone(), Arc::new(plan)))
    }

    async fn done(&self, site: &Site) -> Vec<String> {
        let lines = site.store.output(&site.direct, &site.pipeline, "lines", EntryId::ZERO, 1000).await.expect("lines");
        let text = |entry: &Entry| String::from_utf8_lossy(Label::of(&entry.fields).expect("a line").1).into_owned();
        lines.iter().map(text).collect()
    }

    fn truth(units: u64) -> Vec<String> {
        (1..=units).map(line).collect()
    }

    fn world_down(&self, site: &Site, down: bool) {
        site.proxy.set(Faults { refuse: down, ..Faults::default() });
        site.proxy.cut();
    }
}
