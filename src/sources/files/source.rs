//! Where the bytes of a file's life come from: the file itself, or a packed copy of it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;

use super::globs::Inode;
use super::meanwhile;
use super::packed::Unpacker;
use crate::messages::log_file::Packing;

/// An open file. It stays readable when its name is given away or removed.
#[derive(Debug)]
pub(super) struct Source {
    /// Device and inode of what is open.
    pub inode: Inode,
    file: Arc<File>,
    unpacker: Option<Unpacker>,
}

impl Source {
    /// Opens a regular file, and tells how it is packed from its first bytes. Never waits: a pipe is refused.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        meanwhile::passes();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = Arc::new(file);
        let unpacker = Unpacker::detect(&file)?;
        Ok(Self { inode: (meta.dev(), meta.ino()), file, unpacker })
    }

    /// How it is packed.
    pub(super) fn packing(&self) -> Option<Packing> {
        self.unpacker.as_ref().map(Unpacker::packing)
    }

    /// What the file system says of the open file.
    pub(super) fn meta(&self) -> io::Result<Metadata> {
        meanwhile::passes();
        self.file.metadata()
    }

    /// Gets ready to read from `offset`, by unpacking at most `most` bytes; says whether it is ready.
    pub(super) fn approach(&mut self, offset: u64, most: u64) -> io::Result<bool> {
        self.unpacker.as_mut().map_or(Ok(true), |unpacker| unpacker.approach(offset, most))
    }

    /// Its size; a packed file is unpacked for it.
    pub(super) fn end(&mut self) -> io::Result<u64> {
        match &mut self.unpacker {
            None => Ok(self.file.metadata()?.len()),
            Some(unpacker) => {
                unpacker.approach(u64::MAX, u64::MAX)?;
                Ok(unpacker.end().unwrap_or_default())
            }
        }
    }

    /// Its end, where that is known for good: a packed file that was unpacked to its end.
    pub(super) fn known_end(&self) -> Option<u64> {
        self.unpacker.as_ref().and_then(Unpacker::end)
    }

    /// The bytes from `offset`, `len` of them or as many as there are.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match &mut self.unpacker {
            Some(unpacker) => unpacker.bytes(offset, len),
            None => bytes_of(&self.file, offset, len),
        }
    }
}

/// The bytes of a file from `offset`, `len` of them or as many as there are.
pub(super) fn bytes_of(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = offset + bytes.len() as u64;
        meanwhile::passes();
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}
