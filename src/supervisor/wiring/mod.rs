//! Which units a configuration has: one file a kind of pipeline.

mod blocks;
mod logs;
mod selftest;
mod sync;

use std::collections::BTreeMap;
use std::time::Duration;

use super::life::{Factory, UnitSpec};
use super::placement::Placement;
use crate::config::{OnlyFilter, Settings};
use crate::ids::{Address, Kind, PipelineId, UnitId};
use crate::sinks::BlockFiles;
use crate::store::lease::Mail;
pub use logs::{LOG_PARSER, LOG_WATCHER, options as file_options};
pub use selftest::{selftest, tally_name};
pub use sync::{scout_plan, sync_plan};

/// How long an actor sleeps whose work comes by mail alone: bell and beat wake it, and this is a belt to the braces.
const BY_MAIL: Duration = Duration::from_secs(600);

/// Every actor address of the configuration, in order: what `--only`, `mailbox` and `send` may name.
pub fn addresses(settings: &Settings) -> Vec<Address> {
    let blocks = settings.blocks.iter().flat_map(|(name, section)| {
        let pipeline = PipelineId::new(Kind::Blocks, name);
        let namer = section.bare_names.as_ref().map(|_| "namer");
        let actors = ["collector", "gap_detector", "gap_fixer"].into_iter().chain(namer);
        actors.map(|actor| Address::new(&pipeline, actor)).collect::<Vec<_>>()
    });
    let selftests = settings.selftest.iter().flat_map(|(name, selftest)| {
        let pipeline = PipelineId::new(Kind::Selftest, name);
        let tallies = (0..selftest.actors).map(tally_name);
        std::iter::once("feeder".to_owned())
            .chain(tallies)
            .map(|actor| Address::new(&pipeline, &actor))
            .collect::<Vec<_>>()
    });
    let logs = settings.logs.iter().flat_map(|(name, section)| {
        std::iter::once(logs::watcher(name, section, &settings.node.host)).chain(logs::parser(name, section))
    });
    let syncs = settings.sync.iter().flat_map(|(name, section)| {
        let pipeline = PipelineId::new(Kind::Sync, name);
        sync::actors(section).map(|actor| Address::new(&pipeline, &actor)).collect::<Vec<_>>()
    });
    blocks.chain(logs).chain(selftests).chain(syncs).collect()
}

/// Whether an actor has a mailbox: the parser of a logs pipeline reads the stream of lines in its place.
pub fn has_mailbox(address: &Address) -> bool {
    !(address.pipeline.kind == Kind::Logs && address.actor == LOG_PARSER)
}

/// The slots of each pool of the configuration, by `kind.name/actor`: what a node tells the others of its pools.
pub fn slots(settings: &Settings) -> BTreeMap<String, u32> {
    let pool = |address: Address| Some((address.to_string(), slots_of(settings, &address))).filter(|(_, n)| *n > 0);
    addresses(settings).into_iter().filter_map(pool).collect()
}

/// The slots of an actor; 0 if it is no pool.
fn slots_of(settings: &Settings, address: &Address) -> u32 {
    match address.pipeline.kind {
        Kind::Blocks if address.actor == "gap_fixer" => {
            settings.blocks.get(&address.pipeline.name).map_or(0, |blocks| blocks.slots)
        }
        Kind::Blocks | Kind::Logs | Kind::Selftest | Kind::Sync => 0,
    }
}

/// Every unit of the configuration: what is leased. A pool has one for each slot.
pub fn units(settings: &Settings) -> Vec<UnitId> {
    let of = |address: Address| match slots_of(settings, &address) {
        0 => vec![UnitId::exclusive(&address.pipeline, &address.actor)],
        slots => (0..slots).map(|slot| UnitId::slot(&address.pipeline, &address.actor, slot)).collect(),
    };
    addresses(settings).into_iter().flat_map(of).collect()
}

/// Entries that the mailbox of an actor may hold.
pub fn capacity(settings: &Settings, address: &Address) -> u64 {
    match address.pipeline.kind {
        Kind::Blocks if address.actor == "gap_fixer" => {
            settings.blocks.get(&address.pipeline.name).map_or(settings.mailbox.capacity, |b| b.task_capacity)
        }
        Kind::Blocks | Kind::Logs | Kind::Selftest | Kind::Sync => settings.mailbox.capacity,
    }
}

/// The actor of a pipeline that reads its source, and takes the orders to pause, resume and rescan; where each host has
/// one, this host's.
pub fn source(settings: &Settings, pipeline: &PipelineId) -> Address {
    let actor = match pipeline.kind {
        Kind::Blocks => "collector",
        Kind::Logs => match settings.logs.get(&pipeline.name) {
            Some(section) => return logs::watcher(&pipeline.name, section, &settings.node.host),
            None => LOG_WATCHER,
        },
        Kind::Selftest => "feeder",
        Kind::Sync => "scout",
    };
    Address::new(pipeline, actor)
}

fn exclusive(id: UnitId, factory: Factory, idle_poll: Duration) -> UnitSpec {
    UnitSpec { id, mail: Mail::Offset, placement: Placement::Exclusive, idle_poll, factory }
}

/// Every unit of the configuration that `only` allows. `stores` holds the open store of each blocks pipeline.
pub fn specs(settings: &Settings, only: &OnlyFilter, stores: &BTreeMap<String, BlockFiles>) -> Vec<UnitSpec> {
    let selftests = settings.selftest.iter().flat_map(|(name, section)| selftest(name, section, settings));
    let blocks = settings.blocks.iter().filter_map(|(name, section)| Some((name, section, stores.get(name)?)));
    let blocks = blocks.flat_map(|(name, section, files)| blocks::units(name, section, files, settings));
    let logs = settings.logs.iter().flat_map(|(name, section)| logs::units(name, section, settings));
    let syncs = settings.sync.iter().flat_map(|(name, section)| sync::units(name, section, settings));
    let all = selftests.chain(blocks).chain(logs).chain(syncs);
    all.filter(|spec| only.allows(&spec.id.pipeline, &spec.id.actor)).collect()
}
