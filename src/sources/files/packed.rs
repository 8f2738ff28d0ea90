//! Rotated files that were packed: their bytes in order, unpacked in bounded memory.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::source::bytes_of;
use crate::messages::log_file::{MARKER_BYTES_MAX, Packing};

/// What can be told about packed files from their first bytes, and cannot be unpacked here.
const FOREIGN: [(&[u8], usize, &str); 4] =
    [(b"1AY&SY", 4, "bzip2"), (b"\xfd7zXZ\0", 0, "xz"), (b"\x04\x22\x4d\x18", 0, "lz4"), (b"PK\x03\x04", 0, "zip")];
/// First bytes that tell how a file is packed.
pub(super) const MAGIC_BYTES: usize = 10;
/// Bytes that are unpacked at a time.
const STEP: usize = 64 * 1024;
/// The window that a zstd frame may ask for, as a power of two: 128 MiB, the most that `zstd` packs without `--long`.
const WINDOW_LOG_MAX: u32 = 27;

/// A packed file, read from its beginning once and again when somebody asks for earlier bytes.
pub(super) struct Unpacker {
    file: Arc<File>,
    packing: Packing,
    stream: Box<dyn Read + Send>,
    /// Unpacked bytes that may be asked for again; the first of them stands at `at`.
    window: Vec<u8>,
    at: u64,
    is_ended: bool,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("packing", &self.packing).field("at", &self.at).finish_non_exhaustive()
    }
}

/// Reads a shared file from its beginning, without its common position.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = rustix::io::pread(&*self.file, buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Unpacker {
    /// Looks at the first bytes; none for a file that is not packed, an error for one that nothing here can unpack.
    pub(super) fn detect(file: &Arc<File>) -> io::Result<Option<Self>> {
        let Some(packing) = packing_of(&bytes_of(file, 0, MAGIC_BYTES)?)? else { return Ok(None) };
        let stream = open(file, packing)?;
        Ok(Some(Self { file: file.clone(), packing, stream, window: Vec::new(), at: 0, is_ended: false }))
    }

    pub(super) fn packing(&self) -> Packing {
        self.packing
    }

    /// The unpacked size, once the end was reached.
    pub(super) fn end(&self) -> Option<u64> {
        self.is_ended.then(|| self.at + self.window.len() as u64)
    }

    /// Unpacks towards `offset`, at most `most` bytes; says whether it got there (or to the end).
    pub(super) fn approach(&mut self, offset: u64, most: u64) -> io::Result<bool> {
        self.go_back(offset)?;
        let mut left = most;
        loop {
            let have = self.at + self.window.len() as u64;
            if have >= offset || self.is_ended {
                self.drop_before(offset);
                return Ok(true);
            }
            if left == 0 {
                return Ok(false);
            }
            self.drop_before(have);
            left = left.saturating_sub(self.unpack()? as u64);
        }
    }

    /// The bytes from `offset`, `len` of them or as many as there are.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.approach(offset, u64::MAX)?;
        loop {
            let from = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(self.window.len());
            if self.window.len() - from >= len || self.is_ended {
                return Ok(self.window[from..self.window.len().min(from.saturating_add(len))].to_vec());
            }
            self.unpack()?;
        }
    }

    /// Begins anew, if bytes are asked for that are gone.
    fn go_back(&mut self, offset: u64) -> io::Result<()> {
        if offset < self.at {
            self.stream = open(&self.file, self.packing)?;
            self.window.clear();
            (self.at, self.is_ended) = (0, false);
        }
        Ok(())
    }

    /// Forgets what lies before `offset`, but for the bytes that a marker covers.
    fn drop_before(&mut self, offset: u64) {
        let keep_from = offset.saturating_sub(MARKER_BYTES_MAX as u64).max(self.at);
        let gone = usize::try_from(keep_from - self.at).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..gone);
        self.at += gone as u64;
    }

    /// Unpacks one step; an error leaves it to be begun anew.
    fn unpack(&mut self) -> io::Result<usize> {
        let have = self.window.len();
        self.window.resize(have + STEP, 0);
        let outcome = loop {
            match self.stream.read(&mut self.window[have..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.window.truncate(have + outcome.as_ref().copied().unwrap_or(0));
        match outcome {
            Ok(0) => self.is_ended = true,
            Ok(_) => {}
            Err(e) => {
                // The stream is of no use any more: the next question begins anew.
                self.window.clear();
                (self.at, self.is_ended) = (u64::MAX, false);
                return Err(e);
            }
        }
        Ok(self.window.len() - have)
    }
}

/// How a file is packed that begins with these bytes.
pub(super) fn packing_of(first: &[u8]) -> io::Result<Option<Packing>> {
    let stands = |magic: &[u8], at: usize| first.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, name)) = FOREIGN.iter().find(|(magic, at, _)| stands(magic, *at)) {
        let fault = format!("it is packed with {name}, which gapless does not read; use gzip or zstd");
        return Err(io::Error::new(ErrorKind::Unsupported, fault));
    }
    Ok(match first {
        [0x1f, 0x8b, 0x08, ..] => Some(Packing::Gz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zst),
        _ => None,
    })
}

fn open(file: &Arc<File>, packing: Packing) -> io::Result<Box<dyn Read + Send>> {
    let bytes = BufReader::with_capacity(STEP, FromStart { file: file.clone(), at: 0 });
    Ok(match packing {
        Packing::Gz => Box::new(MultiGzDecoder::new(bytes)),
        Packing::Zst => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}
