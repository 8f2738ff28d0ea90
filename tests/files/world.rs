//! A folder of log files, what follows it, and what has been committed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use gapless::messages::line::{Line, Part};
use gapless::messages::log_file::LogFile;
use gapless::sources::files::{Batch, Budget, FilesOptions, Notice, Tails};

pub struct World {
    folder: tempfile::TempDir,
    pub options: FilesOptions,
    pub tails: Tails,
    pub now: Instant,
    /// What Redis would hold: the table of files, and the stream.
    pub stored: BTreeMap<String, LogFile>,
    pub begun: bool,
    pub lines: Vec<Line>,
    pub notices: Vec<Notice>,
    pub budget: Budget,
}

impl World {
    /// A folder whose files are followed by these patterns.
    pub fn new(patterns: &[&str]) -> Self {
        Self::with(patterns, |_| {})
    }

    pub fn with(patterns: &[&str], change: impl FnOnce(&mut FilesOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let full = |pattern: &&str| format!("{}/{pattern}", folder.path().display());
        let mut options = FilesOptions::new("logs.test", patterns.iter().map(full).collect());
        options.events = false;
        change(&mut options);
        let tails = Tails::new(options.clone()).expect("options");
        let budget = Budget { lines: 1_000, bytes: 1 << 20 };
        let (stored, now) = (BTreeMap::new(), Instant::now());
        Self { folder, options, tails, now, stored, begun: false, lines: Vec::new(), notices: Vec::new(), budget }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).expect("a file");
        file.write_all(bytes.as_ref()).expect("written");
    }

    pub fn rename(&self, from: &str, to: &str) {
        rustix::fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    pub fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).expect("copied");
    }

    pub fn truncate(&self, name: &str) {
        OpenOptions::new().write(true).open(self.path(name)).expect("a file").set_len(0).expect("truncated");
    }

    /// Packs a file as `gzip` and `zstd` do: the time of change stays, the original goes.
    pub fn pack(&self, from: &str, to: &str) {
        let bytes = fs::read(self.path(from)).expect("a file");
        let time = fs::metadata(self.path(from)).expect("a file").modified().expect("a time");
        let packed = if to.ends_with(".gz") {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(&bytes).expect("packed");
            packer.finish().expect("packed")
        } else {
            zstd::encode_all(bytes.as_slice(), 1).expect("packed")
        };
        fs::write(self.path(to), packed).expect("written");
        File::options().write(true).open(self.path(to)).expect("a file").set_modified(time).expect("a time");
        self.remove(from);
    }

    /// Sets a file's time of change, in seconds from now.
    pub fn age(&self, name: &str, seconds: u64) {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(self.path(name)).expect("a file").set_modified(time).expect("a time");
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// One look, and everything that can be read then, committed.
    pub fn read(&mut self) {
        self.pass(self.options.poll);
        self.tails.look(self.now);
        while let Some(batch) = self.tails.next_batch(self.budget, self.now) {
            self.commit(&batch);
        }
        self.notices.extend(self.tails.notices());
    }

    pub fn commit(&mut self, batch: &Batch) {
        self.stored.extend(batch.records.iter().cloned());
        for key in &batch.gone {
            self.stored.remove(key);
        }
        self.begun = batch.begun;
        self.lines.extend(batch.lines.iter().cloned());
        self.tails.committed(batch, self.now);
    }

    /// Until rotated files are finished.
    pub fn settle(&mut self) {
        self.read();
        self.pass(self.options.rotate_wait);
        self.read();
        self.read();
    }

    /// The process dies and another one goes on from what is stored.
    pub fn restart(&mut self) {
        self.tails = Tails::new(self.options.clone()).expect("options");
        self.restore();
    }

    /// Goes on from what is stored, in the same process.
    pub fn restore(&mut self) {
        let records = self.stored.values().map(|record| LogFile::parse(&record.to_json()).expect("a record")).collect();
        self.tails.restore(records, self.begun, self.now);
    }

    /// Everything that is committed, in order; what is not a whole line says so.
    pub fn texts(&self) -> Vec<String> {
        let text = |line: &Line| {
            let part = if line.part == Part::Whole { String::new() } else { format!(" <{}>", line.part.as_str()) };
            format!("{}{part}", String::from_utf8_lossy(&line.bytes))
        };
        self.lines.iter().map(text).collect()
    }

    /// What was committed since the last time, in order.
    pub fn news(&mut self) -> String {
        let texts = self.texts().join("|");
        self.lines.clear();
        texts
    }

    pub fn has_noticed(&self, matches: impl Fn(&Notice) -> bool) -> bool {
        self.notices.iter().any(matches)
    }
}
