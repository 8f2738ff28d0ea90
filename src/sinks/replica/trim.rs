//! Trim: deletions of the source on the target, never past what a group of the target has not done with; and the cap.

use crate::ids::EntryId;
use crate::wire::{Line, Reply, Request, WireError, look};

/// Up to which entry nothing may be deleted on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// No group is there that could want anything.
    Open,
    /// Entries above this id are not read by every group, or not acknowledged.
    Above(EntryId),
}

impl Fence {
    /// Whether an entry may go.
    pub fn allows(self, id: EntryId) -> bool {
        match self {
            Fence::Open => true,
            Fence::Above(last) => id <= last,
        }
    }
}

/// Looks at every group of the target's stream: what the slowest of them has done with may go.
pub async fn fence(line: &mut Line, key: &[u8]) -> Result<Fence, WireError> {
    let mut fence = Fence::Open;
    for group in look::groups(line, key).await? {
        let held = line.call(&[b"XPENDING", key, &group.name, b"-", b"+", b"1"]).await?;
        let first = held.list().first().and_then(|row| row.list().first()).and_then(|id| id.text().parse().ok());
        let done = first.map_or(group.delivered, before);
        fence = match fence {
            Fence::Open => Fence::Above(done),
            Fence::Above(other) => Fence::Above(other.min(done)),
        };
    }
    Ok(fence)
}

/// The id just below.
fn before(id: EntryId) -> EntryId {
    match (id.seq.checked_sub(1), id.ms.checked_sub(1)) {
        (Some(seq), _) => EntryId { ms: id.ms, seq },
        (None, Some(ms)) => EntryId { ms, seq: u64::MAX },
        (None, None) => EntryId::ZERO,
    }
}

/// Deletes entries below an id, as far as the fence allows; answers how many.
pub async fn trim_below(line: &mut Line, key: &[u8], id: EntryId, fence: Fence) -> Result<u64, WireError> {
    let id = match fence {
        Fence::Above(last) => id.min(EntryId { ms: last.ms, seq: last.seq.saturating_add(1) }),
        Fence::Open => id,
    };
    let reply = line.call(&[b"XTRIM", key, b"MINID", id.to_string().as_bytes()]).await?;
    Ok(reply.int().and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

/// Keeps the newest entries, so many.
pub async fn cap(line: &mut Line, key: &[u8], entries: u64) -> Result<u64, WireError> {
    let reply = line.call(&[b"XTRIM", key, b"MAXLEN", entries.to_string().as_bytes()]).await?;
    Ok(reply.int().and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

/// Deletes single entries.
pub async fn delete(line: &mut Line, key: &[u8], ids: &[EntryId]) -> Result<(), WireError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut request = Request::new();
    request.begin(2 + ids.len());
    request.argument(b"XDEL");
    request.argument(key);
    ids.iter().for_each(|id| request.argument(id.to_string().as_bytes()));
    line.send(&request).await?;
    match line.reply().await? {
        Reply::Error(words) => Err(line.refused("XDEL", &words)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_below_borrows_from_the_milliseconds() {
        assert_eq!(before(EntryId { ms: 5, seq: 3 }), EntryId { ms: 5, seq: 2 });
        assert_eq!(before(EntryId { ms: 5, seq: 0 }), EntryId { ms: 4, seq: u64::MAX });
        assert_eq!(before(EntryId::ZERO), EntryId::ZERO);
        assert!(Fence::Open.allows(EntryId { ms: 9, seq: 9 }));
        assert!(!Fence::Above(EntryId { ms: 5, seq: 0 }).allows(EntryId { ms: 5, seq: 1 }));
    }
}
