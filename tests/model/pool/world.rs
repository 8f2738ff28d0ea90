//! The whole of a pool: two slots, two nodes, a master and its replica, the steps between states.

use super::super::names::fresh;
use super::super::redis::{Fresh, StaleWrite};
use super::super::search::{Model, Move};
use super::names::canonical;
use super::node::Holder;
use super::promises::{Broken, check};
use super::redis::{Redis, SLOTS};
use super::setting::{Bug, Faults, Ids, Poison, Setting};
use super::words::{Reply, Request};

/// One state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub master: Redis,
    /// Some earlier moment of the master's history.
    pub replica: Redis,
    /// By slot, then by node.
    pub holders: [[Holder; 2]; SLOTS],
    /// Nodes whose configuration lacks the last slot.
    pub shrunk: [bool; 2],
    /// The faults that may still happen.
    pub faults: Faults,
}

/// Who and where: the slot and the node, from 0.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub slot: usize,
    pub node: usize,
}

/// What happens between two states.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Asks { task: u8 },
    Acquires(Place),
    Sends(Place, Request),
    Answered(Place, Request, Reply),
    ReplyLost(Place, Request, Reply),
    Hangs(Place, Request),
    RunsLate(Place, Request, Reply),
    Overwrites(Place, Request),
    RenewalDiffers(Place),
    Cut(Place),
    Crashes(Place),
    Panics(Place, u8),
    Killed(Place, u8),
    Expires { slot: usize, paused: bool },
    Shrinks { node: usize },
    ReplicaCatchesUp,
    FailsOver,
}

impl Model for Setting {
    type State = World;
    type Step = Step;
    type Broken = Broken;

    fn initial(&self) -> World {
        let empty = Redis::default();
        let holders = Default::default();
        World { master: empty, replica: empty, holders, shrunk: [false; 2], faults: self.faults }
    }

    fn moves(&self, state: &World, moves: &mut Vec<Move<Self>>) {
        let mut steps = Steps { setting: self, world: *state, fresh: fresh(state), moves };
        steps.asks_for_tasks();
        for slot in 0..SLOTS {
            for node in 0..2 {
                let place = Place { slot, node };
                steps.asks(place);
                steps.requests(place);
                steps.interruptions(place);
            }
            steps.expiry(slot);
        }
        (0..2).for_each(|node| steps.removal(node));
        steps.failover();
    }

    fn canonical(&self, state: &mut World) {
        canonical(self, state);
    }

    fn finished(&self, state: &World) -> bool {
        let asked = (1..=self.tasks).all(|task| state.master.asked & 1 << task != 0);
        asked && state.master.mailbox.is_empty()
    }

    fn is_luck(&self, step: &Step) -> bool {
        match step {
            Step::Asks { .. } | Step::Acquires(_) | Step::Sends(..) | Step::Answered(..) => false,
            Step::RenewalDiffers(_) | Step::Panics(..) | Step::Killed(..) => false,
            Step::Expires { paused, .. } => *paused,
            Step::ReplyLost(..) | Step::Hangs(..) | Step::RunsLate(..) | Step::Overwrites(..) => true,
            Step::Cut(_) | Step::Crashes(_) | Step::Shrinks { .. } | Step::ReplicaCatchesUp | Step::FailsOver => true,
        }
    }
}

/// The steps out of one state.
struct Steps<'a> {
    setting: &'a Setting,
    world: World,
    fresh: Fresh,
    moves: &'a mut Vec<Move<Setting>>,
}

