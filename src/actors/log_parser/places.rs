//! Where the files of lines lie, and on which host: the tables of the LogWatchers say it. A line's own id names its file, and
//! a rotation changes the path alone; so nothing is decided on it, and what is told is at most a moment old.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::decide::line_id;
use crate::actors::turn::{Error, Unit};
use crate::ids::{Address, UnitId};
use crate::messages::line::FileId;
use crate::messages::log_file::LogFile;
use crate::store::Entry;

/// How old what is known of a file may be.
const FRESH: Duration = Duration::from_secs(1);
/// Files that are remembered; of more all are asked for again.
const KNOWN_MAX: usize = 10_000;

/// Where a file lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its host; empty where the folders are the same on every host, or it is not known.
    pub host: String,
    /// Where it was last seen; empty where that is not known any more.
    pub file: String,
}

/// Of a line whose file is not known.
pub(super) static UNKNOWN: Place = Place { host: String::new(), file: String::new() };

/// The files of one turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(HashMap<FileId, Place>);

impl Known {
    pub fn of(&self, file: &FileId) -> &Place {
        self.0.get(file).unwrap_or(&UNKNOWN)
    }

    pub fn insert(&mut self, file: FileId, place: Place) {
        self.0.insert(file, place);
    }
}

/// What is remembered from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<FileId, (Instant, Place)>);

impl Places {
    /// Where the files of these lines lie.
    pub async fn learn(of: &Mutex<Self>, unit: &Unit, entries: &[Entry]) -> Result<Known, Error> {
        let lock = || of.lock().unwrap_or_else(PoisonError::into_inner);
        // Lines of a file come in rows.
        let mut files: BTreeSet<FileId> = BTreeSet::new();
        for id in entries.iter().filter_map(line_id) {
            if !files.contains(&id.file) {
                files.insert(id.file);
            }
        }
        let (mut known, now) = (Known::default(), Instant::now());
        files.retain(|file| match lock().0.get(file) {
            Some((since, place)) if now.duration_since(*since) < FRESH => {
                known.insert(file.clone(), place.clone());
                false
            }
            _ => true,
        });
        if files.is_empty() {
            return Ok(known);
        }
        let found = look_up(unit, files).await?;
        let mut places = lock();
        if places.0.len() > KNOWN_MAX {
            places.0.clear();
        }
        for (file, place) in found {
            places.0.insert(file.clone(), (now, place.clone()));
            known.insert(file, place);
        }
        Ok(known)
    }
}

/// Asks the tables of all hosts.
async fn look_up(unit: &Unit, files: BTreeSet<FileId>) -> Result<Vec<(FileId, Place)>, Error> {
    let (store, link, pipeline) = (unit.lease.store(), unit.lease.link(), unit.pipeline());
    let mut open: Vec<FileId> = files.into_iter().collect();
    let mut found = Vec::with_capacity(open.len());
    for local in store.tables(link, pipeline).await? {
        if open.is_empty() {
            break;
        }
        let names: Vec<String> = open.iter().map(ToString::to_string).collect();
        let rows = store.peek_rows(link, &UnitId::exclusive(pipeline, &local), &names).await?;
        let host = Address::new(pipeline, &local).host().unwrap_or_default().to_owned();
        let mut left = Vec::new();
        for (file, row) in open.into_iter().zip(rows) {
            match row.and_then(|text| LogFile::parse(&text).ok()) {
                Some(record) => {
                    found.push((file, Place { host: host.clone(), file: record.path.display().to_string() }));
                }
                None => left.push(file),
            }
        }
        open = left;
    }
    // Not known any more: asked for again when that is a moment old.
    found.extend(open.into_iter().map(|file| (file, Place::default())));
    Ok(found)
}
