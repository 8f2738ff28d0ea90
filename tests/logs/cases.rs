//! One case of the crash matrix: a logger that rotates, and a watcher that dies, stands still or loses its Redis at a
//! named point. Everything follows from the seed.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gapless::actors::log_watcher::WatchPlan;
use gapless::actors::turn::crash::{CrashPoint, Hold};
use gapless::ids::{Address, RandomId};
use gapless::messages::log_order::WatcherMessage;
use gapless::sources::files::{Budget, LogFiles};
use gapless::store::effect::Outgoing;
use gapless::store::link::Link;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::oracle;
use crate::support::wait;
use crate::watch::{Site, Watched, Watcher, files, hold, pattern};
use crate::writer::{Habits, Style, Writer};

/// What happens at the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, and with it every open file.
    NodeKill,
    /// The unit is cut and begins again in the same process, whose files are open.
    UnitCut,
    /// The process stands still past its lease; another one takes over, then it goes on.
    NodeStop,
    /// Redis dies and comes back, maybe without its last moment.
    RedisKill,
}

impl Fault {
    pub const ALL: [Fault; 4] = [Fault::NodeKill, Fault::UnitCut, Fault::NodeStop, Fault::RedisKill];
}

/// What a seed means.
#[derive(Debug, Clone)]
pub struct Spec {
    pub seed: u64,
    pub style: Style,
    pub point: CrashPoint,
    pub fault: Fault,
}

impl Spec {
    /// Each combination of point, style and fault once in 288 seeds in a row.
    pub fn new(seed: u64) -> Self {
        let (points, styles) = (CrashPoint::ALL.len() as u64, Style::ALL.len() as u64);
        let of = |n: u64| usize::try_from(n).expect("small");
        Self {
            seed,
            style: Style::ALL[of(seed / 4 / points % styles)],
            point: CrashPoint::ALL[of(seed / 4 % points)],
            fault: Fault::ALL[of(seed % 4)],
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} ({:?} at {} under {:?})", self.seed, self.fault, self.point.as_str(), self.style)
    }
}

/// Pipelines so far.
static PIPELINES: AtomicU64 = AtomicU64::new(0);

/// How often the fault comes in one case.
const ROUNDS: u32 = 3;

/// A case on its way.
pub struct Case {
    pub spec: Spec,
    site: Rc<Site>,
    rng: StdRng,
    folder: tempfile::TempDir,
    writer: Writer,
    watched: Watched,
    paths: Vec<String>,
    limit: usize,
    link: Link,
    watcher: Option<Watcher>,
    hold: Option<Arc<Hold>>,
    /// Who held the unit last.
    owner: Option<RandomId>,
    /// Lines of the first life are committed: the file is known.
    is_known: bool,
    /// Where the append-only file may be cut: before it stands what the test relied on.
    floor: u64,
    log: Vec<String>,
}

