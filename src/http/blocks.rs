//! What `status` says of a blocks pipeline beside its units and mailboxes.

use super::status::Summary;
use crate::config::Settings;
use crate::ids::PipelineId;
use crate::messages::facts::ChainFacts;
use crate::messages::heights::{HeightRange, HeightSet};
use crate::store::link::Link;
use crate::store::{Store, StoreError};

/// The summary of one blocks pipeline, of which Redis holds the facts; none if there is nothing to say.
///
/// Only one page of the sets is read: with more gaps than that the counts are lower bounds, and the words say so.
pub async fn blocks_summary(
    settings: &Settings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
) -> Result<Option<Summary>, StoreError> {
    let Some(section) = settings.blocks.get(&pipeline.name) else { return Ok(None) };
    let facts = ChainFacts::read(&store.facts(link, pipeline).await?, section.confirmations);
    let (Some(head), Some(start)) = (facts.head, facts.start) else { return Ok(None) };
    let alarms = facts.alarms();
    let last = section.end.map_or(head, |end| end.min(head));
    let Ok(wanted) = HeightRange::new(start, last) else { return Ok(None) };
    let held = store.held(link, pipeline, wanted).await?;
    let parked = store.parked(link, pipeline, wanted).await?;
    let whole = held.len() < crate::store::heights::PAGE;
    let held: HeightSet = held.iter().filter_map(|piece| piece.range.intersect(wanted)).collect();
    let parked: HeightSet = parked.iter().filter_map(|parked| parked.range.intersect(wanted)).collect();
    let missing = wanted.count().saturating_sub(held.count()).saturating_sub(parked.count());
    let gaps = held.gaps(wanted).ranges().len();
    let words = format!(
        "head {head}, held {} of {}, missing {missing} in {gaps} {}, parked {}{}{}",
        held.count(),
        wanted.count(),
        if gaps == 1 { "gap" } else { "gaps" },
        parked.count(),
        if whole { "" } else { " (or more)" },
        if alarms.is_empty() { "" } else { ", ALARM: final blocks were contradicted (gapless blocks status)" },
    );
    let facts = serde_json::json!({
        "head": head, "finalized": facts.finalized, "start": start, "alarms": alarms.len(), "wanted": wanted.count(), "held": held.count(), "missing": missing,
        "gaps": gaps, "parked": parked.count(), "whole": whole,
    });
    Ok(Some(Summary { words, facts }))
}
