//! Heights and hashes as file names, and back.
//!
//! `blocks/<height / 1000, 10 digits>/<height, 13 digits>-<hash>.json`, or `.json.zst` where it is packed, with `.meta`
//! beside it. Zero-padded, so that a plain listing is in order; the hash in the name keeps the two blocks of a reorged height apart.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::messages::block::BlockHash;
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange};

use super::SinkError;
use super::block_form::Form;

/// Heights in one folder: few enough for a quick listing, many enough that a batch syncs one or two folders.
pub(super) const FOLDER_HEIGHTS: u64 = 1_000;

/// Which of the files of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The block, in one of its forms.
    Block(Form),
    /// The line about it.
    Meta,
}

impl Part {
    const ALL: [Part; 3] = [Part::Block(Form::Plain), Part::Block(Form::Zstd), Part::Meta];

    fn extension(self) -> &'static str {
        match self {
            Part::Block(Form::Plain) => "json",
            Part::Block(Form::Zstd) => "json.zst",
            Part::Meta => "meta",
        }
    }
}

/// Which files a block has in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Parts {
    /// Its bytes are there, in one form or in both.
    pub(super) block: bool,
    /// The line about them is there.
    pub(super) meta: bool,
}

/// The blocks of one folder: by height, then by hash.
pub(super) type Listing = BTreeMap<Height, BTreeMap<BlockHash, Parts>>;

/// The files of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockPaths {
    /// The folder of all.
    pub(super) folder: PathBuf,
    /// The bytes as they came.
    pub(super) plain: PathBuf,
    /// The same bytes, packed.
    pub(super) packed: PathBuf,
    /// The line about them.
    pub(super) meta: PathBuf,
}

impl BlockPaths {
    /// The paths below `blocks`. A hash that could lead out of the folder, or a height that no chain has, is refused:
    /// hashes also come from stored JSON, which does not pass [`BlockHash::new`].
    pub(super) fn new(blocks: &Path, height: Height, hash: &BlockHash) -> Result<Self, SinkError> {
        BlockHash::new(hash.as_str()).map_err(|reason| SinkError::refused(blocks, reason))?;
        if height > HEIGHT_MAX {
            return Err(SinkError::refused(blocks, format!("height {height} is above the largest, {HEIGHT_MAX}")));
        }
        let folder = folder_path(blocks, folder_of(height));
        Ok(Self {
            plain: folder.join(file_name(height, hash, Part::Block(Form::Plain))),
            packed: folder.join(file_name(height, hash, Part::Block(Form::Zstd))),
            meta: folder.join(file_name(height, hash, Part::Meta)),
            folder,
        })
    }

    /// The file of a form.
    pub(super) fn of(&self, form: Form) -> &Path {
        match form {
            Form::Plain => &self.plain,
            Form::Zstd => &self.packed,
        }
    }
}

/// The number of the folder that holds `height`.
pub(super) fn folder_of(height: Height) -> u64 {
    height / FOLDER_HEIGHTS
}

/// The heights that belong into a folder.
pub(super) fn folder_range(folder: u64) -> Option<HeightRange> {
    let lo = folder.checked_mul(FOLDER_HEIGHTS)?;
    HeightRange::new(lo, lo.saturating_add(FOLDER_HEIGHTS - 1).min(HEIGHT_MAX)).ok()
}

/// Where a folder lies.
pub(super) fn folder_path(blocks: &Path, folder: u64) -> PathBuf {
    blocks.join(format!("{folder:010}"))
}

fn file_name(height: Height, hash: &BlockHash, part: Part) -> String {
    format!("{height:013}-{hash}.{}", part.extension())
}

/// Reads a file name back; none for every name that this program would not have given.
fn parse_file_name(name: &str) -> Option<(Height, BlockHash, Part)> {
    let (stem, extension) = name.split_once('.')?;
    let part = Part::ALL.into_iter().find(|p| p.extension() == extension)?;
    let (height, hash) = stem.split_once('-')?;
    let height: Height = height.parse().ok().filter(|h| *h <= HEIGHT_MAX)?;
    let hash = BlockHash::new(hash).ok()?;
    // `+5`, `5` and `0000000000005` are the same number but not the same name.
    (file_name(height, &hash, part) == name).then_some((height, hash, part))
}

