//! The audit of the sync demo: what should be there is the list of what was written, what is there is read from both
//! ends over a plain connection; nothing that copies has a part in it.

use std::collections::BTreeMap;
use std::io;

use super::Kills;
use super::sync_writers::{Deed, GROUP, Ledger, Place, digest};
use crate::cli::bench::wire::{Reply, Wire};
use crate::cli::words::grouped;
use crate::ids::EntryId;

/// Entries, and rows of what a group holds, of one page.
const PAGE: usize = 1000;

/// What the audit found. Entries are named by stream and id.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub streams: u64,
    /// Entries that were written.
    pub written: u64,
    /// Entries on the target that are what was written.
    pub same: u64,
    /// Entries that the source still has and the target has not.
    pub missing: Vec<String>,
    /// Entries with other names or values.
    pub altered: Vec<String>,
    /// Entries that nobody wrote.
    pub foreign: Vec<String>,
    /// Entries that were deleted before they were copied.
    pub lost: u64,
    /// Those that gapless has counted.
    pub lost_counted: u64,
    /// Deleted from the source later, and kept.
    pub kept: u64,
    /// Entries that groups hold.
    pub pending: u64,
    /// Groups that stand elsewhere, and held entries that differ.
    pub group_faults: Vec<String>,
    pub kills: Kills,
    pub source_kills: u64,
    pub target_kills: u64,
    pub takeovers: u64,
}

impl Found {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        let faults = [&self.missing, &self.altered, &self.foreign, &self.group_faults];
        self.lost == self.lost_counted && faults.iter().all(|names| names.is_empty())
    }

    /// The lines of the table.
    pub fn lines(&self, seed: u64) -> Vec<String> {
        let mut lines = vec![String::new(), format!("audit of the target against what was written from seed {seed}")];
        let mut row = |name: &str, value: u64, note: String| {
            lines.push(format!("  {name:<22} {:>12}  {note}", grouped(value)).trim_end().to_owned());
        };
        row("streams", self.streams, String::new());
        row("entries written", self.written, String::new());
        row("same on the target", self.same, format!("{} of them deleted on the source later", grouped(self.kept)));
        row("missing", self.missing.len() as u64, named(&self.missing));
        row("altered", self.altered.len() as u64, named(&self.altered));
        row("foreign or doubled", self.foreign.len() as u64, named(&self.foreign));
        row("deleted before copied", self.lost, format!("gapless counts {}", grouped(self.lost_counted)));
        row("pending entries", self.pending, String::new());
        row("group differences", self.group_faults.len() as u64, named(&self.group_faults));
        row("node kills survived", self.kills.nodes, String::new());
        row("redis kills survived", self.kills.redis, String::new());
        row("source kills survived", self.source_kills, String::new());
        row("target kills survived", self.target_kills, String::new());
        row("units taken over", self.takeovers, String::new());
        lines
    }
}

/// The first names of a row.
fn named(names: &[String]) -> String {
    const NAMED_MAX: usize = 3;
    let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(NAMED_MAX)].join(", "))
}

/// Both ends, and the name of a stream on the target.
pub(super) struct Both {
    pub source: u16,
    pub target: u16,
    pub name: fn(&Place) -> String,
}

impl Both {
    /// Compares everything with the list.
    pub fn audit(&self, ledger: &Ledger) -> io::Result<Found> {
        let (mut source, mut target) = (Wire::connect(self.source)?, Wire::connect(self.target)?);
        let mut found = Found { streams: ledger.len() as u64, ..Found::default() };
        for (place, deeds) in ledger {
            source.call(&["SELECT", &place.db.to_string()])?;
            let name = (self.name)(place);
            let there = entries(&mut target, &name)?;
            found.written += deeds.len() as u64;
            compare(&mut found, place, deeds, &there);
            let (ours, theirs) = (group(&mut source, &place.key)?, group(&mut target, &name)?);
            compare_groups(&mut found, place, (ours, theirs), &there);
        }
        Ok(found)
    }

