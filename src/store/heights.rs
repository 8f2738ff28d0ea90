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
    /// Server milliseconds of the parking; none where an earlier release parked them.
    pub since_ms: Option<u64>,
    /// Why nothing fills them.
    pub reason: String,
}

/// How the reason begins where an operator parked the heights.
const BY_OPERATOR: &str = "by an operator: ";

impl Parked {
    /// The reason of an operator, so that it can be told from those of the program.
    pub fn reason_of_operator(words: &str) -> String {
        format!("{BY_OPERATOR}{words}")
    }

    /// Whether an operator parked them: they stay parked until an operator says otherwise.
    pub fn by_operator(&self) -> bool {
        self.reason.starts_with(BY_OPERATOR)
    }
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

    /// Held intervals that touch `within`, highest first, at most [`PAGE`]; fewer means that there are no more.
    pub async fn held_down(
        &self,
        link: &Link,
        pipeline: &PipelineId,
        within: HeightRange,
    ) -> Result<Vec<Piece>, StoreError> {
        let mut cmd = redis::cmd("ZREVRANGEBYSCORE");
        // One that begins below the range may reach into it: it is the last of these, the others end below.
        cmd.arg(self.keys.held(pipeline)).arg(within.hi()).arg("-inf").arg("LIMIT").arg(0).arg(PAGE);
        let row = Row::new("ZREVRANGEBYSCORE", link.call("ZREVRANGEBYSCORE", &cmd).await?)?;
        let members = row.rest().map(|value| super::reply::text("ZREVRANGEBYSCORE", value));
        let pieces = members.map(|member| parse_piece(&member?)).collect::<Result<Vec<_>, _>>()?;
        Ok(pieces.into_iter().take_while(|piece| piece.range.hi() >= within.lo()).collect())
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

/// `lo hi @since reason`, or without the time, as releases before wrote it.
fn parse_parked(member: &str) -> Result<Parked, StoreError> {
    let (range, rest) = bounds(member)?;
    let stamped = rest.strip_prefix('@').and_then(|rest| rest.split_once(' '));
    let stamped = stamped.and_then(|(since, reason)| Some((since.parse().ok()?, reason)));
    let (since_ms, reason) = stamped.map_or((None, rest), |(since, reason)| (Some(since), reason));
    Ok(Parked { range, since_ms, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_read_as_the_scripts_write_them() {
        let piece = parse_piece("5 9 0xaa 0xbb").expect("a piece");
        assert_eq!((piece.range.lo(), piece.range.hi(), piece.hash.as_str()), (5, 9, "0xbb"));
        let parked = parse_parked("5 9 @1795232433116 the node pruned it").expect("parked");
        assert_eq!((parked.since_ms, parked.reason.as_str()), (Some(1_795_232_433_116), "the node pruned it"));
    }

    #[test]
    fn members_without_a_time_are_read_as_they_were_written() {
        for reason in ["the node pruned it", "@home", "@x y", "@-1 y", "@", ""] {
            let parked = parse_parked(&format!("5 9 {reason}")).expect("parked");
            assert_eq!((parked.since_ms, parked.reason.as_str()), (None, reason));
        }
    }

    #[test]
    fn what_an_operator_parked_is_told_from_the_rest() {
        let parked = |reason: &str| parse_parked(&format!("5 9 @7 {reason}")).expect("parked");
        assert!(parked(&Parked::reason_of_operator("known to be lost")).by_operator());
        assert!(!parked("the node pruned it").by_operator());
    }

    proptest! {
        #[test]
        fn hostile_members_are_errors(text in ".{0,60}") {
            let _ = parse_piece(&text);
            let _ = parse_parked(&text);
        }
    }
}
