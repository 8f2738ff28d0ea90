//! The units of a self-test pipeline.

use std::sync::Arc;

use super::{BY_MAIL, exclusive};
use crate::actors::feeder::Feeder;
use crate::actors::tally::{Planted, Tally};
use crate::actors::turn;
use crate::config::{SelftestSettings, Settings};
use crate::ids::{Address, Kind, PipelineId, UnitId};
use crate::supervisor::life::{Factory, UnitSpec};

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
    let (fed, pause) = (tallies.clone(), selftest.pause);
    let feeder: Factory =
        Arc::new(move |unit| turn::live(Feeder { unit, tallies: fed.clone(), last, batch, pause, capacity }));
    let tally: Factory = Arc::new(move |unit| turn::live(Tally { unit, planted, records: true }));
    let mut specs = vec![exclusive(UnitId::exclusive(&pipeline, "feeder"), feeder, BY_MAIL)];
    specs.extend(tallies.iter().map(|a| exclusive(UnitId::exclusive(&pipeline, &a.actor), tally.clone(), BY_MAIL)));
    specs
}