impl Case {
    pub async fn new(site: &Rc<Site>, seed: u64) -> Self {
        let spec = Spec::new(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.log");
        let habits = Habits {
            style: spec.style,
            header: !spec.style.is_in_place() && rng.random_ratio(1, 4),
            torn: rng.random_ratio(1, 4),
            late: rng.random_ratio(1, 3),
            longest: if rng.random_ratio(1, 3) { 700 } else { 60 },
        };
        let limit = if rng.random_ratio(1, 4) { 128 } else { 64 * 1024 };
        let with_rotated =
            !matches!(spec.style, Style::Gz | Style::Zst | Style::CopyTruncateGz) && rng.random_ratio(1, 4);
        let paths = vec![pattern(&path, with_rotated)];
        let (lines, bytes) = (rng.random_range(2..12), rng.random_range(300..3000));
        let plan = WatchPlan {
            budget: Budget { lines, bytes },
            from_beginning: true,
            places_max: 1000,
            capacity: 1_000_000,
            publish: None,
            keep: gapless::store::trim::Keep::Newest,
        };
        // The same seed may run several times.
        let number = PIPELINES.fetch_add(1, Ordering::Relaxed);
        let pipeline = site.pipeline(&format!("c{seed}_{number}")).await;
        let watched = Watched { site: site.clone(), pipeline, files: new_files(&paths, limit), plan: Arc::new(plan) };
        let writer = Writer::new(&path, habits, seed);
        let link = site.link();
        let (floor, log) = (0, Vec::new());
        Self {
            spec,
            site: site.clone(),
            rng,
            folder,
            writer,
            watched,
            paths,
            limit,
            link,
            watcher: None,
            hold: None,
            owner: None,
            is_known: false,
            floor,
            log,
        }
    }

    fn say(&mut self, words: impl fmt::Display) {
        let words = words.to_string();
        tracing::info!(seed = self.spec.seed, "{words}");
        self.log.push(words);
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> String {
        self.watched.pipeline.to_string()
    }

    /// Where the append-only file may be cut.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// A life with a hold, and a logger that goes on meanwhile, up to the point.
    pub async fn work(&mut self) {
        let nth = match self.spec.point {
            CrashPoint::AfterAcquire | CrashPoint::BeforeRelease => 1,
            CrashPoint::AfterClaim => self.rng.random_range(1..3),
            _ => self.rng.random_range(1..5),
        };
        self.hold = Some(hold(&self.watched.pipeline, self.spec.point, nth));
        self.say(format!("a life, held at passage {nth}"));
        self.watcher = Some(self.watched.begin(self.owner.clone()));
        for _ in 0..self.rng.random_range(2..6) {
            self.order().await;
            self.step(true).await;
        }
        if self.spec.point == CrashPoint::BeforeRelease
            && let Some(watcher) = &self.watcher
        {
            watcher.drain();
        }
        // Enough work that the point is passed, if the seed lets it.
        for _ in 0..6 {
            if self.is_held() {
                break;
            }
            self.order().await;
            while self.writer.is_rotating() {
                self.writer.step();
            }
            let lines = self.rng.random_range(1..8);
            self.writer.append(lines, true);
            self.settle(false).await;
        }
        let is_held = self.is_held();
        self.say(format!("the fault comes{}", if is_held { " at its point" } else { "" }));
    }

    /// Orders, so that something is claimed.
    async fn order(&mut self) {
        if self.spec.point == CrashPoint::AfterClaim {
            let to = Address::new(&self.watched.pipeline, "log_watcher");
            let message = Outgoing::new(&WatcherMessage::Rescan {}).expect("a message");
            self.site.store.send(&self.link, &to, 1000, None, &message).await.expect("sent");
        }
    }

    pub fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.is_reached())
    }

    /// What the fault does; what Redis does is up to the group.
    pub async fn fault(&mut self) {
        match self.spec.fault {
            Fault::NodeKill => {
                self.end_life().await;
                self.watched.files = new_files(&self.paths, self.limit);
            }
            Fault::UnitCut => self.end_life().await,
            Fault::NodeStop => self.stand_still().await,
            Fault::RedisKill => {
                if let Some(hold) = self.hold.take() {
                    hold.go_on();
                }
                self.step(true).await;
                self.end_life().await;
            }
        }
        self.hold = None;
        // Nobody looks meanwhile.
        for _ in 0..self.rng.random_range(0..4) {
            self.step(false).await;
        }
    }

