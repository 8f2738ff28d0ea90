//! The repair of a stream with holes: ids only rise, so what is missing below the last id cannot be added any more. The
//! stream is built anew beside it, compared, and takes its place, if it is still what it was. Nothing is taken out: entries
//! and groups that only the target has go along.

use super::ends::Ends;
use crate::actors::stream_sync::{Side, Terms, Walk, difference};
use crate::ids::EntryId;
use crate::messages::evidence::LinkKind;
use crate::messages::sync::StreamName;
use crate::sinks::replica::{Carry, REPAIRS, Writer, Written, copy_group, digest_of};
use crate::wire::look::{groups, stream_facts};
use crate::wire::{Item, WireError, beside};

/// Tries, where the stream moves on meanwhile.
const TRIES: usize = 3;

/// Rebuilds a stream of the target from the source; why not, if it did not come to that.
///
/// A death before the rename leaves the stream as it was, and a key beside it that the next repair of it removes.
pub(super) async fn rebuild(ends: &mut Ends, name: &StreamName) -> Result<Option<String>, WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    // On the slot of this one, since a rename does not leave a node of a cluster.
    let beside = beside(REPAIRS, &key);
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

async fn attempt(ends: &mut Ends, name: &StreamName, key: &[u8], beside: &[u8]) -> Result<Option<String>, WireError> {
    let nodes = ends.target.nodes().await?;
    let door = nodes.door(&nodes.of(key)?);
    let db = ends.plan.settings.target_db;
    // From here on, whatever is added to the stream or deleted from it undoes the exchange.
    let mut guard = Writer::open(&door, db, ends.plan.links()).await?;
    let stood = guard.look(key).await?.unwrap_or_default();
    // What is built has no chain: that of the stream whose place it takes goes on.
    let mut writer = Writer::open(&door, db, 0).await?;
    let before = stream_facts(ends.both(name).await?.0, &name.key).await?.unwrap_or_default();
    let last = match merge(ends, name, &mut writer, (key, beside), (before.last, stood.last)).await? {
        Ok(last) => last,
        Err(why) => return Ok(Some(why)),
    };
    let mark = ends.mark(key).await?;
    let base = mark.and_then(|mark| mark.counted).unwrap_or(0);
    let there = stream_facts(writer.line(), beside).await?.unwrap_or_default();
    let end = before.last.max(last);
    if let (Some(added), true) = (before.added, end > EntryId::ZERO) {
        let now = stream_facts(ends.both(name).await?.0, &name.key).await?.unwrap_or_default();
        let added = added.checked_add_signed(base).unwrap_or(added).max(there.length);
        if now.added == before.added && now.last == before.last {
            let carry = Carry { added: Some(added), last: Some(end), max_deleted: before.max_deleted };
            writer.write(beside, &[], &[], last, carry).await?;
        }
    }
    copy_groups(ends, name, &mut writer, (key, beside)).await?;
    if !is_whole(ends, name, (key, beside)).await? {
        return Ok(Some("the source changed while it was rebuilt".to_owned()));
    }
    let is_chained = ends.plan.links() > 0;
    exchange((&mut guard, &mut writer), (key, beside), stood.last, is_chained).await
}

