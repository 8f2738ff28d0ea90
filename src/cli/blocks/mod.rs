//! `gapless blocks`: what a chain's store holds, lacks, and whether it is what it was.

mod index;
mod list;
mod orders;
pub mod scan;
mod scan_names;
mod show;
mod verify;
mod wait;

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::desk::{Desk, fault};
use super::exit::Exit;
use crate::config::{BlocksSettings, Settings};
use crate::ids::{Kind, PipelineId};
use crate::messages::heights::{Height, HeightRange};

/// The commands over blocks.
#[derive(Debug, Subcommand)]
pub enum Blocks {
    #[command(flatten)]
    OfPipeline(OfPipeline),
    /// The gaps of a folder from its file names alone, without Redis and configuration; exit 1 if there are any
    Scan(scan::ScanArgs),
}

/// The commands over the store of a pipeline.
#[derive(Debug, Subcommand)]
pub enum OfPipeline {
    /// Head, held heights, gaps and parked heights of each chain
    #[command(after_help = "Example:\n  gapless blocks status --json | jq '.pipelines[] | select(.parked > 0)'")]
    Status(Which),
    /// The missing and parked ranges, lowest first
    #[command(after_help = "Example:\n  gapless blocks gaps --pipeline mainnet --limit 20")]
    Gaps {
        #[command(flatten)]
        which: Which,
        /// Ranges to print at the most
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Print one block, byte for byte as the node sent it
    #[command(after_help = "Example:\n  gapless blocks get 1234 | jq .hash\n\n\
        Ends with 1 if the height is not held, or its file is gone or altered.")]
    Get {
        /// The height
        #[arg(value_parser = height, allow_hyphen_values = true)]
        height: Height,
        #[command(flatten)]
        which: Which,
        /// Print the line beside it instead: hash, parent, digest, size, time
        #[arg(long)]
        meta: bool,
    },
    /// Read every file again, compare digests and links; exit 1 names what is missing or wrong
    #[command(
        after_help = "Unless --no-repair, what is found is sent to the detector, which judges it again: what is bad goes \
        to the trash and is fetched again by a running node.\n\nExample:\n  gapless blocks verify 0..9999"
    )]
    Verify {
        /// Heights, both included [default: from the start to the head committed now]
        #[arg(value_name = "A..B", value_parser = heights, allow_hyphen_values = true)]
        range: Option<HeightRange>,
        #[command(flatten)]
        which: Which,
        /// Only report
        #[arg(long)]
        no_repair: bool,
    },
    /// Ask for heights now: before anything else, the parked ones included; what is held is skipped
    #[command(after_help = "Example:\n  gapless blocks fill 100..199 --wait --timeout 60\n\n\
        Without --wait it ends as soon as the detector is told. With it, it ends with 0 when every height is held, with 1 \
        when some are parked again, or still missing at the time-out.")]
    Fill {
        /// Heights, both included
        #[arg(value_name = "A..B", value_parser = heights, allow_hyphen_values = true)]
        range: HeightRange,
        #[command(flatten)]
        which: Which,
        /// Look on until every height is held, or parked again
        #[arg(long)]
        wait: bool,
        /// Look on for so long at the most [default: for ever]
        #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = clap::value_parser!(u32).range(1..))]
        timeout: Option<u32>,
    },
    /// Give heights up that nobody needs to fetch, until they are unparked
    #[command(after_help = "Example:\n  gapless blocks park 100..199 --reason 'the chain has no such blocks'\n\n\
        Held heights stay held. A parked height is not asked for, and `blocks gaps` shows it with the reason.")]
    Park {
        /// Heights, both included; final ones only
        #[arg(value_name = "A..B", value_parser = heights, allow_hyphen_values = true)]
        range: HeightRange,
        #[command(flatten)]
        which: Which,
        /// Why, in one line of at most 300 bytes
        #[arg(long, value_name = "TEXT", value_parser = orders::reason)]
        reason: String,
    },
    /// Let parked heights go: they are missing again, and asked for in their order
    #[command(group = ArgGroup::new("what").required(true).args(["range", "all"]))]
    #[command(after_help = "Examples:\n  gapless blocks unpark 100..199\n  gapless blocks unpark --all\n\n\
        To have them before anything else: gapless blocks fill")]
    Unpark {
        /// Heights, both included
        #[arg(value_name = "A..B", value_parser = heights, allow_hyphen_values = true)]
        range: Option<HeightRange>,
        /// Everything that is parked
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        which: Which,
    },
    /// What is known about stored blocks: hash, parent, time, size, and how each came
    #[command(after_help = "Examples:\n  gapless blocks list\n  \
        gapless blocks list 100..199 --json | jq '.blocks[] | select(.bytes > 100000)'")]
    List {
        /// Heights, both included [default: the newest]
        #[arg(value_name = "A..B", value_parser = heights, allow_hyphen_values = true)]
        range: Option<HeightRange>,
        #[command(flatten)]
        which: Which,
        /// Blocks to print at the most [default: 20, of a range 1000]
        #[arg(long, value_name = "N", value_parser = list_limit)]
        limit: Option<usize>,
    },
    /// Blocks that a reorganisation left beside those of the chain
    #[command(after_help = "Example:\n  gapless blocks orphans --json | jq '.orphans[].height'")]
    Orphans {
        /// Heights, both included [default: all that are held]
        #[arg(value_name = "A..B", value_parser = heights, allow_hyphen_values = true)]
        range: Option<HeightRange>,
        #[command(flatten)]
        which: Which,
        /// Blocks to print at the most
        #[arg(long, default_value = "1000", value_name = "N", value_parser = list_limit)]
        limit: usize,
    },
}

