//! Wakes idle units when their mailbox has news: one blocking read a node, over all of its mailboxes.
//!
//! The bell never takes anything, so a lost, late or false ring costs a read, never an entry; every unit also looks
//! by itself once in an idle poll.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::actors::turn::Unit;
use crate::ids::{Address, EntryId, RandomId};
use crate::store::Store;
use crate::store::link::Link;

/// The shortest time between two blocking reads: under load the units do not need the bell.
const PAUSE: Duration = Duration::from_millis(2);

/// The units that want to be woken, by mailbox.
#[derive(Default)]
pub struct Bell {
    ropes: Mutex<BTreeMap<Address, Vec<Arc<Unit>>>>,
    changed: Notify,
}

impl Bell {
    /// Wakes `unit` from now on.
    pub fn add(&self, unit: &Arc<Unit>) {
        let address = unit.address(&unit.lease.unit().actor);
        self.ropes.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().push(unit.clone());
        self.changed.notify_one();
    }

    /// Wakes it no longer.
    pub fn remove(&self, owner: &RandomId) {
        let mut ropes = self.ropes.lock().unwrap_or_else(PoisonError::into_inner);
        ropes.values_mut().for_each(|units| units.retain(|unit| unit.lease.held().owner != *owner));
        ropes.retain(|_, units| !units.is_empty());
    }

    fn mailboxes(&self) -> Vec<Address> {
        self.ropes.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn ring(&self, address: &Address) {
        let ropes = self.ropes.lock().unwrap_or_else(PoisonError::into_inner);
        ropes.get(address).into_iter().flatten().for_each(|unit| unit.bell.notify_one());
    }

    /// Listens until the node ends.
    pub async fn listen(self: Arc<Self>, store: Store, link: Link) {
        let mut heard: BTreeMap<Address, EntryId> = BTreeMap::new();
        let mut connects = 0;
        loop {
            let mailboxes = self.mailboxes();
            if mailboxes.is_empty() {
                self.changed.notified().await;
                continue;
            }
            // After a failover ids may be smaller than those heard before: hear everything again.
            let now = link.health().connects_total.load(Ordering::Relaxed);
            if std::mem::replace(&mut connects, now) != now {
                heard.clear();
            }
            heard.retain(|address, _| mailboxes.contains(address));
            let wanted: Vec<(Address, EntryId)> = mailboxes
                .iter()
                .map(|address| (address.clone(), heard.get(address).copied().unwrap_or(EntryId::ZERO)))
                .collect();
            match store.wait_for_mail(&link, &wanted).await {
                Ok(rung) => {
                    for (place, newest) in rung {
                        heard.insert(wanted[place].0.clone(), newest);
                        self.ring(&wanted[place].0);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the bell cannot listen");
                    tokio::time::sleep(link.options().bell_block).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
