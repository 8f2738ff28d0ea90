//! The bytes of a life once more, long after they were read: of its file, or of what rotation made of it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::globs::Globs;
use super::options::FilesOptions;
use super::siblings::{Candidate, Candidates, candidate, home_among};
use super::source::Source;
use crate::messages::log_file::LogFile;

/// Finds lives by their records. It looks at each folder once; [`Finder::forget`] makes it look again.
#[derive(Debug)]
pub struct Finder {
    paths: Globs,
    rotated: Globs,
    candidates: Candidates,
    /// What stands under the followed names.
    followed: Option<Vec<Candidate>>,
}

impl Finder {
    /// Looks where these options say; the faults of the options, each with its key, if it cannot.
    pub fn new(options: &FilesOptions) -> Result<Self, Vec<String>> {
        let globs = |patterns: &[String]| Globs::new(patterns).map_err(|fault| vec![fault]);
        let (paths, rotated) = (globs(&options.paths)?, globs(&options.rotated)?);
        Ok(Self { paths, rotated, candidates: Candidates::default(), followed: None })
    }

    /// Looks at the folders anew from now on.
    pub fn forget(&mut self) {
        (self.candidates, self.followed) = (Candidates::default(), None);
    }

    /// The bytes of a life; none if no file holds them any more. Its first bytes and those before its place must agree.
    pub fn open(&mut self, record: &LogFile) -> io::Result<Option<Kept>> {
        let mut refused = None;
        match open_at(&record.path, record) {
            Ok(Some(kept)) => return Ok(Some(kept)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused = Some(error),
        }
        let cursor = Cursor::of(record);
        let paths = &self.paths;
        let followed = self.followed.get_or_insert_with(|| {
            let found = paths.find(&Globs::none());
            found.files.iter().map(|(inode, seen)| candidate(*inode, seen, false)).collect()
        });
        // Rotation may have given it further names since it was seen under this one.
        let home = home_among(&record.path, paths);
        let home = home.as_deref().unwrap_or(&record.path);
        let mut all = self.candidates.beside(home, &[record.inode], &self.rotated);
        all.extend(followed.iter().cloned());
        let mut tried = BTreeSet::new();
        for one in all {
            if !tried.insert(one.inode) || self.candidates.head(&one).is_none_or(|first| !cursor.fits_head(first)) {
                continue;
            }
            match open_at(&one.path, record) {
                Ok(Some(kept)) => return Ok(Some(kept)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(None), Err)
    }
}

fn open_at(path: &Path, record: &LogFile) -> io::Result<Option<Kept>> {
    let mut source = Source::open(path)?;
    let agrees = Cursor::of(record).agrees(&mut source)?;
    Ok(agrees.then(|| Kept { source, path: path.to_owned() }))
}

/// An open file that holds a life.
#[derive(Debug)]
pub struct Kept {
    source: Source,
    path: PathBuf,
}

impl Kept {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it still holds this life: a file may be truncated at any time, unless it is packed.
    pub fn still_holds(&mut self, record: &LogFile) -> io::Result<bool> {
        match self.source.packing() {
            Some(_) => Ok(true),
            None => Cursor::of(record).agrees(&mut self.source),
        }
    }

    /// Bytes from `offset` on (unpacked), `len` of them or as many as there are.
    pub fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.source.bytes(offset, len)
    }
}
