//! How the fleet stands, as data: what `gapless status --json` prints and `/status` serves. `docs/cli.md` documents it.
//!
//! Reads only: the configuration says which units and mailboxes there are, live nodes add their own, Redis says the rest.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::blocks::blocks_summary;
use super::logs::logs_summary;
use super::sync::sync_summary;
use super::units::{self, UnitStatus};
use crate::config::Settings;
use crate::ids::{Address, Kind, PipelineId, UnitId};
use crate::store::link::Link;
use crate::store::mailbox::Depth;
use crate::store::membership::{GroupReport, NodeInfo};
use crate::store::startup::Server;
use crate::store::status::{round_trip, server_ms};
use crate::store::{Store, StoreError};
use crate::supervisor::wiring;

/// Requests to Redis that one question has under way at the same time.
pub(super) const REQUESTS_MAX: usize = 32;

/// Everything at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Server milliseconds; every age counts from here.
    pub time_ms: u64,
    /// Redis.
    pub redis: RedisStatus,
    /// Live nodes, by name.
    pub nodes: Vec<NodeStatus>,
    /// Pipelines, each summed up.
    pub pipelines: Vec<PipelineStatus>,
    /// What is leased.
    pub units: Vec<UnitStatus>,
    /// Mailboxes, by address.
    pub mailboxes: Vec<MailboxStatus>,
}

/// Redis, as this process reaches it.
#[derive(Debug, Clone, Serialize)]
pub struct RedisStatus {
    /// Without a password.
    pub address: String,
    /// `redis` or `valkey`.
    pub server: String,
    /// As it says itself.
    pub version: String,
    /// One round trip, milliseconds.
    pub round_trip_ms: f64,
    /// Bytes.
    pub memory_used: u64,
    /// Bytes; 0 is no limit.
    pub memory_max: u64,
    /// The id that the first node gave it; none before that.
    pub cluster: Option<String>,
    /// Settings that would lose data, in words.
    pub dangers: Vec<String>,
}

/// One live node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its name; names may repeat.
    pub node: String,
    /// Random, new at each start.
    pub incarnation: String,
    /// The id of its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// The release that it runs.
    pub release: String,
    /// Where it serves HTTP; empty if it does not.
    pub http: String,
    /// `running`, `unready` or `draining`.
    pub state: &'static str,
    /// Milliseconds since its start.
    pub up_ms: u64,
    /// Units that it holds, of those shown.
    pub units: usize,
    /// Why it is not ready, and what follows; empty if it is, or drains.
    pub unready: String,
    /// Pipelines that it gave up as a whole for a while.
    pub given_up: Vec<GroupReport>,
}

/// One mailbox.
#[derive(Debug, Clone, Serialize)]
pub struct MailboxStatus {
    /// `kind.name/actor`.
    pub mailbox: String,
    /// Entries that wait.
    pub waiting: u64,
    /// Entries of a pool that come again later; they take room too.
    pub later: u64,
    /// Milliseconds until the next of those comes; none if there is none.
    pub next_later_ms: Option<u64>,
    /// Entries that senders leave room for.
    pub capacity: u64,
    /// Entries that were ever added; none before the first.
    pub added: Option<u64>,
    /// Milliseconds since the oldest of them was sent; none if nothing waits.
    pub oldest_age_ms: Option<u64>,
    /// Entries set aside.
    pub dead: u64,
    /// Why it cannot be read (its key is of another type); empty if it can.
    pub fault: String,
}

/// One pipeline, summed up.
#[derive(Debug, Clone, Serialize)]
pub struct PipelineStatus {
    /// `kind.name`.
    pub pipeline: String,
    /// Units that it has.
    pub units: usize,
    /// Units that some node holds.
    pub held: usize,
    /// Units that some node gave up for a while, and nobody holds.
    pub failed: usize,
    /// Entries that wait in its mailboxes.
    pub waiting: u64,
    /// Entries set aside.
    pub dead: u64,
    /// What a pipeline of this kind says beside; none if there is nothing.
    pub summary: Option<Summary>,
}

/// What pipelines of one kind say of themselves.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// In one line, for people.
    pub words: String,
    /// The same for programs.
    pub facts: serde_json::Value,
}

/// Asks for everything. Requests go out side by side, at most `REQUESTS_MAX` of them.
pub async fn gather(settings: &Settings, store: &Store, link: &Link) -> Result<Status, StoreError> {
    let time_ms = server_ms(link).await?;
    let nodes = store.nodes(link).await?;
    let known = units::known(settings, &nodes);
    let units = units::gather(store, link, &known, &nodes, time_ms).await?;
    let mailboxes = mailboxes(settings, store, link, &known, time_ms).await?;
    let mut pipelines = Vec::new();
    for pipeline in pipelines_of(settings, &known) {
        let summary = summary(settings, store, link, &pipeline, (&nodes, time_ms)).await?;
        pipelines.push(sum_up(&pipeline, &units, &mailboxes, summary));
    }
    let nodes = nodes.iter().map(|node| node_status(node, &units, time_ms)).collect();
    Ok(Status { time_ms, redis: redis(store, link).await?, nodes, pipelines, units, mailboxes })
}

