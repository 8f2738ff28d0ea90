//! Which file a line comes from: lines carry the name of their file, the tables of places say where it lies.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::{Chosen, Desk};
use crate::ids::UnitId;
use crate::messages::line::FileId;
use crate::messages::log_file::LogFile;
use crate::store::StoreError;

/// Places of one unit that are read.
const ROWS_MAX: usize = 200_000;
/// Files that were looked for in vain; more are looked for again.
const UNKNOWN_MAX: usize = 10_000;

/// Where files lie, as far as it was asked for.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: HashMap<FileId, PathBuf>,
    /// Their places are not kept any more.
    unknown: HashSet<FileId>,
}

impl Paths {
    /// Learns where these files lie. Asks only for those that were not looked for before: the place of a file is stored
    /// with its first line, so it is there, or not any more.
    pub async fn learn(
        &mut self,
        desk: &Desk,
        chosen: &Chosen,
        files: impl Iterator<Item = &FileId>,
    ) -> Result<(), StoreError> {
        let new: Vec<&FileId> = files.filter(|id| !self.known.contains_key(id) && !self.unknown.contains(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for record in records(desk, chosen).await? {
            self.known.entry(record.id).or_insert(record.path);
        }
        if self.unknown.len() > UNKNOWN_MAX {
            self.unknown.clear();
        }
        self.unknown.extend(new.into_iter().filter(|id| !self.known.contains_key(id)).cloned());
        Ok(())
    }

    /// Where a file was last seen; none if its place is not kept any more.
    pub fn of(&self, file: &FileId) -> Option<&Path> {
        self.known.get(file).map(PathBuf::as_path)
    }
}

/// The records of all files of a pipeline, on whatever host. What cannot be read as one is left out.
async fn records(desk: &Desk, chosen: &Chosen) -> Result<Vec<LogFile>, StoreError> {
    let mut records = Vec::new();
    for local in desk.store.tables(&desk.link, &chosen.pipeline).await? {
        let unit = UnitId::exclusive(&chosen.pipeline, &local);
        let (table, _) = desk.store.peek_table(&desk.link, &unit, ROWS_MAX).await?;
        records.extend(table.values().filter_map(|text| LogFile::parse(text).ok()));
    }
    Ok(records)
}

/// A pattern of paths; without a slash it is one of names.
#[derive(Debug, Clone)]
pub struct PathGlob {
    matcher: GlobMatcher,
    of_names: bool,
}

impl PathGlob {
    /// Whether a path is meant.
    pub fn matches(&self, path: &Path) -> bool {
        match self.of_names {
            true => path.file_name().is_some_and(|name| self.matcher.is_match(name)),
            false => self.matcher.is_match(path),
        }
    }
}

/// A pattern as people write it.
pub(super) fn glob(text: &str) -> Result<PathGlob, String> {
    let of_names = !text.contains('/');
    let absolute = match of_names {
        true => text.to_owned(),
        false => std::path::absolute(text).map_err(|e| e.to_string())?.display().to_string(),
    };
    let glob = GlobBuilder::new(&absolute).literal_separator(true).build();
    let glob = glob.map_err(|e| format!("`{text}` is no pattern of paths: {}", e.kind()))?;
    Ok(PathGlob { matcher: glob.compile_matcher(), of_names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_slash_is_one_of_names() {
        let matches = |pattern: &str, path: &str| glob(pattern).expect("a pattern").matches(Path::new(path));
        assert!(matches("*.log", "/var/log/a.log") && matches("a.log*", "/x/a.log.1.gz"));
        assert!(!matches("*.log", "/var/log/a.log.1"));
        assert!(matches("/var/log/*.log", "/var/log/a.log") && !matches("/var/*.log", "/var/log/a.log"));
        assert!(matches("/var/**/*.log", "/var/log/x/a.log"));
        assert!(glob("a[").expect_err("none").contains("`a[` is no pattern"));
    }
}
