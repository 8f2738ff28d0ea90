//! GapFixer under the suite, one slot of the pool: a unit of work is a final height that a task asks for; its world is
//! the chain.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use gapless::actors::gap_fixer::{FixPlan, GapFixer};
use gapless::actors::turn::{self, Unit};
use gapless::messages::gap::GapTask;
use gapless::messages::heights::HeightRange;
use gapless::store::effect::Outgoing;
use gapless::store::lease::Mail;

use crate::chain::{CHAIN_ID, World, chain, line};
use crate::suite::{Site, Subject};

/// The chain's head: all that the suite asks for is final.
const HEAD: u64 = 10_000;
/// The lowest height that is asked for.
const FIRST: u64 = 500;
/// Heights of one task: more than one turn's, so that a task is sent on.
const TASK: u64 = 10;

pub struct GapFixerSubject {
    world: World,
    asked: u64,
}

impl Subject for GapFixerSubject {
    const ACTOR: &'static str = "gap_fixer";
    const MAIL: Mail = Mail::Pool;

    async fn new(site: &Site) -> Self {
        // What the Collector writes down once it has seen the chain.
        for (name, value) in [("chain_id", CHAIN_ID), ("head", &HEAD.to_string())] {
            site.store.fact_once(&site.direct, &site.pipeline, name, value).await.expect("a fact");
        }
        Self { world: World::new(HEAD), asked: 0 }
    }

    async fn offer(&mut self, site: &Site, units: u64) {
        let lo = FIRST + self.asked;
        let range = HeightRange::new(lo, lo + units - 1).expect("a range");
        for range in range.chunks(TASK) {
            let message = Outgoing::new(&GapTask::Fill { range, tries: 0 }).expect("a message");
            let to = site.address(Self::ACTOR);
            site.store.send(&site.direct, &to, 1000, None, &message).await.expect("sent");
        }
        self.asked += units;
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        let plan = FixPlan {
            confirmations: 10,
            task_heights: 4,
            batch: 2,
            capacity: 1000,
            tries_max: 2,
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_millis(10),
            endpoints: 1,
            ..FixPlan::default()
        };
        let (source, files, suspects) = (self.world.source.clone(), self.world.files.clone(), Arc::default());
        turn::live(GapFixer { unit, source, files, plan, suspects })
    }

    async fn done(&self, site: &Site) -> Vec<String> {
        self.world.held(site)
    }

    fn truth(units: u64) -> Vec<String> {
        let chain = chain();
        (FIRST..FIRST + units).map(|height| line(&chain, height)).collect()
    }

    fn world_down(&self, _: &Site, down: bool) {
        self.world.set_down(down);
    }
}
