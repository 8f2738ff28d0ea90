//! A logger and its rotation, seeded: writes lines in pieces, rotates in every style, and keeps what it wrote. That is
//! the truth of every test here.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// How a file is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Renamed to a name with the time, then created anew.
    RenameCreate,
    /// As logrotate does: `.1` becomes `.2` and so on, then the file becomes `.1` and is created anew.
    Chain,
    /// Copied to `.1`, then truncated; the chain moves on before.
    CopyTruncate,
    /// As `Chain`; `.1` is packed with gzip some time later.
    Gz,
    /// As `Chain`; `.1` is packed with zstd some time later.
    Zst,
    /// As `CopyTruncate`; the copy is packed with gzip some time later.
    CopyTruncateGz,
    /// Deleted and created anew.
    DeleteCreate,
    /// Truncated, without a copy.
    Truncate,
    /// Renamed to a name with a date, then created anew.
    DateNames,
}

impl Style {
    pub const ALL: [Style; 9] = [
        Style::RenameCreate,
        Style::Chain,
        Style::CopyTruncate,
        Style::Gz,
        Style::Zst,
        Style::CopyTruncateGz,
        Style::DeleteCreate,
        Style::Truncate,
        Style::DateNames,
    ];

    /// Whether a rotation destroys the only copy of what stands in the file.
    pub fn destroys(self) -> bool {
        matches!(self, Style::DeleteCreate | Style::Truncate)
    }

    /// Whether the same inode begins anew.
    pub fn is_in_place(self) -> bool {
        matches!(self, Style::CopyTruncate | Style::CopyTruncateGz | Style::Truncate)
    }
}

/// One step of a rotation.
#[derive(Debug)]
enum Step {
    Shift,
    Rename(PathBuf),
    Create,
    Copy,
    Truncate,
    Delete,
    Pack { half: bool },
}

/// What differs between loggers.
#[derive(Debug, Clone)]
pub struct Habits {
    pub style: Style,
    /// Each life begins with the same line.
    pub header: bool,
    /// A rotation may come in the middle of a line.
    pub torn: bool,
    /// Between the rename and the new file, the logger may still write.
    pub late: bool,
    /// Bytes of a line, about.
    pub longest: usize,
}

/// Levels of the lines.
const LEVELS: [&str; 4] = ["INFO", "WARN", "ERROR", "DEBUG"];

/// The logger of one file.
pub struct Writer {
    pub path: PathBuf,
    pub habits: Habits,
    rng: StdRng,
    handle: File,
    /// What each life of the file held, up to now.
    pub lives: Vec<Vec<u8>>,
    /// The end of a line that is begun.
    pending: Vec<u8>,
    steps: VecDeque<Step>,
    /// Packing that is still to be done.
    later: VecDeque<Step>,
    serial: u64,
    rotations: u64,
    /// What it did, and when.
    pub story: Vec<String>,
    /// The time of day where a test turns the clock: files that change get it.
    pub clock: Option<SystemTime>,
}

impl Writer {
    pub fn new(path: &Path, habits: Habits, seed: u64) -> Self {
        let handle = create(path);
        Self {
            path: path.to_owned(),
            habits,
            rng: StdRng::seed_from_u64(seed ^ 0x10f5),
            handle,
            lives: vec![Vec::new()],
            pending: Vec::new(),
            steps: VecDeque::new(),
            later: VecDeque::new(),
            serial: 0,
            rotations: 0,
            story: Vec::new(),
            clock: None,
        }
    }

