//! Going back: where an operator sent the watcher back, it reads lines again and appends those that the stream lacks.
//!
//! The rewind names so many lines of each file. The first turn after it finds where those begin, and puts the places back
//! in one commit that also notes, by file, up to where lines have been appended before. Until a file has passed that
//! place its lines are compared with the stream's. Nobody else appends lines of these files while the lease holds, so one
//! pass over the stream at the beginning of a life tells all of them.

use std::collections::{BTreeMap, HashSet};

use super::state::WatcherState;
use super::{LINES, LogWatcher};
use crate::actors::turn::{Error, Turn, Unit};
use crate::ids::EntryId;
use crate::messages::line::{FileId, Label, LineId};
use crate::messages::log_file::LogFile;
use crate::store::effect::{Ack, Commit, Effect};

/// Files that one rewind goes back in: each is noted in the checkpoint until it has caught up.
const FILES_MAX: usize = 1000;
/// Lines that are compared with the stream, over all files: their places are kept in memory, 16 bytes each.
const LINES_MAX: usize = 2_000_000;
/// Entries of one page of the stream.
const PAGE: u32 = 1000;

/// The lines of files on their way back that stand in the stream, and up to where each file is compared.
#[derive(Debug, Default)]
pub(super) struct Again {
    until: BTreeMap<FileId, (u64, HashSet<u64>)>,
}

impl Again {
    /// Looks the stream through for lines that may be read again. None where nothing is on its way back.
    pub async fn begin(unit: &Unit, state: &WatcherState, records: &[LogFile]) -> Result<Option<Self>, Error> {
        if state.again.is_empty() {
            return Ok(None);
        }
        let mut again = Self::default();
        for (file, until) in &state.again {
            again.until.insert(file.clone(), (*until, HashSet::new()));
        }
        let places: BTreeMap<&FileId, u64> = records.iter().map(|record| (&record.id, record.offset)).collect();
        let (store, link) = (unit.lease.store(), unit.lease.link());
        let (mut after, mut found) = (EntryId::ZERO, 0);
        loop {
            let page = store.output(link, unit.pipeline(), LINES, after, PAGE).await?;
            unit.progress();
            let Some(last) = page.last() else { break };
            after = last.id;
            for line in page.iter().filter_map(|entry| Some(Label::of(&entry.fields)?.0.id)) {
                let from = places.get(&line.file).copied().unwrap_or(0);
                let Some((until, offsets)) = again.until.get_mut(&line.file) else { continue };
                if (from..*until).contains(&line.offset) && offsets.insert(line.offset) {
                    found += 1;
                }
            }
            if found > LINES_MAX {
                return Err(Error::Refused(format!(
                    "more than {LINES_MAX} lines would have to be compared with the stream after a rewind; rewind by fewer"
                )));
            }
        }
        Ok(Some(again))
    }

    /// Whether the stream has the line.
    pub fn has(&self, line: &LineId) -> bool {
        self.until
            .get(&line.file)
            .is_some_and(|(until, offsets)| line.offset < *until && offsets.contains(&line.offset))
    }
}

impl LogWatcher {
    /// Puts the places of all files back by so many lines, in one commit.
    pub(super) async fn go_back(&self, mut state: WatcherState, lines: u64, ack: Ack) -> Result<Turn, Error> {
        let back = self.unit.outside(self.files.back(lines)).await;
        let unit = self.unit.lease.unit();
        for (path, reason) in &back.faults {
            tracing::warn!(%unit, file = %path.display(), reason, "cannot be read again after the rewind");
        }
        let (mut effects, mut again) = (Vec::new(), state.again.clone());
        for (before, record) in back.files.into_iter().take(FILES_MAX) {
            let until = again.entry(record.id.clone()).or_insert(before);
            *until = (*until).max(before);
            tracing::info!(%unit, file = %record.path.display(), from = before, to = record.offset, "read again after a rewind");
            effects.push(Effect::PutRow { row: record.key(), value: record.to_json(), capacity: self.plan.places_max });
        }
        (state.back, state.again) = (None, again);
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        if let Some(stream) = store.output_facts(link, self.unit.pipeline(), LINES).await? {
            let oldest = stream.first.map_or(stream.last.ms, |first| first.ms);
            state.rewound_ms = state.rewound_ms.filter(|since| *since > oldest).or(Some(stream.last.ms));
        }
        self.unit.commit(&Commit { state: Some(state.text()?), ack, effects }).await?;
        // The files are put where the table says now.
        self.memory().restored = false;
        Ok(Turn::Worked)
    }
}

/// Forgets files that have passed the place up to which they are compared. Pure.
pub(super) fn caught_up(state: &mut WatcherState, records: &[(String, LogFile)], gone: &[String]) {
    if state.again.is_empty() {
        return;
    }
    for (_, record) in records {
        if state.again.get(&record.id).is_some_and(|until| record.offset >= *until || record.finished) {
            state.again.remove(&record.id);
        }
    }
    state.again.retain(|file, _| !gone.contains(&file.to_string()));
}
