//! A folder, a Redis and a configuration with one or more blocks pipelines.

use std::path::PathBuf;

use crate::oracle;
use crate::support::node::{Workspace, config, poll};
use crate::support::redis::RedisServer;

/// Blocks below the head that may change, in all of these tests.
pub const CONFIRMATIONS: u64 = 10;

pub struct World {
    pub redis: RedisServer,
    pub space: Workspace,
}

/// A pipeline: small and quick, with `more` keys.
pub fn pipeline(name: &str, endpoints: &[&str], start: &str, more: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "[blocks.{name}]\nendpoints = [{}]\nstart = {start}\nstore = \"store-{name}\"\n\
         confirmations = {CONFIRMATIONS}\npoll_ms = 100\nrequest_age_seconds = 2\ntask_heights = 50\n{more}\n",
        endpoints.join(", ")
    )
}

impl World {
    /// A Redis, and a folder whose configuration holds these pipelines.
    pub fn new(pipelines: &str) -> Self {
        let redis = RedisServer::start();
        let space = Workspace::new(&config(&redis.url(), pipelines));
        Self { redis, space }
    }

    /// Replaces the pipelines; nodes read it at their start.
    pub fn configure(&self, pipelines: &str) {
        self.space.write("gapless.toml", &config(&self.redis.url(), pipelines));
    }

    pub fn store(&self, pipeline: &str) -> PathBuf {
        self.space.path().join(format!("store-{pipeline}"))
    }

    /// Waits until these and only these heights are held.
    #[track_caller]
    pub fn wait_held(&self, pipeline: &str, bounds: &[(u64, u64)]) {
        poll(&format!("{bounds:?} to be held"), || (oracle::bounds(&self.redis, pipeline) == bounds).then_some(()));
    }

    /// Waits until the unit has failed, and answers why.
    #[track_caller]
    pub fn wait_failed(&self, unit: &str) -> String {
        poll(&format!("{unit} to fail"), || {
            let status = self.space.run(&["status", "--json"]);
            let status = if status.code == 0 { status.json() } else { return None };
            let units = status["units"].as_array().cloned().unwrap_or_default();
            let failed = units.iter().find(|u| u["unit"] == unit && u["state"] == "failed")?;
            Some(failed["last_error"].as_str().unwrap_or_default().to_owned())
        })
    }
}
