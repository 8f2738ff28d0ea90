//! Held: a real node in a process of its own, timed from when it holds nothing yet to its last block.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Builder;

use super::super::child::Child;
use super::super::follow::follow;
use super::super::server::Server;
use super::super::usage::Figure;
use crate::ids::{Kind, PipelineId, RandomId};
use crate::messages::heights::{Height, HeightRange};
use crate::store::Store;
use crate::store::link::{Class, Health, Link, Patience};
use crate::store::options::StoreOptions;

/// How long a look waits for Redis.
const LOOK_MAX: Duration = Duration::from_secs(600);

/// Which part of a chain a node is timed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything above finality, by the Collector alone.
    Head,
    /// Everything below it, by the pool.
    Past,
}

/// One node, one chain, one Redis.
pub(super) struct Held<'a> {
    pub server: &'a Server,
    /// The chain's address.
    pub chain: &'a str,
    /// Where the node's files go.
    pub folder: &'a Path,
    pub part: Part,
    /// The chain's head.
    pub head: Height,
    /// Blocks above finality.
    pub window: u64,
}

impl Held<'_> {
    /// Runs the node until it holds the part.
    pub fn measure(&self) -> Result<Figure> {
        let (name, only) = match self.part {
            Part::Head => ("head", "blocks.bench/collector"),
            Part::Past => ("past", "blocks.bench"),
        };
        let mut node = Child::node(self.folder, name, &self.configuration(name), &["--only", only])?;
        let options = Arc::new(StoreOptions::at(&self.server.url()));
        let link = Link::new(options, Arc::new(Health::default()), Class::Command, Patience::For(LOOK_MAX));
        let store = Store::new("gapless", "bench", RandomId::default());
        let (pipeline, wanted) = (PipelineId::new(Kind::Blocks, "bench"), self.wanted()?);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        follow(&mut node, wanted.count(), || {
            let held = runtime.block_on(store.held(&link, &pipeline, wanted))?;
            Ok(held.iter().filter_map(|piece| piece.range.intersect(wanted)).map(HeightRange::count).sum())
        })
    }

    fn configuration(&self, name: &str) -> String {
        let (redis, store) = (self.server.url(), self.folder.join(name).join("blocks"));
        format!(
            "[redis]\nurl = \"{redis}\"\n[blocks.bench]\nendpoints = [\"{}\"]\nstart = 0\nstore = \"{}\"\n\
             confirmations = {}\n",
            self.chain,
            store.display(),
            self.window,
        )
    }

    fn wanted(&self) -> Result<HeightRange> {
        let finalized = self.head - self.window;
        let range = match self.part {
            Part::Head => HeightRange::new(finalized + 1, self.head),
            Part::Past => HeightRange::new(0, finalized),
        };
        range.map_err(anyhow::Error::msg)
    }
}
