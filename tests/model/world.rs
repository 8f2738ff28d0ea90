//! The whole: two nodes, a master and its replica, the steps between states.

use super::list::List;
use super::names::{canonical, fresh};
use super::node::{Grip, Holder};
use super::promises::{Broken, check};
use super::redis::{Fresh, RECEIVER, Redis, SENDER, StaleWrite};
use super::search::{Model, Move};
use super::setting::{Bug, Faults, Ids, Setting};
use super::words::{Message, Reply, Request};

/// One state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub master: Redis,
    /// Some earlier moment of the master's history.
    pub replica: Redis,
    /// By unit, then by node.
    pub holders: [[Holder; 2]; 2],
    /// The faults that may still happen.
    pub faults: Faults,
}

/// What happens between two states. Nodes are numbered from 1.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Acquires { unit: usize, node: usize, new: u8 },
    Sends { unit: usize, node: usize, request: Request },
    Answered { unit: usize, node: usize, request: Request, reply: Reply },
    ReplyLost { unit: usize, node: usize, request: Request, reply: Reply },
    Hangs { unit: usize, node: usize, request: Request },
    RunsLate { unit: usize, node: usize, request: Request, reply: Reply },
    Overwrites { unit: usize, node: usize, request: Request },
    RenewalDiffers { unit: usize, node: usize },
    Cut { unit: usize, node: usize },
    Crashes { unit: usize, node: usize },
    Killed { unit: usize, node: usize, message: Message },
    Expires { unit: usize, paused: bool },
    ReplicaCatchesUp,
    FailsOver,
}

impl Model for Setting {
    type State = World;
    type Step = Step;
    type Broken = Broken;

    fn initial(&self) -> World {
        let empty = Redis::default();
        World { master: empty, replica: empty, holders: Default::default(), faults: self.faults }
    }

    fn moves(&self, state: &World, moves: &mut Vec<Move<Self>>) {
        let mut steps = Steps { setting: self, world: *state, fresh: fresh(state), moves };
        for unit in [SENDER, RECEIVER] {
            for node in 0..2 {
                steps.asks(unit, node);
                steps.requests(unit, node);
                steps.interruptions(unit, node);
            }
            steps.expiry(unit);
        }
        steps.failover();
    }

    fn canonical(&self, state: &mut World) {
        canonical(self, state);
    }

    fn finished(&self, state: &World) -> bool {
        state.master.cursor == self.messages && state.master.mailbox.is_empty()
    }

    fn is_luck(&self, step: &Step) -> bool {
        match step {
            Step::Acquires { .. } | Step::Sends { .. } | Step::Answered { .. } => false,
            Step::RenewalDiffers { .. } | Step::Killed { .. } => false,
            Step::Expires { paused, .. } => *paused,
            Step::ReplyLost { .. } | Step::Hangs { .. } | Step::RunsLate { .. } | Step::Overwrites { .. } => true,
            Step::Cut { .. } | Step::Crashes { .. } | Step::ReplicaCatchesUp | Step::FailsOver => true,
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
        let checked = check(self.setting, &after.master).map(|()| after);
        self.moves.push((step, checked));
    }

    /// A node without a request under way decides what to ask next.
    fn asks(&mut self, unit: usize, node: usize) {
        let holder = self.world.holders[unit][node];
        if holder.request.is_some() {
            return;
        }
        let Some(grip) = holder.grip else { return self.acquires(unit, node) };
        let mut requests: List<Option<Request>, 4> = List::default();
        let telling = self.telling();
        holder.options(self.setting, unit, self.fresh.tip, telling, &mut |request| requests.push(Some(request)));
        for &request in requests.iter().flatten() {
            self.sends(unit, node, request, self.world.faults);
        }
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.handovers) {
            self.sends(unit, node, Request::Release { who: grip.who, new: self.fresh.tip }, faults);
        }
        self.renews(unit, node, grip);
    }

    fn sends(&mut self, unit: usize, node: usize, request: Request, faults: Faults) {
        let mut after = World { faults, ..self.world };
        after.holders[unit][node].request = Some(request);
        self.push(Step::Sends { unit, node, request }, after);
    }

    fn acquires(&mut self, unit: usize, node: usize) {
        let previous = self.world.holders[unit][node].previous;
        if !self.world.master.is_free(unit, previous) {
            return;
        }
        let request = Request::Acquire { incarnation: self.fresh.incarnation, previous, new: self.fresh.tip };
        if self.setting.acquire_in_flight {
            return self.sends(unit, node, request, self.world.faults);
        }
        let mut after = self.world;
        if let Ok(reply) = after.master.run(self.setting, self.fresh, unit, request) {
            after.holders[unit][node].hear(self.setting, request, reply);
            self.push(Step::Acquires { unit, node, new: self.fresh.tip }, after);
        }
    }

