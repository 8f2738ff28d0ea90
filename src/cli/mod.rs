//! The doors for people: one file a command.

mod ask;
mod bench;
mod blocks;
pub mod checkpoint;
mod demo;
mod desk;
pub mod doctor;
pub mod exit;
mod handles;
mod logs;
pub mod mailbox;
mod manual;
pub mod output;
mod printer;
mod progress;
pub mod reach;
pub mod run;
pub mod send;
mod signals;
mod simulate;
mod source;
pub mod status;
mod sync;
mod top;
mod watch;
pub mod words;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Overrides, Settings};
use blocks::Blocks;
use exit::Exit;
use logs::Logs;

/// Collects anything, misses nothing.
#[derive(Debug, Parser)]
#[command(name = "gapless", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command, before or after its name.
#[derive(Debug, Args, Clone)]
pub struct Global {
    /// Configuration file; several merge in order [default: gapless.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as info,gapless::store=debug
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Configured(Configured),
    /// Show the whole on this machine: a chain, Redis, nodes that are killed, and an audit at the end
    Demo(demo::DemoArgs),
    /// Play a peer that gapless works with: a chain, from a seed
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Measure the hot paths beside the limit of this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print what a shell needs to complete commands and options
    #[command(
        after_help = "Examples:\n  gapless completions bash > ~/.local/share/bash-completion/completions/gapless\n  \
        gapless completions zsh > ~/.zfunc/_gapless\n  \
        gapless completions fish > ~/.config/fish/completions/gapless.fish"
    )]
    Completions(manual::CompletionsArgs),
    /// Print the man page, or write one a command
    #[command(after_help = "Examples:\n  gapless man | man -l -\n  gapless man ~/.local/share/man/man1")]
    Man(manual::ManArgs),
}

