//! `gapless pause`, `resume`, `rescan`: orders to the source of a pipeline, through its mailbox.

use clap::Args;

use super::exit::Exit;
use super::reach::{self, Reach};
use super::send;
use crate::config::Settings;
use crate::store::effect::Outgoing;
use crate::supervisor::wiring;

/// Which pipeline.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// KIND.NAME, for example blocks.mainnet
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
}

/// Sends `order` (`pause`, `resume`, `rescan`) to the actor that reads the pipeline's source.
pub fn run(settings: Settings, args: &SourceArgs, order: &str, json: bool) -> Exit {
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(exit) => return exit,
    };
    let message = Outgoing { kind: order.to_owned(), body: "{}".to_owned() };
    match reach.pipeline(&args.pipeline) {
        Ok(pipeline) => reach::block_on(send::send(&reach, &wiring::source(&pipeline), None, &message, json)),
        Err(exit) => exit,
    }
}
