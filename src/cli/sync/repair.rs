//! The repair of a stream with holes: ids only rise, so what is missing below the last id cannot be added any more. The
//! stream is built anew beside it, compared, and takes its place, if it still stands where it stood.

use super::ends::Ends;
use crate::actors::stream_sync::{Side, difference};
use crate::ids::EntryId;
use crate::messages::sync::StreamName;
use crate::sinks::replica::{Carry, Writer, Written, copy_group};
use crate::wire::look::{behind, groups, range, stream_facts};
use crate::wire::{Item, Reply, Request, WireError, slot_of};

/// Entries of one step.
const STEP: usize = 500;
/// What the name of a stream that is being built begins with.
const REPAIR: &[u8] = b"gapless:repair:";
/// Tries, where the stream moves on meanwhile.
const TRIES: usize = 3;

/// Rebuilds a stream of the target from the source; why not, if it did not come to that.
///
/// A death before the rename leaves the stream as it was, and a key beside it that the next repair of it removes.
pub(super) async fn rebuild(ends: &mut Ends, name: &StreamName) -> Result<Option<String>, WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let Some(beside) = beside(&key) else {
        return Ok(Some(
            "no key beside it lies on the same node of the cluster, since its name holds a brace".to_owned(),
        ));
    };
    let mut why = None;
    for _ in 0..TRIES {
        ends.target_of(&beside).await?.call(&[b"DEL", &beside]).await?;
        why = attempt(ends, name, &key, &beside).await?;
        if why.is_none() {
            return Ok(None);
        }
        ends.target_of(&beside).await?.call(&[b"DEL", &beside]).await?;
    }
    Ok(why)
}

/// A key that nobody uses, on the slot of this one, since a rename does not leave a node of a cluster.
fn beside(key: &[u8]) -> Option<Vec<u8>> {
    // A key that lies on its slot by a part of its name takes that part along; any other one becomes such a part.
    let (plain, tagged) = ([REPAIR, key].concat(), [REPAIR, b"{", key, b"}"].concat());
    [plain, tagged].into_iter().find(|other| slot_of(other) == slot_of(key))
}

async fn attempt(ends: &mut Ends, name: &StreamName, key: &[u8], beside: &[u8]) -> Result<Option<String>, WireError> {
    let nodes = ends.target.nodes().await?;
    let door = nodes.door(&nodes.of(key)?);
    let mut writer = Writer::open(&door, ends.plan.settings.target_db).await?;
    // What only the target has would be lost with the old stream: it is there by policy, or of somebody else.
    let stood = stream_facts(ends.target_of(key).await?, key).await?.unwrap_or_default();
    let (source, target) = ends.both(name).await?;
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
    for group in groups(ends.source.of(name.db, &name.key).await?, &name.key).await? {
        if !ends.plan.is_own_group(&group.name) {
            let counts = writer.server.counts();
            let source = ends.source.of(name.db, &name.key).await?;
            copy_group(source, writer.line(), (&name.key, beside), &group, (&stands, counts)).await?;
        }
    }
    let (source, target) = ends.both(name).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_lies_beside_what_it_replaces() {
        assert_eq!(beside(b"orders").as_deref(), Some(b"gapless:repair:{orders}".as_slice()));
        assert_eq!(beside(b"{eu}:orders").as_deref(), Some(b"gapless:repair:{eu}:orders".as_slice()));
        assert_eq!(beside(b"a}b"), None);
    }
}
