//! Discover: which keys of a database are streams of a pattern. Page by page, so that the server never waits long.

use crate::wire::{Line, Request, WireError};

/// Keys that one page of a scan looks at.
const SCAN_PAGE: &[u8] = b"1000";

/// What one look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Keys of streams, in no order, each once.
    pub keys: std::collections::BTreeSet<Vec<u8>>,
    /// More of them than the caller takes.
    pub is_cut: bool,
}

/// Finds the streams of the database that this line stands in and that match any of the patterns; at most `max`.
///
/// A key that appears while the look goes on may be missed by it; the next one finds it.
pub async fn find(line: &mut Line, patterns: &[String], max: usize) -> Result<Found, WireError> {
    let mut found = Found::default();
    for pattern in patterns {
        let mut cursor = b"0".to_vec();
        loop {
            let args: [&[u8]; 8] =
                [b"SCAN", &cursor, b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_PAGE, b"TYPE", b"stream"];
            let reply = line.call(&args).await?;
            let [next, keys] = reply.list() else { return Err(line.nonsense("SCAN of another form")) };
            for key in keys.list() {
                if found.keys.len() >= max && !found.keys.contains(key.bytes()) {
                    found.is_cut = true;
                    return Ok(found);
                }
                found.keys.insert(key.bytes().to_vec());
            }
            cursor = next.bytes().to_vec();
            if cursor == b"0" {
                break;
            }
        }
    }
    Ok(found)
}

/// Whether each of these keys is a stream.
pub async fn is_stream(line: &mut Line, keys: &[Vec<u8>]) -> Result<Vec<bool>, WireError> {
    let mut request = Request::new();
    for key in keys {
        request.command(&[b"TYPE", key]);
    }
    Ok(line.all(&request).await?.iter().map(|reply| reply.bytes() == b"stream").collect())
}