    /// Appends so many lines, in one write or several. `cut`: the last one may stay without its end for now.
    pub fn append(&mut self, lines: usize, cut: bool) {
        let mut bytes = std::mem::take(&mut self.pending);
        // A header alone is no life of its own: two such files are the same bytes.
        if lines > 0 && self.life().is_empty() && self.habits.header {
            bytes.extend_from_slice(b"#Fields: date time s-ip cs-method cs-uri-stem sc-status\n");
        }
        for _ in 0..lines {
            let line = self.line();
            bytes.extend_from_slice(&line);
        }
        if cut && !bytes.is_empty() {
            let keep = self.rng.random_range(0..bytes.len().min(40));
            self.pending = bytes.split_off(bytes.len() - keep);
        }
        self.write(&bytes);
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let some = if self.rng.random_ratio(1, 2) { bytes.len() } else { self.rng.random_range(1..=bytes.len()) };
            self.handle.write_all(&bytes[..some]).expect("written");
            self.say(&format!("{some} bytes at {}", self.lives.last().map_or(0, Vec::len)));
            self.life().extend_from_slice(&bytes[..some]);
            bytes = &bytes[some..];
            self.touch(None);
        }
    }

    fn life(&mut self) -> &mut Vec<u8> {
        self.lives.last_mut().expect("a life")
    }

    fn line(&mut self) -> Vec<u8> {
        self.serial += 1;
        let level = LEVELS.choose(&mut self.rng).expect("a level");
        let long = self.rng.random_range(0..=self.habits.longest);
        let pad: String = (0..long).map(|n| if n % 17 == 3 { 'ü' } else { 'x' }).take(long).collect();
        let n = self.serial;
        let mut line = match self.rng.random_range(0..20) {
            // Of two lives that hold the same single line, and are left as packed files, nobody can say whether they are one.
            0 if !self.lives.last().is_some_and(Vec::is_empty) => Vec::new(),
            1 => [format!("{n} {level} ").as_bytes(), b"\xff\xfe raw"].concat(),
            2..8 => format!("2026-11-26T05:06:07Z {level} n={n} {pad}").into_bytes(),
            _ => format!("{{\"type\":\"{level}\",\"n\":{n},\"message\":\"{pad}\"}}").into_bytes(),
        };
        line.extend_from_slice(if self.rng.random_ratio(1, 12) { b"\r\n" } else { b"\n" });
        line
    }

    /// Begins a rotation: its steps follow one by one.
    pub fn begin_rotation(&mut self) {
        while self.is_packing() {
            self.step_later();
        }
        let style = self.habits.style;
        if !self.habits.torn || style.destroys() {
            self.append(0, false);
        }
        self.rotations += 1;
        let name = self.path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let beside = |name: String| self.path.with_file_name(name);
        let n = self.rotations;
        let steps = match style {
            Style::RenameCreate => vec![Step::Rename(beside(format!("{name}.{}", 1_764_000_000 + n))), Step::Create],
            Style::DateNames => {
                let date = format!("{name}-2026-{:02}-{:02}T{:02}", 1 + n / 500, 1 + n / 20 % 25, n % 20);
                vec![Step::Rename(beside(date)), Step::Create]
            }
            Style::Chain | Style::Gz | Style::Zst => {
                vec![Step::Shift, Step::Rename(beside(format!("{name}.1"))), Step::Create]
            }
            Style::CopyTruncate | Style::CopyTruncateGz => vec![Step::Shift, Step::Copy, Step::Truncate],
            Style::DeleteCreate => vec![Step::Delete, Step::Create],
            Style::Truncate => vec![Step::Truncate],
        };
        self.steps.extend(steps);
        if matches!(style, Style::Gz | Style::Zst | Style::CopyTruncateGz) {
            self.later.extend([Step::Pack { half: true }, Step::Pack { half: false }]);
        }
    }

    /// Whether a rotation is begun and not done: only packing may be left.
    pub fn is_rotating(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Whether a rotated file waits to be packed.
    pub fn is_packing(&self) -> bool {
        !self.later.is_empty()
    }

    /// The next step of the rotation.
    pub fn step(&mut self) {
        let Some(step) = self.steps.pop_front() else { return };
        let renamed = matches!(step, Step::Rename(_));
        self.perform(step);
        if renamed && self.habits.late && self.rng.random_ratio(1, 2) {
            // With what it wrote before: nobody saw the file stand still in the middle of a line.
            let lines = self.rng.random_range(1..3);
            self.append(lines, false);
        }
    }

    /// The next step of the packing.
    pub fn step_later(&mut self) {
        if let Some(step) = self.later.pop_front() {
            self.perform(step);
        }
    }

    /// A file changed, the followed one where no path is named: by the clock of the test, now.
    fn touch(&self, path: Option<&Path>) {
        let Some(now) = self.clock else { return };
        match path {
            None => self.handle.set_modified(now).expect("its time"),
            Some(path) => {
                let file = OpenOptions::new().append(true).open(path).expect("a file");
                file.set_modified(now).expect("its time");
            }
        }
    }

    fn say(&mut self, words: &str) {
        self.story.push(format!("{} life {}: {words}", now(), self.lives.len() - 1));
    }

    fn perform(&mut self, step: Step) {
        self.say(&format!("{step:?}"));
        let first = self.numbered(1);
        match step {
            Step::Shift => self.shift(),
            Step::Rename(to) => fs::rename(&self.path, to).expect("renamed"),
            Step::Create => {
                self.handle = create(&self.path);
                self.touch(None);
                self.lives.push(Vec::new());
            }
            Step::Copy => {
                fs::copy(&self.path, &first).expect("copied");
                self.touch(Some(&first));
            }
            Step::Truncate => {
                self.handle.set_len(0).expect("truncated");
                self.touch(None);
                self.lives.push(Vec::new());
            }
            Step::Delete => fs::remove_file(&self.path).expect("deleted"),
            Step::Pack { half } => self.pack(&first, half),
        }
    }

    fn numbered(&self, n: u64) -> PathBuf {
        let name = self.path.file_name().and_then(|name| name.to_str()).expect("a name");
        self.path.with_file_name(format!("{name}.{n}"))
    }

    /// Every number one higher; nothing is ever dropped.
    fn shift(&self) {
        for n in (1..self.rotations).rev() {
            for ending in ["", ".gz", ".zst"] {
                let with = |n| PathBuf::from(format!("{}{ending}", self.numbered(n).display()));
                if with(n).exists() {
                    fs::rename(with(n), with(n + 1)).expect("shifted");
                }
            }
        }
    }

    /// Packs a file beside itself and deletes it, in two steps as a slow packer does.
    fn pack(&self, from: &Path, half: bool) {
        let plain = fs::read(from).expect("the rotated file");
        let (bytes, ending) = match self.habits.style {
            Style::Zst => (zstd::encode_all(&plain[..], 3).expect("packed"), "zst"),
            _ => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::default());
                packer.write_all(&plain).expect("packed");
                (packer.finish().expect("packed"), "gz")
            }
        };
        let to = PathBuf::from(format!("{}.{ending}", from.display()));
        let upto = if half { bytes.len() / 2 } else { bytes.len() };
        let mut file = OpenOptions::new().create(true).append(true).open(&to).expect("a packed file");
        let have = usize::try_from(file.metadata().expect("its size").len()).expect("small");
        file.write_all(&bytes[have..upto]).expect("written");
        self.touch(Some(&to));
        if !half {
            // As packers do, so that rotated files keep their order.
            file.set_modified(fs::metadata(from).and_then(|meta| meta.modified()).expect("its time")).expect("set");
            fs::remove_file(from).expect("deleted");
        }
    }
}

/// The time, as the nodes' logs have it.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn create(path: &Path) -> File {
    OpenOptions::new().append(true).create_new(true).open(path).expect("a new file")
}