/// Writes the entries of both ends in the order of their ids; of two under the same id the source's. What only the target
/// has is there by policy, or of somebody else: it stays. Answers the last id that was written, or why nothing came of it.
async fn merge(
    ends: &mut Ends,
    name: &StreamName,
    writer: &mut Writer,
    (key, beside): (&[u8], &[u8]),
    (upto, stood): (EntryId, EntryId),
) -> Result<Result<EntryId, String>, WireError> {
    let (source, target) = ends.both(name).await?;
    let (mut source, mut target) = (Side { line: source, key: &name.key }, Side { line: target, key });
    let (mut here, mut there) = (Walk::new(EntryId::ZERO), Walk::new(EntryId::ZERO));
    let mut last = EntryId::ZERO;
    loop {
        here.fill(&mut source, upto).await?;
        there.fill(&mut target, stood).await?;
        let (run, end) = match (here.head().map(|item| item.id), there.head().map(|item| item.id)) {
            (None, None) => return Ok(Ok(last)),
            // Up to and with the target's next one, which the source's stands for.
            (Some(a), b) if b.is_none_or(|b| a <= b) => (&mut here, b.map(|b| (b, true))),
            (a, _) => (&mut there, a.map(|a| (a, false))),
        };
        let parts: Vec<&Item> = run.run(end).iter().collect();
        match writer.write(beside, &run.page.bytes, &parts, last, Carry::default()).await? {
            Written::Now(facts) => last = facts.last,
            Written::Moved(_) => return Ok(Err("another repair is under way".to_owned())),
            Written::Refused(reason) => return Ok(Err(reason)),
        }
        run.at += parts.len();
        if there.head().is_some_and(|item| item.id == last) {
            there.at += 1;
        }
    }
}

/// The groups of the target as they are, so that none that only the target has is lost; then what the source's say.
async fn copy_groups(
    ends: &mut Ends,
    name: &StreamName,
    writer: &mut Writer,
    (key, beside): (&[u8], &[u8]),
) -> Result<(), WireError> {
    let stands = stream_facts(writer.line(), beside).await?.unwrap_or_default();
    let counts = writer.server.counts();
    let target = ends.target_of(key).await?;
    for group in groups(target, key).await? {
        copy_group(target, writer.line(), (key, beside), &group, (&stands, counts)).await?;
    }
    for group in groups(ends.source.of(name.db, &name.key).await?, &name.key).await? {
        if !ends.plan.is_own_group(&group.name) {
            let source = ends.source.of(name.db, &name.key).await?;
            copy_group(source, writer.line(), (&name.key, beside), &group, (&stands, counts)).await?;
        }
    }
    Ok(())
}

/// Whether the new stream has all that the source has, and all that only the old one had.
async fn is_whole(ends: &mut Ends, name: &StreamName, (key, beside): (&[u8], &[u8])) -> Result<bool, WireError> {
    let stands = stream_facts(ends.target_of(beside).await?, beside).await?.unwrap_or_default();
    let terms = Terms::through(stands.last);
    let (source, target) = ends.both(name).await?;
    let (mut a, mut b) = (Side { line: source, key: &name.key }, Side { line: target, key: beside });
    let [missing, _, other, ..] = difference(&mut a, &mut b, terms).await?.counts;
    // A second line: both keys lie on the same node.
    let nodes = ends.target.nodes().await?;
    let (mut old, _) = nodes.door(&nodes.of(key)?).open(ends.plan.settings.target_db).await?;
    let target = ends.target_of(beside).await?;
    let (mut a, mut b) = (Side { line: &mut old, key }, Side { line: target, key: beside });
    let lost = difference(&mut a, &mut b, terms).await?.counts[0];
    Ok(missing + other + lost == 0)
}

/// Puts the new stream in the place of the old one, if nothing was added to that or deleted from it since; its chain of
/// evidence says so.
async fn exchange(
    (guard, writer): (&mut Writer, &mut Writer),
    (key, beside): (&[u8], &[u8]),
    stood: EntryId,
    is_chained: bool,
) -> Result<Option<String>, WireError> {
    let link = match is_chained {
        false => None,
        true => {
            let last = stream_facts(writer.line(), beside).await?.unwrap_or_default().last;
            let held = digest_of(writer.line(), beside, (EntryId::ZERO, last), || ()).await?;
            Some(held.link(LinkKind::Rebuilt, (EntryId::ZERO, last)))
        }
    };
    Ok(match guard.replace(key, beside, stood, link).await? {
        Written::Now(_) => None,
        Written::Moved(_) => {
            Some("the stream moved on while it was rebuilt; pause the pipeline (gapless sync pause)".to_owned())
        }
        Written::Refused(reason) => Some(reason),
    })
}
