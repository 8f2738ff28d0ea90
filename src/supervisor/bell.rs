//! Wakes idle units when their mailbox has news: one blocking read a node, over all of its mailboxes.
//!
//! The bell never takes anything, so a late or false ring costs a read, never an entry. A lost one is made good by the
//! beat, which looks into the mailboxes of all units that sleep ([`Bell::look`]): so no unit looks by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::actors::turn::Unit;
use crate::ids::{EntryId, RandomId};
use crate::store::Store;
use crate::store::beat::MailSeen;
use crate::store::lease::Inbox;
use crate::store::link::{Class, Link};

/// The shortest time between two blocking reads: under load the units do not need the bell.
const PAUSE: Duration = Duration::from_millis(2);

/// Units that come within so long are listened for together: each change of what is listened for costs a connection.
const GATHER: Duration = Duration::from_millis(20);

/// What a unit was last woken for, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rung(Option<(EntryId, Instant)>);

impl Rung {
    fn at(newest: EntryId, now: Instant) -> Self {
        Self(Some((newest, now)))
    }

    /// Whether the unit is to be woken for what a beat saw. Ids are compared for being different, not for being larger:
    /// after a failover they may be smaller. Even an id that was given out twice is read after `again`.
    fn wakes(&mut self, mail: &MailSeen, now: Instant, again: Duration) -> bool {
        if !mail.waits {
            *self = Self::default();
            return false;
        }
        !self.0.is_some_and(|(newest, at)| newest == mail.last && now.duration_since(at) < again)
    }
}

/// A unit that wants to be woken.
struct Rope {
    unit: Arc<Unit>,
    rung: Rung,
}

impl Rope {
    fn pull(&mut self, newest: EntryId) {
        self.rung = Rung::at(newest, Instant::now());
        // Kept for it if it does not sleep just now: a ring that was given is never lost.
        self.unit.bell.notify_one();
    }
}

#[derive(Default)]
struct State {
    ropes: BTreeMap<Inbox, Vec<Rope>>,
    /// What the present blocking read waits for.
    listening: BTreeSet<Inbox>,
    /// The newest entry of each mailbox that was rung for.
    heard: BTreeMap<Inbox, EntryId>,
}

/// The units that want to be woken, by mailbox.
#[derive(Default)]
pub struct Bell {
    state: Mutex<State>,
    /// There is a mailbox that nobody listens to yet.
    unheard: Notify,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `unit` from now on.
    pub fn add(&self, unit: &Arc<Unit>) {
        let mut state = self.lock();
        let inbox = unit.lease.inbox();
        let mut rope = Rope { unit: unit.clone(), rung: Rung::default() };
        if state.listening.contains(&inbox) {
            // What was rung between its first look and now has found nobody.
            rope.pull(state.heard.get(&inbox).copied().unwrap_or(EntryId::ZERO));
        } else {
            self.unheard.notify_one();
        }
        state.ropes.entry(inbox).or_default().push(rope);
    }

    /// Wakes it no longer.
    pub fn remove(&self, owner: &RandomId) {
        let ropes = &mut self.lock().ropes;
        ropes.values_mut().for_each(|units| units.retain(|rope| rope.unit.lease.held().owner != *owner));
        ropes.retain(|_, units| !units.is_empty());
    }

    /// Takes note of what a beat saw in the mailbox of a unit that slept when the beat began, and wakes it if it should
    /// have been: what waits there is not what it was woken for, or it was woken for it `again` ago and it still waits.
    /// So a mailbox that is not empty gets one real read in that time, and an empty one needs none.
    pub fn look(&self, unit: &Unit, mail: &MailSeen, again: Duration) {
        let mut state = self.lock();
        let (inbox, owner) = (unit.lease.inbox(), unit.lease.held().owner);
        // The blocking read waits for larger ids only. A false alarm costs it one answer more.
        if let Some(heard) = state.heard.get_mut(&inbox) {
            *heard = mail.last.min(*heard);
        }
        let mut ropes = state.ropes.get_mut(&inbox).into_iter().flatten();
        let Some(rope) = ropes.find(|rope| rope.unit.lease.held().owner == owner) else { return };
        if rope.rung.wakes(mail, Instant::now(), again) {
            rope.pull(mail.last);
        }
    }

    fn ring(&self, inbox: &Inbox, newest: EntryId) {
        let mut state = self.lock();
        state.heard.insert(inbox.clone(), newest);
        state.ropes.get_mut(inbox).into_iter().flatten().for_each(|rope| rope.pull(newest));
    }

    /// The mailboxes to listen to, each with what has been heard of it; listened to from now on. With `afresh`
    /// everything is to be heard again.
    fn wanted(&self, afresh: bool) -> Vec<(Inbox, EntryId)> {
        let state = &mut *self.lock();
        state.listening = state.ropes.keys().cloned().collect();
        state.heard.retain(|inbox, _| !afresh && state.listening.contains(inbox));
        let heard = |inbox: &Inbox| state.heard.get(inbox).copied().unwrap_or(EntryId::ZERO);
        state.listening.iter().map(|inbox| (inbox.clone(), heard(inbox))).collect()
    }

    /// Listens until the node ends.
    pub async fn listen(self: Arc<Self>, store: Store, mut link: Link) {
        let mut connects = 0;
        loop {
            // After a failover ids may be smaller than those heard before: hear everything again.
            let now = link.health().connects_total.load(Ordering::Relaxed);
            let wanted = self.wanted(std::mem::replace(&mut connects, now) != now);
            if wanted.is_empty() {
                self.unheard.notified().await;
                continue;
            }
            let rung = tokio::select! {
                rung = store.wait_for_mail(&link, &wanted) => rung,
                () = self.unheard.notified() => {
                    // A blocking read cannot be called off, but its connection can be left.
                    link = link.sibling(Class::Bell);
                    tokio::time::sleep(GATHER).await;
                    continue;
                }
            };
            match rung {
                Ok(rung) => rung.into_iter().for_each(|(place, newest)| self.ring(&wanted[place].0, newest)),
                Err(error) => {
                    tracing::debug!(%error, "the bell cannot listen");
                    tokio::time::sleep(link.options().bell_block).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 1 }
    }

    #[test]
    fn a_unit_is_woken_for_what_it_was_not_woken_for_and_once_a_lease_for_what_still_waits() {
        let (again, begun) = (Duration::from_secs(3), Instant::now());
        let waits = |ms| MailSeen { last: id(ms), waits: true };
        let mut rung = Rung::default();
        assert!(rung.wakes(&waits(100), begun, again), "its ring was lost");
        rung = Rung::at(id(100), begun);
        assert!(!rung.wakes(&waits(100), begun + again / 2, again), "it has been woken");
        assert!(rung.wakes(&waits(101), begun, again));
        assert!(rung.wakes(&waits(20), begun, again), "smaller, after a failover");
        assert!(rung.wakes(&waits(100), begun + again, again), "one real read a lease");
        assert!(!rung.wakes(&MailSeen { last: id(100), waits: false }, begun, again));
        assert!(rung.wakes(&waits(100), begun, again), "given out again, after the mailbox was empty");
    }
}