impl OfPipeline {
    fn which(&self) -> &Which {
        match self {
            Self::Status(which)
            | Self::Gaps { which, .. }
            | Self::Get { which, .. }
            | Self::Verify { which, .. }
            | Self::Fill { which, .. }
            | Self::Park { which, .. }
            | Self::Unpark { which, .. }
            | Self::List { which, .. }
            | Self::Orphans { which, .. } => which,
        }
    }
}

/// Which pipeline is meant.
#[derive(Debug, Args, Clone)]
pub struct Which {
    /// Pipeline, with or without its kind [default: the only one, or all for status]
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

/// Rows that one answer may have.
const ROWS_MAX: usize = 100_000;

/// A range as people write it. A leading hyphen is a negative number, or an option that is not there.
fn heights(text: &str) -> Result<HeightRange, String> {
    match text.strip_prefix("--") {
        Some(_) => Err(format!("there is no option `{text}`; see --help")),
        None => text.parse(),
    }
}

/// A height as people write it.
fn height(text: &str) -> Result<Height, String> {
    let range = heights(text)?;
    if range.count() == 1 { Ok(range.lo()) } else { Err(format!("{text} is a range; one height is expected")) }
}

/// How many rows people may want.
fn list_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=ROWS_MAX).contains(limit));
    limit.ok_or_else(|| format!("`{text}` must be a whole number, 1 to {ROWS_MAX}"))
}

/// Runs a command over the store of a pipeline.
pub fn run(settings: Settings, json: bool, command: OfPipeline) -> Exit {
    actix_rt::System::new().block_on(async {
        match answer(settings, json, command).await {
            Ok(exit) | Err(exit) => exit,
        }
    })
}

async fn answer(settings: Settings, json: bool, command: OfPipeline) -> Result<Exit, Exit> {
    let chosen = choose(&settings, command.which(), matches!(command, OfPipeline::Status(_)))?;
    let desk = Desk::open(settings, json)?;
    match command {
        OfPipeline::Status(_) => show::status(&desk, &chosen).await,
        OfPipeline::Gaps { limit, .. } => show::gaps(&desk, &chosen[0], limit).await,
        OfPipeline::Get { height, meta, .. } => show::get(&desk, &chosen[0], height, meta).await,
        OfPipeline::Verify { range, no_repair, .. } => verify::run(&desk, &chosen[0], range, !no_repair).await,
        OfPipeline::Fill { range, wait, timeout, .. } => {
            let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
            orders::fill(&desk, &chosen[0], range, wait.then_some(timeout)).await
        }
        OfPipeline::Park { range, reason, .. } => orders::park(&desk, &chosen[0], range, &reason).await,
        OfPipeline::Unpark { range, .. } => orders::unpark(&desk, &chosen[0], range).await,
        OfPipeline::List { range, limit, .. } => list::list(&desk, &chosen[0], range, limit).await,
        OfPipeline::Orphans { range, limit, .. } => list::orphans(&desk, &chosen[0], range, limit).await,
    }
}

/// A pipeline and its section.
#[derive(Clone)]
pub(super) struct Chosen {
    pipeline: PipelineId,
    section: BlocksSettings,
}

impl Chosen {
    /// The option that chooses it again, where it must be given.
    fn option(&self, desk: &Desk) -> String {
        let several = desk.settings.blocks.len() > 1;
        if several { format!(" --pipeline {}", self.pipeline.name) } else { String::new() }
    }
}

/// The pipelines that are meant; at least one.
fn choose(settings: &Settings, which: &Which, all: bool) -> Result<Vec<Chosen>, Exit> {
    let known = || settings.blocks.keys().map(|name| format!("blocks.{name}")).collect::<Vec<_>>().join(", ");
    let chosen = |(name, section): (&String, &BlocksSettings)| Chosen {
        pipeline: PipelineId::new(Kind::Blocks, name),
        section: section.clone(),
    };
    if settings.blocks.is_empty() {
        return Err(Exit::usage("the configuration has no blocks pipeline; add a table [blocks.NAME]"));
    }
    match &which.pipeline {
        Some(text) => {
            let name = text.strip_prefix("blocks.").unwrap_or(text);
            let found = settings.blocks.get_key_value(name).map(chosen);
            let found = found.ok_or_else(|| Exit::usage(&format!("no pipeline {text}; there are: {}", known())))?;
            Ok(vec![found])
        }
        None if all || settings.blocks.len() == 1 => Ok(settings.blocks.iter().map(chosen).collect()),
        None => Err(Exit::usage(&format!("several blocks pipelines; say --pipeline, one of: {}", known()))),
    }
}