    async fn end_life(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.owner = watcher.owner().or(self.owner.take());
            watcher.cut().await;
        }
    }

    /// Another process takes over; then this one wakes, and must change nothing.
    async fn stand_still(&mut self) {
        let (Some(sleeper), hold) = (self.watcher.take(), self.hold.take()) else { return };
        let owner = sleeper.owner();
        let files = std::mem::replace(&mut self.watched.files, new_files(&self.paths, self.limit));
        let heir = self.watched.begin(owner);
        self.watcher = Some(heir);
        self.say("another process takes over");
        for _ in 0..self.rng.random_range(1..4) {
            self.step(true).await;
        }
        if let Some(hold) = hold {
            hold.go_on();
        }
        self.say("the first one wakes");
        for _ in 0..self.rng.random_range(1..3) {
            self.step(true).await;
        }
        sleeper.cut().await;
        drop(files);
        self.end_life().await;
    }

    /// One thing that a logger does; then maybe a moment for the watcher.
    async fn step(&mut self, is_watched: bool) {
        if self.writer.is_rotating() {
            self.go_on_rotating(is_watched).await;
        } else if self.is_known && self.rng.random_ratio(2, 5) {
            self.begin_rotation(is_watched).await;
        } else if self.writer.is_packing() && self.rng.random_ratio(1, 2) {
            self.say("packs");
            self.writer.step_later();
        } else {
            let lines = self.rng.random_range(1..14);
            let cut = self.rng.random_ratio(1, 3);
            self.say(format!("{lines} lines{}", if cut { ", cut" } else { "" }));
            self.writer.append(lines, cut);
        }
        if is_watched && self.rng.random_ratio(1, 2) {
            self.settle(false).await;
        }
    }

    async fn begin_rotation(&mut self, is_watched: bool) {
        if self.spec.style.destroys() {
            self.writer.append(0, false);
            // Who destroys lines that nobody has read has lost them; those of a file that is held open are not lost.
            let is_safe = is_watched && (self.is_open() || self.settle(true).await);
            if !is_safe {
                return;
            }
        }
        self.say("rotates");
        self.writer.begin_rotation();
        if self.spec.style.destroys() {
            self.writer.step();
        }
        self.go_on_rotating(is_watched).await;
    }

    /// Whether the file that is about to be deleted stays open whatever happens: something of it was read, and the
    /// process goes on.
    fn is_open(&self) -> bool {
        let lives = &self.writer.lives;
        let before = oracle::count(&lives[..lives.len() - 1], self.limit) as u64;
        self.spec.style == Style::DeleteCreate
            && matches!(self.spec.fault, Fault::UnitCut | Fault::RedisKill)
            && self.length() > before
    }

    async fn go_on_rotating(&mut self, is_watched: bool) {
        while self.writer.is_rotating() {
            self.writer.step();
            if self.rng.random_ratio(1, 3) {
                if is_watched && self.rng.random_ratio(1, 2) {
                    self.settle(false).await;
                }
                return;
            }
        }
    }

    /// Waits until everything complete is in the stream, or until the watcher is held, or for a moment. Says whether
    /// everything is there; with `for_good`, so that no loss of Redis's last moment takes it back.
    async fn settle(&mut self, for_good: bool) -> bool {
        let want = self.certain();
        let mut looks = 0;
        let upto = if for_good { 300 } else { self.rng.random_range(1..12) };
        loop {
            let have = self.length();
            if have >= want {
                if !self.is_known || for_good {
                    self.floor = self.site.append_only_file().1;
                }
                // It may have been taken back between two looks.
                if for_good && self.length() < want {
                    continue;
                }
                self.is_known |= want > 0;
                return true;
            }
            looks += 1;
            if self.is_held() || looks > upto || self.watcher.as_ref().is_none_or(Watcher::is_finished) {
                return false;
            }
            wait::step().await;
        }
    }

    /// Entries that must come without anything more being written; torn lines come later.
    pub fn certain(&self) -> u64 {
        oracle::count(&self.writer.lives, self.limit) as u64
    }

    fn length(&self) -> u64 {
        self.site.length(&self.watched.pipeline)
    }

    /// Everything that is wrong at the end.
    pub async fn judge(&mut self) -> Vec<String> {
        self.hold = None;
        self.watched.files = match self.spec.fault {
            Fault::UnitCut | Fault::RedisKill => self.watched.files.clone(),
            Fault::NodeKill | Fault::NodeStop => new_files(&self.paths, self.limit),
        };
        while self.writer.is_rotating() {
            self.writer.step();
        }
        self.writer.append(2, false);
        let want = self.certain();
        let watcher = self.watched.begin(self.owner.take());
        within(700, || self.length() >= want).await;
        let mut faults = Vec::new();
        if !watcher.drained().await {
            faults.push("it did not drain".to_owned());
        }
        // Whoever comes after adds nothing.
        self.watched.files = new_files(&self.paths, self.limit);
        let after = self.watched.begin(None);
        if !within(700, || after.is_asleep()).await {
            faults.push(format!("the next watcher does not come to rest: {}", after.state()));
        }
        if !after.drained().await {
            faults.push("the next watcher did not drain".to_owned());
        }
        let truth = oracle::truth(&self.writer.lives, self.limit);
        let entries = oracle::entries(&self.site.redis(), &self.site.stream(&self.watched.pipeline));
        faults.extend(oracle::faults(&truth, &entries));
        let waiting = self.site.store.depth(&self.link, &Address::new(&self.watched.pipeline, "log_watcher")).await;
        let waiting = waiting.expect("a depth").entries;
        if waiting > 0 {
            faults.push(format!("{waiting} orders were not acknowledged"));
        }
        faults
    }

    /// What happened, for the message of a failed test.
    pub fn story(&self) -> String {
        let names = std::fs::read_dir(self.folder.path()).expect("the folder");
        let mut names: Vec<PathBuf> = names.map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        let lives: Vec<usize> = self.writer.lives.iter().map(Vec::len).collect();
        format!(
            "{:?}\n{:?}\nlives {lives:?}\n{}\n{names:?}",
            self.writer.habits,
            self.watched.plan.budget,
            self.log.join("; ")
        )
    }
}

/// Looks so often whether it is so.
pub async fn within(looks: u32, is_so: impl Fn() -> bool) -> bool {
    for _ in 0..looks {
        if is_so() {
            return true;
        }
        wait::step().await;
    }
    is_so()
}

fn new_files(paths: &[String], limit: usize) -> LogFiles {
    files(paths.to_vec(), |options| options.line_bytes_max = limit)
}

impl Case {
    /// How often the fault comes.
    pub const ROUNDS: u32 = ROUNDS;
}
