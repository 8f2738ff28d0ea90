//! Which units a configuration has: one small function a kind of pipeline.

use std::sync::Arc;

use crate::actors::feeder::Feeder;
use crate::actors::tally::{Planted, Tally};
use crate::actors::turn;
use crate::config::{SelftestSettings, Settings};
use crate::ids::{Address, Kind, PipelineId, UnitId};
use crate::store::lease::Mail;

use super::life::{Factory, UnitSpec};
use super::placement::Placement;

/// Every actor address of the configuration, in order: what `--only`, `mailbox` and `send` may name.
pub fn addresses(settings: &Settings) -> Vec<Address> {
    let blocks = settings.blocks.keys().flat_map(|name| {
        let pipeline = PipelineId::new(Kind::Blocks, name);
        ["collector", "gap_detector", "gap_fixer"].map(|actor| Address::new(&pipeline, actor))
    });
    let selftests = settings.selftest.iter().flat_map(|(name, selftest)| {
        let pipeline = PipelineId::new(Kind::Selftest, name);
        let tallies = (0..selftest.actors).map(tally_name);
        std::iter::once("feeder".to_owned())
            .chain(tallies)
            .map(|actor| Address::new(&pipeline, &actor))
            .collect::<Vec<_>>()
    });
    blocks.chain(selftests).collect()
}

/// Every unit of the configuration: what is leased. A pool has one for each slot.
pub fn units(settings: &Settings) -> Vec<UnitId> {
    let slots = |address: &Address| match address.pipeline.kind {
        Kind::Blocks if address.actor == "gap_fixer" => {
            settings.blocks.get(&address.pipeline.name).map_or(0, |blocks| blocks.slots)
        }
        Kind::Blocks | Kind::Selftest => 0,
    };
    let of = |address: Address| match slots(&address) {
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
        Kind::Blocks | Kind::Selftest => settings.mailbox.capacity,
    }
}

/// The mailbox of the nth Tally.
pub fn tally_name(n: u32) -> String {
    format!("tally_{n}")
}

/// The units of a self-test pipeline: one Feeder, many Tallies.
pub fn selftest(name: &str, selftest: &SelftestSettings, settings: &Settings) -> Vec<UnitSpec> {
    let pipeline = PipelineId::new(Kind::Selftest, name);
    let tallies: Vec<Address> = (0..selftest.actors).map(|n| Address::new(&pipeline, &tally_name(n))).collect();
    let planted = Planted {
        panic_every: selftest.panic_every.map_or(0, u64::from),
        hang_every: selftest.hang_every.map_or(0, u64::from),
    };
    let (last, batch, capacity) = (selftest.messages, u64::from(selftest.batch), settings.mailbox.capacity);
    let fed = tallies.clone();
    let feeder: Factory =
        Arc::new(move |unit| turn::live(Feeder { unit, tallies: fed.clone(), last, batch, capacity }));
    let tally: Factory = Arc::new(move |unit| turn::live(Tally { unit, planted, records: true }));
    let mut specs = vec![exclusive(UnitId::exclusive(&pipeline, "feeder"), feeder, settings)];
    specs.extend(tallies.iter().map(|a| exclusive(UnitId::exclusive(&pipeline, &a.actor), tally.clone(), settings)));
    specs
}

fn exclusive(id: UnitId, factory: Factory, settings: &Settings) -> UnitSpec {
    // A lost ring of the bell costs no more than a lost node would.
    UnitSpec { id, mail: Mail::Offset, placement: Placement::Exclusive, idle_poll: settings.node.lease, factory }
}

/// Every unit of the configuration that `only` allows.
pub fn specs(settings: &Settings, only: &crate::config::OnlyFilter) -> Vec<UnitSpec> {
    let selftests = settings.selftest.iter().flat_map(|(name, section)| selftest(name, section, settings));
    selftests.filter(|spec| only.allows(&spec.id.pipeline, &spec.id.actor)).collect()
}
