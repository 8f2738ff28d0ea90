//! `blocks list` and `blocks orphans`: what stands in the folder, by the lines beside the blocks.

use serde_json::{Value, json};

use super::index::Index;
use super::{Chosen, Desk, Exit, show};
use crate::cli::output::{self, Side, Table};
use crate::cli::progress::Progress;
use crate::cli::words::{self, count, grouped};
use crate::messages::block::{BlockHash, Piece};
use crate::messages::heights::{Height, HeightRange};
use crate::sinks::block_files::READ_HEIGHTS_MAX;
use crate::sinks::{BlockFiles, BlockMeta};

/// Blocks that are listed without a range.
pub(super) const NEWEST: usize = 20;
/// Blocks that are listed of a range.
const OF_A_RANGE: usize = 1_000;

/// The lines of all blocks of a range, by height, lowest first; none where the file has none that can be read.
async fn lines(files: &BlockFiles, range: HeightRange) -> Result<Vec<(Height, Lines)>, Exit> {
    let stored = files.read_range(range).await.map_err(|error| Exit::usage(&error.to_string()))?;
    let of =
        |stored: Vec<crate::sinks::StoredBlock>| stored.into_iter().map(|block| (block.hash, block.meta)).collect();
    Ok(stored.into_iter().map(|(height, stored)| (height, of(stored))).collect())
}

/// Hashes of a height's files with the line beside each.
type Lines = Vec<(BlockHash, Option<BlockMeta>)>;

/// The heights of a range with several blocks, lowest first.
async fn several(files: &BlockFiles, range: HeightRange) -> Result<Vec<(Height, Vec<BlockHash>)>, Exit> {
    let all = lines(files, range).await?;
    let several = all.into_iter().filter(|(_, lines)| lines.len() > 1);
    Ok(several.map(|(height, lines)| (height, lines.into_iter().map(|(hash, _)| hash).collect())).collect())
}

/// A held height as the folder has it.
struct Row {
    height: Height,
    /// The line beside the block that belongs there.
    meta: Option<BlockMeta>,
    /// Why there is none.
    fault: &'static str,
}

impl Row {
    /// The line's own members, and what is wrong.
    fn to_json(&self) -> Value {
        let mut value = match &self.meta {
            // A line that was read can be written.
            Some(meta) => serde_json::to_value(meta).unwrap_or_default(),
            None => json!({ "height": self.height }),
        };
        value["fault"] = self.fault.into();
        value
    }

    fn cells(&self) -> Vec<String> {
        let value = self.to_json();
        let text = |name: &str| match &value[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => words::or_dash(&words::plain(text)),
            other => other.to_string(),
        };
        let time = self.meta.as_ref().and_then(|meta| jiff::Timestamp::from_second(meta.time).ok());
        let time = time.map_or_else(|| "-".to_owned(), |time| time.to_string());
        let size = self.meta.as_ref().map_or_else(|| "-".to_owned(), |meta| grouped(meta.bytes));
        let hash = if self.fault.is_empty() { text("hash") } else { self.fault.to_owned() };
        let (ms, attempt) = (text("fetched_ms"), text("attempt"));
        vec![self.height.to_string(), hash, text("parent"), time, size, attempt, ms, text("endpoint")]
    }
}

/// Prints the lines of the blocks of a range, or of the newest.
pub(super) async fn list(
    desk: &Desk,
    chosen: &Chosen,
    range: Option<HeightRange>,
    limit: Option<usize>,
) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, range).await?;
    let limit = limit.unwrap_or(if range.is_some() { OF_A_RANGE } else { NEWEST });
    let within = range.or(index.wanted(chosen));
    let held = within.map_or(0, |within| index.held_count(within));
    let mut parts = within.map_or_else(Vec::new, |within| parts(&index, within, limit, range.is_none()));
    parts.sort_by_key(|(part, _)| part.lo());
    let files = show::open(chosen)?;
    let mut progress = Progress::new("blocks", Some(parts.iter().map(|(part, _)| part.count()).sum()));
    let mut rows = Vec::new();
    for (part, piece) in parts {
        for part in part.chunks(READ_HEIGHTS_MAX) {
            for (height, lines) in lines(&files, part).await? {
                rows.push(row(&files, piece, height, lines).await?);
            }
            progress.add(part.count());
        }
    }
    progress.end();
    let more = held - rows.len() as u64;
    if desk.json {
        let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
        return Ok(output::json(&json!({ "range": within, "blocks": rows, "more": more }), Exit::good()));
    }
    Ok(output::text(&table(&rows, within, more), Exit::good()))
}

fn table(rows: &[Row], within: Option<HeightRange>, more: u64) -> String {
    let Some(within) = within else { return "nothing yet: no collector has seen the chain\n".to_owned() };
    if rows.is_empty() {
        return format!("nothing is held in {within}\n");
    }
    let columns = [
        ("HEIGHT", Side::Right),
        ("HASH", Side::Left),
        ("PARENT", Side::Left),
        ("TIME", Side::Left),
        ("BYTES", Side::Right),
        ("TRY", Side::Right),
        ("MS", Side::Right),
        ("ENDPOINT", Side::Left),
    ];
    let mut table = Table::new(&columns).whole();
    rows.iter().for_each(|row| table.row(row.cells()));
    let more = match usize::try_from(more).unwrap_or(usize::MAX) {
        0 => String::new(),
        more => format!("... and {} (--limit, or A..B)\n", count(more, "more block", "more blocks")),
    };
    format!("{}{more}", table.render())
}