impl Steps<'_> {
    fn push(&mut self, step: Step, after: World) {
        let checked = check(self.setting, &after).map(|()| after);
        self.moves.push((step, checked));
    }

    fn holder(&self, place: Place) -> Holder {
        self.world.holders[place.slot][place.node]
    }

    /// The state after `change` to one holder, with these faults left.
    fn with(&self, place: Place, faults: Faults, change: impl FnOnce(&mut Holder)) -> World {
        let mut after = World { faults, ..self.world };
        change(&mut after.holders[place.slot][place.node]);
        after
    }

    fn has_slot(&self, place: Place) -> bool {
        !(self.world.shrunk[place.node] && place.slot == SLOTS - 1)
    }

    /// GapDetector asks by order, or, where an id may stand for another task after a failover, in any.
    fn asks_for_tasks(&mut self) {
        if self.world.master.mailbox.len() >= self.setting.capacity {
            return;
        }
        let asked = self.world.master.asked;
        let left = (1..=self.setting.tasks).filter(|task| asked & 1 << task == 0);
        let count = if self.setting.ids == Ids::Unique { 1 } else { usize::from(self.setting.tasks) };
        for task in left.take(count) {
            let mut after = self.world;
            after.master.ask(self.setting, self.fresh.entry, task);
            self.push(Step::Asks { task }, after);
        }
    }

    /// A node without a request under way decides what to ask next.
    fn asks(&mut self, place: Place) {
        let holder = self.holder(place);
        if holder.request.is_some() {
            return;
        }
        let Some(grip) = holder.grip else { return self.acquires(place) };
        let shrunk = self.world.shrunk[place.node];
        if let Some(request) = holder.next(self.setting, self.has_slot(place), shrunk, self.fresh.tip) {
            self.sends(place, request, self.world.faults);
        }
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.handovers) {
            self.sends(place, Request::Release { who: grip.who }, faults);
        }
        // A renewal that finds what the holder believes changes nothing in the model.
        let stored = self.world.master.slots[place.slot];
        if stored.owner != grip.who.owner || stored.token != grip.who.token || stored.tip != grip.tip {
            let after = self.with(place, self.world.faults, Holder::drop_grip);
            self.push(Step::RenewalDiffers(place), after);
        }
    }

    fn sends(&mut self, place: Place, request: Request, faults: Faults) {
        let after = self.with(place, faults, |holder| holder.request = Some(request));
        self.push(Step::Sends(place, request), after);
    }

    /// A slot of the configuration is taken when it is free; a removed one only while it owes something.
    fn acquires(&mut self, place: Place) {
        let Holder { previous, failed, .. } = self.holder(place);
        let drains = self.world.master.owes(place.slot)
            && ![Bug::RemovedSlotForgotten, Bug::ClaimsFromRemovedSlot].iter().any(|bug| self.setting.has(*bug));
        if !(self.has_slot(place) || drains) || !self.world.master.is_free(place.slot, previous) {
            return;
        }
        let request = Request::Acquire { incarnation: self.fresh.incarnation, previous, failed, new: self.fresh.tip };
        if self.setting.acquire_in_flight {
            return self.sends(place, request, self.world.faults);
        }
        let mut after = self.world;
        if let Ok(reply) = after.master.run(self.setting, self.fresh, place.slot, request) {
            after.holders[place.slot][place.node].hear(self.setting, request, reply);
            self.push(Step::Acquires(place), after);
        }
    }

    fn requests(&mut self, place: Place) {
        let holder = self.holder(place);
        if let Some(request) = holder.request {
            self.runs(place, request);
            if let Some(faults) =
                spend(self.world.faults, |faults| &mut faults.losses).filter(|_| holder.late.is_none())
            {
                let after = self.with(place, faults, |holder| (holder.late, holder.resent) = (Some(request), true));
                self.push(Step::Hangs(place, request), after);
            }
        }
        if let Some(request) = holder.late {
            let mut after = self.with(place, self.world.faults, |holder| holder.late = None);
            if let Some(reply) = self.script(&mut after, place, request) {
                self.push(Step::RunsLate(place, request, reply), after);
            }
        }
    }

    /// The request runs; its answer arrives, or is lost and the client sends the same again.
    fn runs(&mut self, place: Place, request: Request) {
        let mut after = self.world;
        let Some(reply) = self.script(&mut after, place, request) else { return };
        let mut heard = after;
        heard.holders[place.slot][place.node].hear(self.setting, request, reply);
        self.push(Step::Answered(place, request, reply), heard);
        let changed = after.master != self.world.master;
        if let Some(faults) = spend(after.faults, |faults| &mut faults.losses).filter(|_| changed) {
            after.faults = faults;
            after.holders[place.slot][place.node].resent = true;
            self.push(Step::ReplyLost(place, request, reply), after);
        }
    }

    /// Runs a script in `after`; a stale write is recorded as the broken promise that it is.
    fn script(&mut self, after: &mut World, place: Place, request: Request) -> Option<Reply> {
        match after.master.run(self.setting, self.fresh, place.slot, request) {
            Ok(reply) => Some(reply),
            Err(StaleWrite) => {
                self.moves.push((Step::Overwrites(place, request), Err(Broken::StaleHolder)));
                None
            }
        }
    }

    /// A cut turn, a crash, or what the task in hand does to its handler; what was under way may still run.
    fn interruptions(&mut self, place: Place) {
        let holder = self.holder(place);
        let late = holder.late.or(holder.request);
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.cuts).filter(|_| holder.grip.is_some()) {
            let after = self.with(place, faults, |holder| {
                holder.drop_grip();
                holder.late = late;
            });
            self.push(Step::Cut(place), after);
        }
        let alive = holder.grip.is_some() || holder.request.is_some();
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.crashes).filter(|_| alive) {
            let after = self.with(place, faults, |holder| *holder = holder.dead());
            self.push(Step::Crashes(place), after);
        }
        if holder.request.is_some() {
            return;
        }
        if let Some(task) = holder.broken_by(self.setting, Poison::Panics) {
            let after = self.with(place, self.world.faults, |holder| {
                holder.drop_grip();
                holder.failed = true;
            });
            self.push(Step::Panics(place, task), after);
        }
        if let Some(task) = holder.broken_by(self.setting, Poison::Kills) {
            let after = self.with(place, self.world.faults, |holder| *holder = holder.dead());
            self.push(Step::Killed(place, task), after);
        }
    }

    /// The lease of a vanished holder runs out by itself; that of a living one only if it is paused.
    fn expiry(&mut self, slot: usize) {
        let stored = self.world.master.slots[slot];
        if !stored.leased {
            return;
        }
        // A life between a failed turn and its next acquisition keeps its lease, and is alive.
        let holds = |holder: &Holder| {
            holder.grip.is_some_and(|grip| grip.who.owner == stored.owner)
                || (holder.failed && holder.previous == stored.owner)
        };
        let paused = self.world.holders[slot].iter().any(holds);
        let faults =
            if paused { spend(self.world.faults, |faults| &mut faults.zombies) } else { Some(self.world.faults) };
        if let Some(faults) = faults {
            let mut after = World { faults, ..self.world };
            after.master.slots[slot].leased = false;
            self.push(Step::Expires { slot, paused }, after);
        }
    }

    /// A node dies and comes back without the last slot.
    fn removal(&mut self, node: usize) {
        let faults = spend(self.world.faults, |faults| &mut faults.removals);
        if let Some(faults) = faults.filter(|_| !self.world.shrunk[node]) {
            let mut after = World { faults, ..self.world };
            after.shrunk[node] = true;
            after.holders.iter_mut().for_each(|slot| slot[node] = slot[node].dead());
            self.push(Step::Shrinks { node }, after);
        }
    }

    fn failover(&mut self) {
        let Some(faults) = spend(self.world.faults, |faults| &mut faults.failovers) else { return };
        if self.world.replica == self.world.master {
            return;
        }
        self.push(Step::ReplicaCatchesUp, World { replica: self.world.master, ..self.world });
        let mut after = World { master: self.world.replica, faults, ..self.world };
        if faults.failovers == 0 {
            after.replica = Redis::default();
        }
        if !self.setting.late_outlives_failover {
            after.holders.iter_mut().flatten().for_each(|holder| holder.late = None);
        }
        self.push(Step::FailsOver, after);
    }
}

/// `faults` with one fault of a kind less, if there is one left.
fn spend(mut faults: Faults, kind: impl Fn(&mut Faults) -> &mut u8) -> Option<Faults> {
    let left = kind(&mut faults);
    *left = left.checked_sub(1)?;
    Some(faults)
}
