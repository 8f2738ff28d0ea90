//! Feeder under the suite: a unit of work is a number that every tally must be sent.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use gapless::actors::feeder::Feeder;
use gapless::actors::turn::{self, Unit};
use gapless::ids::EntryId;

use crate::suite::{Site, Subject};
use crate::support::proxy::Faults;

const TALLIES: [&str; 2] = ["tally_0", "tally_1"];

pub struct FeederSubject {
    last: u64,
}

impl Subject for FeederSubject {
    const ACTOR: &'static str = "feeder";

    async fn new(_: &Site) -> Self {
        Self { last: 0 }
    }

    async fn offer(&mut self, _: &Site, units: u64) {
        self.last += units;
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        let tallies = TALLIES.map(|name| unit.address(name)).into();
        turn::live(Feeder { unit, tallies, last: self.last, batch: 1, pause: Duration::ZERO, capacity: 1000 })
    }

    async fn done(&self, site: &Site) -> Vec<String> {
        let mut done = Vec::new();
        for tally in TALLIES {
            let waiting = site.store.peek(&site.direct, &site.address(tally), EntryId::ZERO, 1000).await;
            let waiting = waiting.expect("a mailbox");
            done.extend(waiting.iter().map(|entry| format!("{tally} {}", entry.text("body").expect("a body"))));
        }
        done
    }

    fn truth(units: u64) -> Vec<String> {
        TALLIES.iter().flat_map(|tally| (1..=units).map(move |n| format!("{tally} {{\"n\":{n}}}"))).collect()
    }

    /// Its world is Redis.
    fn world_down(&self, site: &Site, down: bool) {
        site.proxy.set(Faults { refuse: down, ..Faults::default() });
        site.proxy.cut();
    }
}