/// What is known of Redis.
pub async fn redis(store: &Store, link: &Link) -> Result<RedisStatus, StoreError> {
    let server = Server::ask(link).await?;
    let trip = round_trip(link).await?;
    Ok(RedisStatus {
        address: link.options().address(),
        round_trip_ms: (trip.as_secs_f64() * 1e6).round() / 1e3,
        memory_used: server.memory_used,
        memory_max: server.memory_max.parse().unwrap_or(0),
        cluster: store.cluster_id(link).await?.map(|id| id.to_string()),
        dangers: server.dangers().iter().map(ToString::to_string).collect(),
        server: server.name,
        version: server.version,
    })
}

/// The mailboxes of the configuration.
pub async fn configured_mailboxes(
    settings: &Settings,
    store: &Store,
    link: &Link,
) -> Result<Vec<MailboxStatus>, StoreError> {
    mailboxes(settings, store, link, &wiring::units(settings), server_ms(link).await?).await
}

async fn mailboxes(
    settings: &Settings,
    store: &Store,
    link: &Link,
    known: &[UnitId],
    time_ms: u64,
) -> Result<Vec<MailboxStatus>, StoreError> {
    let mut addresses: Vec<Address> = known.iter().map(|unit| Address::new(&unit.pipeline, &unit.actor)).collect();
    // Slots of a pool share one; they stand side by side.
    addresses.dedup();
    addresses.retain(wiring::has_mailbox);
    let each = addresses.into_iter().map(|address| async move {
        let (depth, fault) = match store.depth(link, &address).await {
            Ok(depth) => (depth, String::new()),
            // One broken key must not hide all the others.
            Err(StoreError::Refused { reason, .. }) => (Depth::default(), reason),
            Err(error) => return Err(error),
        };
        let added = if fault.is_empty() { store.added(link, &address).await? } else { None };
        Ok(MailboxStatus {
            mailbox: address.to_string(),
            added,
            waiting: depth.entries,
            later: depth.later,
            next_later_ms: depth.next_ms.map(|due| due.saturating_sub(time_ms)),
            capacity: wiring::capacity(settings, &address),
            oldest_age_ms: depth.oldest.map(|id| time_ms.saturating_sub(id.ms)),
            dead: depth.dead,
            fault,
        })
    });
    stream::iter(each).buffered(REQUESTS_MAX).try_collect().await
}

/// Configured pipelines, and those of other units that live nodes run.
fn pipelines_of(settings: &Settings, known: &[UnitId]) -> Vec<PipelineId> {
    let mut pipelines = settings.pipelines();
    for unit in known {
        if !pipelines.contains(&unit.pipeline) {
            pipelines.push(unit.pipeline.clone());
        }
    }
    pipelines
}

/// What a pipeline of this kind says beside its units and mailboxes.
async fn summary(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
    now: (&[NodeInfo], u64),
) -> Result<Option<Summary>, StoreError> {
    match pipeline.kind {
        Kind::Blocks => blocks_summary(settings, store, link, pipeline).await,
        Kind::Logs => logs_summary(settings, store, link, pipeline, now).await,
        Kind::Sync => sync_summary(settings, store, link, pipeline, now.1).await,
        Kind::Selftest => Ok(None),
    }
}

fn sum_up(
    pipeline: &PipelineId,
    units: &[UnitStatus],
    mailboxes: &[MailboxStatus],
    summary: Option<Summary>,
) -> PipelineStatus {
    let name = pipeline.to_string();
    let units: Vec<&UnitStatus> = units.iter().filter(|unit| unit.pipeline == name).collect();
    let inside = format!("{name}/");
    let mailboxes = mailboxes.iter().filter(|mailbox| mailbox.mailbox.starts_with(&inside));
    let (waiting, dead) = mailboxes.fold((0, 0), |(waiting, dead), m| (waiting + m.waiting, dead + m.dead));
    PipelineStatus {
        units: units.len(),
        held: units.iter().filter(|unit| unit.is_held()).count(),
        failed: units.iter().filter(|unit| unit.has_failed()).count(),
        pipeline: name,
        waiting,
        dead,
        summary,
    }
}

fn node_status(node: &NodeInfo, units: &[UnitStatus], time_ms: u64) -> NodeStatus {
    let started_ms = u64::try_from(node.started_at).unwrap_or(0).saturating_mul(1000);
    NodeStatus {
        node: node.name.clone(),
        incarnation: node.incarnation.to_string(),
        host: node.host.clone(),
        pid: node.pid,
        release: node.release.clone(),
        http: node.http.clone(),
        state: match (node.draining, node.unready.is_empty()) {
            (true, _) => "draining",
            (false, true) => "running",
            (false, false) => "unready",
        },
        unready: node.unready.clone(),
        given_up: node.given_up.clone(),
        up_ms: time_ms.saturating_sub(started_ms),
        units: units.iter().filter(|unit| unit.is_held() && unit.incarnation == node.incarnation.as_str()).count(),
    }
}
