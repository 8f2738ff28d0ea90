//! The styles of rotation, as lists of steps.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::truth::TruthLine;

/// How a file is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rotate {
    /// Never
    None,
    /// app.log becomes app.log.old-N, a new app.log is made
    Rename,
    /// app.log is copied to app.log.copy-N and truncated
    Copytruncate,
    /// As rename, then packed to app.log.old-N.gz
    Gz,
    /// As rename, then packed to app.log.old-N.zst
    Zst,
    /// app.log is deleted and made again; what nobody has read is lost
    Delete,
    /// app.log is truncated in place; what nobody has read is lost
    Truncate,
    /// .1 becomes .2, .2 becomes .3 and so on, app.log becomes .1
    Chain,
    /// As chain, packed from .2 on
    ChainGz,
    /// app.log becomes app.log-20260102-030405
    Date,
    /// Each time another of these styles, chain-gz apart
    Mix,
}

impl Rotate {
    /// The styles of [`Rotate::Mix`].
    pub(super) const MIXED: [Self; 8] =
        [Self::Rename, Self::Copytruncate, Self::Gz, Self::Zst, Self::Delete, Self::Truncate, Self::Chain, Self::Date];

    /// Whether rotated files are renamed again at each rotation.
    pub(super) fn is_chain(self) -> bool {
        matches!(self, Self::Chain | Self::ChainGz)
    }
}

/// How a rotated file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// gzip
    Gz,
    /// Zstandard
    Zst,
}

/// One thing that a logger or a rotation does to the disk. A kill leaves it done or not done, an append also half done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The logger writes, through the handle that it has open: after a rename into the renamed file.
    Append {
        /// What it writes.
        bytes: Vec<u8>,
        /// The lines that end in it.
        lines: Vec<TruthLine>,
    },
    /// The logger gives up a line that it has begun; nothing changes on the disk.
    Tear {
        /// What was written of it.
        line: TruthLine,
    },
    /// A file gets another name, at which there is none.
    Rename {
        /// From here.
        from: PathBuf,
        /// To there.
        to: PathBuf,
    },
    /// The logger opens a new, empty file.
    Create {
        /// Its name.
        path: PathBuf,
    },
    /// A file is copied.
    Copy {
        /// From here.
        from: PathBuf,
        /// To there.
        to: PathBuf,
    },
    /// The logger's file is cut to nothing; its handle stays.
    Truncate {
        /// Its name.
        path: PathBuf,
        /// Whether there is no copy of what was in it.
        destroys: bool,
    },
    /// A name is taken away.
    Delete {
        /// The name.
        path: PathBuf,
        /// Whether there is no other copy of what was in it.
        destroys: bool,
    },
    /// The first half of the packed form is written, or the rest of it.
    Pack {
        /// The plain file.
        from: PathBuf,
        /// The packed one.
        to: PathBuf,
        /// How.
        packing: Packing,
        /// Whether it is the rest.
        rest: bool,
    },
}

impl Step {
    /// Whether lines that no reader has read by now can never be read again under any name.
    pub fn destroys(&self) -> bool {
        matches!(self, Self::Truncate { destroys: true, .. } | Self::Delete { destroys: true, .. })
    }
}

/// A step of a rotation that has begun.
#[derive(Debug)]
pub(super) enum Todo {
    Do(Step),
    /// The chance to write into the file that was just renamed.
    Late,
}

/// What is known of the rotated files of one file.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Rotations so far.
    pub count: u64,
    /// Those that are not in the chain, oldest first, under their last names.
    old: VecDeque<PathBuf>,
    /// How many are in the chain.
    chain: u32,
    /// The second of the newest name with a date.
    date: i64,
}

/// What a rotation consists of: what must be over before the logger goes on, and what comes some time later.
pub(super) struct Steps {
    pub now: Vec<Todo>,
    pub later: Vec<Step>,
}

