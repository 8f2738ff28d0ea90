//! GapDetector under the suite: a unit of work is a gap between held heights. It has no source; the world that it waits
//! for is the pool, which may have no room.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use gapless::actors::gap_detector::{DetectPlan, GapDetector};
use gapless::actors::turn::{self, Unit};
use gapless::ids::{EntryId, UnitId};
use gapless::messages::block::Piece;
use gapless::messages::gap::{DetectorMessage, GapTask};
use gapless::messages::heights::{Height, HeightRange};
use gapless::simulate::chain::SimChain;
use gapless::store::effect::{Commit, Effect, Outgoing};
use gapless::store::lease::{Fate, Lease, Mail};

use crate::chain::{World, chain};
use crate::suite::{Site, Subject};

const CONFIRMATIONS: u64 = 10;
/// Tasks that the pool has room for: fewer than most laws offer, so that the detector asks in several turns; and no
/// fewer than the law of cuts offers, which looks at the pool only after each cut.
const CAPACITY: u64 = 8;
/// Two held heights, then two that are missing.
const STRIDE: u64 = 4;

pub struct GapDetectorSubject {
    world: World,
    gaps: u64,
    /// Tasks that the pool, played by the test, has taken away. It fills none: what is asked for stands.
    taken: RefCell<Vec<String>>,
}

/// A piece of the chain as a commit records it.
fn piece(chain: &SimChain, lo: Height, hi: Height) -> Piece {
    let range = HeightRange::new(lo, hi).expect("a range");
    Piece { range, parent: chain.truth(lo).parent, hash: chain.truth(hi).hash }
}

impl Subject for GapDetectorSubject {
    const ACTOR: &'static str = "gap_detector";

    async fn new(_: &Site) -> Self {
        Self { world: World::new(0), gaps: 0, taken: RefCell::default() }
    }

    /// Does what a Collector does: in one commit heights are held, the head is told, and the detector is woken.
    async fn offer(&mut self, site: &Site, units: u64) {
        let chain = chain();
        let pieces = (self.gaps..self.gaps + units).map(|gap| piece(&chain, gap * STRIDE, gap * STRIDE + 1));
        let mut effects: Vec<Effect> = pieces.map(Effect::Merge).collect();
        self.gaps += units;
        let head = self.gaps * STRIDE - 1 + CONFIRMATIONS;
        effects.push(Effect::Put { field: "start", value: "0".to_owned() });
        effects.push(Effect::Put { field: "head", value: head.to_string() });
        let message = Outgoing::new(&DetectorMessage::HeadMoved { head }).expect("a message");
        effects.push(Effect::Send { to: site.address(Self::ACTOR), capacity: 1000, messages: vec![message] });
        let collector = UnitId::exclusive(&site.pipeline, "collector");
        let lease = Lease::acquire(&site.store, &site.direct, &collector, Mail::Offset, None, &Fate::Clean).await;
        let lease = lease.expect("a free unit");
        lease.commit(&Commit { effects, ..Commit::default() }).await.expect("committed");
        lease.release().await.expect("released");
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        let plan = DetectPlan {
            confirmations: CONFIRMATIONS,
            end: None,
            task_heights: 10,
            capacity: CAPACITY,
            // Longer than any test: what is asked for twice was forgotten.
            request_age: Duration::from_secs(600),
            again: Duration::from_millis(5),
            rollback_horizon: Duration::from_secs(600),
            ..DetectPlan::default()
        };
        turn::live(GapDetector::new(unit, self.world.files.clone(), plan, Arc::default()))
    }

    /// Takes the tasks that wait, as the pool would, and shows all that were ever there.
    async fn done(&self, site: &Site) -> Vec<String> {
        let pool = site.address("gap_fixer");
        for entry in site.store.peek(&site.direct, &pool, EntryId::ZERO, 1000).await.expect("a mailbox") {
            if entry.text("filler").is_some() {
                continue;
            }
            let body = entry.text("body").expect("a body");
            site.server.command(&["XDEL", &site.store.keys.mailbox(&pool), &entry.id.to_string()]);
            self.taken.borrow_mut().push(body);
        }
        self.taken.borrow().clone()
    }

    fn truth(units: u64) -> Vec<String> {
        let gap = |gap: u64| {
            let range = HeightRange::new(gap * STRIDE + 2, gap * STRIDE + 3).expect("a range");
            Outgoing::new(&GapTask::Fill { range, tries: 0 }).expect("a message").body
        };
        (0..units).map(gap).collect()
    }

    /// The pool has no room: foreign entries fill its mailbox, until all of them go.
    fn world_down(&self, site: &Site, down: bool) {
        let key = site.store.keys.mailbox(&site.address("gap_fixer"));
        match down {
            true => {
                for _ in 0..CAPACITY {
                    site.server.command(&["XADD", &key, "*", "filler", "x"]);
                }
            }
            false => {
                site.server.command(&["XTRIM", &key, "MAXLEN", "0"]);
            }
        }
    }
}
