//! Marks: a hash on the target says which pipeline copies to which stream.
//!
//! Two pipelines that would write one stream meet here, and a pipeline in the other direction passes over what is a
//! copy itself. Its name is the same on every Redis; who looks for streams by a pattern never finds it, it is no stream.

use crate::wire::{Line, Request, WireError};

/// The hash: key of a stream to the pipeline that copies to it.
pub const MARKS: &[u8] = b"gapless:replicas";
/// Behind the owner once something was copied, or the target's top was seen to be the source's.
const BEGUN: &str = " begun";
/// Behind the owner, before the number, where the target's count of added entries is the source's and that number.
const COUNTED: &str = " counted ";

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which pipeline of which cluster copies here.
    pub owner: String,
    /// What is on the target came from the source, as far as that could be seen.
    pub begun: bool,
    /// The stream's count of added entries is that of the source and this number: 0, unless the source was made anew.
    pub counted: Option<i64>,
}

impl Mark {
    fn read(text: &str) -> Self {
        let (text, counted) = match text.split_once(COUNTED) {
            Some((text, base)) => (text, base.parse().ok()),
            None => (text, None),
        };
        match text.strip_suffix(BEGUN) {
            Some(owner) => Self { owner: owner.to_owned(), begun: true, counted },
            None => Self { owner: text.to_owned(), begun: false, counted },
        }
    }

    fn text(&self) -> String {
        let counted = self.counted.map_or_else(String::new, |base| format!("{COUNTED}{base}"));
        format!("{}{}{counted}", self.owner, if self.begun { BEGUN } else { "" })
    }
}

/// Marks a stream, unless somebody has; answers the mark that stands there then. A repeat changes nothing.
pub async fn mark(line: &mut Line, key: &[u8], owner: &str) -> Result<Mark, WireError> {
    line.call(&[b"HSETNX", MARKS, key, owner.as_bytes()]).await?;
    let reply = line.call(&[b"HGET", MARKS, key]).await?;
    Ok(Mark::read(&reply.text()))
}

/// Notes that the stream's count is the source's from now on.
pub async fn set_mark(line: &mut Line, key: &[u8], mark: &Mark) -> Result<(), WireError> {
    line.call(&[b"HSET", MARKS, key, mark.text().as_bytes()]).await.map(drop)
}

/// Takes a mark off, if it is ours.
pub async fn unmark(line: &mut Line, key: &[u8], owner: &str) -> Result<(), WireError> {
    let reply = line.call(&[b"HGET", MARKS, key]).await?;
    if Mark::read(&reply.text()).owner == owner {
        line.call(&[b"HDEL", MARKS, key]).await?;
    }
    Ok(())
}

/// The marks of these streams, in their order; a user who may not read them sees none.
pub async fn marks_of(line: &mut Line, keys: &[Vec<u8>]) -> Result<Vec<Option<Mark>>, WireError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut request = Request::new();
    request.begin(2 + keys.len());
    request.argument(b"HMGET");
    request.argument(MARKS);
    keys.iter().for_each(|key| request.argument(key));
    line.send(&request).await?;
    let reply = line.reply().await?;
    if let crate::wire::Reply::Error(words) = &reply {
        return if words.starts_with("NOPERM") {
            Ok(vec![None; keys.len()])
        } else {
            Err(line.refused("HMGET", words))
        };
    }
    let read = |text: &crate::wire::Reply| Some(text.text()).filter(|text| !text.is_empty()).map(|t| Mark::read(&t));
    Ok(reply.list().iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_its_text() {
        for mark in [
            Mark { owner: "sync.x@a".to_owned(), begun: true, counted: Some(-3) },
            Mark { owner: "sync.x@a".to_owned(), begun: false, counted: None },
        ] {
            assert_eq!(Mark::read(&mark.text()), mark);
        }
    }
}