/// Commands that read the configuration.
#[derive(Debug, Subcommand)]
enum Configured {
    /// Run a node until SIGTERM
    #[command(after_help = "Examples:\n  gapless run --config node.toml\n  \
        gapless run --node b --only blocks.mainnet/gap_fixer,selftest\n\n\
        The first SIGTERM or Ctrl-C gives everything away and ends with 0; the second ends at once with 130.")]
    Run(RunArgs),
    /// Show nodes, pipelines, units, mailboxes and Redis, once or again and again
    #[command(after_help = "Examples:\n  gapless status\n  gapless status --watch 5 >> status.log\n  \
        gapless status --json | jq '.pipelines[] | select(.failed > 0)'\n  \
        gapless status --watch --json | jq -c '.mailboxes[] | select(.waiting > 1000)'\n\n\
        Ends with 0 whenever it could be shown, however it stands; `gapless doctor` judges. With --watch it goes on \
        while Redis is away and ends with 0 on SIGTERM, Ctrl-C or a closed pipe; JSON is one document a line.")]
    Status(status::StatusArgs),
    /// Watch nodes, units and mailboxes live on a terminal
    #[command(after_help = "Examples:\n  gapless top\n  gapless top --interval 5\n\n\
        Keys: q, Esc or Ctrl-C ends; Tab goes from section to section; arrows, PgUp and PgDn scroll; s puts what needs \
        a look first; p pauses; ? shows the keys. It only reads. For pipes and files: gapless status --watch.")]
    Top(top::TopArgs),
    /// Try everything that a node needs, and say what to do about what is wrong
    #[command(after_help = "Examples:\n  gapless doctor --config node.toml\n  \
        gapless doctor --acl | sed \"s/PASSWORD/$(cat secret)/\" | redis-cli\n\n\
        Writes to Redis only in keys of its own, which it deletes. Ends with 1 if anything is bad, with 3 if Redis \
        is out of reach.")]
    Doctor(doctor::DoctorArgs),
    /// Look into mailboxes, and deal with what was set aside
    #[command(
        subcommand,
        after_help = "Examples:\n  gapless mailbox list\n  \
        gapless mailbox peek selftest.main/tally_0 --count 5\n  \
        gapless mailbox dead list selftest.main/tally_0\n  \
        gapless mailbox dead retry selftest.main/tally_0 --all"
    )]
    Mailbox(mailbox::MailboxCommand),
    /// Look at where units stand, or send one back
    #[command(
        subcommand,
        after_help = "Examples:\n  gapless checkpoint list\n  \
        gapless checkpoint show selftest.main/tally_0\n  \
        gapless checkpoint history selftest.main/tally_0\n  \
        gapless checkpoint rewind blocks.mainnet/collector --by 1000"
    )]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Put a message into a mailbox, with capacity and dedupe
    #[command(after_help = "Examples:\n  gapless send selftest.main/tally_0 number '{\"n\": 7}'\n  \
        gapless send selftest.main/tally_0 number - --id import-7 < message.json\n\n\
        Ends with 0 when the message waits in the mailbox, also from an earlier sending under the same --id; with 1 \
        when the mailbox is full.")]
    Send(send::SendArgs),
    /// Ask the source of a pipeline nothing more, until it is resumed
    #[command(after_help = "Examples:\n  gapless pause blocks.mainnet\n  gapless pause logs.web\n\n\
        The same as: gapless send blocks.mainnet/collector pause '{}'. It stays paused whatever happens to the nodes; \
        gapless status says since when. Of blocks, gaps that are known go on being filled. Of logs, files are held open \
        through rotations, and read when it goes on.")]
    Pause(source::SourceArgs),
    /// Let a paused pipeline go on
    #[command(after_help = "Examples:\n  gapless resume blocks.mainnet\n  gapless resume logs.web")]
    Resume(source::SourceArgs),
    /// Look at the source of a pipeline now
    #[command(after_help = "Examples:\n  gapless rescan blocks.mainnet\n  gapless rescan logs.web")]
    Rescan(source::SourceArgs),
    /// What a chain's store holds and lacks, and whether it is whole
    #[command(subcommand)]
    Blocks(Blocks),
    /// How followed log files stand, and their lines as they come
    #[command(subcommand)]
    Logs(Logs),
    /// Streams that are copied to another Redis: plan, lag, comparison, move
    #[command(subcommand)]
    Sync(sync::Sync),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Name of this node [default: node.name, else the host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Run only these: a kind, a pipeline or an actor, for example blocks.mainnet/gap_fixer
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    only: Vec<String>,
    /// Go on although Redis was emptied or is another one: what it held is lost
    #[arg(long)]
    accept_data_loss: bool,
}

/// Parses the arguments and runs the command.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are no faults.
            let code = if error.use_stderr() { Exit::from_code(2) } else { Exit::good() };
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            return code;
        }
    };
    if let Some((option, why)) = useless(&cli.command, &cli.global) {
        return Exit::usage(&format!("{option} has no meaning here: {why}"));
    }
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(what) => simulate::run(what),
        Command::Bench(what) => bench::run(what, cli.global.json),
        Command::Completions(args) => manual::completions(Cli::command(), &args),
        Command::Man(args) => manual::man(Cli::command(), &args),
        // It reads names only, also where no configuration is or where it is broken.
        Command::Configured(Configured::Blocks(Blocks::Scan(args))) => blocks::scan::run(&args, cli.global.json),
        Command::Configured(command) => configured(command, &cli.global),
    }
}

