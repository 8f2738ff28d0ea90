//! Slots that the configuration no longer has: what they still owe is served before they are forgotten.
//!
//! What a slot of a pool was served and has not acknowledged is served again only under that slot's lease. So when the
//! configured count falls, somebody must still take the leases of the slots that fell away, serve what they owe, and
//! nothing new. Each node looks once a lease at what the slots of its pools owe; a slot beyond its own count that owes
//! something becomes a unit like any other, drained by [`Mail::Owed`], and is forgotten when it owes nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Supervisor;
use super::life::UnitSpec;
use super::placement::{self, Placement, Ranking};
use super::slot::{Phase, Slot};
use crate::ids::{Address, UnitId};
use crate::store::lease::Mail;
use crate::store::pool::Owed;

impl Supervisor {
    /// The pools to look at with the next beat: all of them once a lease, none in between.
    pub(super) fn pools_due(&mut self) -> Vec<Address> {
        let now = Instant::now();
        if self.pools_seen.is_some_and(|seen| now.duration_since(seen) < self.lease()) {
            return Vec::new();
        }
        self.pools_seen = Some(now);
        let mut pools: Vec<Address> = self.configured().filter_map(pool_of).collect();
        pools.dedup();
        pools
    }

    /// Takes note of what the slots owe: those beyond the configured ones come and go by it.
    pub(super) fn on_owed(&mut self, seen: Vec<(Address, Vec<Owed>)>) {
        for (pool, owed) in seen {
            let owes = |id: &UnitId| id.slot.is_some_and(|slot| owed.iter().any(|owed| owed.slot == slot));
            // Others may have served what one owed that was never held here. One that is on its way somewhere stays.
            self.slots.retain(|id, slot| {
                let settled = slot.is_retired() && is_of(id, &pool) && !owes(id);
                !(settled && matches!(slot.phase, Phase::Idle | Phase::Failed(_)))
            });
            let Some(sibling) = self.configured().find(|spec| is_of(&spec.id, &pool)).cloned() else { continue };
            for Owed { slot, entries } in owed {
                let id = UnitId::slot(&pool.pipeline, &pool.actor, slot);
                if !self.slots.contains_key(&id) {
                    tracing::info!(unit = %id, entries, "the slot is configured no more and still owes entries");
                    let spec = UnitSpec { id: id.clone(), mail: Mail::Owed, ..sibling.clone() };
                    self.slots.insert(id, Slot::new(spec, slot as usize % self.workers.len()));
                }
            }
        }
    }

    fn configured(&self) -> impl Iterator<Item = &UnitSpec> {
        self.slots.values().filter(|slot| !slot.is_retired()).map(|slot| &slot.spec)
    }

    /// Who should hold what. Nodes whose configurations differ in the count of slots must rank alike, so each counts
    /// the slots of all of them; removed slots are ranked apart, or a look that one node had earlier would move others.
    pub(super) fn rankings(&self) -> BTreeMap<UnitId, Ranking> {
        let mut groups = BTreeMap::<_, BTreeMap<UnitId, Placement>>::new();
        for (id, slot) in &self.slots {
            let group = groups.entry((&id.pipeline, slot.is_retired())).or_default();
            group.insert(id.clone(), slot.spec.placement.clone());
            if let (Some(pool), false) = (pool_of(&slot.spec), slot.is_retired()) {
                let name = pool.to_string();
                let count = self.nodes.iter().filter_map(|node| node.slots.get(&name)).max().copied().unwrap_or(0);
                let foreign = (0..count).map(|slot| UnitId::slot(&pool.pipeline, &pool.actor, slot));
                group.extend(foreign.map(|id| (id, slot.spec.placement.clone())));
            }
        }
        let place = |units: BTreeMap<UnitId, Placement>| placement::place(&Vec::from_iter(units), &self.nodes);
        // A slot that one node drains and another has configured is ranked in both groups: the configured one counts.
        let (removed, configured): (Vec<_>, Vec<_>) = groups.into_iter().partition(|((_, retired), _)| *retired);
        removed.into_iter().chain(configured).flat_map(|(_, units)| place(units)).collect()
    }
}

fn pool_of(spec: &UnitSpec) -> Option<Address> {
    (spec.mail == Mail::Pool).then(|| Address::new(&spec.id.pipeline, &spec.id.actor))
}

fn is_of(id: &UnitId, pool: &Address) -> bool {
    id.pipeline == pool.pipeline && id.actor == pool.actor && id.slot.is_some()
}
