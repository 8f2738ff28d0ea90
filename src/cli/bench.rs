//! `gapless bench`: measures the hot paths beside the limit of this machine, in the same run.
//!
//! | file | what it does |
//! |---|---|
//! | `mailbox` | the measurement of `bench mailbox`, round by round |
//! | `blocks` | the measurement of `bench blocks` |
//! | `logs` | the measurement of `bench logs` |
//! | `sync` | the measurement of `bench sync` |
//! | `child` | this program once more, as a process that is measured |
//! | `node` | real units under a real supervisor that drain mailboxes |
//! | `rerun` | a node that is killed, and the time until its work runs again |
//! | `wire` | the measuring stick: the thinnest client of Redis |
//! | `place` | a folder for files, on the disk that is measured |
//! | `server` | a private redis-server in a temporary folder |
//! | `usage` | CPU seconds and memory |
//! | `stats` | medians and ranges |
//! | `follow` | a node, timed until it has brought everything to where it belongs |
//! | `report` | figures, their ratios to limits, and how they are printed |

mod blocks;
mod child;
mod follow;
mod logs;
mod mailbox;
mod node;
mod place;
mod report;
mod rerun;
mod server;
mod stats;
mod sync;
mod usage;
pub(super) mod wire;

use clap::Subcommand;

use super::exit::Exit;
use super::output;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Durable mailboxes: enqueue, then claim, handle and commit; beside the thinnest client that does the same
    #[command(
        after_help = "Examples:\n  gapless bench mailbox\n  gapless bench mailbox --runs 5 --aof everysec --json\n\n\
        Starts Redis servers of its own in temporary folders: redis-server must be installed."
    )]
    Mailbox(mailbox::MailboxArgs),
    /// Blocks from a fast local node to durable files: past and head; beside what the node and the disk give alone
    #[command(
        after_help = "Examples:\n  gapless bench blocks\n  gapless bench blocks --blocks 50000 --dir /var/tmp --json\n\n\
        The node is simulated, in a process of its own. Starts Redis servers of its own: redis-server must be installed."
    )]
    Blocks(blocks::BlocksArgs),
    /// Log lines from a file into a stream, each exactly once; beside the thinnest client that appends the same lines
    #[command(
        after_help = "Examples:\n  gapless bench logs\n  gapless bench logs --file /var/log/app.log --runs 5 --json\n  \
        gapless bench logs --measure latency --files 1000 --rate 100000\n  \
        gapless bench logs --measure idle --files 10000\n\n\
        Each entry of the stream is compared with the file, and so is what a subscriber hears. Starts\n\
        Redis servers of its own in temporary folders: redis-server must be installed."
    )]
    Logs(logs::LogsArgs),
    /// Streams copied to another Redis, by a real node; beside the thinnest clients that copy them
    #[command(
        after_help = "Examples:\n  gapless bench sync\n  gapless bench sync --streams 16 --runs 5 --aof everysec --json\n\n\
        Starts Redis servers of its own in temporary folders: redis-server must be installed. Every entry of the target \
        is compared with the source's afterwards; a difference is an error."
    )]
    Sync(sync::SyncArgs),
}

/// Measures and prints; `json` prints one object instead of tables.
pub fn run(what: Bench, json: bool) -> Exit {
    let measured = match what {
        Bench::Mailbox(args) => mailbox::run(&args),
        Bench::Sync(args) => sync::run(&args),
        Bench::Blocks(args) => blocks::run(&args),
        Bench::Logs(args) => logs::run(&args),
    };
    match measured {
        Ok(report) if json => output::json(&report.to_json(), Exit::good()),
        Ok(report) => output::text(&report.to_text(), Exit::good()),
        Err(error) => Exit::usage(&format!("bench: {error:#}")),
    }
}
