//! How a one-shot command reaches Redis: with little patience, and never by starting a server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::exit::Exit;
use crate::config::Settings;
use crate::ids::{Address, PipelineId, RandomId, UnitId};
use crate::store::link::{Class, Health, Link, Patience};
use crate::store::options::{Place, StoreOptions};
use crate::store::{Store, StoreError};
use crate::supervisor::wiring;

/// A command of people gives up after so long; a failover of Redis with a good set-up is shorter.
const PATIENCE: Duration = Duration::from_secs(3);
/// The patience of one that looks again and again: the sooner it can say that Redis is away.
const PATIENCE_OF_A_LOOK: Duration = Duration::from_secs(1);
/// Longest pause between two tries, so that the patience is kept to.
const PAUSE_MAX: Duration = Duration::from_millis(300);
/// Names of what exists that one error shows.
const NAMES_MAX: usize = 20;

/// What a one-shot command works with.
pub struct Reach {
    /// The configuration.
    pub settings: Settings,
    /// Reads and sends; holds nothing.
    pub store: Store,
    /// The connection.
    pub link: Link,
}

impl Reach {
    /// Prepares the connection; 3 at once where a managed Redis was never started.
    pub fn new(settings: Settings) -> Result<Self, Exit> {
        Self::prepare(settings).map_err(|words| Exit::out_of_reach(&words))
    }

    /// As [`Reach::new`], with the words instead of their end.
    pub fn prepare(settings: Settings) -> Result<Self, String> {
        let mut options = StoreOptions::from_settings(&settings, false);
        options.reconnect_max = options.reconnect_max.min(PAUSE_MAX);
        options.reconnect_min = options.reconnect_min.min(PAUSE_MAX);
        options.connect_timeout = options.connect_timeout.min(PATIENCE);
        options.command_timeout = options.command_timeout.min(PATIENCE);
        if let Some(words) = no_managed(&options) {
            return Err(words);
        }
        let link = Link::new(Arc::new(options), Arc::new(Health::default()), Class::Command, Patience::For(PATIENCE));
        let store = Store::new(&settings.redis.prefix, &settings.node.name, RandomId::default());
        Ok(Self { settings, store, link })
    }

    /// For a command that asks again and again by itself.
    pub fn for_repeated_looks(mut self) -> Self {
        self.link = self.link.with_patience(Patience::For(PATIENCE_OF_A_LOOK));
        self
    }

    /// The actor of this address, which has a mailbox, or a refusal that lists those that exist.
    pub fn address(&self, text: &str) -> Result<Address, Exit> {
        let addresses = wiring::addresses(&self.settings);
        let found = addresses.iter().find(|address| address.to_string() == text).cloned();
        let found = found.or_else(|| elsewhere(&addresses, text));
        if let Some(address) = found.as_ref().filter(|address| !wiring::has_mailbox(address)) {
            return Err(Exit::usage(&format!(
                "{address} has no mailbox: it reads the lines of its pipeline; its figures: gapless logs status"
            )));
        }
        let addresses = addresses.into_iter().filter(wiring::has_mailbox).collect::<Vec<_>>();
        found.ok_or_else(|| unknown("actor", text, addresses.iter().map(ToString::to_string)))
    }

    /// The pipeline of this name, or a refusal that lists those that exist.
    pub fn pipeline(&self, text: &str) -> Result<PipelineId, Exit> {
        let pipelines = self.settings.pipelines();
        let found = pipelines.iter().find(|pipeline| pipeline.to_string() == text).cloned();
        found.ok_or_else(|| unknown("pipeline", text, pipelines.iter().map(ToString::to_string)))
    }

    /// The unit of this name, or a refusal that lists those that exist.
    pub fn unit(&self, text: &str) -> Result<UnitId, Exit> {
        let units = wiring::units(&self.settings);
        let found = units.iter().find(|unit| unit.to_string() == text).cloned();
        let found = found.or_else(|| {
            let address = elsewhere(&wiring::addresses(&self.settings), text)?;
            Some(UnitId::exclusive(&address.pipeline, &address.actor))
        });
        found.ok_or_else(|| unknown("unit", text, units.iter().map(ToString::to_string)))
    }
}

/// The actor that another host has of a pipeline where each host has one.
fn elsewhere(addresses: &[Address], text: &str) -> Option<Address> {
    let address: Address = text.parse().ok()?;
    addresses.iter().any(|own| own.host().is_some() && address.is_of_all_hosts_of(own)).then_some(address)
}

fn no_managed(options: &StoreOptions) -> Option<String> {
    match &options.place {
        Place::Server(_) => None,
        Place::Managed(managed) => managed.locate().is_err().then(|| {
            let folder = managed.folder().display();
            format!("no managed redis in {folder}: start a node first: gapless run")
        }),
    }
}

fn unknown(what: &str, text: &str, names: impl ExactSizeIterator<Item = String>) -> Exit {
    let more = names.len().saturating_sub(NAMES_MAX);
    let shown: Vec<String> = names.take(NAMES_MAX).collect();
    let list = match (shown.is_empty(), more) {
        (true, _) => "no pipeline is configured; name a file with --config".to_owned(),
        (false, 0) => format!("there is: {}", shown.join(", ")),
        (false, more) => format!("there is: {} and {more} more", shown.join(", ")),
    };
    Exit::usage(&format!("there is no {what} `{}`; {list}", text.escape_debug()))
}

/// Runs a command to its end on this thread.
pub fn block_on<F: Future<Output = Result<Exit, StoreError>>>(command: F) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::usage(&format!("cannot start: {error}")),
    };
    runtime.block_on(command).unwrap_or_else(|error| Exit::store(&error))
}
