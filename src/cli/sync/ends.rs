//! Both ends of a pipeline in reach, and the streams that nodes have found.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Chosen, Desk, Exit};
use crate::actors::stream_sync::{SyncPlan, bucket_name};
use crate::cli::desk::fault;
use crate::http::sync::{self, Known};
use crate::ids::Address;
use crate::messages::sync::StreamName;
use crate::sinks::replica::{MARKS, Mark, marks_of};
use crate::supervisor::wiring;
use crate::wire::{Line, Lines, Server, WireError};

/// A command of people waits so long for an end at the most.
const PATIENCE: Duration = Duration::from_secs(3);

/// Names of streams in one line.
const NAMES: usize = 5;

/// Lines to both ends.
pub(super) struct Ends {
    pub plan: SyncPlan,
    pub source: Lines,
    pub source_server: Server,
    pub target: Lines,
    pub target_server: Server,
}

/// What an error of an end means for a command.
pub(super) fn exit_of(error: &WireError) -> Exit {
    match error {
        WireError::Away { .. } | WireError::Moving { .. } => Exit::out_of_reach(&error.to_string()),
        WireError::Refused { .. } | WireError::Shut { .. } | WireError::Nonsense { .. } => {
            Exit::usage(&error.to_string())
        }
    }
}

impl Ends {
    pub(super) async fn open(chosen: &Chosen) -> Result<Self, Exit> {
        let mut section = chosen.section.clone();
        section.connect_timeout = section.connect_timeout.min(PATIENCE);
        let plan = wiring::sync_plan(&chosen.name, &section, 0);
        let (mut source, mut target) = (Lines::new(plan.source()), Lines::new(plan.target()));
        let source_server = source.nodes().await.map_err(|error| exit_of(&error))?.server.clone();
        let target_server = target.nodes().await.map_err(|error| exit_of(&error))?.server.clone();
        Ok(Self { plan, source, source_server, target, target_server })
    }

    /// The source and the target, at the nodes and in the databases that have this stream.
    pub(super) async fn both(&mut self, name: &StreamName) -> Result<(&mut Line, &mut Line), WireError> {
        let key = self.plan.settings.target_key(name.db, &name.key);
        let target = self.target.of(self.plan.settings.target_db, &key).await?;
        Ok((self.source.of(name.db, &name.key).await?, target))
    }

    /// The target at the node that has a key.
    pub(super) async fn target_of(&mut self, key: &[u8]) -> Result<&mut Line, WireError> {
        self.target.of(self.plan.settings.target_db, key).await
    }

    /// The mark of a key of the target.
    pub(super) async fn mark(&mut self, key: &[u8]) -> Result<Option<Mark>, WireError> {
        Ok(marks_of(self.target_of(MARKS).await?, std::slice::from_ref(&key.to_vec())).await?.pop().flatten())
    }
}

/// The streams that the scout has listed, with what is noted of them.
pub(super) async fn known(desk: &Desk, chosen: &Chosen) -> Result<BTreeMap<StreamName, Known>, Exit> {
    sync::known(&desk.store, &desk.link, &chosen.pipeline, &chosen.section).await.map_err(fault)
}

/// Whether the pipeline is paused and every bucket has heard of it: what has not is still in its mailbox, since the order
/// and the news of it are one commit, and a bucket copies nothing between taking the news and reading the order.
pub(super) async fn rests(desk: &Desk, chosen: &Chosen) -> Result<bool, Exit> {
    let since = desk.store.fact(&desk.link, &chosen.pipeline, "paused_ms").await.map_err(fault)?;
    if since.is_none_or(|since| since.is_empty()) {
        return Ok(false);
    }
    for bucket in 0..chosen.section.buckets {
        let of = Address::new(&chosen.pipeline, &bucket_name(bucket));
        if desk.store.depth(&desk.link, &of).await.map_err(fault)?.entries > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Those of the streams that are copied and, where some are named, are among them; a name that is none is refused.
pub(super) fn copied(
    streams: BTreeMap<StreamName, Known>,
    named: &[String],
) -> Result<BTreeMap<StreamName, Known>, Exit> {
    for text in named {
        if !streams.keys().any(|name| name.shown() == *text) {
            let words = format!("no stream `{}` is copied; `gapless sync status` lists them", text.escape_debug());
            return Err(Exit::usage(&words));
        }
    }
    let wanted = |name: &StreamName| named.is_empty() || named.contains(&name.shown());
    Ok(streams.into_iter().filter(|(name, known)| known.row.refused.is_empty() && wanted(name)).collect())
}

/// The first of many names.
pub(super) fn some<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let first: Vec<&str> = names.by_ref().take(NAMES).collect();
    let rest = names.count();
    let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    format!("{}{more}", first.join(", "))
}
