//! What one search explores: its size, the faults that may happen, and the bug that is planted in it.

/// How often each fault may happen in one run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Faults {
    /// The master is lost; a replica with an earlier prefix of its history takes over.
    pub failovers: u8,
    /// A reply is lost, or a request hangs on its way and may run much later; the client sends again.
    pub losses: u8,
    /// An actor dies with everything it knows.
    pub crashes: u8,
    /// A holder is paused past its lease, and wakes up without knowing.
    pub zombies: u8,
    /// The supervisor cuts a turn, perhaps with its request under way, and acquires again.
    pub cuts: u8,
    /// A holder gives its unit to another node.
    pub handovers: u8,
}

/// What the server's clock is worth after a failover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// It went on: `max(previous + 1, clock)` gives a token that no history has seen.
    Right,
    /// It is far behind: a token is `previous + 1`, which a lost history may have given out already.
    Behind,
}

/// Which ids a stream gives to its entries after a failover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ids {
    /// Ids that no history has seen.
    Unique,
    /// The successor of the last id that survived: the same ids again, for entries that may tell something else.
    MintedAgain,
}

/// What a poisoned entry does to the one who handles it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poison {
    /// A panic: the node survives and can count it.
    Panics,
    /// The process dies: whoever takes over can count it.
    Kills,
}

/// How many attempts an entry has before it is dead-lettered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Attempts that the surviving holder saw fail.
    pub failed: u8,
    /// Attempts whose holder vanished.
    pub unfinished: u8,
}

/// A known wrong form of the protocol, planted to see that the search finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Scripts do not compare the caller's token and owner with the checkpoint's.
    NoFence,
    /// Scripts compare the token only.
    NoOwner,
    /// Acquiring a unit leaves its tip as it was.
    AcquireLeavesNoTip,
    /// A read moves the offset, as reading new entries of a consumer group does.
    ReadMovesOffset,
    /// A number that rises by one takes the place of the tip.
    Sequence,
    /// A repeated commit delivers entries under the tip of its first run.
    DuplicateDelivers,
    /// A repeated read delivers entries under the tip of its first run.
    RepeatedReadDelivers,
    /// A read that delivers leaves the tip as it was.
    ReadLeavesNoTip,
    /// A dead-letter is not a commit: it checks the fence, but neither `base` nor `new`.
    DeadLetterOutsideTheChain,
    /// A full mailbox refuses every send, also one that comes with as many acknowledgements.
    FullCountsGross,
    /// A renewal does not compare the tip.
    RenewalIgnoresTip,
    /// A commit does not compare its base with the tip.
    NoBaseCheck,
    /// A client that distrusts other resent requests uses the answer to a resent acquisition.
    ResentAcquireIsUsed,
    /// An acquisition counts an unfinished attempt although the holder before it released the unit.
    ReleaseCounts,
    /// A delivery of several entries that came to nothing is made again as it was, not one by one.
    BatchIsServedAgain,
}

/// One search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// How many messages the sender has to send: 1, 2, 3...
    pub messages: u8,
    /// The mailbox is full from this length on.
    pub capacity: usize,
    /// The most messages in a turn, and entries in a delivery.
    pub batch: usize,
    pub faults: Faults,
    pub clock: Clock,
    pub ids: Ids,
    /// An acquisition is a request that can be lost or run late; otherwise it is one step, which saves states.
    pub acquire_in_flight: bool,
    /// A proxy holds requests back and delivers them to the new master after a failover.
    pub late_outlives_failover: bool,
    /// A client that had to send a request again uses nothing of the answer but that it was done.
    pub distrusts_resent: bool,
    /// The message that cannot be handled.
    pub poison: Option<(u8, Poison)>,
    /// Attempts are counted and limited.
    pub limits: Option<Limits>,
    /// The receiver sends each entry once to its own mailbox before it puts it out.
    pub sends_to_itself: bool,
    pub bugs: &'static [Bug],
}

impl Setting {
    /// A small setting without faults.
    pub const CALM: Self = Self {
        messages: 2,
        capacity: 2,
        batch: 2,
        faults: Faults { failovers: 0, losses: 0, crashes: 0, zombies: 0, cuts: 0, handovers: 0 },
        clock: Clock::Right,
        ids: Ids::Unique,
        acquire_in_flight: false,
        late_outlives_failover: false,
        distrusts_resent: false,
        poison: None,
        limits: None,
        sends_to_itself: false,
        bugs: &[],
    };

    /// Whether this bug is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }
}
