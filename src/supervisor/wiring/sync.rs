//! The units of a `sync` pipeline: a scout, and the buckets that copy.

use std::sync::Arc;

use super::exclusive;
use crate::actors::stream_sync::{ROWS_SPARE, SCOUT, StreamSync, SyncPlan, bucket_name};
use crate::actors::sync_scout::{ScoutPlan, SyncScout};
use crate::actors::turn;
use crate::config::{Settings, SyncSettings};
use crate::ids::{Kind, PipelineId, UnitId};
use crate::supervisor::life::{Factory, UnitSpec};

/// The actors of a pipeline, in order.
pub(super) fn actors(section: &SyncSettings) -> impl Iterator<Item = String> {
    std::iter::once(SCOUT.to_owned()).chain((0..section.buckets).map(bucket_name))
}

/// What the scout of a pipeline is told; the commands over it look with the same eyes.
pub fn scout_plan(name: &str, section: &SyncSettings, settings: &Settings) -> ScoutPlan {
    let plan = sync_plan(name, section, 0);
    ScoutPlan {
        source: plan.source(),
        target: plan.target(),
        buckets: (0..section.buckets).map(bucket_name).collect(),
        own_prefix: settings.redis.prefix.clone(),
        capacity: settings.mailbox.capacity,
        rows_max: section.streams_max.saturating_add(ROWS_SPARE),
        settings: section.clone(),
    }
}

/// What a bucket of a pipeline is told.
pub fn sync_plan(name: &str, section: &SyncSettings, bucket: u32) -> SyncPlan {
    SyncPlan { settings: section.clone(), pipeline: PipelineId::new(Kind::Sync, name).to_string(), bucket }
}

/// The units of a pipeline.
pub(super) fn units(name: &str, section: &SyncSettings, settings: &Settings) -> Vec<UnitSpec> {
    let pipeline = PipelineId::new(Kind::Sync, name);
    let idle = section.discover.unwrap_or(super::BY_MAIL);
    let scout = Arc::new(scout_plan(name, section, settings));
    let factory: Factory = Arc::new(move |unit| turn::live(SyncScout::new(unit, scout.clone())));
    let mut specs = vec![exclusive(UnitId::exclusive(&pipeline, SCOUT), factory, idle)];
    specs.extend((0..section.buckets).map(|bucket| {
        let plan = Arc::new(sync_plan(name, section, bucket));
        let factory: Factory = Arc::new(move |unit| turn::live(StreamSync::new(unit, plan.clone())));
        exclusive(UnitId::exclusive(&pipeline, &bucket_name(bucket)), factory, super::BY_MAIL)
    }));
    specs
}
