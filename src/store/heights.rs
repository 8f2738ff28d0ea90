//! The held and parked heights of a blocks pipeline, read page by page. They change only inside commits.

use super::Store;
use super::effect::Piece;
use super::error::StoreError;
use super::link::Link;
use super::reply::Row;
use crate::ids::PipelineId;
use crate::messages::block::BlockHash;
use crate::messages::heights::{Height, HeightRange};

/// Intervals of one page: bounds the answer to a few tens of kilobytes.
pub const PAGE: usize = 500;

/// A parked interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The heights.
    pub range: HeightRange,
    /// Why nothing fills them.
    pub reason: String,
}

impl Store {
    /// Held intervals that touch `within`, lowest first, at most [`PAGE`]; fewer means that there are no more.
    ///
    /// A snapshot of a set that others change: good for proposing work, never for recording it.
    pub async fn held(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        within: HeightRange,
    ) -> Result<Vec<Piece>, StoreError> {
        let members = self.intervals(link, &self.keys.held(pipeline), within).await?;
        members.iter().map(|member| parse_piece(member)).collect()
    }

    /// Parked intervals that touch `within`, as [`Store::held`].
    pub async fn parked(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        within: HeightRange,
    ) -> Result<Vec<Parked>, StoreError> {
        let members = self.intervals(link, &self.keys.parked(pipeline), within).await?;
        members.iter().map(|member| parse_parked(member)).collect()
    }

    /// Forgets notes of the trash that are older than `before_ms` (server milliseconds). Safe to repeat.
    pub async fn trim_trash(&self, link: &Link, pipeline: &PipelineId, before_ms: u64) -> Result<(), StoreError> {
        let mut cmd = redis::cmd("XTRIM");
        cmd.arg(self.keys.trash(pipeline)).arg("MINID").arg(before_ms);
        link.call("XTRIM", &cmd).await.map(drop)
    }

    /// How many intervals the held set has: gaps cost memory, heights do not.
    pub async fn held_intervals(&self, link: &Link, pipeline: &PipelineId) -> Result<u64, StoreError> {
        let value = link.call("ZCARD", redis::cmd("ZCARD").arg(self.keys.held(pipeline))).await?;
        super::reply::text("ZCARD", value).map(|n| n.parse().unwrap_or(0))
    }

    async fn intervals(&self, link: &Link, key: &str, within: HeightRange) -> Result<Vec<String>, StoreError> {
        let mut below = redis::cmd("ZREVRANGEBYSCORE");
        // The interval that begins below the range may reach into it.
        below.arg(key).arg(format!("({}", within.lo())).arg("-inf").arg("LIMIT").arg(0).arg(1);
        let mut inside = redis::cmd("ZRANGEBYSCORE");
        inside.arg(key).arg(within.lo()).arg(within.hi()).arg("LIMIT").arg(0).arg(PAGE);
        let mut members = Vec::new();
        for cmd in [below, inside] {
            let row = Row::new("ZRANGEBYSCORE", link.call("ZRANGEBYSCORE", &cmd).await?)?;
            for value in row.rest() {
                members.push(super::reply::text("ZRANGEBYSCORE", value)?);
            }
        }
        members.retain(|member| bounds(member).is_ok_and(|(range, _)| range.hi() >= within.lo()));
        Ok(members)
    }
}

fn bounds(member: &str) -> Result<(HeightRange, &str), StoreError> {
    let fault = || StoreError::Protocol(format!("`{}` is no interval", member.escape_debug()));
    let mut parts = member.splitn(3, ' ');
    let mut number = || parts.next().and_then(|part| part.parse::<Height>().ok()).ok_or_else(fault);
    let range = HeightRange::new(number()?, number()?).map_err(|_| fault())?;
    Ok((range, parts.next().ok_or_else(fault)?))
}

fn parse_piece(member: &str) -> Result<Piece, StoreError> {
    let (range, rest) = bounds(member)?;
    let hash = |text: Option<&str>| BlockHash::new(text.unwrap_or("")).map_err(StoreError::Protocol);
    let mut edges = rest.split(' ');
    Ok(Piece { range, parent: hash(edges.next())?, hash: hash(edges.next())? })
}

fn parse_parked(member: &str) -> Result<Parked, StoreError> {
    let (range, reason) = bounds(member)?;
    Ok(Parked { range, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_read_as_the_scripts_write_them() {
        let piece = parse_piece("5 9 0xaa 0xbb").expect("a piece");
        assert_eq!((piece.range.lo(), piece.range.hi(), piece.hash.as_str()), (5, 9, "0xbb"));
        assert_eq!(parse_parked("5 9 the node pruned it").expect("parked").reason, "the node pruned it");
    }

    proptest! {
        #[test]
        fn hostile_members_are_errors(text in ".{0,60}") {
            let _ = parse_piece(&text);
            let _ = parse_parked(&text);
        }
    }
}