    /// Entries of each stream on the target.
    pub fn copied(&self, places: &[Place]) -> io::Result<Vec<u64>> {
        let mut target = Wire::connect(self.target)?;
        let mut each = Vec::with_capacity(places.len());
        for place in places {
            let Reply::Bytes(text) = target.call(&["XLEN", &(self.name)(place)])? else {
                return Err(io::Error::other("XLEN gave no number"));
            };
            each.push(String::from_utf8_lossy(&text).parse().map_err(io::Error::other)?);
        }
        Ok(each)
    }
}

/// One stream against the list. Pure.
fn compare(found: &mut Found, place: &Place, deeds: &BTreeMap<EntryId, Deed>, there: &[(EntryId, blake3::Hash)]) {
    let name = |id: &EntryId| format!("db{}:{} {id}", place.db, place.key);
    let mut seen = BTreeMap::new();
    for (id, digest) in there {
        match deeds.get(id) {
            Some(deed) if deed.digest != *digest => found.altered.push(name(id)),
            Some(deed) if seen.insert(*id, ()).is_none() => {
                found.same += 1;
                found.kept += u64::from(deed.deleted);
            }
            Some(_) | None => found.foreign.push(name(id)),
        }
    }
    for (id, deed) in deeds.iter().filter(|(id, _)| !seen.contains_key(id)) {
        match deed.deleted {
            true => found.lost += 1,
            false => found.missing.push(name(id)),
        }
    }
}

/// The group of a stream: where it stands, and what it holds: by id, who and how often.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    delivered: Vec<u8>,
    pending: BTreeMap<EntryId, (Vec<u8>, Vec<u8>)>,
}

/// A held entry whose own is not on the target cannot be held there; everything else must be the same. Pure.
fn compare_groups(
    found: &mut Found,
    place: &Place,
    (ours, theirs): (Option<Group>, Option<Group>),
    there: &[(EntryId, blake3::Hash)],
) {
    let stream = format!("db{}:{}", place.db, place.key);
    let (ours, theirs) = match (ours, theirs) {
        (None, None) => return,
        (Some(ours), Some(theirs)) => (ours, theirs),
        (ours, _) => {
            let end = if ours.is_some() { "target" } else { "source" };
            return found.group_faults.push(format!("{stream} has no group on the {end}"));
        }
    };
    if ours.delivered != theirs.delivered {
        found.group_faults.push(format!("{stream} group stands elsewhere"));
    }
    found.pending += theirs.pending.len() as u64;
    let is_there = |id: &EntryId| there.binary_search_by_key(id, |(id, _)| *id).is_ok();
    for (id, row) in ours.pending.iter().filter(|(id, _)| is_there(id)) {
        if theirs.pending.get(id) != Some(row) {
            found.group_faults.push(format!("{stream} held {id}"));
        }
    }
    for id in theirs.pending.keys().filter(|id| !ours.pending.contains_key(id)) {
        found.group_faults.push(format!("{stream} held {id} only there"));
    }
}

/// Every entry of a stream, with the digest of its names and values.
fn entries(wire: &mut Wire, key: &str) -> io::Result<Vec<(EntryId, blake3::Hash)>> {
    let (mut from, mut all) = ("-".to_owned(), Vec::new());
    loop {
        let page = list(wire.call(&["XRANGE", key, &from, "+", "COUNT", &PAGE.to_string()])?);
        for entry in &page {
            let Reply::List(pair) = entry else { continue };
            let [Reply::Bytes(id), Reply::List(fields)] = pair.as_slice() else { continue };
            let bytes = fields.iter().map(|field| if let Reply::Bytes(bytes) = field { bytes.as_slice() } else { &[] });
            all.push((id_of(id)?, digest(bytes)));
        }
        match all.last() {
            Some((last, _)) if page.len() == PAGE => from = format!("({last}"),
            _ => return Ok(all),
        }
    }
}

