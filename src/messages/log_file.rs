//! The record of one life of one log file: who it is, where it was last seen, and how far its lines are in the stream.
//!
//! It is stored in the commit that appends the lines, so that position and lines are never apart. Nothing in it depends
//! on a clock of ours: times are the file's own, or seconds that were observed one by one.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::line::FileId;

/// The form of records that this build writes, and the newest that it reads.
pub const LOG_FILE_VERSION: u32 = 1;
/// Most bytes at the beginning of a file that its fingerprint covers.
pub const HEAD_BYTES_MAX: usize = 1024;
/// Most bytes before the offset that the marker covers.
pub const MARKER_BYTES_MAX: usize = 64;
/// Most bytes of a file that stand for its first line in a [`FileId`].
pub const FIRST_LINE_BYTES_MAX: usize = 1024;

/// How a rotated file was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// gzip, one or several members.
    Gz,
    /// Zstandard, one or several frames.
    Zst,
}

/// The digest of a file's first bytes. It covers the bytes that were read, at most [`HEAD_BYTES_MAX`] of them, and is
/// compared with as many bytes of a candidate: a file that grew is still itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Print {
    /// Bytes that it covers.
    pub len: u32,
    /// The first 16 bytes of their BLAKE3 digest.
    pub digest: [u8; 16],
}

impl Print {
    /// Of these bytes, all of them.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Self { len: u32::try_from(bytes.len()).unwrap_or(u32::MAX), digest }
    }
}

/// The digest of the bytes before an offset, at most [`MARKER_BYTES_MAX`]: the first 8 bytes of their BLAKE3 digest.
pub fn marker_of(bytes: &[u8]) -> u64 {
    first_eight(bytes)
}

