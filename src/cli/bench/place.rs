//! Place: a folder for the files of one measurement, on the disk that is to be measured.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::ids::RandomId;

/// A folder of its own, removed with everything in it.
pub struct Place(PathBuf);

impl Place {
    /// A new folder inside of `around`.
    pub fn new(around: &Path) -> Result<Self> {
        let folder = around.join(format!("gapless-bench-{}", RandomId::new().short()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.0.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be deleted is a stray folder, and no fault of the measurement.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
