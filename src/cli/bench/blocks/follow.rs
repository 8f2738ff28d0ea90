//! Follow: a real node in a process of its own, timed from when it holds nothing yet to its last block.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::child::Child;
use super::super::node::on_a_runtime;
use super::super::server::Server;
use super::report::Figure;
use crate::ids::{Kind, PipelineId, RandomId};
use crate::messages::heights::{Height, HeightRange};
use crate::store::Store;
use crate::store::link::{Class, Health, Link, Patience};
use crate::store::options::StoreOptions;

/// The longest that a node may take; far more than any machine needs.
const FOLLOW_MAX: Duration = Duration::from_secs(600);
/// Between two looks at how far it is; the error of a time.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Which part of a chain a node is timed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything above finality, by the Collector alone.
    Head,
    /// Everything below it, by the pool.
    Past,
}

/// One node, one chain, one Redis.
pub(super) struct Follow<'a> {
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

impl Follow<'_> {
    /// Runs the node until it holds the part.
    pub fn measure(&self) -> Result<Figure> {
        let (name, only) = match self.part {
            Part::Head => ("head", "blocks.bench/collector"),
            Part::Past => ("past", "blocks.bench"),
        };
        let mut node = Child::node(self.folder, name, &self.configuration(name), &["--only", only])?;
        on_a_runtime(self.watch(&mut node))
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

    /// The first look that shows held blocks starts the clock, and those are not counted: their work came before it.
    /// A part that is whole at that look is timed from the look before.
    async fn watch(&self, node: &mut Child) -> Result<Figure> {
        let options = Arc::new(StoreOptions::at(&self.server.url()));
        let link = Link::new(options, Arc::new(Health::default()), Class::Command, Patience::For(FOLLOW_MAX));
        let store = Store::new("gapless", "bench", RandomId::default());
        let (pipeline, wanted) = (PipelineId::new(Kind::Blocks, "bench"), self.wanted()?);
        let begun = Instant::now();
        let mut from = (begun, 0, node.used());
        loop {
            let held = store.held(&link, &pipeline, wanted).await?;
            let held: u64 = held.iter().filter_map(|piece| piece.range.intersect(wanted)).map(HeightRange::count).sum();
            let now = Instant::now();
            if held == 0 || (from.1 == 0 && held < wanted.count()) {
                from = (now, held, node.used());
            }
            if held == wanted.count() {
                let (end, (at, before, used)) = (node.used(), from);
                return Ok(Figure {
                    blocks: held - before,
                    seconds: now.duration_since(at).as_secs_f64(),
                    cpu: end.cpu - used.cpu,
                    peak_kib: end.peak_kib,
                });
            }
            node.check()?;
            ensure!(begun.elapsed() < FOLLOW_MAX, "only {held} of {} blocks within {FOLLOW_MAX:?}", wanted.count());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
