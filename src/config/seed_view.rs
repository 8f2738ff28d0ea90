//! The seed's two keys: names outside of the prefix, and nobody's but one pipeline's.

use std::collections::BTreeMap;

use super::section::{Notes, Section};
use super::settings::{BlocksSettings, SeedView};

/// The key that counts what is not in the array; the store writes it.
fn more(gaps_key: &str) -> String {
    format!("{gaps_key}:more")
}

/// Most heights of either key.
const HEIGHTS_MAX: u64 = 100_000;
/// Longest name of a key, in bytes.
const NAME_MAX: usize = 200;

/// The view of one pipeline; none where it is switched off. Its keys are checked all the same.
pub(super) fn seed_view(s: &mut Section<'_>) -> Option<SeedView> {
    let wanted = s.flag("seed_view");
    let view = SeedView {
        newest: s.number("seed_view_newest", 1..=HEIGHTS_MAX, ""),
        gaps: s.number("seed_view_gaps", 1..=HEIGHTS_MAX, ""),
        blocks_key: s.parsed("seed_blocks_key", name).unwrap_or_default(),
        gaps_key: s.parsed("seed_gaps_key", name).unwrap_or_default(),
    };
    if view.blocks_key == view.gaps_key || view.blocks_key == more(&view.gaps_key) {
        let what = "seed_blocks_key must be neither seed_gaps_key nor that name with \":more\" behind it";
        s.pair(["seed_blocks_key", "seed_gaps_key"], what);
    }
    Some(view).filter(|_| wanted)
}

fn name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    let fault = || format!("must be the name of a key in Redis, 1 to {NAME_MAX} bytes without control characters");
    if fits { Ok(text.to_owned()) } else { Err(fault()) }
}

/// Refuses keys below the prefix, where gapless keeps its own, and keys that two pipelines would both write.
pub(super) fn separate(pipelines: &BTreeMap<String, BlocksSettings>, prefix: &str, notes: &mut Notes) {
    let own = format!("{prefix}:");
    let mut taken: BTreeMap<String, &String> = BTreeMap::new();
    for (pipeline, settings) in pipelines {
        let Some(view) = &settings.seed_view else { continue };
        let keys = [
            ("seed_blocks_key", view.blocks_key.clone()),
            ("seed_gaps_key", view.gaps_key.clone()),
            ("seed_gaps_key", more(&view.gaps_key)),
        ];
        for (key, name) in keys {
            let path = format!("blocks.{pipeline}.{key}");
            if name.starts_with(&own) {
                notes.clash(&path, &format!("keys below {own} are gapless's own; choose another name"));
                break;
            }
            if let Some(other) = taken.insert(name, pipeline).filter(|other| *other != pipeline) {
                notes.clash(&path, &format!("blocks.{other} writes this key too; give each pipeline its own"));
                break;
            }
        }
    }
}
