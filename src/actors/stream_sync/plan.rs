//! Plan: what a bucket is told from the configuration.

use crate::config::{RedisEnd, SyncMode, SyncSettings};
use crate::sources::streams::ReadPlan;
use crate::wire::Door;

/// Rows of a table beyond those that its streams need: notes of streams that are gone stay for people.
pub const ROWS_SPARE: u64 = 1000;

/// The actor that copies a bucket.
pub fn bucket_name(bucket: u32) -> String {
    format!("stream_sync_{bucket}")
}

/// The actor that finds the streams, whose table lists them.
pub const SCOUT: &str = "scout";

/// What a bucket, the scout and the commands over a `sync` pipeline know.
#[derive(Debug, Clone)]
pub struct SyncPlan {
    /// The configuration.
    pub settings: SyncSettings,
    /// The pipeline, `sync.NAME`.
    pub pipeline: String,
    /// Which bucket; 0 where it does not matter.
    pub bucket: u32,
}

impl SyncPlan {
    /// The way to the source.
    pub fn source(&self) -> Door {
        self.door(&self.settings.source, "source_")
    }

    /// The way to the target.
    pub fn target(&self) -> Door {
        self.door(&self.settings.target, "target_")
    }

    fn door(&self, end: &RedisEnd, side: &'static str) -> Door {
        Door {
            end: end.clone(),
            side,
            connect_timeout: self.settings.connect_timeout,
            command_timeout: self.settings.command_timeout,
            name: format!("gapless:{}", self.pipeline),
            shown: None,
            asking: false,
        }
    }

    /// Links that a chain of evidence keeps; 0 where there is none.
    pub fn links(&self) -> u64 {
        if self.settings.evidence { self.settings.evidence_links } else { 0 }
    }

    /// How the source is read, behind this door.
    pub fn reading(&self, door: Door) -> ReadPlan {
        let group = match self.settings.mode {
            SyncMode::Tail => None,
            SyncMode::Group => Some((self.settings.group.clone(), self.settings.consumer.clone())),
        };
        ReadPlan { door, poll: self.settings.poll, group }
    }

    /// Groups of the source that are ours, and not part of what is copied.
    pub fn is_own_group(&self, name: &[u8]) -> bool {
        let grouped = self.settings.mode == SyncMode::Group && name == self.settings.group.as_bytes();
        grouped || (!self.settings.publish_group.is_empty() && name == self.settings.publish_group.as_bytes())
    }

    /// What marks on the target call us: the same from every node, and another one for the same name elsewhere.
    pub fn owner(&self, cluster: &str) -> String {
        format!("{}@{}", self.pipeline, cluster.get(..12).unwrap_or(cluster))
    }
}
