//! The doors for people: one file a command.

mod bench;
pub mod exit;
pub mod run;
mod simulate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Overrides, Settings};
use exit::Exit;

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
    /// Run a node until SIGTERM
    Run(RunArgs),
    /// Play a peer that gapless works with: a chain, from a seed
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Measure the hot paths beside the limit of this machine
    #[command(subcommand)]
    Bench(bench::Bench),
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
    match cli.command {
        Command::Simulate(what) => simulate::run(what),
        Command::Bench(what) => bench::run(what, cli.global.json),
        Command::Run(args) => {
            let settings = match load(&cli.global, args.node) {
                Ok(settings) => settings,
                Err(exit) => return exit,
            };
            let options = run::RunOptions { only: args.only, accept_data_loss: args.accept_data_loss };
            run::run(settings, &options)
        }
    }
}

/// Loads the configuration and starts logging.
fn load(global: &Global, node_name: Option<String>) -> Result<Settings, Exit> {
    let overrides = Overrides { log_level: global.log_level.clone(), node_name };
    let files = config::choose_files(&global.config);
    let settings =
        Settings::load(&files, config::environment(), overrides).map_err(|report| Exit::usage(&report.to_string()))?;
    crate::telemetry::init_logging(&settings.log.level, settings.log.format).map_err(|fault| Exit::usage(&fault))?;
    Ok(settings)
}
