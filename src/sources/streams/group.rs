//! Group: the consumer group of mode `group`, what it holds, and a group that only shows a position.

use crate::ids::EntryId;
use crate::wire::{Answer, Line, Request, WireError};

/// Entries of one step of a takeover.
const TAKE_PAGE: &[u8] = b"500";

/// Makes sure that the group is there; answers whether it is. It is made to stand at `after`, never a stream with it.
pub async fn ensure_group(
    line: &mut Line,
    key: &[u8],
    group: &str,
    after: EntryId,
    create: bool,
) -> Result<bool, WireError> {
    let there = crate::wire::look::groups(line, key).await?;
    if there.iter().any(|known| known.name == group.as_bytes()) {
        return Ok(true);
    }
    if !create {
        return Ok(false);
    }
    match line.call(&[b"XGROUP", b"CREATE", key, group.as_bytes(), after.to_string().as_bytes()]).await {
        Ok(_) => Ok(true),
        Err(WireError::Refused { reason, .. }) if reason.starts_with("BUSYGROUP") => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes whatever any consumer of the group holds: we alone read through it, so they are dead, or ourselves before.
pub async fn take_over(line: &mut Line, key: &[u8], group: &str, consumer: &str) -> Result<(), WireError> {
    let mut cursor = b"0-0".to_vec();
    loop {
        let args: [&[u8]; 9] =
            [b"XAUTOCLAIM", key, group.as_bytes(), consumer.as_bytes(), b"0", &cursor, b"COUNT", TAKE_PAGE, b"JUSTID"];
        let reply = line.call(&args).await?;
        let Some(next) = reply.list().first() else { return Err(line.nonsense("XAUTOCLAIM of another form")) };
        cursor = next.bytes().to_vec();
        if cursor == b"0-0" || cursor.is_empty() {
            return Ok(());
        }
    }
}

/// What our consumer holds behind an id, in order; entries that were deleted meanwhile are only ids.
pub async fn own_pending(
    line: &mut Line,
    key: &[u8],
    group: &str,
    consumer: &str,
    after: EntryId,
) -> Result<Answer, WireError> {
    let after = after.to_string();
    let args: [&[u8]; 9] = [
        b"XREADGROUP",
        b"GROUP",
        group.as_bytes(),
        consumer.as_bytes(),
        b"COUNT",
        TAKE_PAGE,
        b"STREAMS",
        key,
        after.as_bytes(),
    ];
    line.send(&Request::of(&args)).await?;
    line.streams(std::time::Duration::ZERO, "XREADGROUP").await
}

/// Acknowledges entries that are on the target. A repeat changes nothing.
pub async fn acknowledge(line: &mut Line, key: &[u8], group: &str, ids: &[EntryId]) -> Result<(), WireError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut request = Request::new();
    request.begin(3 + ids.len());
    request.argument(b"XACK");
    request.argument(key);
    request.argument(group.as_bytes());
    ids.iter().for_each(|id| request.argument(id.to_string().as_bytes()));
    line.send(&request).await?;
    match line.reply().await? {
        crate::wire::Reply::Error(words) => Err(line.refused("XACK", &words)),
        _ => Ok(()),
    }
}

/// Moves a group that only shows how far the copy is; it is made where it is missing.
pub async fn publish_position(
    line: &mut Line,
    key: &[u8],
    group: &str,
    position: EntryId,
    read: Option<u64>,
) -> Result<(), WireError> {
    let (position, read) = (position.to_string(), read.map(|read| read.to_string()));
    let mut set: Vec<&[u8]> = vec![b"XGROUP", b"SETID", key, group.as_bytes(), position.as_bytes()];
    if let Some(read) = &read {
        set.extend([b"ENTRIESREAD".as_slice(), read.as_bytes()]);
    }
    match line.call(&set).await {
        Ok(_) => Ok(()),
        Err(WireError::Refused { reason, .. }) if reason.starts_with("NOGROUP") => {
            set[1] = b"CREATE";
            line.call(&set).await.map(drop)
        }
        // The stream is gone; nobody asks how far it was copied.
        Err(WireError::Refused { reason, .. }) if reason.contains("requires the key to exist") => Ok(()),
        Err(error) => Err(error),
    }
}
