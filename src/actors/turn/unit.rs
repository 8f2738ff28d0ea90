//! What an actor holds of the runtime: its lease, its typed mailbox, its commit, and the proof that it works.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::Turn;
use super::crash::{self, CrashPoint};
use super::error::Error;
use super::message::parse;
use crate::ids::{Address, EntryId, PipelineId};
use crate::store::effect::{Ack, Commit, Effect, Fields};
use crate::store::lease::{Committed, Delivery, Lease};
use crate::store::{Entry, StoreError};
use crate::telemetry::metrics::{ActorLabels, CommitLabels, Metrics};

/// Why a unit's actor ended, as it says itself; a panic or a cut leaves none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to stop, and did between two turns.
    Drained,
    /// Another holder or another history: acquire again.
    Reload(String),
    /// A fault; counts against the entry in hand.
    Failed(String),
    /// Not to be tried again before the cool-down.
    GivenUp(String),
    /// The node must not go on.
    StopNode(String),
}

/// The longest pause before an entry whose holder has vanished twice; grows by as much each time.
const VANISHED_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const VANISHED_PAUSE_MAX: Duration = Duration::from_secs(1);

/// One unit on this node, between one acquisition and its end.
///
/// Keeps G11: an entry that cannot be read, or that fails too often, is set aside with its reason; it is never dropped
/// in silence and never stops the others.
pub struct Unit {
    /// The lease that its turns commit under.
    pub lease: Lease,
    /// Where its figures go.
    pub metrics: Arc<Metrics>,
    /// How long it sleeps when nothing waits and nobody wakes it.
    pub idle_poll: Duration,
    /// Rung when its mailbox has news, and when it is to drain.
    pub bell: Notify,
    asleep: AtomicBool,
    draining: AtomicBool,
    in_turn: AtomicBool,
    progress: AtomicU64,
    asking: AtomicU32,
    exit: Mutex<Option<Exit>>,
    outside: AtomicU32,
    waits: AtomicU64,
    waiting: Mutex<Option<String>>,
}

/// Messages claimed for one turn.
#[derive(Debug, Clone)]
pub struct Claimed<M> {
    /// The messages, in order, each with the id of its entry.
    pub messages: Vec<(EntryId, M)>,
    /// Acknowledges exactly these.
    pub ack: Ack,
    /// Nothing waits in a pool, but an entry that was put off comes again after so long.
    pub next: Option<Duration>,
}

impl<M> Claimed<M> {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How the turn ends that found nothing waiting.
    pub fn idle(&self, unit: &Unit) -> Turn {
        self.next.map_or(Turn::Idle, |next| Turn::IdleFor(next.min(unit.idle_poll)))
    }
}

impl Unit {
    /// A unit that has just been acquired.
    pub fn new(lease: Lease, metrics: Arc<Metrics>, idle_poll: Duration) -> Arc<Self> {
        Arc::new(Self {
            lease,
            metrics,
            idle_poll,
            bell: Notify::new(),
            asleep: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            // Until its first turn ends it is under way: an actor that hangs before that must be seen too.
            in_turn: AtomicBool::new(true),
            progress: AtomicU64::new(0),
            asking: AtomicU32::new(0),
            exit: Mutex::new(None),
            outside: AtomicU32::new(0),
            waits: AtomicU64::new(0),
            waiting: Mutex::new(None),
        })
    }

    /// The job that it belongs to.
    pub fn pipeline(&self) -> &PipelineId {
        &self.lease.unit().pipeline
    }

    /// The mailbox of another actor of the same pipeline.
    pub fn address(&self, actor: &str) -> Address {
        Address::new(self.pipeline(), actor)
    }

    /// Labels of its metrics.
    pub fn labels(&self) -> ActorLabels {
        ActorLabels { pipeline: self.pipeline().to_string(), actor: self.lease.unit().actor.clone() }
    }

    /// Proves that the turn still gets on; called between the steps of long work.
    pub fn progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// What the watchdog looks at: whether a turn is under way that waits for nothing but itself, and a number that
    /// moves while it gets on. A turn that waits for Redis is not to blame, even while other connections work.
    pub fn watched(&self) -> (bool, u64) {
        let waits = self.asking.load(Ordering::Relaxed) > 0 || self.lease.link().is_waiting();
        (self.in_turn.load(Ordering::Relaxed) && !waits, self.progress.load(Ordering::Relaxed))
    }