/// The part of a [`FileId`] that tells what the file begins with, from the file's first bytes. None while it cannot be
/// said: the first line has no end yet and is shorter than [`FIRST_LINE_BYTES_MAX`].
///
/// It covers the first line without its `\n`, of a longer line the first [`FIRST_LINE_BYTES_MAX`] bytes, and where
/// `ended` (nothing more will come) what there is. The bytes are taken as they stand: NUL and `\r` count.
pub fn first_line_head(first: &[u8], ended: bool) -> Option<u64> {
    let window = &first[..first.len().min(FIRST_LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', window) {
        Some(end) => Some(first_eight(&window[..end])),
        None if window.len() == FIRST_LINE_BYTES_MAX || (ended && !window.is_empty()) => Some(first_eight(window)),
        None => None,
    }
}

fn first_eight(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// One life of one file. Its key in the table of files is its [`FileId`] as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// The form of this record.
    #[serde(rename = "v")]
    pub version: u32,
    /// Its name; never changes.
    pub id: FileId,
    /// Where it was last seen.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// The device on which it was last seen; may change at a reboot.
    pub dev: u64,
    /// The inode under which it was last seen (its copy's, once it is read from a copy).
    #[serde(rename = "ino")]
    pub inode: u64,
    /// Fingerprint of its first bytes.
    #[serde(with = "print_text")]
    pub head: Print,
    /// The lines before this byte are in the stream (of the unpacked bytes, where it is packed).
    #[serde(rename = "at")]
    pub offset: u64,
    /// [`marker_of`] the bytes before `offset`.
    #[serde(rename = "mark", with = "hex_text")]
    pub marker: u64,
    /// `offset` lies inside a line that was cut.
    #[serde(default, skip_serializing_if = "is_not")]
    pub inside: bool,
    /// Its size when it was last looked at.
    pub size: u64,
    /// Its time of change then, in seconds since 1970, by its file system.
    pub mtime: i64,
    /// It no longer stands under the name that is followed: no more is expected.
    #[serde(default, skip_serializing_if = "is_not")]
    pub rotated: bool,
    /// It was read to its end after it had been rotated.
    #[serde(rename = "done", default, skip_serializing_if = "is_not")]
    pub finished: bool,
    /// How it is packed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packing>,
    /// Seconds for which a running node saw it gone from the followed names; none while it is there. Counted, not
    /// computed from a clock: a clock that jumps forgets no file.
    #[serde(rename = "gone", default, skip_serializing_if = "Option::is_none")]
    pub gone_seconds: Option<u64>,
}

impl LogFile {
    /// Its key in the table.
    pub fn key(&self) -> String {
        self.id.to_string()
    }

    /// As it is stored.
    pub fn to_json(&self) -> String {
        // A struct of numbers and texts always becomes JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a stored record; the fault names the record's version or the place in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let fault = |e: serde_json::Error| format!("a file's record cannot be read: {e}");
        let Version { v } = serde_json::from_str(text).map_err(fault)?;
        if v > LOG_FILE_VERSION {
            return Err(format!(
                "a file's record has version {v}, this build reads up to {LOG_FILE_VERSION}; upgrade it"
            ));
        }
        serde_json::from_str(text).map_err(fault)
    }
}

fn is_not(flag: &bool) -> bool {
    !flag
}

/// A path as text, or as a list of bytes where it is no UTF-8.
mod path_text {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_seq(path.as_os_str().as_bytes()),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into(),
            Form::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

/// A number as 16 hexadecimal digits: JSON's numbers end at 2^53 for many readers.
mod hex_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

/// A fingerprint as `LENGTH:DIGEST`.
mod print_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(print: &Print, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}:{:032x}", print.len, u128::from_be_bytes(print.digest)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Print, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = || {
            let (len, digest) = text.split_once(':')?;
            let digest = u128::from_str_radix(digest, 16).ok()?.to_be_bytes();
            Some(Print { len: len.parse().ok()?, digest })
        };
        parse().ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no fingerprint")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: PathBuf) -> LogFile {
        LogFile {
            version: LOG_FILE_VERSION,
            id: FileId { head: 0x9c11_85a5_c5e9_fc54, inode: 14_879, generation: 2 },
            path,
            dev: 2049,
            inode: 14_879,
            head: Print::of(&[b'x'; HEAD_BYTES_MAX]),
            offset: 123_456_789,
            marker: marker_of(b"the last line\n"),
            inside: true,
            size: 123_456_999,
            mtime: 1_790_000_000,
            rotated: true,
            finished: true,
            packed: Some(Packing::Zst),
            gone_seconds: Some(86_400),
        }
    }

    #[test]
    fn a_record_survives_a_round_trip_and_is_small() {
        for path in ["/var/log/nginx/access.log".into(), PathBuf::from(OsString::from_vec(b"/l/\xff.log".to_vec()))] {
            let record = record(path);
            let text = record.to_json();
            assert!(text.len() < 400, "{} bytes: {text}", text.len());
            assert_eq!(LogFile::parse(&text).expect("its own form"), record);
        }
    }

    #[test]
    fn a_record_of_a_later_build_and_one_that_is_none_are_refused_with_the_reason() {
        let mut later = record("/l".into());
        later.version = 2;
        assert!(LogFile::parse(&later.to_json()).expect_err("later").contains("version 2"));
        assert!(LogFile::parse("{}").expect_err("none").contains("missing field"));
        let bad = record("/l".into()).to_json().replace("1024:", "1024-");
        assert!(LogFile::parse(&bad).expect_err("bad").contains("no fingerprint"));
    }

    #[test]
    fn a_file_is_named_by_its_first_line_once_that_is_known() {
        let long = [b'x'; 2000];
        assert_eq!(first_line_head(b"", true), None);
        assert_eq!(first_line_head(b"half", false), None);
        assert_eq!(first_line_head(b"half", true), first_line_head(b"half\nmore", false));
        assert!(first_line_head(&long[..1023], false).is_none());
        assert_eq!(first_line_head(&long[..1024], false), first_line_head(&long, false));
        assert_ne!(first_line_head(b"a\r\n", false), first_line_head(b"a\n", false));
    }
}
