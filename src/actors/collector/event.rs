//! What a reorganisation tells whoever listens: published inside the commit that follows it. Pure.

use serde::Serialize;

use super::window::{Reorg, Window};
use crate::ids::PipelineId;
use crate::messages::block::BlockHash;
use crate::messages::heights::Height;

/// Orphans that one event lists, lowest first; `from` and `top` name all of them.
const ORPHANS_MAX: usize = 64;

#[derive(Serialize)]
struct Event<'a> {
    pipeline: String,
    from: Height,
    top: Height,
    ancestor_hash: Option<&'a BlockHash>,
    orphans: Vec<Orphan<'a>>,
}

#[derive(Serialize)]
struct Orphan<'a> {
    height: Height,
    hash: &'a BlockHash,
}

/// The event as JSON; `window` is the one that the blocks leave.
pub(super) fn reorg(pipeline: &PipelineId, reorg: &Reorg, window: &Window) -> Result<Vec<u8>, serde_json::Error> {
    let orphans = window.above(reorg.from).map(|(height, hash)| Orphan { height, hash }).take(ORPHANS_MAX).collect();
    let (pipeline, ancestor_hash) = (pipeline.to_string(), reorg.below.as_ref());
    serde_json::to_vec(&Event { pipeline, from: reorg.from, top: reorg.top, ancestor_hash, orphans })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Kind;

    #[test]
    fn an_event_lists_the_orphans_and_is_bounded() {
        let hash = |height: u64| BlockHash::new(&format!("h{height}")).expect("a hash");
        let window = Window { lowest: 0, hashes: (0..200).map(hash).collect(), parent: None };
        let pipeline = PipelineId::new(Kind::Blocks, "main");
        let json = |from| {
            let left = Reorg { from, top: 199, below: Some(hash(from - 1)) };
            let event = reorg(&pipeline, &left, &window).expect("an event");
            serde_json::from_slice::<serde_json::Value>(&event).expect("JSON")
        };
        let expected = serde_json::json!({
            "pipeline": "blocks.main", "from": 198, "top": 199, "ancestor_hash": "h197",
            "orphans": [{ "height": 198, "hash": "h198" }, { "height": 199, "hash": "h199" }],
        });
        assert_eq!(json(198), expected);
        let orphans = json(10)["orphans"].as_array().expect("a list").clone();
        assert_eq!((orphans.len(), &orphans[0]["height"]), (ORPHANS_MAX, &serde_json::json!(10)));
    }
}
