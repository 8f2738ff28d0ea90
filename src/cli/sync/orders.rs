//! `sync pause`, `sync resume`, `sync retry`: orders through mailboxes, obeyed by whichever nodes run the units.

use serde_json::json;

use super::ends::{copied, known};
use super::{Chosen, Desk, Exit};
use crate::actors::stream_sync::{SCOUT, bucket_name};
use crate::cli::desk::fault;
use crate::cli::output;
use crate::ids::{Address, RandomId};
use crate::messages::sync::SyncMessage;
use crate::store::StoreError;
use crate::store::effect::Outgoing;
use crate::supervisor::wiring;

/// Sends a message, once also where the answer is lost. 1 when the mailbox is full.
pub(super) async fn tell(desk: &Desk, to: &Address, message: &Outgoing) -> Result<(), Exit> {
    let capacity = wiring::capacity(&desk.settings, to);
    match desk.store.send(&desk.link, to, capacity, Some(RandomId::new().as_str()), message).await {
        Ok(_) => Ok(()),
        Err(StoreError::Full { .. }) => {
            Err(Exit::missing(&format!("the mailbox of {to} is full; is a node running? try again later")))
        }
        Err(error) => Err(fault(error)),
    }
}

/// `pause` and `resume` go to the scout, which tells every bucket in the commit that makes it so.
pub(super) async fn tell_scout(desk: &Desk, chosen: &Chosen, order: &str) -> Result<Exit, Exit> {
    let scout = Address::new(&chosen.pipeline, SCOUT);
    tell(desk, &scout, &Outgoing { kind: order.to_owned(), body: "{}".to_owned() }).await?;
    let nodes = desk.store.nodes(&desk.link).await.map_err(fault)?;
    let runs = nodes.iter().any(|node| node.runs.contains(&scout.to_string()));
    if desk.json {
        return Ok(output::json(&json!({ "sent": order, "to": scout.to_string(), "runs": runs }), Exit::good()));
    }
    let waits = if runs { "" } else { "; no node runs it now: it is done when one does" };
    Ok(output::text(&format!("{order} was sent to {scout}{waits}\n"), Exit::good()))
}

pub(super) async fn retry(desk: &Desk, chosen: &Chosen, named: &[String]) -> Result<Exit, Exit> {
    let streams = copied(known(desk, chosen).await?, named)?;
    let stopped: Vec<_> = streams.into_iter().filter(|(_, known)| !known.notes.stopped.is_empty()).collect();
    for (name, known) in &stopped {
        let bucket = known.row.bucket(&name.shown(), chosen.section.buckets);
        let message = SyncMessage::Retry { stream: Some(name.shown()) };
        let message = Outgoing::new(&message).map_err(fault)?;
        tell(desk, &Address::new(&chosen.pipeline, &bucket_name(bucket)), &message).await?;
    }
    let names: Vec<String> = stopped.iter().map(|(name, _)| name.shown()).collect();
    if desk.json {
        return Ok(output::json(&json!({ "retried": names }), Exit::good()));
    }
    let words =
        if names.is_empty() { "no stream is left alone\n".to_owned() } else { format!("{}\n", names.join("\n")) };
    Ok(output::text(&words, Exit::good()))
}