    /// A renewal that finds what the holder believes changes nothing in the model; any other makes it acquire again.
    fn renews(&mut self, unit: usize, node: usize, grip: Grip) {
        let stored = self.world.master.units[unit];
        let same_tip = stored.tip == grip.tip || self.setting.has(Bug::RenewalIgnoresTip);
        if stored.owner != grip.who.owner || stored.token != grip.who.token || !same_tip {
            let mut after = self.world;
            after.holders[unit][node].drop_grip();
            self.push(Step::RenewalDiffers { unit, node }, after);
        }
    }

    fn requests(&mut self, unit: usize, node: usize) {
        let holder = self.world.holders[unit][node];
        if let Some(request) = holder.request {
            self.runs(unit, node, request);
            self.hangs(unit, node, request);
        }
        if let Some(request) = holder.late {
            let mut after = self.world;
            after.holders[unit][node].late = None;
            if let Some(reply) = self.script(&mut after, unit, node, request) {
                self.push(Step::RunsLate { unit, node, request, reply }, after);
            }
        }
    }

    /// The request runs; its answer arrives, or is lost and the client sends the same again.
    fn runs(&mut self, unit: usize, node: usize, request: Request) {
        let mut after = self.world;
        let Some(reply) = self.script(&mut after, unit, node, request) else { return };
        let mut heard = after;
        heard.holders[unit][node].hear(self.setting, request, reply);
        self.push(Step::Answered { unit, node, request, reply }, heard);
        let changed = after.master != self.world.master;
        if let Some(faults) = spend(after.faults, |faults| &mut faults.losses).filter(|_| changed) {
            after.faults = faults;
            after.holders[unit][node].resent = self.setting.distrusts_resent;
            self.push(Step::ReplyLost { unit, node, request, reply }, after);
        }
    }

    /// The request has not run when the client gives up waiting and sends it again; the first copy is still under way.
    fn hangs(&mut self, unit: usize, node: usize, request: Request) {
        let holder = self.world.holders[unit][node];
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.losses).filter(|_| holder.late.is_none()) {
            let mut after = World { faults, ..self.world };
            after.holders[unit][node].late = Some(request);
            after.holders[unit][node].resent = self.setting.distrusts_resent;
            self.push(Step::Hangs { unit, node, request }, after);
        }
    }

    /// Runs a script in `after`; a stale write is recorded as the broken promise that it is.
    fn script(&mut self, after: &mut World, unit: usize, node: usize, request: Request) -> Option<Reply> {
        match after.master.run(self.setting, self.fresh, unit, request) {
            Ok(reply) => Some(reply),
            Err(StaleWrite) => {
                self.moves.push((Step::Overwrites { unit, node, request }, Err(Broken::StaleHolder)));
                None
            }
        }
    }

    /// A cut turn, a crash, or death by the message in hand; what was under way may still run.
    fn interruptions(&mut self, unit: usize, node: usize) {
        let holder = self.world.holders[unit][node];
        let late = holder.late.or(holder.request);
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.cuts).filter(|_| holder.grip.is_some()) {
            let mut after = World { faults, ..self.world };
            after.holders[unit][node].drop_grip();
            after.holders[unit][node].late = late;
            self.push(Step::Cut { unit, node }, after);
        }
        let dead = Holder { late, ..Holder::default() };
        let alive = holder.grip.is_some() || holder.request.is_some();
        if let Some(faults) = spend(self.world.faults, |faults| &mut faults.crashes).filter(|_| alive) {
            let mut after = World { faults, ..self.world };
            after.holders[unit][node] = dead;
            self.push(Step::Crashes { unit, node }, after);
        }
        if let Some(message) = holder.killer(self.setting).filter(|_| holder.request.is_none()) {
            let mut after = self.world;
            after.holders[unit][node] = dead;
            self.push(Step::Killed { unit, node, message }, after);
        }
    }

    /// The lease of a vanished holder runs out by itself; that of a living one only if it is paused.
    fn expiry(&mut self, unit: usize) {
        let stored = self.world.master.units[unit];
        if !stored.leased {
            return;
        }
        let holds = |holder: &Holder| holder.grip.is_some_and(|grip| grip.who.owner == stored.owner);
        let paused = self.world.holders[unit].iter().any(holds);
        let faults =
            if paused { spend(self.world.faults, |faults| &mut faults.zombies) } else { Some(self.world.faults) };
        if let Some(faults) = faults {
            let mut after = World { faults, ..self.world };
            after.master.units[unit].leased = false;
            self.push(Step::Expires { unit, paused }, after);
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

    /// After a failover a sender may read other words from the world; without repeated ids nobody could tell.
    fn telling(&self) -> u8 {
        match self.setting.ids {
            Ids::Unique => 0,
            Ids::MintedAgain => self.setting.faults.failovers - self.world.faults.failovers,
        }
    }
}

/// `faults` with one fault of a kind less, if there is one left.
fn spend(mut faults: Faults, kind: impl Fn(&mut Faults) -> &mut u8) -> Option<Faults> {
    let left = kind(&mut faults);
    *left = left.checked_sub(1)?;
    Some(faults)
}
