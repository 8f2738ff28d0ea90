//! `sync cutover`: the button of the day of the move.

use std::time::{Duration, Instant};

use serde_json::json;

use super::compare::one;
use super::ends::{Ends, copied, exit_of, known, rests, some};
use super::orders::tell;
use super::status::standing;
use super::verify::Verdict;
use super::{Chosen, CutoverArgs, Desk, Exit};
use crate::actors::stream_sync::SCOUT;
use crate::cli::output::{self, Side, Table};
use crate::ids::Address;
use crate::messages::sync::StreamName;
use crate::sinks::replica::copy_group;
use crate::store::effect::Outgoing;
use crate::wire::WireError;
use crate::wire::look::{groups, stream_facts};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(desk: &Desk, chosen: &Chosen, args: &CutoverArgs) -> Result<Exit, Exit> {
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let mut ends = Ends::open(chosen).await?;
    let streams = known(desk, chosen).await?;
    let refused = streams.iter().filter(|(_, known)| !known.row.refused.is_empty() || !known.notes.stopped.is_empty());
    let refused: Vec<String> = refused.map(|(name, _)| name.shown()).collect();
    if !refused.is_empty() {
        return Err(Exit::missing(&format!(
            "nothing was done: these streams are not copied: {}; gapless sync status says why",
            some(refused.iter().map(String::as_str))
        )));
    }
    let known = copied(streams, &[])?;
    let names: Vec<StreamName> = known.keys().cloned().collect();
    if names.is_empty() {
        return Err(Exit::missing("nothing was done: no stream is listed; is a node running?"));
    }
    drained(&mut ends, &names, until).await?;
    let scout = Address::new(&chosen.pipeline, SCOUT);
    tell(desk, &scout, &Outgoing { kind: "pause".to_owned(), body: "{}".to_owned() }).await?;
    paused(desk, chosen, until).await?;
    // What came in between is copied by nobody now: then it was not the end.
    let mut verdicts = Vec::new();
    for (name, known) in &known {
        carry_groups(&mut ends, name).await.map_err(|error| exit_of(&error))?;
        let began = Verdict { stream: name.shown(), ..Verdict::default() };
        let verdict = one(&mut ends, (name, known), began, &mut |_, _| {}).await.map_err(|error| exit_of(&error))?;
        let key = chosen.section.target_key(name.db, &name.key);
        let (source, target) = ends.both(name).await.map_err(|error| exit_of(&error))?;
        let here = stream_facts(source, &name.key).await.map_err(|error| exit_of(&error))?;
        let there = stream_facts(target, &key).await.map_err(|error| exit_of(&error))?;
        let id = |facts: Option<crate::wire::look::StreamFacts>| facts.map(|facts| facts.last.to_string());
        verdicts.push((verdict, id(here), id(there)));
    }
    Ok(report(desk, chosen, &verdicts))
}

/// Waits until every stream is even, twice in a row.
async fn drained(ends: &mut Ends, names: &[StreamName], until: Instant) -> Result<(), Exit> {
    let mut even = 0;
    loop {
        let mut behind = Vec::new();
        for name in names {
            if !standing(ends, name).await.map_err(|error| exit_of(&error))?.is_even() {
                behind.push(name.shown());
            }
        }
        even = if behind.is_empty() { even + 1 } else { 0 };
        if even == 2 {
            return Ok(());
        }
        if Instant::now() >= until {
            let words = format!(
                "nothing was done: still behind: {}; are the producers stopped?",
                some(behind.iter().map(String::as_str))
            );
            return Err(Exit::missing(&words));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn paused(desk: &Desk, chosen: &Chosen, until: Instant) -> Result<(), Exit> {
    loop {
        if rests(desk, chosen).await? {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Exit::missing(
                "no node took the order to pause in time; it stands: gapless sync resume takes it back",
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn carry_groups(ends: &mut Ends, name: &StreamName) -> Result<(), WireError> {
    let key = ends.plan.settings.target_key(name.db, &name.key);
    let (counts, plan) = (ends.target_server.counts(), ends.plan.clone());
    let (source, target) = ends.both(name).await?;
    for group in groups(source, &name.key).await?.iter().filter(|group| !plan.is_own_group(&group.name)) {
        let stands = stream_facts(target, &key).await?.unwrap_or_default();
        copy_group(source, target, (&name.key, &key), group, (&stands, counts)).await?;
    }
    Ok(())
}

fn report(desk: &Desk, chosen: &Chosen, verdicts: &[(Verdict, Option<String>, Option<String>)]) -> Exit {
    let good = verdicts.iter().all(|(verdict, ..)| verdict.is_good() && verdict.behind == 0);
    let exit = if good { Exit::good() } else { Exit::found() };
    if desk.json {
        let streams: Vec<_> = verdicts
            .iter()
            .map(
                |(verdict, here, there)| json!({ "verdict": verdict, "source_last_id": here, "target_last_id": there }),
            )
            .collect();
        let answer = json!({ "pipeline": chosen.pipeline.to_string(), "good": good, "streams": streams });
        return output::json(&answer, exit);
    }
    let mut table = Table::new(&[
        ("STREAM", Side::Left),
        ("ENTRIES", Side::Right),
        ("SOURCE", Side::Right),
        ("TARGET", Side::Right),
        ("VERDICT", Side::Left),
    ]);
    for (verdict, here, there) in verdicts {
        let word = match (verdict.is_good(), verdict.behind) {
            (true, 0) => "same".to_owned(),
            (true, behind) => format!("{behind} entries came meanwhile"),
            (false, _) => "differs".to_owned(),
        };
        let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
        let cells = vec![verdict.stream.clone(), verdict.same.to_string(), id(here), id(there), word];
        table.row_with(cells, verdict.faults.join("; "));
    }
    let end = match good {
        true => "both ends are the same: consumers may go over; the pipeline is paused",
        false => "both ends differ; gapless sync resume goes on copying",
    };
    output::text(&format!("{}{end}\n", table.render()), exit)
}
