//! Which units a configuration has: one small function a kind of pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::actors::collector::{Collector, FollowPlan};
use crate::actors::feeder::Feeder;
use crate::actors::gap_detector::{DetectPlan, GapDetector, ViewPlan, Walks};
use crate::actors::gap_fixer::{FixPlan, GapFixer};
use crate::actors::namer::Namer;
use crate::actors::tally::{Planted, Tally};
use crate::actors::turn::{self, Unit};
use crate::config::{BlocksSettings, OnlyFilter, SecretUrl, SeedView, SelftestSettings, Settings, Start};
use crate::ids::{Address, Kind, PipelineId, RandomId, UnitId};
use crate::sinks::{BareNames, BlockFiles};
use crate::sources::hints::{HintOptions, Hints};
use crate::sources::{self, Chain};
use crate::store::lease::Mail;
use crate::store::view::ViewKeys;
use crate::telemetry::endpoints::SourceWatch;

use super::life::{Factory, UnitSpec};
use super::placement::Placement;

/// How soon the detector looks again when it had more to ask for than room.
const DETECT_AGAIN: Duration = Duration::from_millis(200);
/// How long one turn of the Collector goes on to fetch while it stores: a turn that is asked to stop has half a second.
const FOLLOW_AHEAD: Duration = Duration::from_millis(300);
/// The pause before a height that could not be had is tried again; it doubles.
const FIX_PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest such pause. The task waits beside the pool and holds no slot.
const FIX_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long an actor sleeps whose work comes by mail alone: bell and beat wake it, and this is a belt to the braces.
const BY_MAIL: Duration = Duration::from_secs(600);

/// Every actor address of the configuration, in order: what `--only`, `mailbox` and `send` may name.
pub fn addresses(settings: &Settings) -> Vec<Address> {
    let blocks = settings.blocks.iter().flat_map(|(name, section)| {
        let pipeline = PipelineId::new(Kind::Blocks, name);
        let namer = section.bare_names.as_ref().map(|_| "namer");
        let actors = ["collector", "gap_detector", "gap_fixer"].into_iter().chain(namer);
        actors.map(|actor| Address::new(&pipeline, actor)).collect::<Vec<_>>()
    });
    let selftests = settings.selftest.iter().flat_map(|(name, selftest)| {
        let pipeline = PipelineId::new(Kind::Selftest, name);
        let tallies = (0..selftest.actors).map(tally_name);
        std::iter::once("feeder".to_owned())
            .chain(tallies)
            .map(|actor| Address::new(&pipeline, &actor))
            .collect::<Vec<_>>()
    });
    blocks.chain(selftests).collect()
}

/// The slots of each pool of the configuration, by `kind.name/actor`: what a node tells the others of its pools.
pub fn slots(settings: &Settings) -> BTreeMap<String, u32> {
    let pool = |address: Address| Some((address.to_string(), slots_of(settings, &address))).filter(|(_, n)| *n > 0);
    addresses(settings).into_iter().filter_map(pool).collect()
}

/// The slots of an actor; 0 if it is no pool.
fn slots_of(settings: &Settings, address: &Address) -> u32 {
    match address.pipeline.kind {
        Kind::Blocks if address.actor == "gap_fixer" => {
            settings.blocks.get(&address.pipeline.name).map_or(0, |blocks| blocks.slots)
        }
        Kind::Blocks | Kind::Selftest => 0,
    }
}

/// Every unit of the configuration: what is leased. A pool has one for each slot.
pub fn units(settings: &Settings) -> Vec<UnitId> {
    let of = |address: Address| match slots_of(settings, &address) {
        0 => vec![UnitId::exclusive(&address.pipeline, &address.actor)],
        slots => (0..slots).map(|slot| UnitId::slot(&address.pipeline, &address.actor, slot)).collect(),
    };
    addresses(settings).into_iter().flat_map(of).collect()
}

/// Entries that the mailbox of an actor may hold.
pub fn capacity(settings: &Settings, address: &Address) -> u64 {
    match address.pipeline.kind {
        Kind::Blocks if address.actor == "gap_fixer" => {
            settings.blocks.get(&address.pipeline.name).map_or(settings.mailbox.capacity, |b| b.task_capacity)
        }
        Kind::Blocks | Kind::Selftest => settings.mailbox.capacity,
    }
}

/// The actor of a pipeline that reads its source, and takes the orders to pause, resume and rescan.
pub fn source(pipeline: &PipelineId) -> Address {
    let actor = match pipeline.kind {
        Kind::Blocks => "collector",
        Kind::Selftest => "feeder",
    };
    Address::new(pipeline, actor)
}

/// The mailbox of the nth Tally.
pub fn tally_name(n: u32) -> String {
    format!("tally_{n}")
}

/// The units of a self-test pipeline: one Feeder, many Tallies.
pub fn selftest(name: &str, selftest: &SelftestSettings, settings: &Settings) -> Vec<UnitSpec> {
    let pipeline = PipelineId::new(Kind::Selftest, name);
    let tallies: Vec<Address> = (0..selftest.actors).map(|n| Address::new(&pipeline, &tally_name(n))).collect();
    let planted = Planted {
        panic_every: selftest.panic_every.map_or(0, u64::from),
        hang_every: selftest.hang_every.map_or(0, u64::from),
    };
    let (last, batch, capacity) = (selftest.messages, u64::from(selftest.batch), settings.mailbox.capacity);
    let (fed, pause) = (tallies.clone(), selftest.pause);
    let feeder: Factory =
        Arc::new(move |unit| turn::live(Feeder { unit, tallies: fed.clone(), last, batch, pause, capacity }));
    let tally: Factory = Arc::new(move |unit| turn::live(Tally { unit, planted, records: true }));
    let mut specs = vec![exclusive(UnitId::exclusive(&pipeline, "feeder"), feeder, BY_MAIL)];
    specs.extend(tallies.iter().map(|a| exclusive(UnitId::exclusive(&pipeline, &a.actor), tally.clone(), BY_MAIL)));
    specs
}

fn exclusive(id: UnitId, factory: Factory, idle_poll: Duration) -> UnitSpec {
    UnitSpec { id, mail: Mail::Offset, placement: Placement::Exclusive, idle_poll, factory }
}

/// Every unit of the configuration that `only` allows. `stores` holds the open store of each blocks pipeline.
pub fn specs(settings: &Settings, only: &OnlyFilter, stores: &BTreeMap<String, BlockFiles>) -> Vec<UnitSpec> {
    let selftests = settings.selftest.iter().flat_map(|(name, section)| selftest(name, section, settings));
    let blocks = settings.blocks.iter().filter_map(|(name, section)| Some((name, section, stores.get(name)?)));
    let blocks = blocks.flat_map(|(name, section, files)| blocks_units(name, section, files, settings));
    selftests.chain(blocks).filter(|spec| only.allows(&spec.id.pipeline, &spec.id.actor)).collect()
}

/// The units of a blocks pipeline: a Collector, a GapDetector, and the slots of the GapFixer pool.
fn blocks_units(name: &str, section: &BlocksSettings, files: &BlockFiles, settings: &Settings) -> Vec<UnitSpec> {
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
