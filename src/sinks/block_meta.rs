//! The line beside each block: its identity and the digest of the bytes that stand under its name.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::messages::block::{BlockHash, BlockRef, Origin};
use crate::messages::heights::Height;

use super::block_form::Form;

/// The longest line that is read; ours are far below.
pub(super) const META_BYTES_MAX: u64 = 16 * 1024;

/// The longest name of an endpoint that is written: in JSON at most six times as long, so that each line can be read.
const ENDPOINT_CHARS_MAX: usize = 500;

/// The BLAKE3 digest of a block's raw bytes; written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(blake3::Hash);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fault = || format!("`{}` is no digest; 64 lower-case hexadecimal digits are expected", text.escape_debug());
        let digest = blake3::Hash::from_hex(&text).map(Self).map_err(|_| fault())?;
        if digest.to_string() == text { Ok(digest) } else { Err(fault()) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// What is known about a stored block; one JSON line. Readers pass over members that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// Its height.
    pub height: Height,
    /// Its own hash.
    pub hash: BlockHash,
    /// The hash of the block below it.
    pub parent: BlockHash,
    /// Seconds since 1970, as the block says.
    pub time: i64,
    /// Size of the raw bytes, as the node sent them.
    pub bytes: u64,
    /// Digest of the raw bytes.
    pub blake3: Digest,
    /// When this line was written (RFC 3339, UTC), by this host's clock; for people only.
    pub stored_at: String,
    /// The endpoint that sent these bytes, without credentials. None in lines of older versions, and where the bytes
    /// stood there before this line was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The request that brought them, counted from 1 within its call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How long that request took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_ms: Option<u64>,
    /// How the bytes stood in the file when this line was written. None in lines of older versions: as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Form>,
    /// Size of that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

impl BlockMeta {
    /// The line for a block whose file holds `bytes` bytes of this digest; written now.
    pub(super) fn new(id: &BlockRef, bytes: u64, digest: Digest) -> Self {
        Self {
            height: id.height,
            hash: id.hash.clone(),
            parent: id.parent.clone(),
            time: id.time,
            bytes,
            blake3: digest,
            stored_at: Timestamp::now().to_string(),
            endpoint: None,
            attempt: None,
            fetched_ms: None,
            compression: None,
            stored_bytes: None,
        }
    }

    /// With how the bytes stand in their file.
    pub(super) fn standing_as(mut self, form: Form, stored_bytes: u64) -> Self {
        (self.compression, self.stored_bytes) = (Some(form), Some(stored_bytes));
        self
    }

    /// With how the bytes came here; nothing where nobody was asked.
    pub(super) fn came_by(mut self, origin: &Origin) -> Self {
        if !origin.endpoint.is_empty() {
            self.endpoint = Some(clipped(&origin.endpoint));
            (self.attempt, self.fetched_ms) = (Some(origin.attempt), Some(origin.millis));
        }
        self
    }

    /// Reads a line back.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|e| format!("its meta file cannot be read: {e}"))
    }

    /// Insists on the block that the name beside it says.
    pub(super) fn speaks_of(self, height: Height, hash: &BlockHash) -> Result<Self, String> {
        if (self.height, &self.hash) == (height, hash) {
            return Ok(self);
        }
        Err(format!("its meta file speaks of block {} {}, not {height} {hash}", self.height, self.hash))
    }

    /// As it stands in the file.
    pub(super) fn line(&self) -> Vec<u8> {
        // Cannot fail: the struct has neither maps with other keys than text nor values that refuse to serialise.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Whether both speak of the same block and the same bytes; when the line was written, how the bytes came and how they
    /// are packed does not matter.
    pub(super) fn agrees(&self, truth: &BlockMeta) -> Result<(), String> {
        let differs = |what: &str, here: &dyn fmt::Display, there: &dyn fmt::Display| {
            Err(format!("its meta file says {what} {here}, the file has {there}"))
        };
        if self.blake3 != truth.blake3 {
            return differs("digest", &self.blake3, &truth.blake3);
        }
        if self.bytes != truth.bytes {
            return differs("size", &self.bytes, &truth.bytes);
        }
        if self.height != truth.height {
            return differs("height", &self.height, &truth.height);
        }
        if self.hash != truth.hash {
            return differs("hash", &self.hash, &truth.hash);
        }
        if self.parent != truth.parent {
            return differs("parent", &self.parent, &truth.parent);
        }
        if self.time != truth.time {
            return differs("time", &self.time, &truth.time);
        }
        Ok(())
    }
}

fn clipped(endpoint: &str) -> String {
    endpoint.chars().take(ENDPOINT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta() -> BlockMeta {
        let hash = |text| BlockHash::new(text).expect("a hash");
        let id = BlockRef { height: 5, hash: hash("0xb5"), parent: hash("0xb4"), time: 1_700_000_000 };
        BlockMeta::new(&id, 3, Digest::of(b"abc"))
    }

    /// The digest of `abc` as the BLAKE3 command line tool (`b3sum`) prints it.
    const ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

    #[test]
    fn the_line_is_plain_json_and_survives_a_round_trip() {
        let meta = meta();
        let line = meta.line();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(BlockMeta::parse(&line), Ok(meta));
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!((value["height"].as_u64(), value["blake3"].as_str()), (Some(5), Some(ABC)));
    }

    #[test]
    fn the_line_says_how_the_bytes_came_and_old_lines_are_read() {
        let origin = |endpoint: &str| Origin { endpoint: endpoint.to_owned(), attempt: 2, millis: 34 };
        let told = meta().came_by(&origin("http://node.example:8545"));
        let value: serde_json::Value = serde_json::from_slice(&told.line()).expect("JSON");
        assert_eq!(value["endpoint"].as_str(), Some("http://node.example:8545"));
        assert_eq!((value["attempt"].as_u64(), value["fetched_ms"].as_u64()), (Some(2), Some(34)));
        assert_eq!(BlockMeta::parse(&told.line()), Ok(told.clone()));
        assert_eq!((told.agrees(&meta()), meta().agrees(&told)), (Ok(()), Ok(())), "how it came is no part of it");

        let old = format!(
            r#"{{"height":5,"hash":"0xab","parent":"0xaa","time":7,"bytes":3,"blake3":"{ABC}","stored_at":"2026-01-01T00:00:00Z"}}"#
        );
        let old = BlockMeta::parse(old.as_bytes()).expect("a line of an older version");
        assert_eq!((&old.endpoint, old.attempt, old.fetched_ms), (&None, None, None));
        let nobody = String::from_utf8(meta().came_by(&Origin::default()).line()).expect("text");
        assert!(!nobody.contains("endpoint"), "{nobody}");

        let longest = meta().came_by(&origin(&"\u{1}".repeat(100_000)));
        assert!((longest.line().len() as u64) < META_BYTES_MAX, "every line that is written can be read");
    }

    #[test]
    fn every_difference_that_matters_is_named() {
        let truth = meta();
        assert_eq!(BlockMeta { stored_at: Timestamp::UNIX_EPOCH.to_string(), ..truth.clone() }.agrees(&truth), Ok(()));
        let other = BlockHash::new("0xff").expect("a hash");
        for (word, wrong) in [
            ("digest", BlockMeta { blake3: Digest::of(b"x"), ..truth.clone() }),
            ("size", BlockMeta { bytes: 4, ..truth.clone() }),
            ("height", BlockMeta { height: 6, ..truth.clone() }),
            ("hash", BlockMeta { hash: other.clone(), ..truth.clone() }),
            ("parent", BlockMeta { parent: other.clone(), ..truth.clone() }),
            ("time", BlockMeta { time: 0, ..truth.clone() }),
        ] {
            assert!(wrong.agrees(&truth).expect_err(word).contains(word), "{word}");
        }
    }

    #[test]
    fn digests_have_one_spelling() {
        assert!(Digest::try_from(ABC.to_owned()).is_ok());
        for bad in [ABC.to_uppercase(), ABC[1..].to_owned(), String::new(), "é".repeat(32)] {
            assert!(Digest::try_from(bad.clone()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BlockMeta::parse(&bytes);
        }
    }
}
