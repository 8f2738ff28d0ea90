//! Namer under the suite: a unit of work is a held height that has become final. Its world is the folder of the names.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use gapless::actors::namer::Namer;
use gapless::actors::turn::{self, Unit};
use gapless::ids::UnitId;
use gapless::messages::block::Piece;
use gapless::messages::heights::{Height, HeightRange};
use gapless::sinks::BareNames;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Fate, Lease, Mail};

use crate::chain::{World, chain};
use crate::suite::{Site, Subject};

const CONFIRMATIONS: u64 = 10;
/// Of so many heights one is held: each unit is an interval, so that turns have several parts.
const STRIDE: u64 = 3;

pub struct NamerSubject {
    world: World,
    named: u64,
    folder: tempfile::TempDir,
}

impl NamerSubject {
    fn view(&self) -> PathBuf {
        self.folder.path().join("view")
    }
}

/// The JSON without what stands between its words.
fn compact(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let keep = |c: &char| {
        let kept = inside || !c.is_ascii_whitespace();
        inside ^= *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        kept
    };
    text.chars().filter(keep).collect()
}

impl Subject for NamerSubject {
    const ACTOR: &'static str = "namer";

    async fn new(_: &Site) -> Self {
        Self { world: World::new(0), named: 0, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Does what the others do: files are stored, their heights are held, and the head tells that they are final.
    async fn offer(&mut self, site: &Site, units: u64) {
        let heights: Vec<Height> = (self.named..self.named + units).map(|unit| unit * STRIDE).collect();
        let blocks: Vec<_> = heights.iter().map(|height| chain().truth(*height)).collect();
        let pieces = blocks.iter().map(|block| Piece {
            range: HeightRange::one(block.height),
            parent: block.parent.clone(),
            hash: block.hash.clone(),
        });
        let mut effects: Vec<Effect> = pieces.map(Effect::Merge).collect();
        self.world.files.store(blocks.into_iter().map(Into::into).collect()).await.expect("stored");
        self.named += units;
        let head = (self.named - 1) * STRIDE + CONFIRMATIONS;
        effects.push(Effect::Put { field: "head", value: head.to_string() });
        let collector = UnitId::exclusive(&site.pipeline, "collector");
        let lease = Lease::acquire(&site.store, &site.direct, &collector, Mail::Offset, None, &Fate::Clean).await;
        let lease = lease.expect("a free unit");
        lease.commit(&Commit { effects, ..Commit::default() }).await.expect("committed");
        lease.release().await.expect("released");
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        let names = BareNames::new(&self.view(), "", unit.lease.held().owner.as_str());
        let (files, pass) = (self.world.files.clone(), Arc::default());
        turn::live(Namer { unit, files, names, confirmations: CONFIRMATIONS, pass })
    }

    async fn done(&self, _: &Site) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.view()) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.expect("an entry").file_name().into_string().ok());
        let mut heights: Vec<Height> = names.filter_map(|name| name.parse().ok()).collect();
        heights.sort_unstable();
        let line = |height: &Height| {
            let text = std::fs::read_to_string(self.view().join(height.to_string())).expect("a whole file");
            format!("{height} {}", blake3::hash(compact(&text).as_bytes()))
        };
        heights.iter().map(line).collect()
    }

    fn truth(units: u64) -> Vec<String> {
        let line = |height| {
            let raw = String::from_utf8(chain().truth(height).raw.to_vec()).expect("text");
            format!("{height} {}", blake3::hash(compact(&raw).as_bytes()))
        };
        (0..units).map(|unit| line(unit * STRIDE)).collect()
    }

    /// A file stands where the folder should be.
    fn world_down(&self, _: &Site, down: bool) {
        match down {
            true => std::fs::write(self.view(), "in the way").expect("written"),
            false => std::fs::remove_file(self.view()).expect("removed"),
        }
    }
}
