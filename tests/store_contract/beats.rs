//! What one beat does and shows: renewals, members, and for each unit whether its mailbox has something for it. Compared
//! with what Redis itself says of the same keys.

use std::time::Duration;

use gapless::ids::{EntryId, Kind, PipelineId, RandomId, UnitId};
use gapless::store::StoreError;
use gapless::store::beat::{Asked, BEAT_UNITS_MAX, MailSeen};
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Fate, Lease, Mail};
use gapless::store::membership::NodeInfo;

use crate::world::{World, ack, copy, number, numbers};

fn node(name: &str) -> NodeInfo {
    NodeInfo { name: name.to_owned(), incarnation: RandomId::new(), ..NodeInfo::default() }
}

fn held(lease: &Lease, mail: Option<Mail>) -> Asked {
    let now = lease.held();
    Asked { unit: lease.unit().clone(), held: Some((now.token, now.owner)), mail }
}

impl World {
    /// The mailbox of a unit as its beat shows it.
    async fn mail(&self, lease: &Lease) -> MailSeen {
        let seen = self.store.look(&self.link, &[held(lease, Some(lease.mail()))]).await.expect("a beat");
        assert!(seen[0].renewed);
        seen[0].mail.expect("it was asked for")
    }

    /// The highest id that a mailbox ever had, as Redis tells.
    fn highest(&self, actor: &str) -> EntryId {
        let script = "local info = redis.call('XINFO', 'STREAM', KEYS[1])
            for i = 1, #info, 2 do if info[i] == 'last-generated-id' then return info[i + 1] end end";
        self.server.text(&["EVAL", script, "1", &self.mailbox(actor)]).parse().expect("an id")
    }

    async fn done(&self, lease: &Lease) {
        let delivery = lease.claim().await.expect("a delivery");
        assert_eq!(lease.commit(&copy(&delivery)).await, Ok(Committed::Now));
    }
}

const NOTHING: MailSeen = MailSeen { last: EntryId::ZERO, waits: false };

#[actix_rt::test]
async fn one_request_renews_all_pipelines_and_says_that_the_node_lives() {
    let world = World::new().await;
    let other = PipelineId::new(Kind::Selftest, "other");
    world.store.mark_pipeline(&world.link, &other, false).await.expect("a mark");
    let here = world.acquire("tally").await.expect("free");
    let unit = UnitId::exclusive(&other, "tally");
    let there = Lease::acquire(&world.store, &world.link, &unit, Mail::Offset, None, &Fate::Clean).await.expect("free");
    let stranger = Asked { unit: world.unit("nobody"), held: None, mail: None };
    let asked = [held(&here, Some(Mail::Offset)), stranger, held(&there, None)];
    for lease in [&here, &there] {
        world.server.command(&["SET", &world.store.keys.expiry(lease.unit()), "1 1"]);
    }
    world.store.heartbeat(&world.link, &node("b"), 60_000).await.expect("a heartbeat");
    world.server.command(&["CONFIG", "RESETSTAT"]);
    let me = node("a");
    let seen = world.store.exchange(&world.link, &me, &asked).await.expect("an exchange");
    let evaluated = world.server.text(&["INFO", "commandstats"]);
    assert!(evaluated.contains("cmdstat_eval:calls=1,") || evaluated.contains("cmdstat_evalsha:calls=1,"));
    assert_eq!(seen.cluster.as_ref(), Some(&world.store.cluster));
    assert_eq!(seen.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(seen.nodes[0], me);
    let renewed: Vec<bool> = seen.units.iter().map(|unit| unit.renewed).collect();
    assert_eq!(renewed, [true, false, true]);
    assert_eq!((&seen.units[0].tip, &seen.units[2].tip), (&here.held().tip, &there.held().tip));
    assert_eq!((seen.units[0].mail, seen.units[1].mail, seen.units[2].mail), (Some(NOTHING), None, None));
    for lease in [&here, &there] {
        let refused = Lease::acquire(&world.store, &world.link, lease.unit(), Mail::Offset, None, &Fate::Clean).await;
        assert!(matches!(refused.err(), Some(StoreError::Held { left_ms, .. }) if left_ms > 50_000));
    }
    // An emptied Redis has no id.
    world.server.command(&["DEL", &world.store.keys.cluster()]);
    assert_eq!(world.store.exchange(&world.link, &me, &[]).await.expect("an exchange").cluster, None);
}

#[actix_rt::test]
async fn more_units_than_one_script_takes_keep_their_order() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    let asked = |n: usize| match n {
        n if n == BEAT_UNITS_MAX + 7 => held(&lease, None),
        n => Asked { unit: world.unit(&format!("nobody_{n}")), held: None, mail: None },
    };
    let asked: Vec<Asked> = (0..2 * BEAT_UNITS_MAX + 10).map(asked).collect();
    let seen = world.store.exchange(&world.link, &node("a"), &asked).await.expect("an exchange").units;
    assert_eq!(seen.len(), asked.len());
    assert_eq!(seen.iter().position(|unit| unit.renewed), Some(BEAT_UNITS_MAX + 7));
    assert_eq!(seen.iter().filter(|unit| unit.renewed).count(), 1);
}

