//! Which file names are blocks: those of this store, and bare heights as other collectors write them.

use crate::messages::block::BlockHash;
use crate::messages::heights::{HEIGHT_MAX, Height};

/// Extensions of a block's file; none is one as well.
const BLOCK: [&str; 3] = ["", "json", "json.zst"];
/// Extension of the line beside it.
const META: &str = "meta";
/// Digits that are read at the most: more are no height, however many are zeros.
const DIGITS_MAX: usize = 64;

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// A block of this height.
    Block(Height),
    /// The line beside a block.
    Meta,
    /// Anything else.
    Strange,
}

/// Judges a file name: `HEIGHT-HASH.json`, `HEIGHT-HASH.json.zst`, `HEIGHT-HASH.meta`, or a bare `HEIGHT`,
/// `HEIGHT.json`, `HEIGHT.json.zst`, of any number of digits.
pub(super) fn judge(name: &str) -> Name {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    // `5.` ends with nothing, which is not what a collector writes.
    if name.ends_with('.') {
        return Name::Strange;
    }
    let (digits, hash) = stem.split_once('-').map_or((stem, None), |(digits, hash)| (digits, Some(hash)));
    let Some(height) = height(digits) else { return Name::Strange };
    let hashed = hash.map(|hash| BlockHash::new(hash).is_ok());
    match (hashed, extension) {
        (Some(true), META) => Name::Meta,
        // A block of the store always has its extension.
        (Some(true), "") | (Some(false), _) => Name::Strange,
        (Some(true) | None, extension) if BLOCK.contains(&extension) => Name::Block(height),
        (Some(true) | None, _) => Name::Strange,
    }
}

fn height(digits: &str) -> Option<Height> {
    let plain = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|height| plain && *height <= HEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_this_store_and_bare_heights_are_blocks() {
        for (name, height) in [
            ("0000000020123-0xab.json", 20_123),
            ("0000000020123-0xab.json.zst", 20_123),
            ("1234", 1234),
            ("1234.json", 1234),
            ("1234.json.zst", 1234),
            ("0", 0),
            ("007", 7),
            ("9007199254740991", HEIGHT_MAX),
        ] {
            assert_eq!(judge(name), Name::Block(height), "{name}");
        }
        assert_eq!(judge("0000000020123-0xab.meta"), Name::Meta);
    }

    #[test]
    fn everything_else_is_strange() {
        for name in [
            "",
            ".",
            "..",
            ".json",
            "5.",
            "5.json.",
            "-5",
            "+5",
            "5-",
            "5-.json",
            "5-0xab",
            "5-0x/b.json",
            "5.meta",
            "5.txt",
            "5.json.bak",
            "5 ",
            "٥",
            "9007199254740992",
            "99999999999999999999999999",
            "gapless-store.json",
            "README.md",
        ] {
            assert_eq!(judge(name), Name::Strange, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_judged(name in "\\PC{0,40}|[-+.0-9a-fjmnostz/]{0,80}") {
            if let Name::Block(height) = judge(&name) {
                prop_assert!(height <= HEIGHT_MAX);
                let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
                prop_assert_eq!(digits.parse::<u64>().ok(), Some(height));
            }
        }
    }
}
