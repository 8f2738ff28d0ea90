//! Whose store a folder is: a small file in it, compared with what Redis says before anything is written.
//!
//! Two hosts with a folder each of the same name would otherwise fill one index with heights that half of the nodes
//! cannot read; and an emptied Redis would start from zero beside a full store.
//!
//! The first node creates the marker, then registers its uuid in Redis: a crash between the two leaves a marker that
//! [`judge`] answers with [`MarkerVerdict::Register`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ids::RandomId;

use super::SinkError;
use super::block_files::BlockFiles;
use super::durable::{Opened, Placed, Scratch, sync_folder};
use super::trash::Trash;

/// The file's name below the root of a store.
pub const MARKER_NAME: &str = "gapless-store.json";

/// The format that this program writes, and the newest that it reads.
pub const MARKER_FORMAT: u32 = 1;

const MARKER_BYTES_MAX: u64 = 64 * 1024;

/// The marker of a store. Everything in it is pinned when the store is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMarker {
    /// The store's own id; Redis holds the same one for the pipeline.
    pub uuid: RandomId,
    /// The pipeline that fills it, `blocks.mainnet`.
    pub pipeline: String,
    /// The id of the Redis that holds its index; an emptied Redis has another one.
    pub cluster_id: String,
    /// The chain that it holds, if its source said so.
    pub chain_id: Option<String>,
    /// The lowest wanted height, so that `start = "latest"` means the same after an emptied Redis.
    pub start: Option<u64>,
    /// When it was created, RFC 3339; for people only.
    pub created_at: String,
    /// The format of this file.
    pub format: u32,
}

/// Reads the marker of a store; none if the folder has none. A file that cannot be understood is an error, not none.
pub fn read(root: &Path) -> Result<Option<StoreMarker>, SinkError> {
    let path = root.join(MARKER_NAME);
    let Some(opened) = Opened::read(&path, MARKER_BYTES_MAX)? else { return Ok(None) };
    let refused = |reason| SinkError::Marker { path: path.clone(), reason };
    let marker = opened.bytes.and_then(|bytes| parse(&bytes)).map_err(refused)?;
    Ok(Some(marker))
}

impl BlockFiles {
    /// The marker that stands in the store's folder now: another one, or none, where the folder was exchanged under us.
    pub async fn marker(&self) -> Result<Option<StoreMarker>, SinkError> {
        self.look(|room| room.blocks.parent().map_or(Ok(None), read)).await
    }
}

fn parse(bytes: &[u8]) -> Result<StoreMarker, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    // The format first: what a newer one has changed is no damage.
    let Format { format } = serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
    if format != MARKER_FORMAT {
        return Err(format!(
            "its format is {format}, this program knows {MARKER_FORMAT}; use the gapless that wrote it"
        ));
    }
    serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))
}

/// Creates the marker, durably, unless there is one, and returns the one that stands there. Safe to repeat and to race:
/// everybody gets the first one. A crash leaves none or a whole one.
pub fn create(root: &Path, marker: &StoreMarker) -> Result<StoreMarker, SinkError> {
    let scratch = Scratch::open(&root.join("tmp"), RandomId::new().as_str())?;
    let path = root.join(MARKER_NAME);
    let placed = scratch.write(&line(marker, &path)?)?.place(&path)?;
    sync_folder(root)?;
    match placed {
        Placed::New => Ok(marker.clone()),
        Placed::Exists => read(root)?.ok_or(SinkError::Contended { path }),
    }
}

/// Writes another cluster id into the marker of a store, after [`MarkerVerdict::Adopt`], and returns the new marker. The
/// old one stays in the trash until the horizon. At no moment is the folder without a marker, where the file system can
/// exchange two files; a crash leaves the old one or the new one, and adopting again is safe.
pub fn adopt(root: &Path, old: &StoreMarker, cluster_id: &str) -> Result<StoreMarker, SinkError> {
    let path = root.join(MARKER_NAME);
    let incarnation = RandomId::new();
    let scratch = Scratch::open(&root.join("tmp"), incarnation.as_str())?;
    let trash = Trash::open(&root.join("trash"), incarnation.as_str())?;
    let new = StoreMarker { cluster_id: cluster_id.to_owned(), ..old.clone() };
    let temporary = scratch.write(&line(&new, &path)?)?;
    scratch.write(&line(old, &path)?)?.place(&trash.place_for(MARKER_NAME))?;
    sync_folder(&root.join("trash"))?;
    if !temporary.exchange(&path)? {
        trash.take(&path, None)?;
        temporary.place(&path)?;
    }
    sync_folder(root)?;
    read(root)?.ok_or(SinkError::Contended { path })
}

