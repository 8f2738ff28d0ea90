//! `blocks fill`, `blocks park`, `blocks unpark`: wishes of operators, sent to the detector's mailbox.

use std::time::Duration;

use serde_json::json;

use super::index::{self, Index};
use super::{Chosen, Desk, Exit, fault, wait};
use crate::cli::output;
use crate::cli::words::{self, heights};
use crate::ids::{Address, RandomId};
use crate::messages::gap::{DetectorMessage, PARK_REASON_MAX};
use crate::messages::heights::{HEIGHT_MAX, HeightRange};
use crate::store::StoreError;
use crate::store::effect::Outgoing;
use crate::supervisor::wiring;

/// The detector of a pipeline.
pub(super) fn detector(chosen: &Chosen) -> Address {
    Address::new(&chosen.pipeline, "gap_detector")
}

/// Sends a wish to the detector, once also where the answer is lost. 1 when its mailbox is full.
pub(super) async fn tell(desk: &Desk, chosen: &Chosen, message: &DetectorMessage) -> Result<(), Exit> {
    let detector = detector(chosen);
    let capacity = wiring::capacity(&desk.settings, &detector);
    let message = Outgoing::new(message).map_err(fault)?;
    let id = RandomId::new();
    match desk.store.send(&desk.link, &detector, capacity, Some(id.as_str()), &message).await {
        Ok(_) => Ok(()),
        Err(StoreError::Full { .. }) => Err(Exit::missing(&format!(
            "the mailbox of {detector} is full ({capacity} messages); is a node running? try again later"
        ))),
        Err(error) => Err(fault(error)),
    }
}

/// Whether a node lives that runs the detector: without one an order waits.
async fn is_run(desk: &Desk, chosen: &Chosen) -> Result<bool, Exit> {
    let detector = detector(chosen).to_string();
    let nodes = desk.store.nodes(&desk.link).await.map_err(fault)?;
    Ok(nodes.iter().any(|node| node.runs.contains(&detector)))
}

/// What is said where nobody obeys now.
fn until_run(chosen: &Chosen, runs: bool) -> String {
    if runs { String::new() } else { format!("no node runs {} now: it is done when one does\n", detector(chosen)) }
}

/// The wanted heights, if `range` lies within them; else what is wrong with it and what to write.
fn within(index: &Index, chosen: &Chosen, range: HeightRange) -> Result<HeightRange, Exit> {
    let wanted = index
        .wanted(chosen)
        .ok_or_else(|| Exit::usage("no collector has seen the chain yet; start a node: gapless run"))?;
    misfit(range, wanted, index.head == Some(wanted.hi())).map_or(Ok(wanted), |words| Err(Exit::usage(&words)))
}

/// Why `range` does not lie within what is wanted. Pure.
fn misfit(range: HeightRange, wanted: HeightRange, up_to_head: bool) -> Option<String> {
    let remedy = match range.intersect(wanted) {
        Some(part) => format!("write {part}"),
        None => format!("wanted are {wanted}"),
    };
    if range.hi() > wanted.hi() {
        let (limit, why) = match up_to_head {
            true => ("head", "no node of the chain has those heights yet"),
            false => ("configured end", "heights above it are not wanted"),
        };
        return Some(format!("{range} reaches above the {limit}, {}: {why}; {remedy}", wanted.hi()));
    }
    let start = wanted.lo();
    (range.lo() < start)
        .then(|| format!("{range} reaches below the start, {start}: heights below it are not wanted; {remedy}"))
}

pub(super) async fn fill(
    desk: &Desk,
    chosen: &Chosen,
    range: HeightRange,
    waits: Option<Option<Duration>>,
) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, Some(range)).await?;
    within(&index, chosen, range)?;
    let count = wait::Count::of(&index, range);
    let not_final = not_final(&index, range);
    let sent = count.held < range.count();
    let (asked_ms, runs) = (desk.store.now_ms(&desk.link).await.map_err(fault)?, is_run(desk, chosen).await?);
    if sent {
        tell(desk, chosen, &DetectorMessage::Fill { range }).await?;
    }
    if !desk.json {
        output::say(fill_words(range, &count, not_final).trim_end());
        if sent && !runs {
            output::say(until_run(chosen, runs).trim_end());
        }
    }
    let waited = match waits {
        Some(timeout) if sent => Some(wait::until_filled(desk, chosen, range, asked_ms, timeout).await?),
        Some(_) | None => None,
    };
    let exit = if waited.as_ref().is_none_or(wait::Waited::is_whole) { Exit::good() } else { Exit::found() };
    if desk.json {
        let answer = json!({
            "range": range, "held": count.held, "parked": count.parked, "missing": count.missing,
            "not_final": not_final, "sent": sent, "runs": runs, "waited": waited.map(|waited| waited.to_json()),
        });
        return Ok(output::json(&answer, exit));
    }
    Ok(waited.map_or(exit, |waited| output::text(&waited.to_text(range), exit)))
}

/// Heights of the range that are not held and not final yet: the pool leaves them to the Collector.
fn not_final(index: &Index, range: HeightRange) -> u64 {
    let above = match index.finalized {
        Some(top) => HeightRange::new(range.lo().max(top + 1), range.hi()).ok(),
        None => Some(range),
    };
    above.map_or(0, |range| index.not_held(range).count())
}

