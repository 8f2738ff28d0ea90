//! `gapless logs`: how followed files stand, their lines as they come, and whether the stream holds them all.

mod follow;
mod pages;
mod paths;
mod print;
mod status;
mod verify;

use clap::{Args, Subcommand};

use super::desk::Desk;
use super::exit::Exit;
use super::reach;
use crate::config::{LogsSettings, Settings};
use crate::ids::{Kind, PipelineId};

/// The commands over logs.
#[derive(Debug, Subcommand)]
pub enum Logs {
    /// How far each followed file is in the stream, and who has read the stream how far
    #[command(after_help = "Examples:\n  gapless logs status\n  \
        gapless logs status --json | jq '.pipelines[].files[] | select(.behind > 0)'\n\n\
        OFFSET, SIZE and BEHIND are bytes: what is in the stream, what there is, the rest. A size in brackets is that of \
        the last commit: the file lies on another host, is packed or gone. WAITS is the age of the oldest whole line \
        that is not in the stream yet. A group that nobody reads any more keeps its lines in the stream, and once that is \
        full the files wait: XGROUP DESTROY drops it.")]
    Status {
        #[command(flatten)]
        which: Which,
        /// Show every file: finished and gone ones too, however many there are
        #[arg(long)]
        all: bool,
    },
    /// Print lines as they come; from a named group, so that none is missed
    #[command(after_help = "Examples:\n  gapless logs follow --level ERROR,FATAL\n  \
        gapless logs follow --group alerts --level ERROR --json | jq -r '.file + \": \" + .line'\n  \
        gapless logs follow --from beginning --file '/var/log/nginx/access.log*' > access.txt\n  \
        gapless logs follow --events --json | jq -c '.event.security_result[0]'\n\n\
        A group is remembered by Redis: started again, it goes on with the first line that was not printed. A line may \
        come twice (under the same id) where the command died before it could say that it was printed. What is left out \
        by --level or --file counts as printed; what every group has printed leaves the stream after a while. Ends with 0 when \
        its reader goes away or on SIGTERM, with 130 on Ctrl-C; while Redis is away it waits.")]
    Follow(follow::FollowArgs),
    /// Read files and rotated files again and compare them with the stream; exit 1 names what is missing or wrong
    #[command(after_help = "Examples:\n  gapless logs verify\n  \
        gapless logs verify --file '/var/log/nginx/*' --json | jq '.found[].id'\n\n\
        Says what it could not judge: what left the stream, files that are gone, files of other hosts. Nodes may go on \
        meanwhile. It changes nothing.")]
    Verify {
        #[command(flatten)]
        which: Which,
        /// Only files whose path matches; without a slash, whose name does
        #[arg(long, value_name = "GLOB", value_parser = paths::glob)]
        file: Option<paths::PathGlob>,
    },
}

impl Logs {
    fn which(&self) -> &Which {
        match self {
            Self::Status { which, .. } | Self::Verify { which, .. } => which,
            Self::Follow(args) => args.which(),
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

/// A pipeline and its section.
#[derive(Clone)]
pub(super) struct Chosen {
    pub pipeline: PipelineId,
    pub section: LogsSettings,
}

/// Runs a command over logs.
pub fn run(settings: Settings, json: bool, command: &Logs) -> Exit {
    let chosen = match choose(&settings, command.which(), matches!(command, Logs::Status { .. })) {
        Ok(chosen) => chosen,
        Err(exit) => return exit,
    };
    let desk = match Desk::open(settings, json) {
        Ok(desk) => desk,
        Err(exit) => return exit,
    };
    match command {
        Logs::Status { all, .. } => reach::block_on(status::run(&desk, &chosen, *all)),
        Logs::Follow(args) => follow::run(desk, &chosen[0], args),
        Logs::Verify { file, .. } => reach::block_on(verify::run(&desk, &chosen[0], file.as_ref())),
    }
}

/// The pipelines that are meant; at least one.
fn choose(settings: &Settings, which: &Which, all: bool) -> Result<Vec<Chosen>, Exit> {
    let known = || settings.logs.keys().map(|name| format!("logs.{name}")).collect::<Vec<_>>().join(", ");
    let chosen = |(name, section): (&String, &LogsSettings)| Chosen {
        pipeline: PipelineId::new(Kind::Logs, name),
        section: section.clone(),
    };
    if settings.logs.is_empty() {
        return Err(Exit::usage("the configuration has no logs pipeline; add a table [logs.NAME]"));
    }
    match &which.pipeline {
        Some(text) => {
            let name = text.strip_prefix("logs.").unwrap_or(text);
            let found = settings.logs.get_key_value(name).map(chosen);
            let found = found.ok_or_else(|| Exit::usage(&format!("no pipeline {text}; there are: {}", known())))?;
            Ok(vec![found])
        }
        None if all || settings.logs.len() == 1 => Ok(settings.logs.iter().map(chosen).collect()),
        None => Err(Exit::usage(&format!("several logs pipelines; say --pipeline, one of: {}", known()))),
    }
}
