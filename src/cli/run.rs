//! `gapless run`: a node, until SIGTERM.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;

use crate::config::{OnlyFilter, Settings};
use crate::http::{self, HttpState};
use crate::ids::RandomId;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::link::{Link, Patience};
use crate::store::membership::NodeInfo;
use crate::store::options::Place;
use crate::supervisor::node::{self, StartError};
use crate::supervisor::{self, Ended, SupervisorOptions, claim, wiring};
use crate::telemetry::metrics::Metrics;

use super::exit::Exit;
use super::handles;
use super::signals::Signals;

/// How long a node that could not start waits for Redis to take its word back.
const LAST_LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// What `run` is told beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `--only`: pipelines and actors.
    pub only: Vec<String>,
    /// `--accept-data-loss`.
    pub accept_data_loss: bool,
}

/// Runs a node on this thread until it is told to stop; answers the exit code.
pub fn run(settings: Settings, options: &RunOptions) -> Exit {
    let only = match OnlyFilter::parse(&options.only, &wiring::addresses(&settings)) {
        Ok(only) => only,
        Err(fault) => return Exit::usage(&fault),
    };
    if let Err(report) = settings.require_pipelines() {
        return Exit::usage(&report.to_string());
    }
    std::panic::set_hook(Box::new(log_panic));
    handles::raise(&settings);
    actix_rt::System::new().block_on(live(settings, only, options.accept_data_loss))
}

/// Of the signals the first drains, the second ends the process at once.
async fn live(settings: Settings, only: OnlyFilter, accept_data_loss: bool) -> Exit {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Exit::usage(&format!("cannot listen for signals: {error}")),
    };
    let settings = Arc::new(settings);
    let metrics = Metrics::new();
    let link = node::link(&settings);
    let started = Arc::new(OnceCell::new());
    if let Some(address) = settings.node.http {
        let listener = match http::bind(address).await {
            Ok(listener) => listener,
            Err(fault) => return Exit::usage(&fault),
        };
        let state = HttpState {
            settings: settings.clone(),
            metrics: metrics.clone(),
            link: link.clone(),
            started: started.clone(),
        };
        actix_rt::spawn(http::serve(listener, state));
    }
    let mut me = describe(&settings, &only);
    let node = me.incarnation.clone();
    let ready = tokio::select! {
        ready = prepare(&settings, &only, &link, accept_data_loss, &mut me) => ready,
        () = signals.next() => {
            tracing::info!("told to stop before redis answered; good-bye");
            withdraw(&settings, &link, &node).await;
            return Exit::good();
        }
    };
    let (store, specs, announced) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            withdraw(&settings, &link, &node).await;
            return refused(&error);
        }
    };
    tracing::info!(node = me.name, incarnation = node.short(), units = specs.len(), "node started");
    let options = SupervisorOptions::from(&*settings);
    drop(announced);
    let (handle, ended) = match supervisor::start(options, store.clone(), &link, metrics, me, specs) {
        Ok(running) => running,
        Err(error) => return Exit::usage(&format!("cannot start the watchdog's thread: {error}")),
    };
    // Set once, here.
    let _ = started.set((store, handle.clone()));
    tokio::pin!(ended);
    let ended = tokio::select! {
        ended = &mut ended => ended,
        () = signals.next() => {
            handle.drain();
            tokio::select! {
                ended = &mut ended => ended,
                () = signals.next() => return Exit::second_signal(),
            }
        }
    };
    match ended {
        Ok(Ended::Drained { others }) => {
            stop_managed(&link, others).await;
            tracing::info!("drained; good-bye");
            Exit::good()
        }
        Ok(Ended::Stopped(reason)) => Exit::usage(&reason),
        // Others live and use a managed redis: it stays.
        Ok(Ended::GaveUp(reason)) => Exit::gave_up(&reason),
        Err(_) => Exit::usage("the supervisor ended unexpectedly"),
    }
}

type Ready = (Store, Vec<supervisor::life::UnitSpec>, claim::Announced);

/// Everything before the first unit: Redis judged, pipelines marked and agreed on, stores of files checked.
async fn prepare(
    settings: &Arc<Settings>,
    only: &OnlyFilter,
    link: &Link,
    accept_data_loss: bool,
    me: &mut NodeInfo,
) -> Result<Ready, StartError> {
    let mut store = node::prepare(settings, link, accept_data_loss).await?;
    for pipeline in settings.pipelines() {
        node::mark(&store, link, &pipeline).await?;
    }
    let announced = claim::agree(settings, &mut store, link, me).await?;
    let stores = match node::open_stores(settings, &store, link, &me.incarnation).await {
        Ok(stores) => stores,
        Err(error) => {
            drop(announced);
            store.leave(link, &me.incarnation).await?;
            return Err(error);
        }
    };
    let specs = wiring::specs(settings, only, &stores);
    Ok((store, specs, announced))
}

fn refused(error: &StartError) -> Exit {
    match error {
        StartError::Store(StoreError::Unreachable { .. }) => Exit::out_of_reach(&error.to_string()),
        StartError::Store(_) | StartError::Refused(_) | StartError::State { .. } => Exit::usage(&error.to_string()),
    }
}

fn describe(settings: &Settings, only: &OnlyFilter) -> NodeInfo {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let runs = wiring::addresses(settings).into_iter().filter(|a| only.allows(&a.pipeline, &a.actor));
    NodeInfo {
        name: settings.node.name.clone(),
        incarnation: RandomId::new(),
        host: settings.node.host.clone(),
        machine: machine(),
        pid: std::process::id(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        format: crate::store::format::newest(),
        http: settings.node.http.map_or_else(String::new, |address| address.to_string()),
        draining: false,
        runs: runs.map(|address| address.to_string()).collect(),
        slots: wiring::slots(settings),
        started_at: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        units: Vec::new(),
        given_up: Vec::new(),
        unready: String::new(),
        configs: BTreeMap::new(),
    }
}

/// What tells two machines from each other that give themselves out as one host: this boot, and the name.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let seen = read("/proc/sys/kernel/random/boot_id") + &read("/proc/sys/kernel/hostname");
    blake3::hash(seen.as_bytes()).to_hex()[..16].to_owned()
}

/// The last node takes the managed server with it; a data set that nobody uses needs no server.
async fn stop_managed(link: &Link, others: usize) {
    if let Place::Managed(managed) = &link.options().place {
        if others > 0 {
            tracing::info!(others, "leaving the managed redis to the other nodes");
            return;
        }
        // What still listens is about to end with this process.
        link.health().close();
        if let Err(reason) = managed.shutdown().await {
            tracing::warn!(error = reason, "the managed redis was not stopped");
        }
    }
}

/// A node that never started leaves no word that it lives, and no server behind that only it has wanted.
async fn withdraw(settings: &Settings, link: &Link, incarnation: &RandomId) {
    let there = match &link.options().place {
        Place::Managed(managed) => managed.is_running().unwrap_or(false),
        Place::Server(_) => !link.health().is_down(),
    };
    if there {
        let link = link.with_patience(Patience::For(LAST_LOOK));
        let store = Store::new(&settings.redis.prefix, &settings.node.name, RandomId::default());
        // Without an answer nobody can tell whether others use it: it stays.
        if let Ok(nodes) = store.leave(&link, incarnation).await {
            stop_managed(&link, nodes.len()).await;
        }
    }
}

/// One log line a panic; the supervisor logs what it does about it.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let text = info.payload();
    let text = text.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| info.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
    let place = info.location().map_or_else(String::new, ToString::to_string);
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    tracing::error!(place, thread, "panic: {text}");
}
