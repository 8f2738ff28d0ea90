//! The repair of a stream with holes: ids only rise, so what is missing below the last id cannot be added any more. The
//! stream is built anew beside it, compared, and takes its place, if it still stands where it stood.

use super::ends::Ends;
use crate::actors::stream_sync::{Side, difference};
use crate::ids::EntryId;
use crate::messages::sync::StreamName;
use crate::sinks::replica::{Carry, Writer, Written, copy_group};
use crate::wire::look::{behind, groups, range, stream_facts};
use crate::wire::{Item, Reply, Request, WireError};

/// Entries of one step.
const STEP: usize = 500;
/// Tries, where the stream moves on meanwhile.
const TRIES: usize = 3;

/// Rebuilds a stream of the target from the source; why not, if it did not come to that.
///
/// A death before the rename leaves the stream as it was, and a key beside it that the next repair of it removes.
pub(super) async fn rebuild(ends: &mut Ends, name: &StreamName) -> Result<Option<String>, WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let mut beside = b"gapless:repair:".to_vec();
    beside.extend_from_slice(&key);
    let mut why = None;
    for _ in 0..TRIES {
        ends.target.call(&[b"DEL", &beside]).await?;
        why = attempt(ends, name, &key, &beside).await?;
        if why.is_none() {
            return Ok(None);
        }
        ends.target.call(&[b"DEL", &beside]).await?;
    }
    Ok(why)
}

async fn attempt(ends: &mut Ends, name: &StreamName, key: &[u8], beside: &[u8]) -> Result<Option<String>, WireError> {
    let mut writer = Writer::open(&ends.plan.target(), ends.plan.settings.target_db).await?;
    // What only the target has would be lost with the old stream: it is there by policy, or of somebody else.
    let stood = stream_facts(&mut ends.target, key).await?.unwrap_or_default();
    let (source, target) = ends.both(name.db).await?;
    let only_there = {
        let (mut a, mut b) = (Side { line: source, key: &name.key }, Side { line: target, key });
        difference(&mut a, &mut b, (EntryId::ZERO, stood.last), 1, |_| {}).await?.counts[1]
    };
    if only_there > 0 {
        return Ok(Some(format!(
            "the target has {only_there} entries that the source has deleted; they would be lost"
        )));
    }
    let before = stream_facts(source, &name.key).await?.unwrap_or_default();
    let mut last = EntryId::ZERO;
    loop {
        let page = range(source, &name.key, &behind(last), "+", STEP).await?;
        let items: Vec<&Item> = page.items().iter().collect();
        let Some(end) = items.last().map(|item| item.id) else { break };
        match writer.write(beside, &page.bytes, &items, last, Carry::default()).await? {
            Written::Now(_) => last = end,
            Written::Moved(_) => return Ok(Some("another repair is under way".to_owned())),
            Written::Refused(reason) => return Ok(Some(reason)),
        }
    }
    let end = before.last.max(last);
    if let (Some(added), true) = (before.added, end > EntryId::ZERO) {
        let carry = Carry { added: Some(added), last: Some(end), max_deleted: before.max_deleted };
        let there = stream_facts(source, &name.key).await?.unwrap_or_default();
        let same = there.added == before.added && there.last == end;
        if same {
            writer.write(beside, &[], &[], last, carry).await?;
        }
    }
    let stands = stream_facts(writer.line(), beside).await?.unwrap_or_default();
    for group in groups(source, &name.key).await? {
        if !ends.plan.is_own_group(&group.name) {
            let counts = writer.server.counts();
            copy_group(&mut ends.source, writer.line(), (&name.key, beside), &group, (&stands, counts)).await?;
        }
    }
    let (source, target) = ends.both(name.db).await?;
    let (mut a, mut b) = (Side { line: source, key: &name.key }, Side { line: target, key: beside });
    if !difference(&mut a, &mut b, (EntryId::ZERO, stands.last), 1, |_| {}).await?.is_none() {
        return Ok(Some("the source changed while it was rebuilt".to_owned()));
    }
    exchange(&mut writer, key, beside, stood.last).await
}

/// Puts the new stream in the place of the old one, if that stands where it stood.
async fn exchange(writer: &mut Writer, key: &[u8], beside: &[u8], stood: EntryId) -> Result<Option<String>, WireError> {
    let facts = writer.look(key).await?.unwrap_or_default();
    let moved = Some("the stream moved on while it was rebuilt; pause the pipeline (gapless sync pause)".to_owned());
    if facts.last != stood {
        return Ok(moved);
    }
    let mut request = Request::of(&[b"WATCH", key]);
    request.command(&[b"XINFO", b"STREAM", key]).command(&[b"MULTI"]);
    request.command(&[b"RENAME", beside, key]).command(&[b"EXEC"]);
    let line = writer.line();
    let replies = line.all(&request).await?;
    match replies.last() {
        Some(Reply::Nil) | None => Ok(moved),
        Some(Reply::Error(words)) => Ok(Some(words.clone())),
        Some(_) => Ok(None),
    }
}