/// Lists a folder: one pass, no look at any single file. A folder that does not exist is empty; strange names, and
/// heights that belong elsewhere, are passed over (nobody would look for them there).
pub(super) fn list(blocks: &Path, folder: u64) -> Result<Listing, SinkError> {
    let path = folder_path(blocks, folder);
    let fault = |e| SinkError::io("list", &path, e);
    let mut listing = Listing::new();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(listing),
        Err(e) => return Err(fault(e)),
    };
    for entry in entries {
        let name = entry.map_err(fault)?.file_name();
        let Some((height, hash, part)) = name.to_str().and_then(parse_file_name) else { continue };
        if folder_of(height) != folder {
            continue;
        }
        let parts = listing.entry(height).or_default().entry(hash).or_default();
        match part {
            Part::Block(_) => parts.block = true,
            Part::Meta => parts.meta = true,
        }
    }
    Ok(listing)
}

/// The numbers of all folders, ascending.
pub(super) fn folders(blocks: &Path) -> Result<Vec<u64>, SinkError> {
    let fault = |e| SinkError::io("list", blocks, e);
    let mut folders = Vec::new();
    for entry in fs::read_dir(blocks).map_err(fault)? {
        let name = entry.map_err(fault)?.file_name();
        let number = name.to_str().and_then(|n| n.parse::<u64>().ok().filter(|f| format!("{f:010}") == n));
        folders.extend(number);
    }
    folders.sort_unstable();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(text: &str) -> BlockHash {
        BlockHash::new(text).expect("a hash")
    }

    #[test]
    fn a_block_has_the_documented_paths() {
        let paths = BlockPaths::new(Path::new("b"), 20_123_456, &hash("0xab")).expect("paths");
        assert_eq!(paths.plain, Path::new("b/0000020123/0000020123456-0xab.json"));
        assert_eq!(paths.packed, Path::new("b/0000020123/0000020123456-0xab.json.zst"));
        assert_eq!(paths.meta, Path::new("b/0000020123/0000020123456-0xab.meta"));
    }

    #[test]
    fn a_hash_that_leads_elsewhere_never_reaches_the_file_system() {
        assert!(BlockHash::new("../../etc/passwd").is_err());
        // Stored JSON does not pass the constructor.
        for text in ["../x", "a/b", "", ".", "a\u{0}b"] {
            let json = serde_json::to_string(text).expect("JSON");
            let Ok(smuggled) = serde_json::from_str::<BlockHash>(&json) else { continue };
            let refused = BlockPaths::new(Path::new("b"), 1, &smuggled).expect_err("refused");
            assert!(matches!(refused, SinkError::Refused { .. }), "{refused}");
        }
        assert!(BlockPaths::new(Path::new("b"), HEIGHT_MAX + 1, &hash("0xab")).is_err());
    }

    #[test]
    fn names_that_are_not_ours_are_passed_over() {
        for name in [
            "5-0xab.json",
            "+000000000005-0xab.json",
            "0000000000005-0xab.json.bak",
            "0000000000005-.json",
            "0000000000005-0x.ab.json",
            "0000000000005.json",
            "0000000000005-0xab.zst",
            "0000000000005-0xab.json.zst.zst",
            "0000000000005-0xab.meta.zst",
            "9007199254740992-0xab.json",
            "",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn folders_hold_a_thousand_heights_each() {
        let range = |lo, hi| HeightRange::new(lo, hi).ok();
        assert_eq!(folder_range(0), range(0, 999));
        assert_eq!(folder_range(7), range(7_000, 7_999));
        assert_eq!(folder_range(folder_of(HEIGHT_MAX)).map(HeightRange::hi), Some(HEIGHT_MAX));
        assert_eq!(folder_range(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn names_survive_a_round_trip(height in 0..=HEIGHT_MAX, text in "[0-9A-Za-z]{1,128}", part in 0..3usize) {
            let part = Part::ALL[part];
            let name = file_name(height, &hash(&text), part);
            prop_assert_eq!(parse_file_name(&name), Some((height, hash(&text), part)));
        }

        #[test]
        fn any_name_is_judged(name in "\\PC{0,40}|[-+.0-9a-fjmnost/]{0,40}") {
            if let Some((height, hash, part)) = parse_file_name(&name) {
                prop_assert_eq!(file_name(height, &hash, part), name);
            }
        }
    }
}
