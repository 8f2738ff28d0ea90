//! Collector under the suite: a unit of work is a new block above finality; its world is the chain.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use gapless::actors::collector::{Collector, FollowPlan};
use gapless::actors::turn::{self, Unit};

use crate::chain::{World, chain, line};
use crate::suite::{Site, Subject};

pub struct CollectorSubject {
    world: World,
}

impl Subject for CollectorSubject {
    const ACTOR: &'static str = "collector";

    async fn new(_: &Site) -> Self {
        // The genesis block alone, which is not wanted: the chain has not reached the first wanted height.
        Self { world: World::new(0) }
    }

    async fn offer(&mut self, _: &Site, units: u64) {
        self.world.grow(units);
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        let plan = FollowPlan {
            start: Some(1),
            end: None,
            chain_id: None,
            // More than any law offers: nothing is the pool's.
            confirmations: 100,
            turn: 5,
            batch: 2,
            ahead: Duration::from_secs(60),
            poll: Duration::from_millis(20),
            capacity: 1000,
        };
        turn::live(Collector::new(unit, self.world.source.clone(), self.world.files.clone(), plan, None))
    }

    async fn done(&self, site: &Site) -> Vec<String> {
        self.world.held(site)
    }

    fn truth(units: u64) -> Vec<String> {
        let chain = chain();
        (1..=units).map(|height| line(&chain, height)).collect()
    }

    fn world_down(&self, _: &Site, down: bool) {
        self.world.set_down(down);
    }
}
