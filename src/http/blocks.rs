//! What `status` says of a blocks pipeline beside its units and mailboxes.

use super::status::Summary;
use crate::config::Settings;
use crate::ids::PipelineId;
use crate::store::link::Link;
use crate::store::{Store, StoreError};

/// The summary of one blocks pipeline, of which Redis holds the facts; none if there is nothing to say.
pub async fn blocks_summary(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
) -> Result<Option<Summary>, StoreError> {
    let _ = settings;
    let facts = store.facts(link, pipeline).await?;
    let head = facts.iter().find(|(name, _)| name == "head").map(|(_, height)| height);
    Ok(head.map(|height| Summary { words: format!("head {height}"), facts: serde_json::json!({ "head": height }) }))
}