/// The first global option that the command would not obey, and why: an option that is ignored in silence misleads.
fn useless(command: &Command, global: &Global) -> Option<(&'static str, &'static str)> {
    const NO_LOG: &str = "it has no log of its own";
    let (config, log_level, json) = match command {
        Command::Demo(_) => (
            Some("`gapless demo` writes the configuration of its nodes itself"),
            Some(NO_LOG),
            Some("`gapless demo` prints text only; its exit code tells whether all is well"),
        ),
        Command::Simulate(_) => (
            Some("`gapless simulate` takes arguments only"),
            Some(NO_LOG),
            Some("`gapless simulate` prints its address only"),
        ),
        Command::Bench(_) => (Some("`gapless bench` measures servers of its own"), Some(NO_LOG), None),
        Command::Completions(_) | Command::Man(_) => {
            (Some("it reads no configuration"), Some(NO_LOG), Some("what it prints has a form of its own"))
        }
        Command::Configured(Configured::Top(_)) => (
            None,
            Some("its picture fills the terminal"),
            Some("`gapless top` is a picture; for programs: gapless status --watch --json"),
        ),
        Command::Configured(Configured::Run(_)) => {
            (None, None, Some("for a log in JSON set log.format = \"json\", or GAPLESS__LOG__FORMAT=json"))
        }
        Command::Configured(Configured::Blocks(Blocks::Scan(_))) => {
            (Some("`gapless blocks scan` reads file names only"), Some(NO_LOG), None)
        }
        Command::Configured(
            Configured::Status(_)
            | Configured::Doctor(_)
            | Configured::Mailbox(_)
            | Configured::Checkpoint(_)
            | Configured::Send(_)
            | Configured::Pause(_)
            | Configured::Resume(_)
            | Configured::Rescan(_)
            | Configured::Blocks(_)
            | Configured::Logs(_)
            | Configured::Sync(_),
        ) => (None, None, None),
    };
    let config = config.filter(|_| !global.config.is_empty()).map(|why| ("--config", why));
    let log_level = log_level.filter(|_| global.log_level.is_some()).map(|why| ("--log-level", why));
    let json = json.filter(|_| global.json).map(|why| ("--json", why));
    config.or(log_level).or(json)
}

fn configured(command: Configured, global: &Global) -> Exit {
    let (node_name, is_node) = match &command {
        Configured::Run(args) => (args.node.clone(), true),
        Configured::Status(_)
        | Configured::Top(_)
        | Configured::Doctor(_)
        | Configured::Mailbox(_)
        | Configured::Checkpoint(_)
        | Configured::Send(_)
        | Configured::Pause(_)
        | Configured::Resume(_)
        | Configured::Rescan(_)
        | Configured::Blocks(_)
        | Configured::Logs(_)
        | Configured::Sync(_) => (None, false),
    };
    // Commands of people say what is wrong themselves, in one line; their log is for those who ask for it.
    let settings = match load(global, node_name, is_node || global.log_level.is_some()) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let json = global.json;
    match command {
        Configured::Run(args) => {
            let options = run::RunOptions { only: args.only, accept_data_loss: args.accept_data_loss };
            run::run(settings, &options)
        }
        Configured::Status(args) => status::run(settings, &args, json),
        Configured::Top(args) => top::run(settings, &args),
        Configured::Doctor(args) => doctor::run(&settings, &args, json),
        Configured::Mailbox(command) => mailbox::run(settings, command, json),
        Configured::Checkpoint(command) => checkpoint::run(settings, &command, json),
        Configured::Send(args) => send::run(settings, &args, json),
        Configured::Pause(args) => source::run(settings, &args, "pause", json),
        Configured::Resume(args) => source::run(settings, &args, "resume", json),
        Configured::Rescan(args) => source::run(settings, &args, "rescan", json),
        Configured::Blocks(Blocks::OfPipeline(command)) => blocks::run(settings, json, command),
        Configured::Blocks(Blocks::Scan(args)) => blocks::scan::run(&args, json),
        Configured::Logs(command) => logs::run(settings, json, &command),
        Configured::Sync(command) => sync::run(settings, json, &command),
    }
}

/// Loads the configuration and, if `log`, starts logging.
fn load(global: &Global, node_name: Option<String>, log: bool) -> Result<Settings, Exit> {
    let overrides = Overrides { log_level: global.log_level.clone(), node_name };
    let files = config::choose_files(&global.config);
    let settings =
        Settings::load(&files, config::environment(), overrides).map_err(|report| Exit::usage(&report.to_string()))?;
    if log {
        crate::telemetry::init_logging(&settings.log.level, settings.log.format)
            .map_err(|fault| Exit::usage(&fault))?;
    }
    Ok(settings)
}