    /// Whether it sleeps until its mailbox has news: then the beat looks there too.
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    pub(super) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
    }

    /// Waits for Redis, which has deadlines of its own.
    async fn asking<T>(&self, request: impl Future<Output = T>) -> T {
        struct Asked<'a>(&'a AtomicU32);
        impl Drop for Asked<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.asking.fetch_add(1, Ordering::Relaxed);
        let _asked = Asked(&self.asking);
        request.await
    }

    /// Waits until the last commit is kept as `redis.durability` asks; see [`Lease::confirmed`].
    pub(super) async fn confirmed(&self) -> Result<(), StoreError> {
        self.asking(self.lease.confirmed()).await
    }

    pub(super) fn enter_turn(&self) {
        self.progress();
        self.in_turn.store(true, Ordering::Relaxed);
    }

    pub(super) fn leave_turn(&self) {
        self.progress();
        self.in_turn.store(false, Ordering::Relaxed);
    }

    /// Asks it to stop between two turns.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.bell.notify_one();
    }

    /// Whether it was asked to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Ends the unit before it began: what it needs cannot be made.
    pub fn give_up(&self, reason: String) {
        self.set_exit(Exit::GivenUp(reason));
    }

    pub(super) fn set_exit(&self, exit: Exit) {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
    }

    /// Why it ended, if it could say.
    pub fn exit(&self) -> Option<Exit> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pauses for the world in a row; the next pause is longer.
    pub(super) fn waits_next(&self) -> u64 {
        self.waits.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn waits_reset(&self) {
        let waits = self.waits.swap(0, Ordering::Relaxed);
        if waits > super::WAITS_UNTIL_NEWS {
            tracing::info!(unit = %self.lease.unit(), "working again");
        }
        if waits > 0 {
            self.set_waiting(None);
        }
    }

    pub(super) fn set_waiting(&self, reason: Option<String>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// What it waits for, if the world keeps it waiting.
    pub fn waiting(&self) -> Option<String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the world outside Redis: a source, a disk. If that hangs, the turn is cut all the same, but it counts
    /// nothing against the entry in hand.
    pub async fn outside<T>(&self, call: impl Future<Output = T>) -> T {
        self.progress();
        self.outside.fetch_add(1, Ordering::Relaxed);
        let answer = call.await;
        // Not where it is cut: what it waited for then is asked afterwards.
        self.outside.fetch_sub(1, Ordering::Relaxed);
        self.progress();
        answer
    }

    /// Whether it waits for the world outside Redis, or did when it was cut.
    pub fn is_outside(&self) -> bool {
        self.outside.load(Ordering::Relaxed) > 0
    }

    /// Passes a named point of the turn.
    pub async fn point(&self, point: CrashPoint) {
        crash::pass(point, self.lease.unit(), &self.metrics).await;
    }

    /// Claims the messages that wait. An entry that cannot be read, or that has used up its attempts, is set aside
    /// first, alone, in a commit of its own; `bury` names what must happen in that same commit.
    pub async fn claim<M: DeserializeOwned>(
        &self,
        bury: impl Fn(Option<&M>, &str) -> Vec<Effect>,
    ) -> Result<Claimed<M>, Error> {
        loop {
            let delivery = self.delivery().await?;
            let Some(first) = delivery.entries.first() else {
                let next = delivery.next_ms.map(Duration::from_millis);
                return Ok(Claimed { messages: Vec::new(), ack: Ack::Nothing, next });
            };
            let parsed = parse::<M>(first);
            let malformed = parsed.as_ref().err().map(|reason| format!("malformed: {reason}"));
            let reason = malformed.or_else(|| self.has_used_up(&delivery));
            let Some(reason) = reason else {
                self.let_others_go_first(delivery.unfinished).await;
                return Ok(readable(&delivery));
            };
            self.bury(first, &delivery, &reason, bury(parsed.as_ref().ok(), &reason)).await?;
        }
    }

    /// Claims the entries that wait as they are; none if nothing waits. The second is why the first of them must be set
    /// aside alone, in the commit of this turn: it has used up its attempts.
    pub async fn claim_entries(&self) -> Result<(Arc<Delivery>, Option<String>), Error> {
        let delivery = self.delivery().await?;
        let reason = self.has_used_up(&delivery).filter(|_| !delivery.entries.is_empty());
        if reason.is_none() {
            self.let_others_go_first(delivery.unfinished).await;
        }
        Ok((delivery, reason))
    }

    async fn delivery(&self) -> Result<Arc<Delivery>, Error> {
        let delivery = self.asking(self.lease.claim()).await?;
        self.progress();
        if !delivery.entries.is_empty() {
            self.point(CrashPoint::AfterClaim).await;
        }
        Ok(delivery)
    }

    /// Why the first entry is not to be tried again, if that is so.
    fn has_used_up(&self, delivery: &Delivery) -> Option<String> {
        let limits = &self.lease.link().options().limits;
        if delivery.failed >= limits.failed_attempts_max {
            return Some(format!("{} failed attempts, the last: {}", delivery.failed, delivery.fault));
        }
        let vanished = delivery.unfinished >= limits.unfinished_attempts_max;
        vanished.then(|| format!("{} attempts whose holder vanished", delivery.unfinished))
    }

    /// An entry that ends its process takes what the neighbours have in hand along, and those count an attempt too. Where
    /// all of them began again at the same moment it would win each time. So whoever vanished more than once waits a
    /// random moment, and the innocent ones get through.
    async fn let_others_go_first(&self, unfinished: u64) {
        let Some(more) = unfinished.checked_sub(1).filter(|more| *more > 0) else { return };
        let longest = VANISHED_PAUSE.saturating_mul(u32::try_from(more).unwrap_or(u32::MAX)).min(VANISHED_PAUSE_MAX);
        let nap = tokio::time::sleep(longest.mul_f64(rand::random_range(0.0..=1.0)));
        tokio::pin!(nap);
        // A node that drains does not wait; nor is the pause a hang.
        let waits = async {
            while !self.is_draining() {
                tokio::select! {
                    () = &mut nap => break,
                    () = self.bell.notified() => {}
                }
            }
        };
        self.asking(waits).await;
        self.progress();
    }

    async fn bury(&self, entry: &Entry, past: &Delivery, reason: &str, more: Vec<Effect>) -> Result<(), Error> {
        let unit = self.lease.unit();
        tracing::error!(%unit, entry = %entry.id, reason, "entry set aside");
        let mut fields: Fields = entry.fields.clone();
        let notes = [
            ("dead.reason", reason.to_owned()),
            ("dead.entry", entry.id.to_string()),
            ("dead.unit", unit.to_string()),
            ("dead.failed", past.failed.to_string()),
            ("dead.unfinished", past.unfinished.to_string()),
        ];
        fields.extend(notes.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())));
        let mut effects = vec![Effect::Bury { of: self.address(&unit.actor), fields }];
        effects.extend(more);
        let ack = Ack::Through { last: entry.id, count: 1 };
        self.commit(&Commit { state: None, ack, effects }).await?;
        self.metrics.dead_letters.get_or_create(&self.labels()).inc();
        Ok(())
    }

    /// Makes the turn durable; see [`Lease::commit`].
    pub async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.point(CrashPoint::BeforeCommit).await;
        let started = Instant::now();
        let answer = if crash::is_armed(CrashPoint::CommitUnderWay, self.lease.unit()) {
            self.commit_with_a_point_under_way(commit).await
        } else {
            self.asking(self.lease.commit(commit)).await
        };
        self.count(commit, &answer, started.elapsed());
        self.progress();
        if let Ok(Committed::Before) = answer {
            tracing::info!(unit = %self.lease.unit(), "a commit had been done already; only its answer was lost");
        }
        if answer.is_ok() {
            self.point(CrashPoint::AfterCommit).await;
        }
        answer
    }

    /// Passes the point once the request is in the hands of the connection.
    async fn commit_with_a_point_under_way(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let mut request = pin!(self.lease.commit(commit));
        for _ in 0..3 {
            if let std::task::Poll::Ready(answer) = futures_util::poll!(request.as_mut()) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
        self.point(CrashPoint::CommitUnderWay).await;
        self.asking(request).await
    }

    fn count(&self, commit: &Commit, answer: &Result<Committed, StoreError>, took: Duration) {
        let labels = self.labels();
        self.metrics.commit_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        if let (Ok(_), Ack::Through { count, .. }) = (answer, commit.ack) {
            self.metrics.entries.get_or_create(&labels).inc_by(count);
        }
        let outcome = match answer {
            Ok(Committed::Now) => "ok",
            Ok(Committed::Before) => "dup",
            Err(StoreError::Fenced { .. }) => "fenced",
            Err(StoreError::Moved { .. }) => "moved",
            Err(StoreError::Full { .. }) => "full",
            Err(StoreError::Link { .. }) => "link",
            Err(StoreError::OutOfMemory(_)) => "oom",
            Err(_) => "other",
        };
        let ActorLabels { pipeline, actor } = labels;
        self.metrics.commits.get_or_create(&CommitLabels { pipeline, actor, outcome }).inc();
    }
}

/// The messages up to the first that cannot be read: that one comes first in the next turn.
fn readable<M: DeserializeOwned>(delivery: &Delivery) -> Claimed<M> {
    let messages: Vec<(EntryId, M)> =
        delivery.entries.iter().map_while(|entry| parse(entry).ok().map(|message| (entry.id, message))).collect();
    let ack =
        messages.last().map_or(Ack::Nothing, |(last, _)| Ack::Through { last: *last, count: messages.len() as u64 });
    Claimed { messages, ack, next: None }
}