fn group(wire: &mut Wire, key: &str) -> io::Result<Option<Group>> {
    let groups = match wire.call(&["XINFO", "GROUPS", key]) {
        Err(error) if error.to_string().contains("no such key") => return Ok(None),
        groups => list(groups?),
    };
    let field = |pairs: &[Reply], name: &str| {
        let pair = pairs.chunks(2).find(|pair| pair[0] == Reply::Bytes(name.as_bytes().to_vec()))?;
        if let Reply::Bytes(value) = &pair[1] { Some(value.clone()) } else { None }
    };
    let groups = groups.into_iter().map(list);
    let Some(ours) = groups.into_iter().find(|pairs| field(pairs, "name").as_deref() == Some(GROUP.as_bytes())) else {
        return Ok(None);
    };
    let mut group = Group { delivered: field(&ours, "last-delivered-id").unwrap_or_default(), ..Group::default() };
    let mut from = "-".to_owned();
    loop {
        let page = list(wire.call(&["XPENDING", key, GROUP, &from, "+", &PAGE.to_string()])?);
        for row in page.iter().cloned().map(list) {
            let [Reply::Bytes(id), Reply::Bytes(consumer), _, Reply::Bytes(times)] = row.as_slice() else { continue };
            group.pending.insert(id_of(id)?, (consumer.clone(), times.clone()));
        }
        match group.pending.last_key_value() {
            Some((last, _)) if page.len() == PAGE => from = format!("({last}"),
            _ => return Ok(Some(group)),
        }
    }
}

fn id_of(text: &[u8]) -> io::Result<EntryId> {
    String::from_utf8_lossy(text).parse().map_err(io::Error::other)
}

fn list(reply: Reply) -> Vec<Reply> {
    if let Reply::List(list) = reply { list } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn entry(n: u64) -> (EntryId, blake3::Hash) {
        (id(n), blake3::hash(&n.to_le_bytes()))
    }

    /// Four entries, of which the second and third were deleted; the third before anybody copied it.
    fn deeds() -> BTreeMap<EntryId, Deed> {
        (1..=4).map(|n| (id(n), Deed { digest: entry(n).1, deleted: n == 2 || n == 3 })).collect()
    }

    fn judge(there: &[(EntryId, blake3::Hash)]) -> Found {
        let mut found = Found { lost_counted: 1, ..Found::default() };
        compare(&mut found, &Place { db: 3, key: "s".to_owned() }, &deeds(), there);
        found
    }

    #[test]
    fn each_class_of_fault_is_found() {
        let whole = judge(&[entry(1), entry(2), entry(4)]);
        assert!(whole.is_whole(), "{whole:?}");
        assert_eq!((whole.same, whole.kept, whole.lost), (3, 1, 1));
        assert_eq!(judge(&[entry(1), entry(2)]).missing, ["db3:s 4-0"]);
        assert_eq!(judge(&[entry(1), entry(2), (id(4), entry(9).1)]).altered, ["db3:s 4-0"]);
        assert_eq!(judge(&[entry(1), entry(2), entry(4), entry(7)]).foreign, ["db3:s 7-0"]);
        assert_eq!(judge(&[entry(1), entry(2), entry(4), entry(4)]).foreign, ["db3:s 4-0"]);
        assert!(!judge(&[entry(1), entry(4)]).is_whole(), "two are lost, one is counted");
    }

    #[test]
    fn groups_must_stand_and_hold_the_same() {
        let group = |delivered: &str, held: &[u64]| Group {
            delivered: delivered.as_bytes().to_vec(),
            pending: held.iter().map(|n| (id(*n), (b"ann".to_vec(), b"1".to_vec()))).collect(),
        };
        let judge = |ours, theirs| {
            let mut found = Found::default();
            compare_groups(&mut found, &Place { db: 0, key: "s".to_owned() }, (ours, theirs), &[entry(1), entry(2)]);
            found.group_faults
        };
        let none: [String; 0] = [];
        assert_eq!(judge(Some(group("2-0", &[1, 3])), Some(group("2-0", &[1]))), none, "3 is not on the target");
        assert_eq!(judge(None, None), none);
        assert_eq!(judge(Some(group("2-0", &[1, 2])), Some(group("2-0", &[1]))), ["db0:s held 2-0"]);
        assert_eq!(judge(Some(group("2-0", &[])), Some(group("2-0", &[1]))), ["db0:s held 1-0 only there"]);
        assert_eq!(judge(Some(group("2-0", &[])), Some(group("1-0", &[]))), ["db0:s group stands elsewhere"]);
        assert_eq!(judge(Some(group("2-0", &[])), None), ["db0:s has no group on the target"]);
    }
}