/// What becomes of each height of the range.
fn fill_words(range: HeightRange, count: &wait::Count, not_final: u64) -> String {
    let all = heights(range.count());
    if count.held == range.count() {
        return format!("{all}, {range}: all held; there is nothing to fetch");
    }
    let mut parts = vec![format!("{} missing", words::grouped(count.missing))];
    if count.parked > 0 {
        parts.push(format!("{} parked and let go", words::grouped(count.parked)));
    }
    if count.held > 0 {
        parts.push(format!("{} held and skipped", words::grouped(count.held)));
    }
    let mut text = format!("{all}, {range}: {}; the detector asks for what is not held", parts.join(", "));
    if not_final > 0 {
        let verb = if not_final == 1 { "is" } else { "are" };
        text.push_str(&format!(
            "\n{} of them {verb} not final yet: the collector follows there, they come by themselves",
            words::grouped(not_final)
        ));
    }
    text
}

pub(super) async fn park(desk: &Desk, chosen: &Chosen, range: HeightRange, reason: &str) -> Result<Exit, Exit> {
    let index = Index::read(desk, chosen, Some(range)).await?;
    within(&index, chosen, range)?;
    let top = index.finalized;
    if top.is_none_or(|top| range.hi() > top) {
        let top = top.map_or_else(|| "nothing is final yet".to_owned(), |top| format!("final is {top} and below"));
        return Err(Exit::usage(&format!(
            "{range} reaches above finality ({top}): the collector follows there, and parking would not stop it"
        )));
    }
    let (held, runs) = (index.held_count(range), is_run(desk, chosen).await?);
    let parks = range.count() - held;
    if parks > 0 {
        tell(desk, chosen, &DetectorMessage::Park { range, reason: reason.to_owned() }).await?;
    }
    if desk.json {
        let answer = json!({ "range": range, "held": held, "to_park": parks, "sent": parks > 0, "runs": runs });
        return Ok(output::json(&answer, Exit::good()));
    }
    let mut text = match parks {
        0 => format!("{}, {range}: all held; held heights are never parked\n", heights(range.count())),
        parks => format!("{}, {range}: the detector parks {}\n", heights(range.count()), words::grouped(parks)),
    };
    if parks > 0 && held > 0 {
        text.push_str(&format!("{} held and {} so\n", heights(held), if held == 1 { "stays" } else { "stay" }));
    }
    if parks > 0 {
        text.push_str(&until_run(chosen, runs));
    }
    Ok(output::text(&text, Exit::good()))
}

/// A reason as it may be stored.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the reason is empty; say why nobody needs to fetch these heights".to_owned());
    }
    if text.len() > PARK_REASON_MAX {
        return Err(format!("the reason has {} bytes; at most {PARK_REASON_MAX} are kept", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("the reason must be one line without control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// `range`: none means everything that is parked.
pub(super) async fn unpark(desk: &Desk, chosen: &Chosen, range: Option<HeightRange>) -> Result<Exit, Exit> {
    let within = range.map_or_else(|| HeightRange::new(0, HEIGHT_MAX), Ok).map_err(|fault| Exit::usage(&fault))?;
    let parked = index::parked(desk, chosen, within).await?;
    let parked: u64 = parked.iter().filter_map(|parked| parked.range.intersect(within)).map(HeightRange::count).sum();
    let runs = is_run(desk, chosen).await?;
    if parked > 0 {
        tell(desk, chosen, &DetectorMessage::Unpark { range: within }).await?;
    }
    if desk.json {
        let answer = json!({ "range": range, "parked": parked, "sent": parked > 0, "runs": runs });
        return Ok(output::json(&answer, Exit::good()));
    }
    let place = range.map_or_else(String::new, |range| format!(" in {range}"));
    let text = match parked {
        0 => format!("nothing is parked{place}\n"),
        parked => {
            let (verb, them) = if parked == 1 { ("is", "it") } else { ("are", "them") };
            let run = until_run(chosen, runs);
            format!("{}{place} {verb} let go: missing again, and the detector asks for {them}\n{run}", heights(parked))
        }
    };
    Ok(output::text(&text, Exit::good()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lo: u64, hi: u64) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    #[test]
    fn a_range_that_does_not_fit_is_told_what_to_write() {
        let wanted = range(10, 851);
        assert_eq!(misfit(range(10, 851), wanted, true), None);
        assert_eq!(
            misfit(range(800, 900), wanted, true).as_deref(),
            Some("800..900 reaches above the head, 851: no node of the chain has those heights yet; write 800..851")
        );
        assert_eq!(
            misfit(range(900, 950), wanted, false).as_deref(),
            Some("900..950 reaches above the configured end, 851: heights above it are not wanted; wanted are 10..851")
        );
        assert_eq!(
            misfit(range(3, 20), wanted, true).as_deref(),
            Some("3..20 reaches below the start, 10: heights below it are not wanted; write 10..20")
        );
    }

    #[test]
    fn reasons_are_one_line_of_bounded_length() {
        assert_eq!(reason("  known to be lost "), Ok("known to be lost".to_owned()));
        for (text, words) in [(" ", "empty"), ("a\nb", "one line"), (&*"x".repeat(301), "has 301 bytes; at most 300")] {
            assert!(reason(text).expect_err("refused").contains(words), "{text}");
        }
    }
}