/// At most `limit` held heights of a range with the piece that each part belongs to: the highest or the lowest ones.
fn parts<'a>(index: &'a Index, within: HeightRange, limit: usize, highest: bool) -> Vec<(HeightRange, &'a Piece)> {
    let mut left = limit as u64;
    let mut parts = Vec::new();
    let mut take = |piece: &'a Piece| {
        let part = piece.range.intersect(within);
        let Some(part) = part.filter(|_| left > 0) else { return };
        let taken = part.count().min(left);
        left -= taken;
        let cut = match highest {
            true => HeightRange::new(part.hi() - (taken - 1), part.hi()),
            false => HeightRange::new(part.lo(), part.lo() + (taken - 1)),
        };
        parts.extend(cut.map(|cut| (cut, piece)));
    };
    if highest {
        index.held.iter().rev().for_each(&mut take)
    } else {
        index.held.iter().for_each(&mut take)
    }
    parts
}

/// The line of the block that belongs at a held height.
async fn row(files: &BlockFiles, piece: &Piece, height: Height, mut lines: Lines) -> Result<Row, Exit> {
    if lines.len() > 1 {
        let belongs = belonging(files, piece, height).await?;
        lines.retain(|(hash, _)| Some(hash) == belongs.as_ref());
    }
    Ok(match lines.pop() {
        Some((_, Some(meta))) => Row { height, meta: Some(meta), fault: "" },
        Some((_, None)) => Row { height, meta: None, fault: "no line beside it" },
        None => Row { height, meta: None, fault: "its file is gone" },
    })
}

async fn belonging(files: &BlockFiles, piece: &Piece, height: Height) -> Result<Option<BlockHash>, Exit> {
    files.wanted_at(piece, height).await.map_err(|error| Exit::usage(&error.to_string()))
}

/// A block that stands beside the one that belongs.
struct Orphan {
    height: Height,
    hash: BlockHash,
    canonical: Option<BlockHash>,
}

/// Prints the blocks that a reorganisation left, lowest first.
pub(super) async fn orphans(
    desk: &Desk,
    chosen: &Chosen,
    range: Option<HeightRange>,
    limit: usize,
) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, range).await?;
    let within = range.or(index.wanted(chosen));
    let (found, more) = find_orphans(&show::open(chosen)?, &index, within, limit).await?;
    if desk.json {
        let rows = found.iter().map(|o| json!({ "height": o.height, "hash": o.hash, "canonical": o.canonical }));
        let rows: Vec<_> = rows.collect();
        return Ok(output::json(&json!({ "range": within, "orphans": rows, "more": more }), Exit::good()));
    }
    Ok(output::text(&orphans_text(&found, within, more), Exit::good()))
}

/// The first orphans of held heights, and how many more there are.
async fn find_orphans(
    files: &BlockFiles,
    index: &Index,
    within: Option<HeightRange>,
    limit: usize,
) -> Result<(Vec<Orphan>, u64), Exit> {
    let mut progress = Progress::new("heights", Some(within.map_or(0, |within| index.held_count(within))));
    let (mut found, mut more) = (Vec::new(), 0_u64);
    let pieces = index.held.iter().filter_map(|piece| Some((piece.range.intersect(within?)?, piece)));
    for (part, piece) in pieces {
        for part in part.chunks(READ_HEIGHTS_MAX) {
            for (height, hashes) in several(files, part).await? {
                let canonical = belonging(files, piece, height).await?;
                for hash in hashes.into_iter().filter(|hash| Some(hash) != canonical.as_ref()) {
                    if found.len() < limit {
                        found.push(Orphan { height, hash, canonical: canonical.clone() });
                    } else {
                        more += 1;
                    }
                }
            }
            progress.add(part.count());
        }
    }
    progress.end();
    Ok((found, more))
}

fn orphans_text(found: &[Orphan], within: Option<HeightRange>, more: u64) -> String {
    let Some(within) = within else { return "nothing yet: no collector has seen the chain\n".to_owned() };
    if found.is_empty() {
        return format!("no orphans in {within}\n");
    }
    let mut table = Table::new(&[("HEIGHT", Side::Right), ("ORPHAN", Side::Left), ("CANONICAL", Side::Left)]).whole();
    for orphan in found {
        let canonical = orphan.canonical.as_ref().map_or_else(|| "nothing says which".to_owned(), ToString::to_string);
        table.row(vec![orphan.height.to_string(), orphan.hash.to_string(), canonical]);
    }
    let more = match usize::try_from(more).unwrap_or(usize::MAX) {
        0 => String::new(),
        more => format!("... and {} (--limit)\n", count(more, "more orphan", "more orphans")),
    };
    format!("{}{more}", table.render())
}
