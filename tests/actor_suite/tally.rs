//! Tally under the suite: a unit of work is a number in its mailbox.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use gapless::actors::tally::{Planted, Tally};
use gapless::actors::turn::{self, Unit};
use gapless::messages::tally::TallyMessage;
use gapless::store::effect::Outgoing;

use crate::suite::{Site, Subject};
use crate::support::proxy::Faults;

pub struct TallySubject {
    sent: u64,
}

impl Subject for TallySubject {
    const ACTOR: &'static str = "tally_0";

    async fn new(_: &Site) -> Self {
        Self { sent: 0 }
    }

    async fn offer(&mut self, site: &Site, units: u64) {
        for n in self.sent + 1..=self.sent + units {
            let message = Outgoing::new(&TallyMessage::Number { n }).expect("a message");
            let to = site.address(Self::ACTOR);
            site.store.send(&site.direct, &to, 1000, None, &message).await.expect("sent");
        }
        self.sent += units;
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        turn::live(Tally { unit, planted: Planted::default(), records: true })
    }

    async fn done(&self, site: &Site) -> Vec<String> {
        let text = |entry: &gapless::store::Entry, name| entry.text(name).expect("a field");
        site.output(Self::ACTOR).await.iter().map(|e| format!("{} {}", text(e, "n"), text(e, "sum"))).collect()
    }

    fn truth(units: u64) -> Vec<String> {
        (1..=units).map(|n| format!("{n} {}", n * (n + 1) / 2)).collect()
    }

    /// Its world is Redis.
    fn world_down(&self, site: &Site, down: bool) {
        site.proxy.set(Faults { refuse: down, ..Faults::default() });
        site.proxy.cut();
    }
}
