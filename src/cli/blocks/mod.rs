//! `gapless blocks`: what a chain's store holds, lacks, and whether it is what it was.

mod index;
mod show;
mod verify;

use clap::{Args, Subcommand};

use super::desk::{Desk, fault};
use super::exit::Exit;
use crate::config::{BlocksSettings, Settings};
use crate::ids::{Kind, PipelineId};
use crate::messages::heights::{Height, HeightRange};

/// The commands over block stores.
#[derive(Debug, Subcommand)]
pub enum Blocks {
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
        #[arg(value_parser = height)]
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
        #[arg(value_name = "A..B")]
        range: Option<HeightRange>,
        #[command(flatten)]
        which: Which,
        /// Only report
        #[arg(long)]
        no_repair: bool,
    },
}

/// Which pipeline is meant.
#[derive(Debug, Args, Clone)]
pub struct Which {
    /// Pipeline, with or without its kind [default: the only one, or all for status]
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

/// A height as people write it.
fn height(text: &str) -> Result<Height, String> {
    let range: HeightRange = text.parse()?;
    if range.count() == 1 { Ok(range.lo()) } else { Err(format!("{text} is a range; one height is expected")) }
}

/// Runs a command.
pub fn run(settings: Settings, json: bool, command: Blocks) -> Exit {
    actix_rt::System::new().block_on(async {
        match answer(settings, json, command).await {
            Ok(exit) | Err(exit) => exit,
        }
    })
}

async fn answer(settings: Settings, json: bool, command: Blocks) -> Result<Exit, Exit> {
    let which = match &command {
        Blocks::Status(which) => which,
        Blocks::Gaps { which, .. } | Blocks::Get { which, .. } | Blocks::Verify { which, .. } => which,
    };
    let chosen = choose(&settings, which, matches!(command, Blocks::Status(_)))?;
    let desk = Desk::open(settings, json)?;
    match command {
        Blocks::Status(_) => show::status(&desk, &chosen).await,
        Blocks::Gaps { limit, .. } => show::gaps(&desk, &chosen[0], limit).await,
        Blocks::Get { height, meta, .. } => show::get(&desk, &chosen[0], height, meta).await,
        Blocks::Verify { range, no_repair, .. } => verify::run(&desk, &chosen[0], range, !no_repair).await,
    }
}

/// A pipeline and its section.
#[derive(Clone)]
pub(super) struct Chosen {
    pipeline: PipelineId,
    section: BlocksSettings,
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
