//! The units of a blocks pipeline.

use std::sync::Arc;
use std::time::Duration;

use super::{BY_MAIL, exclusive};
use crate::actors::collector::{Collector, FollowPlan};
use crate::actors::gap_detector::{DetectPlan, GapDetector, ViewPlan, Walks};
use crate::actors::gap_fixer::{FixPlan, GapFixer};
use crate::actors::namer::Namer;
use crate::actors::turn::{self, Unit};
use crate::config::{BlocksSettings, SecretUrl, SeedView, Settings, Start};
use crate::ids::{Kind, PipelineId, RandomId, UnitId};
use crate::sinks::{BareNames, BlockFiles};
use crate::sources::hints::{HintOptions, Hints};
use crate::sources::{self, Chain};
use crate::store::lease::Mail;
use crate::store::view::ViewKeys;
use crate::supervisor::life::{Factory, UnitSpec};
use crate::supervisor::placement::Placement;
use crate::telemetry::endpoints::SourceWatch;
use futures_util::future::LocalBoxFuture;

/// How soon the detector looks again when it had more to ask for than room.
const DETECT_AGAIN: Duration = Duration::from_millis(200);
/// How long one turn of the Collector goes on to fetch while it stores: a turn that is asked to stop has half a second.
const FOLLOW_AHEAD: Duration = Duration::from_millis(300);
/// The pause before a height that could not be had is tried again; it doubles.
const FIX_PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest such pause. The task waits beside the pool and holds no slot.
const FIX_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The units of a blocks pipeline: a Collector, a GapDetector, and the slots of the GapFixer pool.
pub(super) fn units(name: &str, section: &BlocksSettings, files: &BlockFiles, settings: &Settings) -> Vec<UnitSpec> {
    let pipeline = PipelineId::new(Kind::Blocks, name);
    let batch = u64::from(section.batch_heights);
    let follow = FollowPlan {
        start: match section.start {
            Start::Latest => None,
            Start::Height(height) => Some(height),
        },
        end: section.end,
        chain_id: section.chain_id.clone(),
        confirmations: section.confirmations,
        turn: u64::from(section.task_heights),
        batch,
        ahead: FOLLOW_AHEAD,
        poll: section.poll,
        capacity: settings.mailbox.capacity,
    };
    let detect = DetectPlan {
        confirmations: section.confirmations,
        end: section.end,
        task_heights: u64::from(section.task_heights),
        capacity: section.task_capacity,
        request_age: section.request_age,
        again: DETECT_AGAIN,
        rollback_horizon: settings.node.rollback_horizon,
        order: section.order,
        reconcile: section.reconcile,
        parked_retry: section.parked_retry,
        endpoints: endpoints_digest(section),
        view: section.seed_view.as_ref().map(view_plan),
    };
    let fix = FixPlan {
        confirmations: section.confirmations,
        task_heights: u64::from(section.task_heights),
        batch,
        capacity: section.task_capacity,
        tries_max: section.attempts_max,
        pause_min: FIX_PAUSE_MIN,
        pause_max: FIX_PAUSE_MAX,
        endpoints: section.endpoints.len(),
        distrust_for: section.quarantine,
    };
    let (files_1, files_2, files_3) = (files.clone(), files.clone(), files.clone());
    let hints = hints(name, section);
    let collector = with_source(section, move |unit, source| match &hints {
        Ok(hints) => turn::live(Collector::new(unit, source, files_1.clone(), follow.clone(), hints.clone())),
        Err(fault) => {
            let fault = fault.clone();
            Box::pin(async move { unit.give_up(fault) })
        }
    });
    let walks: Arc<Walks> = Arc::default();
    let detector: Factory =
        Arc::new(move |unit| turn::live(GapDetector::new(unit, files_2.clone(), detect.clone(), walks.clone())));
    let fixer = with_source(section, move |unit, source| {
        let (files, plan, suspects) = (files_3.clone(), fix.clone(), Arc::default());
        turn::live(GapFixer { unit, source, files, plan, suspects })
    });
    // These look at what others commit, and at requests that grow old: once a lease.
    let poll = settings.node.lease;
    let mut specs = vec![
        exclusive(UnitId::exclusive(&pipeline, "collector"), collector, poll),
        exclusive(UnitId::exclusive(&pipeline, "gap_detector"), detector, poll),
    ];
    specs.extend(namer(section, files).map(|namer| exclusive(UnitId::exclusive(&pipeline, "namer"), namer, poll)));
    specs.extend((0..section.slots).map(|slot| UnitSpec {
        id: UnitId::slot(&pipeline, "gap_fixer", slot),
        mail: Mail::Pool,
        placement: Placement::Shared,
        idle_poll: BY_MAIL,
        factory: fixer.clone(),
    }));
    specs
}

/// The factory of the Namer, where a folder for it is configured.
fn namer(section: &BlocksSettings, files: &BlockFiles) -> Option<Factory> {
    let folder = section.bare_names.as_ref()?;
    let names = BareNames::new(folder, section.bare_suffix, RandomId::new().as_str());
    let (files, confirmations) = (files.clone(), section.confirmations);
    Some(Arc::new(move |unit| {
        let (files, names) = (files.clone(), names.clone());
        turn::live(Namer { unit, files, names, confirmations, pass: Arc::default() })
    }))
}

fn view_plan(view: &SeedView) -> ViewPlan {
    let keys = ViewKeys { heights: view.blocks_key.clone(), gaps: view.gaps_key.clone() };
    ViewPlan { keys, newest: view.newest, gaps: view.gaps }
}

/// Tells one list of endpoints from another, whatever their order, and tells nobody their secrets.
fn endpoints_digest(section: &BlocksSettings) -> String {
    let mut urls: Vec<&str> = section.endpoints.iter().map(SecretUrl::reveal).collect();
    urls.sort_unstable();
    blake3::hash(urls.join("\n").as_bytes()).to_hex()[..16].to_owned()
}

/// A factory whose actor has a source of its own: its connections live and die with its arbiter.
fn with_source<F>(section: &BlocksSettings, build: F) -> Factory
where
    F: Fn(Arc<Unit>, Chain) -> LocalBoxFuture<'static, ()> + Send + Sync + 'static,
{
    let section = section.clone();
    Arc::new(move |unit| {
        let watch = SourceWatch::new(unit.metrics.clone(), unit.labels().pipeline);
        match sources::open(&section, Some(watch)) {
            Ok(source) => build(unit, source),
            Err(fault) => Box::pin(async move { unit.give_up(fault) }),
        }
    })
}

/// Who pushes the new heads of a pipeline; none if nobody does.
fn hints(name: &str, section: &BlocksSettings) -> Result<Option<Arc<Hints>>, String> {
    if section.hints.is_empty() {
        return Ok(None);
    }
    let options = HintOptions {
        urls: section.hints.iter().map(|url| url.reveal().to_owned()).collect(),
        pipeline: PipelineId::new(Kind::Blocks, name).to_string(),
        silence: section.hint_silence,
        ..HintOptions::default()
    };
    Hints::new(options).map(Some)
}
