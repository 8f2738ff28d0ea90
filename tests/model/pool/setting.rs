//! What one search of a pool explores: its size, the faults that may happen, and the bug that is planted in it.

pub use super::super::setting::{Clock, Ids, Limits, Poison};

/// How often each fault may happen in one run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Faults {
    /// The master is lost; a replica with an earlier prefix of its history takes over.
    pub failovers: u8,
    /// A reply is lost, or a request hangs on its way and may run much later; the client sends again.
    pub losses: u8,
    /// The life of one slot on one node ends with everything it knows.
    pub crashes: u8,
    /// A holder is paused past its lease, and wakes up without knowing.
    pub zombies: u8,
    /// The supervisor cuts a turn, perhaps with its request under way, and acquires again.
    pub cuts: u8,
    /// A holder gives its slot back.
    pub handovers: u8,
    /// A node is killed and comes back with a configuration without the last slot.
    pub removals: u8,
}

/// A known wrong form of a pool, planted to see that the search finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Nobody takes the lease of a slot that the configuration no longer has.
    RemovedSlotForgotten,
    /// A node without the slot takes what it owes under the lease of another slot, and asks for no lease.
    ClaimsFromRemovedSlot,
    /// A slot without work of its own is served what others owe.
    PendingServedWithoutLease,
    /// A commit does not ask whether its slot still owes the entry.
    NoPendingCheck,
    /// The entry is acknowledged first, and what it asks for done then.
    AckOutsideCommit,
    /// An entry that is set aside parks nothing.
    DeadLetterWithoutParking,
    /// A release leaves the note of what was being served, which the next acquisition counts.
    ReleaseCounts,
    /// A full mailbox refuses every send, also one that comes with an acknowledgement.
    FullCountsGross,
    /// What is left of a task is not sent on.
    RemainderForgotten,
    /// A repeated request delivers under the tip of its first run.
    RepeatDelivers,
    /// Scripts compare neither token nor owner.
    NoFence,
    /// Acquiring a slot leaves its tip as it was.
    AcquireLeavesNoTip,
    /// A read that delivers leaves the tip as it was.
    ReadLeavesNoTip,
    /// Reading forgets the count of attempts.
    AttemptsForgotten,
}

/// One search: two slots of a pool, two nodes that may hold either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Tasks that are asked for, one after another: 1, 2, 3...
    pub tasks: u8,
    /// Parts of each; a turn holds one and sends the rest on.
    pub parts: u8,
    /// The mailbox is full from this length on.
    pub capacity: usize,
    pub faults: Faults,
    pub clock: Clock,
    /// Where ids are minted again, tasks are asked for in any order: after a failover an id may stand for another one.
    pub ids: Ids,
    /// An acquisition is a request that can be lost or run late; otherwise it is one step, which saves states.
    pub acquire_in_flight: bool,
    /// A proxy holds requests back and delivers them to the new master after a failover.
    pub late_outlives_failover: bool,
    /// A client that had to send a request again uses nothing of the answer but that it was done.
    pub distrusts_resent: bool,
    /// The task that cannot be handled.
    pub poison: Option<(u8, Poison)>,
    /// Attempts are counted and limited.
    pub limits: Option<Limits>,
    pub bugs: &'static [Bug],
}

impl Setting {
    /// A small setting without faults.
    pub const CALM: Self = Self {
        tasks: 2,
        parts: 1,
        capacity: 2,
        faults: Faults { failovers: 0, losses: 0, crashes: 0, zombies: 0, cuts: 0, handovers: 0, removals: 0 },
        clock: Clock::Right,
        ids: Ids::Unique,
        acquire_in_flight: false,
        late_outlives_failover: false,
        distrusts_resent: true,
        poison: None,
        limits: None,
        bugs: &[],
    };

    /// Whether this bug is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }

    /// What a task asks for.
    pub fn all_parts(&self) -> u8 {
        (1 << self.parts) - 1
    }

    /// Whether handling a task does this.
    pub fn is_poison(&self, task: u8, kind: Poison) -> bool {
        self.poison == Some((task, kind))
    }
}
