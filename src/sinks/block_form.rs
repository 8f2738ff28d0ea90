//! The two forms of a block file: the bytes as they came, or packed with zstd; and how to get the bytes back.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

/// How the bytes stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// As they came.
    #[serde(rename = "none")]
    Plain,
    /// One or more zstd frames (RFC 8878).
    #[serde(rename = "zstd")]
    Zstd,
}

impl Form {
    /// Every form, in the order of preference where both stand and nothing else tells.
    pub(super) const ALL: [Form; 2] = [Form::Plain, Form::Zstd];

    /// The raw bytes of a file of this form, at most `bytes_max`; else what is wrong with it. A small file may claim to
    /// be huge: no more than the limit is ever unpacked.
    pub(super) fn unpack(self, file: Vec<u8>, bytes_max: u64) -> Result<Vec<u8>, String> {
        match self {
            Form::Plain if file.len() as u64 > bytes_max => Err(format!("it is larger than {bytes_max} bytes")),
            Form::Plain => Ok(file),
            Form::Zstd => {
                let fault = |e| format!("its zstd frame cannot be unpacked: {e}");
                let mut raw = Vec::new();
                let decoder = Decoder::with_buffer(file.as_slice()).map_err(fault)?;
                decoder.take(bytes_max.saturating_add(1)).read_to_end(&mut raw).map_err(fault)?;
                if raw.len() as u64 > bytes_max {
                    return Err(format!("its zstd frame unpacks to more than {bytes_max} bytes"));
                }
                Ok(raw)
            }
        }
    }
}

/// How many blocks of a store are packed at a time: at a high level each takes tens of megabytes.
const PACKERS_MAX: usize = 4;

/// What packs blocks; its memory is used again.
#[derive(Default)]
pub(super) struct Packers {
    slots: [Mutex<Option<Compressor<'static>>>; PACKERS_MAX],
    next: AtomicUsize,
}

impl std::fmt::Debug for Packers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packers")
    }
}

impl Packers {
    /// Packs raw bytes at a level (1 to 19), with a checksum. None where that would not make them smaller: such bytes
    /// are stored as they came.
    pub(super) fn pack(&self, raw: &[u8], level: i32) -> Result<Option<Vec<u8>>, String> {
        let fault = |e| format!("it cannot be packed with zstd: {e}");
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % PACKERS_MAX;
        // Whatever a panic left of a compressor, each use of it begins a new frame.
        let mut slot = self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
        let compressor = match &mut *slot {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(level).map_err(fault)?),
        };
        compressor.set_compression_level(level).map_err(fault)?;
        compressor.include_checksum(true).map_err(fault)?;
        let packed = compressor.compress(raw).map_err(fault)?;
        Ok((packed.len() < raw.len()).then_some(packed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u64 = 1 << 20;

    fn pack(raw: &[u8], level: i32) -> Result<Option<Vec<u8>>, String> {
        Packers::default().pack(raw, level)
    }

    #[test]
    fn packers_are_used_again_at_any_level() {
        let packers = Packers::default();
        for round in 0..20_i32 {
            let raw = format!("{round}").repeat(500).into_bytes();
            let packed = packers.pack(&raw, round % 19 + 1).expect("packed").expect("smaller");
            assert_eq!(Form::Zstd.unpack(packed, MAX), Ok(raw));
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_not_packed() {
        assert_eq!(pack(b"", 3), Ok(None));
        assert_eq!(pack(b"{}", 19), Ok(None));
        let packed = pack(&[b'a'; 1000], 3).expect("packed").expect("smaller");
        assert!(packed.len() < 100, "{}", packed.len());
    }

    #[test]
    fn no_more_than_the_limit_is_unpacked() {
        let packed = pack(&[0; 1000], 1).expect("packed").expect("smaller");
        assert_eq!(Form::Zstd.unpack(packed.clone(), 1000).map(|raw| raw.len()), Ok(1000));
        assert!(Form::Zstd.unpack(packed.clone(), 999).expect_err("a bomb").contains("more than 999"));
        // Many small frames are one large text.
        let many = packed.repeat(5);
        assert_eq!(Form::Zstd.unpack(many.clone(), 5000).map(|raw| raw.len()), Ok(5000));
        assert!(Form::Zstd.unpack(many, 4999).is_err());
        assert!(Form::Plain.unpack(vec![0; 5], 4).expect_err("too large").contains("larger than 4"));
    }

    proptest! {
        #[test]
        fn bytes_survive_a_round_trip(raw in prop::collection::vec(0u8..4, 0..3000), level in 1..=19) {
            match pack(&raw, level).expect("packed") {
                Some(packed) => prop_assert_eq!(Form::Zstd.unpack(packed, MAX), Ok(raw)),
                None => prop_assert_eq!(Form::Plain.unpack(raw.clone(), MAX), Ok(raw)),
            }
        }

        #[test]
        fn any_bytes_are_judged(file in prop::collection::vec(any::<u8>(), 0..200), framed: bool) {
            let magic = if framed { vec![0x28, 0xb5, 0x2f, 0xfd] } else { Vec::new() };
            if let Ok(raw) = Form::Zstd.unpack([magic, file].concat(), MAX) {
                prop_assert!(raw.len() as u64 <= MAX);
            }
        }
    }
}