#[actix_rt::test]
async fn an_exclusive_unit_is_shown_what_lies_behind_its_offset() {
    let world = World::new().await;
    let lease = world.acquire("tally").await.expect("free");
    assert_eq!(world.mail(&lease).await, NOTHING, "there is no mailbox yet");
    let first = world.send("tally", 1).await;
    assert_eq!(world.mail(&lease).await, MailSeen { last: first, waits: true });
    let last = world.send("tally", 2).await;
    assert_eq!(world.mail(&lease).await, MailSeen { last, waits: true });
    let before = world.keyspace();
    lease.claim().await.expect("a delivery");
    assert_ne!(world.keyspace(), before, "a read leaves a tip");
    assert!(world.mail(&lease).await.waits, "read, and not done");
    world.done(&lease).await;
    assert_eq!(world.mail(&lease).await, MailSeen { last, waits: false });
    assert_eq!(world.highest("tally"), last);
    // Whatever a read would call BROKEN, the unit is to see and tell itself.
    world.server.command(&["DEL", &world.mailbox("tally")]);
    assert_eq!(world.mail(&lease).await, MailSeen { last: EntryId::ZERO, waits: true });
    assert!(matches!(lease.claim().await, Err(StoreError::Broken { .. })));
    world.server.command(&["SET", &world.mailbox("tally"), "no stream"]);
    assert!(world.mail(&lease).await.waits);
}

#[actix_rt::test]
async fn a_look_into_mailboxes_changes_nothing_but_leases() {
    let world = World::new().await;
    let (tally, slot) = (world.acquire("tally").await.expect("free"), world.slot("fixer", 0).await);
    world.send("tally", 1).await;
    world.send("fixer", 1).await;
    slot.claim().await.expect("a delivery");
    let expiries = [&tally, &slot].map(|lease| world.store.keys.expiry(lease.unit()));
    let rest = || {
        let mut keys = world.keyspace();
        keys.retain(|key, _| !expiries.contains(key));
        keys
    };
    let before = rest();
    world.mail(&tally).await;
    world.mail(&slot).await;
    assert_eq!(rest(), before);
}

#[actix_rt::test]
async fn a_slot_is_shown_what_nobody_has_and_what_it_owes_itself() {
    let world = World::new().await;
    let (zero, one) = (world.slot("fixer", 0).await, world.slot("fixer", 1).await);
    let both = || async { (world.mail(&zero).await.waits, world.mail(&one).await.waits) };
    assert_eq!(both().await, (false, false));
    let first = world.send("fixer", 1).await;
    assert_eq!(both().await, (true, true), "it is for either");
    zero.claim().await.expect("a delivery");
    assert_eq!(both().await, (true, false), "only slot 0 may go on with it");
    assert_eq!(world.mail(&one).await.last, first);
    world.send("fixer", 2).await;
    assert_eq!(both().await, (true, true));
    one.claim().await.expect("a delivery");
    assert_eq!(both().await, (true, true), "each owes one");
    world.done(&zero).await;
    assert_eq!(both().await, (false, true));
    world.done(&one).await;
    assert_eq!(both().await, (false, false));
    assert_eq!(world.mail(&one).await.last, world.highest("fixer"));
    // An entry that waits while the group is gone is nobody's yet.
    world.server.command(&["XGROUP", "DESTROY", &world.mailbox("fixer"), "pool"]);
    assert_eq!(both().await, (false, false));
    world.send("fixer", 3).await;
    assert_eq!(both().await, (true, true));
    // What was deleted under the slot that owes it hides nothing that came later.
    let lost = zero.claim().await.expect("a delivery").entries[0].id;
    world.server.command(&["XDEL", &world.mailbox("fixer"), &lost.to_string()]);
    assert_eq!(both().await, (false, false));
    world.send("fixer", 4).await;
    assert_eq!(both().await, (true, true));
}

#[actix_rt::test]
async fn an_entry_that_is_due_again_waits_for_every_slot_and_not_before() {
    let world = World::new().await;
    world.server.command(&["XADD", &world.mailbox("fixer"), "*", "type", "number", "body", "{\"n\":1}"]);
    let (lease, other) = (world.slot("fixer", 0).await, world.slot("fixer", 1).await);
    let delivery = lease.claim().await.expect("a delivery");
    let again = Effect::Again { of: world.address("fixer"), after: Duration::from_secs(200), message: number(1) };
    let commit = Commit { state: None, ack: ack(&delivery), effects: vec![again] };
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    for lease in [&lease, &other] {
        assert!(!world.mail(lease).await.waits, "it comes again much later");
    }
    let later = world.store.keys.later(&world.address("fixer"));
    let due = "local m = redis.call('ZRANGE', KEYS[1], 0, 0)[1] return redis.call('ZADD', KEYS[1], 'XX', 1, m)";
    world.server.command(&["EVAL", due, "1", &later]);
    for lease in [&lease, &other] {
        assert!(world.mail(lease).await.waits, "it is due");
    }
    assert_eq!(numbers(&other.claim().await.expect("a delivery")), [1]);
}
