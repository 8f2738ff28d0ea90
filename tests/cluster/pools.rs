//! Pools whose count of slots falls: what the removed slots owe is served all the same.

use gapless::ids::Address;
use gapless::store::pool::Owed;

use crate::frail::{Place, Site, Trouble, pool, quick};
use crate::support::wait;

const POOL: &str = "pool";

impl Site {
    async fn owed(&self) -> Vec<u32> {
        let pool = Address::new(&self.pipeline, POOL);
        let owed = self.store.owed(&self.link, &pool).await.expect("what is owed");
        owed.iter().map(|Owed { slot, .. }| *slot).collect()
    }

    /// Waits until the pool has put out 1..=upto, in any order, and compares.
    async fn pooled(&self, upto: u64) {
        wait::until(&format!("{upto} of the pool"), || async { self.output(POOL).await.len() as u64 >= upto }).await;
        let mut output = self.output(POOL).await;
        output.sort_unstable();
        assert_eq!(output, (1..=upto).collect::<Vec<u64>>());
    }
}

/// How often a removed slot was taken: by this node, as the pool's figures say.
fn running(node: &crate::frail::Running) -> i64 {
    node.metrics.units_running.get()
}

#[actix_rt::test]
async fn what_removed_slots_owe_is_served_by_a_node_without_them() {
    let site = Site::new().await;
    site.send(POOL, 1..=6).await;
    // Every turn of the first node stands still, in the world: its slots owe an entry each, and nothing counts.
    let stands_still = Trouble::new(Place::Outside, 1000);
    let first = site.node_of("a", quick(), pool(&site.pipeline, POOL, 4, &stands_still));
    wait::until("four slots with an entry each", || async { site.owed().await == [0, 1, 2, 3] }).await;
    let second = site.node_of("b", quick(), pool(&site.pipeline, POOL, 1, &Trouble::none()));
    // As long as a node lives that has the slots, they are its own.
    wait::until_true("a second node that sees the first", || second.handle.nodes.borrow().len() == 2).await;
    for slot in 1..4 {
        assert_eq!(second.state(&format!("{POOL}/{slot}")), "", "slot {slot} is not for the second node");
    }
    first.drain().await;
    site.pooled(6).await;
    wait::until("nothing that is owed", || async { site.owed().await.is_empty() }).await;
    wait::until_true("one slot", || running(&second) == 1).await;
    assert_eq!(site.dead(POOL).await, Vec::<String>::new());
    for slot in 1..4 {
        // Once by the first node, once to be drained: a slot that owes nothing is left alone.
        let history = site.server.command(&["LRANGE", &format!("t:{{selftest.x}}:hist:{POOL}/{slot}"), "0", "-1"]);
        let history: Vec<String> = redis::from_redis_value(history).expect("samples");
        let acquisitions = history.iter().filter(|sample| sample.contains("\"acquire\"")).count();
        assert_eq!(acquisitions, 2, "acquisitions of slot {slot}");
    }
    // The slots come back with another node, and serve what is new.
    let third = site.node_of("c", quick(), pool(&site.pipeline, POOL, 4, &Trouble::none()));
    wait::until_true("all four slots", || running(&second) + running(&third) == 4).await;
    site.send(POOL, 7..=40).await;
    site.pooled(40).await;
    second.drain().await;
    third.drain().await;
}

#[actix_rt::test]
async fn a_removed_slot_whose_entry_is_poisoned_sets_it_aside_and_ends() {
    let site = Site::new().await;
    site.send(POOL, 1..=3).await;
    let stands_still = Trouble::new(Place::Outside, 1000);
    let first = site.node_of("a", quick(), pool(&site.pipeline, POOL, 3, &stands_still));
    wait::until("three slots with an entry each", || async { site.owed().await == [0, 1, 2] }).await;
    first.drain().await;
    // Five failures are an entry's limit; they strike whichever entry comes first, and then the next one.
    let second = site.node_of("b", quick(), pool(&site.pipeline, POOL, 1, &Trouble::new(Place::Turn, 15)));
    wait::until("nothing that is owed", || async { site.owed().await.is_empty() }).await;
    let dead = site.dead(POOL).await;
    assert_eq!(dead.len() + site.output(POOL).await.len(), 3, "none is silently absent: {dead:?}");
    assert!(!dead.is_empty() && dead.iter().all(|reason| reason.contains("asked to break in Turn")), "{dead:?}");
    wait::until_true("one slot", || running(&second) == 1).await;
    second.drain().await;
}
