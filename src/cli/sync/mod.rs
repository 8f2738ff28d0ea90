//! `gapless sync`: what is copied, how far it is, whether it is the same, and the day of the move.

mod compare;
mod cutover;
mod ends;
mod evidence;
mod journal;
mod orders;
mod plan;
mod repair;
pub(super) mod rights;
mod status;
mod verify;

use clap::{Args, Subcommand};

use super::desk::Desk;
use super::exit::Exit;
use crate::config::{Settings, SyncSettings};
use crate::ids::{Kind, PipelineId};

/// The commands over streams that are copied.
#[derive(Debug, Subcommand)]
pub enum Sync {
    /// What would be copied, under which names, and what is in the way; writes nothing
    #[command(after_help = "Example:\n  gapless sync plan --pipeline eu_us\n\n\
        Needs source and target only. Ends with 1 if a stream is refused or a right is missing.")]
    Plan(Which),
    /// How far each stream is: lag in entries, time and bytes; gaps, conflicts, what is left alone
    #[command(after_help = "Example:\n  gapless sync status --json | jq '.streams[] | select(.stopped != \"\")'")]
    Status(Which),
    /// Compare every entry, group and pending entry of both ends; exit 1 names what differs
    #[command(after_help = "Examples:\n  gapless sync verify --stream db0:orders-stream\n  \
        gapless sync verify --progress verify.log     # interrupted, it goes on there\n  \
        gapless sync verify --repair\n\n\
        Entries that the source has deleted count as kept, unless deletes = \"mirror\"; those that it never had as extra. A \
        repair builds the stream from both ends in a key beside it, compares that, and renames it, if nothing was added or \
        deleted meanwhile (gapless sync pause). It takes nothing out.")]
    Verify(VerifyArgs),
    /// Copy nothing more, until it is resumed
    #[command(after_help = "Example:\n  gapless sync pause --pipeline eu_us")]
    Pause(Which),
    /// Go on copying
    #[command(after_help = "Example:\n  gapless sync resume --pipeline eu_us")]
    Resume(Which),
    /// Go on with streams that were left alone
    #[command(after_help = "Example:\n  gapless sync retry --stream db0:orders-stream")]
    Retry(Streams),
    /// The day of the move: wait until all is copied, pause, carry groups over, verify, print both positions
    #[command(after_help = "Example:\n  gapless sync cutover --pipeline eu_us --timeout 120\n\n\
        Stop the producers first. Ends with 0 when both ends are the same: consumers may go over. The pipeline stays \
        paused, so that nothing moves their groups on the target back.")]
    Cutover(CutoverArgs),
}

/// Which pipeline.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The NAME of [sync.NAME] [default: the only one]
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

/// Which streams of it.
#[derive(Debug, Clone, Args)]
pub struct Streams {
    #[command(flatten)]
    which: Which,
    /// Only this stream, as status names it: db0:KEY (may be repeated)
    #[arg(long, value_name = "STREAM")]
    stream: Vec<String>,
}

/// `gapless sync verify ...`
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    streams: Streams,
    /// Rebuild streams with holes, other entries, or a last id that is ahead
    #[arg(long)]
    repair: bool,
    /// File that says how far it is; after an interruption it goes on there, after an end it begins anew
    #[arg(long, value_name = "FILE")]
    progress: Option<std::path::PathBuf>,
}

/// `gapless sync cutover ...`
#[derive(Debug, Clone, Args)]
pub struct CutoverArgs {
    #[command(flatten)]
    which: Which,
    /// Longest wait until everything is copied, seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
}

/// A pipeline that was chosen.
struct Chosen {
    name: String,
    pipeline: PipelineId,
    section: SyncSettings,
}

/// Runs a command.
pub fn run(settings: Settings, json: bool, command: &Sync) -> Exit {
    let which = match command {
        Sync::Plan(which) | Sync::Status(which) | Sync::Pause(which) | Sync::Resume(which) => which,
        Sync::Verify(args) => &args.streams.which,
        Sync::Retry(streams) => &streams.which,
        Sync::Cutover(args) => &args.which,
    };
    let chosen = match choose(&settings, which) {
        Ok(chosen) => chosen,
        Err(exit) => return exit,
    };
    if let Sync::Plan(_) = command {
        return on_this_thread(plan::run(&settings, &chosen, json));
    }
    let desk = match Desk::open(settings, json) {
        Ok(desk) => desk,
        Err(exit) => return exit,
    };
    on_this_thread(async {
        match command {
            Sync::Plan(_) => Ok(Exit::good()),
            Sync::Status(_) => status::run(&desk, &chosen).await,
            Sync::Verify(args) => verify::run(&desk, &chosen, args).await,
            Sync::Pause(_) => orders::tell_scout(&desk, &chosen, "pause").await,
            Sync::Resume(_) => orders::tell_scout(&desk, &chosen, "resume").await,
            Sync::Retry(streams) => orders::retry(&desk, &chosen, &streams.stream).await,
            Sync::Cutover(args) => cutover::run(&desk, &chosen, args).await,
        }
    })
}

fn on_this_thread(command: impl Future<Output = Result<Exit, Exit>>) -> Exit {
    super::reach::block_on(async { Ok(command.await.unwrap_or_else(|exit| exit)) })
}

fn choose(settings: &Settings, which: &Which) -> Result<Chosen, Exit> {
    let names: Vec<&String> = settings.sync.keys().collect();
    let name = match (&which.pipeline, names.as_slice()) {
        (Some(name), _) => name.strip_prefix("sync.").unwrap_or(name).to_owned(),
        (None, [name]) => (*name).clone(),
        (None, []) => return Err(Exit::usage("no [sync.NAME] is configured; name a file with --config")),
        (None, names) => {
            let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            return Err(Exit::usage(&format!("which one? say --pipeline NAME; there is: {}", list.join(", "))));
        }
    };
    match settings.sync.get(&name) {
        Some(section) => Ok(Chosen { pipeline: PipelineId::new(Kind::Sync, &name), section: section.clone(), name }),
        None => {
            let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            let there = if list.is_empty() { "none; name a file with --config".to_owned() } else { list.join(", ") };
            Err(Exit::usage(&format!(
                "there is no [sync.{}] in the configuration; there is: {there}",
                name.escape_debug()
            )))
        }
    }
}