fn line(marker: &StoreMarker, path: &Path) -> Result<Vec<u8>, SinkError> {
    let mut line = serde_json::to_vec_pretty(marker).map_err(|e| SinkError::refused(path, e.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// What a node brings to a store.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The pipeline that wants to write there.
    pub pipeline: &'a str,
    /// The id of the Redis that it is connected to.
    pub cluster_id: &'a str,
    /// The store that Redis knows for the pipeline, if any.
    pub in_redis: Option<&'a RandomId>,
    /// Whether the operator started the node with `--accept-data-loss`.
    pub accept_data_loss: bool,
}

/// What to do about a store before the first write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkerVerdict {
    /// Nobody has been here: create a marker, then register its uuid in Redis if none is there, then judge again.
    Create,
    /// The folder is ours, Redis does not know it yet: register the uuid if none is there, then judge again.
    Register,
    /// Both know each other: go on.
    Match,
    /// The store is taken over by another Redis, as the operator asked: [`adopt`] it, then register. What the folder
    /// holds beyond what Redis knows is found by a scan, not lost.
    Adopt,
    /// Hands off; the text says why and what to do.
    Refuse(String),
}

/// Judges a folder's marker against what Redis knows. Pure.
///
/// `--accept-data-loss` answers only for an emptied or another Redis. It never lets a pipeline go on beside its own
/// store: heights that Redis counts as held would not exist.
pub fn judge(marker: Option<&StoreMarker>, claim: &Claim<'_>) -> MarkerVerdict {
    let pipeline = claim.pipeline;
    let Some(marker) = marker else {
        return match claim.in_redis {
            None => MarkerVerdict::Create,
            Some(uuid) => MarkerVerdict::Refuse(format!(
                "the folder is not the store of {pipeline}: it has no {MARKER_NAME}, and Redis expects store {}; \
                 mount the folder of that store here, or collect into this one under a new pipeline name",
                uuid.short()
            )),
        };
    };
    if marker.pipeline != pipeline {
        return MarkerVerdict::Refuse(format!(
            "the folder is the store of {}, not of {pipeline}; give each pipeline a folder of its own",
            marker.pipeline
        ));
    }
    if let Some(uuid) = claim.in_redis.filter(|uuid| **uuid != marker.uuid) {
        return MarkerVerdict::Refuse(format!(
            "the folder is store {}, but Redis expects store {} for {pipeline}; mount that one here, or collect into \
             this one under a new pipeline name",
            marker.uuid.short(),
            uuid.short()
        ));
    }
    match (marker.cluster_id == claim.cluster_id, claim.accept_data_loss) {
        (true, _) if claim.in_redis.is_some() => MarkerVerdict::Match,
        (true, _) => MarkerVerdict::Register,
        (false, true) => MarkerVerdict::Adopt,
        (false, false) => MarkerVerdict::Refuse(format!(
            "the folder's index is in Redis {}, this is Redis {}: emptied, or another one; point redis.url at the right \
             one or restore it, or start with --accept-data-loss to build the index anew in this one",
            marker.cluster_id, claim.cluster_id
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn marker(uuid: &str, cluster_id: &str) -> StoreMarker {
        StoreMarker {
            uuid: RandomId::stored(uuid),
            pipeline: "blocks.mainnet".to_owned(),
            cluster_id: cluster_id.to_owned(),
            chain_id: Some("1".to_owned()),
            start: Some(0),
            created_at: "2025-01-02T03:04:05Z".to_owned(),
            format: MARKER_FORMAT,
        }
    }

    #[test]
    fn every_meeting_of_folder_and_redis_has_its_verdict() {
        // uuid and cluster in the folder, uuid in Redis, accepted: the verdict's name, and a word of its reason.
        let table = [
            (None, None, false, "Create", ""),
            (None, None, true, "Create", ""),
            (None, Some("u1"), false, "Refuse", "mount"),
            (None, Some("u1"), true, "Refuse", "mount"),
            (Some(("u1", "c1")), None, false, "Register", ""),
            (Some(("u1", "c1")), Some("u1"), false, "Match", ""),
            (Some(("u1", "c1")), Some("u1"), true, "Match", ""),
            (Some(("u1", "c1")), Some("u2"), false, "Refuse", "expects store u2"),
            (Some(("u1", "c1")), Some("u2"), true, "Refuse", "expects store u2"),
            (Some(("u1", "c0")), None, false, "Refuse", "emptied, or another"),
            (Some(("u1", "c0")), None, true, "Adopt", ""),
            (Some(("u1", "c0")), Some("u1"), false, "Refuse", "emptied, or another"),
            (Some(("u1", "c0")), Some("u1"), true, "Adopt", ""),
            (Some(("u1", "c0")), Some("u2"), true, "Refuse", "expects store u2"),
        ];
        for (folder, in_redis, accept_data_loss, name, word) in table {
            let marker = folder.map(|(uuid, cluster)| marker(uuid, cluster));
            let in_redis = in_redis.map(RandomId::stored);
            let claim =
                Claim { pipeline: "blocks.mainnet", cluster_id: "c1", in_redis: in_redis.as_ref(), accept_data_loss };
            let verdict = format!("{:?}", judge(marker.as_ref(), &claim));
            assert!(verdict.starts_with(name) && verdict.contains(word), "{marker:?} {claim:?}: {verdict}");
        }
    }

    #[test]
    fn the_store_of_another_pipeline_is_refused_whatever_is_accepted() {
        let claim = Claim { pipeline: "blocks.base", cluster_id: "c1", in_redis: None, accept_data_loss: true };
        let MarkerVerdict::Refuse(reason) = judge(Some(&marker("u1", "c1")), &claim) else { panic!("not refused") };
        assert!(reason.contains("blocks.mainnet, not of blocks.base"), "{reason}");
    }

    #[test]
    fn the_first_marker_wins() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(read(root.path()).expect("readable"), None);
        let (first, second) = (marker("u1", "c1"), marker("u2", "c1"));
        assert_eq!(create(root.path(), &first).expect("created"), first);
        assert_eq!(create(root.path(), &second).expect("found"), first);
        assert_eq!(read(root.path()).expect("readable"), Some(first));
    }

    #[test]
    fn adopting_changes_the_cluster_alone_and_keeps_the_old_marker() {
        let root = tempfile::tempdir().expect("a folder");
        let old = create(root.path(), &marker("u1", "c0")).expect("created");
        let new = adopt(root.path(), &old, "c1").expect("adopted");
        assert_eq!(new, marker("u1", "c1"));
        assert_eq!(adopt(root.path(), &new, "c1").expect("again"), new);
        let kept: Vec<_> = fs::read_dir(root.path().join("trash"))
            .expect("listed")
            .map(|e| parse(&fs::read(e.expect("an entry").path()).expect("read")).expect("a marker").cluster_id)
            .collect();
        assert!(kept.contains(&"c0".to_owned()), "{kept:?}");
        assert_eq!(fs::read_dir(root.path().join("tmp")).expect("listed").count(), 0);
    }

    #[test]
    fn a_marker_that_cannot_be_understood_is_not_taken_for_none() {
        let root = tempfile::tempdir().expect("a folder");
        for (text, word) in [
            (r#"{"format":2,"everything":"changed"}"#, "format is 2"),
            ("", "cannot be read"),
            (r#"{"format":1}"#, "cannot be read"),
        ] {
            fs::write(root.path().join(MARKER_NAME), text).expect("written");
            let error = read(root.path()).expect_err("refused");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
