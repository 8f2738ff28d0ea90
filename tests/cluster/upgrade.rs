//! A rolling upgrade: nodes of two formats on one Redis.

use std::time::{Duration, Instant};

use crate::frail::{LEASE, Site, Trouble, quick, spec};
use crate::support::wait;

const ACTORS: [&str; 4] = ["one", "two", "three", "four"];

impl Site {
    /// The format that each unit's checkpoint asks of its holder.
    fn needs(&self) -> Vec<String> {
        let of = |actor: &&str| self.server.text(&["HGET", &format!("t:{{selftest.x}}:ck:{actor}"), "needs"]);
        ACTORS.iter().map(of).collect()
    }

    fn of_release(&self, name: &str, format: u64) -> crate::frail::Running {
        let specs = ACTORS.iter().map(|actor| spec(self.unit(actor), Trouble::none())).collect();
        self.node_of_release(name, format, quick(), specs)
    }

    /// Each actor deals with the next so many numbers.
    async fn work(&self, upto: u64, more: u64) -> u64 {
        for actor in ACTORS {
            self.send(actor, upto + 1..=upto + more).await;
            self.counted(actor, upto + more).await;
        }
        upto + more
    }
}

#[actix_rt::test]
async fn the_old_format_is_written_until_the_old_node_is_gone() {
    let site = Site::new().await;
    let (old, new) = (site.of_release("old", 1), site.of_release("new", 2));
    let running = |node: &crate::frail::Running| node.metrics.units_running.get();
    wait::until_true("two units each", || running(&old) == 2 && running(&new) == 2).await;
    let (mut done, since) = (0, Instant::now());
    // Longer than the time after which a new format would be written, were the old node not there.
    wait::until_true("eleven leases", || since.elapsed() > LEASE * 11).await;
    done = site.work(done, 5).await;
    assert_eq!(site.needs(), ["1"; 4]);
    let (left, gone) = (old.drain().await, Instant::now());
    assert_eq!(left, gapless::supervisor::Ended::Drained { others: 1 });
    wait::until_true("all four units", || running(&new) == 4).await;
    done = site.work(done, 5).await;
    assert!(gone.elapsed() > LEASE * 10 || site.needs() == ["1"; 4], "an old node may be back in a moment");
    wait::until_true("the new format everywhere", || site.needs() == ["2"; 4]).await;
    assert!(gone.elapsed() >= LEASE * 9, "{:?}", gone.elapsed());
    wait::until_true("all four units again", || running(&new) == 4).await;
    done = site.work(done, 5).await;
    // The old release comes back after all: it leaves every unit to the new one, and tries again only now and then.
    let old = site.of_release("old", 1);
    wait::until_true("an old node that knows it is too old", || {
        ACTORS.iter().any(|actor| old.state(actor) == "failed")
    })
    .await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1500) {
        done = site.work(done, 1).await;
        assert_eq!(running(&old), 0);
    }
    assert_eq!(site.needs(), ["2"; 4]);
    wait::until_true("all four units with the new node", || running(&new) == 4).await;
    old.drain().await;
    new.drain().await;
}
