//! Configuration: files, environment and arguments in, checked [`Settings`] or a report of every fault out.
//!
//! Three steps, each with its own words: `layers` (as written, with the place of every key), `check` and `pipelines`
//! (every key read once, with its range), `settings` (what the program uses). `config/default.toml` is the lowest layer
//! and holds every key.

mod address;
mod check;
mod layers;
mod logs;
mod only;
mod parse;
mod pipelines;
mod redis;
mod redis_url;
mod report;
mod section;
mod seed_view;
mod settings;
mod suggest;
mod sync;

use std::path::{Path, PathBuf};

pub use logs::{Keep, LogStart, LogsSettings};
pub use only::OnlyFilter;
pub use parse::ParseSettings;
pub use redis_url::{HostPort, RedisUrl, Route};
pub use report::ConfigReport;
pub use settings::{
    BlocksSettings, ChainDialect, Durability, FinalityRule, GapOrder, LogFormat, LogSettings, MailboxSettings,
    NodeSettings, OnUnsafe, RedisAddress, RedisSettings, RedisTls, Secret, SecretUrl, SeedView, SelftestSettings,
    Settings, Start, SupervisorSettings,
};
pub use sync::{Deletes, NamedStream, OnTrouble, RedisEnd, SyncMode, SyncSettings};

use layers::Layers;
use section::Notes;

/// Every key with its default.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");
/// The file that is used where it exists and no other is named.
pub const FILE_NAME: &str = "gapless.toml";

/// What the command line says about keys of the configuration; it wins over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--node`.
    pub node_name: Option<String>,
}

/// The files to load: the given ones, or else [`FILE_NAME`] in the working directory, where it exists.
pub fn choose_files(given: &[PathBuf]) -> Vec<PathBuf> {
    let default = Path::new(FILE_NAME);
    if given.is_empty() && default.exists() { vec![default.to_owned()] } else { given.to_vec() }
}

/// The variables of this process. What is not Unicode is replaced by `\u{fffd}`, which no key accepts where it matters,
/// instead of ending the process as [`std::env::vars`] does.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Settings {
    /// Merges the defaults, `files` in order, the variables of `env` that begin with `GAPLESS__`, and `overrides`;
    /// later ones win, key by key, lists as a whole.
    ///
    /// Fails with every fault at once. Reads the files and what `password_file` and `token_file` name; writes nothing.
    pub fn load(
        files: &[PathBuf],
        env: impl Iterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Self, ConfigReport> {
        let mut layers = with_defaults(DEFAULT_TOML);
        for file in files {
            layers.add_file(file);
        }
        layers.add_environment(env);
        if let Some(level) = &overrides.log_level {
            layers.add_argument("--log-level", ["log", "level"], level);
        }
        if let Some(name) = &overrides.node_name {
            layers.add_argument("--node", ["node", "name"], name);
        }
        finish(layers)
    }

    /// The defaults and one file that exists only as text; `name` is what reports call it.
    pub fn from_text(name: &str, text: &str) -> Result<Self, ConfigReport> {
        let mut layers = with_defaults(DEFAULT_TOML);
        layers.add_text(name, text);
        finish(layers)
    }

    /// The defaults with a Redis of the test's own, no HTTP, and the node named `test`; pipelines are added by hand.
    ///
    /// # Panics
    /// When `redis_url` cannot be the address of a Redis.
    pub fn for_tests(redis_url: &str) -> Self {
        let variables = [("REDIS__URL", redis_url), ("NODE__HTTP", ""), ("NODE__NAME", "test")];
        let variables = variables.map(|(key, value)| (format!("GAPLESS__{key}"), value.to_owned()));
        Self::load(&[], variables.into_iter(), Overrides::default()).unwrap_or_else(|report| panic!("{report}"))
    }

    /// Refuses a configuration without a pipeline: a node that runs none collects nothing, in silence.
    pub fn require_pipelines(&self) -> Result<(), ConfigReport> {
        if !self.pipelines().is_empty() {
            return Ok(());
        }
        Err(ConfigReport::one(&format!(
            "no pipeline is configured; name a file with --config, or write one with a table like [blocks.mainnet] to \
             {FILE_NAME} (see config/node.example.toml)"
        )))
    }
}

fn with_defaults(text: &str) -> Layers {
    let mut layers = Layers::default();
    layers.add_text("config/default.toml (compiled in)", text);
    layers
}

fn finish(layers: Layers) -> Result<Settings, ConfigReport> {
    let (merged, places, faults, incomplete) = layers.merge();
    let mut notes = Notes { places, faults, incomplete };
    let settings = check::settings(merged, &mut notes);
    if notes.faults.is_empty() { Ok(settings) } else { Err(ConfigReport::new(notes.faults)) }
}

#[cfg(test)]
mod tests;