/// The steps of one rotation of `path`, in a style that is neither none nor mix.
pub(super) fn steps(style: Rotate, path: &Path, past: &mut Past, keep: u32, seconds: i64) -> Steps {
    past.count += 1;
    let named = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let live = || path.to_owned();
    let (mut now, mut later) = (Vec::new(), Vec::new());
    let create = || Todo::Do(Step::Create { path: live() });
    let renamed = |to: PathBuf| vec![Todo::Do(Step::Rename { from: live(), to }), Todo::Late, create()];
    let mut kept = None;
    match style {
        Rotate::None | Rotate::Mix => {}
        Rotate::Rename => {
            let to = named(format!(".old-{}", past.count));
            now.extend(renamed(to.clone()));
            kept = Some(to);
        }
        Rotate::Gz | Rotate::Zst => {
            let (packing, suffix) = if style == Rotate::Gz { (Packing::Gz, "gz") } else { (Packing::Zst, "zst") };
            let plain = named(format!(".old-{}", past.count));
            let packed = named(format!(".old-{}.{suffix}", past.count));
            now.extend(renamed(plain.clone()));
            later.extend(pack(plain, packed.clone(), packing));
            kept = Some(packed);
        }
        Rotate::Date => {
            past.date = seconds.max(past.date + 1);
            let time = jiff::Timestamp::from_second(past.date).unwrap_or_default();
            let to = named(time.to_zoned(jiff::tz::TimeZone::UTC).strftime("-%Y%m%d-%H%M%S").to_string());
            now.extend(renamed(to.clone()));
            kept = Some(to);
        }
        Rotate::Copytruncate => {
            let to = named(format!(".copy-{}", past.count));
            now.push(Todo::Do(Step::Copy { from: live(), to: to.clone() }));
            now.push(Todo::Do(Step::Truncate { path: live(), destroys: false }));
            kept = Some(to);
        }
        Rotate::Truncate => now.push(Todo::Do(Step::Truncate { path: live(), destroys: true })),
        Rotate::Delete => {
            now.push(Todo::Do(Step::Delete { path: live(), destroys: true }));
            now.push(create());
        }
        Rotate::Chain | Rotate::ChainGz => {
            now.extend(shifts(&named, past, keep.max(1), style == Rotate::ChainGz).into_iter().map(Todo::Do));
            now.extend(renamed(named(".1".to_owned())));
        }
    }
    past.old.extend(kept);
    if keep > 0 && past.old.len() > usize::try_from(keep).unwrap_or(usize::MAX) {
        later.extend(past.old.pop_front().map(|path| Step::Delete { path, destroys: true }));
    }
    Steps { now, later }
}

fn pack(from: PathBuf, to: PathBuf, packing: Packing) -> [Step; 3] {
    let half = |rest| Step::Pack { from: from.clone(), to: to.clone(), packing, rest };
    [half(false), half(true), Step::Delete { path: from.clone(), destroys: false }]
}

/// What makes `.1` free: the oldest goes, each other one moves up; packed are all but the newest.
fn shifts(named: &impl Fn(String) -> PathBuf, past: &mut Past, keep: u32, packs: bool) -> Vec<Step> {
    let suffix = if packs { ".gz" } else { "" };
    let name = |number: u32| named(format!(".{number}{}", if number > 1 { suffix } else { "" }));
    let mut steps = Vec::new();
    if past.chain == keep {
        steps.push(Step::Delete { path: name(keep), destroys: true });
        past.chain -= 1;
    }
    let mut first = name(1);
    if packs && past.chain > 0 {
        let packed = named(".1.gz".to_owned());
        steps.extend(pack(first, packed.clone(), Packing::Gz));
        first = packed;
    }
    for number in (1..=past.chain).rev() {
        let from = if number == 1 { first.clone() } else { name(number) };
        steps.push(Step::Rename { from, to: name(number + 1) });
    }
    past.chain += 1;
    steps
}
