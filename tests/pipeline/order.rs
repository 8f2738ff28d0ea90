//! Which gaps are asked for first: the detector alone against a real Redis, with more intervals than a page holds. The
//! test plays the pool, which has little room.

use std::sync::Arc;
use std::time::Duration;

use gapless::actors::gap_detector::{DetectPlan, GapDetector};
use gapless::actors::turn;
use gapless::config::GapOrder;
use gapless::ids::{Address, EntryId, UnitId};
use gapless::messages::block::Piece;
use gapless::messages::heights::{HeightRange, HeightSet};
use gapless::simulate::chain::SimChain;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::supervisor::life::Factory;
use gapless::supervisor::placement::Placement;

use crate::reorgs::Stage;
use crate::sim::plan;
use crate::support::wait;

/// More than two pages of held intervals, each of one height, two missing ones behind each.
const GAPS: u64 = 1_200;
const ROOM: u64 = 40;

/// What of the chain is merged by the test itself.
struct Hand {
    lease: Lease,
    chain: SimChain,
}

impl Hand {
    fn piece(&self, range: HeightRange) -> Effect {
        let (first, last) = (self.chain.truth(range.lo()), self.chain.truth(range.hi()));
        Effect::Merge(Piece { range, parent: first.parent, hash: last.hash })
    }

    async fn commit(&self, effects: Vec<Effect>) {
        self.lease.commit(&Commit { effects, ..Commit::default() }).await.expect("committed");
    }

    /// Holds every third height.
    async fn new(stage: &Stage) -> Self {
        let unit = UnitId::exclusive(&stage.pipeline, "collector");
        let lease = Lease::acquire(&stage.store, &stage.link, &unit, Mail::Offset, None, &Fate::Clean).await;
        let hand = Self { lease: lease.expect("a free unit"), chain: SimChain::new(&plan(51, 1)) };
        let mut effects: Vec<Effect> = (0..GAPS).map(|gap| hand.piece(HeightRange::one(gap * 3))).collect();
        effects.push(Effect::Put { field: "start", value: "0".to_owned() });
        effects.push(Effect::Put { field: "head", value: (GAPS * 3 + 9).to_string() });
        hand.commit(effects).await;
        hand
    }
}

/// Every task, in the order of asking.
async fn asked(order: GapOrder) -> Vec<HeightRange> {
    let stage = Stage::new().await;
    let hand = Hand::new(&stage).await;
    let plan = DetectPlan {
        confirmations: 10,
        task_heights: 10,
        capacity: ROOM,
        request_age: Duration::from_secs(600),
        again: Duration::from_millis(5),
        rollback_horizon: Duration::from_secs(600),
        order,
        ..DetectPlan::default()
    };
    let files = stage.files();
    let factory: Factory =
        Arc::new(move |unit| turn::live(GapDetector::new(unit, files.clone(), plan.clone(), Arc::default())));
    let id = UnitId::exclusive(&stage.pipeline, "gap_detector");
    let _detector = stage.run(id, Mail::Offset, Placement::Exclusive, factory);
    let pool = Address::new(&stage.pipeline, "gap_fixer");
    let mut asked = Vec::new();
    while asked.len() < GAPS as usize {
        let entries = wait::until_some("tasks", || async {
            let entries = stage.store.peek(&stage.link, &pool, EntryId::ZERO, 1000).await.expect("a mailbox");
            (!entries.is_empty()).then_some(entries)
        })
        .await;
        assert!(entries.len() as u64 <= 2 * ROOM, "the mailbox may be one turn too long, no more");
        for entry in entries {
            let body: serde_json::Value = serde_json::from_str(&entry.text("body").expect("a body")).expect("JSON");
            let range: HeightRange = serde_json::from_value(body["range"].clone()).expect("a range");
            asked.push(range);
            hand.commit(vec![hand.piece(range)]).await;
            stage.redis.command(&["XDEL", &stage.store.keys.mailbox(&pool), &entry.id.to_string()]);
        }
    }
    asked
}

#[actix_rt::test]
async fn each_missing_height_is_asked_for_once_lowest_or_highest_first() {
    for order in [GapOrder::Oldest, GapOrder::Newest] {
        let asked = asked(order).await;
        let mut expected: Vec<HeightRange> =
            (0..GAPS).map(|gap| HeightRange::new(gap * 3 + 1, gap * 3 + 2).expect("a range")).collect();
        let set: HeightSet = asked.iter().copied().collect();
        assert_eq!(set, expected.iter().copied().collect(), "{order:?}");
        if order == GapOrder::Newest {
            expected.reverse();
        }
        assert_eq!(asked, expected, "{order:?}");
    }
    actix_rt::System::current().stop();
}
