//! `gapless send`: a message into a mailbox, within its capacity, and once for each dedupe id.

use std::io::Read;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::output;
use super::reach::{self, Reach};
use crate::config::Settings;
use crate::ids::{Address, RandomId};
use crate::store::StoreError;
use crate::store::effect::Outgoing;
use crate::store::mailbox::Sent;
use crate::supervisor::wiring;

/// `gapless send ...`
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Whose mailbox: KIND.NAME/ACTOR
    #[arg(value_name = "ACTOR")]
    actor: String,
    /// What kind of message; the actor must know it, or the entry is set aside
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The message's body, JSON; - reads it from standard input
    #[arg(value_name = "JSON")]
    body: String,
    /// Sent before under this id within mailbox.dedupe_window_seconds: nothing is sent again
    #[arg(long, value_name = "DEDUPE")]
    id: Option<String>,
}

/// Sends it. 0 also when it was sent before; 1 when the mailbox is full.
pub fn run(settings: Settings, args: &SendArgs, json: bool) -> Exit {
    let limit = settings.mailbox.entry_bytes_max;
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(exit) => return exit,
    };
    let prepared = reach.address(&args.actor).and_then(|address| Ok((address, message(args, limit)?)));
    match prepared {
        Ok((address, message)) => reach::block_on(send(&reach, &address, args.id.as_deref(), &message, json)),
        Err(exit) => exit,
    }
}

fn message(args: &SendArgs, limit: usize) -> Result<Outgoing, Exit> {
    if args.kind.is_empty() {
        return Err(Exit::usage("TYPE is empty; name the kind of message, for example number"));
    }
    if args.id.as_deref() == Some("") {
        return Err(Exit::usage("--id is empty; leave it out, or name the message"));
    }
    let body = if args.body == "-" { standard_input(limit)? } else { args.body.clone() };
    if let Err(fault) = serde_json::from_str::<serde::de::IgnoredAny>(&body) {
        return Err(Exit::usage(&format!("the body is not JSON: {fault}")));
    }
    Ok(Outgoing { kind: args.kind.clone(), body: body.trim().to_owned() })
}

/// Reads just past the limit: enough to know that it is too much.
fn standard_input(limit: usize) -> Result<String, Exit> {
    let mut body = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::stdin().lock().take(most).read_to_end(&mut body);
    read.map_err(|error| Exit::usage(&format!("cannot read standard input: {error}")))?;
    if body.len() > limit {
        return Err(Exit::usage(&format!(
            "the message has more than {limit} bytes, the limit (configuration key mailbox.entry_bytes_max)"
        )));
    }
    String::from_utf8(body).map_err(|_| Exit::usage("the body is not JSON: it is not UTF-8"))
}

pub(super) async fn send(
    reach: &Reach,
    to: &Address,
    dedupe: Option<&str>,
    message: &Outgoing,
    json: bool,
) -> Result<Exit, StoreError> {
    let capacity = wiring::capacity(&reach.settings, to);
    // A request whose answer was lost is made again; an id of our own keeps it from becoming a second message.
    let drawn = RandomId::new();
    let id = dedupe.unwrap_or(drawn.as_str());
    let (entry, before) = match reach.store.send(&reach.link, to, capacity, Some(id), message).await {
        Ok(Sent::As(entry)) => (Some(entry.to_string()), false),
        Ok(Sent::Before) => (None, dedupe.is_some()),
        Err(StoreError::Full { .. }) => {
            let depth = reach.store.depth(&reach.link, to).await?;
            let waiting = depth.entries + depth.later;
            return Ok(Exit::missing(&format!("mailbox is full ({waiting} of capacity {capacity}); try again later")));
        }
        Err(error) => return Err(error),
    };
    if json {
        let answer = json!({ "mailbox": to.to_string(), "entry": entry, "before": before });
        return Ok(output::json(&answer, Exit::good()));
    }
    let words = match entry {
        Some(entry) => format!("sent to {to} as {entry}\n"),
        None if before => format!("sent before under the id `{}`; nothing was sent now\n", id.escape_debug()),
        None => format!("sent to {to}; the answer to the first try was lost\n"),
    };
    Ok(output::text(&words, Exit::good()))
}
