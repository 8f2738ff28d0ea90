//! `gapless simulate logs`: the command line of the simulated logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::{BURST_MAX, FILES_MAX, Generator, LogFaults, LogFormat, LogPlan, Rotate, Step, TEXT_BYTES_MAX};

/// Most lines a second that can be asked for.
const RATE_MAX: u64 = 10_000_000;
/// Most milliseconds before a step that destroys.
const SETTLE_MAX: u64 = 600_000;

/// The arguments of `gapless simulate logs`.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// The folder of the files; it must be there, and hold no app* yet
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// What everything follows from: another seed, other lines, cuts and rotations
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where to list what was written, outside of DIR [default: DIR.truth.jsonl, beside DIR]
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// How many files grow: app.log, app-2.log and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(FILES_MAX)))]
    pub files: u32,
    /// What lines look like; of several formats each file has one, in turn
    #[arg(long, value_name = "FORMAT", value_enum, value_delimiter = ',', default_value = "seed")]
    pub format: Vec<LogFormat>,
    /// A file whose lines are written instead of made-up ones, until it ends
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    pub text: Option<PathBuf>,
    /// How many lines in all; without it until SIGTERM
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub lines: Option<u64>,
    /// Lines a second of all files together, or max for as fast as the disk takes them
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate)]
    pub rate: Rate,
    /// Most lines of one append: from 1 to N are written at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX)))]
    pub burst: u32,
    /// How files are rotated
    #[arg(long, value_name = "STYLE", value_enum, default_value_t = Rotate::None)]
    pub rotate: Rotate,
    /// After about so many lines of a file: from half of it to one and a half
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rotate_lines: u32,
    /// How many rotated files of each are kept; 0: all
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub keep: u32,
    /// Milliseconds to wait before lines are destroyed (truncate, delete, the oldest of those kept), so that
    /// a reader that looks once a second has them
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(..=SETTLE_MAX))]
    pub settle_ms: u64,
    /// What goes wrong, as a list: for example partial=0.3,torn=0.1,crlf=0.01
    ///
    /// partial=0.3      30 % of appends are cut anywhere, also within a character
    /// torn=0.1         10 % of rotations: the last line never gets its end
    /// late=0.5         half of the renames: the logger writes on into the renamed file
    /// crlf=0.01        1 % of lines end with CR LF
    /// empty=0.01       1 % of lines: nothing in them
    /// invalid=0.01     1 % of lines: bytes that are no UTF-8
    /// nul=0.01         1 % of lines: up to 5000 NUL bytes before them
    /// long=0.001:2000000   0.1 % of lines: so many bytes long, 100000 by default
    #[arg(long, value_name = "PLAN", default_value = "none", verbatim_doc_comment)]
    pub faults: LogFaults,
}

/// Lines a second; none = no pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let rate = text.parse().ok().filter(|rate| (1..=RATE_MAX).contains(rate));
    rate.map(|rate| Rate(Some(rate))).ok_or_else(|| format!("write 1 to {RATE_MAX} lines a second, or max"))
}

impl LogArgs {
    fn plan(&self) -> anyhow::Result<LogPlan> {
        Ok(LogPlan {
            seed: self.seed,
            truth: self.truth.clone().unwrap_or_else(|| beside(&self.dir)),
            dir: self.dir.clone(),
            files: self.files,
            formats: self.format.clone(),
            text: self.text.as_deref().map(read_text).transpose()?,
            lines: self.lines,
            burst: self.burst,
            rotate: self.rotate,
            rotate_lines: self.rotate_lines,
            keep: self.keep,
            faults: self.faults.clone(),
        })
    }
}

fn read_text(path: &Path) -> anyhow::Result<Arc<[u8]>> {
    let cannot = || format!("--text {} cannot be read; name a file of lines", path.display());
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    anyhow::ensure!(
        size <= TEXT_BYTES_MAX,
        "--text {} has {size} bytes; name a file of at most {TEXT_BYTES_MAX}",
        path.display()
    );
    Ok(std::fs::read(path).with_context(cannot)?.into())
}

/// `DIR.truth.jsonl`; of `.` and the like by the folder's own name.
fn beside(dir: &Path) -> PathBuf {
    let dir =
        if dir.file_name().is_some() { dir.to_owned() } else { dir.canonicalize().unwrap_or_else(|_| dir.to_owned()) };
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".truth.jsonl");
    dir.with_file_name(name)
}

/// Writes until all lines are written, or until SIGINT or SIGTERM; then ends what is begun. The error names what is in
/// the way.
pub async fn run(args: LogArgs) -> anyhow::Result<()> {
    // Before the line that says it writes: whoever reads it may send a signal at once.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let plan = args.plan()?;
    let (dir, truth) = (plan.dir.display().to_string(), plan.truth.display().to_string());
    let mut generator = Generator::open(plan)?;
    println!("writing logs seed={} to {dir} ({} files; lines listed in {truth})", args.seed, args.files);
    let start = Instant::now();
    while let Some(next) = generator.peek() {
        let until = due(&args, start, generator.lines(), &next.step);
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = sleep_until(until) => {}
        }
        generator.step()?;
    }
    generator.wind_down();
    while generator.step()?.is_some() {}
    println!("wrote {} lines in {} lives of {} files", generator.lines(), generator.lives(), args.files);
    Ok(())
}

/// When a step may be done: lines at their rate, what destroys after a pause, the rest at once.
fn due(args: &LogArgs, start: Instant, lines: u64, step: &Step) -> Instant {
    match (step, args.rate.0) {
        (Step::Append { .. }, Some(rate)) => start + Duration::from_secs_f64(lines as f64 / rate as f64),
        (Step::Append { .. }, None) => start,
        (step, _) if step.destroys() => Instant::now() + Duration::from_millis(args.settle_ms),
        _ => start,
    }
}
