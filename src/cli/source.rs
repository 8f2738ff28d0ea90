//! `gapless pause`, `resume`, `rescan`: orders to the source of a pipeline, through its mailbox.

use std::collections::BTreeSet;

use clap::Args;

use super::exit::Exit;
use super::reach::{self, Reach};
use super::send;
use crate::config::Settings;
use crate::ids::{Address, PipelineId};
use crate::store::StoreError;
use crate::store::effect::Outgoing;
use crate::supervisor::wiring;

/// Which pipeline.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// KIND.NAME, for example blocks.mainnet
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
}

/// Sends `order` (`pause`, `resume`, `rescan`) to the actor that reads the pipeline's source; where each host has one, to
/// this host's and to those of all live nodes.
pub fn run(settings: Settings, args: &SourceArgs, order: &str, json: bool) -> Exit {
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(exit) => return exit,
    };
    let message = Outgoing { kind: order.to_owned(), body: "{}".to_owned() };
    match reach.pipeline(&args.pipeline) {
        Ok(pipeline) => reach::block_on(send_to_all(&reach, &pipeline, &message, json)),
        Err(exit) => exit,
    }
}

async fn send_to_all(reach: &Reach, pipeline: &PipelineId, message: &Outgoing, json: bool) -> Result<Exit, StoreError> {
    let own = wiring::source(&reach.settings, pipeline);
    let mut worst = send::send(reach, &own, None, message, json).await?;
    if own.host().is_none() {
        return Ok(worst);
    }
    let nodes = reach.store.nodes(&reach.link).await?;
    let runs = nodes.iter().flat_map(|node| &node.runs).filter_map(|address| address.parse::<Address>().ok());
    let others: BTreeSet<Address> =
        runs.filter(|address| address.is_of_all_hosts_of(&own) && *address != own).collect();
    for other in others {
        worst = worst.worse(send::send(reach, &other, None, message, json).await?);
    }
    Ok(worst)
}
